//! Before Volcano is there.

use anyhow::{Result, ensure};
use kube::ResourceExt;
use kube::api::ListParams;
use muster_cluster::{Cluster, Namespace, eventually};
use muster_e2e::{PATIENCE, Set, await_ready, objects_of, pods};

use crate::{bare_cluster, cluster, install_crd, pod_groups};

/// Applies a set where there is no Volcano, sees that it says so, installs Volcano's CRD and sees that the set goes on.
pub(crate) async fn sets_wait_for_volcano() -> Result<()> {
    let cluster = bare_cluster().await;
    let namespace = cluster.namespace("volcano").await?;
    namespace.apply(&Set::new("train").groups(1, 2).manifest()).await?;
    let expected = "Warning GangUnavailable: This cluster does not serve PodGroups of scheduling.volcano.sh/v1beta1, so workers of new \
                    groups are not created: install Volcano, or switch gang scheduling off";
    eventually(PATIENCE, || async {
        let events = namespace.events("train").await?;
        ensure!(events.iter().any(|event| event == expected), "{events:#?}");
        Ok(())
    })
    .await?;
    cluster.operator().probe().await?;
    assert_eq!(objects_of(&namespace, "statefulset").await?.into_iter().collect::<Vec<_>>(), ["train"]);
    assert_eq!(complaints(cluster)?, 1);

    install_crd().await?;
    await_ready(&namespace, "train").await?;
    let first = the_pod_group_of(&namespace).await?;

    // Volcano goes, and with its CRD every PodGroup; what runs doesn't notice.
    let before = pods(&namespace, "train").await?.into_values().map(|pod| pod.uid()).collect::<Vec<_>>();
    cluster.kubectl(&["delete", "crd", "podgroups.scheduling.volcano.sh"]).await?;
    eventually(PATIENCE, || async {
        ensure!(complaints(cluster)? == 2, "the operator has not noticed");
        Ok(())
    })
    .await?;
    cluster.operator().probe().await?;
    install_crd().await?;
    eventually(PATIENCE, || async {
        ensure!(the_pod_group_of(&namespace).await? != first, "it is still the first");
        Ok(())
    })
    .await?;
    assert_eq!(pods(&namespace, "train").await?.into_values().map(|pod| pod.uid()).collect::<Vec<_>>(), before);
    await_ready(&namespace, "train").await.map(drop)
}

/// How often the operator has said in its log that there is no Volcano.
fn complaints(cluster: &Cluster) -> Result<usize> {
    let log = std::fs::read_to_string(cluster.operator().log())?;
    Ok(log.matches("gang scheduling is on, but this cluster does not serve its PodGroups: install Volcano").count())
}

/// UID of the one PodGroup there is.
async fn the_pod_group_of(namespace: &Namespace) -> Result<Option<String>> {
    let found = pod_groups(namespace).list(&ListParams::default()).await?.items;
    ensure!(found.len() == 1, "{found:#?}");
    Ok(found[0].uid())
}

#[tokio::test]
async fn sets_that_came_before_volcano_go_on_once_it_is_there() {
    cluster().await;
}
