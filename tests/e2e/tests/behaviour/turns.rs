//! Who gets room that becomes free when several sets wait for it.

use muster_cluster::{Cluster, eventually};
use muster_e2e::{PATIENCE, Set, Site, await_condition, await_ready, leaders};
use serde_json::json;

#[tokio::test]
async fn a_pool_that_becomes_free_goes_to_the_more_important_set_and_then_to_the_older() {
    let mut site = Site::new("turns").await.unwrap();
    site.pool("a", 2).await.unwrap();
    let class = json!({
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": { "name": site.name() },
        "value": 1000,
    });
    let cluster = Cluster::shared().await;
    cluster.kubectl_with(&["apply", "-f", "-"], &class.to_string()).await.unwrap();
    let set =
        |name: &str| Set::new(name).groups(1, 2).on(&site, 8).exclusive(site.key()).annotated("muster.dev/unplaceable", "Hold");
    site.apply(&set("first").manifest()).await.unwrap();
    await_ready(&site, "first").await.unwrap();
    let template = |template: &str| json!({ "spec": { "leaderWorkerTemplate": { template: { "spec": { "priorityClassName": site.name() } } } } });
    for name in ["older", "younger"] {
        site.apply(&set(name).manifest()).await.unwrap();
        await_condition(&site, name, "PlacementPending", "True").await.unwrap();
        // Creation times have whole seconds.
        let created = std::time::Instant::now();
        eventually(PATIENCE, || async {
            anyhow::ensure!(created.elapsed() > std::time::Duration::from_millis(1100), "it is the same second");
            Ok(())
        })
        .await
        .unwrap();
    }
    site.apply(&set("urgent").with(&template("workerTemplate")).manifest()).await.unwrap();
    await_condition(&site, "urgent", "PlacementPending", "True").await.unwrap();
    let mut left = vec!["first", "urgent", "older", "younger"];
    while left.len() > 1 {
        let gone = left.remove(0);
        site.kubectl(&["delete", "leaderworkerset", gone]).await.unwrap();
        await_ready(&site, left[0]).await.unwrap();
        for waiting in &left[1..] {
            let gated = leaders(&site, waiting).await.unwrap();
            assert!(gated.values().all(|leader| leader.spec.as_ref().is_some_and(|spec| spec.node_name.is_none())), "{waiting}");
        }
    }
    cluster.kubectl(&["delete", "priorityclass", site.name()]).await.unwrap();
}
