use rstest::rstest;
use serde_json::{Value, json};

use super::{admit, annotate, label, leader, worker};
use crate::admission::{AdmissionError, Gang, Guard, Outcome, Placement, PodContext, mutate};
use crate::placement::effects::Effects;

fn admit_gated(pod: &mut Value) -> Result<Outcome, AdmissionError> {
    mutate(
        pod,
        &PodContext {
            namespace: "default",
            placement: Placement::Gate,
            gang: Gang::None,
            effects: &Effects::default(),
            guard: &Guard::default(),
        },
    )
}

#[test]
fn a_leader_learns_its_group_and_its_environment() {
    let mut pod = leader("set-1");
    assert_eq!(admit(&mut pod), Ok(Outcome::Leader { gated: false }));
    assert_eq!(label(&pod, "group-index"), Some("1"));
    // printf default/set-1 | sha1sum
    assert_eq!(label(&pod, "group-key"), Some("a5bccf481fa422157a6cc4ced2e25fb3a647b215"));
    assert_eq!(label(&pod, "subgroup-index"), None);
    assert_eq!(
        pod["spec"],
        json!({"subdomain": "set", "containers": [{"name": "main", "image": "i", "env": [
            {"name": "LWS_LEADER_ADDRESS", "value": "set-1.set.default"},
            {"name": "LWS_GROUP_SIZE", "value": "4"},
            {"name": "LWS_WORKER_INDEX", "value": "0"},
        ]}]})
    );
}

#[test]
fn a_worker_learns_its_rank_and_its_environment() {
    let mut pod = worker("set-1-3");
    assert_eq!(admit_gated(&mut pod), Ok(Outcome::Worker));
    assert_eq!(label(&pod, "worker-index"), Some("3"));
    assert_eq!(
        pod["spec"],
        json!({"subdomain": "set", "containers": [{"name": "main", "image": "i", "env": [
            {"name": "LWS_LEADER_ADDRESS", "value": "set-1.set.default"},
            {"name": "LWS_GROUP_SIZE", "value": "4"},
            {"name": "LWS_WORKER_INDEX", "value": "3"},
        ]}]})
    );
}

#[test]
fn a_worker_index_that_a_template_claims_gives_way_to_the_name() {
    let mut pod = worker("set-1-3");
    pod["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/worker-index"] = "7".into();
    admit(&mut pod).unwrap();
    assert_eq!(label(&pod, "worker-index"), Some("3"));
}

#[test]
fn labels_that_a_leader_already_has_stay() {
    let mut pod = leader("set-1");
    pod["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/group-index"] = "5".into();
    pod["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/group-key"] = "kept".into();
    admit(&mut pod).unwrap();
    assert_eq!((label(&pod, "group-index"), label(&pod, "group-key")), (Some("5"), Some("kept")));
}

#[test]
fn a_subdomain_for_each_group_is_the_leaders_name() {
    let mut pod = leader("set-1");
    annotate(&mut pod, "subdomainPolicy", "UniquePerReplica");
    admit(&mut pod).unwrap();
    assert_eq!(pod["spec"]["subdomain"], "set-1");
    assert_eq!(pod["spec"]["containers"][0]["env"][0]["value"], "set-1.set-1.default");
}

#[test]
fn variables_come_first_drop_the_users_of_the_same_name_and_keep_the_first_of_duplicates() {
    let mut pod = leader("set-0");
    let theirs = json!([
        {"name": "A", "value": "$(LWS_LEADER_ADDRESS):6379"},
        {"name": "LWS_GROUP_SIZE", "value": "99"},
        {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "A", "value": "again"},
    ]);
    pod["spec"]["containers"][0]["env"] = theirs.clone();
    pod["spec"]["initContainers"] = json!([{"name": "init", "env": theirs}, {"name": "bare", "env": null}]);
    pod["spec"]["ephemeralContainers"] = json!([{"name": "debug"}]);
    admit(&mut pod).unwrap();
    let ours = [
        json!({"name": "LWS_LEADER_ADDRESS", "value": "set-0.set.default"}),
        json!({"name": "LWS_GROUP_SIZE", "value": "4"}),
        json!({"name": "LWS_WORKER_INDEX", "value": "0"}),
    ];
    let expected = json!([
        ours[0], ours[1], ours[2],
        {"name": "A", "value": "$(LWS_LEADER_ADDRESS):6379"},
        {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    ]);
    assert_eq!(pod["spec"]["containers"][0]["env"], expected);
    assert_eq!(pod["spec"]["initContainers"], json!([{"name": "init", "env": expected}, {"name": "bare", "env": ours}]));
    assert_eq!(pod["spec"]["ephemeralContainers"], json!([{"name": "debug"}]));
}

#[test]
fn only_leaders_of_placed_sets_are_gated_and_only_once() {
    let mut pod = leader("set-0");
    pod["spec"]["schedulingGates"] = json!([{"name": "example.com/quota"}]);
    assert_eq!(admit_gated(&mut pod), Ok(Outcome::Leader { gated: true }));
    assert_eq!(admit_gated(&mut pod), Ok(Outcome::Leader { gated: true }));
    assert_eq!(pod["spec"]["schedulingGates"], json!([{"name": "example.com/quota"}, {"name": "muster.dev/placement"}]));

    let mut pod = leader("set-0");
    admit(&mut pod).unwrap();
    assert_eq!(pod["spec"].get("schedulingGates"), None);

    let mut pod = worker("set-1-2");
    admit_gated(&mut pod).unwrap();
    assert_eq!(pod["spec"].get("schedulingGates"), None);
}

#[test]
fn a_leader_that_names_its_node_is_not_gated() {
    let mut pod = leader("set-0");
    pod["spec"]["nodeName"] = "node-7".into();
    assert_eq!(admit_gated(&mut pod), Ok(Outcome::Leader { gated: false }));
    assert_eq!(pod["spec"].get("schedulingGates"), None);
}

#[test]
fn no_pod_gets_affinity_whatever_it_is_annotated_with() {
    for mut pod in [leader("set-1"), worker("set-1-1")] {
        annotate(&mut pod, "exclusive-topology", "cloud.google.com/gke-nodepool");
        annotate(&mut pod, "subgroup-exclusive-topology", "rack");
        annotate(&mut pod, "subgroup-size", "2");
        admit_gated(&mut pod).unwrap();
        assert_eq!(pod["spec"].get("affinity"), None);
    }
}

#[rstest]
#[case::size_is_no_number(leader("set-0"), "size", "many", r#"strconv.Atoi: parsing "many": invalid syntax"#)]
#[case::size_is_empty(leader("set-0"), "size", "", r#"strconv.Atoi: parsing "": invalid syntax"#)]
#[case::size_is_too_large(
    worker("set-1-1"),
    "size",
    "99999999999999999999",
    r#"strconv.Atoi: parsing "99999999999999999999": value out of range"#
)]
#[case::leader_without_ordinal(leader("set"), "size", "4", "parsing pod ordinal for pod set")]
#[case::worker_without_ordinal(worker("set-1-x"), "size", "4", "parsing pod ordinal for pod set-1-x")]
#[case::worker_of_rank_zero(
    worker("set-1-0"),
    "size",
    "4",
    "pod set-1-0 is a worker by its template and the leader by its name: workers are numbered from 1"
)]
#[case::subgroup_size_is_no_number(worker("set-1-1"), "subgroup-size", "x", r#"strconv.Atoi: parsing "x": invalid syntax"#)]
#[case::subgroup_size_is_zero(
    worker("set-1-1"),
    "subgroup-size",
    "0",
    "annotation leaderworkerset.sigs.k8s.io/subgroup-size of pod set-1-1 is 0, but must be at least 1"
)]
fn a_pod_that_does_not_say_where_it_belongs_is_refused(
    #[case] mut pod: Value,
    #[case] annotation: &str,
    #[case] value: &str,
    #[case] message: &str,
) {
    annotate(&mut pod, annotation, value);
    assert_eq!(admit(&mut pod).unwrap_err().to_string(), message);
}

#[test]
fn a_pod_that_has_a_rank_and_no_size_is_refused() {
    for mut pod in [leader("set-1"), worker("set-1-1")] {
        pod["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/worker-index"] = json!("1");
        pod["metadata"]["annotations"].as_object_mut().unwrap().remove("leaderworkerset.sigs.k8s.io/size");
        let message = format!("size annotation is unexpectedly missing for pod {}", pod["metadata"]["name"].as_str().unwrap());
        assert_eq!(admit(&mut pod).unwrap_err().to_string(), message);
    }
}

#[test]
fn a_worker_without_a_group_index_is_refused() {
    let mut pod = worker("set-1-1");
    pod["metadata"]["labels"].as_object_mut().unwrap().remove("leaderworkerset.sigs.k8s.io/group-index");
    let message = "Failure constructing environment variables, no group index label found for pod default/set-1-1";
    assert_eq!(admit(&mut pod).unwrap_err().to_string(), message);
}

#[rstest]
#[case::no_spec(json!(null), "spec of the pod is not an object")]
#[case::containers(json!({"containers": {}}), "spec.containers of the pod is not a list")]
#[case::container(json!({"containers": ["x"]}), "spec.containers[] of the pod is not an object")]
#[case::env(json!({"containers": [{"env": {}}]}), "spec.containers[].env of the pod is not a list")]
fn a_pod_of_a_set_that_is_not_shaped_like_one_is_refused(#[case] spec: Value, #[case] message: &str) {
    let mut pod = leader("set-0");
    pod["spec"] = spec;
    assert_eq!(admit(&mut pod).unwrap_err().to_string(), message);
}
