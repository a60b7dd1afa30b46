//! Which ranks of a group may exist now: the values a startup policy reads and answers with.
//!
//! The same types serve the native policies in this module and WebAssembly components (`muster-policy-host` converts them to
//! and from `wit/policy.wit`). Time is data: durations are measured by the host before the call.

use std::collections::BTreeMap;

use crate::placement::Reason;

/// What a pod of a group is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Exists, not bound to a node (this includes gated pods).
    Pending,
    /// Bound to a node, not running yet.
    Scheduled,
    /// Running, not ready.
    Running,
    /// Running and ready.
    Ready,
    /// All containers ended with success.
    Succeeded,
    /// Ended with failure.
    Failed,
    /// Has a deletion timestamp.
    Terminating,
}

/// One existing pod of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Position in the group; 0 is the leader.
    pub rank: u32,
    /// What it is doing.
    pub phase: Phase,
    /// Milliseconds in this phase.
    pub in_phase_ms: u64,
    /// Container restarts, all containers together.
    pub restarts: u32,
}

/// One group, with the pods that exist, ascending by rank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Group index in its set.
    pub index: u32,
    /// Leader and workers.
    pub size: u32,
    /// Existing pods only.
    pub pods: Vec<Pod>,
    /// Milliseconds since the first pod was created; 0 when there is none.
    pub age_ms: u64,
    /// How often the group has been recreated.
    pub recreations: u32,
    /// It has its place, or needs none.
    pub placed: bool,
}

/// The question to a startup policy: all groups of one set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `namespace/name` of the set.
    pub owner: String,
    /// Labels of the set.
    pub labels: BTreeMap<String, String>,
    /// How many groups the set has when complete.
    pub replicas: u32,
    /// How many of them have no place yet, or do not exist.
    pub unplaced: u32,
    /// The groups that are not complete, ascending by index.
    pub groups: Vec<Group>,
}

/// The answer for one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Group index, as in the request.
    pub group: u32,
    /// How many ranks may exist now, from 0. Pods that exist are never deleted by narrowing this.
    pub admit: u32,
    /// Ask again after so many milliseconds even if nothing changes.
    pub recheck_ms: Option<u32>,
    /// Why.
    pub reason: Reason,
}

/// The startup policies of the API itself, `spec.startupPolicy`: workers right away, or once the leader is ready.
pub fn native(policy: muster_api::leader_worker_set::StartupPolicyType, request: &Request) -> Vec<Step> {
    use muster_api::leader_worker_set::StartupPolicyType::{LeaderCreated, LeaderReady};
    let step = |group: &Group| {
        let leader_ready = group.pods.iter().any(|pod| pod.rank == 0 && pod.phase == Phase::Ready);
        let (admit, code, message) = match policy {
            LeaderCreated => (group.size, "LeaderCreated", "the leader exists"),
            LeaderReady if leader_ready => (group.size, "LeaderReady", "the leader is ready"),
            LeaderReady => (1, "LeaderNotReady", "workers start once the leader is ready"),
        };
        let reason = Reason { code: code.to_owned(), message: message.to_owned() };
        Step { group: group.index, admit, recheck_ms: None, reason }
    };
    request.groups.iter().map(step).collect()
}
