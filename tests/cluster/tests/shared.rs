//! The cluster that tests share: one start for all of them, a namespace for each, an operator that can be killed.

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams};
use muster_cluster::{Cluster, Fleet, PATIENCE, PodBuilder, eventually, is_ready};

#[tokio::test]
async fn a_test_has_its_own_namespace_and_nodes_and_kubectl() {
    let cluster = Cluster::shared().await;
    let mut namespace = cluster.namespace("own").await.unwrap();
    namespace.add_nodes(&Fleet::new().gpu_pool(namespace.name(), "zone-a", 1)).await.unwrap();
    let node = format!("node/{}-0\n", namespace.name());
    assert_eq!(cluster.kubectl(&["get", "node", &format!("{}-0", namespace.name()), "-o", "name"]).await.unwrap(), node);
    let manifest = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"sample"}}"#;
    assert_eq!(namespace.apply(manifest).await.unwrap(), "configmap/sample created\n");
    let error = namespace.has_event("sample", "Surprise").await.unwrap_err().to_string();
    assert!(error.starts_with("no event Surprise about sample"), "{error}");
}

#[tokio::test]
async fn a_killed_operator_is_gone_and_comes_back_ready() {
    let operator = Cluster::shared().await.operator();
    operator.kill();
    assert!(!operator.alive());
    operator.restart().await.unwrap();
    assert!(operator.alive());
}

#[tokio::test]
async fn a_simulated_kubelet_deletes_no_pod_that_nobody_else_has_deleted() {
    let cluster = Cluster::shared().await;
    let namespace = cluster.namespace("kubelet").await.unwrap();
    let pods = namespace.api::<Pod>();
    pods.create(&PostParams::default(), &PodBuilder::new("wanted").build()).await.unwrap();
    eventually(PATIENCE, || async {
        ensure!(is_ready(&pods.get("wanted").await?), "the pod does not run");
        Ok(())
    })
    .await
    .unwrap();
    let kwok = ["--as=kwok", "--as-group=system:masters", "delete", "pod", "wanted", "--now", "--wait=false"];
    // A policy is followed a moment after it was made.
    let dry = [kwok.as_slice(), &["--dry-run=server"]].concat();
    let said =
        eventually(PATIENCE, || async { namespace.kubectl(&dry).await.err().context("kwok may delete it") }).await.unwrap();
    assert!(said.to_string().contains("nobody asked for this pod to go"), "{said}");
    assert!(namespace.kubectl(&kwok).await.is_err());
    // One that goes is deleted by nobody but kwok.
    pods.delete("wanted", &DeleteParams::default()).await.unwrap();
    eventually(PATIENCE, || async {
        ensure!(pods.get_opt("wanted").await?.is_none(), "the pod is still there");
        Ok(())
    })
    .await
    .unwrap();
}
