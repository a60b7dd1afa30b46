//! `muster policy test`: scenarios and properties.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use muster_core::placement::LevelId;
use muster_policy_kit::properties::{self, Effort, Verdict};
use muster_policy_kit::{Library, Policy, Scenario, judge, play, scenario};
use serde::Serialize;
use serde_json::Value;

use super::args::With;
use super::named::Found;
use super::{Trial, counting_engine, engine, patient};
use crate::args::Output;
use crate::output::{self, BAD, FAINT, GOOD, STRONG, styled};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Tested {
    policy: String,
    scenarios: Vec<Outcome>,
    properties: Vec<Verdict>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    name: String,
    file: PathBuf,
    /// Empty if all is as expected.
    failures: Vec<String>,
}

pub(super) fn test(
    policy: &str,
    scenarios: Option<&Path>,
    filter: Option<&str>,
    effort: Effort,
    with: &With,
    output: Output,
) -> Result<()> {
    let Found { bytes, scenarios: folder } = Found::by_name(policy)?;
    let cases = cases(scenarios, folder.as_deref())?;
    let cases: Vec<_> = cases.into_iter().filter(|(_, case)| filter.is_none_or(|part| case.name.contains(part))).collect();
    let (engine, given) = (engine()?, with.settings()?);
    // Whoever gives no deadline tests answers, and not this machine.
    let limits = with.limits(policy)?;
    let patient = patient(limits);
    let origin = bytes.origin.clone();
    let mut trial = Trial { engine: &engine, limits: patient, bytes: Some(bytes), compiled: None };
    let others = Library::new(&engine, patient);
    let outcomes = cases.iter().map(|(file, case)| {
        let failures = one(&mut trial, given.as_ref().unwrap_or(case.own_settings()), case, &others);
        Outcome { name: case.name.clone(), file: file.clone(), failures }
    });
    let outcomes: Vec<Outcome> = outcomes.collect();
    let properties = if effort.cases == 0 || filter.is_some() {
        Vec::new()
    } else {
        // A host that was built without optimisation can't be held to the operator's time.
        trial.limits = if cfg!(debug_assertions) { patient } else { limits };
        let counting = counting_engine()?;
        let mut counting = trial.counting(&counting);
        let counting = presentable(&mut counting, given.as_ref(), &cases)?;
        properties::check(&presentable(&mut trial, given.as_ref(), &cases)?, &counting, effort)?
    };
    if outcomes.is_empty() && properties.is_empty() {
        bail!("there is nothing to test: no scenario, and no property");
    }
    let tested = Tested { policy: origin, scenarios: outcomes, properties };
    output::show(output, &tested, || render(&tested))?;
    let broken = tested.properties.iter().filter(|verdict| verdict.broken.is_some()).count();
    let failed = tested.scenarios.iter().filter(|outcome| !outcome.failures.is_empty()).count();
    match failed + broken {
        0 => Ok(()),
        count => bail!("{count} of {} tests failed", tested.scenarios.len() + tested.properties.len()),
    }
}

fn cases(given: Option<&Path>, folder: Option<&Path>) -> Result<Vec<(PathBuf, Scenario)>> {
    let files = match (given, folder) {
        (Some(path), _) if path.is_dir() => scenario::files(path),
        (Some(path), _) => vec![path.to_owned()],
        (None, Some(folder)) => scenario::files(folder),
        (None, None) => Vec::new(),
    };
    let mut cases = Vec::new();
    for file in files {
        cases.extend(scenario::read(&file)?.into_iter().map(|case| (file.clone(), case)));
    }
    Ok(cases)
}

/// What is wrong with one scenario.
fn one(trial: &mut Trial<'_>, settings: &Value, case: &Scenario, others: &Library<'_>) -> Vec<String> {
    let policy = match trial.with(settings) {
        Ok(policy) => policy,
        Err(error) => return vec![error.to_string()],
    };
    let judged = play(case, &policy, others).and_then(|report| judge(case, &report));
    let mut failures = judged.unwrap_or_else(|fault| vec![fault.to_string()]);
    if !failures.is_empty() {
        failures.extend(strange_levels(case, &policy));
    }
    failures
}

/// Levels that the policy reads and no node of the case has: who sees none of its domains wonders why nothing fits.
fn strange_levels(case: &Scenario, policy: &Policy) -> Vec<String> {
    let preparation = policy.preparation();
    let Some(stage) = case.request.as_ref().and_then(|_| case.stage(&preparation).ok()) else { return Vec::new() };
    let empty = (0..).zip(&preparation.levels).filter(|(level, _)| stage.snapshot.domain_count(LevelId(*level)) == 0);
    empty.map(|(_, key)| format!("no node of this scenario has the label {key}, which the policy reads")).collect()
}

/// The policy with settings that it takes: those given, none, or those of some scenario.
fn presentable(trial: &mut Trial<'_>, given: Option<&Value>, cases: &[(PathBuf, Scenario)]) -> Result<Policy> {
    if let Some(settings) = given {
        return trial.with(settings);
    }
    let without = match trial.with(&Value::Null) {
        Ok(policy) => return Ok(policy),
        Err(error) => error,
    };
    let mut others = cases.iter().map(|(_, case)| case.own_settings()).filter(|settings| !settings.is_null());
    others.find_map(|settings| trial.with(settings).ok()).ok_or(without)
}

fn render(tested: &Tested) -> String {
    let mut text = format!("{}\n", styled(STRONG, &tested.policy));
    for Outcome { name, file, failures } in &tested.scenarios {
        let sign = if failures.is_empty() { styled(GOOD, "✓") } else { styled(BAD, "✗") };
        let file = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let _ = writeln!(text, "{sign} {name}  {}", styled(FAINT, &file));
        for failure in failures {
            let _ = writeln!(text, "    {failure}");
        }
    }
    for Verdict { property, cases, broken } in &tested.properties {
        let sign = if broken.is_none() { styled(GOOD, "✓") } else { styled(BAD, "✗") };
        let cases = if *cases > 1 { styled(FAINT, &format!("  {cases} cases")) } else { String::new() };
        let _ = writeln!(text, "{sign} {property}{cases}");
        if let Some(broken) = broken {
            let _ = writeln!(text, "    {}", broken.message);
            if let Some(scenario) = &broken.scenario {
                let _ = writeln!(text, "    the smallest scenario that shows it, for `muster policy run`:");
                for line in scenario.to_yaml().lines() {
                    let _ = writeln!(text, "    {line}");
                }
            }
        }
    }
    text
}
