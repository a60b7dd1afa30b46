//! Policies written by hand: a core module in the text format, made a component with the library that compilers use.
//!
//! The core functions have the names and the flat signatures of the canonical ABI, so that a test can say exactly what a
//! guest does, including what no compiler would make it do.
#![expect(clippy::expect_used, reason = "only tests use this, and a guest that can't be built is a mistake in the test")]

pub mod adversaries;
mod says;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use says::{ANSWER_BYTES, Memory};
pub use says::{Gives, Says};

/// A placement policy.
#[derive(Clone, Copy, Debug)]
pub struct Guest<'a> {
    /// Body of `place`: a function that returns a pointer to `result<list<answer>, failure>`. The settings are
    /// `(local.get 0)` and `(local.get 1)`, the units `(local.get 7)` and `(local.get 8)`.
    pub place: &'a str,
    /// Body of `describe`; returns a pointer to a descriptor.
    pub describe: &'a str,
    /// JSON Schema of its settings, of at most 16 KiB.
    pub schema: &'a str,
    /// Body of `validate-settings`; returns a pointer to a list of settings errors.
    pub validate: &'a str,
    /// Body of `prepare`; returns a pointer to a preparation.
    pub prepare: &'a str,
    /// What it does as soon as there is an instance of it.
    pub start: &'a str,
    /// Imports.
    pub imports: &'a str,
    /// More functions.
    pub functions: &'a str,
    /// Whether it gives back the snapshot at once; else that is up to `place`, by `(call $drop (local.get 2))`.
    pub gives_back: bool,
    /// Body of `cabi_realloc`, by which the host gets room for arguments.
    pub realloc: &'a str,
    /// The one node label key that it reads, of at most 63 bytes.
    pub level: &'a str,
    /// What its preparation gives pods.
    pub gives: &'a [Gives<'a>],
}

/// The interface. A part of the program, so that it needs no checkout when it runs.
const WIT: &str = include_str!("../../../wit/policy.wit");

/// The first page of memory, where everything that the guest answers with lies as data; arguments go to the second page.
///
/// 49152: the schema. 64: name, 80: version, 96: a code, 112: a message, 160: a path, 192: the level's key. 256: descriptor, 288: no settings
/// errors, 296: one settings error, 320: the preparation, 352: its levels, 384: one location, 400: one answer, 448: the ok result,
/// 480: the failure `unsupported`.
const DATA: &str = r#"
  (memory (export "memory") 2)
  (data (i32.const 64) "fixture")
  (data (i32.const 80) "1.2.3")
  (data (i32.const 96) "best-fit")
  (data (i32.const 112) "it fits there")
  (data (i32.const 160) "/keys/0")
  (data (i32.const 256) "\40\00\00\00\07\00\00\00\50\00\00\00\05\00\00\00\00\00\00\00\00\00\00\00")
  (data (i32.const 288) "\00\00\00\00\00\00\00\00")
  (data (i32.const 296) "\30\01\00\00\01\00\00\00\a0\00\00\00\07\00\00\00\70\00\00\00\0d\00\00\00")
  ;; location: level 0, domain 3
  (data (i32.const 384) "\00\00\00\00\03\00\00\00")
  ;; answer: unit 7, within that location, avoid nothing, no effects, reason { code, message }
  (data (i32.const 400) "\07\00\00\00\00\00\00\00\80\01\00\00\01\00\00\00")
  (data (i32.const 416) "\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00")
  (data (i32.const 432) "\60\00\00\00\08\00\00\00\70\00\00\00\0d\00\00\00")
  (data (i32.const 448) "\00\00\00\00\90\01\00\00\01\00\00\00")
  (data (i32.const 480) "\01\00\00\00\01\00\00\00\70\00\00\00\0d\00\00\00")
  (global $free (mut i32) (i32.const 65536))
"#;

/// Arguments lie one after the other.
const REALLOC: &str = "
    (local $at i32)
    (local.set $at (global.get $free))
    (global.set $free (i32.and (i32.add (i32.add (local.get $at) (local.get 3)) (i32.const 7)) (i32.const -8)))
    (local.get $at)";

impl Default for Guest<'_> {
    /// Answers for unit 7 with domain 3 of level 0.
    fn default() -> Self {
        Self {
            place: "(i32.const 448)",
            describe: "(i32.const 256)",
            schema: "",
            validate: "(i32.const 288)",
            prepare: "(i32.const 320)",
            start: "",
            imports: "",
            functions: "",
            gives_back: true,
            realloc: REALLOC,
            level: "example.com/rack",
            gives: &[],
        }
    }
}

impl<'a> Guest<'a> {
    /// A guest that does this when it is asked.
    #[must_use]
    pub fn that(place: &'a str) -> Self {
        Self { place, ..Self::default() }
    }

    /// The component.
    ///
    /// # Panics
    /// When what it does is not WebAssembly.
    #[must_use]
    pub fn component(&self) -> Vec<u8> {
        let Self { place, functions, imports, .. } = self;
        let give_back = if self.gives_back { "(call $drop (i32.load offset=8 (local.get $at)))" } else { "" };
        let placement = format!(
            r#"(func $place (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) {place})
               ;; Too many arguments for the stack: settings at 0, the snapshot at 8, owner at 12, exclusive at 28, units at 36.
               (func (export "muster:policy/placement@0.1.0#place") (param $at i32) (result i32)
                 {give_back}
                 (call $place (i32.load (local.get $at)) (i32.load offset=4 (local.get $at)) (i32.load offset=8 (local.get $at))
                   (i32.load offset=12 (local.get $at)) (i32.load offset=16 (local.get $at))
                   (i32.load8_u offset=28 (local.get $at)) (i32.load offset=32 (local.get $at))
                   (i32.load offset=36 (local.get $at)) (i32.load offset=40 (local.get $at))))
               {functions}"#
        );
        component("placement-policy", &self.core(&format!("{DROP} {imports}"), &placement))
    }

    /// A startup policy that does this when it is asked: the body of `next`, a function that returns a pointer to
    /// `result<list<step>, failure>`. `(local.get 8)` and `(local.get 9)` are the groups.
    ///
    /// # Panics
    /// When what it does is not WebAssembly.
    #[must_use]
    pub fn startup(&self, next: &str) -> Vec<u8> {
        let Self { functions, imports, .. } = self;
        let next = format!(
            r#"(func (export "muster:policy/startup@0.1.0#next")
                 (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) {next})
               {functions}"#
        );
        component("startup-policy", &self.core(imports, &next))
    }

    fn core(&self, imports: &str, ask: &str) -> String {
        let Self { describe, schema, validate, prepare, start, realloc, level, .. } = self;
        assert!(schema.len() <= 16 << 10, "the schema is longer than the place for it");
        let schema_bytes =
            schema.len().to_le_bytes().iter().take(4).fold(String::new(), |text, byte| format!("{text}\\{byte:02x}"));
        let schema = schema.replace('\\', "\\\\").replace('"', "\\\"");
        let start = if start.is_empty() { String::new() } else { format!("(func $start {start}) (start $start)") };
        let mut memory = Memory::at(16_384);
        let effects = memory.effects(self.gives);
        let gives: String = effects.iter().map(|byte| format!("\\{byte:02x}")).collect();
        let segment = memory.segment();
        let length = level.len();
        assert!(length < 64, "the level {level} is longer than the place for it");
        format!(
            r#"(module {imports} {DATA}
              (data (i32.const 192) "{level}")
              (data (i32.const 320) "\60\01\00\00\01\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00")
              (data (i32.const 328) "{gives}") {segment}
              (data (i32.const 352) "\c0\00\00\00\{length:02x}\00\00\00")
              (data (i32.const 272) "\00\c0\00\00{schema_bytes}") (data (i32.const 49152) "{schema}")
              {start}
              (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) {realloc})
              (func (export "muster:policy/lifecycle@0.1.0#describe") (result i32) {describe})
              (func (export "muster:policy/lifecycle@0.1.0#validate-settings") (param i32 i32) (result i32) {validate})
              (func (export "muster:policy/lifecycle@0.1.0#prepare") (param i32 i32) (result i32) {prepare})
              {ask})"#
        )
    }
}

/// A guest must give back the snapshot that it is lent before it returns; these don't look at it and do so at once.
const DROP: &str = r#"(import "muster:policy/cluster@0.1.0" "[resource-drop]snapshot" (func $drop (param i32)))"#;

/// Body of `place` for [`Guest::that`]: every unit goes into this domain of level 0. Domains are numbered by name.
#[must_use]
pub fn all_into(domain: u32) -> String {
    // A unit has 64 bytes and begins with its id; an answer has 48 and begins with its unit. All share one location.
    format!(
        "(local $unit i32) (local $answer i32)
         (local.set $unit (local.get 7))
         (local.set $answer (i32.const 1024))
         (i32.store (i32.const 388) (i32.const {domain}))
         (loop $next
           (memory.copy (local.get $answer) (i32.const 400) (i32.const 48))
           (i32.store (local.get $answer) (i32.load (local.get $unit)))
           (local.set $unit (i32.add (local.get $unit) (i32.const 64)))
           (local.set $answer (i32.add (local.get $answer) (i32.const 48)))
           (br_if $next (i32.lt_u (local.get $unit) (i32.add (local.get 7) (i32.mul (local.get 8) (i32.const 64))))))
         (i32.store (i32.const 452) (i32.const 1024))
         (i32.store (i32.const 456) (local.get 8))
         (i32.const 448)"
    )
}

/// A guest that says the same about every unit: give its parts to [`Guest`] as `place` and `functions`.
#[must_use]
pub fn saying(says: &Says, avoid: &[u32], effects: &[Gives<'_>]) -> (String, String) {
    let mut memory = Memory::at(8192);
    let answer = memory.answer(says, avoid, effects);
    // The reason of the default answer follows.
    let bytes: String = answer.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let functions = format!("{} (data (i32.const 7168) \"{bytes}\")", memory.segment());
    let place = format!(
        "(local $unit i32) (local $answer i32)
         (local.set $unit (local.get 7))
         (local.set $answer (i32.const 1024))
         (loop $next
           (memory.copy (local.get $answer) (i32.const 7168) (i32.const 32))
           (memory.copy (i32.add (local.get $answer) (i32.const 32)) (i32.const 432) (i32.const 16))
           (i32.store (local.get $answer) (i32.load (local.get $unit)))
           (local.set $unit (i32.add (local.get $unit) (i32.const 64)))
           (local.set $answer (i32.add (local.get $answer) (i32.const {ANSWER_BYTES})))
           (br_if $next (i32.lt_u (local.get $unit) (i32.add (local.get 7) (i32.mul (local.get 8) (i32.const 64))))))
         (i32.store (i32.const 452) (i32.const 1024))
         (i32.store (i32.const 456) (local.get 8))
         (i32.const 448)"
    );
    (place, functions)
}

/// A placement policy whose `place` is written out: core functions, one of them exported as `muster:policy/placement@0.1.0#place`,
/// which calls `$drop` with the snapshot when it has read enough. The constants are those of a [`Guest`].
///
/// # Panics
/// When the text is not WebAssembly, or not of the world's types.
#[must_use]
pub fn placement(imports: &str, functions: &str) -> Vec<u8> {
    component("placement-policy", &Guest::default().core(&format!("{DROP} {imports}"), functions))
}

/// A startup policy that answers for no group.
///
/// # Panics
/// Never, as long as `wit/policy.wit` has its startup world.
#[must_use]
pub fn startup() -> Vec<u8> {
    Guest::default().startup("(i32.const 600)")
}

/// A component that is nothing but what this text says.
///
/// # Panics
/// When the text is not WebAssembly.
#[must_use]
pub fn text(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("the text is WebAssembly")
}

fn component(world: &str, core: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve.push_source("policy.wit", WIT).expect("wit/policy.wit is valid");
    let world = resolve.select_world(&[package], Some(world)).expect("the world exists");
    let mut module = text(core);
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).expect("the module takes a section");
    let mut encoder = ComponentEncoder::default();
    encoder.validate(true).module(&module).expect("the module fits the world");
    encoder.encode().expect("the component is valid")
}
