//! Groups for tests of a decision.

use crate::{Group, Phase, Pod, Request};

/// A group of `size` pods of which these exist, one second in their phase.
pub fn group(size: u32, pods: &[(u32, Phase)]) -> Group {
    let pods: Vec<_> = pods.iter().map(|(rank, phase)| (*rank, *phase, 1000)).collect();
    group_since(size, &pods)
}

/// A group of `size` pods of which these exist, so many milliseconds in their phase.
pub fn group_since(size: u32, pods: &[(u32, Phase, u64)]) -> Group {
    let pod = |(rank, phase, since): &(u32, Phase, u64)| Pod { rank: *rank, phase: *phase, in_phase_ms: *since, restarts: 0 };
    let age_ms = pods.iter().map(|(_, _, since)| *since).max().unwrap_or(0);
    Group { index: 3, size, pods: pods.iter().map(pod).collect(), age_ms, recreations: 0, placed: true }
}

/// A request of set `ml/train` about these groups, which are all there are.
pub fn request(groups: Vec<Group>) -> Request {
    let unplaced = groups.iter().filter(|group| !group.placed).count();
    let count = |groups: usize| u32::try_from(groups).unwrap_or(u32::MAX);
    Request { owner: "ml/train".to_owned(), labels: Vec::new(), replicas: count(groups.len()), unplaced: count(unplaced), groups }
}
