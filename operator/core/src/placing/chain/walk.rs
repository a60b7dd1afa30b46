//! The way of a set's groups along its chain of policies.
//!
//! ```text
//!  policy 1 ─► final answers ─► settle (check, commit)
//!           └► open answers, by what they leave ─► policy 2, inside the best of it; then inside the second best … ─► native rule
//! ```
//! Who asks and keeps the ledger is a [`Guide`]: the operator, or the author's kit for a scenario.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;

use super::{Asked, Carried, Label, Narrowed, narrow};
use crate::advice::Placement;
use crate::ask::Question;
use crate::cluster::Snapshot;
use crate::placement::{Answer, Reason, native};
use crate::placing::{NATIVE, Settled, contradiction};

/// Domains of one answer that the next policy is asked about.
const MAX_ALTERNATIVES: usize = 8;

/// What came of asking a policy.
#[derive(Debug)]
pub enum Said<A> {
    /// Follow these answers.
    Answers(A),
    /// Take the native rule. `observed` is what the policy would have done (`mode: Observe`).
    Native {
        /// Answers that are shown and not followed.
        observed: Option<A>,
    },
    /// Nothing new is created for the set.
    Hold(Reason),
}

/// Asks the policies of a chain, and keeps what they decide.
pub trait Guide: Send {
    /// The question about these groups in the terms of one policy, on nodes that carry all of these labels; without a policy, in
    /// those of the native rule.
    fn asked<'q>(&mut self, questions: &'q [Question<'q>], inside: &[Label], policy: Option<&str>) -> (Asked<'q>, Snapshot);

    /// What this policy says to it.
    fn ask(&mut self, policy: &str, asked: &Asked<'_>, snapshot: &Snapshot) -> impl Future<Output = Said<Vec<Answer>>> + Send;

    /// What a policy would have done that is only observed. Nothing is made of it unless the guide tells somebody.
    fn observed(&mut self, _policy: &str, _snapshot: &Snapshot, _answers: &[Answer]) {}

    /// Checks answers and commits them to the ledger. `by` gave them, `carried` is what they were completed with.
    fn settle(
        &mut self,
        asked: &Asked<'_>,
        snapshot: &Snapshot,
        answers: &[Answer],
        by: &str,
        carried: &BTreeMap<u32, Carried>,
    ) -> Settled;
}

/// Groups on their way along the chain.
struct Stage<'q> {
    questions: Vec<Question<'q>>,
    /// What the decisions before have narrowed the nodes to.
    inside: Vec<Label>,
    carried: BTreeMap<u32, Carried>,
}

type Later<'a> = Pin<Box<dyn Future<Output = Settled> + Send + 'a>>;

/// Asks these policies in their order, or the native rule, about the groups of a question, and commits what passes the check.
pub async fn walk<G: Guide>(guide: &mut G, policies: &[String], asked: &Asked<'_>) -> Settled {
    if let Some(reason) = contradiction(asked) {
        return barred(asked, &reason);
    }
    let start = Stage { questions: asked.questions.to_vec(), inside: Vec::new(), carried: BTreeMap::new() };
    stage(guide, policies, start).await
}

fn stage<'a, G: Guide>(guide: &'a mut G, policies: &'a [String], stage: Stage<'a>) -> Later<'a> {
    Box::pin(async move {
        let Stage { questions, inside, carried } = &stage;
        let (asked, snapshot) = guide.asked(questions, inside, policies.first().map(String::as_str));
        let Some((policy, rest)) = policies.split_first() else {
            let answers = native::place(&snapshot, &asked.request);
            return settle(guide, &asked, &snapshot, answers, NATIVE, carried);
        };
        match guide.ask(policy, &asked, &snapshot).await {
            Said::Answers(answers) => {
                let (finals, open) = divide(&asked, &snapshot, answers, rest.is_empty());
                let mut settled = settle(guide, &without(&asked, &open), &snapshot, finals, policy, carried);
                for (alternatives, answers) in open {
                    let next = stage.next(&snapshot, &answers);
                    merge(&mut settled, inside_one_of(guide, rest, alternatives, next).await);
                }
                settled
            }
            Said::Native { observed } => {
                if let Some(answers) = observed {
                    guide.observed(policy, &snapshot, &answers);
                }
                drop(asked);
                self::stage(guide, rest, stage).await
            }
            Said::Hold(reason) => barred(&asked, &reason),
        }
    })
}

/// The next policies, inside the first of these domains in which they find a place for a group; anywhere if there are none.
async fn inside_one_of<G: Guide>(guide: &mut G, policies: &[String], alternatives: Vec<Label>, mut stage: Stage<'_>) -> Settled {
    let mut settled = Settled::default();
    let inside = stage.inside.clone();
    let alternatives: Vec<Option<Label>> = match alternatives.len() {
        0 => vec![None],
        _ => alternatives.into_iter().take(MAX_ALTERNATIVES).map(Some).collect(),
    };
    for alternative in alternatives {
        let inside = inside.iter().cloned().chain(alternative).collect();
        let part = Stage { questions: stage.questions.clone(), inside, carried: stage.carried.clone() };
        let mut later = self::stage(guide, policies, part).await;
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

/// The question without the units that the next policy is asked about.
fn without<'q>(asked: &Asked<'q>, open: &BTreeMap<Vec<Label>, Vec<Answer>>) -> Asked<'q> {
    let mut request = asked.request.clone();
    request.units.retain(|unit| !open.values().flatten().any(|answer| answer.unit == unit.id));
    Asked { questions: asked.questions, view: asked.view.clone(), request }
}

/// Completes the answers with what was said before, has them checked and committed, and adds earlier preferences to what was placed.
fn settle<G: Guide>(
    guide: &mut G,
    asked: &Asked<'_>,
    snapshot: &Snapshot,
    answers: Vec<Answer>,
    by: &str,
    carried: &BTreeMap<u32, Carried>,
) -> Settled {
    let answers = complete(answers, snapshot, carried);
    let mut settled = guide.settle(asked, snapshot, &answers, by, carried);
    for (group, placement) in &mut settled.placed {
        if let (Placement::Place(record), Some(carried)) = (placement, carried.get(group)) {
            carried.prefer(record);
        }
    }
    settled
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

/// Answers with what earlier policies have said about their units.
pub fn complete(answers: Vec<Answer>, snapshot: &Snapshot, carried: &BTreeMap<u32, Carried>) -> Vec<Answer> {
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
