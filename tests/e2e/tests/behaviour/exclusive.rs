//! One group to a domain: who gets which, who waits, and that nothing but node selectors says so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use muster_cluster::{Cluster, POOL, eventually};
use muster_e2e::{
    PATIENCE, Set, Site, await_condition, await_groups, await_ready, condition, domains, get, leaders, objects_of, pods,
    unschedulable,
};
use serde_json::{Value, json};

fn selector(pod: &Pod, key: &str) -> Option<String> {
    pod.spec.as_ref()?.node_selector.as_ref()?.get(key).cloned()
}

/// Each group has all its pods in one domain, no two groups share one; every pod says so itself, by node selector alone.
async fn each_group_alone(site: &Site, set: &str, key: &str, groups: usize) -> Result<()> {
    let domains = domains(site, set, key).await?;
    let single: BTreeSet<&String> = domains.values().filter(|domains| domains.len() == 1).flatten().collect();
    ensure!(single.len() == groups && domains.len() == groups, "groups are in {domains:?}");
    for (name, pod) in pods(site, set).await? {
        let group = &pod.metadata.labels.as_ref().context("no labels")?["leaderworkerset.sigs.k8s.io/group-index"];
        let selected = selector(&pod, key);
        ensure!(selected.as_ref() == domains[group].first(), "{name} is in {:?} and selects {selected:?}", domains[group]);
        let affinity = pod.spec.and_then(|spec| spec.affinity);
        ensure!(affinity.is_none(), "{name} has affinity: {affinity:?}");
    }
    Ok(())
}

#[tokio::test]
async fn each_group_is_alone_in_a_domain_without_any_policy() -> Result<()> {
    let mut site = Site::new("native").await?;
    for pool in ["a", "b", "c"] {
        site.pool(pool, 2).await?;
    }
    let key = site.key().to_owned();
    // Two groups of two pods with 4 GPUs would fit into one domain of two nodes.
    site.apply(&Set::new("vllm").groups(2, 2).on(&site, 4).exclusive(&key).manifest()).await?;
    let set = await_ready(&site, "vllm").await?;
    each_group_alone(&site, "vllm", &key, 2).await?;
    let pending = condition(&set, "PlacementPending").context("no PlacementPending")?;
    assert_eq!((pending.status.as_str(), pending.message.as_str()), ("False", "No group waits for placement"));
    let leader = &leaders(&site, "vllm").await?["vllm-0"];
    let record: Value =
        serde_json::from_str(&leader.metadata.annotations.as_ref().context("no annotations")?["muster.dev/placement"])?;
    assert_eq!(
        (record["by"].as_str(), record["level"].as_str(), record["exclusive"].as_bool()),
        (Some("exclusive"), Some(key.as_str()), Some(true))
    );
    Ok(())
}

#[tokio::test]
async fn each_group_is_alone_in_the_pool_that_the_component_chose() -> Result<()> {
    let mut site = Site::new("component").await?;
    // Best fit is the pool that the group fills: b and c, not a.
    site.pool("a", 3).await?;
    site.pool("b", 2).await?;
    site.pool("c", 2).await?;
    let set = Set::new("vllm").groups(2, 2).on(&site, 8).exclusive(POOL).annotated("muster.dev/placement-policy", "node-pool");
    site.apply(&set.manifest()).await?;
    await_ready(&site, "vllm").await?;
    each_group_alone(&site, "vllm", POOL, 2).await?;
    let chosen: BTreeSet<String> = domains(&site, "vllm", POOL).await?.into_values().flatten().collect();
    assert_eq!(chosen, ["b", "c"].map(|pool| format!("{}-{pool}", site.name())).into());
    let leader = &leaders(&site, "vllm").await?["vllm-0"];
    let record: Value =
        serde_json::from_str(&leader.metadata.annotations.as_ref().context("no annotations")?["muster.dev/placement"])?;
    assert_eq!(record["by"], "node-pool");
    eventually(PATIENCE, || site.has_event("vllm", "GroupPlaced")).await
}

#[tokio::test]
async fn workers_that_come_later_find_their_room_kept() -> Result<()> {
    let mut site = Site::new("later").await?;
    site.pool("only", 2).await?;
    let key = site.key().to_owned();
    // Shared domains and no exclusivity: only the ledger keeps the second set out while the first one's workers don't exist.
    let first = Set::new("first").groups(1, 2).on(&site, 8).exclusive(&key).with(&json!({ "spec": {
        "startupPolicy": "LeaderReady", "leaderWorkerTemplate": { "leaderTemplate": { "spec": {
            "schedulingGates": [{ "name": "example.com/held-back" }],
            "tolerations": [{ "key": muster_e2e::TAINT, "operator": "Exists" }],
            "containers": [{ "name": "main", "image": "example.com/main:1" }] } } } } }));
    site.apply(&first.manifest()).await?;
    eventually(PATIENCE, || async {
        let leader = leaders(&site, "first").await?.remove("first-0").context("no leader")?;
        ensure!(selector(&leader, &key).as_deref() == Some("only"), "not placed");
        Ok(())
    })
    .await?;
    site.apply(
        &Set::new("second").groups(1, 2).on(&site, 8).exclusive(&key).annotated("muster.dev/unplaceable", "Hold").manifest(),
    )
    .await?;
    let told = await_condition(&site, "second", "PlacementPending", "True").await?;
    assert!(told.message.contains(&format!("only: held by {}/first group 0", site.name())), "{}", told.message);
    Ok(())
}

#[tokio::test]
async fn the_last_domain_goes_to_one_of_two_sets_and_then_to_the_other() -> Result<()> {
    let mut site = Site::new("race").await?;
    site.pool("only", 2).await?;
    let key = site.key().to_owned();
    let both: Vec<Value> = ["left", "right"]
        .map(|name| {
            Set::new(name).groups(1, 2).on(&site, 8).exclusive(&key).annotated("muster.dev/unplaceable", "Hold").object().clone()
        })
        .into();
    site.apply(&json!({ "apiVersion": "v1", "kind": "List", "items": both }).to_string()).await?;

    let (winner, loser) = eventually(PATIENCE, || async {
        let mut ready = Vec::new();
        for name in ["left", "right"] {
            if condition(&get(&site, name).await?, "Available").is_some_and(|found| found.status == "True") {
                ready.push(name);
            }
        }
        match ready.as_slice() {
            ["left"] => Ok(("left", "right")),
            ["right"] => Ok(("right", "left")),
            _ => anyhow::bail!("{ready:?} are ready"),
        }
    })
    .await?;
    let told = await_condition(&site, loser, "PlacementPending", "True").await?;
    let reason = format!("only: held by {}/{winner} group 0", site.name());
    assert!(told.message.starts_with("1 of 1 groups wait for placement; group 0: no domain of "), "{}", told.message);
    assert!(told.message.contains(&reason), "{}", told.message);
    assert_eq!(pods(&site, loser).await?.into_keys().collect::<Vec<_>>(), [format!("{loser}-0")]);
    eventually(PATIENCE, || site.has_event(loser, "PlacementPending")).await?;

    site.kubectl(&["delete", "leaderworkerset", winner]).await?;
    await_ready(&site, loser).await?;
    each_group_alone(&site, loser, &key, 1).await
}

#[tokio::test]
async fn a_group_that_fits_nowhere_holds_nothing() -> Result<()> {
    let mut site = Site::new("nowhere").await?;
    site.pool("small", 1).await?;
    site.pool("two", 2).await?;
    let key = site.key().to_owned();
    let set = |name: &str, size: i32| {
        Set::new(name).groups(1, size).on(&site, 8).exclusive(&key).annotated("muster.dev/unplaceable", "Hold")
    };
    site.apply(&set("large", 3).manifest()).await?;
    let told = await_condition(&site, "large", "PlacementPending", "True").await?;
    let group = format!("no domain of {key} fits the group (3 pods: 3 × {{nvidia.com/gpu: 8}})");
    let reasons = "small: room for 1 of 3 pods; two: room for 2 of 3 pods";
    assert!(told.message.contains(&format!("{group}: {reasons}")), "{}", told.message);

    // What it can't use, another set can.
    site.apply(&set("fitting", 2).manifest()).await?;
    await_ready(&site, "fitting").await?;
    // Longer than the grace after which `Scheduler` would have let the leader go.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let pods = pods(&site, "large").await?;
    assert_eq!(pods.keys().collect::<Vec<_>>(), ["large-0"]);
    let spec = serde_json::to_value(&pods["large-0"].spec)?;
    assert_eq!(spec["schedulingGates"], json!([{ "name": "muster.dev/placement" }]));
    assert_eq!((&spec["nodeName"], &spec["nodeSelector"]), (&Value::Null, &Value::Null));
    let sets: BTreeSet<String> = objects_of(&site, "statefulset").await?;
    assert_eq!(sets, ["large", "fitting", "fitting-0"].map(str::to_owned).into());
    Ok(())
}

#[tokio::test]
async fn groups_that_fit_are_placed_while_the_others_wait() -> Result<()> {
    let mut site = Site::new("partly").await?;
    site.pool("a", 2).await?;
    let key = site.key().to_owned();
    let set = Set::new("vllm").groups(1, 2).on(&site, 8).exclusive(&key).annotated("muster.dev/unplaceable", "Hold");
    site.apply(&set.manifest()).await?;
    await_ready(&site, "vllm").await?;
    site.kubectl(&["scale", "leaderworkerset", "vllm", "--replicas=2"]).await?;
    let told = await_condition(&site, "vllm", "PlacementPending", "True").await?;
    assert!(told.message.starts_with("1 of 2 groups wait for placement; group 1: "), "{}", told.message);
    assert!(told.message.contains(&format!("a: held by {}/vllm group 0", site.name())), "{}", told.message);
    await_groups(&site, "vllm", 1).await?;
    // A new pool is all that it takes.
    site.pool("b", 2).await?;
    await_ready(&site, "vllm").await?;
    each_group_alone(&site, "vllm", &key, 2).await?;
    await_condition(&site, "vllm", "PlacementPending", "False").await.map(drop)
}

#[tokio::test]
async fn an_exclusive_group_keeps_out_of_a_domain_where_another_set_of_its_namespace_runs() -> Result<()> {
    let mut site = Site::new("mixed").await?;
    site.pool("a", 2).await?;
    let key = site.key().to_owned();
    site.apply(&Set::new("plain").groups(1, 2).on(&site, 1).manifest()).await?;
    await_ready(&site, "plain").await?;
    site.apply(
        &Set::new("alone").groups(1, 2).on(&site, 1).exclusive(&key).annotated("muster.dev/unplaceable", "Hold").manifest(),
    )
    .await?;
    let told = await_condition(&site, "alone", "PlacementPending", "True").await?;
    assert!(told.message.contains(&format!("a: held by {}/plain group 0", site.name())), "{}", told.message);
    Ok(())
}

#[tokio::test]
async fn two_namespaces_may_share_a_domain() -> Result<()> {
    let mut site = Site::new("here").await?;
    site.pool("shared", 2).await?;
    let there = Cluster::shared().await.namespace("there").await?;
    let key = site.key().to_owned();
    let manifest = Set::new("vllm").groups(1, 2).on(&site, 2).exclusive(&key).manifest();
    site.apply(&manifest).await?;
    there.apply(&manifest).await?;
    let only: BTreeMap<String, BTreeSet<String>> = [("0".to_owned(), BTreeSet::from(["shared".to_owned()]))].into();
    await_ready(&site, "vllm").await?;
    assert_eq!(domains(&site, "vllm", &key).await?, only);
    await_ready(&there, "vllm").await?;
    assert_eq!(domains(&there, "vllm", &key).await?, only);
    Ok(())
}

#[tokio::test]
async fn a_set_that_asks_for_nothing_keeps_out_of_an_exclusive_domain_with_room_to_spare() -> Result<()> {
    let mut site = Site::new("spare").await?;
    site.pool("a", 2).await?;
    let key = site.key().to_owned();
    site.apply(&Set::new("alone").groups(1, 2).on(&site, 4).exclusive(&key).manifest()).await?;
    await_ready(&site, "alone").await?;
    each_group_alone(&site, "alone", &key, 1).await?;

    // Nodes of other tests may be open to it.
    let here =
        json!({ "spec": { "leaderWorkerTemplate": { "workerTemplate": { "spec": { "nodeSelector": { (&key): "a" } } } } } });
    let plain = Set::new("plain").groups(1, 2).on(&site, 1).with(&here).manifest();
    site.apply(&plain).await?;
    let term = json!({
        "labelSelector": { "matchExpressions": [
            { "key": "leaderworkerset.sigs.k8s.io/name", "operator": "In", "values": ["alone"] },
            { "key": "leaderworkerset.sigs.k8s.io/group-key", "operator": "Exists" },
        ] },
        "topologyKey": key,
    });
    let only = json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [term] } });
    eventually(PATIENCE, || async {
        let pods = pods(&site, "plain").await?;
        ensure!(pods.len() == 2 && pods.values().all(unschedulable), "{pods:#?}");
        for (name, pod) in pods {
            let affinity = serde_json::to_value(pod.spec.and_then(|spec| spec.affinity))?;
            ensure!(affinity == only, "{name}: {affinity:#}");
        }
        Ok(())
    })
    .await?;
    // It is the namespace that is kept out: another one's groups may come.
    let there = Cluster::shared().await.namespace("spare-there").await?;
    there.apply(&plain).await?;
    await_ready(&there, "plain").await?;

    site.kubectl(&["delete", "leaderworkerset", "alone"]).await?;
    await_ready(&site, "plain").await.map(drop)
}
