//! `muster policy simulate`: the same workload under several policies.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use comfy_table::{Table, presets};
use muster_policy_host::Engine;
use muster_policy_kit::scenario::read;
use muster_policy_kit::simulate::{Outcome, Plan, Workload, html, simulate, svg};
use muster_policy_kit::{Policy, properties};
use serde_json::Value;

use super::args::{With, settings};
use super::{engine, load};
use crate::args::Output;
use crate::output;

/// What is simulated.
#[derive(Debug, Clone, Args)]
pub(crate) struct Course {
    /// Nodes of a generated cluster, in racks of about 17 with 8 accelerators each.
    #[arg(long, default_value_t = 102)]
    nodes: u32,
    /// A scenario or snapshot whose nodes are the cluster.
    #[arg(long, conflicts_with = "nodes")]
    cluster: Option<std::path::PathBuf>,
    /// Label key at which every set is exclusive.
    #[arg(long)]
    exclusive: Option<String>,
    /// Hours.
    #[arg(long, default_value_t = 12.0)]
    hours: f64,
    /// Mean seconds between two sets.
    #[arg(long, default_value_t = 600.0)]
    arrival: f64,
    /// Mean seconds that a group runs.
    #[arg(long, default_value_t = 3600.0)]
    runtime: f64,
    /// Pods of a group; each set draws one.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8")]
    sizes: Vec<u32>,
    /// Most groups of a set.
    #[arg(long, default_value_t = 4)]
    groups: u32,
    /// Accelerators that a pod asks for.
    #[arg(long, default_value_t = 8)]
    accelerators: u32,
    /// Mean hours between two failures of one node; 0 for never.
    #[arg(long, default_value_t = 72.0)]
    failure: f64,
    /// Seeds: each is a workload of its own, and the figures are their means.
    #[arg(long, value_delimiter = ',', default_value = "1,2,3")]
    seeds: Vec<u64>,
    /// File for the curves of the first seed: .svg or .html.
    #[arg(long)]
    plot: Option<std::path::PathBuf>,
}

/// Settings of single policies, by the names that they have on the command line.
struct Own<'a>(BTreeMap<&'a str, Value>);

impl<'a> Own<'a> {
    fn read(given: &'a [String], contenders: &[String]) -> Result<Self> {
        let each = given.iter().map(|text| {
            let (name, own) = text.split_once('=').with_context(|| {
                format!("--settings-of {text:?}: write POLICY=SETTINGS, such as builtin:spread={{key: example.com/rack}}")
            })?;
            if !contenders.iter().flat_map(|chain| chain.split(',')).any(|known| known == name) {
                bail!("--settings-of {text:?}: no policy {name:?} is simulated; name it as among the policies");
            }
            Ok((name, settings("--settings-of", own)?))
        });
        each.collect::<Result<_>>().map(Self)
    }
}

/// The policies of a contender, in their order.
fn chain(engine: &Engine, names: &str, own: &Own<'_>, with: &With, shared: &Value) -> Result<Vec<Policy>> {
    let each = names.split(',').map(|name| match name {
        "" => bail!("{names:?}: there is a comma too many; write a chain as builtin:node-pool,builtin:exclusive"),
        name => load(engine, name, with.limits(name)?, own.0.get(name).unwrap_or(shared)),
    });
    each.collect()
}

pub(super) fn run(policies: &[String], settings_of: &[String], course: &Course, with: &With, output: Output) -> Result<()> {
    let engine = engine()?;
    let (shared, own) = (with.settings()?.unwrap_or(Value::Null), Own::read(settings_of, policies)?);
    let contenders = policies.iter().map(String::as_str).chain(["native"]);
    let loaded = contenders.map(|names| chain(&engine, names, &own, with, &shared)).collect::<Result<Vec<Vec<Policy>>>>()?;
    let cluster = match &course.cluster {
        Some(file) => read(file)?.remove(0),
        None => {
            let mut levels: Vec<String> = loaded.iter().flatten().flat_map(|policy| policy.preparation().levels).collect();
            // The narrowest level has the racks, and that is where sets are to be exclusive.
            levels.retain(|key| course.exclusive.as_ref() != Some(key));
            levels.extend(course.exclusive.clone());
            let mut seen = std::collections::BTreeSet::new();
            levels.retain(|key| seen.insert(key.clone()));
            if levels.is_empty() {
                levels.push("example.com/rack".to_owned());
            }
            properties::cluster_of(&levels, course.nodes)
        }
    };
    let nodes = cluster.sites()?.node_count();
    let Some(first) = course.seeds.first() else { bail!("--seeds: name at least one") };
    let (mut means, mut curves) = (Vec::new(), Vec::new());
    for policies in &loaded {
        let mut outcomes = Vec::new();
        for seed in &course.seeds {
            let plan = course.plan(*seed);
            let outcome = simulate(policies, &cluster, &plan, &Workload::draw(&plan, nodes))?;
            if seed == first {
                curves.push(outcome.clone());
            }
            outcomes.push(outcome);
        }
        means.extend(mean(&outcomes));
    }
    if let Some(file) = &course.plot {
        plot(file, &curves)?;
    }
    output::show(output, &means, || render(&means, course.seeds.len()))
}

impl Course {
    fn plan(&self, seed: u64) -> Plan {
        Plan {
            seed,
            horizon: self.hours * 3600.0,
            arrival: self.arrival,
            runtime: self.runtime,
            sizes: self.sizes.clone(),
            groups: self.groups,
            accelerators: self.accelerators,
            failure: self.failure * 3600.0,
            exclusive: self.exclusive.clone(),
            ..Plan::default()
        }
    }
}

/// Counts are sums over the seeds, figures their means.
fn mean(outcomes: &[Outcome]) -> Option<Outcome> {
    let first = outcomes.first()?.clone();
    #[expect(clippy::cast_precision_loss, reason = "a handful of seeds")]
    let mean = |of: fn(&Outcome) -> f64| outcomes.iter().map(of).sum::<f64>() / outcomes.len() as f64;
    let sum = |of: fn(&Outcome) -> u32| outcomes.iter().map(of).sum::<u32>();
    Some(Outcome {
        asked: sum(|outcome| outcome.asked),
        placed: sum(|outcome| outcome.placed),
        wedged: sum(|outcome| outcome.wedged),
        refused: sum(|outcome| outcome.refused),
        calls: sum(|outcome| outcome.calls),
        failed_calls: sum(|outcome| outcome.failed_calls),
        never: sum(|outcome| outcome.never),
        utilisation: mean(|outcome| outcome.utilisation),
        fragmentation: mean(|outcome| outcome.fragmentation),
        wait_p50: mean(|outcome| outcome.wait_p50),
        wait_p99: mean(|outcome| outcome.wait_p99),
        ..first
    })
}

fn plot(file: &Path, curves: &[Outcome]) -> Result<()> {
    let drawn = match file.extension().and_then(|extension| extension.to_str()) {
        Some("svg") => svg(curves),
        Some("html") => html(curves),
        _ => bail!("--plot {}: name a file that ends in .svg or .html", file.display()),
    };
    let drawn = drawn.map_err(anyhow::Error::msg)?;
    std::fs::write(file, drawn).with_context(|| format!("--plot: writing {}", file.display()))
}

fn render(outcomes: &[Outcome], seeds: usize) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header([
        "POLICY",
        "UTILISATION",
        "FRAGMENTED",
        "WAIT P50",
        "WAIT P99",
        "PLACED",
        "NEVER",
        "WEDGED",
        "REFUSED",
        "FAILED CALLS",
    ]);
    for outcome in outcomes {
        table.add_row([
            outcome.policy.clone(),
            format!("{:.1}%", outcome.utilisation * 100.0),
            format!("{:.1}%", outcome.fragmentation * 100.0),
            format!("{:.0} s", outcome.wait_p50),
            format!("{:.0} s", outcome.wait_p99),
            format!("{}/{}", outcome.placed, outcome.asked),
            outcome.never.to_string(),
            outcome.wedged.to_string(),
            outcome.refused.to_string(),
            format!("{}/{}", outcome.failed_calls, outcome.calls),
        ]);
    }
    let seeds = if seeds == 1 { String::new() } else { format!("\nmeans and sums over {seeds} seeds") };
    format!("{}{seeds}", table.trim_fmt())
}
