//! `muster policy`: the author's kit on the command line. What it does is in `muster-policy-kit`; here it is read and printed.

pub(crate) mod args;
mod check;
mod run;
mod test;

use anyhow::Result;
use muster_policy_host::{Engine, EngineOptions, Limits};
use muster_policy_kit::{Bytes, Policy};
use serde_json::Value;

use self::args::PolicyCommand;

/// Carries a command out.
pub(crate) fn run(command: PolicyCommand) -> Result<()> {
    match command {
        PolicyCommand::Check { policy, with, output } => check::check(&policy, &with, output),
        PolicyCommand::Inspect { policy, output } => check::inspect(&policy, output),
        PolicyCommand::Run { policy, scenario, with, output } => run::run(&policy, &scenario, &with, output),
        PolicyCommand::Test { policy, scenarios, filter, cases, seed, with, output } => {
            let effort = muster_policy_kit::properties::Effort { cases, seed };
            test::test(&policy, scenarios.as_deref(), filter.as_deref(), effort, &with, output)
        }
    }
}

/// An engine like the operator's.
fn engine() -> Result<Engine> {
    Ok(Engine::new(EngineOptions::default())?)
}

/// The policy that a person names: a file, `builtin:NAME` or `native`.
fn load(engine: &Engine, name: &str, limits: Limits, settings: &Value) -> Result<Policy> {
    if name == "native" {
        return Ok(Policy::Native);
    }
    Ok(Bytes::read(name)?.load(engine, limits, settings)?)
}

/// Microseconds as a person reads them.
fn duration(micros: f64) -> String {
    match micros {
        micros if micros >= 1e6 => format!("{:.2} s", micros / 1e6),
        micros if micros >= 1e3 => format!("{:.2} ms", micros / 1e3),
        micros => format!("{micros:.0} µs"),
    }
}

/// Bytes as a person reads them.
#[expect(clippy::cast_precision_loss, reason = "rounded for reading anyway")]
fn size(bytes: usize) -> String {
    match bytes {
        bytes if bytes >= 1 << 20 => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
        bytes if bytes >= 1 << 10 => format!("{:.1} KiB", bytes as f64 / f64::from(1 << 10)),
        bytes => format!("{bytes} B"),
    }
}
