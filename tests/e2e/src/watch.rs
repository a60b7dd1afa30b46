//! What tests wait for and look at.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::ListParams;
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt};
use muster_api::conditions::AVAILABLE;
use muster_api::names::label;
use muster_api::{LeaderWorkerSet, LeaderWorkerSetStatus};
use muster_cluster::{Namespace, PATIENCE, eventually};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A set.
///
/// # Errors
/// When there is none of that name.
pub async fn get(namespace: &Namespace, set: &str) -> Result<LeaderWorkerSet> {
    Ok(namespace.api::<LeaderWorkerSet>().get(set).await?)
}

/// A set's status; empty while there is none.
#[must_use]
pub fn status_of(set: &LeaderWorkerSet) -> LeaderWorkerSetStatus {
    set.status.clone().unwrap_or_default()
}

/// A condition of a set.
#[must_use]
pub fn condition(set: &LeaderWorkerSet, type_: &str) -> Option<Condition> {
    status_of(set).conditions.into_iter().find(|condition| condition.type_ == type_)
}

/// Whether the scheduler has looked for a node for a pod and found none.
#[must_use]
pub fn unschedulable(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut scheduled = conditions.filter(|condition| condition.type_ == "PodScheduled");
    scheduled.any(|condition| condition.status == "False" && condition.reason.as_deref() == Some("Unschedulable"))
}

/// Waits until the scheduler has looked for a node for a leader and found none, and returns the leader.
///
/// # Errors
/// When it takes too long.
pub async fn await_unschedulable(namespace: &Namespace, set: &str, leader: &str) -> Result<Pod> {
    eventually(PATIENCE, || async {
        let pod = leaders(namespace, set).await?.remove(leader).context("no leader")?;
        ensure!(unschedulable(&pod), "the scheduler was not asked: {:?}", pod.status);
        Ok(pod)
    })
    .await
}

/// Waits until a set's condition has this status (`True`, `False`), and returns the condition.
///
/// # Errors
/// When it doesn't come to that, with the conditions that there are.
pub async fn await_condition(namespace: &Namespace, set: &str, type_: &str, status: &str) -> Result<Condition> {
    eventually(PATIENCE, || async {
        let found = get(namespace, set).await?;
        let condition = condition(&found, type_).filter(|condition| condition.status == status);
        condition.with_context(|| format!("{set} is not {type_}={status}: {:#?}", status_of(&found).conditions))
    })
    .await
}

/// Waits until all groups of a set are ready as its present spec asks for, and returns the set.
///
/// # Errors
/// When they don't become ready, with the status.
pub async fn await_ready(namespace: &Namespace, set: &str) -> Result<LeaderWorkerSet> {
    eventually(PATIENCE, || async {
        let found = get(namespace, set).await?;
        let status = status_of(&found);
        let available = condition(&found, AVAILABLE).is_some_and(|condition| condition.status == "True");
        let current = status.observed_generation == found.metadata.generation;
        let replicas = found.replicas();
        ensure!(available && current && status.ready_replicas == replicas && status.replicas == replicas, "{set}: {status:#?}");
        Ok(found)
    })
    .await
}

/// Waits until exactly so many groups of a set are ready, whatever it asks for.
///
/// # Errors
/// When it doesn't come to that, with the status.
pub async fn await_groups(namespace: &Namespace, set: &str, ready: i32) -> Result<LeaderWorkerSet> {
    eventually(PATIENCE, || async {
        let found = get(namespace, set).await?;
        let status = status_of(&found);
        ensure!(status.ready_replicas == ready, "{set} has not {ready} ready groups: {status:#?}");
        Ok(found)
    })
    .await
}

/// All objects of a kind that carry the set's name, by name.
///
/// # Errors
/// When the API server doesn't answer.
pub async fn of_set<K>(namespace: &Namespace, set: &str) -> Result<BTreeMap<String, K>>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    K::DynamicType: Default,
{
    let params = ListParams::default().labels(&format!("{}={set}", label::SET_NAME));
    let items = namespace.api::<K>().list(&params).await?.items;
    Ok(items.into_iter().map(|object| (object.name_any(), object)).collect())
}

/// The pods of a set, by name.
///
/// # Errors
/// When the API server doesn't answer.
pub async fn pods(namespace: &Namespace, set: &str) -> Result<BTreeMap<String, Pod>> {
    of_set(namespace, set).await
}

/// The leaders among the pods of a set, by name.
///
/// # Errors
/// When the API server doesn't answer.
pub async fn leaders(namespace: &Namespace, set: &str) -> Result<BTreeMap<String, Pod>> {
    let mut pods = pods(namespace, set).await?;
    pods.retain(|_, pod| pod.labels().get(label::WORKER_INDEX).is_some_and(|rank| rank == "0"));
    Ok(pods)
}

/// The names of all objects of a kind, as kubectl spells it, in the namespace.
///
/// # Errors
/// When kubectl fails.
pub async fn objects_of(namespace: &Namespace, kind: &str) -> Result<BTreeSet<String>> {
    let listed = namespace.kubectl(&["get", kind, "-o", "json"]).await?;
    let list: Value = serde_json::from_str(&listed)?;
    let names = list["items"].as_array().into_iter().flatten().filter_map(|item| item["metadata"]["name"].as_str());
    Ok(names.map(str::to_owned).collect())
}

/// By group of a set, the domains that its pods are bound in: values of the label `key` on their nodes.
///
/// # Errors
/// When a pod is not bound yet, or its node has no such label.
pub async fn domains(namespace: &Namespace, set: &str, key: &str) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let nodes: Api<Node> = Api::all(namespace.client());
    let mut domains: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, pod) in pods(namespace, set).await? {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).with_context(|| format!("{name} is not bound"))?;
        let labels = nodes.get(&node).await?.labels().clone();
        let domain = labels.get(key).with_context(|| format!("{name} is on {node}, which has no label {key}"))?;
        let group = pod.labels().get(label::GROUP_INDEX).with_context(|| format!("{name} has no group index"))?;
        domains.entry(group.clone()).or_default().insert(domain.clone());
    }
    Ok(domains)
}

/// Where a leader's decision is written down.
pub const RECORD: &str = "muster.dev/placement";

/// Who decided where the group of a leader is, once somebody has.
///
/// # Errors
/// When nobody has yet.
pub async fn decider(namespace: &Namespace, leader: &str) -> Result<String> {
    let pod = namespace.api::<Pod>().get(leader).await?;
    let record = pod.annotations().get(RECORD).with_context(|| format!("{leader} has no record of its place"))?;
    let record: Value = serde_json::from_str(record)?;
    record["by"].as_str().map(str::to_owned).context("the record does not say who decided")
}
