//! The history of a set's template, as people see it and go back in it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::ResourceExt;
use muster_cluster::{Cluster, Namespace, eventually};
use muster_e2e::{PATIENCE, Set, await_ready, get, of_set, pods};
use serde_json::json;

/// Changes the image, and waits until all groups run it.
async fn update(namespace: &Namespace, image: &str) -> Result<()> {
    let patch = format!(
        r#"[{{"op": "replace", "path": "/spec/leaderWorkerTemplate/workerTemplate/spec/containers/0/image", "value": "{image}"}}]"#
    );
    namespace.kubectl(&["patch", "lws", "vllm", "--type=json", "-p", &patch]).await?;
    await_image(namespace, image).await
}

async fn await_image(namespace: &Namespace, image: &str) -> Result<()> {
    eventually(PATIENCE, || async {
        let pods = pods(namespace, "vllm").await?;
        let images: Vec<_> = pods.values().filter_map(|pod| pod.spec.as_ref()?.containers[0].image.clone()).collect();
        ensure!(images.iter().all(|running| running == image), "pods run {images:?}");
        Ok(())
    })
    .await?;
    await_ready(namespace, "vllm").await.map(drop)
}

/// The set's own revisions: key by number.
async fn history(namespace: &Namespace) -> Result<BTreeMap<i64, String>> {
    let mut all = of_set::<ControllerRevision>(namespace, "vllm").await?;
    all.retain(|_, one| one.owner_references().iter().any(|owner| owner.kind == "LeaderWorkerSet"));
    let entry = |one: &ControllerRevision| {
        Some((one.revision, one.labels().get("leaderworkerset.sigs.k8s.io/template-revision-hash")?.clone()))
    };
    Ok(all.values().filter_map(entry).collect())
}

async fn await_numbers(namespace: &Namespace, expected: &[i64]) -> Result<BTreeMap<i64, String>> {
    eventually(PATIENCE, || async {
        let history = history(namespace).await?;
        ensure!(history.keys().eq(expected), "the history is {history:?}");
        Ok(history)
    })
    .await
}

#[tokio::test]
async fn a_history_is_kept_to_its_limit_with_the_cause_of_each_change() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("history").await?;
    let set = Set::new("vllm").groups(1, 2).annotated("muster.dev/revision-history-limit", "2");
    namespace.apply(&set.annotated("kubernetes.io/change-cause", "first").manifest()).await?;
    await_ready(&namespace, "vllm").await?;
    for image in ["example.com/main:2", "example.com/main:3", "example.com/main:4"] {
        update(&namespace, image).await?;
    }
    let kept = await_numbers(&namespace, &[2, 3, 4]).await?;
    namespace.kubectl(&["annotate", "lws", "vllm", "kubernetes.io/change-cause=larger model", "--overwrite"]).await?;
    let name = format!("vllm-{}-4", kept[&4]);
    let cause = r"jsonpath={.metadata.annotations.kubernetes\.io/change-cause}";
    eventually(PATIENCE, || async {
        let cause = namespace.kubectl(&["get", "controllerrevision", &name, "-o", cause]).await?;
        ensure!(cause == "larger model", "the cause of {name} is {cause:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_undo_brings_an_earlier_template_back_as_the_newest_revision() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("undo").await?;
    // Go's encoder spells these characters in a way of its own, and a revision's data must survive it byte for byte.
    let template = json!({ "spec": { "containers": [{
        "name": "main", "image": "example.com/main:1", "args": ["serve <model >log 2>&1"],
    }] } });
    let set = Set::new("vllm").groups(2, 2).with(&json!({ "spec": { "leaderWorkerTemplate": { "workerTemplate": template } } }));
    namespace.apply(&set.manifest()).await?;
    await_ready(&namespace, "vllm").await?;
    update(&namespace, "example.com/main:2").await?;
    let before = await_numbers(&namespace, &[1, 2]).await?;

    namespace.kubectl(&["annotate", "lws", "vllm", "muster.dev/undo-to=previous"]).await?;
    await_image(&namespace, "example.com/main:1").await?;
    let set = get(&namespace, "vllm").await?;
    assert_eq!(set.annotation("muster.dev/undo-to"), None);
    assert_eq!(set.worker_template().0["spec"]["containers"][0]["image"], "example.com/main:1");
    let after = await_numbers(&namespace, &[2, 3]).await?;
    assert_eq!(after[&3], before[&1], "the revision has another key than before");
    eventually(PATIENCE, || namespace.has_event("vllm", "Undone")).await?;
    // And forward again, by number.
    namespace.kubectl(&["annotate", "lws", "vllm", "muster.dev/undo-to=2"]).await?;
    await_image(&namespace, "example.com/main:2").await?;
    await_numbers(&namespace, &[3, 4]).await?;
    let events = namespace.events("vllm").await?;
    let warnings: Vec<&String> = events.iter().filter(|event| event.starts_with("Warning")).collect();
    assert!(warnings.is_empty(), "{warnings:#?}");
    Ok(())
}

#[tokio::test]
async fn a_key_is_the_hash_of_the_data_as_the_api_server_keeps_them() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("key").await?;
    let template = json!({ "spec": { "containers": [{
        "name": "main", "image": "example.com/main:1", "args": ["serve <model >log 2>&1"],
    }] } });
    let set = Set::new("vllm").groups(1, 1).with(&json!({ "spec": { "leaderWorkerTemplate": { "workerTemplate": template } } }));
    namespace.apply(&set.manifest()).await?;
    let key = await_numbers(&namespace, &[1]).await?[&1].clone();
    let path = format!("/apis/apps/v1/namespaces/{}/controllerrevisions/vllm-{key}-1", namespace.name());
    let kept = namespace.kubectl(&["get", "--raw", &path]).await?;
    let data = kept.split_once(r#""data":"#).and_then(|(_, rest)| rest.rsplit_once(r#","revision":1"#)).context(kept.clone())?.0;
    assert!(data.contains(r"serve \u003cmodel"), "{data}");
    assert_eq!(muster_api::names::revision_hash(data.as_bytes()), key);
    Ok(())
}

#[tokio::test]
async fn a_revision_that_lost_its_labels_gets_them_back_and_no_group_notices() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("unlabelled").await?;
    namespace.apply(&Set::new("vllm").groups(1, 2).manifest()).await?;
    await_ready(&namespace, "vllm").await?;
    let key = await_numbers(&namespace, &[1]).await?[&1].clone();
    let before: Vec<Option<String>> = pods(&namespace, "vllm").await?.values().map(ResourceExt::uid).collect();
    for label in ["leaderworkerset.sigs.k8s.io/name", "leaderworkerset.sigs.k8s.io/template-revision-hash"] {
        namespace.kubectl(&["label", "controllerrevision", &format!("vllm-{key}-1"), &format!("{label}-")]).await?;
        // Anything that has the set looked at.
        namespace.kubectl(&["annotate", "lws", "vllm", &format!("example.com/after={}", label.len()), "--overwrite"]).await?;
        let history = await_numbers(&namespace, &[1]).await?;
        assert_eq!(history[&1], key);
    }
    await_ready(&namespace, "vllm").await?;
    let after: Vec<Option<String>> = pods(&namespace, "vllm").await?.values().map(ResourceExt::uid).collect();
    assert_eq!(after, before);
    Ok(())
}

#[tokio::test]
async fn an_undo_to_nowhere_says_where_one_could_go() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("undo").await?;
    namespace.apply(&Set::new("vllm").groups(1, 1).manifest()).await?;
    await_ready(&namespace, "vllm").await?;
    let key = await_numbers(&namespace, &[1]).await?[&1].clone();
    namespace.kubectl(&["annotate", "lws", "vllm", "muster.dev/undo-to=previous"]).await?;
    let expected = format!(
        "Warning FailedUndo: muster.dev/undo-to: \"previous\" is no earlier revision of this set; there are 1 (key {key})"
    );
    eventually(PATIENCE, || async {
        let events = namespace.events("vllm").await?;
        ensure!(events.contains(&expected), "{events:#?}");
        Ok(())
    })
    .await?;
    assert_eq!(get(&namespace, "vllm").await?.annotation("muster.dev/undo-to"), None);
    assert_eq!(pods(&namespace, "vllm").await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn going_back_in_the_middle_of_an_update_leaves_groups_that_were_not_reached_alone() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("undo").await?;
    namespace.apply(&Set::new("vllm").groups(3, 2).manifest()).await?;
    await_ready(&namespace, "vllm").await?;
    let uids = async || -> Result<BTreeMap<String, String>> {
        let pods = pods(&namespace, "vllm").await?;
        Ok(pods.into_iter().map(|(name, pod)| (name, pod.uid().unwrap_or_default())).collect())
    };
    let before = uids().await?;
    // Behind a gate nobody lifts the first group of the update never gets ready, and the update stands.
    let gate = r#"[{"op": "add", "path": "/spec/leaderWorkerTemplate/workerTemplate/spec/schedulingGates", "value": [{"name": "example.com/held-back"}]}]"#;
    namespace.kubectl(&["patch", "lws", "vllm", "--type=json", "-p", gate]).await?;
    eventually(PATIENCE, || async {
        let now = uids().await?;
        ensure!(now.get("vllm-2").is_some_and(|uid| *uid != before["vllm-2"]), "the update has not begun: {now:?}");
        Ok(())
    })
    .await?;
    namespace.kubectl(&["annotate", "lws", "vllm", "muster.dev/undo-to=1"]).await?;
    eventually(PATIENCE, || async {
        ensure!(get(&namespace, "vllm").await?.annotation("muster.dev/undo-to").is_none(), "not undone yet");
        Ok(())
    })
    .await?;
    await_ready(&namespace, "vllm").await?;
    let after = uids().await?;
    let kept: Vec<&str> =
        after.iter().filter(|(name, uid)| before.get(*name) == Some(*uid)).map(|(name, _)| name.as_str()).collect();
    assert_eq!(kept, ["vllm-0", "vllm-0-1", "vllm-1", "vllm-1-1"]);
    Ok(())
}

#[tokio::test]
async fn a_name_that_a_revision_of_somebody_else_has_is_passed_over() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("history").await?;
    let set = Set::new("vllm").groups(1, 2).manifest();
    namespace.apply(&set).await?;
    let key = await_numbers(&namespace, &[1]).await?[&1].clone();
    namespace.kubectl(&["delete", "lws", "vllm"]).await?;
    eventually(PATIENCE, || async {
        ensure!(history(&namespace).await?.is_empty(), "its revision is still there");
        Ok(())
    })
    .await?;
    let name = format!("vllm-{key}-1");
    let foreign = json!({ "apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": { "name": name }, "revision": 1, "data": { "mine": true } });
    namespace.apply(&foreign.to_string()).await?;
    namespace.apply(&set).await?;
    await_ready(&namespace, "vllm").await?;
    assert_eq!(await_numbers(&namespace, &[2]).await?[&2], key);
    let data = namespace.kubectl(&["get", "controllerrevision", &name, "-o", "jsonpath={.data.mine}"]).await?;
    assert_eq!(data, "true");
    Ok(())
}
