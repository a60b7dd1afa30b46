//! The direction of the dependencies among our crates: `api ← core ← policy-host ← controller`, `policy-oci` beside them, and
//! nothing in the core that could do more than compute.

#![allow(clippy::unwrap_used, reason = "a test that can't read the metadata has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Every crate of `operator/` with its direct dependencies, tests' ones left out.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version", "1", "--no-deps"]);
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let direct = |package: &Value| {
        let all = package["dependencies"].as_array().cloned().unwrap_or_default();
        all.iter().filter(|dependency| dependency["kind"] != "dev").map(|dependency| text(&dependency["name"])).collect()
    };
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    let ours = packages.iter().filter(|package| text(&package["manifest_path"]).contains("/operator/"));
    ours.map(|package| (text(&package["name"]), direct(package))).collect()
}

fn ours(dependencies: &BTreeSet<String>) -> Vec<&str> {
    dependencies.iter().map(String::as_str).filter(|name| name.starts_with("muster-")).collect()
}

#[test]
fn crates_depend_in_one_direction() {
    let all = dependencies();
    assert_eq!(ours(&all["muster-api"]), Vec::<&str>::new());
    assert_eq!(ours(&all["muster-core"]), ["muster-api"]);
    assert_eq!(ours(&all["muster-policy-build"]), Vec::<&str>::new());
    assert_eq!(ours(&all["muster-policy-host"]), ["muster-api", "muster-core"]);
    assert_eq!(ours(&all["muster-policy-oci"]), Vec::<&str>::new());
    assert_eq!(ours(&all["muster-operator"]), ["muster-api", "muster-core", "muster-policy-host", "muster-policy-oci"]);
    assert_eq!(ours(&all["muster-policy-kit"]), ["muster-api", "muster-core", "muster-policy-host"]);
}

#[test]
fn the_core_knows_no_client_no_runtime_and_no_engine() {
    let all = dependencies();
    for banned in ["kube", "kube-client", "tokio", "wasmtime", "tracing", "rand", "axum"] {
        assert!(!all["muster-core"].contains(banned), "muster-core must not depend on {banned}");
    }
    let wasm: Vec<&String> = all.iter().filter(|(_, of)| of.contains("wasmtime")).map(|(name, _)| name).collect();
    assert_eq!(wasm, ["muster-policy-host"]);
}
