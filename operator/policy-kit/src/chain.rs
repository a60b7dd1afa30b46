//! A chain of policies, asked about a scenario as the operator asks about a set.
//!
//! The walk is the operator's ([`muster_core::placing::chain::walk`]); here is who asks and keeps the ledger, and what is remembered
//! of each call for people.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use muster_core::advice::Placement;
use muster_core::ask::Question;
use muster_core::cluster::Snapshot;
use muster_core::placement::effects::Effects;
use muster_core::placement::{Answer, Reason};
use muster_core::placing::chain::{Carried, Guide, Label, Said, walk};
use muster_core::placing::{self, Asked, Settled};
use muster_core::record::Record;
use muster_policy_host::{Engine, Limits, Preparation};

use crate::play::{Call, Cost, Decided, Failure, Landing, Line, Refusal, Report, report, said};
use crate::policy::{Bytes, Policy};
use crate::scenario::{Brief, Fault, Link, Scenario, Scene, Sites};

/// Where the policies of a chain are had from that are not under test. Each is compiled once, whatever settings it has.
#[derive(Debug, Default)]
pub struct Library<'e> {
    engine: Option<&'e Engine>,
    limits: Limits,
    loaded: RefCell<BTreeMap<String, Policy>>,
}

impl<'e> Library<'e> {
    /// A library that loads policies as the operator does.
    pub fn new(engine: &'e Engine, limits: Limits) -> Self {
        Self { engine: Some(engine), limits, loaded: RefCell::default() }
    }

    fn find(&self, field: &str, link: &Link, scenario: &Scenario, under_test: &Policy) -> Result<Policy, Fault> {
        let fault = |error: String| Fault::new(field, error);
        let policy = if link.under_test {
            match &link.settings {
                settings if settings.is_null() => under_test.clone(),
                settings => under_test.with_settings(self.limits, settings).map_err(|error| fault(error.to_string()))?,
            }
        } else {
            let name = match (&link.built_in, &link.component) {
                (Some(name), _) => format!("builtin:{name}"),
                (None, component) => {
                    let file = scenario.folder.join(component.as_deref().unwrap_or_default());
                    file.to_string_lossy().into_owned()
                }
            };
            self.load(&name, link).map_err(fault)?
        };
        match policy {
            Policy::Startup(component) => {
                Err(fault(format!("{} is a startup policy; only placement policies are chained", component.name())))
            }
            policy => Ok(policy),
        }
    }

    fn load(&self, name: &str, link: &Link) -> Result<Policy, String> {
        let known = self.loaded.borrow().get(name).cloned();
        if let Some(known) = known {
            return known.with_settings(self.limits, &link.settings).map_err(|error| error.to_string());
        }
        let engine = self.engine.ok_or("only the policy under test can be asked here")?;
        let bytes = Bytes::read(name).map_err(|error| error.to_string())?;
        let policy = bytes.load(engine, self.limits, &link.settings).map_err(|error| error.to_string())?;
        self.loaded.borrow_mut().insert(name.to_owned(), policy.clone());
        Ok(policy)
    }
}

/// A policy in its place of a chain.
pub(crate) struct Member {
    /// Different from those of the others.
    pub(crate) name: String,
    pub(crate) policy: Policy,
    pub(crate) preparation: Preparation,
}

impl Member {
    /// Policies in their order, each with a name of its own.
    pub(crate) fn named(policies: impl IntoIterator<Item = Policy>) -> Vec<Self> {
        let mut members: Vec<Self> = Vec::new();
        for policy in policies {
            let (own, preparation) = (policy.short_name().to_owned(), policy.preparation());
            let taken = |name: &String| members.iter().any(|member| member.name == *name);
            let numbered = (2..).map(|number| format!("{own} ({number})"));
            let name = std::iter::once(own.clone()).chain(numbered).find(|name| !taken(name)).unwrap_or_default();
            members.push(Self { name, policy, preparation });
        }
        members
    }
}

fn members(scenario: &Scenario, under_test: &Policy, others: &Library<'_>) -> Result<Vec<Member>, Fault> {
    let find =
        |(position, link): (usize, &Brief<Link>)| others.find(&format!("chain[{position}]"), &link.0, scenario, under_test);
    let policies = scenario.chain.iter().enumerate().map(find).collect::<Result<Vec<_>, _>>()?;
    Ok(Member::named(policies))
}

/// Asks the policies of the scenario's chain, as the operator does.
pub(crate) fn play(scenario: &Scenario, under_test: &Policy, others: &Library<'_>) -> Result<Report, Fault> {
    let members = members(scenario, under_test, others)?;
    let names: Vec<String> = members.iter().map(|member| member.name.clone()).collect();
    // Of a policy that is asked twice pods get what it gives once.
    let prepared = Effects::of_chain(members.iter().map(|member| member.preparation.effects.clone()));
    let mut scene = Scene::new(scenario, prepared)?;
    let leaders = scene.leaders();
    let questions = scene.questions(&leaders);
    let (mut asked, snapshot) = scene.asked(&questions, &Preparation::default(), &[]);
    scene.inform(&mut asked, &snapshot, &Preparation::default())?;
    let mut stage = Stage {
        scene,
        members: &members,
        snapshot,
        calls: Vec::new(),
        last: BTreeMap::new(),
        log: Vec::new(),
        failure: None,
        fault: None,
    };
    let settled = at_once(walk(&mut stage, &names, &asked));
    if let Some(fault) = stage.fault {
        return Err(fault);
    }
    let ids: Vec<u32> = asked.request.units.iter().map(|unit| unit.id).collect();
    Ok(stage.report(scenario, names.join(", "), &ids, &settled))
}

/// The outcome of a future that never waits: nothing here is asked elsewhere.
pub(crate) fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(outcome) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return outcome;
        }
    }
}

/// Who spoke last about a unit, and where it was asked.
struct LastWord {
    by: String,
    inside: Vec<String>,
    /// Nothing if it did not answer for the unit.
    answer: Option<Decided>,
}

/// The scenario's cluster while a chain decides over it.
struct Stage<'s> {
    scene: Scene<'s>,
    members: &'s [Member],
    /// Some view of the cluster: names and labels are the same in all.
    snapshot: Snapshot,
    calls: Vec<Call>,
    last: BTreeMap<u32, LastWord>,
    log: Vec<Line>,
    failure: Option<Failure>,
    fault: Option<Fault>,
}

impl Guide for Stage<'_> {
    fn asked<'q>(&mut self, questions: &'q [Question<'q>], inside: &[Label], policy: Option<&str>) -> (Asked<'q>, Snapshot) {
        let preparation = policy.and_then(|name| self.member(name)).map(|member| member.preparation.clone()).unwrap_or_default();
        let (mut asked, snapshot) = self.scene.asked(questions, &preparation, inside);
        let informed = self.scene.inform(&mut asked, &snapshot, &preparation);
        self.fault = self.fault.take().or(informed.err());
        (asked, snapshot)
    }

    async fn ask(&mut self, policy: &str, asked: &Asked<'_>, snapshot: &Snapshot) -> Said<Vec<Answer>> {
        let outcome = self.member(policy).and_then(|member| member.policy.place(snapshot, &asked.request));
        let Some(outcome) = outcome else { return Said::Native { observed: None } };
        let (report, answers) = report("", policy.to_owned(), outcome);
        let lines = report.log.into_iter().map(|line| Line { message: format!("{policy}: {}", line.message), ..line });
        self.log.extend(lines);
        self.note(policy, asked, snapshot, answers.as_deref().unwrap_or_default(), report.cost);
        match (answers, report.failure) {
            (Some(answers), _) => Said::Answers(answers),
            (None, failure) => {
                let failure = failure.map(|failure| Failure { message: format!("{policy}: {}", failure.message), ..failure });
                let message = failure.as_ref().map(|failure| failure.message.clone()).unwrap_or_default();
                self.failure = self.failure.take().or(failure);
                Said::Hold(Reason { code: "PolicyFailed".to_owned(), message })
            }
        }
    }

    fn settle(
        &mut self,
        asked: &Asked<'_>,
        snapshot: &Snapshot,
        answers: &[Answer],
        by: &str,
        _carried: &BTreeMap<u32, Carried>,
    ) -> Settled {
        if self.member(by).is_none() {
            self.note(by, asked, snapshot, answers, Cost::default());
        }
        for unit in &asked.request.units {
            let answer = answers.iter().find(|answer| answer.unit == unit.id);
            let answer = answer.map(|answer| said(snapshot, &self.scene.sites, answer));
            let inside = labels(&self.scene.sites, &asked.view.inside);
            self.last.insert(unit.id, LastWord { by: by.to_owned(), inside, answer });
        }
        placing::settle(&mut self.scene.index, &self.scene.set, asked, snapshot, answers, by)
    }
}

fn labels(sites: &Sites, inside: &[Label]) -> Vec<String> {
    inside.iter().map(|(key, value)| sites.named(key, value)).collect()
}

impl Stage<'_> {
    fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }

    fn note(&mut self, policy: &str, asked: &Asked<'_>, snapshot: &Snapshot, answers: &[Answer], cost: Cost) {
        let sites = &self.scene.sites;
        let decisions = answers.iter().map(|answer| said(snapshot, sites, answer)).collect();
        let inside = labels(sites, &asked.view.inside);
        self.calls.push(Call { policy: policy.to_owned(), inside, decisions, cost });
    }

    fn report(self, scenario: &Scenario, policy: String, ids: &[u32], settled: &Settled) -> Report {
        let is_unanswered = |id: &&u32| {
            let said_nothing = self.last.get(id).is_some_and(|last| last.answer.is_none());
            said_nothing && !settled.placed.contains_key(id) && !settled.rejected.contains_key(id)
        };
        let unanswered: BTreeSet<u32> = ids.iter().filter(is_unanswered).copied().collect();
        let decided = |id: &u32| self.decided(*id, settled).filter(|_| !unanswered.contains(id));
        let sum = |figure: fn(&Cost) -> f64| self.calls.iter().map(|call| figure(&call.cost)).sum();
        Report {
            scenario: scenario.name.clone(),
            policy,
            decisions: ids.iter().filter_map(decided).collect(),
            unanswered: unanswered.iter().copied().collect(),
            cost: Cost {
                micros: sum(|cost| cost.micros),
                instantiate_micros: sum(|cost| cost.instantiate_micros),
                peak_memory_bytes: self.calls.iter().map(|call| call.cost.peak_memory_bytes).max().unwrap_or(0),
                // The operator's own rule is no component and has none.
                instructions: self.calls.iter().filter_map(|call| call.cost.instructions).reduce(|sum, own| sum + own),
            },
            failure: self.failure.clone(),
            log: self.log.clone(),
            chain: self.calls.clone(),
        }
    }

    /// What came of a unit in the end.
    fn decided(&self, id: u32, settled: &Settled) -> Option<Decided> {
        let last = self.last.get(&id);
        let answer = last.and_then(|last| last.answer.clone()).unwrap_or_default();
        let by = last.map(|last| last.by.clone());
        let answer = Decided { id, by, inside: last.map(|last| last.inside.clone()).unwrap_or_default(), ..answer };
        if let Some(Placement::Place(record)) = settled.placed.get(&id) {
            return Some(self.placed(record, answer));
        }
        if let Some(rejection) = settled.rejected.get(&id) {
            let rejected = Refusal { code: rejection.code.as_str().to_owned(), message: rejection.message.clone() };
            return Some(Decided { rejected: Some(rejected), ..answer });
        }
        let (Reason { code, message }, again) = settled.held.get(&id)?;
        let decision = if again.is_some() { "hold" } else { "refuse" };
        let again_ms = again.map(|again| u32::try_from(again.as_millis()).unwrap_or(u32::MAX));
        Some(Decided { decision, places: Vec::new(), again_ms, code: code.clone(), message: message.clone(), ..answer })
    }

    /// The place that the operator writes on the group's leader, whatever words led to it.
    fn placed(&self, record: &Record, answer: Decided) -> Decided {
        let (sites, instructions) = (&self.scene.sites, &record.instructions);
        let named = |(key, value): (&String, &String)| sites.named(key, value);
        let domain = record.level.as_ref().zip(record.domain.as_ref()).map(named);
        let place = Landing {
            selector: &record.selector,
            subgroups: record.subgroups.clone(),
            leader: record.leader.clone(),
            instructions,
        };
        let (subgroups, leader) = place.seats(sites);
        let parts = instructions.parts.iter().map(|part| format!("{} @ {}", part.pods, sites.named(&part.key, &part.value)));
        let preferred = instructions.preferred.iter().map(|(key, value)| sites.named(key, value));
        let (decision, places) = match () {
            () if !instructions.pins.is_empty() => ("pinned", instructions.pins.clone()),
            () if !instructions.parts.is_empty() => ("parts", parts.collect()),
            () if domain.is_some() => ("within", domain.iter().cloned().collect()),
            () if !subgroups.is_empty() => ("apart", Vec::new()),
            () if !instructions.preferred.is_empty() => ("preferred", preferred.collect()),
            () => ("unconstrained", Vec::new()),
        };
        let taken = domain.filter(|_| decision == "within");
        let Reason { code, message } = record.reason.clone();
        let nodes = place.nodes(&self.snapshot);
        Decided { decision, places, taken, nodes, subgroups, leader, code, message, again_ms: None, rejected: None, ..answer }
    }
}
