//! One scenario, asked of one policy: what it says, what the operator makes of that, and what it cost.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::ask;
use muster_core::cluster::Snapshot;
use muster_core::instructions::Instructions;
use muster_core::placement::check::{Assignment, Checked, Checker, RejectionCode};
use muster_core::placement::effects::Effect;
use muster_core::placement::{Answer, Decision, NodeId, Place};
use muster_core::startup::{Request as StartupRequest, Step};
use muster_core::subgroups::SubgroupDomains;
use muster_policy_host::{CallError, CallOutcome, Limits, LogLevel};
use serde::Serialize;

use crate::chain::{self, Library};
use crate::policy::Policy;
use crate::scenario::{Fault, Scenario, Sites, Stage};

/// What came of it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The scenario's name.
    pub scenario: String,
    /// The policy's name and version.
    pub policy: String,
    /// Each call of the chain's policies, in their order; none for a scenario without a chain.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<Call>,
    /// One for each answer, in its order; of a chain, what comes out in the end.
    pub decisions: Vec<Decided>,
    /// Units or groups that it said nothing about.
    pub unanswered: Vec<u32>,
    /// Why there are no answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// What the call took.
    pub cost: Cost,
    /// What it wrote to its log.
    pub log: Vec<Line>,
}

/// One answer, in words, and the operator's check of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decided {
    /// The unit, or the group.
    pub id: u32,
    /// `within`, `preferred`, `parts`, `pinned`, `unconstrained`, `hold`, `refuse` or `admit`.
    pub decision: &'static str,
    /// Domains (`rack=r1`), parts (`4 @ rack=r1`) or nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<String>,
    /// The domain that the operator takes of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taken: Option<String>,
    /// Ranks that may exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admit: Option<u32>,
    /// Milliseconds until it is asked again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub again_ms: Option<u32>,
    /// Nodes that no pod goes to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub avoid: Vec<String>,
    /// What pods get.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<String>,
    /// The domain of each subgroup that has one for itself, in the order of their indices.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subgroups: Vec<String>,
    /// Where a leader goes that is in no subgroup: the domain that it shares with one, or its node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// The policy of a chain that had the last word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What the policies before it in the chain had left open.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inside: Vec<String>,
    /// The reason's code.
    pub code: String,
    /// The reason's sentence.
    pub message: String,
    /// Why the operator does not follow it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Refusal>,
    /// Names of all nodes that its pods may land on.
    #[serde(skip)]
    pub nodes: BTreeSet<String>,
}

/// Why an answer is not followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// For programs.
    pub code: String,
    /// For people.
    pub message: String,
}

/// Why there are no answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// `trap`, `deadline`, `unsupported`, …
    pub kind: String,
    /// For people.
    pub message: String,
    /// It is the policy's fault.
    pub fault: bool,
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self { kind: error.kind().to_owned(), message: told(&error), fault: error.is_fault() }
    }
}

/// The error as an author reads it: fields of a policy object have flags here, and a place in the project.
pub(crate) fn told(error: &CallError) -> String {
    let flag = match error {
        CallError::Deadline { limit } if *limit < Limits::DEADLINE_RANGE.1 => "--deadline",
        CallError::Memory { limit } if *limit < Limits::MAX_MEMORY => "--memory",
        _ => return error.to_string(),
    };
    format!("{error}; here by {flag}, or for good in policy.toml below [limits]")
}

/// What a call took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// The whole call.
    pub micros: f64,
    /// Making the instance.
    pub instantiate_micros: f64,
    /// Most linear memory.
    pub peak_memory_bytes: usize,
    /// WebAssembly instructions, where they were counted: the same for the same question, whatever else the machine does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions: Option<u64>,
}

impl Report {
    /// Takes over the instructions of the same question's report from an engine that counts them. Times stay those of this one,
    /// because counting slows calls down. What did not come out the same there (a call that was late) stays uncounted.
    #[must_use]
    pub fn counted(mut self, counted: &Self) -> Self {
        if self.decisions != counted.decisions || self.failure != counted.failure {
            return self;
        }
        self.cost.instructions = counted.cost.instructions;
        for (call, counted) in self.chain.iter_mut().zip(&counted.chain) {
            call.cost.instructions = counted.cost.instructions;
        }
        self
    }
}

/// A line of the policy's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// `debug`, `info` or `warn`.
    pub level: &'static str,
    /// Its text.
    pub message: String,
}

/// One call of a policy of a chain.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    /// The policy; `exclusive` for the operator's own rule.
    pub policy: String,
    /// What the policies before it had left open; anywhere if there is nothing.
    pub inside: Vec<String>,
    /// What it answered, before anything was checked.
    pub decisions: Vec<Decided>,
    /// What the call took; nothing for the operator's own rule.
    pub cost: Cost,
}

/// Asks the policy the scenario's question, once; with a chain, all its policies as the operator asks them. `others` has those.
///
/// # Errors
/// The field of the scenario that makes no sense, or does not go with the policy.
pub fn play(scenario: &Scenario, policy: &Policy, others: &Library<'_>) -> Result<Report, Fault> {
    match policy {
        _ if !scenario.chain.is_empty() => chain::play(scenario, policy, others),
        Policy::Startup(component) => {
            let request = scenario.startup_request()?;
            Ok(startup_report(scenario, policy, &request, component.next(&request)))
        }
        Policy::Placement(_) | Policy::Native => {
            let stage = scenario.stage(&policy.preparation())?;
            let outcome = policy.place(&stage.snapshot, &stage.request);
            let outcome =
                outcome.ok_or_else(|| Fault::new("request", "the policy is a startup policy; ask it with `startup`"))?;
            Ok(placement_report(&scenario.name, policy, &stage, outcome))
        }
    }
}

pub(crate) fn placement_report(scenario: &str, policy: &Policy, stage: &Stage, outcome: CallOutcome<Vec<Answer>>) -> Report {
    let (mut report, answers) = report(scenario, policy.name(), outcome);
    let answers = answers.unwrap_or_default();
    let mut checker = Checker::new(&stage.snapshot, &stage.request);
    report.decisions = answers.iter().map(|answer| decided(stage, answer, &mut checker)).collect();
    let answered: BTreeSet<u32> = answers.iter().map(|answer| answer.unit).collect();
    let units = stage.request.units.iter().map(|unit| unit.id);
    report.unanswered = units.filter(|id| !answered.contains(id)).collect();
    report
}

fn startup_report(scenario: &Scenario, policy: &Policy, request: &StartupRequest, outcome: CallOutcome<Vec<Step>>) -> Report {
    let (mut report, steps) = report(&scenario.name, policy.name(), outcome);
    let steps = steps.unwrap_or_default();
    let mut answered = BTreeSet::new();
    report.decisions = steps.iter().map(|step| admitted(request, step, !answered.insert(step.group))).collect();
    report.unanswered = request.groups.iter().map(|group| group.index).filter(|index| !answered.contains(index)).collect();
    report
}

fn admitted(request: &StartupRequest, step: &Step, again: bool) -> Decided {
    let refusal = |code: &str, message: String| Some(Refusal { code: code.to_owned(), message });
    let rejected = match request.groups.iter().find(|group| group.index == step.group) {
        None => refusal(
            "UnknownGroup",
            format!("group {} is not one of the {} that were asked about", step.group, request.groups.len()),
        ),
        Some(_) if again => refusal("AnsweredTwice", format!("group {} was answered before", step.group)),
        Some(group) => ask::admitted(step, group.size).err().and_then(|reason| refusal(&reason.code, reason.message)),
    };
    Decided {
        id: step.group,
        decision: "admit",
        admit: Some(step.admit),
        again_ms: step.recheck_ms,
        code: step.reason.code.clone(),
        message: step.reason.message.clone(),
        rejected,
        ..Decided::default()
    }
}

pub(crate) fn report<T>(scenario: &str, policy: String, outcome: CallOutcome<T>) -> (Report, Option<T>) {
    let micros = |duration: std::time::Duration| duration.as_secs_f64() * 1e6;
    let cost = Cost {
        micros: micros(outcome.duration),
        instantiate_micros: micros(outcome.instantiate),
        peak_memory_bytes: outcome.peak_memory,
        instructions: outcome.instructions,
    };
    let mut log: Vec<Line> =
        outcome.logs.into_iter().map(|line| Line { level: level(line.level), message: line.message }).collect();
    if outcome.logs_dropped > 0 {
        log.push(Line { level: "warn", message: format!("({} more lines were dropped: past the budget)", outcome.logs_dropped) });
    }
    let (answers, failure) = match outcome.result {
        Ok(answers) => (Some(answers), None),
        Err(error) => (None, Some(Failure::from(error))),
    };
    let report = Report {
        scenario: scenario.to_owned(),
        policy,
        chain: Vec::new(),
        decisions: Vec::new(),
        unanswered: Vec::new(),
        failure,
        cost,
        log,
    };
    (report, answers)
}

fn level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
    }
}

fn decided(stage: &Stage, answer: &Answer, checker: &mut Checker<'_>) -> Decided {
    let (snapshot, sites) = (&stage.snapshot, &stage.sites);
    let mut decided = said(snapshot, sites, answer);
    match checker.apply(answer) {
        Ok(Checked::Assigned(assignment)) => {
            decided.taken = taken(snapshot, sites, answer, &assignment);
            let leader = assignment.leader.iter().map(|leader| leader.selector.clone()).collect();
            let place = Landing {
                selector: &assignment.selector,
                subgroups: assignment.subgroup_domains(),
                leader,
                instructions: &assignment.instructions,
            };
            (decided.subgroups, decided.leader) = place.seats(sites);
            decided.nodes = place.nodes(snapshot);
        }
        Ok(Checked::Unconstrained(_) | Checked::Hold { .. } | Checked::Refused) => {}
        Err(rejection) => {
            let code = rejection.code.as_str().to_owned();
            let message = match rejection.code {
                RejectionCode::UnknownPlace if decided.places.is_empty() => {
                    format!("{}; name at least one domain", rejection.message)
                }
                _ => rejection.message,
            };
            decided.rejected = Some(Refusal { code, message });
        }
    }
    decided
}

/// An answer in words, before it is checked.
pub(crate) fn said(snapshot: &Snapshot, sites: &Sites, answer: &Answer) -> Decided {
    let node = |node: &NodeId| snapshot.node_name(*node).map_or_else(|| format!("(no node {})", node.0), str::to_owned);
    let (decision, places) = in_words(snapshot, sites, &answer.decision);
    let again_ms = match answer.decision {
        Decision::Hold { retry_ms } => Some(retry_ms),
        _ => None,
    };
    Decided {
        id: answer.unit,
        decision,
        places,
        again_ms,
        avoid: answer.avoid.iter().map(node).collect(),
        effects: answer.effects.iter().map(effect).collect(),
        code: answer.reason.code.clone(),
        message: answer.reason.message.clone(),
        ..Decided::default()
    }
}

fn in_words(snapshot: &Snapshot, sites: &Sites, decision: &Decision) -> (&'static str, Vec<String>) {
    let place = |place: Place| in_site(snapshot, sites, place);
    let node = |node: &NodeId| snapshot.node_name(*node).map_or_else(|| format!("(no node {})", node.0), str::to_owned);
    match decision {
        Decision::Within(places) => ("within", places.iter().copied().map(place).collect()),
        Decision::Preferred(places) => ("preferred", places.iter().copied().map(place).collect()),
        Decision::Parts(parts) => ("parts", parts.iter().map(|part| format!("{} @ {}", part.pods, place(part.place))).collect()),
        Decision::Pinned(nodes) => ("pinned", nodes.iter().map(node).collect()),
        // The native rule's only; the domains are those of the subgroups.
        Decision::Apart(_) => ("apart", Vec::new()),
        Decision::Unconstrained => ("unconstrained", Vec::new()),
        Decision::Hold { .. } => ("hold", Vec::new()),
        Decision::Refuse => ("refuse", Vec::new()),
    }
}

fn in_site(snapshot: &Snapshot, sites: &Sites, place: Place) -> String {
    let key = snapshot.levels().get(place.level.0 as usize);
    let named = key.zip(snapshot.domain_name(place.level, place.domain)).map(|(key, value)| sites.named(key, value));
    named.unwrap_or_else(|| format!("(no domain {} of level {})", place.domain.0, place.level.0))
}

/// Which of the answer's domains it is.
fn taken(snapshot: &Snapshot, sites: &Sites, answer: &Answer, assignment: &Assignment) -> Option<String> {
    let Decision::Within(places) = &answer.decision else { return None };
    let chosen = places.iter().find(|place| {
        let key = snapshot.levels().get(place.level.0 as usize);
        let value = snapshot.domain_name(place.level, place.domain);
        key.zip(value).is_some_and(|(key, value)| assignment.selector.get(key).is_some_and(|selected| selected == value))
    });
    chosen.map(|place| in_site(snapshot, sites, *place))
}

/// Where the pods of a unit go, as a checked answer or a record has it.
pub(crate) struct Landing<'a> {
    pub(crate) selector: &'a BTreeMap<String, String>,
    pub(crate) subgroups: Option<SubgroupDomains>,
    /// Node labels of a leader that is in no subgroup.
    pub(crate) leader: BTreeMap<String, String>,
    pub(crate) instructions: &'a Instructions,
}

impl Landing<'_> {
    /// The domains of the subgroups, and of a leader that is in none.
    pub(crate) fn seats(&self, sites: &Sites) -> (Vec<String>, Option<String>) {
        let subgroups = self.subgroups.iter().flat_map(|known| known.domains.values().map(|domain| (&known.level, domain)));
        let leader = self.leader.iter().next().map(|(key, value)| sites.named(key, value));
        (subgroups.map(|(key, value)| sites.named(key, value)).collect(), leader)
    }

    /// Names of the nodes that pods may land on.
    pub(crate) fn nodes(&self, snapshot: &Snapshot) -> BTreeSet<String> {
        let Instructions { pins, parts, avoid, .. } = self.instructions;
        if !pins.is_empty() {
            return pins.iter().cloned().collect();
        }
        let label = |row: u32, key: &str, value: &str| snapshot.node_label(NodeId(row), key) == Some(value);
        let in_parts = |row: u32| parts.is_empty() || parts.iter().any(|part| label(row, &part.key, &part.value));
        let of_leader = |row: u32| self.leader.iter().any(|(key, value)| label(row, key, value));
        let in_subgroup = |row: u32| {
            let known = self.subgroups.as_ref();
            known.is_none_or(|known| known.domains.values().any(|domain| label(row, &known.level, domain)))
        };
        let selected = |row: &u32| {
            let all = self.selector.iter().all(|(key, value)| label(*row, key, value));
            all && in_parts(*row) && (in_subgroup(*row) || of_leader(*row))
        };
        let rows = (0..snapshot.node_count()).filter(selected);
        let names = rows.filter_map(|row| snapshot.node_name(NodeId(row)).map(str::to_owned));
        names.filter(|name| !avoid.contains(name)).collect()
    }
}

/// An effect as scenarios write it.
fn effect(effect: &Effect) -> String {
    match effect {
        Effect::Toleration { key, value, effect } => {
            let value = value.as_ref().map(|value| format!("={value}")).unwrap_or_default();
            let effect = effect.as_ref().map(|effect| format!(":{effect}")).unwrap_or_default();
            format!("toleration {key}{value}{effect}")
        }
        Effect::NodeSelector(key, value) => format!("node-selector {key}={value}"),
        Effect::Label(key, value) => format!("label {key}={value}"),
        Effect::Annotation(key, value) => format!("annotation {key}={value}"),
        Effect::Env(name, value) => format!("env {name}={value}"),
        Effect::SchedulerName(name) => format!("scheduler-name {name}"),
    }
}
