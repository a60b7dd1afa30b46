//! A changed template reaches every group.

use std::time::Duration;

use anyhow::{Result, ensure};
use muster_cluster::{Namespace, eventually, is_ready};
use muster_e2e::{PATIENCE, Set, Site, await_ready, domains, pods};
use serde_json::json;

/// Waits until every pod runs this image.
async fn await_image(namespace: &Namespace, set: &str, image: &str, count: usize) -> Result<()> {
    eventually(PATIENCE, || async {
        let pods = pods(namespace, set).await?;
        let updated = pods.values().filter(|pod| {
            let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
            containers.into_iter().all(|container| container.image.as_deref() == Some(image))
        });
        let updated = updated.count();
        ensure!(updated == count && pods.len() == count, "{updated} of {} pods run {image}", pods.len());
        Ok(())
    })
    .await?;
    await_ready(namespace, set).await.map(drop)
}

const IMAGE: &str = r#"[{"op": "replace", "path": "/spec/leaderWorkerTemplate/workerTemplate/spec/containers/0/image", "value": "example.com/main:2"}]"#;

#[tokio::test]
async fn a_new_image_reaches_leaders_and_workers_of_every_group() -> Result<()> {
    let namespace = muster_cluster::Cluster::shared().await.namespace("rollout").await?;
    namespace.apply(&Set::new("plain").groups(3, 2).manifest()).await?;
    await_ready(&namespace, "plain").await?;
    namespace.kubectl(&["patch", "lws", "plain", "--type=json", "-p", IMAGE]).await?;
    await_image(&namespace, "plain", "example.com/main:2", 6).await?;
    namespace.has_event("plain", "GroupsUpdating").await
}

#[tokio::test]
async fn groups_within_the_budget_are_replaced_together() -> Result<()> {
    let namespace = muster_cluster::Cluster::shared().await.namespace("rollout").await?;
    let three_at_once = json!({ "spec": { "rolloutStrategy": {
        "type": "RollingUpdate",
        "rollingUpdateConfiguration": { "maxUnavailable": 3, "maxSurge": 0, "partition": 0 },
    } } });
    // Behind a gate of the author's the new leaders never get ready, so the rollout stands still once its budget is spent.
    let gate = r#"[{"op": "add", "path": "/spec/leaderWorkerTemplate/workerTemplate/spec/schedulingGates", "value": [{"name": "example.com/held-back"}]}]"#;
    namespace.apply(&Set::new("wide").groups(4, 1).with(&three_at_once).manifest()).await?;
    await_ready(&namespace, "wide").await?;
    namespace.kubectl(&["patch", "lws", "wide", "--type=json", "-p", gate]).await?;
    eventually(PATIENCE, || async {
        let pods = pods(&namespace, "wide").await?;
        let held: Vec<&str> = pods.iter().filter(|(_, pod)| !is_ready(pod)).map(|(name, _)| name.as_str()).collect();
        ensure!(held == ["wide-1", "wide-2", "wide-3"], "{held:?} are being updated");
        Ok(())
    })
    .await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    ensure!(pods(&namespace, "wide").await?.get("wide-0").is_some_and(is_ready), "more groups are down than the budget allows");
    Ok(())
}

#[tokio::test]
async fn an_exclusive_set_is_updated_where_no_domain_is_to_spare() -> Result<()> {
    let mut site = Site::new("rollout").await?;
    site.pool("a", 2).await?;
    site.pool("b", 2).await?;
    site.apply(&Set::new("tight").groups(2, 2).on(&site, 8).exclusive(site.key()).manifest()).await?;
    await_ready(&site, "tight").await?;
    site.kubectl(&["patch", "lws", "tight", "--type=json", "-p", IMAGE]).await?;
    await_image(&site, "tight", "example.com/main:2", 4).await?;
    let domains = domains(&site, "tight", site.key()).await?;
    ensure!(domains.values().all(|of_group| of_group.len() == 1), "{domains:?}");
    let taken: std::collections::BTreeSet<_> = domains.values().flatten().collect();
    ensure!(taken.len() == 2, "{domains:?}");
    Ok(())
}
