//! Decisions over racks of nodes with four GPUs, one pod a node unless a test says otherwise.

use muster_placement_sdk::testing::{Table, request, unit};
use muster_placement_sdk::{Answer, Decision, Failure, NO_NODE, Unit, Whereabouts};

use crate::decide::place;
use crate::settings::parse;

const CLIQUE: &str = "nvidia.com/gpu.clique";
const GPU: &str = "nvidia.com/gpu";

/// Leaders and workers that take whole nodes.
fn table(levels: &[&str]) -> Table {
    Table::new(levels.iter().copied()).without_shapes().shape(&[(GPU, 4)], &[]).shape(&[(GPU, 4)], &[])
}

fn cliques(rooms: &[(&str, usize)]) -> Table {
    rooms.iter().fold(table(&[CLIQUE]), |table, (name, room)| table.nodes_with(*room, [*name], &[(GPU, 4)]))
}

fn answers(settings: &str, cluster: &Table, exclusive: Option<u32>, units: Vec<Unit>) -> Vec<Answer> {
    place(&parse(settings).unwrap(), cluster, &request(exclusive, units)).unwrap()
}

/// Decisions in words, without the key of partitions.
fn words(settings: &str, cluster: &Table, units: Vec<Unit>) -> Vec<String> {
    let answers = answers(settings, cluster, None, units);
    answers.iter().map(|answer| cluster.in_words(&answer.decision).replace(&format!("{CLIQUE}="), "")).collect()
}

fn one(settings: &str, cluster: &Table, pods: u32) -> String {
    words(settings, cluster, vec![unit(0, pods)]).remove(0)
}

const THREE: &[(&str, usize)] = &[("a", 18), ("b", 18), ("c", 18)];

#[test]
fn a_group_that_fits_goes_into_the_partition_with_least_left_over() {
    assert_eq!(one("{}", &cliques(&[("a", 18), ("b", 17), ("c", 12)]), 16), "b or a");
}

#[test]
fn larger_groups_are_cut_into_equal_slices_of_at_most_sixteen() {
    assert_eq!(one("{}", &cliques(THREE), 24), "12 in a, 12 in b");
    assert_eq!(one("{}", &cliques(THREE), 32), "16 in a, 16 in b");
    assert_eq!(one("{}", &cliques(THREE), 48), "16 in a, 16 in b, 16 in c");
    assert_eq!(one("{}", &cliques(THREE), 33), "11 in a, 11 in b, 11 in c");
}

#[test]
fn a_group_without_equal_slices_is_refused_unless_they_may_be_uneven() {
    let refused = answers("{}", &cliques(THREE), None, vec![unit(0, 17)]).remove(0);
    assert_eq!((refused.decision, refused.reason.code.as_str()), (Decision::Refuse, "UnevenSlices"));
    assert_eq!(
        refused.reason.message,
        "17 pods are no 2 equal slices of at most 16; use a size that 2 divides, or set allowUneven"
    );
    assert_eq!(one(r#"{"allowUneven":true}"#, &cliques(THREE), 17), "9 in a, 8 in b");
    assert_eq!(one(r#"{"maxPerDomain":18}"#, &cliques(THREE), 17), "a or b or c");
}

#[test]
fn a_hundred_and_twenty_eight_nodes_are_eight_slices_and_not_seven_full_racks_and_a_rest() {
    let names: Vec<String> = (0..9).map(|rack| format!("r{rack}")).collect();
    let cluster = cliques(&names.iter().map(|name| (name.as_str(), 18)).collect::<Vec<_>>());
    let expected: Vec<_> = names.iter().take(8).map(|name| format!("16 in {name}")).collect();
    assert_eq!(one("{}", &cluster, 128), expected.join(", "));
}

#[test]
fn two_halves_wait_for_two_partitions_with_room_for_one_each() {
    let waiting = answers("{}", &cliques(&[("a", 14), ("b", 18)]), None, vec![unit(0, 32)]).remove(0);
    assert_eq!((waiting.decision, waiting.reason.code.as_str()), (Decision::Hold(30_000), "SlicesDoNotFit"));
    assert_eq!(
        waiting.reason.message,
        "needs 2 nvidia.com/gpu.cliques with room for 16 pods each; 1 have that, and smaller ones would leave slices of unequal size"
    );
    assert_eq!(one("{}", &cliques(&[("a", 14), ("b", 18), ("c", 16)]), 32), "16 in b, 16 in c");
}

#[test]
fn fit_is_counted_by_partition_and_not_by_rack() {
    // One rack of two halves.
    let cluster = cliques(&[("rack.0", 9), ("rack.1", 9)]);
    assert_eq!(one("{}", &cluster, 12), "hold");
    assert_eq!(one(r#"{"maxPerDomain":9}"#, &cluster, 12), "6 in rack.0, 6 in rack.1");
}

#[test]
fn a_node_without_a_partition_is_no_place() {
    assert_eq!(one("{}", &cliques(&[("", 18), ("a", 4)]), 5), "hold");
    let failure = place(&parse("{}").unwrap(), &cliques(&[("", 18)]), &request(None, vec![unit(0, 2)])).unwrap_err();
    assert!(
        matches!(&failure, Failure::Unsupported(why) if why.starts_with("no node says which NVLink partition it is in")),
        "{failure:?}"
    );
}

#[test]
fn slices_are_whole_subgroups() {
    let subgroups = |pods: u32, each: u32| Unit { subgroups: vec![each; (pods / each) as usize], ..unit(0, pods) };
    let names = [("a", 18), ("b", 18), ("c", 18), ("d", 18)];
    assert_eq!(words("{}", &cliques(&names), vec![subgroups(48, 12)]), ["12 in a, 12 in b, 12 in c, 12 in d"]);
    assert_eq!(words("{}", &cliques(&names), vec![subgroups(32, 8)]), ["16 in a, 16 in b"]);
}

#[test]
fn a_leader_without_gpus_is_one_more_in_the_first_slice() {
    let table = Table::new([CLIQUE]).without_shapes().shape(&[("cpu", 8)], &[]).shape(&[("cpu", 64), (GPU, 4)], &[]);
    let cluster = ["a", "b"].iter().fold(table, |table, name| table.nodes_with(16, [*name], &[("cpu", 128), (GPU, 4)]));
    let divided = Unit { subgroups: vec![16, 16], ..unit(0, 33) };
    assert_eq!(words("{}", &cluster, vec![divided]), ["17 in a, 16 in b"]);
}

#[test]
fn groups_share_a_partition_unless_they_must_not() {
    let cluster = cliques(&[("a", 18), ("b", 18)]).held(CLIQUE, "b", 1);
    let units = || vec![unit(0, 4), unit(1, 4), unit(2, 4)];
    assert_eq!(words("{}", &cluster, units()), ["a or b", "a or b", "a or b"]);
    let answers = answers(r#"{"exclusive":true}"#, &cluster, None, units());
    assert_eq!(cluster.in_words(&answers[0].decision), format!("{CLIQUE}=a"));
    assert_eq!((answers[1].decision.clone(), answers[1].reason.code.as_str()), (Decision::Hold(30_000), "NoFreeDomain"));
    assert_eq!(
        answers[1].reason.message,
        "needs 4 pods in one nvidia.com/gpu.clique; there is no free one; 2 are held by other groups"
    );
}

#[test]
fn slices_of_exclusive_groups_share_no_partition_with_others() {
    let cluster = cliques(&[("a", 18), ("b", 18), ("c", 18), ("d", 9)]);
    let units = vec![unit(0, 24), unit(1, 8), unit(2, 8), unit(3, 8)];
    assert_eq!(words(r#"{"exclusive":true}"#, &cluster, units), ["12 in a, 12 in b", "d or c", "c", "hold"]);
}

#[test]
fn a_set_with_a_partition_of_its_own_is_not_cut() {
    let cluster = cliques(&[("a", 18), ("b", 18)]).held(CLIQUE, "a", 1);
    let answers = answers("{}", &cluster, Some(0), vec![unit(0, 16), unit(1, 24)]);
    assert_eq!(cluster.in_words(&answers[0].decision), format!("{CLIQUE}=b"));
    assert_eq!((answers[1].decision.clone(), answers[1].reason.code.as_str()), (Decision::Refuse, "LargerThanDomain"));
}

#[test]
fn slices_share_a_wider_domain_if_they_can() {
    let cluster = [("x", "a", 18), ("y", "b", 18), ("y", "c", 18), ("z", "d", 18)]
        .iter()
        .fold(table(&["block", CLIQUE]), |table, (block, name, room)| table.nodes_with(*room, [*block, *name], &[(GPU, 4)]));
    assert_eq!(one(r#"{"near":"block"}"#, &cluster, 24), "12 in b, 12 in c");
    assert_eq!(one(r#"{"near":"block"}"#, &cluster, 48), "16 in b, 16 in c, 16 in a");
    assert_eq!(one("{}", &cluster, 24), "12 in a, 12 in b");
}

#[test]
fn the_rack_around_two_halves_is_derived_from_their_names() {
    let cluster = cliques(&[("a.0", 9), ("b.0", 9), ("b.1", 9), ("c.0", 9)]);
    let settings = r#"{"near":"derived:nvidia.com/gpu.clique#prefix","maxPerDomain":9}"#;
    assert_eq!(one(settings, &cluster, 16), "8 in b.0, 8 in b.1");
}

#[test]
fn pods_that_take_a_part_of_a_node_are_refused_unless_that_is_wanted() {
    let table = Table::new([CLIQUE]).without_shapes().shape(&[(GPU, 2)], &[]).shape(&[(GPU, 2)], &[]);
    let cluster = table.nodes_with(18, ["a"], &[(GPU, 4)]);
    let refused = answers("{}", &cluster, None, vec![unit(0, 4)]).remove(0);
    assert_eq!((refused.decision, refused.reason.code.as_str()), (Decision::Refuse, "PartOfNode"));
    assert_eq!(
        refused.reason.message,
        "a pod asks for 2 of the 4 nvidia.com/gpu of a node, and only one pod of a node can use the NVLink network; \
         ask for 4, or set wholeNodes to false"
    );
    assert_eq!(one(r#"{"wholeNodes":false}"#, &cluster, 4), "a");
}

#[test]
fn pods_that_claim_their_gpus_are_not_looked_at() {
    let table = Table::new([CLIQUE]).without_shapes().shape(&[("cpu", 64)], &[]).shape(&[("cpu", 64)], &[]);
    assert_eq!(one("{}", &table.nodes_with(18, ["a"], &[(GPU, 4), ("cpu", 64)]), 4), "a");
}

#[test]
fn a_single_pod_opens_no_untouched_partition_while_another_has_room() {
    assert_eq!(one("{}", &cliques(&[("a", 18), ("b", 3)]), 1), "b or a");
}

#[test]
fn a_group_stays_where_it_runs_and_chooses_first() {
    let current = Some(Whereabouts { domains: vec![0], nodes: vec![NO_NODE; 4] });
    let running = Unit { current, ..unit(1, 4) };
    assert_eq!(words("{}", &cliques(&[("a", 4), ("b", 9)]), vec![unit(0, 4), running]), ["b", "a"]);
}
