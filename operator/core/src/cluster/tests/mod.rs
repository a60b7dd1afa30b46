//! Builders for clusters in tests, and the tests of the index.

mod events;
mod ledger;
mod packing;
mod properties;
mod seating;
mod shapes;
mod whereabouts;

use k8s_openapi::api::core::v1::{Node, Pod, PodSpec};
use serde_json::json;

use super::{GroupId, Holding, Index, Scope, Shape, View};
use crate::cluster::SubgroupId;
use crate::placement::{Demand, LevelId, ShapeId, Subgroup, Unit};

pub(crate) const POOL: &str = "cloud.google.com/gke-nodepool";
pub(crate) const GPU: &str = "nvidia.com/gpu";

/// A ready node with 8 GPUs; no label if the pool is empty.
pub(crate) fn node(name: &str, pool: &str) -> Node {
    node_with(name, pool, 8)
}

pub(crate) fn node_with(name: &str, pool: &str, gpus: u32) -> Node {
    let mut labels = json!({ "kubernetes.io/hostname": name });
    if !pool.is_empty() {
        labels[POOL] = json!(pool);
    }
    serde_json::from_value(json!({
        "metadata": { "name": name, "labels": labels },
        "status": {
            "allocatable": { "cpu": "64", "memory": "512Gi", "pods": "110", GPU: gpus.to_string() },
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    }))
    .unwrap()
}

pub(crate) fn gpus(count: u32) -> PodSpec {
    serde_json::from_value(json!({
        "containers": [{ "name": "c", "resources": { "limits": { GPU: count.to_string() } } }],
    }))
    .unwrap()
}

pub(crate) fn shape(count: u32) -> Shape {
    Shape::of(&gpus(count)).unwrap()
}

/// A pod of `default/<set>`, bound if a node is named.
pub(crate) fn member(set: &str, group: u32, rank: u32, gpu: u32, node: &str) -> Pod {
    let leader = format!("{set}-{group}");
    let name = if rank == 0 { leader.clone() } else { format!("{leader}-{rank}") };
    let mut spec = gpus(gpu);
    spec.node_name = (!node.is_empty()).then(|| node.to_owned());
    let mut pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": name, "namespace": "default", "labels": {
            "leaderworkerset.sigs.k8s.io/name": set,
            "leaderworkerset.sigs.k8s.io/group-index": group.to_string(),
            "leaderworkerset.sigs.k8s.io/group-key": format!("key-of-{leader}"),
        } },
    }))
    .unwrap();
    pod.spec = Some(spec);
    pod
}

pub(crate) fn group(set: &str, index: u32) -> GroupId {
    GroupId { namespace: "default".into(), leader_pod: format!("{set}-{index}") }
}

pub(crate) fn holding(set: &str, index: u32, pool: &str, outstanding: Vec<(Shape, u32)>) -> Holding {
    Holding {
        group: group(set, index),
        set: set.into(),
        level: POOL.into(),
        domain: pool.into(),
        exclusive: true,
        divided: false,
        outstanding,
        pinned: Vec::new(),
        subgroups: Vec::new(),
    }
}

/// Pools as one level, and pods with 8 GPUs.
pub(crate) fn view() -> View {
    view_of(vec![shape(8)])
}

pub(crate) fn view_of(shapes: Vec<Shape>) -> View {
    View { levels: vec![POOL.into()], shapes, namespace: "default".into(), scope: Scope::Namespace, ..View::default() }
}

pub(crate) const POOLS: LevelId = LevelId(0);

pub(crate) fn pods(shape: u32, pods: u32) -> Demand {
    Demand { shape: ShapeId(shape), pods }
}

pub(crate) fn unit(id: u32, demands: &[Demand]) -> Unit {
    Unit { id, pods: demands.to_vec(), ..Unit::default() }
}

/// An index of nodes given as `(name, pool)`.
pub(crate) fn cluster(nodes: &[(&str, &str)]) -> Index {
    let mut index = Index::new();
    for (name, pool) in nodes {
        index.apply_node(&node(name, pool));
    }
    index
}

/// A unit of `default/<set>` with these subgroups, and pods that are in none.
pub(crate) fn divided(set: &str, id: u32, subgroups: &[&[Demand]], rest: &[Demand]) -> Unit {
    let each = (0..).zip(subgroups).map(|(index, pods)| Subgroup {
        id: SubgroupId { group: group(set, id), index },
        pods: pods.to_vec(),
        bound: None,
    });
    let all = subgroups.iter().copied().flatten().chain(rest).copied().collect();
    Unit { id, pods: all, subgroups: each.collect(), ..Unit::default() }
}
