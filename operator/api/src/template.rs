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

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::LeaderWorkerSet;
    use crate::testing::valid_set;

    #[test]
    fn the_typed_view_reads_amounts_written_as_numbers() {
        let template = PodTemplate(json!({
            "spec": {"containers": [{"name": "a", "resources": {"limits": {"nvidia.com/gpu": 8}}, "unknown": 1}]},
        }));
        let container = template.typed().unwrap().spec.unwrap().containers.remove(0);
        let limits = container.resources.unwrap().limits.unwrap();
        assert_eq!(limits["nvidia.com/gpu"], Quantity("8".into()));
    }

    #[test]
    fn labels_and_annotations_are_read_without_the_rest() {
        let template = PodTemplate(json!({"metadata": {"labels": {"app": "a", "odd": 1}}, "spec": 7}));
        assert_eq!(template.labels(), BTreeMap::from([("app".to_owned(), "a".to_owned())]));
        assert_eq!(template.annotations(), BTreeMap::new());
        assert_eq!(ClaimTemplate(json!({"metadata": {"name": "models"}})).name(), Some("models"));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-zA-Z<>& ]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-zA-Z]{1,6}", inner, 0..4).prop_map(|map| json!(map)),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_template_survives_reading_and_writing_field_for_field(pod in any_json(), claim in any_json()) {
            let mut object = serde_json::to_value(valid_set()).unwrap();
            object["spec"]["leaderWorkerTemplate"]["workerTemplate"] = pod;
            object["spec"]["leaderWorkerTemplate"]["volumeClaimTemplates"] = json!([claim]);
            let read: LeaderWorkerSet = serde_json::from_value(object.clone()).unwrap();
            prop_assert_eq!(serde_json::to_value(&read).unwrap(), object);
        }
    }
}
