//! Decisions over small clusters: racks of whole machines, one pod a machine.

use muster_placement_sdk::testing::{Table, request, unit, unit_of};
use muster_placement_sdk::{Answer, Demand, NO_NODE, Request, Unit, Whereabouts};

use crate::decide::place;

const RACK: &str = "example.com/rack";

fn racks(racks: &[(&str, usize)]) -> Table {
    racks.iter().fold(Table::new([RACK]), |table, (name, size)| table.nodes(*size, [*name]))
}

/// A unit whose pods run in that rack.
fn running(id: u32, pods: u32, domain: u32) -> Unit {
    Unit { current: Some(Whereabouts { domains: vec![domain], nodes: vec![NO_NODE; pods as usize] }), ..unit(id, pods) }
}

/// For every answer the racks, best first, and the code.
fn decide(cluster: &Table, request: &Request) -> Vec<String> {
    let words = |answer: &Answer| {
        let words = cluster.in_words(&answer.decision).replace("example.com/rack=", "").replace(" or ", " ");
        format!("{words}: {}", answer.reason.code)
    };
    place(cluster, request).iter().map(words).collect()
}

#[test]
fn a_unit_gets_the_smallest_free_domain_that_fits_and_the_next_ones_as_alternatives() {
    let cluster = racks(&[("a", 8), ("b", 3), ("c", 4), ("d", 2), ("e", 3)]).held(RACK, "b", 1);
    assert_eq!(decide(&cluster, &request(Some(0), vec![unit(0, 3)])), ["e c a: BestFit"]);
}

#[test]
fn no_two_units_get_the_same_domain_first() {
    let cluster = racks(&[("a", 4), ("b", 5), ("c", 6), ("d", 7)]);
    let units = (0..3).map(|id| unit(id, 4)).collect();
    let expected = ["a d: BestFit", "b d: BestFit", "c d: BestFit"];
    assert_eq!(decide(&cluster, &request(Some(0), units)), expected);
}

#[test]
fn units_that_run_somewhere_stay_and_choose_first() {
    let cluster = racks(&[("a", 4), ("b", 4)]);
    let units = vec![unit(0, 4), running(1, 4, 0)];
    assert_eq!(decide(&cluster, &request(Some(0), units)), ["b: BestFit", "a: Kept"]);
}

#[test]
fn a_unit_leaves_a_domain_that_somebody_else_holds_or_that_became_too_small() {
    let cluster = racks(&[("a", 4), ("b", 2), ("c", 4)]).held(RACK, "a", 1);
    assert_eq!(decide(&cluster, &request(Some(0), vec![running(0, 4, 0)])), ["c: BestFit"]);
    assert_eq!(decide(&cluster, &request(Some(0), vec![running(0, 4, 1)])), ["c: BestFit"]);
}

#[test]
fn leader_and_workers_have_to_fit_together() {
    // Workers take whole nodes. In "a" the leader would need one of the four that they take; "b" has a small node besides.
    let cluster = Table::new([RACK])
        .without_shapes()
        .shape(&[("cpu", 1)], &[])
        .shape(&[("cpu", 8)], &[])
        .nodes_with(4, ["a"], &[("cpu", 8)])
        .nodes_with(4, ["b"], &[("cpu", 8)])
        .nodes_with(1, ["b"], &[("cpu", 1)]);
    let pods = vec![Demand { shape: 0, pods: 1 }, Demand { shape: 1, pods: 4 }];
    // The table packs in the order of the nodes, so the small one comes last there; the leader is asked for last too.
    let unit = unit_of(0, pods.into_iter().rev().collect());
    assert_eq!(decide(&cluster, &request(Some(0), vec![unit])), ["b: BestFit"]);
}

#[test]
fn a_domain_that_is_too_small_by_one_holds_the_whole_group() {
    let cluster = racks(&[("a", 3), ("b", 7)]);
    let answers = place(&cluster, &request(Some(0), vec![unit_of(0, vec![Demand { shape: 0, pods: 8 }])]));
    assert_eq!(cluster.in_words(&answers[0].decision), "hold");
    assert_eq!(answers[0].reason.code, "NoDomainLargeEnough");
    assert_eq!(answers[0].reason.message, "needs 8 pods in one example.com/rack; the largest free one, b, has room for 7");
}

#[test]
fn domains_that_all_are_held_are_another_reason() {
    let cluster = racks(&[("a", 4), ("b", 4)]).held(RACK, "a", 1);
    let answers = place(&cluster, &request(Some(0), vec![unit(0, 4), unit(1, 4)]));
    assert_eq!(answers[1].reason.code, "AllDomainsHeld");
    assert_eq!(
        answers[1].reason.message,
        "needs 4 pods in one example.com/rack; there is no free one; 2 are held by other groups"
    );
}

#[test]
fn a_label_that_no_node_carries_is_another_reason() {
    let cluster = Table::new([RACK]).nodes(4, [""]);
    let answers = place(&cluster, &request(Some(0), vec![unit(0, 4)]));
    assert_eq!(answers[0].reason.code, "NoLabel");
    assert_eq!(answers[0].reason.message, "no node carries the label example.com/rack");
}

#[test]
fn without_exclusive_placement_the_scheduler_decides() {
    let cluster = racks(&[("a", 4)]);
    let answers = place(&cluster, &request(None, vec![unit(0, 9)]));
    assert_eq!(cluster.in_words(&answers[0].decision), "any");
    assert_eq!(answers[0].reason.message, "ml/train asks for no topology; the scheduler decides");
}

#[test]
fn a_unit_finds_room_beyond_the_domains_that_are_asked_for_first() {
    let names: Vec<String> = (0..75).map(|rack| format!("r{rack:02}")).collect();
    let sizes: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 4)).collect();
    let units = (0..66).map(|id| unit(id, 4)).chain([running(66, 4, 74)]).collect();
    let answers = decide(&racks(&sizes), &request(Some(0), units));
    assert_eq!(answers[0], "r00 r66 r67 r68 r69 r70 r71 r72: BestFit");
    assert_eq!(answers[65], "r65 r66 r67 r68 r69 r70 r71 r72: BestFit");
    assert_eq!(answers[66], "r74: Kept");
}
