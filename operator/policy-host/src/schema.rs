//! Settings compared with the JSON Schema that a policy describes, besides what the policy itself says about them.
//!
//! A schema comes from whoever wrote the policy, and comparing runs outside the sandbox. So nothing is fetched, patterns are
//! matched in linear time, and a schema must stay small when its references are followed.

use jsonschema::error::ValidationErrorKind;
use jsonschema::{PatternOptions, ValidationError, Validator};
use muster_core::placement::SettingsError;
use serde_json::Value;

use crate::convert::{self, MAX_SETTINGS_ERRORS};

const MAX_BYTES: usize = 64 << 10;
/// How deep a schema may be, its references followed.
const MAX_DEPTH: usize = 64;
/// How many values a schema may have, its references followed.
const MAX_VALUES: usize = 20_000;
/// Size of one compiled pattern, in bytes.
const MAX_PATTERN_BYTES: usize = 1 << 20;
/// Values of settings that are longer than this are not repeated in a fault: what would be right must find room in it.
const MAX_SHOWN: usize = 100;

/// A policy's schema.
#[derive(Debug)]
pub(crate) struct Schema(Option<Described>);

#[derive(Debug)]
struct Described {
    text: Value,
    validator: Validator,
}

impl Schema {
    /// Reads the schema; an empty text takes everything. The error says what a schema must be.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        if text.len() > MAX_BYTES {
            return Err(format!("it has {} bytes, and at most {MAX_BYTES} are allowed", text.len()));
        }
        let text: Value = serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?;
        follow(&text, &text, 0, &mut MAX_VALUES.clone())?;
        let patterns = PatternOptions::regex().size_limit(MAX_PATTERN_BYTES);
        let validator = jsonschema::options().offline().with_pattern_options(patterns).build(&text);
        let validator = validator.map_err(|error| match error.instance_path().as_str() {
            "" => format!("it is no JSON Schema: {}", said(&error)),
            path => format!("it is no JSON Schema: {path}: {}", said(&error)),
        })?;
        Ok(Self(Some(Described { text, validator })))
    }

    /// Everything about the settings that the schema doesn't allow, each fault at its JSON pointer.
    pub(crate) fn faults(&self, settings: &Value) -> Vec<SettingsError> {
        let Some(Described { text, validator }) = &self.0 else { return Vec::new() };
        validator.iter_errors(settings).flat_map(|error| faults(text, &error)).take(MAX_SETTINGS_ERRORS).collect()
    }
}

/// What the policy says about its settings, and what its schema says where the policy says nothing; by pointer, each once.
pub(crate) fn merged(mut said: Vec<SettingsError>, unlike: Vec<SettingsError>) -> Vec<SettingsError> {
    let silent = |fault: &SettingsError| said.iter().all(|known| known.path != fault.path);
    let unlike: Vec<_> = unlike.into_iter().filter(silent).collect();
    said.extend(unlike);
    said.sort_by(|one, other| (&one.path, &one.message).cmp(&(&other.path, &other.message)));
    said.dedup();
    said.truncate(MAX_SETTINGS_ERRORS);
    said
}

/// One error of the validator as faults, each at the field that it is about.
fn faults(schema: &Value, error: &ValidationError<'_>) -> Vec<SettingsError> {
    let path = error.instance_path().as_str();
    let below = |name: &str| format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"));
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            let message = format!("unknown field; {}", known_fields(schema, error));
            unexpected.iter().map(|name| fault(&below(name), &message)).collect()
        }
        ValidationErrorKind::Required { property } => {
            vec![fault(&below(property.as_str().unwrap_or_default()), "missing; this field is required")]
        }
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            let branch = |errors: &Vec<ValidationError<'_>>| errors.iter().map(said).collect::<Vec<_>>().join(" and ");
            let branches: Vec<_> = context.iter().map(branch).collect();
            vec![fault(path, &format!("fits none of the forms that it may have: {}", branches.join(", or ")))]
        }
        _ => vec![fault(path, &said(error))],
    }
}

/// The fields that an object may have where the schema found one more.
fn known_fields(schema: &Value, error: &ValidationError<'_>) -> String {
    let keyword = error.schema_path().as_str();
    let around = keyword.rsplit_once('/').and_then(|(around, _)| schema.pointer(around));
    let fields = around.and_then(|around| around.get("properties")).and_then(Value::as_object);
    let mut names: Vec<_> = fields.into_iter().flatten().map(|(name, _)| format!("`{name}`")).collect();
    names.sort();
    match names.as_slice() {
        [] => "no such field is possible here".to_owned(),
        names => format!("expected one of {}", names.join(", ")),
    }
}

/// An error in the validator's words.
fn said(error: &ValidationError<'_>) -> String {
    if error.instance().to_string().len() > MAX_SHOWN { error.masked_with("this value").to_string() } else { error.to_string() }
}

fn fault(path: &str, message: &str) -> SettingsError {
    SettingsError { path: convert::message(path), message: convert::message(message) }
}

/// Walks a schema as comparing with it would, and stops where that could go on for too long.
fn follow(root: &Value, schema: &Value, depth: usize, left: &mut usize) -> Result<(), &'static str> {
    if depth > MAX_DEPTH {
        return Err("it must not refer to itself, nor be deeper than 64 with its references followed");
    }
    *left = left.checked_sub(1).ok_or("it must have at most 20000 values with its references followed")?;
    if let Value::Object(fields) = schema {
        if fields.contains_key("$dynamicRef") || fields.contains_key("$recursiveRef") {
            return Err("it must not have $dynamicRef or $recursiveRef; name definitions with \"$ref\": \"#/$defs/…\"");
        }
        if depth > 0 && fields.get("$id").is_some_and(Value::is_string) {
            return Err("it must have $id nowhere but at its root");
        }
        if let Some(Value::String(reference)) = fields.get("$ref") {
            let target = reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
            let target = target.ok_or("its references must be pointers into itself, such as \"#/$defs/…\"")?;
            follow(root, target, depth + 1, left)?;
        }
        return fields.values().try_for_each(|value| follow(root, value, depth + 1, left));
    }
    schema.as_array().into_iter().flatten().try_for_each(|value| follow(root, value, depth + 1, left))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "a literal reads better without a reference")]
    fn faults(schema: Value, settings: Value) -> Vec<String> {
        let schema = Schema::read(&schema.to_string()).unwrap();
        schema.faults(&settings).into_iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect()
    }

    #[test]
    fn every_fault_is_listed_at_its_pointer() {
        let schema = json!({
            "type": "object",
            "additionalProperties": false,
            "required": ["levels"],
            "properties": {
                "levels": { "type": "array" },
                "mode": { "enum": ["Required", "Preferred"] },
                "weights": { "type": "array", "items": { "$ref": "#/$defs/weight" } },
            },
            "$defs": { "weight": { "type": "integer", "minimum": 1 } },
        });
        let mut found = faults(schema, json!({ "mode": "Must", "weights": [1, 0, "2"], "a/b": 1 }));
        found.sort();
        let expected = [
            "/a~1b: unknown field; expected one of `levels`, `mode`, `weights`",
            "/levels: missing; this field is required",
            "/mode: \"Must\" is not one of \"Required\" or \"Preferred\"",
            "/weights/1: 0 is less than the minimum of 1",
            "/weights/2: \"2\" is not of type \"integer\"",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn no_schema_takes_everything() {
        assert_eq!(Schema::read("").unwrap().faults(&json!({ "anything": 1 })), []);
    }

    /// Definitions of which each refers twice to the next: small to read, and 2^18 values to compare with.
    fn bomb() -> Value {
        let mut definitions = serde_json::Map::new();
        for level in 0..18 {
            let next = json!({ "$ref": format!("#/$defs/d{}", level + 1) });
            definitions.insert(format!("d{level}"), json!({ "allOf": [next, next] }));
        }
        definitions.insert("d18".to_owned(), json!(true));
        json!({ "$defs": definitions, "$ref": "#/$defs/d0" })
    }

    #[rstest]
    #[case(json!({ "$ref": "#" }), "it must not refer to itself, nor be deeper than 64 with its references followed")]
    #[case(json!({ "properties": { "a": { "$ref": "https://schemas.example/a" } } }),
        "its references must be pointers into itself, such as \"#/$defs/…\"")]
    #[case(json!({ "properties": { "a": { "$ref": "file:///etc/passwd" } } }),
        "its references must be pointers into itself, such as \"#/$defs/…\"")]
    #[case(json!({ "properties": { "a": { "$ref": "#a" } } }),
        "its references must be pointers into itself, such as \"#/$defs/…\"")]
    #[case(json!({ "$dynamicRef": "#a" }),
        "it must not have $dynamicRef or $recursiveRef; name definitions with \"$ref\": \"#/$defs/…\"")]
    #[case(json!({ "properties": { "a": { "$id": "a" } } }), "it must have $id nowhere but at its root")]
    #[case(json!({ "description": "x".repeat(64 << 10) }), "it has 65554 bytes, and at most 65536 are allowed")]
    #[case(bomb(), "it must have at most 20000 values with its references followed")]
    fn a_schema_that_could_harm_the_operator_is_refused(#[case] schema: Value, #[case] expected: &str) {
        assert_eq!(Schema::read(&schema.to_string()).unwrap_err(), expected);
    }

    #[rstest]
    #[case("{", "it is not JSON: ")]
    #[case(r#"{"properties": {"a": {"type": "number of things"}}}"#, "it is no JSON Schema: /properties/a/type: ")]
    #[case(r#"{"$schema": "https://schemas.example/own"}"#, "it is no JSON Schema: ")]
    #[case(r#"{"pattern": "(?:(?:(?:a{1000}){1000}){1000}){1000}"}"#, "it is no JSON Schema: ")]
    #[case(r#"{"pattern": "(a)\\1"}"#, "it is no JSON Schema: ")]
    fn what_is_no_schema_is_said_with_the_place(#[case] schema: &str, #[case] expected: &str) {
        let why = Schema::read(schema).unwrap_err();
        assert!(why.starts_with(expected), "{why}");
    }

    #[test]
    fn a_field_that_has_several_forms_names_what_each_lacks() {
        let forms = json!([{ "type": "integer", "minimum": 1 }, { "const": "Subgroup" }]);
        let schema = json!({ "properties": { "segment": { "oneOf": forms } } });
        let expected =
            "/segment: fits none of the forms that it may have: 0 is less than the minimum of 1, or \"Subgroup\" was expected";
        assert_eq!(faults(schema, json!({ "segment": 0 })), [expected]);
    }

    #[test]
    fn a_long_value_does_not_crowd_out_what_would_be_right() {
        let found = faults(json!({ "enum": ["best", "least"] }), json!("x".repeat(2000)));
        assert_eq!(found, [": this value is not one of \"best\" or \"least\""]);
    }

    #[test]
    fn endless_faults_are_cut() {
        let schema = json!({ "items": { "type": "string" } });
        assert_eq!(faults(schema, json!(vec![1; 10_000])).len(), 64);
    }

    #[test]
    fn the_policys_own_words_come_before_those_of_its_schema() {
        let fault = |path: &str, message: &str| SettingsError { path: path.to_owned(), message: message.to_owned() };
        let own = vec![fault("/b", "too many"), fault("/b", "too many"), fault("", "two of these exclude each other")];
        let unlike =
            vec![fault("/c", "missing"), fault("/b", "3 is greater than the maximum of 2"), fault("/a", "unknown field")];
        let expected = [
            fault("", "two of these exclude each other"),
            fault("/a", "unknown field"),
            fault("/b", "too many"),
            fault("/c", "missing"),
        ];
        assert_eq!(merged(own, unlike), expected);
    }
}
