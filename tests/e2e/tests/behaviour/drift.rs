//! Objects of a set that somebody edits or deletes are put back, and nothing that runs pays for it.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use muster_cluster::{Cluster, Namespace, eventually};
use muster_e2e::{PATIENCE, Set, await_condition, await_ready, get, pods};
use serde_json::{Value, json};

async fn uids(namespace: &Namespace, set: &str) -> Result<Vec<(String, String)>> {
    Ok(pods(namespace, set).await?.into_iter().map(|(name, pod)| (name, pod.uid().unwrap_or_default())).collect())
}

/// A set whose pods restart one by one, so that only an edit's own consequences are seen.
fn lenient(name: &str, groups: i32, size: i32) -> Set {
    Set::new(name).groups(groups, size).with(&json!({ "spec": { "leaderWorkerTemplate": { "restartPolicy": "None" } } }))
}

/// Waits until the workers of a group are written down on its leader.
async fn await_members(namespace: &Namespace, leader: &str) -> Result<String> {
    eventually(PATIENCE, || async {
        let leader = namespace.api::<Pod>().get(leader).await?;
        leader.annotations().get("muster.dev/members").cloned().context("its workers are not written down")
    })
    .await
}

#[tokio::test]
async fn an_edited_service_is_what_it_was_again_and_additions_stay() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("drift").await?;
    namespace.apply(&Set::new("vllm").groups(1, 2).manifest()).await?;
    await_ready(&namespace, "vllm").await?;
    let edit = r#"{"metadata": {"labels": {"team": "a"}}, "spec": {
        "selector": {"leaderworkerset.sigs.k8s.io/name": "other", "app": "x"}, "publishNotReadyAddresses": false,
        "ports": [{"name": "http", "port": 80}]}}"#;
    namespace.kubectl(&["patch", "service", "vllm", "--type=merge", "-p", edit]).await?;
    let repaired = eventually(PATIENCE, || async {
        let service = namespace.api::<Service>().get("vllm").await?;
        let spec = service.spec.clone().context("no spec")?;
        let selector = serde_json::to_value(&spec.selector)?;
        ensure!(selector == json!({ "leaderworkerset.sigs.k8s.io/name": "vllm" }), "{selector}");
        ensure!(spec.publish_not_ready_addresses == Some(true), "{spec:?}");
        Ok(service)
    })
    .await?;
    assert_eq!(repaired.labels().get("team").map(String::as_str), Some("a"));
    assert_eq!(repaired.spec.context("no spec")?.ports.map(|ports| ports.len()), Some(1));
    eventually(PATIENCE, || namespace.has_event("vllm", "Repaired")).await
}

#[tokio::test]
async fn an_edited_worker_stateful_set_is_what_it_was_again() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("drift").await?;
    namespace.apply(&lenient("vllm", 2, 3).manifest()).await?;
    await_ready(&namespace, "vllm").await?;
    let untouched: Vec<_> =
        uids(&namespace, "vllm").await?.into_iter().filter(|(name, _)| !name.starts_with("vllm-0-")).collect();
    let edit = r#"{"metadata": {"labels": {"leaderworkerset.sigs.k8s.io/group-index": null}}, "spec": {"replicas": 5, "template": {"spec": {
        "terminationGracePeriodSeconds": 5, "containers": [{"name": "main", "image": "example.com/edited:1"}, {"name": "sidecar", "image": "example.com/sidecar:1"}]}}}}"#;
    namespace.kubectl(&["patch", "statefulset", "vllm-0", "--type=strategic", "-p", edit]).await?;
    eventually(PATIENCE, || async {
        let workers = namespace.api::<StatefulSet>().get("vllm-0").await?;
        ensure!(workers.labels().get("leaderworkerset.sigs.k8s.io/group-index").is_some_and(|index| index == "0"), "no label");
        let spec = serde_json::to_value(workers.spec)?;
        let pod = &spec["template"]["spec"];
        let shown = (&spec["replicas"], pod["containers"].as_array().map(Vec::len), &pod["containers"][0]["image"]);
        ensure!(shown == (&json!(2), Some(1), &json!("example.com/main:1")), "{shown:?}");
        ensure!(pod["terminationGracePeriodSeconds"] == 30, "{pod}");
        Ok(())
    })
    .await?;
    await_ready(&namespace, "vllm").await?;
    eventually(PATIENCE, || async {
        let pods = pods(&namespace, "vllm").await?;
        let images: Vec<Value> =
            pods.values().map(|pod| json!(pod.spec.as_ref().map(|spec| &spec.containers[0].image))).collect();
        ensure!(pods.len() == 6 && images.iter().all(|image| image == "example.com/main:1"), "{:?} {images:?}", pods.keys());
        Ok(())
    })
    .await?;
    let now = uids(&namespace, "vllm").await?;
    ensure!(untouched.iter().all(|pod| now.contains(pod)), "{untouched:?} are not all in {now:?}");
    eventually(PATIENCE, || namespace.has_event("vllm", "Repaired")).await
}

#[tokio::test]
async fn stateful_sets_that_lose_the_name_of_their_set_get_it_back_and_nothing_restarts() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("drift").await?;
    namespace.apply(&Set::new("vllm").groups(2, 3).manifest()).await?;
    await_ready(&namespace, "vllm").await?;
    await_members(&namespace, "vllm-0").await?;
    let before = uids(&namespace, "vllm").await?;
    let edit = r#"{"metadata": {"labels": {"leaderworkerset.sigs.k8s.io/name": null}}}"#;
    for name in ["vllm-0", "vllm"] {
        namespace.kubectl(&["patch", "statefulset", name, "--type=merge", "-p", edit]).await?;
        eventually(PATIENCE, || async {
            let object = namespace.api::<StatefulSet>().get(name).await?;
            let set = object.labels().get("leaderworkerset.sigs.k8s.io/name").cloned();
            ensure!(set.as_deref() == Some("vllm"), "{name} is of {set:?}");
            Ok(())
        })
        .await?;
    }
    await_ready(&namespace, "vllm").await?;
    assert_eq!(uids(&namespace, "vllm").await?, before);
    Ok(())
}

#[tokio::test]
async fn a_group_whose_worker_stateful_set_is_deleted_starts_over_as_a_whole() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("drift").await?;
    namespace.apply(&Set::new("vllm").groups(2, 3).manifest()).await?;
    await_ready(&namespace, "vllm").await?;
    await_members(&namespace, "vllm-0").await?;
    let before = uids(&namespace, "vllm").await?;
    namespace.kubectl(&["delete", "statefulset", "vllm-0", "--wait=false"]).await?;
    eventually(PATIENCE, || async {
        let now = uids(&namespace, "vllm").await?;
        let kept: Vec<&str> = now.iter().filter(|pod| before.contains(pod)).map(|(name, _)| name.as_str()).collect();
        ensure!(now.len() == 6 && kept == ["vllm-1", "vllm-1-1", "vllm-1-2"], "{kept:?} of {now:?}");
        Ok(())
    })
    .await?;
    await_ready(&namespace, "vllm").await.map(drop)
}

#[tokio::test]
async fn a_deleted_leader_stateful_set_comes_back_with_its_revision() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("drift").await?;
    namespace.apply(&Set::new("vllm").groups(2, 2).manifest()).await?;
    await_ready(&namespace, "vllm").await?;
    let key = "jsonpath={.metadata.labels.leaderworkerset\\.sigs\\.k8s\\.io/template-revision-hash}";
    let before = namespace.kubectl(&["get", "statefulset", "vllm", "-o", key]).await?;
    let pods_before = uids(&namespace, "vllm").await?;
    // Its pods are left behind, as an administrator does who changes a field that can't be changed.
    namespace.kubectl(&["delete", "statefulset", "vllm", "--cascade=orphan"]).await?;
    let after = eventually(PATIENCE, || async { namespace.kubectl(&["get", "statefulset", "vllm", "-o", key]).await });
    assert_eq!(after.await?, before);
    await_ready(&namespace, "vllm").await?;
    assert_eq!(uids(&namespace, "vllm").await?, pods_before);
    Ok(())
}

#[tokio::test]
async fn a_group_goes_on_when_the_object_that_had_its_name_is_gone() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("drift").await?;
    let foreign = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "vllm-0" },
        "spec": { "replicas": 0, "serviceName": "other", "selector": { "matchLabels": { "app": "other" } }, "template": {
            "metadata": { "labels": { "app": "other" } }, "spec": { "containers": [{ "name": "main", "image": "example.com/other:1" }] } } },
    });
    namespace.apply(&foreign.to_string()).await?;
    namespace.apply(&Set::new("vllm").groups(1, 2).manifest()).await?;
    let taken = await_condition(&namespace, "vllm", "NameTaken", "True").await?;
    assert_eq!(
        taken.message,
        "StatefulSet vllm-0 exists and belongs to no controller; it is left alone. Rename the set or delete the StatefulSet"
    );
    namespace.kubectl(&["delete", "statefulset", "vllm-0"]).await?;
    await_ready(&namespace, "vllm").await?;
    await_condition(&namespace, "vllm", "NameTaken", "False").await?;
    let events = namespace.events("vllm").await?;
    let told = events.iter().filter(|event| event.starts_with("Warning FailedCreate: StatefulSet vllm-0 exists")).count();
    assert_eq!(told, 1, "{events:#?}");
    assert!(get(&namespace, "vllm").await?.metadata.deletion_timestamp.is_none());
    Ok(())
}

#[tokio::test]
async fn an_edited_leader_stateful_set_is_what_it_was_again() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("drift").await?;
    namespace.apply(&lenient("vllm", 2, 1).manifest()).await?;
    await_ready(&namespace, "vllm").await?;
    let edit = r#"{"metadata": {"labels": {"leaderworkerset.sigs.k8s.io/template-revision-hash": "edited"},
        "annotations": {"leaderworkerset.sigs.k8s.io/replicas": "7"}}, "spec": {"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": 2}},
        "template": {"spec": {"containers": [{"name": "main", "image": "example.com/edited:1"}]}}}}"#;
    namespace.kubectl(&["patch", "statefulset", "vllm", "--type=strategic", "-p", edit]).await?;
    eventually(PATIENCE, || async {
        let leaders = namespace.api::<StatefulSet>().get("vllm").await?;
        ensure!(leaders.annotations()["leaderworkerset.sigs.k8s.io/replicas"] == "2", "{:?}", leaders.annotations());
        let spec = serde_json::to_value(leaders.spec)?;
        let shown = (&spec["replicas"], &spec["template"]["spec"]["containers"][0]["image"]);
        ensure!(shown == (&json!(2), &json!("example.com/main:1")), "{shown:?}");
        Ok(())
    })
    .await?;
    await_ready(&namespace, "vllm").await?;
    eventually(PATIENCE, || async {
        let images: Vec<Value> = pods(&namespace, "vllm")
            .await?
            .values()
            .map(|pod| json!(pod.spec.as_ref().map(|spec| &spec.containers[0].image)))
            .collect();
        ensure!(images == ["example.com/main:1", "example.com/main:1"], "pods run {images:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn labels_and_annotations_of_a_set_follow_on_its_leader_stateful_set_and_restart_nothing() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("metadata").await?;
    namespace.apply(&Set::new("vllm").groups(1, 2).manifest()).await?;
    await_ready(&namespace, "vllm").await?;
    let before = uids(&namespace, "vllm").await?;
    namespace.kubectl(&["label", "lws", "vllm", "team=a"]).await?;
    namespace.kubectl(&["annotate", "lws", "vllm", "example.com/contact=b"]).await?;
    let follows = async |label: Option<&str>, annotation: Option<&str>| {
        eventually(PATIENCE, || async {
            let leaders = namespace.api::<StatefulSet>().get("vllm").await?;
            let shown = (leaders.labels().get("team").cloned(), leaders.annotations().get("example.com/contact").cloned());
            ensure!(shown == (label.map(str::to_owned), annotation.map(str::to_owned)), "{shown:?}");
            ensure!(leaders.metadata.generation == Some(1), "its spec has changed");
            Ok(())
        })
        .await
    };
    follows(Some("a"), Some("b")).await?;
    namespace.kubectl(&["label", "lws", "vllm", "team-"]).await?;
    follows(None, Some("b")).await?;
    assert_eq!(uids(&namespace, "vllm").await?, before);
    Ok(())
}

#[tokio::test]
async fn workers_that_were_orphaned_on_purpose_are_taken_in_again_as_they_are() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("drift").await?;
    namespace.apply(&Set::new("vllm").groups(1, 3).manifest()).await?;
    await_ready(&namespace, "vllm").await?;
    eventually(PATIENCE, || async {
        let leader = pods(&namespace, "vllm").await?.remove("vllm-0").context("no leader")?;
        leader.annotations().get("muster.dev/members").cloned().context("its workers are not written down")
    })
    .await?;
    let before = uids(&namespace, "vllm").await?;
    let first = namespace.api::<StatefulSet>().get("vllm-0").await?.uid();
    namespace.kubectl(&["delete", "statefulset", "vllm-0", "--cascade=orphan"]).await?;
    eventually(PATIENCE, || async {
        let next = namespace.api::<StatefulSet>().get("vllm-0").await?;
        ensure!(next.uid() != first, "it is still the first one");
        let status = next.status.clone().unwrap_or_default();
        ensure!(status.ready_replicas == Some(2), "{status:?}");
        Ok(())
    })
    .await?;
    await_ready(&namespace, "vllm").await?;
    assert_eq!(uids(&namespace, "vllm").await?, before);
    Ok(())
}
