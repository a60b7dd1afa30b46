//! What a scenario expects of one answer.

use serde::{Deserialize, Serialize};

use super::format::is_default;
use super::notation::Some1;

/// What one answer should be.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Expect {
    /// The unit that is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<u32>,
    /// The group that is meant (startup).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<u32>,
    /// The domain that it gets; with a list, the ranked domains of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<Some1<String>>,
    /// A domain that it ends up in, however the policy says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inside: Option<String>,
    /// `4 @ PLACE` for each part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parts: Option<Vec<String>>,
    /// The domain of each subgroup that has one for itself, in the order of their indices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subgroups: Option<Vec<String>>,
    /// Where a leader goes that is in no subgroup: the domain that it shares with one, or its node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// The policy of the chain that had the last word; `exclusive` for the operator's own rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// A node for each pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinned: Option<Vec<String>>,
    /// The favoured domains, best first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preferred: Option<Vec<String>>,
    /// The scheduler decides.
    #[serde(skip_serializing_if = "is_default")]
    pub unconstrained: bool,
    /// It waits.
    #[serde(skip_serializing_if = "is_default")]
    pub hold: bool,
    /// It is refused.
    #[serde(skip_serializing_if = "is_default")]
    pub refuse: bool,
    /// There is no answer for it.
    #[serde(skip_serializing_if = "is_default")]
    pub unanswered: bool,
    /// The operator does not follow the answer, for this reason: `NotEnoughRoom`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected: Option<String>,
    /// The call gives no answers: `unsupported`, `settings`, `internal`, `trap`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// When a unit that waits is asked about again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<String>,
    /// Nodes that its pods avoid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avoid: Option<Vec<String>>,
    /// What its pods get: `label KEY=VALUE`, `toleration KEY`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effects: Option<Vec<String>>,
    /// How many ranks may exist (startup).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admit: Option<u32>,
    /// When it is asked again even if nothing changes (startup).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recheck: Option<String>,
    /// The reason's code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Words that the reason's message has in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
