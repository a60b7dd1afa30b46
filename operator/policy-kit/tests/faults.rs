//! What the kit says about policies that are wrong.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use std::path::Path;

use muster_guests::{Guest, all_into, startup};
use muster_policy_host::{Engine, EngineOptions, Limits};
use muster_policy_kit::properties::{self, Effort, Verdict};
use muster_policy_kit::{Library, Policy, Scenario, inspect, judge, play, scenario};
use rstest::rstest;
use serde_json::Value;

fn placement(bytes: &[u8]) -> Policy {
    loaded(bytes, false)
}

fn loaded(bytes: &[u8], count_instructions: bool) -> Policy {
    let engine = Engine::new(EngineOptions { count_instructions, ..EngineOptions::default() }).unwrap();
    Policy::Placement(engine.load_placement(bytes, Limits::default(), &Value::Null).unwrap())
}

fn broken(policy: &Policy) -> Vec<Verdict> {
    let effort = Effort { cases: 200, seed: 7 };
    properties::check(policy, policy, effort).unwrap().into_iter().filter(|verdict| verdict.broken.is_some()).collect()
}

#[test]
fn a_policy_that_gives_more_than_there_is_is_shown_the_smallest_cluster() {
    let policy = placement(&Guest::that(&all_into(0)).component());
    let broken = broken(&policy);
    let fault = broken[0].broken.clone().unwrap();
    assert!(broken[0].property.starts_with("no answer breaks capacity or exclusivity"), "{broken:?}");
    let scenario = fault.scenario.unwrap();
    let units = &scenario.request.as_ref().unwrap().units.0;
    assert_eq!((units.len(), scenario.nodes.len()), (1, 0), "{}", scenario.to_yaml());
    // What is printed shows the fault again.
    let read = scenario::parse(&scenario.to_yaml(), Path::new("shrunk.yaml")).unwrap().remove(0);
    let failures = judge(&read, &play(&read, &policy, &Library::default()).unwrap()).unwrap();
    assert_eq!(failures, [fault.message]);
}

#[test]
fn an_answer_for_nobody_is_a_fault() {
    let broken = broken(&placement(&Guest::default().component()));
    let message = &broken[0].broken.as_ref().unwrap().message;
    assert!(message.starts_with("the operator refuses the answer (UnknownUnit): unit 7 is not one of the"), "{message}");
}

#[test]
fn a_policy_that_never_answers_is_late() {
    let policy = placement(&Guest::that("(loop $on (br $on)) (unreachable)").component());
    let late = broken(&policy).into_iter().last().unwrap();
    assert!(late.property.contains(" groups over "), "{}", late.property);
    let message = late.broken.unwrap().message;
    assert!(message.starts_with("the policy did not answer within "), "{message}");
    assert!(message.ends_with(", and 5 tries were no help"), "{message}");
}

#[test]
fn a_startup_policy_that_admits_nobody_makes_no_progress() {
    let engine = Engine::new(EngineOptions::default()).unwrap();
    let policy = Policy::Startup(engine.load_startup(&startup(), Limits::default(), &Value::Null).unwrap());
    let message = broken(&policy)[0].broken.clone().unwrap().message;
    assert_eq!(message, "after 124 questions, with every pod ready, group 0 has 1 of 2 pods");
}

#[test]
fn the_native_rule_has_every_property() {
    assert_eq!(broken(&Policy::Native).len(), 0, "{:?}", broken(&Policy::Native));
}

const RACKS: &str = "
name: two racks
levels: [rack]
templates: {gpu8: {gpu: 8}}
nodes: [2 x gpu8 @ r1, 1 x gpu8 @ r2]
shapes: {pod: {gpu: 8}}
request: {exclusive: rack, units: '2 x [2 pods]'}
expect: [EXPECT]
";

fn native(expect: &str) -> Vec<String> {
    let scenario: Scenario = scenario::parse(&RACKS.replace("EXPECT", expect), Path::new("case.yaml")).unwrap().remove(0);
    let report = play(&scenario, &Policy::Native, &Library::default()).unwrap();
    judge(&scenario, &report).unwrap_or_else(|fault| vec![fault.to_string()])
}

#[rstest]
#[case("{unit: 0, within: r1}, {unit: 1, hold: true, code: NoDomainLargeEnough, retry: 30s}", &[])]
#[case("{unit: 0, within: [r1]}, {unit: 0, inside: r1}", &[])]
#[case("{unit: 0, within: r2}", &["unit 0: expected within rack=r2, got within rack=r1 (BestFit: rack=r1 is the smallest free domain that fits)"])]
#[case("{unit: 0, pinned: [r1-0]}", &["unit 0: expected pinned r1-0, got within rack=r1 (BestFit: rack=r1 is the smallest free domain that fits)"])]
#[case("{unit: 0, hold: true, code: Kept}", &[
    "unit 0: expected hold, got within rack=r1 (BestFit: rack=r1 is the smallest free domain that fits)",
    "unit 0: expected code Kept, got within rack=r1 (BestFit: rack=r1 is the smallest free domain that fits)",
])]
#[case("{unit: 5, hold: true}", &["unit 5: no answer"])]
#[case("{unit: 0, rejected: DomainHeld}", &["unit 0: expected the operator to refuse it with DomainHeld, got within rack=r1 (BestFit: rack=r1 is the smallest free domain that fits)"])]
#[case("{failure: unsupported}", &["expected the call to fail with unsupported, it gave answers"])]
#[case("{unit: 0, within: r7}", &["expect[0]: no node is at r7; `nodes` says which places there are"])]
fn what_was_expected_and_is_not_so_is_said(#[case] expect: &str, #[case] failures: &[&str]) {
    assert_eq!(native(expect), failures);
}

#[test]
fn an_answer_that_the_operator_refuses_fails_its_scenario_unless_that_is_expected() {
    let policy = placement(&Guest::that(&all_into(0)).component());
    let text = RACKS.replace("levels: [rack]", "levels: [example.com/rack]");
    let judged = |expect: &str| {
        let scenario = scenario::parse(&text.replace("EXPECT", expect), Path::new("case.yaml")).unwrap().remove(0);
        judge(&scenario, &play(&scenario, &policy, &Library::default()).unwrap()).unwrap()
    };
    let message = "the operator refuses the answer (DomainHeld): unit 1: example.com/rack=r1 is held by unit 0 of ml/train";
    assert_eq!(judged("{unit: 0, within: r1}"), [message]);
    assert_eq!(judged("{unit: 0, within: r1}, {unit: 1, rejected: DomainHeld}"), Vec::<String>::new());
}

#[test]
fn a_component_is_taken_apart_without_running_it() {
    let anatomy = inspect::anatomy(&Guest::default().component()).unwrap();
    assert!(anatomy.exports.contains(&"muster:policy/placement@0.1.0".to_owned()), "{anatomy:?}");
    assert!(anatomy.imports.contains(&"muster:policy/cluster@0.1.0".to_owned()), "{anatomy:?}");
    assert!(anatomy.producers.iter().any(|producer| producer.starts_with("processed-by: wit-component")), "{anatomy:?}");
    assert_eq!(inspect::anatomy(b"hello").unwrap_err().split(':').next(), Some("this is not WebAssembly"));
}

#[test]
fn instructions_are_counted_beside_times_that_counting_does_not_slow_down() {
    let guest = Guest::that(&all_into(0)).component();
    let scenario = scenario::parse(&RACKS.replace("EXPECT", ""), Path::new("case.yaml")).unwrap().remove(0);
    let report = |counts| play(&scenario, &loaded(&guest, counts), &Library::default()).unwrap();
    assert_eq!(report(false).cost.instructions, None);
    let (timed, counting) = (report(false), report(true));
    let counted = timed.clone().counted(&counting);
    assert!(counted.cost.instructions > Some(0), "{counted:?}");
    assert_eq!((counted.cost.instructions, counted.cost.micros), (counting.cost.instructions, timed.cost.micros));
    // What came out otherwise was another call.
    let other = play(&scenario, &loaded(&Guest::that(&all_into(1)).component(), true), &Library::default()).unwrap();
    assert_eq!(timed.counted(&other).cost.instructions, None);
}
