//! Placement policy `{{name}}`: every group inside one domain of one node label, in the one with the least room left over.

wit_bindgen::generate!({ world: "placement-policy", path: "wit" });

use exports::muster::policy::lifecycle::{Descriptor, Guest as Lifecycle, Preparation};
use exports::muster::policy::placement::{Answer, Decision, Guest as Placement, Location, Request, Unit};
use muster::policy::cluster::Snapshot;
use muster::policy::types::{Demand, Failure, Reason, SettingsError};

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
        let mut given = Given::default();
        let mut answer = |unit: &Unit| {
            let domain = choose(unit, view, level, request.exclusive.is_some(), &mut given);
            Answer::new(unit, view, level, domain, &settings)
        };
        Ok(request.units.iter().map(&mut answer).collect())
    }
}

/// What this call gave away already. The snapshot does not change while it runs, so the policy counts for itself.
#[derive(Default)]
struct Given {
    domains: Vec<u32>,
    /// All pods that were put into the last of them.
    pods: Vec<Demand>,
}

/// The domain for a unit, none if there is no room.
fn choose(unit: &Unit, view: &Snapshot, level: u32, exclusive: bool, given: &mut Given) -> Option<u32> {
    let current = unit.current.as_ref().and_then(|current| current.domains.get(level as usize).copied());
    if let Some(domain) = current.filter(|&domain| domain != u32::MAX) {
        // New pods join those that run already.
        given.domains.push(domain);
        given.pods.clone_from(&unit.pods);
        return Some(domain);
    }
    if let (Some(&last), false) = (given.domains.last(), exclusive) {
        // Is there still room where the unit before this one went, for both of them?
        let together = [given.pods.as_slice(), unit.pods.as_slice()].concat();
        if view.best_domains(level, &together, false, 1024).contains(&last) {
            given.pods = together;
            return Some(last);
        }
    }
    // One more than were given away: one of them is still free.
    let best = view.best_domains(level, &unit.pods, exclusive, given.domains.len() as u32 + 1);
    let free = best.into_iter().find(|domain| !given.domains.contains(domain))?;
    given.domains.push(free);
    given.pods.clone_from(&unit.pods);
    Some(free)
}

impl Answer {
    fn new(unit: &Unit, view: &Snapshot, level: u32, domain: Option<u32>, settings: &Settings) -> Self {
        let pods: u32 = unit.pods.iter().map(|demand| demand.pods).sum();
        let (decision, code, message) = match domain {
            Some(domain) => {
                let message = format!("{} has room for {pods} pods, with the least left over", view.domain_name(level, domain));
                (Decision::Within(vec![Location { level, domain }]), "LeastLeftOver", message)
            }
            None => (Decision::Hold(30_000), "NoRoom", format!("no domain of {} has room for {pods} pods", settings.level)),
        };
        Self { unit: unit.id, decision, avoid: Vec::new(), effects: Vec::new(), reason: Reason { code: code.to_owned(), message } }
    }
}

export!(Policy);
