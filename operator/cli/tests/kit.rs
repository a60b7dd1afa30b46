//! `muster policy` on files alone, as an author runs it.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use std::path::PathBuf;
use std::process::Command;

use muster_guests::{Guest, all_into};
use serde_json::Value;
use tempfile::TempDir;

const SCENARIO: &str = "
name: two racks
levels: [example.com/rack]
templates: {gpu8: {gpu: 8}}
nodes: [2 x gpu8 @ r1, 1 x gpu8 @ r2]
shapes: {pod: {gpu: 8}}
request: {exclusive: rack, units: '1 x [2 pods]'}
expect: [{unit: 0, within: r1}]
";

/// A folder with a policy that puts every unit into the first domain, and a scenario.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(TempDir::new().unwrap());
        desk.write("first.wasm", Guest::that(&all_into(0)).component());
        desk.write("second.wasm", Guest::that(&all_into(1)).component());
        desk.write("case.yaml", SCENARIO);
        desk
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Whether it went well, what it printed, and what it complained about.
    fn muster(&self, args: &[&str]) -> (bool, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
        command.arg("policy").args(args).current_dir(self.0.path()).env("MUSTER_CACHE", self.0.path().join("cache"));
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    }

    fn json(&self, args: &[&str]) -> Value {
        let (_, printed, complaint) = self.muster(args);
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}{complaint}"))
    }
}

#[test]
fn a_good_component_is_checked_step_by_step() {
    let (good, printed, complaint) = Desk::new().muster(&["check", "first.wasm"]);
    assert!(good, "{printed}{complaint}");
    let steps: Vec<&str> =
        printed.lines().filter(|line| line.starts_with('✓')).map(|line| line[4..].split(' ').next().unwrap()).collect();
    assert_eq!(steps, ["size", "world", "types", "describe", "settings"], "{printed}");
    assert!(printed.contains("taken; it reads example.com/rack"), "{printed}");
}

#[test]
fn a_bad_component_is_refused_with_the_remedy() {
    let desk = Desk::new();
    desk.write("module.wasm", b"\0asm\x01\0\0\0");
    let (good, printed, complaint) = desk.muster(&["check", "module.wasm"]);
    assert!(!good);
    assert!(printed.contains("✗ world") && printed.contains("make it a component with `wasm-tools component new`"), "{printed}");
    assert_eq!(complaint, "error: the operator would not load module.wasm\n");
    desk.write("huge.wasm", vec![0; (32 << 20) + 1]);
    let (good, printed, _) = desk.muster(&["check", "huge.wasm"]);
    assert!(
        !good && printed.contains("✗ size      the component has 33554433 bytes, and at most 33554432 are allowed"),
        "{printed}"
    );
    let (good, _, complaint) = desk.muster(&["check", "missing.wasm"]);
    assert!(!good && complaint.starts_with("error: reading missing.wasm: "), "{complaint}");
}

#[test]
fn who_rejects_its_settings_is_still_described() {
    let desk = Desk::new();
    let component = desk.0.path().join("strict.wasm");
    let schema = r#"{"type": "object", "required": ["rack"]}"#;
    std::fs::write(&component, Guest { schema, ..Guest::default() }.component()).unwrap();
    let (good, printed, _) = desk.muster(&["check", "strict.wasm"]);
    assert!(!good);
    assert!(printed.contains("✓ describe  fixture 1.2.3, a settings schema"), "{printed}");
    assert!(printed.contains("✗ settings  the policy rejects its settings"), "{printed}");
    let inspected = desk.json(&["inspect", "strict.wasm", "-o", "json"]);
    assert_eq!((&inspected["name"], &inspected["settingsSchema"]["required"][0]), (&"fixture 1.2.3".into(), &"rack".into()));
}

#[test]
fn a_call_that_takes_too_long_says_how_it_gets_more_time() {
    let desk = Desk::new();
    desk.write("slow.wasm", Guest::that("(loop (br 0)) unreachable").component());
    let (good, printed, _) = desk.muster(&["run", "slow.wasm", "--scenario", "case.yaml", "--deadline", "20ms"]);
    let said = "deadline the policy did not answer within 20ms; make it faster, or raise spec.limits.deadline (to at most 500ms); \
                here by --deadline, or for good in policy.toml below [limits]";
    assert!(!good && printed.contains(said), "{printed}");
    let (_, _, complaint) =
        desk.muster(&["bench", "slow.wasm", "--nodes", "1", "--units", "1", "--calls", "1", "--deadline", "20ms"]);
    assert!(complaint.contains("here by --deadline, or for good in policy.toml"), "{complaint}");
    let (_, printed, _) = desk.muster(&["run", "slow.wasm", "--scenario", "case.yaml", "--deadline", "500ms"]);
    assert!(printed.contains("the policy did not answer within 500ms; make it faster: no call may take longer\n"), "{printed}");
}

#[test]
fn an_inspected_component_says_what_it_is() {
    let inspected = Desk::new().json(&["inspect", "first.wasm", "-o", "json"]);
    assert_eq!((&inspected["world"], &inspected["name"]), (&"placement-policy".into(), &"fixture 1.2.3".into()));
    assert!(inspected["digest"].as_str().unwrap().starts_with("sha256:"));
    assert!(inspected["exports"].as_array().unwrap().contains(&"muster:policy/lifecycle@0.1.0".into()), "{inspected}");
}

#[test]
fn a_run_shows_decisions_and_what_the_operator_makes_of_them() {
    let desk = Desk::new();
    let report = desk.json(&["run", "first.wasm", "--scenario", "case.yaml", "-o", "json"]);
    let decision = &report["decisions"][0];
    assert_eq!(
        (&decision["decision"], &decision["taken"], &decision["rejected"]),
        (&"within".into(), &"rack=r1".into(), &Value::Null)
    );
    assert!(report["cost"]["micros"].as_f64().unwrap() > 0.0);
    let count = report["cost"]["instructions"].as_u64().unwrap();
    let (good, printed, complaint) = desk.muster(&["run", "first.wasm", "--scenario", "case.yaml"]);
    // The same, however long each of the two runs took.
    assert!(count > 0 && good && printed.ends_with(&format!(", instructions {count}\n")), "{count}: {printed}{complaint}");
    let (good, printed, complaint) = desk.muster(&["run", "second.wasm", "--scenario", "case.yaml"]);
    assert!(!good && printed.contains("refused: unit 0: example.com/rack=r2 has room for 1 of 2 pods"), "{printed}");
    assert_eq!(complaint, "error: the operator would refuse answers\n");
}

#[test]
fn scenarios_pass_or_say_what_is_different() {
    let desk = Desk::new();
    let (good, printed, complaint) = desk.muster(&["test", "first.wasm", "--scenarios", "case.yaml", "--cases", "0"]);
    assert!(good && printed.contains("✓ two racks  case.yaml"), "{printed}{complaint}");
    let (good, printed, complaint) = desk.muster(&["test", "second.wasm", "--scenarios", "case.yaml", "--cases", "0"]);
    assert!(!good);
    assert!(
        printed.contains("✗ two racks") && printed.contains("unit 0: expected within rack=r1, got within rack=r2"),
        "{printed}"
    );
    assert_eq!(complaint, "error: 1 of 1 tests failed\n");
}

#[test]
fn a_broken_property_comes_with_a_scenario_that_shows_it() {
    let (good, printed, _) = Desk::new().muster(&["test", "first.wasm", "--cases", "50"]);
    assert!(!good);
    let broken = "✗ no answer breaks capacity or exclusivity";
    assert!(
        printed.contains(broken) && printed.contains("the smallest scenario that shows it") && printed.contains("    request:"),
        "{printed}"
    );
}

#[test]
fn a_scenario_that_is_wrong_names_the_field() {
    let desk = Desk::new();
    desk.write("wrong.yaml", SCENARIO.replace("exclusive", "exclusiv"));
    let (good, _, complaint) = desk.muster(&["run", "first.wasm", "--scenario", "wrong.yaml"]);
    assert!(!good && complaint.starts_with("error: wrong.yaml: request.exclusiv: unknown field `exclusiv`"), "{complaint}");
}

#[test]
fn a_chain_is_asked_policy_by_policy_and_who_left_nothing_is_named() {
    let desk = Desk::new();
    let chained = |expect: &str| {
        let text =
            SCENARIO.replace("expect: [{unit: 0, within: r1}]", &format!("chain: [./first.wasm, underTest]\nexpect: [{expect}]"));
        desk.write("chained.yaml", text);
    };
    chained("{unit: 0, within: r1, by: fixture (2)}");
    let (good, printed, complaint) = desk.muster(&["test", "first.wasm", "--scenarios", "chained.yaml", "--cases", "0"]);
    assert!(good && printed.contains("✓ two racks  chained.yaml"), "{printed}{complaint}");
    let report = desk.json(&["run", "first.wasm", "--scenario", "chained.yaml", "-o", "json"]);
    let asked: Vec<_> = report["chain"].as_array().unwrap().iter().map(|call| (&call["policy"], &call["inside"])).collect();
    let inside = [serde_json::json!([]), serde_json::json!(["rack=r1"])];
    assert_eq!(asked, [(&"fixture".into(), &inside[0]), (&"fixture (2)".into(), &inside[1])]);
    let (good, printed, _) = desk.muster(&["test", "second.wasm", "--scenarios", "chained.yaml", "--cases", "0"]);
    let refused =
        "the operator refuses the answer of fixture (2) (NotEnoughRoom): unit 0: example.com/rack=r2 has room for 0 of 2 pods";
    assert!(!good && printed.contains(refused) && printed.contains("fixture (2) was asked inside rack=r1"), "{printed}");
    desk.write("chained.yaml", std::fs::read_to_string(desk.0.path().join("chained.yaml")).unwrap().replace("first", "third"));
    let (good, _, complaint) = desk.muster(&["run", "first.wasm", "--scenario", "chained.yaml"]);
    assert!(!good && complaint.contains("chain[0]: reading ./third.wasm: "), "{complaint}");
}

#[test]
fn a_bench_holds_its_budget_or_fails() {
    let desk = Desk::new();
    let args = ["bench", "native", "--nodes", "20", "--units", "2", "--calls", "5"];
    let (good, printed, _) = desk.muster(&[&args[..], &["--budget", "p99=10s", "--compare", "native"]].concat());
    assert!(good && printed.lines().count() == 3, "{printed}");
    let (good, _, complaint) = desk.muster(&[&args[..], &["--budget", "p50=0us"]].concat());
    // A muster that is not optimised says so first.
    let over =
        complaint.lines().any(|line| line.starts_with("error: over budget: p50 ") && line.ends_with("(20 nodes, 2 units)"));
    assert!(!good && over, "{complaint}");
}

#[test]
fn a_bench_counts_instructions_and_holds_them_to_a_budget() {
    let desk = Desk::new();
    // Answers as the first, after a thousand turns of a loop.
    let turns =
        "(local $n i32) (loop $on (br_if $on (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 1000))))";
    desk.write("slow.wasm", Guest::that(&format!("{turns} (i32.const 480)")).component());
    desk.write("quick.wasm", Guest::that("(i32.const 480)").component());
    let args = |policy| ["bench", policy, "--nodes", "20", "--units", "1", "--calls", "2", "-o", "json"];
    let count = |policy| desk.json(&args(policy))[0]["instructions"].as_u64().unwrap();
    let (slow, quick) = (count("slow.wasm"), count("quick.wasm"));
    assert_eq!((slow - quick, count("slow.wasm")), (7000, slow));
    let args = ["bench", "first.wasm", "--nodes", "20", "--units", "1", "--calls", "2"];
    let (good, printed, _) = desk.muster(&[&args[..], &["--compare", "second.wasm", "--budget", "instructions=1K"]].concat());
    let rows: Vec<&str> = printed.lines().collect();
    assert!(good && rows[0].trim_end().ends_with("P50 RATIO  INSTRUCTIONS RATIO"), "{printed}");
    // The two differ in one constant.
    assert!(rows[2].trim_end().ends_with("1.00"), "{printed}");
    let (good, _, complaint) = desk.muster(&[&args[..], &["--budget", "instructions=10"]].concat());
    let over = complaint.lines().last().unwrap();
    assert!(
        !good && over.starts_with("error: over budget: instructions ") && over.ends_with(" > 10 (20 nodes, 1 units)"),
        "{over}"
    );
}

#[test]
fn a_replay_shows_what_another_policy_decides_differently() {
    let desk = Desk::new();
    let (good, printed, _) = desk.muster(&["replay", "case.yaml", "--policy", "first.wasm"]);
    assert!(good && printed.contains("0: within rack=r1"), "{printed}");
    let (good, printed, complaint) = desk.muster(&["replay", "case.yaml", "--policy", "first.wasm", "--against", "second.wasm"]);
    assert!(!good && printed.contains("0: within rack=r1") && printed.contains("→ within rack=r2"), "{printed}");
    assert_eq!(complaint, "error: 1 of 1 questions are answered differently\n");
}

#[test]
fn a_simulation_compares_policies_and_draws_them() {
    let desk = Desk::new();
    let args = ["simulate", "native", "--nodes", "34", "--hours", "3", "--seeds", "1", "--plot", "curves.html"];
    let (good, printed, complaint) = desk.muster(&args);
    assert!(good && printed.lines().count() == 3, "{printed}{complaint}");
    let page = std::fs::read_to_string(desk.0.path().join("curves.html")).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("<polyline"), "{page}");
}

#[test]
fn a_simulation_plays_chains_with_settings_for_each_policy() {
    let desk = Desk::new();
    let args =
        ["simulate", "first.wasm,second.wasm", "second.wasm", "--nodes", "34", "--hours", "2", "--seeds", "1", "-o", "json"];
    let outcomes = desk.json(&args);
    let policies: Vec<&str> = outcomes.as_array().unwrap().iter().map(|outcome| outcome["policy"].as_str().unwrap()).collect();
    assert_eq!(policies, ["fixture 1.2.3, fixture 1.2.3", "fixture 1.2.3", "native"]);
    // Nothing is both in the first rack and in the second.
    assert_eq!((&outcomes[0]["placed"], outcomes[1]["placed"].as_u64() > Some(0)), (&0.into(), true), "{outcomes}");
    let (good, _, complaint) = desk.muster(&[&args[..], &["--settings-of", "third.wasm={}"]].concat());
    let expected =
        "error: --settings-of \"third.wasm={}\": no policy \"third.wasm\" is simulated; name it as among the policies\n";
    assert_eq!((good, complaint.as_str()), (false, expected));
    let (good, _, complaint) = desk.muster(&["simulate", "first.wasm,,second.wasm"]);
    assert!(!good && complaint.contains("there is a comma too many"), "{complaint}");
}

/// A project without a compiler: its recipe copies a component that is there.
const RECIPE: &str = "
[policy]
name = 'copied'
world = 'placement-policy'
language = 'c'
[build]
commands = [['cp', 'source.wasm', '${OUT}']]
";

#[test]
fn a_new_project_says_what_to_do_next_and_takes_no_place_that_is_taken() {
    let desk = Desk::new();
    let (good, printed, complaint) = desk.muster(&["new", "racks", "--lang", "python", "--startup"]);
    assert!(good, "{complaint}");
    let said = "racks is a new startup policy in python: policy.py is the place to go on.\n\n  cd racks\n  muster policy build ";
    assert!(printed.starts_with(said), "{printed}");
    let scenarios = std::fs::read_to_string(desk.0.path().join("racks/scenarios/first.yaml")).unwrap();
    assert!(scenarios.contains("workers start once their leader is ready"), "{scenarios}");
    let (good, _, complaint) = desk.muster(&["new", "racks", "--lang", "c"]);
    let expected = "error: racks is there already and not empty; choose another folder with --dir\n";
    assert_eq!((good, complaint.as_str()), (false, expected));
    let (good, _, complaint) = desk.muster(&["new", "Racks", "--lang", "c"]);
    assert!(!good && complaint.starts_with("error: \"Racks\" is no name for a policy: at most 63 small letters"), "{complaint}");
    let (good, _, complaint) = desk.muster(&["new", "racks", "--lang", "cobol"]);
    assert!(!good && complaint.contains("[possible values: rust, c, go, js, python]"), "{complaint}");
}

#[test]
fn a_project_is_named_by_its_folder_and_a_component_older_than_its_sources_is_pointed_out() {
    let desk = Desk::new();
    for folder in ["copied", "copied/scenarios"] {
        std::fs::create_dir(desk.0.path().join(folder)).unwrap();
    }
    desk.write("copied/policy.toml", RECIPE);
    desk.write("copied/source.wasm", Guest::that(&all_into(0)).component());
    desk.write("copied/scenarios/case.yaml", SCENARIO);
    let (good, _, complaint) = desk.muster(&["test", "copied"]);
    let expected = "error: copied is not built yet: `muster policy build copied` builds it\n";
    assert_eq!((good, complaint.as_str()), (false, expected));
    let (good, printed, complaint) = desk.muster(&["build", "copied"]);
    assert!(good && printed.contains("next: muster policy test copied "), "{printed}{complaint}");
    let (good, printed, complaint) = desk.muster(&["test", "copied", "--cases", "0"]);
    assert!(good && printed.contains("✓ two racks  case.yaml"), "{printed}{complaint}");
    assert_eq!(complaint, "");
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    let recipe = std::fs::File::options().write(true).open(desk.0.path().join("copied/policy.toml")).unwrap();
    recipe.set_modified(later).unwrap();
    let (good, _, complaint) = desk.muster(&["check", "copied"]);
    let expected = "note: policy.toml is newer than copied/target/copied.wasm: muster policy build brings it up to date\n";
    assert_eq!((good, complaint.as_str()), (true, expected));
}
