//! What a person may want to know about the groups of a set, one by one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most groups that [`crate::LeaderWorkerSetStatus::groups`] lists, so that a status stays small however many there are.
pub const MOST_LISTED: usize = 64;

/// The state of one group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupStatus {
    /// Index of the group.
    pub index: i32,

    /// Where the group is in its life.
    pub phase: GroupPhase,

    /// Why it is not ready, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,

    /// Why it is not ready, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,

    /// How often it has started over in a row at its revision.
    #[serde(default)]
    pub restarts: i32,

    /// Value of the node label that makes the domain it was placed in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,

    /// Key of the revision it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
}

/// Where a group is in its life; those that need a person come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum GroupPhase {
    /// It has used up its budget of restarts and is left as it is.
    Failed,
    /// It has no leader yet, or no place.
    Pending,
    /// It has lost a member and starts over.
    Restarting,
    /// It is going away.
    Terminating,
    /// It is going away to come back at the current revision.
    Updating,
    /// Its pods are on their way.
    Starting,
    /// Its leader and all of its workers are ready.
    Ready,
}

/// How many groups are in each phase, those that are not listed included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupCounts {
    /// Groups that have used up their budget of restarts.
    pub failed: i32,
    /// Groups without a leader or a place.
    pub pending: i32,
    /// Groups that start over.
    pub restarting: i32,
    /// Groups that go away.
    pub terminating: i32,
    /// Groups that are being replaced by the current revision.
    pub updating: i32,
    /// Groups whose pods are on their way.
    pub starting: i32,
    /// Groups that are ready.
    pub ready: i32,
}

impl GroupCounts {
    /// Counts one more group.
    pub fn add(&mut self, phase: GroupPhase) {
        let count = match phase {
            GroupPhase::Failed => &mut self.failed,
            GroupPhase::Pending => &mut self.pending,
            GroupPhase::Restarting => &mut self.restarting,
            GroupPhase::Terminating => &mut self.terminating,
            GroupPhase::Updating => &mut self.updating,
            GroupPhase::Starting => &mut self.starting,
            GroupPhase::Ready => &mut self.ready,
        };
        *count += 1;
    }
}
