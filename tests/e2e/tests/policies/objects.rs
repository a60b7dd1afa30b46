//! The policies that the chart brings.

use kube::Api;
use muster_api::policy::{Policy, PolicyStatus};
use muster_api::{PlacementPolicy, StartupPolicy};
use muster_cluster::Cluster;
use muster_e2e::verdicts;

fn check(status: Option<&PolicyStatus>, name: &str) {
    let status = status.unwrap();
    let all_good = ["Fetched=True", "Verified=True", "Accepted=True", "Compiled=True", "SettingsValid=True", "Ready=True"];
    assert_eq!(verdicts(status), all_good);
    let active = status.active.as_ref().unwrap();
    assert_eq!((&active.digest[..7], active.digest.len()), ("sha256:", 71));
    assert_eq!((active.name.as_deref(), active.version.as_deref()), (Some(name), Some("0.1.0")));
    assert!(active.since.is_some());
    assert_eq!((status.candidate.as_ref(), status.last_error.as_ref()), (None, None));
}

#[tokio::test]
async fn the_charts_own_policies_are_ready_step_by_step() {
    let client = Cluster::shared().await.client().await.unwrap();
    let placement = Api::<PlacementPolicy>::all(client.clone());
    let startup = Api::<StartupPolicy>::all(client);
    muster_cluster::eventually(muster_e2e::PATIENCE, || async {
        anyhow::ensure!(placement.get("node-pool").await?.status().is_some(), "node-pool has no status");
        anyhow::ensure!(startup.get("leader-ready").await?.status().is_some(), "leader-ready has no status");
        Ok(())
    })
    .await
    .unwrap();
    check(placement.get("node-pool").await.unwrap().status(), "node-pool");
    check(startup.get("leader-ready").await.unwrap().status(), "leader-ready");
}
