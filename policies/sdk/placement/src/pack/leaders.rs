//! A leader that is not a pod like its workers, or not counted among them: its domain is chosen first.

use std::cmp::Reverse;

use super::room::Left;
use super::solve::{Task, joined};
use super::split::Share;

/// Domains that are tried for the leader.
const MOST_LEADERS: usize = 8;

/// Who may have the leader.
pub(super) struct Leaders<'l> {
    /// What the leaf's domains have left.
    pub(super) left: &'l [Left],
    /// 1 if it is not counted among the pods.
    pub(super) apart: u32,
    /// Whether it makes a difference.
    pub(super) needed: bool,
}

impl Leaders<'_> {
    /// How many counted pods fit the domain together with the leader.
    fn with(&self, domain: u32) -> Option<u32> {
        self.left.get(domain as usize).filter(|left| left.with_leader > 0).map(|left| left.with_leader - self.apart)
    }

    /// Shares out over the domains, with the leader's first.
    pub(super) fn share(&self, task: &mut Task<'_>, rung: usize, domains: &[u32], room: &[u32]) -> Option<Vec<Share>> {
        let try_with = |task: &Task<'_>, mut room: Vec<u32>| task.share(rung, domains, task.pods, &mut room).map(joined);
        task.first = None;
        if !self.needed {
            return try_with(task, room.to_vec());
        }
        // A leader that takes no more than a worker finds a place without further ado nearly always.
        let plain = if self.apart == 0 { try_with(task, room.to_vec()) } else { None };
        let block = task.blocks[task.leaf].max(1);
        let holds = |share: &&Share| self.with(share.0).is_some_and(|holds| holds >= share.1) && share.1 >= block.min(task.pods);
        if let Some(home) = plain.iter().flatten().find(holds).map(|share| share.0) {
            task.first = Some(home);
            if let Some(shares) =
                try_with(task, room.to_vec()).filter(|shares| shares.first().is_some_and(|first| first.0 == home))
            {
                return Some(shares);
            }
        }
        let below = |domain: &u32| {
            let around = task.chain.around(task.leaf, *domain, rung);
            around.is_some_and(|around| domains.contains(&around))
        };
        let mut homes: Vec<u32> =
            (0..).zip(self.left).filter(|(_, left)| left.with_leader > self.apart).map(|(domain, _)| domain).collect();
        homes.retain(below);
        homes.sort_by_key(|domain| Reverse(self.with(*domain)));
        homes.into_iter().take(MOST_LEADERS).find_map(|home| {
            let mut room = room.to_vec();
            room[home as usize] = self.with(home)?.min(room[home as usize] + 1 - self.apart);
            task.first = Some(home);
            try_with(task, room).filter(|shares| shares.first().is_some_and(|first| first.0 == home))
        })
    }
}
