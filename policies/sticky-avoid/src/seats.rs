//! One node per pod.

use std::collections::{BTreeMap, BTreeSet};

use muster_placement_sdk::{Cluster, Demand, NO_NODE};

/// A whole node in parts. Pods of several shapes on one node take from each other what only the operator knows exactly; counting
/// each as its share of a node full of its like comes close, and the operator checks.
const WHOLE: u64 = 1_000_000;

/// Where to look for a node instead of one that is no good.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Within {
    Cluster,
    Domain { level: u32, domain: u32 },
}

/// Room on nodes, and what this call has given away of it.
pub(crate) struct Seats<'a, C> {
    cluster: &'a C,
    fit: BTreeMap<u32, Vec<u32>>,
    used: BTreeMap<u32, u64>,
}

impl<'a, C: Cluster> Seats<'a, C> {
    pub(crate) fn new(cluster: &'a C) -> Self {
        Self { cluster, fit: BTreeMap::new(), used: BTreeMap::new() }
    }

    /// A node for every pod: the one it was on, if that has room and is none to avoid; else another one inside `place`. With them,
    /// how many are others. None if one pod finds nothing.
    pub(crate) fn find(
        &mut self,
        pods: &[Demand],
        before: &[u32],
        avoid: &BTreeSet<u32>,
        place: Within,
    ) -> Option<(Vec<u32>, usize)> {
        let shapes: Vec<u32> = pods.iter().flat_map(|demand| (0..demand.pods).map(|_| demand.shape)).collect();
        if before.len() != shapes.len() {
            return None;
        }
        let mut trial = self.used.clone();
        let good = |node: u32| node != NO_NODE && !avoid.contains(&node);
        let kept =
            shapes.iter().zip(before).map(|(shape, node)| (good(*node) && self.seat(&mut trial, *node, *shape)).then_some(*node));
        let kept: Vec<Option<u32>> = kept.collect();
        let replaced = kept.iter().filter(|node| node.is_none()).count();
        let mut nodes = Vec::with_capacity(kept.len());
        let mut spares: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (kept, shape) in kept.into_iter().zip(&shapes) {
            let node = match kept {
                Some(node) => node,
                None => {
                    let spares = spares.entry(*shape).or_insert_with(|| self.spares(*shape, avoid, place));
                    // The last of the list is the tightest. One without room now has none for a later pod of this shape either.
                    loop {
                        let node = *spares.last()?;
                        if self.seat(&mut trial, node, *shape) {
                            break node;
                        }
                        spares.pop();
                    }
                }
            };
            nodes.push(node);
        }
        self.used = trial;
        Some((nodes, replaced))
    }

    fn seat(&mut self, used: &mut BTreeMap<u32, u64>, node: u32, shape: u32) -> bool {
        let fit = self.fit(shape).get(node as usize).copied().unwrap_or_default();
        let taken = used.get(&node).copied().unwrap_or_default();
        match WHOLE.checked_div(u64::from(fit)) {
            Some(share) if taken + share <= WHOLE => {
                used.insert(node, taken + share);
                true
            }
            _ => false,
        }
    }

    fn fit(&mut self, shape: u32) -> &[u32] {
        let cluster = self.cluster;
        self.fit.entry(shape).or_insert_with(|| cluster.node_fit(shape))
    }

    /// Nodes with room, most room first; of equals the first of their names last.
    fn spares(&mut self, shape: u32, avoid: &BTreeSet<u32>, place: Within) -> Vec<u32> {
        let (nodes, fit) = match place {
            Within::Domain { level, domain } => self.cluster.nodes_in(level, domain, shape),
            Within::Cluster => ((0..self.cluster.node_count()).collect(), self.fit(shape).to_vec()),
        };
        let mut spares: Vec<(u32, u32)> =
            fit.into_iter().zip(nodes).filter(|(fit, node)| *fit > 0 && !avoid.contains(node)).collect();
        spares.sort_unstable_by_key(|spare| std::cmp::Reverse(*spare));
        spares.into_iter().map(|(_, node)| node).collect()
    }

    /// How many pods of this shape the nodes would take.
    pub(crate) fn room_on(&mut self, nodes: impl IntoIterator<Item = u32>, shape: u32) -> u32 {
        let fit = self.fit(shape);
        nodes.into_iter().filter_map(|node| fit.get(node as usize)).fold(0, |sum, fit| sum.saturating_add(*fit))
    }
}
