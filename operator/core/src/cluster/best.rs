//! Domains with room for a group, tightest first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::packing::{Claims, Wanted};
use super::snapshot::Snapshot;
use crate::placement::{Demand, DomainId, LevelId, Place, ShapeId};

/// Domains of one level that fit, one after the other: least leftover first, ties by name.
///
/// What a domain would have left over is at least what the sum of its slots says. That takes no packing, so only domains that may
/// be next are packed: a handful for the first, wherever most domains are alike.
#[derive(Debug)]
pub(crate) struct Best<'a> {
    snapshot: &'a Snapshot,
    level: LevelId,
    pods: &'a [Demand],
    /// Domain ids are in the order of names.
    open: BinaryHeap<Reverse<Candidate>>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    /// What is left over; before the domain is packed, at least so much.
    leftover: u32,
    domain: u32,
    packed: bool,
}

impl<'a> Best<'a> {
    /// All domains that may fit, only free ones if `exclusive`.
    pub(super) fn of(snapshot: &'a Snapshot, level: LevelId, pods: &'a [Demand], exclusive: bool) -> Self {
        let wanted = Wanted::of(pods, snapshot.view().shapes.len());
        let columns: Vec<_> = wanted.each.iter().map(|(shape, pods)| (snapshot.domain_fit(level, id(*shape)), *pods)).collect();
        let (bulk, reserved) = wanted.bulk().map_or((None, 0), |(bulk, pods)| {
            (Some(snapshot.domain_fit(level, id(bulk))), pods.saturating_add(most_costs(snapshot, &wanted, bulk)))
        });
        let holders = snapshot.domain_holders(level);
        let domains = 0..snapshot.domain_count(level);
        let open = domains.filter(|domain| {
            let fits = columns.iter().all(|(fit, pods)| fit[*domain as usize] >= *pods);
            fits && (!exclusive || holders[*domain as usize] == 0)
        });
        let open = open.map(|domain| {
            let leftover = bulk.as_ref().map_or(0, |fit| fit[domain as usize].saturating_sub(reserved));
            Reverse(Candidate { leftover, domain, packed: false })
        });
        Self { snapshot, level, pods, open: open.collect() }
    }
}

impl Iterator for Best<'_> {
    type Item = DomainId;

    fn next(&mut self) -> Option<DomainId> {
        loop {
            let Reverse(Candidate { domain, packed, .. }) = self.open.pop()?;
            let domain = DomainId(domain);
            if packed {
                return Some(domain);
            }
            let packing = self.snapshot.pack(Place { level: self.level, domain }, self.pods, &Claims::new());
            if packing.is_complete() {
                self.open.push(Reverse(Candidate { leftover: packing.leftover, domain: domain.0, packed: true }));
            }
        }
    }
}

fn id(shape: usize) -> ShapeId {
    ShapeId(u32::try_from(shape).unwrap_or(u32::MAX))
}

/// The most slots of the bulk that the other pods can cost: each no more than the node has on which it is, and no more than its
/// hungriest resource takes from that many of the bulk.
fn most_costs(snapshot: &Snapshot, wanted: &Wanted, bulk: usize) -> u32 {
    let on_a_node = snapshot.node_fit(id(bulk)).iter().copied().max().unwrap_or(0);
    let shapes = &snapshot.view().shapes;
    let others = wanted.each.iter().filter(|(shape, _)| *shape != bulk);
    let costs = others.map(|(shape, pods)| {
        let each = shapes[*shape].requests().costs_at_most(shapes[bulk].requests());
        each.min(on_a_node).saturating_mul(*pods)
    });
    costs.fold(0, u32::saturating_add)
}
