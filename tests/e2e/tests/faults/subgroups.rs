//! Subgroups keep their domains to themselves through restarts, scaling and the operator's death.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use muster_api::conditions::PLACEMENT_PENDING;
use muster_api::names::annotation;
use muster_cluster::eventually;
use muster_e2e::{PATIENCE, Set, Site, await_condition, await_ready, pods};

use crate::alone;
use crate::exclusivity::Exclusivity;
use crate::killer::{Killer, seed};

/// Groups of four whose two subgroups want a rack each; a pod takes a node.
fn set(site: &Site, name: &str, groups: i32) -> Set {
    Set::new(name).groups(groups, 4).on(site, 8).subgroups(2).subgroup_exclusive(&site.rack_key())
}

async fn apply(site: &Site, set: &Set) {
    eventually(PATIENCE, || async { site.apply(&set.manifest()).await }).await.unwrap();
}

/// Every pod that is there selects the rack that its group's record names for its subgroup, and has no affinity.
async fn follows_its_record(site: &Site, set: &str) -> Result<()> {
    let pods = pods(site, set).await?;
    for (name, pod) in &pods {
        let group = pod.labels().get("leaderworkerset.sigs.k8s.io/group-index").context("no group index")?;
        let leader = pods.get(&format!("{set}-{group}")).with_context(|| format!("{name} has no leader"))?;
        let record: serde_json::Value =
            serde_json::from_str(leader.annotations().get(annotation::PLACEMENT).context("no record")?)?;
        let index = pod.labels().get("leaderworkerset.sigs.k8s.io/subgroup-index").context("no subgroup")?;
        let spec = pod.spec.as_ref().context("no spec")?;
        let selected = spec.node_selector.as_ref().and_then(|selector| selector.get(&site.rack_key()));
        ensure!(
            selected.map(String::as_str) == record["subgroups"]["domains"][index].as_str(),
            "{name} selects {selected:?}: {record}"
        );
        ensure!(spec.affinity.is_none(), "{name} has affinity");
    }
    Ok(())
}

#[tokio::test]
async fn subgroups_share_no_rack_at_any_moment_whatever_dies() {
    let (_turn, cluster) = alone().await;
    let mut site = Site::new("subgroups").await.unwrap();
    let racks: Vec<String> = (0..10).map(|rack| format!("r{rack}")).collect();
    let sizes: Vec<(&str, usize)> = racks.iter().map(|rack| (rack.as_str(), 2)).collect();
    site.racks("p", &sizes).await.unwrap();
    let watch = Exclusivity::watch_subgroups(&site, "").await.unwrap();
    apply(&site, &set(&site, "stays", 1)).await;
    await_ready(&site, "stays").await.unwrap();
    let uids = |pods: std::collections::BTreeMap<String, Pod>| pods.into_values().map(|pod| pod.uid()).collect::<Vec<_>>();
    let before = uids(pods(&site, "stays").await.unwrap());

    let killer = Killer::start(cluster, seed());
    apply(&site, &set(&site, "one", 2)).await;
    apply(&site, &set(&site, "two", 2)).await;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    // Five groups of two subgroups want all ten racks, so restarted groups find their own old pods in the way.
    site.kubectl(&["delete", "pod", "one-0", "two-1-3", "--wait=false", "--ignore-not-found"]).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    site.kubectl(&["delete", "pod", "two-0", "one-1", "--wait=false", "--ignore-not-found"]).await.unwrap();
    apply(&site, &set(&site, "two", 1)).await;
    apply(&site, &set(&site, "late", 1)).await;
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    let kills = killer.stop(cluster).await;

    for name in ["one", "two", "late"] {
        await_ready(&site, name).await.unwrap();
    }
    for name in ["stays", "one", "two"] {
        eventually(PATIENCE, || follows_its_record(&site, name)).await.unwrap();
    }
    assert_eq!(uids(pods(&site, "stays").await.unwrap()), before, "pods of a ready group were replaced");
    let moments = watch.finish().unwrap();
    println!("{kills} kills, {moments} moments");
    assert!(moments > 20, "{kills} kills, {moments} moments");
}

#[tokio::test]
async fn the_racks_of_subgroups_whose_workers_do_not_exist_yet_stay_held_across_a_restart() {
    let (_turn, cluster) = alone().await;
    let mut site = Site::new("heldracks").await.unwrap();
    site.racks("p", &[("r1", 2), ("r2", 2), ("r3", 2)]).await.unwrap();
    // A policy that does not exist admits no worker.
    let first = set(&site, "first", 1).annotated("muster.dev/startup-policy", site.name());
    site.apply(&first.manifest()).await.unwrap();
    eventually(PATIENCE, || async {
        let pods = pods(&site, "first").await?;
        ensure!(pods.get("first-0").is_some_and(muster_cluster::is_ready), "the leader is not ready");
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(pods(&site, "first").await.unwrap().len(), 1);
    cluster.operator().restart().await.unwrap();
    site.apply(&set(&site, "second", 1).manifest()).await.unwrap();
    let pending = await_condition(&site, "second", PLACEMENT_PENDING, "True").await.unwrap();
    assert!(pending.message.contains("first group 0 subgroup 1"), "{}", pending.message);
    site.kubectl(&["annotate", "lws", "first", "muster.dev/startup-policy-"]).await.unwrap();
    await_ready(&site, "first").await.unwrap();
    follows_its_record(&site, "first").await.unwrap();
    site.kubectl(&["delete", "lws", "first"]).await.unwrap();
    await_ready(&site, "second").await.unwrap();
}
