//! Do these pods fit these nodes together?
//!
//! All pods but those of the most numerous shape (the *bulk*) are placed one by one, each on the node that costs the fewest
//! bulk slots; the bulk then fills what is left. For a leader and its equal workers that is exact. With more odd pods it can
//! miss a packing that an exhaustive search would find, but it never claims one that does not exist.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::amounts::Amounts;
use super::node::Node;
use super::shape::Shape;
use crate::placement::Demand;

/// What is taken on top of the node table: by row.
pub(crate) type Claims = BTreeMap<u32, Amounts>;

/// Nodes, shapes and how often each shape fits each node when nothing is claimed.
pub(crate) struct Room<'a> {
    pub(crate) nodes: &'a [Arc<Node>],
    pub(crate) shapes: &'a [Shape],
    /// `(row, position in shapes)` to slots without claims.
    pub(crate) fit: &'a dyn Fn(u32, usize) -> u32,
}

/// Where pods would go, and what would be left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Packing {
    /// Row, position in the shapes, pods.
    pub(crate) takes: Vec<(u32, usize, u32)>,
    /// Pods that found room.
    pub(crate) placed: u32,
    /// Pods that were to be placed.
    pub(crate) wanted: u32,
    /// Bulk pods that would still fit afterwards.
    pub(crate) leftover: u32,
}

impl Packing {
    pub(crate) fn is_complete(&self) -> bool {
        self.placed == self.wanted
    }
}

impl Room<'_> {
    /// Packs as many of the pods as possible into these rows; `claims` are taken already.
    pub(crate) fn pack(&self, rows: &[u32], demands: &[Demand], claims: &Claims) -> Packing {
        let mut packing = Packing::default();
        let mut wanted: Vec<(usize, u32)> = Vec::new();
        for demand in demands.iter().filter(|demand| demand.pods > 0) {
            let shape = demand.shape.0 as usize;
            packing.wanted = packing.wanted.saturating_add(demand.pods);
            match wanted.iter_mut().find(|(known, _)| *known == shape) {
                Some((_, pods)) => *pods = pods.saturating_add(demand.pods),
                None => wanted.push((shape, demand.pods)),
            }
        }
        wanted.retain(|(shape, _)| *shape < self.shapes.len());
        let Some((bulk, bulk_pods)) = wanted.iter().copied().max_by_key(|(_, pods)| *pods) else { return packing };
        let here = |row: &u32| claims.get(row).map(|claimed| (*row, claimed.clone()));
        let mut claims: Claims = if claims.is_empty() { Claims::new() } else { rows.iter().filter_map(here).collect() };
        for (shape, pods) in wanted.into_iter().filter(|(shape, _)| *shape != bulk) {
            for _ in 0..pods {
                let Some(row) = self.cheapest(rows, shape, bulk, &claims) else { break };
                self.claim(row, shape, 1, &mut claims);
                packing.takes.push((row, shape, 1));
                packing.placed += 1;
            }
        }
        self.fill(rows, bulk, bulk_pods, &claims, &mut packing);
        packing
    }

    /// Takes what a packing takes.
    pub(crate) fn commit(&self, packing: &Packing, claims: &mut Claims) {
        for (row, shape, pods) in &packing.takes {
            self.claim(*row, *shape, *pods, claims);
        }
    }

    /// How many pods of the shape fit on top of the claims.
    pub(crate) fn slots(&self, row: u32, shape: usize, claims: &Claims) -> u32 {
        match (self.fit)(row, shape) {
            0 => 0,
            slots => claims
                .get(&row)
                .map_or(slots, |claimed| self.nodes[row as usize].room(self.shapes[shape].requests(), Some(claimed)).min(slots)),
        }
    }

    pub(crate) fn claim(&self, row: u32, shape: usize, pods: u32, claims: &mut Claims) {
        claims.entry(row).or_default().add(self.shapes[shape].requests(), i64::from(pods));
    }

    /// The node where one pod of `shape` costs the fewest slots of `bulk`; the first of several.
    fn cheapest(&self, rows: &[u32], shape: usize, bulk: usize, claims: &Claims) -> Option<u32> {
        let mut best: Option<(u32, u32)> = None;
        for row in rows.iter().copied().filter(|row| self.slots(*row, shape, claims) > 0) {
            let before = self.slots(row, bulk, claims);
            let after = if before == 0 {
                0
            } else {
                let mut taken = claims.get(&row).cloned().unwrap_or_default();
                taken.add(self.shapes[shape].requests(), 1);
                self.nodes[row as usize].room(self.shapes[bulk].requests(), Some(&taken)).min(before)
            };
            let cost = before - after;
            if best.is_none_or(|(least, _)| cost < least) {
                best = Some((cost, row));
            }
            if cost == 0 {
                break;
            }
        }
        best.map(|(_, row)| row)
    }

    fn fill(&self, rows: &[u32], shape: usize, pods: u32, claims: &Claims, packing: &mut Packing) {
        let mut missing = pods;
        for row in rows {
            let slots = self.slots(*row, shape, claims);
            let taken = slots.min(missing);
            if taken > 0 {
                packing.takes.push((*row, shape, taken));
                packing.placed += taken;
                missing -= taken;
            }
            packing.leftover = packing.leftover.saturating_add(slots - taken);
        }
    }
}
