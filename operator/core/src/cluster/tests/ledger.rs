use std::collections::BTreeSet;

use super::*;
use crate::placement::check::RejectionCode;

#[test]
fn a_holding_takes_its_domain_and_its_room_from_others_and_not_from_itself() {
    let mut index = cluster(&[("n1", "a"), ("n2", "a")]);
    index.hold(Holding { exclusive: false, ..holding("s", 0, "a", vec![(shape(8), 1)]) });
    let others = index.snapshot(view());
    assert_eq!(others.domain_holders(POOLS).to_vec(), [1]);
    assert_eq!(others.domain_fit(POOLS, ShapeId(0)).to_vec(), [1]);
    let own = index.snapshot(View { for_groups: BTreeSet::from([group("s", 0)]), ..view() });
    assert_eq!(own.domain_holders(POOLS).to_vec(), [0]);
    assert_eq!(own.domain_fit(POOLS, ShapeId(0)).to_vec(), [2]);
}

#[test]
fn a_domain_that_a_group_has_for_itself_has_no_room_for_any_other() {
    let mut index = cluster(&[("n1", "a"), ("n2", "a"), ("n3", "b")]);
    index.hold(holding("s", 0, "a", vec![(shape(8), 1)]));
    assert_eq!(index.snapshot(view()).domain_fit(POOLS, ShapeId(0)).to_vec(), [0, 1]);
    assert_eq!(index.snapshot(view()).best_domains(POOLS, &[pods(0, 1)], false, 9), [1]);
    let elsewhere = View { namespace: "elsewhere".to_owned(), ..view() };
    assert_eq!(index.snapshot(elsewhere).domain_fit(POOLS, ShapeId(0)).to_vec(), [1, 1]);
}

#[test]
fn a_groups_own_pods_do_not_count_against_it() {
    let mut index = cluster(&[("n1", "a")]);
    index.apply_pod(&member("s", 0, 0, 8, "n1"));
    let own = index.snapshot(View { for_groups: BTreeSet::from([group("s", 0)]), ..view() });
    assert_eq!(own.domain_fit(POOLS, ShapeId(0)).to_vec(), [1]);
    assert_eq!(own.domain_holders(POOLS).to_vec(), [0]);
}

#[test]
fn a_released_domain_stays_held_until_the_last_pod_object_is_gone() {
    let mut index = cluster(&[("n1", "a"), ("n2", "a")]);
    index.hold(holding("s", 0, "a", Vec::new()));
    index.apply_pod(&member("s", 0, 0, 8, "n1"));
    index.apply_pod(&member("s", 0, 1, 8, "n2"));
    index.release(&group("s", 0));
    index.remove_pod("default", "s-0");
    assert_eq!(index.snapshot(view()).domain_holders(POOLS).to_vec(), [1]);
    let mut shared = holding("t", 0, "a", Vec::new());
    shared.exclusive = false;
    let refused = index.try_hold(&view(), &[pods(0, 1)], shared.clone()).unwrap_err();
    assert_eq!(refused.code, RejectionCode::DomainHeld);
    index.remove_pod("default", "s-0-1");
    assert_eq!(index.snapshot(view()).domain_holders(POOLS).to_vec(), [0]);
    assert_eq!(index.try_hold(&view(), &[pods(0, 1)], shared), Ok(()));
}

#[test]
fn a_pod_that_is_not_bound_yet_holds_the_domain_it_selects() {
    let mut index = cluster(&[("n1", "a"), ("n2", "b")]);
    let mut pod = member("s", 0, 1, 8, "");
    pod.spec.as_mut().unwrap().node_selector = Some([(POOL.to_owned(), "b".to_owned())].into());
    index.apply_pod(&pod);
    assert_eq!(index.snapshot(view()).domain_holders(POOLS).to_vec(), [0, 1]);
}

#[test]
fn a_worker_stateful_set_holds_the_domain_it_selects_until_it_is_gone() {
    let mut index = cluster(&[("n1", "a"), ("n2", "b")]);
    let workers = serde_json::json!({
        "metadata": {
            "name": "s-0",
            "namespace": "default",
            "labels": {
                "leaderworkerset.sigs.k8s.io/name": "s",
                "leaderworkerset.sigs.k8s.io/group-index": "0",
                "leaderworkerset.sigs.k8s.io/group-key": "k",
            },
        },
        "spec": {
            "selector": {},
            "serviceName": "s",
            "template": { "spec": { "containers": [], "nodeSelector": { POOL: "b" } } },
        },
    });
    index.apply_worker_set(&serde_json::from_value(workers).unwrap());
    assert_eq!(index.snapshot(view()).domain_holders(POOLS).to_vec(), [0, 1]);
    let own = View { for_groups: BTreeSet::from([group("s", 0)]), ..view() };
    assert_eq!(index.snapshot(own).domain_holders(POOLS).to_vec(), [0, 0]);
    index.remove_worker_set("default", "s-0");
    assert_eq!(index.snapshot(view()).domain_holders(POOLS).to_vec(), [0, 0]);
}

#[test]
fn other_namespaces_are_seen_only_in_cluster_scope() {
    let mut index = cluster(&[("n1", "a")]);
    let mut pod = member("s", 0, 0, 1, "n1");
    pod.metadata.namespace = Some("elsewhere".into());
    index.apply_pod(&pod);
    assert_eq!(index.snapshot(view()).domain_holders(POOLS).to_vec(), [0]);
    assert_eq!(index.snapshot(View { scope: Scope::Cluster, ..view() }).domain_holders(POOLS).to_vec(), [1]);
}

#[test]
fn an_exclusive_domain_holds_what_is_inside_it_and_what_is_around_it() {
    let mut index = Index::new();
    for (name, rack, zone) in [("n1", "r1", "z1"), ("n2", "r1", "z1"), ("n3", "r2", "z1"), ("n4", "r3", "z2")] {
        let mut node = node(name, "");
        node.metadata.labels.as_mut().unwrap().extend([("rack".into(), rack.into()), ("zone".into(), zone.into())]);
        index.apply_node(&node);
    }
    index.hold(Holding { level: "rack".into(), ..holding("s", 0, "r1", Vec::new()) });
    let levels = ["zone", "rack", "kubernetes.io/hostname"].map(str::to_owned).to_vec();
    let snapshot = index.snapshot(View { levels, ..view() });
    assert_eq!(snapshot.domain_holders(LevelId(0)).to_vec(), [1, 0]);
    assert_eq!(snapshot.domain_holders(LevelId(1)).to_vec(), [1, 0, 0]);
    assert_eq!(snapshot.domain_holders(LevelId(2)).to_vec(), [1, 1, 0, 0]);
}

#[test]
fn of_two_sets_that_race_for_the_last_domain_exactly_one_gets_it() {
    let mut index = cluster(&[("n1", "a"), ("n2", "a")]);
    let seen = (index.snapshot(view()), index.snapshot(view()));
    assert_eq!(seen.0.best_domains(POOLS, &[pods(0, 2)], true, 1), seen.1.best_domains(POOLS, &[pods(0, 2)], true, 1));
    let first = index.try_hold(&view(), &[pods(0, 2)], holding("s", 0, "a", vec![(shape(8), 2)]));
    let second = index.try_hold(&view(), &[pods(0, 2)], holding("t", 0, "a", vec![(shape(8), 2)]));
    assert_eq!(first, Ok(()));
    let refused = second.unwrap_err();
    assert_eq!(refused.code, RejectionCode::DomainHeld);
    assert_eq!(refused.message, "cloud.google.com/gke-nodepool=a is held by default/s group 0");
    assert_eq!(index.holding(&group("t", 0)), None);
}

#[test]
fn groups_that_share_a_domain_share_its_room() {
    let mut index = cluster(&[("n1", "a"), ("n2", "a"), ("n3", "a")]);
    let shared = |set, count| Holding { exclusive: false, ..holding(set, 0, "a", vec![(shape(8), count)]) };
    assert_eq!(index.try_hold(&view(), &[pods(0, 2)], shared("s", 2)), Ok(()));
    let refused = index.try_hold(&view(), &[pods(0, 2)], shared("t", 2)).unwrap_err();
    assert_eq!(refused.message, "cloud.google.com/gke-nodepool=a has room for 1 of 2 pods");
    assert_eq!(index.try_hold(&view(), &[pods(0, 1)], shared("t", 1)), Ok(()));
}

#[test]
fn replacing_the_holdings_of_a_set_leaves_other_sets_alone() {
    let mut index = cluster(&[("n1", "a"), ("n2", "b"), ("n3", "c")]);
    index.hold(holding("s", 0, "a", Vec::new()));
    index.hold(holding("s", 1, "b", Vec::new()));
    index.hold(holding("t", 0, "c", Vec::new()));
    index.replace_holdings_of_set("default", "s", vec![holding("s", 1, "b", Vec::new())]);
    assert_eq!(index.snapshot(view()).domain_holders(POOLS).to_vec(), [0, 1, 1]);
}

#[test]
fn pins_keep_room_on_their_nodes() {
    let mut index = cluster(&[("n1", "a"), ("n2", "a")]);
    let pinned = Holding {
        level: String::new(),
        exclusive: false,
        pinned: vec![("n2".into(), shape(8))],
        ..holding("s", 0, "", Vec::new())
    };
    assert_eq!(index.try_hold(&view(), &[pods(0, 1)], pinned), Ok(()));
    assert_eq!(index.snapshot(view()).node_fit(ShapeId(0)).to_vec(), [1, 0]);
}

#[test]
fn room_promised_in_a_wider_domain_counts_in_the_narrower_one() {
    // The promise in r1 pushes the one in the zone into r2.
    let mut index = Index::new();
    for (name, rack) in [("n1", "r1"), ("n2", "r1"), ("n3", "r2"), ("n4", "r2")] {
        let mut node = node(name, "");
        node.metadata.labels.as_mut().unwrap().extend([("rack".into(), rack.into()), ("zone".into(), "z".into())]);
        index.apply_node(&node);
    }
    let shared = |set: &str, level: &str, domain: &str, count| Holding {
        level: level.into(),
        exclusive: false,
        ..holding(set, 0, domain, vec![(shape(8), count)])
    };
    // Promises are packed in the order of names: r takes n1 and n2, so x takes n3.
    assert_eq!(index.try_hold(&view(), &[pods(0, 2)], shared("r", "rack", "r1", 2)), Ok(()));
    assert_eq!(index.try_hold(&view(), &[pods(0, 1)], shared("x", "zone", "z", 1)), Ok(()));
    let refused = index.try_hold(&view(), &[pods(0, 2)], shared("y", "rack", "r2", 2)).unwrap_err();
    assert_eq!(refused.message, "rack=r2 has room for 1 of 2 pods");
}

#[test]
fn a_commit_against_a_stale_view_is_refused() {
    let mut index = cluster(&[("n1", "a")]);
    index.apply_pod(&member("other", 0, 0, 1, "n1"));
    let refused = index.try_hold(&view_of(vec![shape(1)]), &[pods(0, 1)], holding("s", 0, "a", Vec::new())).unwrap_err();
    assert_eq!(refused.code, RejectionCode::DomainHeld);
    index.remove_node("n1");
    let gone = index.try_hold(&view(), &[pods(0, 1)], holding("s", 0, "a", Vec::new())).unwrap_err();
    assert_eq!(gone.message, "no node has the label cloud.google.com/gke-nodepool=a any more");
}
