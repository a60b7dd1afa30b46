//! Conditions of Muster's own about trouble: there only once there was any.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use muster_api::{LeaderWorkerSet, LeaderWorkerSetStatus};

use crate::plan::{Note, Plan};
use crate::status::put;
use crate::text::truncated;

/// Longest message of a condition.
const MESSAGE: usize = 4096;

/// One condition as it should be.
pub(super) struct Own {
    /// Its type.
    pub(super) type_: &'static str,
    /// Reason and message while there is trouble.
    pub(super) bad: Option<(&'static str, String)>,
    /// Reason and message once it is over.
    pub(super) good: (&'static str, &'static str),
}

impl Own {
    /// Writes the condition, and says `told` when that changes something.
    pub(super) fn report(
        self,
        set: &LeaderWorkerSet,
        status: &mut LeaderWorkerSetStatus,
        told: Option<Note>,
        plan: &mut Plan,
        now: Timestamp,
    ) {
        if self.write(status, set.metadata.generation, now).is_some() {
            plan.notes.extend(told);
        }
    }

    /// Writes the condition. Returns the message that was there before, if it changed.
    pub(super) fn write(
        self,
        status: &mut LeaderWorkerSetStatus,
        generation: Option<i64>,
        now: Timestamp,
    ) -> Option<Option<String>> {
        let known = status.conditions.iter().any(|condition| condition.type_ == self.type_);
        let (value, (reason, message)) = match self.bad {
            None if !known => return None,
            Some((reason, message)) => ("True", (reason, truncated(&message, MESSAGE))),
            None => ("False", (self.good.0, self.good.1.to_owned())),
        };
        let condition = Condition {
            type_: self.type_.to_owned(),
            status: value.to_owned(),
            reason: reason.to_owned(),
            message: message.clone(),
            observed_generation: generation,
            last_transition_time: Time(now),
        };
        match put(&mut status.conditions, condition) {
            None => Some(None),
            Some(before) => (before.message != message || before.status != value).then_some(Some(before.message)),
        }
    }
}
