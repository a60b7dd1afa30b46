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

/// Everything upstream runs here; ready to be created.
pub(crate) async fn all(site: &Site) -> Vec<Managed> {
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
        set(
            site,
            Release::V0_10,
            "halfway",
            &json!({ "spec": { "rolloutStrategy": { "rollingUpdateConfiguration": { "partition": 1 } } } }),
        ),
    ]
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

/// The author of `halfway` has changed its template, and upstream has brought the group above the partition up to date.
pub(crate) async fn half_updated(site: &Namespace, sets: &[Managed]) {
    let mut halfway = sets.iter().find(|set| set.name() == "halfway").unwrap().clone();
    let change =
        json!({ "spec": { "leaderWorkerTemplate": { "workerTemplate": { "metadata": { "labels": { "release": "2" } } } } } });
    merge(&mut halfway.object, &change);
    site.kubectl(&["patch", "lws", "halfway", "--type=merge", "-p", &change.to_string()]).await.unwrap();
    era::update(site, &halfway, NEXT_REVISION, 1).await.unwrap();
}
