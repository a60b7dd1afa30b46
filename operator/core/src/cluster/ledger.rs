//! Who sits where, and who has been promised what.
//!
//! The ledger is derived state: *occupants* are read from live pods, *holdings* are decisions that the pods may not show yet.
//! A domain is held until the last pod object of its group is gone and no holding is left.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use muster_api::names::label;

use super::amounts::Amounts;
use super::shape::{Shape, requests_of};

/// Names a group over all its incarnations.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId {
    /// The set's namespace.
    pub namespace: String,
    /// Name of the leader pod, `<set>-<group index>`.
    pub leader_pod: String,
}

impl GroupId {
    /// As messages name it: `default/vllm group 0`.
    pub(crate) fn in_set<'a>(&'a self, set: &'a str) -> impl fmt::Display + 'a {
        let index = self.leader_pod.strip_prefix(set).and_then(|rest| rest.strip_prefix('-'));
        fmt::from_fn(move |f| match index {
            Some(index) => write!(f, "{}/{set} group {index}", self.namespace),
            None => write!(f, "{}/{}", self.namespace, self.leader_pod),
        })
    }
}

/// A promise: this group has this domain, with room for the pods that are not bound yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// Who holds.
    pub group: GroupId,
    /// Name of the group's set.
    pub set: String,
    /// Label key of the held domain; empty for pinned pods that hold no domain.
    pub level: String,
    /// Label value of the held domain.
    pub domain: String,
    /// No other group may enter.
    pub exclusive: bool,
    /// Pods that are not bound yet and go anywhere in the domain. Bound pods count by themselves.
    pub outstanding: Vec<(Shape, u32)>,
    /// Pods that are not bound yet and go to one node each: node name and shape.
    pub pinned: Vec<(String, Shape)>,
}

impl Holding {
    pub(crate) fn is_outstanding(&self) -> bool {
        !self.pinned.is_empty() || self.outstanding.iter().any(|(_, pods)| *pods > 0)
    }
}

/// A holding in the ledger. One that was released stays, without its outstanding pods, until the group's last pod is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) holding: Holding,
    pub(crate) released: bool,
}

/// What placement needs to know about a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodFacts {
    /// Where it is bound.
    pub(crate) node: Option<String>,
    /// What it takes there; nothing once it has succeeded or failed. A terminating pod still takes it.
    pub(crate) requests: Amounts,
    /// Its group and set, if it belongs to one.
    pub(crate) member: Option<(GroupId, String)>,
    /// Where a pod of a group that is not bound yet is bound to go.
    pub(crate) selector: BTreeMap<String, String>,
}

impl PodFacts {
    /// `None` for a pod that takes no room and belongs to no group.
    pub(crate) fn of(pod: &Pod) -> Option<Self> {
        let spec = pod.spec.as_ref();
        let node = spec.and_then(|spec| spec.node_name.clone()).filter(|name| !name.is_empty());
        let member = membership(&pod.metadata);
        if node.is_none() && member.is_none() {
            return None;
        }
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let over = matches!(phase, Some("Succeeded" | "Failed"));
        // The API server has checked the quantities of a pod that exists.
        let requests = spec.filter(|_| !over && node.is_some()).and_then(|spec| requests_of(spec).ok()).unwrap_or_default();
        let selector = spec.filter(|_| node.is_none()).and_then(|spec| spec.node_selector.clone()).unwrap_or_default();
        Some(Self { node, requests, member, selector })
    }

    /// The pods that a worker StatefulSet may still make; `None` if it is no group's, or its pods may go anywhere.
    pub(crate) fn of_workers(workers: &StatefulSet) -> Option<Self> {
        let member = Some(membership(&workers.metadata)?);
        let selector = workers.spec.as_ref()?.template.spec.as_ref()?.node_selector.clone()?;
        Some(Self { node: None, requests: Amounts::default(), member, selector })
    }
}

/// Every pod with a group key is a member, whatever its set asked for: that is whom upstream's anti-affinity sees.
fn membership(meta: &ObjectMeta) -> Option<(GroupId, String)> {
    let labels = meta.labels.as_ref()?;
    let key = labels.get(label::GROUP_KEY)?;
    let namespace = meta.namespace.clone().unwrap_or_default();
    let set = labels.get(label::SET_NAME).cloned().unwrap_or_default();
    // A member without an index was not made by a set's controller; its key still tells its group from others.
    let leader_pod = labels.get(label::GROUP_INDEX).map_or_else(|| key.clone(), |index| format!("{set}-{index}"));
    Some((GroupId { namespace, leader_pod }, set))
}

/// The live pods of one group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Occupant {
    pub(crate) set: String,
    pub(crate) pods: BTreeMap<String, Arc<PodFacts>>,
}

/// Occupants and holdings by group. Cloned when it changes under a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    pub(crate) occupants: BTreeMap<GroupId, Arc<Occupant>>,
    pub(crate) holdings: BTreeMap<GroupId, Arc<Held>>,
}

impl Ledger {
    /// Enters a pod of a group.
    pub(crate) fn enter(&mut self, name: &str, facts: &Arc<PodFacts>) {
        let Some((group, set)) = &facts.member else { return };
        let occupant = Arc::make_mut(self.occupants.entry(group.clone()).or_default());
        occupant.set.clone_from(set);
        occupant.pods.insert(name.to_owned(), Arc::clone(facts));
    }

    /// Removes a pod of a group; with the last one goes a holding that was released.
    pub(crate) fn leave(&mut self, name: &str, facts: &PodFacts) {
        let Some((group, _)) = &facts.member else { return };
        let Some(occupant) = self.occupants.get_mut(group) else { return };
        let occupant = Arc::make_mut(occupant);
        occupant.pods.remove(name);
        if occupant.pods.is_empty() {
            self.occupants.remove(group);
            if self.holdings.get(group).is_some_and(|held| held.released) {
                self.holdings.remove(group);
            }
        }
    }

    /// Enters or replaces a holding.
    pub(crate) fn hold(&mut self, holding: Holding) {
        self.holdings.insert(holding.group.clone(), Arc::new(Held { holding, released: false }));
    }

    /// Gives a holding up; while the group has pods its domain stays held.
    pub(crate) fn release(&mut self, group: &GroupId) {
        if !self.occupants.contains_key(group) {
            self.holdings.remove(group);
        } else if let Some(held) = self.holdings.get_mut(group) {
            let held = Arc::make_mut(held);
            held.released = true;
            held.holding.outstanding.clear();
            held.holding.pinned.clear();
        }
    }
}
