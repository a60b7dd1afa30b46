//! Volume claims: whose they are, and when they go.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};
use muster_cluster::{Cluster, Namespace, eventually};
use muster_e2e::{PATIENCE, Set, await_condition, await_groups, await_ready, get, pods};
use serde_json::{Value, json};

/// A namespace, and volumes of a storage class of its own for so many claims.
async fn with_volumes(count: usize) -> Result<Namespace> {
    let namespace = Cluster::shared().await.namespace("claims").await?;
    let volumes: Api<PersistentVolume> = Api::all(namespace.client());
    for index in 0..count {
        let volume = json!({
            "metadata": { "name": format!("{}-{index}", namespace.name()) },
            "spec": {
                "storageClassName": namespace.name(), "capacity": { "storage": "1Gi" }, "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain", "hostPath": { "path": "/tmp" },
            },
        });
        volumes.create(&PostParams::default(), &serde_json::from_value(volume)?).await?;
    }
    Ok(namespace)
}

fn claiming(namespace: &Namespace, groups: i32, size: i32, deleted: &str, scaled: &str) -> Set {
    let claim = json!({ "metadata": { "name": "data" }, "spec": {
        "storageClassName": namespace.name(), "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } } });
    let container = json!({
        "name": "main", "image": "example.com/main:1", "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
    });
    Set::new("vllm").groups(groups, size).with(&json!({ "spec": { "leaderWorkerTemplate": {
        "volumeClaimTemplates": [claim],
        "persistentVolumeClaimRetentionPolicy": { "whenDeleted": deleted, "whenScaled": scaled },
        "workerTemplate": { "spec": { "containers": [container] } },
    } } }))
}

/// Claims by name, with their UIDs; those on their way out are not counted.
async fn claims(namespace: &Namespace) -> Result<BTreeMap<String, String>> {
    let claims = namespace.api::<PersistentVolumeClaim>().list(&ListParams::default()).await?.items;
    let live = claims.into_iter().filter(|claim| claim.metadata.deletion_timestamp.is_none());
    Ok(live.map(|claim| (claim.name_any(), claim.uid().unwrap_or_default())).collect())
}

async fn await_claims(namespace: &Namespace, expected: &[&str]) -> Result<()> {
    eventually(PATIENCE, || async {
        let names: Vec<String> = claims(namespace).await?.into_keys().collect();
        ensure!(names == expected, "claims are {names:?}");
        Ok(())
    })
    .await
}

/// Waits until every worker's claim is the set's too, as it is before anything may happen to its group.
async fn await_owned(namespace: &Namespace) -> Result<()> {
    eventually(PATIENCE, || async {
        for claim in namespace.api::<PersistentVolumeClaim>().list(&ListParams::default()).await?.items {
            let leaders = claim.labels().contains_key("leaderworkerset.sigs.k8s.io/worker-index");
            let mut owners: Vec<_> =
                claim.owner_references().iter().map(|owner| (owner.kind.clone(), owner.controller)).collect();
            let expected = if leaders {
                vec![("StatefulSet".to_owned(), Some(true))]
            } else {
                vec![("LeaderWorkerSet".to_owned(), None), ("StatefulSet".to_owned(), Some(true))]
            };
            owners.sort();
            ensure!(owners == expected, "{} is owned by {owners:?}", claim.name_any());
        }
        Ok(())
    })
    .await
}

async fn await_new_pods(namespace: &Namespace, before: &BTreeMap<String, String>) -> Result<()> {
    eventually(PATIENCE, || async {
        let now = uids(namespace).await?;
        ensure!(now.keys().eq(before.keys()) && now.iter().all(|(name, uid)| before[name] != *uid), "{now:?} after {before:?}");
        Ok(())
    })
    .await?;
    await_ready(namespace, "vllm").await.map(drop)
}

async fn uids(namespace: &Namespace) -> Result<BTreeMap<String, String>> {
    Ok(pods(namespace, "vllm").await?.into_iter().map(|(name, pod)| (name, pod.uid().unwrap_or_default())).collect())
}

#[tokio::test]
async fn a_leader_stateful_set_with_claims_that_loses_its_label_gets_it_back() -> Result<()> {
    let namespace = with_volumes(2).await?;
    namespace.apply(&claiming(&namespace, 1, 2, "Retain", "Retain").manifest()).await?;
    await_ready(&namespace, "vllm").await?;
    let edit = r#"{"metadata": {"labels": {"leaderworkerset.sigs.k8s.io/name": null}}}"#;
    namespace.kubectl(&["patch", "statefulset", "vllm", "--type=merge", "-p", edit]).await?;
    eventually(PATIENCE, || async {
        let leaders = namespace.api::<StatefulSet>().get("vllm").await?;
        ensure!(leaders.labels().contains_key("leaderworkerset.sigs.k8s.io/name"), "{:?}", leaders.labels());
        Ok(())
    })
    .await?;
    // Its claims, which can't be changed, still stand in no scaling's way.
    namespace.kubectl(&["scale", "lws", "vllm", "--replicas=0"]).await?;
    await_groups(&namespace, "vllm", 0).await.map(drop)
}

#[tokio::test]
async fn workers_keep_their_volumes_through_a_restart_and_an_update_and_lose_them_with_their_set() -> Result<()> {
    let namespace = with_volumes(3).await?;
    namespace.apply(&claiming(&namespace, 1, 3, "Delete", "Retain").manifest()).await?;
    await_ready(&namespace, "vllm").await?;
    await_owned(&namespace).await?;
    let first = claims(&namespace).await?;
    assert_eq!(first.keys().collect::<Vec<_>>(), ["data-vllm-0", "data-vllm-0-1", "data-vllm-0-2"]);

    let before = uids(&namespace).await?;
    namespace.kubectl(&["delete", "pod", "vllm-0-1", "--wait=false"]).await?;
    await_new_pods(&namespace, &before).await?;
    assert_eq!(claims(&namespace).await?, first, "after a restart");
    // The new StatefulSet takes the claims over, and they are ready for the next time.
    await_owned(&namespace).await?;

    let before = uids(&namespace).await?;
    let image = r#"[{"op": "replace", "path": "/spec/leaderWorkerTemplate/workerTemplate/spec/containers/0/image", "value": "example.com/main:2"}]"#;
    namespace.kubectl(&["patch", "lws", "vllm", "--type=json", "-p", image]).await?;
    await_new_pods(&namespace, &before).await?;
    assert_eq!(claims(&namespace).await?, first, "after an update");
    await_owned(&namespace).await?;

    namespace.kubectl(&["delete", "lws", "vllm", "--wait=false"]).await?;
    await_claims(&namespace, &[]).await
}

#[tokio::test]
async fn volumes_of_a_group_or_rank_that_is_scaled_away_go_when_the_set_wants_that() -> Result<()> {
    let namespace = with_volumes(6).await?;
    namespace.apply(&claiming(&namespace, 2, 3, "Retain", "Delete").manifest()).await?;
    await_ready(&namespace, "vllm").await?;
    namespace.kubectl(&["scale", "lws", "vllm", "--replicas=1"]).await?;
    await_claims(&namespace, &["data-vllm-0", "data-vllm-0-1", "data-vllm-0-2"]).await?;
    let kept = claims(&namespace).await?;
    let smaller = r#"{"spec": {"leaderWorkerTemplate": {"size": 2}}}"#;
    namespace.kubectl(&["patch", "lws", "vllm", "--type=merge", "-p", smaller]).await?;
    await_claims(&namespace, &["data-vllm-0", "data-vllm-0-1"]).await?;
    await_ready(&namespace, "vllm").await?;
    let left = claims(&namespace).await?;
    ensure!(left.iter().all(|(name, uid)| kept[name] == *uid), "{left:?} are not those of {kept:?}");
    Ok(())
}

#[tokio::test]
async fn volumes_of_what_is_scaled_away_stay_when_they_are_to_be_retained_and_go_with_the_set() -> Result<()> {
    let namespace = with_volumes(4).await?;
    namespace.apply(&claiming(&namespace, 2, 2, "Delete", "Retain").manifest()).await?;
    await_ready(&namespace, "vllm").await?;
    await_owned(&namespace).await?;
    let all = claims(&namespace).await?;
    namespace.kubectl(&["scale", "lws", "vllm", "--replicas=1"]).await?;
    eventually(PATIENCE, || async {
        let names: Vec<String> = pods(&namespace, "vllm").await?.into_keys().collect();
        ensure!(names == ["vllm-0", "vllm-0-1"], "pods are {names:?}");
        let workers = namespace.api::<StatefulSet>().get_opt("vllm-1").await?;
        ensure!(workers.is_none(), "the worker StatefulSet is still there");
        Ok(())
    })
    .await?;
    namespace.kubectl(&["scale", "lws", "vllm", "--replicas=2"]).await?;
    await_ready(&namespace, "vllm").await?;
    assert_eq!(claims(&namespace).await?, all);
    namespace.kubectl(&["delete", "lws", "vllm", "--wait=false"]).await?;
    await_claims(&namespace, &[]).await
}

#[tokio::test]
async fn a_claim_template_reaches_both_stateful_sets_in_full_and_stays() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("claims").await?;
    let claim = json!({
        "metadata": { "name": "data", "labels": { "tier": "fast" }, "annotations": { "example.com/backup": "daily" } },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "fast", "volumeMode": "Filesystem",
            "volumeAttributesClassName": "gold", "selector": { "matchLabels": { "disk": "nvme" } },
            "dataSource": { "apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "weights" },
            "resources": { "requests": { "storage": "10Gi" }, "limits": { "storage": "20Gi" } },
        },
    });
    let template =
        json!({ "volumeClaimTemplates": [claim], "persistentVolumeClaimRetentionPolicy": { "whenDeleted": "Delete" } });
    let set = Set::new("vllm").groups(1, 2).with(&json!({ "spec": { "leaderWorkerTemplate": template } }));
    namespace.apply(&set.manifest()).await?;
    for name in ["vllm", "vllm-0"] {
        let spec = eventually(PATIENCE, || async {
            Ok(serde_json::from_str::<Value>(&namespace.kubectl(&["get", "statefulset", name, "-o", "json"]).await?)?)
        })
        .await?["spec"]
            .clone();
        let live = &spec["volumeClaimTemplates"][0];
        assert_eq!(live["metadata"]["labels"], claim["metadata"]["labels"], "{name}");
        assert_eq!(live["metadata"]["annotations"], claim["metadata"]["annotations"], "{name}");
        for (field, value) in claim["spec"].as_object().context("no spec")? {
            assert_eq!(live["spec"][field], *value, "{name}: {field}");
        }
        // One half was left out, and is what Kubernetes makes of it.
        let policy = json!({ "whenDeleted": "Delete", "whenScaled": "Retain" });
        assert_eq!(spec["persistentVolumeClaimRetentionPolicy"], policy, "{name}");
    }
    let larger = r#"[{"op": "replace", "path": "/spec/leaderWorkerTemplate/volumeClaimTemplates/0/spec/resources/requests/storage", "value": "30Gi"}]"#;
    let refused = namespace.kubectl(&["patch", "lws", "vllm", "--type=json", "-p", larger]).await.expect_err("not refused");
    let expected =
        "spec.leaderWorkerTemplate.volumeClaimTemplates: Forbidden: field is immutable once the set has its StatefulSets";
    assert!(format!("{refused:#}").contains(expected), "{refused:#}");
    // Everything else may change, and is applied.
    namespace.kubectl(&["scale", "lws", "vllm", "--replicas=2"]).await?;
    eventually(PATIENCE, || async {
        let replicas = namespace.kubectl(&["get", "statefulset", "vllm", "-o", "jsonpath={.spec.replicas}"]).await?;
        ensure!(replicas == "2", "the leader StatefulSet has {replicas} replicas");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_claim_that_was_made_before_its_worker_outlives_a_restart_too() -> Result<()> {
    let namespace = with_volumes(2).await?;
    let prepared = json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "data-vllm-0-1" }, "spec": {
        "storageClassName": namespace.name(), "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } } });
    namespace.apply(&prepared.to_string()).await?;
    let first = claims(&namespace).await?;
    namespace.apply(&claiming(&namespace, 1, 2, "Delete", "Retain").manifest()).await?;
    await_ready(&namespace, "vllm").await?;
    await_owned(&namespace).await?;
    let before = uids(&namespace).await?;
    namespace.kubectl(&["delete", "pod", "vllm-0", "--wait=false"]).await?;
    await_new_pods(&namespace, &before).await?;
    assert_eq!(claims(&namespace).await?["data-vllm-0-1"], first["data-vllm-0-1"]);
    namespace.kubectl(&["delete", "lws", "vllm", "--wait=false"]).await?;
    await_claims(&namespace, &[]).await
}

#[tokio::test]
async fn a_set_with_other_templates_than_its_stateful_set_says_so_and_goes_on_otherwise() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("claims").await?;
    let labels = json!({ "leaderworkerset.sigs.k8s.io/name": "vllm", "leaderworkerset.sigs.k8s.io/worker-index": "0" });
    let claim = |name: &str| json!({ "metadata": { "name": name }, "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } } });
    let leaders = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "vllm" },
        "spec": {
            "replicas": 0, "serviceName": "vllm", "podManagementPolicy": "Parallel", "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": { "containers": [{ "name": "main", "image": "example.com/old:1" }] } },
            "volumeClaimTemplates": [claim("old")],
        },
    });
    namespace.apply(&leaders.to_string()).await?;
    let with = |name: &str| {
        Set::new("vllm").with(&json!({ "spec": { "leaderWorkerTemplate": { "volumeClaimTemplates": [claim(name)] } } }))
    };
    namespace.apply(&with("data").manifest()).await?;
    await_condition(&namespace, "vllm", "NameTaken", "True").await?;
    // Handed over, it is the set's, and has templates that admission would never have let the set come to.
    let owner = json!([{ "apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "name": "vllm", "controller": true,
        "blockOwnerDeletion": true, "uid": get(&namespace, "vllm").await?.uid() }]);
    let hand_over = json!({ "metadata": { "ownerReferences": owner } }).to_string();
    namespace.kubectl(&["patch", "statefulset", "vllm", "--type=merge", "-p", &hand_over]).await?;
    let differs = await_condition(&namespace, "vllm", "VolumeClaimsDiffer", "True").await?;
    assert_eq!(
        differs.message,
        "spec.leaderWorkerTemplate.volumeClaimTemplates can't be changed on a live set (the StatefulSet has old, the set data): leaders \
         keep the claims they have. Take the change back, or delete the set and create it again"
    );
    eventually(PATIENCE, || async {
        let live: Value = serde_json::from_str(&namespace.kubectl(&["get", "statefulset", "vllm", "-o", "json"]).await?)?;
        let spec = &live["spec"];
        let shown = (&spec["replicas"], &spec["template"]["spec"]["containers"][0]["image"]);
        ensure!(shown == (&json!(1), &json!("example.com/main:1")), "{shown:?}");
        ensure!(spec["volumeClaimTemplates"][0]["metadata"]["name"] == "old", "{spec}");
        Ok(())
    })
    .await?;
    // What the StatefulSet has is the one thing that the templates may become.
    namespace.apply(&with("old").manifest()).await?;
    await_condition(&namespace, "vllm", "VolumeClaimsDiffer", "False").await.map(drop)
}
