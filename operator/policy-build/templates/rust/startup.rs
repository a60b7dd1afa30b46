//! Startup policy `{{name}}`: the leader first, the workers when it is ready.

wit_bindgen::generate!({ world: "startup-policy", path: "wit" });

use exports::muster::policy::lifecycle::{Descriptor, Guest as Lifecycle, Preparation};
use exports::muster::policy::startup::{Group, Guest as Startup, Phase, Request, Step};
use muster::policy::types::{Failure, Reason, SettingsError};

/// What can be set: nothing yet. A field that is not here is a fault.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {}

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

    fn prepare(_document: String) -> Preparation {
        Preparation { levels: Vec::new(), effects: Vec::new(), peers: None }
    }
}

impl Startup for Policy {
    fn next(document: String, request: Request) -> Result<Vec<Step>, Failure> {
        parse(&document).map_err(|fault| Failure::Settings(vec![fault]))?;
        Ok(request.groups.iter().map(step).collect())
    }
}

fn step(group: &Group) -> Step {
    let leader = group.pods.iter().find(|pod| pod.rank == 0);
    let (admit, code, message) = if leader.is_some_and(|leader| leader.phase == Phase::Ready) {
        (group.size, "LeaderReady", format!("the leader is ready, so all {} pods may start", group.size))
    } else {
        (1, "WaitingForLeader", format!("{} workers wait until the leader is ready", group.size - 1))
    };
    Step { group: group.index, admit, recheck_ms: None, reason: Reason { code: code.to_owned(), message } }
}

export!(Policy);
