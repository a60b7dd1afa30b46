//! The live picture of the cluster, kept up by events and read through snapshots.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Node as ApiNode, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;

use super::amounts::Amounts;
use super::changes::Change;
use super::derived::{Derived, Sources};
use super::holders::Kept;
use super::ledger::{GroupId, Held, Holding, PodFacts};
use super::node::{Facts, Node};
use super::past::{Failures, Past};
use super::reserve::{nodes_with, own_use, reserve};
use super::rows::Rows;
use super::snapshot::{Frozen, Lazy, Snapshot, View};
use crate::instructions::Instructions;
use crate::placement::Demand;
use crate::placement::check::{Assignment, Rejection};

/// How many snapshots are kept to be handed out again while nothing changes.
const RECENT: usize = 8;

/// Nodes, the room on them, and who has been promised what.
///
/// Events may come in any order: a pod may be bound to a node that is not known yet.
#[derive(Debug, Default)]
pub struct Index {
    generation: u64,
    sources: Sources,
    /// What pods take on nodes that are not known.
    elsewhere: BTreeMap<String, Amounts>,
    pods: HashMap<(String, String), Arc<PodFacts>>,
    derived: Derived,
    past: Past,
    failures: Failures,
    /// The generation at which room was freed last.
    freed: u64,
    now: Option<Timestamp>,
    recent: Vec<Snapshot>,
}

impl Index {
    /// An index of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The generation that freed room last: a pod or a promise has gone, or a node has changed. What only takes room does not count.
    pub fn freed(&self) -> u64 {
        self.freed
    }

    fn frees(&mut self) {
        self.generation += 1;
        self.freed = self.generation;
    }

    /// Tells the time. The index has no clock; what it remembers of failures is dated by this.
    pub fn set_time(&mut self, now: Timestamp) {
        self.now = Some(now);
    }

    /// Nodes on which pods of groups were lost in the last day: name, how often, milliseconds since the last time.
    pub fn bad_nodes(&mut self, now: Timestamp) -> Vec<(String, u32, u64)> {
        self.failures.recent(now)
    }

    /// Notes that a node has failed the groups that have pods there, if it has any.
    fn node_failed(&mut self, name: &str) {
        let lost = self.sources.members_on.contains_key(name);
        if let Some(now) = self.now.filter(|_| lost) {
            self.failures.note(name, now);
        }
    }

    /// Moves when something that placement looks at has changed, and only then.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Enters a node or what is new about it.
    pub fn apply_node(&mut self, node: &ApiNode) {
        let facts = Facts::of(node);
        match self.sources.nodes.search(&facts.name) {
            Ok(row) => {
                let known = &self.sources.nodes[row].facts;
                if **known == facts {
                    return;
                }
                let (before, after) = (Arc::clone(known), Arc::new(facts));
                let failed = before.ready && !after.ready;
                self.sources.nodes.change(row).facts = Arc::clone(&after);
                self.note(Change::Facts { row, before, after });
                if failed {
                    self.node_failed(node.metadata.name.as_deref().unwrap_or_default());
                }
            }
            Err(row) => {
                let used = self.elsewhere.remove(&facts.name).unwrap_or_default();
                let facts = Arc::new(facts);
                self.sources.nodes.insert(row, Node { facts: Arc::clone(&facts), used, avoided: false });
                self.note(Change::Came { row, facts });
            }
        }
        self.frees();
    }

    /// Forgets a node. Pods that are still bound to it stay in their groups.
    pub fn remove_node(&mut self, name: &str) {
        let Some(row) = self.sources.nodes.row_of(name) else { return };
        self.node_failed(name);
        let node = self.sources.nodes.remove(row);
        if !node.used.is_empty() {
            self.elsewhere.insert(name.to_owned(), node.used.clone());
        }
        self.note(Change::Gone { row, facts: Arc::clone(&node.facts) });
        self.frees();
    }

    /// Enters a pod or what is new about it.
    pub fn apply_pod(&mut self, pod: &Pod) {
        self.apply_facts(&pod.metadata, pod.metadata.name.as_deref().unwrap_or_default(), PodFacts::of(pod));
    }

    /// Enters a group's worker StatefulSet: for as long as it exists it may make pods for the domain it selects, even when its
    /// leader and its set are gone, so it holds that domain like a pod that is not bound yet.
    pub fn apply_worker_set(&mut self, workers: &StatefulSet) {
        self.apply_facts(&workers.metadata, &worker_set_key(workers.metadata.name.as_deref()), PodFacts::of_workers(workers));
    }

    /// Forgets a worker StatefulSet whose object is gone.
    pub fn remove_worker_set(&mut self, namespace: &str, name: &str) {
        self.remove_pod(namespace, &worker_set_key(Some(name)));
    }

    fn apply_facts(&mut self, meta: &ObjectMeta, name: &str, facts: Option<PodFacts>) {
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let Some(facts) = facts else { return self.remove_pod(namespace, name) };
        let key = (namespace.to_owned(), name.to_owned());
        let known = self.pods.get(&key).map(Arc::clone);
        if known.as_deref() == Some(&facts) {
            return;
        }
        let ends = known.as_ref().is_some_and(|known| !known.requests.is_empty() && facts.requests.is_empty());
        let facts = Arc::new(facts);
        // Entered before the old facts leave, so that a group whose only pod changes does not end in between.
        if let Some((group, _)) = &facts.member {
            self.sources.ledger.enter(name, &facts);
            self.derived.group_moved(group);
        }
        if let Some(known) = known {
            self.remember(name, &known, &facts);
            self.give_back(&known);
            if let Some((group, _)) = known.member.as_ref().filter(|_| known.member != facts.member) {
                self.sources.ledger.leave(name, &known);
                self.derived.group_moved(group);
            }
        }
        self.take(&facts);
        self.pods.insert(key, facts);
        if ends { self.frees() } else { self.generation += 1 }
    }

    /// Keeps in mind where a pod was whose successor of the same name came before its end was seen, and that a pod failed.
    fn remember(&mut self, name: &str, before: &PodFacts, after: &PodFacts) {
        let Some((group, node)) = before.seat() else { return };
        if after.node.as_deref() != Some(node) {
            self.past.note(group, name, node);
        } else if let Some(now) = self.now.filter(|_| after.failed && !before.failed) {
            self.failures.note(node, now);
        }
    }

    /// Forgets a pod whose object is gone.
    pub fn remove_pod(&mut self, namespace: &str, name: &str) {
        let Some(known) = self.pods.remove(&(namespace.to_owned(), name.to_owned())) else { return };
        if let Some((group, node)) = known.seat() {
            self.past.note(group, name, node);
        }
        self.give_back(&known);
        if let Some((group, _)) = &known.member {
            self.sources.ledger.leave(name, &known);
            self.derived.group_moved(group);
        }
        self.frees();
    }

    /// Enters a holding, or replaces the one its group has.
    pub fn hold(&mut self, holding: Holding) {
        if self.holding(&holding.group) != Some(&holding) {
            self.derived.group_moved(&holding.group);
            self.sources.ledger.hold(holding);
            self.generation += 1;
        }
    }

    /// Gives a group's holding up. Its domain stays held until the group's last pod object is gone.
    pub fn release(&mut self, group: &GroupId) {
        if self.holding(group).is_some() {
            self.sources.ledger.release(group);
            self.derived.group_moved(group);
            self.frees();
        }
    }

    /// What the ledger has of a group, for [`put_back`](Self::put_back).
    pub(crate) fn held(&self, group: &GroupId) -> Option<Arc<Held>> {
        self.sources.ledger.holdings.get(group).cloned()
    }

    /// Takes back a holding that was entered in the same breath: nobody has been refused because of it, so no room is freed.
    pub(crate) fn put_back(&mut self, group: &GroupId, before: Option<Arc<Held>>) {
        self.sources.ledger.put(group, before);
        self.derived.group_moved(group);
        self.generation += 1;
    }

    /// Makes these the only holdings of a set: what a reconcile derives from caches, with the decisions they don't show yet.
    pub fn replace_holdings_of_set(&mut self, namespace: &str, set: &str, holdings: Vec<Holding>) {
        let kept: BTreeSet<_> = holdings.iter().map(|holding| holding.group.clone()).collect();
        let first = GroupId { namespace: namespace.to_owned(), leader_pod: String::new() };
        let of_namespace = self.sources.ledger.holdings.range(&first..).take_while(|(group, _)| group.namespace == namespace);
        let of_set = of_namespace.filter(|(_, held)| held.holding.set == set);
        let gone: Vec<_> = of_set.map(|(group, _)| group.clone()).filter(|group| !kept.contains(group)).collect();
        for group in gone {
            self.release(&group);
        }
        for holding in holdings {
            self.hold(holding);
        }
    }

    /// The group's holding, if it has one that was not released.
    pub fn holding(&self, group: &GroupId) -> Option<&Holding> {
        self.sources.ledger.holdings.get(group).filter(|held| !held.released).map(|held| &held.holding)
    }

    /// A label of a node.
    pub fn node_label(&self, node: &str, key: &str) -> Option<&str> {
        let row = self.sources.nodes.row_of(node)?;
        self.sources.nodes[row].facts.labels.get(key).map(String::as_str)
    }

    /// Whether the node says what it offers to pods. One that says nothing has no kubelet, and what fits there is anybody's guess.
    pub fn has_capacity(&self, node: &str) -> bool {
        let row = self.sources.nodes.row_of(node);
        row.is_some_and(|row| self.sources.nodes[row].facts.allocatable != Amounts::default())
    }

    /// Whether some node has this label. `None` while no node is known.
    pub fn has_label(&self, key: &str) -> Option<bool> {
        (!self.sources.nodes.is_empty()).then(|| self.sources.nodes.iter().any(|node| node.facts.labels.contains_key(key)))
    }

    /// A frozen view. Cheap when nothing has changed since the last one like it.
    pub fn snapshot(&mut self, view: View) -> Snapshot {
        let generation = self.generation;
        self.recent.retain(|snapshot| snapshot.generation() == generation);
        if let Some(known) = self.recent.iter().find(|snapshot| *snapshot.view() == view) {
            return known.clone();
        }
        let snapshot = self.freeze(view, None);
        if self.recent.len() == RECENT {
            self.recent.remove(0);
        }
        self.recent.push(snapshot.clone());
        snapshot
    }

    /// Makes a view. With `only` rows, room is held back for others just where that can matter to those rows.
    fn freeze(&mut self, view: View, only: Option<&[u32]>) -> Snapshot {
        let generation = self.generation;
        let sources = &self.sources;
        let held_levels = self.derived.catch_up(sources);
        let mut claims = own_use(&sources.ledger, &view.for_groups, &sources.nodes);
        let avoided = avoided(&view, &sources.nodes);
        let (nodes, fit) = match only {
            None => self.derived.columns(&view, claims, avoided, &held_levels, sources),
            Some(rows) => {
                reserve(&sources.ledger, &view.for_groups, &sources.nodes, &held_levels, Some(rows), &mut claims);
                (nodes_with(sources.nodes.clone(), &claims, &avoided), Vec::new())
            }
        };
        let levels = view.levels.iter().map(|key| self.derived.level(key, &sources.nodes)).collect();
        let sitting = view.levels.iter().map(|key| self.derived.sitting(key, &held_levels, sources)).collect();
        let kept = only.map(|rows| Kept::on(rows, &sources.ledger, &view, &held_levels, &nodes));
        let (lazy, ledger, past) = (Lazy::for_view(&view, kept), sources.ledger.clone(), self.past.seats());
        Snapshot::from(Frozen { generation, view, nodes, levels, held_levels, sitting, ledger, past, fit, lazy })
    }

    /// Checks a holding against the present state and enters it, in one step: of two groups that race for the last domain
    /// exactly one gets it. `pods` are what must fit, with shape ids of `view`; of the view only shapes, namespace and scope
    /// count, because here the only group that may ignore itself is the one that asks.
    pub fn try_hold(&mut self, view: &View, pods: &[Demand], holding: Holding) -> Result<(), Rejection> {
        let selector = BTreeMap::from([(holding.level.clone(), holding.domain.clone())]);
        self.check_and_hold(view, pods, holding, selector)
    }

    /// Carries a checked assignment out in the ledger: [`try_hold`](Self::try_hold) with everything the assignment says.
    pub fn commit(
        &mut self,
        view: &View,
        set: &str,
        group: GroupId,
        pods: &[Demand],
        assignment: &Assignment,
    ) -> Result<(), Rejection> {
        let holding = assignment.holding(group, set, view, pods);
        let Instructions { avoid, effects, .. } = &assignment.instructions;
        let inside = view.inside.iter().map(|(key, value)| (key, value));
        let selector = inside.chain(&effects.node_selector).chain(&assignment.selector);
        let selector = selector.map(|(key, value)| (key.clone(), value.clone())).collect();
        let view = View { avoid: view.avoid.iter().chain(avoid).cloned().collect(), ..view.clone() };
        self.check_and_hold(&view, pods, holding, selector)
    }

    fn check_and_hold(
        &mut self,
        view: &View,
        pods: &[Demand],
        holding: Holding,
        mut selector: BTreeMap<String, String>,
    ) -> Result<(), Rejection> {
        selector.retain(|key, _| !key.is_empty());
        let for_groups = BTreeSet::from([holding.group.clone()]);
        let levels: BTreeSet<&String> = selector.keys().chain(holding.levels()).filter(|key| !key.is_empty()).collect();
        let view = View { levels: levels.into_iter().cloned().collect(), for_groups, ..view.clone() };
        let mut rows: Vec<u32> = holding.pinned.iter().filter_map(|(name, _)| self.sources.nodes.row_of(name)).collect();
        let of_subgroups = holding.subgroups.iter().map(|subgroup| (&subgroup.level, &subgroup.domain));
        for (key, value) in selector.iter().chain(of_subgroups) {
            let level = self.derived.level(key, &self.sources.nodes);
            rows.extend(level.domain(value).map_or(&[][..], |domain| level.rows_of(domain)));
        }
        let snapshot = self.freeze(view, Some(&rows));
        super::commit::check(&snapshot, pods, &holding, &selector)?;
        self.hold(holding);
        Ok(())
    }

    /// Enters what a pod takes on its node.
    fn take(&mut self, pod: &PodFacts) {
        if let Some((group, node)) = pod.seat() {
            let members = self.sources.members_on.entry(node.to_owned()).or_default();
            match members.iter_mut().find(|(known, _)| known == group) {
                Some((_, pods)) => *pods += 1,
                None => members.push((group.clone(), 1)),
            }
        }
        self.add_use(pod, 1);
    }

    /// Gives back what a pod took on its node.
    fn give_back(&mut self, pod: &PodFacts) {
        if let Some((group, node)) = pod.seat()
            && let Some(members) = self.sources.members_on.get_mut(node)
        {
            members.iter_mut().filter(|(known, _)| known == group).for_each(|(_, pods)| *pods -= 1);
            members.retain(|(_, pods)| *pods > 0);
            if members.is_empty() {
                self.sources.members_on.remove(node);
            }
        }
        self.add_use(pod, -1);
    }

    fn add_use(&mut self, pod: &PodFacts, times: i64) {
        let Some(name) = pod.node.as_ref().filter(|_| !pod.requests.is_empty()) else { return };
        if let Some(row) = self.sources.nodes.row_of(name) {
            self.sources.nodes.change(row).used.add(&pod.requests, times);
            self.note(Change::Room(row));
            return;
        }
        let used = self.elsewhere.entry(name.clone()).or_default();
        used.add(&pod.requests, times);
        if used.is_empty() {
            self.elsewhere.remove(name);
        }
    }

    /// Notes a change of the node table, which is made already.
    fn note(&mut self, change: Change) {
        self.derived.note(change, &self.sources);
    }
}

/// Rows that a view wants nothing of.
fn avoided(view: &View, nodes: &Rows) -> BTreeSet<u32> {
    let mut avoided: BTreeSet<u32> = view.avoid.iter().filter_map(|name| nodes.row_of(name)).collect();
    if !view.inside.is_empty() {
        let outside = |node: &Node| view.inside.iter().any(|(key, value)| node.facts.labels.get(key) != Some(value));
        avoided.extend((0..).zip(nodes.iter()).filter(|(_, node)| outside(node)).map(|(row, _)| row));
    }
    avoided
}

/// What a worker StatefulSet is called among the pods: no pod's name has a slash.
fn worker_set_key(name: Option<&str>) -> String {
    format!("statefulset/{}", name.unwrap_or_default())
}
