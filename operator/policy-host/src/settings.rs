//! Settings as the policies see them: one canonical JSON document.

use serde_json::{Map, Value};

/// The document with the keys of all objects sorted and no white space; `{}` for `null`, which is what an absent field gives.
///
/// Equal settings give equal bytes, so that they can be compared and hashed.
pub(crate) fn canonical(settings: &Value) -> String {
    match settings {
        Value::Null => "{}".to_owned(),
        settings => sorted(settings).to_string(),
    }
}

/// `serde_json` sorts keys unless some crate of the build asks it to keep their order.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(key, _)| *key);
            Value::Object(fields.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_sorted_at_every_depth() {
        let settings = json!({"mode": "Required", "keys": [{"b": 1, "a": {"d": null, "c": 2.5}}]});
        assert_eq!(canonical(&settings), r#"{"keys":[{"a":{"c":2.5,"d":null},"b":1}],"mode":"Required"}"#);
    }

    #[test]
    fn no_settings_are_the_empty_object() {
        assert_eq!(canonical(&Value::Null), "{}");
    }
}
