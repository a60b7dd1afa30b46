//! What a policy that fails or answers nonsense can do: nothing to anybody else, and what its object declares to its own sets.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use muster_api::conditions::PLACEMENT_PENDING;
use muster_cluster::eventually;
use muster_e2e::{PATIENCE, Policy, Set, Site, await_condition, await_groups, await_ready, decider, domains, get, leaders, pods};
use muster_guests::{Guest, all_into};
use serde_json::{Value, json};

use crate::support::{await_event, is_gated, node_pool, store};

const TRAP: &str = "unreachable";
const LOOP: &str = "(loop (br 0)) unreachable";
/// Answers for unit 7, which no set here has.
const UNKNOWN_UNIT: &str = "(i32.const 448)";

/// A ready policy of this component that reads the site's domains.
async fn policy(site: &Site, place: &str, on_failure: &str) -> Result<Policy> {
    let component = Guest { place, level: site.key(), ..Guest::default() }.component();
    let source = store(site, "hostile", component).await?;
    let policy = Policy::create(site, &json!({ "source": source, "onFailure": on_failure })).await?;
    policy.await_ready("True").await?;
    Ok(policy)
}

/// Exclusive groups under a policy of this name.
fn set(site: &Site, name: &str, policy: &str, replicas: i32, size: i32) -> Set {
    let set = Set::new(name).groups(replicas, size).on(site, 8).exclusive(site.key());
    set.annotated("muster.dev/placement-policy", policy)
}

/// Pools `a` of one node and `b` of two.
async fn site(prefix: &str) -> Site {
    let mut site = Site::new(prefix).await.unwrap();
    site.pool("a", 1).await.unwrap();
    site.pool("b", 2).await.unwrap();
    site
}

/// The policy's object says that it does not answer as it should, and why.
async fn await_not_answering(policy: &Policy, reason: &str) {
    let status = policy.await_condition("Answering", "False").await.unwrap();
    let answering = status.conditions.iter().find(|condition| condition.type_ == "Answering").unwrap();
    // A policy that was asked often enough in the meantime is in quarantine by now.
    assert!([reason, "Quarantined"].contains(&answering.reason.as_str()), "{}: {}", answering.reason, answering.message);
}

/// Two groups of a set are placed by the native rule although its policy does this, and an event says so with these words.
async fn falls_back(site: &Site, place: &str, replicas: i32, size: i32, words: &[&str]) {
    let policy = policy(site, place, "Default").await.unwrap();
    site.apply(&set(site, "hurt", &policy.name, replicas, size).manifest()).await.unwrap();
    await_ready(site, "hurt").await.unwrap();
    let last = format!("hurt-{}", replicas - 1);
    assert_eq!(decider(site, &last).await.unwrap(), "exclusive");
    let named: Vec<&str> = words.iter().copied().chain([policy.name.as_str()]).collect();
    await_event(site, "hurt", "PolicyFailed", &named).await.unwrap();
    let reason = match words[0] {
        "PolicyAnswerRejected" => "AnswerRejected",
        _ if words[1].contains("trapped") => "Trap",
        _ => "Deadline",
    };
    await_not_answering(&policy, reason).await;
}

#[tokio::test]
async fn a_trap_leaves_the_decision_to_the_native_rule() {
    let site = site("trap").await;
    falls_back(&site, TRAP, 2, 1, &["PolicyFailed", "the policy trapped: it panicked or aborted (unreachable)"]).await;
}

#[tokio::test]
async fn an_endless_loop_leaves_the_decision_to_the_native_rule() {
    let site = site("loop").await;
    falls_back(&site, LOOP, 2, 1, &["PolicyFailed", "the policy did not answer within 50ms"]).await;
}

#[tokio::test]
async fn an_answer_for_a_group_that_was_not_asked_about_leaves_the_decision_to_the_native_rule() {
    let site = site("unknown-unit").await;
    falls_back(&site, UNKNOWN_UNIT, 2, 1, &["PolicyAnswerRejected", "unit 7"]).await;
}

#[tokio::test]
async fn an_answer_that_needs_more_room_than_there_is_leaves_the_decision_to_the_native_rule() {
    let site = site("no-room").await;
    // Groups of two nodes, all into pool `a` of one.
    falls_back(&site, &all_into(0), 1, 2, &["PolicyAnswerRejected", "unit 0"]).await;
    assert_eq!(domains(&site, "hurt", site.key()).await.unwrap(), BTreeMap::from([("0".into(), ["b".into()].into())]));
}

#[tokio::test]
async fn an_answer_that_puts_two_exclusive_groups_together_leaves_the_second_to_the_native_rule() {
    let site = site("crowd").await;
    falls_back(&site, &all_into(0), 2, 1, &["PolicyAnswerRejected", "unit 1", "is held by"]).await;
    assert_eq!(decider(&site, "hurt-0").await.unwrap(), site.name());
    let apart = BTreeMap::from([("0".into(), ["a".into()].into()), ("1".into(), ["b".into()].into())]);
    assert_eq!(domains(&site, "hurt", site.key()).await.unwrap(), apart);
}

/// A set holds all its groups and says why under `reason`, while another one with a good policy is placed.
async fn holds(site: &Site, place: &str, reason: &str, words: &str) {
    let hostile = policy(site, place, "Hold").await.unwrap();
    let good = Policy::named(site, &format!("{}-good", site.name()), &node_pool(site.key())).await.unwrap();
    site.apply(&set(site, "held", &hostile.name, 2, 1).manifest()).await.unwrap();
    let pending = await_condition(site, "held", PLACEMENT_PENDING, "True").await.unwrap();
    site.apply(&set(site, "free", &good.name, 2, 1).manifest()).await.unwrap();
    await_ready(site, "free").await.unwrap();
    assert_eq!(pending.reason, reason);
    assert!(pending.message.contains(words), "{}", pending.message);
    await_event(site, "held", "PolicyFailed", &[reason, &hostile.name]).await.unwrap();
    let leaders = leaders(site, "held").await.unwrap();
    assert_eq!(leaders.len(), 2);
    assert!(leaders.values().all(is_gated));
}

#[tokio::test]
async fn a_trap_holds_the_sets_of_a_policy_that_asks_for_it_and_no_others() {
    let site = site("trap-hold").await;
    holds(&site, TRAP, "PolicyFailed", "the policy trapped: it panicked or aborted (unreachable)").await;
}

#[tokio::test]
async fn an_endless_loop_holds_the_sets_of_a_policy_that_asks_for_it_and_no_others() {
    let site = site("loop-hold").await;
    holds(&site, LOOP, "PolicyFailed", "the policy did not answer within 50ms").await;
}

#[tokio::test]
async fn nonsense_holds_the_sets_of_a_policy_that_asks_for_it_and_no_others() {
    let site = site("nonsense-hold").await;
    holds(&site, UNKNOWN_UNIT, "PolicyAnswerRejected", "unit 7").await;
}

#[tokio::test]
async fn a_policy_that_turns_bad_touches_nothing_that_runs() {
    let site = site("turns-bad").await;
    let policy = policy(&site, &all_into(0), "Hold").await.unwrap();
    let shared =
        |replicas| Set::new("runs").groups(replicas, 1).on(&site, 4).annotated("muster.dev/placement-policy", &policy.name);
    site.apply(&shared(1).manifest()).await.unwrap();
    await_ready(&site, "runs").await.unwrap();
    assert_eq!(decider(&site, "runs-0").await.unwrap(), policy.name);
    let before = pods(&site, "runs").await.unwrap();

    let worse = Guest { place: TRAP, level: site.key(), ..Guest::default() }.component();
    policy.patch(&json!({ "source": store(&site, "worse", worse).await.unwrap() })).await.unwrap();
    policy.await_ready("True").await.unwrap();
    site.apply(&shared(2).manifest()).await.unwrap();
    let pending = await_condition(&site, "runs", PLACEMENT_PENDING, "True").await.unwrap();
    assert_eq!(pending.reason, "PolicyFailed");
    await_groups(&site, "runs", 1).await.unwrap();
    let after = pods(&site, "runs").await.unwrap();
    assert_eq!(after["runs-0"].metadata.uid, before["runs-0"].metadata.uid);
    assert!(after["runs-0"].metadata.deletion_timestamp.is_none());
    assert!(is_gated(&after["runs-1"]));
}

#[tokio::test]
async fn a_policy_that_keeps_failing_is_left_alone_for_a_while() {
    let site = site("quarantine").await;
    let policy = policy(&site, TRAP, "Hold").await.unwrap();
    let names: Vec<String> = (0..6).map(|number| format!("set-{number}")).collect();
    let items: Vec<Value> = names.iter().map(|name| set(&site, name, &policy.name, 1, 1).object().clone()).collect();
    site.apply(&json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string()).await.unwrap();
    let message = eventually(PATIENCE, || async {
        let mut seen = Vec::new();
        for name in &names {
            let set = get(&site, name).await?;
            let Some(pending) = muster_e2e::condition(&set, PLACEMENT_PENDING) else { continue };
            if pending.reason == "PolicyQuarantined" {
                return Ok(pending.message);
            }
            seen.push(pending.reason);
        }
        ensure!(false, "the sets are pending because of {seen:?}");
        unreachable!("the line before ends the attempt")
    })
    .await
    .unwrap();
    let expected = format!("policy \"{}\" failed too often and is left alone for another ", policy.name);
    assert!(message.contains(&expected), "{message}");
}
