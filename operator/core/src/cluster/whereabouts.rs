//! Where groups are, were, or are to be, in a snapshot's terms.

use std::collections::BTreeMap;

use super::holders::rows_named;
use super::ledger::GroupId;
use super::snapshot::Snapshot;
use crate::placement::{DomainId, LevelId, NodeId, Whereabouts};

impl Snapshot {
    /// Where the bound pods of a group are; `None` if it has none.
    pub fn current(&self, group: &GroupId, size: u32) -> Option<Whereabouts> {
        let occupant = self.ledger().occupants.get(group)?;
        let bound = occupant.pods.iter().filter_map(|(name, pod)| Some((group.rank_of(name)?, pod.node.clone()?)));
        self.whereabouts(&bound.collect(), size)
    }

    /// Where the pods of a group were that are gone, as far as is remembered.
    pub fn previous(&self, group: &GroupId, size: u32) -> Option<Whereabouts> {
        self.whereabouts(self.past().get(group)?, size)
    }

    fn whereabouts(&self, nodes: &BTreeMap<u32, String>, size: u32) -> Option<Whereabouts> {
        if nodes.keys().all(|rank| *rank >= size) {
            return None;
        }
        let row = |rank: u32| nodes.get(&rank).and_then(|name| self.node_of(name)).unwrap_or(NodeId::NONE);
        let nodes: Vec<NodeId> = (0..size).map(row).collect();
        let rows: Vec<u32> = nodes.iter().filter(|node| **node != NodeId::NONE).map(|node| node.0).collect();
        Some(Whereabouts { domains: self.domains_around(&rows), nodes })
    }

    /// For every level: the domain that all these nodes are in.
    fn domains_around(&self, rows: &[u32]) -> Vec<DomainId> {
        let levels = (0..).take(self.levels().len()).map(LevelId);
        levels.map(|level| self.around(level, rows).unwrap_or(DomainId::NONE)).collect()
    }

    /// The groups of a set that have pods or a promise, by index, with their domain at every level; but for those that this view is
    /// made for.
    pub fn groups_of(&self, namespace: &str, set: &str) -> Vec<(u32, Vec<DomainId>)> {
        let ledger = self.ledger();
        let first = GroupId { namespace: namespace.to_owned(), leader_pod: format!("{set}-") };
        let is_of_set = |group: &&GroupId| group.namespace == namespace && group.leader_pod.starts_with(&first.leader_pod);
        let occupied = ledger.occupants.range(&first..).map(|(group, _)| group).take_while(is_of_set);
        let held = ledger.holdings.range(&first..).map(|(group, _)| group).take_while(is_of_set);
        let mut groups = BTreeMap::new();
        for group in occupied.chain(held).filter(|group| !self.view().for_groups.contains(*group)) {
            if let Some(index) = group.index_in(set) {
                groups.entry(index).or_insert_with(|| self.domains_of(group));
            }
        }
        groups.into_iter().collect()
    }

    /// Where a group is: around its bound pods and what it was promised.
    fn domains_of(&self, group: &GroupId) -> Vec<DomainId> {
        let ledger = self.ledger();
        let pods = ledger.occupants.get(group).into_iter().flat_map(|occupant| occupant.pods.values());
        let mut rows: Vec<u32> = pods.filter_map(|pod| Some(self.node_of(pod.node.as_ref()?)?.0)).collect();
        if let Some(held) = ledger.holdings.get(group) {
            let holding = &held.holding;
            let parts = holding.subgroups.iter().map(|part| (&part.level, &part.domain));
            for (key, value) in parts.chain([(&holding.level, &holding.domain)]).filter(|(key, _)| !key.is_empty()) {
                rows.extend_from_slice(rows_named(key, value, self.held_levels()));
            }
            rows.extend(holding.pinned.iter().filter_map(|(node, _)| Some(self.node_of(node)?.0)));
        }
        self.domains_around(&rows)
    }
}
