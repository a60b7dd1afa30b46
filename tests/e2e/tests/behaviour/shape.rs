//! What changes the shape of groups in mid-life: their size, and how their pods find each other.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use muster_cluster::{Cluster, Namespace, eventually};
use muster_e2e::{PATIENCE, Set, await_ready, objects_of, of_set, pods};
use serde_json::json;

async fn patch(namespace: &Namespace, part: &serde_json::Value) -> Result<()> {
    namespace.kubectl(&["patch", "lws", "vllm", "--type=merge", "-p", &part.to_string()]).await.map(drop)
}

async fn await_pods(namespace: &Namespace, expected: &[&str]) -> Result<()> {
    eventually(PATIENCE, || async {
        let names: Vec<String> = pods(namespace, "vllm").await?.into_keys().collect();
        ensure!(names == expected, "pods are {names:?}");
        Ok(())
    })
    .await?;
    await_ready(namespace, "vllm").await.map(drop)
}

fn variable(pod: &Pod, name: &str) -> Option<String> {
    let env = pod.spec.as_ref()?.containers[0].env.as_ref()?;
    env.iter().find(|variable| variable.name == name)?.value.clone()
}

fn subdomain(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.subdomain.as_deref()).unwrap_or_default()
}

#[tokio::test]
async fn groups_grow_shrink_and_become_single_pods_and_back() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("resize").await?;
    namespace.apply(&Set::new("vllm").groups(2, 2).manifest()).await?;
    await_ready(&namespace, "vllm").await?;
    let resize = async |size: i32| patch(&namespace, &json!({ "spec": { "leaderWorkerTemplate": { "size": size } } })).await;

    resize(3).await?;
    await_pods(&namespace, &["vllm-0", "vllm-0-1", "vllm-0-2", "vllm-1", "vllm-1-1", "vllm-1-2"]).await?;
    for (name, pod) in pods(&namespace, "vllm").await? {
        assert_eq!(pod.annotations()["leaderworkerset.sigs.k8s.io/size"], "3", "{name}");
        assert_eq!(variable(&pod, "LWS_GROUP_SIZE").as_deref(), Some("3"), "{name}");
    }
    resize(1).await?;
    await_pods(&namespace, &["vllm-0", "vllm-1"]).await?;
    assert_eq!(objects_of(&namespace, "statefulset").await?.into_iter().collect::<Vec<_>>(), ["vllm"]);
    resize(2).await?;
    await_pods(&namespace, &["vllm-0", "vllm-0-1", "vllm-1", "vllm-1-1"]).await?;
    assert_eq!(objects_of(&namespace, "statefulset").await?.into_iter().collect::<Vec<_>>(), ["vllm", "vllm-0", "vllm-1"]);
    Ok(())
}

#[tokio::test]
async fn a_group_that_restarts_before_its_turn_keeps_the_size_and_network_it_was_made_with() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("resize").await?;
    namespace.apply(&Set::new("vllm").groups(2, 3).manifest()).await?;
    await_ready(&namespace, "vllm").await?;
    let change = json!({ "spec": {
        "leaderWorkerTemplate": { "size": 2 },
        "networkConfig": { "subdomainPolicy": "UniquePerReplica" },
        "rolloutStrategy": { "rollingUpdateConfiguration": { "partition": 1 } },
    } });
    patch(&namespace, &change).await?;
    await_pods(&namespace, &["vllm-0", "vllm-0-1", "vllm-0-2", "vllm-1", "vllm-1-1"]).await?;
    let first = pods(&namespace, "vllm").await?["vllm-0"].uid();
    namespace.kubectl(&["delete", "pod", "vllm-0-2", "--wait=false"]).await?;
    // Whoever depends on the shared service while some groups still use it has it back, too.
    namespace.kubectl(&["delete", "service", "vllm"]).await?;
    eventually(PATIENCE, || async {
        let leader = pods(&namespace, "vllm").await?.remove("vllm-0").context("no leader")?;
        ensure!(leader.uid() != first, "the group has not restarted");
        Ok(())
    })
    .await?;
    await_pods(&namespace, &["vllm-0", "vllm-0-1", "vllm-0-2", "vllm-1", "vllm-1-1"]).await?;
    let pods = pods(&namespace, "vllm").await?;
    for (name, size, domain) in
        [("vllm-0", "3", "vllm"), ("vllm-0-2", "3", "vllm"), ("vllm-1", "2", "vllm-1"), ("vllm-1-1", "2", "vllm-1")]
    {
        assert_eq!(variable(&pods[name], "LWS_GROUP_SIZE").as_deref(), Some(size), "{name}");
        assert_eq!(subdomain(&pods[name]), domain, "{name}");
    }
    let workers = of_set::<StatefulSet>(&namespace, "vllm").await?;
    let replicas = |name: &str| workers[name].spec.as_ref().and_then(|spec| spec.replicas);
    assert_eq!((replicas("vllm-0"), replicas("vllm-1")), (Some(2), Some(1)));
    let services = of_set::<Service>(&namespace, "vllm").await?;
    assert_eq!(services.keys().collect::<Vec<_>>(), ["vllm", "vllm-1"]);
    Ok(())
}

#[tokio::test]
async fn a_new_size_must_still_be_divisible_into_subgroups() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("resize").await?;
    let subgroups = json!({ "spec": { "leaderWorkerTemplate": { "subGroupPolicy": { "subGroupSize": 2 } } } });
    namespace.apply(&Set::new("vllm").groups(1, 4).with(&subgroups).manifest()).await?;
    await_ready(&namespace, "vllm").await?;
    let resize = |size: i32| json!({ "spec": { "leaderWorkerTemplate": { "size": size } } });
    patch(&namespace, &resize(6)).await?;
    await_pods(&namespace, &["vllm-0", "vllm-0-1", "vllm-0-2", "vllm-0-3", "vllm-0-4", "vllm-0-5"]).await?;
    let third = pods(&namespace, "vllm").await?.remove("vllm-0-5").context("no worker")?;
    assert_eq!(third.labels()["leaderworkerset.sigs.k8s.io/subgroup-index"], "2");
    let odd = json!({ "spec": { "leaderWorkerTemplate": { "size": 1 } } });
    let refused = patch(&namespace, &odd).await.expect_err("not refused");
    let expected =
        "spec.leaderWorkerTemplate.subGroupPolicy.subGroupSize: Invalid value: 2: subGroupSize cannot be larger than size";
    assert!(format!("{refused:#}").contains(expected), "{refused:#}");
    Ok(())
}

#[tokio::test]
async fn a_set_changes_between_one_service_and_one_for_each_group() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("network").await?;
    namespace.apply(&Set::new("vllm").groups(2, 2).manifest()).await?;
    await_ready(&namespace, "vllm").await?;
    let switch =
        async |policy: &str| patch(&namespace, &json!({ "spec": { "networkConfig": { "subdomainPolicy": policy } } })).await;
    let settled = async |services: &[&str], domains: &[&str]| {
        eventually(PATIENCE, || async {
            let found: Vec<String> = of_set::<Service>(&namespace, "vllm").await?.into_keys().collect();
            let pods = pods(&namespace, "vllm").await?;
            let of_pods: BTreeSet<&str> = pods.values().map(subdomain).collect();
            ensure!(found == services && of_pods.iter().eq(domains), "services {found:?}, subdomains {of_pods:?}");
            let told: BTreeSet<String> = pods.values().filter_map(|pod| variable(pod, "LWS_LEADER_ADDRESS")).collect();
            let wanted = (0..2).map(|group| format!("vllm-{group}.{}.{}", domains[group % domains.len()], namespace.name()));
            ensure!(told.iter().cloned().eq(wanted), "addresses {told:?}");
            Ok(())
        })
        .await?;
        await_ready(&namespace, "vllm").await.map(drop)
    };
    switch("UniquePerReplica").await?;
    // The shared service stays, as with upstream: whoever asks by its name is not let down.
    settled(&["vllm", "vllm-0", "vllm-1"], &["vllm-0", "vllm-1"]).await?;
    namespace.kubectl(&["delete", "service", "vllm"]).await?;
    switch("Shared").await?;
    settled(&["vllm"], &["vllm"]).await
}
