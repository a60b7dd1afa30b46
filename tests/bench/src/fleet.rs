//! Clusters to measure on: nodes with the labels that a cloud gives them, pods of sets and of others.

use k8s_openapi::api::core::v1::{Node, Pod, PodSpec};
use muster_core::cluster::{GroupId, Holding, Index, Scope, Shape, View};
use muster_core::placement::{Demand, LevelId, Request, ShapeId, Unit};
use serde_json::{Value, json};

pub(crate) const BLOCK: &str = "example.com/block";
pub(crate) const RACK: &str = "example.com/rack";
pub(crate) const CHASSIS: &str = "example.com/chassis";
pub(crate) const HOST: &str = "kubernetes.io/hostname";

/// Pods of one group.
pub(crate) const GROUP: u32 = 8;

/// So many nodes, in so many racks, in blocks of about twenty racks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fleet {
    pub(crate) nodes: u32,
    pub(crate) racks: u32,
}

impl Fleet {
    fn rack(self, node: u32) -> u32 {
        u32::try_from(u64::from(node) * u64::from(self.racks) / u64::from(self.nodes)).unwrap_or(0)
    }

    /// The node of this number, with what a node of a managed cluster has.
    pub(crate) fn node(self, number: u32) -> Node {
        let (name, rack) = (node_name(number), self.rack(number));
        node(json!({
            "metadata": { "name": name, "labels": {
                HOST: name, CHASSIS: format!("chassis-{:05}", number / 2), RACK: rack_name(rack), BLOCK: format!("block-{:03}", rack / 20),
                "beta.kubernetes.io/arch": "amd64", "beta.kubernetes.io/instance-type": "a3-highgpu-8g", "beta.kubernetes.io/os": "linux",
                "cloud.google.com/gke-accelerator": "nvidia-h100-80gb", "cloud.google.com/gke-boot-disk": "pd-balanced",
                "cloud.google.com/gke-nodepool": format!("pool-{:03}", rack / 20), "cloud.google.com/machine-family": "a3",
                "failure-domain.beta.kubernetes.io/region": "europe-west4", "failure-domain.beta.kubernetes.io/zone": "europe-west4-a",
                "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux", "node.kubernetes.io/instance-type": "a3-highgpu-8g",
                "topology.kubernetes.io/region": "europe-west4", "topology.kubernetes.io/zone": "europe-west4-a",
            } },
            "status": {
                "allocatable": {
                    "cpu": "206", "memory": "1919Gi", "ephemeral-storage": "5600Gi", "hugepages-1Gi": "0", "hugepages-2Mi": "0",
                    "nvidia.com/gpu": "8", "pods": "110",
                },
                "conditions": [{ "type": "Ready", "status": "True" }],
            },
        }))
    }

    /// An index of its nodes.
    pub(crate) fn index(self) -> Index {
        let mut index = Index::new();
        (0..self.nodes).for_each(|number| index.apply_node(&self.node(number)));
        index
    }
}

/// A busy cluster: `members` pods in groups, each of which holds a rack or a block, and pods of no set besides.
pub(crate) fn busy(fleet: Fleet, members: u32, others: u32) -> Index {
    let mut index = fleet.index();
    for number in 0..others {
        let spec = PodSpec { node_name: Some(node_name(number % fleet.nodes)), ..spec(0) };
        index.apply_pod(&pod("kube-system", &format!("agent-{number:06}"), &json!({}), spec));
    }
    let groups = members / GROUP;
    for group in 0..groups {
        let first = u64::from(group) * u64::from(fleet.nodes) / u64::from(groups);
        let first = u32::try_from(first).unwrap_or(0);
        (0..GROUP).for_each(|rank| index.apply_pod(&member(group, rank, Some((first + rank) % fleet.nodes))));
        let rack = fleet.rack(first);
        // Of the groups that start in one rack the first has it for itself, as far as the ledger is concerned.
        let exclusive = group % 8 == 0;
        let (level, domain) = if exclusive { (RACK, rack_name(rack)) } else { (BLOCK, format!("block-{:03}", rack / 20)) };
        // A few groups are on their way.
        let outstanding = if group % 100 == 1 { vec![(shape(1), 2)] } else { Vec::new() };
        index.hold(holding(group, level, domain, exclusive, outstanding));
    }
    index
}

/// What a decision looks at: blocks and racks, and the shapes of a leader and of a worker.
pub(crate) fn view() -> View {
    let shapes = vec![leader_shape(), shape(8)];
    View { levels: vec![BLOCK.to_owned(), RACK.to_owned()], shapes, namespace: "ml".to_owned(), ..View::default() }
}

/// So many groups of one leader and seven workers.
pub(crate) fn request(units: u32) -> Request {
    request_of(units, GROUP)
}

/// So many groups of `size` pods that want a rack each.
pub(crate) fn request_of(units: u32, size: u32) -> Request {
    let pods = vec![Demand { shape: ShapeId(0), pods: 1 }, Demand { shape: ShapeId(1), pods: size - 1 }];
    Request {
        owner: "ml/train".to_owned(),
        labels: [("leaderworkerset.sigs.k8s.io/name".to_owned(), "train".to_owned())].into(),
        exclusive: Some(LevelId(1)),
        units: (0..units).map(|id| Unit { id, pods: pods.clone(), ..Unit::default() }).collect(),
        ..Request::default()
    }
}

/// Pods of 8 GPUs with the cluster's whole scope, for views that are not the fleet's own.
pub(crate) fn cluster_wide(levels: &[&str]) -> View {
    let levels = levels.iter().map(|&level| level.to_owned()).collect();
    View { levels, scope: Scope::Cluster, ..view() }
}

pub(crate) fn node_name(number: u32) -> String {
    format!("gke-fleet-a3-{number:05}")
}

fn rack_name(rack: u32) -> String {
    format!("rack-{rack:04}")
}

/// The pod of that rank of a group of set `serve-<n>`, each of which has 50 groups.
pub(crate) fn member(group: u32, rank: u32, node: Option<u32>) -> Pod {
    let id = group_id(group);
    let name = if rank == 0 { id.leader_pod.clone() } else { format!("{}-{rank}", id.leader_pod) };
    let labels = json!({
        "leaderworkerset.sigs.k8s.io/name": set_name(group),
        "leaderworkerset.sigs.k8s.io/group-index": (group % 50).to_string(),
        "leaderworkerset.sigs.k8s.io/group-key": format!("{group:040x}"),
        "leaderworkerset.sigs.k8s.io/worker-index": rank.to_string(),
    });
    pod(&id.namespace, &name, &labels, PodSpec { node_name: node.map(node_name), ..spec(1) })
}

fn set_name(group: u32) -> String {
    format!("serve-{:03}", group / 50)
}

pub(crate) fn group_id(group: u32) -> GroupId {
    GroupId { namespace: format!("team-{:02}", group / 50 % 20), leader_pod: format!("{}-{}", set_name(group), group % 50) }
}

pub(crate) fn holding(group: u32, level: &str, domain: String, exclusive: bool, outstanding: Vec<(Shape, u32)>) -> Holding {
    let (group, set, level) = (group_id(group), set_name(group), level.to_owned());
    Holding { group, set, level, domain, exclusive, divided: false, outstanding, pinned: Vec::new(), subgroups: Vec::new() }
}

fn pod(namespace: &str, name: &str, labels: &Value, spec: PodSpec) -> Pod {
    let mut pod = Pod { spec: Some(spec), ..Pod::default() };
    pod.metadata.namespace = Some(namespace.to_owned());
    pod.metadata.name = Some(name.to_owned());
    pod.metadata.labels = serde_json::from_value(labels.clone()).ok();
    pod
}

/// A pod with so many GPUs. Requests count as in the API: a list of quantities.
fn spec(gpus: u32) -> PodSpec {
    let mut resources = json!({ "cpu": "500m", "memory": "1Gi" });
    if gpus > 0 {
        resources = json!({ "cpu": gpus.to_string(), "memory": format!("{}Gi", 16 * gpus), "nvidia.com/gpu": gpus.to_string() });
    }
    let containers = json!([{ "name": "main", "resources": { "requests": resources } }]);
    PodSpec { containers: serde_json::from_value(containers).unwrap_or_default(), ..PodSpec::default() }
}

/// The shape of a pod with so many GPUs.
pub(crate) fn shape(gpus: u32) -> Shape {
    shape_of(&spec(gpus))
}

/// A leader takes a little more memory than a worker.
fn leader_shape() -> Shape {
    let mut spec = spec(8);
    let memory = k8s_openapi::apimachinery::pkg::api::resource::Quantity("256Gi".to_owned());
    for container in &mut spec.containers {
        let requests = container.resources.get_or_insert_default().requests.get_or_insert_default();
        requests.insert("memory".to_owned(), memory.clone());
    }
    shape_of(&spec)
}

#[expect(clippy::expect_used, reason = "the quantities are written above")]
fn shape_of(spec: &PodSpec) -> Shape {
    Shape::of(spec).expect("quantities that can be read")
}

#[expect(clippy::expect_used, reason = "the object is written above")]
fn node(value: Value) -> Node {
    serde_json::from_value(value).expect("a node")
}
