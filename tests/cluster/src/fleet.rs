//! Simulated nodes, labelled and sized like those of a GPU and TPU cloud, and the builder that makes them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus, Taint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{ListParams, ObjectMeta, PostParams};
use kube::{Api, Client};

use crate::wait::{PATIENCE, eventually};

/// The node pool of a node: what exclusive topology usually means in the cloud whose labels these are.
pub const POOL: &str = "cloud.google.com/gke-nodepool";
/// The rack of a node; two racks to a pool of four nodes.
pub const RACK: &str = "topology.muster.dev/rack";
/// The zone of a node.
pub const ZONE: &str = "topology.kubernetes.io/zone";
/// The host of a node.
pub const HOST: &str = "kubernetes.io/hostname";
/// GPUs, as pods ask for them.
pub const GPU: &str = "nvidia.com/gpu";
/// TPU chips, as pods ask for them.
pub const TPU: &str = "google.com/tpu";

/// Nodes of a pool in the default fleet.
const POOL_SIZE: usize = 4;
/// Nodes created at the same time.
const CONCURRENCY: usize = 32;

/// A number of nodes to create.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    nodes: Vec<Node>,
}

impl Fleet {
    /// No nodes yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `count` nodes of all kinds: about an eighth plain CPU nodes, a quarter TPU hosts in slices of four, the rest GPU nodes in pools of
    /// four, spread over three zones. Fewer than eight are all GPU nodes.
    #[must_use]
    pub fn of(count: usize) -> Self {
        if count < 2 * POOL_SIZE {
            return Self::new().gpu_pool("gpu-0", "zone-a", count);
        }
        let tpu_pools = count / 4 / POOL_SIZE;
        let gpu_pools = (count - tpu_pools * POOL_SIZE - count / 8) / POOL_SIZE;
        let rest = count - (tpu_pools + gpu_pools) * POOL_SIZE;
        let zone = |index: usize| ["zone-a", "zone-b", "zone-c"][index % 3];
        let mut fleet = Self::new();
        for index in 0..gpu_pools {
            fleet = fleet.gpu_pool(&format!("gpu-{index}"), zone(index), POOL_SIZE);
        }
        for index in 0..tpu_pools {
            fleet = fleet.tpu_pool(&format!("tpu-{index}"), zone(index), POOL_SIZE);
        }
        fleet.cpu_nodes("cpu", "zone-a", rest)
    }

    /// A pool of `count` nodes with eight GPUs each, two nodes to a rack.
    #[must_use]
    pub fn gpu_pool(self, pool: &str, zone: &str, count: usize) -> Self {
        self.pool(pool, zone, count, "a3-highgpu-8g", |node| {
            node.label("cloud.google.com/gke-accelerator", "nvidia-h100-80gb")
                .resource("cpu", "208")
                .resource("memory", "1872Gi")
                .resource(GPU, "8")
        })
    }

    /// A slice of `count` TPU hosts with four chips each. Like the cloud's, they are tainted `google.com/tpu=present:NoSchedule`.
    #[must_use]
    pub fn tpu_pool(self, pool: &str, zone: &str, count: usize) -> Self {
        // Four chips a host in a 2×2 square: the topology of the slice follows from the number of hosts.
        let topology = match count {
            1 => "2x2".to_owned(),
            2 => "2x4".to_owned(),
            4 => "4x4".to_owned(),
            8 => "4x8".to_owned(),
            _ => format!("{count}x4"),
        };
        self.pool(pool, zone, count, "ct5lp-hightpu-4t", move |node| {
            node.label("cloud.google.com/gke-tpu-accelerator", "tpu-v5-lite-podslice")
                .label("cloud.google.com/gke-tpu-topology", &topology)
                .taint(TPU, "present", "NoSchedule")
                .resource("cpu", "112")
                .resource("memory", "192Gi")
                .resource(TPU, "4")
        })
    }

    /// `count` nodes without accelerators.
    #[must_use]
    pub fn cpu_nodes(self, pool: &str, zone: &str, count: usize) -> Self {
        self.pool(pool, zone, count, "n2-standard-32", |node| node.resource("cpu", "32").resource("memory", "128Gi"))
    }

    /// One node made by hand.
    #[must_use]
    pub fn node(mut self, node: NodeBuilder) -> Self {
        self.nodes.push(node.build());
        self
    }

    fn pool(self, pool: &str, zone: &str, count: usize, machine: &str, kind: impl Fn(NodeBuilder) -> NodeBuilder) -> Self {
        (0..count).fold(self, |fleet, index| {
            let node = NodeBuilder::new(&format!("{pool}-{index}"))
                .label(POOL, pool)
                .label(ZONE, zone)
                .label("topology.kubernetes.io/region", "region-1")
                .label(RACK, &format!("{pool}-rack-{}", index / 2))
                .label("node.kubernetes.io/instance-type", machine);
            fleet.node(kind(node))
        })
    }

    /// Adds a label to every node so far, by which a test's pods find only the nodes of that test.
    #[must_use]
    pub fn labelled(mut self, key: &str, value: &str) -> Self {
        for node in &mut self.nodes {
            node.metadata.labels.get_or_insert_default().insert(key.to_owned(), value.to_owned());
        }
        self
    }

    /// The nodes.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Creates the nodes that don't exist and waits until all are ready and may be scheduled to.
    ///
    /// # Errors
    /// When the API server refuses a node, or nodes don't become ready.
    pub async fn create(&self, client: &Client) -> Result<()> {
        let api: Api<Node> = Api::all(client.clone());
        let params = PostParams::default();
        stream::iter(&self.nodes)
            .map(|node| async {
                match api.create(&params, node).await {
                    Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
                    other => other.map(drop),
                }
            })
            .buffer_unordered(CONCURRENCY)
            .try_collect::<()>()
            .await?;
        let patience = PATIENCE + Duration::from_millis(20) * u32::try_from(self.nodes.len())?;
        eventually(patience, || async {
            let ready = api.list(&ListParams::default()).await?.items.into_iter().filter(is_usable);
            let ready: std::collections::BTreeSet<String> = ready.filter_map(|node| node.metadata.name).collect();
            let waiting: Vec<&str> = self.names().filter(|name| !ready.contains(*name)).collect();
            ensure!(
                waiting.is_empty(),
                "{} of {} nodes are not ready, {} among them",
                waiting.len(),
                self.nodes.len(),
                waiting[0]
            );
            Ok(())
        })
        .await
    }

    /// The names of the nodes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().filter_map(|node| node.metadata.name.as_deref())
    }
}

fn is_usable(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    // The taint goes a moment after the condition comes; until then the scheduler sends nothing there.
    ready && !taints.into_iter().flatten().any(|taint| taint.key == "node.kubernetes.io/not-ready")
}

/// One simulated node.
#[derive(Clone, Debug)]
pub struct NodeBuilder {
    name: String,
    labels: BTreeMap<String, String>,
    taints: Vec<Taint>,
    resources: BTreeMap<String, Quantity>,
}

impl NodeBuilder {
    /// A Linux node with room for 110 pods.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let node = Self { name: name.to_owned(), labels: BTreeMap::new(), taints: Vec::new(), resources: BTreeMap::new() };
        node.label(HOST, name)
            .label("kubernetes.io/os", "linux")
            .label("kubernetes.io/arch", "amd64")
            .resource("pods", "110")
            .resource("ephemeral-storage", "1Ti")
    }

    /// Adds or replaces a label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Adds a taint; `effect` is `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    #[must_use]
    pub fn taint(mut self, key: &str, value: &str, effect: &str) -> Self {
        let taint = Taint { key: key.to_owned(), value: Some(value.to_owned()), effect: effect.to_owned(), time_added: None };
        self.taints.push(taint);
        self
    }

    /// Sets capacity and allocatable of a resource.
    #[must_use]
    pub fn resource(mut self, name: &str, amount: &str) -> Self {
        self.resources.insert(name.to_owned(), Quantity(amount.to_owned()));
        self
    }

    /// The node object.
    #[must_use]
    pub fn build(self) -> Node {
        Node {
            metadata: ObjectMeta {
                name: Some(self.name),
                labels: Some(self.labels),
                annotations: Some(BTreeMap::from([("kwok.x-k8s.io/node".to_owned(), "fake".to_owned())])),
                ..ObjectMeta::default()
            },
            spec: Some(NodeSpec { taints: (!self.taints.is_empty()).then_some(self.taints), ..NodeSpec::default() }),
            status: Some(NodeStatus {
                capacity: Some(self.resources.clone()),
                allocatable: Some(self.resources),
                ..NodeStatus::default()
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pools(count: usize) -> Vec<(String, usize)> {
        let mut pools: BTreeMap<String, usize> = BTreeMap::new();
        for node in Fleet::of(count).nodes() {
            *pools.entry(node.metadata.labels.as_ref().unwrap()[POOL].clone()).or_default() += 1;
        }
        pools.into_iter().collect()
    }

    #[test]
    fn twenty_four_nodes_are_four_gpu_pools_a_tpu_slice_and_four_cpu_nodes() {
        let expected = [("cpu", 4), ("gpu-0", 4), ("gpu-1", 4), ("gpu-2", 4), ("gpu-3", 4), ("tpu-0", 4)];
        assert_eq!(pools(24), expected.map(|(pool, nodes)| (pool.to_owned(), nodes)));
    }

    #[test]
    fn every_size_gives_exactly_as_many_nodes_as_asked_for() {
        for count in [0, 1, 4, 7, 8, 9, 15, 16, 31, 100, 1000] {
            assert_eq!(Fleet::of(count).nodes().len(), count);
        }
    }
}
