//! A rolling update keeps to its budget at every moment, whenever the operator is killed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use anyhow::{Result, ensure};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::runtime::watcher::{self, Event, watcher};
use muster_api::names::label;
use muster_cluster::{Namespace, eventually, is_ready};
use muster_e2e::{PATIENCE, Set, await_ready, pods};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::alone;
use crate::killer::{Killer, seed};

/// Fewest whole groups and most groups at any moment since the watch began.
#[derive(Clone, Copy, Debug)]
struct Extremes {
    ready: usize,
    existing: usize,
    moments: usize,
}

/// Watches the groups of a set that has `size` pods in each.
fn watch(namespace: &Namespace, set: &'static str, size: usize) -> (Arc<Mutex<Option<Extremes>>>, JoinHandle<()>) {
    let seen = Arc::new(Mutex::new(None));
    let notes = seen.clone();
    let config = watcher::Config::default().labels(&format!("{}={set}", label::SET_NAME));
    let mut events = watcher(namespace.api::<Pod>(), config).boxed();
    let task = tokio::spawn(async move {
        let mut pods: HashMap<String, Pod> = HashMap::new();
        let mut listed = false;
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Apply(pod) | Event::InitApply(pod)) => drop(pods.insert(pod.name_any(), pod)),
                Ok(Event::Delete(pod)) => drop(pods.remove(&pod.name_any())),
                // What went while the watch was broken is not told one by one.
                Ok(Event::Init) => {
                    pods.clear();
                    listed = false;
                }
                Ok(Event::InitDone) => listed = true,
                Err(_) => {}
            }
            if listed {
                let mut seen = notes.lock().unwrap();
                let now = count(&pods, size);
                let before: Extremes = seen.unwrap_or(now);
                *seen = Some(Extremes {
                    ready: before.ready.min(now.ready),
                    existing: before.existing.max(now.existing),
                    moments: before.moments + 1,
                });
            }
        }
    });
    (seen, task)
}

fn count(pods: &HashMap<String, Pod>, size: usize) -> Extremes {
    let mut groups: BTreeMap<&str, Vec<&Pod>> = BTreeMap::new();
    for pod in pods.values() {
        groups.entry(pod.labels().get(label::GROUP_INDEX).map_or("", String::as_str)).or_default().push(pod);
    }
    let stays = |pod: &&Pod| is_ready(pod) && pod.metadata.deletion_timestamp.is_none();
    let whole = groups.values().filter(|pods| pods.iter().filter(|pod| stays(pod)).count() == size);
    let leaders = pods.values().filter(|pod| pod.labels().get(label::WORKER_INDEX).is_some_and(|rank| rank == "0"));
    Extremes { ready: whole.count(), existing: leaders.count(), moments: 0 }
}

#[tokio::test]
async fn a_rollout_keeps_to_its_budget_while_the_operator_is_killed() {
    let (_turn, cluster) = alone().await;
    let namespace = cluster.namespace("budget").await.unwrap();
    let budget = json!({ "spec": { "rolloutStrategy": {
        "type": "RollingUpdate",
        "rollingUpdateConfiguration": { "maxUnavailable": 2, "maxSurge": 1, "partition": 0 },
    } } });
    namespace.apply(&Set::new("kept").groups(6, 3).with(&budget).manifest()).await.unwrap();
    await_ready(&namespace, "kept").await.unwrap();
    let (seen, task) = watch(&namespace, "kept", 3);
    let killer = Killer::start(cluster, seed());
    for version in 2..5 {
        let image = format!("example.com/main:{version}");
        let change = json!([{ "op": "replace", "path": "/spec/leaderWorkerTemplate/workerTemplate/spec/containers/0/image", "value": image }]);
        let patch = change.to_string();
        // Refused while nobody admits.
        eventually(PATIENCE, || async { namespace.kubectl(&["patch", "lws", "kept", "--type=json", "-p", &patch]).await })
            .await
            .unwrap();
        if version == 3 {
            // The next one comes in the middle of this one.
            eventually(PATIENCE, || async {
                images(&namespace).await?.contains(&image).then_some(()).ok_or(anyhow::anyhow!("not begun"))
            })
            .await
            .unwrap();
            continue;
        }
        eventually(PATIENCE, || async {
            let images = images(&namespace).await?;
            ensure!(images == BTreeSet::from([image.clone()]), "pods run {images:?}");
            Ok(())
        })
        .await
        .unwrap();
    }
    let kills = killer.stop(cluster).await;
    eventually(PATIENCE, || async { await_ready(&namespace, "kept").await }).await.unwrap();
    task.abort();
    let seen = seen.lock().unwrap().unwrap();
    println!("{kills} kills, {seen:?}");
    assert!(seen.ready >= 4, "no more than two of six groups may be down: {seen:?}");
    assert!(seen.existing <= 7, "no more than seven groups may exist: {seen:?}");
    assert!(seen.moments > 100, "{kills} kills, {seen:?}");
}

async fn images(namespace: &Namespace) -> Result<BTreeSet<String>> {
    let pods = pods(namespace, "kept").await?;
    let containers = pods.values().filter_map(|pod| pod.spec.as_ref()?.containers.first()?.image.clone());
    Ok(containers.collect())
}
