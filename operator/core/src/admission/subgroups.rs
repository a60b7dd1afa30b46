//! How the ranks of a group divide into subgroups (`reference` §2.8).
//!
//! | size | subgroup size | type | subgroups |
//! |---|---|---|---|
//! | 4 | 2 | `LeaderWorker` | {0,1} {2,3} |
//! | 5 | 2 | `LeaderWorker` | {0,1,2} {3,4}: only the workers divide evenly, so the leader is one member more of the first |
//! | 5 | 2 | `LeaderExcluded` | {1,2} {3,4} |
//! | 3 | 1 | `LeaderWorker` | {0} {1} {2} |
//! | 3 | 1 | `LeaderExcluded` | {1} {2}, numbered from 1 |

use std::ops::Range;

use muster_api::names::annotation;

use super::identity;
use super::pod::{AdmissionError, PodView};

/// The division of one group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subgroups {
    group_size: i32,
    size: i32,
    leader_excluded: bool,
}

impl Subgroups {
    /// Reads the annotations that every template of a set with subgroups carries; `None` for a set without.
    pub(super) fn of(pod: &PodView<'_>, group_size: i32) -> Result<Option<Self>, AdmissionError> {
        let Some(text) = pod.annotation(annotation::SUBGROUP_SIZE) else { return Ok(None) };
        let size = identity::number(text)?;
        if size < 1 {
            return Err(AdmissionError::SubgroupSize { value: size, pod: pod.name().to_owned() });
        }
        Ok(Some(Self { group_size, size, leader_excluded: leader_excluded(pod) }))
    }

    /// The subgroup of a rank; `None` for a leader that belongs to none.
    pub(super) fn index_of(self, rank: i32) -> Option<i32> {
        match rank {
            0 => (!self.leader_excluded).then_some(0),
            _ if self.workers_alone() => Some((rank - 1) / self.size),
            _ => Some(rank / self.size),
        }
    }

    /// The ranks of a subgroup, which always follow one another.
    pub(super) fn ranks(self, index: i32) -> Range<i32> {
        let start = i64::from(index) * i64::from(self.size) + i64::from(self.workers_alone());
        let end = start + i64::from(self.size);
        let start = if index == 0 { i64::from(self.leader_excluded) } else { start };
        self.rank(start)..self.rank(end)
    }

    /// The subgroup of the last rank.
    pub(super) fn last_index(self) -> i32 {
        self.index_of(self.group_size.saturating_sub(1)).unwrap_or_default()
    }

    /// Whether only the workers divide evenly, so that they count from the rank after the leader's.
    fn workers_alone(self) -> bool {
        self.group_size.saturating_sub(1) % self.size == 0 && self.group_size % self.size != 0
    }

    fn rank(self, rank: i64) -> i32 {
        i32::try_from(rank).unwrap_or(i32::MAX).min(self.group_size)
    }
}

/// Whether the leader belongs to no subgroup.
pub(super) fn leader_excluded(pod: &PodView<'_>) -> bool {
    pod.annotation(annotation::SUBGROUP_POLICY_TYPE) == Some("LeaderExcluded")
}
