//! Groups that upstream had begun, as Muster finds them.

use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use muster_api::names::group_key;
use muster_cluster::eventually;
use muster_e2e::{PATIENCE, Set, get, status_of};
use serde_json::{Value, json};

use crate::hands::Hands;
use crate::site;

const TOPOLOGY: &str = "example.com/block";
const KEY: &str = "leaderworkerset.sigs.k8s.io/group-key";

/// Leader 0 as upstream's webhook leaves it: with terms, without a gate. What makes it a group's comes after its creation, because our
/// webhook sees whatever is created as a member of a group.
async fn leader_of_upstream(hands: &Hands<'_>) -> Pod {
    let leader = hands.leader(0);
    let group = group_key(hands.site.name(), &leader);
    let term = |expressions: Value| {
        json!({ "requiredDuringSchedulingIgnoredDuringExecution": [{
            "topologyKey": TOPOLOGY, "labelSelector": { "matchExpressions": expressions },
        }] })
    };
    let mut member = Value::Null;
    let created = hands.create_pod(hands.set, &leader, |pod| {
        member = pod["metadata"].take();
        pod["metadata"] = json!({ "name": member["name"] });
        pod["spec"]["affinity"] = json!({
            "podAffinity": term(json!([{ "key": KEY, "operator": "In", "values": [group] }])),
            "podAntiAffinity": term(json!([
                { "key": KEY, "operator": "Exists" }, { "key": KEY, "operator": "NotIn", "values": [group] },
            ])),
        });
    });
    let created = created.await.unwrap();
    assert_eq!(created.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref()), None, "our webhook saw it");
    member["labels"]["leaderworkerset.sigs.k8s.io/group-index"] = json!("0");
    member["labels"][KEY] = json!(group);
    let patch = Patch::Merge(json!({ "metadata": member }));
    hands.site.api().patch(&leader, &PatchParams::default(), &patch).await.unwrap()
}

#[tokio::test]
async fn an_exclusive_leader_that_upstream_left_to_the_scheduler_stays_with_it_and_its_workers_follow() {
    let site = site("pending").await;
    let node = format!("{}-node", site.name());
    let object = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": node, "labels": { TOPOLOGY: "b4" } } });
    site.apply(&object.to_string()).await.unwrap();
    let hands = Hands::on(&site, "serve", &Set::new("serve").groups(1, 2).exclusive(TOPOLOGY)).await.unwrap();
    let before = leader_of_upstream(&hands).await;
    // The status is of the same decision as whatever is done about the group.
    eventually(PATIENCE, || async {
        let status = status_of(&get(&site, "serve").await?);
        let reasons: Vec<_> = status.groups.iter().map(|group| group.reason.as_deref()).collect();
        ensure!(reasons.len() == 1 && reasons[0] != Some("LeaderMissing"), "{reasons:?}");
        Ok(())
    })
    .await
    .unwrap();
    hands.looked_again().await;
    let after: Pod = site.api().get("serve-0").await.unwrap();
    assert_eq!(after, before);
    assert!(hands.stateful_set("serve-0").await.is_err(), "workers of a leader that is nowhere");

    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": { "name": "serve-0" }, "target": { "kind": "Node", "name": node },
    });
    hands.bind("serve-0", &binding).await;
    let selector = hands.workers(0).await.spec.unwrap().template.spec.unwrap().node_selector.unwrap();
    assert_eq!(selector, [(TOPOLOGY.to_owned(), "b4".to_owned())].into());
    let bound: Pod = site.api().get("serve-0").await.unwrap();
    assert_eq!((bound.uid(), bound.spec.unwrap().affinity), (before.uid(), before.spec.unwrap().affinity));
    site.kubectl(&["delete", "node", &node]).await.unwrap();
}
