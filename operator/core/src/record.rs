//! What Muster remembers about a placement: one annotation on the leader pod.
//!
//! The annotation makes a decision durable in the same patch that carries it out, so that an operator that is killed right
//! after the patch finds the group placed, not waiting. It is written once per leader pod and dies with it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use muster_api::names::annotation;
use serde::{Deserialize, Serialize};

use crate::admission::Choice;
use crate::instructions::Instructions;
use crate::placement::Reason;
use crate::subgroups::{SubgroupDomains, Subgroups};
use crate::{kueue, pods};

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
    /// The domain that each subgroup has for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subgroups: Option<SubgroupDomains>,
    /// Node labels that only the leader is bound to: it is in no subgroup, and must not take the room of one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub leader: BTreeMap<String, String>,
    /// The group fitted nowhere and its leader was left to the scheduler (`muster.dev/unplaceable: Scheduler`).
    #[serde(default)]
    pub released: bool,
    /// What its pods get one by one.
    #[serde(default, skip_serializing_if = "Instructions::is_empty")]
    pub instructions: Instructions,
    /// Why, as the policy said it.
    pub reason: Reason,
}

impl Record {
    /// A group that is bound to nothing, by this decider.
    pub fn new(by: &str, reason: Reason) -> Self {
        Self {
            by: by.to_owned(),
            level: None,
            domain: None,
            exclusive: false,
            selector: BTreeMap::new(),
            subgroups: None,
            leader: BTreeMap::new(),
            released: false,
            instructions: Instructions::default(),
            reason,
        }
    }

    /// The record on a leader pod, if Muster wrote one that it can read.
    pub fn of(leader: &Pod) -> Option<Self> {
        serde_json::from_str(pods::annotation(leader, annotation::PLACEMENT)?).ok()
    }

    /// Node labels that the leader is bound to: the group's, those of its subgroup, its own.
    pub fn leader_selector(&self, leader: &Pod) -> BTreeMap<String, String> {
        let mut selector = self.selector.clone();
        let index = Subgroups::of_group(leader).and_then(|subgroups| u32::try_from(subgroups.index_of(0)?).ok());
        let own = self.subgroups.as_ref().zip(index).and_then(|(subgroups, index)| subgroups.selector(index));
        selector.extend(own.map(|(key, domain)| (key.to_owned(), domain.to_owned())));
        selector.extend(self.leader.clone());
        selector.extend(self.instructions.selector(0));
        selector
    }

    /// The narrowest domain that the pod of that rank was put in: label key and value.
    pub fn domain_of(&self, leader: &Pod, rank: u32) -> Option<(String, String)> {
        let index = Subgroups::of_group(leader).and_then(|subgroups| subgroups.index_of(i32::try_from(rank).ok()?));
        let index = index.and_then(|index| u32::try_from(index).ok());
        let own = self.subgroups.as_ref().zip(index).and_then(|(subgroups, index)| subgroups.selector(index));
        let alone = || self.leader.iter().next().filter(|_| rank == 0).map(|(key, value)| (key.clone(), value.clone()));
        let part = || self.instructions.part_of(rank).map(|(key, value)| (key.to_owned(), value.to_owned()));
        let whole = || part().or_else(|| self.level.clone().zip(self.domain.clone()));
        own.map(|(key, domain)| (key.to_owned(), domain.to_owned())).or_else(alone).or_else(whole)
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
    /// A group that Muster keeps apart, whose leader is bound, but not by a decision of ours: its domain is the one around its leader.
    /// `released` tells a leader that Muster handed to the scheduler from one that upstream or a pod without gate left behind.
    Bound {
        /// The leader's node.
        node: String,
        /// Whether Muster released it.
        released: bool,
    },
    /// Such a group whose leader is neither gated nor bound nor decided: the scheduler has it, as with upstream.
    Loose,
}

/// Reads where a group stands from its leader.
pub fn standing(leader: &Pod, choice: &Choice) -> Standing {
    if pods::is_gated(leader) {
        return Standing::Waiting;
    }
    // Kueue's choice of nodes is for all members of the group, which is complete before Kueue chooses.
    let by_kueue = !choice.gated && kueue::decides_for(leader);
    let exclusive = choice.exclusive.is_some() && !by_kueue;
    let apart = exclusive || choice.subgroup_exclusive.is_some() && Subgroups::of_group(leader).is_some();
    match (Record::of(leader), apart, pods::node(leader)) {
        (Some(record), _, _) if !record.released => Standing::Placed(record),
        (Some(_), true, Some(node)) => Standing::Bound { node: node.to_owned(), released: true },
        (Some(record), _, None) => Standing::Released(record),
        (Some(_), false, Some(_)) | (None, false, _) => Standing::Free,
        (None, true, Some(node)) => Standing::Bound { node: node.to_owned(), released: false },
        (None, true, None) => Standing::Loose,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn leader(annotation: &str) -> Pod {
        let metadata = json!({ "name": "serve-0", "annotations": { annotation: "example.com/rack" } });
        serde_json::from_value(json!({ "metadata": metadata, "spec": { "containers": [] } })).unwrap()
    }

    #[test]
    fn members_follow_their_leader_only_where_kueue_does_not_choose_for_all_of_them() {
        let exclusive = |gated| Choice { exclusive: Some("example.com/rack".to_owned()), gated, ..Choice::default() };
        let required = "kueue.x-k8s.io/podset-required-topology";
        assert_eq!(standing(&leader(required), &exclusive(false)), Standing::Free);
        assert_eq!(standing(&leader("app"), &exclusive(false)), Standing::Loose);
        // Without a queue nobody but Muster reads that, and it keeps the group apart.
        assert_eq!(standing(&leader(required), &exclusive(true)), Standing::Loose);
    }
}
