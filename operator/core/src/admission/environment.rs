//! The environment variables by which a container finds its group.
//!
//! Order is part of the contract: the address of the leader is the very first variable, then the size, then the rank,
//! then whatever the template says, so that `$(LWS_LEADER_ADDRESS)` expands in every later variable, command and
//! argument. Variables that a resource needs (TPU workers) go *behind* the template's and are appended before this runs.

use std::collections::HashSet;

use muster_api::names::env;
use serde_json::{Value, json};

use super::pod::{AdmissionError, PodView};

/// What the three variables say in one pod. `leader_address` is a DNS name without the cluster's domain.
pub(super) struct GroupEnvironment {
    pub(super) leader_address: String,
    pub(super) group_size: String,
    pub(super) worker_index: String,
}

/// Puts the variables first in every container and init container. Ephemeral containers can't be part of a new pod.
pub(super) fn inject(pod: &mut PodView<'_>, group: &GroupEnvironment) -> Result<(), AdmissionError> {
    for container in pod.containers()? {
        let Some(fields) = container.as_object_mut() else {
            return Err(AdmissionError::Malformed { field: "spec.containers[]", expected: "an object" });
        };
        let existing = match fields.remove("env") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(variables)) => variables,
            Some(_) => return Err(AdmissionError::Malformed { field: "spec.containers[].env", expected: "a list" }),
        };
        fields.insert("env".to_owned(), Value::Array(merged(group, existing)));
    }
    Ok(())
}

/// Ours first; the template's variables of the same names dropped, and of its own duplicates only the first kept.
fn merged(group: &GroupEnvironment, existing: Vec<Value>) -> Vec<Value> {
    let ours = [
        (env::LEADER_ADDRESS, &group.leader_address),
        (env::GROUP_SIZE, &group.group_size),
        (env::WORKER_INDEX, &group.worker_index),
    ];
    let mut seen: HashSet<String> = ours.iter().map(|(name, _)| (*name).to_owned()).collect();
    let theirs = existing.into_iter().filter(|variable| match variable.get("name").and_then(Value::as_str) {
        Some(name) => seen.insert(name.to_owned()),
        // Not a variable that the API server will accept: left for it to say so.
        None => true,
    });
    ours.iter().map(|(name, value)| json!({"name": name, "value": value})).chain(theirs).collect()
}
