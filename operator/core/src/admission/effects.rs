//! What a placement policy gives pods: to a leader from the policy's preparation, to a worker by its template's instructions.

use muster_api::names::annotation;
use serde_json::{Map, Value, json};

use super::pod::{AdmissionError, PodView, child, list};
use crate::instructions::Instructions;
use crate::placement::effects::Effects;

/// The name that Kubernetes writes into a pod whose author named no scheduler.
const DEFAULT_SCHEDULER: &str = "default-scheduler";

/// Gives a new leader what its policy prepared, and notes it, so that its workers get the same whatever becomes of the policy.
pub(super) fn prepare(pod: &mut PodView<'_>, effects: &Effects) -> Result<(), AdmissionError> {
    if effects.is_empty() {
        return Ok(());
    }
    let text = serde_json::to_string(effects).unwrap_or_default();
    pod.set_annotation(annotation::EFFECTS, &text)?;
    give(pod, effects)
}

/// Carries out what the annotation of a worker's template says about its rank, and takes the annotation off the pod: it speaks of
/// the whole group and may be long.
pub(super) fn follow(pod: &mut PodView<'_>, rank: i32) -> Result<(), AdmissionError> {
    let Some(text) = pod.annotation(annotation::INSTRUCTIONS).map(str::to_owned) else { return Ok(()) };
    let name = pod.name().to_owned();
    let refusal =
        |reason: String| AdmissionError::Instructions { pod: name.clone(), value: crate::text::truncated(&text, 256), reason };
    let instructions: Instructions = serde_json::from_str(&text).map_err(|error| refusal(format!("is not readable: {error}")))?;
    let rank = u32::try_from(rank).unwrap_or_default();
    for (key, value) in instructions.selector(rank) {
        match pod.node_selector(&key) {
            Some(other) if other != value => {
                return Err(refusal(format!("sends rank {rank} to {key}={value}, and the pod selects {key}={other} already")));
            }
            _ => pod.select_nodes(&key, &value)?,
        }
    }
    let spec = pod.spec()?;
    let authors = spec.get("affinity").and_then(|affinity| affinity.get("nodeAffinity"));
    if let Some(affinity) = instructions.node_affinity(authors, rank) {
        let fields =
            child(spec, "affinity").ok_or(AdmissionError::Malformed { field: "spec.affinity", expected: "an object" })?;
        fields.insert("nodeAffinity".to_owned(), affinity);
    }
    pod.remove_annotation(annotation::INSTRUCTIONS);
    give(pod, &instructions.effects)
}

/// Effects never replace what is there.
fn give(pod: &mut PodView<'_>, effects: &Effects) -> Result<(), AdmissionError> {
    for (key, value) in &effects.node_selector {
        if pod.node_selector(key).is_none() {
            pod.select_nodes(key, value)?;
        }
    }
    for (key, value) in &effects.labels {
        if pod.label(key).is_none() {
            pod.set_label(key, value)?;
        }
    }
    for (key, value) in effects.all_annotations() {
        if pod.annotation(&key).is_none() {
            pod.set_annotation(&key, &value)?;
        }
    }
    let spec = pod.spec()?;
    if let Some(name) = &effects.scheduler_name {
        let named =
            spec.get("schedulerName").and_then(Value::as_str).filter(|name| !name.is_empty() && *name != DEFAULT_SCHEDULER);
        if named.is_none() {
            spec.insert("schedulerName".to_owned(), name.as_str().into());
        }
    }
    if !effects.tolerations.is_empty() {
        let tolerations =
            list(spec, "tolerations").ok_or(AdmissionError::Malformed { field: "spec.tolerations", expected: "a list" })?;
        for toleration in &effects.tolerations {
            let toleration = json!(toleration);
            if !tolerations.contains(&toleration) {
                tolerations.push(toleration);
            }
        }
    }
    if effects.env.is_empty() {
        return Ok(());
    }
    for container in pod.containers()? {
        let Some(fields) = container.as_object_mut() else {
            return Err(AdmissionError::Malformed { field: "spec.containers[]", expected: "an object" });
        };
        add_environment(fields, effects)?;
    }
    Ok(())
}

/// Variables that read their value from an annotation, because an answer may change it after the pod was created.
fn add_environment(container: &mut Map<String, Value>, effects: &Effects) -> Result<(), AdmissionError> {
    let variables =
        list(container, "env").ok_or(AdmissionError::Malformed { field: "spec.containers[].env", expected: "a list" })?;
    for name in effects.env.keys() {
        if variables.iter().all(|variable| variable.get("name").and_then(Value::as_str) != Some(name)) {
            let path = format!("metadata.annotations['{}']", annotation::env(name));
            variables.push(json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } }));
        }
    }
    Ok(())
}
