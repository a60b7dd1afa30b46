//! Groups: what is made for a leader, what a ready group is, when it starts over.

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use muster_api::conditions::{AVAILABLE, PROGRESSING};
use muster_cluster::{Namespace, eventually};
use muster_e2e::{PATIENCE, Set, await_condition, get, status_of};
use serde_json::{Value, json};

use crate::hands::Hands;
use crate::site;

fn key(name: &str) -> String {
    format!("leaderworkerset.sigs.k8s.io/{name}")
}

#[tokio::test]
async fn a_group_is_made_for_its_leader_and_ready_when_all_of_it_is() {
    let site = site("made").await;
    let hands = Hands::on(&site, "serve", &Set::new("serve").groups(1, 3)).await.unwrap();
    let leader = hands.create_leader(0).await;
    assert_eq!(leader.labels()[&key("group-index")], "0");
    assert_eq!(leader.labels()[&key("group-key")], muster_api::names::group_key(site.name(), "serve-0"));
    let workers = hands.workers(0).await;
    let spec = workers.spec.unwrap();
    assert_eq!((spec.replicas, spec.service_name.as_deref()), (Some(2), Some("serve")));
    assert_eq!(spec.ordinals.unwrap().start, Some(1));
    await_condition(&site, "serve", PROGRESSING, "True").await.unwrap();
    hands.leader_ready(0).await;
    hands.workers_ready(0).await;
    await_condition(&site, "serve", AVAILABLE, "True").await.unwrap();
    let status = status_of(&get(&site, "serve").await.unwrap());
    assert_eq!((status.ready_replicas, status.updated_replicas), (1, 1));
}

#[tokio::test]
async fn a_leader_of_one_needs_no_workers() {
    let site = site("single").await;
    let hands = Hands::on(&site, "serve", &Set::new("serve").groups(1, 1)).await.unwrap();
    hands.create_leader(0).await;
    hands.leader_ready(0).await;
    await_condition(&site, "serve", AVAILABLE, "True").await.unwrap();
    assert!(hands.stateful_set("serve-0").await.is_err(), "a worker StatefulSet of a group of one");
}

#[tokio::test]
async fn workers_wait_for_a_leader_that_must_be_ready_first() {
    let site = site("leader-first").await;
    let set = Set::new("serve").groups(1, 2).with(&json!({ "spec": { "startupPolicy": "LeaderReady" } }));
    let hands = Hands::on(&site, "serve", &set).await.unwrap();
    hands.create_leader(0).await;
    // A status that was written after the operator has seen the leader says that it has decided not to make workers yet.
    await_condition(&site, "serve", PROGRESSING, "True").await.unwrap();
    assert!(hands.stateful_set("serve-0").await.is_err(), "workers before their leader was ready");
    hands.leader_ready(0).await;
    hands.workers(0).await;
}

#[tokio::test]
async fn a_leader_is_ready_by_its_condition_alone_for_those_that_wait_for_it() {
    let site = site("condition").await;
    let set = Set::new("serve").groups(1, 2).with(&json!({ "spec": { "startupPolicy": "LeaderReady" } }));
    let hands = Hands::on(&site, "serve", &set).await.unwrap();
    hands.create_leader(0).await;
    let condition = json!({ "type": "Ready", "status": "True", "lastTransitionTime": "2026-11-25T12:00:00Z" });
    hands.pod_status("serve-0", json!({ "conditions": [condition] })).await;
    hands.workers(0).await;
}

#[tokio::test]
async fn each_group_has_a_service_of_its_own_if_the_set_says_so() {
    let site = site("unique").await;
    let network = json!({ "spec": { "networkConfig": { "subdomainPolicy": "UniquePerReplica" } } });
    let hands = Hands::on(&site, "serve", &Set::new("serve").groups(2, 2).with(&network)).await.unwrap();
    for group in 0..2 {
        let leader = hands.create_leader(group).await;
        assert_eq!(leader.spec.unwrap().subdomain, Some(hands.leader(group)));
        assert_eq!(hands.workers(group).await.spec.unwrap().service_name, Some(hands.leader(group)));
        let service =
            eventually(PATIENCE, || async { Ok(site.api::<Service>().get(&hands.leader(group)).await?) }).await.unwrap();
        let spec = service.spec.unwrap();
        let selector = [(key("name"), "serve".to_owned()), (key("group-index"), group.to_string())].into();
        assert_eq!((spec.cluster_ip.as_deref(), spec.selector), (Some("None"), Some(selector)));
    }
    assert!(site.api::<Service>().get_opt("serve").await.unwrap().is_none(), "a shared service that nobody needs");
}

#[tokio::test]
async fn groups_move_to_services_of_their_own_and_back_as_they_are_replaced() {
    let site = site("moving").await;
    let hands = Hands::on(&site, "serve", &Set::new("serve").groups(1, 2)).await.unwrap();
    hands.create_leader(0).await;
    hands.group_ready(0).await;
    await_condition(&site, "serve", AVAILABLE, "True").await.unwrap();
    for (policy, service) in [("UniquePerReplica", "serve-0"), ("Shared", "serve")] {
        hands.patch(json!({ "networkConfig": { "subdomainPolicy": policy } })).await;
        // Before the update began it stood at (0, 1), too.
        eventually(PATIENCE, || async {
            let spec = hands.stateful_set("serve").await?.spec.unwrap();
            let annotations = spec.template.metadata.and_then(|metadata| metadata.annotations).unwrap_or_default();
            let is_own = annotations.contains_key(&key("subdomainPolicy"));
            anyhow::ensure!(is_own == (policy == "UniquePerReplica"), "the template is not {policy} yet");
            Ok(())
        })
        .await
        .unwrap();
        hands.rollout_is(0, 1).await;
        hands.replace_leader(0).await;
        assert_eq!(hands.workers(0).await.spec.unwrap().service_name.as_deref(), Some(service));
        let leader: Pod = site.api().get("serve-0").await.unwrap();
        assert_eq!(leader.spec.unwrap().subdomain.as_deref(), Some(service));
        eventually(PATIENCE, || async { Ok(site.api::<Service>().get(service).await?) }).await.unwrap();
        hands.group_ready(0).await;
        await_condition(&site, "serve", AVAILABLE, "True").await.unwrap();
    }
}

#[tokio::test]
async fn workers_know_whether_their_leader_has_tpus() {
    for (leaders, hosts) in [(true, "serve-0.serve,serve-0-1.serve"), (false, "serve-0-1.serve")] {
        let site = site("tpu").await;
        let pod = |tpus: bool| {
            let resources = if tpus { json!({ "limits": { "google.com/tpu": "4" } }) } else { json!({}) };
            json!({ "spec": { "containers": [{ "name": "main", "image": "example.com/main:1", "resources": resources }] } })
        };
        let templates = json!({ "leaderTemplate": pod(leaders), "workerTemplate": pod(true) });
        let set = Set::new("serve").groups(1, 2).with(&json!({ "spec": { "leaderWorkerTemplate": templates } }));
        let hands = Hands::on(&site, "serve", &set).await.unwrap();
        hands.create_leader(0).await;
        let annotations = hands.workers(0).await.spec.unwrap().template.metadata.unwrap().annotations.unwrap();
        assert_eq!(annotations.get(&key("leader-requests-tpus")).map(String::as_str), leaders.then_some("true"));
        let worker = hands.create_pod("serve-0", "serve-0-1", |_| {}).await.unwrap();
        let environment = worker.spec.unwrap().containers[0].env.clone().unwrap();
        let value = |name: &str| environment.iter().find(|variable| variable.name == name).and_then(|found| found.value.clone());
        assert_eq!(value("TPU_WORKER_HOSTNAMES").as_deref(), Some(hosts));
        assert_eq!(value("TPU_WORKER_ID").as_deref(), Some(if leaders { "1" } else { "0" }));
        let first: Vec<&str> = environment.iter().take(3).map(|variable| variable.name.as_str()).collect();
        assert_eq!(first, ["LWS_LEADER_ADDRESS", "LWS_GROUP_SIZE", "LWS_WORKER_INDEX"]);
    }
}

async fn whole<'a>(site: &'a Namespace, restart_policy: &str) -> Hands<'a> {
    let policy = json!({ "spec": { "leaderWorkerTemplate": { "restartPolicy": restart_policy } } });
    let hands = Hands::on(site, "serve", &Set::new("serve").groups(1, 3).with(&policy)).await.unwrap();
    hands.create_leader(0).await;
    hands.workers(0).await;
    hands
}

const RESTARTED: &str = r#"{ "phase": "Running", "containerStatuses": [{ "name": "main", "image": "", "imageID": "", "ready": true, "restartCount": 1 }] }"#;

fn restarted() -> Value {
    serde_json::from_str(RESTARTED).unwrap()
}

#[tokio::test]
async fn a_worker_that_restarts_takes_its_group_along() {
    let site = site("restart").await;
    let hands = whole(&site, "RecreateGroupOnPodRestart").await;
    for rank in 1..3 {
        hands.create_pod("serve-0", &format!("serve-0-{rank}"), |_| {}).await.unwrap();
    }
    hands.pod_status("serve-0-2", restarted()).await;
    hands.is_leaving("serve-0").await;
    eventually(PATIENCE, || site.has_event("serve", "RecreateGroup")).await.unwrap();
}

#[tokio::test]
async fn a_worker_that_its_leader_owns_itself_takes_its_group_along() {
    let site = site("direct").await;
    let hands = whole(&site, "RecreateGroupOnPodRestart").await;
    let leader: Pod = site.api().get("serve-0").await.unwrap();
    let owner = json!([{
        "apiVersion": "v1", "kind": "Pod", "name": "serve-0", "uid": leader.uid(), "controller": true, "blockOwnerDeletion": true,
    }]);
    hands.create_pod("serve-0", "serve-0-1", |pod| pod["metadata"]["ownerReferences"] = owner).await.unwrap();
    hands.pod_status("serve-0-1", restarted()).await;
    hands.is_leaving("serve-0").await;
}

#[tokio::test]
async fn a_worker_that_is_gone_at_once_takes_its_group_along() {
    let site = site("gone").await;
    let hands = whole(&site, "RecreateGroupOnPodRestart").await;
    for rank in 1..3 {
        let worker = format!("serve-0-{rank}");
        hands.create_pod("serve-0", &worker, |_| {}).await.unwrap();
        hands.pod_status(&worker, json!({ "phase": "Running" })).await;
    }
    hands.has_members("serve-0").await;
    // A pod without a node is gone in the moment in which it is deleted.
    site.kubectl(&["delete", "pod", "serve-0-1", "--wait=false"]).await.unwrap();
    hands.is_leaving("serve-0").await;
    eventually(PATIENCE, || site.has_event("serve", "RecreateGroup")).await.unwrap();
}

#[tokio::test]
async fn a_worker_may_come_and_go_where_the_set_restarts_nothing() {
    for policy in ["None", "Default"] {
        let site = site("none").await;
        let hands = whole(&site, policy).await;
        hands.create_pod("serve-0", "serve-0-1", |_| {}).await.unwrap();
        hands.pod_status("serve-0-1", restarted()).await;
        site.kubectl(&["delete", "pod", "serve-0-1", "--wait=false"]).await.unwrap();
        hands.looked_again().await;
        let leader: Pod = site.api().get("serve-0").await.unwrap();
        assert_eq!(leader.metadata.deletion_timestamp, None, "{policy}");
    }
}

#[tokio::test]
async fn workers_that_their_leader_owns_do_not_hang_on_a_stateful_set() {
    let site = site("remade").await;
    let hands = whole(&site, "RecreateGroupOnPodRestart").await;
    let leader: Pod = site.api().get("serve-0").await.unwrap();
    let owner = json!([{
        "apiVersion": "v1", "kind": "Pod", "name": "serve-0", "uid": leader.uid(), "controller": true, "blockOwnerDeletion": true,
    }]);
    for rank in 1..3 {
        let worker = format!("serve-0-{rank}");
        hands.create_pod("serve-0", &worker, |pod| pod["metadata"]["ownerReferences"] = owner.clone()).await.unwrap();
        hands.pod_status(&worker, json!({ "phase": "Running" })).await;
    }
    hands.has_members("serve-0").await;
    let before = hands.workers(0).await;
    site.kubectl(&["delete", "statefulset", "serve-0", "--wait=false"]).await.unwrap();
    eventually(PATIENCE, || async {
        let now = hands.stateful_set("serve-0").await?;
        anyhow::ensure!(now.uid() != before.uid(), "it was not made again");
        Ok(())
    })
    .await
    .unwrap();
    let leader: Pod = site.api().get("serve-0").await.unwrap();
    assert_eq!(leader.metadata.deletion_timestamp, None);
}

#[tokio::test]
async fn a_new_leader_gets_new_workers_though_nobody_collects_the_old_ones() {
    let site = site("successor").await;
    let hands = whole(&site, "RecreateGroupOnPodRestart").await;
    let before = hands.workers(0).await;
    site.kubectl(&["delete", "pod", "serve-0"]).await.unwrap();
    hands.create_leader(0).await;
    // Waits for the StatefulSet of the present leader.
    let after = hands.workers(0).await;
    assert_ne!(after.uid(), before.uid());
    hands.group_ready(0).await;
    await_condition(&site, "serve", AVAILABLE, "True").await.unwrap();
}

#[tokio::test]
async fn a_group_that_has_not_started_is_forgiven_where_the_set_says_so() {
    let site = site("forgiven").await;
    let hands = whole(&site, "RecreateGroupAfterStart").await;
    hands.leader_ready(0).await;
    hands.create_pod("serve-0", "serve-0-1", |_| {}).await.unwrap();
    hands.pod_status("serve-0-1", restarted()).await;
    hands.create_pod("serve-0", "serve-0-2", |_| {}).await.unwrap();
    // The last member is pending: the operator has seen the restart by the time it reports on the set's next change.
    hands.looked_again().await;
    let leader: Pod = site.api().get("serve-0").await.unwrap();
    assert_eq!(leader.metadata.deletion_timestamp, None, "the group started over before it had started");
    hands.pod_status("serve-0-2", json!({ "phase": "Running" })).await;
    hands.is_leaving("serve-0").await;
}

#[tokio::test]
async fn what_is_deleted_with_a_leader_is_nobodys_business_twice() {
    let site = site("twice").await;
    let hands = whole(&site, "RecreateGroupOnPodRestart").await;
    for rank in 1..3 {
        let name = format!("serve-0-{rank}");
        hands.create_pod("serve-0", &name, |_| {}).await.unwrap();
        hands.pod_status(&name, restarted()).await;
    }
    hands.is_leaving("serve-0").await;
    hands.replace_leader(0).await;
    let successor: Pod = site.api().get("serve-0").await.unwrap();
    hands.workers(0).await;
    // The old workers are still there, restarted as they are; they are no members of the new group.
    hands.looked_again().await;
    let now: Pod = site.api().get("serve-0").await.unwrap();
    assert_eq!((now.uid(), now.metadata.deletion_timestamp), (successor.uid(), None));
}

/// A node with one label that says nothing else of itself; its name.
async fn bare_node(site: &Namespace, key: &str, value: &str) -> String {
    let node = format!("{}-node", site.name());
    let object = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": node, "labels": { key: value } } });
    site.apply(&object.to_string()).await.unwrap();
    node
}

#[tokio::test]
async fn a_leader_that_is_bound_already_is_followed_by_its_workers() {
    let site = site("bound").await;
    let node = bare_node(&site, "example.com/rack", "r7").await;
    let hands = Hands::on(&site, "serve", &Set::new("serve").groups(1, 2).exclusive("example.com/rack")).await.unwrap();
    hands.create_pod("serve", "serve-0", |pod| pod["spec"]["nodeName"] = json!(node)).await.unwrap();
    let workers = hands.workers(0).await;
    let selector = workers.spec.unwrap().template.spec.unwrap().node_selector.unwrap();
    assert_eq!(selector, [("example.com/rack".to_owned(), "r7".to_owned())].into());
    // They are kept as they were made, like any others.
    site.kubectl(&["scale", "statefulset", "serve-0", "--replicas=5"]).await.unwrap();
    eventually(PATIENCE, || site.has_event("serve", "Repaired")).await.unwrap();
    assert_eq!(hands.workers(0).await.spec.unwrap().replicas, Some(1));
    site.kubectl(&["delete", "node", &node]).await.unwrap();
}

#[tokio::test]
async fn a_leader_that_is_bound_by_hand_after_a_while_is_followed_by_its_workers() {
    let site = site("released").await;
    // Nobody runs here: the node doesn't say what it offers, so nothing fits on it as far as anybody can tell.
    let node = bare_node(&site, "example.com/row", "w3").await;
    let hands = Hands::on(&site, "serve", &Set::new("serve").groups(1, 2).exclusive("example.com/row")).await.unwrap();
    hands.create_leader(0).await;
    eventually(PATIENCE, || async {
        let leader: Pod = site.api().get("serve-0").await?;
        anyhow::ensure!(leader.spec.unwrap().scheduling_gates.is_none_or(|gates| gates.is_empty()), "it still waits");
        Ok(())
    })
    .await
    .unwrap();
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": { "name": "serve-0" }, "target": { "kind": "Node", "name": node },
    });
    hands.bind("serve-0", &binding).await;
    let selector = hands.workers(0).await.spec.unwrap().template.spec.unwrap().node_selector.unwrap();
    assert_eq!(selector, [("example.com/row".to_owned(), "w3".to_owned())].into());
    site.kubectl(&["delete", "node", &node]).await.unwrap();
}

#[tokio::test]
async fn objects_of_others_are_left_as_they_are() {
    let site = site("others").await;
    let other =
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "serve" }, "spec": { "ports": [{ "port": 80 }] } });
    site.apply(&other.to_string()).await.unwrap();
    let before: Service = site.api().get("serve").await.unwrap();
    let hands = Hands::on(&site, "serve", &Set::new("serve").groups(1, 2)).await.unwrap();
    hands.create_leader(0).await;
    hands.workers(0).await;
    let after: Service = site.api().get("serve").await.unwrap();
    assert_eq!(before, after);
}
