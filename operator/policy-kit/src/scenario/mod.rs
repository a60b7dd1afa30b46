//! Scenario files: read, checked and turned into what the operator looks at.

mod chain;
mod cluster;
mod expect;
mod format;
pub(crate) mod notation;
mod scene;
mod sites;
mod stage;
mod startup;
mod write;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;

pub(crate) use cluster::pod;
pub use expect::Expect;
pub use format::{
    BadNode, Division, Held, Link, Nodes, Peer, PodKind, Quantity, Request, Resources, Scenario, Scope, StartingGroup,
    StartingPod, Startup, Template, Unit, Units, Where,
};
pub use notation::{Brief, Some1};
pub(crate) use scene::Scene;
pub use sites::Sites;
pub use stage::Stage;

/// A fault in a scenario: which field, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Fault {
    /// The field, such as `nodes[1]`.
    pub field: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Fault {
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// A fault in a file of scenarios.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ScenarioError {
    /// The file.
    pub file: PathBuf,
    /// The line, where it is known.
    pub line: Option<usize>,
    /// The fault; without a field for the file as a whole.
    pub fault: Fault,
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        match self.fault.field.as_str() {
            "" | "." => write!(f, ": {}", self.fault.message),
            _ => write!(f, ": {}", self.fault),
        }
    }
}

/// Reads the scenarios of one file; more than one are separated by lines of `---`.
///
/// # Errors
/// When the file can't be read or is no scenario: which field, and what would be right.
pub fn read(file: &Path) -> Result<Vec<Scenario>, ScenarioError> {
    let text = fs::read_to_string(file).map_err(|error| whole(file, format!("it can't be read: {error}")))?;
    parse(&text, file)
}

/// Reads scenarios from a text. `file` is for messages.
///
/// # Errors
/// As [`read`].
pub fn parse(text: &str, file: &Path) -> Result<Vec<Scenario>, ScenarioError> {
    let mut scenarios = Vec::new();
    for document in serde_norway::Deserializer::from_str(text) {
        // Through a value first, because fields of JSON in YAML (settings, pod specs) know no tags.
        let value = serde_json::Value::deserialize(document).map_err(|error| ScenarioError {
            file: file.to_owned(),
            line: error.location().map(|location| location.line()),
            fault: Fault::new("", error.to_string()),
        })?;
        if value.is_null() {
            continue;
        }
        let mut scenario: Scenario = serde_path_to_error::deserialize(&value).map_err(|error| ScenarioError {
            file: file.to_owned(),
            line: None,
            fault: Fault::new(error.path().to_string(), error.inner().to_string()),
        })?;
        check(&scenario).map_err(|fault| ScenarioError { file: file.to_owned(), line: None, fault })?;
        scenario.folder = file.parent().map(Path::to_owned).unwrap_or_default();
        scenarios.push(scenario);
    }
    if scenarios.is_empty() {
        return Err(whole(file, "there is no scenario in it; tests/scenarios/README.md shows what one looks like"));
    }
    Ok(scenarios)
}

fn whole(file: &Path, message: impl Into<String>) -> ScenarioError {
    ScenarioError { file: file.to_owned(), line: None, fault: Fault::new("", message) }
}

/// The scenario files of a folder, by name: everything that ends in `.yaml` or `.yml`. None if there is no such folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_yaml = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    let mut files: Vec<PathBuf> = entries.filter(is_yaml).collect();
    files.sort();
    files
}

/// What no type says.
fn check(scenario: &Scenario) -> Result<(), Fault> {
    if scenario.name.trim().is_empty() {
        return Err(Fault::new("name", "it has none; say in a sentence what the case shows"));
    }
    match (&scenario.request, &scenario.startup) {
        // Nodes alone are a snapshot.
        (None, None) if scenario.nodes.is_empty() || !scenario.expect.is_empty() => {
            return Err(Fault::new("request", "there is no question; add `request` (placement) or `startup`"));
        }
        (Some(_), Some(_)) => {
            return Err(Fault::new("startup", "one scenario asks one question; put it in a document of its own, after ---"));
        }
        (Some(request), None) if request.units.0.is_empty() => {
            return Err(Fault::new("request.units", "there is no unit; write for example 2 x [1 leader, 7 workers]"));
        }
        _ => {}
    }
    chain::check(scenario)?;
    for (position, expect) in scenario.expect.iter().enumerate() {
        check_expectation(scenario, expect).map_err(|message| Fault::new(format!("expect[{position}]"), message))?;
    }
    Ok(())
}

fn check_expectation(scenario: &Scenario, expect: &Expect) -> Result<(), String> {
    if expect.by.is_some() && scenario.chain.is_empty() {
        return Err("by: there is no `chain`, so the policy under test is the only one that says something".to_owned());
    }
    if expect.failure.is_some() {
        return Ok(());
    }
    match (scenario.startup.is_some(), expect.unit, expect.group) {
        (false, None, _) => return Err("it names no unit: add `unit: 0`".to_owned()),
        (true, _, None) => return Err("it names no group: add `group: 0`".to_owned()),
        _ => {}
    }
    let decisions = [
        expect.within.is_some(),
        expect.parts.is_some(),
        expect.pinned.is_some(),
        expect.preferred.is_some(),
        expect.unconstrained,
        expect.hold,
        expect.refuse,
        expect.unanswered,
    ];
    let count = decisions.into_iter().filter(|given| *given).count();
    let something = count == 1 || expect.inside.is_some() || expect.rejected.is_some() || expect.admit.is_some();
    let something = something || expect.subgroups.is_some() || expect.leader.is_some() || expect.by.is_some();
    let something =
        something || expect.code.is_some() || expect.message.is_some() || expect.effects.is_some() || expect.avoid.is_some();
    if count > 1 || !something {
        let known =
            "within, inside, parts, subgroups, pinned, preferred, unconstrained, hold, refuse, unanswered, rejected or admit";
        return Err(format!("it must say one thing about the decision: {known}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
