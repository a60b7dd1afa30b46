//! How long Muster takes for what it does most, at the sizes that it is made for.
//!
//! `cargo xtask bench` builds it with optimisation and runs it. Times depend on the machine, so each line says what it must not
//! exceed *and* what something else took in the same run.

mod fleet;
mod guests;
mod index_lines;
mod measure;
mod policy_lines;
mod table;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use muster_policy_host::{Engine, EngineOptions};

use crate::measure::Effort;
use crate::table::{Line, table};

#[derive(Debug, Parser)]
#[command(name = "muster-bench", about = "Measures Muster's index, placement and policies")]
struct Args {
    /// Tiny clusters and few calls, in a few seconds: whether everything still runs. The times mean nothing.
    #[arg(long)]
    smoke: bool,
    /// Fails when a line exceeds its target.
    #[arg(long)]
    strict: bool,
    /// Only these parts.
    #[arg(long, num_args = 1.., value_enum)]
    only: Vec<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Memory, events and views.
    Index,
    /// A whole set placed anew.
    Replan,
    /// Calls of placement policies.
    Placement,
    /// Calls of startup policies.
    Startup,
    /// Loading policies.
    Loading,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let lines = measure(&args)?;
    println!("{}", table(&lines));
    println!("\nP50 and P99 without, WALL P99 with the time that a run waited for a processor that other programs had.");
    if args.smoke {
        println!("\nA smoke run: the times mean nothing.");
        return Ok(ExitCode::SUCCESS);
    }
    let missed: Vec<&str> = lines.iter().filter(|line| line.is_missed()).map(|line| line.what.as_str()).collect();
    if !missed.is_empty() {
        println!("\nOver the target: {}", missed.join("; "));
    }
    Ok(if args.strict && !missed.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn measure(args: &Args) -> Result<Vec<Line>> {
    let effort = Effort { smoke: args.smoke };
    let wanted = |part| args.only.is_empty() || args.only.contains(&part);
    let mut lines = Vec::new();
    // First, because memory that something else has given back would hide what the index takes.
    if wanted(Part::Index) {
        index_lines::lines(effort, &mut lines);
    }
    if wanted(Part::Replan) {
        index_lines::replan(effort, &mut lines);
    }
    let engine = Engine::new(EngineOptions::default())?;
    if wanted(Part::Placement) {
        policy_lines::placement(effort, &engine, &mut lines)?;
    }
    if wanted(Part::Startup) {
        policy_lines::startup(effort, &engine, &mut lines)?;
    }
    if wanted(Part::Loading) {
        policy_lines::loading(effort, &mut lines)?;
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Figure;

    #[test]
    fn everything_is_measured_over_tiny_clusters() {
        let lines = measure(&Args { smoke: true, strict: false, only: Vec::new() }).unwrap_or_else(|error| panic!("{error:#}"));
        let took_time = |line: &&Line| matches!(line.figure, Figure::Times(times) if times.p99 > 0.0);
        // All but the line about memory, which tiny clusters take none of that could be seen.
        assert_eq!(lines.iter().filter(took_time).count(), lines.len() - 1, "{}", table(&lines));
        assert!(lines.len() > 10, "{}", table(&lines));
    }
}
