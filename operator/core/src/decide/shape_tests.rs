//! What the objects of a set look like beyond its plainest form, and what waits for what before they are made.

use std::sync::Arc;

use muster_api::LeaderWorkerSet;
use serde_json::{Value, json};

use super::decide;
use crate::admission::Choice;
use crate::advice::{Admitted, Advice};
use crate::observed::Observed;
use crate::plan::{Plan, Write};
use crate::testing::{now, ready, set, with_leader, written};

fn plan(set: &LeaderWorkerSet, observed: &Observed) -> Plan {
    let admitted = (0..4).map(|group| (group, Admitted { workers: 3, reason: None })).collect();
    decide(set, observed, &Choice::default(), &Advice { workers: admitted, ..Advice::default() }, now())
}

fn lines(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|step| step.write.to_string()).collect()
}

/// The set's leader StatefulSet, and the worker StatefulSet of group 0.
fn stateful_sets(set: &LeaderWorkerSet) -> (Value, Value) {
    let first = plan(set, &Observed::default());
    let mut observed = written(&first);
    with_leader(&mut observed, 0, |_| {});
    let second = plan(set, &observed);
    let leaders = first.steps.iter().find_map(|step| match &step.write {
        Write::ApplyLeaderSet { object, .. } => Some(object.clone()),
        _ => None,
    });
    let workers = second.steps.iter().find_map(|step| match &step.write {
        Write::CreateWorkerSet(object) => Some(object.clone()),
        _ => None,
    });
    (leaders.unwrap(), workers.unwrap())
}

fn key(name: &str) -> String {
    format!("leaderworkerset.sigs.k8s.io/{name}")
}

#[test]
fn templates_say_what_upstreams_say_about_subgroups_and_topology() {
    let set = set(|raw| {
        raw["metadata"]["annotations"] = json!({ key("exclusive-topology"): "row", key("subgroup-exclusive-topology"): "rack" });
        raw["spec"]["leaderWorkerTemplate"]["subGroupPolicy"] = json!({ "subGroupSize": 2 });
        raw["spec"]["networkConfig"] = json!({ "subdomainPolicy": "UniquePerReplica" });
    });
    let (leaders, workers) = stateful_sets(&set);
    let both = [
        (key("size"), "4"),
        (key("exclusive-topology"), "row"),
        (key("subgroup-exclusive-topology"), "rack"),
        (key("subgroup-size"), "2"),
        (key("subgroup-policy-type"), "LeaderWorker"),
    ];
    let expected = |more: (String, &str)| -> Value {
        both.iter().cloned().chain([more]).map(|(key, value)| (key, Value::from(value))).collect::<serde_json::Map<_, _>>().into()
    };
    assert_eq!(leaders["spec"]["template"]["metadata"]["annotations"], expected((key("subdomainPolicy"), "UniquePerReplica")));
    assert_eq!(workers["spec"]["template"]["metadata"]["annotations"], expected((key("leader-name"), "serve-0")));
    // A name of a service can't be changed on a StatefulSet, so that of the leaders is always the set's.
    assert_eq!((&leaders["spec"]["serviceName"], &workers["spec"]["serviceName"]), (&json!("serve"), &json!("serve-0")));
}

#[test]
fn without_subgroups_their_topology_is_nobodys() {
    let set = set(|raw| raw["metadata"]["annotations"] = json!({ key("subgroup-exclusive-topology"): "rack" }));
    let (leaders, workers) = stateful_sets(&set);
    assert_eq!(leaders["spec"]["template"]["metadata"]["annotations"], json!({ key("size"): "4" }));
    let expected = json!({ key("size"): "4", key("leader-name"): "serve-0" });
    assert_eq!(workers["spec"]["template"]["metadata"]["annotations"], expected);
}

#[test]
fn claim_templates_are_kept_whole_and_a_half_said_retention_stays_half() {
    let claim = json!({
        "metadata": { "name": "data", "labels": { "tier": "fast" }, "annotations": { "note": "kept" } },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "ssd", "volumeName": "pv-1", "volumeAttributesClassName": "gold",
            "resources": { "requests": { "storage": "1Gi" } },
            "selector": { "matchLabels": { "zone": "a" } },
            "dataSourceRef": { "apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "weights" },
        },
    });
    let set = set(|raw| {
        raw["spec"]["leaderWorkerTemplate"]["volumeClaimTemplates"] = json!([claim]);
        raw["spec"]["leaderWorkerTemplate"]["persistentVolumeClaimRetentionPolicy"] = json!({ "whenScaled": "Delete" });
    });
    let (leaders, workers) = stateful_sets(&set);
    for object in [leaders, workers] {
        assert_eq!(object["spec"]["volumeClaimTemplates"], json!([claim]));
        assert_eq!(object["spec"]["persistentVolumeClaimRetentionPolicy"], json!({ "whenScaled": "Delete" }));
    }
}

#[test]
fn keys_of_the_operator_win_over_labels_and_annotations_of_the_users() {
    let set = set(|raw| {
        raw["metadata"]["labels"] = json!({ key("name"): "mine", key("template-revision-hash"): "mine", "team": "a" });
        raw["metadata"]["annotations"] = json!({ key("replicas"): "mine", "contact": "a" });
    });
    let (leaders, workers) = stateful_sets(&set);
    for object in [&leaders, &workers] {
        let labels = &object["metadata"]["labels"];
        assert_eq!((&labels[key("name")], &labels["team"]), (&json!("serve"), &json!("a")));
        assert_ne!(labels[key("template-revision-hash")], json!("mine"));
        assert_eq!(object["metadata"]["annotations"]["contact"], json!("a"));
    }
    assert_eq!(leaders["metadata"]["annotations"][key("replicas")], json!("2"));
}

#[test]
fn a_leader_stateful_set_that_is_being_deleted_is_waited_for() {
    let set = set(|_| {});
    let mut observed = written(&plan(&set, &Observed::default()));
    let mut leaders = (*observed.stateful_sets["serve"]).clone();
    leaders.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    observed.stateful_sets.insert("serve".to_owned(), Arc::new(leaders));
    let plan = plan(&set, &observed);
    assert_eq!((lines(&plan), plan.requeue.map(|after| after.as_secs())), (Vec::new(), Some(5)));
}

#[test]
fn a_group_of_a_revision_that_is_not_known_waits_a_second_for_it() {
    let set = set(|_| {});
    let mut observed = written(&plan(&set, &Observed::default()));
    with_leader(&mut observed, 0, |pod| pod["metadata"]["labels"][key("template-revision-hash")] = json!("unknown"));
    let plan = plan(&set, &observed);
    assert!(!lines(&plan).iter().any(|line| line.starts_with("create worker")), "{plan}");
    assert_eq!(plan.requeue.map(|after| after.as_secs()), Some(1));
}

#[test]
fn a_leader_that_calls_another_its_leader_gets_no_workers_and_starts_nothing_over() {
    let set = set(|_| {});
    let mut observed = written(&plan(&set, &Observed::default()));
    with_leader(&mut observed, 0, |pod| {
        pod["metadata"]["annotations"][key("leader-name")] = json!("serve");
        pod["status"] = json!({ "phase": "Running", "containerStatuses": [
            { "name": "main", "image": "", "imageID": "", "ready": true, "restartCount": 1 },
        ] });
    });
    let plan = plan(&set, &observed);
    assert_eq!(lines(&plan), ["apply leader StatefulSet serve (replicas 2, partition 0)", "create service serve"][..1]);
}

#[test]
fn a_count_of_groups_that_nobody_can_read_on_the_leader_stateful_set_is_written_anew() {
    let set = set(|_| {});
    for broken in [None, Some("many")] {
        let mut observed = written(&plan(&set, &Observed::default()));
        (0..2).for_each(|group| with_leader(&mut observed, group, ready));
        let mut leaders = (*observed.stateful_sets["serve"]).clone();
        let annotations = leaders.metadata.annotations.as_mut().unwrap();
        annotations.remove(&key("replicas"));
        annotations.extend(broken.map(|text| (key("replicas"), text.to_owned())));
        observed.stateful_sets.insert("serve".to_owned(), Arc::new(leaders));
        let plan = plan(&set, &observed);
        let Write::ApplyLeaderSet { object, .. } = &plan.steps[0].write else { panic!("{plan}") };
        assert_eq!(object["metadata"]["annotations"][key("replicas")], json!("2"));
    }
}

#[test]
fn each_group_has_a_service_of_its_own_and_somebody_elses_of_that_name_is_left_alone() {
    let set = set(|raw| raw["spec"]["networkConfig"] = json!({ "subdomainPolicy": "UniquePerReplica" }));
    let mut observed = written(&plan(&set, &Observed::default()));
    (0..2).for_each(|group| with_leader(&mut observed, group, |_| {}));
    let foreign = json!({ "metadata": { "name": "serve-1", "namespace": "team" } });
    observed.services.insert("serve-1".to_owned(), Arc::new(serde_json::from_value(foreign).unwrap()));
    let plan = plan(&set, &observed);
    let services: Vec<&Value> = plan
        .steps
        .iter()
        .filter_map(|step| match &step.write {
            Write::CreateService(object) => Some(object),
            _ => None,
        })
        .collect();
    assert_eq!(
        services,
        [&json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": "serve-0",
                "namespace": "team",
                "labels": { key("name"): "serve" },
                "ownerReferences": [{
                    "apiVersion": "v1", "kind": "Pod", "name": "serve-0", "uid": "leader-0-uid",
                    "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "spec": {
                "clusterIP": "None",
                "publishNotReadyAddresses": true,
                "selector": { key("name"): "serve", key("group-index"): "0" },
            },
        })]
    );
    assert_eq!(
        plan.taken[0].text,
        "Service serve-1 exists and belongs to no controller; it is left alone. Rename the set or delete the Service"
    );
}
