//! The nine stages of a rolling update of four groups with maxUnavailable 2 and maxSurge 2, as they are documented, watched on the
//! real control plane: `(partition, replicas)` of the leader StatefulSet, and which groups are updated and ready.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, ensure};
use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::runtime::{WatchStreamExt as _, watcher};
use muster_cluster::{Cluster, Namespace, eventually, is_ready};
use muster_e2e::{PATIENCE, Set, await_groups, await_ready, leaders};
use serde_json::json;

/// What the leader StatefulSet has said, each change once.
type Steps = Arc<Mutex<Vec<(i32, i32)>>>;

fn watch(namespace: &Namespace, set: &str) -> Steps {
    let steps = Steps::default();
    let config = watcher::Config::default().fields(&format!("metadata.name={set}"));
    let mut changes = watcher(namespace.api::<StatefulSet>(), config).applied_objects().boxed();
    let seen = steps.clone();
    tokio::spawn(async move {
        while let Some(Ok(object)) = changes.next().await {
            let Some(spec) = object.spec else { continue };
            let rolling = spec.update_strategy.and_then(|strategy| strategy.rolling_update);
            let step = (rolling.and_then(|rolling| rolling.partition).unwrap_or(0), spec.replicas.unwrap_or(1));
            let mut steps = seen.lock().unwrap_or_else(PoisonError::into_inner);
            if steps.last() != Some(&step) {
                steps.push(step);
            }
        }
    });
    steps
}

fn so_far(steps: &Steps) -> Vec<(i32, i32)> {
    steps.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// A stage: what the leader StatefulSet says last, and the leaders by what they are: the old one, being updated, updated.
async fn stage(
    namespace: &Namespace,
    steps: &Steps,
    last: (i32, i32),
    old: &[&str],
    updating: &[&str],
    updated: &[&str],
) -> Result<()> {
    eventually(PATIENCE, || async {
        let seen = so_far(steps);
        ensure!(seen.last() == Some(&last), "the leader StatefulSet said {seen:?}, not {last:?} last");
        let leaders = leaders(namespace, "nine").await?;
        let of = |image: &str, ready: bool| -> BTreeSet<&str> {
            let matching = leaders.iter().filter(|(_, leader)| {
                let container = leader.spec.as_ref().and_then(|spec| spec.containers.first()?.image.as_deref());
                container == Some(image) && is_ready(leader) == ready && leader.metadata.deletion_timestamp.is_none()
            });
            matching.map(|(name, _)| name.as_str()).collect()
        };
        let now = [of("example.com/main:1", true), of("example.com/main:2", false), of("example.com/main:2", true)];
        let wanted = [old, updating, updated].map(|names| names.iter().copied().collect::<BTreeSet<&str>>());
        ensure!(now == wanted, "old, updating and updated groups are {now:?}, not {wanted:?}");
        Ok(())
    })
    .await
}

/// Lets leaders go that wait behind the gate of the new template. The simulated kubelet deletes by name, and on a slow machine it may delete
/// a pod's successor once more; the one after that waits again.
async fn let_go(namespace: &Namespace, leaders: &[&str]) -> Result<()> {
    const OPEN: &str = r#"[{"op": "remove", "path": "/spec/schedulingGates"}]"#;
    for leader in leaders {
        eventually(PATIENCE, || async { namespace.kubectl(&["patch", "pod", leader, "--type=json", "-p", OPEN]).await }).await?;
    }
    Ok(())
}

#[tokio::test]
async fn four_groups_with_two_down_and_two_surge_groups_go_through_the_nine_stages() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("stages").await?;
    let spec = json!({ "spec": {
        "rolloutStrategy": {
            "type": "RollingUpdate",
            "rollingUpdateConfiguration": { "maxUnavailable": 2, "maxSurge": 2, "partition": 0 },
        },
        "leaderWorkerTemplate": { "leaderTemplate": { "spec": { "containers": [{ "name": "main", "image": "example.com/main:1" }] } } },
    } });
    let four = Set::new("nine").groups(4, 2);
    namespace.apply(&four.clone().with(&spec).manifest()).await?;
    await_ready(&namespace, "nine").await?;
    let steps = watch(&namespace, "nine");
    stage(&namespace, &steps, (0, 4), &["nine-0", "nine-1", "nine-2", "nine-3"], &[], &[]).await?;

    // New leaders wait behind a gate, so that groups come up when the test says so.
    let change = json!({ "spec": { "leaderWorkerTemplate": { "leaderTemplate": { "spec": {
        "schedulingGates": [{ "name": "example.com/held-back" }],
        "containers": [{ "name": "main", "image": "example.com/main:2" }],
    } } } } });
    namespace.kubectl(&["patch", "lws", "nine", "--type=merge", "-p", &change.to_string()]).await?;
    // Stages 2 and 3: two surge groups are added, and two of the four let go.
    stage(&namespace, &steps, (2, 6), &["nine-0", "nine-1"], &["nine-2", "nine-3", "nine-4", "nine-5"], &[]).await?;
    ensure!(so_far(&steps) == [(0, 4), (4, 6), (2, 6)], "{:?}", so_far(&steps));
    // Stage 4: the last group isn't ready yet, so the partition stays.
    let_go(&namespace, &["nine-4"]).await?;
    await_groups(&namespace, "nine", 3).await?;
    stage(&namespace, &steps, (2, 6), &["nine-0", "nine-1"], &["nine-2", "nine-3", "nine-5"], &["nine-4"]).await?;
    // Stage 5: now it is.
    let_go(&namespace, &["nine-5"]).await?;
    stage(&namespace, &steps, (0, 6), &[], &["nine-0", "nine-1", "nine-2", "nine-3"], &["nine-4", "nine-5"]).await?;
    // Stage 6.
    let_go(&namespace, &["nine-3"]).await?;
    stage(&namespace, &steps, (0, 6), &[], &["nine-0", "nine-1", "nine-2"], &["nine-3", "nine-4", "nine-5"]).await?;
    // Stages 7 and 8: two groups are left to update, which may be down; the surge groups are given back.
    let_go(&namespace, &["nine-1"]).await?;
    stage(&namespace, &steps, (0, 4), &[], &["nine-0", "nine-2"], &["nine-1", "nine-3"]).await?;
    // Stage 9.
    let_go(&namespace, &["nine-0", "nine-2"]).await?;
    stage(&namespace, &steps, (0, 4), &[], &[], &["nine-0", "nine-1", "nine-2", "nine-3"]).await?;
    await_ready(&namespace, "nine").await?;
    // The documented table gives the surge groups back one by one; all at once is what upstream does.
    let seen: Vec<_> = so_far(&steps).into_iter().filter(|step| *step != (0, 5)).collect();
    ensure!(seen == [(0, 4), (4, 6), (2, 6), (0, 6), (0, 4)], "{seen:?}");
    Ok(())
}
