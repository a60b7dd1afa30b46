//! One policy, or one chain of them, on one workload.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, PodSpec};
use muster_api::names::label;
use muster_core::cluster::{GroupId, Holding, Index, Shape, View};
use muster_core::placement::effects::Effects;
use muster_core::placement::{NodeId, ShapeId};
use muster_core::record::Record;
use serde_json::json;

use super::Outcome;
use super::workload::{Plan, Workload};
use crate::bench::percentile;
use crate::chain::Member;
use crate::policy::Policy;
use crate::scenario::{Fault, Scenario};

/// Pause before a set that waits is asked about again though nothing has changed.
const AGAIN: f64 = 30.0;
/// Nodes that failed longer ago are forgotten.
pub(super) const REMEMBERED: f64 = 24.0 * 3600.0;

/// Plays the workload, in which every set names these policies. The cluster is that of the scenario: its nodes, and what is used and
/// held there.
///
/// # Errors
/// When the scenario's nodes make no sense, or a policy is none that places groups.
pub fn simulate(policies: &[Policy], cluster: &Scenario, plan: &Plan, workload: &Workload) -> Result<Outcome, Fault> {
    let mut run = Run::new(policies, cluster, plan, workload)?;
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
pub(super) struct Group {
    set: usize,
    pub(super) index: u32,
    pub(super) size: u32,
    runtime: f64,
    /// Since when it has waited, while it does.
    waits: Option<f64>,
    /// By rank: the node, while it has its place; empty for a pod without one.
    nodes: Vec<String>,
    /// Moves with every placing, so that the end of an earlier life is nobody's.
    life: u32,
    /// All its pods run.
    runs: bool,
}

pub(super) struct Run<'a> {
    /// The policies, in the order in which sets name them.
    pub(super) members: Vec<Member>,
    pub(super) plan: &'a Plan,
    pub(super) index: Index,
    nodes: Vec<Node>,
    down: BTreeSet<usize>,
    capacity: BTreeMap<String, u32>,
    /// Domain of each node, by which fragmentation is told.
    domains: BTreeMap<String, String>,
    spec: PodSpec,
    /// What pods get when they are created.
    pub(super) prepared: Effects,
    pub(super) shape: Shape,
    pub(super) groups: Vec<Group>,
    pub(super) failures: BTreeMap<String, Vec<f64>>,
    /// By time, then in the order of their making.
    events: BTreeMap<(u64, usize), Event>,
    made: usize,
    pub(super) now: f64,
    /// Generation of the index at which each set was asked about in vain, and when.
    asked_at: BTreeMap<usize, (u64, f64)>,
    pub(super) tally: Tally,
}

#[derive(Default)]
pub(super) struct Tally {
    asked: u32,
    placed: u32,
    wedged: u32,
    pub(super) refused: u32,
    pub(super) calls: u32,
    pub(super) failed_calls: u32,
    waits: Vec<f64>,
    used: f64,
    usable: f64,
    stranded: f64,
    free: f64,
    curve: Vec<(f64, f64)>,
}

impl<'a> Run<'a> {
    fn new(policies: &[Policy], cluster: &Scenario, plan: &'a Plan, workload: &Workload) -> Result<Self, Fault> {
        if let Some(Policy::Startup(component)) = policies.iter().find(|policy| matches!(policy, Policy::Startup(_))) {
            let message = format!("{} is a startup policy; only placement policies are simulated", component.name());
            return Err(Fault::new("policies", message));
        }
        let members = Member::named(policies.iter().cloned());
        let (nodes, index) = cluster.index()?;
        let accelerator = accelerator(&nodes);
        let spec: PodSpec = serde_json::from_value(json!({
            "containers": [{ "name": "main", "resources": { "requests": { (accelerator.clone()): plan.accelerators.to_string() } } }],
        }))
        .map_err(|error| Fault::new("shapes", error.to_string()))?;
        let mut changed = spec.clone();
        let prepared = Effects::of_chain(members.iter().map(|member| member.preparation.effects.clone()));
        prepared.change_spec(&mut changed);
        let shape = Shape::of(&changed).map_err(|error| Fault::new("shapes", error.to_string()))?;
        let name = |node: &Node| node.metadata.name.clone().unwrap_or_default();
        let capacity = nodes.iter().map(|node| (name(node), slots_of(node, &accelerator, plan.accelerators))).collect();
        let by =
            plan.exclusive.clone().or_else(|| cluster.levels.iter().rev().find(|key| *key != "kubernetes.io/hostname").cloned());
        let domain =
            |node: &Node| by.as_ref().and_then(|key| node.metadata.labels.as_ref()?.get(key).cloned()).unwrap_or_default();
        let domains = nodes.iter().map(|node| (name(node), domain(node))).collect();
        let mut run = Self {
            members,
            plan,
            index,
            down: BTreeSet::new(),
            capacity,
            domains,
            spec: changed,
            prepared,
            shape,
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
            let nodes = Vec::new();
            self.groups.push(Group { set, index, size, runtime, waits, nodes, life: 0, runs: false });
        }
    }

    fn id(&self, group: usize) -> GroupId {
        let Group { set, index, .. } = &self.groups[group];
        GroupId { namespace: "ml".to_owned(), leader_pod: format!("set{set}-{index}") }
    }

    pub(super) fn pod_name(&self, group: usize, rank: usize) -> String {
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
        group.nodes.clear();
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

    /// The scheduler's part: every pod gets a node, as far as there is room.
    pub(super) fn bind(&mut self, group: usize, record: &Record) {
        let size = self.groups[group].size as usize;
        self.groups[group].nodes = vec![String::new(); size];
        self.tally.placed += 1;
        if let Some(since) = self.groups[group].waits.take() {
            self.tally.waits.push(self.now - since);
        }
        for (rank, part) in ranks(record, size).iter().enumerate() {
            let room = self.room(group);
            let fits = |name: &String| room.get(name).is_some_and(|slots| *slots > 0);
            let good = |name: &&String| fits(name) && self.matches(name, record, part.as_ref());
            let node = match record.instructions.pins.get(rank) {
                Some(pin) => Some(pin.clone()).filter(fits),
                None if is_bound_to_nodes(record) => room.keys().find(good).cloned(),
                None => self.favoured(&room, record, good),
            };
            let Some(node) = node else { continue };
            self.bind_pod(group, rank, &node);
        }
        self.hold_without_pods(group);
        self.begin_if_whole(group);
        if !self.groups[group].runs {
            self.tally.wedged += 1;
        }
    }

    /// The scheduler's own choice: in the best of the domains that it should favour, else the node with the most room.
    fn favoured(&self, room: &BTreeMap<String, u32>, record: &Record, good: impl Fn(&&String) -> bool) -> Option<String> {
        let mut preferred = record.instructions.preferred.iter();
        let in_domain = |(key, value): &(String, String)| {
            room.keys().find(|name| good(name) && self.index.node_label(name, key) == Some(value.as_str())).cloned()
        };
        let most = || room.iter().filter(|(name, _)| good(name)).max_by_key(|(_, slots)| **slots).map(|(name, _)| name.clone());
        preferred.find_map(in_domain).or_else(most)
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

    fn matches(&self, node: &str, record: &Record, part: Option<&(String, String)>) -> bool {
        let label = |key: &str| self.index.node_label(node, key);
        !record.instructions.avoid.iter().any(|avoided| avoided == node)
            && record.selector.iter().all(|(key, value)| label(key) == Some(value))
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
    fn hold_without_pods(&mut self, group: usize) {
        let whole = self.groups[group].nodes.iter().all(|node| !node.is_empty());
        if let Some(held) = self.index.holding(&self.id(group)).cloned().filter(|_| whole) {
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
            policy: self.members.iter().map(|member| member.policy.name()).collect::<Vec<_>>().join(", "),
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
fn ranks(record: &Record, size: usize) -> Vec<Option<(String, String)>> {
    let parts = record.instructions.parts.iter();
    let mut ranks: Vec<_> = parts.flat_map(|part| (0..part.pods).map(|_| Some((part.key.clone(), part.value.clone())))).collect();
    ranks.resize(size, None);
    ranks
}

/// Whether the record says more to the scheduler than which nodes to avoid or favour.
fn is_bound_to_nodes(record: &Record) -> bool {
    !record.selector.is_empty() || !record.instructions.parts.is_empty()
}
