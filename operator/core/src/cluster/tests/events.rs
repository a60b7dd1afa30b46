use serde_json::json;

use super::*;
use crate::placement::{DomainId, NodeId};

#[test]
fn a_heartbeat_moves_nothing() {
    let mut index = cluster(&[("n1", "a")]);
    let before = index.generation();
    let mut beat = node("n1", "a");
    let status = json!([{ "type": "Ready", "status": "True", "lastHeartbeatTime": "2026-11-22T05:00:00Z" }]);
    beat.status.as_mut().unwrap().conditions = Some(serde_json::from_value(status).unwrap());
    index.apply_node(&beat);
    assert_eq!(index.generation(), before);
}

#[test]
fn a_pod_status_without_effect_moves_nothing() {
    let mut index = cluster(&[("n1", "a")]);
    let mut pod = member("s", 0, 0, 8, "n1");
    index.apply_pod(&pod);
    let before = index.generation();
    pod.status = Some(serde_json::from_value(json!({ "phase": "Running" })).unwrap());
    index.apply_pod(&pod);
    assert_eq!(index.generation(), before);
}

#[test]
fn a_node_that_becomes_unready_fits_nothing() {
    let mut index = cluster(&[("n1", "a"), ("n2", "a")]);
    let mut broken = node("n1", "a");
    assert_eq!(index.snapshot(view()).node_fit(ShapeId(0)).to_vec(), [1, 1]);
    broken.status.as_mut().unwrap().conditions = None;
    index.apply_node(&broken);
    assert_eq!(index.snapshot(view()).node_fit(ShapeId(0)).to_vec(), [0, 1]);
}

#[test]
fn a_node_without_the_label_is_in_no_domain() {
    let mut index = cluster(&[("n1", ""), ("n2", "a"), ("n3", "")]);
    let snapshot = index.snapshot(view());
    assert_eq!(snapshot.domain_count(POOLS), 1);
    assert_eq!(snapshot.node_domains(POOLS).to_vec(), [DomainId::NONE.0, 0, DomainId::NONE.0]);
    assert_eq!(snapshot.domain_fit(POOLS, ShapeId(0)).to_vec(), [1]);
}

#[test]
fn a_bound_pod_takes_room_until_its_object_is_gone() {
    let mut index = cluster(&[("n1", "a")]);
    let mut pod = member("s", 0, 0, 8, "n1");
    index.apply_pod(&pod);
    pod.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-11-22T05:00:00Z")).unwrap());
    index.apply_pod(&pod);
    assert_eq!(index.snapshot(view()).node_fit(ShapeId(0)).to_vec(), [0]);
    assert_eq!(index.snapshot(view()).domain_holders(POOLS).to_vec(), [1]);
    index.remove_pod("default", "s-0");
    assert_eq!(index.snapshot(view()).node_fit(ShapeId(0)).to_vec(), [1]);
    assert_eq!(index.snapshot(view()).domain_holders(POOLS).to_vec(), [0]);
}

#[test]
fn a_pod_that_has_ended_takes_no_room() {
    let mut index = cluster(&[("n1", "a")]);
    let mut pod = member("s", 0, 0, 8, "n1");
    index.apply_pod(&pod);
    pod.status = Some(serde_json::from_value(json!({ "phase": "Failed" })).unwrap());
    index.apply_pod(&pod);
    assert_eq!(index.snapshot(view()).node_fit(ShapeId(0)).to_vec(), [1]);
}

#[test]
fn a_pod_may_be_seen_before_its_node() {
    let mut index = Index::new();
    index.apply_pod(&member("s", 0, 0, 8, "n1"));
    index.apply_node(&node("n1", "a"));
    assert_eq!(index.snapshot(view()).node_fit(ShapeId(0)).to_vec(), [0]);
}

#[test]
fn a_node_that_comes_back_still_has_its_pods() {
    let mut index = cluster(&[("n1", "a")]);
    index.apply_pod(&member("s", 0, 0, 8, "n1"));
    index.remove_node("n1");
    assert_eq!(index.snapshot(view()).node_count(), 0);
    index.apply_node(&node("n1", "a"));
    assert_eq!(index.snapshot(view()).node_fit(ShapeId(0)).to_vec(), [0]);
}

#[test]
fn rows_follow_their_nodes_when_one_is_added_before_them() {
    let mut index = cluster(&[("n2", "b")]);
    index.apply_pod(&member("s", 0, 0, 8, "n2"));
    assert_eq!(index.snapshot(view()).node_fit(ShapeId(0)).to_vec(), [0]);
    index.apply_node(&node("n1", "a"));
    let snapshot = index.snapshot(view());
    assert_eq!(snapshot.node_fit(ShapeId(0)).to_vec(), [1, 0]);
    assert_eq!(snapshot.node_name(NodeId(0)), Some("n1"));
}

#[test]
fn a_snapshot_does_not_see_later_changes() {
    let mut index = cluster(&[("n1", "a")]);
    let snapshot = index.snapshot(view());
    index.apply_pod(&member("s", 0, 0, 8, "n1"));
    index.hold(holding("t", 0, "a", Vec::new()));
    index.remove_node("n1");
    assert_eq!(snapshot.node_count(), 1);
    assert_eq!(snapshot.domain_fit(POOLS, ShapeId(0)).to_vec(), [1]);
    assert_eq!(snapshot.domain_holders(POOLS).to_vec(), [0]);
}

#[test]
fn levels_nest_where_every_node_agrees() {
    let mut index = Index::new();
    for (name, zone, pool) in [("n1", "z1", "a"), ("n2", "z1", "a"), ("n3", "z1", "b"), ("n4", "z2", "b")] {
        let mut node = node(name, pool);
        node.metadata.labels.as_mut().unwrap().insert("zone".into(), zone.into());
        index.apply_node(&node);
    }
    let levels = vec!["zone".to_owned(), POOL.to_owned()];
    let snapshot = index.snapshot(View { levels, ..view() });
    assert_eq!(snapshot.domain_parents(LevelId(1)).to_vec(), [0, DomainId::NONE.0]);
    assert_eq!(snapshot.domain_parents(LevelId(0)).to_vec(), [DomainId::NONE.0, DomainId::NONE.0]);
}

#[test]
fn nonsense_ids_get_nothing() {
    let snapshot = cluster(&[("n1", "a")]).snapshot(view());
    let (level, shape, domain) = (LevelId(7), ShapeId(7), DomainId(7));
    assert_eq!(snapshot.domain_count(level), 0);
    assert!(snapshot.domain_fit(level, ShapeId(0)).is_empty());
    assert!(snapshot.domain_fit(POOLS, shape).is_empty());
    assert!(snapshot.domain_holders(level).is_empty());
    assert!(snapshot.domain_parents(level).is_empty());
    assert!(snapshot.node_fit(shape).is_empty());
    assert_eq!(snapshot.nodes_in(POOLS, domain, ShapeId(0)), (Vec::new(), Vec::new()));
    assert!(snapshot.best_domains(level, &[pods(0, 1)], true, 9).is_empty());
    assert!(snapshot.best_domains(POOLS, &[pods(7, 1)], true, 9).is_empty());
    assert_eq!(snapshot.domain_name(POOLS, domain), None);
    assert_eq!(snapshot.node_name(NodeId(7)), None);
    assert_eq!(snapshot.node_label(NodeId(7), POOL), None);
}
