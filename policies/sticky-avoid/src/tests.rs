//! Decisions over small clusters: machines with room for one pod, in racks, in zones.

use muster_placement_sdk::testing::{Table, request, unit, unit_of};
use muster_placement_sdk::{Answer, BadNode, Demand, NO_DOMAIN, NO_NODE, Request, Unit, Whereabouts};

use crate::decide::place;
use crate::settings::parse;

const ZONE: &str = "example.com/zone";
const RACK: &str = "example.com/rack";
const KEYS: &str = r#"{"keys":["example.com/zone","example.com/rack"]}"#;

/// Nodes 0–3 in rack a, 4–7 in rack b, both in zone y; 8–11 in rack c of zone z.
fn cluster() -> Table {
    Table::new([ZONE, RACK]).nodes(4, ["y", "a"]).nodes(4, ["y", "b"]).nodes(4, ["z", "c"])
}

/// A unit that was on these nodes, and in the domains of both levels with these ids.
fn was(id: u32, nodes: &[u32], domains: [u32; 2]) -> Unit {
    let previous = Some(Whereabouts { domains: domains.to_vec(), nodes: nodes.to_vec() });
    Unit { previous, ..unit_of(id, vec![Demand { shape: 0, pods: u32::try_from(nodes.len()).unwrap() }]) }
}

fn in_rack_a(id: u32, nodes: &[u32]) -> Unit {
    was(id, nodes, [0, 0])
}

fn after_failures(units: Vec<Unit>, bad: &[(u32, u32)]) -> Request {
    let bad_nodes = bad.iter().map(|(node, failures)| BadNode { node: *node, failures: *failures, age_ms: 60_000 }).collect();
    Request { bad_nodes, ..request(None, units) }
}

fn answers(document: &str, cluster: &Table, request: &Request) -> Vec<Answer> {
    place(&parse(document).unwrap(), cluster, request)
}

/// Decision, code and avoided nodes.
fn decide(cluster: &Table, request: &Request) -> Vec<String> {
    let words = |answer: &Answer| {
        let place = cluster.in_words(&answer.decision).replace("example.com/", "").replace("n00", "");
        let avoid: Vec<_> = answer.avoid.iter().map(|node| format!(" not {node}")).collect();
        format!("{}: {place}{}", answer.reason.code, avoid.concat())
    };
    answers(KEYS, cluster, request).iter().map(words).collect()
}

fn down(table: Table, node: usize) -> Table {
    table.change(node, |node| node.usable = false)
}

#[test]
fn a_group_goes_back_to_the_nodes_it_had_rank_by_rank() {
    assert_eq!(decide(&cluster(), &request(None, vec![in_rack_a(0, &[2, 0, 1])])), ["SameNodes: 02 00 01"]);
    let reason = &answers(KEYS, &cluster(), &request(None, vec![in_rack_a(0, &[2, 0, 1])]))[0].reason;
    assert_eq!(reason.message, "back on 3 same nodes in example.com/rack=a");
}

#[test]
fn a_node_that_failed_is_replaced_inside_the_rack() {
    // The node is ready again, but it has just failed this group.
    let request = after_failures(vec![in_rack_a(0, &[0, 1, 2])], &[(1, 1)]);
    assert_eq!(decide(&cluster(), &request), ["NodesReplaced: 00 03 02 not 1"]);
    let reason = &answers(KEYS, &cluster(), &request)[0].reason;
    assert_eq!(reason.message, "back on 2 of 3 nodes in example.com/rack=a, with 1 other node, away from n0001");
}

#[test]
fn two_bad_nodes_of_many_are_replaced_and_the_others_kept() {
    let cluster = Table::new([ZONE, RACK]).nodes(503, ["y", "a"]);
    let before: Vec<u32> = (0..500).collect();
    let request = after_failures(vec![in_rack_a(0, &before)], &[(100, 1)]);
    let answer = answers(KEYS, &down(cluster, 200), &request).remove(0);
    let muster_placement_sdk::Decision::Pinned(nodes) = &answer.decision else { panic!("{answer:?}") };
    let changed: Vec<_> = nodes.iter().zip(&before).filter(|(now, before)| now != before).collect();
    assert_eq!(changed, [(&500, &100), (&501, &200)]);
    assert_eq!(answer.avoid, [100]);
}

#[test]
fn a_rack_without_a_replacement_is_left_for_another_in_the_zone() {
    let request = after_failures(vec![in_rack_a(0, &[0, 1, 2, 3])], &[(1, 1)]);
    assert_eq!(decide(&cluster(), &request), ["SameDomain: zone=y not 1"]);
}

#[test]
fn where_the_zone_has_no_room_either_the_scheduler_decides_and_keeps_away() {
    let full = [4, 5, 6, 7].into_iter().fold(cluster(), down);
    let request = after_failures(vec![in_rack_a(0, &[0, 1, 2, 3])], &[(1, 1)]);
    assert_eq!(decide(&full, &request), ["Elsewhere: any not 1"]);
    let reason = &answers(KEYS, &full, &request)[0].reason;
    assert_eq!(reason.message, "where it was is no room any more; the scheduler decides, away from n0001");
}

#[test]
fn a_group_without_a_past_only_keeps_away_from_nodes_that_fail_again_and_again() {
    assert_eq!(decide(&cluster(), &after_failures(vec![unit(0, 3)], &[(1, 1), (2, 2)])), ["Elsewhere: any not 2"]);
}

#[test]
fn nodes_that_are_gone_are_replaced_too() {
    let unit = in_rack_a(0, &[0, NO_NODE, 2]);
    assert_eq!(decide(&cluster(), &request(None, vec![unit])), ["NodesReplaced: 00 01 02"]);
}

#[test]
fn without_any_known_node_the_domain_is_kept() {
    let unit = in_rack_a(0, &[NO_NODE, NO_NODE]);
    assert_eq!(decide(&cluster(), &request(None, vec![unit])), ["SameDomain: rack=a"]);
}

#[test]
fn pods_that_need_not_return_to_their_nodes_return_to_their_rack() {
    let document = KEYS.replace("{\"keys\"", "{\"pin\":false,\"keys\"");
    let cluster = cluster();
    let answer = answers(&document, &cluster, &request(None, vec![in_rack_a(0, &[0, 1])])).remove(0);
    assert_eq!(cluster.in_words(&answer.decision), "example.com/rack=a");
}

#[test]
fn a_group_that_was_in_several_racks_gets_its_nodes_and_replacements_from_the_zone() {
    let unit = was(0, &[0, 4, 5], [0, NO_DOMAIN]);
    let request = after_failures(vec![unit], &[(4, 1)]);
    assert_eq!(decide(&cluster(), &request), ["NodesReplaced: 00 01 05 not 4"]);
}

#[test]
fn what_one_group_gets_back_is_not_given_to_another() {
    let units = vec![in_rack_a(0, &[0, 1]), in_rack_a(1, &[1, 2])];
    assert_eq!(decide(&cluster(), &request(None, units)), ["SameNodes: 00 01", "NodesReplaced: 03 02"]);
    let units = vec![in_rack_a(0, &[0, 1]), in_rack_a(1, &[NO_NODE; 2]), in_rack_a(2, &[NO_NODE; 2])];
    assert_eq!(decide(&cluster(), &request(None, units)), ["SameNodes: 00 01", "SameDomain: rack=a", "SameDomain: zone=y"]);
}

#[test]
fn pods_that_run_are_joined_before_anybody_goes_back() {
    let current = Some(Whereabouts { domains: vec![0, 0], nodes: vec![3, NO_NODE, NO_NODE] });
    let running = Unit { current, ..unit(1, 3) };
    let answers = decide(&cluster(), &request(None, vec![in_rack_a(0, &[NO_NODE; 2]), running]));
    assert_eq!(answers, ["SameDomain: zone=y", "Kept: rack=a"]);
}

#[test]
fn pods_of_several_shapes_share_a_node_only_as_far_as_there_is_room() {
    // A node has room for two leaders or for one worker.
    let table = Table::new([ZONE, RACK]).without_shapes().shape(&[("cpu", 1)], &[]).shape(&[("cpu", 2)], &[]);
    let cluster = table.nodes_with(3, ["y", "a"], &[("cpu", 2)]);
    let pods = |workers| vec![Demand { shape: 0, pods: 1 }, Demand { shape: 1, pods: workers }];
    let was = |nodes: &[u32]| {
        let previous = Some(Whereabouts { domains: vec![0, 0], nodes: nodes.to_vec() });
        Unit { previous, ..unit_of(0, pods(1)) }
    };
    assert_eq!(decide(&cluster, &request(None, vec![was(&[0, 1])])), ["SameNodes: 00 01"]);
    assert_eq!(decide(&cluster, &request(None, vec![was(&[0, 0])])), ["NodesReplaced: 00 01"]);
}

#[test]
fn an_exclusive_group_returns_only_to_a_free_domain() {
    let exclusive = |unit: Unit| Request { exclusive: Some(1), ..request(None, vec![unit]) };
    assert_eq!(decide(&cluster(), &exclusive(in_rack_a(0, &[0, 1]))), ["SameNodes: 00 01"]);
    let held = cluster().held(RACK, "a", 1);
    assert_eq!(decide(&held, &exclusive(in_rack_a(0, &[0, 1]))), ["Elsewhere: rack=b"]);
}

#[test]
fn an_exclusive_group_finds_room_beside_the_nodes_it_avoids() {
    let exclusive = |unit: Unit| Request { exclusive: Some(1), ..after_failures(vec![unit], &[(0, 2), (4, 2)]) };
    assert_eq!(decide(&cluster(), &exclusive(unit(0, 4))), ["Elsewhere: rack=c not 0 not 4"]);
    let held = cluster().held(RACK, "c", 1);
    assert_eq!(decide(&held, &exclusive(unit(0, 4))), ["NoFreeDomain: hold not 0 not 4"]);
    assert_eq!(
        answers(KEYS, &held, &exclusive(unit(0, 4)))[0].reason.message,
        "2 free domains of example.com/rack have room for it only with nodes that it avoids: n0000, n0004"
    );
}

#[test]
fn two_exclusive_groups_never_get_one_domain() {
    let units = vec![in_rack_a(0, &[0]), in_rack_a(1, &[1]), unit(2, 1), unit(3, 1)];
    let request = Request { exclusive: Some(1), ..request(None, units) };
    assert_eq!(decide(&cluster(), &request), ["SameNodes: 00", "Elsewhere: rack=b", "Elsewhere: rack=c", "NoFreeDomain: hold"]);
}
