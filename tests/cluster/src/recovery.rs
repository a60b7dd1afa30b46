//! Waiting until everybody follows the API server again after it was away.
//!
//! Its clients find it again by themselves, but whoever was refused a few times waits up to half a minute before the next attempt. A pod
//! that is replaced meanwhile may never run: a scheduler that has not seen the deletion takes the successor for the same pod (its log then
//! says that its cache is corrupted). That is the control plane's affair, and no test of ours should meet it.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use crate::wait::{PATIENCE, eventually};

/// The StatefulSet that shows who follows.
const PROBE: &str = "muster-test-probe";

/// Has a pod made, bound, run, counted, deleted and collected: the controllers, the scheduler and kwok all have a part in it.
///
/// # Errors
/// Says how far it got.
pub(crate) async fn complete(client: &Client) -> Result<()> {
    // Without a node, nothing can run.
    if Api::<Node>::all(client.clone()).list(&ListParams::default().limit(1)).await?.items.is_empty() {
        return Ok(());
    }
    let labels = json!({ "app": PROBE });
    let probe: StatefulSet = serde_json::from_value(json!({
        "metadata": { "name": PROBE },
        "spec": {
            "replicas": 1,
            "serviceName": PROBE,
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": { "containers": [{ "name": "main", "image": "example.com/main:1" }] } },
        },
    }))?;
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), "default");
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    match sets.create(&PostParams::default(), &probe).await {
        // Left by an attempt that failed.
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        created => drop(created.context("creating a StatefulSet to see who follows")?),
    }
    eventually(PATIENCE, || async {
        let status = sets.get(PROBE).await?.status.unwrap_or_default();
        let pod = pods.get_opt(&format!("{PROBE}-0")).await?.and_then(|pod| pod.status);
        ensure!(status.ready_replicas == Some(1), "the pod of a StatefulSet is not ready: {pod:?}");
        Ok(())
    })
    .await?;
    sets.delete(PROBE, &DeleteParams::default()).await?;
    eventually(PATIENCE, || async {
        ensure!(pods.get_opt(&format!("{PROBE}-0")).await?.is_none(), "the pod of a StatefulSet that was deleted is still there");
        Ok(())
    })
    .await
}
