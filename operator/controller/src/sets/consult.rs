//! A set's placement policies are asked one after the other, and what they answer is checked and committed.
//!
//! ```text
//!  policy 1 ─► final answers ─► settle (check, commit)
//!           └► open answers, by what they leave ─► policy 2, inside the best of it; then inside the second best … ─► native rule
//! ```
//! What an answer leaves open is decided in [`muster_core::placing::chain`].

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use muster_api::LeaderWorkerSet;
use muster_api::conditions::event;
use muster_api::policy::OnFailure;
use muster_core::admission::Choice;
use muster_core::advice::Placement;
use muster_core::ask::Question;
use muster_core::cluster::Snapshot;
use muster_core::placement::{Answer, Reason, native};
use muster_core::placing::chain::{Carried, Label, Narrowed, narrow};
use muster_core::placing::turns::{self, Claim, Rank};
use muster_core::placing::{self, Asked, PeerSet, Settled};
use muster_core::plan::Note;
use muster_policy_host::Preparation;

use super::advise::{Advised, unless_panicked};
use crate::caches::SetRef;
use crate::context::Context;
use crate::policies::{Said, Trouble, ask as ask_policy};

/// Domains of one answer that the next policy is asked about.
const MAX_ALTERNATIVES: usize = 8;

/// What consulting needs to know.
pub(super) struct Consulting<'a> {
    pub(super) cx: &'a Context,
    pub(super) set: &'a LeaderWorkerSet,
    pub(super) choice: &'a Choice,
    pub(super) avoid: &'a BTreeSet<String>,
    pub(super) now: Timestamp,
}

/// Groups on their way along the chain.
struct Stage<'q> {
    questions: Vec<Question<'q>>,
    /// What the decisions before have narrowed the nodes to.
    inside: Vec<Label>,
    carried: BTreeMap<u32, Carried>,
}

type Later<'a> = Pin<Box<dyn Future<Output = Settled> + Send + 'a>>;

impl Consulting<'_> {
    /// Asks the set's policies in their order, or the native rule, and commits what passes the check.
    pub(super) async fn consult(&self, asked: &Asked<'_>, advised: &mut Advised) -> Settled {
        if let Some(reason) = placing::contradiction(asked) {
            return barred(asked, &reason);
        }
        let stage = Stage { questions: asked.questions.to_vec(), inside: Vec::new(), carried: BTreeMap::new() };
        self.stage(&self.choice.placement, stage, advised).await
    }

    /// Node label keys that any policy of the chain reads.
    pub(super) fn levels(&self) -> Vec<String> {
        let mut levels = Vec::new();
        for level in self.choice.placement.iter().flat_map(|policy| self.preparation(policy).levels) {
            if !levels.contains(&level) {
                levels.push(level);
            }
        }
        levels
    }

    fn preparation(&self, policy: &str) -> Preparation {
        let entry = self.cx.policies.placement.get(policy);
        entry.and_then(|entry| Some(entry.component.as_ref()?.preparation().clone())).unwrap_or_default()
    }

    fn stage<'a>(&'a self, policies: &'a [String], stage: Stage<'a>, advised: &'a mut Advised) -> Later<'a> {
        Box::pin(async move {
            let Stage { questions, inside, carried } = &stage;
            let preparation = policies.first().map(|policy| self.preparation(policy)).unwrap_or_default();
            let (asked, snapshot) = self.asked(questions, inside, &preparation);
            let Some((policy, rest)) = policies.split_first() else {
                let answers = native::place(&snapshot, &asked.request);
                return self.settle(&asked, &snapshot, answers, placing::NATIVE, carried, advised);
            };
            let (said, trouble) = self.ask(policy, &asked, &snapshot).await;
            if let Some(trouble) = &trouble {
                advised.troubled(trouble);
            }
            match said {
                Said::Answers(answers) => {
                    let (finals, open) = divide(&asked, &snapshot, answers, rest.is_empty());
                    let mut settled = self.settle_finals(&asked, &snapshot, finals, &open, policy, carried, advised);
                    for (alternatives, answers) in open {
                        let next = stage.next(&snapshot, &answers);
                        let later = self.inside_one_of(rest, alternatives, next, advised).await;
                        merge(&mut settled, later);
                    }
                    settled
                }
                Said::Native { observed } => {
                    if let Some(answers) = observed {
                        advised.notes.extend(answers.iter().map(|answer| observed_note(policy, &snapshot, answer)));
                    }
                    drop(asked);
                    self.stage(rest, stage, advised).await
                }
                Said::Hold(reason) => barred(&asked, &reason),
            }
        })
    }

    /// The question about these groups in the terms of one policy.
    fn asked<'q>(&self, questions: &'q [Question<'q>], inside: &[Label], preparation: &Preparation) -> (Asked<'q>, Snapshot) {
        let scope = self.cx.config.placement.scope();
        let mut asked = placing::asked(self.set, self.choice, questions, &preparation.levels, scope, self.avoid.clone());
        asked.view.inside = inside.to_vec();
        let (snapshot, failed) =
            self.cx.caches.update_index(|index| (index.snapshot(asked.view.clone()), index.bad_nodes(self.now)));
        asked.inform(self.set, &snapshot, &self.peers(preparation.peers.as_deref()), &failed);
        (asked, snapshot)
    }

    /// The other sets of the namespace that have the same value of this label.
    fn peers(&self, key: Option<&str>) -> Vec<PeerSet> {
        let value_in = |set: &LeaderWorkerSet| set.metadata.labels.as_ref()?.get(key?).cloned();
        let Some(value) = value_in(self.set) else { return Vec::new() };
        let (namespace, name) = (self.set.set_namespace(), self.set.set_name());
        let mut sets = self.cx.caches.sets.state();
        sets.retain(|set| set.set_namespace() == namespace && set.set_name() != name && value_in(set).as_ref() == Some(&value));
        let peer = |set: &LeaderWorkerSet| PeerSet {
            namespace: namespace.to_owned(),
            name: set.set_name().to_owned(),
            labels: set.metadata.labels.clone().unwrap_or_default(),
        };
        let mut peers: Vec<PeerSet> = sets.iter().map(|set| peer(set)).collect();
        peers.sort_by(|one, other| one.name.cmp(&other.name));
        peers
    }

    async fn ask(&self, policy: &str, asked: &Asked<'_>, snapshot: &Snapshot) -> (Said<Vec<Answer>>, Option<Trouble>) {
        let (cx, policy) = (self.cx.clone(), policy.to_owned());
        let labels = self.cx.caches.namespace_labels(self.set.set_namespace());
        let (request, snapshot) = (asked.request.clone(), snapshot.clone());
        let call = move || {
            let memo = &cx.policies.memo;
            ask_policy(&cx.policies.placement, &policy, &labels, &cx.metrics, |component| {
                memo.recall(&policy, component, &snapshot, &request)
            })
        };
        unless_panicked(tokio::task::spawn_blocking(call).await)
    }

    /// The next policies, inside the first of these domains in which they find a place for a group; anywhere if there are none.
    async fn inside_one_of(
        &self,
        policies: &[String],
        alternatives: Vec<Label>,
        mut stage: Stage<'_>,
        advised: &mut Advised,
    ) -> Settled {
        let mut settled = Settled::default();
        let inside = stage.inside.clone();
        let alternatives: Vec<Option<Label>> = match alternatives.len() {
            0 => vec![None],
            _ => alternatives.into_iter().take(MAX_ALTERNATIVES).map(Some).collect(),
        };
        for alternative in alternatives {
            let inside = inside.iter().cloned().chain(alternative).collect();
            let part = Stage { questions: stage.questions.clone(), inside, carried: stage.carried.clone() };
            let mut later = self.stage(policies, part, advised).await;
            settled.placed.append(&mut later.placed);
            stage.questions.retain(|question| !settled.placed.contains_key(&question.group));
            // Only what the last alternative says about those without a place is worth telling.
            settled = Settled { placed: settled.placed, ..later };
            if stage.questions.is_empty() {
                break;
            }
        }
        settled
    }

    #[expect(clippy::too_many_arguments, reason = "one step of one function, with a name")]
    fn settle_finals(
        &self,
        asked: &Asked<'_>,
        snapshot: &Snapshot,
        finals: Vec<Answer>,
        open: &BTreeMap<Vec<Label>, Vec<Answer>>,
        by: &str,
        carried: &BTreeMap<u32, Carried>,
        advised: &mut Advised,
    ) -> Settled {
        let mut request = asked.request.clone();
        request.units.retain(|unit| !open.values().flatten().any(|answer| answer.unit == unit.id));
        let rest = Asked { questions: asked.questions, view: asked.view.clone(), request };
        self.settle(&rest, snapshot, finals, by, carried, advised)
    }

    /// Checks and commits answers. A unit whose answer is refused falls to what the policy's object declares.
    fn settle(
        &self,
        asked: &Asked<'_>,
        snapshot: &Snapshot,
        answers: Vec<Answer>,
        by: &str,
        carried: &BTreeMap<u32, Carried>,
        advised: &mut Advised,
    ) -> Settled {
        let answers = complete(answers, snapshot, carried);
        let mut settled = self.settle_in_turn(asked, snapshot, &answers, by);
        settled.placed.keys().for_each(|_| self.cx.metrics.decision(by, "placed"));
        if by != placing::NATIVE {
            let first = settled.rejected.iter().next();
            let owner = &asked.request.owner;
            let refusal =
                first.map(|(group, rejection)| format!("its answer for group {group} of {owner} was refused: {rejection}"));
            self.cx.policies.placement.checked(by, refusal);
        }
        for (group, rejection) in std::mem::take(&mut settled.rejected) {
            self.cx.metrics.rejected(by, rejection.code.as_str());
            let message = format!("the answer of {by} for group {group} was refused: {rejection}");
            let reason = Reason { code: "PolicyAnswerRejected".to_owned(), message };
            if by != placing::NATIVE {
                advised.notes.push(Note::warning(event::POLICY_FAILED, "Ask", format!("{}: {}", reason.code, reason.message)));
                if !self.falls_back_to_native(by) {
                    settled.barred.insert(group, (reason, Some(Duration::from_secs(1))));
                    continue;
                }
                if self.place_natively(asked, group, carried, &mut settled) {
                    continue;
                }
            }
            // The room may have gone to another set in this very moment: the next look is a new question.
            settled.held.insert(group, (reason, Some(Duration::from_secs(1))));
        }
        for (group, placement) in &mut settled.placed {
            if let (Placement::Place(record), Some(carried)) = (placement, carried.get(group)) {
                carried.prefer(record);
            }
        }
        settled
    }

    /// Settles, or lets a set go first that waits for the same room and ranks before this one.
    fn settle_in_turn(&self, asked: &Asked<'_>, snapshot: &Snapshot, answers: &[Answer], by: &str) -> Settled {
        let (own, rank) = (SetRef::from_obj(self.set), Rank::of(self.set, &asked.request));
        let (settled, first) = self.cx.caches.update_index(|index| {
            let ahead = self.cx.waiting.ahead_of(&own, &rank, index.freed(), self.now);
            let claims: Vec<&Claim> = ahead.iter().map(|(_, claim)| claim.as_ref()).collect();
            let (settled, first) = turns::settle_in_turn(index, self.set, asked, snapshot, answers, by, &claims);
            (settled, first.map(|position| ahead[position].0.clone()))
        });
        if let Some(first) = first {
            tracing::debug!(set = %own, %first, "lets another set go first");
            self.cx.waiting.gave_way(&own, self.now);
            self.cx.caches.make_due(first);
        }
        settled
    }

    fn falls_back_to_native(&self, policy: &str) -> bool {
        let entry = self.cx.policies.placement.get(policy);
        entry.is_some_and(|entry| entry.spec.on_failure() == OnFailure::Default)
    }

    /// The native rule for one unit, on what is left now.
    fn place_natively(&self, asked: &Asked<'_>, group: u32, carried: &BTreeMap<u32, Carried>, settled: &mut Settled) -> bool {
        let mut request = asked.request.clone();
        request.units.retain(|unit| unit.id == group);
        let alone = Asked { questions: asked.questions, view: asked.view.clone(), request };
        let mut own = self.cx.caches.update_index(|index| {
            let snapshot = index.snapshot(alone.view.clone());
            let answers = complete(native::place(&snapshot, &alone.request), &snapshot, carried);
            placing::settle(index, self.set, &alone, &snapshot, &answers, placing::NATIVE)
        });
        let placed = own.placed.contains_key(&group);
        settled.placed.append(&mut own.placed);
        placed
    }
}

impl<'q> Stage<'q> {
    /// The groups of these answers, for the next policy.
    fn next(&self, snapshot: &Snapshot, answers: &[Answer]) -> Stage<'q> {
        let is_asked = |question: &&Question<'_>| answers.iter().any(|answer| answer.unit == question.group);
        let carry = |answer: &Answer| {
            let before = self.carried.get(&answer.unit).cloned().unwrap_or_default();
            (answer.unit, before.and(snapshot, answer))
        };
        Stage {
            questions: self.questions.iter().filter(is_asked).cloned().collect(),
            inside: self.inside.clone(),
            carried: answers.iter().map(carry).collect(),
        }
    }
}

/// Answers that are the last word, and the others by what they leave open. Of several answers for a unit the first counts; what
/// can't be carried out is a last word, so that the check refuses it.
fn divide(
    asked: &Asked<'_>,
    snapshot: &Snapshot,
    answers: Vec<Answer>,
    last: bool,
) -> (Vec<Answer>, BTreeMap<Vec<Label>, Vec<Answer>>) {
    let (mut finals, mut open) = (Vec::new(), BTreeMap::<_, Vec<Answer>>::new());
    let mut seen = BTreeSet::new();
    for answer in answers {
        let is_asked = asked.request.units.iter().any(|unit| unit.id == answer.unit);
        let first = seen.insert(answer.unit);
        match narrow(asked, snapshot, &answer, last) {
            Ok(Narrowed::Open(_)) if is_asked && !first => {}
            Ok(Narrowed::Open(alternatives)) if is_asked => open.entry(alternatives).or_default().push(answer),
            _ => finals.push(answer),
        }
    }
    finals.retain(|answer| !open.values().flatten().any(|other: &Answer| other.unit == answer.unit));
    (finals, open)
}

fn complete(answers: Vec<Answer>, snapshot: &Snapshot, carried: &BTreeMap<u32, Carried>) -> Vec<Answer> {
    let complete = |answer: Answer| match carried.get(&answer.unit) {
        Some(carried) => carried.complete(snapshot, answer),
        None => answer,
    };
    answers.into_iter().map(complete).collect()
}

fn merge(settled: &mut Settled, mut later: Settled) {
    settled.placed.append(&mut later.placed);
    settled.held.append(&mut later.held);
    settled.rejected.append(&mut later.rejected);
    settled.barred.append(&mut later.barred);
}

/// Nobody decides about these groups, and nobody else gets them.
fn barred(asked: &Asked<'_>, reason: &Reason) -> Settled {
    let barred = asked.request.units.iter().map(|unit| (unit.id, (reason.clone(), None))).collect();
    Settled { barred, ..Settled::default() }
}

fn observed_note(policy: &str, snapshot: &Snapshot, answer: &Answer) -> Note {
    let text = format!("{policy} would have {}", placing::in_words(snapshot, answer));
    Note::normal(event::POLICY_OBSERVED, "Ask", text)
}
