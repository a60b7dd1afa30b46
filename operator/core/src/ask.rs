//! What one reconcile has to ask about a set: which groups need a place, what the set's groups hold, who may start.
//!
//! Pure. The operator takes these questions to the native policy or to a component, checks the answers and brings them back as
//! [`Advice`](crate::advice::Advice).

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use k8s_openapi::api::core::v1::{NodeSelectorTerm, Pod, PodSpec};
use k8s_openapi::jiff::Timestamp;
use muster_api::LeaderWorkerSet;
use muster_api::leader_worker_set::RestartPolicyType;
use muster_api::names::annotation;

use crate::admission::Choice;
use crate::advice::Admitted;
use crate::cluster::{GroupId, Holding, Shape, SubgroupHolding};
use crate::instructions::Instructions;
use crate::observed::{Group, Observed};
use crate::placement::Reason;
use crate::placement::effects::Effects;
use crate::pods;
use crate::record::{Record, Standing, standing};
use crate::restart::History;
use crate::revision;
use crate::startup;
use crate::status::size_of;
use crate::subgroups::{SubgroupDomains, Subgroups};

/// Why a group's place is in question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Concern {
    /// Its leader is gated.
    Waiting,
    /// Its leader was left to the scheduler and is not bound.
    Released,
    /// Its leader is bound, and its workers (or, after a release, the group) have not followed yet.
    Bound {
        /// The leader's node.
        node: String,
        /// Whether Muster released it.
        released: bool,
    },
    /// It was placed, and the scheduler says that a pod of it fits nowhere there.
    Stuck {
        /// The rank of the first such pod.
        rank: u32,
        /// The scheduler's words about it.
        message: String,
    },
}

/// One group whose place is in question.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// The group's index.
    pub group: u32,
    /// Its leader.
    pub leader: &'a Pod,
    /// What it needs, leader first.
    pub demand: Vec<(Shape, u32)>,
    /// How many pods each of its subgroups has, in the order of ranks.
    pub division: Vec<u32>,
    /// What its pods got from their policy when they were created.
    pub prepared: Effects,
    /// What each of its subgroups needs of that, by index, if they must not share domains.
    pub subgroups: Vec<(u32, Vec<(Shape, u32)>)>,
    /// Why it is asked.
    pub concern: Concern,
}

/// The shapes of a set's workers, by revision key and what their leader got from its policy.
type WorkerShapes<'a> = BTreeMap<(&'a str, &'a str), Shape>;

fn worker_key(leader: &Pod) -> Option<(&str, &str)> {
    Some((pods::revision(leader)?, pods::annotation(leader, annotation::EFFECTS).unwrap_or_default()))
}

fn worker_shapes<'a>(set: &LeaderWorkerSet, observed: &Observed, groups: &BTreeMap<u32, Group<'a>>) -> WorkerShapes<'a> {
    let mut shapes = WorkerShapes::new();
    for leader in groups.values().filter_map(|group| group.leader) {
        let Some(key) = worker_key(leader).filter(|key| !shapes.contains_key(key)) else { continue };
        let spec = revision::as_of(set, &observed.revisions, key.0).and_then(|as_of| as_of.worker_template().typed().ok()?.spec);
        let shape = spec.and_then(|mut spec| {
            prepared(leader).change_spec(&mut spec);
            Shape::of(&spec).ok()
        });
        if let Some(shape) = shape {
            shapes.insert(key, shape);
        }
    }
    shapes
}

/// What a leader got from its policy when it was created.
fn prepared(leader: &Pod) -> Effects {
    pods::annotation(leader, annotation::EFFECTS).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// How many pods each subgroup of a leader's group has, in the order of ranks; read from the leader's annotations.
pub fn division(leader: &Pod) -> Vec<u32> {
    let subgroups = Subgroups::of_group(leader).into_iter().flat_map(Subgroups::each);
    subgroups.map(|(_, ranks)| u32::try_from(ranks.len()).unwrap_or(u32::MAX)).collect()
}

fn shape_of(pod: &Pod) -> Option<Shape> {
    Shape::of(pod.spec.as_ref()?).ok()
}

/// The leader as its author made it, so that it can be asked where else it could go: a leader that was placed or released carries a
/// selector or requirements of ours, which must not speak against every other domain.
fn leader_shape(set: &LeaderWorkerSet, leader: &Pod) -> Option<Shape> {
    let Some(record) = Record::of(leader) else { return shape_of(leader) };
    let mut spec = leader.spec.clone()?;
    if let Some(selector) = &mut spec.node_selector {
        let authors = set.leader_template().0.pointer("/spec/nodeSelector");
        let ours = record.leader_selector(leader);
        selector.retain(|key, _| !ours.contains_key(key) || authors.is_some_and(|own| own.get(key).is_some()));
    }
    without_instructions(&mut spec, &record.instructions);
    if let Some(level) = record.level.as_ref().filter(|_| record.released) {
        without_release_affinity(&mut spec, level);
    }
    Shape::of(&spec).ok()
}

/// Takes back what a policy had a placed leader's node affinity ask for.
fn without_instructions(spec: &mut PodSpec, instructions: &Instructions) {
    let Some(affinity) = spec.affinity.as_mut().and_then(|affinity| affinity.node_affinity.as_mut()) else { return };
    let Some(required) = &mut affinity.required_during_scheduling_ignored_during_execution else { return };
    let ours = |node: &String| instructions.avoid.contains(node) || instructions.pins.first() == Some(node);
    for term in &mut required.node_selector_terms {
        let fields = term.match_fields.get_or_insert_default();
        fields.retain(|field| !field.values.iter().flatten().any(ours));
    }
    if required.node_selector_terms.iter().all(says_nothing) {
        affinity.required_during_scheduling_ignored_during_execution = None;
    }
}

/// A term that says nothing matches no node; all of the kind are what is left of terms that we made.
fn says_nothing(term: &NodeSelectorTerm) -> bool {
    term.match_expressions.as_ref().is_none_or(Vec::is_empty) && term.match_fields.as_ref().is_none_or(Vec::is_empty)
}

/// Takes back what `decide` adds to a released leader's node affinity: at the end of every term.
fn without_release_affinity(spec: &mut PodSpec, level: &str) {
    let Some(affinity) = spec.affinity.as_mut().and_then(|affinity| affinity.node_affinity.as_mut()) else { return };
    let Some(required) = &mut affinity.required_during_scheduling_ignored_during_execution else { return };
    for term in &mut required.node_selector_terms {
        let requirements = term.match_expressions.get_or_insert_default();
        requirements.pop_if(|last| last.key == level && last.operator == "NotIn");
        requirements.pop_if(|last| last.key == level && last.operator == "Exists");
    }
    if required.node_selector_terms.iter().all(says_nothing) {
        affinity.required_during_scheduling_ignored_during_execution = None;
    }
}

/// Everything a whole group needs; `None` for a template whose quantities can't be read.
fn whole_demand(set: &LeaderWorkerSet, leader: &Pod, shapes: &WorkerShapes<'_>) -> Option<Vec<(Shape, u32)>> {
    let mut demand = vec![(leader_shape(set, leader)?, 1)];
    let workers = size_of(leader, set).saturating_sub(1);
    if workers > 0 {
        demand.push((shapes.get(&worker_key(leader)?)?.clone(), workers));
    }
    Some(demand)
}

/// The groups of a set whose place is in question, by index.
///
/// A group is *stuck* once the scheduler has called a pod of it unschedulable for `stuck_after`.
pub fn placement<'a>(
    set: &LeaderWorkerSet,
    observed: &'a Observed,
    choice: &Choice,
    stuck_after: Duration,
    now: Timestamp,
) -> Vec<Question<'a>> {
    let groups = observed.groups(set);
    let shapes = worker_shapes(set, observed, &groups);
    let apart = choice.subgroup_exclusive.is_some();
    let leaders = observed.leader_set(set).and_then(|leaders| leaders.spec.as_ref()?.replicas).unwrap_or(i32::MAX);
    let mut questions = Vec::new();
    for (index, group) in groups {
        // A group beyond the replicas is about to be removed by the StatefulSet controller.
        let wanted = i32::try_from(index).is_ok_and(|index| index < leaders);
        let Some(leader) = group.live_leader().filter(|_| wanted) else { continue };
        let concern = match standing(leader, choice) {
            Standing::Waiting => Concern::Waiting,
            Standing::Released(_) => Concern::Released,
            Standing::Bound { node, released } if group.worker_set.is_none() && (released || size_of(leader, set) > 1) => {
                Concern::Bound { node, released }
            }
            Standing::Placed(_) => match stuck(set, &group, stuck_after, now) {
                Some((rank, message)) => Concern::Stuck { rank, message },
                None => continue,
            },
            Standing::Bound { .. } | Standing::Free | Standing::Loose => continue,
        };
        if let Some(demand) = whole_demand(set, leader, &shapes) {
            let subgroups = if apart { subgroup_demands(leader, &demand) } else { Vec::new() };
            let (division, prepared) = (division(leader), prepared(leader));
            questions.push(Question { group: index, leader, demand, division, prepared, subgroups, concern });
        }
    }
    questions
}

/// How long until a placed group becomes stuck that isn't yet; `None` while no pod is called unschedulable.
pub fn next_stuck(
    set: &LeaderWorkerSet,
    observed: &Observed,
    choice: &Choice,
    stuck_after: Duration,
    now: Timestamp,
) -> Option<Duration> {
    let groups = observed.groups(set);
    let placed = groups.values().filter(|group| {
        let leader = group.live_leader();
        leader.is_some_and(|leader| matches!(standing(leader, choice), Standing::Placed(_)))
    });
    let pods = placed.flat_map(|group| group.pods()).filter(|(_, pod)| !pods::is_deleting(pod));
    let waited = pods.filter_map(|(_, pod)| Some(Duration::from_millis(pods::millis_between(pods::unschedulable(pod)?.0, now))));
    waited.filter(|waited| *waited < stuck_after).map(|waited| stuck_after.saturating_sub(waited)).min()
}

/// The rank of a pod of the group that the scheduler could not place for too long, and its words about it.
///
/// A group whose members may be lost one by one (restart policy None) is only given up while nothing of it works.
fn stuck(set: &LeaderWorkerSet, group: &Group<'_>, stuck_after: Duration, now: Timestamp) -> Option<(u32, String)> {
    let hopeless = group.pods().filter(|(_, pod)| !pods::is_deleting(pod)).find_map(|(rank, pod)| {
        let (since, message) = pods::unschedulable(pod)?;
        let waited = Duration::from_millis(pods::millis_between(since, now));
        (waited >= stuck_after).then(|| (rank, format!("{}: {message}", pods::name(pod))))
    })?;
    let works = group.pods().any(|(_, pod)| pods::is_ready(pod));
    let singly = matches!(set.restart_policy(), RestartPolicyType::None | RestartPolicyType::Default);
    (!(singly && works)).then_some(hopeless)
}

/// What the set's groups hold, as the caches show it: the ledger's part of this set.
///
/// `label_of(node, key)` reads a label of a node.
pub fn holdings<'n>(
    set: &LeaderWorkerSet,
    observed: &Observed,
    choice: &Choice,
    label_of: impl Fn(&str, &str) -> Option<&'n str>,
) -> Vec<Holding> {
    let groups = observed.groups(set);
    let shapes = worker_shapes(set, observed, &groups);
    let mut holdings = Vec::new();
    for group in groups.values() {
        // A leader on its way out holds its domain until its pod object is gone.
        let Some(leader) = group.leader else { continue };
        let (mut subgroups, mut apart) = (SubgroupDomains::default(), BTreeMap::new());
        let mut instructions = Instructions::default();
        let (level, domain, exclusive) = match standing(leader, choice) {
            Standing::Placed(record) => {
                (subgroups, apart, instructions) = (record.subgroups.unwrap_or_default(), record.leader, record.instructions);
                match (record.level, record.domain) {
                    (Some(level), Some(domain)) => (level, domain, record.exclusive),
                    _ if subgroups.domains.is_empty() && instructions.parts.is_empty() && instructions.pins.is_empty() => {
                        continue;
                    }
                    _ => (String::new(), String::new(), false),
                }
            }
            Standing::Bound { node, .. } => {
                let Some(level) = choice.exclusive.as_deref() else { continue };
                match label_of(&node, level) {
                    Some(domain) => (level.to_owned(), domain.to_owned(), true),
                    None => continue,
                }
            }
            Standing::Free | Standing::Waiting | Standing::Released(_) | Standing::Loose => continue,
        };
        let worker = worker_key(leader).and_then(|key| shapes.get(&key));
        let members = Members { group, leader, size: size_of(leader, set), worker };
        let mut subgroups = held_subgroups(&subgroups, &members);
        subgroups.extend(held_parts(&instructions, &members));
        let in_one = |rank: u32| subgroups.iter().any(|(ranks, _)| ranks.contains(&rank));
        let mut outstanding = members.outstanding(|rank| !in_one(rank));
        let mut pinned = Vec::new();
        if !instructions.pins.is_empty() {
            outstanding.clear();
            pinned.extend(held_pins(&instructions, &members));
        }
        if let Some((key, value)) = apart.first_key_value() {
            // The leader, which is in no subgroup, is all that is outstanding beside them.
            let mut beside =
                subgroups.iter_mut().map(|(_, held)| held).filter(|held| held.level == *key && held.domain == *value);
            match beside.next() {
                Some(held) => held.outstanding.append(&mut outstanding),
                // A node's name is the value of its host name label, unless somebody has renamed one of them.
                None => pinned.extend(outstanding.drain(..).map(|(shape, _)| (value.clone(), shape))),
            }
        }
        holdings.push(Holding {
            group: group_id(set, leader),
            set: set.set_name().to_owned(),
            level,
            domain,
            exclusive,
            divided: set.sub_group_size().is_some(),
            outstanding,
            pinned,
            subgroups: subgroups.into_iter().map(|(_, subgroup)| subgroup).collect(),
        });
    }
    holdings
}

/// Names a group in the ledger.
pub fn group_id(set: &LeaderWorkerSet, leader: &Pod) -> GroupId {
    GroupId { namespace: set.set_namespace().to_owned(), leader_pod: pods::name(leader).to_owned() }
}

/// What each subgroup of a group holds by its leader's record, with its ranks.
fn held_subgroups(domains: &SubgroupDomains, members: &Members<'_>) -> Vec<(Range<u32>, SubgroupHolding)> {
    let division = Subgroups::of_group(members.leader).filter(|_| !domains.domains.is_empty());
    let each = division.into_iter().flat_map(Subgroups::each).filter_map(|(index, ranks)| {
        let (level, domain) = domains.selector(index)?;
        let ranks = unsigned(&ranks);
        let outstanding = members.outstanding(|rank| ranks.contains(&rank));
        let (level, domain) = (level.to_owned(), domain.to_owned());
        Some((ranks, SubgroupHolding { index, level, domain, outstanding, alone: true }))
    });
    each.collect()
}

/// What each part of a group holds that a policy has split, with its ranks.
fn held_parts(instructions: &Instructions, members: &Members<'_>) -> Vec<(Range<u32>, SubgroupHolding)> {
    let mut start = 0_u32;
    let each = (0..).zip(&instructions.parts).map(|(index, part)| {
        let ranks = start..start.saturating_add(part.pods);
        start = ranks.end;
        let outstanding = members.outstanding(|rank| ranks.contains(&rank));
        let (level, domain) = (part.key.clone(), part.value.clone());
        (ranks, SubgroupHolding { index, level, domain, outstanding, alone: false })
    });
    each.collect()
}

/// The pods of a group that a policy has pinned and that are not bound yet: node and shape.
fn held_pins(instructions: &Instructions, members: &Members<'_>) -> Vec<(String, Shape)> {
    let each = (0..).zip(&instructions.pins).filter(|(rank, _)| !members.is_bound(*rank)).filter_map(|(rank, node)| {
        let (shape, _) = members.outstanding(|other| other == rank).pop()?;
        Some((node.clone(), shape))
    });
    each.collect()
}

/// What each subgroup of a leader's group needs of its demand, by index. `demand` is the leader's, then the workers'.
pub fn subgroup_demands(leader: &Pod, demand: &[(Shape, u32)]) -> Vec<(u32, Vec<(Shape, u32)>)> {
    let each = Subgroups::of_group(leader).into_iter().flat_map(Subgroups::each).map(|(index, ranks)| {
        let leaders = u32::from(ranks.contains(&0));
        let workers = u32::try_from(ranks.len()).unwrap_or(u32::MAX) - leaders;
        let counts = demand.iter().zip([leaders, workers]).filter(|(_, pods)| *pods > 0);
        (index, counts.map(|((shape, _), pods)| (shape.clone(), pods)).collect())
    });
    each.collect()
}

fn unsigned(ranks: &Range<i32>) -> Range<u32> {
    u32::try_from(ranks.start).unwrap_or(0)..u32::try_from(ranks.end).unwrap_or(0)
}

/// The members of a group: what is to be counted.
struct Members<'a> {
    group: &'a Group<'a>,
    leader: &'a Pod,
    size: u32,
    worker: Option<&'a Shape>,
}

impl Members<'_> {
    fn is_bound(&self, rank: u32) -> bool {
        let pod = if rank == 0 { Some(self.leader) } else { self.group.workers.get(&rank).copied() };
        pod.is_some_and(|pod| pods::node(pod).is_some())
    }

    /// Pods, among those of the ranks asked for, that still have to be bound. Those that don't exist yet count: their room is kept.
    /// A group on its way out gets no more pods.
    fn outstanding(&self, among: impl Fn(u32) -> bool) -> Vec<(Shape, u32)> {
        let mut outstanding = Vec::new();
        if pods::is_deleting(self.leader) {
            return outstanding;
        }
        if pods::node(self.leader).is_none() && among(0) {
            outstanding.extend(shape_of(self.leader).map(|shape| (shape, 1)));
        }
        let workers = (1..self.size).filter(|rank| among(*rank)).count();
        let bound = self.group.workers.iter().filter(|(rank, worker)| among(**rank) && pods::node(worker).is_some()).count();
        let missing = u32::try_from(workers.saturating_sub(bound)).unwrap_or(u32::MAX);
        if missing > 0 {
            outstanding.extend(self.worker.map(|shape| (shape.clone(), missing)));
        }
        outstanding
    }
}

/// The question to a startup policy: the groups whose workers are not all admitted yet.
pub fn startup(set: &LeaderWorkerSet, observed: &Observed, now: Timestamp) -> startup::Request {
    let groups = observed.groups(set);
    let history = History::of(observed.leader_set(set));
    let (replicas, unplaced) = (set.replicas().unsigned_abs(), unplaced(set, &groups));
    let labels = set.metadata.labels.clone().unwrap_or_default();
    let incomplete = groups.values().filter_map(|group| {
        let leader = group.live_leader()?;
        let size = size_of(leader, set);
        let admitted = group.worker_set.and_then(|workers| workers.spec.as_ref()?.replicas).unwrap_or(0);
        let recreations = || history.times(group.index, pods::uid(leader), pods::revision(leader).unwrap_or_default());
        (u32::try_from(admitted).unwrap_or(0) + 1 < size).then(|| startup_group(group, size, recreations(), now))
    });
    let owner = format!("{}/{}", set.set_namespace(), set.set_name());
    startup::Request { owner, labels, replicas, unplaced, groups: incomplete.collect() }
}

/// How many of the set's groups have no place yet, or no leader.
fn unplaced(set: &LeaderWorkerSet, groups: &BTreeMap<u32, Group<'_>>) -> u32 {
    let has_place = |index: u32| groups.get(&index).and_then(Group::live_leader).is_some_and(|leader| !pods::is_gated(leader));
    let without = (0..set.replicas().unsigned_abs()).filter(|index| !has_place(*index));
    u32::try_from(without.count()).unwrap_or(u32::MAX)
}

fn startup_group(group: &Group<'_>, size: u32, recreations: u32, now: Timestamp) -> startup::Group {
    let created = group.pods().filter_map(|(_, pod)| pod.metadata.creation_timestamp.as_ref());
    let age_ms = created.map(|time| pods::millis_between(time.0, now)).max().unwrap_or(0);
    let pods = group.pods().map(|(rank, pod)| pods::startup_view(pod, rank, now)).collect();
    let placed = group.live_leader().is_some_and(|leader| !pods::is_gated(leader));
    startup::Group { index: group.index, size, pods, age_ms, recreations, placed }
}

/// Reads how many workers a startup policy admits out of its answer for one group.
///
/// # Errors
/// With the reason to show when the answer can't be carried out: more ranks than the group has.
pub fn admitted(step: &startup::Step, size: u32) -> Result<Admitted, Reason> {
    if step.admit > size {
        let message = format!("group {}: the policy admits {} ranks, and the group has {size}", step.group, step.admit);
        return Err(Reason { code: "PolicyAnswerRejected".to_owned(), message });
    }
    let complete = step.admit == size;
    Ok(Admitted { workers: step.admit.saturating_sub(1), reason: (!complete).then(|| step.reason.clone()) })
}

#[cfg(test)]
mod tests;
