//! The cluster that tests share: one start for all of them, a namespace for each, an operator that can be killed.

use muster_cluster::{Cluster, Fleet};

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
