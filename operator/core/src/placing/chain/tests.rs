use super::*;
use crate::cluster::tests::{POOL, POOLS, cluster, pods, unit, view};
use crate::placement::check::{Checked, Checker, HOSTNAME};
use crate::placement::{DomainId, Part, Reason, Request};

fn place(domain: u32) -> Place {
    Place { level: POOLS, domain: DomainId(domain) }
}

fn says(decision: Decision) -> Answer {
    Answer::new(0, decision, Reason { code: "Test".into(), message: String::new() })
}

/// One unit of two pods over two nodes in pool a, one in b, two in c.
fn narrowed(exclusive: bool, decision: Decision, last: bool) -> Result<Narrowed, String> {
    let snapshot = cluster(&[("n1", "a"), ("n2", "a"), ("n3", "b"), ("n4", "c"), ("n5", "c")]).snapshot(view());
    let exclusive = exclusive.then_some(POOLS);
    let request = Request { exclusive, units: vec![unit(0, &[pods(0, 2)])], ..Request::default() };
    let asked = Asked { questions: &[], view: view(), request };
    narrow(&asked, &snapshot, &says(decision), last).map_err(|rejection| rejection.message)
}

fn open(pools: &[&str]) -> Result<Narrowed, String> {
    Ok(Narrowed::Open(pools.iter().map(|pool| (POOL.to_owned(), (*pool).to_owned())).collect()))
}

#[test]
fn domains_with_room_are_left_to_the_next_policy_in_their_order() {
    let places = vec![place(2), place(1), place(0)];
    assert_eq!(narrowed(false, Decision::Within(places.clone()), false), open(&["c", "a"]));
    assert_eq!(narrowed(false, Decision::Within(places), true), Ok(Narrowed::Final));
}

#[test]
fn domains_without_room_are_no_choice() {
    let refused = "unit 0: none of the 1 domains that the answer names has room for it".to_owned();
    assert_eq!(narrowed(false, Decision::Within(vec![place(1)]), false), Err(refused));
}

#[test]
fn what_binds_pods_one_by_one_or_stops_them_is_final_wherever_it_is_said() {
    let part = Part { pods: 2, place: place(0) };
    let decisions = [
        Decision::Parts(vec![part]),
        Decision::Pinned(vec![NodeId(0), NodeId(1)]),
        Decision::Hold { retry_ms: 1 },
        Decision::Refuse,
    ];
    for decision in decisions {
        assert_eq!(narrowed(false, decision, false), Ok(Narrowed::Final));
    }
}

#[test]
fn an_exclusive_unit_that_is_left_to_the_scheduler_is_left_to_the_native_rule() {
    assert_eq!(narrowed(false, Decision::Unconstrained, true), Ok(Narrowed::Final));
    assert_eq!(narrowed(true, Decision::Unconstrained, true), open(&[]));
    assert_eq!(narrowed(true, Decision::Within(vec![place(0)]), true), Ok(Narrowed::Final));
}

#[test]
fn avoided_nodes_and_effects_go_along_and_preferences_come_before_later_ones() {
    let snapshot = cluster(&[("n1", "a"), ("n2", "b")]).snapshot(view());
    let label = |value: &str| Effect::Label("tier".to_owned(), value.to_owned());
    let first = Answer { avoid: vec![NodeId(1)], effects: vec![label("gold")], ..says(Decision::Preferred(vec![place(1)])) };
    let carried = Carried::default().and(&snapshot, &first);
    let completed = carried.complete(&snapshot, Answer { effects: vec![label("late")], ..says(Decision::Unconstrained) });
    assert_eq!((completed.avoid, completed.effects), (vec![NodeId(1)], vec![label("gold"), label("late")]));
    let mut record = Record::new("later", Reason { code: "Test".into(), message: String::new() });
    record.instructions.preferred.push((POOL.to_owned(), "a".to_owned()));
    carried.prefer(&mut record);
    let pools: Vec<_> = record.instructions.preferred.iter().map(|(_, pool)| pool.as_str()).collect();
    assert_eq!(pools, ["b", "a"]);
}

#[test]
fn an_answer_on_a_narrowed_view_binds_its_pods_to_what_it_was_narrowed_to() {
    let mut index = cluster(&[("n1", "a"), ("n2", "b")]);
    let inside = vec![(POOL.to_owned(), "b".to_owned())];
    let snapshot = index.snapshot(crate::cluster::View { inside: inside.clone(), ..view() });
    let request = Request { units: vec![unit(0, &[pods(0, 1)])], ..Request::default() };
    let checked = Checker::new(&snapshot, &request).apply(&says(Decision::Unconstrained));
    let Ok(Checked::Assigned(assignment)) = checked else { panic!("{checked:?}") };
    assert_eq!(assignment.selector, inside.into_iter().collect());
    assert_eq!((assignment.level.as_str(), assignment.domain.as_str()), (POOL, "b"));
    let refused = Checker::new(&snapshot, &request).apply(&says(Decision::within(place(0)))).unwrap_err();
    assert_eq!(refused.code, RejectionCode::NotEnoughRoom);
}

#[test]
fn a_wider_answer_on_a_narrowed_view_leaves_the_unit_in_the_nearer_domain() {
    let mut index = cluster(&[("n1", "a"), ("n2", "a"), ("n3", "b")]);
    let inside = vec![(HOSTNAME.to_owned(), "n2".to_owned())];
    let snapshot = index.snapshot(crate::cluster::View { inside, ..view() });
    let request = Request { units: vec![unit(0, &[pods(0, 1)])], ..Request::default() };
    let checked = Checker::new(&snapshot, &request).apply(&says(Decision::within(place(0))));
    let Ok(Checked::Assigned(assignment)) = checked else { panic!("{checked:?}") };
    let both = [(HOSTNAME.to_owned(), "n2".to_owned()), (POOL.to_owned(), "a".to_owned())];
    assert_eq!(assignment.selector, both.into());
    // Where the ledger keeps the room until the pods are bound.
    assert_eq!((assignment.level.as_str(), assignment.domain.as_str()), (HOSTNAME, "n2"));
}
