//! Sets come, change, break and go while the operator is killed; then it must all add up.
//!
//! About 40 seconds, or `MUSTER_CHAOS_SECONDS` (600 for a long night); the seed is printed and can be given with `MUSTER_CHAOS_SEED`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use fastrand::Rng;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use muster_api::LeaderWorkerSet;
use muster_api::conditions::{AVAILABLE, PLACEMENT_PENDING};
use muster_cluster::eventually;
use muster_e2e::{PATIENCE, Set, Site, condition, objects_of, status_of};
use serde_json::{Value, json};

use crate::alone;
use crate::exclusivity::Exclusivity;
use crate::killer::{Killer, seed};
use crate::wholeness::Wholeness;

const POOLS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const SETS: usize = 8;
/// A group that was broken many times starts over less and less often: after a long run, up to 5 minutes later.
fn patience(seconds: u64) -> Duration {
    PATIENCE + Duration::from_secs(if seconds > 100 { 300 } else { 0 })
}

/// How many groups a set of this name may have above its replicas: fixed by its number, so that whoever watches knows.
fn surge(name: &str) -> i32 {
    let number: i32 = name.trim_start_matches(['x', 's']).parse().unwrap_or(0);
    i32::from(number % 3 == 0)
}

/// A set of any kind. Exclusive ones are called `x…` and live in pools, the others `s…` and live beside them, some of them divided.
fn any(random: &mut Rng, site: &Site, number: usize) -> (String, Set) {
    let exclusive = number.is_multiple_of(2);
    let name = format!("{}{number}", if exclusive { 'x' } else { 's' });
    let mut set = Set::new(&name).groups(random.i32(0..4), random.i32(1..4));
    if !exclusive && random.bool() {
        set = set.groups(random.i32(0..4), random.i32(4..6)).subgroups(2);
    }
    if random.bool() {
        set = set.with(&json!({ "spec": { "networkConfig": { "subdomainPolicy": "UniquePerReplica" } } }));
    }
    if random.u32(0..4) == 0 {
        let patient = json!({ "restartPolicy": "RecreateGroupAfterStart" });
        set = set.with(&json!({ "spec": { "leaderWorkerTemplate": patient } }));
    }
    if random.bool() {
        set = set.with(&json!({ "spec": { "startupPolicy": "LeaderReady" } }));
    }
    if random.bool() {
        set = set.annotated("muster.dev/startup-policy", "leader-ready");
    }
    if exclusive {
        set = set.on(site, 8).exclusive(site.key()).annotated("muster.dev/unplaceable", "Hold");
    }
    // Surge groups stay while a partition holds others back; here everything has to end.
    let partition = if surge(&name) == 0 { random.i32(0..3) } else { 0 };
    let budget = json!({ "maxSurge": surge(&name), "maxUnavailable": random.i32(1..3), "partition": partition });
    set = set.with(&json!({ "spec": { "rolloutStrategy": { "type": "RollingUpdate", "rollingUpdateConfiguration": budget } } }));
    if random.bool() {
        set = set.annotated("muster.dev/placement-policy", if exclusive { site.name() } else { "none" });
    }
    (name, set)
}

/// One change of any kind. Refusals are fine: half the time nobody admits, and half of what is asked for doesn't exist.
async fn shake(random: &mut Rng, site: &Site) {
    let number = random.usize(0..SETS);
    let (name, set) = any(random, site, number);
    let replicas = format!("--replicas={}", random.u32(0..4));
    let _ = match random.u32(0..16) {
        0..5 => create(site, &set).await,
        5..8 => site.kubectl(&["scale", "lws", &name, &replicas]).await,
        8..10 => site.kubectl(&["delete", "lws", &name, "--wait=false"]).await,
        10..13 => update(site, &name, random.u32(..)).await,
        _ => break_something(site, random).await,
    };
    tokio::time::sleep(Duration::from_millis(random.u64(50..700))).await;
}

/// A new template, or another size, which suits no set of subgroups.
async fn update(site: &Site, name: &str, release: u32) -> Result<String> {
    let labels = json!({ "metadata": { "labels": { "release": release.to_string() } } });
    let change =
        if release.is_multiple_of(4) { json!({ "size": release / 4 % 3 + 1 }) } else { json!({ "workerTemplate": labels }) };
    let patch = json!({ "spec": { "leaderWorkerTemplate": change } }).to_string();
    site.kubectl(&["patch", "lws", name, "--type=merge", "-p", &patch]).await
}

/// One to three pods of any groups: deleted, failed, or with a container that was restarted; or the StatefulSet of a group's workers.
async fn break_something(site: &Site, random: &mut Rng) -> Result<String> {
    let mut pods = site.api::<Pod>().list(&ListParams::default()).await?.items;
    random.shuffle(&mut pods);
    for pod in pods.iter().take(random.usize(1..4)) {
        let name = pod.name_any();
        match random.u32(0..4) {
            0 => drop(site.api::<Pod>().delete(&name, &DeleteParams::default()).await?),
            1 => {
                set_status(site, &name, json!({ "phase": "Failed", "reason": "Evicted" })).await?;
                site.api::<Pod>().delete(&name, &DeleteParams::default()).await?;
            }
            2 => {
                let restarted = json!([{ "name": "main", "image": "", "imageID": "", "ready": true, "restartCount": 1 }]);
                set_status(site, &name, json!({ "containerStatuses": restarted })).await?;
            }
            // The name of a leader is that of its workers' StatefulSet, too; that of a worker is nothing's.
            _ => drop(site.api::<StatefulSet>().delete(&name, &DeleteParams::default()).await?),
        }
    }
    Ok(String::new())
}

async fn set_status(site: &Site, pod: &str, status: Value) -> Result<()> {
    let patch = Patch::Merge(json!({ "status": status }));
    site.api::<Pod>().patch_status(pod, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// Creates only: what a set is must not change under it here.
async fn create(site: &Site, set: &Set) -> Result<String> {
    let object = serde_json::from_value(set.object().clone())?;
    Ok(site.api::<LeaderWorkerSet>().create(&PostParams::default(), &object).await?.name_any())
}

/// Every set is available, or says truthfully that groups of it have no place.
async fn adds_up(site: &Site) -> Result<()> {
    let pods = site.api::<Pod>().list(&ListParams::default()).await?.items;
    let domains = pools_in_use(site, &pods);
    for set in site.api::<LeaderWorkerSet>().list(&ListParams::default()).await?.items {
        let (name, status) = (set.name_any(), status_of(&set));
        ensure!(status.observed_generation == set.metadata.generation, "{name} is not up to date");
        let is = |type_: &str| condition(&set, type_).is_some_and(|condition| condition.status == "True");
        if is(AVAILABLE) && status.ready_replicas == set.replicas() && status.replicas == set.replicas() {
            ensure!(!is(PLACEMENT_PENDING), "{name} is available and has groups without a place");
            continue;
        }
        let pending = condition(&set, PLACEMENT_PENDING).filter(|condition| condition.status == "True");
        let Some(pending) = pending else { anyhow::bail!("{name} is neither available nor pending: {status:#?}") };
        // Pools have two nodes; a group of three never fits, smaller ones fit any pool without pods.
        let size = set.spec.leader_worker_template.size.unwrap_or(1);
        let free: Vec<&&str> = POOLS.iter().filter(|pool| !domains.contains(**pool)).collect();
        ensure!(size > 2 || free.is_empty(), "{name} says {:?}, and {free:?} are free", pending.message);
        ensure!(pending.message.contains("groups wait for placement"), "{name}: {}", pending.message);
    }
    Ok(())
}

/// The pools that some exclusive group is in or sent to.
fn pools_in_use(site: &Site, pods: &[Pod]) -> BTreeSet<String> {
    let sent = |pod: &Pod| pod.spec.as_ref()?.node_selector.as_ref()?.get(site.key()).cloned();
    pods.iter().filter_map(sent).collect()
}

#[tokio::test]
async fn after_any_mess_everything_adds_up_and_nothing_is_left() {
    let (_turn, cluster) = alone().await;
    let seconds = std::env::var("MUSTER_CHAOS_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(40);
    let seed = seed();
    let mut site = Site::new("chaos").await.unwrap();
    for pool in POOLS {
        site.pool(pool, 2).await.unwrap();
    }
    let policy = json!({
        "apiVersion": "policy.muster.dev/v1alpha1",
        "kind": "PlacementPolicy",
        "metadata": { "name": site.name() },
        "spec": { "source": { "builtIn": "node-pool" }, "settings": { "keys": [site.key()] } },
    });
    cluster.kubectl_with(&["apply", "-f", "-"], &policy.to_string()).await.unwrap();

    let watch = Exclusivity::watch(&site, "x").await.unwrap();
    let whole = Wholeness::watch(&site, surge);
    let killer = Killer::start(cluster, seed);
    let mut random = Rng::with_seed(seed);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(seconds) {
        shake(&mut random, &site).await;
    }
    let kills = killer.stop(cluster).await;
    let settled = Instant::now();
    eventually(patience(seconds), || async {
        adds_up(&site).await?;
        let sets = objects_of(&site, "lws").await?.into_iter().collect::<Vec<_>>();
        whole.check(&site, &sets).await
    })
    .await
    .unwrap();
    println!("{kills} kills; everything added up after {:.1?}", settled.elapsed());

    site.kubectl(&["delete", "lws", "--all"]).await.unwrap();
    eventually(PATIENCE, || async {
        let mut left = BTreeMap::new();
        for kind in ["lws", "pods", "statefulsets", "services", "controllerrevisions"] {
            left.insert(kind, objects_of(&site, kind).await?);
        }
        ensure!(left.values().all(BTreeSet::is_empty), "there are still {left:?}");
        Ok(())
    })
    .await
    .unwrap();
    let moments = watch.finish().unwrap();
    let pieces = whole.finish().unwrap();
    println!("{moments} moments, {pieces} compositions of groups");
    cluster.kubectl(&["delete", "placementpolicy", site.name()]).await.unwrap();
}
