//! Groups without subgroups. The expected values of the first tests are upstream's own.

use rstest::rstest;
use serde_json::{Value, json};

use super::{admit, annotate, label, tpu_container, tpu_pod, variable};

const LEADER: &str = "test-sample-0";
const WORKER: &str = "test-sample-0-1";

fn leader_requests_tpus(pod: &mut Value) {
    annotate(pod, "leader-requests-tpus", "true");
}

/// `TPU_WORKER_HOSTNAMES`, `TPU_WORKER_ID`, `TPU_NAME`, `TPU_PROCESS_ADDRESSES`, `TPU_PROCESS_PORT`.
fn tpu_variables(container: &Value) -> [Option<&str>; 5] {
    ["TPU_WORKER_HOSTNAMES", "TPU_WORKER_ID", "TPU_NAME", "TPU_PROCESS_ADDRESSES", "TPU_PROCESS_PORT"]
        .map(|name| variable(container, name))
}

#[test]
fn a_leader_with_tpus_is_the_first_host() {
    let mut pod = tpu_pod(LEADER, "2");
    admit(&mut pod).unwrap();
    assert_eq!(
        pod["spec"]["containers"][0]["env"],
        json!([
            {"name": "LWS_LEADER_ADDRESS", "value": "test-sample-0.default.default"},
            {"name": "LWS_GROUP_SIZE", "value": "2"},
            {"name": "LWS_WORKER_INDEX", "value": "0"},
            {"name": "TPU_WORKER_HOSTNAMES", "value": "test-sample-0.default,test-sample-0-1.default"},
            {"name": "TPU_WORKER_ID", "value": "0"},
            {"name": "TPU_NAME", "value": "test-sample-0"},
            {"name": "TPU_PROCESS_ADDRESSES", "value": "test-sample-0.default:8476,test-sample-0-1.default:8476"},
            {"name": "TPU_PROCESS_PORT", "value": "8476"},
        ])
    );
}

#[test]
fn a_worker_of_a_leader_with_tpus_comes_after_it() {
    let mut pod = tpu_pod(WORKER, "2");
    leader_requests_tpus(&mut pod);
    admit(&mut pod).unwrap();
    let expected = [
        "test-sample-0.default,test-sample-0-1.default",
        "1",
        "test-sample-0",
        "test-sample-0.default:8476,test-sample-0-1.default:8476",
        "8476",
    ];
    assert_eq!(tpu_variables(&pod["spec"]["containers"][0]), expected.map(Some));
}

#[rstest]
#[case::not_said(None)]
#[case::denied(Some("false"))]
fn workers_of_a_leader_without_tpus_count_from_zero(#[case] leader_requests: Option<&str>) {
    let mut pod = tpu_pod(WORKER, "2");
    if let Some(value) = leader_requests {
        annotate(&mut pod, "leader-requests-tpus", value);
    }
    admit(&mut pod).unwrap();
    let expected = ["test-sample-0-1.default", "0", "test-sample-0", "test-sample-0-1.default:8476", "8476"];
    assert_eq!(tpu_variables(&pod["spec"]["containers"][0]), expected.map(Some));
}

#[test]
fn each_tpu_container_of_a_leader_is_a_process_of_its_own() {
    let mut pod = tpu_pod(LEADER, "2");
    pod["spec"]["containers"] = json!([tpu_container("one"), {"name": "sidecar"}, tpu_container("two")]);
    admit(&mut pod).unwrap();
    let names = "test-sample-0.default,test-sample-0.default,test-sample-0-1.default,test-sample-0-1.default";
    let addresses = "test-sample-0.default:8476,test-sample-0.default:8477,\
                     test-sample-0-1.default:8476,test-sample-0-1.default:8477";
    let containers = &pod["spec"]["containers"];
    assert_eq!(tpu_variables(&containers[0]), [names, "0", "test-sample-0", addresses, "8476"].map(Some));
    assert_eq!(tpu_variables(&containers[1]), [None; 5]);
    assert_eq!(tpu_variables(&containers[2]), [names, "1", "test-sample-0", addresses, "8477"].map(Some));
}

#[test]
fn each_tpu_container_of_a_worker_is_a_process_of_its_own() {
    let mut pod = tpu_pod(WORKER, "2");
    leader_requests_tpus(&mut pod);
    pod["spec"]["containers"] = json!([tpu_container("one"), tpu_container("two")]);
    admit(&mut pod).unwrap();
    let ids = [0, 1].map(|place| variable(&pod["spec"]["containers"][place], "TPU_WORKER_ID"));
    assert_eq!(ids, [Some("2"), Some("3")]);
}

#[test]
fn ports_of_the_template_are_honoured() {
    let mut pod = tpu_pod(LEADER, "2");
    pod["spec"]["containers"] = json!([tpu_container("one"), tpu_container("two")]);
    pod["spec"]["containers"][0]["env"] = json!([{"name": "TPU_PROCESS_PORT", "value": "8478"}]);
    pod["spec"]["containers"][1]["env"] = json!([{"name": "TPU_PROCESS_PORT", "value": "8479"}]);
    admit(&mut pod).unwrap();
    let addresses = "test-sample-0.default:8478,test-sample-0.default:8479,\
                     test-sample-0-1.default:8478,test-sample-0-1.default:8479";
    for (place, port) in ["8478", "8479"].into_iter().enumerate() {
        let container = &pod["spec"]["containers"][place];
        assert_eq!(variable(container, "TPU_PROCESS_ADDRESSES"), Some(addresses));
        assert_eq!(variable(container, "TPU_PROCESS_PORT"), Some(port));
    }
}

#[test]
fn a_port_that_only_the_node_knows_leaves_out_the_addresses() {
    let mut pod = tpu_pod(LEADER, "2");
    let port = json!({"name": "TPU_PROCESS_PORT", "valueFrom": {"configMapKeyRef": {"name": "ports", "key": "tpu"}}});
    pod["spec"]["containers"][0]["env"] = json!([port]);
    admit(&mut pod).unwrap();
    let container = &pod["spec"]["containers"][0];
    let names = Some("test-sample-0.default,test-sample-0-1.default");
    assert_eq!(tpu_variables(container), [names, Some("0"), Some("test-sample-0"), None, None]);
    assert_eq!(container["env"][3], port);
}

#[test]
fn init_containers_come_after_regular_ones() {
    let mut pod = tpu_pod(LEADER, "2");
    pod["spec"]["initContainers"] = json!([tpu_container("init")]);
    admit(&mut pod).unwrap();
    assert_eq!(variable(&pod["spec"]["containers"][0], "TPU_WORKER_ID"), Some("0"));
    assert_eq!(variable(&pod["spec"]["initContainers"][0], "TPU_WORKER_ID"), Some("1"));
    assert_eq!(variable(&pod["spec"]["initContainers"][0], "TPU_PROCESS_PORT"), Some("8477"));
}

#[rstest]
#[case::hosts("TPU_WORKER_HOSTNAMES")]
#[case::id("TPU_WORKER_ID")]
fn a_first_container_that_knows_its_slice_leaves_all_to_the_template(#[case] name: &str) {
    let mut pod = tpu_pod(LEADER, "2");
    pod["spec"]["containers"] = json!([tpu_container("one"), tpu_container("two")]);
    pod["spec"]["containers"][0]["env"] = json!([{"name": name, "value": "mine"}]);
    admit(&mut pod).unwrap();
    assert_eq!(pod["spec"]["containers"][0]["env"].as_array().unwrap().len(), 4);
    assert_eq!(variable(&pod["spec"]["containers"][0], name), Some("mine"));
    assert_eq!(tpu_variables(&pod["spec"]["containers"][1]), [None; 5]);
}

#[test]
fn other_variables_of_the_template_win_and_keep_their_place() {
    let mut pod = tpu_pod(LEADER, "2");
    pod["spec"]["containers"][0]["env"] = json!([{"name": "TPU_NAME", "value": "mine"}, {"name": "A", "value": "a"}, {"name": "TPU_PROCESS_ADDRESSES", "value": "x:1"}]);
    admit(&mut pod).unwrap();
    let env = pod["spec"]["containers"][0]["env"].as_array().unwrap();
    let names: Vec<&str> = env.iter().map(|variable| variable["name"].as_str().unwrap()).collect();
    let expected = [
        "LWS_LEADER_ADDRESS",
        "LWS_GROUP_SIZE",
        "LWS_WORKER_INDEX",
        "TPU_NAME",
        "A",
        "TPU_PROCESS_ADDRESSES",
        "TPU_WORKER_HOSTNAMES",
        "TPU_WORKER_ID",
        "TPU_PROCESS_PORT",
    ];
    assert_eq!(names, expected);
    assert_eq!((&env[3]["value"], &env[5]["value"]), (&json!("mine"), &json!("x:1")));
}

#[rstest]
#[case::limit(json!({"limits": {"google.com/tpu": "4"}}), true)]
#[case::request(json!({"requests": {"google.com/tpu": "4"}}), true)]
#[case::number(json!({"limits": {"google.com/tpu": 4}}), true)]
#[case::thousands(json!({"limits": {"google.com/tpu": "1k"}}), true)]
#[case::zero(json!({"limits": {"google.com/tpu": "0"}}), false)]
#[case::zero_spelled_otherwise(json!({"limits": {"google.com/tpu": "0.0"}}), false)]
#[case::the_limit_decides(json!({"limits": {"google.com/tpu": "0"}, "requests": {"google.com/tpu": "4"}}), false)]
#[case::other_resource(json!({"limits": {"nvidia.com/gpu": "8"}}), false)]
#[case::none(json!({}), false)]
#[case::null(json!(null), false)]
fn only_containers_that_ask_for_tpus_get_the_variables(#[case] resources: Value, #[case] expected: bool) {
    let mut pod = tpu_pod(LEADER, "2");
    pod["spec"]["containers"][0]["resources"] = resources;
    admit(&mut pod).unwrap();
    assert_eq!(variable(&pod["spec"]["containers"][0], "TPU_WORKER_ID").is_some(), expected);
}

#[test]
fn a_group_of_one_is_a_slice_of_one() {
    let mut pod = tpu_pod(LEADER, "1");
    admit(&mut pod).unwrap();
    let expected = ["test-sample-0.default", "0", "test-sample-0", "test-sample-0.default:8476", "8476"];
    assert_eq!(tpu_variables(&pod["spec"]["containers"][0]), expected.map(Some));
}

#[test]
fn hosts_are_in_the_subdomain_of_the_group_where_each_has_its_own() {
    let mut pod = tpu_pod(LEADER, "2");
    annotate(&mut pod, "subdomainPolicy", "UniquePerReplica");
    admit(&mut pod).unwrap();
    let names = "test-sample-0.test-sample-0,test-sample-0-1.test-sample-0";
    assert_eq!(variable(&pod["spec"]["containers"][0], "TPU_WORKER_HOSTNAMES"), Some(names));
}

#[rstest]
#[case::worker_without_ordinal("test-sample-0-x", "2", "parsing pod ordinal for pod test-sample-0-x")]
#[case::beyond_the_group(
    "test-sample-0-7",
    "2",
    "pod test-sample-0-7 requests google.com/tpu and has rank 7, but annotation leaderworkerset.sigs.k8s.io/size is 2, so it is \
     not among the TPU hosts of its group: change spec.leaderWorkerTemplate.size instead of the StatefulSet"
)]
#[case::more_hosts_than_an_object_holds(
    "test-sample-0-1",
    "2000000000",
    "TPU_WORKER_HOSTNAMES of pod test-sample-0-1 would list 1999999999 hosts, which no object can hold: make \
     spec.leaderWorkerTemplate.size smaller, or divide the group by subGroupPolicy.subGroupSize"
)]
fn a_pod_that_can_not_be_in_a_slice_is_refused(#[case] name: &str, #[case] size: &str, #[case] message: &str) {
    assert_eq!(admit(&mut tpu_pod(name, size)).unwrap_err().to_string(), message);
}

#[test]
fn variables_that_are_no_list_are_refused() {
    let mut pod = tpu_pod(LEADER, "2");
    pod["spec"]["containers"][0]["env"] = json!({});
    assert_eq!(admit(&mut pod).unwrap_err().to_string(), "spec.containers[].env of the pod is not a list");
}

#[test]
fn a_rank_beyond_the_group_matters_to_tpu_pods_only() {
    let mut pod = tpu_pod("test-sample-0-7", "2");
    pod["spec"]["containers"] = json!([{"name": "main"}]);
    admit(&mut pod).unwrap();
    assert_eq!(label(&pod, "worker-index"), Some("7"));
}
