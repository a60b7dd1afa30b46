//! Everything one reconcile has read about one set, and the same seen as groups.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use k8s_openapi::jiff::Timestamp;
use muster_api::LeaderWorkerSet;
use muster_api::names::{self, label};

use crate::gang::{Gangs, PodGroup};
use crate::owner::is_controlled_by;
use crate::pods;

/// What the caches say about one set. Objects are as the API server gave them, foreign ones with our names included, so that
/// [`decide`](crate::decide) can tell ours from others'.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// StatefulSets of the set's namespace that carry the set's name label or one of the names the set needs, by name.
    pub stateful_sets: BTreeMap<String, Arc<StatefulSet>>,
    /// Services likewise.
    pub services: BTreeMap<String, Arc<Service>>,
    /// ControllerRevisions with the set's name label.
    pub revisions: Vec<Arc<ControllerRevision>>,
    /// Volume claims with the set's name label, by name.
    pub claims: BTreeMap<String, Arc<PersistentVolumeClaim>>,
    /// Pods with the set's name label.
    pub pods: BTreeMap<String, Arc<Pod>>,
    /// Gang scheduling; `None` when it is off.
    pub gangs: Option<Gangs>,
    /// Since when whoever decides has been looking; what happened before left only what objects say. `None` for those who only read.
    pub since: Option<Timestamp>,
    /// PodGroups that carry the set's name label or one of the names its leaders need, by name.
    pub pod_groups: BTreeMap<String, Arc<PodGroup>>,
}

impl Observed {
    /// The leader StatefulSet, ours or not.
    pub fn leader_set(&self, set: &LeaderWorkerSet) -> Option<&StatefulSet> {
        self.stateful_sets.get(set.metadata.name.as_deref()?).map(Arc::as_ref)
    }

    /// The set's groups, by index: every group that has a leader, a worker or a worker StatefulSet.
    pub fn groups(&self, set: &LeaderWorkerSet) -> BTreeMap<u32, Group<'_>> {
        let set_name = set.metadata.name.as_deref().unwrap_or_default();
        let mut groups: BTreeMap<u32, Group<'_>> = BTreeMap::new();
        for (pod_name, pod) in &self.pods {
            let Some((parent, ordinal)) = parent_and_ordinal(pod_name) else { continue };
            if parent == set_name && pods::label(pod, label::WORKER_INDEX) == Some("0") {
                groups.entry(ordinal).or_default().leader = Some(pod);
            } else if let Some((grandparent, index)) = parent_and_ordinal(parent)
                && grandparent == set_name
            {
                groups.entry(index).or_default().workers.insert(ordinal, pod);
            }
        }
        for (name, stateful_set) in &self.stateful_sets {
            let Some((_, index)) = parent_and_ordinal(name).filter(|(parent, _)| *parent == set_name) else { continue };
            let leader = groups.get(&index).and_then(|group| group.leader);
            // Somebody may have taken its label off; it is its leader's all the same.
            let leaders_own =
                || leader.is_some_and(|leader| is_controlled_by(&stateful_set.metadata, leader.metadata.uid.as_deref()));
            if carries_set_name(stateful_set, set_name) || leaders_own() {
                groups.entry(index).or_default().worker_set = Some(stateful_set);
            }
        }
        for (index, group) in &mut groups {
            (group.index, group.since) = (*index, self.since);
        }
        groups
    }
}

fn parent_and_ordinal(name: &str) -> Option<(&str, u32)> {
    let (parent, ordinal) = names::parent_and_ordinal(name)?;
    Some((parent, u32::try_from(ordinal).ok()?))
}

fn carries_set_name(stateful_set: &StatefulSet, set_name: &str) -> bool {
    let labels = stateful_set.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(label::SET_NAME)).is_some_and(|name| name == set_name)
}

/// One group as the caches show it.
#[derive(Debug, Clone, Default)]
pub struct Group<'a> {
    /// Its index in the set.
    pub index: u32,
    /// From [`Observed::since`].
    pub since: Option<Timestamp>,
    /// The leader pod.
    pub leader: Option<&'a Pod>,
    /// Worker pods by rank.
    pub workers: BTreeMap<u32, &'a Pod>,
    /// The worker StatefulSet.
    pub worker_set: Option<&'a StatefulSet>,
}

impl<'a> Group<'a> {
    /// Every pod of the group, leader first, with its rank.
    pub fn pods(&self) -> impl Iterator<Item = (u32, &'a Pod)> + '_ {
        self.leader.map(|leader| (0, leader)).into_iter().chain(self.workers.iter().map(|(rank, pod)| (*rank, *pod)))
    }

    /// The leader, unless it is on its way out.
    pub fn live_leader(&self) -> Option<&'a Pod> {
        self.leader.filter(|leader| !pods::is_deleting(leader))
    }

    /// Upstream's reading of a worker StatefulSet that is ready: every replica it wants is available, and at one revision.
    /// Unlike upstream, a status that says which generation it speaks of must speak of the current one.
    pub fn workers_ready(&self) -> bool {
        let Some(workers) = self.worker_set else { return false };
        let (Some(spec), Some(status)) = (&workers.spec, &workers.status) else { return false };
        status.observed_generation.is_none_or(|seen| Some(seen) == workers.metadata.generation)
            && spec.replicas.unwrap_or(1) == status.available_replicas.unwrap_or(0)
            && status.current_revision == status.update_revision
    }
}
