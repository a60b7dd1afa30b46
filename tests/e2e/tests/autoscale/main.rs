//! The HorizontalPodAutoscaler of a real controller manager scales groups.
//!
//! It is a program of its own because its metrics API is registered for the whole cluster: while it comes and goes, whoever asks the
//! API server what it serves may see the one state or the other.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be set up must fail")]

mod metrics;

use anyhow::{Result, ensure};
use muster_cluster::{Cluster, Namespace, eventually};
use muster_e2e::{PATIENCE, Set, await_ready, get, pods};
use serde_json::json;

use crate::metrics::Metrics;

/// Scales `vllm` so that `requests` is 100 for each leader. Counting any other pod would give another number.
async fn autoscale(namespace: &Namespace, most: i32) -> Result<()> {
    let autoscaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": { "name": "vllm" },
        "spec": {
            "scaleTargetRef": { "apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "name": "vllm" },
            "minReplicas": 2, "maxReplicas": most,
            "metrics": [{ "type": "External", "external": {
                "metric": { "name": "requests" }, "target": { "type": "Value", "value": "100" } } }],
            "behavior": { "scaleDown": { "stabilizationWindowSeconds": 0 } },
        },
    });
    namespace.apply(&autoscaler.to_string()).await.map(drop)
}

async fn await_groups(namespace: &Namespace, groups: i32) -> Result<()> {
    eventually(PATIENCE, || async {
        let set = get(namespace, "vllm").await?;
        let autoscaler = namespace.kubectl(&["get", "hpa", "vllm", "-o", "jsonpath={.status.conditions}"]).await?;
        ensure!(set.replicas() == groups, "{} groups are asked for: {autoscaler}", set.replicas());
        Ok(())
    })
    .await?;
    await_ready(namespace, "vllm").await.map(drop)
}

#[tokio::test]
async fn groups_follow_a_metric_up_and_down_and_a_rounded_budget_freezes_nothing() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("autoscale").await?;
    let metrics = Metrics::serve(&namespace).await?;
    metrics.set(200);
    // A fifth of ten groups may be down at once, and a fifth of two is none.
    let budget = json!({ "spec": { "rolloutStrategy": { "type": "RollingUpdate",
        "rollingUpdateConfiguration": { "maxUnavailable": "20%", "maxSurge": 0 } } } });
    namespace.apply(&Set::new("vllm").groups(10, 2).with(&budget).manifest()).await?;
    await_ready(&namespace, "vllm").await?;
    autoscale(&namespace, 10).await?;
    // 200 for ten leaders: with 100 as the aim each sees twice its share, so it stays at its most; then half of it.
    metrics.set(20);
    await_groups(&namespace, 2).await?;
    metrics.set(100);

    // A template that comes now is rolled out, and the set can be edited, although no group may be down by the numbers.
    let image = r#"[{"op": "replace", "path": "/spec/leaderWorkerTemplate/workerTemplate/spec/containers/0/image", "value": "example.com/main:2"}]"#;
    namespace.kubectl(&["patch", "lws", "vllm", "--type=json", "-p", image]).await?;
    eventually(PATIENCE, || async {
        let pods = pods(&namespace, "vllm").await?;
        let images: Vec<_> = pods.values().filter_map(|pod| pod.spec.as_ref()?.containers[0].image.clone()).collect();
        ensure!(images.len() == 4 && images.iter().all(|image| image == "example.com/main:2"), "pods run {images:?}");
        Ok(())
    })
    .await?;
    await_ready(&namespace, "vllm").await?;

    // Two ready leaders at twice their share make four groups; with their workers counted it would be the most that one step may add.
    metrics.set(200);
    eventually(PATIENCE, || async {
        let events = namespace.events("vllm").await?;
        let sizes: Vec<&String> =
            events.iter().filter(|event| event.starts_with("Normal SuccessfulRescale: New size: ")).collect();
        ensure!(sizes.len() >= 2, "{events:#?}");
        assert!(sizes[1].starts_with("Normal SuccessfulRescale: New size: 4;"), "{sizes:?}");
        Ok(())
    })
    .await?;
    metrics.set(100);
    let set = await_ready(&namespace, "vllm").await?;
    ensure!(set.replicas() >= 4, "{} groups are asked for", set.replicas());
    metrics.remove().await
}
