//! Pod and claim templates: raw JSON with typed views.
//!
//! A template travels from the set to the StatefulSets exactly as it was written, so that a field newer than our bindings
//! survives. Code that needs to *read* one asks for [`PodTemplate::typed`]; code that *writes* changes the raw value.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PodTemplateSpec};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::crd::embedded;

/// A template of pods: JSON of the shape of a `v1.PodTemplateSpec`, every field kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PodTemplate(pub Value);

/// A template of claims: JSON of the shape of a `v1.PersistentVolumeClaim`, every field kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClaimTemplate(pub Value);

impl Default for PodTemplate {
    /// The empty object: a template that says nothing.
    fn default() -> Self {
        Self(Value::Object(Map::new()))
    }
}

impl Default for ClaimTemplate {
    /// The empty object: a template that says nothing.
    fn default() -> Self {
        Self(Value::Object(Map::new()))
    }
}

impl PodTemplate {
    /// The template as our bindings know it. Fields that they don't know are missing from the result.
    ///
    /// # Errors
    /// When a field has another type than the pod API gives it.
    pub fn typed(&self) -> Result<PodTemplateSpec, serde_json::Error> {
        PodTemplateSpec::deserialize(&self.0)
    }

    /// Labels that pods of this template carry.
    pub fn labels(&self) -> BTreeMap<String, String> {
        strings(&self.0, "labels")
    }

    /// Annotations that pods of this template carry.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        strings(&self.0, "annotations")
    }
}

impl ClaimTemplate {
    /// The template as our bindings know it. Fields that they don't know are missing from the result.
    ///
    /// # Errors
    /// When a field has another type than the claim API gives it.
    pub fn typed(&self) -> Result<PersistentVolumeClaim, serde_json::Error> {
        PersistentVolumeClaim::deserialize(&self.0)
    }

    /// Name of the claim, which is also the name of the volume that pods mount.
    pub fn name(&self) -> Option<&str> {
        self.0.pointer("/metadata/name")?.as_str()
    }

    /// Labels that claims of this template carry.
    pub fn labels(&self) -> BTreeMap<String, String> {
        strings(&self.0, "labels")
    }

    /// Annotations that claims of this template carry.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        strings(&self.0, "annotations")
    }
}

impl From<PodTemplateSpec> for PodTemplate {
    fn from(template: PodTemplateSpec) -> Self {
        Self(serde_json::to_value(template).unwrap_or_default())
    }
}

/// The string entries of a map in the template's metadata; whatever else stands there is left out.
fn strings(template: &Value, field: &str) -> BTreeMap<String, String> {
    let entries = template.get("metadata").and_then(|metadata| metadata.get(field)).and_then(Value::as_object);
    entries.into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

impl JsonSchema for PodTemplate {
    fn schema_name() -> Cow<'static, str> {
        "PodTemplate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        embedded::pod_template()
    }
}

impl JsonSchema for ClaimTemplate {
    fn schema_name() -> Cow<'static, str> {
        "ClaimTemplate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        embedded::claim_template()
    }
}
