//! Upstream's terms on placed pods: what they are, whom they keep out, and that groups still get to their places.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use muster_cluster::{Cluster, GPU, Setup, eventually};
use muster_e2e::{
    PATIENCE, Set, Site, TAINT, await_condition, await_ready, await_unschedulable, domains, leaders, pods, unschedulable,
};
use serde_json::{Value, json};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const GROUP_KEY: &str = "leaderworkerset.sigs.k8s.io/group-key";
const SUBGROUP_KEY: &str = "leaderworkerset.sigs.k8s.io/subgroup-key";

/// A corner of a cluster whose operator guards domains.
async fn site(prefix: &str) -> Result<Site> {
    let values = json!({ "placement": { "guard": "Affinity" } });
    Cluster::shared_as(|| Setup { values, ..Setup::default() }).await;
    Site::new(prefix).await
}

fn affinity(pod: &Pod) -> Result<Value> {
    Ok(serde_json::to_value(pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()))?)
}

/// Upstream's terms of one kind for the labels of this pod: node label, and pod label.
fn terms(pod: &Pod, kinds: &[(&str, &str)]) -> Value {
    let value = |key: &str| pod.metadata.labels.as_ref().and_then(|labels| labels.get(key));
    let term =
        |level: &str, expressions: Value| json!({ "labelSelector": { "matchExpressions": expressions }, "topologyKey": level });
    let with = kinds.iter().map(|(level, key)| term(level, json!([{ "key": key, "operator": "In", "values": [value(key)] }])));
    let away = kinds.iter().map(|(level, key)| {
        term(level, json!([{ "key": key, "operator": "Exists" }, { "key": key, "operator": "NotIn", "values": [value(key)] }]))
    });
    json!({
        "podAffinity": { REQUIRED: with.collect::<Vec<_>>() },
        "podAntiAffinity": { REQUIRED: away.collect::<Vec<_>>() },
    })
}

#[tokio::test]
async fn leaders_carry_upstreams_terms_and_no_group_of_anybodys_enters_their_domains() -> Result<()> {
    let mut site = site("groups").await?;
    site.pool("a", 2).await?;
    site.pool("b", 2).await?;
    let key = site.key().to_owned();
    site.apply(&Set::new("vllm").groups(2, 2).on(&site, 4).exclusive(&key).manifest()).await?;
    await_ready(&site, "vllm").await?;
    let taken: BTreeSet<_> = domains(&site, "vllm", &key).await?.into_values().collect();
    assert_eq!(taken, [["a".to_owned()].into(), ["b".to_owned()].into()].into(), "each group is alone in a pool");
    for (name, pod) in pods(&site, "vllm").await? {
        let leader = !name.ends_with("-1") || name == "vllm-1";
        let expected = if leader { terms(&pod, &[(&key, GROUP_KEY)]) } else { Value::Null };
        assert_eq!(affinity(&pod)?, expected, "{name}");
    }
    // A group that Muster has not admitted, and so has no terms of its own.
    let stranger = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "stranger", "labels": { GROUP_KEY: "another" } },
        "spec": {
            "tolerations": [{ "key": TAINT, "value": site.name(), "effect": "NoSchedule" }],
            "containers": [{ "name": "main", "image": "example.com/main:1", "resources": { "limits": { GPU: "1" } } }],
        },
    });
    site.apply(&stranger.to_string()).await?;
    eventually(PATIENCE, || async {
        let pod = site.api::<Pod>().get("stranger").await?;
        ensure!(unschedulable(&pod), "{:?}", pod.status);
        Ok(())
    })
    .await?;
    site.kubectl(&["delete", "leaderworkerset", "vllm"]).await?;
    eventually(PATIENCE, || async {
        let pod = site.api::<Pod>().get("stranger").await?;
        pod.spec.and_then(|spec| spec.node_name).context("is not bound").map(drop)
    })
    .await
}

#[tokio::test]
async fn every_pod_of_an_exclusive_subgroup_carries_upstreams_terms() -> Result<()> {
    let mut site = site("subgroups").await?;
    site.racks("a", &[("a1", 2), ("a2", 2)]).await?;
    let (key, rack) = (site.key().to_owned(), site.rack_key());
    let set = Set::new("vllm").groups(1, 4).subgroups(2).on(&site, 8).exclusive(&key).subgroup_exclusive(&rack);
    site.apply(&set.manifest()).await?;
    await_ready(&site, "vllm").await?;
    let racks: BTreeSet<_> = domains(&site, "vllm", &rack).await?.into_values().flatten().collect();
    assert_eq!(racks, ["a1".to_owned(), "a2".to_owned()].into());
    for (name, pod) in pods(&site, "vllm").await? {
        let both: &[(&str, &str)] = &[(&key, GROUP_KEY), (&rack, SUBGROUP_KEY)];
        let kinds = if name == "vllm-0" { both } else { &both[1..] };
        assert_eq!(affinity(&pod)?, terms(&pod, kinds), "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn a_leader_that_is_left_to_the_scheduler_keeps_its_terms_and_gets_a_new_pool() -> Result<()> {
    let mut site = site("released").await?;
    site.pool("small", 1).await?;
    let key = site.key().to_owned();
    site.apply(&Set::new("vllm").groups(1, 2).on(&site, 8).exclusive(&key).manifest()).await?;
    let leader = await_unschedulable(&site, "vllm", "vllm-0").await?;
    let mut expected = terms(&leader, &[(&key, GROUP_KEY)]);
    let nodes = [json!({ "key": key, "operator": "Exists" }), json!({ "key": key, "operator": "NotIn", "values": ["small"] })];
    expected["nodeAffinity"] = json!({ REQUIRED: { "nodeSelectorTerms": [{ "matchExpressions": nodes }] } });
    assert_eq!(affinity(&leader)?, expected);

    site.pool("new", 2).await?;
    await_ready(&site, "vllm").await?;
    assert_eq!(domains(&site, "vllm", &key).await?, [("0".to_owned(), ["new".to_owned()].into())].into());
    await_condition(&site, "vllm", "PlacementPending", "False").await.map(drop)
}

#[tokio::test]
async fn a_group_that_starts_over_comes_back() -> Result<()> {
    let mut site = site("again").await?;
    site.pool("a", 2).await?;
    let key = site.key().to_owned();
    let restart = json!({ "spec": { "leaderWorkerTemplate": { "restartPolicy": "RecreateGroupOnPodRestart" } } });
    site.apply(&Set::new("vllm").groups(1, 2).on(&site, 8).exclusive(&key).with(&restart).manifest()).await?;
    await_ready(&site, "vllm").await?;
    let before = leaders(&site, "vllm").await?["vllm-0"].metadata.uid.clone();
    site.kubectl(&["delete", "pod", "vllm-0-1"]).await?;
    eventually(PATIENCE, || async {
        let leader = leaders(&site, "vllm").await?.remove("vllm-0").context("no leader")?;
        ensure!(leader.metadata.uid != before, "it is the leader that was there before");
        Ok(())
    })
    .await?;
    await_ready(&site, "vllm").await.map(drop)
}
