//! Between the core's values and those of `wit/policy.wit`. What comes from a guest is brought into bounds on the way in.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;

use muster_core::cluster::{PODS, Shape};
use muster_core::placement::effects::Effect;
use muster_core::placement::{
    Answer, BadNode, Decision, Demand, DomainId, LevelId, NodeId, Part, Peer, Place, Placed, Reason, Request, SettingsError,
    Unit, Whereabouts,
};
use muster_core::startup;

use crate::bindings::placement_policy::exports::muster::policy::placement as wit;
use crate::bindings::placement_policy::muster::policy::{cluster, types};
use crate::bindings::startup_policy::exports::muster::policy::startup as wit_startup;
use crate::call::CallError;

/// Units that one call is asked about.
const MAX_UNITS: usize = 1024;
const MAX_CODE_BYTES: usize = 64;
const MAX_MESSAGE_BYTES: usize = 1024;
/// Domains that one answer names and that are looked at.
const MAX_CANDIDATES: usize = 64;
/// Settings errors that are kept of one answer.
pub(crate) const MAX_SETTINGS_ERRORS: usize = 64;

/// The code that stands for one without a single usable character.
const NO_CODE: &str = "Unspecified";

pub(crate) fn request(request: &Request) -> wit::Request {
    wit::Request {
        owner: request.owner.clone(),
        labels: entries(&request.labels),
        exclusive: request.exclusive.map(|level| level.0),
        // The rest is asked about with the next call.
        units: request.units.iter().take(MAX_UNITS).map(unit).collect(),
        placed: request.placed.iter().map(placed).collect(),
        peers: request.peers.iter().map(peer).collect(),
        bad_nodes: request.bad_nodes.iter().map(bad_node).collect(),
    }
}

fn unit(unit: &Unit) -> wit::Unit {
    wit::Unit {
        id: unit.id,
        pods: unit.pods.iter().map(|Demand { shape, pods }| types::Demand { shape: shape.0, pods: *pods }).collect(),
        priority: unit.priority,
        subgroups: unit.division.clone(),
        current: unit.current.as_ref().map(whereabouts),
        previous: unit.previous.as_ref().map(whereabouts),
    }
}

fn whereabouts(whereabouts: &Whereabouts) -> wit::Whereabouts {
    wit::Whereabouts { domains: domains(&whereabouts.domains), nodes: whereabouts.nodes.iter().map(|node| node.0).collect() }
}

fn domains(domains: &[DomainId]) -> Vec<u32> {
    domains.iter().map(|domain| domain.0).collect()
}

fn placed(placed: &Placed) -> wit::Placed {
    wit::Placed { id: placed.id, domains: domains(&placed.domains) }
}

fn peer(peer: &Peer) -> wit::Peer {
    let Peer { owner, labels, id, domains: places } = peer;
    wit::Peer { owner: owner.clone(), labels: entries(labels), id: *id, domains: domains(places) }
}

fn bad_node(bad: &BadNode) -> wit::BadNode {
    wit::BadNode { node: bad.node.0, failures: bad.failures, age_ms: bad.age_ms }
}

fn entries(map: &BTreeMap<String, String>) -> Vec<types::Entry> {
    map.iter().map(|(key, value)| types::Entry { key: key.clone(), value: value.clone() }).collect()
}

/// What pods of a shape ask for; nothing of an unknown one. That every pod takes one of the places for pods goes without saying.
pub(crate) fn shape(shape: Option<&Shape>) -> cluster::PodShape {
    let amount = |(resource, amount): (&str, i64)| cluster::Quantity {
        resource: resource.to_owned(),
        amount: u64::try_from(amount).unwrap_or(0),
    };
    cluster::PodShape {
        requests: shape
            .into_iter()
            .flat_map(|shape| shape.requests().iter())
            .filter(|(name, _)| *name != PODS)
            .map(amount)
            .collect(),
        selector: shape.map(|shape| entries(shape.selector())).unwrap_or_default(),
    }
}

pub(crate) fn answer(answer: wit::Answer) -> Answer {
    Answer {
        unit: answer.unit,
        decision: decision(answer.decision),
        avoid: answer.avoid.into_iter().map(NodeId).collect(),
        effects: answer.effects.into_iter().map(effect).collect(),
        reason: reason(&answer.reason),
    }
}

fn decision(decision: wit::Decision) -> Decision {
    match decision {
        wit::Decision::Within(places) => Decision::Within(distinct(places)),
        wit::Decision::Preferred(places) => Decision::Preferred(places.into_iter().map(place).collect()),
        wit::Decision::Parts(parts) => Decision::Parts(parts.into_iter().map(part).collect()),
        wit::Decision::Pinned(nodes) => Decision::Pinned(nodes.into_iter().map(NodeId).collect()),
        wit::Decision::Unconstrained => Decision::Unconstrained,
        wit::Decision::Hold(retry_ms) => Decision::Hold { retry_ms },
        wit::Decision::Refuse => Decision::Refuse,
    }
}

/// The first of these places, each once: every one that has no room costs a look.
fn distinct(places: Vec<types::Location>) -> Vec<Place> {
    let mut seen = HashSet::new();
    places.into_iter().map(place).filter(|place| seen.insert(*place)).take(MAX_CANDIDATES).collect()
}

fn place(place: types::Location) -> Place {
    Place { level: LevelId(place.level), domain: DomainId(place.domain) }
}

fn part(part: wit::Part) -> Part {
    Part { pods: part.pods, place: place(part.location) }
}

pub(crate) fn effect(effect: types::Effect) -> Effect {
    let word = |effect: types::TaintEffect| match effect {
        types::TaintEffect::NoSchedule => "NoSchedule",
        types::TaintEffect::PreferNoSchedule => "PreferNoSchedule",
        types::TaintEffect::NoExecute => "NoExecute",
    };
    match effect {
        types::Effect::Toleration(types::Toleration { key, value, effect }) => {
            Effect::Toleration { key, value, effect: effect.map(|effect| word(effect).to_owned()) }
        }
        types::Effect::NodeSelector(types::Entry { key, value }) => Effect::NodeSelector(key, value),
        types::Effect::Label(types::Entry { key, value }) => Effect::Label(key, value),
        types::Effect::Annotation(types::Entry { key, value }) => Effect::Annotation(key, value),
        types::Effect::Env(types::Entry { key, value }) => Effect::Env(key, value),
        types::Effect::SchedulerName(name) => Effect::SchedulerName(name),
    }
}

pub(crate) fn startup_request(request: &startup::Request) -> wit_startup::Request {
    wit_startup::Request {
        owner: request.owner.clone(),
        labels: entries(&request.labels),
        replicas: request.replicas,
        unplaced: request.unplaced,
        groups: request.groups.iter().map(group).collect(),
    }
}

fn group(group: &startup::Group) -> wit_startup::Group {
    wit_startup::Group {
        index: group.index,
        size: group.size,
        pods: group.pods.iter().map(pod).collect(),
        age_ms: group.age_ms,
        recreations: group.recreations,
        placed: group.placed,
    }
}

fn pod(pod: &startup::Pod) -> wit_startup::Pod {
    use startup::Phase;
    let phase = match pod.phase {
        Phase::Pending => wit_startup::Phase::Pending,
        Phase::Scheduled => wit_startup::Phase::Scheduled,
        Phase::Running => wit_startup::Phase::Running,
        Phase::Ready => wit_startup::Phase::Ready,
        Phase::Succeeded => wit_startup::Phase::Succeeded,
        Phase::Failed => wit_startup::Phase::Failed,
        Phase::Terminating => wit_startup::Phase::Terminating,
    };
    wit_startup::Pod { rank: pod.rank, phase, in_phase_ms: pod.in_phase_ms, restarts: pod.restarts }
}

pub(crate) fn step(step: &wit_startup::Step) -> startup::Step {
    startup::Step { group: step.group, admit: step.admit, recheck_ms: step.recheck_ms, reason: reason(&step.reason) }
}

fn reason(reason: &types::Reason) -> Reason {
    Reason { code: code(&reason.code), message: message(&reason.message) }
}

/// Keeps what a condition reason may be: ASCII letters and digits, beginning with a capital letter.
fn code(code: &str) -> String {
    let mut kept: String =
        code.chars().filter(char::is_ascii_alphanumeric).skip_while(char::is_ascii_digit).take(MAX_CODE_BYTES).collect();
    if kept.is_empty() {
        return NO_CODE.to_owned();
    }
    kept[..1].make_ascii_uppercase();
    kept
}

/// One line of at most 1024 bytes, cut between characters.
pub fn message(message: &str) -> String {
    one_line(&message[..message.floor_char_boundary(MAX_MESSAGE_BYTES)])
}

/// A text without what would steer a terminal, end a line, or show the text in another order than it was written.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|char| if char.is_control() || steers(char) { ' ' } else { char }).collect()
}

/// Separators of lines and paragraphs, marks of direction, and what can't be seen at all.
fn steers(char: char) -> bool {
    matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

pub(crate) fn settings_errors(errors: Vec<types::SettingsError>) -> Vec<SettingsError> {
    let error = |error: types::SettingsError| SettingsError { path: message(&error.path), message: message(&error.message) };
    errors.into_iter().take(MAX_SETTINGS_ERRORS).map(error).collect()
}

pub(crate) fn failure(failure: types::Failure) -> CallError {
    match failure {
        types::Failure::Settings(errors) => CallError::Settings(settings_errors(errors)),
        types::Failure::Unsupported(why) => CallError::Unsupported(message(&why)),
        types::Failure::Internal(why) => CallError::Internal(message(&why)),
    }
}

/// Settings errors in one line: `/keys/0: must be a string; /mode: …`.
pub(crate) fn list(errors: &[SettingsError]) -> String {
    let lines: Vec<_> = errors
        .iter()
        .map(|SettingsError { path, message }| if path.is_empty() { message.clone() } else { format!("{path}: {message}") })
        .collect();
    lines.join("; ")
}

/// Where a trap happened, as the end of a sentence.
pub(crate) fn frames(frames: &[String]) -> String {
    let mut text = String::new();
    for (position, frame) in frames.iter().enumerate() {
        let _ = write!(text, "{}{frame}", if position == 0 { ", in " } else { " ← " });
    }
    text
}

/// A function's name as people write it, brought into bounds.
pub(crate) fn demangled(name: &str) -> String {
    // `#`: without the hash that changes with every build. Linkers demangle the older kind of name and leave the hash.
    let name = message(&format!("{:#}", rustc_demangle::demangle(name)));
    match name.rsplit_once("::h") {
        Some((path, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => path.to_owned(),
        _ => name,
    }
}

/// Whether a function is part of how Rust or C panic or abort, and therefore says nothing about where.
pub(crate) fn is_machinery(name: &str) -> bool {
    const PARTS: [&str; 5] = ["std::", "core::", "alloc::", "__rustc", "__rust_"];
    let name = name.trim_start_matches('<');
    name == "abort" || PARTS.iter().any(|part| name.starts_with(part))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::as_it_should_be("NoDomainLargeEnough", "NoDomainLargeEnough")]
    #[case::small_letters_and_dashes("no-domain", "Nodomain")]
    #[case::leading_digits("2Many", "Many")]
    #[case::other_alphabets("Größe", "Gre")]
    #[case::nothing_usable("…", "Unspecified")]
    fn a_reason_code_becomes_an_identifier(#[case] given: &str, #[case] expected: &str) {
        assert_eq!(code(given), expected);
    }

    #[test]
    fn a_reason_code_has_at_most_64_bytes() {
        assert_eq!(code(&"Ab".repeat(40)).len(), 64);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        // 1023 bytes, and then a character of two.
        let text = format!("{}é", "x".repeat(1023));
        assert_eq!(message(&text), "x".repeat(1023));
    }

    #[test]
    fn a_message_is_one_line() {
        assert_eq!(message("a\nb\tc"), "a b c");
    }

    #[rstest]
    #[case::colours("\u{1b}[31mred\u{1b}[0m", " [31mred [0m")]
    #[case::other_control_sequences("\u{9b}2J\u{7f}", " 2J ")]
    #[case::the_other_direction("ok \u{202e}delaf", "ok  delaf")]
    #[case::line_separators("a\u{2028}b\u{2029}c", "a b c")]
    #[case::what_nobody_sees("a\u{200b}\u{feff}b", "a  b")]
    #[case::words_of_every_language("größer als 4 节点", "größer als 4 节点")]
    fn a_message_steers_no_terminal(#[case] given: &str, #[case] expected: &str) {
        assert_eq!(message(given), expected);
    }

    #[test]
    fn a_domain_that_is_named_twice_is_looked_at_once() {
        let location = |domain| types::Location { level: 0, domain };
        let named: Vec<_> = [5, 5, 3, 5].into_iter().chain(100..300).map(location).collect();
        let kept: Vec<u32> = distinct(named).iter().map(|place| place.domain.0).collect();
        assert_eq!(kept.len(), 64);
        assert_eq!(kept[..4], [5, 3, 100, 101]);
    }

    #[test]
    fn settings_errors_read_as_one_line() {
        let errors = [
            SettingsError { path: "/mode".into(), message: "must be Required".into() },
            SettingsError { path: String::new(), message: "must be an object".into() },
        ];
        assert_eq!(list(&errors), "/mode: must be Required; must be an object");
    }

    #[test]
    fn a_function_name_loses_its_hash() {
        assert_eq!(demangled("node_pool::place::h0123456789abcdef"), "node_pool::place");
        assert_eq!(demangled("node_pool::hash"), "node_pool::hash");
        assert_eq!(demangled("_RNvNtCsebHcaeoSrxy_3std9panicking15panic_with_hook"), "std::panicking::panic_with_hook");
    }

    #[rstest]
    #[case("__rustc::rust_panic", true)]
    #[case("std::panicking::panic_with_hook", true)]
    #[case("<std::panicking::begin_panic_handler::StaticStrPayload>::get", true)]
    #[case("panic_racks::place", false)]
    #[case("racks::choose", false)]
    fn what_a_language_does_to_panic_is_told_from_the_policy_itself(#[case] name: &str, #[case] machinery: bool) {
        assert_eq!(is_machinery(name), machinery);
    }
}
