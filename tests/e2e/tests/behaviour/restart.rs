//! A group that loses a member starts over as a whole, or not at all.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use kube::ResourceExt;
use muster_cluster::{Cluster, Namespace, eventually};
use muster_e2e::{PATIENCE, Set, await_ready, pods};
use serde_json::json;

/// UID of every pod of a set.
async fn uids(namespace: &Namespace, set: &str) -> Result<BTreeMap<String, String>> {
    let pods = pods(namespace, set).await?;
    Ok(pods.into_iter().map(|(name, pod)| (name, pod.uid().unwrap_or_default())).collect())
}

/// Waits until the leaders remember their workers: from then on no loss can go unnoticed.
async fn await_members(namespace: &Namespace, groups: &[&str]) -> Result<()> {
    eventually(PATIENCE, || async {
        for group in groups {
            let members = r"jsonpath={.metadata.annotations.muster\.dev/members}";
            let known = namespace.kubectl(&["get", "pod", group, "-o", members]).await?;
            ensure!(!known.is_empty(), "{group} has not written down its workers");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn workers_of_all_groups_deleted_together_leave_no_group_half_old() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("restart").await?;
    namespace.apply(&Set::new("torn").groups(6, 3).manifest()).await?;
    await_ready(&namespace, "torn").await?;
    await_members(&namespace, &["torn-0", "torn-1", "torn-2", "torn-3", "torn-4", "torn-5"]).await?;
    let before = uids(&namespace, "torn").await?;
    ensure!(before.len() == 18, "{before:?}");

    let workers: Vec<&str> = before.keys().map(String::as_str).filter(|name| name.matches('-').count() == 2).collect();
    let delete = [&["delete", "pod", "--wait=false", "--now"], workers.as_slice()].concat();
    namespace.kubectl(&delete).await?;
    eventually(PATIENCE, || async {
        let now = uids(&namespace, "torn").await?;
        let old: Vec<&String> = now.iter().filter(|(name, uid)| before.get(*name) == Some(*uid)).map(|(name, _)| name).collect();
        ensure!(now.len() == 18 && old.is_empty(), "{} pods, of them old: {old:?}", now.len());
        Ok(())
    })
    .await?;
    await_ready(&namespace, "torn").await?;
    eventually(PATIENCE, || namespace.has_event("torn", "RecreateGroup")).await
}

#[tokio::test]
async fn without_a_restart_policy_only_the_lost_worker_is_replaced() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("restart").await?;
    let none = json!({ "spec": { "leaderWorkerTemplate": { "restartPolicy": "None" } } });
    namespace.apply(&Set::new("single").groups(1, 3).with(&none).manifest()).await?;
    await_ready(&namespace, "single").await?;
    let before = uids(&namespace, "single").await?;
    namespace.kubectl(&["delete", "pod", "single-0-2", "--now"]).await?;
    eventually(PATIENCE, || async {
        let now = uids(&namespace, "single").await?;
        ensure!(now.get("single-0-2").is_some_and(|uid| *uid != before["single-0-2"]), "{now:?}");
        Ok(())
    })
    .await?;
    await_ready(&namespace, "single").await?;
    let after = uids(&namespace, "single").await?;
    for kept in ["single-0", "single-0-1"] {
        ensure!(after.get(kept) == before.get(kept), "{kept} was replaced too");
    }
    Ok(())
}

#[tokio::test]
async fn a_group_starts_over_while_the_sets_new_template_is_refused() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("restart").await?;
    namespace.apply(&Set::new("refused").groups(1, 3).manifest()).await?;
    await_ready(&namespace, "refused").await?;
    await_members(&namespace, &["refused-0"]).await?;
    let before = uids(&namespace, "refused").await?;
    // A port that only the API server's own validation of pods finds fault with.
    let ports = r#"[{"op": "add", "path": "/spec/leaderWorkerTemplate/workerTemplate/spec/containers/0/ports", "value": [{"containerPort": 99999}]}]"#;
    namespace.kubectl(&["patch", "lws", "refused", "--type=json", "-p", ports]).await?;
    eventually(PATIENCE, || async { namespace.has_event("refused", "FailedUpdate").await }).await?;
    namespace.kubectl(&["delete", "pod", "refused-0-1", "--now"]).await?;
    eventually(PATIENCE, || async {
        let now = uids(&namespace, "refused").await?;
        let old: Vec<&String> = now.iter().filter(|(name, uid)| before.get(*name) == Some(*uid)).map(|(name, _)| name).collect();
        ensure!(now.len() == 3 && old.is_empty(), "{} pods, of them old: {old:?}", now.len());
        Ok(())
    })
    .await
}
