//! What authors of policies work with, on the operator's own index, checks and host: what passes here is what the operator does.
//!
//! ```text
//!  scenario file ─► Stage: index · snapshot · request ─► Policy (component, or the native rule) ─► Report: decisions, checked, and their cost
//!                                                                                                   └─► judge: what was expected and isn't so
//!  generated clusters ─► properties: what every policy must do, shrunk to the smallest scenario that shows the fault
//! ```
//!
//! Everything here is plain values and blocking calls; the command line prints them.

pub mod bench;
pub mod capture;
mod chain;
pub mod inspect;
mod judge;
mod play;
mod policy;
pub mod properties;
pub mod scenario;
pub mod simulate;

pub use chain::Library;
pub use judge::{in_words, judge};
pub use play::{Call, Cost, Decided, Failure, Line, Refusal, Report, play};
pub use policy::{Bytes, Policy, PolicyError};
pub use scenario::{Fault, Scenario, ScenarioError};
