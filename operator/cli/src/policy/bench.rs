//! `muster policy bench`.

use anyhow::{Context as _, Result, bail};
use comfy_table::{Table, presets};
use muster_policy_kit::Policy;
use muster_policy_kit::bench::{Measured, measure};
use serde_json::Value;

use super::args::With;
use super::{Trial, counting_engine, duration, engine, grouped, size};
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
    let (engine, counting) = (engine()?, counting_engine()?);
    let settings = with.settings()?.unwrap_or(Value::Null);
    let budgets = wanted.budgets.iter().map(|text| budget(text)).collect::<Result<Vec<_>>>()?;
    let (mut all, mut own) = (Vec::new(), None);
    for name in std::iter::once(policy).chain(wanted.compare) {
        let mut trial = Trial::of(&engine, name, with.limits(name)?)?;
        let (counting, policy) = (trial.counting(&counting).with(&settings)?, trial.with(&settings)?);
        // A startup policy is asked about no nodes.
        let nodes = if matches!(policy, Policy::Startup(_)) { &[0] } else { wanted.nodes };
        for nodes in nodes {
            for units in wanted.units {
                all.push(measure(&policy, &counting, *nodes, *units, wanted.calls)?);
            }
        }
        own.get_or_insert(all.len());
    }
    if cfg!(debug_assertions) {
        anstream::eprintln!(
            "note: this muster was built without optimisation; the operator's times are some hundred times smaller"
        );
    }
    let own = own.unwrap_or(all.len());
    output::show(output, &all, || render(&all, own))?;
    if let Some(failed) = all.iter().find_map(|measured| measured.failure.as_ref()) {
        bail!("a call gave no answers: {failed}");
    }
    let over: Vec<String> = all[..own].iter().flat_map(|measured| exceeded(measured, &budgets)).collect();
    if over.is_empty() { Ok(()) } else { bail!("over budget: {}", over.join("; ")) }
}

/// The figure that is a number; all others are times.
const INSTRUCTIONS: &str = "instructions";

/// `p99=1ms`, or `instructions=5M`.
fn budget(text: &str) -> Result<(String, f64)> {
    let wrong = || {
        format!(
            "--budget {text:?}: write FIGURE=TIME, such as p99=1ms, or instructions=NUMBER, such as instructions=5M; figures are p50, \
             p99, max and instantiate, numbers end in K, M, G or nothing"
        )
    };
    let (figure, most) = text.split_once('=').with_context(wrong)?;
    let units: &[(&str, f64)] = match figure {
        "p50" | "p99" | "max" | "instantiate" => &[("ms", 1e3), ("us", 1.0), ("µs", 1.0), ("s", 1e6)],
        INSTRUCTIONS => &[("K", 1e3), ("M", 1e6), ("G", 1e9), ("", 1.0)],
        _ => &[],
    };
    let read = |(unit, factor): &(&str, f64)| Some(most.strip_suffix(unit)?.trim().parse::<f64>().ok()? * factor);
    // A budget of NaN would be kept by everything.
    let most = units.iter().find_map(read).filter(|most| *most >= 0.0);
    Ok((figure.to_owned(), most.with_context(wrong)?))
}

/// A figure as a person reads it.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number that is not negative")]
fn shown(figure: &str, value: f64) -> String {
    if figure == INSTRUCTIONS { grouped(value as u64) } else { duration(value) }
}

fn exceeded(measured: &Measured, budgets: &[(String, f64)]) -> Vec<String> {
    let over = budgets.iter().filter_map(|(figure, most)| {
        let took = measured.figure(figure).filter(|took| took > most)?;
        let Measured { nodes, units, .. } = measured;
        Some(format!("{figure} {} > {} ({nodes} nodes, {units} units)", shown(figure, took), shown(figure, *most)))
    });
    over.collect()
}

fn render(all: &[Measured], own: usize) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    let mut header = vec!["POLICY", "NODES", "UNITS", "P50", "P99", "MAX", "INSTANTIATE", "MEMORY", "INSTRUCTIONS", "NATIVE"];
    let compared = own < all.len();
    header.extend(compared.then_some(["P50 RATIO", "INSTRUCTIONS RATIO"]).into_iter().flatten());
    table.set_header(header);
    for (position, measured) in all.iter().enumerate() {
        let native = measured.native.map(duration).unwrap_or_default();
        // The second policy is compared with the first at the same question.
        let twin = position.checked_sub(own).and_then(|twin| all[..own].get(twin));
        let ratio = |figure| {
            let (of, to) = (measured.figure(figure)?, twin?.figure(figure)?);
            Some(format!("{:.2}", of / to))
        };
        let mut row = vec![
            measured.policy.clone(),
            measured.nodes.to_string(),
            measured.units.to_string(),
            duration(measured.p50),
            duration(measured.p99),
            duration(measured.max),
            duration(measured.instantiate),
            size(measured.peak_memory_bytes),
            measured.instructions.map(grouped).unwrap_or_default(),
            native,
        ];
        if compared {
            row.extend(["p50", INSTRUCTIONS].map(|figure| ratio(figure).unwrap_or_default()));
        }
        table.add_row(row);
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_a_figure_and_a_time_or_a_number_of_instructions() {
        assert_eq!(budget("p99=1ms").unwrap(), ("p99".to_owned(), 1000.0));
        assert_eq!(budget("p50=250us").unwrap(), ("p50".to_owned(), 250.0));
        for (text, most) in [("5M", 5e6), ("800K", 8e5), ("1.5G", 1.5e9), ("1234567", 1_234_567.0)] {
            assert_eq!(budget(&format!("instructions={text}")).unwrap(), ("instructions".to_owned(), most));
        }
        for wrong in ["p98=1ms", "p99=5M", "p99=1", "instructions=5ms", "instructions=-1", "instructions=NaN", "p99"] {
            let error = budget(wrong).unwrap_err().to_string();
            let expected = format!(
                "--budget {wrong:?}: write FIGURE=TIME, such as p99=1ms, or instructions=NUMBER, such as instructions=5M; figures are \
                 p50, p99, max and instantiate, numbers end in K, M, G or nothing"
            );
            assert_eq!(error, expected);
        }
    }
}
