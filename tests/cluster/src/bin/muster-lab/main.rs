//! `muster-lab`: what `cargo xtask up` and `cargo xtask down` run once everything is built.

mod progress;
mod up;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use muster_cluster::{STATE_FOLDER, remove, root};

/// A cluster of simulated nodes on this machine, with Muster in it.
#[derive(Debug, Parser)]
#[command(name = "muster-lab")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts the cluster, or what is missing of it, and applies examples.
    Up(up::Up),
    /// Stops the cluster and deletes its state.
    Down,
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Up(up) => up.run().await,
        Command::Down => down(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn down() -> Result<()> {
    let folder = root()?.join(STATE_FOLDER);
    let clusters: Vec<_> = fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    if clusters.is_empty() {
        println!("Nothing is running.");
    }
    let (busy, idle): (Vec<_>, Vec<_>) = clusters.into_iter().partition(|state| belongs_to_running_tests(state));
    for state in idle.iter().filter(|path| path.is_dir()) {
        remove(state)?;
        println!("Stopped and deleted {}.", state.display());
    }
    for state in &busy {
        println!("Left {} to the tests that are using it.", state.display());
    }
    if busy.is_empty() && folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("deleting {}", folder.display()))?;
    }
    Ok(())
}

/// Tests name their cluster `test-<pid>` and remove it themselves when they end.
fn belongs_to_running_tests(state: &Path) -> bool {
    let name = state.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let pid = name.strip_prefix("test-").and_then(|pid| pid.parse().ok()).and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
}
