//! The operator is killed: what it had begun goes on, what was finished stays.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use muster_api::conditions::PLACEMENT_PENDING;
use muster_cluster::{Cluster, eventually, is_ready};
use muster_e2e::{PATIENCE, Set, Site, await_condition, await_ready, domains, of_set, pods};
use serde_json::json;

use crate::alone;
use crate::exclusivity::Exclusivity;
use crate::killer::{Killer, seed};

/// Exclusive groups of two pods that take a node each.
fn set(site: &Site, name: &str, groups: i32) -> Set {
    Set::new(name).groups(groups, 2).on(site, 8).exclusive(site.key()).annotated("muster.dev/unplaceable", "Hold")
}

/// Applies a set, for as long as it takes: while the operator is dead, nobody admits anything.
async fn apply(site: &Site, set: &Set) {
    eventually(PATIENCE, || async { site.apply(&set.manifest()).await }).await.unwrap();
}

/// Exactly these StatefulSets, one revision, and a domain for each group.
async fn is_whole(site: &Site, name: &str, stateful_sets: &[&str]) -> Result<()> {
    let found = of_set::<StatefulSet>(site, name).await?;
    ensure!(found.keys().eq(stateful_sets), "{name} has StatefulSets {:?}", found.keys());
    let revisions = of_set::<ControllerRevision>(site, name).await?;
    let ours = revisions
        .values()
        .filter(|revision| revision.metadata.owner_references.iter().flatten().any(|owner| owner.kind == "LeaderWorkerSet"));
    ensure!(ours.count() == 1, "{name} has revisions {:?}", revisions.keys());
    for (group, domains) in domains(site, name, site.key()).await? {
        ensure!(domains.len() == 1, "group {group} of {name} is in {domains:?}");
    }
    Ok(())
}

#[tokio::test]
async fn killed_at_any_moment_the_operator_loses_nothing_and_doubles_nothing() {
    let (_turn, cluster) = alone().await;
    let mut site = Site::new("crash").await.unwrap();
    for pool in ["a", "b", "c", "d", "e", "f", "g"] {
        site.pool(pool, 2).await.unwrap();
    }
    apply(&site, &set(&site, "stays", 2)).await;
    await_ready(&site, "stays").await.unwrap();
    let uids = |pods: std::collections::BTreeMap<String, k8s_openapi::api::core::v1::Pod>| {
        pods.into_iter().map(|(name, pod)| (name, pod.metadata.uid)).collect::<BTreeSet<_>>()
    };
    let before = uids(pods(&site, "stays").await.unwrap());

    let watch = Exclusivity::watch(&site, "").await.unwrap();
    let killer = Killer::start(cluster, seed());
    apply(&site, &set(&site, "one", 2)).await;
    let startup = json!({ "spec": { "startupPolicy": "LeaderReady" } });
    apply(&site, &set(&site, "two", 1).with(&startup)).await;
    apply(&site, &set(&site, "gone", 2)).await;
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    apply(&site, &set(&site, "one", 1)).await;
    site.kubectl(&["delete", "lws", "gone", "--wait=false"]).await.unwrap();
    apply(&site, &set(&site, "two", 3).with(&startup)).await;
    apply(&site, &set(&site, "late", 1)).await;
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    let kills = killer.stop(cluster).await;

    for name in ["one", "two", "late"] {
        await_ready(&site, name).await.unwrap();
    }
    eventually(PATIENCE, || async {
        is_whole(&site, "stays", &["stays", "stays-0", "stays-1"]).await?;
        is_whole(&site, "one", &["one", "one-0"]).await?;
        is_whole(&site, "two", &["two", "two-0", "two-1", "two-2"]).await?;
        is_whole(&site, "late", &["late", "late-0"]).await?;
        let left = of_set::<StatefulSet>(&site, "gone").await?.len() + pods(&site, "gone").await?.len();
        ensure!(left == 0, "{left} objects of the deleted set are left");
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(uids(pods(&site, "stays").await.unwrap()), before, "pods of ready groups were replaced");
    let moments = watch.finish().unwrap();
    println!("{kills} kills, {moments} moments");
    assert!(moments > 20, "{kills} kills, {moments} moments");
}

/// Applies a built-in policy of this kind under the site's name.
async fn policy(cluster: &Cluster, site: &Site, kind: &str, built_in: &str) {
    let settings = if kind == "PlacementPolicy" { json!({ "keys": [site.key()] }) } else { json!({}) };
    let object = json!({
        "apiVersion": "policy.muster.dev/v1alpha1",
        "kind": kind,
        "metadata": { "name": site.name() },
        "spec": { "source": { "builtIn": built_in }, "settings": settings },
    });
    cluster.kubectl_with(&["apply", "-f", "-"], &object.to_string()).await.unwrap();
}

#[tokio::test]
async fn a_group_that_waits_for_its_policy_still_does_after_a_restart() {
    let (_turn, cluster) = alone().await;
    let mut site = Site::new("gated").await.unwrap();
    site.pool("a", 2).await.unwrap();
    let set = set(&site, "waits", 1).annotated("muster.dev/placement-policy", site.name());
    site.apply(&set.manifest()).await.unwrap();
    let pending = await_condition(&site, "waits", PLACEMENT_PENDING, "True").await.unwrap();
    assert_eq!(pending.reason, "PolicyNotFound");
    let before = pods(&site, "waits").await.unwrap()["waits-0"].metadata.uid.clone();
    cluster.operator().kill();
    policy(cluster, &site, "PlacementPolicy", "node-pool").await;
    cluster.operator().restart().await.unwrap();
    await_ready(&site, "waits").await.unwrap();
    assert_eq!(pods(&site, "waits").await.unwrap()["waits-0"].metadata.uid, before);
    cluster.kubectl(&["delete", "placementpolicy", site.name()]).await.unwrap();
}

#[tokio::test]
async fn the_room_of_workers_that_do_not_exist_yet_stays_reserved_across_a_restart() {
    let (_turn, cluster) = alone().await;
    let mut site = Site::new("reserved").await.unwrap();
    site.pool("a", 2).await.unwrap();
    let first = set(&site, "first", 1).annotated("muster.dev/startup-policy", site.name());
    site.apply(&first.manifest()).await.unwrap();
    eventually(PATIENCE, || async {
        let pods = pods(&site, "first").await?;
        ensure!(pods.get("first-0").is_some_and(is_ready), "the leader is not ready");
        Ok(())
    })
    .await
    .unwrap();
    cluster.operator().restart().await.unwrap();
    site.apply(&set(&site, "second", 1).manifest()).await.unwrap();
    let pending = await_condition(&site, "second", PLACEMENT_PENDING, "True").await.unwrap();
    assert!(pending.message.contains("a: held by"), "{}", pending.message);
    policy(cluster, &site, "StartupPolicy", "leader-ready").await;
    await_ready(&site, "first").await.unwrap();
    cluster.kubectl(&["delete", "startuppolicy", site.name()]).await.unwrap();
    site.kubectl(&["delete", "lws", "first"]).await.unwrap();
    await_ready(&site, "second").await.unwrap();
}
