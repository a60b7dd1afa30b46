//! `muster explain`: where each group of a set is and why, or what every domain lacks for a group that waits.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use muster_api::group_status::GroupPhase;
use muster_api::policy::{OnFailure, Policy as _, PolicyMode};
use muster_api::{LeaderWorkerSet, PlacementPolicy};
use muster_core::ask::{self, Concern, Question};
use muster_core::cluster::{DomainReport, Scope, Verdict};
use muster_core::instructions::Instructions;
use muster_core::placing;
use muster_core::pods;
use muster_core::record::{Record, Standing, standing};
use serde::Serialize;

use crate::output::{FAINT, GOOD, STRONG, WAITING, styled};
use crate::read::{Placed, World};

/// Most nodes or domains of one group that are named.
const MOST_PLACES: usize = 8;

/// What is known about one group's place.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Explained {
    group: u32,
    state: String,
    why: String,
    /// What is the matter with the set's policies; the same for all its groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    policies: Vec<String>,
    /// For a group whose place is in question: every domain of the level that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    domains: Vec<Domain>,
    /// Nodes that are in none of them, because they don't have the level's label.
    #[serde(skip_serializing_if = "is_zero")]
    unlabelled: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Domain {
    name: String,
    fits: bool,
    why: String,
}

/// Explains the groups of a set, or one of them. `policies` are the cluster's, as far as whoever asks may see them.
pub(crate) fn explain(
    world: &World,
    policies: &[PlacementPolicy],
    (namespace, name): (&str, &str),
    only: Option<u32>,
) -> Result<Vec<Explained>> {
    let placed = world.sets.iter().find(|placed| placed.set.set_namespace() == namespace && placed.set.set_name() == name);
    let placed = placed.with_context(|| {
        format!("there is no LeaderWorkerSet {name:?} in namespace {namespace:?}; `muster status -A` lists all")
    })?;
    let Placed { set, observed, choice } = placed;
    let questions = ask::placement(set, observed, choice, Duration::ZERO, world.now);
    let mut explained = Vec::new();
    for (index, group) in observed.groups(set) {
        if only.is_some_and(|only| only != index) {
            continue;
        }
        let question = questions.iter().find(|question| question.group == index);
        explained.push(match (group.leader, question) {
            (None, _) => simple(index, "no leader", "its leader pod does not exist yet"),
            (Some(_), Some(question)) => in_question(world, placed, question),
            (Some(leader), None) => settled(world, leader, index, &standing(leader, choice)),
        });
    }
    let troubles: Vec<String> = choice.placement.iter().flat_map(|name| troubles(name, policies)).collect();
    explained.iter_mut().for_each(|group| group.policies.clone_from(&troubles));
    if explained.is_empty() {
        match only {
            Some(only) => bail!("{namespace}/{name} has no group {only}; it asks for {} groups", set.replicas()),
            None => bail!("{namespace}/{name} has no groups; it asks for {}", set.replicas()),
        }
    }
    Ok(explained)
}

/// What keeps a policy from deciding, and what decides instead.
fn troubles(name: &str, policies: &[PlacementPolicy]) -> Vec<String> {
    let Some(policy) = policies.iter().find(|policy| policy.name_any() == name) else { return Vec::new() };
    let conditions = policy.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let condition = |kind: &str| conditions.iter().find(|condition| condition.type_ == kind);
    let loaded = policy.status.as_ref().is_some_and(|status| status.active.is_some());
    let spec = policy.policy();
    let instead = match spec.on_failure() {
        _ if spec.mode() == PolicyMode::Observe => "it is only observed, so that nothing changes by that",
        OnFailure::Default => "groups are placed as without it (onFailure: Default)",
        OnFailure::Hold => "groups wait (onFailure: Hold)",
        OnFailure::LastGood => "its previous version decides, if there is one (onFailure: LastGood)",
    };
    let mut troubles = Vec::new();
    match condition("Ready") {
        None => troubles.push(format!("{name} is not loaded yet: {instead}")),
        Some(ready) if ready.status != "True" && loaded => {
            troubles.push(format!("{name} is not as it should be: {}", ready.message))
        }
        Some(ready) if ready.status != "True" => troubles.push(format!("{name} can't decide: {}; {instead}", ready.message)),
        Some(_) => {}
    }
    if let Some(answering) = condition("Answering").filter(|answering| answering.status == "False") {
        troubles.push(format!("{name} failed when it was asked last: {}; {instead}", answering.message));
    }
    if spec.mode() == PolicyMode::Observe {
        troubles
            .push(format!("{name} is only observed (mode: Observe): it decides nothing, events of the set say what it would do"));
    }
    troubles
}

fn simple(group: u32, state: &str, why: impl Into<String>) -> Explained {
    Explained {
        group,
        state: state.to_owned(),
        why: why.into(),
        policies: Vec::new(),
        level: None,
        domains: Vec::new(),
        unlabelled: 0,
    }
}

fn settled(world: &World, leader: &Pod, group: u32, standing: &Standing) -> Explained {
    match standing {
        Standing::Free => simple(group, "free", "nobody asks Muster to place it: the scheduler decides pod by pod"),
        Standing::Placed(record) => simple(group, "placed", told(record) + &moved(world, leader, record)),
        Standing::Released(record) => simple(group, "left to the scheduler", record.reason.message.clone()),
        Standing::Bound { node, .. } => {
            simple(group, "bound", format!("its domain is the one of node {node}, where its leader is"))
        }
        Standing::Loose => simple(group, "loose", "the scheduler has its leader, as with upstream"),
        Standing::Waiting => simple(group, "waiting", "its leader is gated until the group has a place"),
    }
}

fn told(record: &Record) -> String {
    let place = match (&record.level, &record.domain) {
        (Some(level), Some(domain)) => format!("in {level}={domain}"),
        _ => apart(&record.instructions),
    };
    let subgroups = record.subgroups.as_ref().map(|subgroups| format!(", its subgroups in {subgroups}")).unwrap_or_default();
    format!("{place}{subgroups} by {}: {}", record.by, record.reason.message)
}

/// The place of a group that isn't in one domain as a whole.
fn apart(instructions: &Instructions) -> String {
    let listed = |places: Vec<String>| {
        let most = places.len().min(MOST_PLACES);
        let more = if places.len() > most { format!(" and {} more", places.len() - most) } else { String::new() };
        format!("{}{more}", places[..most].join(", "))
    };
    let Instructions { parts, pins, preferred, .. } = instructions;
    if !pins.is_empty() {
        format!("on {}, rank by rank,", listed(pins.clone()))
    } else if !parts.is_empty() {
        let parts = parts.iter().map(|part| format!("{} pods in {}={}", part.pods, part.key, part.value));
        format!("by rank: {},", listed(parts.collect()))
    } else if !preferred.is_empty() {
        let domains = preferred.iter().map(|(key, value)| format!("{key}={value}"));
        format!("on any node, {} preferred,", listed(domains.collect()))
    } else {
        "on any node".to_owned()
    }
}

/// That the nodes of a running group have got another label since.
fn moved(world: &World, leader: &Pod, record: &Record) -> String {
    let (Some(level), Some(domain)) = (&record.level, &record.domain) else { return String::new() };
    let node = pods::node(leader).and_then(|name| world.nodes.iter().find(|node| node.name_any() == name));
    match node.map(|node| (node.name_any(), node.labels().get(level))) {
        Some((_, Some(now))) if now == domain => String::new(),
        Some((node, Some(now))) => format!("; since then its node {node} has got the label {level}={now}"),
        Some((node, None)) => format!("; since then its node {node} has lost the label {level}"),
        None => String::new(),
    }
}

/// Why a group waits, as the operator wrote it into the set's status: what its policy said, or what was wrong with that.
fn said(set: &LeaderWorkerSet, group: u32) -> Option<String> {
    let groups = &set.status.as_ref()?.groups;
    let group = groups.iter().find(|status| u32::try_from(status.index) == Ok(group) && status.phase == GroupPhase::Pending)?;
    group.message.clone()
}

/// Every domain, as the operator's index sees it now.
fn in_question(world: &World, placed: &Placed, question: &Question<'_>) -> Explained {
    let Placed { set, choice, .. } = placed;
    let recorded = placing::recorded_domain(question).map(|(level, _)| level);
    let asked =
        placing::asked(set, choice, std::slice::from_ref(question), recorded.as_slice(), Scope::default(), BTreeSet::new());
    let snapshot = world.snapshot(asked.view.clone());
    let state = match &question.concern {
        Concern::Waiting => {
            let gated = || "its leader is gated until the group has a place".to_owned();
            // The native rule's own words are the list of domains, which follows.
            let said = said(set, question.group).filter(|_| !choice.placement.is_empty());
            simple(question.group, "waiting", said.unwrap_or_else(gated))
        }
        Concern::Released => simple(question.group, "left to the scheduler", "its leader is not bound yet"),
        Concern::Bound { node, .. } => {
            simple(question.group, "bound", format!("its leader is on node {node}, its workers follow"))
        }
        Concern::Stuck { message, .. } => simple(question.group, "stuck", message.clone()),
    };
    match placing::explain(&asked, &snapshot, question.group) {
        Some((_, explanation)) => Explained {
            why: format!("{} ({})", state.why, explanation.pods),
            level: Some(explanation.level.clone()),
            domains: explanation.domains.iter().map(domain).collect(),
            unlabelled: explanation.unlabelled,
            ..state
        },
        None => state,
    }
}

fn domain(report: &DomainReport) -> Domain {
    let fits = matches!(report.verdict, Verdict::Fits { .. });
    Domain { name: report.domain.clone(), fits, why: report.verdict.to_string() }
}

pub(crate) fn render(explained: &[Explained]) -> String {
    let mut text = String::new();
    for trouble in explained.first().map(|group| group.policies.as_slice()).unwrap_or_default() {
        let _ = writeln!(text, "{} {trouble}", styled(WAITING, "policy"));
    }
    for group in explained {
        let _ = writeln!(text, "{} {}: {}", styled(STRONG, &format!("group {}", group.group)), group.state, group.why);
        let Some(level) = &group.level else { continue };
        let _ = writeln!(text, "  {}", styled(FAINT, level));
        let width = group.domains.iter().map(|domain| domain.name.len()).max().unwrap_or(0);
        for domain in &group.domains {
            let style = if domain.fits { GOOD } else { WAITING };
            let _ = writeln!(text, "  {:width$}  {}", domain.name, styled(style, &domain.why));
        }
        if group.unlabelled > 0 {
            let _ = writeln!(text, "  {}", styled(FAINT, &format!("{} nodes have no label {level}", group.unlabelled)));
        }
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]
mod tests {
    use serde_json::json;

    use super::*;

    #[rstest::rstest]
    #[case::good(json!({}), json!({ "conditions": [ready("True", "")], "active": { "digest": "sha256:0" } }), &[])]
    #[case::new(json!({}), json!({}), &["racks is not loaded yet: groups are placed as without it (onFailure: Default)"])]
    #[case::refused(json!({ "onFailure": "Hold" }), json!({ "conditions": [ready("False", "it imports wasi")] }),
        &["racks can't decide: it imports wasi; groups wait (onFailure: Hold)"])]
    #[case::an_older_version_decides(json!({}),
        json!({ "conditions": [ready("False", "it imports wasi; the last good version keeps deciding")], "active": { "digest": "sha256:0" } }),
        &["racks is not as it should be: it imports wasi; the last good version keeps deciding"])]
    #[case::failing(json!({ "onFailure": "LastGood" }),
        json!({ "conditions": [ready("True", ""), condition("Answering", "False", "the policy trapped")], "active": { "digest": "sha256:0" } }),
        &["racks failed when it was asked last: the policy trapped; its previous version decides, if there is one (onFailure: LastGood)"])]
    #[case::observed(json!({ "mode": "Observe" }), json!({ "conditions": [ready("True", "")], "active": { "digest": "sha256:0" } }),
        &["racks is only observed (mode: Observe): it decides nothing, events of the set say what it would do"])]
    fn what_keeps_a_policy_from_deciding_is_said_with_what_decides_instead(
        #[case] mut spec: serde_json::Value,
        #[case] status: serde_json::Value,
        #[case] expected: &[&str],
    ) {
        spec["source"] = json!({ "builtIn": "node-pool" });
        let policy = json!({ "apiVersion": "policy.muster.dev/v1alpha1", "kind": "PlacementPolicy", "metadata": { "name": "racks" },
            "spec": spec, "status": status });
        assert_eq!(troubles("racks", &[serde_json::from_value(policy).unwrap()]), expected);
    }

    fn ready(status: &str, message: &str) -> serde_json::Value {
        condition("Ready", status, message)
    }

    fn condition(kind: &str, status: &str, message: &str) -> serde_json::Value {
        json!({ "type": kind, "status": status, "reason": "Some", "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z" })
    }

    #[rstest::rstest]
    #[case::free(json!({}), "on any node")]
    #[case::pinned(json!({ "pins": ["n1", "n2"] }), "on n1, n2, rank by rank,")]
    #[case::in_parts(json!({ "parts": [{ "pods": 2, "key": "rack", "value": "a" }, { "pods": 1, "key": "rack", "value": "b" }] }),
        "by rank: 2 pods in rack=a, 1 pods in rack=b,")]
    #[case::preferred(json!({ "preferred": [["rack", "a"]] }), "on any node, rack=a preferred,")]
    #[case::many(json!({ "pins": ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"] }), "on 1, 2, 3, 4, 5, 6, 7, 8 and 2 more, rank by rank,")]
    fn a_group_that_is_not_in_one_domain_is_told_by_what_it_has(#[case] instructions: serde_json::Value, #[case] expected: &str) {
        assert_eq!(apart(&serde_json::from_value(instructions).unwrap()), expected);
    }
}
