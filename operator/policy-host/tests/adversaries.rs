//! Every adversary of the corpus (`muster_guests::adversaries`): what it yields, that it yields nothing else, and that the host goes on.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

mod fixtures;

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fixtures::{Guest, engine, nothing, request};
use k8s_openapi::api::core::v1::{Node, Pod, PodSpec};
use muster_core::cluster::{Index, Shape, Snapshot, View};
use muster_core::placement::check::Checker;
use muster_core::placement::{LevelId, Request};
use muster_core::startup;
use muster_guests::adversaries::{Adversary, Yields, adversaries};
use muster_guests::all_into;
use muster_policy_host::{CallError, Engine, EngineOptions, Limits, LoadError, PlacementComponent, Step};
use serde_json::{Value, json};

const RACK: &str = "example.com/rack";

fn node(name: &str, rack: &str) -> Node {
    serde_json::from_value(json!({
        "metadata": { "name": name, "labels": { RACK: rack } },
        "status": { "allocatable": { "cpu": "8", "pods": "110" }, "conditions": [{ "type": "Ready", "status": "True" }] },
    }))
    .unwrap()
}

fn pod_spec(cpu: &str, node: Option<&str>) -> PodSpec {
    let resources = json!({ "requests": { "cpu": cpu } });
    serde_json::from_value(json!({ "nodeName": node, "containers": [{ "name": "main", "resources": resources }] })).unwrap()
}

/// Rack `a` (domain 0) has one node, `b` (1) has four, and `c` (2) has two, with a group of another set.
fn cluster() -> Snapshot {
    let mut index = Index::new();
    for (name, rack) in [("a1", "a"), ("b1", "b"), ("b2", "b"), ("b3", "b"), ("b4", "b"), ("c1", "c"), ("c2", "c")] {
        index.apply_node(&node(name, rack));
    }
    let mut tenant: Pod = serde_json::from_value(json!({ "metadata": {
        "name": "other-0", "namespace": "ml",
        "labels": {
            "leaderworkerset.sigs.k8s.io/name": "other",
            "leaderworkerset.sigs.k8s.io/group-index": "0",
            "leaderworkerset.sigs.k8s.io/group-key": "key-of-other-0",
        },
    }}))
    .unwrap();
    tenant.spec = Some(pod_spec("1", Some("c1")));
    index.apply_pod(&tenant);
    index.snapshot(View {
        levels: vec![RACK.to_owned()],
        shapes: ["8", "4"].map(|cpu| Shape::of(&pod_spec(cpu, None)).unwrap()).to_vec(),
        namespace: "ml".to_owned(),
        ..View::default()
    })
}

/// One group, number 7, of two pods that take a node each, in a rack of its own.
fn exclusive() -> Request {
    Request { exclusive: Some(LevelId(0)), ..request() }
}

/// One group that has its leader.
fn starting() -> startup::Request {
    let pods = vec![startup::Pod { rank: 0, phase: startup::Phase::Ready, in_phase_ms: 0, restarts: 0 }];
    let group = startup::Group { index: 0, size: 4, pods, age_ms: 0, recreations: 0, placed: true };
    startup::Request { owner: "ml/train".into(), labels: [].into(), replicas: 1, unplaced: 0, groups: vec![group] }
}

/// What was observed of an adversary, in the corpus' terms; the text is what a user would read.
fn observe(engine: &Engine, adversary: &Adversary) -> (Yields, String) {
    let bytes = adversary.component(RACK);
    let not_loaded = |error: &LoadError| {
        let (condition, reason) = match error.step() {
            Step::Size => ("Accepted", "TooLarge"),
            Step::Accepted => ("Accepted", "Refused"),
            Step::Compiled => ("Compiled", "CompileFailed"),
            Step::Described => ("Compiled", "DescribeFailed"),
            Step::SettingsValid => ("SettingsValid", "SettingsInvalid"),
        };
        (Yields::NotLoaded(condition, reason, ""), error.to_string())
    };
    let failed = |error: &CallError| (Yields::Fails(error.kind()), error.to_string());
    if adversary.is_startup() {
        return match engine.load_startup(&bytes, Limits::default(), &Value::Null) {
            Err(error) => not_loaded(&error),
            Ok(component) => {
                component.next(&starting()).result.map_or_else(|error| failed(&error), |_| (Yields::Nothing, String::new()))
            }
        };
    }
    let component = match engine.load_placement(&bytes, Limits::default(), &Value::Null) {
        Ok(component) => component,
        Err(error) => return not_loaded(&error),
    };
    let (cluster, request) = (cluster(), exclusive());
    match component.place(&cluster, &request).result {
        Err(error) => failed(&error),
        Ok(answers) => {
            let mut checker = Checker::new(&cluster, &request);
            let refused = answers.iter().find_map(|answer| checker.apply(answer).err());
            refused.map_or_else(
                || (Yields::Nothing, answers.iter().map(|answer| answer.reason.message.clone()).collect()),
                |refused| (Yields::Refused(refused.code.as_str()), refused.message),
            )
        }
    }
}

#[test]
fn every_adversary_yields_what_the_corpus_says_and_a_good_policy_goes_on() {
    let engine = engine();
    let good = Guest { place: &all_into(1), ..Guest::default() };
    let good = engine.load_placement(&good.component(), Limits::default(), &Value::Null).unwrap();
    let (cluster, request) = (cluster(), exclusive());
    let mut wrong = Vec::new();
    for adversary in adversaries() {
        let started = Instant::now();
        let (observed, text) = observe(&engine, &adversary);
        let took = started.elapsed();
        let as_expected = match (adversary.yields, observed) {
            (Yields::NotLoaded(condition, reason, words), Yields::NotLoaded(this, why, _)) => {
                (condition, reason) == (this, why) && text.contains(words)
            }
            (expected, observed) => expected == observed,
        };
        // What users read is one line of bearable length that steers no terminal.
        let readable = !text.contains(|char: char| char.is_control()) && text.len() < 70_000;
        // Loading and one call, with all that the machine does beside.
        if !as_expected || !readable || took > Duration::from_secs(20) {
            wrong
                .push(format!("{}: {:?} expected, {observed:?} after {took:?}: {:.200}", adversary.name, adversary.yields, text));
        }
        let answers = good.place(&cluster, &request).result.unwrap();
        assert!(Checker::new(&cluster, &request).apply(&answers[0]).is_ok(), "after {}", adversary.name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_policy_cannot_count_its_calls() {
    let adversary = muster_guests::adversaries::named("counts-a-hundred-calls-in-memory");
    let component = engine().load_placement(&adversary.component(RACK), Limits::default(), &Value::Null).unwrap();
    for call in 0..200 {
        assert!(component.place(&nothing(), &request()).result.is_ok(), "call {call}");
    }
}

#[test]
fn a_policy_that_turns_bad_by_what_it_sees_is_found_out_then() {
    // The generation of the cluster is the one thing that grows with time.
    let guest = Guest {
        imports: r#"(import "muster:policy/cluster@0.1.0" "[method]snapshot.generation" (func $generation (param i32) (result i64)))"#,
        gives_back: false,
        place: "(if (i64.gt_u (call $generation (local.get 2)) (i64.const 100)) (then unreachable))
                (call $drop (local.get 2)) (i32.const 448)",
        ..Guest::default()
    };
    let component = engine().load_placement(&guest.component(), Limits::default(), &Value::Null).unwrap();
    let mut index = Index::new();
    let mut breaker = muster_policy_host::Breaker::default();
    let (mut good, mut bad, mut opened) = (0, 0, None);
    for number in 0..120 {
        index.apply_node(&node(&format!("n{number}"), "a"));
        let outcome = component.place(&index.snapshot(View::default()), &request());
        let failed = outcome.result.as_ref().is_err_and(CallError::is_fault);
        if failed {
            bad += 1
        } else {
            good += 1
        }
        if breaker.record(Instant::now(), failed) {
            opened = opened.or(Some(bad));
        }
    }
    assert!(good >= 99 && bad >= 5, "{good} good, {bad} bad");
    assert_eq!(opened, Some(5));
}

#[test]
fn equal_questions_have_equal_answers_whatever_a_policy_draws_on() {
    // All that differs from run to run in other places: bits of a NaN, memory that nobody wrote, how much there is of it.
    let place = "
        (i32.store (i32.const 404) (i32.const 5))
        (i32.store (i32.const 408) (i32.add (i32.add
          (i32.reinterpret_f32 (f32.div (f32.const 0) (f32.const 0)))
          (i32.reinterpret_f32 (f32.sqrt (f32.const -1))))
          (i32.add (i32.load (i32.const 131000)) (memory.size))))
        (i32.store (i32.const 130900) (i32.const -1))
        (i32.const 448)";
    let guest = Guest { place, ..Guest::default() };
    let mut answers = Vec::new();
    for _ in 0..2 {
        let engine = engine();
        let component = engine.load_placement(&guest.component(), Limits::default(), &Value::Null).unwrap();
        answers.extend((0..20).map(|_| component.place(&nothing(), &request()).result.unwrap()));
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
}

#[test]
fn what_one_policy_left_in_memory_no_other_finds() {
    let engine = engine();
    let load =
        |place| engine.load_placement(&Guest { place, ..Guest::default() }.component(), Limits::default(), &Value::Null).unwrap();
    let writes =
        "(drop (memory.grow (i32.const 10))) (memory.fill (i32.const 66000) (i32.const 0x5a) (i32.const 500000)) (i32.const 448)";
    let looks = "(local $at i32)
        (drop (memory.grow (i32.const 10)))
        (local.set $at (i32.const 131072))
        (loop (if (i32.load (local.get $at)) (then unreachable))
              (local.set $at (i32.add (local.get $at) (i32.const 4)))
              (br_if 0 (i32.lt_u (local.get $at) (i32.const 560000))))
        (i32.const 448)";
    let (writes, looks) = (load(writes), load(looks));
    for _ in 0..10 {
        assert!(writes.place(&nothing(), &request()).result.is_ok());
        assert_eq!(looks.place(&nothing(), &request()).result.map(|answers| answers.len()), Ok(1));
    }
}

#[test]
fn a_log_says_nothing_to_the_terminal() {
    let guest = Guest {
        imports: r#"(import "muster:policy/log@0.1.0" "write" (func $write (param i32 i32 i32)))"#,
        functions: "(data (i32.const 112) \"\\1b[2J\\0a\\e2\\80\\aeevil\")",
        place: "(call $write (i32.const 2) (i32.const 112) (i32.const 12)) (i32.const 448)",
        ..Guest::default()
    };
    let component = engine().load_placement(&guest.component(), Limits::default(), &Value::Null).unwrap();
    assert_eq!(component.place(&nothing(), &request()).logs[0].message, " [2J  evil");
}

#[test]
fn many_calls_that_end_badly_take_nothing_with_them() {
    let engine = engine();
    let load =
        |place| engine.load_placement(&Guest { place, ..Guest::default() }.component(), Limits::default(), &Value::Null).unwrap();
    let (trap, bomb) = (
        load("unreachable"),
        load(
            "(drop (memory.grow (i32.const 500))) (memory.fill (i32.const 131072) (i32.const 1) (i32.const 16000000)) unreachable",
        ),
    );
    let before = resident();
    for _ in 0..200 {
        assert!(trap.place(&nothing(), &request()).result.is_err());
        assert!(bomb.place(&nothing(), &request()).result.is_err());
    }
    let grown = resident().saturating_sub(before);
    // The calls together had more than 3 GB; tests beside this one have their share of what is there now.
    assert!(grown < 1 << 30, "{grown} bytes more are resident than before");
}

/// Bytes of memory that this process occupies.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// An engine like the operator's on two cores.
fn two_at_a_time() -> Engine {
    Engine::new(EngineOptions { max_concurrent_calls: NonZeroUsize::new(2).unwrap(), ..EngineOptions::default() }).unwrap()
}

fn looping(engine: &Engine) -> PlacementComponent {
    let limits = Limits::new(Duration::from_millis(500), 64 << 20);
    let guest = Guest::that("(loop (br 0)) unreachable").component();
    engine.load_placement(&guest, limits, &Value::Null).unwrap()
}

#[test]
fn a_good_policy_never_waits_for_bad_ones() {
    let engine = two_at_a_time();
    let good = engine.load_placement(&Guest::default().component(), Limits::default(), &Value::Null).unwrap();
    let bad: Vec<_> = (0..4).map(|_| looping(&engine)).collect();
    // Each shows once what it is.
    bad.iter().for_each(|bad| assert!(bad.place(&nothing(), &request()).result.is_err()));
    let over = AtomicBool::new(false);
    let longest = std::thread::scope(|scope| {
        for bad in bad.iter().flat_map(|bad| [bad; 4]) {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    if bad.place(&nothing(), &request()).result == Err(CallError::Busy) {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            });
        }
        std::thread::sleep(Duration::from_millis(100));
        let mut times: Vec<Duration> = (0..40)
            .map(|_| {
                let started = Instant::now();
                assert!(good.place(&nothing(), &request()).result.is_ok());
                let took = started.elapsed();
                std::thread::sleep(Duration::from_millis(20));
                took
            })
            .collect();
        over.store(true, Ordering::Relaxed);
        times.sort();
        // A machine that does other things beside may hold up a call or two.
        times[36]
    });
    // Waiting for a single one of the bad calls would take up to half a second.
    assert!(longest < Duration::from_millis(200), "{longest:?}");
}

#[test]
fn a_slow_policy_is_not_asked_while_enough_of_its_calls_wait() {
    let engine = two_at_a_time();
    let bad = looping(&engine);
    assert_eq!(bad.place(&nothing(), &request()).result.unwrap_err().kind(), "deadline");
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..6).map(|_| scope.spawn(|| bad.place(&nothing(), &request()).result.unwrap_err())).collect();
        let mut kinds: Vec<_> = calls.into_iter().map(|call| call.join().unwrap().kind()).collect();
        kinds.sort_unstable();
        assert_eq!(kinds, ["busy", "busy", "busy", "busy", "deadline", "deadline"]);
    });
}
