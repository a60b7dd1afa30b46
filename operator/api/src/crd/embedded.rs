//! Schemas of types of the Kubernetes API, embedded in ours.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use super::kubernetes::{OBJECT_META, QUANTITY, QUANTITY_PATTERN, default_of, merge_of, merge_of_type};

/// What becomes of fields that the schema doesn't know.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unknown {
    /// The API server keeps them: they may be newer than our bindings.
    Kept,
    /// The API server drops them, as everywhere else.
    Pruned,
}

/// Schema of a pod template.
pub(crate) fn pod_template() -> Schema {
    embedded::<PodTemplateSpec>(Unknown::Kept)
}

/// Schema of a claim template.
pub(crate) fn claim_template() -> Schema {
    embedded::<PersistentVolumeClaim>(Unknown::Kept)
}

/// Schema of a label selector.
pub(crate) fn label_selector() -> Schema {
    embedded::<LabelSelector>(Unknown::Pruned)
}

/// Schema of a list of conditions, one of each type.
pub(crate) fn conditions() -> Schema {
    let item = embedded::<Condition>(Unknown::Pruned).to_value();
    let list = json!({"type": "array", "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]});
    Schema::try_from(list).unwrap_or_default()
}

fn embedded<T: JsonSchema>(unknown: Unknown) -> Schema {
    let mut generator = SchemaSettings::default().into_generator();
    let root = generator.subschema_for::<T>().to_value();
    let definitions = Definitions { types: generator.take_definitions(true), unknown };
    Schema::try_from(definitions.resolve(&root)).unwrap_or_default()
}

/// The types of the Kubernetes API that a schema refers to, by name.
struct Definitions {
    types: Map<String, Value>,
    unknown: Unknown,
}

impl Definitions {
    /// A schema without references and descriptions: what it refers to is put in its place.
    fn resolve(&self, schema: &Value) -> Value {
        let reference = schema.get("$ref").and_then(Value::as_str).and_then(|reference| reference.rsplit('/').next());
        match reference {
            Some(OBJECT_META) => object_meta(),
            Some(QUANTITY) => json!({"x-kubernetes-int-or-string": true, "pattern": QUANTITY_PATTERN}),
            Some(name) => self.expand(name, self.types.get(name).unwrap_or(&Value::Null)),
            None => self.expand("", schema),
        }
    }

    /// One node: its own keywords, and everything below it. `name` is that of the type, if the node is one.
    fn expand(&self, name: &str, schema: &Value) -> Value {
        let mut node = Map::new();
        for (keyword, value) in schema.as_object().into_iter().flatten() {
            let value = match (keyword.as_str(), value) {
                ("description", _) => continue,
                ("required", Value::Array(fields)) => match Self::required(name, fields) {
                    fields if fields.is_empty() => continue,
                    fields => Value::Array(fields),
                },
                ("items" | "additionalProperties", inner) => self.resolve(inner),
                ("properties", Value::Object(fields)) => {
                    let fields = fields.iter().map(|(field, schema)| (field.clone(), self.field(name, field, schema)));
                    Value::Object(fields.collect())
                }
                _ => value.clone(),
            };
            node.insert(keyword.clone(), value);
        }
        if node.contains_key("properties") && self.unknown == Unknown::Kept {
            node.insert("x-kubernetes-preserve-unknown-fields".into(), true.into());
        }
        if let Some(merge) = merge_of_type(name) {
            merge.write_to(&mut node);
        }
        Value::Object(node)
    }

    /// The fields that must be there. The bindings count those in that always have a value, such as metadata and names with a
    /// default; in the API they may be left out.
    fn required(owner: &str, fields: &[Value]) -> Vec<Value> {
        let optional =
            |field: &&Value| *field == "metadata" || field.as_str().is_some_and(|field| default_of(owner, field).is_some());
        fields.iter().filter(|field| !optional(field)).cloned().collect()
    }

    fn field(&self, owner: &str, field: &str, schema: &Value) -> Value {
        let mut schema = self.resolve(schema);
        if let Value::Object(node) = &mut schema {
            if let Some(merge) = merge_of(owner, field) {
                merge.write_to(node);
            }
            if let Some(default) = default_of(owner, field) {
                node.insert("default".into(), default);
            }
        }
        schema
    }
}

/// Metadata of a template: what an author may say about objects made from it. The API server prunes the rest.
fn object_meta() -> Value {
    let strings = json!({"type": "object", "additionalProperties": {"type": "string"}});
    json!({
        "type": "object",
        "properties": {
            "annotations": strings,
            "finalizers": {"type": "array", "items": {"type": "string"}},
            "labels": strings,
            "name": {"type": "string"},
            "namespace": {"type": "string"},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::kubernetes::described;

    #[test]
    fn every_field_that_the_tables_speak_of_exists_in_the_bindings() {
        let mut generator = SchemaSettings::default().into_generator();
        generator.subschema_for::<PodTemplateSpec>();
        generator.subschema_for::<PersistentVolumeClaim>();
        let types = generator.take_definitions(true);
        for (owner, field) in described() {
            let found = types.iter().any(|(name, schema)| {
                name.ends_with(&format!(".{owner}")) && (field.is_empty() || !schema["properties"][field].is_null())
            });
            assert!(found, "{owner} {field}");
        }
    }
}
