//! `muster policy run`: one call.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use comfy_table::{Table, presets};
use muster_policy_kit::scenario::read;
use muster_policy_kit::{Call, Cost, Decided, Library, Report, play};

use super::args::With;
use super::{Trial, counting_engine, duration, engine, grouped, patient, size};
use crate::args::Output;
use crate::output::{self, BAD, FAINT, STRONG, styled};

pub(super) fn run(policy: &str, file: &Path, with: &With, output: Output) -> Result<()> {
    let (engine, counting, limits, given) = (engine()?, counting_engine()?, with.limits(policy)?, with.settings()?);
    let mut reports = Vec::new();
    let mut trial = Trial::of(&engine, policy, limits)?;
    let mut counted = trial.counting(&counting);
    let (others, counted_others) = (Library::new(&engine, limits), Library::new(&counting, patient(limits)));
    for scenario in read(file)? {
        let settings = given.as_ref().unwrap_or(scenario.own_settings());
        let policy = trial.with(settings)?;
        // The first call touches every page of the instance for the first time; authors want to see what the others take.
        play(&scenario, &policy, &others).with_context(|| format!("{}: {}", file.display(), scenario.name))?;
        let counted = play(&scenario, &counted.with(settings)?, &counted_others)?;
        reports.push(play(&scenario, &policy, &others)?.counted(&counted));
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
    if !report.chain.is_empty() {
        let _ = writeln!(text, "{}\n", calls(&report.chain));
    }
    if !report.decisions.is_empty() {
        let _ = writeln!(text, "{}", decisions(report));
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
    let _ = writeln!(text, "{}", styled(FAINT, &cost(&report.cost)));
    text
}

fn cost(cost: &Cost) -> String {
    let Cost { micros, instantiate_micros, peak_memory_bytes, instructions } = cost;
    let instructions = instructions.map(|count| format!(", instructions {}", grouped(count))).unwrap_or_default();
    let (whole, instantiate, memory) = (duration(*micros), duration(*instantiate_micros), size(*peak_memory_bytes));
    format!("{whole} (instantiate {instantiate}), memory {memory}{instructions}")
}

/// What each policy of a chain answered, in the order in which they were asked.
fn calls(chain: &[Call]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["ASKED", "INSIDE", "UNIT", "DECISION", "WHERE", "REASON"]);
    for Call { policy, inside, decisions, .. } in chain {
        let inside = if inside.is_empty() { "anywhere".to_owned() } else { inside.join(", ") };
        if decisions.is_empty() {
            table.add_row([policy, &inside, "", "nothing", "", ""]);
        }
        for (position, decided) in decisions.iter().enumerate() {
            let (policy, inside) = if position == 0 { (policy.as_str(), inside.as_str()) } else { ("", "") };
            let reason = format!("{}: {}", decided.code, decided.message);
            table.add_row([policy, inside, &decided.id.to_string(), &decision(decided), &places(decided), &reason]);
        }
    }
    table.trim_fmt()
}

/// What comes out: columns for a chain and for subgroups only where there are some.
fn decisions(report: &Report) -> String {
    let chained = !report.chain.is_empty();
    let divided = report.decisions.iter().any(|decided| !decided.subgroups.is_empty());
    let mut table = Table::new();
    let mut header = vec!["UNIT", "DECISION", "WHERE"];
    header.extend(divided.then_some("SUBGROUPS"));
    header.extend(chained.then_some("BY"));
    header.extend(["REASON", "CHECK"]);
    table.load_preset(presets::NOTHING).set_header(header);
    for decided in &report.decisions {
        let mut row = vec![decided.id.to_string(), decision(decided), places(decided)];
        row.extend(divided.then(|| subgroups(decided)));
        row.extend(chained.then(|| decided.by.clone().unwrap_or_default()));
        row.push(format!("{}: {}", decided.code, decided.message));
        row.push(decided.rejected.as_ref().map_or("good".to_owned(), |refusal| format!("refused: {}", refusal.message)));
        table.add_row(row);
    }
    table.trim_fmt()
}

fn subgroups(decided: &Decided) -> String {
    let leader = decided.leader.iter().map(|leader| format!("leader {leader}"));
    decided.subgroups.iter().cloned().chain(leader).collect::<Vec<_>>().join(", ")
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
