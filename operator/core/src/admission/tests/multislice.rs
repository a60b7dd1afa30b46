use rstest::rstest;
use serde_json::{Value, json};

use super::{admit, annotate, tpu_container, tpu_pod, variable};

fn opt_in(pod: &mut Value, value: &str) {
    pod["metadata"]["annotations"]["muster.dev/tpu-multislice"] = value.into();
}

fn pod(name: &str, size: &str, subgroup_size: &str, leader_requests_tpus: bool) -> Value {
    let mut pod = tpu_pod(name, size);
    annotate(&mut pod, "subgroup-size", subgroup_size);
    if leader_requests_tpus && name != "test-sample-1" {
        annotate(&mut pod, "leader-requests-tpus", "true");
    }
    opt_in(&mut pod, "subgroup");
    pod
}

/// `MEGASCALE_SLICE_ID`, `MEGASCALE_NUM_SLICES`, `MEGASCALE_COORDINATOR_ADDRESS`, `MEGASCALE_PORT`.
fn slices(container: &Value) -> [Option<&str>; 4] {
    ["MEGASCALE_SLICE_ID", "MEGASCALE_NUM_SLICES", "MEGASCALE_COORDINATOR_ADDRESS", "MEGASCALE_PORT"]
        .map(|name| variable(container, name))
}

#[rstest]
#[case::leader("test-sample-1", "4", "2", true, ["0", "2", "test-sample-1.default", "8081"])]
#[case::last("test-sample-1-3", "4", "2", true, ["1", "2", "test-sample-1.default", "8081"])]
#[case::leader_is_one_member_more("test-sample-1-2", "5", "2", true, ["0", "2", "test-sample-1.default", "8081"])]
#[case::leader_without_tpus("test-sample-1-7", "9", "4", false, ["1", "2", "test-sample-1-1.default", "8081"])]
#[case::leader_without_tpus_is_a_subgroup("test-sample-1-2", "3", "1", false, ["1", "2", "test-sample-1-1.default", "8081"])]
#[case::one_each("test-sample-1-2", "3", "1", true, ["2", "3", "test-sample-1.default", "8081"])]
#[case::one_slice("test-sample-1-1", "2", "2", true, ["0", "1", "test-sample-1.default", "8081"])]
fn each_subgroup_is_a_slice_of_its_groups_job(
    #[case] name: &str,
    #[case] size: &str,
    #[case] subgroup_size: &str,
    #[case] leader_requests_tpus: bool,
    #[case] expected: [&str; 4],
) {
    let mut pod = pod(name, size, subgroup_size, leader_requests_tpus);
    admit(&mut pod).unwrap();
    assert_eq!(slices(&pod["spec"]["containers"][0]), expected.map(Some));
}

#[test]
fn slices_of_a_group_whose_leader_is_excluded_count_from_zero() {
    let mut first = pod("test-sample-1-1", "3", "1", false);
    annotate(&mut first, "subgroup-policy-type", "LeaderExcluded");
    admit(&mut first).unwrap();
    let expected = ["0", "2", "test-sample-1-1.default", "8081"];
    assert_eq!(slices(&first["spec"]["containers"][0]), expected.map(Some));
}

#[rstest]
#[case::leader("test-sample-3", "default", true, ["3", "test-sample-0.default", "8081"])]
#[case::worker("test-sample-3-1", "default", true, ["3", "test-sample-0.default", "8081"])]
#[case::leader_without_tpus("test-sample-3-1", "default", false, ["3", "test-sample-0-1.default", "8081"])]
#[case::own_subdomains("test-sample-3-1", "test-sample-3", true, ["3", "test-sample-0.test-sample-0", "8081"])]
fn each_group_is_a_slice_of_its_sets_job_whose_number_the_template_says(
    #[case] name: &str,
    #[case] subdomain: &str,
    #[case] leader_requests_tpus: bool,
    #[case] expected: [&str; 3],
) {
    let mut pod = tpu_pod(name, "2");
    pod["spec"]["subdomain"] = subdomain.into();
    if leader_requests_tpus {
        annotate(&mut pod, "leader-requests-tpus", "true");
    }
    opt_in(&mut pod, "group");
    admit(&mut pod).unwrap();
    let [id, coordinator, port] = expected.map(Some);
    assert_eq!(slices(&pod["spec"]["containers"][0]), [id, None, coordinator, port]);
}

#[test]
fn only_tpu_containers_get_the_variables_and_all_of_them_do() {
    let mut pod = pod("test-sample-1-3", "4", "2", true);
    pod["spec"]["containers"] = json!([{"name": "sidecar"}, tpu_container("one"), tpu_container("two")]);
    admit(&mut pod).unwrap();
    let ids = [0, 1, 2].map(|place| variable(&pod["spec"]["containers"][place], "MEGASCALE_SLICE_ID"));
    assert_eq!(ids, [None, Some("1"), Some("1")]);
}

#[test]
fn what_the_template_says_about_slices_wins() {
    let mut pod = pod("test-sample-1-3", "4", "2", true);
    pod["spec"]["containers"][0]["env"] =
        json!([{"name": "MEGASCALE_PORT", "value": "9999"}, {"name": "TPU_WORKER_ID", "value": "5"}]);
    admit(&mut pod).unwrap();
    let container = &pod["spec"]["containers"][0];
    let expected = ["1", "2", "test-sample-1.default", "9999"];
    assert_eq!(slices(container), expected.map(Some));
    assert_eq!((variable(container, "TPU_WORKER_ID"), variable(container, "TPU_WORKER_HOSTNAMES")), (Some("5"), None));
}

#[test]
fn nobody_gets_them_unasked() {
    let mut pod = pod("test-sample-1-3", "4", "2", true);
    pod["metadata"]["annotations"].as_object_mut().unwrap().remove("muster.dev/tpu-multislice");
    admit(&mut pod).unwrap();
    assert_eq!(slices(&pod["spec"]["containers"][0]), [None; 4]);
}

#[test]
fn a_pod_without_tpus_may_carry_the_annotation_of_a_shared_template() {
    let mut pod = pod("test-sample-1", "4", "2", true);
    opt_in(&mut pod, "nonsense");
    pod["spec"]["containers"] = json!([{"name": "main"}]);
    admit(&mut pod).unwrap();
    assert_eq!(slices(&pod["spec"]["containers"][0]), [None; 4]);
}

#[rstest]
#[case::unknown(
    "replica",
    Some("2"),
    r#""replica", which is neither group nor subgroup: write one of them or remove the annotation"#
)]
#[case::no_subgroups(
    "subgroup",
    None,
    r#""subgroup", which needs subgroups: set spec.leaderWorkerTemplate.subGroupPolicy.subGroupSize, or write group"#
)]
#[case::subgroups(
    "group",
    Some("2"),
    r#""group", which does not go with subgroups, each of which is a TPU slice: write subgroup"#
)]
fn a_wish_that_can_not_be_met_is_refused(#[case] value: &str, #[case] subgroup_size: Option<&str>, #[case] message: &str) {
    let mut pod = tpu_pod("test-sample-1-3", "4");
    if let Some(size) = subgroup_size {
        annotate(&mut pod, "subgroup-size", size);
    }
    opt_in(&mut pod, value);
    let message = format!("annotation muster.dev/tpu-multislice of pod test-sample-1-3 is {message}");
    assert_eq!(admit(&mut pod).unwrap_err().to_string(), message);
}
