//! What one call has given away, and what that leaves.

use std::collections::BTreeMap;

use super::room::Crew;
use super::{Fit, Found, Pack, Search, in_use};
use crate::{Cluster, Demand, Unit};

impl<C: Cluster> Pack<'_, C> {
    /// For every rung before the leaf: how many pods its domains have left, where something was given away without saying where below.
    pub(super) fn limits(&mut self, leaf: usize, unit: &Unit) -> Vec<Vec<u32>> {
        let mut limits = Vec::new();
        for rung in 0..leaf {
            let known = if self.vague[rung] { self.left(rung, unit) } else { &[] };
            limits.push(known.iter().map(|left| left.workers.max(left.with_leader)).collect());
        }
        limits
    }

    /// For every domain of the rung: how many workers' room of it pods may take that were given a domain around it as a whole. Empty
    /// if there are no such pods.
    pub(super) fn loosely_taken(&self, rung: usize, crew: &Crew) -> Vec<u32> {
        if self.loose.iter().take(rung).all(BTreeMap::is_empty) {
            return Vec::new();
        }
        let taken = |domain: u32| {
            let around = (0..rung).filter_map(|wider| self.loose[wider].get(&self.chain.around(rung, domain, wider)?));
            around.flatten().fold(0_u32, |sum, demand| sum.saturating_add(self.shapes.room_of(demand, crew)))
        };
        self.all(rung).into_iter().map(taken).collect()
    }

    /// What the host's index says, which sees more exactly how a leader and its workers share nodes: domains of which nothing was
    /// given away.
    pub(super) fn ask(&mut self, rung: usize, unit: &Unit) -> Vec<u32> {
        let Some(level) = self.chain.rungs[rung].level else { return Vec::new() };
        let pods = crate::merged(unit.pods.iter().copied());
        if self.asked.as_ref().is_none_or(|(at, asked, _)| (*at, asked) != (rung, &pods)) {
            let exclusive = self.alone.contains(&rung);
            let fitting = self.cluster.best_domains(level, &pods, exclusive, 1024);
            self.asked = Some((rung, pods, fitting));
        }
        let untouched = |domain: &u32| {
            (0..=rung).all(|wider| {
                let around = self.chain.around(rung, *domain, wider);
                self.rooms[wider]
                    .as_ref()
                    .zip(around)
                    .is_none_or(|(room, around)| !room.is_given(around) || !self.vague[wider] && wider < rung)
            })
        };
        let asked = self.asked.as_ref().map(|(_, _, fitting)| fitting.as_slice()).unwrap_or_default();
        asked.iter().copied().filter(untouched).collect()
    }

    /// For every domain of the rung: how much of what the unit's pods ask for is in use there, in thousandths. Empty unless it matters.
    pub(super) fn busy(&mut self, rung: usize, search: &Search<'_>) -> Vec<u32> {
        let Some(level) = self.chain.rungs[rung].level.filter(|_| search.want.fit == Fit::PackBusy) else { return Vec::new() };
        let (cluster, shape) = (self.cluster, search.crew.bulk);
        let mut busy = self.busy.entry((rung, shape)).or_insert_with(|| in_use(cluster, level, shape)).clone();
        for (domain, busy) in (0..).zip(&mut busy) {
            let given = self.rooms[rung].as_ref().is_some_and(|room| room.is_given(domain));
            *busy = (*busy).max(u32::from(given));
        }
        busy
    }

    /// Enters what the unit takes into the books.
    pub(super) fn take(&mut self, unit: &Unit, found: &Found) {
        let mut ranks = unit.pods.iter().copied();
        let mut rest: Option<Demand> = None;
        for place in &found.places {
            let mut missing = place.pods;
            let mut pods = Vec::new();
            while missing > 0 {
                let Some(next) = rest.take().or_else(|| ranks.next()) else { break };
                let taken = missing.min(next.pods);
                pods.push(Demand { pods: taken, ..next });
                missing -= taken;
                rest = Some(Demand { pods: next.pods - taken, ..next }).filter(|rest| rest.pods > 0);
            }
            for wider in 0..=place.rung {
                if let (Some(around), Some(room)) = (self.chain.around(place.rung, place.domain, wider), &mut self.rooms[wider]) {
                    room.give(&self.shapes, around, &pods);
                }
            }
            if place.rung + 1 < self.chain.rungs.len() {
                self.vague[place.rung] = true;
                self.loose[place.rung].entry(place.domain).or_default().extend(pods);
            }
        }
        // All places are inside one domain of such a rung.
        let Some(first) = found.places.first() else { return };
        for rung in self.alone.clone() {
            if let Some(domain) = self.chain.around(first.rung, first.domain, rung) {
                self.close(rung, domain);
            }
        }
        let apart = self.apart.into_iter().flat_map(|rung| found.places.iter().map(move |place| (rung, place)));
        for (rung, place) in apart {
            if let Some(domain) = self.chain.around(place.rung, place.domain, rung).filter(|_| rung <= place.rung) {
                self.close(rung, domain);
            }
        }
    }

    /// Nothing more goes into the domain.
    pub(super) fn close(&mut self, rung: usize, domain: u32) {
        if let Some(closed) = self.closed[rung].get_mut(domain as usize) {
            *closed = true;
            let children = self.chain.rungs[rung].children(domain).to_vec();
            children.into_iter().for_each(|child| self.close(rung + 1, child));
        }
    }
}
