//! Decisions over small clusters: pools of whole machines, one pod a machine.

use muster_placement_sdk::testing::{Table, request, unit, unit_of};
use muster_placement_sdk::{Decision, Demand, Failure, NO_NODE, Request, Unit, Whereabouts};

use crate::decide::place;
use crate::settings::{Settings, parse};

const POOL: &str = "cloud.google.com/gke-nodepool";
const RACK: &str = "example.com/rack";

fn pools(pools: &[(&str, usize)]) -> Table {
    pools.iter().fold(Table::new([POOL]), |table, (name, size)| table.nodes(*size, [*name]))
}

fn racks(nodes: &[(&str, &str)]) -> Table {
    nodes.iter().fold(Table::new([POOL, RACK]), |table, (pool, rack)| table.nodes(1, [*pool, *rack]))
}

/// A unit whose pods run in that domain of the first level.
fn running(id: u32, pods: u32, domain: u32) -> Unit {
    Unit { current: Some(Whereabouts { domains: vec![domain], nodes: vec![NO_NODE; pods as usize] }), ..unit(id, pods) }
}

fn settings(document: &str) -> Settings {
    parse(document).unwrap()
}

/// The first choices in words: `a`, `hold`, `any`.
fn decide(document: &str, cluster: &Table, request: &Request) -> Vec<String> {
    let word = |decision: &Decision| {
        let words = cluster.in_words(decision);
        let first = words.split(" or ").next().unwrap_or_default();
        first.rsplit('=').next().unwrap_or_default().to_owned()
    };
    place(&settings(document), cluster, request).unwrap().iter().map(|answer| word(&answer.decision)).collect()
}

#[test]
fn a_unit_goes_where_it_leaves_least_over() {
    let cluster = pools(&[("a", 8), ("b", 3), ("c", 4)]);
    assert_eq!(decide("{}", &cluster, &request(None, vec![unit(0, 3)])), ["b"]);
}

#[test]
fn units_of_one_request_fill_a_pool_before_they_open_the_next() {
    let cluster = pools(&[("a", 4), ("b", 5)]);
    let units = (0..5).map(|id| unit(id, 2)).collect();
    assert_eq!(decide("{}", &cluster, &request(None, units)), ["a", "a", "b", "b", "hold"]);
}

#[test]
fn an_exclusive_set_gets_a_pool_for_every_unit() {
    let cluster = pools(&[("a", 4), ("b", 5), ("c", 4)]).held(POOL, "a", 1);
    let units = (0..3).map(|id| unit(id, 2)).collect();
    assert_eq!(decide("{}", &cluster, &request(Some(0), units)), ["c", "b", "hold"]);
}

#[test]
fn pools_that_are_not_shared_are_exclusive_too() {
    let cluster = pools(&[("a", 4), ("b", 4)]).held(POOL, "a", 2);
    let units = vec![unit(0, 2), unit(1, 2)];
    assert_eq!(decide(r#"{"shared":false}"#, &cluster, &request(None, units)), ["b", "hold"]);
}

#[test]
fn what_fits_nowhere_is_held_with_numbers() {
    let cluster = pools(&[("a", 8), ("b", 16), ("c", 4), ("d", 16)]).held(POOL, "b", 1).held(POOL, "d", 3);
    let answers = place(&settings("{}"), &cluster, &request(Some(0), vec![unit(0, 16)])).unwrap();
    assert_eq!(answers[0].decision, Decision::Hold(30_000));
    assert_eq!(answers[0].reason.code, "NoPoolLargeEnough");
    assert_eq!(
        answers[0].reason.message,
        "needs 16 pods in one cloud.google.com/gke-nodepool; the largest free one, a, has room for 8; \
         2 are held by other groups"
    );
}

#[test]
fn the_answer_ranks_the_pools_that_would_do() {
    let cluster = (0..9).fold(Table::new([POOL]), |table, pool| table.nodes(12 - pool, [format!("p{pool}").as_str()]));
    let answers = place(&settings("{}"), &cluster, &request(None, vec![unit(0, 4)])).unwrap();
    let ranked: Vec<_> = (1..=8).rev().map(|pool| format!("{POOL}=p{pool}")).collect();
    assert_eq!(cluster.in_words(&answers[0].decision), ranked.join(" or "));
}

#[test]
fn a_leader_that_fits_nowhere_is_said_to_be_the_trouble() {
    let table = Table::new([POOL]).without_shapes().shape(&[("cpu", 96)], &[]).shape(&[("gpu", 8)], &[]);
    let cluster = table.nodes_with(4, ["a"], &[("gpu", 8), ("cpu", 48)]);
    let answers = place(&settings("{}"), &cluster, &request(None, vec![unit(0, 3)])).unwrap();
    assert_eq!(
        answers[0].reason.message,
        "needs 3 pods in one cloud.google.com/gke-nodepool; the largest one, a, has room for 4 workers and none for its leader"
    );
}

#[test]
fn a_unit_of_equal_pods_needs_room_for_each() {
    let cluster = pools(&[("a", 8)]);
    let unit = unit_of(0, vec![Demand { shape: 0, pods: 9 }]);
    let answers = place(&settings("{}"), &cluster, &request(None, vec![unit])).unwrap();
    assert_eq!(
        answers[0].reason.message,
        "needs 9 pods in one cloud.google.com/gke-nodepool; the largest one, a, has room for 8"
    );
}

#[test]
fn all_pools_held_is_another_reason_than_all_too_small() {
    let cluster = pools(&[("a", 8)]).held(POOL, "a", 1);
    let answers = place(&settings("{}"), &cluster, &request(Some(0), vec![unit(0, 2)])).unwrap();
    assert_eq!(answers[0].reason.code, "NoFreePool");
    assert_eq!(
        answers[0].reason.message,
        "needs 2 pods in one cloud.google.com/gke-nodepool; there is no free one; 1 is held by another group"
    );
}

#[test]
fn where_no_preferred_pool_fits_the_scheduler_favours_the_roomiest() {
    let cluster = pools(&[("a", 2), ("b", 3), ("c", 0), ("d", 1)]);
    let answers = place(&settings(r#"{"mode":"Preferred"}"#), &cluster, &request(None, vec![unit(0, 2), unit(1, 4)])).unwrap();
    assert_eq!(cluster.in_words(&answers[0].decision), format!("{POOL}=a or {POOL}=b"));
    assert_eq!(cluster.in_words(&answers[1].decision), format!("prefers {POOL}=b or {POOL}=d"));
    assert_eq!(answers[1].reason.code, "NoPoolFits");
    assert_eq!(
        answers[1].reason.message,
        "needs 4 pods in one cloud.google.com/gke-nodepool; the largest one, b, has room for 3; \
         the scheduler favours cloud.google.com/gke-nodepool=b"
    );
}

#[test]
fn where_no_preferred_pool_has_any_room_the_scheduler_is_told_nothing() {
    let cluster = pools(&[("a", 2)]);
    let units = vec![unit(0, 2), unit(1, 2)];
    assert_eq!(decide(r#"{"mode":"Preferred"}"#, &cluster, &request(None, units)), ["a", "any"]);
}

#[test]
fn an_exclusive_set_waits_even_where_pools_are_only_preferred() {
    let cluster = pools(&[("a", 2)]).held(POOL, "a", 1);
    assert_eq!(decide(r#"{"mode":"Preferred"}"#, &cluster, &request(Some(0), vec![unit(0, 2)])), ["hold"]);
}

#[test]
fn a_unit_stays_where_it_runs_and_goes_before_the_others() {
    let cluster = pools(&[("a", 2), ("b", 4)]);
    assert_eq!(decide("{}", &cluster, &request(Some(0), vec![unit(0, 2), running(1, 2, 0)])), ["b", "a"]);
}

#[test]
fn a_unit_leaves_a_pool_that_became_too_small() {
    let cluster = pools(&[("a", 2), ("b", 4)]);
    assert_eq!(decide("{}", &cluster, &request(None, vec![running(0, 3, 0)])), ["b"]);
}

#[test]
fn the_first_key_that_some_node_carries_counts() {
    let cluster = Table::new(["absent", RACK]).nodes(2, ["", "x"]);
    let keys = settings(r#"{"keys":["absent","example.com/rack"]}"#);
    let answers = place(&keys, &cluster, &request(None, vec![unit(0, 2)])).unwrap();
    assert_eq!(cluster.in_words(&answers[0].decision), "example.com/rack=x");
}

#[test]
fn a_cluster_without_pools_is_not_supported() {
    let cluster = Table::new([POOL]);
    let failure = place(&settings(r#"{"keys":["pool"]}"#), &cluster, &request(None, vec![unit(0, 2)])).unwrap_err();
    assert_eq!(failure, Failure::Unsupported("no node carries a pool label: looked for pool".to_owned()));
}

#[test]
fn exclusive_racks_are_taken_inside_one_pool() {
    // r1 lies across two pools, r2 is held, r3 is inside pool b.
    let nodes = [("a", "r1"), ("b", "r1"), ("a", "r2"), ("a", "r2"), ("b", "r3"), ("b", "r3")];
    let cluster = racks(&nodes).held(RACK, "r2", 1);
    assert_eq!(decide("{}", &cluster, &request(Some(1), vec![unit(0, 2), unit(1, 2)])), ["r3", "hold"]);
}

#[test]
fn exclusive_racks_of_one_pool_go_to_one_unit_where_pools_are_not_shared() {
    let cluster = racks(&[("a", "r1"), ("a", "r1"), ("a", "r2"), ("a", "r2")]);
    let units = || vec![unit(0, 2), unit(1, 2)];
    assert_eq!(decide("{}", &cluster, &request(Some(1), units())), ["r1", "r2"]);
    assert_eq!(decide(r#"{"shared":false}"#, &cluster, &request(Some(1), units())), ["r1", "hold"]);
}

#[test]
fn an_exclusive_zone_holds_one_unit_in_one_of_its_pools() {
    let zone = "zone";
    let table = Table::new([POOL, zone]).nodes(4, ["a", "z1"]).nodes(2, ["b", "z1"]).nodes(4, ["c", "z2"]).nodes(4, ["d", "z3"]);
    let cluster = table.held(zone, "z3", 1);
    let units = (0..3).map(|id| unit(id, 2)).collect();
    assert_eq!(decide("{}", &cluster, &request(Some(1), units)), ["b", "c", "hold"]);
}
