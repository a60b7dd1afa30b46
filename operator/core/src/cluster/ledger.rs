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
use rpds::RedBlackTreeMapSync;

use muster_api::names::{annotation, label, parent_and_ordinal};

use super::amounts::Amounts;
use super::shape::{Shape, requests_of};
use crate::subgroups::SubgroupDomains;

/// Names a group over all its incarnations.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId {
    /// The set's namespace.
    pub namespace: String,
    /// Name of the leader pod, `<set>-<group index>`.
    pub leader_pod: String,
}

impl GroupId {
    /// The rank of a pod of the group by its name; `None` for what is no pod of it.
    pub(crate) fn rank_of(&self, pod: &str) -> Option<u32> {
        match pod.strip_prefix(self.leader_pod.as_str())? {
            "" => Some(0),
            rest => rest.strip_prefix('-')?.parse().ok(),
        }
    }

    /// The group's index in a set of this name.
    pub(crate) fn index_in(&self, set: &str) -> Option<u32> {
        self.leader_pod.strip_prefix(set)?.strip_prefix('-')?.parse().ok()
    }

    /// As messages name it: `default/vllm group 0`.
    pub(crate) fn in_set<'a>(&'a self, set: &'a str) -> impl fmt::Display + 'a {
        let index = self.leader_pod.strip_prefix(set).and_then(|rest| rest.strip_prefix('-'));
        fmt::from_fn(move |f| match index {
            Some(index) => write!(f, "{}/{set} group {index}", self.namespace),
            None => write!(f, "{}/{}", self.namespace, self.leader_pod),
        })
    }
}

/// Names a subgroup over all its incarnations.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubgroupId {
    /// Its group.
    pub group: GroupId,
    /// Its index in the group.
    pub index: u32,
}

impl fmt::Display for SubgroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = parent_and_ordinal(&self.group.leader_pod).map_or("", |(set, _)| set);
        write!(f, "{} subgroup {}", self.group.in_set(set), self.index)
    }
}

/// A domain that some ranks of a group have, inside the group's domain if it has one: a subgroup's, or a part's of a policy's making.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubgroupHolding {
    /// The subgroup's index in its group, or the part's.
    pub index: u32,
    /// Label key of the held domain.
    pub level: String,
    /// Label value of the held domain.
    pub domain: String,
    /// Pods of the subgroup that are not bound yet.
    pub outstanding: Vec<(Shape, u32)>,
    /// No other subgroup may enter.
    pub alone: bool,
}

/// A promise: this group has this domain, with room for the pods that are not bound yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// Who holds.
    pub group: GroupId,
    /// Name of the group's set.
    pub set: String,
    /// Label key of the held domain; empty for a group that holds none itself: its pods are pinned, or its subgroups hold theirs.
    pub level: String,
    /// Label value of the held domain.
    pub domain: String,
    /// No other group may enter.
    pub exclusive: bool,
    /// Pods carry the key of a subgroup, so that a subgroup that wants a domain for itself keeps away from them.
    pub divided: bool,
    /// Pods that are not bound yet and go anywhere in the domain. Bound pods count by themselves, and those of subgroups with a
    /// domain of their own with these.
    pub outstanding: Vec<(Shape, u32)>,
    /// Pods that are not bound yet and go to one node each: node name and shape.
    pub pinned: Vec<(String, Shape)>,
    /// The subgroups that have a domain each.
    pub subgroups: Vec<SubgroupHolding>,
}

impl Holding {
    pub(crate) fn is_outstanding(&self) -> bool {
        let of_subgroups = self.subgroups.iter().any(|subgroup| any_pods(&subgroup.outstanding));
        !self.pinned.is_empty() || any_pods(&self.outstanding) || of_subgroups
    }

    /// Label keys of all domains that it names.
    pub(crate) fn levels(&self) -> impl Iterator<Item = &String> {
        self.places().map(|(level, _)| level)
    }

    /// Label key and value of every domain that it names.
    fn places(&self) -> impl Iterator<Item = (&String, &String)> {
        let of_subgroups = self.subgroups.iter().map(|subgroup| (&subgroup.level, &subgroup.domain));
        std::iter::once((&self.level, &self.domain)).chain(of_subgroups).filter(|(level, _)| !level.is_empty())
    }

    /// Whether it keeps others out of a domain.
    pub(crate) fn keeps(&self) -> bool {
        self.exclusive || self.subgroups.iter().any(|subgroup| subgroup.alone)
    }
}

/// Whether there are any pods in such a list.
pub(crate) fn any_pods(outstanding: &[(Shape, u32)]) -> bool {
    outstanding.iter().any(|(_, pods)| *pods > 0)
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
    /// It has ended with failure.
    pub(crate) failed: bool,
    /// What it takes there; nothing once it has succeeded or failed. A terminating pod still takes it.
    pub(crate) requests: Amounts,
    /// Its group and set, if it belongs to one.
    pub(crate) member: Option<(GroupId, String)>,
    /// Where a pod of a group that is not bound yet is bound to go.
    pub(crate) selector: BTreeMap<String, String>,
    /// Its subgroup, if it carries a subgroup's key.
    pub(crate) subgroup: Option<u32>,
    /// Where the pods that a worker StatefulSet may still make are bound to go, by subgroup.
    pub(crate) subgroups: SubgroupDomains,
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
        let subgroup = member.as_ref().and_then(|_| subgroup_of(&pod.metadata));
        let failed = phase == Some("Failed");
        Some(Self { node, failed, requests, member, selector, subgroup, subgroups: SubgroupDomains::default() })
    }

    /// Its group and its node, if it is bound and belongs to one.
    pub(crate) fn seat(&self) -> Option<(&GroupId, &str)> {
        Some((&self.member.as_ref()?.0, self.node.as_deref()?))
    }

    /// The pods that a worker StatefulSet may still make; `None` if it is no group's, or its pods may go anywhere.
    pub(crate) fn of_workers(workers: &StatefulSet) -> Option<Self> {
        let member = Some(membership(&workers.metadata)?);
        let template = &workers.spec.as_ref()?.template;
        let selector = template.spec.as_ref().and_then(|spec| spec.node_selector.clone()).unwrap_or_default();
        let annotations = template.metadata.as_ref().and_then(|meta| meta.annotations.as_ref());
        let subgroups = annotations.and_then(|annotations| annotations.get(annotation::SUBGROUP_DOMAINS)?.parse().ok());
        let subgroups: SubgroupDomains = subgroups.unwrap_or_default();
        let bound_to_go = !selector.is_empty() || !subgroups.domains.is_empty();
        bound_to_go.then(|| Self {
            node: None,
            failed: false,
            requests: Amounts::default(),
            member,
            selector,
            subgroup: None,
            subgroups,
        })
    }
}

/// Every pod with a subgroup's key is a member of one: that is whom upstream's anti-affinity between subgroups sees.
fn subgroup_of(meta: &ObjectMeta) -> Option<u32> {
    let labels = meta.labels.as_ref()?;
    labels.get(label::SUBGROUP_KEY)?;
    labels.get(label::SUBGROUP_INDEX)?.parse().ok()
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

/// Some of the holdings.
type Part = RedBlackTreeMapSync<GroupId, Arc<Held>>;

/// Holdings by label key and value of a domain that they name.
type Places = RedBlackTreeMapSync<String, RedBlackTreeMapSync<String, Part>>;

/// Occupants and holdings by group, in maps that share what is the same with the ledgers of snapshots: cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    pub(crate) occupants: RedBlackTreeMapSync<GroupId, Arc<Occupant>>,
    pub(crate) holdings: RedBlackTreeMapSync<GroupId, Arc<Held>>,
    places: Places,
    /// Those with pods that are promised room.
    outstanding: Part,
    /// Those with pods that are promised room on one node each.
    pinning: Part,
    /// Those that keep others out of a domain.
    keepers: Part,
    /// Moves with every change of a holding that promises room, or did.
    promises: u64,
}

impl Ledger {
    /// Enters a pod of a group.
    pub(crate) fn enter(&mut self, name: &str, facts: &Arc<PodFacts>) {
        let Some((group, set)) = &facts.member else { return };
        if !self.occupants.contains_key(group) {
            self.occupants.insert_mut(group.clone(), Arc::default());
        }
        let Some(occupant) = self.occupants.get_mut(group) else { return };
        let occupant = Arc::make_mut(occupant);
        occupant.set.clone_from(set);
        occupant.pods.insert(name.to_owned(), Arc::clone(facts));
    }

    /// Removes a pod of a group; with the last one goes a holding that was released.
    pub(crate) fn leave(&mut self, name: &str, facts: &PodFacts) {
        let Some((group, _)) = &facts.member else { return };
        if !self.occupants.contains_key(group) {
            return;
        }
        let Some(occupant) = self.occupants.get_mut(group) else { return };
        let occupant = Arc::make_mut(occupant);
        occupant.pods.remove(name);
        if occupant.pods.is_empty() {
            self.occupants.remove_mut(group);
            if self.holdings.get(group).is_some_and(|held| held.released) {
                self.put(group, None);
            }
        }
    }

    /// Enters or replaces a holding.
    pub(crate) fn hold(&mut self, holding: Holding) {
        let group = holding.group.clone();
        self.put(&group, Some(Arc::new(Held { holding, released: false })));
    }

    /// Gives a holding up; while the group has pods its domain stays held.
    pub(crate) fn release(&mut self, group: &GroupId) {
        let Some(held) = self.holdings.get(group) else { return };
        if !self.occupants.contains_key(group) {
            return self.put(group, None);
        }
        let mut held = Held { released: true, ..Held::clone(held) };
        held.holding.outstanding.clear();
        held.holding.pinned.clear();
        held.holding.subgroups.iter_mut().for_each(|subgroup| subgroup.outstanding.clear());
        self.put(group, Some(Arc::new(held)));
    }

    /// Label keys of all domains that holdings name.
    pub(crate) fn levels(&self) -> impl Iterator<Item = &String> {
        self.places.keys()
    }

    /// The groups whose holding names this domain, for itself or for a subgroup.
    pub(crate) fn at(&self, level: &str, domain: &str) -> impl Iterator<Item = (&GroupId, &Arc<Held>)> {
        let there = self.places.get(level).and_then(|domains| domains.get(domain));
        there.into_iter().flat_map(Part::iter)
    }

    /// The groups with pods that are promised room.
    pub(crate) fn outstanding(&self) -> impl Iterator<Item = (&GroupId, &Arc<Held>)> {
        self.outstanding.iter()
    }

    /// Whether the group has pods that are promised room.
    pub(crate) fn is_promised(&self, group: &GroupId) -> bool {
        self.outstanding.contains_key(group)
    }

    /// Equal numbers mean that the same room is promised to the same groups.
    pub(crate) fn promises(&self) -> u64 {
        self.promises
    }

    /// The groups with pods that are promised room on one node each.
    pub(crate) fn pinning(&self) -> impl Iterator<Item = (&GroupId, &Arc<Held>)> {
        self.pinning.iter()
    }

    /// The groups that have a domain for themselves, or a subgroup that has.
    pub(crate) fn keepers(&self) -> impl Iterator<Item = (&GroupId, &Arc<Held>)> {
        self.keepers.iter()
    }

    /// Replaces a group's holding, and everything by which it is found.
    pub(crate) fn put(&mut self, group: &GroupId, held: Option<Arc<Held>>) {
        if let Some(before) = self.holdings.get(group).cloned() {
            before.holding.places().for_each(|(level, domain)| self.forget_place(level, domain, group));
            self.promises += u64::from(before.holding.is_outstanding());
            for part in [&mut self.outstanding, &mut self.pinning, &mut self.keepers, &mut self.holdings] {
                part.remove_mut(group);
            }
        }
        let Some(held) = held else { return };
        self.promises += u64::from(held.holding.is_outstanding());
        held.holding.places().for_each(|(level, domain)| self.note_place(level, domain, group, &held));
        let Holding { pinned, .. } = &held.holding;
        let parts = [
            (&mut self.outstanding, held.holding.is_outstanding()),
            (&mut self.pinning, !pinned.is_empty()),
            (&mut self.keepers, held.holding.keeps()),
            (&mut self.holdings, true),
        ];
        for (part, _) in parts.into_iter().filter(|(_, is_in)| *is_in) {
            part.insert_mut(group.clone(), Arc::clone(&held));
        }
    }

    fn note_place(&mut self, level: &str, domain: &str, group: &GroupId, held: &Arc<Held>) {
        if !self.places.contains_key(level) {
            self.places.insert_mut(level.to_owned(), RedBlackTreeMapSync::default());
        }
        let Some(domains) = self.places.get_mut(level) else { return };
        if !domains.contains_key(domain) {
            domains.insert_mut(domain.to_owned(), Part::default());
        }
        if let Some(groups) = domains.get_mut(domain) {
            groups.insert_mut(group.clone(), Arc::clone(held));
        }
    }

    fn forget_place(&mut self, level: &str, domain: &str, group: &GroupId) {
        let Some(domains) = self.places.get_mut(level) else { return };
        let Some(groups) = domains.get_mut(domain) else { return };
        groups.remove_mut(group);
        if groups.is_empty() {
            domains.remove_mut(domain);
        }
        if domains.is_empty() {
            self.places.remove_mut(level);
        }
    }
}
