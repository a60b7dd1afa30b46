//! Settings are compared with the schema that a policy describes, and by the policy itself.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

mod fixtures;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fixtures::{Guest, engine};
use muster_policy_host::{
    CacheOptions, Engine, EngineOptions, Limits, LoadError, PolicyKind, Step, built_in, built_ins, kind_of,
};
use rstest::rstest;
use serde::Deserialize as _;
use serde_json::{Value, json};

const SCHEMA: &str = r#"{"type": "object", "additionalProperties": false, "properties": {"keys": {"type": "array"}, "mode": {"enum": ["Required", "Preferred"]}}}"#;

/// What is wrong with these settings, as `POINTER: MESSAGE`.
fn faults(guest: &Guest<'_>, settings: &Value) -> Vec<String> {
    let error = engine().load_placement(&guest.component(), Limits::default(), settings).unwrap_err();
    assert_eq!(error.step(), Step::SettingsValid, "{error}");
    error.settings_errors().iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect()
}

#[test]
fn settings_that_the_schema_allows_are_taken() {
    let guest = Guest { schema: SCHEMA, ..Guest::default() };
    let settings = json!({ "mode": "Preferred", "keys": [] });
    let component = engine().load_placement(&guest.component(), Limits::default(), &settings).unwrap();
    assert_eq!(component.settings_schema(), SCHEMA);
    assert!(component.reconfigured(Limits::default(), &Value::Null).is_ok());
}

#[test]
fn what_the_policy_overlooks_its_schema_finds() {
    let guest = Guest { schema: SCHEMA, ..Guest::default() };
    let expected = [
        "/mode: \"required\" is not one of \"Required\" or \"Preferred\"",
        "/shard: unknown field; expected one of `keys`, `mode`",
    ];
    assert_eq!(faults(&guest, &json!({ "shard": true, "mode": "required" })), expected);
}

#[test]
fn faults_of_both_come_together_by_pointer_and_the_policys_own_words_stand() {
    // The policy finds fault with `/keys/0` whatever the settings are.
    let guest = Guest { schema: SCHEMA, validate: "(i32.const 296)", ..Guest::default() };
    assert_eq!(faults(&guest, &json!({ "keys": "a" })), ["/keys: \"a\" is not of type \"array\"", "/keys/0: it fits there"]);
    let strict = SCHEMA.replace(r#""type": "array""#, r#""type": "array", "items": {"type": "string"}"#);
    let guest = Guest { schema: &strict, ..guest };
    assert_eq!(faults(&guest, &json!({ "keys": [1] })), ["/keys/0: it fits there"]);
}

#[test]
fn other_settings_of_a_loaded_policy_are_compared_too() {
    let guest = Guest { schema: SCHEMA, ..Guest::default() };
    let component = engine().load_placement(&guest.component(), Limits::default(), &Value::Null).unwrap();
    let error = component.reconfigured(Limits::default(), &json!({ "mode": 1 })).unwrap_err();
    assert_eq!(error.settings_errors()[0].path, "/mode");
}

#[test]
fn a_policy_that_breaks_over_settings_of_the_wrong_shape_is_explained_by_its_schema() {
    let guest = Guest { schema: SCHEMA, validate: "unreachable", ..Guest::default() };
    assert_eq!(faults(&guest, &json!([])), [": [] is not of type \"object\""]);
    let error = engine().load_placement(&guest.component(), Limits::default(), &Value::Null).unwrap_err();
    assert!(matches!(error, LoadError::ValidateSettings(_)), "{error}");
}

#[test]
fn a_schema_of_no_use_is_a_fault_of_the_policy() {
    let guest = Guest { schema: r#"{"$ref": "https://schemas.example/settings"}"#, ..Guest::default() };
    let error = engine().load_placement(&guest.component(), Limits::default(), &Value::Null).unwrap_err();
    assert_eq!(error.step(), Step::Described);
    let expected = "`describe` answered with a settings-schema that is of no use: its references must be pointers into itself, such as \"#/$defs/…\"";
    assert_eq!(error.to_string(), expected);
    assert_eq!(error.hint().unwrap(), "correct the schema in the policy, or let `describe` answer with an empty one");
}

fn load(engine: &Engine, component: &[u8], settings: &Value) -> Result<(), LoadError> {
    match kind_of(component).unwrap() {
        PolicyKind::Placement => engine.load_placement(component, Limits::default(), settings).map(|_| ()),
        PolicyKind::Startup => engine.load_startup(component, Limits::default(), settings).map(|_| ()),
    }
}

/// All Markdown and YAML files in a folder of the repository.
fn texts(folder: &Path) -> Vec<PathBuf> {
    let entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let is_text = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "md" || ending == "yaml");
    let (folders, files): (Vec<_>, Vec<_>) = entries.into_iter().partition(|path| path.is_dir());
    let inside = folders.iter().filter(|path| path.file_name().is_some_and(|name| name != "target")).flat_map(|path| texts(path));
    files.into_iter().filter(is_text).chain(inside).collect()
}

/// The YAML documents of a file: all of it, or what is between fences that say `yaml`.
fn documents(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    let parts: Vec<&str> = match path.extension() {
        Some(ending) if ending == "md" => text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect(),
        _ => vec![&text],
    };
    let documents = parts.into_iter().flat_map(serde_norway::Deserializer::from_str);
    // What is no YAML by itself (a piece of a template) names no settings either.
    documents.filter_map(|document| Value::deserialize(document).ok()).collect()
}

/// Every policy with settings that the repository shows to its users, with the file.
fn shown() -> Vec<(PathBuf, String, Value)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let files = ["policies", "examples", "docs"].map(|folder| root.join(folder)).into_iter().filter(|folder| folder.is_dir());
    let files = files.flat_map(|folder| texts(&folder)).chain([root.join("README.md")]);
    files.flat_map(|path| documents(&path).into_iter().filter_map(move |document| of_built_in(&path, &document))).collect()
}

/// The built-in policy and the settings that a policy object or a scenario of a policy names.
fn of_built_in(path: &Path, document: &Value) -> Option<(PathBuf, String, Value)> {
    let folder = path.parent()?;
    let name = match document.pointer("/spec/source/builtIn") {
        Some(name) => name.as_str()?.to_owned(),
        // The examples' own policies are tried with the author's kit.
        None if folder.ends_with("scenarios") && !folder.components().any(|part| part.as_os_str() == "examples") => {
            folder.parent()?.file_name()?.to_str()?.to_owned()
        }
        None => return None,
    };
    let settings = document.pointer("/spec/settings").or_else(|| document.get("settings"));
    Some((path.to_owned(), name, settings.cloned().unwrap_or_default()))
}

#[test]
fn all_settings_that_are_shown_to_users_are_taken() {
    if built_ins().is_empty() {
        return;
    }
    // Compiled once each, in whatever order they are shown.
    let folder = tempfile::tempdir().unwrap();
    let cache = CacheOptions { folder: folder.path().join("compiled"), max_bytes: 1 << 30 };
    let engine =
        Engine::new(EngineOptions { cache: Some(cache), compile_timeout: Duration::from_secs(600), ..EngineOptions::default() })
            .unwrap();
    let shown = shown();
    for (path, name, settings) in &shown {
        let component = built_in(name).unwrap_or_else(|| panic!("{}: there is no {name}", path.display()));
        load(&engine, component, settings).unwrap_or_else(|error| panic!("{}: {name} with {settings}: {error}", path.display()));
    }
    let with_settings: std::collections::BTreeSet<&str> =
        shown.iter().filter(|(_, _, settings)| !settings.is_null()).map(|(_, name, _)| name.as_str()).collect();
    let known: Vec<_> = with_settings.into_iter().collect();
    let expected =
        ["all-placed", "colocate", "node-pool", "nvlink-domain", "spread", "sticky-avoid", "topology-pack", "tpu-slice", "waves"];
    assert_eq!(known, expected);
}

#[test]
fn every_built_in_policy_points_to_a_field_that_it_does_not_know() {
    let engine = engine();
    for policy in built_ins() {
        let error = load(&engine, policy.bytes, &json!({ "nonsense": 1 })).unwrap_err();
        let paths: Vec<_> = error.settings_errors().iter().map(|fault| fault.path.as_str()).collect();
        assert!(paths.contains(&"/nonsense"), "{}: {error}", policy.name);
    }
}

#[rstest]
#[case::node_pool("node-pool", json!({ "mode": "Must", "keys": "a" }), &["/keys", "/mode"])]
#[case::topology_pack("topology-pack", json!({ "levels": [{ "key": "a", "segment": 0 }], "fit": "first" }), &["/fit", "/levels/0/segment"])]
#[case::tpu_slice("tpu-slice", json!({ "quarantine": 1 }), &["/quarantine"])]
#[case::waves("waves", json!({ "wait": "Placed", "leader": 1 }), &["/leader", "/wait"])]
fn every_wrong_field_of_a_built_in_policy_is_pointed_to(#[case] name: &str, #[case] settings: Value, #[case] expected: &[&str]) {
    let Some(component) = built_in(name) else { return };
    let error = load(&engine(), component, &settings).unwrap_err();
    let paths: Vec<_> = error.settings_errors().iter().map(|fault| fault.path.as_str()).collect();
    assert_eq!(paths, expected, "{error}");
}
