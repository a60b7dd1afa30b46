//! Components that were built against released versions of the interface load and answer, whatever has been added since.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

mod fixtures;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use fixtures::{nothing, request};
use muster_core::placement::Decision;
use muster_core::startup::{Group, Request as StartupRequest};
use muster_policy_host::{Engine, EngineOptions, Limits, LoadError};
use serde_json::json;

fn frozen() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/frozen");
    let versions = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let mut files: Vec<_> =
        versions.flat_map(|version| fs::read_dir(version).unwrap()).map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn engine() -> Engine {
    Engine::new(EngineOptions::default()).unwrap()
}

/// Asks a placement policy about one unit of two pods in a cluster of nothing.
fn place(engine: &Engine, bytes: &[u8]) -> Result<Vec<Decision>, LoadError> {
    let component = engine.load_placement(bytes, Limits::default(), &json!({}))?;
    let answers = component.place(&nothing(), &request()).result.unwrap();
    Ok(answers.into_iter().map(|answer| answer.decision).collect())
}

/// How many ranks a startup policy admits of a group of four that has no pod yet.
fn admit(engine: &Engine, bytes: &[u8]) -> Result<Vec<u32>, LoadError> {
    let component = engine.load_startup(bytes, Limits::default(), &json!({}))?;
    let group = Group { index: 0, size: 4, pods: Vec::new(), age_ms: 0, recreations: 0, placed: true };
    let (owner, labels) = ("ml/train".to_owned(), BTreeMap::new());
    let request = StartupRequest { owner, labels, replicas: 1, unplaced: 0, groups: vec![group] };
    Ok(component.next(&request).result.unwrap().into_iter().map(|step| step.admit).collect())
}

#[test]
fn every_frozen_component_loads_and_answers() {
    let engine = engine();
    let files = frozen();
    assert!(files.len() >= 2, "{files:?}");
    for file in files {
        let bytes = fs::read(&file).unwrap();
        match file.file_stem().unwrap().to_str().unwrap() {
            "exclusive" => assert_eq!(place(&engine, &bytes).unwrap(), [Decision::Unconstrained], "{}", file.display()),
            "leader-created" => assert_eq!(admit(&engine, &bytes).unwrap(), [4], "{}", file.display()),
            other => panic!("say here what {other} must answer"),
        }
    }
}
