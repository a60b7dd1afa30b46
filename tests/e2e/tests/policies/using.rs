//! Who uses which policy: annotations of sets and namespaces, selectors, and policies that are not there yet.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use muster_api::conditions::PLACEMENT_PENDING;
use muster_cluster::{Cluster, eventually};
use muster_e2e::{PATIENCE, Policy, RECORD, Set, Site, await_condition, await_ready, decider, domains, leaders, pods};
use muster_guests::{Guest, all_into};
use serde_json::json;

use crate::support::{await_event, is_gated, mark, node_pool, store};

const CHOICE: &str = "muster.dev/placement-policy";

/// Pools `a` and `b` of two nodes.
async fn site(prefix: &str) -> Site {
    let mut site = Site::new(prefix).await.unwrap();
    site.pool("a", 2).await.unwrap();
    site.pool("b", 2).await.unwrap();
    site
}

#[tokio::test]
async fn a_set_waits_for_a_policy_that_does_not_exist_and_needs_nothing_else_once_it_does() {
    let site = site("absent").await;
    let set = Set::new("early").groups(2, 2).on(&site, 8).annotated(CHOICE, site.name());
    site.apply(&set.manifest()).await.unwrap();
    let pending = await_condition(&site, "early", PLACEMENT_PENDING, "True").await.unwrap();
    assert_eq!(pending.reason, "PolicyNotFound");
    let expected =
        format!("there is no PlacementPolicy \"{}\"; create it, or name another one in the annotation {CHOICE}", site.name());
    assert!(pending.message.ends_with(&expected), "{}", pending.message);
    assert!(leaders(&site, "early").await.unwrap().values().all(is_gated));
    let policy = Policy::create(&site, &node_pool(site.key())).await.unwrap();
    await_ready(&site, "early").await.unwrap();
    assert_eq!(decider(&site, "early-0").await.unwrap(), policy.name);
    await_condition(&site, "early", PLACEMENT_PENDING, "False").await.unwrap();
}

#[tokio::test]
async fn workers_wait_for_a_startup_policy_that_does_not_exist_and_need_nothing_else_once_it_does() {
    let site = site("absent-startup").await;
    let set = Set::new("early").groups(1, 2).on(&site, 8).annotated("muster.dev/startup-policy", site.name());
    site.apply(&set.manifest()).await.unwrap();
    await_event(&site, "early", "PolicyFailed", &["PolicyNotFound", site.name()]).await.unwrap();
    eventually(PATIENCE, || async {
        let pods = pods(&site, "early").await?;
        anyhow::ensure!(pods.get("early-0").is_some_and(muster_cluster::is_ready), "the leader is not ready");
        anyhow::ensure!(pods.len() == 1, "there are workers: {:?}", pods.keys());
        Ok(())
    })
    .await
    .unwrap();
    let policy = json!({
        "apiVersion": "policy.muster.dev/v1alpha1",
        "kind": "StartupPolicy",
        "metadata": { "name": site.name() },
        "spec": { "source": { "builtIn": "leader-ready" } },
    });
    let cluster = Cluster::shared().await;
    cluster.kubectl_with(&["apply", "-f", "-"], &policy.to_string()).await.unwrap();
    let ready = await_ready(&site, "early").await;
    cluster.kubectl(&["delete", "startuppolicy", site.name()]).await.unwrap();
    ready.unwrap();
}

#[tokio::test]
async fn an_observed_policy_says_what_it_would_have_done_and_the_native_rule_decides() {
    let site = site("observe").await;
    // The native rule takes the first free pool for the first group; the policy would take the other one.
    let component = Guest { place: &all_into(1), level: site.key(), ..Guest::default() }.component();
    let source = store(&site, "watcher", component).await.unwrap();
    let policy = Policy::create(&site, &json!({ "source": source, "mode": "Observe" })).await.unwrap();
    policy.await_ready("True").await.unwrap();
    let set = Set::new("seen").groups(1, 2).on(&site, 8).exclusive(site.key()).annotated(CHOICE, &policy.name);
    site.apply(&set.manifest()).await.unwrap();
    await_ready(&site, "seen").await.unwrap();
    assert_eq!(decider(&site, "seen-0").await.unwrap(), "exclusive");
    assert_eq!(domains(&site, "seen", site.key()).await.unwrap()["0"], ["a".to_owned()].into());
    let would = format!("{}=b", site.key());
    await_event(&site, "seen", "PolicyObserved", &[&policy.name, "group 0", &would]).await.unwrap();
}

#[tokio::test]
async fn a_policy_that_is_not_for_a_namespace_holds_its_sets_until_it_is() {
    let site = site("selector").await;
    let mut spec = node_pool(site.key());
    spec["namespaceSelector"] = json!({ "matchLabels": { "team": "ml" } });
    let policy = Policy::create(&site, &spec).await.unwrap();
    policy.await_ready("True").await.unwrap();
    let set = Set::new("outside").groups(1, 2).on(&site, 8).annotated(CHOICE, &policy.name);
    site.apply(&set.manifest()).await.unwrap();
    let pending = await_condition(&site, "outside", PLACEMENT_PENDING, "True").await.unwrap();
    assert_eq!(pending.reason, "PolicyNotAllowed");
    assert!(
        pending.message.contains("its spec.namespaceSelector does not match; change the namespace's labels"),
        "{}",
        pending.message
    );
    mark(&site, &json!({ "labels": { "team": "ml" } })).await.unwrap();
    await_ready(&site, "outside").await.unwrap();
    assert_eq!(decider(&site, "outside-0").await.unwrap(), policy.name);
}

#[tokio::test]
async fn a_namespace_chooses_for_its_sets_and_a_set_can_opt_out() {
    let site = site("namespace").await;
    let policy = Policy::create(&site, &node_pool(site.key())).await.unwrap();
    policy.await_ready("True").await.unwrap();
    mark(&site, &json!({ "annotations": { CHOICE: policy.name } })).await.unwrap();
    site.apply(&Set::new("follows").groups(1, 2).on(&site, 8).manifest()).await.unwrap();
    await_ready(&site, "follows").await.unwrap();
    assert_eq!(decider(&site, "follows-0").await.unwrap(), policy.name);

    site.apply(&Set::new("free").groups(1, 1).on(&site, 8).annotated(CHOICE, "none").manifest()).await.unwrap();
    await_ready(&site, "free").await.unwrap();
    let leader = site.api::<Pod>().get("free-0").await.unwrap();
    assert!(!leader.annotations().contains_key(RECORD), "{:?}", leader.annotations());
    let selector = leader.spec.and_then(|spec| spec.node_selector);
    assert_eq!(selector, None);
}
