//! One policy on one workload.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, PodSpec};
use muster_api::names::label;
use muster_core::cluster::{GroupId, Holding, Index, Scope, Shape, Snapshot, View};
use muster_core::placement::check::{Assignment, Checked, Checker};
use muster_core::placement::{BadNode, Demand, DomainId, LevelId, NodeId, Request, ShapeId, Unit, Whereabouts};
use serde_json::json;

use super::Outcome;
use super::workload::{Plan, Workload};
use crate::bench::percentile;
use crate::policy::Policy;
use crate::scenario::{Fault, Scenario};

/// Pause before a set that waits is asked about again though nothing has changed.
const AGAIN: f64 = 30.0;
/// Nodes that failed longer ago are forgotten.
const REMEMBERED: f64 = 24.0 * 3600.0;

/// Plays the workload. The cluster is that of the scenario: its nodes, and what is used and held there.
///
/// # Errors
/// When the scenario's nodes make no sense.
pub fn simulate(policy: &Policy, cluster: &Scenario, plan: &Plan, workload: &Workload) -> Result<Outcome, Fault> {
    let mut run = Run::new(policy, cluster, plan, workload)?;
    run.play(workload);
    Ok(run.outcome())
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Event {
    Arrives(usize),
    Ends {
        group: usize,
        life: u32,
    },
    Fails(usize),
    Returns(usize),
    /// Waiting sets are asked about again.
    Look,
}

/// A group: its fate from arrival to end.
struct Group {
    set: usize,
    index: u32,
    size: u32,
    runtime: f64,
    /// Since when it has waited, while it does.
    waits: Option<f64>,
    /// By rank: the node, while it has its place; empty for a pod without one.
    nodes: Vec<String>,
    before: Vec<String>,
    /// Moves with every placing, so that the end of an earlier life is nobody's.
    life: u32,
    /// All its pods run.
    runs: bool,
}

struct Run<'a> {
    policy: &'a Policy,
    plan: &'a Plan,
    index: Index,
    nodes: Vec<Node>,
    down: BTreeSet<usize>,
    capacity: BTreeMap<String, u32>,
    /// Domain of each node, by which fragmentation is told.
    domains: BTreeMap<String, String>,
    spec: PodSpec,
    shape: Shape,
    levels: Vec<String>,
    groups: Vec<Group>,
    failures: BTreeMap<String, Vec<f64>>,
    /// By time, then in the order of their making.
    events: BTreeMap<(u64, usize), Event>,
    made: usize,
    now: f64,
    /// Generation of the index at which each set was asked about in vain, and when.
    asked_at: BTreeMap<usize, (u64, f64)>,
    tally: Tally,
}

#[derive(Default)]
struct Tally {
    asked: u32,
    placed: u32,
    wedged: u32,
    refused: u32,
    calls: u32,
    failed_calls: u32,
    waits: Vec<f64>,
    used: f64,
    usable: f64,
    stranded: f64,
    free: f64,
    curve: Vec<(f64, f64)>,
}

impl<'a> Run<'a> {
    fn new(policy: &'a Policy, cluster: &Scenario, plan: &'a Plan, workload: &Workload) -> Result<Self, Fault> {
        let (nodes, index) = cluster.index()?;
        let accelerator = accelerator(&nodes);
        let spec: PodSpec = serde_json::from_value(json!({
            "containers": [{ "name": "main", "resources": { "requests": { (accelerator.clone()): plan.accelerators.to_string() } } }],
        }))
        .map_err(|error| Fault::new("shapes", error.to_string()))?;
        let mut changed = spec.clone();
        policy.preparation().effects.change_spec(&mut changed);
        let shape = Shape::of(&changed).map_err(|error| Fault::new("shapes", error.to_string()))?;
        let mut levels = policy.preparation().levels;
        let exclusive = plan.exclusive.iter().filter(|key| !levels.contains(key)).cloned().collect::<Vec<_>>();
        levels.extend(exclusive);
        let name = |node: &Node| node.metadata.name.clone().unwrap_or_default();
        let capacity = nodes.iter().map(|node| (name(node), slots_of(node, &accelerator, plan.accelerators))).collect();
        let by =
            plan.exclusive.clone().or_else(|| cluster.levels.iter().rev().find(|key| *key != "kubernetes.io/hostname").cloned());
        let domain =
            |node: &Node| by.as_ref().and_then(|key| node.metadata.labels.as_ref()?.get(key).cloned()).unwrap_or_default();
        let domains = nodes.iter().map(|node| (name(node), domain(node))).collect();
        let mut run = Self {
            policy,
            plan,
            index,
            down: BTreeSet::new(),
            capacity,
            domains,
            spec: changed,
            shape,
            levels,
            groups: Vec::new(),
            failures: BTreeMap::new(),
            events: BTreeMap::new(),
            made: 0,
            now: 0.0,
            asked_at: BTreeMap::new(),
            tally: Tally::default(),
            nodes,
        };
        for (set, arrival) in workload.arrivals.iter().enumerate() {
            run.at(arrival.at, Event::Arrives(set));
        }
        for outage in &workload.outages {
            run.at(outage.from, Event::Fails(outage.node));
            run.at(outage.until, Event::Returns(outage.node));
        }
        Ok(run)
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "milliseconds of some days")]
    fn at(&mut self, time: f64, event: Event) {
        self.made += 1;
        self.events.insert(((time * 1000.0) as u64, self.made), event);
    }

    #[expect(clippy::cast_precision_loss, reason = "milliseconds of some days")]
    fn play(&mut self, workload: &Workload) {
        while let Some(((millis, _), event)) = self.events.pop_first() {
            let time = (millis as f64 / 1000.0).min(self.plan.horizon);
            self.account(time - self.now);
            self.now = time;
            if time >= self.plan.horizon {
                break;
            }
            match event {
                Event::Arrives(set) => self.arrive(set, workload),
                Event::Ends { group, life } if self.groups[group].life == life => self.leave(group, false),
                Event::Ends { .. } | Event::Look => {}
                Event::Fails(node) => self.fail(node),
                Event::Returns(node) => self.restore(node),
            }
            self.finish_wedged();
            self.ask_all();
        }
        self.account(self.plan.horizon - self.now);
        self.now = self.plan.horizon;
    }

    fn arrive(&mut self, set: usize, workload: &Workload) {
        let arrival = &workload.arrivals[set];
        for (index, runtime) in (0..).zip(&arrival.runtimes) {
            self.tally.asked += 1;
            let (size, runtime, waits) = (arrival.size, *runtime, Some(self.now));
            let (nodes, before) = (Vec::new(), Vec::new());
            self.groups.push(Group { set, index, size, runtime, waits, nodes, before, life: 0, runs: false });
        }
    }

    fn id(&self, group: usize) -> GroupId {
        let Group { set, index, .. } = &self.groups[group];
        GroupId { namespace: "ml".to_owned(), leader_pod: format!("set{set}-{index}") }
    }

    fn pod_name(&self, group: usize, rank: usize) -> String {
        let leader = self.id(group).leader_pod;
        if rank == 0 { leader } else { format!("{leader}-{rank}") }
    }

    /// A group's pods go, and with them what it holds.
    fn leave(&mut self, group: usize, lost: bool) {
        for rank in 0..self.groups[group].nodes.len() {
            let name = self.pod_name(group, rank);
            self.index.remove_pod("ml", &name);
        }
        self.index.release(&self.id(group));
        let now = self.now;
        let group = &mut self.groups[group];
        group.before = std::mem::take(&mut group.nodes);
        group.runs = false;
        group.life += 1;
        if lost {
            group.waits = Some(now);
            self.tally.asked += 1;
        }
    }

    fn fail(&mut self, node: usize) {
        self.down.insert(node);
        let name = self.node_changed(node, false);
        self.failures.entry(name.clone()).or_default().push(self.now);
        let hit: Vec<usize> = (0..self.groups.len()).filter(|group| self.groups[*group].nodes.contains(&name)).collect();
        hit.into_iter().for_each(|group| self.leave(group, true));
    }

    fn restore(&mut self, node: usize) {
        self.down.remove(&node);
        self.node_changed(node, true);
    }

    fn node_changed(&mut self, node: usize, ready: bool) -> String {
        let mut changed = self.nodes[node].clone();
        let conditions = changed.status.as_mut().and_then(|status| status.conditions.as_mut());
        for condition in conditions.into_iter().flatten().filter(|condition| condition.type_ == "Ready") {
            condition.status = if ready { "True" } else { "False" }.to_owned();
        }
        self.index.apply_node(&changed);
        changed.metadata.name.unwrap_or_default()
    }

    /// Asks about every set that waits, in the order in which they came.
    fn ask_all(&mut self) {
        let waiting: BTreeSet<usize> = self.groups.iter().filter(|group| group.waits.is_some()).map(|group| group.set).collect();
        let mut any = false;
        for set in waiting {
            let asked = self.asked_at.get(&set).copied();
            if asked.is_some_and(|(generation, at)| generation == self.index.generation() && self.now - at < AGAIN) {
                any = true;
                continue;
            }
            let members: Vec<usize> = (0..self.groups.len())
                .filter(|group| self.groups[*group].set == set && self.groups[*group].waits.is_some())
                .collect();
            self.ask(set, &members);
            self.asked_at.insert(set, (self.index.generation(), self.now));
            any |= members.iter().any(|group| self.groups[*group].waits.is_some());
        }
        if any && !self.events.values().any(|event| *event == Event::Look) {
            self.at(self.now + AGAIN, Event::Look);
        }
    }

    fn ask(&mut self, set: usize, members: &[usize]) {
        let view = View {
            levels: self.levels.clone(),
            shapes: vec![self.shape.clone()],
            namespace: "ml".to_owned(),
            scope: Scope::Namespace,
            for_groups: members.iter().map(|group| self.id(*group)).collect(),
            divided: false,
            avoid: BTreeSet::new(),
            inside: Vec::new(),
        };
        let snapshot = self.index.snapshot(view.clone());
        let request = self.request(set, members, &snapshot);
        let Some(outcome) = self.policy.place(&snapshot, &request) else { return };
        self.tally.calls += 1;
        let Ok(answers) = outcome.result else {
            self.tally.failed_calls += 1;
            return;
        };
        let mut checker = Checker::new(&snapshot, &request);
        for answer in answers {
            let Some(group) = members.iter().copied().find(|group| self.groups[*group].index == answer.unit) else {
                self.tally.refused += 1;
                continue;
            };
            match checker.apply(&answer) {
                Ok(Checked::Assigned(assignment)) => {
                    let pods = [Demand { shape: ShapeId(0), pods: self.groups[group].size }];
                    let committed = self.index.commit(&view, &format!("set{set}"), self.id(group), &pods, &assignment);
                    match committed {
                        Ok(()) => self.bind(group, Some(&assignment)),
                        Err(_) => self.tally.refused += 1,
                    }
                }
                Ok(Checked::Unconstrained(_)) => self.bind(group, None),
                Ok(Checked::Hold { .. } | Checked::Refused) => {}
                Err(_) => self.tally.refused += 1,
            }
        }
    }

    fn request(&self, set: usize, members: &[usize], snapshot: &Snapshot) -> Request {
        let units = members.iter().map(|group| {
            let group = &self.groups[*group];
            let nodes: Vec<NodeId> = group.before.iter().map(|name| snapshot.node_of(name).unwrap_or(NodeId::NONE)).collect();
            let previous = (!nodes.is_empty()).then(|| Whereabouts { domains: domains(snapshot, &nodes), nodes });
            let pods = vec![Demand { shape: ShapeId(0), pods: group.size }];
            Unit { id: group.index, pods, previous, ..Unit::default() }
        });
        let bad = self.failures.iter().filter_map(|(name, times)| {
            let recent: Vec<f64> = times.iter().copied().filter(|time| self.now - time < REMEMBERED).collect();
            let last = recent.last()?;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "milliseconds of a day")]
            let age_ms = ((self.now - last) * 1000.0) as u64;
            Some(BadNode { node: snapshot.node_of(name)?, failures: u32::try_from(recent.len()).unwrap_or(u32::MAX), age_ms })
        });
        Request {
            owner: format!("ml/set{set}"),
            exclusive: self.plan.exclusive.as_deref().and_then(|key| snapshot.level_of(key)),
            units: units.collect(),
            bad_nodes: bad.collect(),
            ..Request::default()
        }
    }

    /// The scheduler's part: every pod gets a node, as far as there is room.
    fn bind(&mut self, group: usize, assignment: Option<&Assignment>) {
        let size = self.groups[group].size as usize;
        self.groups[group].nodes = vec![String::new(); size];
        self.tally.placed += 1;
        if let Some(since) = self.groups[group].waits.take() {
            self.tally.waits.push(self.now - since);
        }
        let (pins, by_rank) = match assignment {
            Some(assignment) => (assignment.instructions.pins.clone(), ranks(assignment, size)),
            None => (Vec::new(), vec![None; size]),
        };
        for (rank, own) in by_rank.iter().enumerate() {
            let room = self.room(group);
            let fits = |name: &String| room.get(name).is_some_and(|slots| *slots > 0);
            let node = match (pins.get(rank), assignment) {
                (Some(pin), _) => Some(pin.clone()).filter(fits),
                (None, Some(assignment)) => {
                    let good = |name: &&String| fits(name) && self.matches(name, assignment, own.as_ref());
                    room.keys().find(good).cloned()
                }
                (None, None) => {
                    room.iter().filter(|(_, slots)| **slots > 0).max_by_key(|(_, slots)| **slots).map(|(name, _)| name.clone())
                }
            };
            let Some(node) = node else { continue };
            self.bind_pod(group, rank, &node);
        }
        self.hold_without_pods(group, assignment.is_some());
        self.begin_if_whole(group);
        if !self.groups[group].runs {
            self.tally.wedged += 1;
        }
    }

    /// Slots of every node for this group's pods.
    fn room(&mut self, group: usize) -> BTreeMap<String, u32> {
        let view =
            View { shapes: vec![self.shape.clone()], namespace: "ml".to_owned(), for_groups: BTreeSet::new(), ..View::default() };
        let held = self.index.holding(&self.id(group)).cloned();
        // What is kept for the group itself is what it binds into.
        if let Some(held) = &held {
            self.index.hold(Holding {
                outstanding: Vec::new(),
                pinned: Vec::new(),
                subgroups: Vec::new(),
                exclusive: false,
                ..held.clone()
            });
        }
        let snapshot = self.index.snapshot(view);
        let fit = snapshot.node_fit(ShapeId(0));
        let room =
            (0_u32..).zip(fit.iter()).filter_map(|(row, slots)| Some((snapshot.node_name(NodeId(row))?.to_owned(), *slots)));
        let room = room.collect();
        if let Some(held) = held {
            self.index.hold(held);
        }
        room
    }

    fn matches(&self, node: &str, assignment: &Assignment, part: Option<&(String, String)>) -> bool {
        let label = |key: &str| self.index.node_label(node, key);
        !assignment.instructions.avoid.iter().any(|avoided| avoided == node)
            && assignment.selector.iter().all(|(key, value)| label(key) == Some(value))
            && part.is_none_or(|(key, value)| label(key) == Some(value))
    }

    fn bind_pod(&mut self, group: usize, rank: usize, node: &str) {
        let (set, index) = (self.groups[group].set, self.groups[group].index);
        let labels = json!({
            label::SET_NAME: format!("set{set}"), label::GROUP_INDEX: index.to_string(), label::GROUP_KEY: format!("set{set}-{index}"),
        });
        let pod = crate::scenario::pod(&self.pod_name(group, rank), "ml", self.spec.clone(), node, labels);
        self.index.apply_pod(&pod);
        self.groups[group].nodes[rank] = node.to_owned();
    }

    /// Bound pods count by themselves.
    fn hold_without_pods(&mut self, group: usize, assigned: bool) {
        let whole = self.groups[group].nodes.iter().all(|node| !node.is_empty());
        if let Some(held) = self.index.holding(&self.id(group)).cloned().filter(|_| assigned && whole) {
            self.index.hold(Holding { outstanding: Vec::new(), pinned: Vec::new(), subgroups: Vec::new(), ..held });
        }
    }

    fn begin_if_whole(&mut self, group: usize) {
        if self.groups[group].runs || self.groups[group].nodes.iter().any(String::is_empty) {
            return;
        }
        self.groups[group].runs = true;
        let (ends, life) = (self.now + self.groups[group].runtime, self.groups[group].life);
        self.at(ends, Event::Ends { group, life });
    }

    /// Pods that found no node take what has become free.
    fn finish_wedged(&mut self) {
        let wedged: Vec<usize> =
            (0..self.groups.len()).filter(|group| !self.groups[*group].nodes.is_empty() && !self.groups[*group].runs).collect();
        for group in wedged {
            for rank in 0..self.groups[group].nodes.len() {
                if !self.groups[group].nodes[rank].is_empty() {
                    continue;
                }
                let free = self.room(group).into_iter().filter(|(_, slots)| *slots > 0).max_by_key(|(_, slots)| *slots);
                if let Some((node, _)) = free {
                    self.bind_pod(group, rank, &node);
                }
            }
            self.begin_if_whole(group);
        }
    }

    /// Adds what was so for the time that has passed.
    fn account(&mut self, passed: f64) {
        let mut taken: BTreeMap<&str, u32> = BTreeMap::new();
        let mut working = 0_u32;
        for group in &self.groups {
            for node in group.nodes.iter().filter(|node| !node.is_empty()) {
                *taken.entry(node.as_str()).or_default() += 1;
                working += u32::from(group.runs);
            }
        }
        let down: BTreeSet<&str> = self.down.iter().filter_map(|node| self.nodes[*node].metadata.name.as_deref()).collect();
        let largest = self.plan.sizes.iter().copied().max().unwrap_or(1).max(1);
        let (mut usable, mut free_by_domain) = (0, BTreeMap::<&str, u32>::new());
        for (name, slots) in self.capacity.iter().filter(|(name, _)| !down.contains(name.as_str())) {
            usable += slots;
            let free = slots.saturating_sub(taken.get(name.as_str()).copied().unwrap_or(0));
            *free_by_domain.entry(self.domains.get(name).map_or("", String::as_str)).or_default() += free;
        }
        let free: u32 = free_by_domain.values().sum();
        let stranded: u32 = free_by_domain.values().map(|free| free % largest).sum();
        let tally = &mut self.tally;
        tally.used += f64::from(working) * passed;
        tally.usable += f64::from(usable) * passed;
        tally.free += f64::from(free) * passed;
        tally.stranded += f64::from(stranded) * passed;
        tally.curve.push((self.now, if usable == 0 { 0.0 } else { f64::from(working) / f64::from(usable) }));
    }

    fn outcome(mut self) -> Outcome {
        let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
        let never = self.groups.iter().filter(|group| group.waits.is_some()).count();
        let tally = &mut self.tally;
        Outcome {
            policy: self.policy.name(),
            asked: tally.asked,
            placed: tally.placed,
            wedged: tally.wedged,
            refused: tally.refused,
            calls: tally.calls,
            failed_calls: tally.failed_calls,
            utilisation: share(tally.used, tally.usable),
            fragmentation: share(tally.stranded, tally.free),
            wait_p50: percentile(&mut tally.waits, 50),
            wait_p99: percentile(&mut tally.waits, 99),
            never: u32::try_from(never).unwrap_or(u32::MAX),
            curve: std::mem::take(&mut tally.curve),
        }
    }
}

/// The accelerator that the nodes have.
fn accelerator(nodes: &[Node]) -> String {
    let has = |name: &str| {
        let allocatable = |node: &Node| node.status.as_ref()?.allocatable.as_ref()?.get(name).cloned();
        nodes.iter().filter_map(allocatable).any(|quantity| quantity.0 != "0")
    };
    ["nvidia.com/gpu", "google.com/tpu", "amd.com/gpu"].into_iter().find(|name| has(name)).unwrap_or("cpu").to_owned()
}

/// Pods that the node has accelerators for.
fn slots_of(node: &Node, accelerator: &str, each: u32) -> u32 {
    let facts = muster_core::cluster::node::Facts::of(node);
    let unit = if accelerator == "cpu" { 1000 } else { 1 };
    let slots = facts.allocatable.get(accelerator) / (i64::from(each.max(1)) * unit);
    if facts.unschedulable || !facts.ready { 0 } else { u32::try_from(slots).unwrap_or(0) }
}

/// For every rank of a split group: the label that its part's nodes have.
fn ranks(assignment: &Assignment, size: usize) -> Vec<Option<(String, String)>> {
    let parts = assignment.instructions.parts.iter();
    let mut ranks: Vec<_> = parts.flat_map(|part| (0..part.pods).map(|_| Some((part.key.clone(), part.value.clone())))).collect();
    ranks.resize(size, None);
    ranks
}

fn domains(snapshot: &Snapshot, nodes: &[NodeId]) -> Vec<DomainId> {
    let each = (0..).zip(snapshot.levels()).map(|(level, _)| {
        let column = snapshot.node_domains(LevelId(level));
        let mut domains = nodes.iter().map(|node| column.get(node.0 as usize).copied().unwrap_or(DomainId::NONE.0));
        let first = domains.next().unwrap_or(DomainId::NONE.0);
        if domains.all(|domain| domain == first) { DomainId(first) } else { DomainId::NONE }
    });
    each.collect()
}
