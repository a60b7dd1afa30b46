//! From a set to its objects, and what the set says about them.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::ListParams;
use muster_cluster::{Cluster, Namespace, eventually};
use muster_e2e::{PATIENCE, Set, await_ready, condition, get, objects_of, of_set, pods, status_of};
use serde_json::{Value, json};

async fn ready(namespace: &Namespace, set: &Set) -> Result<()> {
    namespace.apply(&set.manifest()).await?;
    let name = set.object()["metadata"]["name"].as_str().unwrap_or_default();
    await_ready(namespace, name).await.map(drop)
}

async fn json_of(namespace: &Namespace, kind: &str, name: &str) -> Result<Value> {
    Ok(serde_json::from_str(&namespace.kubectl(&["get", kind, name, "-o", "json"]).await?)?)
}

/// The set's own revisions. The StatefulSet controller makes revisions too, with the labels of our templates.
async fn revisions(namespace: &Namespace) -> Result<Vec<ControllerRevision>> {
    let mut all: Vec<_> = of_set::<ControllerRevision>(namespace, "vllm").await?.into_values().collect();
    all.retain(|revision| revision.owner_references().iter().any(|owner| owner.kind == "LeaderWorkerSet"));
    Ok(all)
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn the_leader_stateful_set_is_the_one_upstream_makes() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("leaders").await?;
    let set = Set::new("vllm").groups(2, 3).annotated("example.com/team", "serving");
    let set = set.with(&json!({ "metadata": { "labels": { "app": "chat" } } }));
    let set = set.with(&json!({ "spec": { "leaderWorkerTemplate": { "leaderTemplate": {
        "metadata": { "labels": { "role": "leader" } },
        "spec": { "containers": [{ "name": "head", "image": "example.com/head:1" }] },
    } } } }));
    ready(&namespace, &set).await?;

    let leaders = json_of(&namespace, "statefulset", "vllm").await?;
    let key = leaders["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/template-revision-hash"].clone();
    let owner = get(&namespace, "vllm").await?.uid();
    assert_eq!(
        leaders["metadata"]["labels"],
        json!({ "app": "chat", "leaderworkerset.sigs.k8s.io/name": "vllm", "leaderworkerset.sigs.k8s.io/template-revision-hash": key })
    );
    assert_eq!(
        leaders["metadata"]["annotations"],
        json!({ "example.com/team": "serving", "leaderworkerset.sigs.k8s.io/replicas": "2" })
    );
    assert_eq!(
        leaders["metadata"]["ownerReferences"],
        json!([{ "apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "name": "vllm", "uid": owner,
                 "controller": true, "blockOwnerDeletion": true }])
    );
    let spec = &leaders["spec"];
    assert_eq!(spec["serviceName"], "vllm");
    assert_eq!(spec["replicas"], 2);
    assert_eq!(spec["podManagementPolicy"], "Parallel");
    assert_eq!(
        spec["selector"]["matchLabels"],
        json!({ "leaderworkerset.sigs.k8s.io/name": "vllm", "leaderworkerset.sigs.k8s.io/worker-index": "0" })
    );
    assert_eq!(
        spec["template"]["metadata"]["labels"],
        json!({ "role": "leader", "leaderworkerset.sigs.k8s.io/name": "vllm", "leaderworkerset.sigs.k8s.io/worker-index": "0",
                "leaderworkerset.sigs.k8s.io/template-revision-hash": key })
    );
    assert_eq!(spec["template"]["metadata"]["annotations"], json!({ "leaderworkerset.sigs.k8s.io/size": "3" }));
    assert_eq!(spec["template"]["spec"]["containers"][0]["image"], "example.com/head:1");
    assert_eq!(spec["updateStrategy"]["rollingUpdate"]["partition"], 0);
    Ok(())
}

#[tokio::test]
async fn every_group_has_the_worker_stateful_set_that_upstream_makes() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("workers").await?;
    ready(&namespace, &Set::new("vllm").groups(2, 3).with(&json!({ "metadata": { "labels": { "app": "chat" } } }))).await?;

    let expected = ["vllm-0", "vllm-0-1", "vllm-0-2", "vllm-1", "vllm-1-1", "vllm-1-2"];
    let pods = pods(&namespace, "vllm").await?;
    assert_eq!(pods.keys().cloned().collect::<Vec<_>>(), names(&expected));
    let workers = json_of(&namespace, "statefulset", "vllm-1").await?;
    let leader = &pods["vllm-1"];
    let key = leader.labels()["leaderworkerset.sigs.k8s.io/group-key"].clone();
    assert!(key.len() == 40 && key != pods["vllm-0"].labels()["leaderworkerset.sigs.k8s.io/group-key"], "{key}");
    let revision = leader.labels()["leaderworkerset.sigs.k8s.io/template-revision-hash"].clone();
    let identity = json!({
        "leaderworkerset.sigs.k8s.io/group-index": "1",
        "leaderworkerset.sigs.k8s.io/name": "vllm",
        "leaderworkerset.sigs.k8s.io/group-key": key,
    });
    let mut labels = identity.clone();
    labels["leaderworkerset.sigs.k8s.io/template-revision-hash"] = json!(revision);
    let spec = &workers["spec"];
    assert_eq!(spec["selector"]["matchLabels"], identity);
    assert_eq!(spec["template"]["metadata"]["labels"], labels);
    assert_eq!(
        spec["template"]["metadata"]["annotations"],
        json!({ "leaderworkerset.sigs.k8s.io/size": "3", "leaderworkerset.sigs.k8s.io/leader-name": "vllm-1" })
    );
    labels["app"] = json!("chat");
    assert_eq!(workers["metadata"]["labels"], labels);
    assert_eq!(
        workers["metadata"]["ownerReferences"],
        json!([{ "apiVersion": "v1", "kind": "Pod", "name": "vllm-1", "uid": leader.uid(), "controller": true, "blockOwnerDeletion": true }])
    );
    assert_eq!(spec["replicas"], 2);
    assert_eq!(spec["ordinals"], json!({ "start": 1 }));
    assert_eq!(spec["podManagementPolicy"], "Parallel");
    assert_eq!(spec["serviceName"], "vllm");
    let ranks =
        ["vllm-1", "vllm-1-1", "vllm-1-2"].map(|pod| pods[pod].labels()["leaderworkerset.sigs.k8s.io/worker-index"].as_str());
    assert_eq!(ranks, ["0", "1", "2"]);
    Ok(())
}

#[tokio::test]
async fn a_set_of_size_one_has_leaders_only() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("single").await?;
    ready(&namespace, &Set::new("solo").groups(3, 1)).await?;
    let sets: Vec<String> = of_set::<StatefulSet>(&namespace, "solo").await?.into_keys().collect();
    assert_eq!(sets, ["solo"]);
    let pods: Vec<String> = pods(&namespace, "solo").await?.into_keys().collect();
    assert_eq!(pods, ["solo-0", "solo-1", "solo-2"]);
    Ok(())
}

#[tokio::test]
async fn one_revision_records_the_template() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("revision").await?;
    ready(&namespace, &Set::new("vllm").groups(1, 2)).await?;
    let revisions = revisions(&namespace).await?;
    let [revision] = revisions.as_slice() else { panic!("{} revisions", revisions.len()) };
    let key = &revision.labels()["leaderworkerset.sigs.k8s.io/template-revision-hash"];
    assert_eq!(revision.name_any(), format!("vllm-{key}-1"));
    assert_eq!(revision.revision, 1);
    let spec = &revision.data.as_ref().context("no data")?.0["spec"];
    assert_eq!(spec["leaderWorkerTemplate"]["size"], 2);
    assert_eq!(spec["networkConfig"]["subdomainPolicy"], "Shared");
    Ok(())
}

#[tokio::test]
async fn kubectl_scale_adds_and_removes_whole_groups() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("scale").await?;
    ready(&namespace, &Set::new("vllm").groups(1, 2)).await?;
    for (replicas, expected) in [
        ("--replicas=3", vec!["vllm-0", "vllm-0-1", "vllm-1", "vllm-1-1", "vllm-2", "vllm-2-1"]),
        ("--replicas=1", vec!["vllm-0", "vllm-0-1"]),
        ("--replicas=0", vec![]),
    ] {
        namespace.kubectl(&["scale", "leaderworkerset", "vllm", replicas]).await?;
        await_ready(&namespace, "vllm").await?;
        let left = eventually(PATIENCE, || async {
            let left: Vec<String> = pods(&namespace, "vllm").await?.into_keys().collect();
            ensure!(left.len() == expected.len(), "{replicas}: {left:?}");
            Ok(left)
        });
        assert_eq!(left.await?, expected);
    }
    assert_eq!(revisions(&namespace).await?.len(), 1, "scaling is no new revision");
    Ok(())
}

#[tokio::test]
async fn the_scale_subresource_tells_an_autoscaler_which_pods_to_measure() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("hpa").await?;
    ready(&namespace, &Set::new("vllm").groups(2, 2)).await?;
    let path = format!("/apis/leaderworkerset.x-k8s.io/v1/namespaces/{}/leaderworkersets/vllm/scale", namespace.name());
    let scale: Value = serde_json::from_str(&namespace.kubectl(&["get", "--raw", &path]).await?)?;
    assert_eq!(scale["spec"], json!({ "replicas": 2 }));
    let selector = "leaderworkerset.sigs.k8s.io/name=vllm,leaderworkerset.sigs.k8s.io/worker-index=0";
    assert_eq!(scale["status"], json!({ "replicas": 2, "selector": selector }));
    Ok(())
}

#[tokio::test]
async fn a_deleted_set_leaves_nothing() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("delete").await?;
    ready(&namespace, &Set::new("vllm").groups(2, 2)).await?;
    namespace.kubectl(&["delete", "leaderworkerset", "vllm"]).await?;
    eventually(PATIENCE, || async {
        for kind in ["statefulset", "pod", "service", "controllerrevision", "leaderworkerset"] {
            let left = objects_of(&namespace, kind).await?;
            ensure!(left.is_empty(), "{kind}: {left:?}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn status_conditions_columns_and_events_speak_as_upstream_does() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("status").await?;
    ready(&namespace, &Set::new("vllm").groups(2, 2)).await?;
    let set = get(&namespace, "vllm").await?;
    let status = status_of(&set);
    assert_eq!((status.replicas, status.ready_replicas, status.updated_replicas), (2, 2, 2));
    assert_eq!(status.observed_generation, Some(1));
    let shown = |type_: &str| condition(&set, type_).map(|found| (found.status, found.reason, found.message));
    let text = |status: &str, reason: &str, message: &str| Some((status.into(), reason.into(), message.into()));
    assert_eq!(shown("Available"), text("True", "AllGroupsReady", "All replicas are ready"));
    // A condition that turns False keeps the words it had.
    assert_eq!(shown("Progressing"), text("False", "GroupsProgressing", "Replicas are progressing"));
    assert_eq!(shown("PlacementPending"), None, "nobody asked for a place");

    let table = namespace.kubectl(&["get", "lws", "vllm"]).await?;
    let cells: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(cells[0], ["NAME", "READY", "DESIRED", "UP-TO-DATE", "AGE"]);
    assert_eq!(cells[1][..4], ["vllm", "2", "2", "2"]);

    let key = pods(&namespace, "vllm").await?["vllm-0"].labels()["leaderworkerset.sigs.k8s.io/template-revision-hash"].clone();
    eventually(PATIENCE, || async {
        let events = namespace.events("vllm").await?;
        for expected in [
            format!("Normal CreatingRevision: Creating revision with key {key} for a newly created LeaderWorkerSet"),
            "Normal GroupsProgressing: Created leader statefulset vllm".to_owned(),
            "Normal GroupsProgressing: Created worker statefulset for leader pod vllm-0".to_owned(),
            "Normal GroupsProgressing: Created worker statefulset for leader pod vllm-1".to_owned(),
            "Normal AllGroupsReady: All replicas are ready, with 2 groups ready of total 2 groups".to_owned(),
        ] {
            ensure!(events.contains(&expected), "no event {expected:?} among {events:#?}");
        }
        let warnings: Vec<_> = events.iter().filter(|event| event.starts_with("Warning")).collect();
        ensure!(warnings.is_empty(), "{warnings:#?}");
        Ok(())
    })
    .await
}

/// The events with this text: name, and how often each happened.
async fn told(namespace: &Namespace, text: &str) -> Result<Vec<(String, i32)>> {
    let mut events = namespace.api::<Event>().list(&ListParams::default()).await?.items;
    events.retain(|event| event.note.as_deref() == Some(text));
    let count = |event: &Event| event.series.as_ref().map_or(1, |series| series.count);
    Ok(events.iter().map(|event| (event.name_any(), count(event))).collect())
}

#[tokio::test]
async fn each_text_has_an_event_of_its_own_that_counts_how_often_it_was_said() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("told").await?;
    ready(&namespace, &Set::new("vllm").groups(2, 1)).await?;
    let two = "All replicas are ready, with 2 groups ready of total 2 groups";
    let three = "All replicas are ready, with 3 groups ready of total 3 groups";
    let scaled = async |replicas: i32| {
        namespace.kubectl(&["scale", "lws", "vllm", &format!("--replicas={replicas}")]).await?;
        await_ready(&namespace, "vllm").await.map(drop)
    };
    let counts = async |text: &'static str, expected: &[i32]| {
        eventually(PATIENCE, || async {
            let told = told(&namespace, text).await?;
            ensure!(told.iter().map(|(_, count)| count).eq(expected), "{text:?} was told {told:?}");
            Ok(told)
        })
        .await
    };
    counts(two, &[1]).await?;
    scaled(3).await?;
    let first = counts(three, &[1]).await?;
    counts(two, &[1]).await?;
    // Groups that come up make the set progress before it is all ready again.
    scaled(0).await?;
    scaled(3).await?;
    assert_eq!(counts(three, &[2]).await?[0].0, first[0].0);
    // An event that somebody has deleted is told anew.
    namespace.kubectl(&["delete", "events.events.k8s.io", &first[0].0]).await?;
    scaled(0).await?;
    scaled(3).await?;
    let again = counts(three, &[1]).await?;
    assert_ne!(again[0].0, first[0].0);
    Ok(())
}

#[tokio::test]
async fn applying_the_same_manifest_again_changes_nothing() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("again").await?;
    let set = Set::new("vllm").groups(1, 2);
    ready(&namespace, &set).await?;
    let before = get(&namespace, "vllm").await?;
    assert_eq!(namespace.apply(&set.manifest()).await?, "leaderworkerset.leaderworkerset.x-k8s.io/vllm unchanged\n");
    assert_eq!(get(&namespace, "vllm").await?.metadata.resource_version, before.metadata.resource_version);
    Ok(())
}

/// Every version of the objects around a set, to see whether any of them is written.
async fn versions(namespace: &Namespace) -> Result<Vec<(String, Option<String>, Option<i64>)>> {
    let mut versions = Vec::new();
    for (name, object) in of_set::<StatefulSet>(namespace, "vllm").await? {
        versions.push((format!("statefulset {name}"), object.resource_version(), object.metadata.generation));
    }
    for (name, object) in of_set::<Service>(namespace, "vllm").await? {
        versions.push((format!("service {name}"), object.resource_version(), Some(1)));
    }
    for (name, object) in of_set::<Pod>(namespace, "vllm").await? {
        versions.push((format!("pod {name}"), object.resource_version(), Some(1)));
    }
    let set = get(namespace, "vllm").await?;
    versions.push(("set".to_owned(), set.resource_version(), set.metadata.generation));
    Ok(versions)
}

#[tokio::test]
async fn nothing_is_written_while_nothing_happens() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("calm").await?;
    ready(&namespace, &Set::new("vllm").groups(3, 2)).await?;
    // The StatefulSet controller ends with its own status, after our set is ready.
    eventually(PATIENCE, || async {
        for (name, object) in of_set::<StatefulSet>(&namespace, "vllm").await? {
            let wanted = object.spec.and_then(|spec| spec.replicas);
            let available = object.status.and_then(|status| status.available_replicas);
            ensure!(available == wanted, "{name}: {available:?} of {wanted:?}");
        }
        Ok(())
    })
    .await?;
    let before = versions(&namespace).await?;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(versions(&namespace).await?, before);
    let generations: Vec<Option<i64>> = before.iter().map(|(_, _, generation)| *generation).collect();
    assert_eq!(generations, vec![Some(1); before.len()], "{before:#?}");
    Ok(())
}
