//! Volume claims of workers: they outlive the StatefulSets that made them, and go when their set does.
//!
//! With `whenDeleted: Delete` the StatefulSet controller makes each claim owned by its StatefulSet. A group that starts over or is
//! updated loses its worker StatefulSet, and with upstream the workers' data with it. The garbage collector deletes an object only
//! when all its owners are gone, so here the set is made an owner too: the StatefulSets say what upstream writes, and the
//! claims stay as long as the set does. What `whenScaled: Delete` means for a group that is scaled away is then carried out here.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use muster_api::LeaderWorkerSet;
use muster_api::names::{self, annotation, label};
use muster_api::template::ClaimTemplate;
use serde_json::{Value, json};

use crate::observed::{Group, Observed};
use crate::owner::controller;
use crate::pods;
use crate::revision;
use crate::status::size_of;

const DELETE: &str = "Delete";

/// What is to become of one claim.
#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
    /// It gets or loses the set as an owner, by this strategic merge patch.
    Owned(Value),
    /// Its pod is scaled away for good, and the set wants its claim to go too.
    Deleted,
}

/// The claims of the set's workers for which something is to be done, by name. `groups_wanted` is how many groups there are or
/// will be, those of a surge included.
pub fn fates(
    set: &LeaderWorkerSet,
    observed: &Observed,
    groups: &BTreeMap<u32, Group<'_>>,
    groups_wanted: u32,
    revision: &str,
) -> BTreeMap<String, Fate> {
    let policy = set.spec.leader_worker_template.persistent_volume_claim_retention_policy.as_ref();
    let deletes = |when: Option<&String>| when.is_some_and(|when| when == DELETE);
    let with_set = deletes(policy.and_then(|policy| policy.when_deleted.as_ref()));
    let with_scale = deletes(policy.and_then(|policy| policy.when_scaled.as_ref()));
    let mut fates = BTreeMap::new();
    for (name, claim) in &observed.claims {
        let Some((group, rank)) = worker_of(set.set_name(), name, claim) else { continue };
        if claim.metadata.deletion_timestamp.is_some() {
            continue;
        }
        if with_scale && is_scaled_away(set, observed, groups, groups_wanted, revision, (group, rank)) {
            fates.insert(name.clone(), Fate::Deleted);
        } else if let Some(patch) = ownership(set, claim, with_set) {
            fates.insert(name.clone(), Fate::Owned(patch));
        }
    }
    if with_set {
        fates.extend(unlabelled(set, observed, groups));
    }
    fates
}

/// Claims of running workers that nobody labelled: somebody made them before their pods. The StatefulSet controller uses such a claim
/// under its name and makes it its own like any other, so it needs the set as an owner like any other.
fn unlabelled(set: &LeaderWorkerSet, observed: &Observed, groups: &BTreeMap<u32, Group<'_>>) -> BTreeMap<String, Fate> {
    let templates = &set.spec.leader_worker_template.volume_claim_templates;
    let mut fates = BTreeMap::new();
    for (index, worker) in groups.iter().flat_map(|(index, group)| group.workers.values().map(move |worker| (index, worker))) {
        let names = templates.iter().filter_map(|template| Some(format!("{}-{}", template.name()?, pods::name(worker))));
        for name in names.filter(|name| !observed.claims.contains_key(name)) {
            let Some(owner) = reference(set) else { continue };
            let labels = json!({ label::SET_NAME: set.set_name(), label::GROUP_INDEX: index.to_string() });
            fates.insert(name, Fate::Owned(json!({ "metadata": { "labels": labels, "ownerReferences": [owner] } })));
        }
    }
    fates
}

/// The set as an owner beside others.
fn reference(set: &LeaderWorkerSet) -> Option<Value> {
    let uid = set.metadata.uid.as_deref()?;
    Some(json!({
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "name": set.metadata.name,
        "uid": uid,
    }))
}

/// Group and rank of the worker that a claim is for: `<template>-<set>-<group>-<rank>`, labelled as its StatefulSet selects.
fn worker_of(set: &str, name: &str, claim: &PersistentVolumeClaim) -> Option<(u32, u32)> {
    let labels = claim.metadata.labels.as_ref()?;
    if labels.contains_key(label::WORKER_INDEX) {
        return None; // A leader's. The leader StatefulSet lives as long as the set, and keeps its claims by itself.
    }
    let group: u32 = labels.get(label::GROUP_INDEX)?.parse().ok()?;
    let (parent, rank) = names::parent_and_ordinal(name)?;
    let template = parent.strip_suffix(&format!("-{set}-{group}"))?;
    (!template.is_empty()).then_some((group, u32::try_from(rank).ok()?))
}

/// The patch that makes the set an owner of the claim, or one no more. While a StatefulSet or pod answers for the claim, the set
/// is an owner in any case: a policy that was just changed reaches that StatefulSet only when its group is updated, and the
/// update must not cost the data.
fn ownership(set: &LeaderWorkerSet, claim: &PersistentVolumeClaim, with_set: bool) -> Option<Value> {
    let uid = set.metadata.uid.as_deref()?;
    let owned = claim.metadata.owner_references.iter().flatten().any(|owner| owner.uid == uid);
    let wanted = with_set || controller(&claim.metadata).is_some();
    let reference = match (owned, wanted) {
        (true, true) | (false, false) => return None,
        (false, true) => reference(set)?,
        (true, false) => json!({ "$patch": "delete", "uid": uid }),
    };
    Some(json!({ "metadata": { "uid": claim.metadata.uid, "ownerReferences": [reference] } }))
}

/// Whether no pod of this group and rank exists or will be made.
fn is_scaled_away(
    set: &LeaderWorkerSet,
    observed: &Observed,
    groups: &BTreeMap<u32, Group<'_>>,
    groups_wanted: u32,
    revision: &str,
    (group, rank): (u32, u32),
) -> bool {
    let pod = names::worker_pod(set.set_name(), group.cast_signed(), rank.cast_signed());
    if observed.pods.contains_key(&pod) {
        return false;
    }
    match groups.get(&group) {
        None => group >= groups_wanted,
        Some(found) => {
            // Its leader is of the current revision and says that its group is smaller than this rank: it was made smaller.
            let smaller = |leader: &Pod| {
                pods::revision(leader) == Some(revision)
                    && pods::annotation(leader, annotation::SIZE).is_some()
                    && size_of(leader, set) <= rank
            };
            i64::from(rank) >= i64::from(set.size()) && found.live_leader().is_some_and(smaller)
        }
    }
}

/// Whether live claim templates say all that these say: the API server adds to a template what it defaults, and changes nothing
/// of it. `None` when both agree, else what differs.
pub fn difference(wanted: &[ClaimTemplate], live: &[PersistentVolumeClaim]) -> Option<String> {
    let names = |list: Vec<Option<&str>>| list.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let wanted_names = names(wanted.iter().map(ClaimTemplate::name).collect());
    let live_names = names(live.iter().map(|claim| claim.metadata.name.as_deref()).collect());
    if wanted_names != live_names {
        let shown = |names: String| if names.is_empty() { "none".to_owned() } else { names };
        return Some(format!("the StatefulSet has {}, the set {}", shown(live_names), shown(wanted_names)));
    }
    let differing = wanted.iter().zip(live).find(|(wanted, live)| {
        // As our bindings know both; what they don't know can't be compared.
        let Ok(wanted) = wanted.typed() else { return true };
        let (Ok(wanted), Ok(live)) = (serde_json::to_value(wanted), serde_json::to_value(live)) else { return true };
        // 1024Mi is 1Gi.
        let (wanted, live) = (revision::meaning(&wanted), revision::meaning(&live));
        ["labels", "annotations"].iter().any(|part| !says(&live["metadata"][part], &wanted["metadata"][part]))
            || !says(&live["spec"], &wanted["spec"])
    });
    differing.map(|(wanted, _)| format!("{} differs", wanted.name().unwrap_or_default()))
}

/// The part of a template that upstream copies to its StatefulSets (`reference` §2.4); the rest it drops. A set that was taken over lives
/// with that, and there is nothing that its owner could do about it.
pub fn as_upstream_copies(templates: &[ClaimTemplate]) -> Vec<ClaimTemplate> {
    let copy = |template: &ClaimTemplate| {
        let mut copied = json!({ "metadata": { "name": template.0["metadata"]["name"] }, "spec": {} });
        for field in ["accessModes", "resources", "storageClassName", "volumeMode"] {
            if let Some(value) = template.0["spec"].get(field) {
                copied["spec"][field] = value.clone();
            }
        }
        ClaimTemplate(copied)
    };
    templates.iter().map(copy).collect()
}

/// Whether `live` has everything of `wanted`.
fn says(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (_, Value::Null) => true,
        (live, Value::Object(fields)) => fields.iter().all(|(name, value)| says(&live[name], value)),
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(live, wanted)| says(live, wanted))
        }
        (live, wanted) => live == wanted,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rstest::rstest;

    use super::*;
    use crate::testing::set;

    const SET: &str = "set-uid";
    const WORKERS: &str = "workers-uid";

    fn of(deleted: &str, scaled: &str) -> LeaderWorkerSet {
        set(|raw| {
            raw["spec"]["leaderWorkerTemplate"]["persistentVolumeClaimRetentionPolicy"] =
                json!({ "whenDeleted": deleted, "whenScaled": scaled });
        })
    }

    fn claim(name: &str, group: &str, owners: &[(&str, &str, bool)]) -> Arc<PersistentVolumeClaim> {
        let owners: Vec<Value> = owners
            .iter()
            .map(|(kind, uid, controller)| json!({ "apiVersion": "v1", "kind": kind, "name": "x", "uid": uid, "controller": controller }))
            .collect();
        let labels = json!({ "leaderworkerset.sigs.k8s.io/name": "serve", "leaderworkerset.sigs.k8s.io/group-index": group });
        let raw = json!({ "metadata": { "name": name, "uid": "claim-uid", "labels": labels, "ownerReferences": owners } });
        Arc::new(serde_json::from_value(raw).unwrap())
    }

    fn leader(revision: &str, size: &str) -> Arc<Pod> {
        let raw = json!({ "metadata": {
            "name": "serve-0",
            "labels": { "leaderworkerset.sigs.k8s.io/worker-index": "0", "leaderworkerset.sigs.k8s.io/template-revision-hash": revision },
            "annotations": { "leaderworkerset.sigs.k8s.io/size": size },
        } });
        Arc::new(serde_json::from_value(raw).unwrap())
    }

    fn fate(set: &LeaderWorkerSet, claim: Arc<PersistentVolumeClaim>, pods: &[Arc<Pod>]) -> Option<Fate> {
        let name = claim.metadata.name.clone().unwrap();
        let mut observed = Observed::default();
        observed.claims.insert(name.clone(), claim);
        observed.pods = pods.iter().map(|pod| (pods::name(pod).to_owned(), pod.clone())).collect();
        fates(set, &observed, &observed.groups(set), 2, "k1").remove(&name)
    }

    fn adopted() -> Option<Fate> {
        let owner =
            json!({ "apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "name": "serve", "uid": SET });
        Some(Fate::Owned(json!({ "metadata": { "uid": "claim-uid", "ownerReferences": [owner] } })))
    }

    fn released() -> Option<Fate> {
        let owner = json!({ "$patch": "delete", "uid": SET });
        Some(Fate::Owned(json!({ "metadata": { "uid": "claim-uid", "ownerReferences": [owner] } })))
    }

    #[rstest]
    #[case::new("Delete", &[("StatefulSet", WORKERS, true)], adopted())]
    #[case::kept("Delete", &[("StatefulSet", WORKERS, true), ("LeaderWorkerSet", SET, false)], None)]
    #[case::between_two_stateful_sets("Delete", &[("LeaderWorkerSet", SET, false)], None)]
    #[case::retained("Retain", &[], None)]
    #[case::retained_from_now_on("Retain", &[("StatefulSet", WORKERS, true), ("LeaderWorkerSet", SET, false)], None)]
    #[case::retained_and_let_go("Retain", &[("LeaderWorkerSet", SET, false)], released())]
    fn a_claim_belongs_to_the_set_while_it_is_to_go_with_it(
        #[case] deleted: &str,
        #[case] owners: &[(&str, &str, bool)],
        #[case] expected: Option<Fate>,
    ) {
        assert_eq!(fate(&of(deleted, "Retain"), claim("data-serve-0-1", "0", owners), &[]), expected);
    }

    #[test]
    fn claims_of_leaders_and_of_others_are_left_alone() {
        let policy = of("Delete", "Delete");
        let mut leaders = (*claim("data-serve-7", "7", &[])).clone();
        leaders.metadata.labels.as_mut().unwrap().insert(label::WORKER_INDEX.to_owned(), "0".to_owned());
        assert_eq!(fate(&policy, Arc::new(leaders), &[]), None);
        assert_eq!(fate(&policy, claim("backup", "7", &[]), &[]), None);
        assert_eq!(fate(&policy, claim("serve-7-1", "7", &[]), &[]), None);
    }

    #[rstest]
    #[case::group_is_gone("data-serve-2-1", "2", None, Some(Fate::Deleted))]
    #[case::group_will_be_made("data-serve-1-1", "1", None, None)]
    #[case::rank_is_gone("data-serve-0-5", "0", Some(("k1", "4")), Some(Fate::Deleted))]
    #[case::group_is_not_updated_yet("data-serve-0-5", "0", Some(("k0", "8")), None)]
    #[case::leader_is_being_replaced("data-serve-0-5", "0", None, None)]
    fn claims_of_what_is_scaled_away_go_when_the_set_wants_that(
        #[case] name: &str,
        #[case] group: &str,
        #[case] leader_of: Option<(&str, &str)>,
        #[case] expected: Option<Fate>,
    ) {
        let pods: Vec<_> = leader_of.iter().map(|(revision, size)| leader(revision, size)).collect();
        assert_eq!(fate(&of("Retain", "Delete"), claim(name, group, &[]), &pods), expected);
        assert_eq!(fate(&of("Retain", "Retain"), claim(name, group, &[]), &pods), None);
    }

    #[test]
    fn a_claim_that_somebody_made_before_its_pod_is_found_by_that_pod() {
        let mut policy = of("Delete", "Retain");
        policy.spec.leader_worker_template.volume_claim_templates =
            vec![ClaimTemplate(json!({ "metadata": { "name": "data" } }))];
        let worker: Pod = serde_json::from_value(json!({ "metadata": { "name": "serve-0-1" } })).unwrap();
        let mut observed = Observed::default();
        observed.pods.insert("serve-0-1".to_owned(), Arc::new(worker));
        let found = fates(&policy, &observed, &observed.groups(&policy), 2, "k1");
        let patch = json!({ "metadata": {
            "labels": { "leaderworkerset.sigs.k8s.io/name": "serve", "leaderworkerset.sigs.k8s.io/group-index": "0" },
            "ownerReferences": [{ "apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "name": "serve", "uid": SET }],
        } });
        assert_eq!(found, [("data-serve-0-1".to_owned(), Fate::Owned(patch))].into());
        observed.claims.insert("data-serve-0-1".to_owned(), claim("data-serve-0-1", "0", &[("LeaderWorkerSet", SET, false)]));
        assert_eq!(fates(&policy, &observed, &observed.groups(&policy), 2, "k1"), BTreeMap::new());
    }

    #[test]
    fn a_claim_stays_while_its_pod_exists() {
        let worker: Pod = serde_json::from_value(json!({ "metadata": { "name": "serve-2-1" } })).unwrap();
        assert_eq!(fate(&of("Retain", "Delete"), claim("data-serve-2-1", "2", &[]), &[Arc::new(worker)]), None);
    }

    #[test]
    fn templates_are_compared_with_what_the_api_server_made_of_them() {
        let wanted = |size: &str| {
            vec![ClaimTemplate(json!({ "metadata": { "name": "data", "labels": { "tier": "fast" } }, "spec": {
                "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": size } }, "fieldOfTomorrow": 1 } }))]
        };
        let live: PersistentVolumeClaim = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": { "name": "data", "namespace": "team", "labels": { "tier": "fast" }, "creationTimestamp": null },
            "spec": { "accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem", "resources": { "requests": { "storage": "1Gi" } } },
            "status": { "phase": "Pending" },
        }))
        .unwrap();
        let mut live = [live];
        assert_eq!(difference(&wanted("1Gi"), &live), None);
        assert_eq!(difference(&wanted("1024Mi"), &live), None);
        live[0].metadata.labels = None;
        assert_eq!(difference(&wanted("1Gi"), &live).as_deref(), Some("data differs"));
        assert_eq!(difference(&as_upstream_copies(&wanted("1Gi")), &live), None);
        assert_eq!(difference(&wanted("2Gi"), &live).as_deref(), Some("data differs"));
        assert_eq!(difference(&[], &live).as_deref(), Some("the StatefulSet has data, the set none"));
        assert_eq!(difference(&wanted("1Gi"), &[]).as_deref(), Some("the StatefulSet has none, the set data"));
    }
}
