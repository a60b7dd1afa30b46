//! What one call of a guest can end in, and that it ends there.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

mod fixtures;

use std::time::Duration;

use fixtures::{Guest, engine, load, nothing, request};
use muster_core::placement::effects::Effect;
use muster_core::placement::{Answer, Decision, DomainId, LevelId, NodeId, Part, Place, Reason};
use muster_guests::{Gives, Says, saying};
use muster_policy_host::{CallError, LogLevel, TrapKind};

fn error(guest: &Guest<'_>) -> CallError {
    load(&engine(), guest).place(&nothing(), &request()).result.unwrap_err()
}

#[test]
fn a_good_answer_arrives_with_a_clean_reason() {
    let outcome = load(&engine(), &Guest::default()).place(&nothing(), &request());
    let expected = Answer {
        unit: 7,
        decision: Decision::within(Place { level: LevelId(0), domain: DomainId(3) }),
        avoid: Vec::new(),
        effects: Vec::new(),
        // The guest says `best-fit`.
        reason: Reason { code: "Bestfit".into(), message: "it fits there".into() },
    };
    assert_eq!(outcome.result, Ok(vec![expected]));
    assert_eq!(outcome.peak_memory, 2 * 65536);
    assert!(outcome.instantiate <= outcome.duration);
}

#[test]
fn a_failure_of_the_policy_is_not_a_trap() {
    let error = error(&Guest::that("(i32.const 480)"));
    assert_eq!(error, CallError::Unsupported("it fits there".into()));
    assert!(!error.is_fault());
}

#[test]
fn a_trap_says_what_kind() {
    let error = error(&Guest::that("unreachable"));
    assert!(matches!(&error, CallError::Trap { kind: TrapKind::Unreachable, .. }), "{error:?}");
    assert_eq!((error.kind(), error.is_fault()), ("trap", true));
}

#[test]
fn an_endless_loop_ends_at_the_deadline() {
    let outcome = load(&engine(), &Guest::that("(loop (br 0)) unreachable")).place(&nothing(), &request());
    assert_eq!(outcome.result, Err(CallError::Deadline { limit: Duration::from_millis(50) }));
    assert!(outcome.duration >= Duration::from_millis(50), "{:?}", outcome.duration);
    assert!(outcome.duration < Duration::from_secs(5), "{:?}", outcome.duration);
}

#[test]
fn a_memory_bomb_ends_at_its_limit() {
    let bomb = "(loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable";
    let outcome = load(&engine(), &Guest::that(bomb)).place(&nothing(), &request());
    assert_eq!(outcome.result, Err(CallError::Memory { limit: 1 << 20 }));
    assert_eq!(outcome.peak_memory, 1 << 20);
}

#[test]
fn endless_recursion_overflows_the_guests_stack_and_no_other() {
    let guest = Guest {
        place: "(call $deep (i32.const 1))",
        functions: "(func $deep (param i32) (result i32) (i32.add (call $deep (local.get 0)) (i32.const 1)))",
        ..Guest::default()
    };
    let error = error(&guest);
    assert!(matches!(&error, CallError::Trap { kind: TrapKind::StackOverflow, .. }), "{error:?}");
}

#[test]
fn a_huge_answer_is_not_copied() {
    // 400,000 answers: the list claims more bytes than may be copied, and lies within memory.
    let guest = Guest {
        place: r#"(drop (memory.grow (i32.const 400)))
                  (i32.store (i32.const 452) (i32.const 0)) (i32.store (i32.const 456) (i32.const 400000)) (i32.const 448)"#,
        ..Guest::default()
    };
    let limits = muster_policy_host::Limits::new(Duration::from_millis(500), 64 << 20);
    let component = engine().load_placement(&guest.component(), limits, &serde_json::Value::Null).unwrap();
    let error = component.place(&nothing(), &request()).result.unwrap_err();
    assert_eq!(error, CallError::AnswerTooLarge { limit: 4 << 20 });
}

#[test]
fn a_pointer_to_nowhere_is_malformed() {
    let error = error(&Guest::that("(i32.store (i32.const 452) (i32.const -16)) (i32.const 448)"));
    assert!(matches!(error.kind(), "answer-malformed" | "trap"), "{error:?}");
}

#[test]
fn text_that_is_not_utf8_is_malformed() {
    let error = error(&Guest::that("(i32.store8 (i32.const 112) (i32.const 255)) (i32.const 448)"));
    assert_eq!(error.kind(), "answer-malformed", "{error:?}");
}

#[test]
fn a_trapped_call_leaves_nothing_behind_for_the_next() {
    // Traps if its memory has been written to, and writes to it.
    let guest = Guest::that(
        "(if (i32.load (i32.const 40000)) (then unreachable)) (i32.store (i32.const 40000) (i32.const 1)) (i32.const 448)",
    );
    let engine = engine();
    let (trapping, good) = (load(&engine, &Guest::that("unreachable")), load(&engine, &guest));
    for _ in 0..5 {
        assert!(trapping.place(&nothing(), &request()).result.is_err());
        assert!(good.place(&nothing(), &request()).result.is_ok());
    }
}

#[test]
fn log_lines_past_the_budget_are_dropped() {
    let guest = Guest {
        imports: r#"(import "muster:policy/log@0.1.0" "write" (func $write (param i32 i32 i32)))"#,
        functions: "(global $i (mut i32) (i32.const 0))",
        place: r#"
            (loop (call $write (i32.const 2) (i32.const 112) (i32.const 13))
                  (global.set $i (i32.add (global.get $i) (i32.const 1)))
                  (br_if 0 (i32.lt_u (global.get $i) (i32.const 70))))
            (i32.const 448)"#,
        ..Guest::default()
    };
    let outcome = load(&engine(), &guest).place(&nothing(), &request());
    assert_eq!((outcome.logs.len(), outcome.logs_dropped), (64, 6));
    assert_eq!((outcome.logs[0].level, outcome.logs[0].message.as_str()), (LogLevel::Warn, "it fits there"));
}

#[test]
fn calls_wait_for_their_turn_instead_of_failing() {
    let engine = engine();
    let component = load(&engine, &Guest::default());
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..16).map(|_| scope.spawn(|| component.place(&nothing(), &request()).result)).collect();
        assert!(calls.into_iter().all(|call| call.join().unwrap().is_ok()));
    });
}

#[test]
fn every_kind_of_decision_and_effect_arrives_as_it_was_said() {
    let place = |domain| Place { level: LevelId(0), domain: DomainId(domain) };
    let said = [
        (Says::Within(vec![(0, 3), (0, 1)]), Decision::Within(vec![place(3), place(1)])),
        (Says::Preferred(vec![(0, 2)]), Decision::Preferred(vec![place(2)])),
        (
            Says::Parts(vec![(1, 0, 2), (4, 0, 3)]),
            Decision::Parts(vec![Part { pods: 1, place: place(2) }, Part { pods: 4, place: place(3) }]),
        ),
        (Says::Pinned(vec![5, 6]), Decision::Pinned(vec![NodeId(5), NodeId(6)])),
        (Says::Unconstrained, Decision::Unconstrained),
        (Says::Hold(7), Decision::Hold { retry_ms: 7 }),
        (Says::Refuse, Decision::Refuse),
    ];
    let gives = [
        Gives::Toleration("google.com/tpu"),
        Gives::NodeSelector("a", "b"),
        Gives::Label("c", "d"),
        Gives::Annotation("e", "f"),
        Gives::Env("G", "h"),
        Gives::Scheduler("mine"),
    ];
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let ((a, b), (c, d), (e, f), (g, h)) = (pair("a", "b"), pair("c", "d"), pair("e", "f"), pair("G", "h"));
    let effects = vec![
        Effect::Toleration { key: "google.com/tpu".into(), value: None, effect: None },
        Effect::NodeSelector(a, b),
        Effect::Label(c, d),
        Effect::Annotation(e, f),
        Effect::Env(g, h),
        Effect::SchedulerName("mine".into()),
    ];
    let engine = engine();
    for (says, decision) in said {
        let (place, functions) = saying(&says, &[8, 9], &gives);
        let guest = Guest { place: &place, functions: &functions, ..Guest::default() };
        let answers = load(&engine, &guest).place(&nothing(), &request()).result.unwrap();
        let reason = Reason { code: "Bestfit".into(), message: "it fits there".into() };
        let avoid = vec![NodeId(8), NodeId(9)];
        assert_eq!(answers, [Answer { unit: 7, decision, avoid, effects: effects.clone(), reason }]);
    }
}
