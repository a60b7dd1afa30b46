//! `muster explain`: where each group of a set is and why, or what every domain lacks for a group that waits.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use muster_core::ask::{self, Concern, Question};
use muster_core::cluster::{DomainReport, Scope, Verdict};
use muster_core::placing;
use muster_core::record::{Record, Standing, standing};
use serde::Serialize;

use crate::output::{FAINT, GOOD, STRONG, WAITING, styled};
use crate::read::{Placed, World};

/// What is known about one group's place.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Explained {
    group: u32,
    state: String,
    why: String,
    /// For a group whose place is in question: every domain of the level that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    domains: Vec<Domain>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Domain {
    name: String,
    fits: bool,
    why: String,
}

pub(crate) fn explain(world: &World, namespace: &str, name: &str, only: Option<u32>) -> Result<Vec<Explained>> {
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
            (Some(leader), None) => settled(index, &standing(leader, choice)),
        });
    }
    if explained.is_empty() {
        match only {
            Some(only) => bail!("{namespace}/{name} has no group {only}; it asks for {} groups", set.replicas()),
            None => bail!("{namespace}/{name} has no groups; it asks for {}", set.replicas()),
        }
    }
    Ok(explained)
}

fn simple(group: u32, state: &str, why: impl Into<String>) -> Explained {
    Explained { group, state: state.to_owned(), why: why.into(), level: None, domains: Vec::new() }
}

fn settled(group: u32, standing: &Standing) -> Explained {
    match standing {
        Standing::Free => simple(group, "free", "nobody asks Muster to place it: the scheduler decides pod by pod"),
        Standing::Placed(record) => simple(group, "placed", told(record)),
        Standing::Released(record) => simple(group, "left to the scheduler", record.reason.message.clone()),
        Standing::Bound { node, .. } => {
            simple(group, "bound", format!("its domain is the one of node {node}, where its leader is"))
        }
        Standing::Loose => simple(group, "loose", "the scheduler has its leader, as with upstream"),
        Standing::Waiting => simple(group, "waiting", "its leader is gated until the group has a place"),
    }
}

fn told(record: &Record) -> String {
    let place = record.level.as_deref().zip(record.domain.as_deref()).map(|(level, domain)| format!("in {level}={domain}"));
    let place = place.unwrap_or_else(|| "on any node".to_owned());
    let subgroups = record.subgroups.as_ref().map(|subgroups| format!(", its subgroups in {subgroups}")).unwrap_or_default();
    format!("{place}{subgroups} by {}: {}", record.by, record.reason.message)
}

/// Every domain, as the operator's index sees it now.
fn in_question(world: &World, placed: &Placed, question: &Question<'_>) -> Explained {
    let Placed { set, choice, .. } = placed;
    let recorded = placing::recorded_domain(question).map(|(level, _)| level);
    let asked =
        placing::asked(set, choice, std::slice::from_ref(question), recorded.as_slice(), Scope::default(), BTreeSet::new());
    let snapshot = world.snapshot(asked.view.clone());
    let state = match &question.concern {
        Concern::Waiting => simple(question.group, "waiting", "its leader is gated until the group has a place"),
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
    for group in explained {
        let _ = writeln!(text, "{} {}: {}", styled(STRONG, &format!("group {}", group.group)), group.state, group.why);
        let Some(level) = &group.level else { continue };
        let _ = writeln!(text, "  {}", styled(FAINT, level));
        let width = group.domains.iter().map(|domain| domain.name.len()).max().unwrap_or(0);
        for domain in &group.domains {
            let style = if domain.fits { GOOD } else { WAITING };
            let _ = writeln!(text, "  {:width$}  {}", domain.name, styled(style, &domain.why));
        }
    }
    text
}
