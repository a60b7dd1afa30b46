//! A set's placement policies are asked, and what they answer is checked and committed: the operator as the
//! [`Guide`] of the chain in [`muster_core::placing::chain`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use muster_api::LeaderWorkerSet;
use muster_api::conditions::event;
use muster_api::policy::OnFailure;
use muster_core::admission::Choice;
use muster_core::ask::Question;
use muster_core::cluster::Snapshot;
use muster_core::placement::{Answer, Reason, native};
use muster_core::placing::chain::{Carried, Guide, Label, Said, complete, walk};
use muster_core::placing::turns::{self, Claim, Rank};
use muster_core::placing::{self, Asked, PeerSet, Settled};
use muster_core::plan::Note;
use muster_policy_host::Preparation;

use super::advise::{Advised, observed_note, unless_panicked};
use crate::caches::SetRef;
use crate::context::Context;
use crate::policies::{Trouble, ask as ask_policy};

/// What consulting needs to know.
pub(super) struct Consulting<'a> {
    pub(super) cx: &'a Context,
    pub(super) set: &'a LeaderWorkerSet,
    pub(super) choice: &'a Choice,
    pub(super) avoid: &'a BTreeSet<String>,
    pub(super) now: Timestamp,
}

/// The operator on the way along a set's chain.
struct Operator<'a> {
    consulting: &'a Consulting<'a>,
    questions: &'a [Question<'a>],
    advised: &'a mut Advised,
}

impl Guide for Operator<'_> {
    fn asked<'q>(&mut self, questions: &'q [Question<'q>], inside: &[Label], policy: Option<&str>) -> (Asked<'q>, Snapshot) {
        self.consulting.asked(questions, inside, policy)
    }

    async fn ask(&mut self, policy: &str, asked: &Asked<'_>, snapshot: &Snapshot) -> Said<Vec<Answer>> {
        let (said, trouble) = self.consulting.ask(policy, asked, snapshot).await;
        if let Some(trouble) = &trouble {
            self.advised.troubled(trouble);
        }
        said
    }

    fn observed(&mut self, policy: &str, snapshot: &Snapshot, answers: &[Answer]) {
        self.advised.notes.extend(answers.iter().map(|answer| {
            let leader = self.questions.iter().find(|question| question.group == answer.unit).map(|question| question.leader);
            observed_note(format!("{policy} would have {}", placing::in_words(snapshot, answer)), leader)
        }));
    }

    fn settle(
        &mut self,
        asked: &Asked<'_>,
        snapshot: &Snapshot,
        answers: &[Answer],
        by: &str,
        carried: &BTreeMap<u32, Carried>,
    ) -> Settled {
        self.consulting.settle(asked, snapshot, answers, by, carried, self.advised)
    }
}

impl Consulting<'_> {
    /// Asks the set's policies in their order, or the native rule, and commits what passes the check.
    pub(super) async fn consult(&self, asked: &Asked<'_>, advised: &mut Advised) -> Settled {
        let mut operator = Operator { consulting: self, questions: asked.questions, advised };
        walk(&mut operator, &self.choice.placement, asked).await
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

    /// The question about these groups in the terms of one policy.
    fn asked<'q>(&self, questions: &'q [Question<'q>], inside: &[Label], policy: Option<&str>) -> (Asked<'q>, Snapshot) {
        let preparation = policy.map(|policy| self.preparation(policy)).unwrap_or_default();
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

    /// Checks and commits answers. A unit whose answer is refused falls to what the policy's object declares.
    fn settle(
        &self,
        asked: &Asked<'_>,
        snapshot: &Snapshot,
        answers: &[Answer],
        by: &str,
        carried: &BTreeMap<u32, Carried>,
        advised: &mut Advised,
    ) -> Settled {
        let mut settled = self.settle_in_turn(asked, snapshot, answers, by);
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

    /// The native rule for one unit, on what is left now. True if the unit has a place, or lets another set go first.
    fn place_natively(&self, asked: &Asked<'_>, group: u32, carried: &BTreeMap<u32, Carried>, settled: &mut Settled) -> bool {
        let mut request = asked.request.clone();
        request.units.retain(|unit| unit.id == group);
        let alone = Asked { questions: asked.questions, view: asked.view.clone(), request };
        let snapshot = self.cx.caches.update_index(|index| index.snapshot(alone.view.clone()));
        let answers = complete(native::place(&snapshot, &alone.request), &snapshot, carried);
        let mut own = self.settle_in_turn(&alone, &snapshot, &answers, placing::NATIVE);
        own.held.retain(|_, (reason, _)| reason.code == turns::AFTER_OTHERS);
        let answered = own.placed.contains_key(&group) || own.held.contains_key(&group);
        settled.placed.append(&mut own.placed);
        settled.held.append(&mut own.held);
        answered
    }
}
