//! What a pod of a set learns about itself when it is admitted: identity, environment, scheduling gate.
//!
//! ```text
//!  set, namespace, operator default ──► choice ──► Choice { placement, startup, exclusive, … , gated }
//!                                                             │ gated
//!  pod (raw JSON) ──► identity ──► gate ◄─────────────────────┘──► guard ──► tpu ──► environment ──► pod (raw JSON), or a refusal
//! ```
//!
//! Everything here is a pure function of its arguments. Pods are raw JSON, because a template belongs to its author: a
//! field newer than our bindings passes through untouched. Applying [`mutate`] to its own result changes nothing, so it
//! does not matter how often the API server calls again.
//!
//! Exclusive placement is decided for whole groups by [`crate::placement`] and reaches a pod as a node selector; the gate holds a leader
//! until then. Pod (anti-)affinity comes from [`guard`] alone, and mostly keeps other pods out.

mod choice;
mod effects;
mod environment;
mod gang;
pub mod guard;
mod identity;
mod multislice;
mod pod;
mod subgroups;
mod tpu;

pub use choice::{Choice, Defaults, OPT_OUT, choose};
pub use gang::Gang;
pub use guard::Guard;
pub use pod::{AdmissionError, Outcome, Placement, PodContext, mutate};

#[cfg(test)]
mod tests;
