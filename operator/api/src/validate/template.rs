//! Pod and claim templates: readable as what they are, and with a container in them.
//!
//! A field that our bindings don't know is kept, because it may be newer than they are. As the API server can then no longer tell
//! a new field from a misspelt one, its author is warned.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PodTemplateSpec};

use crate::field::{FieldError, Verdict};
use crate::leader_worker_set::LeaderWorkerSet;

pub(super) fn check(set: &LeaderWorkerSet, old: Option<&LeaderWorkerSet>, verdict: &mut Verdict) {
    let path = "spec.leaderWorkerTemplate";
    let template = &set.spec.leader_worker_template;
    let before = old.map(|old| &old.spec.leader_worker_template);

    if let Some(leader) = &template.leader_template
        && before.is_none_or(|before| before.leader_template.as_ref() != Some(leader))
    {
        check_pods(&leader.0, &format!("{path}.leaderTemplate"), verdict);
    }
    if before.is_none_or(|before| before.worker_template != template.worker_template) {
        check_pods(&template.worker_template.0, &format!("{path}.workerTemplate"), verdict);
    }
    if before.is_none_or(|before| before.volume_claim_templates != template.volume_claim_templates) {
        for (index, claim) in template.volume_claim_templates.iter().enumerate() {
            let path = format!("{path}.volumeClaimTemplates[{index}]");
            if claim.name().is_none_or(str::is_empty) {
                verdict.errors.push(FieldError::required(format!("{path}.metadata.name"), "pods mount the claim by this name"));
            }
            check_shape::<PersistentVolumeClaim>(&claim.0, &path, verdict);
        }
    }
}

fn check_pods(template: &Value, path: &str, verdict: &mut Verdict) {
    let Some(pod) = check_shape::<PodTemplateSpec>(template, path, verdict) else { return };
    if pod.spec.is_none_or(|spec| spec.containers.is_empty()) {
        verdict.errors.push(FieldError::required(format!("{path}.spec.containers"), "a pod needs at least one container"));
    }
}

/// Reads a template as what it should be: an error where it isn't, a warning for each field that is not part of it.
fn check_shape<T: DeserializeOwned + Serialize>(template: &Value, path: &str, verdict: &mut Verdict) -> Option<T> {
    let mut unknown = Vec::new();
    let typed: Result<T, _> = serde_path_to_error::deserialize(template);
    match typed {
        Ok(typed) => {
            if let Ok(known) = serde_json::to_value(&typed) {
                unknown_fields(template, &known, path, &mut unknown);
            }
            verdict.warnings.extend(unknown.into_iter().map(|field| format!("unknown field \"{field}\": kept as it is")));
            Some(typed)
        }
        Err(error) => {
            let at = error.path().to_string();
            let (at, value) =
                if at == "." { (path.to_owned(), template) } else { (join(path, &at), at_path(template, error.path())) };
            verdict.errors.push(FieldError::invalid(at, value.clone(), error.inner().to_string()));
            None
        }
    }
}

fn join(path: &str, field: &str) -> String {
    if field.starts_with('[') { format!("{path}{field}") } else { format!("{path}.{field}") }
}

/// The value that a deserialisation error speaks of; the nearest one around it if there is none.
fn at_path<'a>(root: &'a Value, path: &serde_path_to_error::Path) -> &'a Value {
    use serde_path_to_error::Segment;
    path.iter().fold(root, |value, segment| {
        let inner = match segment {
            Segment::Seq { index } => value.get(index),
            Segment::Map { key } => value.get(key),
            Segment::Enum { .. } | Segment::Unknown => None,
        };
        inner.unwrap_or(value)
    })
}

/// Finds fields that reading and writing the template loses. A field without content (`null`, `[]`, `{}`) may be lost for being
/// empty, and is no news.
fn unknown_fields(given: &Value, known: &Value, path: &str, unknown: &mut Vec<String>) {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => {
            for (key, value) in given {
                let path = format!("{path}.{key}");
                match known.get(key) {
                    Some(known) => unknown_fields(value, known, &path, unknown),
                    None if is_empty(value) => {}
                    None => unknown.push(path),
                }
            }
        }
        (Value::Array(given), Value::Array(known)) => {
            for (index, (given, known)) in given.iter().zip(known).enumerate() {
                unknown_fields(given, known, &format!("{path}[{index}]"), unknown);
            }
        }
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
