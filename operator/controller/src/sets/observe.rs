//! The first step: everything about one set, from the caches only.

use muster_api::LeaderWorkerSet;
use muster_core::observed::Observed;

use crate::caches::Caches;

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
    Observed { stateful_sets, services, revisions, claims, pods }
}

fn is_leader_name(set: &str, pod: &str) -> bool {
    muster_api::names::parent_and_ordinal(pod).is_some_and(|(parent, _)| parent == set)
}
