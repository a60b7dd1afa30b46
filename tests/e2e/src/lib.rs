//! What the end-to-end tests have in common: a corner of the cluster with nodes of its own, sets to apply there, and what to wait for.
//!
//! ```text
//!  Site  a namespace and tainted nodes, in domains of a label key that no other test uses
//!  Set   a LeaderWorkerSet, built field by field
//!  watch waiting for sets, groups and conditions
//! ```

mod policy;
mod set;
mod site;
mod watch;

pub use muster_cluster::{PATIENCE, merge};
pub use policy::{Policy, message, reason, verdict, verdicts};
pub use set::Set;
pub use site::{Site, TAINT};
pub use watch::{
    RECORD, await_condition, await_groups, await_ready, await_unschedulable, condition, decider, domains, get, leaders,
    objects_of, of_set, pods, status_of, unschedulable,
};
