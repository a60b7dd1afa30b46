//! Sets arrive, run and end, nodes fail and come back: which policy, or chain of policies, makes more of the same cluster?
//!
//! ```text
//!  Workload (seeded, the same for every policy) ─► events in the order of time ─► Run: the operator's index, walk, checks and ledger
//!                                                                                   └─► Outcome: utilisation, fragmentation, waiting, wedges
//! ```
//! Time is simulated, calls are real. The scheduler is modelled as simply as it goes: a pod goes to the first node of its domain with room,
//! or, where the policy
//! leaves it to the scheduler, to the domain that it should favour, else to the node with the most room.

mod ask;
mod plot;
mod run;
mod workload;

use serde::Serialize;

pub use plot::{html, svg};
pub use run::simulate;
pub use workload::{Plan, Workload};

/// What a policy made of a workload. Times in seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The policy's name and version; of a chain all of them, in their order.
    pub policy: String,
    /// Groups that came, and came back after they lost a node.
    pub asked: u32,
    /// Of these, groups that got their place.
    pub placed: u32,
    /// Of these, groups whose pods did not all find room: they hold what they have and do nothing.
    pub wedged: u32,
    /// Answers that the operator refused.
    pub refused: u32,
    /// Calls, and those that gave no answers.
    pub calls: u32,
    /// Calls that gave no answers.
    pub failed_calls: u32,
    /// Share of the usable accelerators that belonged to groups whose pods all ran, over time.
    pub utilisation: f64,
    /// Share of the free accelerators that lay in domains without room for one of the largest groups, over time.
    pub fragmentation: f64,
    /// Half of the groups that were placed waited no longer.
    pub wait_p50: f64,
    /// All but one in a hundred.
    pub wait_p99: f64,
    /// Groups that never got a place, and how long they waited for it, together.
    pub never: u32,
    /// Utilisation by time, for the plot.
    #[serde(skip)]
    pub curve: Vec<(f64, f64)>,
}

#[cfg(test)]
mod tests;
