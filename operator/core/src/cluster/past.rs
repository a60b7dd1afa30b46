//! What is remembered of pods that are gone: where each rank of a group was, and which nodes have failed groups.
//!
//! Memory of this process only: after a restart of the operator it is empty and fills again.

use std::collections::{BTreeMap, VecDeque};

use k8s_openapi::jiff::Timestamp;
use rpds::RedBlackTreeMapSync;

use super::ledger::GroupId;

/// Groups that are remembered.
const MAX_GROUPS: usize = 10_000;
/// Failures of one node that are remembered.
const MAX_FAILURES: usize = 100;
const MILLIS_OF_A_MINUTE: u64 = 60_000;
/// A failure counts for so long.
const MILLIS_OF_A_DAY: i64 = 24 * 60 * 60 * 1000;

/// For each group its nodes by rank. Cheap to clone.
pub(crate) type Seats = RedBlackTreeMapSync<GroupId, BTreeMap<u32, String>>;

/// Where the pods of groups were bound when they went.
#[derive(Debug, Default)]
pub(crate) struct Past {
    seats: Seats,
    /// Oldest first.
    order: VecDeque<GroupId>,
}

impl Past {
    /// A pod of a group that was bound to this node is gone.
    pub(crate) fn note(&mut self, group: &GroupId, pod: &str, node: &str) {
        let Some(rank) = group.rank_of(pod) else { return };
        if !self.seats.contains_key(group) {
            self.order.push_back(group.clone());
            self.seats.insert_mut(group.clone(), BTreeMap::new());
        }
        if let Some(seats) = self.seats.get_mut(group) {
            seats.insert(rank, node.to_owned());
        }
        if self.order.len() > MAX_GROUPS
            && let Some(oldest) = self.order.pop_front()
        {
            self.seats.remove_mut(&oldest);
        }
    }

    /// What is remembered, for a snapshot.
    pub(crate) fn seats(&self) -> Seats {
        self.seats.clone()
    }
}

/// When nodes have failed groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Failures(BTreeMap<String, VecDeque<Timestamp>>);

impl Failures {
    pub(crate) fn note(&mut self, node: &str, at: Timestamp) {
        let times = self.0.entry(node.to_owned()).or_default();
        times.push_back(at);
        if times.len() > MAX_FAILURES {
            times.pop_front();
        }
    }

    /// Failures of the last day: node, how many, milliseconds since the last in whole minutes, so that a question asked again soon is
    /// the same question. Forgets older ones.
    pub(crate) fn recent(&mut self, now: Timestamp) -> Vec<(String, u32, u64)> {
        let age = |at: &Timestamp| now.as_millisecond() - at.as_millisecond();
        self.0.retain(|_, times| {
            times.retain(|at| age(at) < MILLIS_OF_A_DAY);
            !times.is_empty()
        });
        let each = self.0.iter().filter_map(|(node, times)| {
            let last = u64::try_from(age(times.back()?)).unwrap_or(0) / MILLIS_OF_A_MINUTE * MILLIS_OF_A_MINUTE;
            Some((node.clone(), u32::try_from(times.len()).unwrap_or(u32::MAX), last))
        });
        each.collect()
    }
}
