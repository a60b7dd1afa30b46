//! Upstream's traces, and the rollouts that went wrong there.

use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::testing::set;

const OLD: GroupState = GroupState { ready: true, updated: false, stuck: false };
const NEW: GroupState = GroupState { ready: true, updated: true, stuck: false };
const STARTING: GroupState = GroupState { ready: false, updated: true, stuck: false };
const DOWN: GroupState = GroupState::MISSING;
const STUCK: GroupState = GroupState { ready: false, updated: false, stuck: true };

fn target(partition: u32, replicas: u32) -> Target {
    Target { partition, replicas }
}

/// A leader StatefulSet that was last applied for so many replicas of the set.
fn at(partition: u32, replicas: u32, set_replicas: u32) -> Option<Current> {
    Some(Current { partition, replicas, set_replicas })
}

/// `(replicas, maxUnavailable, maxSurge, partition)` of a set.
type Wish = (u32, u32, u32, u32);

fn rollout(
    (replicas, max_unavailable, max_surge, user_partition): Wish,
    current: Option<Current>,
    groups: &[GroupState],
) -> Rollout<'_> {
    let budget = Budget { max_unavailable, max_surge: max_surge.min(replicas) };
    Rollout { replicas, budget, user_partition, current, template_changed: false, groups }
}

/// Plays a rollout from its first step on: after each reconcile everything that the partition lets go is replaced at once, and then
/// as many groups come up as `ready` says for that round, from the highest index down. Returns what the leader StatefulSet said,
/// each once.
fn trace(wish: Wish, ready: impl Fn(usize) -> usize) -> Vec<(u32, u32)> {
    let replicas = wish.0;
    let mut current = Current { partition: 0, replicas, set_replicas: replicas };
    let mut groups = vec![OLD; replicas as usize];
    let mut steps = Vec::new();
    for round in 0..40 {
        let next = next(&Rollout { template_changed: round == 0, ..rollout(wish, Some(current), &groups) });
        if steps.last() != Some(&(next.partition, next.replicas)) {
            steps.push((next.partition, next.replicas));
        }
        current = Current { partition: next.partition, replicas: next.replicas, set_replicas: replicas };
        groups.resize(next.replicas as usize, STARTING);
        groups.iter_mut().skip(next.partition as usize).filter(|group| !group.updated).for_each(|group| *group = STARTING);
        groups.iter_mut().rev().filter(|group| !group.ready).take(ready(round)).for_each(|group| *group = NEW);
    }
    steps
}

#[rstest]
#[case::one_at_a_time((4, 1, 0, 0), &[(4, 4), (3, 4), (2, 4), (1, 4), (0, 4)])]
#[case::one_surge_group((4, 0, 1, 0), &[(4, 5), (3, 5), (2, 5), (1, 5), (0, 5), (0, 4)])]
#[case::one_down_and_one_surge_group((4, 1, 1, 0), &[(4, 5), (2, 5), (1, 5), (0, 5), (0, 4)])]
#[case::two_surge_groups((4, 0, 2, 0), &[(4, 6), (3, 6), (2, 6), (1, 6), (0, 6), (0, 5), (0, 4)])]
#[case::a_single_group((1, 1, 0, 0), &[(1, 1), (0, 1)])]
#[case::surge_that_is_not_needed_is_not_taken((1, 1, 1, 0), &[(1, 1), (0, 1)])]
#[case::a_single_group_with_surge((1, 0, 1, 0), &[(1, 2), (0, 2), (0, 1)])]
#[case::a_budget_over_the_replicas((3, 4, 0, 0), &[(3, 3), (0, 3)])]
#[case::no_further_than_the_users_partition((4, 1, 0, 2), &[(4, 4), (3, 4), (2, 4)])]
#[case::surge_over_the_users_partition((4, 1, 2, 2), &[(4, 6), (2, 6), (2, 5)])]
#[case::surge_alone_over_a_partition_of_all((4, 1, 2, 4), &[(4, 6)])]
fn rollouts_follow_upstreams_traces_when_one_group_comes_up_at_a_time(#[case] wish: Wish, #[case] expected: &[(u32, u32)]) {
    assert_eq!(trace(wish, |_| 1), expected);
}

#[test]
fn two_down_and_two_surge_groups_of_four_go_in_upstreams_documented_steps() {
    // Two groups come up at a time, but none before the second reconcile: the surge goes as soon as two are left to update.
    assert_eq!(trace((4, 2, 2, 0), |round| if round == 0 { 0 } else { 2 }), [(4, 6), (2, 6), (0, 6), (0, 4)]);
    // The table of the nine stages, one stage at a time: the partition waits for the tail of groups to be done without a gap.
    let wish = (4, 2, 2, 0);
    let step = |current, groups: &[GroupState]| next(&rollout(wish, current, groups));
    let begins = Rollout { template_changed: true, ..rollout(wish, at(0, 4, 4), &[OLD; 4]) };
    assert_eq!(next(&begins), target(4, 6), "stage 2");
    assert_eq!(step(at(4, 6, 4), &[OLD, OLD, OLD, OLD, STARTING, STARTING]), target(2, 6), "stage 3");
    assert_eq!(step(at(2, 6, 4), &[OLD, OLD, STARTING, STARTING, NEW, STARTING]), target(2, 6), "stage 4");
    assert_eq!(step(at(2, 6, 4), &[OLD, OLD, STARTING, STARTING, NEW, NEW]), target(0, 6), "stage 5");
    assert_eq!(step(at(0, 6, 4), &[STARTING, STARTING, STARTING, NEW, NEW, NEW]), target(0, 6), "stage 6");
    assert_eq!(step(at(0, 6, 4), &[STARTING, NEW, STARTING, NEW, NEW, NEW]), target(0, 4), "stages 7 and 8");
    assert_eq!(step(at(0, 4, 4), &[NEW, NEW, NEW, NEW]), target(0, 4), "stage 9");
}

#[rstest]
#[case::numbers(4, json!(2), json!(1), (2, 1))]
#[case::percents_round_in_the_users_favour(5, json!("50%"), json!("30%"), (2, 2))]
#[case::surge_ends_at_the_replicas(2, json!(1), json!(5), (1, 2))]
#[case::a_budget_that_scaling_rounds_to_nothing_is_one(3, json!("25%"), json!(0), (1, 0))]
#[case::and_so_is_none_at_all(3, json!(0), json!("0%"), (1, 0))]
#[case::no_groups_need_no_budget(0, json!("25%"), json!("25%"), (0, 0))]
fn a_budget_is_counted_in_groups(
    #[case] replicas: i32,
    #[case] unavailable: Value,
    #[case] surge: Value,
    #[case] expected: (u32, u32),
) {
    let set = set(|raw| {
        raw["spec"]["replicas"] = json!(replicas);
        raw["spec"]["rolloutStrategy"] = json!({
            "type": "RollingUpdate",
            "rollingUpdateConfiguration": { "maxUnavailable": unavailable, "maxSurge": surge, "partition": 0 },
        });
    });
    assert_eq!(Budget::of(&set), Budget { max_unavailable: expected.0, max_surge: expected.1 });
}

#[test]
fn a_set_that_is_only_scaled_keeps_partition_zero() {
    let scaled = |replicas| next(&rollout((replicas, 1, 0, 0), at(0, 2, 2), &[NEW; 2]));
    assert_eq!(scaled(5), target(0, 5));
    assert_eq!(scaled(1), target(0, 1));
    assert_eq!(scaled(0), target(0, 0));
}

#[test]
fn groups_added_during_a_rollout_come_first_and_at_the_new_revision() {
    // Upstream pauses the rollout until the new groups exist; they are above the partition.
    assert_eq!(next(&rollout((6, 1, 0, 0), at(2, 4, 4), &[OLD, OLD, NEW, NEW])), target(2, 6));
    // The reconcile after that goes on where it was.
    let six = [OLD, OLD, NEW, NEW, STARTING, NEW];
    assert_eq!(next(&rollout((6, 1, 0, 0), at(2, 6, 6), &six)), target(2, 6));
    assert_eq!(next(&rollout((6, 1, 0, 0), at(2, 6, 6), &[OLD, OLD, NEW, NEW, NEW, NEW])), target(1, 6));
}

#[test]
fn a_template_that_changes_together_with_a_scale_up_first_makes_the_new_groups() {
    // They are above the partition, so they come at the new revision; the old ones wait.
    let both = Rollout { template_changed: true, ..rollout((6, 1, 2, 0), at(0, 4, 4), &[OLD; 4]) };
    assert_eq!(next(&both), target(4, 6));
}

#[test]
fn groups_removed_during_a_rollout_take_the_partition_and_the_surge_along() {
    let six = [OLD, OLD, OLD, OLD, NEW, NEW];
    assert_eq!(next(&rollout((2, 1, 0, 0), at(4, 6, 6), &six)), target(2, 2));
    let with_surge = [OLD, OLD, STARTING, STARTING, NEW, NEW];
    assert_eq!(next(&rollout((2, 1, 1, 0), at(2, 6, 4), &with_surge)), target(2, 3));
    assert_eq!(next(&rollout((0, 1, 0, 0), at(2, 4, 4), &[OLD; 4])), target(0, 0));
}

#[test]
fn a_template_reverted_in_the_middle_replaces_only_what_was_updated() {
    // Groups 2 and 3 had been updated; by the old revision, which is current again, 0 and 1 are done.
    let begins = Rollout { template_changed: true, ..rollout((4, 1, 0, 0), at(2, 4, 4), &[NEW, NEW, OLD, OLD]) };
    assert_eq!(next(&begins), target(4, 4));
    assert_eq!(next(&rollout((4, 1, 0, 0), at(4, 4, 4), &[NEW, NEW, OLD, OLD])), target(3, 4));
    assert_eq!(next(&rollout((4, 1, 0, 0), at(3, 4, 4), &[NEW, NEW, OLD, STARTING])), target(3, 4));
    assert_eq!(next(&rollout((4, 1, 0, 0), at(3, 4, 4), &[NEW, NEW, OLD, NEW])), target(2, 4));
    assert_eq!(next(&rollout((4, 1, 0, 0), at(2, 4, 4), &[NEW, NEW, STARTING, NEW])), target(2, 4));
    assert_eq!(next(&rollout((4, 1, 0, 0), at(2, 4, 4), &[NEW; 4])), target(0, 4));
}

#[test]
fn a_template_changed_again_costs_no_more_than_the_budget_with_surge_groups_running() {
    // Of six groups three are down for the change before: one may be down, two are surplus. Upstream would take both surge groups, too.
    let changed = |groups: &[GroupState]| next(&Rollout { template_changed: true, ..rollout((4, 1, 2, 0), at(1, 6, 4), groups) });
    assert_eq!(changed(&[OLD, DOWN, DOWN, DOWN, OLD, OLD]), target(6, 6));
    assert_eq!(changed(&[OLD, OLD, DOWN, DOWN, OLD, OLD]), target(5, 6));
    assert_eq!(changed(&[OLD, OLD, OLD, DOWN, OLD, OLD]), target(4, 6));
    assert_eq!(changed(&[OLD, OLD, OLD, OLD, DOWN, DOWN]), target(4, 6));
}

#[test]
fn the_users_partition_holds_groups_back_and_can_be_moved() {
    let wish = |partition| (4, 1, 0, partition);
    assert_eq!(next(&rollout(wish(3), at(2, 4, 4), &[OLD, OLD, NEW, NEW])), target(3, 4), "raised");
    assert_eq!(next(&rollout(wish(1), at(2, 4, 4), &[OLD, OLD, NEW, NEW])), target(1, 4), "lowered");
    assert_eq!(next(&rollout(wish(9), at(4, 4, 4), &[OLD; 4])), target(9, 4), "over the replicas");
    assert_eq!(next(&rollout(wish(0), at(9, 4, 4), &[OLD; 4])), target(3, 4), "lowered from over the replicas");
}

#[test]
fn surge_groups_show_the_new_revision_as_long_as_a_partition_holds_all_others_back() {
    let begins = Rollout { template_changed: true, ..rollout((4, 1, 2, 4), at(0, 4, 4), &[OLD; 4]) };
    assert_eq!(next(&begins), target(4, 6));
    assert_eq!(next(&rollout((4, 1, 2, 4), at(4, 6, 4), &[OLD, OLD, OLD, OLD, NEW, NEW])), target(4, 6));
    assert_eq!(next(&rollout((1, 0, 1, 1), at(1, 2, 1), &[OLD, NEW])), target(1, 2));
    // Raised in the middle, as much of the surge stays as stands in for groups that are not updated.
    assert_eq!(next(&rollout((4, 1, 2, 4), at(2, 6, 4), &[OLD, OLD, NEW, NEW, NEW, NEW])), target(4, 5));
}

#[test]
fn rollout_with_all_groups_broken_before_it_began_goes_on_upstream_567_568() {
    let mut groups = [DOWN; 4];
    let mut partition = 4;
    for group in (0..4).rev() {
        let next = next(&rollout((4, 1, 0, 0), at(partition, 4, 4), &groups));
        assert_eq!(next, target(group, 4));
        partition = group;
        groups[group as usize] = NEW;
    }
}

#[test]
fn rollout_with_old_pods_not_ready_waits_for_no_group_that_is_stuck_upstream_488() {
    // Group 0 may yet come up at its old revision: with it and group 3 down, the budget of one would be exceeded.
    assert_eq!(next(&rollout((4, 1, 0, 0), at(4, 4, 4), &[DOWN, OLD, OLD, OLD])), target(4, 4));
    // It never will: the update is what can help it, and may cost one ready group besides.
    assert_eq!(next(&rollout((4, 1, 0, 0), at(4, 4, 4), &[STUCK, OLD, OLD, OLD])), target(3, 4));
    assert_eq!(next(&rollout((4, 1, 0, 0), at(3, 4, 4), &[STUCK, OLD, OLD, STARTING])), target(3, 4));
    assert_eq!(next(&rollout((4, 1, 0, 0), at(3, 4, 4), &[STUCK, OLD, OLD, NEW])), target(2, 4));
}

#[test]
fn a_template_that_corrects_a_bad_one_first_replaces_what_the_bad_one_broke() {
    // Group 3 is stuck at the bad revision. It comes first, and costs the budget of one: no second group is taken down.
    let begins = Rollout { template_changed: true, ..rollout((4, 1, 0, 0), at(3, 4, 4), &[OLD, OLD, OLD, STUCK]) };
    assert_eq!(next(&begins), target(4, 4));
    assert_eq!(next(&rollout((4, 1, 0, 0), at(4, 4, 4), &[OLD, OLD, OLD, STUCK])), target(3, 4));
    assert_eq!(next(&rollout((4, 1, 0, 0), at(3, 4, 4), &[OLD, OLD, OLD, STARTING])), target(3, 4));
    assert_eq!(next(&rollout((4, 1, 0, 0), at(3, 4, 4), &[OLD, OLD, OLD, NEW])), target(2, 4));
}

#[test]
fn one_replica_with_surge_that_the_budget_does_not_need_is_no_deadlock_upstream_778_779() {
    let begins = Rollout { template_changed: true, ..rollout((1, 1, 1, 0), at(0, 1, 1), &[OLD]) };
    assert_eq!(next(&begins), target(1, 1));
    assert_eq!(next(&rollout((1, 1, 1, 0), at(1, 1, 1), &[OLD])), target(0, 1));
    assert_eq!(next(&rollout((1, 1, 1, 0), at(0, 1, 1), &[STARTING])), target(0, 1));
}

#[test]
fn a_restarted_operator_updates_no_group_of_a_set_at_rest_upstream_225() {
    assert_eq!(next(&rollout((4, 1, 0, 0), at(0, 4, 4), &[NEW; 4])), target(0, 4));
    assert_eq!(next(&rollout((4, 1, 0, 2), at(2, 4, 4), &[OLD, OLD, NEW, NEW])), target(2, 4));
}

#[test]
fn leaders_that_the_partition_let_go_are_taken_only_as_far_as_the_budget_goes() {
    let due = |groups: &[GroupState]| replaceable(&rollout((4, 2, 0, 0), at(1, 4, 4), groups), 1);
    assert_eq!(due(&[OLD, OLD, OLD, NEW]), [1, 2]);
    assert_eq!(due(&[OLD, OLD, OLD, OLD]), [2, 3], "the highest first");
    assert_eq!(due(&[OLD, OLD, DOWN, STARTING]), [2], "what is down already costs nothing, and room");
    assert_eq!(due(&[STUCK, OLD, OLD, NEW]), [1, 2]);
    assert!(due(&[NEW, NEW, NEW, NEW]).is_empty());
    assert!(replaceable(&rollout((4, 2, 0, 0), None, &[]), 0).is_empty());
}
