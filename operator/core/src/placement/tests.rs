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
    Decision::within(Place { level: LevelId(level), domain: DomainId(domain) })
}

/// Where a unit is that runs in this pool.
fn running_in(pool: u32) -> Option<Whereabouts> {
    Some(Whereabouts { domains: vec![DomainId(pool)], nodes: Vec::new() })
}

fn says(unit: u32, decision: Decision) -> Answer {
    Answer::new(unit, decision, Reason { code: "Test".into(), message: String::new() })
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
    staying.current = running_in(0);
    let request = exclusive(vec![unit(0, &[pods(0, 2)]), staying]);
    assert_eq!(decisions(&snapshot, &request), [within(0, 2), within(0, 0)]);
}

#[test]
fn a_group_leaves_a_pool_that_has_become_too_small() {
    let mut index = three_pools();
    index.remove_node("n1");
    let mut moving = unit(0, &[pods(0, 2)]);
    moving.current = running_in(0);
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
    assert!(assignment.instructions.is_empty());
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
    assert_eq!(assignment.instructions.pins, ["n2", "n1"]);
    let made = assignment.holding(crate::cluster::tests::group("s", 0), "s", &view(), &[pods(0, 2)]);
    let pinned = vec![("n2".to_owned(), shape(8)), ("n1".to_owned(), shape(8))];
    assert_eq!(made, Holding { pinned, ..holding("s", 0, "a", Vec::new()) });
}

fn place(domain: u32) -> Place {
    Place { level: POOLS, domain: DomainId(domain) }
}

fn check(request: &Request, answer: &Answer) -> Result<Checked, super::check::Rejection> {
    Checker::new(&three_pools().snapshot(view()), request).apply(answer)
}

fn shared(pods: &[Demand]) -> Request {
    Request { exclusive: None, ..exclusive(vec![unit(0, pods)]) }
}

fn assigned(request: &Request, answer: &Answer) -> super::check::Assignment {
    match check(request, answer) {
        Ok(Checked::Assigned(assignment)) => assignment,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_domain_of_a_ranked_answer_that_fits_is_taken() {
    let answer = says(0, Decision::Within(vec![place(1), place(0), place(2)]));
    assert_eq!(assigned(&shared(&[pods(0, 2)]), &answer).domain, "a");
}

#[test]
fn a_ranked_answer_without_a_good_domain_says_what_is_wrong_with_the_best() {
    let refused = check(&shared(&[pods(0, 9)]), &says(0, Decision::Within(vec![place(1), place(2)]))).unwrap_err();
    assert_eq!(refused.code, RejectionCode::NotEnoughRoom);
    let expected = "unit 0: cloud.google.com/gke-nodepool=b has room for 1 of 9 pods; none of 2 domains is good";
    assert_eq!(refused.message, expected);
}

#[test]
fn parts_hold_a_domain_each_with_room_for_their_ranks() {
    let part = |pods, domain| Part { pods, place: place(domain) };
    let answer = says(0, Decision::Parts(vec![part(2, 0), part(3, 2)]));
    let assignment = assigned(&shared(&[pods(0, 1), pods(0, 4)]), &answer);
    let parts: Vec<_> = assignment.instructions.parts.iter().map(|part| (part.pods, part.value.as_str())).collect();
    assert_eq!(parts, [(2, "a"), (3, "c")]);
    assert!(assignment.selector.is_empty());
    let held = assignment.holding(crate::cluster::tests::group("s", 0), "s", &view(), &[pods(0, 1), pods(0, 4)]);
    let outstanding: Vec<u32> =
        held.subgroups.iter().map(|part| part.outstanding.iter().map(|(_, pods)| pods).sum::<u32>()).collect();
    assert_eq!((outstanding, held.outstanding.len(), held.divided), (vec![2, 3], 0, false));
}

#[rstest]
#[case::too_few(&[(2, 0)], "unit 0: 1 parts of 2 pods for 3; every pod is in one part", RejectionCode::WrongParts)]
#[case::an_empty_one(&[(3, 2), (0, 0)], "unit 0: 2 parts of 3 pods for 3; every pod is in one part", RejectionCode::WrongParts)]
#[case::too_large(
    &[(1, 0), (2, 1)],
    "unit 0: cloud.google.com/gke-nodepool=b has room for 1 of 2 pods, ranks 1 to 2",
    RejectionCode::NotEnoughRoom
)]
fn parts_that_do_not_work_are_refused(#[case] parts: &[(u32, u32)], #[case] message: &str, #[case] code: RejectionCode) {
    let parts = parts.iter().map(|(pods, domain)| Part { pods: *pods, place: place(*domain) });
    let refused = check(&shared(&[pods(0, 3)]), &says(0, Decision::Parts(parts.collect()))).unwrap_err();
    assert_eq!((refused.code, refused.message.as_str()), (code, message));
}

#[test]
fn parts_of_an_exclusive_unit_lie_in_one_domain() {
    let part = |domain| Part { pods: 1, place: place(domain) };
    let request = exclusive(vec![unit(0, &[pods(0, 2)])]);
    let refused = check(&request, &says(0, Decision::Parts(vec![part(0), part(1)]))).unwrap_err();
    assert_eq!(refused.code, RejectionCode::NotExclusive);
    let assignment = assigned(&request, &says(0, Decision::Parts(vec![part(2), part(2)])));
    assert_eq!((assignment.exclusive, assignment.domain.as_str()), (true, "c"));
}

#[test]
fn a_node_that_is_avoided_gives_no_room() {
    let avoiding = |node, domain| Answer { avoid: vec![NodeId(node)], ..says(0, within(0, domain)) };
    let refused = check(&shared(&[pods(0, 2)]), &avoiding(0, 0)).unwrap_err();
    assert_eq!(refused.message, "unit 0: cloud.google.com/gke-nodepool=a has room for 1 of 2 pods");
    let assignment = assigned(&shared(&[pods(0, 2)]), &avoiding(3, 2));
    assert_eq!((assignment.domain.as_str(), assignment.instructions.avoid.as_slice()), ("c", &["n4".to_owned()][..]));
}

#[test]
fn preferred_domains_hold_nothing_and_are_named_for_the_scheduler() {
    let answer = says(0, Decision::Preferred(vec![place(2), place(0)]));
    let Ok(Checked::Unconstrained(instructions)) = check(&shared(&[pods(0, 99)]), &answer) else { panic!() };
    let pools: Vec<_> = instructions.preferred.iter().map(|(_, pool)| pool.as_str()).collect();
    assert_eq!(pools, ["c", "a"]);
    let refused = check(&exclusive(vec![unit(0, &[pods(0, 1)])]), &answer).unwrap_err();
    assert_eq!(refused.code, RejectionCode::NotExclusive);
}

#[test]
fn an_effect_that_is_not_allowed_refuses_the_answer() {
    let effects = vec![super::effects::Effect::Label("kubernetes.io/os".into(), "x".into())];
    let refused = check(&shared(&[pods(0, 1)]), &Answer { effects, ..says(0, within(0, 0)) }).unwrap_err();
    assert_eq!(refused.code, RejectionCode::EffectRefused);
    assert!(refused.message.starts_with("unit 0: effect label kubernetes.io/os: keys of kubernetes.io are not"), "{refused}");
}

#[test]
fn a_node_selector_of_an_answer_takes_room_away() {
    let effects = vec![super::effects::Effect::NodeSelector(POOL.into(), "b".into())];
    let refused = check(&shared(&[pods(0, 1)]), &Answer { effects, ..says(0, within(0, 0)) }).unwrap_err();
    assert_eq!(refused.message, "unit 0: cloud.google.com/gke-nodepool=a has room for 0 of 1 pods");
}
