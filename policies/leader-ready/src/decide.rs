//! What one group may do next.

use muster_startup_sdk::{Group, Phase, Reason, Step};

/// All ranks once the leader is ready; until then the leader alone.
///
/// A group that has workers already was admitted before. It is never narrowed: a leader that becomes unready later must not
/// keep a worker that died from coming back.
pub(crate) fn step(group: &Group) -> Step {
    let leader = group.pods.iter().find(|pod| pod.rank == 0).map(|pod| pod.phase);
    let has_workers = group.pods.iter().any(|pod| pod.rank > 0);
    let (admitted, code, message) = match leader {
        Some(Phase::Ready) => (group.size, "LeaderReady", "the leader is ready".to_owned()),
        _ if has_workers => (group.size, "WorkersExist", "the group was admitted before".to_owned()),
        None => (1, "WaitingForLeader", "the leader does not exist yet".to_owned()),
        Some(phase) => (1, "WaitingForLeader", format!("the leader is {}, and workers wait until it is ready", word(phase))),
    };
    Step {
        group: group.index,
        admit: admitted.min(group.size),
        recheck_ms: None,
        reason: Reason { code: code.to_owned(), message },
    }
}

fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Pending => "pending",
        Phase::Scheduled => "scheduled",
        Phase::Running => "running",
        Phase::Ready => "ready",
        Phase::Succeeded => "done",
        Phase::Failed => "failed",
        Phase::Terminating => "being deleted",
    }
}

#[cfg(test)]
mod tests {
    use muster_startup_sdk::Pod;

    use super::*;

    fn group(pods: &[(u32, Phase)]) -> Group {
        let pods = pods.iter().map(|(rank, phase)| Pod { rank: *rank, phase: *phase, in_phase_ms: 1000, restarts: 0 }).collect();
        Group { index: 3, size: 4, pods, age_ms: 1000, recreations: 0, placed: true }
    }

    fn admitted(group: &Group) -> (u32, String) {
        let step = step(group);
        assert_eq!(step.group, 3);
        (step.admit, step.reason.code)
    }

    #[test]
    fn a_new_group_may_have_its_leader() {
        assert_eq!(admitted(&group(&[])), (1, "WaitingForLeader".to_owned()));
    }

    #[test]
    fn workers_wait_for_a_leader_that_is_not_ready() {
        for phase in [Phase::Pending, Phase::Scheduled, Phase::Running, Phase::Failed, Phase::Terminating] {
            assert_eq!(admitted(&group(&[(0, phase)])), (1, "WaitingForLeader".to_owned()));
        }
    }

    #[test]
    fn a_ready_leader_admits_everyone() {
        assert_eq!(admitted(&group(&[(0, Phase::Ready)])), (4, "LeaderReady".to_owned()));
    }

    #[test]
    fn a_group_with_workers_stays_admitted_when_its_leader_is_not_ready_any_more() {
        let group = group(&[(0, Phase::Running), (2, Phase::Ready)]);
        assert_eq!(admitted(&group), (4, "WorkersExist".to_owned()));
    }

    #[test]
    fn a_leader_alone_is_the_whole_of_a_group_of_one() {
        let group = Group { size: 1, ..group(&[(0, Phase::Pending)]) };
        assert_eq!(admitted(&group), (1, "WaitingForLeader".to_owned()));
    }

    #[test]
    fn the_reason_says_what_the_leader_does() {
        let step = step(&group(&[(0, Phase::Scheduled)]));
        assert_eq!(step.reason.message, "the leader is scheduled, and workers wait until it is ready");
    }
}
