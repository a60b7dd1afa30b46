//! Every scenario of every policy in `policies/`, asked of the built-in component.
//!
//! Components are embedded only if `cargo xtask policies` ran before; `MUSTER_REQUIRE_BUILT_INS=1`, which `cargo xtask test` sets,
//! makes their absence a failure.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use std::path::{Path, PathBuf};

use muster_policy_host::{Engine, EngineOptions, Limits};
use muster_policy_kit::{Bytes, Library, Policy, judge, play, properties, scenario};

fn policies() -> Vec<(String, PathBuf)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies");
    let folders = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let mut policies: Vec<_> = folders.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), path)).collect();
    policies.sort();
    policies
}

/// A busy machine must not look like a slow policy.
fn patient() -> Limits {
    Limits::new(Limits::DEADLINE_RANGE.1, 64 << 20)
}

fn built_in(name: &str) -> Option<Bytes> {
    let bytes = Bytes::of_built_in(name).ok();
    let required = std::env::var("MUSTER_REQUIRE_BUILT_INS").is_ok_and(|value| value == "1");
    assert!(bytes.is_some() || !required, "{name} has scenarios and is not built in");
    bytes
}

#[test]
fn every_scenario_of_every_policy_comes_out_as_written() {
    let engine = Engine::new(EngineOptions::default()).unwrap();
    let others = Library::new(&engine, patient());
    let (mut wrong, mut played, mut read) = (Vec::new(), 0, 0);
    for (name, folder) in policies() {
        for file in scenario::files(&folder.join("scenarios")) {
            let short = format!("{name}/{}", file.file_name().unwrap().to_string_lossy());
            let cases = scenario::read(&file).unwrap_or_else(|error| panic!("{error}"));
            read += cases.len();
            let Some(bytes) = built_in(&name) else { continue };
            for case in cases {
                let failures =
                    bytes.load(&engine, patient(), case.own_settings()).map_err(|error| error.to_string()).and_then(|policy| {
                        play(&case, &policy, &others).and_then(|report| judge(&case, &report)).map_err(|fault| fault.to_string())
                    });
                let failures = failures.unwrap_or_else(|error| vec![error]);
                wrong.extend(failures.into_iter().map(|failure| format!("{short}: {}: {failure}", case.name)));
                played += 1;
            }
        }
    }
    println!("{played} of {read} scenarios played");
    assert!(read > 0, "no scenario was found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_built_in_policy_has_the_properties_of_every_policy() {
    let engine = Engine::new(EngineOptions::default()).unwrap();
    let counting = Engine::new(EngineOptions { count_instructions: true, ..EngineOptions::default() }).unwrap();
    let effort = properties::Effort { cases: 64, seed: 1 };
    for built_in in muster_policy_host::built_ins() {
        // Policies that need settings have a scenario with some.
        let bytes = Bytes::of_built_in(built_in.name).unwrap();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies").join(built_in.name).join("scenarios");
        let cases = scenario::files(&folder).into_iter().flat_map(|file| scenario::read(&file).unwrap());
        let settings = std::iter::once(serde_json::Value::Null).chain(cases.map(|case| case.own_settings().clone()));
        let policy = settings.into_iter().find_map(|settings| bytes.load(&engine, Limits::default(), &settings).ok());
        let policy =
            policy.unwrap_or_else(|| panic!("{} takes neither empty settings nor those of its scenarios", built_in.name));
        let settings = match &policy {
            Policy::Placement(component) => component.settings(),
            Policy::Startup(component) => component.settings(),
            Policy::Native => unreachable!("a built-in policy is a component"),
        };
        let counting = bytes.load(&counting, patient(), &serde_json::from_str(settings).unwrap()).unwrap();
        let verdicts = properties::check(&policy, &counting, effort).unwrap();
        assert!(verdicts.iter().any(|verdict| verdict.property == "the same question takes the same number of instructions"));
        for verdict in verdicts {
            let broken = verdict.broken.map(|broken| {
                format!(
                    "{}: {}\n{}",
                    verdict.property,
                    broken.message,
                    broken.scenario.map(|case| case.to_yaml()).unwrap_or_default()
                )
            });
            assert!(broken.is_none(), "{}: {}", built_in.name, broken.unwrap_or_default());
        }
    }
}
