//! `muster policy check` and `inspect`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Result, bail};
use muster_policy_host::{Descriptor, EngineOptions, LoadError, Step, message};
use muster_policy_kit::inspect::{Anatomy, anatomy};
use muster_policy_kit::{Bytes, Policy, PolicyError};
use serde::Serialize;
use serde_json::Value;

use super::args::With;
use super::named::Found;
use super::registry::{Spoken, fetch};
use super::{engine, size};
use crate::args::Output;
use crate::output::{self, BAD, FAINT, GOOD, STRONG, styled};

/// What came of each step of loading.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Checked {
    policy: String,
    loads: bool,
    steps: Vec<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    step: &'static str,
    /// `good`, `bad`, or `skipped` after a bad one.
    result: &'static str,
    detail: String,
}

const STEPS: [(Step, &str); 5] = [
    (Step::Size, "size"),
    (Step::Accepted, "world"),
    (Step::Compiled, "types"),
    (Step::Described, "describe"),
    (Step::SettingsValid, "settings"),
];

pub(super) fn check(policy: &str, with: &With, output: Output) -> Result<()> {
    let bytes = Found::by_name(policy)?.bytes;
    let settings = with.settings()?.unwrap_or(Value::Null);
    let (engine, limits) = (engine()?, with.limits(policy)?);
    let loaded = bytes.load(&engine, limits, &settings);
    let anatomy = anatomy(&bytes.bytes).ok();
    let error = match &loaded {
        Ok(_) => None,
        Err(PolicyError::Load { error, .. }) => Some(error),
        Err(other) => bail!("{other}"),
    };
    let failed = error.map(LoadError::step);
    // Also of a policy whose settings are wrong: it is compiled by now.
    let descriptor = bytes.describe(&engine, limits).ok();
    let steps = STEPS.into_iter().map(|(step, name)| {
        let (result, detail) = match failed {
            Some(failed) if failed == step => ("bad", error.map(ToString::to_string).unwrap_or_default()),
            Some(failed) if failed < step => ("skipped", String::new()),
            _ => ("good", detail(step, &bytes, anatomy.as_ref(), loaded.as_ref().ok(), descriptor.as_ref())),
        };
        Outcome { step: name, result, detail }
    });
    let checked = Checked {
        policy: bytes.origin.clone(),
        loads: failed.is_none(),
        steps: steps.collect(),
        hint: error.and_then(LoadError::hint),
    };
    output::show(output, &checked, || render(&checked))?;
    match failed {
        None => Ok(()),
        Some(_) => bail!("the operator would not load {}", bytes.origin),
    }
}

fn detail(
    step: Step,
    bytes: &Bytes,
    anatomy: Option<&Anatomy>,
    loaded: Option<&Policy>,
    descriptor: Option<&Descriptor>,
) -> String {
    match (step, anatomy, loaded) {
        (Step::Size, _, _) => {
            let most = size(EngineOptions::default().max_component_bytes);
            format!("{} of at most {most}", size(bytes.bytes.len()))
        }
        (Step::Accepted, Some(anatomy), _) => {
            let world = bytes.kind().map(|kind| kind.world()).unwrap_or_default();
            let imports = if anatomy.imports.is_empty() { "nothing".to_owned() } else { some(&anatomy.imports).join(", ") };
            format!("{world}; imports {imports}")
        }
        (Step::Compiled, _, _) => "it compiles, and its functions are those of wit/policy.wit".to_owned(),
        (Step::Described, _, _) => descriptor.map(described).unwrap_or_default(),
        (Step::SettingsValid, _, Some(policy)) => prepared(policy),
        _ => String::new(),
    }
}

fn described(Descriptor { name, version, settings_schema }: &Descriptor) -> String {
    let schema = if settings_schema.is_empty() { "no settings schema" } else { "a settings schema" };
    format!("{name} {version}, {schema}")
}

/// What the policy needs.
fn prepared(policy: &Policy) -> String {
    let preparation = policy.preparation();
    let mut text = match preparation.levels.as_slice() {
        [] => "taken; it reads no level".to_owned(),
        levels => format!("taken; it reads {}", levels.join(", ")),
    };
    if let Some(peers) = &preparation.peers {
        let _ = write!(text, "; peers share {peers}");
    }
    if !preparation.effects.is_empty() {
        let _ = write!(text, "; pods get {}", serde_json::json!(preparation.effects));
    }
    text
}

fn render(checked: &Checked) -> String {
    let mut text = format!("{}\n", styled(STRONG, &checked.policy));
    for Outcome { step, result, detail } in &checked.steps {
        let sign = match *result {
            "good" => styled(GOOD, "✓"),
            "bad" => styled(BAD, "✗"),
            _ => styled(FAINT, "·"),
        };
        let _ = writeln!(text, "{sign} {step:9} {detail}");
    }
    if let Some(hint) = &checked.hint {
        let _ = writeln!(text, "            {}", styled(STRONG, hint));
    }
    text
}

/// A component and what it says about itself, as far as it can be asked.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Inspected {
    policy: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    world: Option<&'static str>,
    #[serde(flatten)]
    anatomy: Anatomy,
    /// Digest of the manifest in its registry, for `spec.source.oci.digest`.
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    settings_schema: Option<Value>,
    /// Why the operator would not load it.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

pub(super) async fn inspect(policy: &str, spoken: &Spoken, output: Output) -> Result<()> {
    let (bytes, manifest, annotations) = if policy.starts_with("oci://") {
        let (bytes, digest, annotations) = fetch(policy, spoken).await?;
        (bytes, Some(digest), annotations)
    } else {
        (Found::by_name(policy)?.bytes, None, BTreeMap::new())
    };
    let anatomy = anatomy(&bytes.bytes).map_err(|why| anyhow::anyhow!("{}: {why}", bytes.origin))?;
    let (engine, limits) = (engine()?, muster_policy_host::Limits::default());
    let loaded = bytes.load(&engine, limits, &Value::Null);
    let descriptor = bytes.describe(&engine, limits).ok();
    let inspected = Inspected {
        policy: bytes.origin.clone(),
        world: bytes.kind().ok().map(muster_policy_host::PolicyKind::world),
        anatomy,
        manifest,
        annotations,
        name: descriptor.as_ref().map(|descriptor| format!("{} {}", descriptor.name, descriptor.version)),
        settings_schema: descriptor.and_then(|descriptor| serde_json::from_str(&descriptor.settings_schema).ok()),
        fault: loaded.err().map(|error| error.to_string()),
    };
    output::show(output, &inspected, || inspected.render())
}

/// Names as far as a person reads them; `-o json` has all.
fn some(names: &[String]) -> Vec<String> {
    const SHOWN: usize = 32;
    let more = names.len().saturating_sub(SHOWN);
    let rest = (more > 0).then(|| format!("and {more} more"));
    names.iter().take(SHOWN).cloned().chain(rest).collect()
}

impl Inspected {
    fn render(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(text, "{} {value}", styled(STRONG, &format!("{name:10}")));
        };
        line("policy", self.name.as_deref().unwrap_or("(it could not be asked)"));
        line("world", self.world.unwrap_or("none"));
        line("digest", &self.anatomy.digest);
        line("size", &size(self.anatomy.bytes));
        if let Some(manifest) = &self.manifest {
            line("manifest", manifest);
        }
        self.annotations.iter().for_each(|(key, value)| line("annotation", &message(&format!("{key}={value}"))));
        some(&self.anatomy.imports).iter().for_each(|import| line("import", import));
        some(&self.anatomy.exports).iter().for_each(|export| line("export", export));
        some(&self.anatomy.producers).iter().for_each(|producer| line("made with", producer));
        for section in self.anatomy.custom_sections.iter().take(5) {
            line("section", &format!("{} ({})", section.name, size(section.bytes)));
        }
        if let Some(schema) = &self.settings_schema {
            line("settings", &format!("\n{}", serde_json::to_string_pretty(schema).unwrap_or_default()));
        }
        if let Some(fault) = &self.fault {
            line("fault", &styled(BAD, fault));
        }
        text
    }
}
