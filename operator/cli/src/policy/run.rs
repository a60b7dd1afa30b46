//! `muster policy run`: one call.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use comfy_table::{Table, presets};
use muster_policy_kit::scenario::read;
use muster_policy_kit::{Decided, Report, play};
use serde_json::Value;

use super::args::With;
use super::{Trial, duration, engine, size};
use crate::args::Output;
use crate::output::{self, BAD, FAINT, STRONG, styled};

pub(super) fn run(policy: &str, file: &Path, with: &With, output: Output) -> Result<()> {
    let (engine, limits, given) = (engine()?, with.limits(policy)?, with.settings()?);
    let mut reports = Vec::new();
    let mut trial = Trial::of(&engine, policy, limits)?;
    for scenario in read(file)? {
        let own = Some(&scenario.settings).filter(|settings| !settings.is_null());
        let settings = given.as_ref().or(own).unwrap_or(&Value::Null);
        let policy = trial.with(settings)?;
        // The first call touches every page of the instance for the first time; authors want to see what the others take.
        play(&scenario, &policy).with_context(|| format!("{}: {}", file.display(), scenario.name))?;
        reports.push(play(&scenario, &policy)?);
    }
    match (reports.as_slice(), output) {
        ([report], _) => output::show(output, report, || render(report))?,
        _ => output::show(output, &reports, || reports.iter().map(render).collect::<Vec<_>>().join("\n"))?,
    }
    if reports.iter().any(|report| report.failure.is_some()) {
        bail!("the policy gave no answers");
    }
    if reports.iter().any(|report| report.decisions.iter().any(|decided| decided.rejected.is_some())) {
        bail!("the operator would refuse answers");
    }
    Ok(())
}

fn render(report: &Report) -> String {
    let mut text = format!("{}  {}\n", styled(STRONG, &report.scenario), styled(FAINT, &report.policy));
    if let Some(failure) = &report.failure {
        let _ = writeln!(text, "{} {}", styled(BAD, &failure.kind), failure.message);
    }
    if !report.decisions.is_empty() {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header(["UNIT", "DECISION", "WHERE", "REASON", "CHECK"]);
        for decided in &report.decisions {
            let check = decided.rejected.as_ref().map_or("good".to_owned(), |refusal| format!("refused: {}", refusal.message));
            let reason = format!("{}: {}", decided.code, decided.message);
            table.add_row([decided.id.to_string(), decision(decided), places(decided), reason, check]);
        }
        let _ = writeln!(text, "{}", table.trim_fmt());
    }
    for decided in report.decisions.iter().filter(|decided| !decided.avoid.is_empty() || !decided.effects.is_empty()) {
        let avoid = (!decided.avoid.is_empty()).then(|| format!("avoids {}", decided.avoid.join(", ")));
        let gets = (!decided.effects.is_empty()).then(|| format!("gets {}", decided.effects.join(", ")));
        let _ = writeln!(text, "unit {} {}", decided.id, avoid.into_iter().chain(gets).collect::<Vec<_>>().join("; "));
    }
    if !report.unanswered.is_empty() && report.failure.is_none() {
        let units: Vec<String> = report.unanswered.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "no answer for {}", units.join(", "));
    }
    for line in &report.log {
        let _ = writeln!(text, "{} {}", styled(FAINT, &format!("log {}:", line.level)), line.message);
    }
    let cost = &report.cost;
    let _ = writeln!(
        text,
        "{}",
        styled(
            FAINT,
            &format!(
                "{} (instantiate {}), memory {}",
                duration(cost.micros),
                duration(cost.instantiate_micros),
                size(cost.peak_memory_bytes)
            )
        )
    );
    text
}

fn decision(decided: &Decided) -> String {
    match (decided.admit, decided.again_ms) {
        (Some(admit), _) => format!("admit {admit}"),
        (None, Some(again)) => format!("{}, again in {}", decided.decision, duration(f64::from(again) * 1e3)),
        (None, None) => decided.decision.to_owned(),
    }
}

/// At most a few: a ranked answer may name dozens.
fn places(decided: &Decided) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<&str> = decided.places.iter().take(SHOWN).map(String::as_str).collect();
    let more = decided.places.len().saturating_sub(SHOWN);
    let mut text = shown.join(", ");
    if more > 0 {
        let _ = write!(text, " and {more} more");
    }
    match &decided.taken {
        Some(taken) if decided.places.len() > 1 => format!("{taken} of {text}"),
        _ => text,
    }
}
