//! What Kueue and KAI-Scheduler read of a set and its pods. Neither runs here; the tests do what they do.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use muster_api::LeaderWorkerSet;
use muster_cluster::{Cluster, Namespace, eventually};
use muster_e2e::{PATIENCE, Set, await_condition, await_ready, condition, get, of_set, pods};
use serde_json::json;

const QUEUE: &str = "kueue.x-k8s.io/queue-name";
const PARENT: &str = "kueue.x-k8s.io/pod-suspending-parent";
const GATE: &str = "kueue.x-k8s.io/admission";
const REQUIRED: &str = "kueue.x-k8s.io/podset-required-topology";
const GROUP: &str = "kueue.x-k8s.io/podset-group-name";

/// What Kueue's webhooks have made of a set in a queue, and of its pods, by the time these exist.
fn in_a_queue(set: Set) -> Set {
    let template = json!({
        "metadata": { "annotations": { PARENT: "leaderworkerset.x-k8s.io/leaderworkerset" } },
        "spec": { "containers": [{ "name": "main", "image": "example.com/main:1" }], "schedulingGates": [{ "name": GATE }] },
    });
    set.with(&json!({
        "metadata": { "labels": { QUEUE: "team" } },
        "spec": { "leaderWorkerTemplate": { "leaderTemplate": template, "workerTemplate": template } },
    }))
}

fn gates(pod: &Pod) -> Vec<&str> {
    let gates = pod.spec.iter().flat_map(|spec| spec.scheduling_gates.iter().flatten());
    gates.map(|gate| gate.name.as_str()).collect()
}

/// Waits for exactly these pods, and returns them.
async fn await_pods(namespace: &Namespace, set: &str, names: &[&str]) -> Result<BTreeMap<String, Pod>> {
    eventually(PATIENCE, || async {
        let pods = pods(namespace, set).await?;
        ensure!(pods.keys().collect::<Vec<_>>() == names, "{:?}", pods.keys());
        Ok(pods)
    })
    .await
}

/// Takes Kueue's gate off these pods, as Kueue does once there is quota.
async fn admit(namespace: &Namespace, pods: &[&str]) -> Result<()> {
    let patch = json!({ "spec": { "schedulingGates": [{ "$patch": "delete", "name": GATE }] } });
    for pod in pods {
        namespace.api::<Pod>().patch(pod, &PatchParams::default(), &Patch::Strategic(&patch)).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_group_in_a_queue_of_kueues_is_complete_before_kueue_admits_it() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("kueue").await?;
    namespace.apply(&in_a_queue(Set::new("train").groups(1, 3)).manifest()).await?;
    // Kueue counts the pods of a group before it asks for quota: workers must not wait for their leader to be bound.
    let names = ["train-0", "train-0-1", "train-0-2"];
    for (name, pod) in await_pods(&namespace, "train", &names).await? {
        assert_eq!(gates(&pod), [GATE], "{name}");
        let annotations = pod.metadata.annotations.unwrap_or_default();
        assert_eq!(annotations[PARENT], "leaderworkerset.x-k8s.io/leaderworkerset", "{name}");
        assert_eq!(annotations["leaderworkerset.sigs.k8s.io/size"], "3", "{name}");
        assert!(!pod.metadata.labels.unwrap_or_default().contains_key(QUEUE), "{name}: it is Kueue that labels pods");
    }
    for (name, object) in of_set::<StatefulSet>(&namespace, "train").await? {
        assert_eq!(object.metadata.labels.unwrap_or_default()[QUEUE], "team", "{name}");
    }
    admit(&namespace, &names).await?;
    await_ready(&namespace, "train").await.map(drop)
}

/// What upstream writes on the leader of a group with this key that wants a node for itself.
fn upstreams_terms(group: Option<&String>) -> serde_json::Value {
    let (key, level) = ("leaderworkerset.sigs.k8s.io/group-key", "kubernetes.io/hostname");
    let term = |expressions| json!([{ "labelSelector": { "matchExpressions": expressions }, "topologyKey": level }]);
    let with = json!([{ "key": key, "operator": "In", "values": [group] }]);
    let away = json!([{ "key": key, "operator": "Exists" }, { "key": key, "operator": "NotIn", "values": [group] }]);
    json!({
        "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": term(with) },
        "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": term(away) },
    })
}

#[tokio::test]
async fn muster_never_gates_or_places_what_kueue_does() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("kueue").await?;
    // Its author asks Kueue for something else than for exclusive domains: that stays as it is.
    let set = in_a_queue(Set::new("train").groups(1, 2)).exclusive("kubernetes.io/hostname");
    let own = json!({ "metadata": { "annotations": { GROUP: "own" } } });
    let set = set.with(&json!({ "spec": { "leaderWorkerTemplate": { "workerTemplate": own } } }));
    namespace.apply(&set.annotated("muster.dev/placement-policy", "node-pool").manifest()).await?;
    let leader = &await_pods(&namespace, "train", &["train-0"]).await?["train-0"];
    assert_eq!(gates(leader), [GATE]);
    // The scheduler keeps the group's domain, by the terms that upstream writes.
    let group = leader.metadata.labels.as_ref().and_then(|labels| labels.get("leaderworkerset.sigs.k8s.io/group-key"));
    assert_eq!(serde_json::to_value(leader.spec.as_ref().and_then(|spec| spec.affinity.as_ref()))?, upstreams_terms(group));
    admit(&namespace, &["train-0"]).await?;
    // As with upstream, its worker follows the leader to where the scheduler has put it.
    let pods = await_pods(&namespace, "train", &["train-0", "train-0-1"]).await?;
    let node = pods["train-0"].spec.as_ref().and_then(|spec| spec.node_name.clone());
    let selector = pods["train-0-1"].spec.as_ref().and_then(|spec| spec.node_selector.clone()).unwrap_or_default();
    assert_eq!(selector.get("kubernetes.io/hostname"), node.as_ref());
    admit(&namespace, &["train-0-1"]).await?;
    await_ready(&namespace, "train").await?;
    let lost = condition(&get(&namespace, "train").await?, "ExclusivityLost");
    assert!(lost.is_none(), "{lost:?}");
    for (name, pod) in pods {
        let annotations = pod.metadata.annotations.unwrap_or_default();
        assert!(!annotations.contains_key("muster.dev/placement"), "{name}: {annotations:?}");
    }
    Ok(())
}

#[tokio::test]
async fn kueue_is_asked_for_domains_if_a_set_wants_that_and_the_set_says_what_that_is_not() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("kueue").await?;
    let set = in_a_queue(Set::new("train").groups(1, 3)).exclusive("kubernetes.io/hostname");
    let set = set.annotated("muster.dev/kueue-topology", "true");
    namespace.apply(&set.manifest()).await?;
    // Kueue reads the templates of the set, and counts the pods of the group: no worker waits for its leader to be bound.
    let live = get(&namespace, "train").await?;
    let templates = &serde_json::to_value(&live)?["spec"]["leaderWorkerTemplate"];
    for template in ["leaderTemplate", "workerTemplate"] {
        let annotations = &templates[template]["metadata"]["annotations"];
        assert_eq!(annotations[REQUIRED], "kubernetes.io/hostname", "{template}");
        assert_eq!(annotations[GROUP], "group", "{template}");
    }
    let names = ["train-0", "train-0-1", "train-0-2"];
    for (name, pod) in await_pods(&namespace, "train", &names).await? {
        assert_eq!(gates(&pod), [GATE], "{name}");
        let spec = pod.spec.unwrap_or_default();
        assert_eq!((spec.node_selector, spec.affinity), (None, None), "{name}");
        assert_eq!(pod.metadata.annotations.unwrap_or_default()[REQUIRED], "kubernetes.io/hostname", "{name}");
    }
    let lost = await_condition(&namespace, "train", "ExclusivityLost", "True").await?;
    let expected = "Kueue chooses the nodes of the set's groups: each goes into one domain of kubernetes.io/hostname, which other groups \
                    may share";
    assert_eq!(lost.message, expected);
    admit(&namespace, &names).await?;
    let before = await_ready(&namespace, "train").await?;
    // Written again by its manifest, which knows nothing of this, it stays as it is.
    let replaced = set.with(&json!({ "metadata": { "resourceVersion": before.metadata.resource_version } }));
    let replaced = serde_json::from_value(replaced.object().clone())?;
    let after = namespace.api::<LeaderWorkerSet>().replace("train", &PostParams::default(), &replaced).await?;
    assert_eq!(after.metadata.generation, before.metadata.generation);
    Ok(())
}

fn controller(meta: &ObjectMeta) -> (&str, &str, &str) {
    let owners = meta.owner_references.iter().flatten();
    let controller = owners.clone().find(|owner| owner.controller == Some(true));
    controller.map_or(("", "", ""), |owner| (&owner.kind, &owner.name, &owner.uid))
}

#[tokio::test]
async fn kai_finds_set_group_and_rank_of_every_pod_by_its_owners_and_labels() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("kai").await?;
    namespace.apply(&Set::new("serve").groups(2, 2).manifest()).await?;
    let set = await_ready(&namespace, "serve").await?;
    assert_eq!(set.size(), 2);
    assert_eq!(serde_json::to_value(&set)?["spec"]["startupPolicy"], "LeaderCreated");
    let sets = of_set::<StatefulSet>(&namespace, "serve").await?;
    let pods = pods(&namespace, "serve").await?;
    let uid = |meta: &ObjectMeta| meta.uid.clone().unwrap_or_default();
    for (name, group, rank) in [("serve-0", "0", "0"), ("serve-0-1", "0", "1"), ("serve-1", "1", "0"), ("serve-1-1", "1", "1")] {
        let pod = &pods[name].metadata;
        let labels = pod.labels.clone().unwrap_or_default();
        assert_eq!(labels["leaderworkerset.sigs.k8s.io/name"], "serve");
        assert_eq!(labels["leaderworkerset.sigs.k8s.io/group-index"], group);
        assert_eq!(labels["leaderworkerset.sigs.k8s.io/worker-index"], rank);
        assert_eq!(pod.annotations.clone().unwrap_or_default()["leaderworkerset.sigs.k8s.io/size"], "2");
        let leader = format!("serve-{group}");
        // A worker's owners: its StatefulSet, its leader, the leader's StatefulSet, the set.
        let leaders_chain = if rank == "0" {
            pod
        } else {
            let workers = &sets[&leader].metadata;
            assert_eq!(controller(pod), ("StatefulSet", leader.as_str(), uid(workers).as_str()));
            assert_eq!(controller(workers), ("Pod", leader.as_str(), uid(&pods[&leader].metadata).as_str()));
            &pods[&leader].metadata
        };
        let leaders = &sets["serve"].metadata;
        assert_eq!(controller(leaders_chain), ("StatefulSet", "serve", uid(leaders).as_str()));
        assert_eq!(controller(leaders), ("LeaderWorkerSet", "serve", uid(&set.metadata).as_str()));
    }
    Ok(())
}
