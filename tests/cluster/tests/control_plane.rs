//! The control plane by itself, without Muster: what every other test against a cluster relies on.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use muster_cluster::{ControlPlane, Fleet, GPU, Layout, PATIENCE, POOL, Process, eventually, is_ready, remove};
use serde_json::json;

/// A StatefulSet of two pods that take a whole GPU node each.
fn two_pods() -> Result<StatefulSet> {
    let labels = json!({ "app": "sample" });
    Ok(serde_json::from_value(json!({
        "metadata": { "name": "sample" },
        "spec": {
            "replicas": 2,
            "serviceName": "sample",
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{ "name": "main", "image": "example.com/main:1", "resources": { "limits": { GPU: "8" } } }] },
            },
        },
    }))?)
}

async fn both_pods_run(client: &Client) -> Result<Vec<Pod>> {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let pods = pods.list(&ListParams::default().labels("app=sample")).await?.items;
    let ready = pods.iter().filter(|pod| is_ready(pod)).count();
    let shown: Vec<_> = pods.iter().map(|pod| (pod.metadata.name.clone(), pod.status.clone())).collect();
    ensure!(ready == 2, "{ready} of 2 pods are ready: {shown:?}");
    Ok(pods)
}

#[tokio::test]
async fn a_statefulset_runs_on_simulated_nodes_and_survives_the_api_server_and_nothing_is_left() {
    let layout = Layout::find(&format!("test-{}", std::process::id())).unwrap();
    let result = story(&layout).await.map_err(|error| format!("{error:#}"));
    let processes = Process::all(&layout.state);
    remove(&layout.state).unwrap();
    result.unwrap();
    assert_eq!(processes.len(), 5);
    assert!(processes.iter().all(|process| !process.alive()));
    assert!(!Path::new(&layout.state).exists());
}

async fn story(layout: &Layout) -> Result<()> {
    let plane = ControlPlane::start(layout, None).await?;
    let client = plane.client().await?;
    let fleet = Fleet::of(16);
    fleet.create(&client).await?;
    let gpu_nodes = Api::<Node>::all(client.clone()).list(&ListParams::default().labels(&format!("{POOL}=gpu-0"))).await?;
    ensure!(gpu_nodes.items.len() == 4, "gpu-0 has {} nodes", gpu_nodes.items.len());

    let sets: Api<StatefulSet> = Api::default_namespaced(client.clone());
    sets.create(&PostParams::default(), &two_pods()?).await?;
    let before = eventually(PATIENCE, || both_pods_run(&client)).await.context("at first")?;

    plane.stop_api_server();
    ensure!(both_pods_run(&client).await.is_err(), "the API server still answers after it was killed");
    plane.start_api_server().await?;
    let after = eventually(PATIENCE, || both_pods_run(&client)).await.context("after the API server came back")?;
    let identity = |pods: &[Pod]| pods.iter().map(|pod| pod.metadata.uid.clone()).collect::<Vec<_>>();
    ensure!(identity(&before) == identity(&after), "pods were replaced while the API server was away");

    // The scheduler and the controllers came back too: a pod that is deleted now gets a successor that runs.
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    pods.delete("sample-0", &kube::api::DeleteParams::default()).await?;
    eventually(PATIENCE, || async {
        let pods = both_pods_run(&client).await?;
        ensure!(identity(&pods) != identity(&before), "the deleted pod is still the old one");
        Ok(())
    })
    .await
    .context("after a pod was deleted")?;

    // Alpha features that Muster integrates with are on.
    let groups = client.list_api_groups().await?;
    let scheduling = groups.groups.iter().find(|group| group.name == "scheduling.k8s.io");
    let versions: Vec<&str> =
        scheduling.iter().flat_map(|group| &group.versions).map(|version| version.version.as_str()).collect();
    ensure!(versions.contains(&"v1alpha2"), "scheduling.k8s.io is served as {versions:?}");
    plane.check()
}
