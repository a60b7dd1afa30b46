//! Domains with room for a group, tightest first.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;

use super::packing::{Claims, Wanted};
use super::rows::count;
use super::snapshot::Snapshot;
use crate::placement::{Demand, DomainId, LevelId, Place, ShapeId};

/// Domains of one level that fit, one after the other: least leftover first, ties by name.
///
/// What a domain would have left over is at least what the sum of its slots says, and often exactly that. It takes no packing, so
/// only domains that may be next are packed, if any.
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
    /// What is left over; before that is known, at least so much.
    leftover: u32,
    domain: u32,
    known: bool,
}

impl<'a> Best<'a> {
    /// All domains that may fit, only free ones if `exclusive`.
    pub(super) fn of(snapshot: &'a Snapshot, level: LevelId, pods: &'a [Demand], exclusive: bool) -> Self {
        let wanted = Wanted::of(pods, snapshot.view().shapes.len());
        let room = Slots::of(snapshot, level, pods, &wanted);
        let holders = snapshot.domain_holders(level);
        let domains = (0..snapshot.domain_count(level)).filter(|domain| !exclusive || holders[*domain as usize] == 0);
        let open = domains.filter_map(|domain| room.candidate(domain)).map(Reverse);
        Self { snapshot, level, pods, open: open.collect() }
    }
}

/// What sums of slots say about domains.
struct Slots {
    /// By domain, for every shape, and the pods of it.
    columns: Vec<(Arc<[u32]>, u32)>,
    /// By domain, for the bulk, and its pods.
    bulk: Option<(Arc<[u32]>, u32)>,
    /// The most slots of the bulk that the other pods can cost.
    most: u32,
    /// Where there are no other pods, or one that costs the same wherever the bulk may be: the domains in which it costs nothing, as
    /// there are nodes for it that are not for the bulk.
    exact: Option<BTreeSet<u32>>,
}

impl Slots {
    fn of(snapshot: &Snapshot, level: LevelId, pods: &[Demand], wanted: &Wanted) -> Self {
        let columns = wanted.each.iter().map(|(shape, pods)| (snapshot.domain_fit(level, id(*shape)), *pods)).collect();
        let Some((bulk, bulk_pods)) = wanted.bulk() else { return Self { columns, bulk: None, most: 0, exact: None } };
        let slots = snapshot.node_fit(id(bulk));
        let shapes = &snapshot.view().shapes;
        // No pod costs more than the node has on which it is.
        let on_a_node = slots.iter().copied().max().unwrap_or(0);
        let others: Vec<_> = wanted.each.iter().filter(|(shape, _)| *shape != bulk).collect();
        let costs = |shape: usize| shapes[shape].requests().costs_at_most(shapes[bulk].requests()).min(on_a_node);
        let most = others.iter().map(|(shape, pods)| costs(*shape).saturating_mul(*pods)).fold(0, u32::saturating_add);
        let known = pods.iter().all(|demand| (demand.shape.0 as usize) < shapes.len());
        let exact = match others.as_slice() {
            [] if known => Some(BTreeSet::new()),
            [(shape, 1)] if known && shapes[*shape].requests().costs_at_least(shapes[bulk].requests()) == most => {
                let domains = snapshot.node_domains(level);
                let others = snapshot.node_fit(id(*shape));
                let free =
                    slots.iter().zip(others.iter()).zip(domains.iter()).filter(|((bulk, other), _)| **bulk == 0 && **other > 0);
                Some(free.map(|(_, domain)| *domain).collect())
            }
            _ => None,
        };
        Self { columns, bulk: Some((snapshot.domain_fit(level, id(bulk)), bulk_pods)), most, exact }
    }

    /// The domain, unless it can't have room.
    fn candidate(&self, domain: u32) -> Option<Candidate> {
        let position = domain as usize;
        self.columns.iter().all(|(fit, pods)| fit[position] >= *pods).then_some(())?;
        let Some((fit, pods)) = &self.bulk else { return Some(Candidate { leftover: 0, domain, known: false }) };
        let left = |cost: u32| fit[position].checked_sub(cost.saturating_add(*pods));
        match &self.exact {
            Some(free) => {
                let cost = if free.contains(&domain) { 0 } else { self.most };
                Some(Candidate { leftover: left(cost)?, domain, known: true })
            }
            None => Some(Candidate { leftover: left(self.most).unwrap_or(0), domain, known: false }),
        }
    }
}

impl Iterator for Best<'_> {
    type Item = DomainId;

    fn next(&mut self) -> Option<DomainId> {
        loop {
            let Reverse(Candidate { domain, known, .. }) = self.open.pop()?;
            let domain = DomainId(domain);
            if known {
                return Some(domain);
            }
            let packing = self.snapshot.pack(Place { level: self.level, domain }, self.pods, &Claims::new());
            if packing.is_complete() {
                self.open.push(Reverse(Candidate { leftover: packing.leftover, domain: domain.0, known: true }));
            }
        }
    }
}

fn id(shape: usize) -> ShapeId {
    ShapeId(count(shape))
}
