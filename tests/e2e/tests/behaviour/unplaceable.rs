//! Groups that fit nowhere and are left to the scheduler, and groups that can't stay where they were put.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use muster_cluster::{Fleet, PodBuilder, RACK};
use muster_e2e::{Set, Site, await_condition, await_ready, await_unschedulable, domains, leaders, pods};
use serde_json::{Value, json};

#[tokio::test]
async fn an_autoscaler_sees_a_pending_leader_and_its_new_pool_gets_the_whole_group() -> Result<()> {
    let mut site = Site::new("autoscaler").await?;
    site.pool("small", 1).await?;
    let key = site.key().to_owned();
    site.apply(&Set::new("vllm").groups(1, 2).on(&site, 8).exclusive(&key).manifest()).await?;
    let leader = await_unschedulable(&site, "vllm", "vllm-0").await?;
    // Out of `small`, where it would be bound and its worker never.
    let affinity = serde_json::to_value(leader.spec.as_ref().and_then(|spec| spec.affinity.as_ref()))?;
    let terms = json!([{ "matchExpressions": [
        { "key": key, "operator": "Exists" }, { "key": key, "operator": "NotIn", "values": ["small"] }] }]);
    let required = json!({ "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } });
    assert_eq!(affinity, json!({ "nodeAffinity": required }));
    let told = await_condition(&site, "vllm", "PlacementPending", "True").await?;
    assert!(told.message.contains("small: room for 1 of 2 pods"), "{}", told.message);
    assert_eq!(pods(&site, "vllm").await?.len(), 1, "a group without a place has no workers");

    site.pool("new", 2).await?;
    await_ready(&site, "vllm").await?;
    assert_eq!(domains(&site, "vllm", &key).await?, [("0".to_owned(), ["new".to_owned()].into())].into());
    await_condition(&site, "vllm", "PlacementPending", "False").await.map(drop)
}

#[tokio::test]
async fn a_leader_bound_where_its_group_has_no_room_is_placed_again() -> Result<()> {
    let mut site = Site::new("too-small").await?;
    let key = site.key().to_owned();
    site.apply(&Set::new("vllm").groups(1, 2).on(&site, 8).exclusive(&key).manifest()).await?;
    await_unschedulable(&site, "vllm", "vllm-0").await?;
    // The scheduler knows nothing of groups and takes the first pool that comes. Its leader has to leave it again.
    site.pool("small", 1).await?;
    site.pool("large", 2).await?;
    await_ready(&site, "vllm").await?;
    assert_eq!(domains(&site, "vllm", &key).await?, [("0".to_owned(), ["large".to_owned()].into())].into());
    Ok(())
}

#[tokio::test]
async fn a_released_group_takes_a_domain_that_becomes_free() -> Result<()> {
    let mut site = Site::new("freed").await?;
    site.pool("only", 2).await?;
    let key = site.key().to_owned();
    site.apply(&Set::new("first").groups(1, 2).on(&site, 8).exclusive(&key).manifest()).await?;
    await_ready(&site, "first").await?;
    site.apply(&Set::new("second").groups(1, 2).on(&site, 8).exclusive(&key).manifest()).await?;
    await_unschedulable(&site, "second", "second-0").await?;
    site.kubectl(&["delete", "leaderworkerset", "first"]).await?;
    await_ready(&site, "second").await?;
    assert_eq!(domains(&site, "second", &key).await?, [("0".to_owned(), ["only".to_owned()].into())].into());
    Ok(())
}

#[tokio::test]
async fn a_group_whose_pod_can_not_be_scheduled_in_its_domain_moves_to_another() -> Result<()> {
    let mut site = Site::new("stuck").await?;
    // The group fills `tight` exactly, so that is where it goes first.
    site.pool("tight", 2).await?;
    site.pool("wide", 3).await?;
    let key = site.key().to_owned();
    // A port of the host is nothing that the index knows of.
    let container = |port: i32| json!({ "name": "port", "image": "example.com/port:1", "ports": [{ "containerPort": port, "hostPort": port }] });
    for node in ["tight-0", "tight-1"] {
        let mut pod = PodBuilder::new(&format!("occupant-{node}")).on(&format!("{}-{node}", site.name())).build();
        let spec = pod.spec.get_or_insert_default();
        spec.containers.push(serde_json::from_value(container(9000))?);
        site.api::<Pod>().create(&PostParams::default(), &pod).await?;
    }
    let set = Set::new("vllm").groups(1, 2).on(&site, 8).exclusive(&key);
    let template = set.object()["spec"]["leaderWorkerTemplate"]["workerTemplate"].clone();
    let mut worker = template.clone();
    worker["spec"]["containers"].as_array_mut().context("no containers")?.push(container(9000));
    let set = set.with(&json!({ "spec": { "leaderWorkerTemplate": { "leaderTemplate": template, "workerTemplate": worker } } }));
    site.apply(&set.manifest()).await?;

    await_ready(&site, "vllm").await?;
    assert_eq!(domains(&site, "vllm", &key).await?, [("0".to_owned(), ["wide".to_owned()].into())].into());
    let events = site.events("vllm").await?;
    let first = format!("Normal GroupPlaced: Placed vllm-0 in {key}=tight");
    assert!(events.iter().any(|event| event.starts_with(&first)), "{events:#?}");
    let moved = "Normal GroupPlacedAgain: Deleted leader pod vllm-0 to place its group again: a pod can't be scheduled where its group was put";
    assert!(events.iter().any(|event| event.starts_with(moved)), "{events:#?}");
    Ok(())
}

#[tokio::test]
async fn a_set_without_a_single_labelled_node_says_which_label_is_missing() -> Result<()> {
    let mut site = Site::new("unlabelled").await?;
    let bare = site.node("bare", 0).label(RACK, "rack-0");
    site.add(&Fleet::new().node(bare)).await?;
    let key = format!("{}.test.muster.dev/row", site.name());
    site.apply(
        &Set::new("vllm").groups(1, 2).on(&site, 8).exclusive(&key).annotated("muster.dev/unplaceable", "Hold").manifest(),
    )
    .await?;
    let told = await_condition(&site, "vllm", "PlacementPending", "True").await?;
    assert!(told.message.contains(&format!("no domain of {key} fits the group")), "{}", told.message);
    assert!(told.message.contains(&format!("have no label {key}")), "{}", told.message);
    let record: Value = serde_json::to_value(&leaders(&site, "vllm").await?["vllm-0"].spec)?;
    assert_eq!(record["schedulingGates"], json!([{ "name": "muster.dev/placement" }]));
    Ok(())
}
