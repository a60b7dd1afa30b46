//! Subgroups: who belongs to which, and one to a domain, alone or inside the domain of their group.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, ResourceExt};
use muster_api::names::{Unplaceable, annotation, label};
use muster_cluster::{Cluster, eventually};
use muster_e2e::{PATIENCE, Set, Site, await_condition, await_groups, await_ready, domains, leaders, pods};
use serde_json::{Value, json};

fn selector(pod: &Pod, key: &str) -> Option<String> {
    pod.spec.as_ref()?.node_selector.as_ref()?.get(key).cloned()
}

/// By subgroup key: the racks that its pods are bound in. Every pod of a subgroup selects its rack, and no pod has affinity.
async fn racks(site: &Site, set: &str) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let (nodes, key): (Api<Node>, String) = (Api::all(site.client()), site.rack_key());
    let mut racks: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, pod) in pods(site, set).await? {
        let spec = pod.spec.as_ref().context("no spec")?;
        let affinity = spec.affinity.as_ref().filter(|found| found.pod_affinity.is_some() || found.pod_anti_affinity.is_some());
        ensure!(affinity.is_none(), "{name} has affinity: {affinity:?}");
        let Some(subgroup) = pod.labels().get(label::SUBGROUP_KEY) else { continue };
        let node = spec.node_name.clone().with_context(|| format!("{name} is not bound"))?;
        let rack =
            nodes.get(&node).await?.labels().get(&key).cloned().with_context(|| format!("{name} is on {node}, in no rack"))?;
        ensure!(selector(&pod, &key).as_ref() == Some(&rack), "{name} is in {rack} and selects {:?}", selector(&pod, &key));
        racks.entry(subgroup.clone()).or_default().insert(rack);
    }
    Ok(racks)
}

/// Each of so many subgroups has all its pods in one rack, and no two share one.
async fn each_subgroup_alone(site: &Site, set: &str, subgroups: usize) -> Result<BTreeSet<String>> {
    let racks = racks(site, set).await?;
    let single: BTreeSet<String> = racks.values().filter(|racks| racks.len() == 1).flatten().cloned().collect();
    ensure!(single.len() == subgroups && racks.len() == subgroups, "subgroups are in {racks:?}");
    Ok(single)
}

/// A set whose subgroups want a rack each.
fn apart(site: &Site, name: &str, groups: i32, size: i32, part: i32) -> Set {
    Set::new(name).groups(groups, size).on(site, 8).subgroups(part).subgroup_exclusive(&site.rack_key())
}

fn record(leader: &Pod) -> Result<Value> {
    Ok(serde_json::from_str(leader.annotations().get(annotation::PLACEMENT).context("no record")?)?)
}

#[tokio::test]
async fn each_pod_is_labelled_with_its_subgroup() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("labels").await?;
    let set = |name: &str, size: i32, part: i32| Set::new(name).groups(1, size).subgroups(part);
    let sets = [set("even", 4, 2), set("extra", 5, 2), set("excluded", 5, 2).leader_excluded(), set("single", 3, 1)];
    let list: Vec<Value> = sets.iter().map(|set| set.object().clone()).collect();
    namespace.apply(&json!({ "apiVersion": "v1", "kind": "List", "items": list }).to_string()).await?;
    // By rank; a dash for none.
    for (name, expected) in [("even", "0 0 1 1"), ("extra", "0 0 0 1 1"), ("excluded", "- 0 0 1 1"), ("single", "0 1 2")] {
        await_ready(&namespace, name).await?;
        let pods = pods(&namespace, name).await?;
        let found: Vec<&str> =
            pods.values().map(|pod| pod.labels().get(label::SUBGROUP_INDEX).map_or("-", String::as_str)).collect();
        assert_eq!(found.join(" "), expected, "{name}");
        for (pod, index) in pods.iter().zip(found).filter(|(_, index)| *index != "-") {
            let key = muster_api::names::subgroup_key(&format!("{name}-0"), index.parse()?);
            assert_eq!(pod.1.labels().get(label::SUBGROUP_KEY), Some(&key), "{}", pod.0);
        }
    }
    // printf even-0/1 | sha1sum
    assert_eq!(muster_api::names::subgroup_key("even-0", 1), "ff29db326198d7536709f56ef5842aac6d9beb0c");
    Ok(())
}

#[tokio::test]
async fn each_subgroup_is_alone_in_a_domain_without_any_affinity() -> Result<()> {
    let mut site = Site::new("apart").await?;
    site.racks("p", &[("r1", 2), ("r2", 2), ("r3", 3), ("r4", 2), ("r5", 1)]).await?;
    site.apply(&apart(&site, "vllm", 2, 4, 2).manifest()).await?;
    await_ready(&site, "vllm").await?;
    let used = each_subgroup_alone(&site, "vllm", 4).await?;
    assert_eq!(used, ["r1", "r2", "r3", "r4"].map(str::to_owned).into());
    let leader = leaders(&site, "vllm").await?.remove("vllm-1").context("no leader")?;
    let record = record(&leader)?;
    assert_eq!((record["by"].as_str(), &record["level"]), (Some("exclusive"), &Value::Null));
    assert_eq!(record["subgroups"]["level"], json!(site.rack_key()));
    let mine = selector(&leader, &site.rack_key());
    assert_eq!(record["subgroups"]["domains"]["0"].as_str(), mine.as_deref());
    let told = site.kubectl(&["get", "statefulset", "vllm-1", "-o", "jsonpath={.spec.template.metadata.annotations}"]).await?;
    let told: Value = serde_json::from_str(&told)?;
    let other = record["subgroups"]["domains"]["1"].as_str().context("no second domain")?;
    assert_eq!(
        told["muster.dev/subgroup-domains"],
        json!(format!("{}=0:{},1:{other}", site.rack_key(), mine.unwrap_or_default()))
    );
    eventually(PATIENCE, || site.has_event("vllm", "GroupPlaced")).await
}

#[tokio::test]
async fn a_leader_that_is_one_member_more_gets_the_larger_domain() -> Result<()> {
    let mut site = Site::new("extra").await?;
    site.racks("p", &[("r1", 2), ("r2", 3)]).await?;
    site.apply(&apart(&site, "vllm", 1, 5, 2).manifest()).await?;
    await_ready(&site, "vllm").await?;
    each_subgroup_alone(&site, "vllm", 2).await?;
    assert_eq!(selector(&leaders(&site, "vllm").await?["vllm-0"], &site.rack_key()).as_deref(), Some("r2"));
    Ok(())
}

#[tokio::test]
async fn a_leader_that_is_excluded_gets_a_node_that_no_subgroup_needs() -> Result<()> {
    let mut site = Site::new("excluded").await?;
    site.racks("p", &[("r1", 2), ("r2", 2)]).await?;
    // Nodes of other tests would do for a leader too, so it is kept here.
    let here = json!([{ "matchExpressions": [{ "key": site.key(), "operator": "Exists" }] }]);
    let affinity = json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": here } } });
    let set = apart(&site, "vllm", 1, 5, 2).leader_excluded();
    let set =
        set.with(&json!({ "spec": { "leaderWorkerTemplate": { "workerTemplate": { "spec": { "affinity": affinity } } } } }));
    site.apply(&set.manifest()).await?;
    let told = await_condition(&site, "vllm", "PlacementPending", "True").await?;
    assert!(told.message.contains("and no node is left for its leader (1 pod: 1 × {nvidia.com/gpu: 8})"), "{}", told.message);
    site.pool("q", 1).await?;
    await_ready(&site, "vllm").await?;
    each_subgroup_alone(&site, "vllm", 2).await?;
    let leader = leaders(&site, "vllm").await?.remove("vllm-0").context("no leader")?;
    let node = format!("{}-q-0", site.name());
    assert_eq!((selector(&leader, "kubernetes.io/hostname"), selector(&leader, &site.rack_key())), (Some(node), None));

    // Where there is room beside a subgroup, that is where it goes.
    site.racks("s", &[("s1", 2), ("s2", 3)]).await?;
    site.kubectl(&["scale", "leaderworkerset", "vllm", "--replicas=2"]).await?;
    await_ready(&site, "vllm").await?;
    each_subgroup_alone(&site, "vllm", 4).await?;
    assert_eq!(selector(&leaders(&site, "vllm").await?["vllm-1"], &site.rack_key()).as_deref(), Some("s2"));
    Ok(())
}

#[tokio::test]
async fn subgroups_are_nested_in_the_domain_of_their_group() -> Result<()> {
    let mut site = Site::new("nested").await?;
    // Pool `wide` has the nodes but not the racks.
    site.racks("wide", &[("w1", 3), ("w2", 1)]).await?;
    site.racks("a", &[("a1", 2), ("a2", 2)]).await?;
    site.racks("b", &[("b1", 2), ("b2", 2), ("b3", 1)]).await?;
    let key = site.key().to_owned();
    let set = apart(&site, "vllm", 2, 4, 2).exclusive(&key).annotated("muster.dev/unplaceable", "Hold");
    site.apply(&set.manifest()).await?;
    await_ready(&site, "vllm").await?;
    let used = each_subgroup_alone(&site, "vllm", 4).await?;
    assert_eq!(used, ["a1", "a2", "b1", "b2"].map(str::to_owned).into());
    let groups: BTreeSet<BTreeSet<String>> = domains(&site, "vllm", &key).await?.into_values().collect();
    assert_eq!(groups, [["a".to_owned()].into(), ["b".to_owned()].into()].into());
    for (name, pod) in pods(&site, "vllm").await? {
        assert!(selector(&pod, &key).is_some() && selector(&pod, &site.rack_key()).is_some(), "{name}");
    }

    site.kubectl(&["scale", "leaderworkerset", "vllm", "--replicas=3"]).await?;
    let told = await_condition(&site, "vllm", "PlacementPending", "True").await?;
    let rack = site.rack_key();
    let why = format!(
        "wide: room for 1 of 2 subgroups, each in a {rack} of its own (w1: fits with room for 1 more; w2: room for 1 of 2 pods)"
    );
    assert!(told.message.contains(&why), "{}", told.message);
    assert!(told.message.contains(&format!("a: held by {}/vllm group ", site.name())), "{}", told.message);
    Ok(())
}

#[tokio::test]
async fn a_policy_chooses_the_groups_domain_and_the_core_seats_its_subgroups_inside() -> Result<()> {
    let mut site = Site::new("policy").await?;
    site.racks("wide", &[("w1", 4)]).await?;
    site.racks("a", &[("a1", 2), ("a2", 3)]).await?;
    let policy = json!({
        "apiVersion": "policy.muster.dev/v1alpha1",
        "kind": "PlacementPolicy",
        "metadata": { "name": site.name() },
        "spec": { "source": { "builtIn": "node-pool" }, "settings": { "keys": [site.key()] } },
    });
    Cluster::shared().await.kubectl_with(&["apply", "-f", "-"], &policy.to_string()).await?;
    let wait = ["wait", "--for=condition=Ready", "--timeout=60s", "placementpolicy", site.name()];
    Cluster::shared().await.kubectl(&wait).await?;
    let set = apart(&site, "vllm", 1, 4, 2).exclusive(site.key()).annotated("muster.dev/placement-policy", site.name());
    site.apply(&set.manifest()).await?;
    await_ready(&site, "vllm").await?;
    // The policy knows no subgroups and would rather take the pool that the group fills; there the second one has no rack.
    assert_eq!(each_subgroup_alone(&site, "vllm", 2).await?, ["a1", "a2"].map(str::to_owned).into());
    let events = site.events("vllm").await?;
    let told = |event: &String| event.contains("GroupPlaced") && event.contains("and this is the next choice");
    assert!(events.iter().any(told), "{events:#?}");

    site.racks("c", &[("c1", 2), ("c2", 2)]).await?;
    site.kubectl(&["scale", "leaderworkerset", "vllm", "--replicas=2"]).await?;
    await_ready(&site, "vllm").await?;
    each_subgroup_alone(&site, "vllm", 4).await?;
    Cluster::shared().await.kubectl(&["delete", "placementpolicy", site.name()]).await.map(drop)
}

#[tokio::test]
async fn the_last_domains_go_to_one_of_two_sets_and_then_to_the_other() -> Result<()> {
    let mut site = Site::new("contend").await?;
    site.racks("p", &[("r1", 2), ("r2", 2), ("r3", 2)]).await?;
    let both: Vec<Value> = ["left", "right"].map(|name| apart(&site, name, 1, 4, 2).object().clone()).into();
    site.apply(&json!({ "apiVersion": "v1", "kind": "List", "items": both }).to_string()).await?;
    let (winner, loser) = eventually(PATIENCE, || async {
        for (winner, loser) in [("left", "right"), ("right", "left")] {
            if await_now(&site, winner).await? {
                return Ok((winner, loser));
            }
        }
        anyhow::bail!("none is ready")
    })
    .await?;
    let told = await_condition(&site, loser, "PlacementPending", "True").await?;
    let rack = site.rack_key();
    let why = format!(
        "1 of the group's 2 subgroups finds a domain of {rack} of its own (the next has 2 pods: 2 × {{nvidia.com/gpu: 8}})"
    );
    assert!(told.message.contains(&why), "{}", told.message);
    assert!(told.message.contains(&format!("held by {}/{winner} group 0 subgroup 1", site.name())), "{}", told.message);
    // Nobody leaves it to the scheduler, whatever `muster.dev/unplaceable` says: its workers would not follow.
    assert_eq!(Unplaceable::default(), Unplaceable::Scheduler);
    let held = pods(&site, loser).await?;
    assert_eq!(held.keys().collect::<Vec<_>>(), [&format!("{loser}-0")]);
    let spec = serde_json::to_value(&held[&format!("{loser}-0")].spec)?;
    assert_eq!(spec["schedulingGates"], json!([{ "name": "muster.dev/placement" }]));
    site.kubectl(&["delete", "leaderworkerset", winner]).await?;
    await_ready(&site, loser).await?;
    each_subgroup_alone(&site, loser, 2).await.map(drop)
}

/// Whether all groups of a set are ready now.
async fn await_now(site: &Site, set: &str) -> Result<bool> {
    let found = muster_e2e::get(site, set).await?;
    Ok(muster_e2e::condition(&found, "Available").is_some_and(|condition| condition.status == "True"))
}

#[tokio::test]
async fn scaling_down_frees_the_domains_of_a_groups_subgroups() -> Result<()> {
    let mut site = Site::new("frees").await?;
    site.racks("p", &[("r1", 1), ("r2", 1), ("r3", 1), ("r4", 1)]).await?;
    site.apply(&apart(&site, "first", 2, 2, 1).manifest()).await?;
    await_ready(&site, "first").await?;
    site.apply(&apart(&site, "second", 1, 2, 1).manifest()).await?;
    await_condition(&site, "second", "PlacementPending", "True").await?;
    site.kubectl(&["scale", "leaderworkerset", "first", "--replicas=1"]).await?;
    await_ready(&site, "second").await?;
    let used = each_subgroup_alone(&site, "first", 2).await?;
    assert!(used.is_disjoint(&each_subgroup_alone(&site, "second", 2).await?));
    await_condition(&site, "second", "PlacementPending", "False").await.map(drop)
}

#[tokio::test]
async fn a_subgroup_keeps_away_from_subgroups_that_did_not_ask_for_domains() -> Result<()> {
    let mut site = Site::new("mixed").await?;
    site.racks("p", &[("r1", 2)]).await?;
    site.apply(&Set::new("plain").groups(1, 2).on(&site, 1).manifest()).await?;
    await_ready(&site, "plain").await?;
    // Groups without subgroups are no obstacle, in either direction.
    site.apply(&apart(&site, "vllm", 1, 1, 1).with(&json!({ "spec": { "leaderWorkerTemplate": { "workerTemplate": { "spec": {
        "containers": [{ "name": "main", "image": "example.com/main:1", "resources": { "limits": { "nvidia.com/gpu": "1" } } }] } } } } })).manifest())
        .await?;
    await_ready(&site, "vllm").await?;
    site.kubectl(&["delete", "leaderworkerset", "vllm"]).await?;
    site.apply(&Set::new("divided").groups(1, 2).on(&site, 1).subgroups(2).manifest()).await?;
    await_ready(&site, "divided").await?;
    site.apply(&apart(&site, "late", 1, 2, 2).manifest()).await?;
    let told = await_condition(&site, "late", "PlacementPending", "True").await?;
    assert!(told.message.contains(&format!("r1: held by {}/divided group 0 subgroup 0", site.name())), "{}", told.message);
    Ok(())
}

#[tokio::test]
async fn the_same_label_for_groups_and_subgroups_is_called_a_contradiction() -> Result<()> {
    let mut site = Site::new("same").await?;
    site.racks("p", &[("r1", 2), ("r2", 2)]).await?;
    let rack = site.rack_key();
    site.apply(&apart(&site, "vllm", 1, 4, 2).exclusive(&rack).manifest()).await?;
    let told = await_condition(&site, "vllm", "PlacementPending", "True").await?;
    assert_eq!(told.reason, "SameTopology");
    let why = format!(
        "annotations exclusive-topology and subgroup-exclusive-topology both say {rack}, so all subgroups of a group would be in one {rack}"
    );
    assert!(told.message.contains(&why), "{}", told.message);
    // One subgroup to a group is no contradiction.
    site.apply(&apart(&site, "single", 1, 2, 2).exclusive(&rack).manifest()).await?;
    await_ready(&site, "single").await?;
    each_subgroup_alone(&site, "single", 1).await.map(drop)
}

#[tokio::test]
async fn an_autoscaler_brings_a_group_with_nested_subgroups_its_domain() -> Result<()> {
    let mut site = Site::new("autoscaled").await?;
    site.racks("small", &[("s1", 2)]).await?;
    let key = site.key().to_owned();
    site.apply(&apart(&site, "vllm", 1, 4, 2).exclusive(&key).manifest()).await?;
    eventually(PATIENCE, || async {
        let leader = leaders(&site, "vllm").await?.remove("vllm-0").context("no leader")?;
        let released = record(&leader)?["released"] == json!(true);
        ensure!(released, "not left to the scheduler");
        Ok(())
    })
    .await?;
    site.racks("new", &[("n1", 2), ("n2", 2)]).await?;
    await_ready(&site, "vllm").await?;
    assert_eq!(domains(&site, "vllm", &key).await?, [("0".to_owned(), ["new".to_owned()].into())].into());
    let subgroups: BTreeMap<String, BTreeSet<String>> = racks_bound(&site, "vllm").await?;
    let single: BTreeSet<&String> = subgroups.values().filter(|racks| racks.len() == 1).flatten().collect();
    assert_eq!(single.len(), 2, "{subgroups:?}");
    Ok(())
}

/// By subgroup key: the racks that its pods are bound in, however they came there.
async fn racks_bound(site: &Site, set: &str) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let (nodes, key): (Api<Node>, String) = (Api::all(site.client()), site.rack_key());
    let mut racks: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, pod) in pods(site, set).await? {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).with_context(|| format!("{name} is not bound"))?;
        let rack = nodes.get(&node).await?.labels().get(&key).cloned().context("no rack")?;
        racks.entry(pod.labels().get(label::SUBGROUP_KEY).cloned().unwrap_or_default()).or_default().insert(rack);
    }
    Ok(racks)
}

#[tokio::test]
async fn a_subgroup_whose_pod_can_not_be_scheduled_makes_its_group_move() -> Result<()> {
    let mut site = Site::new("stuck").await?;
    site.racks("p", &[("r1", 1), ("r2", 1), ("r3", 2)]).await?;
    // A port of the host is nothing that the index knows of. The subgroup of the worker goes to r2 first.
    let container =
        json!({ "name": "port", "image": "example.com/port:1", "ports": [{ "containerPort": 9100, "hostPort": 9100 }] });
    let mut occupant = muster_cluster::PodBuilder::new("occupant").on(&format!("{}-p-1", site.name())).build();
    occupant.spec.get_or_insert_default().containers.push(serde_json::from_value(container.clone())?);
    site.api::<Pod>().create(&kube::api::PostParams::default(), &occupant).await?;
    let set = apart(&site, "vllm", 1, 2, 1);
    let template = set.object()["spec"]["leaderWorkerTemplate"]["workerTemplate"].clone();
    let mut worker = template.clone();
    worker["spec"]["containers"].as_array_mut().context("no containers")?.push(container);
    let set = set.with(&json!({ "spec": { "leaderWorkerTemplate": { "leaderTemplate": template, "workerTemplate": worker } } }));
    site.apply(&set.manifest()).await?;
    await_ready(&site, "vllm").await?;
    assert_eq!(each_subgroup_alone(&site, "vllm", 2).await?, ["r1", "r3"].map(str::to_owned).into());
    eventually(PATIENCE, || site.has_event("vllm", "GroupPlacedAgain")).await
}

#[tokio::test]
async fn a_group_that_another_operator_has_placed_keeps_the_domains_its_pods_are_in() -> Result<()> {
    let mut site = Site::new("foreign").await?;
    site.racks("p", &[("r1", 2), ("r2", 2)]).await?;
    // What upstream leaves behind looks like this to Muster: pods with keys of subgroups and without any record.
    let bound = |name: &str, index: &str, node: usize| {
        let leader = name.rsplit_once('-').map_or("", |(leader, _)| leader);
        muster_cluster::PodBuilder::new(name)
            .label("leaderworkerset.sigs.k8s.io/group-key", &muster_api::names::group_key(site.name(), leader))
            .label("leaderworkerset.sigs.k8s.io/group-index", "0")
            .label(label::SUBGROUP_INDEX, index)
            .label(label::SUBGROUP_KEY, &muster_api::names::subgroup_key(leader, index.parse().unwrap_or_default()))
            .on(&format!("{}-p-{node}", site.name()))
            .build()
    };
    site.api::<Pod>().create(&kube::api::PostParams::default(), &bound("taken-0-1", "0", 0)).await?;
    site.apply(&apart(&site, "vllm", 1, 2, 1).manifest()).await?;
    let told = await_condition(&site, "vllm", "PlacementPending", "True").await?;
    assert!(told.message.contains("r1: held by"), "{}", told.message);
    site.kubectl(&["delete", "pod", "taken-0-1", "--grace-period=0", "--force"]).await?;
    await_ready(&site, "vllm").await?;
    await_groups(&site, "vllm", 1).await?;
    each_subgroup_alone(&site, "vllm", 2).await.map(drop)
}
