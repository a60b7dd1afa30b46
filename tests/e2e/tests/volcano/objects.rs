//! Volcano's PodGroups over the life of a set.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::core::DynamicObject;
use muster_cluster::{Namespace, eventually};
use muster_e2e::{PATIENCE, Set, await_condition, await_ready, get, leaders, of_set, pods};
use serde_json::{Value, json};

use crate::{cluster, pod_groups};

const REVISION: &str = "leaderworkerset.sigs.k8s.io/template-revision-hash";

async fn namespace() -> Result<Namespace> {
    cluster().await.namespace("volcano").await
}

/// A set of one group of three: a leader that asks for half a core, and two workers that ask for one each.
fn set() -> Set {
    let resources = |cpu: &str, memory: &str| {
        json!({ "spec": { "containers": [{
            "name": "main",
            "image": "example.com/main:1",
            "resources": { "requests": { "cpu": cpu, "memory": memory } },
        }] } })
    };
    Set::new("train").groups(1, 3).with(&json!({ "spec": { "leaderWorkerTemplate": {
        "leaderTemplate": resources("500m", "512Mi"),
        "workerTemplate": resources("1", "1Gi"),
    } } }))
}

/// The key that the leader StatefulSet names.
async fn revision(namespace: &Namespace) -> Result<String> {
    let leaders = namespace.api::<StatefulSet>().get("train").await?;
    Ok(leaders.labels().get(REVISION).context("no revision")?.clone())
}

/// The PodGroup as somebody wrote it: without what the API server adds.
fn as_written(object: &DynamicObject) -> Value {
    let mut object = serde_json::to_value(object).unwrap();
    let metadata = object["metadata"].as_object_mut().unwrap();
    for added in ["uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"] {
        metadata.remove(added);
    }
    object
}

#[tokio::test]
async fn a_group_gets_upstreams_pod_group_and_its_pods_upstreams_annotation() -> Result<()> {
    let namespace = namespace().await?;
    let set = set().annotated("scheduling.volcano.sh/queue-name", "research").annotated("volcano.sh/note", "copied");
    namespace.apply(&set.manifest()).await?;
    await_ready(&namespace, "train").await?;
    let revision = revision(&namespace).await?;
    let name = format!("train-0-{revision}");
    let leader = leaders(&namespace, "train").await?.remove("train-0").context("no leader")?;
    assert_eq!(
        as_written(&pod_groups(&namespace).get(&name).await?),
        json!({
            "apiVersion": "scheduling.volcano.sh/v1beta1",
            "kind": "PodGroup",
            "metadata": {
                "name": name,
                "namespace": namespace.name(),
                "labels": {
                    "leaderworkerset.sigs.k8s.io/name": "train",
                    "leaderworkerset.sigs.k8s.io/group-index": "0",
                    "leaderworkerset.sigs.k8s.io/template-revision-hash": revision,
                },
                "annotations": { "volcano.sh/note": "copied" },
                "ownerReferences": [{
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": "train-0",
                    "uid": leader.uid(),
                    "controller": true,
                    "blockOwnerDeletion": true,
                }],
            },
            "spec": {
                "minMember": 3,
                "minResources": { "cpu": "2500m", "memory": "2560Mi" },
                "queue": "research",
            },
        })
    );
    let pods = pods(&namespace, "train").await?;
    assert_eq!(pods.len(), 3);
    for (pod_name, pod) in pods {
        assert_eq!(pod.annotations()["scheduling.k8s.io/group-name"], name, "{pod_name}");
        assert_eq!(pod.spec.and_then(|spec| spec.scheduling_group), None, "{pod_name}");
    }
    for (set_name, object) in of_set::<StatefulSet>(&namespace, "train").await? {
        let annotations = object.spec.and_then(|spec| spec.template.metadata?.annotations).unwrap_or_default();
        assert!(!annotations.contains_key("scheduling.k8s.io/group-name"), "{set_name}: {annotations:?}");
    }
    Ok(())
}

#[tokio::test]
async fn leaders_that_workers_wait_for_need_no_others() -> Result<()> {
    let namespace = namespace().await?;
    namespace.apply(&set().with(&json!({ "spec": { "startupPolicy": "LeaderReady" } })).manifest()).await?;
    await_ready(&namespace, "train").await?;
    let group = pod_groups(&namespace).get(&format!("train-0-{}", revision(&namespace).await?)).await?;
    assert_eq!(group.data["spec"], json!({ "minMember": 1, "minResources": { "cpu": "2500m", "memory": "2560Mi" } }));
    Ok(())
}

#[tokio::test]
async fn a_pod_group_that_somebody_changes_or_deletes_is_put_right() -> Result<()> {
    let namespace = namespace().await?;
    namespace.apply(&set().manifest()).await?;
    await_ready(&namespace, "train").await?;
    let name = format!("train-0-{}", revision(&namespace).await?);
    let written = as_written(&pod_groups(&namespace).get(&name).await?);

    let change = json!({ "metadata": { "labels": null }, "spec": { "minMember": 1, "minResources": { "cpu": "9", "example.com/x": "1" } } });
    // Without its labels it is found by its name.
    pod_groups(&namespace).patch(&name, &PatchParams::default(), &Patch::Merge(&change)).await?;
    let is_as_written = || async {
        let now = as_written(&pod_groups(&namespace).get(&name).await?);
        ensure!(now == written, "{now:#}");
        Ok(())
    };
    eventually(PATIENCE, is_as_written).await?;
    eventually(PATIENCE, || namespace.has_event("train", "Repaired")).await?;

    let uid = pod_groups(&namespace).get(&name).await?.uid();
    pod_groups(&namespace).delete(&name, &DeleteParams::default()).await?;
    eventually(PATIENCE, || async {
        is_as_written().await?;
        ensure!(pod_groups(&namespace).get(&name).await?.uid() != uid, "it is still the old one");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_group_that_starts_over_gets_a_pod_group_of_its_new_leader() -> Result<()> {
    let namespace = namespace().await?;
    namespace.apply(&set().manifest()).await?;
    await_ready(&namespace, "train").await?;
    let name = format!("train-0-{}", revision(&namespace).await?);
    // One restart by a lost member, and one by a leader that somebody deletes while the PodGroup of the first is still there.
    for (victim, how) in [("train-0-1", DeleteParams::default()), ("train-0", DeleteParams::background())] {
        let before = leaders(&namespace, "train").await?.remove("train-0").context("no leader")?.uid();
        namespace.api::<Pod>().delete(victim, &how).await?;
        eventually(PATIENCE, || async {
            let leader = leaders(&namespace, "train").await?.remove("train-0").context("no leader")?;
            ensure!(leader.uid() != before, "the leader is still the old one");
            let group = pod_groups(&namespace).get(&name).await?;
            ensure!(Some(&group.owner_references()[0].uid) == leader.metadata.uid.as_ref(), "{:?}", group.metadata);
            Ok(())
        })
        .await?;
        await_ready(&namespace, "train").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_rollout_gives_each_group_a_pod_group_of_its_revision() -> Result<()> {
    let namespace = namespace().await?;
    namespace.apply(&set().manifest()).await?;
    await_ready(&namespace, "train").await?;
    let old = format!("train-0-{}", revision(&namespace).await?);
    namespace.apply(&set().groups(1, 2).manifest()).await?;
    await_condition(&namespace, "train", "UpdateInProgress", "False").await?;
    eventually(PATIENCE, || async {
        let new = format!("train-0-{}", revision(&namespace).await?);
        ensure!(new != old, "no new revision yet");
        let groups = pod_groups(&namespace).list(&ListParams::default()).await?.items;
        ensure!(groups.iter().map(ResourceExt::name_any).collect::<Vec<_>>() == [new], "{groups:#?}");
        ensure!(groups[0].data["spec"]["minMember"] == 2, "{:#}", groups[0].data);
        Ok(())
    })
    .await?;
    await_ready(&namespace, "train").await.map(drop)
}

#[tokio::test]
async fn a_pod_group_that_is_not_ours_is_left_alone_and_named() -> Result<()> {
    let namespace = namespace().await?;
    namespace.apply(&set().groups(0, 3).manifest()).await?;
    let key = eventually(PATIENCE, || async { revision(&namespace).await }).await?;
    let name = format!("train-0-{key}");
    let foreign = json!({
        "apiVersion": "scheduling.volcano.sh/v1beta1",
        "kind": "PodGroup",
        "metadata": { "name": name },
        "spec": { "minMember": 7 },
    });
    namespace.apply(&foreign.to_string()).await?;
    let before = pod_groups(&namespace).get(&name).await?;
    namespace.kubectl(&["scale", "leaderworkerset", "train", "--replicas=1"]).await?;
    await_ready(&namespace, "train").await?;
    let expected = format!(
        "Warning FailedCreate: PodGroup {name} exists and belongs to no controller; it is left alone. \
         Rename the set or delete the PodGroup"
    );
    eventually(PATIENCE, || async {
        let events = namespace.events("train").await?;
        ensure!(events.contains(&expected), "{events:#?}");
        Ok(())
    })
    .await?;
    let after = pod_groups(&namespace).get(&name).await?;
    assert_eq!((after.uid(), after.resource_version()), (before.uid(), before.resource_version()));

    // When the name is free, the group gets its own.
    namespace.kubectl(&["delete", "podgroups.scheduling.volcano.sh", &name]).await?;
    eventually(PATIENCE, || async {
        let group = pod_groups(&namespace).get(&name).await?;
        ensure!(group.data["spec"]["minMember"] == 3, "{:#}", group.data);
        Ok(())
    })
    .await?;
    get(&namespace, "train").await.map(drop)
}
