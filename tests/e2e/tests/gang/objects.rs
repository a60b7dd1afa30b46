//! PodGroups over the life of a set.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::scheduling::v1alpha2::PodGroup;
use kube::ResourceExt;
use kube::api::DeleteParams;
use muster_cluster::{Namespace, eventually};
use muster_e2e::{PATIENCE, Set, await_ready, of_set, pods};
use serde_json::json;

use crate::{cluster, gangs, the_gang_of};

async fn namespace() -> Result<Namespace> {
    cluster().await.namespace("gang").await
}

/// Waits until the set is ready, is one gang, and has no other PodGroup; returns its name.
async fn await_one_gang(namespace: &Namespace, set: &str, but: &str) -> Result<String> {
    eventually(PATIENCE, || async {
        let name = the_gang_of(namespace, set).await?;
        ensure!(name != but, "the pods still name {but}");
        let gangs = gangs(namespace, set).await?;
        ensure!(gangs.keys().collect::<Vec<_>>() == [&name], "{gangs:?}");
        Ok(name)
    })
    .await
}

fn uids(pods: BTreeMap<String, Pod>) -> BTreeMap<String, Option<String>> {
    pods.into_iter().map(|(name, pod)| (name, pod.uid())).collect()
}

#[tokio::test]
async fn pods_name_their_pod_group_and_templates_do_not() -> Result<()> {
    let namespace = namespace().await?;
    namespace.apply(&Set::new("serve").groups(2, 2).manifest()).await?;
    await_ready(&namespace, "serve").await?;
    let pods = pods(&namespace, "serve").await?;
    let groups = of_set::<PodGroup>(&namespace, "serve").await?;
    for (leader, worker) in [("serve-0", "serve-0-1"), ("serve-1", "serve-1-1")] {
        let name = crate::named_by(&pods[leader]).unwrap();
        assert_eq!(crate::named_by(&pods[worker]), Some(name));
        let owner = &groups[name].owner_references()[0];
        assert_eq!((owner.name.as_str(), Some(&owner.uid)), (leader, pods[leader].metadata.uid.as_ref()));
        let revision = &pods[leader].labels()["leaderworkerset.sigs.k8s.io/template-revision-hash"];
        assert!(name.starts_with(&format!("{leader}-{revision}-")), "{name}");
    }
    assert_eq!(groups.len(), 2);
    for (name, object) in of_set::<StatefulSet>(&namespace, "serve").await? {
        let template = object.spec.and_then(|spec| spec.template.spec);
        assert_eq!(template.and_then(|spec| spec.scheduling_group), None, "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn a_group_that_starts_over_is_another_gang() -> Result<()> {
    let namespace = namespace().await?;
    let restarts = json!({ "spec": { "leaderWorkerTemplate": { "restartPolicy": "RecreateGroupOnPodRestart" } } });
    namespace.apply(&Set::new("serve").groups(1, 3).with(&restarts).manifest()).await?;
    await_ready(&namespace, "serve").await?;
    let before = await_one_gang(&namespace, "serve", "").await?;
    namespace.api::<Pod>().delete("serve-0-2", &DeleteParams::default()).await?;
    await_one_gang(&namespace, "serve", &before).await?;
    await_ready(&namespace, "serve").await.map(drop)
}

#[tokio::test]
async fn a_leader_that_somebody_deletes_comes_back_with_another_gang() -> Result<()> {
    let namespace = namespace().await?;
    namespace.apply(&Set::new("serve").groups(1, 3).manifest()).await?;
    await_ready(&namespace, "serve").await?;
    let before = await_one_gang(&namespace, "serve", "").await?;
    // In the background: its workers and its PodGroup are still there when its successor comes.
    namespace.api::<Pod>().delete("serve-0", &DeleteParams::background()).await?;
    await_one_gang(&namespace, "serve", &before).await?;
    await_ready(&namespace, "serve").await.map(drop)
}

#[tokio::test]
async fn a_member_that_is_replaced_alone_joins_the_gang_of_the_others() -> Result<()> {
    let namespace = namespace().await?;
    namespace
        .apply(
            &Set::new("serve")
                .groups(1, 3)
                .with(&json!({ "spec": { "leaderWorkerTemplate": { "restartPolicy": "None" } } }))
                .manifest(),
        )
        .await?;
    await_ready(&namespace, "serve").await?;
    let gang = await_one_gang(&namespace, "serve", "").await?;
    let before = uids(pods(&namespace, "serve").await?);
    namespace.api::<Pod>().delete("serve-0-2", &DeleteParams::default()).await?;
    eventually(PATIENCE, || async {
        let now = uids(pods(&namespace, "serve").await?);
        ensure!(now.len() == 3 && now["serve-0-2"] != before["serve-0-2"], "{now:?}");
        Ok(())
    })
    .await?;
    await_ready(&namespace, "serve").await?;
    assert_eq!(the_gang_of(&namespace, "serve").await?, gang);
    Ok(())
}

#[tokio::test]
async fn a_rollout_replaces_the_pod_groups() -> Result<()> {
    let namespace = namespace().await?;
    let set = Set::new("serve").groups(2, 2);
    namespace.apply(&set.manifest()).await?;
    await_ready(&namespace, "serve").await?;
    let before = gangs(&namespace, "serve").await?;
    assert_eq!(before.values().copied().collect::<Vec<_>>(), [2, 2]);
    // Larger groups too: the gang of each is as large as the group of its revision.
    namespace.apply(&set.groups(2, 3).manifest()).await?;
    await_ready(&namespace, "serve").await?;
    eventually(PATIENCE, || async {
        let now = gangs(&namespace, "serve").await?;
        ensure!(now.values().copied().collect::<Vec<_>>() == [3, 3], "{now:?}");
        ensure!(now.keys().all(|name| !before.contains_key(name)), "{now:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_pod_group_that_somebody_changes_or_deletes_is_put_right_and_no_pod_notices() -> Result<()> {
    let namespace = namespace().await?;
    namespace.apply(&Set::new("serve").groups(1, 2).manifest()).await?;
    await_ready(&namespace, "serve").await?;
    let name = await_one_gang(&namespace, "serve", "").await?;
    let pods_before = uids(pods(&namespace, "serve").await?);

    namespace.kubectl(&["label", "podgroup", &name, "leaderworkerset.sigs.k8s.io/group-index=7", "--overwrite"]).await?;
    eventually(PATIENCE, || async {
        let group = namespace.api::<PodGroup>().get(&name).await?;
        ensure!(group.labels()["leaderworkerset.sigs.k8s.io/group-index"] == "0", "{:?}", group.labels());
        Ok(())
    })
    .await?;

    // Kubernetes protects a PodGroup that pods name; somebody who insists gets it away all the same.
    let uid = namespace.api::<PodGroup>().get(&name).await?.uid();
    namespace.kubectl(&["delete", "podgroup", &name, "--wait=false"]).await?;
    namespace.kubectl(&["patch", "podgroup", &name, "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#]).await?;
    eventually(PATIENCE, || async {
        let group = namespace.api::<PodGroup>().get(&name).await?;
        ensure!(group.uid() != uid && group.metadata.deletion_timestamp.is_none(), "{:?}", group.metadata);
        ensure!(group.spec.scheduling_policy.gang.as_ref().map(|gang| gang.min_count) == Some(2), "{:?}", group.spec);
        Ok(())
    })
    .await?;
    assert_eq!(uids(pods(&namespace, "serve").await?), pods_before);
    Ok(())
}

#[tokio::test]
async fn a_pod_group_that_the_author_chose_is_the_authors_business() -> Result<()> {
    let namespace = namespace().await?;
    let own = json!({
        "apiVersion": "scheduling.k8s.io/v1alpha2",
        "kind": "PodGroup",
        "metadata": { "name": "mine" },
        "spec": { "schedulingPolicy": { "gang": { "minCount": 4 } } },
    });
    namespace.apply(&own.to_string()).await?;
    let member = json!({ "spec": { "leaderWorkerTemplate": { "workerTemplate": { "spec": {
        "schedulingGroup": { "podGroupName": "mine" },
    } } } } });
    namespace.apply(&Set::new("serve").groups(2, 2).with(&member).manifest()).await?;
    await_ready(&namespace, "serve").await?;
    assert_eq!(the_gang_of(&namespace, "serve").await?, "mine");
    assert!(gangs(&namespace, "serve").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_set_that_is_deleted_leaves_no_pod_group_behind() -> Result<()> {
    let namespace = namespace().await?;
    namespace.apply(&Set::new("serve").groups(2, 2).manifest()).await?;
    await_ready(&namespace, "serve").await?;
    assert_eq!(gangs(&namespace, "serve").await?.len(), 2);
    namespace.kubectl(&["delete", "leaderworkerset", "serve"]).await?;
    eventually(PATIENCE, || async {
        let left = gangs(&namespace, "serve").await?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await
}
