//! One row for each rule, with the text that people read.

use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use super::{validate_create, validate_scale, validate_update};
use crate::LeaderWorkerSet;
use crate::testing::{any_set, valid_set};

const SIZE: &str = "/spec/leaderWorkerTemplate/size";
const SUBGROUPS: &str = "/spec/leaderWorkerTemplate/subGroupPolicy";
const UPDATE: &str = "/spec/rolloutStrategy/rollingUpdateConfiguration";
const SUBGROUP_PATH: &str = "spec.leaderWorkerTemplate.subGroupPolicy.subGroupSize";
const UPDATE_PATH: &str = "spec.rolloutStrategy.rollingUpdateConfiguration";

/// The valid set with values put in, objects on the way made as needed.
fn with(changes: &[(&str, Value)]) -> LeaderWorkerSet {
    let mut object = serde_json::to_value(valid_set()).unwrap();
    for (pointer, value) in changes {
        let mut place = &mut object;
        for key in pointer.split('/').skip(1) {
            if !place.is_object() {
                *place = json!({});
            }
            place = place.as_object_mut().unwrap().entry(key.replace("~1", "/")).or_insert(Value::Null);
        }
        *place = value.clone();
    }
    serde_json::from_value(object).unwrap()
}

fn refusals(set: &LeaderWorkerSet) -> Vec<String> {
    validate_create(set).errors.iter().map(ToString::to_string).collect()
}

fn change_refusals(old: &LeaderWorkerSet, new: &LeaderWorkerSet) -> Vec<String> {
    validate_update(old, new).errors.iter().map(ToString::to_string).collect()
}

#[test]
fn a_valid_set_passes_without_a_warning() {
    let verdict = validate_create(&valid_set());
    assert!(verdict.is_accepted(), "{:?}", verdict.refusal());
    assert_eq!(verdict.refusal(), None);
    assert!(verdict.warnings.is_empty(), "{:?}", verdict.warnings);
}

#[rstest]
#[case::replicas_negative(&[("/spec/replicas", json!(-1))], "spec.replicas: Invalid value: -1: replicas must be equal or greater than 0")]
#[case::replicas_too_many(&[("/spec/replicas", json!(1_000_001)), (SIZE, json!(1))],
    "spec.replicas: Invalid value: 1000001: replicas must be equal or less than 1000000")]
#[case::size_zero(&[(SIZE, json!(0))], "spec.leaderWorkerTemplate.size: Invalid value: 0: size must be equal or greater than 1")]
#[case::product(&[("/spec/replicas", json!(100_000)), (SIZE, json!(100_000))],
    "spec.replicas: Invalid value: 100000: the product of replicas and worker replicas must not exceed 2147483647")]
#[case::partition(&[(UPDATE, json!({"partition": -1}))],
    &format!("{UPDATE_PATH}.partition: Invalid value: -1: must be greater than or equal to 0"))]
#[case::unavailable_negative(&[(UPDATE, json!({"maxUnavailable": -1}))],
    &format!("{UPDATE_PATH}.maxUnavailable: Invalid value: -1: must be greater than or equal to 0"))]
#[case::surge_negative(&[(UPDATE, json!({"maxSurge": -1}))],
    &format!("{UPDATE_PATH}.maxSurge: Invalid value: -1: must be greater than or equal to 0"))]
#[case::over_100_percent(&[(UPDATE, json!({"maxUnavailable": "101%"}))],
    &format!("{UPDATE_PATH}.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%"))]
#[case::unparsable(&[(UPDATE, json!({"maxUnavailable": "99999999999999999999%"}))],
    &format!("{UPDATE_PATH}.maxUnavailable: Invalid value: \"99999999999999999999%\": invalid value"))]
#[case::both_zero(&[(UPDATE, json!({"maxUnavailable": 0, "maxSurge": 0}))],
    &format!("{UPDATE_PATH}.maxUnavailable: Invalid value: 0: must not be 0 when `maxSurge` is 0"))]
#[case::both_zero_once_scaled(&[("/spec/replicas", json!(1)), (UPDATE, json!({"maxUnavailable": "50%"}))],
    &format!("{UPDATE_PATH}.maxUnavailable: Invalid value: \"50%\": must not be 0 when `maxSurge` is 0"))]
#[case::subgroup_without_size(&[(SUBGROUPS, json!({}))],
    &format!("{SUBGROUP_PATH}: Required value: subGroupSize must be equal or greater than 1"))]
#[case::subgroup_of_zero(&[(SUBGROUPS, json!({"subGroupSize": 0}))],
    &format!("{SUBGROUP_PATH}: Invalid value: 0: subGroupSize must be equal or greater than 1"))]
#[case::subgroup_indivisible(&[(SIZE, json!(6)), (SUBGROUPS, json!({"subGroupSize": 4}))],
    &format!("{SUBGROUP_PATH}: Invalid value: 4: size or size - 1 must be divisible by subGroupSize"))]
#[case::subgroup_too_large(&[(SIZE, json!(1)), (SUBGROUPS, json!({"subGroupSize": 2}))],
    &format!("{SUBGROUP_PATH}: Invalid value: 2: subGroupSize cannot be larger than size"))]
#[case::leader_excluded(&[(SUBGROUPS, json!({"subGroupSize": 2, "subGroupPolicyType": "LeaderExcluded"}))],
    &format!("{SUBGROUP_PATH}: Invalid value: 2: size-1 must be divisible by subGroupSize when using LeaderExcluded"))]
#[case::annotation_without_subgroups(
    &[("/metadata/annotations", json!({"leaderworkerset.sigs.k8s.io/subgroup-exclusive-topology": "rack"}))],
    "metadata.annotations.leaderworkerset.sigs.k8s.io/subgroup-exclusive-topology: Invalid value: \"rack\": \
     cannot have subgroup-exclusive-topology without subGroupSize set")]
#[case::name(&[("/metadata/name", json!("1-is-no-letter"))],
    "metadata.name: Invalid value: \"1-is-no-letter\": a DNS-1035 label must consist of lower case alphanumeric characters or '-', \
     start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', \
     regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')")]
#[case::no_name(&[("/metadata/name", json!(""))], "metadata.name: Required value: name or generateName is required")]
fn upstreams_rules_refuse_with_upstreams_texts(#[case] changes: &[(&str, Value)], #[case] expected: &str) {
    assert_eq!(refusals(&with(changes)), [expected]);
}

#[test]
fn a_name_that_no_service_could_have_is_refused_first_with_upstreams_text() {
    let name = "a".repeat(64);
    let refused = refusals(&with(&[("/metadata/name", json!(name))]));
    assert_eq!(refused[0], format!("metadata.name: Invalid value: \"{name}\": must be no more than 63 characters"));
}

#[test]
fn a_budget_that_is_no_percent_is_refused_twice_as_upstream_does() {
    let path = format!("{UPDATE_PATH}.maxSurge: Invalid value: \"abc\"");
    let percent = "a valid percent string must be a numeric string followed by an ending '%' \
                   (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
    let both = [format!("{path}: {percent}"), format!("{path}: invalid value")];
    assert_eq!(refusals(&with(&[(UPDATE, json!({"maxSurge": "abc"}))])), both);
}

#[rstest]
#[case::nothing_to_update(&[("/spec/replicas", json!(0)), (UPDATE, json!({"maxUnavailable": 0, "maxSurge": 0}))])]
#[case::surge_only(&[(UPDATE, json!({"maxUnavailable": 0, "maxSurge": "1%"}))])]
#[case::partition_above_replicas(&[(UPDATE, json!({"partition": 9}))])]
#[case::more_unavailable_than_groups(&[(UPDATE, json!({"maxUnavailable": 9}))])]
#[case::leader_apart(&[(SIZE, json!(5)), (SUBGROUPS, json!({"subGroupSize": 2}))])]
#[case::leader_excluded(&[(SIZE, json!(5)), (SUBGROUPS, json!({"subGroupSize": 4, "subGroupPolicyType": "LeaderExcluded"}))])]
#[case::generated_name(&[("/metadata/name", json!("")), ("/metadata/generateName", json!("a-"))])]
fn the_edges_of_the_rules_are_allowed(#[case] changes: &[(&str, Value)]) {
    assert_eq!(refusals(&with(changes)), Vec::<String>::new());
}

#[rstest]
#[case::changed(json!({"subGroupSize": 2}), json!({"subGroupSize": 4}), Some("4: field is immutable"))]
#[case::added(json!(null), json!({"subGroupSize": 2}), Some("2: cannot enable subGroupSize after the lws is already created"))]
#[case::removed(json!({"subGroupSize": 2}), json!(null), Some("null: cannot remove subGroupSize after enabled"))]
#[case::same(json!({"subGroupSize": 2}), json!({"subGroupSize": 2}), None)]
fn the_size_of_subgroups_stays(#[case] before: Value, #[case] after: Value, #[case] expected: Option<&str>) {
    let refused = change_refusals(&with(&[(SUBGROUPS, before)]), &with(&[(SUBGROUPS, after)]));
    let expected: Vec<_> = expected.iter().map(|detail| format!("{SUBGROUP_PATH}: Invalid value: {detail}")).collect();
    assert_eq!(refused, expected);
}

#[test]
fn whether_the_leader_is_in_a_subgroup_may_change() {
    let of = |kind: &str| with(&[(SIZE, json!(5)), (SUBGROUPS, json!({"subGroupSize": 2, "subGroupPolicyType": kind}))]);
    for (before, after) in [("LeaderWorker", "LeaderExcluded"), ("LeaderExcluded", "LeaderWorker")] {
        assert_eq!(change_refusals(&of(before), &of(after)), Vec::<String>::new(), "from {before} to {after}");
    }
}

#[test]
fn a_scale_down_that_rounds_the_budget_to_0_does_not_lock_the_set() {
    let budget = |unavailable: &str| (UPDATE, json!({ "maxUnavailable": unavailable, "maxSurge": 0 }));
    let at = |replicas: i32, unavailable: &str| with(&[("/spec/replicas", json!(replicas)), budget(unavailable)]);
    let refused = [format!("{UPDATE_PATH}.maxUnavailable: Invalid value: \"20%\": must not be 0 when `maxSurge` is 0")];
    assert_eq!(change_refusals(&at(2, "20%"), &at(2, "20%")), Vec::<String>::new());
    assert_eq!(change_refusals(&at(2, "20%"), &at(3, "20%")), Vec::<String>::new());
    assert_eq!(change_refusals(&at(10, "20%"), &at(2, "20%")), refused, "what an edit does is still refused");
    assert_eq!(change_refusals(&at(2, "30%"), &at(2, "20%")), refused);
}

#[test]
fn a_subdomain_policy_is_not_taken_away() {
    let refused = change_refusals(&valid_set(), &with(&[("/spec/networkConfig", json!({}))]));
    assert_eq!(refused, ["spec.networkConfig.subdomainPolicy: Invalid value: null: cannot set subdomainPolicy as null"]);
}

#[rstest]
#[case::one_digit(10, 4, 50)]
#[case::two_digits(11, 4, 49)]
#[case::no_workers(1_000_000, 1, 52)]
fn a_name_leaves_room_for_what_pods_append(#[case] replicas: i32, #[case] size: i32, #[case] max: usize) {
    let named = |length: usize| {
        with(&[("/metadata/name", json!("a".repeat(length))), ("/spec/replicas", json!(replicas)), (SIZE, json!(size))])
    };
    assert_eq!(refusals(&named(max)), Vec::<String>::new());
    let refused = refusals(&named(max + 1)).join("\n");
    assert!(
        refused.contains(&format!("must be no more than {max} characters with {replicas} replicas of size {size}")),
        "{refused}"
    );
}

#[test]
fn a_name_that_is_too_long_for_its_groups_only_warns_once_the_set_exists() {
    let set = with(&[("/metadata/name", json!("a".repeat(60)))]);
    let verdict = validate_update(&set, &set);
    assert!(verdict.is_accepted());
    assert!(verdict.warnings[0].contains("must be no more than 50 characters"), "{:?}", verdict.warnings);
}

#[test]
fn a_set_does_not_grow_until_its_name_is_too_long() {
    let of = |replicas: i32| with(&[("/metadata/name", json!("a".repeat(50))), ("/spec/replicas", json!(replicas))]);
    let expected = "must be no more than 49 characters with 11 replicas of size 4";
    let refused = change_refusals(&of(10), &of(11)).join("\n");
    assert!(refused.contains(expected), "{refused}");
    let refused = validate_scale(&of(10), &of(11)).iter().map(ToString::to_string).collect::<String>();
    assert!(refused.contains(expected), "{refused}");
    assert_eq!(validate_scale(&of(11), &of(12)), [], "it was too long before");
}

#[rstest]
#[case(
    "leaderworkerset.sigs.k8s.io/exclusive-topology",
    "not a key",
    "must be the key of a node label, such as \"topology.kubernetes.io/zone\""
)]
#[case("muster.dev/revision-history-limit", "all", "must be a number of revisions, 0 or more; remove the annotation to keep 10")]
#[case(
    "muster.dev/placement-policy",
    "Node_Pool",
    "must be the name of a policy object, or several separated by commas: lower case letters, digits, '-' and '.'; \
     remove the annotation to use the default"
)]
fn an_annotation_that_says_nothing_is_refused(#[case] key: &str, #[case] value: &str, #[case] detail: &str) {
    let set = with(&[("/metadata/annotations", json!({key: value}))]);
    assert_eq!(refusals(&set), [format!("metadata.annotations.{key}: Invalid value: \"{value}\": {detail}")]);
    assert_eq!(change_refusals(&valid_set(), &set).len(), 1, "a change is judged as a new set is");
    assert_eq!(change_refusals(&set, &set), Vec::<String>::new(), "what is there already doesn't lock the set");
}

#[test]
fn a_budget_that_scaling_rounded_to_nothing_locks_no_set() {
    let small = |version: &str| {
        with(&[
            ("/spec/replicas", json!(3)),
            ("/metadata/labels", json!({ "version": version })),
            (UPDATE, json!({ "maxUnavailable": "25%", "maxSurge": 0 })),
        ])
    };
    let errors = |old: &LeaderWorkerSet, new: &LeaderWorkerSet| validate_update(old, new).errors.len();
    assert_eq!(errors(&small("1"), &small("2")), 0);
    let large = with(&[("/spec/replicas", json!(4)), (UPDATE, json!({ "maxUnavailable": "25%", "maxSurge": 0 }))]);
    assert_eq!(errors(&large, &small("1")), 1, "an edit that rounds it to nothing is refused, as upstream has it");
}

#[rstest]
#[case::none_at_all("0", None)]
#[case::some("25", None)]
#[case::a_negative_number("-1", Some("-1"))]
#[case::words("often", Some("often"))]
#[case::nothing("", Some(""))]
#[case::more_than_a_number_holds("99999999999", Some("99999999999"))]
fn a_budget_of_restarts_is_a_whole_number(#[case] value: &str, #[case] refused: Option<&str>) {
    let set = with(&[("/metadata/annotations", json!({"muster.dev/max-group-restarts": value}))]);
    let expected = refused.map(|value| {
        format!(
            "metadata.annotations.muster.dev/max-group-restarts: Invalid value: \"{value}\": must be a whole number, 0 or more; \
             remove the annotation to let groups start over without limit"
        )
    });
    let errors: Vec<String> = validate_create(&set).errors.iter().map(ToString::to_string).collect();
    assert_eq!(errors, expected.into_iter().collect::<Vec<_>>());
}

#[test]
fn an_unknown_choice_for_unplaceable_groups_names_the_choices() {
    let set = with(&[("/metadata/annotations", json!({"muster.dev/unplaceable": "hold"}))]);
    let expected =
        "metadata.annotations.muster.dev/unplaceable: Unsupported value: \"hold\": supported values: \"Scheduler\", \"Hold\"";
    assert_eq!(refusals(&set), [expected]);
}

#[test]
fn whether_kueue_is_asked_for_domains_is_true_or_false() {
    let with_answer = |answer: &str| refusals(&with(&[("/metadata/annotations", json!({"muster.dev/kueue-topology": answer}))]));
    let expected =
        "metadata.annotations.muster.dev/kueue-topology: Unsupported value: \"yes\": supported values: \"true\", \"false\"";
    assert_eq!([with_answer("true"), with_answer("false"), with_answer("yes")], [vec![], vec![], vec![expected.to_owned()]]);
}

const WORKER: &str = "/spec/leaderWorkerTemplate/workerTemplate";
const WORKER_PATH: &str = "spec.leaderWorkerTemplate.workerTemplate";

#[rstest]
#[case(json!({"spec": {"containers": []}}))]
#[case(json!({"metadata": {}}))]
fn a_template_needs_a_container(#[case] template: Value) {
    let expected = format!("{WORKER_PATH}.spec.containers: Required value: a pod needs at least one container");
    assert_eq!(refusals(&with(&[(WORKER, template)])), [expected]);
}

#[test]
fn a_template_that_is_no_pod_names_the_field() {
    let template = json!({"spec": {"containers": [{"name": "a", "ports": [{"containerPort": "http"}]}]}});
    let expected = format!(
        "{WORKER_PATH}.spec.containers[0].ports[0].containerPort: Invalid value: \"http\": \
         invalid type: string \"http\", expected i32"
    );
    assert_eq!(refusals(&with(&[(WORKER, template)])), [expected]);
}

#[test]
fn an_unknown_field_of_a_template_is_kept_and_its_author_warned() {
    let template = json!({"spec": {"containers": [{"name": "a", "imagee": "b", "resources": {}, "env": null}]}});
    let verdict = validate_create(&with(&[(WORKER, template)]));
    assert!(verdict.is_accepted());
    assert_eq!(verdict.warnings, [format!("unknown field \"{WORKER_PATH}.spec.containers[0].imagee\": kept as it is")]);
}

#[test]
fn a_claim_template_needs_a_name() {
    let set = with(&[("/spec/leaderWorkerTemplate/volumeClaimTemplates", json!([{"spec": {}}]))]);
    let expected =
        "spec.leaderWorkerTemplate.volumeClaimTemplates[0].metadata.name: Required value: pods mount the claim by this name";
    assert_eq!(refusals(&set), [expected]);
}

#[test]
fn a_set_that_is_being_deleted_can_always_lose_its_finalizers() {
    let broken = with(&[("/spec/replicas", json!(-1)), ("/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z"))]);
    assert!(validate_update(&broken, &broken).is_accepted());
}

#[test]
fn several_errors_are_listed_in_brackets() {
    let refusal = validate_create(&with(&[("/spec/replicas", json!(-1)), (SIZE, json!(0))])).refusal();
    let expected = "[spec.replicas: Invalid value: -1: replicas must be equal or greater than 0, \
                    spec.leaderWorkerTemplate.size: Invalid value: 0: size must be equal or greater than 1]";
    assert_eq!(refusal.as_deref(), Some(expected));
}

proptest! {
    #[test]
    fn whatever_a_set_says_it_is_judged_without_a_panic(old in any_set(), new in any_set()) {
        validate_create(&new);
        validate_update(&old, &new);
    }
}
