//! Label keys of providers, the widest level first. Levels that no node carries are skipped.

const HOST: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// Names and levels. Amazon's layers grow towards the node, Topograph's tiers away from it.
pub(crate) const PRESETS: [(&str, &[&str]); 14] = [
    (
        "gke-gpu",
        &[
            ZONE,
            "cloud.google.com/gce-topology-block",
            "cloud.google.com/gce-topology-subblock",
            "cloud.google.com/gce-topology-host",
            HOST,
        ],
    ),
    ("gke-gpu-legacy", &[ZONE, "topology.gke.io/cluster", "topology.gke.io/rack", "topology.gke.io/host", HOST]),
    (
        "gke-a4x",
        &[
            "cloud.google.com/gce-topology-block",
            "cloud.google.com/gce-topology-subblock",
            "cloud.google.com/gke-nodepool",
            "cloud.google.com/gce-topology-host",
            HOST,
        ],
    ),
    ("gke-tpu", &[ZONE, "cloud.google.com/gke-nodepool", HOST]),
    (
        "gke-tpu-v6e-subslice",
        &[
            "cloud.google.com/gke-nodepool",
            "cloud.google.com/gke-tpu-slice-8x8-id",
            "cloud.google.com/gke-tpu-slice-4x8-id",
            "cloud.google.com/gke-tpu-slice-4x4-id",
            "cloud.google.com/gke-tpu-slice-2x4-id",
            HOST,
        ],
    ),
    ("gke-tpu7x-superslice", &["cloud.google.com/gce-topology-block", "cloud.google.com/gke-tpu-partition-4x4x4-id", HOST]),
    (
        "aws-efa",
        &[
            ZONE,
            "topology.k8s.aws/network-node-layer-1",
            "topology.k8s.aws/network-node-layer-2",
            "topology.k8s.aws/network-node-layer-3",
            HOST,
        ],
    ),
    (
        "aws-ultraserver",
        &[
            "topology.k8s.aws/network-node-layer-1",
            "topology.k8s.aws/network-node-layer-2",
            "topology.k8s.aws/network-node-layer-3",
            "topology.k8s.aws/capacity-block-id",
            "topology.k8s.aws/ultraserver-id",
            HOST,
        ],
    ),
    (
        "oci-rdma",
        &[
            "oci.oraclecloud.com/rdma.hpc_island_id",
            "oci.oraclecloud.com/rdma.network_block_id",
            "oci.oraclecloud.com/rdma.local_block_id",
            HOST,
        ],
    ),
    (
        "coreweave-ib",
        &["backend.coreweave.cloud/fabric", "backend.coreweave.cloud/superpod", "backend.coreweave.cloud/leafgroup", HOST],
    ),
    (
        "coreweave-nvl",
        &["backend.coreweave.cloud/fabric", "backend.coreweave.cloud/superpod", "ds.coreweave.com/nvlink.domain", HOST],
    ),
    ("topograph", &["fabric.topograph.run/tier-2", "fabric.topograph.run/tier-1", "fabric.topograph.run/tier-0", HOST]),
    (
        "topograph-nvl",
        &[
            "fabric.topograph.run/tier-2",
            "fabric.topograph.run/tier-1",
            "fabric.topograph.run/tier-0",
            "accelerator.topograph.run/domain",
            "accelerator.topograph.run/sub-domain",
            HOST,
        ],
    ),
    ("mnnvl", &["derived:nvidia.com/gpu.clique#prefix", "nvidia.com/gpu.clique", HOST]),
];

/// The levels of a preset.
pub(crate) fn levels(name: &str) -> Option<&'static [&'static str]> {
    PRESETS.iter().find(|(known, _)| *known == name).map(|(_, levels)| *levels)
}
