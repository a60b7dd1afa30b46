//! Services, and names that somebody else had first.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use kube::api::DeleteParams;
use muster_cluster::{Cluster, eventually};
use muster_e2e::{PATIENCE, Set, await_ready, objects_of, of_set, pods};
use serde_json::{Value, json};

#[tokio::test]
async fn a_deleted_shared_service_comes_back() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("service").await?;
    namespace.apply(&Set::new("vllm").groups(1, 2).manifest()).await?;
    let set = await_ready(&namespace, "vllm").await?;
    let services = namespace.api::<Service>();
    let first = services.get("vllm").await?;
    services.delete("vllm", &DeleteParams::default()).await?;
    let second = eventually(PATIENCE, || async {
        let second = services.get("vllm").await?;
        ensure!(second.uid() != first.uid(), "it is still there");
        Ok(second)
    })
    .await?;
    let spec = second.spec.clone().context("no spec")?;
    assert_eq!(spec.cluster_ip.as_deref(), Some("None"));
    assert_eq!(spec.publish_not_ready_addresses, Some(true));
    assert_eq!(serde_json::to_value(&spec.selector)?, json!({ "leaderworkerset.sigs.k8s.io/name": "vllm" }));
    let owners: Vec<_> = second.owner_references().iter().map(|owner| owner.uid.clone()).collect();
    assert_eq!(owners, [set.uid().unwrap_or_default()]);
    Ok(())
}

#[tokio::test]
async fn each_group_has_a_service_and_a_subdomain_of_its_own_when_asked() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("unique").await?;
    let set =
        Set::new("vllm").groups(2, 2).with(&json!({ "spec": { "networkConfig": { "subdomainPolicy": "UniquePerReplica" } } }));
    namespace.apply(&set.manifest()).await?;
    await_ready(&namespace, "vllm").await?;
    let services = of_set::<Service>(&namespace, "vllm").await?;
    assert_eq!(services.keys().collect::<Vec<_>>(), ["vllm-0", "vllm-1"]);
    let selector = services["vllm-1"].spec.as_ref().and_then(|spec| spec.selector.clone());
    let expected = json!({ "leaderworkerset.sigs.k8s.io/name": "vllm", "leaderworkerset.sigs.k8s.io/group-index": "1" });
    assert_eq!(serde_json::to_value(selector)?, expected);
    let pods = pods(&namespace, "vllm").await?;
    for (name, pod) in &pods {
        let group = &pod.labels()["leaderworkerset.sigs.k8s.io/group-index"];
        let spec = serde_json::to_value(&pod.spec)?;
        assert_eq!(spec["subdomain"], format!("vllm-{group}"), "{name}");
        assert_eq!(spec["containers"][0]["env"][0]["value"], format!("vllm-{group}.vllm-{group}.{}", namespace.name()), "{name}");
    }
    Ok(())
}

fn stateful_set(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": name },
        "spec": { "replicas": 0, "serviceName": name, "selector": { "matchLabels": { "app": "other" } }, "template": {
            "metadata": { "labels": { "app": "other" } }, "spec": { "containers": [{ "name": "main", "image": "example.com/other:1" }] } } },
    })
}

#[tokio::test]
async fn a_stateful_set_that_has_the_name_already_is_left_alone_and_named() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("foreign").await?;
    namespace.apply(&stateful_set("vllm").to_string()).await?;
    namespace.apply(&Set::new("vllm").groups(1, 2).manifest()).await?;
    let expected = "Warning FailedCreate: StatefulSet vllm exists and belongs to no controller; it is left alone. \
                    Rename the set or delete the StatefulSet";
    eventually(PATIENCE, || async {
        let events = namespace.events("vllm").await?;
        ensure!(events.iter().any(|event| event == expected), "{events:#?}");
        Ok(())
    })
    .await?;
    let image = namespace.kubectl(&["get", "statefulset", "vllm", "-o", "jsonpath={.metadata.generation} {..image}"]).await?;
    assert_eq!(image, "1 example.com/other:1");
    // When the name is free, the set goes on by itself.
    namespace.kubectl(&["delete", "statefulset", "vllm"]).await?;
    await_ready(&namespace, "vllm").await.map(drop)
}

#[tokio::test]
async fn a_worker_stateful_set_name_that_is_taken_holds_up_only_its_group() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("foreign").await?;
    namespace.apply(&stateful_set("vllm-0").to_string()).await?;
    namespace.apply(&Set::new("vllm").groups(2, 2).manifest()).await?;
    muster_e2e::await_groups(&namespace, "vllm", 1).await?;
    eventually(PATIENCE, || async {
        let events = namespace.events("vllm").await?;
        let told = events.iter().any(|event| event.starts_with("Warning FailedCreate: StatefulSet vllm-0 exists"));
        ensure!(told, "{events:#?}");
        Ok(())
    })
    .await?;
    assert_eq!(objects_of(&namespace, "pod").await?.into_iter().collect::<Vec<_>>(), ["vllm-0", "vllm-1", "vllm-1-1"]);
    Ok(())
}

#[tokio::test]
async fn a_service_that_has_the_name_already_is_left_alone_and_named() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("foreign").await?;
    let service =
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "vllm" }, "spec": { "ports": [{ "port": 80 }] } });
    namespace.apply(&service.to_string()).await?;
    namespace.apply(&Set::new("vllm").groups(1, 2).manifest()).await?;
    await_ready(&namespace, "vllm").await?;
    eventually(PATIENCE, || async {
        let events = namespace.events("vllm").await?;
        let told = events
            .iter()
            .any(|event| event.starts_with("Warning FailedCreate: Service vllm exists and belongs to no controller"));
        ensure!(told, "{events:#?}");
        Ok(())
    })
    .await?;
    let service = namespace.api::<Service>().get("vllm").await?;
    assert_eq!(service.spec.context("no spec")?.ports.context("no ports")?[0].port, 80);
    assert!(service.metadata.owner_references.is_none());
    Ok(())
}
