//! When the workers of a group come into being.

use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use muster_cluster::{Cluster, Namespace, eventually, is_ready};
use muster_e2e::{PATIENCE, Set, await_ready, objects_of, pods};
use serde_json::{Value, json};

/// A scheduling gate that the set's author put on the leaders: nothing is ready behind it.
const HELD_BACK: &str = "example.com/held-back";

fn held_back(name: &str) -> Set {
    let leader = json!({ "spec": {
        "schedulingGates": [{ "name": HELD_BACK }],
        "containers": [{ "name": "main", "image": "example.com/main:1" }],
    } });
    Set::new(name).groups(2, 2).with(&json!({ "spec": { "leaderWorkerTemplate": { "leaderTemplate": leader } } }))
}

async fn let_go(namespace: &Namespace, leader: &str) -> Result<()> {
    let patch: Value = json!({ "spec": { "schedulingGates": [{ "$patch": "delete", "name": HELD_BACK }] } });
    namespace.api::<Pod>().patch(leader, &PatchParams::default(), &Patch::Strategic(patch)).await?;
    Ok(())
}

/// Leaders are there, and for two seconds no workers; each group gets its workers when its own leader is ready.
async fn workers_wait_for_their_leader(namespace: &Namespace, set: &str) -> Result<()> {
    let leaders = [format!("{set}-0"), format!("{set}-1")];
    eventually(PATIENCE, || async {
        let pods: Vec<String> = pods(namespace, set).await?.into_keys().collect();
        ensure!(pods == leaders, "{pods:?}");
        Ok(())
    })
    .await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let sets = objects_of(namespace, "statefulset").await?;
    ensure!(sets.into_iter().eq([set.to_owned()]), "workers were made before their leader was ready");

    let_go(namespace, &leaders[1]).await?;
    muster_e2e::await_groups(namespace, set, 1).await?;
    let now: Vec<String> = pods(namespace, set).await?.into_keys().collect();
    ensure!(now == [format!("{set}-0"), format!("{set}-1"), format!("{set}-1-1")], "{now:?}");
    let_go(namespace, &leaders[0]).await?;
    await_ready(namespace, set).await.map(drop)
}

#[tokio::test]
async fn leader_created_makes_workers_beside_a_leader_that_is_not_ready() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("startup").await?;
    namespace.apply(&held_back("eager").manifest()).await?;
    eventually(PATIENCE, || async {
        let pods = pods(&namespace, "eager").await?;
        let ready: Vec<&String> = pods.iter().filter(|(_, pod)| is_ready(pod)).map(|(name, _)| name).collect();
        ensure!(ready == ["eager-0-1", "eager-1-1"], "{ready:?} are ready");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn leader_ready_makes_workers_when_their_leader_is_ready() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("startup").await?;
    namespace.apply(&held_back("by-field").with(&json!({ "spec": { "startupPolicy": "LeaderReady" } })).manifest()).await?;
    workers_wait_for_their_leader(&namespace, "by-field").await
}

#[tokio::test]
async fn a_startup_policy_of_the_set_admits_workers_when_their_leader_is_ready() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("startup").await?;
    namespace.apply(&held_back("by-policy").annotated("muster.dev/startup-policy", "leader-ready").manifest()).await?;
    workers_wait_for_their_leader(&namespace, "by-policy").await
}

#[tokio::test]
async fn a_startup_policy_of_the_namespace_holds_for_its_sets_but_for_those_that_want_none() -> Result<()> {
    let cluster = Cluster::shared().await;
    let namespace = cluster.namespace("startup").await?;
    let annotation = "muster.dev/startup-policy=leader-ready";
    cluster.kubectl(&["annotate", "namespace", namespace.name(), annotation]).await?;
    namespace.apply(&held_back("no-policy").annotated("muster.dev/startup-policy", "none").manifest()).await?;
    eventually(PATIENCE, || async {
        let count = pods(&namespace, "no-policy").await?.len();
        ensure!(count == 4, "{count} pods");
        Ok(())
    })
    .await?;
    namespace.kubectl(&["delete", "leaderworkerset", "no-policy", "--cascade=foreground"]).await?;
    namespace.apply(&held_back("follows").manifest()).await?;
    workers_wait_for_their_leader(&namespace, "follows").await
}
