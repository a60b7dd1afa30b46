//! What Muster remembers about a placement: one annotation on the leader pod.
//!
//! The annotation makes a decision durable in the same patch that carries it out, so that an operator that is killed right
//! after the patch finds the group placed, not waiting. It is written once per leader pod and dies with it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use muster_api::names::annotation;
use serde::{Deserialize, Serialize};

use crate::placement::Reason;
use crate::pods;

/// The content of the leader pod's `muster.dev/placement` annotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Who decided: `exclusive` for the native rule, else the policy's name.
    pub by: String,
    /// Label key of the domain's level; absent when the scheduler was left free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Label value that makes the domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// No other group may share the domain.
    #[serde(default)]
    pub exclusive: bool,
    /// Node labels that every pod of the group is bound to.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub selector: BTreeMap<String, String>,
    /// The group fitted nowhere and its leader was left to the scheduler (`muster.dev/unplaceable: Scheduler`).
    #[serde(default)]
    pub released: bool,
    /// Why, as the policy said it.
    pub reason: Reason,
}

impl Record {
    /// The record on a leader pod, if Muster wrote one that it can read.
    pub fn of(leader: &Pod) -> Option<Self> {
        serde_json::from_str(pods::annotation(leader, annotation::PLACEMENT)?).ok()
    }

    /// The annotation's text.
    pub fn render(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Where a group stands with placement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Muster has no say in where it goes.
    Free,
    /// Its leader is gated: a decision is due.
    Waiting,
    /// A decision was carried out.
    Placed(Record),
    /// Its leader was left to the scheduler and is not bound yet.
    Released(Record),
    /// An exclusive group whose leader is bound, but not by a decision of ours: the domain is the one around its leader.
    /// `released` tells a leader that Muster handed to the scheduler from one that upstream or a pod without gate left behind.
    Bound {
        /// The leader's node.
        node: String,
        /// Whether Muster released it.
        released: bool,
    },
    /// An exclusive group whose leader is neither gated nor bound nor decided: the scheduler has it, as with upstream.
    Loose,
}

/// Reads where a group stands from its leader.
pub fn standing(leader: &Pod, exclusive: Option<&str>) -> Standing {
    if pods::is_gated(leader) {
        return Standing::Waiting;
    }
    match (Record::of(leader), exclusive, pods::node(leader)) {
        (Some(record), _, _) if !record.released => Standing::Placed(record),
        (Some(_), Some(_), Some(node)) => Standing::Bound { node: node.to_owned(), released: true },
        (Some(record), _, None) => Standing::Released(record),
        (Some(_), None, Some(_)) | (None, None, _) => Standing::Free,
        (None, Some(_), Some(node)) => Standing::Bound { node: node.to_owned(), released: false },
        (None, Some(_), None) => Standing::Loose,
    }
}
