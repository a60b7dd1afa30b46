//! Where groups are and were, which nodes failed them, and views that are narrowed.

use k8s_openapi::jiff::{Timestamp, ToSpan as _};

use super::{POOL, POOLS, cluster, group, holding, member, node, pods, shape, view};
use crate::cluster::View;
use crate::placement::{DomainId, NodeId, ShapeId, Whereabouts};

const HOUR_MS: u64 = 60 * 60 * 1000;

fn noon() -> Timestamp {
    "2026-11-26T12:00:00Z".parse().unwrap()
}

#[test]
fn a_group_is_where_its_bound_pods_are() {
    let mut index = cluster(&[("n1", "a"), ("n2", "a"), ("n3", "b")]);
    index.apply_pod(&member("s", 0, 0, 1, "n2"));
    index.apply_pod(&member("s", 0, 2, 1, "n1"));
    index.apply_pod(&member("s", 0, 1, 1, ""));
    let nodes = vec![NodeId(1), NodeId::NONE, NodeId(0)];
    let expected = Whereabouts { domains: vec![DomainId(0)], nodes };
    assert_eq!(index.snapshot(view()).current(&group("s", 0), 3), Some(expected));
    assert_eq!(index.snapshot(view()).current(&group("s", 1), 3), None);
}

#[test]
fn a_group_over_two_pools_is_in_none() {
    let mut index = cluster(&[("n1", "a"), ("n3", "b")]);
    index.apply_pod(&member("s", 0, 0, 1, "n1"));
    index.apply_pod(&member("s", 0, 1, 1, "n3"));
    assert_eq!(index.snapshot(view()).current(&group("s", 0), 2).unwrap().domains, [DomainId::NONE]);
}

#[test]
fn where_a_group_was_is_remembered_when_its_pods_are_gone() {
    let mut index = cluster(&[("n1", "a"), ("n2", "b")]);
    index.apply_pod(&member("s", 0, 0, 1, "n2"));
    index.remove_pod("default", "s-0");
    let snapshot = index.snapshot(view());
    assert_eq!(snapshot.current(&group("s", 0), 1), None);
    assert_eq!(snapshot.previous(&group("s", 0), 1).unwrap().domains, [DomainId(1)]);
    // Nothing is known of a node that is gone.
    index.remove_node("n2");
    let previous = index.snapshot(view()).previous(&group("s", 0), 1).unwrap();
    assert_eq!((previous.domains, previous.nodes), (vec![DomainId::NONE], vec![NodeId::NONE]));
}

#[test]
fn a_successor_that_hides_the_end_of_a_pod_does_not_hide_where_it_was() {
    let mut index = cluster(&[("n1", "a"), ("n2", "b")]);
    index.apply_pod(&member("s", 0, 0, 1, "n1"));
    index.apply_pod(&member("s", 0, 0, 1, ""));
    assert_eq!(index.snapshot(view()).previous(&group("s", 0), 1).unwrap().nodes, [NodeId(0)]);
}

#[test]
fn the_groups_of_a_set_are_listed_with_what_they_have_or_were_promised() {
    let mut index = cluster(&[("n1", "a"), ("n2", "b")]);
    index.apply_pod(&member("s", 0, 0, 1, "n1"));
    index.hold(holding("s", 2, "b", vec![(shape(8), 1)]));
    index.apply_pod(&member("s", 3, 0, 1, ""));
    index.apply_pod(&member("s-1", 0, 0, 1, "n1"));
    let snapshot = index.snapshot(View { for_groups: [group("s", 3)].into(), ..view() });
    assert_eq!(snapshot.groups_of("default", "s"), [(0, vec![DomainId(0)]), (2, vec![DomainId(1)])]);
}

#[test]
fn a_node_that_stops_being_ready_fails_the_groups_on_it_once() {
    let mut index = cluster(&[("n1", "a"), ("n2", "a")]);
    index.set_time(noon());
    index.apply_pod(&member("s", 0, 0, 1, "n1"));
    let mut unready = node("n1", "a");
    unready.status.as_mut().unwrap().conditions.as_mut().unwrap()[0].status = "False".to_owned();
    index.apply_node(&unready);
    index.apply_node(&unready);
    let mut idle = unready.clone();
    idle.metadata.name = Some("n2".to_owned());
    index.apply_node(&idle);
    assert_eq!(index.bad_nodes(noon() + 2.hours()), [("n1".to_owned(), 1, 2 * HOUR_MS)]);
    // In whole minutes: a question that is asked again soon is the same question.
    assert_eq!(index.bad_nodes(noon() + 2.hours() + 59.seconds()), [("n1".to_owned(), 1, 2 * HOUR_MS)]);
    index.remove_node("n1");
    assert_eq!(index.bad_nodes(noon() + 3.hours()), [("n1".to_owned(), 2, 3 * HOUR_MS)]);
    assert_eq!(index.bad_nodes(noon() + 24.hours()), []);
}

#[test]
fn a_pod_that_fails_counts_against_its_node() {
    let mut index = cluster(&[("n1", "a")]);
    index.set_time(noon());
    let mut pod = member("s", 0, 0, 1, "n1");
    index.apply_pod(&pod);
    pod.status.get_or_insert_default().phase = Some("Failed".to_owned());
    index.apply_pod(&pod);
    index.apply_pod(&pod);
    assert_eq!(index.bad_nodes(noon()), [("n1".to_owned(), 1, 0)]);
}

#[test]
fn nodes_outside_what_a_view_is_narrowed_to_have_no_room() {
    let mut index = cluster(&[("n1", "a"), ("n2", "a"), ("n3", "b")]);
    let inside = vec![(POOL.to_owned(), "a".to_owned())];
    let snapshot = index.snapshot(View { inside, ..view() });
    assert_eq!(snapshot.domain_fit(POOLS, ShapeId(0)).to_vec(), [2, 0]);
    assert_eq!(snapshot.best_domains(POOLS, &[pods(0, 1)], false, 9), [0]);
}
