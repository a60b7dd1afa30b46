//! Which of several slices that would do.

use std::collections::{BTreeMap, BTreeSet};

/// Domains to choose from.
pub(crate) struct Choice<'a> {
    /// Best first.
    pub(crate) candidates: Vec<u32>,
    /// For every domain of the level: what it lies in. Domains of one slice should lie in one.
    pub(crate) around: &'a [u32],
    /// Whether all of the unit has to lie in one.
    pub(crate) together: bool,
    /// Domains that have room for a leader besides, if it requests no TPUs.
    pub(crate) with_leader: Option<&'a BTreeSet<u32>>,
}

impl Choice<'_> {
    /// For every slice in turn so many domains; none if there are too few.
    pub(crate) fn of(mut self, slices: usize, domains: usize) -> Option<Vec<u32>> {
        if self.together {
            self.candidates = self.in_one_place(slices * domains)?;
        }
        let mut chosen = Vec::with_capacity(slices * domains);
        for _ in 0..slices {
            let of_slice = self.of_slice(domains, chosen.is_empty())?;
            self.candidates.retain(|domain| !of_slice.contains(domain));
            chosen.extend(of_slice);
        }
        Some(chosen)
    }

    /// The candidates in the surroundings that have the fewest, but enough, and room for the leader.
    fn in_one_place(&self, all: usize) -> Option<Vec<u32>> {
        let places = self.counts().into_iter().filter(|(_, count)| *count >= all);
        let inside = |place: u32| self.candidates.iter().copied().filter(move |domain| self.place(*domain) == place);
        let places = places.filter(|(place, _)| inside(*place).any(|domain| self.leads(domain)));
        let (place, _) = places.min_by_key(|(place, count)| (*count, *place))?;
        Some(inside(place).collect())
    }

    /// Several domains come from the surroundings with the fewest candidates that are enough, so that larger ones stay whole for
    /// larger slices. What fits into none takes the largest.
    fn of_slice(&self, domains: usize, leader: bool) -> Option<Vec<u32>> {
        if self.candidates.len() < domains {
            return None;
        }
        let counts = self.counts();
        let mut order = self.candidates.clone();
        if domains > 1 {
            let count = |domain: u32| counts.get(&self.place(domain)).copied().unwrap_or_default();
            order.sort_by_key(|domain| match count(*domain) {
                count if count >= domains => (0, count, self.place(*domain)),
                count => (1, usize::MAX - count, self.place(*domain)),
            });
        }
        if leader && let Some(first) = order.iter().position(|domain| self.leads(*domain)) {
            order[..=first].rotate_right(1);
        }
        order.truncate(domains);
        Some(order)
    }

    fn counts(&self) -> BTreeMap<u32, usize> {
        let mut counts = BTreeMap::new();
        for domain in &self.candidates {
            *counts.entry(self.place(*domain)).or_default() += 1;
        }
        counts
    }

    fn place(&self, domain: u32) -> u32 {
        self.around.get(domain as usize).copied().unwrap_or_default()
    }

    fn leads(&self, domain: u32) -> bool {
        self.with_leader.is_none_or(|with_leader| with_leader.contains(&domain))
    }
}

/// For every domain the larger one around it, and the room that each of the larger ones has.
pub(crate) type Surroundings = (Vec<u32>, Vec<u32>);

/// Slices inside larger ones: those come first whose surroundings have the least room left, nearest surroundings first, so that large
/// slices stay whole.
pub(crate) fn least_room_first(candidates: &mut [u32], surroundings: &[Surroundings]) {
    let room = |domain: u32| {
        let left = |(around, room): &Surroundings| {
            around.get(domain as usize).and_then(|around| room.get(*around as usize)).copied().unwrap_or(u32::MAX)
        };
        surroundings.iter().rev().map(left).collect::<Vec<_>>()
    };
    candidates.sort_by_cached_key(|domain| room(*domain));
}
