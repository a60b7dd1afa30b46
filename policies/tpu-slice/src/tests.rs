//! Decisions over small clusters: hosts with four or eight chips, one pod a host.

use muster_placement_sdk::testing::{Node, Table, request, unit_of};
use muster_placement_sdk::{Answer, BadNode, Demand, Entry, NO_DOMAIN, NO_NODE, Request, Unit, Whereabouts};

use crate::decide::place;
use crate::settings::{ACCELERATOR, BLOCK, PARTITION, POOL, Settings, TOPOLOGY, parse, sub_slice_key};
use crate::slices::TPU;

const V5E: &str = "tpu-v5-lite-podslice";
const V6E: &str = "tpu-v6e-slice";
const TPU7X: &str = "tpu7x";

/// Shape 0 is a leader that requests no TPUs and goes anywhere; shape 1 requests `chips` of that accelerator and topology.
fn cluster(accelerator: &str, topology: &str, chips: u64) -> Table {
    let selector = [(ACCELERATOR, accelerator), (TOPOLOGY, topology)];
    let selector: Vec<_> = selector.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    Table::new(Settings::default().levels())
        .without_shapes()
        .shape(&[("cpu", 1)], &[])
        .shape(&[(TPU, chips), ("cpu", 4)], &selector)
}

/// So many hosts with these labels.
fn hosts(table: Table, count: usize, chips: u64, labels: &[(&str, &str)]) -> Table {
    let value = |key: &String| labels.iter().find(|(label, _)| label == key).map_or("", |(_, value)| *value);
    let levels = Settings::default().levels();
    table.nodes_with(count, levels.iter().map(value), &[(TPU, chips), ("cpu", 8)])
}

fn pool(table: Table, name: &str, accelerator: &str, topology: &str, count: usize) -> Table {
    hosts(table, count, 4, &[(POOL, name), (ACCELERATOR, accelerator), (TOPOLOGY, topology)])
}

/// Pools of the v5e topology 4x4, which have four hosts.
fn pools(names: &[&str]) -> Table {
    names.iter().fold(cluster(V5E, "4x4", 4), |table, name| pool(table, name, V5E, "4x4", 4))
}

fn tpus(id: u32, pods: u32) -> Unit {
    unit_of(id, vec![Demand { shape: 1, pods }])
}

fn with_leader(id: u32, workers: u32) -> Unit {
    unit_of(id, vec![Demand { shape: 0, pods: 1 }, Demand { shape: 1, pods: workers }])
}

fn whereabouts(domain: u32, nodes: Vec<u32>) -> Option<Whereabouts> {
    let mut domains = vec![NO_DOMAIN; 10];
    domains[1] = domain;
    Some(Whereabouts { domains, nodes })
}

fn answers(document: &str, cluster: &Table, request: &Request) -> Vec<Answer> {
    place(&parse(document).unwrap(), cluster, request)
}

/// Decisions in words, with short keys.
fn decide(document: &str, cluster: &Table, request: &Request) -> Vec<String> {
    let short = |answer: Answer| {
        let mut words = cluster.in_words(&answer.decision);
        for (key, name) in [(POOL, "pool"), (PARTITION, "partition")] {
            words = words.replace(key, name);
        }
        words.replace("cloud.google.com/gke-tpu-slice-", "").replace("-id", "")
    };
    answers(document, cluster, request).into_iter().map(short).collect()
}

fn one(cluster: &Table, unit: Unit) -> (String, String, String) {
    let answer = answers("{}", cluster, &request(None, vec![unit])).remove(0);
    (cluster.in_words(&answer.decision).replace(POOL, "pool"), answer.reason.code, answer.reason.message)
}

fn refused(cluster: &Table, unit: Unit) -> (String, String) {
    let (words, code, message) = one(cluster, unit);
    assert_eq!(words, "refuse", "{code}: {message}");
    (code, message)
}

#[test]
fn a_group_of_four_takes_a_pool_of_four() {
    let (words, code, message) = one(&pools(&["a"]), tpus(0, 4));
    assert_eq!((words.as_str(), code.as_str()), ("pool=a", "WholeSlice"));
    assert_eq!(message, "gets a whole slice of 4x4: cloud.google.com/gke-nodepool=a");
}

#[test]
fn a_leader_without_tpus_does_not_count() {
    assert_eq!(one(&pools(&["a"]), with_leader(0, 4)).0, "pool=a");
    let (code, message) = refused(&pools(&["a"]), with_leader(0, 3));
    assert_eq!(code, "WrongGroupSize");
    assert_eq!(
        message,
        "Number of workers in worker group not equal to specified topology: 4x4 is 4 hosts with 4 chips each, and 3 TPU pods in \
         one slice"
    );
}

#[test]
fn a_leader_that_has_no_room_in_the_slice_goes_to_another_pool() {
    let full = |node: &mut Node| node.used.extend([("cpu".to_owned(), 4)]);
    let cluster = (0..4).fold(pools(&["a"]), |table, node| table.change(node, full));
    let cluster = hosts(cluster, 1, 0, &[(POOL, "cpus")]);
    assert_eq!(one(&cluster, with_leader(0, 4)).0, "1 in pool=cpus, 4 in pool=a");
}

#[test]
fn pods_have_to_say_what_they_want() {
    let cluster = pool(cluster("", "", 4), "a", V5E, "4x4", 4);
    assert_eq!(refused(&cluster, tpus(0, 4)).0, "NoTopology");
    let (code, message) = refused(&pool(self::cluster(V5E, "", 4), "a", V5E, "4x4", 4), tpus(0, 4));
    assert_eq!(code, "NoTopology");
    assert_eq!(
        message,
        "TPU topology not specified: pods that request google.com/tpu have to select cloud.google.com/gke-tpu-accelerator and \
         cloud.google.com/gke-tpu-topology"
    );
}

#[test]
fn a_topology_is_read_strictly_and_has_the_accelerators_dimensions() {
    let (code, message) = refused(&cluster(V5E, "4x", 4), tpus(0, 4));
    assert_eq!((code.as_str(), message.as_str()), ("BadTopology", "\"4x\" is not a TPU topology; one looks like 4x4 or 2x2x4"));
    let (_, message) = refused(&cluster(V5E, "2x2x4", 4), tpus(0, 4));
    assert_eq!(message, "tpu-v5-lite-podslice has topologies of 2 dimensions, unlike 2x2x4");
}

#[test]
fn an_unknown_topology_is_mentioned_and_in_strict_mode_refused() {
    let cluster = pool(cluster(V5E, "2x8", 4), "a", V5E, "2x8", 4);
    let (words, _, message) = one(&cluster, tpus(0, 4));
    assert_eq!(words, "pool=a");
    assert!(message.ends_with(" (tpu-v5-lite-podslice is not known to come in topology 2x8)"), "{message}");
    assert_eq!(decide(r#"{"strict":true}"#, &cluster, &request(None, vec![tpus(0, 4)])), ["refuse"]);
}

#[test]
fn pods_of_a_slice_take_whole_hosts() {
    let cluster = pool(cluster(V5E, "4x4", 2), "a", V5E, "4x4", 4);
    let (code, message) = refused(&cluster, tpus(0, 8));
    assert_eq!(
        (code.as_str(), message.as_str()),
        ("PartOfAHost", "pod must request all 4 chips of its host, and requests 2 google.com/tpu")
    );
}

#[test]
fn two_by_four_is_one_host_of_eight_chips_and_two_of_four() {
    let eight = hosts(cluster(V6E, "2x4", 8), 2, 8, &[(POOL, "a"), (ACCELERATOR, V6E), (TOPOLOGY, "2x4")]);
    assert_eq!(refused(&eight, tpus(0, 2)).0, "WrongGroupSize");
    assert_eq!(one(&eight, tpus(0, 1)).1, "SingleHost");
    let four = pool(cluster(V6E, "2x4", 4), "a", V6E, "2x4", 2);
    assert_eq!(one(&four, tpus(0, 2)).0, "pool=a");
    // Where there are machines of both kinds, the pods' own request says which ones they are for.
    let both = hosts(four, 1, 8, &[(POOL, "b"), (ACCELERATOR, V6E), (TOPOLOGY, "2x4")]);
    assert_eq!(one(&both, tpus(0, 2)).0, "pool=a");
}

#[test]
fn chips_that_hosts_do_not_divide_are_refused() {
    let cluster = hosts(cluster(V5E, "4x4", 3), 4, 3, &[(POOL, "a"), (ACCELERATOR, V5E), (TOPOLOGY, "4x4")]);
    assert_eq!(refused(&cluster, tpus(0, 5)).0, "UnevenTopology");
}

#[test]
fn every_unit_gets_a_pool_of_its_own() {
    let units = (0..3).map(|id| tpus(id, 4)).collect();
    assert_eq!(decide("{}", &pools(&["a", "b"]).held(POOL, "a", 1), &request(None, units)), ["pool=b", "hold", "hold"]);
}

#[test]
fn a_pool_that_is_not_whole_and_well_is_none() {
    let cluster = pool(pool(pools(&["dead", "small"]), "large", V5E, "4x4", 5), "other", V5E, "4x8", 8);
    let cluster = cluster.change(2, |node| node.usable = false).change(5, |node| drop(node.labels.remove(POOL)));
    let (words, code, message) = one(&cluster, tpus(0, 4));
    assert_eq!((words.as_str(), code.as_str()), ("hold", "NoSlice"));
    assert_eq!(
        message,
        "needs 1 whole tpu-v5-lite-podslice slice of 4x4, 4 hosts of 4 chips each; there are 3 of cloud.google.com/gke-nodepool: 1 \
         with a host that is not usable (n0002), 2 without exactly 4 such hosts"
    );
}

#[test]
fn a_kind_that_no_node_has_waits() {
    let (words, code, message) = one(&cluster(V5E, "4x4", 4), tpus(0, 4));
    assert_eq!((words.as_str(), code.as_str()), ("hold", "NoSuchHosts"));
    assert_eq!(
        message,
        "no node has google.com/tpu, cloud.google.com/gke-tpu-accelerator=tpu-v5-lite-podslice and \
         cloud.google.com/gke-tpu-topology=4x4"
    );
}

#[test]
fn a_single_host_may_share_its_pool_and_keeps_away_from_bad_ones() {
    let cluster = pool(cluster(V5E, "2x2", 4), "a", V5E, "2x2", 3).held(POOL, "a", 2);
    let bad_nodes = vec![BadNode { node: 1, failures: 1, age_ms: 60_000 }];
    let request = Request { bad_nodes, ..request(None, vec![tpus(0, 1)]) };
    let answer = answers("{}", &cluster, &request).remove(0);
    assert_eq!((cluster.in_words(&answer.decision).as_str(), answer.avoid), ("any", vec![1]));
}

#[test]
fn units_without_tpus_are_left_to_the_scheduler_unless_they_want_a_domain() {
    let cluster = pools(&["a", "b"]).held(POOL, "a", 1);
    let cpus = || unit_of(0, vec![Demand { shape: 0, pods: 2 }]);
    assert_eq!(decide("{}", &cluster, &request(None, vec![cpus()])), ["any"]);
    assert_eq!(decide("{}", &cluster, &request(Some(1), vec![cpus()])), ["pool=b"]);
}

#[test]
fn every_subgroup_is_a_slice() {
    // Size 9 in subgroups of 4: the leader, which requests none, is one more in the first.
    let unit = || Unit { subgroups: vec![5, 4], ..with_leader(0, 8) };
    let three = pools(&["a", "b", "c"]).held(POOL, "b", 1);
    assert_eq!(decide("{}", &three, &request(None, vec![unit()])), ["5 in pool=a, 4 in pool=c"]);
    // The same with a leader that is in none of them.
    let apart = Unit { subgroups: vec![4, 4], ..with_leader(0, 8) };
    assert_eq!(decide("{}", &three, &request(None, vec![apart])), ["5 in pool=a, 4 in pool=c"]);
    let tpus = Unit { subgroups: vec![4, 4], ..tpus(0, 8) };
    assert_eq!(decide("{}", &three, &request(None, vec![tpus])), ["4 in pool=a, 4 in pool=c"]);
    assert_eq!(decide("{}", &pools(&["a"]), &request(None, vec![unit()])), ["hold"]);
    assert_eq!(refused(&three, Unit { subgroups: vec![3, 3, 3], ..with_leader(0, 8) }).0, "WrongGroupSize");
}

#[test]
fn several_slices_and_one_exclusive_pool_contradict_each_other() {
    let unit = Unit { subgroups: vec![4, 4], ..tpus(0, 8) };
    let answer = answers("{}", &pools(&["a", "b"]), &request(Some(1), vec![unit])).remove(0);
    assert_eq!(answer.reason.code, "SeveralDomains");
}

#[test]
fn an_exclusive_level_around_pools_is_free_and_holds_all_slices_of_a_unit() {
    let block = |table, block, name| hosts(table, 4, 4, &[(BLOCK, block), (POOL, name), (ACCELERATOR, V5E), (TOPOLOGY, "4x4")]);
    let names = [("b1", "a"), ("b2", "b"), ("b2", "c"), ("b3", "d"), ("b3", "e"), ("b3", "f")];
    let cluster = names.iter().fold(cluster(V5E, "4x4", 4), |table, (at, name)| block(table, at, name));
    let unit = |id| Unit { subgroups: vec![4, 4], ..tpus(id, 8) };
    let units = || vec![unit(0), unit(1), unit(2)];
    let expected = ["4 in pool=b, 4 in pool=c", "4 in pool=d, 4 in pool=e", "hold"];
    assert_eq!(decide("{}", &cluster, &request(Some(0), units())), expected);
    let held = cluster.held(BLOCK, "b2", 1);
    assert_eq!(decide("{}", &held, &request(Some(0), units())), ["4 in pool=d, 4 in pool=e", "hold", "hold"]);
}

#[test]
fn a_group_returns_to_the_slice_it_had_if_that_is_well() {
    let before = || Unit { previous: whereabouts(1, vec![4, 5, 6, 7]), ..tpus(0, 4) };
    let cluster = pools(&["a", "b"]);
    let answer = answers("{}", &cluster, &request(None, vec![before()])).remove(0);
    assert_eq!(
        (cluster.in_words(&answer.decision).replace(POOL, "pool").as_str(), answer.reason.code.as_str()),
        ("pool=b", "SameSlice")
    );
    let dead = pools(&["a", "b"]).change(6, |node| node.usable = false);
    assert_eq!(decide("{}", &dead, &request(None, vec![before()])), ["pool=a"]);
}

#[test]
fn a_slice_with_a_host_that_failed_rests_for_a_while() {
    let before = || Unit { previous: whereabouts(1, vec![4, 5, 6, 7]), ..tpus(0, 4) };
    let failed = |age_ms| {
        let bad_nodes = vec![BadNode { node: 5, failures: 1, age_ms }];
        Request { bad_nodes, ..request(None, vec![before()]) }
    };
    let cluster = pools(&["a", "b"]);
    assert_eq!(decide("{}", &cluster, &failed(60_000)), ["pool=a"]);
    assert_eq!(decide("{}", &cluster, &failed(30 * 60_000)), ["pool=b"]);
    assert_eq!(decide(r#"{"quarantine":"0s"}"#, &cluster, &failed(60_000)), ["pool=b"]);
    assert_eq!(decide("{}", &cluster.held(POOL, "a", 1), &failed(60_000)), ["hold"]);
}

#[test]
fn pods_that_run_are_joined_and_a_dead_slice_is_never_patched() {
    let running = || Unit { current: whereabouts(1, vec![4, 5, NO_NODE, NO_NODE]), ..tpus(1, 4) };
    let cluster = pools(&["a", "b"]);
    assert_eq!(decide("{}", &cluster, &request(None, vec![tpus(0, 4), running()])), ["pool=a", "pool=b"]);
    let dead = pools(&["a", "b"]).change(6, |node| node.usable = false);
    let answer = answers("{}", &dead, &request(None, vec![running()])).remove(0);
    assert_eq!((dead.in_words(&answer.decision).as_str(), answer.reason.code.as_str()), ("hold", "DeadSlice"));
    assert_eq!(
        answer.reason.message,
        "the slice in cloud.google.com/gke-nodepool b lost a host or its room: a slice lives and dies as a whole, so the group has \
         to start over"
    );
}

#[test]
fn of_several_slices_only_those_without_pods_are_chosen_anew() {
    let nodes = vec![NO_NODE, 8, 9, 10, 11, NO_NODE, NO_NODE, NO_NODE, NO_NODE];
    let unit = Unit { subgroups: vec![5, 4], current: whereabouts(NO_DOMAIN, nodes), ..with_leader(0, 8) };
    let cluster = pools(&["a", "b", "c"]).held(POOL, "a", 1);
    assert_eq!(decide("{}", &cluster, &request(None, vec![unit])), ["5 in pool=c, 4 in pool=b"]);
}

/// A v6e pool of 8x8 (16 hosts): four sub-slices of 4x4, eight of 2x4, each of the latter in the pool's name and a number.
fn sub_slices(table: Table, pool: &str) -> Table {
    (0..8).fold(table, |table, number| {
        let (small, large) = (format!("{pool}-s{number}"), format!("{pool}-l{}", number / 2));
        let keys = [sub_slice_key("2x4"), sub_slice_key("4x4")];
        let labels = [(POOL, pool), (ACCELERATOR, V6E), (TOPOLOGY, "8x8"), (&keys[0], &small), (&keys[1], &large)];
        hosts(table, 2, 4, &labels)
    })
}

#[test]
fn a_sub_slice_is_taken_where_the_setting_or_the_sets_label_says_so() {
    let cluster = sub_slices(cluster(V6E, "8x8", 4), "p");
    let units = || vec![tpus(0, 2), tpus(1, 2)];
    assert_eq!(decide(r#"{"sliceTopology":"2x4"}"#, &cluster, &request(None, units())), ["2x4=p-s0", "2x4=p-s1"]);
    let labels = vec![Entry { key: "cloud.google.com/gke-tpu-slice-topology".to_owned(), value: "4x4".to_owned() }];
    let labelled = Request { labels, ..request(None, vec![tpus(0, 4)]) };
    assert_eq!(decide(r#"{"sliceTopology":"2x4"}"#, &cluster, &labelled), ["4x4=p-l0"]);
}

#[test]
fn sub_slices_break_the_fewest_larger_ones() {
    // Half of the third 4x4 is in use: it is the place for a 2x4, and the pool that has the least room left comes first.
    let cluster = sub_slices(sub_slices(cluster(V6E, "8x8", 4), "p"), "q");
    let in_use = |node: &mut Node| node.used.extend([(TPU.to_owned(), 4)]);
    let cluster = cluster.change(24, in_use).change(25, in_use);
    let units = vec![tpus(0, 2), tpus(1, 2)];
    assert_eq!(decide(r#"{"sliceTopology":"2x4"}"#, &cluster, &request(None, units)), ["2x4=q-s5", "2x4=q-s0"]);
}

#[test]
fn a_sub_slice_has_to_be_a_part_of_its_pool() {
    let cluster = sub_slices(cluster(V6E, "8x8", 4), "p");
    let settings = r#"{"sliceTopology":"8x16"}"#;
    let answer = answers(settings, &cluster, &request(None, vec![tpus(0, 32)])).remove(0);
    assert_eq!(answer.reason.message, "a slice of 8x16 is no part of a pool of 8x8");
}

/// Partitions of 16 hosts, each in its block.
fn partitions(blocks: &[(&str, usize)]) -> Table {
    let table = cluster(TPU7X, "", 4);
    let each = blocks.iter().flat_map(|(block, count)| (0..*count).map(move |number| (*block, format!("{block}-{number}"))));
    each.fold(table, |table, (block, partition)| {
        hosts(table, 16, 4, &[(BLOCK, block), (POOL, block), (PARTITION, &partition), (ACCELERATOR, TPU7X)])
    })
}

#[test]
fn a_super_slice_takes_whole_partitions_in_the_block_with_the_fewest_that_are_enough() {
    let cluster = partitions(&[("x", 3), ("y", 2), ("z", 1)]);
    let settings = r#"{"sliceTopology":"4x4x8"}"#;
    let expected = [
        "16 in partition=y-0, 16 in partition=y-1",
        "16 in partition=x-0, 16 in partition=x-1",
        "16 in partition=x-2, 16 in partition=z-0",
    ];
    let units = vec![tpus(0, 32), tpus(1, 32), tpus(2, 32)];
    assert_eq!(decide(settings, &cluster, &request(None, units)), expected);
    assert_eq!(decide(r#"{"sliceTopology":"4x4x4"}"#, &cluster, &request(None, vec![tpus(0, 16)])), ["partition=x-0"]);
}

#[test]
fn a_partition_that_is_not_well_is_none() {
    let cluster = partitions(&[("x", 2)]).change(20, |node| node.usable = false);
    assert_eq!(decide(r#"{"sliceTopology":"4x4x8"}"#, &cluster, &request(None, vec![tpus(0, 32)])), ["hold"]);
}

#[test]
fn a_topology_that_cubes_do_not_make_is_no_super_slice() {
    let answer = answers(r#"{"sliceTopology":"2x4x4"}"#, &partitions(&[("x", 1)]), &request(None, vec![tpus(0, 8)])).remove(0);
    assert_eq!(answer.reason.message, "a slice of 2x4x4 can't be made of partitions, which have 64 chips each");
}
