//! A changed template reaches every group.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use muster_cluster::{Namespace, eventually, is_ready};
use muster_e2e::{PATIENCE, Set, Site, await_ready, domains, get, of_set, pods, status_of};
use serde_json::json;

/// Waits until every pod runs this image.
async fn await_image(namespace: &Namespace, set: &str, image: &str, count: usize) -> Result<()> {
    eventually(PATIENCE, || async {
        let pods = pods(namespace, set).await?;
        let updated = pods.values().filter(|pod| {
            let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
            containers.into_iter().all(|container| container.image.as_deref() == Some(image))
        });
        let updated = updated.count();
        ensure!(updated == count && pods.len() == count, "{updated} of {} pods run {image}", pods.len());
        Ok(())
    })
    .await?;
    await_ready(namespace, set).await.map(drop)
}

const IMAGE: &str = r#"[{"op": "replace", "path": "/spec/leaderWorkerTemplate/workerTemplate/spec/containers/0/image", "value": "example.com/main:2"}]"#;

#[tokio::test]
async fn a_new_image_reaches_leaders_and_workers_of_every_group() -> Result<()> {
    let namespace = muster_cluster::Cluster::shared().await.namespace("rollout").await?;
    namespace.apply(&Set::new("plain").groups(3, 2).manifest()).await?;
    await_ready(&namespace, "plain").await?;
    namespace.kubectl(&["patch", "lws", "plain", "--type=json", "-p", IMAGE]).await?;
    await_image(&namespace, "plain", "example.com/main:2", 6).await?;
    eventually(PATIENCE, || namespace.has_event("plain", "GroupsUpdating")).await
}

#[tokio::test]
async fn groups_within_the_budget_are_replaced_together() -> Result<()> {
    let namespace = muster_cluster::Cluster::shared().await.namespace("rollout").await?;
    let three_at_once = json!({ "spec": { "rolloutStrategy": {
        "type": "RollingUpdate",
        "rollingUpdateConfiguration": { "maxUnavailable": 3, "maxSurge": 0, "partition": 0 },
    } } });
    // Behind a gate of the author's the new leaders never get ready, so the rollout stands still once its budget is spent.
    let gate = r#"[{"op": "add", "path": "/spec/leaderWorkerTemplate/workerTemplate/spec/schedulingGates", "value": [{"name": "example.com/held-back"}]}]"#;
    namespace.apply(&Set::new("wide").groups(4, 1).with(&three_at_once).manifest()).await?;
    await_ready(&namespace, "wide").await?;
    namespace.kubectl(&["patch", "lws", "wide", "--type=json", "-p", gate]).await?;
    eventually(PATIENCE, || async {
        let pods = pods(&namespace, "wide").await?;
        let held: Vec<&str> = pods.iter().filter(|(_, pod)| !is_ready(pod)).map(|(name, _)| name.as_str()).collect();
        ensure!(held == ["wide-1", "wide-2", "wide-3"], "{held:?} are being updated");
        Ok(())
    })
    .await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    ensure!(pods(&namespace, "wide").await?.get("wide-0").is_some_and(is_ready), "more groups are down than the budget allows");
    Ok(())
}

#[tokio::test]
async fn an_exclusive_set_is_updated_where_no_domain_is_to_spare() -> Result<()> {
    let mut site = Site::new("rollout").await?;
    site.pool("a", 2).await?;
    site.pool("b", 2).await?;
    site.apply(&Set::new("tight").groups(2, 2).on(&site, 8).exclusive(site.key()).manifest()).await?;
    await_ready(&site, "tight").await?;
    site.kubectl(&["patch", "lws", "tight", "--type=json", "-p", IMAGE]).await?;
    await_image(&site, "tight", "example.com/main:2", 4).await?;
    let domains = domains(&site, "tight", site.key()).await?;
    ensure!(domains.values().all(|of_group| of_group.len() == 1), "{domains:?}");
    let taken: std::collections::BTreeSet<_> = domains.values().flatten().collect();
    ensure!(taken.len() == 2, "{domains:?}");
    Ok(())
}

/// Template of pods that wait behind a gate of the author's until the test lets them go.
const GATED: &str = r#"[{"op": "add", "path": "/spec/leaderWorkerTemplate/workerTemplate/spec/schedulingGates", "value": [{"name": "example.com/held-back"}]}]"#;

/// A rollout's budget.
fn budget(unavailable: &str, surge: i32, partition: i32) -> serde_json::Value {
    json!({ "spec": { "rolloutStrategy": {
        "type": "RollingUpdate",
        "rollingUpdateConfiguration": { "maxUnavailable": unavailable, "maxSurge": surge, "partition": partition },
    } } })
}

async fn uids(namespace: &Namespace, set: &str) -> Result<BTreeMap<String, String>> {
    let pods = pods(namespace, set).await?;
    Ok(pods.into_iter().map(|(name, pod)| (name, pod.metadata.uid.unwrap_or_default())).collect())
}

fn is_gated(pod: &k8s_openapi::api::core::v1::Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref()).is_some_and(|gates| !gates.is_empty())
}

/// Waits until exactly these pods are behind the gate and all others are ready.
async fn await_gated(namespace: &Namespace, set: &str, expected: &[&str]) -> Result<()> {
    eventually(PATIENCE, || async {
        let pods = pods(namespace, set).await?;
        let gated: Vec<&str> = pods.iter().filter(|(_, pod)| is_gated(pod)).map(|(name, _)| name.as_str()).collect();
        let others = pods.iter().filter(|(_, pod)| !is_gated(pod));
        let down: Vec<&String> = others.filter(|(_, pod)| !is_ready(pod)).map(|(name, _)| name).collect();
        ensure!(gated == expected && down.is_empty(), "{gated:?} are held back, not {expected:?}; {down:?} are not ready");
        Ok(())
    })
    .await
}

/// Lets pods go that wait behind the gate. The simulated kubelet deletes by name, and on a slow machine it may delete
/// a pod's successor once more; the one after that waits again.
async fn let_go(namespace: &Namespace, pods: &[&str]) -> Result<()> {
    const OPEN: &str = r#"[{"op": "remove", "path": "/spec/schedulingGates"}]"#;
    for pod in pods {
        eventually(PATIENCE, || async { namespace.kubectl(&["patch", "pod", pod, "--type=json", "-p", OPEN]).await }).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_percentage_of_the_groups_is_updated_at_a_time() -> Result<()> {
    let namespace = muster_cluster::Cluster::shared().await.namespace("rollout").await?;
    namespace.apply(&Set::new("percent").groups(4, 1).with(&budget("50%", 0, 0)).manifest()).await?;
    await_ready(&namespace, "percent").await?;
    namespace.kubectl(&["patch", "lws", "percent", "--type=json", "-p", GATED]).await?;
    await_gated(&namespace, "percent", &["percent-2", "percent-3"]).await?;
    // The next one goes only when the one at the top is done.
    let_go(&namespace, &["percent-3"]).await?;
    await_gated(&namespace, "percent", &["percent-1", "percent-2"]).await?;
    let_go(&namespace, &["percent-1", "percent-2"]).await?;
    await_gated(&namespace, "percent", &["percent-0"]).await?;
    let_go(&namespace, &["percent-0"]).await?;
    await_ready(&namespace, "percent").await?;
    Ok(())
}

#[tokio::test]
async fn a_partition_holds_groups_back_until_it_is_lowered() -> Result<()> {
    let namespace = muster_cluster::Cluster::shared().await.namespace("rollout").await?;
    namespace.apply(&Set::new("canary").groups(4, 2).with(&budget("25%", 0, 2)).manifest()).await?;
    await_ready(&namespace, "canary").await?;
    let before = uids(&namespace, "canary").await?;
    namespace.kubectl(&["patch", "lws", "canary", "--type=json", "-p", IMAGE]).await?;
    eventually(PATIENCE, || async {
        let status = status_of(&await_ready(&namespace, "canary").await?);
        ensure!(status.updated_replicas == 2, "{} groups are updated", status.updated_replicas);
        Ok(())
    })
    .await?;
    let after = uids(&namespace, "canary").await?;
    let kept: Vec<&str> =
        before.iter().filter(|(name, uid)| after.get(*name) == Some(*uid)).map(|(name, _)| name.as_str()).collect();
    ensure!(kept == ["canary-0", "canary-0-1", "canary-1", "canary-1-1"], "{kept:?} were kept");
    let lower = r#"{"spec": {"rolloutStrategy": {"rollingUpdateConfiguration": {"partition": 0}}}}"#;
    namespace.kubectl(&["patch", "lws", "canary", "--type=merge", "-p", lower]).await?;
    await_image(&namespace, "canary", "example.com/main:2", 8).await
}

#[tokio::test]
async fn a_template_reverted_in_the_middle_leaves_the_other_groups_alone() -> Result<()> {
    let namespace = muster_cluster::Cluster::shared().await.namespace("rollout").await?;
    namespace.apply(&Set::new("undone").groups(3, 1).manifest()).await?;
    await_ready(&namespace, "undone").await?;
    let before = uids(&namespace, "undone").await?;
    namespace.kubectl(&["patch", "lws", "undone", "--type=json", "-p", GATED]).await?;
    await_gated(&namespace, "undone", &["undone-2"]).await?;
    let revert = r#"[{"op": "remove", "path": "/spec/leaderWorkerTemplate/workerTemplate/spec/schedulingGates"}]"#;
    namespace.kubectl(&["patch", "lws", "undone", "--type=json", "-p", revert]).await?;
    await_image(&namespace, "undone", "example.com/main:1", 3).await?;
    let after = uids(&namespace, "undone").await?;
    let kept: Vec<&str> =
        before.iter().filter(|(name, uid)| after.get(*name) == Some(*uid)).map(|(name, _)| name.as_str()).collect();
    ensure!(kept == ["undone-0", "undone-1"], "{kept:?} were kept");
    Ok(())
}

#[tokio::test]
async fn groups_that_were_broken_before_it_began_are_no_obstacle_to_a_rollout() -> Result<()> {
    let namespace = muster_cluster::Cluster::shared().await.namespace("rollout").await?;
    // All are broken: none has ever been ready.
    let broken = json!({ "spec": { "leaderWorkerTemplate": { "workerTemplate": { "spec": { "nodeSelector": { "example.com/none": "" } } } } } });
    namespace.apply(&Set::new("broken").groups(3, 1).with(&broken).manifest()).await?;
    // One is broken, with the budget that it takes: the lowest, to which the rollout comes last.
    namespace.apply(&Set::new("partly").groups(3, 1).manifest()).await?;
    await_ready(&namespace, "partly").await?;
    let crash = json!({ "status": {
        "conditions": [{ "type": "Ready", "status": "False" }],
        "containerStatuses": [{
            "name": "main", "image": "example.com/main:1", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": "CrashLoopBackOff" } },
        }],
    } });
    namespace.kubectl(&["patch", "pod", "partly-0", "--subresource=status", "-p", &crash.to_string()]).await?;
    muster_e2e::await_groups(&namespace, "partly", 2).await?;
    let cure = r#"[{"op": "remove", "path": "/spec/leaderWorkerTemplate/workerTemplate/spec/nodeSelector"}]"#;
    namespace.kubectl(&["patch", "lws", "broken", "--type=json", "-p", cure]).await?;
    namespace.kubectl(&["patch", "lws", "partly", "--type=json", "-p", IMAGE]).await?;
    await_image(&namespace, "broken", "example.com/main:1", 3).await?;
    await_image(&namespace, "partly", "example.com/main:2", 3).await
}

#[tokio::test]
async fn a_scale_down_that_leaves_no_budget_does_not_freeze_the_rollout() -> Result<()> {
    let namespace = muster_cluster::Cluster::shared().await.namespace("rollout").await?;
    namespace.apply(&Set::new("frozen").groups(4, 1).with(&budget("25%", 0, 0)).manifest()).await?;
    await_ready(&namespace, "frozen").await?;
    namespace.kubectl(&["patch", "lws", "frozen", "--type=json", "-p", GATED]).await?;
    await_gated(&namespace, "frozen", &["frozen-3"]).await?;
    // A quarter of three groups is none.
    namespace.kubectl(&["scale", "lws", "frozen", "--replicas=3"]).await?;
    for group in ["frozen-2", "frozen-1", "frozen-0"] {
        await_gated(&namespace, "frozen", &[group]).await?;
        let_go(&namespace, &[group]).await?;
    }
    let updated = status_of(&await_ready(&namespace, "frozen").await?).updated_replicas;
    ensure!(updated == 3, "{updated} groups are updated");
    let set = get(&namespace, "frozen").await?;
    let partition = of_set::<k8s_openapi::api::apps::v1::StatefulSet>(&namespace, "frozen").await?;
    let leaders = partition.get("frozen").context("no leader StatefulSet")?;
    ensure!(leaders.spec.as_ref().and_then(|spec| spec.replicas) == set.spec.replicas, "{:?}", leaders.spec);
    Ok(())
}
