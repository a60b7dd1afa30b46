//! Gang scheduling switched on and off under live sets.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::scheduling::v1alpha2::PodGroup;
use kube::ResourceExt;
use muster_cluster::{Cluster, Namespace, Operator, eventually, install_chart};
use muster_e2e::{PATIENCE, Set, Site, await_groups, await_ready, merge, of_set, pods};
use serde_json::json;

use crate::alone;

/// Installs the chart with this gang scheduler, and starts the operator as it then says.
async fn switch_to(cluster: &Cluster, provider: &str) -> Result<()> {
    let mut values = Cluster::values();
    merge(&mut values, &json!({ "gangScheduling": { "provider": provider } }));
    install_chart(cluster.plane(), &values).await?;
    Operator::start(cluster.plane()).await.map(drop)
}

fn is_bound(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())
}

fn names_a_gang(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.scheduling_group.is_some())
}

async fn uids(namespace: &Namespace, set: &str) -> Result<BTreeMap<String, Option<String>>> {
    Ok(pods(namespace, set).await?.into_iter().map(|(name, pod)| (name, pod.uid())).collect())
}

async fn live_sets_keep_their_pods_and_waiting_gangs_are_let_go(cluster: &Cluster) -> Result<()> {
    let mut site = Site::new("switch").await?;
    site.pool("a", 5).await?;
    let set = Set::new("old").groups(1, 2).on(&site, 8);
    site.apply(&set.manifest()).await?;
    await_ready(&site, "old").await?;
    let before = uids(&site, "old").await?;

    switch_to(cluster, "kubernetes").await?;
    // A group of the time before stays as it is; its new neighbour is a gang.
    site.apply(&set.groups(2, 2).manifest()).await?;
    await_ready(&site, "old").await?;
    let now = pods(&site, "old").await?;
    assert!(before.iter().all(|(name, uid)| now[name].uid() == *uid), "{before:?}");
    let gang: Vec<_> = now.iter().filter(|(_, pod)| names_a_gang(pod)).map(|(name, _)| name.as_str()).collect();
    assert_eq!(gang, ["old-1", "old-1-1"]);
    assert_eq!(of_set::<PodGroup>(&site, "old").await?.len(), 1);
    let before = uids(&site, "old").await?;

    // One node is left, and the next gang wants two.
    site.apply(&Set::new("new").groups(1, 2).on(&site, 8).manifest()).await?;
    eventually(PATIENCE, || async {
        let pods = pods(&site, "new").await?;
        ensure!(pods.len() == 2 && pods.values().all(names_a_gang), "{:?}", pods.keys());
        let groups = of_set::<PodGroup>(&site, "new").await?;
        let judged = groups.values().flat_map(|group| group.status.iter().flat_map(|status| status.conditions.iter().flatten()));
        ensure!(judged.into_iter().any(|condition| condition.status == "False"), "the scheduler has not judged the gang");
        assert!(!pods.values().any(is_bound), "a part of a gang is bound");
        Ok(())
    })
    .await?;

    switch_to(cluster, "").await?;
    eventually(PATIENCE, || async {
        let pods = pods(&site, "new").await?;
        ensure!(pods.len() == 2 && !pods.values().any(names_a_gang), "{:?}", pods.keys());
        ensure!(pods.values().any(is_bound), "pod by pod, one of them fits");
        Ok(())
    })
    .await?;
    eventually(PATIENCE, || site.has_event("new", "GangChanged")).await?;
    assert_eq!(uids(&site, "old").await?, before);
    site.pool("b", 1).await?;
    await_groups(&site, "new", 1).await.map(drop)
}

#[tokio::test]
async fn gang_scheduling_can_be_switched_on_and_off_under_live_sets() {
    let (_turn, cluster) = alone().await;
    let outcome = live_sets_keep_their_pods_and_waiting_gangs_are_let_go(cluster).await;
    // Whatever came of it, the next test wants the cluster as it was.
    install_chart(cluster.plane(), &Cluster::values()).await.unwrap();
    Operator::start(cluster.plane()).await.unwrap();
    outcome.unwrap();
}
