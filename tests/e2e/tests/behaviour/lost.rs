//! How members are lost, and what a set says about it: evictions, nodes that don't come back, budgets of restarts.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use muster_api::conditions::GROUPS_FAILED;
use muster_api::{GroupPhase, GroupStatus};
use muster_cluster::{Cluster, Namespace, eventually};
use muster_e2e::{PATIENCE, Set, await_condition, await_ready, get, pods, status_of};
use serde_json::json;

async fn uids(namespace: &Namespace, set: &str) -> Result<BTreeMap<String, String>> {
    let pods = pods(namespace, set).await?;
    Ok(pods.into_iter().map(|(name, pod)| (name, pod.metadata.uid.unwrap_or_default())).collect())
}

/// What the kubelet would write about a container that was killed and started again.
async fn container_restarts(namespace: &Namespace, pod: &str) -> Result<()> {
    let restarted = json!([
        { "op": "replace", "path": "/status/containerStatuses/0/restartCount", "value": 1 },
        { "op": "add", "path": "/status/containerStatuses/0/lastState", "value": { "terminated": { "exitCode": 137, "reason": "OOMKilled" } } },
    ]);
    namespace.kubectl(&["patch", "pod", pod, "--subresource=status", "--type=json", "-p", &restarted.to_string()]).await?;
    Ok(())
}

/// Waits until none of these pods is there any more and as many others are ready.
async fn await_replaced(namespace: &Namespace, set: &str, before: &BTreeMap<String, String>, names: &[&str]) -> Result<()> {
    eventually(PATIENCE, || async {
        let now = uids(namespace, set).await?;
        let old: Vec<&&str> =
            names.iter().filter(|name| now.get(**name).is_none_or(|uid| before.get(**name) == Some(uid))).collect();
        ensure!(old.is_empty(), "{old:?} were not replaced");
        Ok(())
    })
    .await
}

async fn group(namespace: &Namespace, set: &str, index: i32) -> Result<GroupStatus> {
    let set = get(namespace, set).await?;
    status_of(&set).groups.into_iter().find(|group| group.index == index).with_context(|| format!("group {index} is not listed"))
}

async fn await_group(namespace: &Namespace, set: &str, index: i32, phase: GroupPhase, restarts: i32) -> Result<GroupStatus> {
    eventually(PATIENCE, || async {
        let group = group(namespace, set, index).await?;
        ensure!(group.phase == phase && group.restarts == restarts, "{group:?}");
        Ok(group)
    })
    .await
}

#[tokio::test]
async fn a_ready_set_lists_its_groups_with_their_revision() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("groups").await?;
    namespace.apply(&Set::new("listed").groups(3, 2).manifest()).await?;
    let set = await_ready(&namespace, "listed").await?;
    let status = status_of(&set);
    let leaders: Vec<(i32, GroupPhase, i32)> =
        status.groups.iter().map(|group| (group.index, group.phase, group.restarts)).collect();
    ensure!(leaders == [(0, GroupPhase::Ready, 0), (1, GroupPhase::Ready, 0), (2, GroupPhase::Ready, 0)], "{leaders:?}");
    ensure!(status.group_counts.ready == 3, "{:?}", status.group_counts);
    let pods = pods(&namespace, "listed").await?;
    let key = pods["listed-0"]
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get("leaderworkerset.sigs.k8s.io/template-revision-hash"));
    ensure!(status.groups.iter().all(|group| group.revision.as_ref() == key), "{:?}", status.groups);
    // Nothing is written while nothing changes.
    let version = set.metadata.resource_version;
    namespace.kubectl(&["annotate", "pod", "listed-0-1", "example.com/touched=yes"]).await?;
    namespace.apply(&Set::new("other").groups(1, 1).manifest()).await?;
    await_ready(&namespace, "other").await?;
    ensure!(get(&namespace, "listed").await?.metadata.resource_version == version, "the status was written again");
    Ok(())
}

#[tokio::test]
async fn an_evicted_member_takes_its_group_along_and_the_event_says_so() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("restart").await?;
    namespace.apply(&Set::new("evicted").groups(2, 3).manifest()).await?;
    await_ready(&namespace, "evicted").await?;
    let before = uids(&namespace, "evicted").await?;
    // As the kubelet leaves a pod that it has evicted; the StatefulSet controller deletes it then.
    let evicted =
        json!({ "status": { "phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory." } });
    namespace.kubectl(&["patch", "pod", "evicted-1-2", "--subresource=status", "-p", &evicted.to_string()]).await?;
    await_replaced(&namespace, "evicted", &before, &["evicted-1", "evicted-1-1", "evicted-1-2"]).await?;
    await_ready(&namespace, "evicted").await?;
    let after = uids(&namespace, "evicted").await?;
    for kept in ["evicted-0", "evicted-0-1", "evicted-0-2"] {
        ensure!(after.get(kept) == before.get(kept), "{kept} was replaced too");
    }
    let events = namespace.events("evicted").await?;
    let about = |start: &str| events.iter().any(|event| event.starts_with(start));
    ensure!(about("Warning GroupRestarting: Group 1 starts over: pod evicted-1-2"), "{events:#?}");
    let upstreams = "Normal RecreateGroup: Worker pod evicted-1-2 failed, deleted leader pod evicted-1 to recreate group 1";
    ensure!(events.iter().any(|event| event == upstreams), "{events:#?}");
    Ok(())
}

#[tokio::test]
async fn a_group_that_has_used_up_its_budget_fails_until_somebody_helps_and_the_others_go_on() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("restart").await?;
    namespace.apply(&Set::new("spent").groups(2, 2).annotated("muster.dev/max-group-restarts", "1").manifest()).await?;
    await_ready(&namespace, "spent").await?;
    let first = uids(&namespace, "spent").await?;
    container_restarts(&namespace, "spent-1-1").await?;
    await_replaced(&namespace, "spent", &first, &["spent-1", "spent-1-1"]).await?;
    await_ready(&namespace, "spent").await?;
    await_group(&namespace, "spent", 1, GroupPhase::Ready, 1).await?;

    let second = uids(&namespace, "spent").await?;
    container_restarts(&namespace, "spent-1-1").await?;
    let condition = await_condition(&namespace, "spent", GROUPS_FAILED, "True").await?;
    ensure!(condition.message.contains("container main of pod spent-1-1"), "{}", condition.message);
    ensure!(condition.message.contains("(exit code 137, OOMKilled)"), "{}", condition.message);
    let failed = await_group(&namespace, "spent", 1, GroupPhase::Failed, 1).await?;
    ensure!(failed.reason.as_deref() == Some("RestartBudgetUsedUp"), "{failed:?}");
    eventually(PATIENCE, || namespace.has_event("spent", "GroupFailed")).await?;
    ensure!(uids(&namespace, "spent").await? == second, "a failed group is left as it is");

    // The other group has a budget of its own.
    container_restarts(&namespace, "spent-0").await?;
    await_replaced(&namespace, "spent", &second, &["spent-0", "spent-0-1"]).await?;
    ensure!(uids(&namespace, "spent").await?.get("spent-1") == second.get("spent-1"), "the failed group was replaced");

    namespace.kubectl(&["delete", "pod", "spent-1"]).await?;
    await_replaced(&namespace, "spent", &second, &["spent-1", "spent-1-1"]).await?;
    await_condition(&namespace, "spent", GROUPS_FAILED, "False").await?;
    await_ready(&namespace, "spent").await?;
    await_group(&namespace, "spent", 1, GroupPhase::Ready, 0).await?;
    Ok(())
}

#[tokio::test]
async fn a_raised_budget_and_a_new_template_let_a_failed_group_go_on() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("restart").await?;
    namespace.apply(&Set::new("helped").groups(1, 2).annotated("muster.dev/max-group-restarts", "0").manifest()).await?;
    await_ready(&namespace, "helped").await?;
    let first = uids(&namespace, "helped").await?;
    container_restarts(&namespace, "helped-0-1").await?;
    await_group(&namespace, "helped", 0, GroupPhase::Failed, 0).await?;
    ensure!(uids(&namespace, "helped").await? == first, "a failed group is left as it is");
    namespace.kubectl(&["annotate", "lws", "helped", "--overwrite", "muster.dev/max-group-restarts=1"]).await?;
    await_replaced(&namespace, "helped", &first, &["helped-0", "helped-0-1"]).await?;
    await_ready(&namespace, "helped").await?;

    let second = uids(&namespace, "helped").await?;
    container_restarts(&namespace, "helped-0").await?;
    await_group(&namespace, "helped", 0, GroupPhase::Failed, 1).await?;
    let image = r#"[{"op": "replace", "path": "/spec/leaderWorkerTemplate/workerTemplate/spec/containers/0/image", "value": "example.com/main:2"}]"#;
    namespace.kubectl(&["patch", "lws", "helped", "--type=json", "-p", image]).await?;
    await_replaced(&namespace, "helped", &second, &["helped-0", "helped-0-1"]).await?;
    await_ready(&namespace, "helped").await?;
    await_group(&namespace, "helped", 0, GroupPhase::Ready, 0).await?;
    await_condition(&namespace, "helped", GROUPS_FAILED, "False").await?;
    let refused = namespace.kubectl(&["annotate", "lws", "helped", "--overwrite", "muster.dev/max-group-restarts=often"]).await;
    let refusal = refused.err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(refusal.contains("must be a whole number, 0 or more"), "{refusal}");
    Ok(())
}

#[tokio::test]
async fn a_group_waits_for_a_pod_that_does_not_go_and_names_it() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("restart").await?;
    namespace.apply(&Set::new("stuck").groups(1, 3).manifest()).await?;
    await_ready(&namespace, "stuck").await?;
    let before = uids(&namespace, "stuck").await?;
    // As a pod on a node that is lost: it is being deleted, and nobody there finishes it.
    let hold = r#"{"metadata": {"finalizers": ["example.com/held"]}}"#;
    namespace.kubectl(&["patch", "pod", "stuck-0-2", "-p", hold]).await?;
    namespace.kubectl(&["delete", "pod", "stuck-0-2", "--wait=false", "--grace-period=1"]).await?;
    eventually(PATIENCE, || async {
        let group = group(&namespace, "stuck", 0).await?;
        ensure!(group.reason.as_deref() == Some("TerminationBlocked"), "{group:?}");
        ensure!(group.message.as_ref().is_some_and(|message| message.starts_with("pod stuck-0-2 on node")), "{group:?}");
        Ok(())
    })
    .await?;
    // The event is written after the status.
    eventually(PATIENCE, || async { namespace.has_event("stuck", "TerminationBlocked").await.map(drop) }).await?;
    // Until it is gone there is no next group: the leader goes last.
    ensure!(uids(&namespace, "stuck").await?.get("stuck-0") == before.get("stuck-0"), "the next group came too early");
    namespace.kubectl(&["patch", "pod", "stuck-0-2", "--type=merge", "-p", r#"{"metadata": {"finalizers": null}}"#]).await?;
    await_replaced(&namespace, "stuck", &before, &["stuck-0", "stuck-0-1", "stuck-0-2"]).await?;
    await_ready(&namespace, "stuck").await?;
    Ok(())
}
