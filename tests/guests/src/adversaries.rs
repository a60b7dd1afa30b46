//! Policies that mean harm, and what becomes of each: the one list of them. Host, core and cluster tests take them from here.

use crate::{Gives, Guest, Says, all_into, saying, startup, text};

/// A policy that means harm.
#[derive(Debug)]
pub struct Adversary {
    /// Names it.
    pub name: &'static str,
    made: Made,
    /// What becomes of it.
    pub yields: Yields,
}

/// What becomes of an adversary: a typed error at the host, and what a user sees of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Yields {
    /// It is not loaded: this condition of its object is False with this reason, which is the event's and the label of
    /// `muster_policy_loads` too. The error says these words.
    NotLoaded(&'static str, &'static str, &'static str),
    /// Every call fails: the label of `muster_policy_calls`. In CamelCase it is the reason of the condition `Answering` and of the
    /// event at its object; its sets have the event `PolicyFailed`.
    Fails(&'static str),
    /// Its answer is read and refused: the label of `muster_policy_answers_rejected`. The condition `Answering` and the object's
    /// event say `AnswerRejected`; its sets have the event `PolicyFailed`.
    Refused(&'static str),
    /// Nothing: what it tries has no effect.
    Nothing,
}

#[derive(Clone, Copy, Debug)]
enum Made {
    Placement(Guest<'static>),
    Startup(Guest<'static>, &'static str),
    Bytes(fn() -> Vec<u8>),
}

impl Adversary {
    /// The component, with this level as the one that it reads if it is a placement policy.
    #[must_use]
    pub fn component(&self, level: &str) -> Vec<u8> {
        match self.made {
            Made::Placement(guest) => {
                Guest { level: if guest.level == LEVEL { level } else { guest.level }, ..guest }.component()
            }
            Made::Startup(guest, next) => guest.startup(next),
            Made::Bytes(bytes) => bytes(),
        }
    }

    /// Whether it is a startup policy.
    #[must_use]
    pub fn is_startup(&self) -> bool {
        matches!(self.made, Made::Startup(..))
    }
}

/// The adversary of this name.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn named(name: &str) -> Adversary {
    adversaries().into_iter().find(|known| known.name == name).expect("there is no adversary of that name")
}

const LEVEL: &str = "example.com/rack";
const TRAP: &str = "unreachable";
const LOOP: &str = "(loop (br 0)) unreachable";
const MEMORY: &str = "(loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable";
const DEEP: &str = "(func $deep (param i32) (result i32) (i32.add (call $deep (local.get 0)) (i32.const 1)))";
/// The snapshot's methods that adversaries misuse, and the log.
const IMPORTS: &str = r#"
    (import "muster:policy/cluster@0.1.0" "[method]snapshot.best-domains" (func $best (param i32 i32 i32 i32 i32 i32 i32)))
    (import "muster:policy/cluster@0.1.0" "[method]snapshot.generation" (func $generation (param i32) (result i64)))
    (import "muster:policy/log@0.1.0" "write" (func $write (param i32 i32 i32)))"#;

fn placement(name: &'static str, guest: Guest<'static>, yields: Yields) -> Adversary {
    Adversary { name, made: Made::Placement(guest), yields }
}

fn places(name: &'static str, place: &'static str, yields: Yields) -> Adversary {
    placement(name, Guest::that(place), yields)
}

fn says(name: &'static str, says: &Says, avoid: &[u32], gives: &[Gives<'_>], code: &'static str) -> Adversary {
    let (place, functions) = saying(says, avoid, gives);
    placement(name, Guest { place: place.leak(), functions: functions.leak(), ..Guest::default() }, Yields::Refused(code))
}

fn starts(name: &'static str, next: &'static str, yields: Yields) -> Adversary {
    Adversary { name, made: Made::Startup(Guest::default(), next), yields }
}

fn bytes(name: &'static str, bytes: fn() -> Vec<u8>, yields: Yields) -> Adversary {
    Adversary { name, made: Made::Bytes(bytes), yields }
}

/// All of them.
#[must_use]
pub fn adversaries() -> Vec<Adversary> {
    [refused(), broken(), misdescribed(), failing(), malformed(), harmless(), untrue(), starting()]
        .into_iter()
        .flatten()
        .collect()
}

/// What is not even compiled.
fn refused() -> Vec<Adversary> {
    let refused = |words| Yields::NotLoaded("Accepted", "Refused", words);
    vec![
        bytes("text", || b"#!/bin/sh\nrm -rf /\n".to_vec(), refused("this is not WebAssembly")),
        bytes("core-module", || text("(module)"), refused("a core WebAssembly module")),
        bytes("other-world", startup, refused("the component is a startup-policy")),
        bytes("wasi", || named_right(r#"(import "wasi:cli/environment@0.2.3" (instance))"#), refused("may not import WASI")),
        bytes(
            "wasi-behind-a-good-import",
            || named_right(r#"(import "muster:policy/log@0.1.0" (instance)) (import "wasi:sockets/tcp@0.2.3" (instance))"#),
            refused("`wasi:sockets/tcp@0.2.3`"),
        ),
        bytes(
            "another-authority",
            || named_right(r#"(import "muster:policy/log@0.1.0" (instance)) (import "kube:api/secrets@1.0.0" (instance))"#),
            refused("`kube:api/secrets@1.0.0`"),
        ),
        bytes("nested-for-ever", || nested(2000), refused("at most 32 levels")),
        bytes("thousands-of-modules", || named_right(&"(core module)".repeat(600)), refused("at most 500 modules")),
        bytes("a-lonely-function", || named_right(r#"(import "exit" (func))"#), refused("`exit`")),
    ]
}

/// What does not compile, or is not what it seems.
fn broken() -> Vec<Adversary> {
    let broken = |words| Yields::NotLoaded("Compiled", "CompileFailed", words);
    vec![
        bytes(
            "wasi-inside",
            || {
                let inner = r#"(import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))"#;
                named_right(&format!("(core module $m {inner}) (core instance (instantiate $m))"))
            },
            broken("wasi_snapshot_preview1"),
        ),
        bytes("functions-of-other-types", || named_right(""), broken("wit/policy.wit")),
        bytes("wide-memory", || named_right("(core module (memory i64 1))"), broken("memory64")),
        bytes("threads", || named_right("(core module (memory 1 1 shared))"), broken("threads")),
        bytes(
            "thousands-of-instances",
            || named_right(&format!("(core module $m) {}", "(core instance (instantiate $m))".repeat(1100))),
            broken("instances"),
        ),
        bytes("compiles-into-gigabytes", || named_right(&joints()), broken("2001 local variables and 12001 branches")),
        bytes("endless-types", || named_right(&deep_types(1500)), broken("")),
    ]
}

/// What traps, never ends or lies while it is loaded.
fn misdescribed() -> Vec<Adversary> {
    let broken = |words| Yields::NotLoaded("Compiled", "CompileFailed", words);
    let described = |words| Yields::NotLoaded("Compiled", "DescribeFailed", words);
    let set_up = |words| Yields::NotLoaded("SettingsValid", "SettingsInvalid", words);
    let good = Guest::default();
    vec![
        placement("start-traps", Guest { start: TRAP, ..good }, described("`describe` failed: the policy trapped")),
        placement("start-loops", Guest { start: LOOP, ..good }, described("did not answer within")),
        placement("start-takes-all-memory", Guest { start: MEMORY, ..good }, described("bytes of memory")),
        placement("two-memories", Guest { functions: "(memory $more 4000)", ..good }, broken("memor")),
        placement("table-bomb", Guest { functions: "(table 100000000 funcref)", ..good }, broken("table")),
        placement("describe-traps", Guest { describe: TRAP, ..good }, described("`describe` failed: the policy trapped")),
        placement("describe-loops", Guest { describe: LOOP, ..good }, described("did not answer within")),
        placement("describe-takes-all-memory", Guest { describe: MEMORY, ..good }, described("bytes of memory")),
        placement(
            "huge-name",
            Guest {
                describe: "(drop (memory.grow (i32.const 20))) (i32.store (i32.const 256) (i32.const 65536))
                           (i32.store (i32.const 260) (i32.const 1000000)) (i32.const 256)",
                ..good
            },
            described("it must be 1 to 63 small letters"),
        ),
        placement(
            "huge-schema",
            Guest {
                describe: "(drop (memory.grow (i32.const 20))) (i32.store (i32.const 272) (i32.const 65536))
                           (i32.store (i32.const 276) (i32.const 1000000)) (i32.const 256)",
                ..good
            },
            described("it has 1000000 bytes, and at most 65536 are allowed"),
        ),
        placement(
            "remote-schema",
            Guest { schema: r#"{"$ref": "http://169.254.169.254/latest/meta-data"}"#, ..good },
            described("its references must be pointers into itself"),
        ),
        placement(
            "schema-of-the-operators-files",
            Guest { schema: r#"{"$ref": "file:///var/run/secrets/kubernetes.io/serviceaccount/token"}"#, ..good },
            described("its references must be pointers into itself"),
        ),
        placement("schema-bomb", Guest { schema: schema_bomb().leak(), ..good }, described("with its references followed")),
        placement("validate-traps", Guest { validate: TRAP, ..good }, set_up("`validate-settings` failed: the policy trapped")),
        placement("validate-loops", Guest { validate: LOOP, ..good }, set_up("did not answer within")),
        placement(
            "endless-faults",
            Guest {
                validate: "(drop (memory.grow (i32.const 100))) (i32.store (i32.const 288) (i32.const 65536))
                           (i32.store (i32.const 292) (i32.const 400000)) (i32.const 288)",
                ..good
            },
            set_up("answer is larger than"),
        ),
        placement(
            "thousands-of-faults",
            Guest {
                validate: "(drop (memory.grow (i32.const 2))) (i32.store (i32.const 288) (i32.const 65536))
                           (i32.store (i32.const 292) (i32.const 5000)) (i32.const 288)",
                ..good
            },
            set_up("the policy rejects its settings"),
        ),
        placement("prepare-traps", Guest { prepare: TRAP, ..good }, set_up("`prepare` failed: the policy trapped")),
        placement("prepare-loops", Guest { prepare: LOOP, ..good }, set_up("did not answer within")),
        placement(
            "thousands-of-levels",
            Guest {
                prepare: "(i32.store (i32.const 320) (i32.const 65536)) (i32.store (i32.const 324) (i32.const 3000)) (i32.const 320)",
                ..good
            },
            set_up("a policy reads at most 16 levels"),
        ),
        placement("level-that-is-none", Guest { level: "no label key", ..good }, set_up("a level is a node label key")),
        placement(
            "opens-bad-nodes",
            Guest { gives: &[Gives::Toleration("node.kubernetes.io/not-ready")], ..good },
            set_up("node.kubernetes.io/not-ready"),
        ),
        placement("label-that-is-none", Guest { gives: &[Gives::Label("a b", "c")], ..good }, set_up("label a b")),
    ]
}

/// What loads and then fails whenever it is asked.
fn failing() -> Vec<Adversary> {
    let deep = Guest { place: "(call $deep (i32.const 1))", functions: DEEP, ..Guest::default() };
    let post_trap = r#"(func (export "cabi_post_muster:policy/placement@0.1.0#place") (param i32) unreachable)"#;
    let post_loop = r#"(func (export "cabi_post_muster:policy/placement@0.1.0#place") (param i32) (loop (br 0)))"#;
    // Writes numbers of shapes that don't exist: every one would be looked for among all those before it.
    let shapes = "(local $i i32)
        (drop (memory.grow (i32.const 64)))
        (loop $next
          (i32.store (i32.add (i32.const 131072) (i32.mul (local.get $i) (i32.const 8))) (local.get $i))
          (i32.store offset=4 (i32.add (i32.const 131072) (i32.mul (local.get $i) (i32.const 8))) (i32.const 1))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br_if $next (i32.lt_u (local.get $i) (i32.const 50000))))
        (call $best (local.get 2) (i32.const 0) (i32.const 131072) (i32.const 50000) (i32.const 0) (i32.const 1) (i32.const 640))
        unreachable";
    let pods = "(i32.store (i32.const 640) (i32.const 0)) (i32.store (i32.const 644) (i32.const 1000000000))
        (i32.store (i32.const 648) (i32.const 1)) (i32.store (i32.const 652) (i32.const 1000000000))
        (call $best (local.get 2) (i32.const 0) (i32.const 640) (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 664))
        unreachable";
    // Settings are let in; the arguments of `place` are larger.
    let no_room = "(if (i32.gt_u (local.get 3) (i32.const 60)) (then unreachable)) (i32.const 131000)";
    let endless = "(if (i32.gt_u (local.get 3) (i32.const 60)) (then (loop (br 0)))) (i32.const 131000)";
    let asks = |place| Guest { place, imports: IMPORTS, gives_back: false, ..Guest::default() };
    vec![
        places("place-traps", TRAP, Yields::Fails("trap")),
        places("place-loops", LOOP, Yields::Fails("deadline")),
        places("memory-bomb", MEMORY, Yields::Fails("memory")),
        placement("stack-overflow", deep, Yields::Fails("trap")),
        places("division-by-zero", "(i32.div_u (i32.const 1) (i32.const 0))", Yields::Fails("trap")),
        places("memory-of-others", "(i32.load (i32.const -4))", Yields::Fails("trap")),
        placement("cleanup-traps", Guest { functions: post_trap, ..Guest::default() }, Yields::Fails("trap")),
        placement("cleanup-loops", Guest { functions: post_loop, ..Guest::default() }, Yields::Fails("deadline")),
        placement("no-room-for-arguments", Guest { realloc: no_room, ..Guest::default() }, Yields::Fails("trap")),
        placement("room-for-arguments-for-ever", Guest { realloc: endless, ..Guest::default() }, Yields::Fails("deadline")),
        places("gives-back-twice", "(call $drop (local.get 2)) (i32.const 448)", Yields::Fails("answer-malformed")),
        placement("asks-for-shapes-that-do-not-exist", asks(shapes), Yields::Fails("trap")),
        placement("asks-for-a-billion-pods", asks(pods), Yields::Fails("question-too-large")),
        places("says-that-it-failed", "(i32.store (i32.const 484) (i32.const 2)) (i32.const 480)", Yields::Fails("internal")),
    ]
}

/// What answers with something that is no answer.
fn malformed() -> Vec<Adversary> {
    let malformed = Yields::Fails("answer-malformed");
    let text = "(drop (memory.grow (i32.const 100))) (i32.store (i32.const 444) (i32.const 6000000))
                (i32.store (i32.const 440) (i32.const 65536)) (i32.const 448)";
    let thousands = "(drop (memory.grow (i32.const 6))) (i32.store (i32.const 452) (i32.const 131072))
                     (i32.store (i32.const 456) (i32.const 5000)) (i32.const 448)";
    let millions = "(drop (memory.grow (i32.const 400))) (i32.store (i32.const 452) (i32.const 0))
                    (i32.store (i32.const 456) (i32.const 400000)) (i32.const 448)";
    vec![
        places("reason-of-megabytes", text, Yields::Fails("answer-too-large")),
        places("thousands-of-answers", thousands, Yields::Fails("too-many-answers")),
        places("hundreds-of-thousands-of-answers", millions, Yields::Fails("answer-too-large")),
        places("answers-out-of-memory", "(i32.store (i32.const 452) (i32.const -16)) (i32.const 448)", malformed),
        places("answer-at-the-end-of-memory", "(i32.const -4)", malformed),
        places("not-utf-8", "(i32.store8 (i32.const 112) (i32.const 255)) (i32.const 448)", malformed),
        places("decision-that-is-none", "(i32.store8 (i32.const 404) (i32.const 99)) (i32.const 448)", malformed),
        placement("keeps-the-snapshot", Guest { gives_back: false, ..Guest::default() }, malformed),
    ]
}

/// What has no effect, whatever was meant.
fn harmless() -> Vec<Adversary> {
    let flood = "(local $i i32)
        (loop (call $write (i32.const 2) (i32.const 1024) (i32.const 4096))
              (local.set $i (i32.add (local.get $i) (i32.const 1)))
              (br_if 0 (i32.lt_u (local.get $i) (i32.const 1000))))
        (i32.store (i32.const 388) (i32.const 1)) (i32.const 448)";
    // Counts its calls where it can: in its memory.
    let hundred = "(i32.store (i32.const 40000) (i32.add (i32.load (i32.const 40000)) (i32.const 1)))
        (if (i32.gt_u (i32.load (i32.const 40000)) (i32.const 100)) (then unreachable))
        (i32.store (i32.const 388) (i32.const 1)) (i32.const 448)";
    let escapes = "(data (i32.const 388) \"\\01\") (data (i32.const 112) \"\\1b]0;owned\\07\\0a\\0d\")";
    vec![
        placement("log-flood", Guest { place: flood, imports: IMPORTS, ..Guest::default() }, Yields::Nothing),
        places("counts-a-hundred-calls-in-memory", hundred, Yields::Nothing),
        placement("steers-the-terminal", Guest { functions: escapes, ..Guest::default() }, Yields::Nothing),
    ]
}

/// What answers well-formed untruths. The host reads them; the core refuses them.
fn untrue() -> Vec<Adversary> {
    let anywhere = Says::Unconstrained;
    vec![
        places(
            "a-group-nobody-asked-about",
            "(i32.store (i32.const 400) (i32.const 4711)) (i32.const 448)",
            Yields::Refused("UnknownUnit"),
        ),
        says("a-domain-that-does-not-exist", &Says::Within(vec![(0, 4000)]), &[], &[], "UnknownPlace"),
        says("a-level-that-does-not-exist", &Says::Within(vec![(7, 0)]), &[], &[], "UnknownPlace"),
        says("no-domain-at-all", &Says::Within(vec![]), &[], &[], "UnknownPlace"),
        placement("over-commit", Guest { place: all_into(0).leak(), ..Guest::default() }, Yields::Refused("NotEnoughRoom")),
        placement("a-domain-of-others", Guest { place: all_into(2).leak(), ..Guest::default() }, Yields::Refused("DomainHeld")),
        says("wider-than-its-own-domain", &anywhere, &[], &[], "NotExclusive"),
        says("more-parts-than-pods", &Says::Parts(vec![(9, 0, 1)]), &[], &[], "WrongParts"),
        says("more-nodes-than-pods", &Says::Pinned(vec![0; 1000]), &[], &[], "WrongPinCount"),
        says("nodes-that-do-not-exist", &Says::Pinned(vec![4000, 4001]), &[], &[], "UnknownNode"),
        says("avoids-everything", &anywhere, &[0; 1000], &[], "TooMany"),
        says("thousands-of-preferences", &Says::Preferred(vec![(0, 0); 11]), &[], &[], "TooMany"),
        says("a-label-that-is-none", &anywhere, &[], &[Gives::Label("a b", "c")], "EffectRefused"),
        says("a-label-of-the-core", &anywhere, &[], &[Gives::Label("leaderworkerset.sigs.k8s.io/name", "c")], "EffectRefused"),
        says("a-variable-of-the-core", &anywhere, &[], &[Gives::Env("LWS_LEADER_ADDRESS", "evil")], "EffectRefused"),
        says("an-annotation-of-the-core", &anywhere, &[], &[Gives::Annotation("muster.dev/placement", "{}")], "EffectRefused"),
        says(
            "a-toleration-of-bad-nodes",
            &anywhere,
            &[],
            &[Gives::Toleration("node.kubernetes.io/unreachable")],
            "EffectRefused",
        ),
        says("hundreds-of-effects", &anywhere, &[], &[Gives::Label("a", "b"); 40], "EffectRefused"),
    ]
}

/// Startup policies.
fn starting() -> Vec<Adversary> {
    let thousands = "(drop (memory.grow (i32.const 6))) (i32.store (i32.const 604) (i32.const 131072))
                     (i32.store (i32.const 608) (i32.const 5000)) (i32.const 600)";
    vec![
        starts("next-traps", TRAP, Yields::Fails("trap")),
        starts("next-loops", LOOP, Yields::Fails("deadline")),
        starts("next-takes-all-memory", MEMORY, Yields::Fails("memory")),
        starts("thousands-of-steps", thousands, Yields::Fails("too-many-answers")),
        starts(
            "steps-out-of-memory",
            "(i32.store (i32.const 604) (i32.const -16)) (i32.store (i32.const 608) (i32.const 1)) (i32.const 600)",
            Yields::Fails("answer-malformed"),
        ),
    ]
}

/// A component with the right names that also has `extra` in it.
#[must_use]
pub fn named_right(extra: &str) -> Vec<u8> {
    text(&format!(
        r#"(component {extra} (instance $i)
             (export "muster:policy/placement@0.1.0" (instance $i)) (export "muster:policy/lifecycle@0.1.0" (instance $i)))"#
    ))
}

/// Components in components; too deep for text.
fn nested(depth: usize) -> Vec<u8> {
    const COMPONENT: [u8; 8] = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];
    let section = |inner: Vec<u8>| {
        let mut section = vec![4];
        let mut length = inner.len();
        while length >= 0x80 {
            section.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        section.push((length & 0x7f) as u8);
        section.extend(inner);
        section
    };
    let innermost = COMPONENT.to_vec();
    let inside = (0..depth).fold(innermost, |inner, _| [COMPONENT.to_vec(), section(inner)].concat());
    [named_right(""), section(inside)].concat()
}

/// Thousands of loops around a change of thousands of variables: each loop joins them all.
fn joints() -> String {
    let change: String =
        (0..2000).map(|local| format!("(local.set {local} (i32.add (local.get {local}) (i32.const 1)))")).collect();
    let (open, close) = ("loop ".repeat(6000), "(br_if 0 (local.get 0)) end ".repeat(6000));
    format!("(core module (func (param i32) (local {}) block {open} {change} {close} end))", "i32 ".repeat(2000))
}

/// A list of lists of lists …
fn deep_types(depth: usize) -> String {
    let list = |level: usize| format!("(type $t{} (list $t{level}))", level + 1);
    format!("(type $t0 (list u8)) {}", (0..depth).map(list).collect::<String>())
}

/// Definitions of which each refers twice to the next.
fn schema_bomb() -> String {
    let definition = |level: usize| {
        format!(r##""d{level}": {{"allOf": [{{"$ref": "#/$defs/d{0}"}}, {{"$ref": "#/$defs/d{0}"}}]}},"##, level + 1)
    };
    let definitions: String = (0..18).map(definition).collect();
    format!(r##"{{"$defs": {{{definitions} "d18": true}}, "$ref": "#/$defs/d0"}}"##)
}
