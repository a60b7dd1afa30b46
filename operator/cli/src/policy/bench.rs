//! `muster policy bench`.

use anyhow::{Context as _, Result, bail};
use comfy_table::{Table, presets};
use muster_policy_kit::bench::{Measured, measure};
use serde_json::Value;

use super::args::With;
use super::{duration, engine, load, size};
use crate::args::Output;
use crate::output;

/// What is measured.
pub(super) struct Wanted<'a> {
    pub(super) nodes: &'a [u32],
    pub(super) units: &'a [u32],
    pub(super) calls: u32,
    pub(super) budgets: &'a [String],
    pub(super) compare: Option<&'a str>,
}

pub(super) fn bench(policy: &str, wanted: &Wanted<'_>, with: &With, output: Output) -> Result<()> {
    let engine = engine()?;
    let settings = with.settings()?.unwrap_or(Value::Null);
    let budgets = wanted.budgets.iter().map(|text| budget(text)).collect::<Result<Vec<_>>>()?;
    let mut all = Vec::new();
    for name in std::iter::once(policy).chain(wanted.compare) {
        let policy = load(&engine, name, with.limits(name)?, &settings)?;
        for nodes in wanted.nodes {
            for units in wanted.units {
                all.push(measure(&policy, *nodes, *units, wanted.calls)?);
            }
        }
    }
    if cfg!(debug_assertions) {
        anstream::eprintln!(
            "note: this muster was built without optimisation; the operator's figures are some hundred times smaller"
        );
    }
    let own = all.len() / if wanted.compare.is_some() { 2 } else { 1 };
    output::show(output, &all, || render(&all, own))?;
    if let Some(failed) = all.iter().find_map(|measured| measured.failure.as_ref()) {
        bail!("a call gave no answers: {failed}");
    }
    let over: Vec<String> = all[..own].iter().flat_map(|measured| exceeded(measured, &budgets)).collect();
    if over.is_empty() { Ok(()) } else { bail!("over budget: {}", over.join("; ")) }
}

/// `p99=1ms`.
fn budget(text: &str) -> Result<(String, f64)> {
    let wrong = || format!("--budget {text:?}: write FIGURE=TIME, such as p99=1ms; figures are p50, p99, max and instantiate");
    let (figure, time) = text.split_once('=').with_context(wrong)?;
    let known = ["p50", "p99", "max", "instantiate"].contains(&figure);
    let units = [("ms", 1e3), ("us", 1.0), ("µs", 1.0), ("s", 1e6)];
    let micros = units.into_iter().find_map(|(unit, factor)| Some(time.strip_suffix(unit)?.trim().parse::<f64>().ok()? * factor));
    Ok((figure.to_owned(), micros.filter(|_| known).with_context(wrong)?))
}

fn exceeded(measured: &Measured, budgets: &[(String, f64)]) -> Vec<String> {
    let over = budgets.iter().filter_map(|(figure, most)| {
        let took = measured.figure(figure).filter(|took| took > most)?;
        let Measured { nodes, units, .. } = measured;
        Some(format!("{figure} {} > {} ({nodes} nodes, {units} units)", duration(took), duration(*most)))
    });
    over.collect()
}

fn render(all: &[Measured], own: usize) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    let mut header = vec!["POLICY", "NODES", "UNITS", "P50", "P99", "MAX", "INSTANTIATE", "MEMORY", "NATIVE"];
    let compared = own < all.len();
    header.extend(compared.then_some("RATIO"));
    table.set_header(header);
    for (position, measured) in all.iter().enumerate() {
        let native = measured.native.map(duration).unwrap_or_default();
        // The second policy is compared with the first at the same question.
        let ratio = position.checked_sub(own).map(|twin| format!("{:.2}", measured.p50 / all[twin].p50));
        let mut row = vec![
            measured.policy.clone(),
            measured.nodes.to_string(),
            measured.units.to_string(),
            duration(measured.p50),
            duration(measured.p99),
            duration(measured.max),
            duration(measured.instantiate),
            size(measured.peak_memory_bytes),
            native,
        ];
        row.extend(compared.then(|| ratio.unwrap_or_default()));
        table.add_row(row);
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_a_figure_and_a_time() {
        assert_eq!(budget("p99=1ms").unwrap(), ("p99".to_owned(), 1000.0));
        assert_eq!(budget("p50=250us").unwrap(), ("p50".to_owned(), 250.0));
        let error = budget("p98=1ms").unwrap_err().to_string();
        assert_eq!(error, "--budget \"p98=1ms\": write FIGURE=TIME, such as p99=1ms; figures are p50, p99, max and instantiate");
    }
}
