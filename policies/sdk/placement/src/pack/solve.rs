//! Pods down a chain of levels: from the domains of a wide level to those of a near one.

use super::chain::Chain;
use super::split::{Fit, Share, Slot, share_out};

/// Where pods are to go, and what must stay together on the way.
#[derive(Debug, Clone)]
pub(super) struct Task<'a> {
    pub(super) chain: &'a Chain,
    /// The rung whose domains the pods end up in.
    pub(super) leaf: usize,
    /// For every rung up to the leaf: blocks of so many pods stay inside one domain.
    pub(super) blocks: &'a [u32],
    pub(super) fit: Fit,
    /// For every domain of the leaf: how much of it is in use.
    pub(super) busy: &'a [u32],
    /// For every rung: at most so many pods go into each domain, whatever room is below it. Empty where that is no matter.
    pub(super) limits: &'a [Vec<u32>],
    /// All pods.
    pub(super) pods: u32,
    /// The leaf domain that gets the first ranks.
    pub(super) first: Option<u32>,
}

impl Task<'_> {
    /// How many pods fit below a domain, in blocks that stay whole. `room` is what the leaf's domains have.
    pub(super) fn capacity(&self, rung: usize, domain: u32, room: &[u32]) -> u32 {
        if rung == self.leaf {
            return room.get(domain as usize).copied().unwrap_or(0);
        }
        let below = self.capacity_of(rung + 1, self.chain.rungs[rung].children(domain).iter().copied(), room);
        below.min(self.limit(rung, domain))
    }

    /// The most that may go into the domain.
    pub(super) fn limit(&self, rung: usize, domain: u32) -> u32 {
        self.limits.get(rung).and_then(|limits| limits.get(domain as usize)).copied().unwrap_or(u32::MAX)
    }

    /// How many pods fit into these domains together.
    fn capacity_of(&self, rung: usize, domains: impl Iterator<Item = u32>, room: &[u32]) -> u32 {
        let block = self.blocks[rung].max(1);
        let tail = self.pods % block;
        let (mut sum, mut has_tail) = (0_u32, false);
        for domain in domains {
            let capacity = self.capacity(rung, domain, room);
            sum = sum.saturating_add(capacity - capacity % block);
            has_tail |= tail > 0 && capacity % block >= tail;
        }
        sum.saturating_add(if has_tail { tail } else { 0 })
    }

    /// Shares `pods` out over these domains of `rung` and on down to the leaf, in the order of ranks. Takes them out of `room`.
    pub(super) fn share(&self, rung: usize, domains: &[u32], pods: u32, room: &mut [u32]) -> Option<Vec<Share>> {
        let slot =
            |domain: &u32| Slot { domain: *domain, room: self.capacity(rung, *domain, room), busy: self.busy_in(rung, *domain) };
        let slots: Vec<Slot> = domains.iter().map(slot).collect();
        let shares = share_out(self.fit, &slots, pods, self.blocks[rung])?;
        let shares = match self.first.and_then(|first| self.chain.around(self.leaf, first, rung)) {
            Some(first) => begin_with(first, shares, self.blocks[rung].max(1)),
            None => shares,
        };
        let mut ends = Vec::new();
        for (domain, pods) in shares {
            if rung == self.leaf {
                room[domain as usize] = room[domain as usize].checked_sub(pods)?;
                ends.push((domain, pods));
            } else {
                ends.extend(self.share(rung + 1, self.chain.rungs[rung].children(domain), pods, room)?);
            }
        }
        Some(ends)
    }

    /// How much of a domain is in use: as much as of the busiest of the leaf's domains in it.
    pub(super) fn busy_in(&self, rung: usize, domain: u32) -> u32 {
        if self.busy.is_empty() {
            return 0;
        }
        match rung == self.leaf {
            true => self.busy.get(domain as usize).copied().unwrap_or(0),
            false => {
                self.chain.rungs[rung].children(domain).iter().map(|child| self.busy_in(rung + 1, *child)).max().unwrap_or(0)
            }
        }
    }
}

/// The same shares with that domain's in front. A smaller last block stays last.
fn begin_with(first: u32, mut shares: Vec<Share>, block: u32) -> Vec<Share> {
    let Some(at) = shares.iter().position(|share| share.0 == first && share.1 >= block).filter(|at| *at > 0) else {
        return shares;
    };
    let (domain, pods) = shares.remove(at);
    let tail = pods % block;
    shares.insert(0, (domain, pods - tail));
    if tail > 0 {
        shares.push((domain, tail));
    }
    shares
}

/// Neighbouring shares of one domain are one.
pub(super) fn joined(shares: Vec<Share>) -> Vec<Share> {
    let mut joined: Vec<Share> = Vec::new();
    for (domain, pods) in shares.into_iter().filter(|share| share.1 > 0) {
        match joined.last_mut().filter(|last| last.0 == domain) {
            Some(last) => last.1 += pods,
            None => joined.push((domain, pods)),
        }
    }
    joined
}
