//! Restarts while the operator is dead: none is lost, none is counted twice, and the back-off goes on where it was.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use muster_cluster::{Namespace, eventually};
use muster_e2e::{PATIENCE, Set, await_ready, get, pods, status_of};
use serde_json::{Value, json};

use crate::alone;

async fn uids(namespace: &Namespace, set: &str) -> Result<BTreeMap<String, String>> {
    let pods = pods(namespace, set).await?;
    Ok(pods.into_iter().map(|(name, pod)| (name, pod.metadata.uid.unwrap_or_default())).collect())
}

/// A container of the pod was started again.
async fn container_restarts(namespace: &Namespace, pod: &str) {
    let restarted = r#"[{"op": "replace", "path": "/status/containerStatuses/0/restartCount", "value": 1}]"#;
    namespace.kubectl(&["patch", "pod", pod, "--subresource=status", "--type=json", "-p", restarted]).await.unwrap();
}

/// Waits until all pods of the set are others than these, and ready.
async fn await_all_replaced(namespace: &Namespace, set: &str, before: &BTreeMap<String, String>) {
    eventually(PATIENCE, || async {
        let now = uids(namespace, set).await?;
        ensure!(now.len() == before.len() && now.iter().all(|(name, uid)| before.get(name) != Some(uid)), "{now:?}");
        Ok(())
    })
    .await
    .unwrap();
    await_ready(namespace, set).await.unwrap();
}

/// What is written down about group 0: how often it started over, and when last.
async fn written(namespace: &Namespace, set: &str) -> Result<(u64, k8s_openapi::jiff::Timestamp)> {
    let leaders = namespace.api::<StatefulSet>().get(set).await?;
    let text =
        leaders.metadata.annotations.unwrap_or_default().get("muster.dev/restarts").cloned().context("nothing is written")?;
    let history: Value = serde_json::from_str(&text)?;
    let times = history["0"]["times"].as_u64().context("no count")?;
    Ok((times, history["0"]["last"].as_str().context("no time")?.parse()?))
}

#[tokio::test]
async fn a_group_that_keeps_failing_backs_off_across_restarts_of_the_operator() {
    let (_turn, cluster) = alone().await;
    let namespace = cluster.namespace("backoff").await.unwrap();
    namespace.apply(&Set::new("loop").groups(1, 2).manifest()).await.unwrap();
    await_ready(&namespace, "loop").await.unwrap();
    let mut last = None;
    for times in 1..=3 {
        let before = uids(&namespace, "loop").await.unwrap();
        container_restarts(&namespace, "loop-0-1").await;
        // Killed when it has seen the failure, has written it down or has deleted the leader: it makes no difference.
        cluster.operator().kill();
        cluster.operator().restart().await.unwrap();
        await_all_replaced(&namespace, "loop", &before).await;
        let (counted, at) = written(&namespace, "loop").await.unwrap();
        assert_eq!(counted, times);
        if let Some(last) = last.replace(at) {
            let pause = at.duration_since(last).as_secs();
            assert!(pause >= 1 << (times - 2), "restart {times} came {pause} s after the one before");
        }
    }
    let status = status_of(&get(&namespace, "loop").await.unwrap());
    assert_eq!(status.groups[0].restarts, 3);
}

#[tokio::test]
async fn members_of_many_groups_lost_while_the_operator_is_dead_leave_no_group_half_old() {
    let (_turn, cluster) = alone().await;
    let namespace = cluster.namespace("torn").await.unwrap();
    namespace.apply(&Set::new("torn").groups(5, 3).manifest()).await.unwrap();
    await_ready(&namespace, "torn").await.unwrap();
    eventually(PATIENCE, || async {
        for group in 0..5 {
            let leader = namespace.api::<Pod>().get(&format!("torn-{group}")).await?;
            let members = leader.metadata.annotations.unwrap_or_default();
            ensure!(members.contains_key("muster.dev/members"), "group {group} has not written down its members");
        }
        Ok(())
    })
    .await
    .unwrap();
    let before = uids(&namespace, "torn").await.unwrap();
    cluster.operator().kill();
    let delete = ["delete", "pod", "--wait=false", "--now"];
    let workers = ["torn-0-1", "torn-1-2", "torn-2-1", "torn-2-2", "torn-3-1", "torn-4-1", "torn-4-2"];
    namespace.kubectl(&[delete.as_slice(), workers.as_slice()].concat()).await.unwrap();
    // Their pods are gone before anybody looks again: nothing but what was written down tells.
    eventually(PATIENCE, || async {
        let now = uids(&namespace, "torn").await?;
        let left: Vec<_> =
            workers.iter().filter(|name| now.contains_key(**name) && now.get(**name) == before.get(**name)).collect();
        ensure!(left.is_empty(), "{left:?} are still there");
        Ok(())
    })
    .await
    .unwrap();
    cluster.operator().restart().await.unwrap();
    await_all_replaced(&namespace, "torn", &before).await;
    let restarts: Value = {
        let leaders = namespace.api::<StatefulSet>().get("torn").await.unwrap();
        serde_json::from_str(&leaders.metadata.annotations.unwrap()["muster.dev/restarts"]).unwrap()
    };
    for group in 0..5 {
        assert_eq!(restarts[group.to_string()]["times"], json!(1), "{restarts}");
    }
}

#[tokio::test]
async fn a_member_lost_before_it_was_ever_written_down_is_missed_all_the_same() {
    let (_turn, cluster) = alone().await;
    let namespace = cluster.namespace("unseen").await.unwrap();
    namespace.apply(&Set::new("young").groups(1, 3).manifest()).await.unwrap();
    await_ready(&namespace, "young").await.unwrap();
    cluster.operator().kill();
    // As if it had died before it came to writing.
    let _ = namespace.kubectl(&["annotate", "pod", "young-0", "muster.dev/members-"]).await;
    let before = uids(&namespace, "young").await.unwrap();
    let other = pods(&namespace, "young").await.unwrap().remove("young-0-1").unwrap();
    let conditions = other.status.unwrap().conditions.unwrap();
    let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready").unwrap().last_transition_time.unwrap().0;
    eventually(PATIENCE, || async {
        let age = k8s_openapi::jiff::Timestamp::now().duration_since(ready).as_secs();
        ensure!(age > 4, "the others have been ready for {age} s only");
        Ok(())
    })
    .await
    .unwrap();
    namespace.kubectl(&["delete", "pod", "young-0-2", "--force", "--grace-period=0"]).await.unwrap();
    cluster.operator().resume().unwrap();
    await_all_replaced(&namespace, "young", &before).await;
}
