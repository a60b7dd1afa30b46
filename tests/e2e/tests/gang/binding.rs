//! What kube-scheduler does with the groups.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::scheduling::v1alpha2::PodGroup;
use kube::ResourceExt;
use muster_cluster::eventually;
use muster_e2e::{PATIENCE, Set, await_ready, domains, leaders, of_set, pods};
use serde_json::json;

use crate::{gangs, site, the_gang_of, waits_as_a_whole};

#[tokio::test]
async fn a_gang_that_does_not_fit_whole_binds_nothing_and_one_that_fits_runs() -> Result<()> {
    let mut site = site("gang").await?;
    site.pool("a", 3).await?;
    site.apply(&Set::new("train").groups(1, 4).on(&site, 8).manifest()).await?;
    eventually(PATIENCE, || waits_as_a_whole(&site, "train", 4)).await?;
    let name = the_gang_of(&site, "train").await?;
    assert_eq!(gangs(&site, "train").await?, [(name, 4)].into());
    site.pool("b", 1).await?;
    await_ready(&site, "train").await.map(drop)
}

#[tokio::test]
async fn two_gangs_that_fit_only_one_after_the_other_do_not_block_each_other() -> Result<()> {
    let mut site = site("gang").await?;
    site.pool("a", 4).await?;
    // Pod by pod, each of the two would get a part of the nodes sooner or later.
    site.apply(&Set::new("train").groups(2, 3).on(&site, 8).manifest()).await?;
    let bound = || async {
        let pods = pods(&site, "train").await?;
        ensure!(pods.len() == 6, "{:?}", pods.keys());
        let bound: Vec<String> = pods
            .into_values()
            .filter(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()))
            .map(|pod| pod.name_any())
            .collect();
        let groups = of_set::<PodGroup>(&site, "train").await?;
        let refused = groups.values().filter(|group| {
            let conditions = group.status.iter().flat_map(|status| status.conditions.iter().flatten());
            conditions.into_iter().any(|condition| condition.type_ == "PodGroupScheduled" && condition.status == "False")
        });
        ensure!(refused.count() == 1, "the scheduler has not judged both gangs");
        ensure!(!bound.is_empty(), "none is bound");
        Ok(bound)
    };
    let bound = eventually(PATIENCE, bound).await?;
    assert_eq!(bound.len(), 3, "{bound:?}");
    site.pool("b", 2).await?;
    await_ready(&site, "train").await.map(drop)
}

#[tokio::test]
async fn leaders_that_workers_wait_for_are_bound_alone() -> Result<()> {
    let mut site = site("gang").await?;
    site.pool("a", 3).await?;
    let set = Set::new("serve").groups(1, 3).on(&site, 8).with(&json!({ "spec": { "startupPolicy": "LeaderReady" } }));
    site.apply(&set.manifest()).await?;
    await_ready(&site, "serve").await?;
    assert_eq!(gangs(&site, "serve").await?.into_values().collect::<Vec<_>>(), [1]);
    the_gang_of(&site, "serve").await.map(drop)
}

#[tokio::test]
async fn leaders_that_a_startup_policy_has_workers_wait_for_are_bound_alone() -> Result<()> {
    let mut site = site("gang").await?;
    site.pool("a", 3).await?;
    let set = Set::new("serve").groups(1, 3).on(&site, 8).annotated("muster.dev/startup-policy", "leader-ready");
    site.apply(&set.manifest()).await?;
    await_ready(&site, "serve").await?;
    assert_eq!(gangs(&site, "serve").await?.into_values().collect::<Vec<_>>(), [1]);
    Ok(())
}

#[tokio::test]
async fn exclusive_groups_are_gangs_in_domains_of_their_own() -> Result<()> {
    let mut site = site("gang").await?;
    site.pool("a", 3).await?;
    site.pool("b", 3).await?;
    site.apply(&Set::new("train").groups(2, 3).on(&site, 8).exclusive(site.key()).manifest()).await?;
    await_ready(&site, "train").await?;
    let domains = domains(&site, "train", site.key()).await?;
    assert_eq!(domains.values().map(std::collections::BTreeSet::len).collect::<Vec<_>>(), [1, 1]);
    assert_ne!(domains["0"], domains["1"]);
    assert_eq!(gangs(&site, "train").await?.into_values().collect::<Vec<_>>(), [3, 3]);
    Ok(())
}

#[tokio::test]
async fn a_group_that_is_left_to_the_scheduler_is_no_gang_and_runs_once_there_is_room() -> Result<()> {
    let mut site = site("gang").await?;
    site.pool("a", 1).await?;
    site.apply(&Set::new("train").groups(1, 2).on(&site, 8).exclusive(site.key()).manifest()).await?;
    eventually(PATIENCE, || async {
        let gangs = gangs(&site, "train").await?;
        ensure!(gangs.values().copied().collect::<Vec<_>>() == [1], "{gangs:?}");
        let leader = leaders(&site, "train").await?.remove("train-0").context("no leader")?;
        ensure!(leader.spec.and_then(|spec| spec.scheduling_gates).is_none_or(|gates| gates.is_empty()), "it is gated");
        Ok(())
    })
    .await?;
    site.pool("b", 2).await?;
    await_ready(&site, "train").await.map(drop)
}
