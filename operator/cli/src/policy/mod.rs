//! `muster policy`: the author's kit on the command line. What it does is in `muster-policy-kit`; here it is read and printed.

pub(crate) mod args;
mod bench;
mod check;
mod named;
mod project;
mod registry;
mod replay;
mod run;
mod simulate;
mod test;

use std::time::Duration;

use anyhow::Result;
use muster_policy_host::{CacheOptions, Engine, EngineOptions, Limits};
use muster_policy_kit::{Bytes, Policy};
use serde_json::Value;

use self::args::PolicyCommand;
use self::named::Found;
use crate::args::Corner;
use crate::capture;
use crate::read::Reader;

/// Carries a command out. `before` is what was said of the cluster before the command.
pub(crate) async fn run(command: PolicyCommand, before: Corner) -> Result<()> {
    match command {
        PolicyCommand::Record { set, all, kept, corner } => {
            let reader = Reader::of(&corner.or(before)).await?;
            capture::record(&reader, &set, all, &kept).await
        }
        PolicyCommand::Bench { policy, nodes, units, calls, budget, compare, with, output } => {
            let wanted = bench::Wanted { nodes: &nodes, units: &units, calls, budgets: &budget, compare: compare.as_deref() };
            bench::bench(&policy, &wanted, &with, output)
        }
        PolicyCommand::Replay { files, policy, against, against_settings, with, output } => {
            let settings = against_settings.as_deref();
            let against = against.as_deref().map(|policy| replay::Against { policy, settings });
            replay::replay(&files, &policy, against.as_ref(), &with, output)
        }
        PolicyCommand::Simulate { policies, settings_of, course, with, output } => {
            simulate::run(&policies, &settings_of, &course, &with, output)
        }
        PolicyCommand::Check { policy, with, output } => check::check(&policy, &with, output),
        PolicyCommand::Inspect { policy, spoken, output } => check::inspect(&policy, &spoken, output).await,
        PolicyCommand::New { name, lang, startup, dir } => project::new(&name, lang, startup, dir.as_deref()),
        PolicyCommand::Build { dir, out, output } => project::build(&dir, out, output),
        PolicyCommand::Push { policy, to, annotation, spoken, output } => {
            registry::push(&policy, &to, &annotation, &spoken, output).await
        }
        PolicyCommand::Pull { from, file, spoken, output } => registry::pull(&from, file.as_deref(), &spoken, output).await,
        PolicyCommand::Keygen { name } => registry::keygen(&name),
        PolicyCommand::Sign { what, key, spoken, output } => registry::sign(&what, &key, &spoken, output).await,
        PolicyCommand::Verify { what, trusted, spoken, output } => registry::verify(&what, &trusted, &spoken, output).await,
        PolicyCommand::Run { policy, scenario, with, output } => run::run(&policy, &scenario, &with, output),
        PolicyCommand::Test { policy, scenarios, filter, cases, seed, with, output } => {
            let effort = muster_policy_kit::properties::Effort { cases, seed };
            test::test(&policy, scenarios.as_deref(), filter.as_deref(), effort, &with, output)
        }
    }
}

/// How much compiled code is kept.
const COMPILED_BYTES: u64 = 512 << 20;
/// A host that was built without optimisation compiles many times slower than the operator.
const PATIENCE: Duration = Duration::from_secs(600);

/// An engine like the operator's. What it compiled once is there at once the next time.
fn engine() -> Result<Engine> {
    engine_that(false)
}

/// An engine that counts instructions. It is slower than the operator's, so no time is taken of it.
fn counting_engine() -> Result<Engine> {
    engine_that(true)
}

fn engine_that(count_instructions: bool) -> Result<Engine> {
    let folder = project::cache().ok().map(|cache| cache.join("compiled"));
    let usual = EngineOptions::default();
    let compile_timeout = if cfg!(debug_assertions) { PATIENCE } else { usual.compile_timeout };
    let cache = folder.map(|folder| CacheOptions { folder, max_bytes: COMPILED_BYTES });
    Ok(Engine::new(EngineOptions { cache, compile_timeout, count_instructions, ..usual })?)
}

/// A policy that is found and compiled once, whatever settings it is then tried with.
struct Trial<'a> {
    engine: &'a Engine,
    limits: Limits,
    /// None is the native rule.
    bytes: Option<Bytes>,
    compiled: Option<Policy>,
}

impl<'a> Trial<'a> {
    /// The policy that a person names: a file, a project's folder, `builtin:NAME` or `native`.
    fn of(engine: &'a Engine, name: &str, limits: Limits) -> Result<Self> {
        let bytes = if name == "native" { None } else { Some(Found::by_name(name)?.bytes) };
        Ok(Self { engine, limits, bytes, compiled: None })
    }

    /// The same policy on an engine that counts instructions, with all the time that there is.
    fn counting<'e>(&self, engine: &'e Engine) -> Trial<'e> {
        Trial { engine, limits: patient(self.limits), bytes: self.bytes.clone(), compiled: None }
    }

    fn with(&mut self, settings: &Value) -> Result<Policy> {
        if let Some(compiled) = &self.compiled {
            return Ok(compiled.with_settings(self.limits, settings)?);
        }
        let policy = match &self.bytes {
            Some(bytes) => bytes.load(self.engine, self.limits, settings)?,
            None => Policy::Native,
        };
        self.compiled = Some(policy.clone());
        Ok(policy)
    }
}

/// The longest deadline: for what is not about time.
fn patient(limits: Limits) -> Limits {
    Limits::new(Limits::DEADLINE_RANGE.1, limits.memory())
}

/// The policy that a person names, with these settings.
fn load(engine: &Engine, name: &str, limits: Limits, settings: &Value) -> Result<Policy> {
    Trial::of(engine, name, limits)?.with(settings)
}

/// Microseconds as a person reads them.
fn duration(micros: f64) -> String {
    match micros {
        micros if micros >= 1e6 => format!("{:.2} s", micros / 1e6),
        micros if micros >= 1e3 => format!("{:.2} ms", micros / 1e3),
        micros => format!("{micros:.0} µs"),
    }
}

/// A number as a person reads it: `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let separate = |(position, digit): (usize, char)| {
        let comma = position > 0 && (digits.len() - position).is_multiple_of(3);
        comma.then_some(',').into_iter().chain([digit])
    };
    digits.chars().enumerate().flat_map(separate).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_are_read_three_digits_at_a_time() {
        let read = [0, 999, 1000, 12_345, 1_234_567].map(grouped);
        assert_eq!(read, ["0", "999", "1,000", "12,345", "1,234,567"]);
    }
}
