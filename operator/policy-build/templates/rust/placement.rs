//! Placement policy `{{name}}`: every group inside one domain of one node label, in the one with the least room left over.

wit_bindgen::generate!({ world: "placement-policy", path: "wit" });

use exports::muster::policy::lifecycle::{Descriptor, Guest as Lifecycle, Preparation};
use exports::muster::policy::placement::{Answer, Decision, Guest as Placement, Location, Request, Unit};
use muster::policy::cluster::Snapshot;
use muster::policy::types::{Failure, Reason, SettingsError};

/// What can be set. A misspelt field is a fault.
#[derive(serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// The node label whose values are the domains.
    level: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { level: "topology.kubernetes.io/zone".to_owned() }
    }
}

fn parse(document: &str) -> Result<Settings, SettingsError> {
    serde_json::from_str(document).map_err(|error| SettingsError { path: String::new(), message: error.to_string() })
}

struct Policy;

impl Lifecycle for Policy {
    fn describe() -> Descriptor {
        Descriptor { name: "{{name}}".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned(), settings_schema: String::new() }
    }

    fn validate_settings(document: String) -> Vec<SettingsError> {
        parse(&document).err().into_iter().collect()
    }

    fn prepare(document: String) -> Preparation {
        let levels = parse(&document).map(|settings| vec![settings.level]).unwrap_or_default();
        Preparation { levels, effects: Vec::new(), peers: None }
    }
}

impl Placement for Policy {
    fn place(document: String, view: &Snapshot, request: Request) -> Result<Vec<Answer>, Failure> {
        let settings = parse(&document).map_err(|fault| Failure::Settings(vec![fault]))?;
        // What `prepare` named comes first among the levels. A set that wants domains for itself says at which level.
        let level = request.exclusive.unwrap_or(0);
        Ok(request.units.iter().map(|unit| answer(unit, view, level, request.exclusive.is_some(), &settings)).collect())
    }
}

fn answer(unit: &Unit, view: &Snapshot, level: u32, exclusive: bool, settings: &Settings) -> Answer {
    let current = unit.current.as_ref().and_then(|current| current.domains.get(level as usize).copied());
    let domains = match current {
        // New pods join those that run already.
        Some(domain) if domain != u32::MAX => vec![domain],
        // The operator takes the first that still has room when it comes to this answer, so there is no need to count.
        _ => view.best_domains(level, &unit.pods, exclusive, 64),
    };
    let pods: u32 = unit.pods.iter().map(|demand| demand.pods).sum();
    let (decision, code, message) = match domains.first() {
        Some(first) => {
            let name = view.domain_name(level, *first);
            let locations = domains.iter().map(|&domain| Location { level, domain }).collect();
            (Decision::Within(locations), "LeastLeftOver", format!("{name} has room for {pods} pods, with the least left over"))
        }
        None => (Decision::Hold(30_000), "NoRoom", format!("no domain of {} has room for {pods} pods", settings.level)),
    };
    let reason = Reason { code: code.to_owned(), message };
    Answer { unit: unit.id, decision, avoid: Vec::new(), effects: Vec::new(), reason }
}

export!(Policy);
