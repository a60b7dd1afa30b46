use serde_json::json;

use super::*;
use crate::cluster::tests::{POOL, POOLS, cluster, holding, node, pods, shape, unit, view};
use crate::placement::{DomainId, Place};

fn says(unit: u32, decision: Decision) -> Answer {
    Answer::new(unit, decision, Reason { code: "Test".into(), message: "it fits there".into() })
}

/// What becomes of answers about groups 0 and 1 of a set.
fn settled(answers: &[Answer]) -> Settled {
    let set = crate::testing::set(|raw| raw["metadata"]["annotations"] = json!({}));
    let mut index = cluster(&[("n1", "a"), ("n2", "b")]);
    let request =
        Request { owner: "team/serve".into(), units: vec![unit(0, &[pods(0, 1)]), unit(1, &[pods(0, 1)])], ..Request::default() };
    let asked = Asked { questions: &[], view: view(), request };
    let snapshot = index.snapshot(view());
    settle(&mut index, &set, &asked, &snapshot, answers, "policy")
}

#[test]
fn a_group_that_was_left_out_is_asked_about_again() {
    let settled = settled(&[says(0, Decision::Unconstrained)]);
    assert!(settled.placed.contains_key(&0));
    assert_eq!(settled.held[&1].0.code, "NotAnswered");
    assert!(settled.rejected.is_empty());
}

#[test]
fn an_answer_for_a_group_nobody_asked_about_counts_against_those_it_left_out() {
    let settled = settled(&[says(0, Decision::Unconstrained), says(7, Decision::Unconstrained)]);
    assert!(settled.placed.contains_key(&0));
    assert!(settled.held.is_empty());
    assert_eq!(settled.rejected.keys().collect::<Vec<_>>(), [&1]);
    assert!(settled.rejected[&1].message.contains("unit 7"), "{}", settled.rejected[&1]);
}

#[test]
fn an_answer_is_put_into_words_with_names() {
    let snapshot = cluster(&[("n1", "a"), ("n2", "b")]).snapshot(view());
    let within = |domain| Decision::within(Place { level: POOLS, domain: DomainId(domain) });
    let words = |decision| in_words(&snapshot, &says(3, decision));
    assert_eq!(words(within(1)), format!("put group 3 in {POOL}=b: it fits there"));
    assert_eq!(words(within(9)), "put group 3 in a domain that does not exist: it fits there");
    assert_eq!(words(Decision::Pinned(vec![NodeId(1), NodeId(0)])), "pinned group 3 to n2, n1: it fits there");
    assert_eq!(words(Decision::Hold { retry_ms: 5 }), "had group 3 wait: it fits there");
}

#[test]
fn a_released_leader_keeps_out_of_domains_of_others_and_off_nodes_whose_label_is_empty() {
    let mut index = cluster(&[("n1", "a"), ("n2", "b"), ("n3", "")]);
    index.hold(holding("other", 0, "a", vec![(shape(8), 1)]));
    let closed = |index: &mut Index| {
        let request = Request { exclusive: Some(POOLS), units: vec![unit(0, &[pods(0, 1), pods(0, 1)])], ..Request::default() };
        let asked = Asked { questions: &[], view: view(), request };
        let snapshot = index.snapshot(view());
        let (level, explanation) = explain(&asked, &snapshot, 0).unwrap();
        closed_to(&asked, &snapshot, 0, level, &explanation)
    };
    assert_eq!(closed(&mut index), ["a", "b"]);
    let mut empty = node("n3", "");
    empty.metadata.labels.get_or_insert_default().insert(POOL.to_owned(), String::new());
    index.apply_node(&empty);
    assert_eq!(closed(&mut index), ["", "a", "b"]);
}
