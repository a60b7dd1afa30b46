//! What one group may do next.

use muster_startup_sdk::{Group, Step};

/// All ranks, from the start.
pub(crate) fn step(group: &Group) -> Step {
    Step::new(group, group.size, "LeaderCreated", "workers are created together with their leader")
}

#[cfg(test)]
mod tests {
    use muster_startup_sdk::Phase;
    use muster_startup_sdk::testing::group;

    use super::*;

    #[test]
    fn every_rank_may_exist_whatever_the_leader_does() {
        for pods in [&[] as &[_], &[(0, Phase::Pending)], &[(0, Phase::Failed), (1, Phase::Ready)]] {
            let step = step(&group(4, pods));
            assert_eq!((step.group, step.admit, step.recheck_ms), (3, 4, None), "{pods:?}");
            assert_eq!(step.reason.code, "LeaderCreated");
        }
    }
}
