//! What the cluster looks like, as placement needs it.
//!
//! ```text
//!  Node, Pod events ──► Index: node table · used room · levels/domains · shapes · fit · ledger
//!                         │  snapshot(View)                   ▲ hold, try_hold, release
//!                         ▼                                   │
//!                       Snapshot (frozen) ──► policy ──► check ──► holding
//! ```
//!
//! Everything here is a pure data structure: events go in, frozen views come out. An index that has seen events one by one
//! equals an index built from the objects that are left.

pub mod amounts;
mod best;
mod changes;
mod commit;
mod derived;
pub mod explain;
mod fit;
mod holders;
pub mod index;
pub mod ledger;
mod level;
pub mod node;
mod packing;
mod past;
mod reserve;
mod resource;
mod rows;
mod seating;
pub mod shape;
pub mod snapshot;
mod whereabouts;

pub use amounts::PODS;
pub(crate) use best::Best;
pub(crate) use explain::Apart;
pub use explain::{DomainReport, Explanation, Verdict};
pub use index::Index;
pub use ledger::{GroupId, Holding, SubgroupHolding, SubgroupId};
pub use shape::Shape;
pub use snapshot::{Scope, Snapshot, View};

pub(crate) use packing::{Claims, Packing};
pub use seating::Shortage;
pub(crate) use seating::{LeaderSeat, Seating, Seats};

#[cfg(test)]
pub(crate) mod tests;
