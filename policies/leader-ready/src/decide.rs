//! What one group may do next.

use muster_startup_sdk::{Group, Step};

/// All ranks once the leader is ready; until then the leader alone. A group that has workers already is never narrowed.
pub(crate) fn step(group: &Group) -> Step {
    match group.waits_for_leader() {
        None => Step::new(group, group.size, "LeaderReady", "the leader is ready"),
        Some(_) if group.has_workers() => Step::new(group, group.size, "WorkersExist", "the group was admitted before"),
        Some((code, message)) => Step::new(group, 1, code, message),
    }
}

#[cfg(test)]
mod tests {
    use muster_startup_sdk::Phase;
    use muster_startup_sdk::testing::group;

    use super::*;

    fn admitted(group: &Group) -> (u32, String) {
        let step = step(group);
        assert_eq!(step.group, 3);
        (step.admit, step.reason.code)
    }

    #[test]
    fn a_new_group_may_have_its_leader() {
        assert_eq!(admitted(&group(4, &[])), (1, "WaitingForLeader".to_owned()));
    }

    #[test]
    fn workers_wait_for_a_leader_that_is_not_ready() {
        for phase in [Phase::Pending, Phase::Scheduled, Phase::Running, Phase::Failed, Phase::Terminating] {
            assert_eq!(admitted(&group(4, &[(0, phase)])), (1, "WaitingForLeader".to_owned()));
        }
    }

    #[test]
    fn a_ready_leader_admits_everyone() {
        assert_eq!(admitted(&group(4, &[(0, Phase::Ready)])), (4, "LeaderReady".to_owned()));
    }

    #[test]
    fn a_group_with_workers_stays_admitted_when_its_leader_is_not_ready_any_more() {
        let group = group(4, &[(0, Phase::Running), (2, Phase::Ready)]);
        assert_eq!(admitted(&group), (4, "WorkersExist".to_owned()));
    }

    #[test]
    fn a_leader_alone_is_the_whole_of_a_group_of_one() {
        assert_eq!(admitted(&group(1, &[(0, Phase::Pending)])), (1, "WaitingForLeader".to_owned()));
    }

    #[test]
    fn the_reason_says_what_the_leader_does() {
        let step = step(&group(4, &[(0, Phase::Scheduled)]));
        assert_eq!(step.reason.message, "the leader is scheduled, and workers wait until it is ready");
    }
}
