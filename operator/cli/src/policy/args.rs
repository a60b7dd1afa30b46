//! The command line of `muster policy`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Subcommand;
use muster_api::policy::PolicySpec;
use muster_policy_host::Limits;
use serde_json::{Value, json};

use crate::args::Output;

/// Write, try and measure policies, with the operator's own code: what passes here is what the operator does.
///
/// A policy is named by its file, or by `builtin:NAME`.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Whether the operator would load it: world, imports, size, types, settings.
    Check {
        /// A component, or `builtin:NAME`.
        policy: String,
        #[command(flatten)]
        with: With,
        /// How to print it.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// What it is: world, imports, exports, producers, digest, settings schema.
    Inspect {
        /// A component, or `builtin:NAME`.
        policy: String,
        /// How to print it.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// One call: what it decides, what the operator makes of that, what it costs.
    Run {
        /// A component, `builtin:NAME`, or `native` for what the operator does without a policy.
        policy: String,
        /// File of the scenario.
        #[arg(short, long)]
        scenario: PathBuf,
        #[command(flatten)]
        with: With,
        /// How to print it.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// All scenarios, and the properties that every policy must have, over generated clusters.
    Test {
        /// A component, `builtin:NAME`, or the folder of a policy; its scenarios are in `scenarios` there.
        #[arg(default_value = ".")]
        policy: String,
        /// Folder or file of scenarios; by default `scenarios` in the policy's folder.
        #[arg(short, long)]
        scenarios: Option<PathBuf>,
        /// Only scenarios whose name contains this, and no properties.
        #[arg(short, long)]
        filter: Option<String>,
        /// Generated clusters; 0 leaves the properties out.
        #[arg(long, default_value_t = 256)]
        cases: u32,
        /// Seed of the generated clusters.
        #[arg(long, default_value_t = 0)]
        seed: u64,
        #[command(flatten)]
        with: With,
        /// How to print it.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}

/// Settings and limits, as a policy object would give them.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct With {
    /// The policy's settings as JSON or YAML, or `@FILE`.
    #[arg(long)]
    pub(crate) settings: Option<String>,
    /// Time that a call may take, 1ms to 500ms.
    #[arg(long, default_value = "50ms")]
    pub(crate) deadline: String,
    /// Memory that a call may take, up to 256Mi.
    #[arg(long, default_value = "64Mi")]
    pub(crate) memory: String,
}

impl With {
    /// The settings; `None` if none were given.
    pub(crate) fn settings(&self) -> Result<Option<Value>> {
        let Some(given) = &self.settings else { return Ok(None) };
        let text = match given.strip_prefix('@') {
            Some(file) => std::fs::read_to_string(file).with_context(|| format!("--settings: reading {file}"))?,
            None => given.clone(),
        };
        serde_norway::from_str(&text).map(Some).context("--settings: neither JSON nor YAML")
    }

    /// The limits, checked as the operator checks those of a policy object.
    pub(crate) fn limits(&self) -> Result<Limits> {
        let spec: PolicySpec = serde_json::from_value(json!({
            "source": {}, "limits": { "deadline": self.deadline, "memory": self.memory },
        }))?;
        let memory = spec.memory().map_err(|error| anyhow::anyhow!("--memory: {error}"))?;
        let deadline: Duration = spec.deadline().map_err(|error| anyhow::anyhow!("--deadline: {error}"))?;
        Ok(Limits::new(deadline, usize::try_from(memory).unwrap_or(usize::MAX)))
    }
}
