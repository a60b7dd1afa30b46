//! What startup policies ask of a group again and again.

use serde::Deserialize;

use crate::{Group, Phase, Reason, Step};

/// How far a leader must be before its first workers may exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum LeaderState {
    /// It is enough that the group is started: leader and workers are created together.
    Created,
    /// Running and ready.
    Ready,
}

impl Group {
    /// What the leader does; none if it does not exist.
    pub fn leader(&self) -> Option<Phase> {
        self.pods.iter().find(|pod| pod.rank == 0).map(|pod| pod.phase)
    }

    /// Whether any worker exists. Such a group was admitted before, and is never narrowed: a leader that becomes unready later
    /// must not keep a worker that died from coming back.
    pub fn has_workers(&self) -> bool {
        self.pods.iter().any(|pod| pod.rank > 0)
    }

    /// Why its workers have to wait for its leader: code and message. None if they don't.
    pub fn waits_for_leader(&self) -> Option<(&'static str, String)> {
        match self.leader() {
            Some(Phase::Ready) => None,
            None => Some(("WaitingForLeader", "the leader does not exist yet".to_owned())),
            Some(phase) => {
                Some(("WaitingForLeader", format!("the leader is {}, and workers wait until it is ready", phase.in_words())))
            }
        }
    }
}

impl Phase {
    /// For messages: the pod *is* …
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Scheduled => "scheduled",
            Self::Running => "running",
            Self::Ready => "ready",
            Self::Succeeded => "done",
            Self::Failed => "failed",
            Self::Terminating => "being deleted",
        }
    }
}

impl Step {
    /// A step without a time to ask again. `code` is CamelCase; `message` one sentence for a person. More than the group's size
    /// means all of it.
    pub fn new(group: &Group, admit: u32, code: impl Into<String>, message: impl Into<String>) -> Self {
        let reason = Reason { code: code.into(), message: message.into() };
        Self { group: group.index, admit: admit.min(group.size), recheck_ms: None, reason }
    }
}
