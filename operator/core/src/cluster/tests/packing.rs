use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::cluster::Verdict;
use crate::placement::{DomainId, Place};

fn cpu_only() -> Shape {
    let spec = json!({ "containers": [{ "name": "c", "resources": { "requests": { "cpu": "32" } } }] });
    Shape::of(&serde_json::from_value(spec).unwrap()).unwrap()
}

fn pool(domain: u32) -> Place {
    Place { level: POOLS, domain: DomainId(domain) }
}

#[test]
fn the_leader_goes_where_it_costs_the_fewest_workers() {
    // Three nodes of 8 GPUs; workers take 8, the leader 1: on n3, where one GPU is taken, it costs no worker.
    let mut index = cluster(&[("n1", "a"), ("n2", "a"), ("n3", "a")]);
    index.apply_pod(&member("other", 0, 0, 1, "n3"));
    let snapshot = index.snapshot(view_of(vec![shape(1), shape(8)]));
    assert!(snapshot.fits(pool(0), &[pods(0, 1), pods(1, 2)]));
    assert!(!snapshot.fits(pool(0), &[pods(0, 8), pods(1, 2)]));
}

#[test]
fn a_domain_without_room_for_the_leader_does_not_fit_however_many_workers_it_takes() {
    // Both nodes of pool a have GPUs, but no CPU for the leader; pool b has one node.
    let mut index = cluster(&[("n1", "a"), ("n2", "a"), ("n3", "b")]);
    for (group, node) in [(0, "n1"), (1, "n2")] {
        let mut busy = member("busy", group, 0, 0, node);
        busy.spec = Some(
            serde_json::from_value(json!({
                "nodeName": node, "containers": [{ "name": "c", "resources": { "requests": { "cpu": "40" } } }],
            }))
            .unwrap(),
        );
        index.apply_pod(&busy);
    }
    let snapshot = index.snapshot(view_of(vec![cpu_only(), shape(8)]));
    assert_eq!(snapshot.best_domains(POOLS, &[pods(0, 1), pods(1, 1)], false, 9), [1]);
}

#[test]
fn pods_of_one_shape_given_twice_count_together() {
    let snapshot = cluster(&[("n1", "a"), ("n2", "a")]).snapshot(view());
    assert!(snapshot.fits(pool(0), &[pods(0, 1), pods(0, 1)]));
    assert!(!snapshot.fits(pool(0), &[pods(0, 1), pods(0, 2)]));
}

#[test]
fn the_best_domain_is_the_smallest_that_fits_and_ties_go_by_name() {
    let nodes = [("n1", "c"), ("n2", "c"), ("n3", "b"), ("n4", "b"), ("n5", "a"), ("n6", "a"), ("n7", "a"), ("n8", "d")];
    let snapshot = cluster(&nodes).snapshot(view());
    assert_eq!(snapshot.best_domains(POOLS, &[pods(0, 2)], true, 9), [1, 2, 0]);
    assert_eq!(snapshot.best_domains(POOLS, &[pods(0, 2)], true, 1), [1]);
}

#[test]
fn the_explanation_has_a_verdict_per_domain_and_one_sentence() {
    let mut index = cluster(&[("n1", "a"), ("n2", "b"), ("n4", "d"), ("n5", "d"), ("n6", ""), ("n7", "")]);
    let mut tainted = node("n3", "c");
    tainted.spec = Some(serde_json::from_value(json!({ "taints": [{ "key": "k", "effect": "NoSchedule" }] })).unwrap());
    index.apply_node(&tainted);
    index.hold(holding("vllm", 0, "a", vec![(shape(8), 1)]));
    let explanation = index.snapshot(view()).explain(POOLS, &[pods(0, 2)], true);
    assert_eq!(
        explanation.summary(),
        "no domain of cloud.google.com/gke-nodepool fits the group (2 pods: 2 × {nvidia.com/gpu: 8}): \
         a: held by default/vllm group 0; b: room for 1 of 2 pods; c: no eligible node (1 tainted); \
         d: fits with room for 0 more; 2 nodes have no label cloud.google.com/gke-nodepool"
    );
}

#[test]
fn the_sentence_stays_short_however_many_domains_there_are() {
    let mut index = Index::new();
    for number in 0..500 {
        index.apply_node(&node(&format!("n{number}"), &format!("pool-with-a-rather-long-name-{number}")));
    }
    let summary = index.snapshot(view()).explain(POOLS, &[pods(0, 2)], true).summary();
    assert!(summary.len() <= 1024, "{} bytes", summary.len());
    assert!(summary.ends_with(" more"), "{summary}");
}

#[test]
fn without_any_label_the_sentence_counts_the_nodes() {
    let explanation = cluster(&[("n1", "")]).snapshot(view()).explain(POOLS, &[pods(0, 1)], true);
    assert_eq!(
        explanation.summary(),
        "no domain of cloud.google.com/gke-nodepool fits the group (1 pod: 1 × {nvidia.com/gpu: 8}): \
         1 node has no label cloud.google.com/gke-nodepool"
    );
}

#[test]
fn an_avoided_node_takes_nothing_and_the_explanation_says_so() {
    let mut index = cluster(&[("n1", "a"), ("n2", "b")]);
    let snapshot = index.snapshot(View { avoid: ["n1".to_owned()].into(), ..view() });
    assert_eq!(snapshot.node_fit(ShapeId(0)).to_vec(), [0, 1]);
    let summary = snapshot.explain(POOLS, &[pods(0, 1)], true).summary();
    assert!(summary.contains("a: no eligible node (1 avoided after a failed attempt)"), "{summary}");
    assert_eq!(index.snapshot(view()).node_fit(ShapeId(0)).to_vec(), [1, 1]);
}

/// A pod of so many GPUs and CPUs; one that wants a zone goes to no node of these tests without one.
fn pod_of(gpu: u32, cpu: u32, zoned: bool) -> PodSpec {
    let requests = json!({ GPU: gpu.to_string(), "cpu": cpu.to_string() });
    let mut spec = json!({ "containers": [{ "name": "c", "resources": { "limits": requests } }] });
    if zoned {
        spec["nodeSelector"] = json!({ "zone": "z" });
    }
    serde_json::from_value(spec).unwrap()
}

proptest! {
    #[test]
    fn a_leader_and_its_workers_are_packed_as_well_as_they_can_be(
        nodes in prop::collection::vec((0..17_u32, 0..65_u32, any::<bool>(), prop::sample::select(vec!["a", "b"])), 1..8),
        leader in (0..9_u32, 0..17_u32, any::<bool>()),
        worker in (0..9_u32, 1..17_u32, any::<bool>()),
        workers in 2..9_u32,
    ) {
        let mut index = Index::new();
        for (number, (gpu, cpu, zoned, pool)) in nodes.iter().enumerate() {
            let mut node = node_with(&format!("n{number}"), pool, *gpu);
            node.status.as_mut().unwrap().allocatable.as_mut().unwrap().get_mut("cpu").unwrap().0 = cpu.to_string();
            if *zoned {
                node.metadata.labels.as_mut().unwrap().insert("zone".to_owned(), "z".to_owned());
            }
            index.apply_node(&node);
        }
        let shapes = [leader, worker].map(|(gpu, cpu, zoned)| Shape::of(&pod_of(gpu, cpu, zoned)).unwrap());
        let snapshot = index.snapshot(view_of(shapes.to_vec()));
        let times = |free: u32, each: u32| free.checked_div(each).unwrap_or(u32::MAX);
        let slots = |(gpu, cpu, has_zone): (u32, u32, bool), pod: (u32, u32, bool)| {
            let room = times(gpu, pod.0).min(times(cpu, pod.1)).min(110);
            if pod.2 && !has_zone { 0 } else { room }
        };
        // Every node is tried for the leader.
        let leftover = |pool: &str| {
            let inside = nodes.iter().filter(|node| node.3 == pool).map(|(gpu, cpu, has_zone, _)| (*gpu, *cpu, *has_zone));
            let total: u32 = inside.clone().map(|node| slots(node, worker)).sum();
            let with_leader = inside.filter(|node| slots(*node, leader) > 0).map(|node| {
                total - slots(node, worker) + slots((node.0 - leader.0, node.1 - leader.1, node.2), worker)
            });
            with_leader.max()?.checked_sub(workers)
        };
        let pools: BTreeSet<&str> = nodes.iter().map(|node| node.3).collect();
        let wanted = [pods(0, 1), pods(1, workers)];
        let mut best = Vec::new();
        for (domain, (name, report)) in (0..).zip(pools.iter().zip(snapshot.explain(POOLS, &wanted, false).domains)) {
            let leftover = leftover(name);
            let found = if let Verdict::Fits { leftover } = report.verdict { Some(leftover) } else { None };
            prop_assert_eq!(found, leftover, "{}", name);
            best.extend(leftover.map(|leftover| (leftover, domain)));
        }
        best.sort_unstable();
        let best: Vec<u32> = best.into_iter().map(|(_, domain)| domain).collect();
        prop_assert_eq!(snapshot.best_domains(POOLS, &wanted, false, 9), best);
    }
}
