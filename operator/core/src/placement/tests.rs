use rstest::rstest;

use super::check::{Checked, Checker, RejectionCode};
use super::*;
use crate::cluster::tests::{POOL, POOLS, cluster, holding, member, pods, shape, unit, view, view_of};
use crate::cluster::{Holding, Snapshot, View};

const HOSTNAME: &str = "kubernetes.io/hostname";

/// Two nodes in pool a, one in b, three in c.
fn three_pools() -> crate::cluster::Index {
    cluster(&[("n1", "a"), ("n2", "a"), ("n3", "b"), ("n4", "c"), ("n5", "c"), ("n6", "c")])
}

fn exclusive(units: Vec<Unit>) -> Request {
    Request { owner: "default/s".into(), exclusive: Some(POOLS), units, ..Request::default() }
}

fn within(level: u32, domain: u32) -> Decision {
    Decision::Within(Place { level: LevelId(level), domain: DomainId(domain) })
}

fn says(unit: u32, decision: Decision) -> Answer {
    Answer { unit, decision, reason: Reason { code: "Test".into(), message: String::new() } }
}

fn decisions(snapshot: &Snapshot, request: &Request) -> Vec<Decision> {
    native::place(snapshot, request).into_iter().map(|answer| answer.decision).collect()
}

#[test]
fn each_group_gets_the_smallest_pool_that_fits_and_accounts_for_the_ones_before() {
    let snapshot = three_pools().snapshot(view());
    let request = exclusive(vec![unit(0, &[pods(0, 2)]), unit(1, &[pods(0, 2)]), unit(2, &[pods(0, 1)])]);
    assert_eq!(decisions(&snapshot, &request), [within(0, 0), within(0, 2), within(0, 1)]);
}

#[test]
fn a_group_stays_where_it_is_and_keeps_newcomers_out() {
    let snapshot = three_pools().snapshot(view());
    let mut staying = unit(1, &[pods(0, 1)]);
    staying.current = Some(Place { level: POOLS, domain: DomainId(0) });
    let request = exclusive(vec![unit(0, &[pods(0, 2)]), staying]);
    assert_eq!(decisions(&snapshot, &request), [within(0, 2), within(0, 0)]);
}

#[test]
fn a_group_leaves_a_pool_that_has_become_too_small() {
    let mut index = three_pools();
    index.remove_node("n1");
    let mut moving = unit(0, &[pods(0, 2)]);
    moving.current = index.snapshot(view()).place_of(POOL, "a");
    assert_eq!(decisions(&index.snapshot(view()), &exclusive(vec![moving])), [within(0, 2)]);
}

#[test]
fn without_exclusivity_the_scheduler_decides() {
    let snapshot = three_pools().snapshot(view());
    let request = Request { exclusive: None, ..exclusive(vec![unit(0, &[pods(0, 99)])]) };
    assert_eq!(decisions(&snapshot, &request), [Decision::Unconstrained]);
}

#[test]
fn a_group_that_fits_nowhere_is_held_with_each_pools_reason() {
    let mut index = three_pools();
    index.hold(holding("other", 3, "c", vec![(shape(8), 3)]));
    let answers = native::place(&index.snapshot(view()), &exclusive(vec![unit(0, &[pods(0, 2)]), unit(1, &[pods(0, 2)])]));
    assert_eq!(answers[0].decision, within(0, 0));
    assert_eq!(answers[1].decision, Decision::Hold { retry_ms: native::RETRY_MS });
    assert_eq!(answers[1].reason.code, "NoDomainLargeEnough");
    assert_eq!(
        answers[1].reason.message,
        "no domain of cloud.google.com/gke-nodepool fits the group (2 pods: 2 × {nvidia.com/gpu: 8}): \
         a: held by default/s group 0; b: room for 1 of 2 pods; c: held by default/other group 3"
    );
}

#[rstest]
#[case::no_node_has_the_label(&[("n1", "")], &[], "NoLabel")]
#[case::no_pool_is_free(&[("n1", "a")], &["a"], "AllDomainsHeld")]
#[case::the_free_pool_is_too_small(&[("n1", "a"), ("n2", "b")], &["a"], "NoDomainLargeEnough")]
fn a_hold_says_what_is_missing(#[case] nodes: &[(&str, &str)], #[case] held: &[&str], #[case] code: &str) {
    let mut index = cluster(nodes);
    for pool in held {
        index.hold(holding("other", 0, pool, Vec::new()));
    }
    let answers = native::place(&index.snapshot(view()), &exclusive(vec![unit(0, &[pods(0, 2)])]));
    assert_eq!(answers[0].reason.code, code);
}

#[test]
fn an_assignment_selects_and_holds_the_domain() {
    let snapshot = three_pools().snapshot(view());
    let request = exclusive(vec![unit(0, &[pods(0, 2)])]);
    let checked = Checker::new(&snapshot, &request).apply(&says(0, within(0, 0))).unwrap();
    let Checked::Assigned(assignment) = checked else { panic!("{checked:?}") };
    assert_eq!(assignment.selector, [(POOL.to_owned(), "a".to_owned())].into());
    assert_eq!((assignment.level.as_str(), assignment.domain.as_str()), (POOL, "a"));
    assert!(assignment.exclusive);
    assert_eq!(assignment.pins, None);
}

#[test]
fn an_answer_inside_a_free_domain_holds_the_whole_domain() {
    let snapshot = three_pools().snapshot(View { levels: vec![POOL.into(), HOSTNAME.into()], ..view() });
    let request = exclusive(vec![unit(0, &[pods(0, 1)]), unit(1, &[pods(0, 1)])]);
    let mut checker = Checker::new(&snapshot, &request);
    let Ok(Checked::Assigned(assignment)) = checker.apply(&says(0, within(1, 0))) else { panic!("n1 is in pool a") };
    assert_eq!((assignment.level.as_str(), assignment.domain.as_str()), (POOL, "a"));
    assert_eq!(assignment.selector, [(POOL.to_owned(), "a".to_owned()), (HOSTNAME.to_owned(), "n1".to_owned())].into());
    assert_eq!(checker.apply(&says(1, within(1, 1))).unwrap_err().code, RejectionCode::DomainHeld);
}

#[rstest]
#[case::a_unit_that_was_not_asked_about(9, within(0, 0), RejectionCode::UnknownUnit)]
#[case::a_domain_that_does_not_exist(0, within(0, 9), RejectionCode::UnknownPlace)]
#[case::a_level_that_does_not_exist(0, within(9, 0), RejectionCode::UnknownPlace)]
#[case::no_domain(0, within(0, u32::MAX), RejectionCode::UnknownPlace)]
#[case::too_small(0, within(0, 1), RejectionCode::NotEnoughRoom)]
#[case::held_by_another_set(0, within(0, 2), RejectionCode::DomainHeld)]
#[case::wider_than_a_pool(0, within(1, 0), RejectionCode::NotExclusive)]
#[case::left_to_the_scheduler(0, Decision::Unconstrained, RejectionCode::NotExclusive)]
#[case::one_node_for_two_pods(0, Decision::Pinned(vec![NodeId(0)]), RejectionCode::WrongPinCount)]
#[case::a_node_that_does_not_exist(0, Decision::Pinned(vec![NodeId(0), NodeId(99)]), RejectionCode::UnknownNode)]
#[case::both_pods_on_one_node(0, Decision::Pinned(vec![NodeId(0), NodeId(0)]), RejectionCode::NotEnoughRoom)]
#[case::nodes_of_two_pools(0, Decision::Pinned(vec![NodeId(0), NodeId(2)]), RejectionCode::NotExclusive)]
#[case::nodes_of_a_held_pool(0, Decision::Pinned(vec![NodeId(3), NodeId(4)]), RejectionCode::DomainHeld)]
fn a_harmful_answer_is_refused(#[case] id: u32, #[case] decision: Decision, #[case] code: RejectionCode) {
    let mut index = three_pools();
    index.hold(holding("other", 0, "c", Vec::new()));
    for (name, pool) in [("n1", "a"), ("n2", "a"), ("n3", "b"), ("n4", "c"), ("n5", "c"), ("n6", "c")] {
        let mut node = crate::cluster::tests::node(name, pool);
        node.metadata.labels.as_mut().unwrap().insert("zone".into(), "z".into());
        index.apply_node(&node);
    }
    let snapshot = index.snapshot(View { levels: vec![POOL.into(), "zone".into()], ..view() });
    let request = exclusive(vec![unit(0, &[pods(0, 2)])]);
    let mut checker = Checker::new(&snapshot, &request);
    assert_eq!(checker.apply(&says(id, decision)).unwrap_err().code, code);
    // A refused answer leaves the unit open and takes nothing.
    assert!(matches!(checker.apply(&says(0, within(0, 0))), Ok(Checked::Assigned(_))));
}

#[test]
fn a_unit_is_answered_once_and_a_domain_given_once() {
    let snapshot = three_pools().snapshot(view());
    let request = exclusive(vec![unit(0, &[pods(0, 1)]), unit(1, &[pods(0, 1)])]);
    let mut checker = Checker::new(&snapshot, &request);
    assert!(checker.apply(&says(0, within(0, 0))).is_ok());
    assert_eq!(checker.apply(&says(0, within(0, 1))).unwrap_err().code, RejectionCode::AnsweredTwice);
    let refused = checker.apply(&says(1, within(0, 0))).unwrap_err();
    assert_eq!(refused.message, "unit 1: cloud.google.com/gke-nodepool=a is held by unit 0 of default/s");
}

#[test]
fn units_that_share_a_domain_share_its_room() {
    let snapshot = three_pools().snapshot(view());
    let units = (0..3).map(|id| unit(id, &[pods(0, 2)])).collect();
    let request = Request { exclusive: None, ..exclusive(units) };
    let mut checker = Checker::new(&snapshot, &request);
    assert!(checker.apply(&says(0, within(0, 2))).is_ok());
    let refused = checker.apply(&says(1, within(0, 2))).unwrap_err();
    assert_eq!(refused.message, "unit 1: cloud.google.com/gke-nodepool=c has room for 1 of 2 pods");
}

#[test]
fn a_unit_that_shares_does_not_enter_a_domain_that_another_group_has_for_itself() {
    let mut index = three_pools();
    index.hold(holding("other", 0, "a", Vec::new()));
    let snapshot = index.snapshot(view());
    let request = Request { exclusive: None, ..exclusive(vec![unit(0, &[pods(0, 1)])]) };
    let refused = Checker::new(&snapshot, &request).apply(&says(0, within(0, 0))).unwrap_err();
    assert_eq!(refused.code, RejectionCode::DomainHeld);
    let pinned = Checker::new(&snapshot, &request).apply(&says(0, Decision::Pinned(vec![NodeId(0)]))).unwrap_err();
    assert_eq!(pinned.message, "unit 0: node n1 is held by default/other group 0");
}

#[test]
fn an_exclusive_group_does_not_enter_a_domain_that_any_group_uses() {
    let mut index = three_pools();
    index.apply_pod(&member("shared", 0, 0, 1, "n1"));
    let snapshot = index.snapshot(view_of(vec![shape(1)]));
    let request = exclusive(vec![unit(0, &[pods(0, 1)])]);
    let refused = Checker::new(&snapshot, &request).apply(&says(0, within(0, 0))).unwrap_err();
    assert_eq!(refused.message, "unit 0: cloud.google.com/gke-nodepool=a is held by default/shared group 0");
}

#[test]
fn pins_become_node_names_and_a_holding_of_each_node() {
    let snapshot = three_pools().snapshot(view());
    let request = exclusive(vec![unit(0, &[pods(0, 2)])]);
    let checked = Checker::new(&snapshot, &request).apply(&says(0, Decision::Pinned(vec![NodeId(1), NodeId(0)])));
    let Ok(Checked::Assigned(assignment)) = checked else { panic!("{checked:?}") };
    assert_eq!(assignment.pins, Some(vec!["n2".to_owned(), "n1".to_owned()]));
    let made = assignment.holding(crate::cluster::tests::group("s", 0), "s", &view(), &[pods(0, 2)]);
    let pinned = vec![("n2".to_owned(), shape(8)), ("n1".to_owned(), shape(8))];
    assert_eq!(made, Holding { pinned, ..holding("s", 0, "a", Vec::new()) });
}
