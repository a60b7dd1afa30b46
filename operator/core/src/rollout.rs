//! Which groups a rolling update may replace now: partition and replicas of the leader StatefulSet.
//!
//! The arithmetic is upstream's (`reference`: lws v0.10, KEP-511 for the partition). A StatefulSet updates ordinals ≥ partition, from
//! the highest down; surge groups are ordinals ≥ `replicas` and are created at the new revision.

/// A group as a rollout sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupState {
    /// Leader and workers are up.
    pub ready: bool,
    /// Leader and workers carry the current revision.
    pub updated: bool,
}

/// What the rollout is computed from.
#[derive(Debug, Clone)]
pub struct Rollout<'a> {
    /// `spec.replicas`.
    pub replicas: u32,
    /// maxUnavailable in groups (scaled, rounded down).
    pub max_unavailable: u32,
    /// maxSurge in groups (scaled, rounded up), capped at `replicas`.
    pub max_surge: u32,
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
        Some(current) => step(rollout, current),
    };
    Target { partition: target.partition.max(rollout.user_partition), ..target }
}

fn step(rollout: &Rollout<'_>, current: Current) -> Target {
    let burst = rollout.replicas + rollout.max_surge;
    let scaling_up = current.replicas < rollout.replicas;
    if rollout.template_changed {
        let partition = rollout.replicas.min(current.replicas);
        let replicas = if scaling_up { rollout.replicas } else { wanted_replicas(rollout) };
        return Target { partition, replicas };
    }
    let at_rest = current.partition == 0 && current.replicas == rollout.replicas;
    if at_rest {
        return Target { partition: 0, replicas: rollout.replicas };
    }
    if scaling_up {
        return Target { partition: current.partition, replicas: rollout.replicas };
    }
    if current.set_replicas != rollout.replicas {
        return Target { partition: current.partition.min(burst), replicas: wanted_replicas(rollout) };
    }
    Target { partition: next_partition(rollout, current, burst), replicas: wanted_replicas(rollout) }
}

/// Replicas while surge is in use: given back as soon as the groups still to be updated fit into the budget without it.
fn wanted_replicas(rollout: &Rollout<'_>) -> u32 {
    let lagging = (0..rollout.replicas).filter(|index| !is_done(rollout.groups, *index)).count();
    let lagging = u32::try_from(lagging).unwrap_or(u32::MAX);
    if lagging <= rollout.max_surge {
        rollout.replicas + lagging.saturating_sub(rollout.max_unavailable)
    } else {
        rollout.replicas + rollout.max_surge
    }
}

fn is_done(groups: &[GroupState], index: u32) -> bool {
    groups.get(index as usize).is_some_and(|group| group.ready && group.updated)
}

/// The partition only falls. Groups that are broken or already updated cost nothing to pass, which keeps a rollout from
/// waiting for groups that were down before it began (upstream #567, #568).
fn next_partition(rollout: &Rollout<'_>, current: Current, burst: u32) -> u32 {
    let step = (rollout.max_unavailable + rollout.max_surge).saturating_sub(burst.saturating_sub(current.replicas));
    let done_tail = (0..current.replicas).rev().take_while(|index| is_done(rollout.groups, *index)).count();
    let done_tail = u32::try_from(done_tail).unwrap_or(u32::MAX);
    let base = current.replicas.saturating_sub(done_tail).saturating_sub(step);
    let state = |index: u32| rollout.groups.get(index as usize).copied().unwrap_or(GroupState { ready: false, updated: false });

    let broken_below = (0..base).filter(|index| !state(*index).ready).count();
    let mut partition = base + u32::try_from(broken_below).unwrap_or(0);
    let mut index = partition.min(current.replicas.saturating_sub(1));
    loop {
        let group = state(index);
        if group.ready && !group.updated {
            break;
        }
        partition = index;
        if index <= base {
            break;
        }
        index -= 1;
    }
    partition.min(current.partition)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// Plays a rollout in which one group becomes ready between reconciles, lowest StatefulSet ordinal rules included.
    fn trace(replicas: u32, max_unavailable: u32, max_surge: u32, user_partition: u32) -> Vec<(u32, u32)> {
        let max_surge = max_surge.min(replicas);
        let mut current = Current { partition: 0, replicas, set_replicas: replicas };
        let mut groups = vec![GroupState { ready: true, updated: false }; replicas as usize];
        let mut steps = Vec::new();
        let mut template_changed = true;
        for _ in 0..40 {
            let target = next(&Rollout {
                replicas,
                max_unavailable,
                max_surge,
                user_partition,
                current: Some(current),
                template_changed,
                groups: &groups,
            });
            template_changed = false;
            if steps.last() != Some(&(target.partition, target.replicas)) {
                steps.push((target.partition, target.replicas));
            }
            current = Current { partition: target.partition, replicas: target.replicas, set_replicas: replicas };
            groups.resize(target.replicas as usize, GroupState { ready: false, updated: true });
            for group in groups.iter_mut().skip(target.partition as usize).filter(|group| !group.updated) {
                *group = GroupState { ready: false, updated: true };
            }
            if let Some(starting) = groups.iter_mut().rev().find(|group| !group.ready) {
                starting.ready = true;
            }
        }
        steps
    }

    #[rstest]
    #[case::one_at_a_time(4, 1, 0, 0, &[(4, 4), (3, 4), (2, 4), (1, 4), (0, 4)])]
    #[case::single_group(1, 1, 0, 0, &[(1, 1), (0, 1)])]
    #[case::unused_surge_is_not_taken(1, 1, 1, 0, &[(1, 1), (0, 1)])]
    #[case::surge_only(1, 0, 1, 0, &[(1, 2), (0, 2), (0, 1)])]
    #[case::budget_over_replicas(3, 4, 0, 0, &[(3, 3), (0, 3)])]
    #[case::stops_at_the_users_partition(4, 1, 0, 2, &[(4, 4), (3, 4), (2, 4)])]
    fn rollouts_follow_upstreams_traces(
        #[case] replicas: u32,
        #[case] max_unavailable: u32,
        #[case] max_surge: u32,
        #[case] user_partition: u32,
        #[case] expected: &[(u32, u32)],
    ) {
        assert_eq!(trace(replicas, max_unavailable, max_surge, user_partition), expected);
    }

    #[test]
    fn a_set_that_is_only_scaled_keeps_partition_zero() {
        let groups = [GroupState { ready: true, updated: true }; 2];
        let current = Some(Current { partition: 0, replicas: 2, set_replicas: 2 });
        let scaled = |replicas| {
            next(&Rollout {
                replicas,
                max_unavailable: 1,
                max_surge: 0,
                user_partition: 0,
                current,
                template_changed: false,
                groups: &groups,
            })
        };
        assert_eq!(scaled(5), Target { partition: 0, replicas: 5 });
        assert_eq!(scaled(1), Target { partition: 0, replicas: 1 });
        assert_eq!(scaled(0), Target { partition: 0, replicas: 0 });
    }
}
