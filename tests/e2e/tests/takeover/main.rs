//! Sets that upstream runs are taken over while they serve, worked with, and given back.
//!
//! The cluster of this program is upstream's first: our operator is down and its webhooks are gone until it is installed over what is there.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be set up must fail")]

mod at_work;
mod era;
mod sets;
mod upstream;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use kube::api::DeleteParams;
use muster_cluster::{Cluster, Namespace, eventually, install_chart};
use muster_e2e::{PATIENCE, Site, await_ready, of_set, pods};
use serde_json::{Value, json};

use crate::upstream::{Managed, key};

/// How long nothing may change after the operator has changed hands.
const QUIET: Duration = Duration::from_secs(60);

/// What must not change, by kind and name: identity, generation and spec, and nothing at all of pods.
type Picture = BTreeMap<String, Value>;

async fn picture(site: &Namespace, sets: &[Managed]) -> Result<Picture> {
    let mut picture = Picture::new();
    for set in sets {
        for (name, object) in of_set::<StatefulSet>(site, set.name()).await? {
            let told = json!({ "uid": object.uid(), "generation": object.metadata.generation, "spec": object.spec });
            picture.insert(format!("StatefulSet {name}"), told);
        }
        for (name, pod) in pods(site, set.name()).await? {
            // Not one write to any of them.
            let told = json!({ "uid": pod.uid(), "resourceVersion": pod.resource_version(), "spec": pod.spec });
            picture.insert(format!("Pod {name}"), told);
        }
        for (name, service) in of_set::<Service>(site, set.name()).await? {
            picture.insert(format!("Service {name}"), json!({ "uid": service.uid(), "spec": service.spec }));
        }
        for (name, revision) in of_set::<ControllerRevision>(site, set.name()).await? {
            picture.insert(format!("ControllerRevision {name}"), json!({ "uid": revision.uid(), "data": revision.data }));
        }
        let stored: Value = serde_json::from_str(&site.kubectl(&["get", "lws", set.name(), "-o", "json"]).await?)?;
        let told = json!({ "generation": stored["metadata"]["generation"], "spec": stored["spec"] });
        picture.insert(format!("LeaderWorkerSet {}", set.name()), told);
    }
    Ok(picture)
}

fn unchanged(before: &Picture, after: &Picture) {
    let names = |picture: &Picture| picture.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(before), names(after));
    for (name, told) in before {
        assert_eq!(told, &after[name], "{name} changed");
    }
}

/// UIDs of a set's pods.
async fn uids(site: &Namespace, set: &str) -> BTreeMap<String, String> {
    pods(site, set).await.unwrap().into_iter().map(|(name, pod)| (name, pod.uid().unwrap())).collect()
}

/// Waits until every pod of the set is another than before.
async fn all_replaced(site: &Namespace, set: &str, before: &BTreeMap<String, String>) {
    eventually(PATIENCE, || async {
        let now = uids(site, set).await;
        let kept: Vec<_> = before.iter().filter(|(name, uid)| now.get(*name) == Some(*uid)).collect();
        ensure!(kept.is_empty(), "{kept:?} are still there");
        Ok(())
    })
    .await
    .unwrap();
}

async fn patch(site: &Namespace, set: &str, spec: Value) {
    let patch = json!({ "spec": spec }).to_string();
    site.kubectl(&["patch", "lws", set, "--type=merge", "-p", &patch]).await.unwrap();
}

#[tokio::test]
async fn sets_of_upstream_are_taken_over_without_a_pod_noticing_and_can_be_given_back() {
    let cluster = Cluster::shared().await;
    let mut site = Site::new("takeover").await.unwrap();
    for pool in ["a", "b", "c"] {
        site.pool(pool, 3).await.unwrap();
    }
    cluster.operator().kill();
    let ours = "mutatingwebhookconfigurations,validatingwebhookconfigurations";
    cluster.kubectl(&["delete", ours, "muster.muster-system"]).await.unwrap();

    let resting = sets::at_rest(&site).await;
    let busy = sets::at_work(&site);
    let sets = [&resting[..], &busy[..]].concat();
    era::webhook(cluster, &site, &sets).await.unwrap();
    for set in &sets {
        era::run(&site, set, sets::REVISION).await.unwrap();
    }
    sets::half_updated(&site, &sets).await;
    sets::revisions_astray(&site, &sets).await;
    era::webhook_gone(cluster, &site).await.unwrap();

    let before = picture(&site, &resting).await.unwrap();
    let work = at_work::Work::before(&site).await;
    install_chart(cluster.plane(), &Cluster::values()).await.unwrap();
    cluster.operator().restart().await.unwrap();
    work.is_done(&site).await;
    tokio::time::sleep(QUIET).await;
    unchanged(&before, &picture(&site, &resting).await.unwrap());
    work.disturbed_nothing(&site).await;
    nothing_is_held_against_them(&site, &sets).await;

    rollout_scale_and_restart_work(&site).await;
    the_second_half_of_an_update_is_ours(&site).await;
    a_canary_becomes_the_release(&site).await;

    cluster.operator().stop();
    cluster.kubectl(&["delete", ours, "muster.muster-system"]).await.unwrap();
    given_back(&site, &sets).await;
}

/// Every set is available, and no other condition of it is True.
async fn nothing_is_held_against_them(site: &Site, sets: &[Managed]) {
    for set in sets {
        let conditions = muster_e2e::status_of(&muster_e2e::get(site, set.name()).await.unwrap()).conditions;
        let held: Vec<&str> =
            conditions.iter().filter(|condition| condition.status == "True").map(|condition| condition.type_.as_str()).collect();
        assert_eq!(held, ["Available"], "{}: {conditions:#?}", set.name());
    }
}

async fn rollout_scale_and_restart_work(site: &Site) {
    let before = uids(site, "serve").await;
    patch(
        site,
        "serve",
        json!({ "leaderWorkerTemplate": { "workerTemplate": { "metadata": { "labels": { "release": "2" } } } } }),
    )
    .await;
    all_replaced(site, "serve", &before).await;
    await_ready(site, "serve").await.unwrap();

    let before = uids(site, "serve").await;
    patch(site, "serve", json!({ "replicas": 3 })).await;
    await_ready(site, "serve").await.unwrap();
    let mut after = uids(site, "serve").await;
    after.retain(|name, _| !name.starts_with("serve-2"));
    assert_eq!(before, after, "scaling replaced pods");

    site.api::<Pod>().delete("pinned-1-1", &DeleteParams::default()).await.unwrap();
    let mut before = uids(site, "pinned").await;
    before.retain(|name, _| name.starts_with("pinned-1"));
    all_replaced(site, "pinned", &before).await;
    await_ready(site, "pinned").await.unwrap();
}

/// A partition that upstream stopped at is lifted.
async fn the_second_half_of_an_update_is_ours(site: &Site) {
    let mut updated = uids(site, "halfway").await;
    updated.retain(|name, _| name.starts_with("halfway-1"));
    patch(site, "halfway", json!({ "rolloutStrategy": { "rollingUpdateConfiguration": { "partition": 0 } } })).await;
    eventually(PATIENCE, || async {
        for (name, pod) in pods(site, "halfway").await? {
            let revision = &pod.labels()[&key("template-revision-hash")];
            ensure!(revision == sets::NEXT_REVISION, "{name} is at {revision}");
        }
        Ok(())
    })
    .await
    .unwrap();
    await_ready(site, "halfway").await.unwrap();
    let mut now = uids(site, "halfway").await;
    now.retain(|name, _| name.starts_with("halfway-1"));
    assert_eq!(now, updated, "a group that upstream had updated was replaced");
}

/// A partition above all groups, which upstream kept a surge group at, is lifted.
async fn a_canary_becomes_the_release(site: &Site) {
    patch(site, "canary", json!({ "rolloutStrategy": { "rollingUpdateConfiguration": { "partition": 0 } } })).await;
    eventually(PATIENCE, || async {
        let pods = pods(site, "canary").await?;
        let names: Vec<_> = pods.keys().map(String::as_str).collect();
        ensure!(names == ["canary-0", "canary-0-1", "canary-1", "canary-1-1"], "{names:?}");
        for (name, pod) in pods {
            let revision = &pod.labels()[&key("template-revision-hash")];
            ensure!(revision == sets::NEXT_REVISION, "{name} is at {revision}");
        }
        Ok(())
    })
    .await
    .unwrap();
    await_ready(site, "canary").await.unwrap();
}

/// Upstream comes back: what it applies and creates on its first reconcile changes nothing.
async fn given_back(site: &Site, sets: &[Managed]) {
    for set in sets {
        let stored: Value =
            serde_json::from_str(&site.kubectl(&["get", "lws", set.name(), "-o", "json"]).await.unwrap()).unwrap();
        let set = Managed { object: stored.clone(), release: set.release };
        let live: StatefulSet = site.api().get(set.name()).await.unwrap();
        let revision = live.labels()[&key("template-revision-hash")].clone();
        readable_revision(site, &set, &revision).await;

        let wanted = set.leader_set(&era::owner_of(&stored), &revision, 0, set.replicas());
        let applied = era::apply_leader_set(site, &wanted).await.unwrap();
        assert_eq!(applied.metadata.generation, live.metadata.generation, "upstream would change leaders of {}", set.name());

        for (name, pod) in pods(site, set.name()).await.unwrap() {
            let gates = pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.clone()).unwrap_or_default();
            assert!(gates.is_empty() && pod.finalizers().is_empty(), "{name} is held by {gates:?} and {:?}", pod.finalizers());
        }
        for group in 0..set.replicas() {
            let name = format!("{}-{group}", set.name());
            let workers: StatefulSet = site.api().get(&name).await.unwrap();
            let leader: Pod = site.api().get(&name).await.unwrap();
            let owner = &workers.owner_references()[0];
            assert_eq!((owner.kind.as_str(), Some(&owner.uid)), ("Pod", leader.metadata.uid.as_ref()), "{name}");
            for label in ["name", "group-index", "group-key", "template-revision-hash"] {
                assert_eq!(workers.labels()[&key(label)], leader.labels()[&key(label)], "{label} of {name}");
            }
        }
    }
}

/// Upstream restores a spec by a strategic merge of the revision's data, and compares what comes out.
async fn readable_revision(site: &Site, set: &Managed, revision: &str) {
    let revisions = of_set::<ControllerRevision>(site, set.name()).await.unwrap();
    let found = revisions.values().filter(|found| found.labels()[&key("template-revision-hash")] == revision);
    let found: Vec<_> =
        found.filter(|found| found.owner_references().iter().any(|owner| owner.kind == "LeaderWorkerSet")).collect();
    let data = &found.iter().max_by_key(|found| found.revision).unwrap().data.as_ref().unwrap().0["spec"];
    for part in ["leaderWorkerTemplate", "networkConfig"] {
        assert_eq!(data[part]["$patch"], "replace", "{part} of {}", set.name());
    }
    let kept = &data["leaderWorkerTemplate"];
    assert_eq!(kept["size"], set.object["spec"]["leaderWorkerTemplate"]["size"]);
    let image = |template: &Value| template["workerTemplate"]["spec"]["containers"][0]["image"].clone();
    assert_eq!(image(kept), image(&set.object["spec"]["leaderWorkerTemplate"]));
}
