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
                // A binding's notion: in the API, metadata may always be left out.
                ("required", Value::Array(fields)) if fields.iter().all(|field| field == "metadata") => continue,
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
