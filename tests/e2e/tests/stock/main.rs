//! A cluster as most are: without the alpha features that Muster integrates with.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use anyhow::{Result, ensure};
use muster_cluster::{Cluster, Controllers, Setup, eventually};
use muster_e2e::{PATIENCE, Set, await_ready, pods};
use serde_json::json;

/// The cluster, its operator told to use kube-scheduler's gangs all the same.
async fn cluster() -> &'static Cluster {
    let values = json!({ "gangScheduling": { "provider": "kubernetes" } });
    Cluster::shared_as(|| Setup { values, controllers: Controllers::Stock }).await
}

#[tokio::test]
async fn without_kube_schedulers_gangs_sets_run_and_say_that_they_are_none() -> Result<()> {
    let cluster = cluster().await;
    let namespace = cluster.namespace("stock").await?;
    namespace.apply(&Set::new("serve").groups(2, 3).manifest()).await?;
    await_ready(&namespace, "serve").await?;
    eventually(PATIENCE, || async {
        let events = namespace.events("serve").await?;
        let said = "Warning GangUnavailable: This cluster does not serve PodGroups of scheduling.k8s.io/v1alpha2, so pods of new \
                    groups are scheduled one by one: start the API server with ";
        ensure!(events.iter().any(|event| event.starts_with(said)), "{events:#?}");
        Ok(())
    })
    .await?;
    let named = pods(&namespace, "serve").await?.into_values().filter_map(|pod| pod.spec?.scheduling_group).count();
    assert_eq!(named, 0);
    cluster.operator().probe().await?;
    let log = std::fs::read_to_string(cluster.operator().log())?;
    assert!(
        log.contains("gang scheduling is on, but this cluster does not serve its PodGroups: start the API server with"),
        "{log}"
    );
    Ok(())
}
