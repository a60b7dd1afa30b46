//! Which groups a rolling update may replace now: partition and replicas of the leader StatefulSet.
//!
//! The arithmetic is upstream's (`reference`: lws v0.10, KEP-511 for the partition), and stricter where upstream's would lose more groups
//! than the budget allows: when a template changes again while a rollout is under way, and when groups are down for another reason.
//! A StatefulSet updates ordinals ≥ partition, from the highest down; surge groups are ordinals ≥ `replicas` and are created at the new
//! revision.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use muster_api::LeaderWorkerSet;
use muster_api::scaled::{Rounding, scaled};

/// How much an update may cost, in groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// maxUnavailable, scaled and rounded down.
    pub max_unavailable: u32,
    /// maxSurge, scaled and rounded up, capped at the replicas.
    pub max_surge: u32,
}

impl Budget {
    /// The budget of a set at its present replicas. One that scaling has rounded to nothing allows one group to be down, as with a
    /// Deployment: the update would never end otherwise, and admission can't refuse a scaling for it.
    pub fn of(set: &LeaderWorkerSet) -> Self {
        let replicas = set.replicas();
        // Validation keeps out what is no number.
        let groups = |value: &IntOrString, rounding| u32::try_from(scaled(value, replicas, rounding).unwrap_or(0)).unwrap_or(0);
        let max_surge = groups(&set.max_surge(), Rounding::Up).min(u32::try_from(replicas).unwrap_or(0));
        let max_unavailable = groups(&set.max_unavailable(), Rounding::Down);
        let exhausted = replicas > 0 && max_surge == 0 && max_unavailable == 0;
        Self { max_unavailable: if exhausted { 1 } else { max_unavailable }, max_surge }
    }
}

/// A group as a rollout sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupState {
    /// Leader and workers are up.
    pub ready: bool,
    /// Leader and workers carry the current revision.
    pub updated: bool,
    /// Not ready, not updated, and by all signs never ready again at the revision it has: no update waits for it for ever.
    pub stuck: bool,
}

impl GroupState {
    /// A group that isn't there.
    pub const MISSING: Self = Self { ready: false, updated: false, stuck: false };

    fn is_done(self) -> bool {
        self.ready && self.updated
    }
}

/// What the rollout is computed from.
#[derive(Debug, Clone)]
pub struct Rollout<'a> {
    /// `spec.replicas`.
    pub replicas: u32,
    /// maxUnavailable and maxSurge.
    pub budget: Budget,
    /// `spec.rolloutStrategy.rollingUpdateConfiguration.partition`.
    pub user_partition: u32,
    /// The leader StatefulSet now; `None` before it exists.
    pub current: Option<Current>,
    /// The template changed in this reconcile.
    pub template_changed: bool,
    /// Groups `0..current.replicas`, missing ones as not ready and not updated.
    pub groups: &'a [GroupState],
}

/// The leader StatefulSet as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Current {
    /// Its partition.
    pub partition: u32,
    /// Its replicas, surge included.
    pub replicas: u32,
    /// `spec.replicas` when it was last applied (annotation `replicas`).
    pub set_replicas: u32,
}

/// What the leader StatefulSet should say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// `updateStrategy.rollingUpdate.partition`.
    pub partition: u32,
    /// `spec.replicas`.
    pub replicas: u32,
}

/// The next step of a rollout, or the steady state.
pub fn next(rollout: &Rollout<'_>) -> Target {
    let target = match rollout.current {
        None => Target { partition: 0, replicas: rollout.replicas },
        Some(current) => rollout.step(current),
    };
    Target { partition: target.partition.max(rollout.user_partition), ..target }
}

/// Outdated groups from index `from` on that may be taken down now, lowest first.
///
/// The partition has let them go already; this counts once more what is down in the meantime, so that groups that have failed or
/// recovered since don't add up to more than the budget.
pub fn replaceable(rollout: &Rollout<'_>, from: u32) -> Vec<u32> {
    let Some(current) = rollout.current else { return Vec::new() };
    let mut room = rollout.allowance(current.replicas).saturating_sub(rollout.down(current.replicas, Stuck::Ignored));
    let mut due: Vec<u32> = (from..current.replicas)
        .rev()
        .filter(|index| {
            let group = rollout.group(*index);
            let free = !group.ready || room > 0;
            if group.ready && !group.updated {
                room = room.saturating_sub(1);
            }
            free && !group.updated
        })
        .collect();
    due.reverse();
    due
}

impl Rollout<'_> {
    fn group(&self, index: u32) -> GroupState {
        self.groups.get(index as usize).copied().unwrap_or(GroupState::MISSING)
    }

    fn step(&self, current: Current) -> Target {
        let scaling_up = current.replicas < self.replicas;
        let at_rest = current.partition == 0 && current.replicas == self.replicas;
        if at_rest && !self.template_changed {
            return Target { partition: 0, replicas: self.replicas };
        }
        if scaling_up {
            let partition = if self.template_changed { current.replicas } else { current.partition };
            return Target { partition, replicas: self.replicas };
        }
        let replicas = self.wanted_replicas(current);
        // Groups that are given back can't stand in for those that the partition lets go.
        let staying = current.replicas.min(replicas);
        let partition = if self.template_changed {
            // Surge groups of a rollout that isn't over count as groups now: upstream would replace all of them at once.
            self.reach(staying, self.replicas, self.room(staying))
        } else if current.set_replicas == self.replicas {
            self.next_partition(staying, current.partition)
        } else {
            current.partition.min(self.replicas + self.budget.max_surge)
        };
        Target { partition, replicas }
    }

    /// Replicas while surge is in use: given back as soon as the groups still to be updated fit into the budget without it.
    fn wanted_replicas(&self, current: Current) -> u32 {
        let Budget { max_unavailable, max_surge } = self.budget;
        // Groups that the user's partition holds back count as well: surge groups at the new revision stay until it is lifted.
        let lags = |index: &u32| !self.group(*index).is_done();
        let burst = self.replicas + max_surge;
        let lagging = u32::try_from((0..self.replicas).filter(lags).count()).unwrap_or(u32::MAX);
        let wanted = if lagging <= max_surge { self.replicas + lagging.saturating_sub(max_unavailable) } else { burst };
        // A surge group that is down itself stands in for nobody: the one above it has to stay until it is up.
        let affordable = self.down(wanted, Stuck::Counted) <= self.allowance(wanted);
        if affordable { wanted } else { wanted.max(current.replicas.min(burst)) }
    }

    /// How many of so many groups may be down: maxUnavailable, and the surge as far as it exists.
    fn allowance(&self, existing: u32) -> u32 {
        let Budget { max_unavailable, max_surge } = self.budget;
        let missing_surge = (self.replicas + max_surge).saturating_sub(existing);
        max_unavailable.saturating_add(max_surge).saturating_sub(missing_surge)
    }

    /// How many of so many groups are down.
    fn down(&self, existing: u32, stuck: Stuck) -> u32 {
        let counts = |index: &u32| {
            let group = self.group(*index);
            !group.ready && (stuck == Stuck::Counted || !group.stuck)
        };
        u32::try_from((0..existing).filter(counts).count()).unwrap_or(u32::MAX)
    }

    /// How many ready groups may be taken down besides those that are down already.
    fn room(&self, existing: u32) -> u32 {
        self.allowance(existing).saturating_sub(self.down(existing, Stuck::Counted))
    }

    /// How far down the partition may go, but no further than `floor`: ready groups that it passes cost room; groups that are
    /// broken or already updated cost nothing, which keeps a rollout from waiting for groups that were down before it began
    /// (upstream #567, #568).
    fn reach(&self, existing: u32, floor: u32, mut room: u32) -> u32 {
        let mut partition = existing;
        for index in (floor..existing).rev() {
            let group = self.group(index);
            if group.ready && !group.updated {
                if room == 0 {
                    break;
                }
                room -= 1;
            }
            partition = index;
        }
        partition
    }

    /// The partition only falls, and never by more than the allowance below the groups that are done, counted from the top.
    fn next_partition(&self, existing: u32, partition: u32) -> u32 {
        let done_tail = (0..existing).rev().take_while(|index| self.group(*index).is_done()).count();
        let done_tail = u32::try_from(done_tail).unwrap_or(u32::MAX);
        let floor = existing.saturating_sub(done_tail).saturating_sub(self.allowance(existing));
        let reached = self.reach(existing, floor, self.room(existing));
        if reached < partition {
            return reached;
        }
        // A stuck group takes the room that the groups above it would need to be passed, and only the update can help it. Once
        // nothing else is under way, one group at a time makes the way to it.
        let under_way = (partition..existing).any(|index| !self.group(index).is_done());
        let waits_for_stuck = (0..partition.min(existing)).any(|index| self.group(index).stuck);
        if under_way || !waits_for_stuck {
            return partition;
        }
        let room = self.allowance(existing).saturating_sub(self.down(existing, Stuck::Ignored));
        self.reach(existing, floor, room.min(1)).min(partition)
    }
}

/// What a group that is stuck means to a count of those that are down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stuck {
    /// It is down like any other.
    Counted,
    /// It was down before the update, which is no loss to it.
    Ignored,
}

#[cfg(test)]
mod histories;
#[cfg(test)]
mod tests;
