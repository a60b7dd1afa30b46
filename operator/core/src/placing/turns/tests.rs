use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use muster_api::LeaderWorkerSet;
use serde_json::json;

use super::*;
use crate::ask::{Concern, Question};
use crate::cluster::tests::{POOLS, cluster, holding, node, pods, shape, view, view_of};
use crate::cluster::{GroupId, Shape};
use crate::placement::{Unit, native};

/// A set of `default` with this age (in hours since yesterday).
fn set(name: &str, hour: u32) -> LeaderWorkerSet {
    crate::testing::set(|raw| {
        raw["metadata"]["name"] = json!(name);
        raw["metadata"]["namespace"] = json!("default");
        raw["metadata"]["creationTimestamp"] = json!(format!("2026-11-21T{hour:02}:00:00Z"));
    })
}

fn leader(set: &str) -> Pod {
    serde_json::from_value(json!({ "metadata": { "name": format!("{set}-0"), "namespace": "default" } })).unwrap()
}

fn question<'a>(leader: &'a Pod, needs: &Shape) -> Question<'a> {
    let demand = vec![(needs.clone(), 1)];
    let concern = Concern::Waiting;
    Question { group: 0, leader, demand, division: vec![1], prepared: Default::default(), subgroups: Vec::new(), concern }
}

/// Group 0 of a set, which wants a pool of its own for one pod.
fn asked<'q>(set: &LeaderWorkerSet, questions: &'q [Question<'q>], priority: i32, needs: &Shape) -> Asked<'q> {
    let mut view = view_of(vec![needs.clone()]);
    view.for_groups = [GroupId { namespace: "default".into(), leader_pod: format!("{}-0", set.set_name()) }].into();
    let unit = Unit { id: 0, pods: vec![pods(0, 1)], priority, ..Unit::default() };
    let owner = format!("default/{}", set.set_name());
    Asked { questions, view, request: Request { owner, exclusive: Some(POOLS), units: vec![unit], ..Request::default() } }
}

fn claim(name: &str, hour: u32, priority: i32, generation: Option<u64>) -> Claim {
    let set = set(name, hour);
    Claim::new(&set, &asked(&set, &[], priority, &shape(8)), generation)
}

/// Asks natively for group 0 of `mine`, which is ten hours old and of no priority.
fn ask(index: &mut Index, ahead: &[&Claim]) -> (Settled, Option<usize>) {
    let set = set("mine", 10);
    let leader = leader("mine");
    let questions = [question(&leader, &shape(8))];
    let asked = asked(&set, &questions, 0, &shape(8));
    let snapshot = index.snapshot(asked.view.clone());
    let answers = native::place(&snapshot, &asked.request);
    settle_in_turn(index, &set, &asked, &snapshot, &answers, "exclusive", ahead)
}

#[test]
fn the_more_important_goes_first_and_then_the_older_and_then_the_name() {
    let rank = claim("b", 10, 0, None).rank().clone();
    assert!(claim("z", 23, 5, None).goes_before(&rank, 9));
    assert!(claim("z", 9, 0, None).goes_before(&rank, 9));
    assert!(claim("a", 10, 0, None).goes_before(&rank, 9));
    assert!(!claim("c", 10, 0, None).goes_before(&rank, 9));
    assert!(!claim("a", 11, 0, None).goes_before(&rank, 9));
    assert!(!claim("a", 1, -1, None).goes_before(&rank, 9));
}

#[test]
fn who_was_asked_since_room_was_freed_is_nobodys_rival() {
    let rank = claim("b", 10, 0, None).rank().clone();
    assert!(claim("z", 9, 0, Some(8)).goes_before(&rank, 9));
    assert!(!claim("z", 9, 0, Some(9)).goes_before(&rank, 9));
}

#[test]
fn a_set_gives_the_last_pool_to_the_one_that_goes_first() {
    let mut index = cluster(&[("n1", "a")]);
    let older = claim("older", 9, 0, None);
    let (settled, first) = ask(&mut index, &[&older]);
    assert_eq!(first, Some(0));
    assert!(settled.placed.is_empty());
    let (reason, again) = &settled.held[&0];
    assert_eq!(reason.code, "AfterOthers");
    assert_eq!(reason.message, "default/older is more important or older, waits for the same room and goes first");
    assert_eq!(*again, Some(Duration::from_millis(200)));
    assert_eq!(older.open_domains(&mut index), [["a".to_owned()].into()]);
    assert!(index.holding(&crate::cluster::tests::group("mine", 0)).is_none());
}

#[test]
fn a_set_gives_the_last_pool_to_one_of_another_namespace() {
    let mut index = cluster(&[("n1", "a")]);
    let mut older = claim("older", 9, 0, None);
    older.view.namespace = "elsewhere".to_owned();
    let (settled, first) = ask(&mut index, &[&older]);
    assert_eq!((settled.placed.len(), first), (0, Some(0)));
}

#[test]
fn a_set_does_not_wait_for_one_that_could_not_use_its_pool() {
    let mut index = cluster(&[("n1", "a")]);
    let set = set("older", 9);
    let too_large = Claim::new(&set, &asked(&set, &[], 0, &shape(16)), None);
    let (settled, first) = ask(&mut index, &[&too_large]);
    assert_eq!((settled.placed.len(), first), (1, None));
}

#[test]
fn a_set_that_finds_no_place_anyway_says_why_and_not_whom_it_waits_for() {
    let mut index = cluster(&[("n1", "a")]);
    index.hold(holding("other", 0, "a", vec![(shape(8), 1)]));
    let (settled, first) = ask(&mut index, &[&claim("older", 9, 0, None)]);
    assert_eq!(first, None);
    assert_ne!(settled.held[&0].0.code, "AfterOthers");
}

#[test]
fn what_was_promised_and_taken_back_is_as_it_was() {
    let mut index = cluster(&[("n1", "a")]);
    // A gated leader alone would go on holding a domain that its group gives up.
    let mut own = leader("mine");
    own.metadata.labels = crate::cluster::tests::member("mine", 0, 0, 8, "").metadata.labels;
    index.apply_pod(&own);
    let group = crate::cluster::tests::group("mine", 0);
    ask(&mut index, &[&claim("older", 9, 0, None)]);
    assert_eq!(index.held(&group), None);
    index.hold(holding("mine", 0, "b", Vec::new()));
    index.release(&group);
    let before = index.held(&group);
    ask(&mut index, &[&claim("older", 9, 0, None)]);
    assert_eq!(index.held(&group), before);
}

#[test]
fn what_was_promised_and_taken_back_frees_no_room() {
    let mut index = cluster(&[("n1", "a")]);
    let freed = index.freed();
    ask(&mut index, &[&claim("older", 9, 0, None)]);
    assert_eq!(index.freed(), freed);
}

#[test]
fn room_is_freed_by_pods_promises_and_nodes_and_not_by_what_takes_it() {
    let mut index = cluster(&[("n1", "a"), ("n2", "b")]);
    let mut last = index.freed();
    let mut frees = |index: &Index| std::mem::replace(&mut last, index.freed()) != index.freed();
    index.hold(holding("other", 0, "a", vec![(shape(8), 1)]));
    assert!(!frees(&index));
    let member = crate::cluster::tests::member("other", 0, 0, 8, "n1");
    index.apply_pod(&member);
    assert!(!frees(&index));
    index.remove_pod("default", "other-0");
    assert!(frees(&index));
    index.release(&crate::cluster::tests::group("other", 0));
    assert!(frees(&index));
    index.apply_node(&node("n3", "c"));
    assert!(frees(&index));
    index.snapshot(view());
    assert!(!frees(&index));
}
