//! The command line of `muster policy`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Subcommand, ValueHint};
use muster_api::policy::PolicySpec;
use muster_policy_build::Language;
use muster_policy_host::Limits;
use serde_json::{Value, json};

use super::named;
use super::registry::{Spoken, Trusted};
use super::simulate::Course;
use crate::args::{Corner, Output};
use crate::capture::Kept;

/// Write, try and measure policies, with the operator's own code: what passes here is what the operator does.
///
/// A policy is named by its file, by the folder of its project, or by `builtin:NAME`.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// A new project that builds and passes its test as it is.
    New {
        /// The policy's name: small letters, digits and dashes.
        name: String,
        /// What it is written in.
        #[arg(short, long, value_parser = PossibleValuesParser::new(Language::ALL.map(Language::name)).try_map(|name| name.parse::<Language>()))]
        lang: Language,
        /// A startup policy; by default a placement policy.
        #[arg(long)]
        startup: bool,
        /// The folder; by default one of the policy's name.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Builds a project into a component that imports nothing but Muster's interfaces.
    Build {
        /// The project: a folder with policy.toml.
        #[arg(default_value = ".")]
        dir: PathBuf,
        /// The component's file; by default target/NAME.wasm in the project.
        #[arg(long)]
        out: Option<PathBuf>,
        /// How to print it.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Whether the operator would load it: world, imports, size, types, settings.
    Check {
        /// The folder of a project, a component, or `builtin:NAME`.
        #[arg(default_value = ".", value_hint = ValueHint::AnyPath)]
        policy: String,
        #[command(flatten)]
        with: With,
        /// How to print it.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// What it is: world, imports, exports, producers, digest, settings schema; of a registry's, annotations too.
    Inspect {
        /// The folder of a project, a component, `builtin:NAME`, or `oci://REGISTRY/REPOSITORY:TAG`.
        #[arg(default_value = ".", value_hint = ValueHint::AnyPath)]
        policy: String,
        #[command(flatten)]
        spoken: Spoken,
        /// How to print it.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// One call: what it decides, what the operator makes of that, and what it costs in time, memory and instructions.
    Run {
        /// The folder of a project, a component, `builtin:NAME`, or `native` for what the operator does without a policy.
        #[arg(default_value = ".", value_hint = ValueHint::AnyPath)]
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
        /// The folder of a project, a component, or `builtin:NAME`.
        #[arg(default_value = ".", value_hint = ValueHint::AnyPath)]
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
    /// How long calls take, and how many instructions, over clusters of several sizes; beside it the native rule.
    ///
    /// Times differ from machine to machine and from run to run; the number of WebAssembly instructions doesn't. A byte that is copied
    /// counts as one.
    Bench {
        /// The folder of a project, a component, `builtin:NAME`, or `native`.
        #[arg(default_value = ".", value_hint = ValueHint::AnyPath)]
        policy: String,
        /// Nodes of the generated clusters.
        #[arg(long, value_delimiter = ',', default_value = "100,1000,10000")]
        nodes: Vec<u32>,
        /// Units in a question (groups, for a startup policy).
        #[arg(long, value_delimiter = ',', default_value = "1,50")]
        units: Vec<u32>,
        /// Calls for each figure.
        #[arg(long, default_value_t = 300)]
        calls: u32,
        /// Most that a figure may be, such as p99=1ms or instructions=5M; may be repeated.
        #[arg(long)]
        budget: Vec<String>,
        /// A second policy; the ratios of the medians and of the instructions are shown.
        #[arg(long, value_hint = ValueHint::AnyPath)]
        compare: Option<String>,
        #[command(flatten)]
        with: With,
        /// How to print it.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// A set's question from the live cluster, as a scenario file.
    ///
    /// With the settings of its policy; of a set that names several, all of them are the scenario's `chain`, the first as the one under
    /// test.
    Record {
        /// Name of a LeaderWorkerSet.
        set: String,
        /// All its groups, as if they had no place yet; by default those that wait for one.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        kept: Kept,
        #[command(flatten)]
        corner: Corner,
    },
    /// Recorded questions again; with --against, what another policy decides differently.
    Replay {
        /// Scenario files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// The folder of a project, a component, `builtin:NAME`, or `native`.
        #[arg(short, long, default_value = ".", value_hint = ValueHint::AnyPath)]
        policy: String,
        /// Another one.
        #[arg(long, value_hint = ValueHint::AnyPath)]
        against: Option<String>,
        /// Its settings as JSON or YAML, or `@FILE`; by default those of the first.
        #[arg(long, requires = "against")]
        against_settings: Option<String>,
        #[command(flatten)]
        with: With,
        /// How to print it.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Sets arrive, run and end, nodes fail and return: policies and the native rule compared on the same workloads.
    ///
    /// Sets are placed as the operator places them: along their chain of policies, and with --exclusive by the native rule inside what
    /// the policies leave open.
    Simulate {
        /// Policies, each by itself; several with commas between them are a chain, as sets name it. The native rule is always shown.
        #[arg(value_hint = ValueHint::AnyPath)]
        policies: Vec<String>,
        /// Settings of one policy, in place of --settings: POLICY=SETTINGS, with the policy as it is named here and its settings as
        /// JSON, YAML or `@FILE`; may be repeated.
        #[arg(long, value_name = "POLICY=SETTINGS")]
        settings_of: Vec<String>,
        #[command(flatten)]
        course: Course,
        #[command(flatten)]
        with: With,
        /// How to print it.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Pushes a component to a registry, and prints the source for its policy object.
    Push {
        /// The folder of a project, a component, or `builtin:NAME`.
        #[arg(value_hint = ValueHint::AnyPath)]
        policy: String,
        /// REGISTRY/REPOSITORY:TAG.
        to: String,
        /// KEY=VALUE; may be repeated. Title, version and world are there anyway.
        #[arg(long)]
        annotation: Vec<String>,
        #[command(flatten)]
        spoken: Spoken,
        /// How to print it.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Pulls a component from a registry, checked by its digest.
    Pull {
        /// REGISTRY/REPOSITORY:TAG, or @sha256:… in place of :TAG.
        from: String,
        /// The file; by default the repository's last name.
        #[arg(long)]
        file: Option<PathBuf>,
        #[command(flatten)]
        spoken: Spoken,
        /// How to print it.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Makes a pair of keys for signing: NAME.key and NAME.pub.
    Keygen {
        /// NAME.
        #[arg(default_value = "muster")]
        name: PathBuf,
    },
    /// Signs what a reference stands for, as cosign does.
    Sign {
        /// REGISTRY/REPOSITORY:TAG or @sha256:….
        what: String,
        /// File of the private key in PEM.
        #[arg(long)]
        key: PathBuf,
        #[command(flatten)]
        spoken: Spoken,
        /// How to print it.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Whether somebody who is trusted has signed what a reference stands for; as the operator checks it.
    Verify {
        /// REGISTRY/REPOSITORY:TAG or @sha256:….
        what: String,
        #[command(flatten)]
        trusted: Trusted,
        #[command(flatten)]
        spoken: Spoken,
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
    /// Time that a call may take, 1ms to 500ms; by default what the project's policy.toml says, else 50ms.
    #[arg(long)]
    pub(crate) deadline: Option<String>,
    /// Memory that a call may take, up to 256Mi; by default what the project's policy.toml says, else 64Mi.
    #[arg(long)]
    pub(crate) memory: Option<String>,
}

impl With {
    /// The settings; `None` if none were given.
    pub(crate) fn settings(&self) -> Result<Option<Value>> {
        self.settings.as_deref().map(|given| settings("--settings", given)).transpose()
    }

    /// The limits of a call of the policy with this name, checked as the operator checks those of a policy object.
    pub(crate) fn limits(&self, policy: &str) -> Result<Limits> {
        let own = named::recipe(Path::new(policy)).transpose()?.map(|recipe| recipe.limits).unwrap_or_default();
        limits(self.deadline.as_ref().or(own.deadline.as_ref()), self.memory.as_ref().or(own.memory.as_ref()))
    }
}

/// Settings as a flag gives them: JSON, YAML or `@FILE`.
pub(super) fn settings(flag: &str, given: &str) -> Result<Value> {
    let text = match given.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file).with_context(|| format!("{flag}: reading {file}"))?,
        None => given.to_owned(),
    };
    serde_norway::from_str(&text).with_context(|| format!("{flag}: neither JSON nor YAML"))
}

/// Limits from texts as policy objects have them.
fn limits(deadline: Option<&String>, memory: Option<&String>) -> Result<Limits> {
    let spec: PolicySpec = serde_json::from_value(json!({ "source": {}, "limits": { "deadline": deadline, "memory": memory } }))?;
    let memory = spec.memory().map_err(|error| anyhow::anyhow!("--memory: {error}"))?;
    let deadline: Duration = spec.deadline().map_err(|error| anyhow::anyhow!("--deadline: {error}"))?;
    Ok(Limits::new(deadline, usize::try_from(memory).unwrap_or(usize::MAX)))
}
