//! How many instructions a call took, from an engine that counts.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

mod fixtures;

use fixtures::{Guest, load, nothing, request};
use muster_core::placement::{Request, Unit};
use muster_core::startup;
use muster_guests::all_into;
use muster_policy_host::{CallError, Engine, EngineOptions, Limits};
use rstest::rstest;
use serde_json::Value;

fn counting() -> Engine {
    Engine::new(EngineOptions { count_instructions: true, ..EngineOptions::default() }).unwrap()
}

/// Instructions of a call about so many units.
fn count(engine: &Engine, place: &str, units: u32) -> Option<u64> {
    let units = (0..units).map(|id| Unit { id, ..Unit::default() }).collect();
    load(engine, &Guest::that(place)).place(&nothing(), &Request { units, ..request() }).instructions
}

#[test]
fn the_same_question_takes_the_same_number_and_another_one_as_many_more_as_it_is_longer() {
    let counts = |units| count(&counting(), &all_into(0), units).unwrap();
    let one = counts(1);
    assert_eq!((counts(1), counts(1)), (one, one));
    // For each unit 24 in the fixture's loop, 48 for the bytes that it copies, and 12 for room for each of the unit's two lists.
    assert_eq!((counts(2) - one, counts(11) - one), (96, 960));
}

/// Beside what every call takes: the body of the function that is asked.
#[rstest]
#[case("(i32.const 448)", 0)]
#[case("(nop) (drop (i32.const 1)) (i32.const 448)", 1)]
#[case("(drop (i32.add (i32.const 1) (i32.const 2))) (i32.const 448)", 3)]
#[case(
    "(local $n i32) (loop $on (br_if $on (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 1000)))) (i32.const 448)",
    7000
)]
fn instructions_are_those_that_were_carried_out(#[case] place: &str, #[case] more: u64) {
    let engine = counting();
    let least = count(&engine, "(i32.const 448)", 1).unwrap();
    assert_eq!(count(&engine, place, 1).unwrap() - least, more);
}

#[test]
fn what_making_the_instance_takes_counts() {
    let (engine, busy) = (counting(), Guest { start: "(drop (i32.const 1)) (drop (i32.const 2))", ..Guest::default() });
    let count = |guest: &Guest<'_>| load(&engine, guest).place(&nothing(), &request()).instructions.unwrap();
    assert!(count(&busy) > count(&Guest::default()));
}

#[test]
fn an_engine_counts_only_if_it_was_told_to() {
    assert_eq!(count(&fixtures::engine(), &all_into(0), 1), None);
}

#[test]
fn what_a_trap_or_the_deadline_cuts_off_has_no_count() {
    let engine = counting();
    let trapped = load(&engine, &Guest::that("(unreachable)")).place(&nothing(), &request());
    assert!(matches!(trapped.result, Err(CallError::Trap { .. })), "{trapped:?}");
    assert_eq!(trapped.instructions, None);
    // However much fuel there is, time ends a call.
    let late = load(&engine, &Guest::that("(loop $on (br $on)) (unreachable)")).place(&nothing(), &request());
    assert!(matches!(late.result, Err(CallError::Deadline { .. })), "{late:?}");
    assert_eq!(late.instructions, None);
    // The policy's own failure is an answer.
    assert!(count(&engine, "(i32.const 480)", 1).is_some());
}

#[test]
fn startup_policies_are_counted_too() {
    let component = counting().load_startup(&muster_guests::startup(), Limits::default(), &Value::Null).unwrap();
    let request = startup::Request { owner: "ml/train".into(), labels: [].into(), replicas: 0, unplaced: 0, groups: vec![] };
    let counts = [(); 2].map(|()| component.next(&request).instructions);
    assert!(counts[0].is_some() && counts[0] == counts[1], "{counts:?}");
}
