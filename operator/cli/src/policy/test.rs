//! `muster policy test`: scenarios and properties.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use muster_policy_host::{Engine, Limits};
use muster_policy_kit::properties::{self, Effort, Verdict};
use muster_policy_kit::{Bytes, Policy, Scenario, judge, play, scenario};
use serde::Serialize;
use serde_json::Value;

use super::args::With;
use super::engine;
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
    let (bytes, folder) = named(policy)?;
    let cases = cases(scenarios, folder.as_deref())?;
    let cases: Vec<_> = cases.into_iter().filter(|(_, case)| filter.is_none_or(|part| case.name.contains(part))).collect();
    let (engine, given) = (engine()?, with.settings()?);
    // Whoever gives no deadline tests answers, and not this machine.
    let limits = with.limits()?;
    let patient = Limits::new(Limits::DEADLINE_RANGE.1, limits.memory());
    let outcomes = cases.iter().map(|(file, case)| {
        let own = Some(&case.settings).filter(|settings| !settings.is_null());
        let failures = one(&engine, &bytes, patient, given.as_ref().or(own).unwrap_or(&Value::Null), case);
        Outcome { name: case.name.clone(), file: file.clone(), failures }
    });
    let outcomes: Vec<Outcome> = outcomes.collect();
    let properties = if effort.cases == 0 || filter.is_some() {
        Vec::new()
    } else {
        properties::check(&presentable(&engine, &bytes, limits, given.as_ref(), &cases)?, effort)?
    };
    if outcomes.is_empty() && properties.is_empty() {
        bail!("there is nothing to test: no scenario, and no property");
    }
    let tested = Tested { policy: bytes.origin, scenarios: outcomes, properties };
    output::show(output, &tested, || render(&tested))?;
    let broken = tested.properties.iter().filter(|verdict| verdict.broken.is_some()).count();
    let failed = tested.scenarios.iter().filter(|outcome| !outcome.failures.is_empty()).count();
    match failed + broken {
        0 => Ok(()),
        count => bail!("{count} of {} tests failed", tested.scenarios.len() + tested.properties.len()),
    }
}

/// The component that is meant, and the folder of its scenarios.
fn named(policy: &str) -> Result<(Bytes, Option<PathBuf>)> {
    let path = Path::new(policy);
    if !path.is_dir() {
        let beside = path.ancestors().skip(1).take(3).map(|folder| folder.join("scenarios")).find(|folder| folder.is_dir());
        return Ok((Bytes::read(policy)?, beside));
    }
    let folder = path.canonicalize()?;
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let scenarios = folder.join("scenarios");
    let mut built: Vec<PathBuf> = std::fs::read_dir(folder.join("target"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wasm"))
        .collect();
    built.sort();
    match built.as_slice() {
        [component] => Ok((Bytes::read(&component.to_string_lossy())?, Some(scenarios))),
        [] => match Bytes::of_built_in(&name) {
            Ok(bytes) => Ok((bytes, Some(scenarios))),
            Err(_) => bail!("{}: there is no component in target/; build it with `muster policy build`", folder.display()),
        },
        several => {
            let names: Vec<String> = several.iter().map(|path| path.display().to_string()).collect();
            bail!("{}: there are several components ({}); name one of them", folder.display(), names.join(", "))
        }
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
fn one(engine: &Engine, bytes: &Bytes, limits: Limits, settings: &Value, case: &Scenario) -> Vec<String> {
    let policy = match bytes.load(engine, limits, settings) {
        Ok(policy) => policy,
        Err(error) => return vec![error.to_string()],
    };
    let judged = play(case, &policy).and_then(|report| judge(case, &report));
    judged.unwrap_or_else(|fault| vec![fault.to_string()])
}

/// The policy with settings that it takes: those given, none, or those of some scenario.
fn presentable(
    engine: &Engine,
    bytes: &Bytes,
    limits: Limits,
    given: Option<&Value>,
    cases: &[(PathBuf, Scenario)],
) -> Result<Policy> {
    if let Some(settings) = given {
        return Ok(bytes.load(engine, limits, settings)?);
    }
    let without = match bytes.load(engine, limits, &Value::Null) {
        Ok(policy) => return Ok(policy),
        Err(error) => error,
    };
    let others = cases.iter().map(|(_, case)| &case.settings).filter(|settings| !settings.is_null());
    others.into_iter().find_map(|settings| bytes.load(engine, limits, settings).ok()).ok_or_else(|| without.into())
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
