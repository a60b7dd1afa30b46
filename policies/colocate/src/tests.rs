//! Decisions over small clusters: racks of whole machines, one pod a machine.

use muster_placement_sdk::testing::{Table, request, unit};
use muster_placement_sdk::{Answer, Entry, Failure, NO_DOMAIN, NO_NODE, Peer, Placed, Request, Unit, Whereabouts};

use crate::decide::place;
use crate::settings::parse;

const RACK: &str = "example.com/rack";
const HOST: &str = "example.com/host";

/// Two prefill groups of two pods and one decode group of four: eight pods.
fn document(more: &str) -> String {
    format!(
        r#"{{{more}"keys":["{RACK}"],"roles":[{{"role":"prefill","count":2,"pods":2}},{{"role":"decode","count":1,"pods":4}}]}}"#
    )
}

fn racks(racks: &[(&str, usize)]) -> Table {
    racks.iter().fold(Table::new([RACK]), |table, (name, size)| table.nodes(*size, [*name]))
}

fn role(name: &str) -> Vec<Entry> {
    vec![Entry { key: "app.kubernetes.io/component".to_owned(), value: name.to_owned() }]
}

fn asks(own: &str, units: Vec<Unit>) -> Request {
    Request { labels: role(own), ..request(None, units) }
}

fn peer(of: &str, id: u32, domain: u32) -> Peer {
    Peer { owner: format!("ml/{of}"), labels: role(of), id, domains: vec![domain] }
}

fn answers(document: &str, cluster: &Table, request: &Request) -> Vec<Answer> {
    place(&parse(document).unwrap(), cluster, request).unwrap()
}

fn decide(more: &str, cluster: &Table, request: &Request) -> Vec<String> {
    let words = |answer: &Answer| {
        let place = cluster.in_words(&answer.decision).replace("example.com/", "").replace("rack=", "");
        format!("{place}: {}", answer.reason.code)
    };
    answers(&document(more), cluster, request).iter().map(words).collect()
}

#[test]
fn the_first_role_begins_a_mix_where_all_of_it_has_room() {
    // "a" would be the best fit for one prefill group, and for two, but not for the decode group as well.
    let cluster = racks(&[("a", 4), ("b", 8), ("c", 16)]);
    let units = vec![unit(0, 2), unit(1, 2), unit(2, 2)];
    assert_eq!(decide("", &cluster, &asks("prefill", units)), ["b: Begun", "b: Joined", "c: Begun"]);
}

#[test]
fn the_other_role_joins_the_mixes_that_lack_it() {
    let cluster = racks(&[("a", 8), ("b", 8), ("c", 8)]);
    let peers = vec![peer("prefill", 0, 2), peer("prefill", 1, 2), peer("prefill", 2, 1)];
    let request = Request { peers, ..asks("decode", vec![unit(0, 4), unit(1, 4), unit(2, 4)]) };
    // "c" lacks only the decode group, "b" a prefill group too.
    assert_eq!(decide("", &cluster, &request), ["c: Joined", "b: Joined", "a: Begun"]);
    let reason = &answers(&document(""), &cluster, &request)[0].reason;
    assert_eq!(reason.message, "joins 2 prefill and 0 decode in example.com/rack=c");
}

#[test]
fn own_groups_that_are_placed_count() {
    let cluster = racks(&[("a", 8), ("b", 8)]);
    let placed = vec![Placed { id: 0, domains: vec![0] }, Placed { id: 1, domains: vec![0] }];
    let request =
        Request { placed, peers: vec![peer("decode", 0, 0), peer("decode", 1, 1)], ..asks("prefill", vec![unit(2, 2)]) };
    assert_eq!(decide("", &cluster, &request), ["b: Joined"]);
}

#[test]
fn a_mix_without_room_for_one_more_is_passed_over() {
    let cluster = racks(&[("a", 3), ("b", 8)]);
    let request = Request { peers: vec![peer("prefill", 0, 0)], ..asks("decode", vec![unit(0, 4)]) };
    assert_eq!(decide("", &cluster, &request), ["b: Begun"]);
}

#[test]
fn a_domain_that_has_a_mix_takes_another_only_with_room_for_what_the_first_lacks() {
    let cluster = |size| racks(&[("a", size)]);
    // One prefill group of the first mix and its decode group are missing; two more groups are asked for.
    let request = Request { placed: vec![Placed { id: 0, domains: vec![0] }], ..asks("prefill", vec![unit(1, 2), unit(2, 2)]) };
    assert_eq!(decide("", &cluster(14), &request), ["a: Joined", "a: Begun"]);
    assert_eq!(decide("", &cluster(13), &request), ["a: Joined", "hold: NoMix"]);
}

#[test]
fn what_fits_nowhere_is_held_with_numbers() {
    let cluster = racks(&[("a", 7), ("b", 4)]);
    let answer = answers(&document(""), &cluster, &asks("prefill", vec![unit(0, 2)])).remove(0);
    assert_eq!(cluster.in_words(&answer.decision), "hold");
    assert_eq!(
        answer.reason.message,
        "no mix has a place for it, and a new one of 2 prefill and 1 decode needs 8 pods in one example.com/rack; the largest one, \
         a, has room for each kind of them, and not for all together"
    );
}

#[test]
fn preferred_company_is_done_without() {
    let cluster = racks(&[("a", 7)]);
    let units = vec![unit(0, 4), unit(1, 4)];
    assert_eq!(decide(r#""mode":"Preferred","#, &cluster, &asks("decode", units)), ["a: Alone", "any: NoMixFits"]);
}

#[test]
fn an_exclusive_slice_has_a_domain_for_itself() {
    let exclusive = r#""exclusivity":"ExclusiveSlice","#;
    let cluster = racks(&[("a", 20), ("b", 20)]).held(RACK, "a", 1);
    let units = || (0..3).map(|id| unit(id, 2)).collect();
    assert_eq!(decide(exclusive, &cluster, &asks("prefill", units())), ["b: Begun", "b: Joined", "hold: NoMix"]);
    // The one who holds "a" is a peer.
    let request = Request { peers: vec![peer("decode", 0, 0)], ..asks("prefill", units()) };
    assert_eq!(decide(exclusive, &cluster, &request), ["a: Joined", "a: Joined", "b: Begun"]);
}

#[test]
fn an_exclusive_topology_is_shared_by_mixes_of_one_application() {
    let exclusive = r#""exclusivity":"ExclusiveTopology","#;
    let cluster = racks(&[("a", 20), ("b", 20)]).held(RACK, "a", 1);
    let units = (0..3).map(|id| unit(id, 2)).collect();
    assert_eq!(decide(exclusive, &cluster, &asks("prefill", units)), ["b: Begun", "b: Joined", "b: Begun"]);
}

#[test]
fn a_unit_stays_where_it_runs_and_returns_where_it_was() {
    let cluster = racks(&[("a", 8), ("b", 8)]);
    let at = |domain| Some(Whereabouts { domains: vec![domain], nodes: vec![NO_NODE; 4] });
    let running = Unit { current: at(1), ..unit(1, 4) };
    assert_eq!(decide("", &cluster, &asks("decode", vec![unit(0, 4), running])), ["a: Begun", "b: Kept"]);
    let peers = vec![peer("prefill", 0, 0), peer("prefill", 1, 1)];
    let request = Request { peers, ..asks("decode", vec![Unit { previous: at(1), ..unit(0, 4) }]) };
    assert_eq!(decide("", &cluster, &request), ["b: Joined"]);
}

#[test]
fn peers_without_a_place_do_not_count() {
    let cluster = racks(&[("a", 8)]);
    let request = Request { peers: vec![peer("prefill", 0, NO_DOMAIN)], ..asks("decode", vec![unit(0, 4)]) };
    assert_eq!(decide("", &cluster, &request), ["a: Begun"]);
}

#[test]
fn a_set_without_a_role_of_the_mix_is_refused() {
    let cluster = racks(&[("a", 8)]);
    let answer = answers(&document(""), &cluster, &asks("router", vec![unit(0, 1)])).remove(0);
    assert_eq!(answer.reason.code, "NoRole");
    assert_eq!(answer.reason.message, "label app.kubernetes.io/component of the set should be one of: prefill, decode");
}

#[test]
fn an_exclusive_level_inside_gives_every_group_a_domain_in_its_mix() {
    // Two racks of four hosts that have room for two pods each.
    let names = ["h0", "h1", "h2", "h3", "h4", "h5", "h6", "h7"];
    let table = Table::new([RACK, HOST]);
    let cluster =
        (0..).zip(names).fold(table, |table, (number, name)| table.nodes(2, [if number < 4 { "a" } else { "b" }, name]));
    let cluster = cluster.held(HOST, "h0", 1);
    let request = Request { exclusive: Some(1), ..asks("prefill", vec![unit(0, 2), unit(1, 2)]) };
    assert_eq!(decide("", &cluster, &request), ["host=h1: Begun", "host=h2: Joined"]);
}

#[test]
fn exclusive_placement_at_the_level_of_mixes_contradicts_them() {
    let cluster = racks(&[("a", 8), ("b", 8)]);
    let request = Request { exclusive: Some(0), ..asks("prefill", vec![unit(0, 2)]) };
    assert_eq!(decide("", &cluster, &request), ["refuse: Contradiction"]);
}

#[test]
fn a_cluster_without_domains_is_not_supported() {
    let failure = place(&parse(&document("")).unwrap(), &Table::new([RACK]), &asks("prefill", vec![unit(0, 2)])).unwrap_err();
    assert_eq!(failure, Failure::Unsupported("no node carries a domain label: looked for example.com/rack".to_owned()));
}
