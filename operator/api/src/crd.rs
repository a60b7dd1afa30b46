//! The CustomResourceDefinitions, as `deploy/crd` holds them.
//!
//! The types are the source. On the way to a definition that people can live with, `finish` takes off what the derivation leaves
//! behind (`nullable`, long descriptions), and `embedded` gives the parts that come from the Kubernetes API what the derivation
//! doesn't know: how lists merge, defaults, and that fields newer than our bindings are kept. Conversion is not needed: each kind
//! has one version.

pub(crate) mod embedded;
mod kubernetes;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use serde_json::Value;

use crate::{LeaderWorkerSet, PlacementPolicy, StartupPolicy};

/// Command that writes `deploy/crd` anew.
pub const GENERATE: &str = "cargo run -p muster-api --bin crdgen";

/// Longest description that is kept whole; of a longer one the first sentence stays.
const DESCRIPTION: usize = 160;

/// The definitions of all kinds that Muster serves.
pub fn crds() -> Vec<CustomResourceDefinition> {
    [LeaderWorkerSet::crd(), PlacementPolicy::crd(), StartupPolicy::crd()].iter().map(finish).collect()
}

/// The files of `deploy/crd`: name and content.
///
/// # Errors
/// When a definition can't be written as YAML.
pub fn files() -> Result<Vec<(String, String)>, serde_norway::Error> {
    crds()
        .iter()
        .map(|crd| {
            let mut value = serde_norway::to_value(crd)?;
            write_whole_numbers(&mut value);
            let yaml = serde_norway::to_string(&value)?;
            let header = format!("# Generated from the types in operator/api by `{GENERATE}`. Do not edit.\n");
            Ok((format!("{}.yaml", crd.spec.names.plural), header + &yaml))
        })
        .collect()
}

/// Bounds are floating-point numbers to the bindings; a reader expects `minimum: 0`.
fn write_whole_numbers(value: &mut serde_norway::Value) {
    use serde_norway::Value;
    match value {
        Value::Number(number) => {
            if let Some(float) = number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0 && float.abs() < 1e15) {
                *number = (float as i64).into();
            }
        }
        Value::Sequence(items) => items.iter_mut().for_each(write_whole_numbers),
        Value::Mapping(fields) => fields.iter_mut().for_each(|(_, inner)| write_whole_numbers(inner)),
        Value::Null | Value::Bool(_) | Value::String(_) | Value::Tagged(_) => {}
    }
}

#[expect(clippy::expect_used, reason = "a definition is JSON, and what is taken off it is optional")]
fn finish(crd: &CustomResourceDefinition) -> CustomResourceDefinition {
    let mut value = serde_json::to_value(crd).expect("a definition is JSON");
    if let Some(schema) = value.pointer_mut("/spec/versions/0/schema/openAPIV3Schema") {
        tidy(schema);
    }
    serde_json::from_value(value).expect("only optional fields were taken off")
}

/// Takes off `nullable` (upstream's fields aren't, and the API server drops a null before it applies a default), titles, the
/// descriptions that enum values had, and all but the first sentence of long descriptions.
fn tidy(schema: &mut Value) {
    let Some(node) = schema.as_object_mut() else { return };
    node.remove("nullable");
    node.remove("title");
    if let Some(Value::String(text)) = node.get_mut("description") {
        *text = first_words(text);
    }
    for key in ["items", "additionalProperties"] {
        node.get_mut(key).map(tidy);
    }
    node.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten().for_each(|(_, inner)| tidy(inner));
}

fn first_words(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.split_once(". ") {
        Some((first, _)) if text.len() > DESCRIPTION => format!("{first}."),
        _ => text,
    }
}
