//! Do these pods fit these nodes together?
//!
//! All pods but those of the most numerous shape (the *bulk*) are placed one by one, each on the node that costs the fewest
//! bulk slots; the bulk then fills what is left. For a leader and its equal workers that is exact. With more odd pods it can
//! miss a packing that an exhaustive search would find, but it never claims one that does not exist.

use std::collections::BTreeMap;

use super::amounts::Amounts;
use super::rows::Rows;
use super::shape::Shape;
use crate::placement::Demand;

/// What is taken on top of the node table: by row.
pub(crate) type Claims = BTreeMap<u32, Amounts>;

/// Nodes, shapes and how often each shape fits each node when nothing is claimed.
pub(crate) struct Room<'a> {
    pub(crate) nodes: &'a Rows,
    pub(crate) shapes: &'a [Shape],
    /// `(row, position in shapes)` to slots without claims.
    pub(crate) fit: &'a dyn Fn(u32, usize) -> u32,
    /// Whether anybody wants to know what is left: else looking for room ends with the last pod.
    pub(crate) counts_leftover: bool,
}

/// What was claimed before a packing, and what the packing claims on top: nothing is copied that it does not touch.
struct Taken<'a> {
    before: &'a Claims,
    /// With what was claimed there before.
    here: Claims,
}

impl Taken<'_> {
    fn get(&self, row: u32) -> Option<&Amounts> {
        self.here.get(&row).or_else(|| self.before.get(&row))
    }

    fn add(&mut self, row: u32, requests: &Amounts) {
        let before = self.before;
        self.here.entry(row).or_insert_with(|| before.get(&row).cloned().unwrap_or_default()).add(requests, 1);
    }
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

/// Demands by shape.
#[derive(Debug)]
pub(super) struct Wanted {
    /// Of all shapes, those that nobody knows included.
    pods: u32,
    /// Position in the shapes, pods; every known shape once.
    pub(super) each: Vec<(usize, u32)>,
}

impl Wanted {
    /// Demands for shapes of which there are so many.
    pub(super) fn of(demands: &[Demand], shapes: usize) -> Self {
        let mut wanted = Self { pods: 0, each: Vec::new() };
        for demand in demands.iter().filter(|demand| demand.pods > 0) {
            let shape = demand.shape.0 as usize;
            wanted.pods = wanted.pods.saturating_add(demand.pods);
            match wanted.each.iter_mut().find(|(known, _)| *known == shape) {
                Some((_, pods)) => *pods = pods.saturating_add(demand.pods),
                None => wanted.each.push((shape, demand.pods)),
            }
        }
        wanted.each.retain(|(shape, _)| *shape < shapes);
        wanted
    }

    /// The most numerous shape, and its pods.
    pub(super) fn bulk(&self) -> Option<(usize, u32)> {
        self.each.iter().copied().max_by_key(|(_, pods)| *pods)
    }
}

impl Room<'_> {
    /// Packs as many of the pods as possible into these rows; `claims` are taken already.
    pub(crate) fn pack(&self, rows: &[u32], demands: &[Demand], claims: &Claims) -> Packing {
        let wanted = Wanted::of(demands, self.shapes.len());
        let mut packing = Packing { wanted: wanted.pods, ..Packing::default() };
        let Some((bulk, bulk_pods)) = wanted.bulk() else { return packing };
        let mut taken = Taken { before: claims, here: Claims::new() };
        for (shape, pods) in wanted.each.into_iter().filter(|(shape, _)| *shape != bulk) {
            for _ in 0..pods {
                let Some(row) = self.cheapest(rows, shape, bulk, &taken) else { break };
                taken.add(row, self.shapes[shape].requests());
                packing.takes.push((row, shape, 1));
                packing.placed += 1;
            }
        }
        self.fill(rows, bulk, bulk_pods, &taken, &mut packing);
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
        self.slots_beside(row, shape, claims.get(&row))
    }

    fn slots_beside(&self, row: u32, shape: usize, claimed: Option<&Amounts>) -> u32 {
        match ((self.fit)(row, shape), claimed) {
            (0, _) => 0,
            (slots, None) => slots,
            (slots, Some(_)) => self.nodes[row].room(self.shapes[shape].requests(), claimed).min(slots),
        }
    }

    pub(crate) fn claim(&self, row: u32, shape: usize, pods: u32, claims: &mut Claims) {
        claims.entry(row).or_default().add(self.shapes[shape].requests(), i64::from(pods));
    }

    /// The node where one pod of `shape` costs the fewest slots of `bulk`; the first of several.
    fn cheapest(&self, rows: &[u32], shape: usize, bulk: usize, taken: &Taken<'_>) -> Option<u32> {
        let (pod, of_bulk) = (self.shapes[shape].requests(), self.shapes[bulk].requests());
        // Where the bulk may be, no node is cheaper; where it may not be, the pod costs nothing.
        let least = pod.costs_at_least(of_bulk);
        let mut best: Option<(u32, u32)> = None;
        for row in rows.iter().copied() {
            if best.is_some_and(|(cost, _)| cost <= least) && (self.fit)(row, bulk) > 0 {
                continue;
            }
            let claimed = taken.get(row);
            if self.slots_beside(row, shape, claimed) == 0 {
                continue;
            }
            let cost = match self.slots_beside(row, bulk, claimed) {
                0 => 0,
                before => before - self.nodes[row].room_beside(of_bulk, claimed, Some(pod)).min(before),
            };
            if best.is_none_or(|(least, _)| cost < least) {
                best = Some((cost, row));
            }
            if cost == 0 {
                break;
            }
        }
        best.map(|(_, row)| row)
    }

    fn fill(&self, rows: &[u32], shape: usize, pods: u32, taken: &Taken<'_>, packing: &mut Packing) {
        let mut missing = pods;
        for row in rows {
            let slots = self.slots_beside(*row, shape, taken.get(*row));
            let filled = slots.min(missing);
            if filled > 0 {
                packing.takes.push((*row, shape, filled));
                packing.placed += filled;
                missing -= filled;
            }
            packing.leftover = packing.leftover.saturating_add(slots - filled);
            if missing == 0 && !self.counts_leftover {
                break;
            }
        }
    }
}
