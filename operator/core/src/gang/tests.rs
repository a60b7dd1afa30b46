//! PodGroups, written out.

use rstest::rstest;
use serde_json::{Value, json};

use super::{PodGroup, kubernetes, own_name, repair, volcano, volcano_name};
use crate::testing::set;
use k8s_openapi::api::core::v1::Pod;
use muster_api::LeaderWorkerSet;

fn leader(change: impl FnOnce(&mut Value)) -> Pod {
    let mut raw = json!({
        "metadata": {
            "name": "serve-1",
            "namespace": "team",
            "uid": "leader-1-uid",
            "labels": {
                "leaderworkerset.sigs.k8s.io/name": "serve",
                "leaderworkerset.sigs.k8s.io/group-index": "1",
                "leaderworkerset.sigs.k8s.io/template-revision-hash": "6f8d4c9b7",
                "team": "a",
            },
        },
        "spec": { "containers": [], "schedulingGroup": { "podGroupName": "serve-1-6f8d4c9b7-0a1b2c3d" } },
    });
    change(&mut raw);
    serde_json::from_value(raw).unwrap()
}

/// A set whose leader and workers have these containers.
fn with_pods(leader: &Value, worker: &Value) -> LeaderWorkerSet {
    set(|raw| {
        raw["spec"]["leaderWorkerTemplate"]["leaderTemplate"] = json!({ "spec": leader });
        raw["spec"]["leaderWorkerTemplate"]["workerTemplate"] = json!({ "spec": worker });
    })
}

fn container(requests: &Value) -> Value {
    json!({ "name": "main", "image": "image:1", "resources": { "requests": requests } })
}

#[test]
fn volcano_gets_upstreams_pod_group() {
    let mut live = with_pods(
        &json!({ "containers": [container(&json!({ "cpu": "500m", "memory": "1Gi" }))] }),
        &json!({ "containers": [container(&json!({ "cpu": "2", "memory": "16Gi", "nvidia.com/gpu": "8" }))] }),
    );
    live.metadata.annotations = Some(
        [
            ("scheduling.volcano.sh/queue-name", "research"),
            ("volcano.sh/numa-topology-policy", "single-numa-node"),
            ("kubectl.kubernetes.io/last-applied-configuration", "{}"),
            ("example.com/note", "kept off"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into(),
    );
    assert_eq!(
        volcano(&live, &live, &leader(|_| {}), 4),
        json!({
            "apiVersion": "scheduling.volcano.sh/v1beta1",
            "kind": "PodGroup",
            "metadata": {
                "name": "serve-1-6f8d4c9b7",
                "namespace": "team",
                "labels": {
                    "leaderworkerset.sigs.k8s.io/name": "serve",
                    "leaderworkerset.sigs.k8s.io/group-index": "1",
                    "leaderworkerset.sigs.k8s.io/template-revision-hash": "6f8d4c9b7",
                },
                "annotations": { "volcano.sh/numa-topology-policy": "single-numa-node" },
                "ownerReferences": [{
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": "serve-1",
                    "uid": "leader-1-uid",
                    "controller": true,
                    "blockOwnerDeletion": true,
                }],
            },
            "spec": {
                "minMember": 4,
                "minResources": { "cpu": "6500m", "memory": "49Gi", "nvidia.com/gpu": "24" },
                "queue": "research",
            },
        })
    );
}

#[rstest]
#[case::nothing_is_requested(json!({ "containers": [] }), json!({}))]
#[case::a_format_is_kept(json!({ "containers": [container(&json!({ "memory": "2G", "cpu": "1" }))] }), json!({ "cpu": "4", "memory": "8G" }))]
#[case::the_hungriest_init_container_counts(
    json!({ "initContainers": [container(&json!({ "cpu": "3" }))], "containers": [container(&json!({ "cpu": "1" }))] }),
    json!({ "cpu": "12" })
)]
#[case::a_sidecar_counts_beside_the_others(
    json!({
        "initContainers": [{ "name": "proxy", "restartPolicy": "Always", "resources": { "requests": { "cpu": "250m" } } }],
        "containers": [container(&json!({ "cpu": "1" }))],
    }),
    json!({ "cpu": "5" })
)]
#[case::the_overhead_counts(
    json!({ "containers": [container(&json!({ "cpu": "1" }))], "overhead": { "cpu": "250m", "memory": "120Mi" } }),
    json!({ "cpu": "5", "memory": "480Mi" })
)]
#[case::a_limit_becomes_a_request(
    json!({ "containers": [{ "name": "main", "resources": { "limits": { "nvidia.com/gpu": "8" } } }] }),
    json!({ "nvidia.com/gpu": "32" })
)]
#[case::thousands(json!({ "containers": [container(&json!({ "example.com/token": "1000" }))] }), json!({ "example.com/token": "4k" }))]
fn the_resources_are_those_of_all_four_pods(#[case] pod: Value, #[case] expected: Value) {
    let live = with_pods(&pod, &pod);
    assert_eq!(volcano(&live, &live, &leader(|_| {}), 4)["spec"]["minResources"], expected);
}

#[test]
fn size_and_resources_are_those_of_the_leaders_revision() {
    let pod = json!({ "containers": [container(&json!({ "cpu": "1" }))] });
    let restored = with_pods(&pod, &pod);
    let live = set(|raw| raw["spec"]["leaderWorkerTemplate"]["size"] = json!(9));
    assert_eq!(volcano(&live, &restored, &leader(|_| {}), 4)["spec"], json!({ "minMember": 4, "minResources": { "cpu": "4" } }));
}

#[test]
fn resources_that_cannot_be_read_are_left_out() {
    let live = with_pods(&json!({ "containers": [] }), &json!({ "containers": [container(&json!({ "cpu": "lots" }))] }));
    assert_eq!(volcano(&live, &live, &leader(|_| {}), 4)["spec"], json!({ "minMember": 4 }));
}

#[rstest]
#[case::together(4, json!({ "schedulingPolicy": { "gang": { "minCount": 4 } } }))]
#[case::one_by_one(1, json!({ "schedulingPolicy": { "basic": {} } }))]
fn kube_scheduler_gets_a_pod_group_that_does_not_hold_up_its_leader(#[case] min_count: u32, #[case] spec: Value) {
    assert_eq!(
        kubernetes("serve-1-6f8d4c9b7-0a1b2c3d", &leader(|_| {}), min_count),
        json!({
            "apiVersion": "scheduling.k8s.io/v1alpha2",
            "kind": "PodGroup",
            "metadata": {
                "name": "serve-1-6f8d4c9b7-0a1b2c3d",
                "namespace": "team",
                "labels": {
                    "leaderworkerset.sigs.k8s.io/name": "serve",
                    "leaderworkerset.sigs.k8s.io/group-index": "1",
                    "leaderworkerset.sigs.k8s.io/template-revision-hash": "6f8d4c9b7",
                },
                "ownerReferences": [{
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": "serve-1",
                    "uid": "leader-1-uid",
                    "controller": true,
                    "blockOwnerDeletion": false,
                }],
            },
            "spec": spec,
        })
    );
}

#[rstest]
#[case::ours(json!({ "podGroupName": "serve-1-6f8d4c9b7-0a1b2c3d" }), Some("serve-1-6f8d4c9b7-0a1b2c3d"))]
#[case::its_authors(json!({ "podGroupName": "mine" }), None)]
#[case::of_another_revision(json!({ "podGroupName": "serve-1-77bb2f67f-0a1b2c3d" }), None)]
#[case::none(Value::Null, None)]
fn a_leader_says_which_pod_group_is_to_be_made_for_it(#[case] group: Value, #[case] expected: Option<&str>) {
    let leader = leader(|pod| pod["spec"]["schedulingGroup"] = group);
    assert_eq!(own_name(&leader), expected);
    assert_eq!(volcano_name(&leader), "serve-1-6f8d4c9b7");
}

fn live(object: &Value, change: impl FnOnce(&mut Value)) -> PodGroup {
    let mut object = object.clone();
    object["metadata"]["uid"] = json!("group-uid");
    change(&mut object);
    PodGroup { metadata: serde_json::from_value(object["metadata"].clone()).unwrap(), spec: object["spec"].clone() }
}

fn volcanos() -> Value {
    let pod = json!({ "containers": [container(&json!({ "cpu": "1" }))] });
    let mut set = with_pods(&pod, &pod);
    let annotations = [("volcano.sh/a", "1"), ("scheduling.volcano.sh/queue-name", "research")];
    set.metadata.annotations = Some(annotations.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    volcano(&set, &set, &leader(|_| {}), 4)
}

#[rstest]
#[case::nothing_changed(|_: &mut Value| {}, None)]
#[case::what_volcano_writes_itself(
    |group: &mut Value| {
        group["metadata"]["annotations"]["volcano.sh/own"] = json!("x");
        group["spec"]["minTaskMember"] = json!({ "a": 1 });
    },
    None
)]
#[case::fewer_members(
    |group: &mut Value| group["spec"]["minMember"] = json!(2),
    Some((json!({ "metadata": { "uid": "group-uid" }, "spec": { "minMember": 4 } }), "spec.minMember"))
)]
#[case::other_resources(
    |group: &mut Value| group["spec"]["minResources"] = json!({ "memory": "1Gi" }),
    Some((
        json!({ "metadata": { "uid": "group-uid" }, "spec": { "minResources": { "cpu": "4", "memory": null } } }),
        "spec.minResources",
    ))
)]
#[case::a_spec_that_is_gone(
    |group: &mut Value| group["spec"] = Value::Null,
    Some((
        json!({
            "metadata": { "uid": "group-uid" },
            "spec": { "minMember": 4, "minResources": { "cpu": "4" }, "queue": "research" },
        }),
        "spec.minMember, spec.minResources, spec.queue",
    ))
)]
#[case::labels_and_annotations(
    |group: &mut Value| {
        group["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/name"] = json!("other");
        group["metadata"]["annotations"] = Value::Null;
    },
    Some((
        json!({ "metadata": {
            "uid": "group-uid",
            "labels": { "leaderworkerset.sigs.k8s.io/name": "serve" },
            "annotations": { "volcano.sh/a": "1" },
        } }),
        "metadata.labels, metadata.annotations",
    ))
)]
fn what_somebody_changed_is_put_back(#[case] change: fn(&mut Value), #[case] expected: Option<(Value, &str)>) {
    let wanted = volcanos();
    let found = repair(&wanted, &live(&wanted, change));
    assert_eq!(found, expected.map(|(patch, fields)| (patch, fields.to_owned())));
}

#[test]
fn of_kube_schedulers_only_the_labels_can_be_put_back() {
    let wanted = kubernetes("serve-1-6f8d4c9b7-0a1b2c3d", &leader(|_| {}), 1);
    let existing = live(&wanted, |group| {
        group["metadata"]["labels"] = json!({});
        group["spec"] = json!({ "schedulingPolicy": { "gang": { "minCount": 4 } } });
    });
    let (patch, fields) = repair(&wanted, &existing).unwrap();
    assert_eq!(fields, "metadata.labels");
    assert_eq!(patch["metadata"]["labels"], wanted["metadata"]["labels"]);
    assert_eq!(patch.get("spec"), None);
}
