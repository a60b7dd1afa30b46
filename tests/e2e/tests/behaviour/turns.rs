//! Who gets room that becomes free when several sets wait for it.

use std::time::{Duration, Instant};

use muster_cluster::{Cluster, Namespace};
use muster_e2e::{Set, Site, await_condition, await_ready, leaders};
use serde_json::json;

/// Creation times have whole seconds: what comes after this is younger.
async fn next_second() {
    let now = Instant::now();
    while now.elapsed() < Duration::from_millis(1100) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_pool_that_becomes_free_goes_to_the_more_important_set_and_then_to_the_older_in_any_namespace() {
    let mut site = Site::new("turns").await.unwrap();
    site.pool("a", 2).await.unwrap();
    let cluster = Cluster::shared().await;
    let elsewhere = cluster.namespace("turns").await.unwrap();
    let class = json!({
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": { "name": site.name() },
        "value": 1000,
    });
    cluster.kubectl_with(&["apply", "-f", "-"], &class.to_string()).await.unwrap();
    let set =
        |name: &str| Set::new(name).groups(1, 2).on(&site, 8).exclusive(site.key()).annotated("muster.dev/unplaceable", "Hold");
    site.apply(&set("first").manifest()).await.unwrap();
    await_ready(&site, "first").await.unwrap();

    let urgency =
        json!({ "spec": { "leaderWorkerTemplate": { "workerTemplate": { "spec": { "priorityClassName": site.name() } } } } });
    let waiting: [(&Namespace, &str, Set); 3] = [
        (&elsewhere, "older", set("older")),
        (&site, "younger", set("younger")),
        (&elsewhere, "urgent", set("urgent").with(&urgency)),
    ];
    for (namespace, name, set) in waiting {
        namespace.apply(&set.manifest()).await.unwrap();
        await_condition(namespace, name, "PlacementPending", "True").await.unwrap();
        next_second().await;
    }

    let mut queue: Vec<(&Namespace, &str)> =
        vec![(&site, "first"), (&elsewhere, "urgent"), (&elsewhere, "older"), (&site, "younger")];
    while queue.len() > 1 {
        let (namespace, gone) = queue.remove(0);
        namespace.kubectl(&["delete", "leaderworkerset", gone]).await.unwrap();
        await_ready(queue[0].0, queue[0].1).await.unwrap();
        for (namespace, waiting) in &queue[1..] {
            let unbound =
                |leader: &k8s_openapi::api::core::v1::Pod| leader.spec.as_ref().is_some_and(|spec| spec.node_name.is_none());
            assert!(leaders(namespace, waiting).await.unwrap().values().all(unbound), "{waiting} is placed before {queue:?}");
        }
    }
    cluster.kubectl(&["delete", "priorityclass", site.name()]).await.unwrap();
}
