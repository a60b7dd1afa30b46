//! The second and a half step: policies and the native rule are asked, and their answers become [`Advice`].
//!
//! Everything that decides is in `muster_core` ([`ask`], [`placing`]); here the questions meet the index, the components and
//! what this process remembers.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use muster_api::LeaderWorkerSet;
use muster_api::conditions::event;
use muster_api::names::{Unplaceable, annotation};
use muster_core::admission::Choice;
use muster_core::advice::{Admitted, Advice, Placement};
use muster_core::ask::{self, Concern, Question};
use muster_core::observed::Observed;
use muster_core::placement::Reason;
use muster_core::placing::chain::Said;
use muster_core::placing::turns::Claim;
use muster_core::placing::{self, Rule, Settled};
use muster_core::plan::Note;
use muster_core::{pods, startup};

use super::consult::Consulting;
use crate::caches::SetRef;
use crate::context::Context;
use crate::policies::{Trouble, ask as ask_policy};

/// Advice, and what its making should tell the set's owner.
#[derive(Debug, Default)]
pub(super) struct Advised {
    pub(super) advice: Advice,
    pub(super) notes: Vec<Note>,
}

impl Advised {
    fn recheck_within(&mut self, after: Duration) {
        let sooner = self.advice.recheck.map_or(after, |recheck| recheck.min(after));
        self.advice.recheck = Some(sooner);
    }

    pub(super) fn troubled(&mut self, trouble: &Trouble) {
        if trouble.serious {
            let text = format!("{}: {}", trouble.reason.code, trouble.reason.message);
            self.notes.push(Note::warning(event::POLICY_FAILED, "Ask", text));
        }
        if let Some(retry) = trouble.retry {
            self.recheck_within(retry);
        }
    }
}

/// One set's advice in the making.
struct Advising<'a> {
    cx: &'a Context,
    set: &'a LeaderWorkerSet,
    observed: &'a Observed,
    choice: &'a Choice,
    now: Timestamp,
}

/// Asks everything that has to be asked about a set.
pub(super) async fn advise(cx: &Context, set: &LeaderWorkerSet, observed: &Observed, choice: &Choice, now: Timestamp) -> Advised {
    let advising = Advising { cx, set, observed, choice, now };
    let mut advised = Advised::default();
    advising.placements(&mut advised).await;
    advising.workers(&mut advised).await;
    advised
}

/// Enters what the set's groups hold into the ledger: every reconcile, and once for all sets before the first decision.
pub(super) fn enter_holdings(cx: &Context, set: &LeaderWorkerSet, observed: &Observed, choice: &Choice) {
    cx.caches.update_index(|index| {
        let holdings = ask::holdings(set, observed, choice, |node, key| index.node_label(node, key));
        index.replace_holdings_of_set(set.set_namespace(), set.set_name(), holdings);
    });
}

/// Enters what the set's gated groups need, before anybody is asked, so that a restarted operator keeps the order of the queue.
pub(super) fn enter_claims(cx: &Context, set: &LeaderWorkerSet, observed: &Observed, choice: &Choice) {
    let mut questions = ask::placement(set, observed, choice, cx.config.placement.stuck_grace(), cx.now());
    questions.retain(|question| question.concern == Concern::Waiting);
    let leaders = questions.iter().map(|question| pods::uid(question.leader).to_owned()).collect();
    let asked = placing::asked(set, choice, &questions, &[], cx.config.placement.scope(), BTreeSet::new());
    cx.waiting.update(&SetRef::from_obj(set), &leaders, vec![Claim::new(set, &asked, None)], cx.now());
}

impl Advising<'_> {
    async fn placements(&self, advised: &mut Advised) {
        enter_holdings(self.cx, self.set, self.observed, self.choice);
        let stuck_grace = self.cx.config.placement.stuck_grace();
        let questions = ask::placement(self.set, self.observed, self.choice, stuck_grace, self.now);
        let (waiting, settled): (Vec<_>, Vec<_>) =
            questions.into_iter().partition(|question| question.concern == Concern::Waiting);
        for question in &settled {
            let (placement, again) = self.follow_up(question);
            if let Some(again) = again {
                advised.recheck_within(again);
            }
            advised.advice.placements.insert(question.group, placement);
        }
        // Time alone makes a pod stuck: no event would bring the set back.
        if let Some(wait) = ask::next_stuck(self.set, self.observed, self.choice, stuck_grace, self.now) {
            advised.recheck_within(wait);
        }
        let mut claims = Vec::new();
        let unplaced = self.place(&waiting, advised, &mut claims).await;
        let key = SetRef::from_obj(self.set);
        let longing = settled.iter().filter(|question| {
            let placement = advised.advice.placements.get(&question.group);
            matches!(placement, Some(Placement::Hold(_)))
        });
        let unplaced = unplaced.into_iter().chain(longing.map(|question| pods::uid(question.leader).to_owned())).collect();
        self.cx.waiting.update(&key, &unplaced, claims, self.now);
    }

    /// Places the groups that wait. Returns the leaders (by UID) whose groups go on waiting.
    async fn place(&self, waiting: &[Question<'_>], advised: &mut Advised, claims: &mut Vec<Claim>) -> HashSet<String> {
        let mut unplaced = HashSet::new();
        if waiting.is_empty() {
            return unplaced;
        }
        if !self.choice.gated {
            // The set gave up placement while its leaders were gated: the scheduler takes over.
            for question in waiting {
                advised.advice.placements.insert(question.group, Placement::Place(placing::left_to_scheduler("NotPlaced")));
            }
            return unplaced;
        }
        let (fresh, moved): (Vec<_>, Vec<_>) = waiting.iter().cloned().partition(|question| self.avoided(question).is_empty());
        let batches = std::iter::once(fresh).chain(moved.into_iter().map(|question| vec![question]));
        for batch in batches.filter(|batch| !batch.is_empty()) {
            let avoid = self.avoided(&batch[0]);
            claims.extend(self.place_batch(&batch, avoid, advised, &mut unplaced).await);
        }
        unplaced
    }

    /// Places groups that keep away from the same nodes. Returns what those need that go on waiting.
    async fn place_batch(
        &self,
        batch: &[Question<'_>],
        avoid: BTreeSet<String>,
        advised: &mut Advised,
        unplaced: &mut HashSet<String>,
    ) -> Option<Claim> {
        let Self { cx, set, choice, now, .. } = *self;
        let consulting = Consulting { cx, set, choice, avoid: &avoid, now };
        let mut asked = placing::asked(set, choice, batch, &consulting.levels(), cx.config.placement.scope(), avoid.clone());
        let snapshot = cx.caches.update_index(|index| index.snapshot(asked.view.clone()));
        let mut settled = consulting.consult(&asked, advised).await;
        advised.advice.placements.append(&mut settled.placed);
        let since = self.waiting_since(batch, &settled, unplaced);
        for (group, (reason, again)) in std::mem::take(&mut settled.barred) {
            if let Some(again) = again {
                advised.recheck_within(again);
            }
            self.cx.metrics.decision(self.decider(), "held");
            advised.advice.placements.insert(group, Placement::Hold(reason));
        }
        for (group, (reason, again)) in &settled.held {
            if let Some(again) = again {
                advised.recheck_within(*again);
            }
            let Some(question) = batch.iter().find(|question| question.group == *group) else { continue };
            let began = since.get(pods::uid(question.leader)).copied().unwrap_or(self.now);
            let waited = Duration::from_millis(pods::millis_between(began, self.now));
            let (placement, look_again) = placing::unplaceable(&asked, &snapshot, *group, reason, waited, self.rule());
            if let Some(look_again) = look_again {
                advised.recheck_within(look_again);
            }
            let word = if matches!(placement, Placement::Release { .. }) { "released" } else { "held" };
            self.cx.metrics.decision(self.decider(), word);
            advised.advice.placements.insert(*group, placement);
        }
        asked.request.units.retain(|unit| settled.held.contains_key(&unit.id));
        (!settled.held.is_empty()).then(|| Claim::new(set, &asked, Some(snapshot.generation())))
    }

    /// Records which groups wait, and reads since when.
    fn waiting_since(
        &self,
        batch: &[Question<'_>],
        settled: &Settled,
        unplaced: &mut HashSet<String>,
    ) -> HashMap<String, Timestamp> {
        let waits = |group: &u32| settled.held.contains_key(group) || settled.barred.contains_key(group);
        let held = batch.iter().filter(|question| waits(&question.group));
        unplaced.extend(held.map(|question| pods::uid(question.leader).to_owned()));
        self.cx.waiting.note(&SetRef::from_obj(self.set), unplaced, self.now)
    }

    fn decider(&self) -> &str {
        self.choice.placement.first().map_or(placing::NATIVE, String::as_str)
    }

    fn rule(&self) -> Rule {
        let wanted = self.set.annotation(annotation::UNPLACEABLE).and_then(Unplaceable::parse);
        let config = &self.cx.config.placement;
        Rule { unplaceable: wanted.unwrap_or_else(|| config.unplaceable()), grace: config.unplaceable_grace() }
    }

    /// What becomes of a group that is no longer gated, and when to look at it again.
    fn follow_up(&self, question: &Question<'_>) -> (Placement, Option<Duration>) {
        let group = ask::group_id(self.set, question.leader);
        let questions = std::slice::from_ref(question);
        let scope = self.cx.config.placement.scope();
        let levels = placing::recorded_domain(question).map(|(level, _)| level);
        let asked_without =
            |avoid: BTreeSet<String>| placing::asked(self.set, self.choice, questions, levels.as_slice(), scope, avoid);
        let placement = match &question.concern {
            Concern::Waiting => return (Placement::Hold(Reason { code: "Waiting".to_owned(), message: String::new() }), None),
            Concern::Bound { node, released } if self.choice.subgroup_exclusive.is_some() => {
                let asked = asked_without(BTreeSet::new());
                match self.cx.caches.update_index(|index| placing::settle_bound(index, self.set, &asked, node)) {
                    Ok(record) => Placement::Settle(record),
                    Err(reason) if *released => Placement::Again(reason),
                    Err(reason) => Placement::Hold(reason),
                }
            }
            Concern::Bound { node, released } => self.cx.caches.update_index(|index| {
                let key = self.choice.exclusive.as_deref().unwrap_or_default();
                let domain = index.node_label(node, key).map(str::to_owned);
                match (released, domain) {
                    (false, Some(domain)) => Placement::Follow([(key.to_owned(), domain)].into()),
                    (false, None) => placing::without_label(node, key),
                    (true, domain) => {
                        placing::settle_released(index, self.set, &asked_without(BTreeSet::new()), node, domain.as_deref())
                    }
                }
            }),
            Concern::Released => self.cx.caches.update_index(|index| {
                let asked = asked_without(BTreeSet::new());
                let snapshot = index.snapshot(asked.view.clone());
                placing::elsewhere(&asked, &snapshot, "its leader was left to the scheduler, which finds no node")
            }),
            Concern::Stuck { message, .. } => self.cx.caches.update_index(|index| {
                let domain = placing::stuck_domain(question);
                let avoid = domain.map(|(level, domain)| placing::nodes_of(index, &level, &domain)).unwrap_or_default();
                let asked = asked_without(avoid);
                let snapshot = index.snapshot(asked.view.clone());
                placing::elsewhere(&asked, &snapshot, &format!("a pod can't be scheduled where its group was put ({message})"))
            }),
        };
        match placement {
            Placement::Again(reason) => match self.cx.moves.permit(&group, placing::stuck_domain(question), self.now) {
                Ok(()) => (Placement::Again(reason), None),
                Err(wait) => {
                    let message = format!("{}; it is placed again in {} s at the earliest", reason.message, wait.as_secs() + 1);
                    (Placement::Hold(Reason { message, ..reason }), Some(wait))
                }
            },
            other => (other, None),
        }
    }

    /// Nodes where the group was tried in vain not long ago.
    fn avoided(&self, question: &Question<'_>) -> BTreeSet<String> {
        let group = ask::group_id(self.set, question.leader);
        let domains = self.cx.moves.avoided(&group, self.now);
        domains
            .into_iter()
            .flat_map(|(level, domain)| self.cx.caches.update_index(|index| placing::nodes_of(index, &level, &domain)))
            .collect()
    }

    /// Asks who may start.
    async fn workers(&self, advised: &mut Advised) {
        let request = ask::startup(self.set, self.observed, self.now);
        if request.groups.is_empty() {
            return;
        }
        let natively = || startup::native(self.set.startup_policy(), &request);
        let steps = match &self.choice.startup {
            None => natively(),
            Some(policy) => {
                let (said, trouble) = self.ask_startup(policy, &request).await;
                if let Some(trouble) = &trouble {
                    advised.troubled(trouble);
                }
                match said {
                    Said::Answers(steps) => steps,
                    Said::Native { observed } => {
                        let native = natively();
                        let observed = observed.iter().flatten();
                        let groups = self.observed.groups(self.set);
                        let leader = |step: &startup::Step| groups.get(&step.group)?.leader;
                        advised.notes.extend(observed.filter_map(|step| observed_step(policy, step, &native, leader(step))));
                        native
                    }
                    Said::Hold(_) => Vec::new(),
                }
            }
        };
        for step in steps {
            let Some(group) = request.groups.iter().find(|group| group.index == step.group) else { continue };
            if let Some(recheck) = step.recheck_ms {
                advised.recheck_within(Duration::from_millis(u64::from(recheck)).max(Duration::from_millis(100)));
            }
            let admitted = ask::admitted(&step, group.size).unwrap_or_else(|reason| {
                advised.notes.push(Note::warning(event::POLICY_FAILED, "Ask", format!("{}: {}", reason.code, reason.message)));
                Admitted { workers: 0, reason: Some(reason) }
            });
            advised.advice.workers.insert(step.group, admitted);
        }
    }

    async fn ask_startup(&self, policy: &str, request: &startup::Request) -> (Said<Vec<startup::Step>>, Option<Trouble>) {
        let (cx, policy) = (self.cx.clone(), policy.to_owned());
        let labels = self.cx.caches.namespace_labels(self.set.set_namespace());
        let request = Arc::new(request.clone());
        let call = move || ask_policy(&cx.policies.startup, &policy, &labels, &cx.metrics, |component| component.next(&request));
        unless_panicked(tokio::task::spawn_blocking(call).await)
    }
}

/// What a policy that is only observed would have admitted, where that is something else.
fn observed_step(policy: &str, step: &startup::Step, native: &[startup::Step], leader: Option<&Pod>) -> Option<Note> {
    let as_is = native.iter().find(|native| native.group == step.group).filter(|native| native.admit != step.admit)?;
    let (group, admit, reason) = (step.group, step.admit, &step.reason.message);
    let text = format!("{policy} would have admitted {admit} pods of group {group} instead of {}: {reason}", as_is.admit);
    Some(observed_note(text, leader))
}

/// What a policy that is only observed would have done for the group of this leader. Each group has an event of its own: those about
/// the same object that differ in words alone are counted as one.
pub(super) fn observed_note(text: String, leader: Option<&Pod>) -> Note {
    let note = Note::normal(event::POLICY_OBSERVED, "Ask", text);
    match leader {
        Some(leader) => note.about(leader),
        None => note,
    }
}

/// A panic in the host is a bug of ours; the set gets the native rule and the log gets the panic.
pub(super) fn unless_panicked<A>(
    asked: Result<(Said<A>, Option<Trouble>), tokio::task::JoinError>,
) -> (Said<A>, Option<Trouble>) {
    asked.unwrap_or_else(|error| {
        tracing::error!(%error, "asking a policy stopped");
        (Said::Native { observed: None }, None)
    })
}
