//! `cargo xtask`: one interface for people and for CI.
//!
//! Thin: it sees to what must be installed, builds what is missing into the cache, and calls the program that does the work.

mod cache;
mod checks;
mod examples;
mod failures;
mod go;
mod policies;
mod prerequisites;
mod work;

use std::process::{Command, ExitCode, ExitStatus};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::cache::Cache;

/// Everything that is done to this repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Builds what is missing, starts a cluster of simulated nodes with Muster in it, and applies an example.
    ///
    /// Options: --example NAME (may be repeated; default vllm-gpu), --nodes N, --keep-going, --api-port PORT, --timeout SECONDS,
    /// --values JSON (of the Helm chart).
    Up {
        /// Passed on; `cargo xtask up -- --help` describes them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Stops the cluster and deletes everything it kept.
    Down,
    /// Everything that CI runs, with a summary at the end.
    Test {
        /// Only these steps, by name.
        #[arg(long, num_args = 1.., value_enum)]
        only: Vec<checks::Step>,
    },
    /// Formatting and clippy.
    Lint,
    /// Builds the policies' components.
    Policies,
    /// Builds and tests policies in five languages (the examples, and new projects), installing compilers that are missing.
    Examples,
    /// Writes the generated files again.
    Generate,
    /// Measures the index, placement and policies at full size, beside their targets: a table. Takes minutes.
    ///
    /// Options: --only index|replan|placement|startup|loading (several), --strict (fail over a target), --smoke (tiny, in seconds).
    Bench {
        /// Passed on; `cargo xtask bench -- --help` describes them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Tests against the real control plane, those whose name contains FILTER. MUSTER_TEST_KEEP=1 keeps the cluster for the next run.
    E2e {
        /// Part of a test's name.
        filter: Option<String>,
    },
}

fn main() -> ExitCode {
    let done = Cache::find().and_then(|cache| run(Args::parse().task, &cache));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task, cache: &Cache) -> Result<()> {
    match task {
        Task::Up { options } => {
            prerequisites::check()?;
            programs(cache)?;
            lab(cache, "up", &options)
        }
        Task::Down => down(cache),
        Task::Test { only } => checks::run(cache, &only),
        Task::Lint => checks::run(cache, &[checks::Step::Fmt, checks::Step::Clippy]),
        Task::Policies => {
            let built = policies::build(&cache.root, &cache.folder)?;
            println!("The components are in {}.", built.display());
            Ok(())
        }
        Task::Examples => examples::test(cache),
        Task::Generate => checks::generate(cache),
        Task::Bench { options } => bench(cache, &options),
        Task::E2e { filter } => {
            prerequisites::check()?;
            programs(cache)?;
            let mut tests = checks::cluster_tests(cache);
            tests.args(["--package", "muster-e2e", "--", "--nocapture"]).args(filter);
            attached(tests)
        }
    }
}

/// Builds all that a cluster with Muster in it consists of.
fn programs(cache: &Cache) -> Result<()> {
    go::build(cache)?;
    policies::build(&cache.root, &cache.folder)?;
    let packages = ["--package", "muster-operator", "--package", "muster-cli", "--package", "muster-cluster"];
    let build = cache.cargo(&[&["build", "--bins"], &packages[..]].concat());
    work::run("building the operator and muster", build, &cache.log("operator"))
}

/// Builds the measurements with the settings of a release and runs them.
fn bench(cache: &Cache, options: &[String]) -> Result<()> {
    policies::build(&cache.root, &cache.folder)?;
    let build = cache.cargo(&["build", "--profile", "bench", "--package", "muster-bench"]);
    work::run("building the measurements", build, &cache.log("bench"))?;
    // Cargo keeps what the profile `bench` makes with the release builds.
    let mut command = cache.command(cache.target().join("release/muster-bench"));
    command.args(options);
    attached(command)
}

/// Stops what `up` started. On a machine where nothing was ever built there is nothing to stop.
fn down(cache: &Cache) -> Result<()> {
    let program = cache.target().join("debug/muster-lab");
    if !program.exists() && !cache.root.join(".muster").exists() {
        println!("Nothing is running.");
        return Ok(());
    }
    if !program.exists() {
        let build = cache.cargo(&["build", "--package", "muster-cluster", "--bins"]);
        work::run("building muster-lab", build, &cache.log("lab"))?;
    }
    lab(cache, "down", &[])
}

fn lab(cache: &Cache, task: &str, options: &[String]) -> Result<()> {
    let mut command = cache.command(cache.target().join("debug/muster-lab"));
    command.arg(task).args(options);
    attached(command)
}

/// Runs a command on our terminal and ends as it does.
fn attached(mut command: Command) -> Result<()> {
    let status: ExitStatus = command.status().with_context(|| format!("starting {}", command.get_program().display()))?;
    if !status.success() {
        // It has said why.
        std::process::exit(status.code().unwrap_or(1));
    }
    Ok(())
}
