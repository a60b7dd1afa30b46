//! PodGroups that upstream made, as Muster finds them.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt;
use kube::api::PostParams;
use muster_cluster::eventually;
use muster_e2e::{PATIENCE, Set, await_ready, leaders};
use serde_json::json;

use crate::{bare_cluster, cluster, pod_groups};

const PREFIX: &str = "leaderworkerset.sigs.k8s.io";

/// Puts upstream's PodGroup into the place of Muster's while Muster is away, and sees that it is left alone.
///
/// The templates have limits and no requests. Upstream reads only the requests of templates and asks for nothing; Muster asks for what the
/// API server takes for the requests of the pods.
pub(crate) async fn pod_groups_of_upstream_are_kept() -> Result<()> {
    let cluster = bare_cluster().await;
    let namespace = cluster.namespace("volcano").await?;
    let limits = json!({ "spec": { "containers": [{
        "name": "main", "image": "example.com/main:1", "resources": { "limits": { "cpu": "1", "memory": "1Gi" } },
    }] } });
    let template = json!({ "spec": { "leaderWorkerTemplate": { "workerTemplate": limits } } });
    namespace.apply(&Set::new("train").groups(1, 3).with(&template).manifest()).await?;
    await_ready(&namespace, "train").await?;
    let leader = leaders(&namespace, "train").await?.remove("train-0").context("no leader")?;
    let revision = leader.labels()[&format!("{PREFIX}/template-revision-hash")].clone();
    let name = format!("train-0-{revision}");

    cluster.operator().stop();
    namespace.kubectl(&["delete", "podgroups.scheduling.volcano.sh", &name]).await?;
    let upstreams = json!({
        "apiVersion": "scheduling.volcano.sh/v1beta1",
        "kind": "PodGroup",
        "metadata": {
            "name": name,
            "labels": {
                format!("{PREFIX}/name"): "train",
                format!("{PREFIX}/group-index"): "0",
                format!("{PREFIX}/template-revision-hash"): revision,
            },
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Pod", "name": "train-0", "uid": leader.uid(),
                "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": { "minMember": 3 },
    });
    let as_upstream = PostParams { field_manager: Some("manager".into()), ..PostParams::default() };
    let before = pod_groups(&namespace).create(&as_upstream, &serde_json::from_value(upstreams)?).await?;
    cluster.operator().restart().await?;

    // Muster has looked at all of the set when this is done. Its own PodGroup would get the annotation, and resources to wait for.
    namespace.kubectl(&["annotate", "leaderworkerset", "train", "volcano.sh/note=new"]).await?;
    eventually(PATIENCE, || async {
        let set: StatefulSet = namespace.api().get("train").await?;
        ensure!(set.annotations().contains_key("volcano.sh/note"), "the operator has not looked again");
        Ok(())
    })
    .await?;
    namespace.kubectl(&["scale", "leaderworkerset", "train", "--replicas=2"]).await?;
    await_ready(&namespace, "train").await?;
    let own = pod_groups(&namespace).get(&format!("train-1-{revision}")).await?;
    assert_eq!(own.data["spec"], json!({ "minMember": 3, "minResources": { "cpu": "3", "memory": "3Gi" } }));
    assert_eq!(own.annotations()["volcano.sh/note"], "new");
    assert_eq!(pod_groups(&namespace).get(&name).await?, before);
    Ok(())
}

#[tokio::test]
async fn a_pod_group_that_upstream_made_stays_as_it_is_and_new_groups_get_musters() {
    cluster().await;
}
