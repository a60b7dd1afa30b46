use k8s_openapi::api::core::v1::{Node, PodSpec};
use rstest::rstest;
use serde_json::{Value, json};

use crate::cluster::node::Facts;
use crate::cluster::shape::{Exclusion, Shape};

fn spec(value: Value) -> PodSpec {
    let mut value = value;
    value["containers"] = value.get("containers").cloned().unwrap_or_else(|| json!([{ "name": "c" }]));
    serde_json::from_value(value).unwrap()
}

#[rstest]
#[case::containers_add_up(
    json!({ "containers": [
        { "name": "a", "resources": { "requests": { "cpu": "500m" } } },
        { "name": "b", "resources": { "requests": { "cpu": "1" } } },
    ] }),
    "cpu", 1500
)]
#[case::a_limit_stands_in_for_a_request(
    json!({ "containers": [{ "name": "a", "resources": { "limits": { "nvidia.com/gpu": "8" } } }] }),
    "nvidia.com/gpu", 8
)]
#[case::a_request_wins_over_a_limit(
    json!({ "containers": [{ "name": "a", "resources": { "limits": { "cpu": "4" }, "requests": { "cpu": "1" } } }] }),
    "cpu", 1000
)]
#[case::the_largest_init_container_counts(
    json!({
        "initContainers": [{ "name": "i", "resources": { "requests": { "cpu": "3" } } }],
        "containers": [{ "name": "a", "resources": { "requests": { "cpu": "1" } } }],
    }),
    "cpu", 3000
)]
#[case::a_sidecar_runs_beside_the_containers(
    json!({
        "initContainers": [{ "name": "s", "restartPolicy": "Always", "resources": { "requests": { "cpu": "2" } } }],
        "containers": [{ "name": "a", "resources": { "requests": { "cpu": "1" } } }],
    }),
    "cpu", 3000
)]
#[case::an_init_container_runs_beside_earlier_sidecars(
    json!({
        "initContainers": [
            { "name": "s", "restartPolicy": "Always", "resources": { "requests": { "cpu": "2" } } },
            { "name": "i", "resources": { "requests": { "cpu": "4" } } },
        ],
        "containers": [{ "name": "a", "resources": { "requests": { "cpu": "1" } } }],
    }),
    "cpu", 6000
)]
#[case::overhead_is_added(
    json!({ "overhead": { "memory": "1Ki" }, "containers": [{ "name": "a", "resources": { "requests": { "memory": "1Ki" } } }] }),
    "memory", 2048
)]
#[case::pod_level_requests_win(
    json!({ "resources": { "requests": { "cpu": "2" } }, "containers": [{ "name": "a", "resources": { "requests": { "cpu": "1" } } }] }),
    "cpu", 2000
)]
#[case::every_pod_is_one_pod(json!({}), "pods", 1)]
fn a_pod_requests_what_the_scheduler_counts(#[case] pod: Value, #[case] resource: &str, #[case] want: i64) {
    assert_eq!(Shape::of(&spec(pod)).unwrap().requests().get(resource), want);
}

#[test]
fn a_bad_quantity_names_the_resource_and_the_value() {
    let pod = json!({ "containers": [{ "name": "a", "resources": { "requests": { "memory": "16Gib" } } }] });
    let error = Shape::of(&spec(pod)).unwrap_err().to_string();
    assert_eq!(error, "resource memory: \"16Gib\" is not a Kubernetes quantity; write for example 500m, 8 or 16Gi");
}

fn facts(change: fn(&mut Value)) -> Facts {
    let mut node = json!({
        "metadata": { "name": "n1", "labels": { "pool": "a", "gpus": "8" } },
        "spec": {},
        "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
    });
    change(&mut node);
    Facts::of(&serde_json::from_value::<Node>(node).unwrap())
}

fn wanting(key: &str, operator: &str, values: &Value) -> Value {
    let term = json!({ "matchExpressions": [{ "key": key, "operator": operator, "values": values }] });
    affinity(&json!([term]))
}

fn affinity(terms: &Value) -> Value {
    json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } } } })
}

#[rstest]
#[case::plain(json!({}), true)]
#[case::selected(json!({ "nodeSelector": { "pool": "a" } }), true)]
#[case::another_value(json!({ "nodeSelector": { "pool": "b" } }), false)]
#[case::in_list(wanting("pool", "In", &json!(["b", "a"])), true)]
#[case::not_in_list(wanting("pool", "In", &json!(["b"])), false)]
#[case::not_in(wanting("pool", "NotIn", &json!(["a"])), false)]
#[case::not_in_holds_without_the_label(wanting("rack", "NotIn", &json!(["a"])), true)]
#[case::exists(wanting("pool", "Exists", &json!([])), true)]
#[case::does_not_exist(wanting("pool", "DoesNotExist", &json!([])), false)]
#[case::greater(wanting("gpus", "Gt", &json!(["7"])), true)]
#[case::not_greater(wanting("gpus", "Gt", &json!(["8"])), false)]
#[case::less(wanting("gpus", "Lt", &json!(["9"])), true)]
#[case::a_word_is_not_less(wanting("pool", "Lt", &json!(["9"])), false)]
#[case::by_name(affinity(&json!([{ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["n1"] }] }])), true)]
#[case::by_other_name(affinity(&json!([{ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["n2"] }] }])), false)]
#[case::an_empty_term_matches_nothing(affinity(&json!([{}])), false)]
#[case::any_term_is_enough(
    affinity(&json!([
        { "matchExpressions": [{ "key": "pool", "operator": "In", "values": ["b"] }] },
        { "matchExpressions": [{ "key": "pool", "operator": "In", "values": ["a"] }] },
    ])),
    true
)]
fn selectors_and_affinity_filter_as_the_scheduler_does(#[case] pod: Value, #[case] fits: bool) {
    let excluded = Shape::of(&spec(pod)).unwrap().excluded_from(&facts(|_| ()));
    assert_eq!(excluded, (!fits).then_some(Exclusion::Filtered));
}

#[rstest]
#[case::untolerated(json!({}), Some(Exclusion::Tainted))]
#[case::exact(json!({ "tolerations": [{ "key": "k", "value": "v", "effect": "NoSchedule" }] }), None)]
#[case::any_effect(json!({ "tolerations": [{ "key": "k", "operator": "Equal", "value": "v" }] }), None)]
#[case::any_value(json!({ "tolerations": [{ "key": "k", "operator": "Exists" }] }), None)]
#[case::everything(json!({ "tolerations": [{ "operator": "Exists" }] }), None)]
#[case::other_value(json!({ "tolerations": [{ "key": "k", "value": "w" }] }), Some(Exclusion::Tainted))]
#[case::other_effect(json!({ "tolerations": [{ "key": "k", "value": "v", "effect": "NoExecute" }] }), Some(Exclusion::Tainted))]
fn a_hard_taint_must_be_tolerated(#[case] pod: Value, #[case] want: Option<Exclusion>) {
    let node = facts(|node| {
        node["spec"]["taints"] = json!([
            { "key": "k", "value": "v", "effect": "NoSchedule" },
            { "key": "soft", "effect": "PreferNoSchedule" },
        ]);
    });
    assert_eq!(Shape::of(&spec(pod)).unwrap().excluded_from(&node), want);
}

#[rstest]
#[case::not_ready(|node: &mut Value| node["status"]["conditions"][0]["status"] = json!("Unknown"), Exclusion::Unready)]
#[case::no_condition(|node: &mut Value| node["status"] = json!({}), Exclusion::Unready)]
#[case::cordoned(|node: &mut Value| node["spec"]["unschedulable"] = json!(true), Exclusion::Unschedulable)]
fn an_unwell_node_takes_nothing(#[case] change: fn(&mut Value), #[case] want: Exclusion) {
    let anything = json!({ "tolerations": [{ "operator": "Exists" }] });
    assert_eq!(Shape::of(&spec(anything)).unwrap().excluded_from(&facts(change)), Some(want));
}

#[test]
fn shapes_are_equal_whatever_does_not_matter() {
    let gated = json!({ "schedulingGates": [{ "name": "muster.dev/placement" }], "priority": 7 });
    assert_eq!(Shape::of(&spec(gated)).unwrap(), Shape::of(&spec(json!({}))).unwrap());
}

#[test]
fn a_template_has_the_shape_of_the_pods_that_the_api_server_makes_of_it() {
    let gpu = json!({ "key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule" });
    let added = |key: &str| json!({ "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 });
    let template = json!({ "tolerations": [gpu] });
    let pod = json!({ "tolerations": [gpu, added("node.kubernetes.io/not-ready"), added("node.kubernetes.io/unreachable")] });
    assert_eq!(Shape::of(&spec(template)).unwrap(), Shape::of(&spec(pod)).unwrap());
}
