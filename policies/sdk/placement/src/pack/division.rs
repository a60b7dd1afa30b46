//! Subgroups as blocks of ranks.

use crate::Unit;

/// Subgroups of equal size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Division {
    /// How many pods each has.
    pub pods: u32,
    /// The leader is in none of them, or one more in the first.
    pub leader_apart: bool,
}

impl Division {
    /// The unit's subgroups, if it has any and they are alike.
    pub fn of(unit: &Unit) -> Option<Self> {
        let last = *unit.subgroups.last().filter(|pods| **pods > 0)?;
        let equal = |subgroups: &[u32]| subgroups.iter().all(|pods| *pods == last);
        let (first, others) = unit.subgroups.split_first()?;
        let sum: u32 = unit.subgroups.iter().sum();
        let leader_apart = match unit.size().checked_sub(sum)? {
            0 if *first == last => false,
            0 if *first == last + 1 => true,
            1 if *first == last => true,
            _ => return None,
        };
        equal(others).then_some(Self { pods: last, leader_apart })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Demand, Unit};

    fn of(pods: u32, subgroups: &[u32]) -> Option<(u32, bool)> {
        let pods = vec![Demand { shape: 0, pods: 1 }, Demand { shape: 1, pods: pods - 1 }];
        let unit = Unit { id: 0, pods, priority: 0, subgroups: subgroups.to_vec(), current: None, previous: None };
        Division::of(&unit).map(|division| (division.pods, division.leader_apart))
    }

    #[test]
    fn the_leader_is_in_the_first_subgroup_or_one_more_than_they_have() {
        assert_eq!(of(8, &[4, 4]), Some((4, false)));
        assert_eq!(of(9, &[5, 4]), Some((4, true)));
        assert_eq!(of(9, &[4, 4]), Some((4, true)));
    }

    #[test]
    fn subgroups_that_are_not_alike_are_none() {
        assert_eq!(of(9, &[]), None);
        assert_eq!(of(9, &[3, 4, 2]), None);
        assert_eq!(of(9, &[0]), None);
        assert_eq!(of(2, &[9, 9]), None);
    }
}
