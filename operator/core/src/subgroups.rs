//! How the ranks of a group divide into subgroups (`reference` §2.8), and where the subgroups of a group are.
//!
//! | size | subgroup size | type | subgroups |
//! |---|---|---|---|
//! | 4 | 2 | `LeaderWorker` | {0,1} {2,3} |
//! | 5 | 2 | `LeaderWorker` | {0,1,2} {3,4}: only the workers divide evenly, so the leader is one member more of the first |
//! | 5 | 2 | `LeaderExcluded` | {1,2} {3,4} |
//! | 3 | 1 | `LeaderWorker` | {0} {1} {2} |
//! | 3 | 1 | `LeaderExcluded` | {1} {2}, numbered from 1 |

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use k8s_openapi::api::core::v1::Pod;
use muster_api::names::annotation;
use serde::{Deserialize, Serialize};

use crate::pods;

/// The division of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subgroups {
    group_size: i32,
    size: i32,
    leader_excluded: bool,
}

impl Subgroups {
    /// A group of so many pods in subgroups of so many; `None` for a subgroup size below one.
    pub fn new(group_size: i32, size: i32, leader_excluded: bool) -> Option<Self> {
        (size >= 1).then_some(Self { group_size, size, leader_excluded })
    }

    /// Reads the division from a leader's own annotations: a set that is being resized has groups of two sizes. `None` for a group
    /// without subgroups.
    pub fn of_group(leader: &Pod) -> Option<Self> {
        let number = |key: &str| pods::annotation(leader, key)?.parse().ok();
        let excluded = pods::annotation(leader, annotation::SUBGROUP_POLICY_TYPE) == Some("LeaderExcluded");
        Self::new(number(annotation::SIZE)?, number(annotation::SUBGROUP_SIZE)?, excluded)
    }

    /// The subgroup of a rank; `None` for a leader that belongs to none.
    pub fn index_of(self, rank: i32) -> Option<i32> {
        match rank {
            0 => (!self.leader_excluded).then_some(0),
            _ if self.workers_alone() => Some((rank - 1) / self.size),
            _ => Some(rank / self.size),
        }
    }

    /// The ranks of a subgroup, which always follow one another.
    pub fn ranks(self, index: i32) -> Range<i32> {
        let start = i64::from(index) * i64::from(self.size) + i64::from(self.workers_alone());
        let end = start + i64::from(self.size);
        let start = if index == 0 { i64::from(self.leader_excluded) } else { start };
        self.rank(start)..self.rank(end)
    }

    /// The subgroup of the last rank.
    pub fn last_index(self) -> i32 {
        self.index_of(self.group_size.saturating_sub(1)).unwrap_or_default()
    }

    /// Every subgroup that has a pod, with its ranks.
    pub fn each(self) -> impl Iterator<Item = (u32, Range<i32>)> {
        let all = (0..=self.last_index()).map(move |index| (u32::try_from(index).unwrap_or_default(), self.ranks(index)));
        all.filter(|(_, ranks)| !ranks.is_empty())
    }

    /// Whether only the workers divide evenly, so that they count from the rank after the leader's.
    fn workers_alone(self) -> bool {
        self.group_size.saturating_sub(1) % self.size == 0 && self.group_size % self.size != 0
    }

    fn rank(self, rank: i64) -> i32 {
        i32::try_from(rank).unwrap_or(i32::MAX).min(self.group_size)
    }
}

/// A domain for each subgroup of a group that has one for itself. As text: `KEY=0:a,1:b`, which no label key or value can confuse.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubgroupDomains {
    /// Label key of the domains' level.
    pub level: String,
    /// Label value by subgroup index.
    pub domains: BTreeMap<u32, String>,
}

impl SubgroupDomains {
    /// What the pods of a subgroup select.
    pub fn selector(&self, subgroup: u32) -> Option<(&str, &str)> {
        Some((&self.level, self.domains.get(&subgroup)?))
    }
}

impl fmt::Display for SubgroupDomains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=", self.level)?;
        for (position, (index, domain)) in self.domains.iter().enumerate() {
            let separator = if position == 0 { "" } else { "," };
            write!(f, "{separator}{index}:{domain}")?;
        }
        Ok(())
    }
}

/// A text that names no domains of subgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not of the form KEY=0:DOMAIN,1:DOMAIN")]
pub struct NoSubgroupDomains;

impl FromStr for SubgroupDomains {
    type Err = NoSubgroupDomains;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (level, list) = text.split_once('=').filter(|(level, _)| !level.is_empty()).ok_or(NoSubgroupDomains)?;
        let mut domains = BTreeMap::new();
        for entry in list.split(',') {
            let (index, domain) = entry.split_once(':').filter(|(_, domain)| !domain.is_empty()).ok_or(NoSubgroupDomains)?;
            let index = index.parse().map_err(|_| NoSubgroupDomains)?;
            if domains.insert(index, domain.to_owned()).is_some() {
                return Err(NoSubgroupDomains);
            }
        }
        Ok(Self { level: level.to_owned(), domains })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::even(4, 2, false, &[(0, 0..2), (1, 2..4)])]
    #[case::leader_is_one_member_more(5, 2, false, &[(0, 0..3), (1, 3..5)])]
    #[case::one_each(3, 1, false, &[(0, 0..1), (1, 1..2), (2, 2..3)])]
    #[case::the_whole_group(4, 4, false, &[(0, 0..4)])]
    #[case::a_leader_alone(1, 1, false, &[(0, 0..1)])]
    #[case::leader_excluded(5, 2, true, &[(0, 1..3), (1, 3..5)])]
    #[case::leader_excluded_one_each(3, 1, true, &[(1, 1..2), (2, 2..3)])]
    #[case::leader_excluded_without_workers(1, 1, true, &[])]
    fn every_subgroup_has_its_ranks(
        #[case] group: i32,
        #[case] size: i32,
        #[case] excluded: bool,
        #[case] expected: &[(u32, Range<i32>)],
    ) {
        let subgroups = Subgroups::new(group, size, excluded).unwrap();
        assert_eq!(subgroups.each().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn domains_are_read_as_they_are_written() {
        let domains =
            SubgroupDomains { level: "example.com/rack".into(), domains: [(1, "r-1".into()), (2, "r_2.x".into())].into() };
        assert_eq!(domains.to_string(), "example.com/rack=1:r-1,2:r_2.x");
        assert_eq!(domains.to_string().parse(), Ok(domains));
    }

    #[rstest]
    #[case("")]
    #[case("rack")]
    #[case("rack=")]
    #[case("=0:a")]
    #[case("rack=0:")]
    #[case("rack=a")]
    #[case("rack=x:a")]
    #[case("rack=0:a,0:b")]
    #[case("rack=0:a,")]
    fn other_texts_name_no_domains(#[case] text: &str) {
        assert_eq!(text.parse::<SubgroupDomains>(), Err(NoSubgroupDomains));
    }
}
