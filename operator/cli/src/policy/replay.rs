//! `muster policy replay`: recorded questions again, to one policy or to two.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use muster_policy_kit::scenario::read;
use muster_policy_kit::{Decided, Library, Report, Scenario, in_words, play};
use serde::Serialize;
use serde_json::Value;

use super::args::{With, settings};
use super::{Trial, engine};
use crate::args::Output;
use crate::output::{self, BAD, FAINT, GOOD, STRONG, styled};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Replayed {
    file: PathBuf,
    report: Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    against: Option<Report>,
    differences: Vec<String>,
}

/// Another policy, and settings of its own if it has some.
pub(super) struct Against<'a> {
    pub(super) policy: &'a str,
    pub(super) settings: Option<&'a str>,
}

pub(super) fn replay(files: &[PathBuf], policy: &str, against: Option<&Against<'_>>, with: &With, output: Output) -> Result<()> {
    let (engine, limits) = (engine()?, with.limits(policy)?);
    let mut policy = Trial::of(&engine, policy, limits)?;
    let mut other = against.map(|against| Trial::of(&engine, against.policy, with.limits(against.policy)?)).transpose()?;
    let given = with.settings()?;
    let others = match against.and_then(|against| against.settings) {
        Some(text) => settings("--against-settings", text).map(Some)?,
        None => given.clone(),
    };
    let library = Library::new(&engine, limits);
    let mut all = Vec::new();
    for file in files {
        for scenario in read(file)? {
            let report = one(&mut policy, &scenario, given.as_ref(), &library).with_context(|| file.display().to_string())?;
            let against = other.as_mut().map(|other| one(other, &scenario, others.as_ref(), &library)).transpose()?;
            let differences = against.as_ref().map(|against| differences(&report, against)).unwrap_or_default();
            all.push(Replayed { file: file.clone(), report, against, differences });
        }
    }
    output::show(output, &all, || all.iter().map(render).collect())?;
    let different = all.iter().filter(|replayed| !replayed.differences.is_empty()).count();
    if different > 0 {
        bail!("{different} of {} questions are answered differently", all.len());
    }
    Ok(())
}

/// With the settings that were given, else with those of the scenario.
fn one(policy: &mut Trial<'_>, scenario: &Scenario, given: Option<&Value>, others: &Library<'_>) -> Result<Report> {
    Ok(play(scenario, &policy.with(given.unwrap_or(scenario.own_settings()))?, others)?)
}

fn differences(one: &Report, other: &Report) -> Vec<String> {
    let mut differences = Vec::new();
    match (&one.failure, &other.failure) {
        (None, None) => {}
        (first, second) if first == second => {}
        (first, second) => {
            let said = |failure: &Option<muster_policy_kit::Failure>| {
                failure.as_ref().map_or("answers".to_owned(), |failure| format!("fails ({}): {}", failure.kind, failure.message))
            };
            differences.push(format!("the call: {} → {}", said(first), said(second)));
        }
    }
    let find = |report: &Report, id| report.decisions.iter().find(|decided| decided.id == id).cloned();
    let mut ids: Vec<u32> = one.decisions.iter().chain(&other.decisions).map(|decided| decided.id).collect();
    ids.sort_unstable();
    ids.dedup();
    for id in ids {
        let same = |a: &Decided, b: &Decided| {
            // What else an answer would have taken matters only where nothing is taken.
            let places = |decided: &Decided| if decided.taken.is_none() { decided.places.clone() } else { Vec::new() };
            let where_to = |decided: &Decided| (decided.decision, places(decided), decided.taken.clone(), decided.admit);
            let beside = |decided: &Decided| (decided.avoid.clone(), decided.effects.clone(), decided.rejected.clone());
            where_to(a) == where_to(b) && beside(a) == beside(b)
        };
        let words = |decided: &Option<Decided>| decided.as_ref().map_or("no answer".to_owned(), in_words);
        match (find(one, id), find(other, id)) {
            (Some(a), Some(b)) if same(&a, &b) => {}
            (a, b) => differences.push(format!("{id}: {} → {}", words(&a), words(&b))),
        }
    }
    differences
}

fn render(replayed: &Replayed) -> String {
    let Replayed { file, report, against, differences } = replayed;
    let mut text = format!("{}  {}\n", styled(STRONG, &report.scenario), styled(FAINT, &file.display().to_string()));
    match against {
        None => {
            for decided in &report.decisions {
                let _ = writeln!(text, "  {}: {}", decided.id, in_words(decided));
            }
            if let Some(failure) = &report.failure {
                let _ = writeln!(text, "  {} {}", styled(BAD, &failure.kind), failure.message);
            }
        }
        Some(against) if differences.is_empty() => {
            let same = format!("{} and {} decide the same", report.policy, against.policy);
            let _ = writeln!(text, "  {}", styled(GOOD, &same));
        }
        Some(against) => {
            let _ = writeln!(text, "  {} → {}", report.policy, against.policy);
            for difference in differences {
                let _ = writeln!(text, "  {}", styled(BAD, difference));
            }
        }
    }
    text
}
