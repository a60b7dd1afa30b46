//! Decisions over zones of whole machines, one pod a machine.

use muster_placement_sdk::testing::{Table, request, unit};
use muster_placement_sdk::{Answer, Cluster, Decision, Failure, NO_DOMAIN, NO_NODE, Peer, Placed, Request, Unit, Whereabouts};

use crate::decide::place;
use crate::settings::parse;

const SKEW: &str = r#"{"key":"zone"}"#;

fn zones(rooms: &[(&str, usize)]) -> Table {
    rooms.iter().fold(Table::new(["zone"]), |table, (name, room)| table.nodes(*room, [*name]))
}

fn placed(domains: &[u32]) -> Vec<Placed> {
    (100..).zip(domains).map(|(id, domain)| Placed { id, domains: vec![*domain] }).collect()
}

fn asked(units: u32, pods: u32, there: &[u32]) -> Request {
    Request { placed: placed(there), ..request(None, (0..units).map(|id| unit(id, pods)).collect()) }
}

fn answers(settings: &str, cluster: &Table, request: &Request) -> Vec<Answer> {
    place(&parse(settings).unwrap(), cluster, request).unwrap()
}

/// The first choices in words.
fn words(settings: &str, cluster: &Table, request: &Request) -> Vec<String> {
    let first = |answer: &Answer| {
        let words = cluster.in_words(&answer.decision);
        words.split(" or ").next().unwrap_or_default().rsplit('=').next().unwrap_or_default().to_owned()
    };
    answers(settings, cluster, request).iter().map(first).collect()
}

#[test]
fn groups_go_where_the_fewest_are_and_fit_best_among_equals() {
    let cluster = zones(&[("a", 20), ("b", 9), ("c", 12)]);
    assert_eq!(words(SKEW, &cluster, &asked(4, 3, &[])), ["b", "c", "a", "b"]);
    assert_eq!(words(SKEW, &cluster, &asked(3, 3, &[1, 1, 2])), ["a", "c", "a"]);
}

#[test]
fn a_zone_never_has_more_than_the_skew_more_than_another() {
    // Zone b has room for one group only.
    let cluster = zones(&[("a", 20), ("b", 3)]);
    assert_eq!(words(SKEW, &cluster, &asked(4, 3, &[])), ["b", "a", "a", "hold"]);
    assert_eq!(words(r#"{"key":"zone","maxSkew":2}"#, &cluster, &asked(4, 3, &[])), ["b", "a", "a", "a"]);
    let waiting = answers(SKEW, &cluster, &asked(4, 3, &[])).remove(3);
    assert_eq!((waiting.decision, waiting.reason.code.as_str()), (Decision::Hold(30_000), "WouldBeSkewed"));
    assert_eq!(
        waiting.reason.message,
        "a zone may have at most 1 group more than another; 1 with room for 3 pods have too many groups, and the others no room"
    );
}

#[test]
fn a_zone_that_could_never_take_a_group_does_not_hold_the_others_back() {
    assert_eq!(words(SKEW, &zones(&[("a", 20), ("b", 2)]), &asked(3, 3, &[])), ["a", "a", "a"]);
}

#[test]
fn a_share_opens_so_many_domains_before_one_is_used_again() {
    let cluster = zones(&[("a", 9), ("b", 9), ("c", 9), ("d", 9), ("e", 9)]);
    // 30 percent: four domains, then any with no more than that.
    let settings = r#"{"key":"zone","maxSharePercent":30}"#;
    let two = zones(&[("a", 9), ("b", 9)]);
    assert_eq!(words(settings, &two, &asked(3, 2, &[])), ["a", "b", "hold"]);
    assert_eq!(words(settings, &cluster, &asked(6, 2, &[])), ["a", "b", "c", "d", "e", "a"]);
    assert_eq!(words(r#"{"key":"zone","maxSharePercent":50}"#, &two, &asked(4, 2, &[])), ["a", "b", "a", "b"]);
}

#[test]
fn a_preferred_limit_only_orders_the_domains() {
    let cluster = zones(&[("a", 20), ("b", 3)]);
    let settings = r#"{"key":"zone","mode":"Preferred"}"#;
    let skewed = answers(settings, &cluster, &asked(4, 3, &[])).remove(3);
    assert_eq!(cluster.in_words(&skewed.decision), "zone=a");
    assert_eq!(skewed.reason.code, "Skewed");
    assert_eq!(
        skewed.reason.message,
        "zone=a: zone=a has 2 other groups, which is more than asked for, and those with fewer have no room"
    );
}

#[test]
fn where_no_domain_has_room_a_preferred_group_is_left_to_the_scheduler() {
    let cluster = zones(&[("a", 2), ("b", 2)]);
    let waiting = answers(SKEW, &cluster, &asked(1, 3, &[])).remove(0);
    assert_eq!((waiting.decision, waiting.reason.code.as_str()), (Decision::Hold(30_000), "NoDomainLargeEnough"));
    assert_eq!(waiting.reason.message, "needs 3 pods in one zone; the largest one, a, has room for 2");
    assert_eq!(words(r#"{"key":"zone","mode":"Preferred"}"#, &cluster, &asked(1, 3, &[])), ["any"]);
}

#[test]
fn groups_of_peers_are_counted() {
    let cluster = zones(&[("a", 9), ("b", 9)]);
    let peer = |id, domain| Peer { owner: "ml/decode".to_owned(), labels: Vec::new(), id, domains: vec![domain] };
    let request = Request { peers: vec![peer(0, 0), peer(1, 0), peer(2, NO_DOMAIN)], ..asked(2, 2, &[]) };
    assert_eq!(words(SKEW, &cluster, &request), ["b", "b"]);
}

#[test]
fn the_ranked_choices_are_all_within_the_limit() {
    let cluster = zones(&[("a", 9), ("b", 9), ("c", 9)]);
    let first = answers(SKEW, &cluster, &asked(1, 2, &[0])).remove(0);
    assert_eq!(cluster.in_words(&first.decision), "zone=b or zone=c");
}

#[test]
fn a_unit_stays_where_it_runs_whatever_the_others_do() {
    let cluster = zones(&[("a", 9), ("b", 9)]);
    let current = Some(Whereabouts { domains: vec![0], nodes: vec![NO_NODE; 2] });
    let request = Request { placed: placed(&[0, 0]), ..request(None, vec![unit(0, 2), Unit { current, ..unit(1, 2) }]) };
    assert_eq!(words(SKEW, &cluster, &request), ["b", "a"]);
}

#[test]
fn an_exclusive_set_gets_free_racks_in_different_zones() {
    let table =
        Table::new(["zone", "rack"]).nodes(4, ["a", "a1"]).nodes(4, ["a", "a2"]).nodes(3, ["b", "b1"]).nodes(4, ["b", "b2"]);
    let cluster = table.held("rack", "b1", 1);
    let exclusive = Some(cluster.level("rack"));
    let request = request(exclusive, (0..4).map(|id| unit(id, 3)).collect());
    assert_eq!(words(SKEW, &cluster, &request), ["a1", "b2", "a2", "hold"]);
    assert_eq!(cluster.domain_count(1), 4);
}

#[test]
fn without_the_label_nothing_can_be_spread() {
    let cluster = zones(&[("", 4)]);
    let failure = place(&parse(SKEW).unwrap(), &cluster, &asked(1, 2, &[])).unwrap_err();
    assert_eq!(failure, Failure::Unsupported("no node carries the label zone".to_owned()));
    assert_eq!(words(r#"{"key":"zone","mode":"Preferred"}"#, &cluster, &asked(1, 2, &[])), ["any"]);
}

#[test]
fn groups_in_domains_that_are_gone_are_not_counted() {
    assert_eq!(words(SKEW, &zones(&[("a", 4), ("b", 5)]), &asked(1, 2, &[NO_DOMAIN, 77])), ["a"]);
}
