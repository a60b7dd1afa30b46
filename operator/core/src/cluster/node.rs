//! What placement needs to know about a node, and nothing that changes with a heartbeat.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node as ApiNode;

use super::amounts::Amounts;
use super::shape::{Exclusion, Shape};

/// A taint that keeps pods away. `PreferNoSchedule` is not one of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Taint {
    /// Taint key.
    pub key: String,
    /// Taint value; often empty.
    pub value: String,
    /// `NoSchedule` or `NoExecute`.
    pub effect: String,
}

/// The facts of one node that decide whether a pod may run on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The node's name.
    pub name: String,
    /// All labels: any of them may be a level or meet a selector.
    pub labels: BTreeMap<String, String>,
    /// What the kubelet offers to pods.
    pub allocatable: Amounts,
    /// Condition `Ready` is `True`.
    pub ready: bool,
    /// Cordoned.
    pub unschedulable: bool,
    /// Taints with a hard effect, in order.
    pub taints: Vec<Taint>,
}

impl Facts {
    /// Reads a node. An allocatable list that can't be read offers nothing; the API server lets no such list in.
    pub fn of(node: &ApiNode) -> Self {
        let spec = node.spec.as_ref();
        let status = node.status.as_ref();
        let conditions = status.and_then(|status| status.conditions.as_ref());
        let allocatable = status.and_then(|status| status.allocatable.as_ref());
        let mut taints: Vec<Taint> = spec
            .and_then(|spec| spec.taints.as_ref())
            .into_iter()
            .flatten()
            .filter(|taint| taint.effect == "NoSchedule" || taint.effect == "NoExecute")
            .map(|taint| Taint {
                key: taint.key.clone(),
                value: taint.value.clone().unwrap_or_default(),
                effect: taint.effect.clone(),
            })
            .collect();
        taints.sort();
        Self {
            name: node.metadata.name.clone().unwrap_or_default(),
            labels: node.metadata.labels.clone().unwrap_or_default(),
            allocatable: allocatable.and_then(|list| Amounts::parse(list).ok()).unwrap_or_default(),
            ready: conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True"),
            unschedulable: spec.and_then(|spec| spec.unschedulable).unwrap_or(false),
            taints,
        }
    }
}

/// A row of the node table: the facts and what is taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) facts: Arc<Facts>,
    /// Requests of the pods bound here, plus what a snapshot holds back for others.
    pub(crate) used: Amounts,
    /// The view this row was made for wants nothing here.
    pub(crate) avoided: bool,
}

impl Node {
    /// How many pods of the shape fit, filters and room together.
    pub(crate) fn slots(&self, shape: &Shape) -> u32 {
        if self.excludes(shape).is_some() { 0 } else { self.room(shape.requests(), None) }
    }

    /// Why pods of the shape are kept off, whatever room there is.
    pub(crate) fn excludes(&self, shape: &Shape) -> Option<Exclusion> {
        if self.avoided { Some(Exclusion::Avoided) } else { shape.excluded_from(&self.facts) }
    }

    /// How many times `requests` fit into what is free once `claimed` is taken too. Filters are not looked at.
    pub(crate) fn room(&self, requests: &Amounts, claimed: Option<&Amounts>) -> u32 {
        self.room_beside(requests, claimed, None)
    }

    /// The same, with one more pod's requests taken.
    pub(crate) fn room_beside(&self, requests: &Amounts, claimed: Option<&Amounts>, pod: Option<&Amounts>) -> u32 {
        // Every shape requests one pod, so it fits a number of times.
        let slots = requests.times_in(&self.facts.allocatable, [Some(&self.used), claimed, pod]);
        u32::try_from(slots).unwrap_or(u32::MAX)
    }
}
