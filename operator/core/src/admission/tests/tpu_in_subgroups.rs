//! Groups with subgroups, each of them a slice.

use rstest::rstest;
use serde_json::{Value, json};

use super::{admit, annotate, tpu_container, tpu_pod, variable};

/// A pod of a group with subgroups, as its template makes it.
fn pod(name: &str, size: &str, subgroup_size: &str, kind: &str, leader_requests_tpus: bool) -> Value {
    let mut pod = tpu_pod(name, size);
    annotate(&mut pod, "subgroup-size", subgroup_size);
    annotate(&mut pod, "subgroup-policy-type", kind);
    if leader_requests_tpus && name != "test-sample-1" {
        annotate(&mut pod, "leader-requests-tpus", "true");
    }
    pod
}

/// The ranks in `TPU_WORKER_HOSTNAMES`, with `0` for the leader, and the id.
fn slice(pod: &mut Value) -> (Vec<String>, String) {
    admit(pod).unwrap();
    let container = &pod["spec"]["containers"][0];
    let names = variable(container, "TPU_WORKER_HOSTNAMES").unwrap();
    let rank = |name: &str| match name.strip_suffix(".default").unwrap() {
        "test-sample-1" => "0".to_owned(),
        worker => worker.strip_prefix("test-sample-1-").unwrap().to_owned(),
    };
    (names.split(',').map(rank).collect(), variable(container, "TPU_WORKER_ID").unwrap().to_owned())
}

fn assert_slice(mut pod: Value, hosts: &[&str], id: &str) {
    assert_eq!(slice(&mut pod), (hosts.iter().map(|host| (*host).to_owned()).collect(), id.to_owned()));
}

#[rstest]
#[case::in_the_first("test-sample-1-3", "5", "5", "LeaderWorker", true, &["0", "1", "2", "3", "4"], "3")]
#[case::leader_of_the_first("test-sample-1", "5", "5", "LeaderWorker", true, &["0", "1", "2", "3", "4"], "0")]
#[case::in_the_second("test-sample-1-7", "8", "4", "LeaderWorker", true, &["4", "5", "6", "7"], "3")]
#[case::leader_without_tpus("test-sample-1-5", "9", "4", "LeaderWorker", false, &["5", "6", "7", "8"], "0")]
#[case::leader_excluded("test-sample-1-2", "3", "2", "LeaderExcluded", false, &["1", "2"], "1")]
#[case::leader_excluded_in_the_second("test-sample-1-3", "5", "2", "LeaderExcluded", false, &["3", "4"], "0")]
fn the_slices_of_upstream(
    #[case] name: &str,
    #[case] size: &str,
    #[case] subgroup_size: &str,
    #[case] kind: &str,
    #[case] leader_requests_tpus: bool,
    #[case] hosts: &[&str],
    #[case] id: &str,
) {
    assert_slice(pod(name, size, subgroup_size, kind, leader_requests_tpus), hosts, id);
}

#[test]
fn all_variables_of_a_pod_in_a_subgroup() {
    let mut pod = pod("test-sample-1-3", "4", "2", "LeaderWorker", true);
    admit(&mut pod).unwrap();
    assert_eq!(
        pod["spec"]["containers"][0]["env"],
        json!([
            {"name": "LWS_LEADER_ADDRESS", "value": "test-sample-1.default.default"},
            {"name": "LWS_GROUP_SIZE", "value": "4"},
            {"name": "LWS_WORKER_INDEX", "value": "3"},
            {"name": "TPU_WORKER_HOSTNAMES", "value": "test-sample-1-2.default,test-sample-1-3.default"},
            {"name": "TPU_WORKER_ID", "value": "1"},
            {"name": "TPU_NAME", "value": "test-sample-1"},
            {"name": "TPU_PROCESS_ADDRESSES", "value": "test-sample-1-2.default:8476,test-sample-1-3.default:8476"},
            {"name": "TPU_PROCESS_PORT", "value": "8476"},
        ])
    );
}

#[rstest]
#[case::leader("test-sample-1", "3", "LeaderWorker", true, &["0"])]
#[case::worker("test-sample-1-1", "3", "LeaderWorker", true, &["1"])]
#[case::last_worker("test-sample-1-2", "3", "LeaderWorker", true, &["2"])]
#[case::leader_without_tpus("test-sample-1-2", "3", "LeaderWorker", false, &["2"])]
#[case::leader_excluded("test-sample-1-2", "3", "LeaderExcluded", false, &["2"])]
#[case::leader_excluded_first_worker("test-sample-1-1", "3", "LeaderExcluded", false, &["1"])]
#[case::a_group_of_one("test-sample-1", "1", "LeaderWorker", true, &["0"])]
fn a_subgroup_of_one_is_a_slice_of_one(
    #[case] name: &str,
    #[case] size: &str,
    #[case] kind: &str,
    #[case] leader_requests_tpus: bool,
    #[case] hosts: &[&str],
) {
    assert_slice(pod(name, size, "1", kind, leader_requests_tpus), hosts, "0");
}

// Upstream lists {0,1} for ranks 0 to 2, with id 0 for both 0 and 2, and {2,3} for ranks 3 and 4.
#[rstest]
#[case::leader("test-sample-1", &["0", "1", "2"], "0")]
#[case::first("test-sample-1-1", &["0", "1", "2"], "1")]
#[case::second("test-sample-1-2", &["0", "1", "2"], "2")]
#[case::third("test-sample-1-3", &["3", "4"], "0")]
#[case::fourth("test-sample-1-4", &["3", "4"], "1")]
fn a_leader_that_is_one_member_more_is_in_the_list_with_all_of_its_subgroup(
    #[case] name: &str,
    #[case] hosts: &[&str],
    #[case] id: &str,
) {
    assert_slice(pod(name, "5", "2", "LeaderWorker", true), hosts, id);
}

// Upstream divides the workers anew: {1,2} and {3,4}, although there is no rank 4.
#[rstest]
#[case::first("test-sample-1-1", &["1"], "0")]
#[case::second("test-sample-1-2", &["2", "3"], "0")]
#[case::third("test-sample-1-3", &["2", "3"], "1")]
fn workers_of_a_leader_without_tpus_stay_in_their_labelled_subgroup(
    #[case] name: &str,
    #[case] hosts: &[&str],
    #[case] id: &str,
) {
    assert_slice(pod(name, "4", "2", "LeaderWorker", false), hosts, id);
}

// Upstream gives variables to the first container only, and counts pods instead of processes.
#[test]
fn several_tpu_containers_in_a_subgroup_are_a_process_each() {
    let mut pod = pod("test-sample-1-3", "4", "2", "LeaderWorker", true);
    pod["spec"]["containers"] = json!([tpu_container("one"), tpu_container("two")]);
    pod["spec"]["containers"][1]["env"] = json!([{"name": "TPU_PROCESS_PORT", "value": "9000"}]);
    admit(&mut pod).unwrap();
    let names = "test-sample-1-2.default,test-sample-1-2.default,test-sample-1-3.default,test-sample-1-3.default";
    let addresses = "test-sample-1-2.default:8476,test-sample-1-2.default:9000,\
                     test-sample-1-3.default:8476,test-sample-1-3.default:9000";
    for (place, (id, port)) in [("2", "8476"), ("3", "9000")].into_iter().enumerate() {
        let container = &pod["spec"]["containers"][place];
        assert_eq!(variable(container, "TPU_WORKER_HOSTNAMES"), Some(names));
        assert_eq!(variable(container, "TPU_PROCESS_ADDRESSES"), Some(addresses));
        assert_eq!((variable(container, "TPU_WORKER_ID"), variable(container, "TPU_PROCESS_PORT")), (Some(id), Some(port)));
    }
}

#[test]
fn an_excluded_leader_that_requests_tpus_is_refused_with_the_remedy() {
    let mut pod = pod("test-sample-1", "5", "2", "LeaderExcluded", true);
    let message = "pod test-sample-1 requests google.com/tpu, but annotation leaderworkerset.sigs.k8s.io/subgroup-policy-type is \
                   LeaderExcluded, which keeps the leader out of every subgroup and so out of every TPU slice: set \
                   spec.leaderWorkerTemplate.subGroupPolicy.subGroupPolicyType to LeaderWorker, or give the set a \
                   spec.leaderWorkerTemplate.leaderTemplate that does not request google.com/tpu";
    assert_eq!(admit(&mut pod).unwrap_err().to_string(), message);
}

#[test]
fn an_excluded_leader_without_tpus_or_with_a_slice_of_its_own_is_admitted() {
    let mut without = pod("test-sample-1", "5", "2", "LeaderExcluded", false);
    without["spec"]["containers"] = json!([{"name": "main"}]);
    admit(&mut without).unwrap();

    let mut with = pod("test-sample-1", "5", "2", "LeaderExcluded", false);
    with["spec"]["containers"][0]["env"] = json!([{"name": "TPU_WORKER_HOSTNAMES", "value": "localhost"}]);
    admit(&mut with).unwrap();
    assert_eq!(variable(&with["spec"]["containers"][0], "TPU_WORKER_HOSTNAMES"), Some("localhost"));
    assert_eq!(variable(&with["spec"]["containers"][0], "TPU_WORKER_ID"), None);
}

#[rstest]
#[case::no_number("one", r#"strconv.Atoi: parsing "one": invalid syntax"#)]
#[case::of_another_subgroup(
    "7",
    "pod test-sample-1-3 requests google.com/tpu, and its label leaderworkerset.sigs.k8s.io/subgroup-index is 7, but rank 3 \
     belongs to subgroup 1: remove the label from the template"
)]
fn a_subgroup_label_that_contradicts_the_rank_is_refused(#[case] label: &str, #[case] message: &str) {
    let mut pod = pod("test-sample-1-3", "4", "2", "LeaderWorker", true);
    pod["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/subgroup-index"] = label.into();
    assert_eq!(admit(&mut pod).unwrap_err().to_string(), message);
}

#[rstest]
#[case::no_number("x", r#"strconv.Atoi: parsing "x": invalid syntax"#)]
#[case::zero("0", "annotation leaderworkerset.sigs.k8s.io/subgroup-size of pod test-sample-1 is 0, but must be at least 1")]
fn a_subgroup_size_that_is_none_is_refused_for_tpu_leaders_too(#[case] size: &str, #[case] message: &str) {
    let mut pod = pod("test-sample-1", "4", size, "LeaderWorker", true);
    assert_eq!(admit(&mut pod).unwrap_err().to_string(), message);
}
