//! Rolling updates, one written status at a time.

use anyhow::{Context, ensure};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use muster_api::conditions::{AVAILABLE, UPDATE_IN_PROGRESS};
use muster_cluster::{Namespace, eventually};
use muster_e2e::{PATIENCE, Set, await_condition, await_groups, of_set};
use serde_json::json;

use crate::hands::Hands;
use crate::site;

async fn running<'a>(site: &'a Namespace, groups: u32, unavailable: i32, surge: i32) -> Hands<'a> {
    let budget = json!({ "spec": { "rolloutStrategy": { "type": "RollingUpdate", "rollingUpdateConfiguration": {
        "maxUnavailable": unavailable, "maxSurge": surge,
    } } } });
    let set = Set::new("serve").groups(i32::try_from(groups).unwrap(), 2).with(&budget);
    let hands = Hands::on(site, "serve", &set).await.unwrap();
    for group in 0..groups {
        hands.create_leader(group).await;
        hands.group_ready(group).await;
    }
    await_condition(site, "serve", AVAILABLE, "True").await.unwrap();
    hands
}

/// The one event with this text.
async fn event(site: &Namespace, text: &str) -> Event {
    eventually(PATIENCE, || async {
        let mut events = site.api::<Event>().list(&Default::default()).await?.items;
        let texts: Vec<_> = events.iter().map(|event| event.note.clone().unwrap_or_default()).collect();
        events.retain(|event| event.note.as_deref() == Some(text));
        ensure!(events.len() < 2, "{text:?} has {} events", events.len());
        events.pop().with_context(|| format!("no event {text:?} among {texts:#?}"))
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn one_group_at_a_time_from_the_last_to_the_first() {
    let site = site("one-by-one").await;
    let hands = running(&site, 4, 1, 0).await;
    hands.update("2").await;
    await_condition(&site, "serve", UPDATE_IN_PROGRESS, "True").await.unwrap();
    for group in (0..4).rev() {
        hands.rollout_is(i32::try_from(group).unwrap(), 4).await;
        hands.replace_leader(group).await;
        hands.group_ready(group).await;
    }
    let set = await_condition(&site, "serve", AVAILABLE, "True").await.unwrap();
    assert_eq!(set.reason, "AllGroupsReady");
    hands.rollout_is(0, 4).await;
    // Each step is told by itself.
    let revisions = of_set::<ControllerRevision>(&site, "serve").await.unwrap();
    let current = revisions.values().max_by_key(|revision| revision.revision).unwrap();
    for group in 0..4 {
        let event = event(&site, &format!("Updating replica {group}")).await;
        let told = [&event.type_, &event.reason, &event.action, &event.reporting_controller].map(|told| told.as_deref());
        assert_eq!(told, [Some("Normal"), Some("GroupsUpdating"), Some("Update"), Some("leaderworkerset")]);
        let regarding = event.regarding.unwrap();
        assert_eq!((regarding.kind.as_deref(), regarding.name.as_deref()), (Some("LeaderWorkerSet"), Some("serve")));
        let related = event.related.unwrap();
        assert_eq!((related.kind.as_deref(), related.name), (Some("ControllerRevision"), Some(current.name_any())));
        assert_eq!(related.uid, current.uid());
        assert_eq!(event.series.map(|series| series.count), None, "it is one occurrence");
    }
    // The one that was made with the revision knows it, too.
    let key = &current.labels()["leaderworkerset.sigs.k8s.io/template-revision-hash"];
    let made = event(&site, &format!("Creating revision with key {key} for updated LWS")).await;
    assert_eq!(made.related.unwrap().uid, current.uid());
}

#[tokio::test]
async fn a_surplus_group_comes_first_and_goes_last() {
    let site = site("surge").await;
    let hands = running(&site, 2, 0, 1).await;
    hands.update("2").await;
    hands.rollout_is(2, 3).await;
    hands.create_leader(2).await;
    hands.group_ready(2).await;
    for group in [1, 0] {
        hands.rollout_is(i32::try_from(group).unwrap(), 3).await;
        hands.replace_leader(group).await;
        hands.group_ready(group).await;
    }
    hands.rollout_is(0, 2).await;
    await_condition(&site, "serve", AVAILABLE, "True").await.unwrap();
    let event = event(&site, "deleting surge replica serve-2").await;
    let told = [&event.type_, &event.reason, &event.action].map(|told| told.as_deref());
    assert_eq!(told, [Some("Normal"), Some("GroupsProgressing"), Some("Delete")]);
}

#[tokio::test]
async fn a_partition_holds_groups_back_until_it_is_lifted() {
    let site = site("partition").await;
    let hands = running(&site, 3, 1, 0).await;
    let partition = |number: i32| json!({ "rolloutStrategy": { "rollingUpdateConfiguration": { "partition": number } } });
    hands.patch(partition(2)).await;
    hands.update("2").await;
    hands.rollout_is(2, 3).await;
    hands.replace_leader(2).await;
    hands.group_ready(2).await;
    await_condition(&site, "serve", AVAILABLE, "True").await.unwrap();
    hands.rollout_is(2, 3).await;
    hands.patch(partition(0)).await;
    for group in [1, 0] {
        hands.rollout_is(i32::try_from(group).unwrap(), 3).await;
        hands.replace_leader(group).await;
        hands.group_ready(group).await;
    }
    await_condition(&site, "serve", AVAILABLE, "True").await.unwrap();
}

#[tokio::test]
async fn scaling_needs_no_more_than_a_leader_statefulset() {
    let site = site("scale").await;
    let hands = running(&site, 2, 1, 0).await;
    site.kubectl(&["scale", "lws", "serve", "--replicas=3"]).await.unwrap();
    hands.rollout_is(0, 3).await;
    hands.create_leader(2).await;
    hands.group_ready(2).await;
    await_groups(&site, "serve", 3).await.unwrap();
    await_condition(&site, "serve", AVAILABLE, "True").await.unwrap();
    site.kubectl(&["scale", "lws", "serve", "--replicas=0"]).await.unwrap();
    hands.rollout_is(0, 0).await;
}
