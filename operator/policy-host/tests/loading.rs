//! What is refused, at which step, and with which hint.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

mod fixtures;

use fixtures::{Guest, engine};
use muster_core::placement::SettingsError;
use muster_guests::{Gives, startup};
use muster_policy_host::{AcceptError, Limits, LoadError, PolicyKind, Step};
use rstest::rstest;
use serde_json::{Value, json};

fn refused(bytes: &[u8]) -> LoadError {
    engine().load_placement(bytes, Limits::default(), &Value::Null).unwrap_err()
}

fn accept_error(bytes: &[u8]) -> AcceptError {
    let error = refused(bytes);
    assert_eq!(error.step(), Step::Accepted);
    match error {
        LoadError::Refused(error) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_good_component_tells_about_itself() {
    let bytes = Guest::default().component();
    let component = engine().load_placement(&bytes, Limits::default(), &json!({"b": 1, "a": [true]})).unwrap();
    assert_eq!((component.name(), component.version(), component.settings_schema()), ("fixture", "1.2.3", ""));
    assert_eq!(component.preparation().levels, ["example.com/rack"]);
    assert_eq!(component.settings(), r#"{"a":[true],"b":1}"#);
    assert_eq!((&component.digest()[..7], component.digest().len()), ("sha256:", 71));
}

#[test]
fn a_component_that_is_too_large_is_not_even_parsed() {
    let error = refused(&vec![0; (1 << 20) + 1]);
    assert_eq!(error.step(), Step::Size);
    assert_eq!(error.to_string(), "the component has 1048577 bytes, and at most 1048576 are allowed");
}

#[test]
fn a_core_module_is_refused_with_the_way_to_a_component() {
    let error = accept_error(&wat::parse_str("(module)").unwrap());
    assert_eq!(error, AcceptError::CoreModule);
    assert!(error.hint().unwrap().contains("wasm-tools component new"));
}

#[test]
fn text_is_not_webassembly() {
    let said = |bytes: &[u8]| accept_error(bytes).to_string();
    assert_eq!(said(b"hello, world"), r#"this is not WebAssembly: it begins with "hell", and WebAssembly with "\0asm""#);
    assert_eq!(
        said(b"\x1f\x8b\x08\0\0"),
        r#"this is not WebAssembly: it begins with "\x1f\x8b\x08\x00", and WebAssembly with "\0asm""#
    );
    assert_eq!(said(b""), "this is not WebAssembly: it is empty");
}

#[test]
fn wasi_is_refused_before_compiling() {
    // Nothing else in it would do either: only the order of the checks makes this the error.
    let bytes = wat::parse_str(r#"(component (import "wasi:cli/environment@0.2.3" (instance)))"#).unwrap();
    let error = accept_error(&bytes);
    assert_eq!(error, AcceptError::Wasi("wasi:cli/environment@0.2.3".into()));
    assert!(error.hint().unwrap().contains("wasm32-unknown-unknown"));
}

#[test]
fn a_policy_of_the_other_world_is_named_as_such() {
    let error = accept_error(&startup());
    assert_eq!(error, AcceptError::OtherWorld { found: PolicyKind::Startup, wanted: PolicyKind::Placement });
    assert_eq!(error.to_string(), "the component is a startup-policy, and this needs a placement-policy");
    assert_eq!(error.hint().unwrap(), "use it in a StartupPolicy instead");
}

#[test]
fn a_component_that_is_no_policy_lacks_an_export() {
    let error = accept_error(&wat::parse_str("(component)").unwrap());
    assert_eq!(error, AcceptError::MissingExport("muster:policy/placement@0.1.0".into()));
}

#[test]
fn a_policy_of_another_version_is_named_as_such() {
    let text = r#"(component (instance $i) (export "muster:policy/placement@0.2.0" (instance $i)))"#;
    let error = accept_error(&wat::parse_str(text).unwrap());
    assert_eq!(error, AcceptError::OtherVersion("muster:policy/placement@0.2.0".into()));
}

/// A component with the right names that also has `extra` in it.
fn named(extra: &str) -> Vec<u8> {
    let text = format!(
        r#"(component {extra} (instance $i)
             (export "muster:policy/placement@0.1.0" (instance $i)) (export "muster:policy/lifecycle@0.1.0" (instance $i)))"#
    );
    wat::parse_str(text).unwrap()
}

#[test]
fn an_unknown_import_is_refused() {
    let error = accept_error(&named(r#"(import "example:net/dns@1.0.0" (instance))"#));
    assert!(matches!(&error, AcceptError::UnknownImport { import, .. } if import == "example:net/dns@1.0.0"), "{error:?}");
}

#[test]
fn functions_of_other_types_do_not_fit() {
    let error = refused(&named(""));
    assert!(matches!(&error, LoadError::Link(_)), "{error:?}");
    assert_eq!(error.step(), Step::Compiled);
}

#[rstest]
#[case::garbage_collection("(core module (type (struct (field i32))))")]
#[case::function_references("(core module (type $f (func)) (func (param (ref $f))))")]
#[case::exception_tags("(core module (tag))")]
#[case::shared_memory("(core module (memory 1 1 shared))")]
#[case::wide_memory("(core module (memory i64 1))")]
#[case::async_functions("(type (func async))")]
#[case::error_contexts("(type error-context)")]
fn what_policies_do_not_need_does_not_compile(#[case] extra: &str) {
    let error = refused(&named(extra));
    assert!(matches!(&error, LoadError::Compile(_)), "{error:?}");
    assert_eq!(error.step(), Step::Compiled);
}

#[test]
fn settings_errors_carry_their_pointers() {
    let guest = Guest { validate: "(i32.const 296)", ..Guest::default() };
    let error = refused(&guest.component());
    assert_eq!(error.step(), Step::SettingsValid);
    let expected = [SettingsError { path: "/keys/0".into(), message: "it fits there".into() }];
    assert_eq!(error.settings_errors(), expected);
}

#[test]
fn a_trap_in_validation_is_told_from_bad_settings() {
    let error = refused(&Guest { validate: "unreachable", ..Guest::default() }.component());
    assert!(matches!(&error, LoadError::ValidateSettings(_)), "{error:?}");
    assert_eq!(error.step(), Step::SettingsValid);
}

#[test]
fn what_a_policy_gives_its_pods_is_known_once_it_is_loaded() {
    let gives = [Gives::Toleration("google.com/tpu"), Gives::Env("SLICE", "none"), Gives::Scheduler("mine")];
    let bytes = Guest { gives: &gives, ..Guest::default() }.component();
    let component = engine().load_placement(&bytes, Limits::default(), &Value::Null).unwrap();
    let effects = serde_json::to_value(&component.preparation().effects).unwrap();
    let toleration = json!({ "key": "google.com/tpu", "operator": "Exists" });
    assert_eq!(effects, json!({ "tolerations": [toleration], "env": { "SLICE": "none" }, "schedulerName": "mine" }));
}

#[test]
fn a_policy_that_would_open_nodes_that_are_not_ready_is_not_loaded() {
    let gives = [Gives::Toleration("node.kubernetes.io/not-ready")];
    let error = refused(&Guest { gives: &gives, ..Guest::default() }.component());
    assert_eq!(error.step(), Step::SettingsValid);
    let expected = "`prepare` answered with effect toleration node.kubernetes.io/not-ready: Kubernetes taints nodes with this key \
                    when they are no good, and they stay closed";
    assert_eq!(error.to_string(), expected);
}
