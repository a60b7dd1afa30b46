//! Every example, applied as its README says.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use muster_cluster::{Cluster, Fleet, Namespace, POOL, RACK, eventually, root};
use muster_e2e::{PATIENCE, await_condition, await_ready, domains, pods};
use tokio::sync::OnceCell;

static NODES: OnceCell<()> = OnceCell::const_new();

/// Applies an example, on nodes like those of `cargo xtask up`. The nodes stay when a test is done: the tests here share them.
async fn example(name: &str) -> Result<Namespace> {
    let cluster = Cluster::shared().await;
    NODES
        .get_or_try_init(|| async {
            // Enough for all examples at a time, wherever the scheduler puts the pods of those that don't ask for a place.
            let gpus = (0..8).fold(Fleet::new(), |fleet, pool| fleet.gpu_pool(&format!("gpu-example-{pool}"), "zone-a", 2));
            let gpus = gpus.gpu_pool("gpu-example-racks", "zone-a", 4);
            gpus.tpu_pool("tpu-example", "zone-a", 4).create(&cluster.client().await?).await
        })
        .await?;
    let namespace = cluster.namespace(name).await?;
    let folder = root()?.join("examples").join(name);
    namespace.kubectl(&["apply", "-f", &folder.display().to_string()]).await?;
    Ok(namespace)
}

fn one_domain_each(domains: &BTreeMap<String, BTreeSet<String>>, groups: usize) -> Result<()> {
    let single: BTreeSet<&String> = domains.values().filter(|domains| domains.len() == 1).flatten().collect();
    ensure!(single.len() == groups && domains.len() == groups, "groups are in {domains:?}");
    Ok(())
}

#[tokio::test]
async fn there_is_a_test_for_every_example() -> Result<()> {
    let folders = std::fs::read_dir(root()?.join("examples"))?.flatten().filter(|entry| entry.path().is_dir());
    let found: BTreeSet<String> = folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    // Policies are not applied: `cargo xtask examples` builds them and asks them.
    let tested =
        ["exclusive-topology", "leader-ready", "policies", "sglang", "subgroups", "tpu-slice", "unplaceable", "vllm-gpu"];
    assert_eq!(found, tested.map(str::to_owned).into());
    Ok(())
}

#[tokio::test]
async fn vllm_gpu() -> Result<()> {
    let namespace = example("vllm-gpu").await?;
    await_ready(&namespace, "vllm").await?;
    one_domain_each(&domains(&namespace, "vllm", POOL).await?, 2)?;
    let affinity = namespace.kubectl(&["get", "pod", "vllm-0", "-o", "jsonpath={.spec.affinity}"]).await?;
    assert_eq!(affinity, "");
    let addresses = eventually(PATIENCE, || async {
        let slices =
            namespace.kubectl(&["get", "endpointslices", "-o", "json", "-l", "kubernetes.io/service-name=vllm-leader"]).await?;
        let slices: serde_json::Value = serde_json::from_str(&slices)?;
        let endpoints = slices["items"][0]["endpoints"].as_array().context("no endpoints")?;
        let mut names: Vec<String> =
            endpoints.iter().filter_map(|endpoint| endpoint["targetRef"]["name"].as_str()).map(str::to_owned).collect();
        names.sort();
        ensure!(names.len() == 2, "{names:?}");
        Ok(names)
    });
    assert_eq!(addresses.await?, ["vllm-0", "vllm-1"], "clients reach the leaders");
    Ok(())
}

#[tokio::test]
async fn sglang() -> Result<()> {
    let namespace = example("sglang").await?;
    await_ready(&namespace, "sglang").await?;
    let path = r#"jsonpath={range .spec.containers[0].env[*]}{.name}={.value}{"\n"}{end}"#;
    let environment = namespace.kubectl(&["get", "pod", "sglang-1-1", "-o", path]).await?;
    let address = format!("LWS_LEADER_ADDRESS=sglang-1.sglang.{}", namespace.name());
    let expected = [address.as_str(), "LWS_GROUP_SIZE=2", "LWS_WORKER_INDEX=1", "HF_TOKEN="];
    assert_eq!(environment.lines().collect::<Vec<_>>(), expected);
    let args = namespace.kubectl(&["get", "pod", "sglang-1-1", "-o", "jsonpath={.spec.containers[0].args}"]).await?;
    assert!(
        args.contains(
            r#""--dist-init-addr=$(LWS_LEADER_ADDRESS):20000","--nnodes=$(LWS_GROUP_SIZE)","--node-rank=$(LWS_WORKER_INDEX)""#
        ),
        "{args}"
    );
    Ok(())
}

#[tokio::test]
async fn exclusive_topology() -> Result<()> {
    let namespace = example("exclusive-topology").await?;
    await_ready(&namespace, "exclusive").await?;
    one_domain_each(&domains(&namespace, "exclusive", POOL).await?, 2)
}

#[tokio::test]
async fn subgroups() -> Result<()> {
    let namespace = example("subgroups").await?;
    await_ready(&namespace, "halves").await?;
    one_domain_each(&domains(&namespace, "halves", POOL).await?, 1)?;
    let mut racks: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, pod) in pods(&namespace, "halves").await? {
        let subgroup = pod.metadata.labels.as_ref().and_then(|labels| labels.get("leaderworkerset.sigs.k8s.io/subgroup-index"));
        let rack = pod.spec.as_ref().and_then(|spec| spec.node_selector.as_ref()?.get(RACK));
        let (subgroup, rack) = subgroup.zip(rack).with_context(|| format!("{name} has no subgroup or no rack"))?;
        racks.entry(subgroup.clone()).or_default().insert(rack.clone());
    }
    one_domain_each(&racks, 2)
}

#[tokio::test]
async fn leader_ready() -> Result<()> {
    let namespace = example("leader-ready").await?;
    for set in ["by-field", "by-policy"] {
        await_ready(&namespace, set).await?;
        assert_eq!(pods(&namespace, set).await?.len(), 6, "{set}");
    }
    let policy = Cluster::shared().await.kubectl(&["get", "startuppolicy", "leader-ready"]).await?;
    assert!(policy.lines().count() == 2 && policy.contains("leader-ready"), "{policy}");
    Ok(())
}

#[tokio::test]
async fn tpu_slice() -> Result<()> {
    let namespace = example("tpu-slice").await?;
    await_ready(&namespace, "tpu-slice").await?;
    let expected: BTreeMap<String, BTreeSet<String>> = [("0".to_owned(), ["tpu-example".to_owned()].into())].into();
    assert_eq!(domains(&namespace, "tpu-slice", POOL).await?, expected);
    let nodes: BTreeSet<Option<String>> =
        pods(&namespace, "tpu-slice").await?.into_values().map(|pod| pod.spec.and_then(|spec| spec.node_name)).collect();
    assert_eq!(nodes.len(), 4, "a member to a host: {nodes:?}");
    Ok(())
}

#[tokio::test]
async fn unplaceable() -> Result<()> {
    let namespace = example("unplaceable").await?;
    let told = await_condition(&namespace, "unplaceable", "PlacementPending", "True").await?;
    let expected = "no domain of cloud.google.com/gke-nodepool fits the group (64 pods: 64 × {nvidia.com/gpu: 8})";
    assert!(told.message.contains(expected), "{}", told.message);
    let pod = namespace.kubectl(&["get", "pods", "--no-headers"]).await?;
    assert_eq!(pod.split_whitespace().take(3).collect::<Vec<_>>(), ["unplaceable-0", "0/1", "SchedulingGated"]);
    Ok(())
}
