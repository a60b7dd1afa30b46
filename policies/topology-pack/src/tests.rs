//! Decisions over small clusters of whole machines, one pod a machine unless a test says otherwise.

use muster_placement_sdk::testing::{SLOT, Table, request, unit, unit_of};
use muster_placement_sdk::{Answer, Decision, Demand, Failure, NO_DOMAIN, NO_NODE, Request, Unit, Whereabouts};

use crate::decide::{Decided, place};
use crate::settings::parse;

fn decided(settings: &str, cluster: &Table, request: &Request) -> Decided {
    place(&parse(settings).unwrap(), cluster, request).unwrap()
}

fn answers(settings: &str, cluster: &Table, request: &Request) -> Vec<Answer> {
    decided(settings, cluster, request).answers
}

/// Decisions in words.
fn words(settings: &str, cluster: &Table, units: Vec<Unit>) -> Vec<String> {
    answers(settings, cluster, &request(None, units)).iter().map(|answer| cluster.in_words(&answer.decision)).collect()
}

fn one(settings: &str, cluster: &Table, pods: u32) -> String {
    words(settings, cluster, vec![unit(0, pods)]).remove(0)
}

/// Racks a, b, c, … with so many free machines.
fn racks(rooms: &[usize]) -> Table {
    ["a", "b", "c", "d", "e", "f"].iter().zip(rooms).fold(Table::new(["rack"]), |table, (name, room)| table.nodes(*room, [*name]))
}

/// Blocks x, y with racks of so many free machines.
fn blocks(rooms: [&[usize]; 2]) -> Table {
    let mut table = Table::new(["block", "rack"]);
    for (block, rooms) in ["x", "y"].into_iter().zip(rooms) {
        for (rack, room) in ["1", "2", "3", "4"].iter().zip(rooms) {
            table = table.nodes(*room, [block, &format!("{block}{rack}")]);
        }
    }
    table
}

fn subgroups(id: u32, pods: u32, subgroups: &[u32]) -> Unit {
    Unit { subgroups: subgroups.to_vec(), ..unit(id, pods) }
}

fn running(id: u32, pods: u32, domains: &[u32]) -> Unit {
    Unit { current: Some(Whereabouts { domains: domains.to_vec(), nodes: vec![NO_NODE; pods as usize] }), ..unit(id, pods) }
}

const RACK: &str = r#"{"levels":[{"key":"rack"}]}"#;
const BLOCK_RACK: &str = r#"{"levels":[{"key":"block","mode":"Required"},{"key":"rack"}]}"#;

// Which domains: the vectors of Kueue's topology-aware scheduling.

#[test]
fn best_fit_fills_the_roomiest_racks_and_ends_in_the_tightest() {
    assert_eq!(one(RACK, &racks(&[3, 3, 2, 1]), 7), "3 in rack=a, 3 in rack=b, 1 in rack=d");
}

#[test]
fn least_free_fills_the_tightest_racks_first() {
    let settings = r#"{"levels":[{"key":"rack"}],"fit":"least"}"#;
    assert_eq!(one(settings, &racks(&[3, 3, 2, 1]), 7), "1 in rack=d, 2 in rack=c, 3 in rack=a, 1 in rack=b");
}

#[test]
fn best_fit_of_segments_of_two() {
    let settings = r#"{"levels":[{"key":"rack","mode":"Required","segment":2}]}"#;
    assert_eq!(one(settings, &racks(&[6, 5, 4, 3, 2]), 12), "6 in rack=a, 4 in rack=c, 2 in rack=e");
}

#[test]
fn least_free_of_segments_of_two() {
    let settings = r#"{"levels":[{"key":"rack","mode":"Required","segment":2}],"fit":"least"}"#;
    assert_eq!(one(settings, &racks(&[6, 5, 4, 3, 2]), 10), "2 in rack=e, 2 in rack=d, 4 in rack=c, 2 in rack=b");
}

#[test]
fn balanced_gives_equal_shares_to_as_few_racks_as_hold_all() {
    let settings = r#"{"levels":[{"key":"rack"}],"fit":"balanced"}"#;
    assert_eq!(one(settings, &racks(&[15, 13, 10]), 23), "12 in rack=a, 11 in rack=b");
}

#[test]
fn balanced_keeps_in_one_rack_what_fits_one() {
    let settings = r#"{"levels":[{"key":"block","mode":"Required"},{"key":"rack"}],"fit":"balanced"}"#;
    assert_eq!(one(settings, &blocks([&[20, 10], &[15, 15]]), 20), "rack=x1");
}

#[test]
fn balanced_takes_the_block_with_the_more_even_racks() {
    let settings = r#"{"levels":[{"key":"block","mode":"Required"},{"key":"rack"}],"fit":"balanced"}"#;
    assert_eq!(one(settings, &blocks([&[20, 10], &[15, 15]]), 22), "11 in rack=y1, 11 in rack=y2");
}

#[test]
fn segments_of_several_levels_nest() {
    // Two blocks of two racks of four hosts with room for eight pods each.
    let mut cluster = Table::new(["block", "rack", "host"]);
    for (block, rack) in [("x", "x1"), ("x", "x2"), ("y", "y1"), ("y", "y2")] {
        for host in 1..=4 {
            cluster = cluster.nodes_with(1, [block, rack, &format!("{rack}-{host}")], &[(SLOT, 8)]);
        }
    }
    let settings = r#"{"levels":[{"key":"block","mode":"Required","segment":32},{"key":"rack","mode":"Required","segment":16},{"key":"host"}]}"#;
    let decision = one(settings, &cluster, 64);
    let expected: Vec<_> =
        ["x1", "x2"].iter().flat_map(|rack| (1..=4).map(move |host| format!("8 in host={rack}-{host}"))).collect();
    assert_eq!(decision, expected.join(", "));
    let without_hosts =
        r#"{"levels":[{"key":"block","mode":"Required","segment":32},{"key":"rack","mode":"Required","segment":16}]}"#;
    assert_eq!(one(without_hosts, &cluster, 64), "32 in rack=x1, 32 in rack=x2");
}

#[test]
fn a_group_of_three_takes_the_subtree_with_exactly_three_free() {
    // Twelve nodes in pairs under s11 to s16, and those in pairs under s21 to s23; n1, n3, n6, n11 and n12 are in use.
    let mut cluster = Table::new(["spine", "leaf"]);
    for number in 0..12 {
        let (spine, leaf) = (format!("s{}", 21 + number / 4), format!("s{}", 11 + number / 2));
        let busy = [1, 3, 6, 11, 12].contains(&(number + 1));
        cluster = cluster.nodes(1, [spine.as_str(), leaf.as_str()]).change(number, |node| node.usable = !busy);
    }
    let settings = r#"{"levels":[{"key":"spine","mode":"Required"},{"key":"leaf"}]}"#;
    assert_eq!(one(settings, &cluster, 3), "2 in leaf=s14, 1 in leaf=s13");
}

#[test]
fn a_node_without_the_label_is_in_no_rack() {
    let cluster = Table::new(["rack"]).nodes(4, [""]).nodes(4, ["a"]);
    assert_eq!(one(r#"{"levels":[{"key":"rack","mode":"Required"}]}"#, &cluster, 4), "rack=a");
    assert_eq!(one(r#"{"levels":[{"key":"rack","mode":"Required"}]}"#, &cluster, 5), "hold");
}

#[test]
fn equal_racks_of_a_large_group_beat_full_ones_and_a_rest() {
    let settings = r#"{"levels":[{"key":"rack","mode":"Required","segment":16}],"fit":"balanced"}"#;
    let racks = (0..9).fold(Table::new(["rack"]), |table, rack| table.nodes(18, [format!("r{rack}").as_str()]));
    let expected: Vec<_> = (0..8).map(|rack| format!("16 in rack=r{rack}")).collect();
    assert_eq!(one(settings, &racks, 128), expected.join(", "));
}

#[test]
fn two_halves_wait_for_two_racks_that_have_room_for_one_each() {
    let settings = r#"{"levels":[{"key":"rack","mode":"Required","segment":16}]}"#;
    let waiting = answers(settings, &racks(&[14, 18]), &request(None, vec![unit(0, 32)])).remove(0);
    assert_eq!(waiting.decision, Decision::Hold(30_000));
    assert_eq!(waiting.reason.code, "SegmentsDoNotFit");
    assert_eq!(waiting.reason.message, "needs 2 segments of 16 pods, each in one rack; there is room for 1");
    assert_eq!(one(settings, &racks(&[14, 18, 16]), 32), "16 in rack=c, 16 in rack=b");
}

#[test]
fn a_group_goes_where_all_of_it_fits_not_where_its_leader_does() {
    let settings = r#"{"levels":[{"key":"rack","mode":"Required"}]}"#;
    assert_eq!(one(settings, &racks(&[3, 8]), 8), "rack=b");
    let held = answers(settings, &racks(&[3, 7]), &request(None, vec![unit(0, 8)])).remove(0);
    assert_eq!(held.decision, Decision::Hold(30_000));
    assert_eq!(held.reason.code, "NoDomainLargeEnough");
    assert_eq!(held.reason.message, "needs 8 pods in one rack; the largest one, b, has room for 7");
}

// Levels.

#[test]
fn a_preferred_level_is_given_up_for_the_wider_one() {
    let cluster = blocks([&[4, 4], &[6, 2]]);
    assert_eq!(one(BLOCK_RACK, &cluster, 6), "rack=y1");
    let widened = answers(BLOCK_RACK, &cluster, &request(None, vec![unit(0, 7)])).remove(0);
    assert_eq!(cluster.in_words(&widened.decision), "4 in rack=x1, 3 in rack=x2");
    assert_eq!(widened.reason.code, "Widened");
    assert_eq!(
        widened.reason.message,
        "4 in rack=x1, 3 in rack=x2: needs 7 pods in one rack; the largest one, y1, has room for 6"
    );
    assert_eq!(one(BLOCK_RACK, &cluster, 9), "hold");
}

#[test]
fn without_a_required_level_a_group_spreads_over_as_few_domains_as_hold_it() {
    let settings = r#"{"levels":[{"key":"block"},{"key":"rack"}]}"#;
    assert_eq!(one(settings, &blocks([&[4, 4], &[6, 2]]), 12), "4 in rack=x1, 4 in rack=x2, 4 in rack=y1");
}

#[test]
fn a_nearer_level_has_the_segments_of_the_wider_one() {
    let settings = r#"{"levels":[{"key":"block","mode":"Required","segment":4},{"key":"rack"}]}"#;
    assert_eq!(one(settings, &blocks([&[5, 3], &[4, 4]]), 8), "4 in rack=y1, 4 in rack=y2");
}

#[test]
fn a_block_whose_nodes_are_in_no_rack_is_answered_as_a_block() {
    let cluster = Table::new(["block", "rack"]).nodes(4, ["x", ""]).nodes(2, ["y", "r"]);
    assert_eq!(one(BLOCK_RACK, &cluster, 4), "block=x");
}

#[test]
fn hosts_with_room_for_several_pods_are_filled() {
    let hosts = |table: Table, name: &str| table.nodes_with(1, ["r", name], &[(SLOT, 8)]);
    let cluster = ["h1", "h2", "h3"].into_iter().fold(Table::new(["rack", "kubernetes.io/hostname"]), hosts);
    let settings = r#"{"levels":[{"key":"rack","mode":"Required"},{"key":"kubernetes.io/hostname"}]}"#;
    assert_eq!(one(settings, &cluster, 8), "kubernetes.io/hostname=h1 or kubernetes.io/hostname=h2 or kubernetes.io/hostname=h3");
    let two = answers(settings, &cluster, &request(None, vec![unit(0, 12)])).remove(0);
    assert_eq!(cluster.in_words(&two.decision), "8 in kubernetes.io/hostname=h1, 4 in kubernetes.io/hostname=h2");
    assert_eq!(two.reason.code, "Packed");
}

#[test]
fn whole_machines_are_left_to_the_scheduler_below_the_rack() {
    let cluster =
        Table::new(["rack", "kubernetes.io/hostname"]).nodes(1, ["r", "h1"]).nodes(1, ["r", "h2"]).nodes(1, ["r", "h3"]);
    let settings = r#"{"levels":[{"key":"rack"},{"key":"kubernetes.io/hostname"}]}"#;
    let answer = answers(settings, &cluster, &request(None, vec![unit(0, 2)])).remove(0);
    assert_eq!((cluster.in_words(&answer.decision).as_str(), answer.reason.code.as_str()), ("rack=r", "Packed"));
}

#[test]
fn pods_without_accelerators_go_where_something_runs_already() {
    let settings = r#"{"levels":[{"key":"rack","mode":"Required"}],"fit":"pack-busy"}"#;
    let cluster = Table::new(["rack"]).nodes(4, ["a"]).nodes(8, ["b"]);
    let cluster = (4..6).fold(cluster, |table, node| {
        table.change(node, |node| {
            node.used.insert(SLOT.to_owned(), 1);
        })
    });
    assert_eq!(one(settings, &cluster, 4), "rack=b or rack=a");
    assert_eq!(one(&settings.replace("pack-busy", "best"), &cluster, 4), "rack=a or rack=b");
}

// Segments and subgroups.

#[test]
fn segments_that_do_not_divide_the_group_are_refused_unless_the_last_may_be_smaller() {
    let settings = r#"{"levels":[{"key":"rack","mode":"Required","segment":4}]}"#;
    let refused = answers(settings, &racks(&[4, 6]), &request(None, vec![unit(0, 10)])).remove(0);
    assert_eq!((refused.decision, refused.reason.code.as_str()), (Decision::Refuse, "SegmentMismatch"));
    assert_eq!(
        refused.reason.message,
        "segments of 4 pods don't divide a group of 10; change its size or the segment, or set lastPartial for a smaller last segment"
    );
    let partial = r#"{"levels":[{"key":"rack","mode":"Required","segment":4}],"lastPartial":true}"#;
    assert_eq!(one(partial, &racks(&[4, 6]), 10), "4 in rack=a, 6 in rack=b");
    assert_eq!(one(partial, &racks(&[4, 4, 2]), 10), "4 in rack=a, 4 in rack=b, 2 in rack=c");
    assert_eq!(one(partial, &racks(&[4, 4, 1]), 10), "hold");
}

#[test]
fn a_smaller_last_segment_counts_when_a_block_is_chosen() {
    let settings =
        r#"{"levels":[{"key":"block","mode":"Required"},{"key":"rack","mode":"Required","segment":4}],"lastPartial":true}"#;
    assert_eq!(one(settings, &blocks([&[4, 4, 1], &[4, 4, 2]]), 10), "4 in rack=y1, 4 in rack=y2, 2 in rack=y3");
}

#[test]
fn segments_of_subgroups_have_their_size_and_the_leader_is_in_the_first() {
    let settings = r#"{"levels":[{"key":"rack","mode":"Required","segment":"Subgroup"}]}"#;
    let cluster = racks(&[4, 5, 4]);
    assert_eq!(words(settings, &cluster, vec![subgroups(0, 8, &[4, 4])]), ["4 in rack=a, 4 in rack=c"]);
    // Nine pods: the leader is one more in subgroup 0.
    assert_eq!(words(settings, &cluster, vec![subgroups(0, 9, &[5, 4])]), ["5 in rack=b, 4 in rack=a"]);
    // Nine pods: the leader is in no subgroup, and goes with the first.
    assert_eq!(words(settings, &cluster, vec![subgroups(0, 9, &[4, 4])]), ["5 in rack=b, 4 in rack=a"]);
    assert_eq!(words(settings, &racks(&[4, 4]), vec![subgroups(0, 9, &[4, 4])]), ["hold"]);
}

#[test]
fn a_group_that_must_be_split_is_split_between_its_subgroups() {
    let cluster = racks(&[7, 6]);
    assert_eq!(one(RACK, &cluster, 12), "7 in rack=a, 5 in rack=b");
    assert_eq!(words(RACK, &cluster, vec![subgroups(0, 12, &[6, 6])]), ["6 in rack=b, 6 in rack=a"]);
    // Where they can't stay whole, they are split as well.
    assert_eq!(words(RACK, &racks(&[7, 5]), vec![subgroups(0, 12, &[6, 6])]), ["7 in rack=a, 5 in rack=b"]);
}

#[test]
fn a_leader_without_accelerators_takes_no_machine_of_a_worker() {
    let cluster = |racks: &[(&str, usize)]| {
        let table = Table::new(["rack"]).without_shapes().shape(&[("cpu", 8)], &[]).shape(&[("cpu", 32), ("gpu", 8)], &[]);
        racks.iter().fold(table, |table, (name, nodes)| table.nodes_with(*nodes, [*name], &[("cpu", 48), ("gpu", 8)]))
    };
    let required = r#"{"levels":[{"key":"rack","mode":"Required"}]}"#;
    assert_eq!(one(required, &cluster(&[("a", 4), ("b", 5)]), 5), "rack=a or rack=b");
    assert_eq!(one(required, &cluster(&[("a", 4)]), 6), "hold");
    // The leader is in no segment, and is the ninth pod of the first domain.
    let segments = r#"{"levels":[{"key":"rack","mode":"Required","segment":4}]}"#;
    assert_eq!(one(segments, &cluster(&[("a", 4), ("b", 4)]), 9), "5 in rack=a, 4 in rack=b");
}

#[test]
fn a_leader_that_needs_other_nodes_than_its_workers_decides_which_rack_is_first() {
    let table = Table::new(["rack"]).without_shapes().shape(&[("cpu", 64)], &[]).shape(&[("gpu", 8)], &[]);
    let cluster =
        table.nodes_with(4, ["a"], &[("gpu", 8)]).nodes_with(3, ["b"], &[("gpu", 8)]).nodes_with(1, ["b"], &[("cpu", 64)]);
    assert_eq!(one(RACK, &cluster, 8), "4 in rack=b, 4 in rack=a");
    assert_eq!(one(r#"{"levels":[{"key":"rack","mode":"Required"}]}"#, &cluster, 5), "hold");
}

// Many units.

#[test]
fn units_of_one_request_count_what_the_others_take() {
    let cluster = racks(&[4, 5]);
    let units = (0..5).map(|id| unit(id, 2)).collect();
    let settings = r#"{"levels":[{"key":"rack","mode":"Required"}]}"#;
    assert_eq!(words(settings, &cluster, units), ["rack=a or rack=b", "rack=a or rack=b", "rack=b", "rack=b", "hold"]);
}

#[test]
fn units_with_running_pods_stay_and_choose_first() {
    let cluster = racks(&[4, 4]);
    let settings = r#"{"levels":[{"key":"rack","mode":"Required"}]}"#;
    assert_eq!(words(settings, &cluster, vec![unit(0, 4), running(1, 4, &[0])]), ["rack=b", "rack=a"]);
    let kept = answers(settings, &cluster, &request(None, vec![running(1, 4, &[0])])).remove(0);
    assert_eq!((kept.reason.code.as_str(), kept.reason.message.as_str()), ("Kept", "stays in rack=a"));
}

#[test]
fn a_unit_in_a_block_stays_in_it_when_its_rack_is_not_known() {
    let cluster = blocks([&[4, 4], &[3]]);
    assert_eq!(words(BLOCK_RACK, &cluster, vec![running(0, 3, &[0, NO_DOMAIN])]), ["rack=x1 or rack=x2"]);
}

#[test]
fn the_same_question_has_the_same_answer() {
    let cluster = blocks([&[4, 4, 3], &[6, 2]]);
    let units = || (0..6).map(|id| unit(id, 3)).collect();
    assert_eq!(words(BLOCK_RACK, &cluster, units()), words(BLOCK_RACK, &cluster, units()));
}

// Exclusive placement.

#[test]
fn an_exclusive_set_gets_a_free_rack_for_every_unit() {
    let cluster = racks(&[4, 4, 4]).held("rack", "a", 1);
    let asked = request(Some(0), (0..3).map(|id| unit(id, 2)).collect());
    let decisions: Vec<_> = answers(RACK, &cluster, &asked).iter().map(|answer| cluster.in_words(&answer.decision)).collect();
    assert_eq!(decisions, ["rack=b or rack=c", "rack=c", "hold"]);
}

#[test]
fn an_exclusive_level_that_is_not_among_the_levels_is_one_more() {
    let cluster =
        Table::new(["block", "rack"]).nodes(2, ["x", "x1"]).nodes(4, ["x", "x2"]).nodes(4, ["y", "y1"]).held("rack", "y1", 1);
    let asked = request(Some(1), vec![unit(0, 4), unit(1, 2), unit(2, 2)]);
    let settings = r#"{"levels":[{"key":"block"}]}"#;
    let decisions: Vec<_> = answers(settings, &cluster, &asked).iter().map(|answer| cluster.in_words(&answer.decision)).collect();
    assert_eq!(decisions, ["rack=x2", "rack=x1", "hold"]);
}

#[test]
fn segments_of_an_exclusive_unit_are_inside_one_free_block() {
    let cluster = blocks([&[4, 4], &[4, 4]]).held("block", "x", 1);
    let settings = r#"{"levels":[{"key":"rack","mode":"Required","segment":4}]}"#;
    let asked = request(Some(0), vec![unit(0, 8), unit(1, 8)]);
    let decisions: Vec<_> = answers(settings, &cluster, &asked).iter().map(|answer| cluster.in_words(&answer.decision)).collect();
    assert_eq!(decisions, ["4 in rack=y1, 4 in rack=y2", "hold"]);
}

// Odd labels.

#[test]
fn a_required_level_that_no_node_carries_is_not_supported() {
    let cluster = Table::new(["block", "rack"]).nodes(4, ["", "a"]);
    let failure = place(&parse(BLOCK_RACK).unwrap(), &cluster, &request(None, vec![unit(0, 2)])).unwrap_err();
    assert_eq!(failure, Failure::Unsupported("no node carries the label block".to_owned()));
}

#[test]
fn a_preferred_level_that_no_node_carries_is_skipped() {
    let cluster = Table::new(["block", "rack"]).nodes(4, ["", "a"]);
    assert_eq!(one(r#"{"levels":[{"key":"block"},{"key":"rack"}]}"#, &cluster, 2), "rack=a");
}

#[test]
fn a_cluster_without_any_of_the_labels_is_not_supported() {
    let failure =
        place(&parse(RACK).unwrap(), &Table::new(["rack"]).nodes(2, [""]), &request(None, vec![unit(0, 2)])).unwrap_err();
    assert_eq!(failure, Failure::Unsupported("no node carries any of the labels rack".to_owned()));
}

#[test]
fn a_preferred_level_that_does_not_nest_is_left_out_with_a_line() {
    // Racks of one name in both blocks.
    let cluster = Table::new(["block", "rack"]).nodes(4, ["x", "r1"]).nodes(4, ["y", "r1"]);
    let decided = decided(BLOCK_RACK, &cluster, &request(None, vec![unit(0, 3)]));
    assert_eq!(cluster.in_words(&decided.answers[0].decision), "block=x or block=y");
    assert_eq!(decided.notes, ["level rack is left out: no rack lies inside one block"]);
}

#[test]
fn required_levels_that_do_not_nest_are_not_supported() {
    let cluster = Table::new(["block", "rack"]).nodes(4, ["x", "r1"]).nodes(4, ["y", "r1"]);
    let settings = r#"{"levels":[{"key":"block","mode":"Required"},{"key":"rack","mode":"Required"}]}"#;
    let failure = place(&parse(settings).unwrap(), &cluster, &request(None, vec![unit(0, 3)])).unwrap_err();
    let message =
        "no rack lies inside one block: the levels must nest, so correct the node labels or leave one of the levels out";
    assert_eq!(failure, Failure::Unsupported(message.to_owned()));
}

#[test]
fn a_rack_with_one_wrong_label_is_no_choice_and_the_others_are() {
    let cluster =
        Table::new(["block", "rack"]).nodes(3, ["x", "r1"]).nodes(1, ["y", "r1"]).nodes(2, ["x", "r2"]).nodes(2, ["y", "r3"]);
    let asked = request(None, vec![unit(0, 2), unit(1, 3)]);
    let settings = r#"{"levels":[{"key":"block"},{"key":"rack","mode":"Required"}]}"#;
    let decided = decided(settings, &cluster, &asked);
    assert_eq!(cluster.in_words(&decided.answers[0].decision), "rack=r2 or rack=r3");
    assert_eq!(
        decided.answers[1].reason.message,
        "needs 3 pods in one rack; the largest one, r3, has room for 2; r1 is not inside one block"
    );
    assert_eq!(decided.notes, ["1 of 3 domains of rack are no choice because their nodes are not in one block; the first is r1"]);
}

#[test]
fn a_rack_that_was_renamed_while_a_group_runs_there_is_chosen_again() {
    let cluster = racks(&[4, 2]);
    let settings = r#"{"levels":[{"key":"rack","mode":"Required"}]}"#;
    // The domain that the pods were in does not exist any more; the host knows none.
    assert_eq!(words(settings, &cluster, vec![running(0, 3, &[NO_DOMAIN])]), ["rack=a"]);
    assert_eq!(words(settings, &cluster, vec![running(0, 3, &[77])]), ["rack=a"]);
    assert_eq!(words(settings, &cluster, vec![running(0, 3, &[])]), ["rack=a"]);
}

#[test]
fn a_group_that_needs_unlabelled_nodes_is_left_to_the_scheduler() {
    let cluster = Table::new(["rack"]).nodes(2, ["a"]).nodes(4, [""]);
    let answer = answers(RACK, &cluster, &request(None, vec![unit(0, 5)])).remove(0);
    assert_eq!((answer.decision, answer.reason.code.as_str()), (Decision::Unconstrained, "NodesWithoutLabels"));
    assert_eq!(one(RACK, &cluster, 7), "hold");
}

#[test]
fn empty_clusters_and_strange_units_are_no_trouble() {
    let cluster = racks(&[2]);
    assert_eq!(words(RACK, &cluster, vec![]), Vec::<String>::new());
    assert_eq!(words(RACK, &cluster, vec![unit_of(0, vec![Demand { shape: 77, pods: 2 }])]), ["hold"]);
    assert_eq!(words(RACK, &cluster, vec![subgroups(0, 2, &[0]), subgroups(1, 2, &[9, 9])]), ["rack=a", "hold"]);
    let nothing = place(&parse(RACK).unwrap(), &Table::new(["rack"]), &request(None, vec![unit(0, 2)]));
    assert!(matches!(nothing, Err(Failure::Unsupported(_))));
}

// NVLink domains whose cliques share a prefix.

#[test]
fn cliques_of_one_nvlink_domain_are_derived_from_their_prefix() {
    let clique = "nvidia.com/gpu.clique";
    let cluster =
        Table::new([clique]).nodes(9, ["rack-a.0"]).nodes(9, ["rack-a.1"]).nodes(18, ["rack-b.0"]).nodes(4, ["rack-c.0"]);
    let settings = r#"{"preset":"mnnvl","levels":[{"key":"derived:nvidia.com/gpu.clique#prefix","mode":"Required"}]}"#;
    assert_eq!(one(settings, &cluster, 9), format!("{clique}=rack-a.0 or {clique}=rack-a.1 or {clique}=rack-b.0"));
    assert_eq!(one(settings, &cluster, 18), format!("{clique}=rack-b.0"));
    let without_b = Table::new([clique]).nodes(9, ["rack-a.0"]).nodes(9, ["rack-a.1"]).nodes(10, ["rack-b.0"]);
    assert_eq!(one(settings, &without_b, 16), format!("9 in {clique}=rack-a.0, 7 in {clique}=rack-a.1"));
    assert_eq!(one(settings, &without_b, 20), "hold");
}
