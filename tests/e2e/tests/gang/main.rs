//! Gang scheduling by kube-scheduler: groups that are bound as a whole or not at all, by the PodGroups of Kubernetes 1.36.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

mod binding;
mod objects;

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::scheduling::v1alpha2::PodGroup;
use muster_cluster::{Cluster, Namespace, Setup};
use muster_e2e::{Site, of_set, pods};
use serde_json::json;

/// The cluster, its operator with kube-scheduler's gangs.
async fn cluster() -> &'static Cluster {
    let values = json!({ "gangScheduling": { "provider": "kubernetes" } });
    Cluster::shared_as(|| Setup { values, ..Setup::default() }).await
}

/// A corner of that cluster.
async fn site(prefix: &str) -> Result<Site> {
    cluster().await;
    Site::new(prefix).await
}

/// By name of the PodGroup, how many pods it binds together; 1 for those that are bound one by one.
async fn gangs(namespace: &Namespace, set: &str) -> Result<BTreeMap<String, i32>> {
    let groups = of_set::<PodGroup>(namespace, set).await?;
    let members = |group: &PodGroup| group.spec.scheduling_policy.gang.as_ref().map_or(1, |gang| gang.min_count);
    Ok(groups.into_iter().map(|(name, group)| (name, members(&group))).collect())
}

/// The PodGroup that a pod names.
fn named_by(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.scheduling_group.as_ref()?.pod_group_name.as_deref()
}

/// The one PodGroup that all pods of a set name, which has one group.
async fn the_gang_of(namespace: &Namespace, set: &str) -> Result<String> {
    let pods = pods(namespace, set).await?;
    let mut names: Vec<_> = pods.values().map(named_by).collect();
    names.dedup();
    let [Some(name)] = names[..] else { anyhow::bail!("the pods of {set} don't name one PodGroup: {names:?}") };
    Ok(name.to_owned())
}

/// Checks that so many pods exist, and that the scheduler has looked at the gang and bound none of it.
async fn waits_as_a_whole(namespace: &Namespace, set: &str, size: usize) -> Result<()> {
    let pods = pods(namespace, set).await?;
    ensure!(pods.len() == size, "there are {:?}", pods.keys());
    let groups = of_set::<PodGroup>(namespace, set).await?;
    for (name, group) in groups {
        let conditions = group.status.and_then(|status| status.conditions).unwrap_or_default();
        let judged = conditions.iter().find(|condition| condition.type_ == "PodGroupScheduled");
        let judged = judged.with_context(|| format!("the scheduler has not judged {name}"))?;
        ensure!(judged.status == "False", "{judged:?}");
    }
    let bound: Vec<_> = pods.iter().filter(|(_, pod)| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())).collect();
    assert!(bound.is_empty(), "a part of a gang is bound: {bound:?}");
    Ok(())
}
