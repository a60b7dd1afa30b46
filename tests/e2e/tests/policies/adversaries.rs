//! The adversaries of the corpus (`muster_guests::adversaries`) on a real cluster: what each yields is said where people look, and
//! a set with a good policy beside them is placed as if they weren't there.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use muster_api::conditions::PLACEMENT_PENDING;
use muster_cluster::{Cluster, eventually};
use muster_e2e::{PATIENCE, Policy, Set, Site, await_condition, await_ready, message};
use muster_guests::adversaries::{Yields, named};
use serde_json::json;

use crate::support::{await_event, node_pool, store};

/// Those that fail when they are asked; each has sets that wait for it. The loops take as long as a policy can be allowed.
const ASKED: [&str; 9] = [
    "place-loops",
    "room-for-arguments-for-ever",
    "cleanup-loops",
    "place-traps",
    "memory-bomb",
    "stack-overflow",
    "reason-of-megabytes",
    "thousands-of-answers",
    "a-domain-that-does-not-exist",
];
/// Those that are not loaded.
const NOT_LOADED: [&str; 5] =
    ["start-loops", "describe-takes-all-memory", "remote-schema", "wasi-behind-a-good-import", "thousands-of-levels"];
/// Sets of each adversary.
const SETS: usize = 3;
/// Groups of the good policy's sets.
const GROUPS: i32 = 6;

/// The set of an adversary's.
fn victim(site: &Site, policy: &str, number: usize) -> (String, Set) {
    let name = format!("{}-{number}", policy.trim_start_matches(site.name()).trim_start_matches('-'));
    let set = Set::new(&name).groups(2, 1).on(site, 8).exclusive(site.key());
    (name, set.annotated("muster.dev/placement-policy", policy))
}

/// Applies a set of the good policy and says how long it takes until all its groups are placed and run.
async fn time_to_run(site: &Site, name: &str, policy: &Policy) -> Result<Duration> {
    let set = Set::new(name).groups(GROUPS, 1).on(site, 8).exclusive(site.key());
    let started = Instant::now();
    site.apply(&set.annotated("muster.dev/placement-policy", &policy.name).manifest()).await?;
    await_ready(site, name).await?;
    Ok(started.elapsed())
}

/// Waits until a counter of a policy is above 0.
async fn await_metric(metric: &str, policy: &str, outcome: &str) -> Result<()> {
    let operator = Cluster::shared().await.operator();
    let line = format!("{metric}_total{{policy=\"{policy}\",outcome=\"{outcome}\"}} ");
    eventually(PATIENCE, || async {
        let metrics = operator.metrics().await?;
        let value = metrics.lines().find_map(|found| found.strip_prefix(&line)).and_then(|value| value.parse::<u64>().ok());
        let known: Vec<_> = metrics.lines().filter(|found| found.contains(policy)).collect();
        ensure!(value.is_some_and(|value| value > 0), "no {line}in {known:#?}");
        Ok(())
    })
    .await
}

/// `answer-too-large` as a condition reason.
fn camel_case(words: &str) -> String {
    words.split('-').map(|word| word[..1].to_uppercase() + &word[1..]).collect()
}

/// What a policy that fails or lies yields at its object, its sets and in the metrics.
async fn await_consequences(site: &Site, adversary: &'static str, policy: &Policy) -> Result<()> {
    let (reason, metric, outcome) = match named(adversary).yields {
        Yields::Fails(outcome) => (camel_case(outcome), "muster_policy_calls", outcome),
        Yields::Refused(code) => ("AnswerRejected".to_owned(), "muster_policy_answers_rejected", code),
        other => anyhow::bail!("{adversary} yields {other:?}"),
    };
    await_metric(metric, &policy.name, outcome).await.context(adversary)?;
    let status = policy.await_condition("Answering", "False").await.context(adversary)?;
    let answering = status.conditions.iter().find(|condition| condition.type_ == "Answering").context(adversary)?;
    // A policy that was asked often enough in the meantime is in quarantine by now.
    ensure!(
        [reason.as_str(), "Quarantined"].contains(&answering.reason.as_str()),
        "{adversary}: {} {}",
        answering.reason,
        answering.message
    );
    for number in 0..SETS {
        let (set, _) = victim(site, &policy.name, number);
        await_condition(site, &set, PLACEMENT_PENDING, "True").await.context(adversary)?;
        await_event(site, &set, "PolicyFailed", &[&policy.name]).await.context(adversary)?;
    }
    Ok(())
}

#[tokio::test]
async fn bad_policies_say_what_they_are_and_a_good_one_beside_them_is_as_quick_as_alone() {
    let mut site = Site::new("adversaries").await.unwrap();
    for pool in 0..2 * GROUPS {
        site.pool(&format!("p{pool}"), 1).await.unwrap();
    }
    let good = Policy::named(&site, &format!("{}-good", site.name()), &node_pool(site.key())).await.unwrap();
    good.await_ready("True").await.unwrap();
    let alone = time_to_run(&site, "alone", &good).await.unwrap();

    let mut policies = Vec::new();
    for adversary in ASKED.into_iter().chain(NOT_LOADED) {
        let source = store(&site, adversary, named(adversary).component(site.key())).await.unwrap();
        let spec = json!({ "source": source, "onFailure": "Hold", "limits": { "deadline": "500ms" } });
        policies.push((adversary, Policy::named(&site, &format!("{}-{adversary}", site.name()), &spec).await.unwrap()));
    }
    let (asked, not_loaded) = policies.split_at(ASKED.len());
    for (adversary, policy) in asked {
        policy.await_ready("True").await.context(*adversary).unwrap();
    }
    for number in 0..SETS {
        for (_, policy) in asked {
            site.apply(&victim(&site, &policy.name, number).1.manifest()).await.unwrap();
        }
    }
    let beside = time_to_run(&site, "beside", &good).await.unwrap();
    println!(
        "{GROUPS} groups of a good policy ran after {alone:?} alone and after {beside:?} beside {} bad ones",
        policies.len()
    );
    // A call of a single one of them may take half a second, and they have 27 sets that want to be asked.
    assert!(beside < alone * 2 + Duration::from_secs(5), "{alone:?} alone, {beside:?} beside bad policies");

    for (adversary, policy) in asked {
        await_consequences(&site, adversary, policy).await.unwrap();
    }
    for (adversary, policy) in not_loaded {
        let Yields::NotLoaded(condition, reason, words) = named(adversary).yields else { panic!("{adversary} is loaded") };
        let status = policy.await_condition(condition, "False").await.unwrap();
        assert!(message(&status, condition).contains(words), "{adversary}: {}", message(&status, condition));
        assert_eq!(status.conditions.iter().find(|known| known.type_ == condition).unwrap().reason, reason);
        await_metric("muster_policy_loads", &policy.name, reason).await.unwrap();
    }
}
