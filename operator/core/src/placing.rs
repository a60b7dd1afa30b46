//! From questions to placements: the request that goes to a policy, and what its checked answers mean for each group.
//!
//! ```text
//!  questions ─► Asked { view, request } ─► policy ─► answers ─► settle: check, commit to the ledger ─► Placement::Place
//!                                                           └─► held ─► unplaceable: Hold, or Release to the scheduler
//!  bound · released · stuck ─► follow up ─► Settle, Follow, Hold or Again
//! ```
//! Pure but for the index, which every function gets as an argument.

pub mod chain;
pub mod turns;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_api::LeaderWorkerSet;
use muster_api::names::Unplaceable;

use crate::admission::Choice;
use crate::advice::Placement;
use crate::ask::{Concern, Question, group_id};
use crate::cluster::{Apart, Explanation, Holding, Index, Scope, Shape, Snapshot, SubgroupId, Verdict, View};
use crate::placement::check::{Assignment, Checked, Checker, Rejection};
use crate::placement::{
    Answer, BadNode, Decision, Demand, LevelId, NodeId, Peer, Place, Placed, Reason, Request, ShapeId, Subgroup, Unit, without,
};
use crate::record::Record;
use crate::subgroups::{SubgroupDomains, Subgroups};

/// Who decides when no policy does.
pub const NATIVE: &str = "exclusive";

/// A question in the form a policy reads: a view of the cluster and the units to place.
#[derive(Debug)]
pub struct Asked<'q> {
    /// The groups asked about.
    pub questions: &'q [Question<'q>],
    /// What the decision looks at.
    pub view: View,
    /// The request.
    pub request: Request,
}

/// Puts groups of one set into a policy's terms. `levels` are the label keys that the policy reads; the exclusive ones are added.
pub fn asked<'q>(
    set: &LeaderWorkerSet,
    choice: &Choice,
    questions: &'q [Question<'q>],
    levels: &[String],
    scope: Scope,
    avoid: BTreeSet<String>,
) -> Asked<'q> {
    let mut levels = levels.to_vec();
    for exclusive in [&choice.exclusive, &choice.subgroup_exclusive].into_iter().flatten() {
        if !levels.contains(exclusive) {
            levels.push(exclusive.clone());
        }
    }
    let level_id = |key: &String| levels.iter().position(|level| level == key).map(id);
    let exclusive = choice.exclusive.as_ref().and_then(level_id).map(LevelId);
    let subgroup_exclusive = choice.subgroup_exclusive.as_ref().and_then(level_id).map(LevelId);
    let mut shapes: Vec<Shape> = Vec::new();
    let units = questions.iter().map(|question| unit(set, question, &mut shapes)).collect();
    let view = View {
        divided: set.sub_group_size().is_some() && subgroup_exclusive.is_none(),
        shapes,
        namespace: set.set_namespace().to_owned(),
        scope,
        for_groups: questions.iter().map(|question| group_id(set, question.leader)).collect(),
        avoid,
        inside: Vec::new(),
        levels,
    };
    let owner = format!("{}/{}", set.set_namespace(), set.set_name());
    let labels = set.metadata.labels.clone().unwrap_or_default();
    let mut request = Request { owner, labels, exclusive, subgroup_exclusive, units, ..Request::default() };
    request.units.sort_by_key(|unit: &Unit| (std::cmp::Reverse(unit.priority), unit.id));
    Asked { questions, view, request }
}

/// A set whose groups are shown to policies that ask for peers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerSet {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// A node that has failed groups: name, how often, milliseconds since the last time.
pub type Failed = (String, u32, u64);

impl Asked<'_> {
    /// Fills in what the snapshot knows of where groups are and were.
    pub fn inform(&mut self, set: &LeaderWorkerSet, snapshot: &Snapshot, peers: &[PeerSet], failed: &[Failed]) {
        for unit in &mut self.request.units {
            let Some(question) = self.questions.iter().find(|question| question.group == unit.id) else { continue };
            let group = group_id(set, question.leader);
            unit.current = snapshot.current(&group, unit.size());
            unit.previous = snapshot.previous(&group, unit.size());
        }
        let placed = snapshot.groups_of(set.set_namespace(), set.set_name()).into_iter();
        self.request.placed = placed.map(|(id, domains)| Placed { id, domains }).collect();
        let groups_of = |peer: &PeerSet| {
            let owner = format!("{}/{}", peer.namespace, peer.name);
            let groups = snapshot.groups_of(&peer.namespace, &peer.name).into_iter();
            groups
                .map(|(id, domains)| Peer { owner: owner.clone(), labels: peer.labels.clone(), id, domains })
                .collect::<Vec<_>>()
        };
        self.request.peers = peers.iter().flat_map(groups_of).collect();
        let bad = |(name, failures, age_ms): &Failed| {
            Some(BadNode { node: snapshot.node_of(name)?, failures: *failures, age_ms: *age_ms })
        };
        self.request.bad_nodes = failed.iter().filter_map(bad).collect();
    }
}

fn id(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}

fn unit(set: &LeaderWorkerSet, question: &Question<'_>, shapes: &mut Vec<Shape>) -> Unit {
    let mut demand = |(shape, pods): &(Shape, u32)| {
        let position = shapes.iter().position(|known| known == shape).unwrap_or_else(|| {
            shapes.push(shape.clone());
            shapes.len() - 1
        });
        Demand { shape: ShapeId(id(position)), pods: *pods }
    };
    Unit {
        id: question.group,
        pods: question.demand.iter().map(&mut demand).collect(),
        priority: question.leader.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0),
        division: question.division.clone(),
        prepared: question.prepared.clone(),
        current: None,
        previous: None,
        subgroups: question
            .subgroups
            .iter()
            .map(|(index, pods)| Subgroup {
                id: SubgroupId { group: group_id(set, question.leader), index: *index },
                pods: pods.iter().map(&mut demand).collect(),
                bound: None,
            })
            .collect(),
    }
}

/// What became of a policy's answers.
#[derive(Debug, Default)]
pub struct Settled {
    /// Groups that have their place; the ledger holds it.
    pub placed: BTreeMap<u32, Placement>,
    /// Groups that stay without one, with the policy's reason and when it wants to be asked again.
    pub held: BTreeMap<u32, (Reason, Option<Duration>)>,
    /// Groups whose answer was refused.
    pub rejected: BTreeMap<u32, Rejection>,
    /// Groups whose policy can't decide, and of which it is declared that they wait then: the scheduler doesn't get them either.
    pub barred: BTreeMap<u32, (Reason, Option<Duration>)>,
}

/// Checks the answers in order against the snapshot, and commits what passes to the live index. `by` is the decider's name.
pub fn settle(
    index: &mut Index,
    set: &LeaderWorkerSet,
    asked: &Asked<'_>,
    snapshot: &Snapshot,
    answers: &[Answer],
    by: &str,
) -> Settled {
    let mut checker = Checker::new(snapshot, &asked.request);
    let mut settled = Settled::default();
    for answer in answers {
        match checker.apply(answer) {
            Ok(Checked::Assigned(assignment)) => match commit(index, set, asked, answer.unit, &assignment) {
                Ok(()) => {
                    let reason = reason_for(snapshot, answer, &assignment);
                    settled.placed.insert(answer.unit, Placement::Place(record(by, &assignment, &reason)));
                }
                Err(rejection) => drop(settled.rejected.insert(answer.unit, rejection)),
            },
            Ok(Checked::Unconstrained(instructions)) => {
                let record = Record { instructions, ..Record::new(by, answer.reason.clone()) };
                settled.placed.insert(answer.unit, Placement::Place(record));
            }
            Ok(Checked::Hold { retry_ms }) => {
                // A policy that wants to be asked all the time is asked once a second (and whenever the cluster changes).
                let again = Duration::from_millis(u64::from(retry_ms)).max(Duration::from_secs(1));
                settled.held.insert(answer.unit, (answer.reason.clone(), Some(again)));
            }
            Ok(Checked::Refused) => drop(settled.held.insert(answer.unit, (answer.reason.clone(), None))),
            Err(rejection) => drop(settled.rejected.insert(answer.unit, rejection)),
        }
    }
    // An answer for a group that was not asked about is no answer for those that were: they must not wait for one for ever.
    let is_asked = |group: &u32| asked.request.units.iter().any(|unit| unit.id == *group);
    let strays: Vec<Rejection> = settled.rejected.extract_if(.., |group, _| !is_asked(group)).map(|(_, stray)| stray).collect();
    for unit in &asked.request.units {
        let known = settled.placed.contains_key(&unit.id)
            || settled.held.contains_key(&unit.id)
            || settled.rejected.contains_key(&unit.id);
        if known {
            continue;
        }
        if let Some(stray) = strays.first() {
            settled.rejected.insert(unit.id, stray.clone());
        } else {
            let message = format!("{by} gave no answer for this group yet");
            settled.held.insert(unit.id, (reason("NotAnswered", message), Some(Duration::from_secs(1))));
        }
    }
    settled
}

/// What an answer would do, in words: for a policy that is only observed.
pub fn in_words(snapshot: &Snapshot, answer: &Answer) -> String {
    let group = answer.unit;
    let named = |node: &NodeId| snapshot.node_name(*node).unwrap_or("a node that does not exist").to_owned();
    let domain = |place: Place| {
        let key = snapshot.levels().get(place.level.0 as usize);
        let named = key.zip(snapshot.domain_name(place.level, place.domain));
        named.map_or("a domain that does not exist".to_owned(), |(key, domain)| format!("{key}={domain}"))
    };
    let domains = |places: &[Place]| places.iter().map(|place| domain(*place)).collect::<Vec<_>>();
    let what = match &answer.decision {
        Decision::Within(places) => format!("put group {group} in {}", domains(places).join(", else in ")),
        Decision::Preferred(places) => format!("had the scheduler favour {} for group {group}", domains(places).join(", then ")),
        Decision::Parts(parts) => {
            let each = parts.iter().map(|part| format!("{} pods in {}", part.pods, domain(part.place)));
            format!("split group {group}: {}", each.collect::<Vec<_>>().join(", "))
        }
        Decision::Pinned(nodes) => {
            format!("pinned group {group} to {}", nodes.iter().map(named).collect::<Vec<_>>().join(", "))
        }
        Decision::Apart(_) => format!("kept the subgroups of group {group} apart"),
        Decision::Unconstrained => format!("left group {group} to the scheduler"),
        Decision::Hold { .. } => format!("had group {group} wait"),
        Decision::Refuse => format!("refused group {group}"),
    };
    format!("{what}: {}", answer.reason.message)
}

fn commit(
    index: &mut Index,
    set: &LeaderWorkerSet,
    asked: &Asked<'_>,
    unit: u32,
    assignment: &Assignment,
) -> Result<(), Rejection> {
    let question = asked.questions.iter().find(|question| question.group == unit);
    let pods = asked.request.units.iter().find(|asked| asked.id == unit).map(|unit| unit.pods.as_slice());
    let (Some(question), Some(pods)) = (question, pods) else { return Ok(()) };
    index.commit(&asked.view, set.set_name(), group_id(set, question.leader), pods, assignment)
}

fn record(by: &str, assignment: &Assignment, reason: &Reason) -> Record {
    let known = |text: &String| (!text.is_empty()).then(|| text.clone());
    Record {
        by: by.to_owned(),
        level: known(&assignment.level),
        domain: known(&assignment.domain),
        exclusive: assignment.exclusive,
        selector: assignment.selector.clone(),
        subgroups: assignment.subgroup_domains(),
        leader: assignment.leader.iter().map(|leader| leader.selector.clone()).collect(),
        released: false,
        instructions: assignment.instructions.clone(),
        reason: reason.clone(),
    }
}

/// The policy's reason, which speaks of its first choice, and a word about it where that was not to be had.
fn reason_for(snapshot: &Snapshot, answer: &Answer, assignment: &Assignment) -> Reason {
    let first = match &answer.decision {
        Decision::Within(places) => places.first(),
        _ => None,
    };
    let key = first.and_then(|place| snapshot.levels().get(place.level.0 as usize));
    let name = first.and_then(|place| snapshot.domain_name(place.level, place.domain));
    match key.zip(name) {
        Some((key, name)) if assignment.selector.get(key).map(String::as_str) != Some(name) => {
            let message = format!("{}; it was not to be had there, and this is the next choice", answer.reason.message);
            Reason { message, ..answer.reason.clone() }
        }
        _ => answer.reason.clone(),
    }
}

fn reason(code: &str, message: impl Into<String>) -> Reason {
    Reason { code: code.to_owned(), message: message.into() }
}

/// The place of a group that nobody decides about any more.
pub fn left_to_scheduler(code: &str) -> Record {
    Record::new("scheduler", reason(code, "the set no longer asks to be placed"))
}

/// What becomes of a group whose leader, bound by someone else, is on a node outside every domain.
pub fn without_label(node: &str, key: &str) -> Placement {
    Placement::Hold(reason("NodeWithoutLabel", format!("its leader is on node {node}, which has no label {key}; label the node")))
}

/// What is to become of groups that fit nowhere.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Released to the scheduler, or held.
    pub unplaceable: Unplaceable,
    /// How long a group keeps its gate before it is released.
    pub grace: Duration,
}

/// What becomes of one held group that has waited for so long, and when to look at it again.
///
/// It is released only when no domain has room for it: a policy that holds a group for reasons of its own is obeyed.
pub fn unplaceable(
    asked: &Asked<'_>,
    snapshot: &Snapshot,
    group: u32,
    held: &Reason,
    waited: Duration,
    rule: Rule,
) -> (Placement, Option<Duration>) {
    let Some((level, explanation)) = explain(asked, snapshot, group) else {
        return (Placement::Hold(held.clone()), None);
    };
    if explanation.fits() {
        return (Placement::Hold(held.clone()), None);
    }
    let because = reason(&held.code, explanation.summary());
    // A leader alone would not bring an autoscaler to make room for the other subgroups, so there is nothing to release it for.
    if asked.request.exclusive.is_none() && asked.request.subgroup_exclusive.is_some() {
        return (Placement::Hold(because), None);
    }
    if rule.unplaceable == Unplaceable::Hold {
        return (Placement::Hold(because), None);
    }
    if waited < rule.grace {
        return (Placement::Hold(because), Some(rule.grace.saturating_sub(waited)));
    }
    let not_in = closed_to(asked, snapshot, group, level, &explanation);
    let record = Record {
        level: Some(explanation.level.clone()),
        exclusive: asked.request.exclusive.is_some(),
        released: true,
        ..Record::new(NATIVE, because)
    };
    (Placement::Release { record, not_in }, None)
}

/// The level that the group's place is about (the exclusive one, else the widest that nodes have) and how its domains stand.
pub fn explain(asked: &Asked<'_>, snapshot: &Snapshot, group: u32) -> Option<(LevelId, Explanation)> {
    let unit = asked.request.units.iter().find(|unit| unit.id == group)?;
    let exclusive = asked.request.exclusive;
    let subgroups = asked.request.subgroup_exclusive.filter(|_| !unit.subgroups.is_empty());
    let levels = (0..asked.view.levels.len()).map(|position| LevelId(id(position)));
    let mut levels = levels.filter(|level| Some(*level) != asked.request.subgroup_exclusive);
    let level = exclusive.or_else(|| levels.find(|level| snapshot.domain_count(*level) > 0));
    let taken = BTreeMap::new();
    let apart = |level| Apart { unit, level, taken: &taken };
    match (level, subgroups) {
        (Some(level), Some(subgroups)) => {
            Some((level, snapshot.explain_with_subgroups(level, exclusive.is_some(), &apart(subgroups))))
        }
        (Some(level), None) => Some((level, snapshot.explain(level, &unit.pods, exclusive.is_some()))),
        (None, Some(subgroups)) => Some((subgroups, snapshot.explain_subgroups(&apart(subgroups)))),
        (None, None) => None,
    }
}

/// Domains that a released leader must not be bound in: those of others, and those where it would fit but its group wouldn't,
/// because there the scheduler would bind it at once and no autoscaler would ever see it pending.
fn closed_to(asked: &Asked<'_>, snapshot: &Snapshot, group: u32, level: LevelId, explanation: &Explanation) -> Vec<String> {
    let leader = asked.request.units.iter().find(|unit| unit.id == group).and_then(|unit| unit.pods.first());
    let leader_fit = leader.map(|leader| snapshot.domain_fit(level, leader.shape));
    let takes_leader = |position: usize| leader_fit.as_ref().is_some_and(|fit| fit.get(position).is_some_and(|slots| *slots > 0));
    let domains = explanation.domains.iter().enumerate();
    let closed = domains.filter(|(position, report)| matches!(report.verdict, Verdict::Held { .. }) || takes_leader(*position));
    // A label without a value makes no domain, but the scheduler takes it for one.
    let empty = snapshot.has_empty_label(level).then(String::new);
    empty.into_iter().chain(closed.map(|(_, report)| report.domain.clone())).collect()
}

/// What becomes of a group whose leader, left to the scheduler, was bound to this node in this domain. On a node that doesn't say what
/// it offers the binding counts, whoever made it.
pub fn settle_released(
    index: &mut Index,
    set: &LeaderWorkerSet,
    asked: &Asked<'_>,
    node: &str,
    domain: Option<&str>,
) -> Placement {
    let (Some(question), Some(level), Some(unit)) =
        (asked.questions.first(), asked.request.exclusive, asked.request.units.first())
    else {
        return Placement::Hold(reason("NotExclusive", "the set no longer asks for a domain of its own"));
    };
    let key = asked.view.levels.get(level.0 as usize).cloned().unwrap_or_default();
    let Some(domain) = domain.filter(|domain| !domain.is_empty()) else {
        let message = format!("the scheduler bound its leader to a node without label {key}, or where that is empty");
        return Placement::Again(reason("NodeWithoutLabel", message));
    };
    if !index.has_capacity(node) {
        return Placement::Settle(settled_by_scheduler(Some((key, domain.to_owned())), None));
    }
    let holding = Holding {
        group: group_id(set, question.leader),
        set: set.set_name().to_owned(),
        level: key.clone(),
        domain: domain.to_owned(),
        exclusive: true,
        divided: set.sub_group_size().is_some(),
        // The leader is bound and counts by itself.
        outstanding: question.demand.iter().skip(1).cloned().collect(),
        pinned: Vec::new(),
        subgroups: Vec::new(),
    };
    match index.try_hold(&asked.view, &unit.pods, holding) {
        Ok(()) => Placement::Settle(settled_by_scheduler(Some((key, domain.to_owned())), None)),
        Err(rejection) => Placement::Again(no_place(&rejection.to_string())),
    }
}

fn no_place(why: &str) -> Reason {
    reason("NoRoomForGroup", format!("the scheduler bound its leader where the group has no place: {why}"))
}

fn settled_by_scheduler(domain: Option<(String, String)>, subgroups: Option<SubgroupDomains>) -> Record {
    let (level, domain) = domain.unzip();
    let found = reason("BoundByScheduler", "the scheduler found its leader a domain with room for the whole group");
    Record {
        selector: level.clone().zip(domain.clone()).into_iter().collect(),
        exclusive: domain.is_some(),
        level,
        domain,
        subgroups,
        ..Record::new("scheduler", found)
    }
}

/// What becomes of a group with subgroups that must not share domains, whose leader somebody else has bound to this node: its own
/// subgroup stays around it, and the others get domains beside it.
///
/// # Errors
/// With the reason, when they don't fit.
pub fn settle_bound(index: &mut Index, set: &LeaderWorkerSet, asked: &Asked<'_>, node: &str) -> Result<Record, Reason> {
    let (Some(question), Some(level), Some(unit)) =
        (asked.questions.first(), asked.request.subgroup_exclusive, asked.request.units.first())
    else {
        return Err(reason("NotExclusive", "the set no longer asks for domains of its own for its subgroups"));
    };
    let snapshot = index.snapshot(asked.view.clone());
    let around = |level: LevelId| {
        let key = asked.view.levels.get(level.0 as usize).map_or("", String::as_str);
        let domain = snapshot.node_of(node).and_then(|node| snapshot.around(level, &[node.0]));
        domain.map(|domain| Place { level, domain }).ok_or_else(|| {
            reason("NodeWithoutLabel", format!("its leader is on node {node}, which has no label {key}; label the node"))
        })
    };
    let mut unit = unit.clone();
    let excluded = unit.rest();
    if let Some(own) = Subgroups::of_group(question.leader).and_then(|subgroups| u32::try_from(subgroups.index_of(0)?).ok()) {
        let bound = around(level)?.domain;
        unit.subgroups.iter_mut().filter(|subgroup| subgroup.id.index == own).for_each(|subgroup| subgroup.bound = Some(bound));
    } else {
        unit.pods = without(&unit.pods, excluded.iter());
    }
    let home = asked.request.exclusive.map(around).transpose()?;
    let decision = home.map_or(Decision::Unconstrained, Decision::within);
    let request = Request { units: vec![unit], ..asked.request.clone() };
    let answer = Answer::new(question.group, decision, reason("BoundByScheduler", ""));
    let mut checker = Checker::new(&snapshot, &request);
    if let Some(node) = snapshot.node_of(node) {
        excluded.iter().for_each(|leader| checker.occupy(node, *leader));
    }
    let checked = checker.apply(&answer).map_err(|rejection| no_place(&rejection.to_string()))?;
    let Checked::Assigned(assignment) = checked else { return Err(no_place("its subgroups have no domains")) };
    let pods = request.units.first().map_or(&[][..], |unit| &unit.pods);
    // The leader is in it as well as counted where it is bound, until the next look at the set.
    index.hold(assignment.holding(group_id(set, question.leader), set.set_name(), &asked.view, pods));
    let home = home.map(|_| (assignment.level.clone(), assignment.domain.clone()));
    Ok(settled_by_scheduler(home, assignment.subgroup_domains()))
}

/// Why the subgroups of a set can't have what it asks for, whatever the cluster looks like.
pub fn contradiction(asked: &Asked<'_>) -> Option<Reason> {
    let same = asked.request.exclusive.filter(|level| Some(*level) == asked.request.subgroup_exclusive)?;
    asked.request.units.iter().any(|unit| unit.subgroups.len() > 1).then(|| {
        let key = asked.view.levels.get(same.0 as usize).map_or("", String::as_str);
        let message = format!(
            "annotations exclusive-topology and subgroup-exclusive-topology both say {key}, so all subgroups of a group would be in \
             one {key} and none alone in it: name a narrower label in subgroup-exclusive-topology, or remove one of the annotations"
        );
        reason("SameTopology", message)
    })
}

/// What becomes of a group that is placed or released but can't be where it is meant to: it is placed again if some domain has
/// room for it now, and stays otherwise. The view must leave out the nodes that are no good.
pub fn elsewhere(asked: &Asked<'_>, snapshot: &Snapshot, why: &str) -> Placement {
    let explained = asked.questions.first().and_then(|question| explain(asked, snapshot, question.group));
    let Some((_, explanation)) = explained else { return Placement::Hold(reason("Unschedulable", why)) };
    match explanation.fitting() {
        Some(report) => {
            let message = format!("{why}; {}={} has room now", explanation.level, report.domain);
            Placement::Again(reason("PlacedAgain", message))
        }
        None => Placement::Hold(reason("Unschedulable", format!("{why}; {}", explanation.summary()))),
    }
}

/// The nodes of a domain, to be left out of a view.
pub fn nodes_of(index: &mut Index, level: &str, domain: &str) -> BTreeSet<String> {
    let view = View { levels: vec![level.to_owned()], ..View::default() };
    let snapshot = index.snapshot(view);
    let Some(place) = snapshot.place_of(level, domain) else { return BTreeSet::new() };
    let column = snapshot.node_domains(place.level);
    let rows = column.iter().enumerate().filter(|(_, domain)| **domain == place.domain.0);
    rows.filter_map(|(row, _)| Some(snapshot.node_name(NodeId(id(row)))?.to_owned())).collect()
}

/// The domain that a stuck group has to get out of: that of the subgroup whose pod can't be scheduled, if it has one for itself, else
/// the group's.
pub fn stuck_domain(question: &Question<'_>) -> Option<(String, String)> {
    match question.concern {
        Concern::Stuck { rank, .. } => Record::of(question.leader)?.domain_of(question.leader, rank),
        _ => recorded_domain(question),
    }
}

/// The domain of its level that a group was put in, from its leader's record.
pub fn recorded_domain(question: &Question<'_>) -> Option<(String, String)> {
    let record = Record::of(question.leader)?;
    Some((record.level?, record.domain?))
}

#[cfg(test)]
mod tests;
