//! The first step: everything about one set, from the caches only.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use muster_api::LeaderWorkerSet;
use muster_core::gang::{self, PodGroup};
use muster_core::observed::Observed;

use crate::caches::{Caches, PodGroups};

/// Reads what the caches say about a set.
pub(super) fn observe(caches: &Caches, set: &LeaderWorkerSet) -> Observed {
    let (namespace, name) = (set.set_namespace(), set.set_name());
    let pods = caches.pods.of_set(namespace, name);
    let mut stateful_sets = caches.stateful_sets.of_set(namespace, name);
    let mut services = caches.services.of_set(namespace, name);
    // Objects that have a name of ours without our label are somebody else's: the plan has to know that they are there.
    let leaders = pods.keys().map(String::as_str).filter(|pod| is_leader_name(name, pod));
    for wanted in std::iter::once(name).chain(leaders) {
        if let Some(object) = caches.stateful_sets.get(namespace, wanted) {
            stateful_sets.insert(wanted.to_owned(), object);
        }
        if let Some(object) = caches.services.get(namespace, wanted) {
            services.insert(wanted.to_owned(), object);
        }
    }
    let revisions = caches.revisions.of_set(namespace, name).into_values().collect();
    let claims = caches.claims.of_set(namespace, name);
    let gangs = caches.pod_groups.as_ref().map(PodGroups::gangs);
    let pod_groups = caches.pod_groups.as_ref().map_or_else(BTreeMap::new, |groups| pod_groups(groups, set, &pods));
    let since = caches.deciding_since.get().copied();
    Observed { stateful_sets, services, revisions, claims, pods, gangs, since, pod_groups }
}

/// The set's PodGroups, and whatever else has a name that its leaders need.
fn pod_groups(groups: &PodGroups, set: &LeaderWorkerSet, pods: &BTreeMap<String, Arc<Pod>>) -> BTreeMap<String, Arc<PodGroup>> {
    let (namespace, name) = (set.set_namespace(), set.set_name());
    let mut found: BTreeMap<_, _> = groups.of_set(namespace, name).collect();
    for leader in pods.iter().filter(|(pod, _)| is_leader_name(name, pod)).map(|(_, leader)| leader) {
        for wanted in gang::own_name(leader).map(str::to_owned).into_iter().chain([gang::volcano_name(leader)]) {
            if let Some(object) = groups.get(namespace, &wanted) {
                found.insert(wanted, object);
            }
        }
    }
    found
}

fn is_leader_name(set: &str, pod: &str) -> bool {
    muster_api::names::parent_and_ordinal(pod).is_some_and(|(parent, _)| parent == set)
}
