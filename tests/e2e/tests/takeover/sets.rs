//! The sets that upstream runs: one for each thing that could give a change of hands away.

use muster_cluster::Namespace;
use muster_e2e::{Site, TAINT, merge};
use serde_json::{Value, json};

use crate::era;
use crate::upstream::{Managed, Release};

/// The key that upstream computed for every set's first template. Muster would compute another; it must keep this one.
pub(crate) const REVISION: &str = "upstreamk1";
/// The key of the template that one set is being updated to.
pub(crate) const NEXT_REVISION: &str = "upstreamk2";

fn set(site: &Site, release: Release, name: &str, over: &Value) -> Managed {
    let pod = json!({ "spec": {
        "tolerations": [{ "key": TAINT, "value": site.name(), "effect": "NoSchedule" }],
        "containers": [{
            "name": "main", "image": "example.com/main:1", "command": ["serve"], "args": [],
            "env": [{ "name": "EMPTY", "value": "" }, { "name": "LEADER", "value": "$(LWS_LEADER_ADDRESS)" }],
            "resources": { "limits": { "cpu": "1000m", "memory": "1024Mi" }, "requests": { "cpu": 1 } },
            "readinessProbe": { "initialDelaySeconds": 0, "tcpSocket": { "port": 8080 } },
            "ports": [{ "containerPort": 8080, "protocol": "TCP" }],
        }],
        "hostNetwork": false,
    } });
    let mut object = json!({
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": { "name": name, "labels": { "team": "a" }, "annotations": { "example.com/note": "kept" } },
        "spec": {
            "replicas": 2,
            "startupPolicy": "LeaderCreated",
            "networkConfig": { "subdomainPolicy": "Shared" },
            "rolloutStrategy": {
                "type": "RollingUpdate",
                "rollingUpdateConfiguration": { "partition": 0, "maxUnavailable": 1, "maxSurge": 0 },
            },
            "leaderWorkerTemplate": { "size": 2, "restartPolicy": "RecreateGroupOnPodRestart", "workerTemplate": pod },
        },
    });
    merge(&mut object, over);
    Managed { release, object }
}

/// Everything upstream leaves at rest here; ready to be created.
pub(crate) async fn at_rest(site: &Site) -> Vec<Managed> {
    volumes(site, 8).await;
    let template = |part: Value| json!({ "spec": { "leaderWorkerTemplate": part } });
    let leader = json!({ "metadata": { "labels": { "part": "leader" } }, "spec": {
        "tolerations": [{ "key": TAINT, "value": site.name(), "effect": "NoSchedule" }],
        "containers": [{ "name": "main", "image": "example.com/leader:1", "env": [{ "name": "ROLE", "value": "leader" }] }],
    } });
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": { "name": "data", "labels": { "backup": "daily" } },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": site.name(),
            "resources": { "requests": { "storage": "1024Mi" } },
        },
    });
    vec![
        // The first: upstream keeps an exclusive group out of every domain that has a pod of any other group of the namespace.
        set(
            site,
            Release::V0_9,
            "pinned",
            &json!({
                "metadata": { "annotations": { "leaderworkerset.sigs.k8s.io/exclusive-topology": site.key() } },
                "spec": {
                    "networkConfig": { "subdomainPolicy": "UniquePerReplica" },
                    "leaderWorkerTemplate": { "leaderTemplate": leader },
                },
            }),
        ),
        set(site, Release::V0_10, "serve", &json!({})),
        set(
            site,
            Release::V0_9,
            "parts",
            &template(json!({ "size": 5, "subGroupPolicy": { "subGroupPolicyType": "LeaderExcluded", "subGroupSize": 2 } })),
        ),
        set(
            site,
            Release::V0_10,
            "stored",
            &template(json!({
                "volumeClaimTemplates": [claim],
                "persistentVolumeClaimRetentionPolicy": { "whenDeleted": "Delete", "whenScaled": "Retain" },
            })),
        ),
        set(site, Release::V0_10, "halfway", &rollout(&json!({ "partition": 1 }))),
        // Its author looks at one group of the new release beside all those of the old.
        set(site, Release::V0_10, "canary", &rollout(&json!({ "partition": 2, "maxSurge": 1 }))),
    ]
}

/// What Muster has something to do about as soon as it comes: a rollout that upstream left half done, a set whose ControllerRevision is
/// gone, and one that has two with the same key.
pub(crate) fn at_work(site: &Site) -> [Managed; 3] {
    [
        set(site, Release::V0_10, "surging", &rollout(&json!({ "maxUnavailable": 0, "maxSurge": 1 }))),
        set(site, Release::V0_10, "forgotten", &json!({})),
        set(site, Release::V0_10, "twice", &json!({})),
    ]
}

fn rollout(configuration: &Value) -> Value {
    json!({ "spec": { "rolloutStrategy": { "rollingUpdateConfiguration": configuration } } })
}

/// Volumes for the claims of one set: nobody provisions any here.
async fn volumes(site: &Site, count: usize) {
    for index in 0..count {
        let volume = json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": format!("{}-{index}", site.name()) },
            "spec": {
                "capacity": { "storage": "1Gi" }, "accessModes": ["ReadWriteOnce"], "storageClassName": site.name(),
                "hostPath": { "path": "/data" },
            },
        });
        site.apply(&volume.to_string()).await.unwrap();
    }
}

/// The authors of some sets have changed their templates, and upstream has brought as many groups up to date as partition and time allowed.
pub(crate) async fn half_updated(site: &Namespace, sets: &[Managed]) {
    for (name, partition) in [("halfway", 1), ("canary", 2), ("surging", 1)] {
        let mut set = sets.iter().find(|set| set.name() == name).unwrap().clone();
        let labels = json!({ "metadata": { "labels": { "release": "2" } } });
        let change = json!({ "spec": { "leaderWorkerTemplate": { "workerTemplate": labels } } });
        merge(&mut set.object, &change);
        site.kubectl(&["patch", "lws", name, "--type=merge", "-p", &change.to_string()]).await.unwrap();
        era::update(site, &set, NEXT_REVISION, partition).await.unwrap();
    }
}

/// Somebody has deleted the ControllerRevision of `forgotten`, and `twice` has a second one with the same key: a newer one is what its
/// groups are made from, an older one says something else.
pub(crate) async fn revisions_astray(site: &Namespace, sets: &[Managed]) {
    site.kubectl(&["delete", "controllerrevision", &format!("forgotten-{REVISION}-1")]).await.unwrap();
    let twice = sets.iter().find(|set| set.name() == "twice").unwrap();
    let stored: Value = serde_json::from_str(&site.kubectl(&["get", "lws", "twice", "-o", "json"]).await.unwrap()).unwrap();
    let owner = era::owner_of(&stored);
    site.kubectl(&["delete", "controllerrevision", &format!("twice-{REVISION}-1")]).await.unwrap();
    let mut older = twice.clone();
    merge(&mut older.object, &json!({ "spec": { "leaderWorkerTemplate": { "size": 4 } } }));
    era::create(site, &older.revision(&owner, REVISION, 1)).await.unwrap();
    era::create(site, &twice.revision(&owner, REVISION, 2)).await.unwrap();
}
