//! Gang scheduling by Volcano: the PodGroups that upstream writes, with Volcano's CRD and without its scheduler.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

mod absent;
mod objects;
mod takeover;

use std::path::Path;

use anyhow::{Context, Result};
use kube::Api;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use muster_cluster::{Cluster, Namespace, Setup};
use serde_json::json;
use tokio::sync::OnceCell;

static INSTALLED: OnceCell<()> = OnceCell::const_new();

/// The cluster, its operator with Volcano's gangs, as it is before anybody has installed Volcano.
async fn bare_cluster() -> &'static Cluster {
    let values = json!({ "gangSchedulingManagement": { "schedulerProvider": "volcano" } });
    Cluster::shared_as(|| Setup { values, ..Setup::default() }).await
}

/// The cluster with Volcano's CRD, which is installed while sets are waiting for it. What stops the operator comes before all else.
async fn cluster() -> &'static Cluster {
    let first = || async {
        absent::sets_wait_for_volcano().await.unwrap();
        takeover::pod_groups_of_upstream_are_kept().await.unwrap();
    };
    INSTALLED.get_or_init(first).await;
    bare_cluster().await
}

async fn install_crd() -> Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/volcano/podgroups.yaml");
    let manifest = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let cluster = bare_cluster().await;
    cluster.kubectl_with(&["apply", "-f", "-"], &manifest).await?;
    let crd = "crd/podgroups.scheduling.volcano.sh";
    cluster.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", crd]).await.map(drop)
}

/// Volcano's PodGroups of a namespace.
fn pod_groups(namespace: &Namespace) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("scheduling.volcano.sh", "v1beta1", "PodGroup");
    Api::namespaced_with(namespace.client(), namespace.name(), &ApiResource::from_gvk(&kind))
}
