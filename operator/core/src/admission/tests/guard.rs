//! Who keeps out of whose domains, term by term.

use muster_api::LeaderWorkerSet;
use rstest::rstest;
use serde_json::{Value, json};

use super::{annotate, leader, worker};
use crate::admission::guard::{Keepers, Mode, Rules, Wish};
use crate::admission::{Gang, Guard, Outcome, Placement, PodContext, mutate};
use crate::cluster::Scope;
use crate::placement::effects::Effects;
use crate::testing;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const EXCLUSIVE: &str = "exclusive-topology";
const SUBGROUP_EXCLUSIVE: &str = "subgroup-exclusive-topology";
const QUEUE: (&str, &str) = ("kueue.x-k8s.io/queue-name", "team");
// printf default/set-1 | sha1sum
const GROUP: &str = "a5bccf481fa422157a6cc4ced2e25fb3a647b215";
// printf set-1/0 | sha1sum
const SUBGROUP: &str = "acf996d9c0af2aa5c33219fab69d4cbdaecc06e1";

/// The set `default/set` with these annotations and labels, whose groups of four are in subgroups of two.
fn set(annotations: &[(&str, &str)], labels: &[(&str, &str)]) -> LeaderWorkerSet {
    testing::set(|set| {
        set["metadata"]["name"] = "set".into();
        set["metadata"]["namespace"] = "default".into();
        set["spec"]["leaderWorkerTemplate"]["subGroupPolicy"] = json!({ "subGroupSize": 2 });
        for (key, value) in annotations {
            set["metadata"]["annotations"][format!("leaderworkerset.sigs.k8s.io/{key}")] = (*value).into();
        }
        for (key, value) in labels {
            set["metadata"]["labels"][*key] = (*value).into();
        }
    })
}

/// A pod as that set's template makes it.
fn of_set(mut pod: Value, annotations: &[(&str, &str)]) -> Value {
    annotate(&mut pod, "subgroup-size", "2");
    annotations.iter().for_each(|(key, value)| annotate(&mut pod, key, value));
    pod
}

fn keepers(sets: &[(&str, &str, Option<&str>, Option<&str>)]) -> Keepers {
    let mut keepers = Keepers::default();
    for (namespace, name, groups, subgroups) in sets {
        let wish = Wish { groups: groups.map(str::to_owned), subgroups: subgroups.map(str::to_owned) };
        keepers.put(namespace, name, wish);
    }
    keepers
}

/// Admits the pod, and returns its affinity.
fn affinity(mut pod: Value, set: Option<&LeaderWorkerSet>, keepers: &Keepers, mode: Mode, scope: Scope) -> Value {
    let guard = Guard::of(&pod, ("default", "set"), set, keepers, Rules { mode, scope });
    let effects = Effects::default();
    let placement = Placement::None;
    let context = PodContext { namespace: "default", placement, gang: Gang::None, effects: &effects, guard: &guard };
    mutate(&mut pod, &context).unwrap();
    let once = pod.clone();
    let again = Guard::of(&pod, ("default", "set"), set, keepers, Rules { mode, scope });
    mutate(&mut pod, &PodContext { guard: &again, ..context }).unwrap();
    assert_eq!(pod, once, "a second admission changes it");
    pod["spec"]["affinity"].clone()
}

/// A term against sets by name.
fn against(names: &[&str], key: &str, level: &str) -> Value {
    json!({
        "labelSelector": { "matchExpressions": [
            { "key": "leaderworkerset.sigs.k8s.io/name", "operator": "In", "values": names },
            { "key": format!("leaderworkerset.sigs.k8s.io/{key}"), "operator": "Exists" },
        ] },
        "topologyKey": level,
    })
}

fn anti(terms: &[Value]) -> Value {
    json!({ "podAntiAffinity": { REQUIRED: terms } })
}

/// Upstream's two terms.
fn upstreams(key: &str, value: &str, level: &str) -> Value {
    let key = format!("leaderworkerset.sigs.k8s.io/{key}");
    let with = json!([{ "key": key, "operator": "In", "values": [value] }]);
    let away = json!([{ "key": key, "operator": "Exists" }, { "key": key, "operator": "NotIn", "values": [value] }]);
    json!({
        "podAffinity": { REQUIRED: [{ "labelSelector": { "matchExpressions": with }, "topologyKey": level }] },
        "podAntiAffinity": { REQUIRED: [{ "labelSelector": { "matchExpressions": away }, "topologyKey": level }] },
    })
}

#[rstest]
#[case::leader(leader("set-1"))]
#[case::worker(worker("set-1-2"))]
fn a_pod_that_asks_for_no_domain_keeps_out_of_those_that_others_have(#[case] pod: Value) {
    let others = keepers(&[
        ("default", "b", Some("rack"), None),
        ("default", "a", Some("rack"), None),
        ("default", "c", Some("zone"), None),
        ("default", "d", None, Some("host")),
        ("other", "e", Some("rack"), None),
    ]);
    let groups = [against(&["a", "b"], "group-key", "rack"), against(&["c"], "group-key", "zone")];
    let plain = |pod: &Value| affinity(pod.clone(), Some(&set(&[], &[])), &others, Mode::None, Scope::Namespace);
    assert_eq!(plain(&pod), anti(&groups));
    // Only members of subgroups are kept out of subgroups' domains.
    let [racks, zones] = groups;
    assert_eq!(plain(&of_set(pod, &[])), anti(&[racks, zones, against(&["d"], "subgroup-key", "host")]));
}

#[test]
fn a_leader_that_a_policy_places_keeps_out_too_wherever_its_policy_lets_it_go() {
    let others = keepers(&[("default", "a", Some("rack"), None)]);
    let (mut pod, effects) = (leader("set-1"), Effects::default());
    let rules = Rules { mode: Mode::None, scope: Scope::Namespace };
    let guard = Guard::of(&pod, ("default", "set"), Some(&set(&[], &[])), &others, rules);
    let placement = Placement::Gate;
    let context = PodContext { namespace: "default", placement, gang: Gang::None, effects: &effects, guard: &guard };
    assert_eq!(mutate(&mut pod, &context), Ok(Outcome::Leader { gated: true }));
    assert_eq!(pod["spec"]["affinity"], anti(&[against(&["a"], "group-key", "rack")]));
}

#[rstest]
#[case::gone(None)]
#[case::queued(Some(set(&[], &[QUEUE])))]
fn sets_in_queues_and_pods_that_outlive_their_set_keep_out_too(#[case] set: Option<LeaderWorkerSet>) {
    let others = keepers(&[("default", "a", Some("rack"), None)]);
    let expected = anti(&[against(&["a"], "group-key", "rack")]);
    assert_eq!(affinity(leader("set-1"), set.as_ref(), &others, Mode::None, Scope::Namespace), expected);
}

#[test]
fn in_the_whole_cluster_a_term_names_the_namespaces_of_its_sets() {
    let others = keepers(&[
        ("default", "a", Some("rack"), None),
        ("default", "set", Some("rack"), None),
        ("east", "a", Some("rack"), None),
        ("east", "set", Some("zone"), None),
        ("west", "set", Some("zone"), None),
    ]);
    let within = |mut term: Value, namespaces: &[&str]| {
        term["namespaces"] = json!(namespaces);
        term
    };
    // Its own set's name in its own namespace is in no term, whatever is known of that set.
    let expected = anti(&[
        within(against(&["a"], "group-key", "rack"), &["default", "east"]),
        within(against(&["set"], "group-key", "zone"), &["east", "west"]),
    ]);
    assert_eq!(affinity(leader("set-1"), Some(&set(&[], &[])), &others, Mode::None, Scope::Cluster), expected);
}

#[rstest]
#[case::by_groups(EXCLUSIVE)]
#[case::by_subgroups(SUBGROUP_EXCLUSIVE)]
fn pods_that_muster_keeps_apart_get_no_affinity(#[case] wish: &str) {
    let others = keepers(&[("default", "a", Some("rack"), Some("host")), ("default", "set", Some("rack"), None)]);
    for pod in [leader("set-1"), worker("set-1-2")] {
        let wished = [(wish, "rack")];
        let (mine, stale) = (set(&wished, &[]), set(&[], &[]));
        // As soon as either the set or its template says so.
        for (pod, set) in [(of_set(pod.clone(), &wished), &stale), (of_set(pod.clone(), &[]), &mine)] {
            assert_eq!(affinity(pod, Some(set), &others, Mode::None, Scope::Namespace), Value::Null);
        }
    }
}

#[rstest]
#[case::guarded(Mode::Affinity, &[])]
#[case::in_a_queue(Mode::None, &[QUEUE])]
fn a_leader_that_asks_for_a_domain_carries_upstreams_terms(#[case] mode: Mode, #[case] labels: &[(&str, &str)]) {
    let wished = [(EXCLUSIVE, "rack")];
    let set = set(&wished, labels);
    let of = |pod| affinity(of_set(pod, &wished), Some(&set), &Keepers::default(), mode, Scope::Namespace);
    assert_eq!(of(leader("set-1")), upstreams("group-key", GROUP, "rack"));
    assert_eq!(of(worker("set-1-2")), Value::Null, "workers follow their leader");
}

#[rstest]
#[case::guarded(Mode::Affinity, &[])]
#[case::in_a_queue(Mode::None, &[QUEUE])]
fn every_pod_of_an_exclusive_subgroup_carries_upstreams_terms(#[case] mode: Mode, #[case] labels: &[(&str, &str)]) {
    let wished = [(SUBGROUP_EXCLUSIVE, "host")];
    let set = set(&wished, labels);
    for pod in [leader("set-1"), worker("set-1-1")] {
        let found = affinity(of_set(pod, &wished), Some(&set), &Keepers::default(), mode, Scope::Namespace);
        assert_eq!(found, upstreams("subgroup-key", SUBGROUP, "host"));
    }
    // A leader in no subgroup has no subgroup to be with.
    let mut excluded = of_set(leader("set-1"), &wished);
    annotate(&mut excluded, "subgroup-policy-type", "LeaderExcluded");
    assert_eq!(affinity(excluded, Some(&set), &Keepers::default(), mode, Scope::Namespace), Value::Null);
}

#[test]
fn with_the_same_label_for_both_the_groups_terms_are_enough() {
    let wished = [(EXCLUSIVE, "rack"), (SUBGROUP_EXCLUSIVE, "rack")];
    let found = affinity(
        of_set(leader("set-1"), &wished),
        Some(&set(&wished, &[])),
        &Keepers::default(),
        Mode::Affinity,
        Scope::Namespace,
    );
    assert_eq!(found, upstreams("group-key", GROUP, "rack"));
}

#[test]
fn terms_of_the_author_stay_and_replace_upstreams_when_there_are_both_kinds() {
    let own = json!({ "labelSelector": { "matchLabels": { "app": "x" } }, "topologyKey": "rack", "fieldOfTheFuture": 1 });
    let wished = [(EXCLUSIVE, "rack")];
    let of = |affinity_of_author: &Value| {
        let mut pod = of_set(leader("set-1"), &wished);
        pod["spec"]["affinity"] = affinity_of_author.clone();
        affinity(pod, Some(&set(&wished, &[])), &Keepers::default(), Mode::Affinity, Scope::Namespace)
    };
    let both = json!({ "podAffinity": { REQUIRED: [own] }, "podAntiAffinity": { REQUIRED: [own] } });
    assert_eq!(of(&both), both);
    let one = json!({ "nodeAffinity": { "fieldOfTheFuture": 1 }, "podAntiAffinity": { REQUIRED: [own] } });
    let mut expected = upstreams("group-key", GROUP, "rack");
    expected["nodeAffinity"] = one["nodeAffinity"].clone();
    expected["podAntiAffinity"][REQUIRED].as_array_mut().unwrap().insert(0, own);
    assert_eq!(of(&one), expected);
}

#[test]
fn in_the_whole_cluster_upstreams_terms_see_equal_keys_of_other_namespaces_as_strangers() {
    let wished = [(SUBGROUP_EXCLUSIVE, "host")];
    let found = affinity(
        of_set(worker("set-1-1"), &wished),
        Some(&set(&wished, &[])),
        &Keepers::default(),
        Mode::Affinity,
        Scope::Cluster,
    );
    let mut expected = upstreams("subgroup-key", SUBGROUP, "host");
    expected["podAntiAffinity"][REQUIRED].as_array_mut().unwrap().push(json!({
        "labelSelector": { "matchExpressions": [{ "key": "leaderworkerset.sigs.k8s.io/subgroup-key", "operator": "Exists" }] },
        "namespaceSelector": { "matchExpressions": [
            { "key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["default"] }] },
        "topologyKey": "host",
    }));
    assert_eq!(found, expected);
}

#[test]
fn where_kueue_chooses_the_nodes_no_term_keeps_a_group_together_but_others_are_kept_out_of() {
    let wished = [(EXCLUSIVE, "rack")];
    let mut set = set(&wished, &[QUEUE]);
    let asks = json!({ "annotations": { "kueue.x-k8s.io/podset-required-topology": "rack" } });
    set.spec.leader_worker_template.worker_template.0["metadata"] = asks;
    assert_eq!(Wish::of(&set), Wish::default());
    let others = keepers(&[("default", "a", Some("rack"), None)]);
    let pod = of_set(leader("set-1"), &wished);
    // Its own annotation says what it wants, and it doesn't have it: the scheduler must not be told otherwise.
    let found = affinity(pod, Some(&set), &others, Mode::Affinity, Scope::Namespace);
    assert_eq!(found, anti(&[against(&["a"], "group-key", "rack")]));
}

#[test]
fn a_wish_for_subgroups_counts_only_where_there_are_some() {
    let mut set = set(&[(EXCLUSIVE, ""), (SUBGROUP_EXCLUSIVE, "host")], &[]);
    assert_eq!(Wish::of(&set), Wish { groups: None, subgroups: Some("host".to_owned()) });
    set.spec.leader_worker_template.sub_group_policy = None;
    assert!(Wish::of(&set).is_empty());
}

#[test]
fn affinity_that_is_no_object_is_refused() {
    let mut pod = leader("set-1");
    pod["spec"]["affinity"] = json!("none");
    let others = keepers(&[("default", "a", Some("rack"), None)]);
    let guard = Guard::of(&pod, ("default", "set"), None, &others, Rules { mode: Mode::None, scope: Scope::Namespace });
    let effects = Effects::default();
    let placement = Placement::None;
    let context = PodContext { namespace: "default", placement, gang: Gang::None, effects: &effects, guard: &guard };
    let refusal = mutate(&mut pod, &context).unwrap_err().to_string();
    assert_eq!(refusal, "spec.affinity of the pod is not an object of lists");
}
