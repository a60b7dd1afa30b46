//! How pods are shared out over domains that lie side by side. Numbers only.

use std::cmp::Reverse;

/// Which domains are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// The tightest that holds all; else the roomiest ones, and the tightest for the rest.
    Best,
    /// The tightest that holds all; else the tightest ones first, which uses up what is left here and there.
    Least,
    /// As few domains as can take equal shares.
    Balanced,
    /// Like [`Best`](Self::Best), among domains that are in use before those that are not.
    PackBusy,
}

/// A domain to share out over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Which.
    pub domain: u32,
    /// How many pods it has room for.
    pub room: u32,
    /// How much of it is in use, in thousandths. Only [`Fit::PackBusy`] looks at it.
    pub busy: u32,
}

/// So many pods in that domain.
pub type Share = (u32, u32);

/// Slots that hold all the pods, best first. Equal ones in their order.
pub fn holding(fit: Fit, slots: &[Slot], pods: u32) -> Vec<Slot> {
    let mut holding: Vec<Slot> = slots.iter().copied().filter(|slot| slot.room >= pods).collect();
    match fit {
        Fit::Best | Fit::Least | Fit::Balanced => holding.sort_by_key(|slot| slot.room),
        Fit::PackBusy => holding.sort_by_key(|slot| (Reverse(slot.busy), slot.room)),
    }
    holding
}

/// Shares `pods` out in blocks of `block` that stay whole; the last block may be smaller. `None` if that is not possible.
///
/// The shares are in the order in which ranks should be given to them. A smaller last block is the last share, and may be one
/// more share of a domain that has one already.
pub fn share_out(fit: Fit, slots: &[Slot], pods: u32, block: u32) -> Option<Vec<Share>> {
    let block = block.max(1);
    let (blocks, tail) = (pods / block, pods % block);
    let mut shares = blocks_over(fit, slots, blocks, block)?;
    if tail > 0 {
        let left = |slot: &&Slot| {
            slot.room - shares.iter().filter(|(domain, _)| *domain == slot.domain).map(|share| share.1).sum::<u32>()
        };
        let used = |slot: &&Slot| shares.iter().any(|(domain, _)| *domain == slot.domain);
        // Beside a block if there is room beside one, else where it leaves least over.
        let home = slots.iter().filter(|slot| left(slot) >= tail).min_by_key(|slot| (!used(slot), left(slot)))?;
        match shares.last_mut().filter(|last| last.0 == home.domain) {
            Some(last) => last.1 += tail,
            None => shares.push((home.domain, tail)),
        }
    }
    Some(shares)
}

/// Shares out whole blocks.
fn blocks_over(fit: Fit, slots: &[Slot], blocks: u32, size: u32) -> Option<Vec<Share>> {
    if blocks == 0 {
        return Some(Vec::new());
    }
    let mut open: Vec<Slot> = slots.iter().copied().filter(|slot| slot.room >= size).collect();
    if open.iter().map(|slot| u64::from(slot.room / size)).sum::<u64>() < u64::from(blocks) {
        return None;
    }
    if fit == Fit::Balanced {
        return balanced(&mut open, blocks, size);
    }
    let room = |slot: &Slot| slot.room / size;
    let rest = |slot: &Slot| slot.room % size;
    let busy = |slot: &Slot| Reverse(if fit == Fit::PackBusy { slot.busy } else { 0 });
    match fit {
        Fit::Least => open.sort_by_key(|slot| (room(slot), rest(slot))),
        Fit::Best | Fit::Balanced | Fit::PackBusy => open.sort_by_key(|slot| (busy(slot), Reverse(room(slot)), rest(slot))),
    }
    let mut missing = blocks;
    let mut shares = Vec::new();
    while missing > 0 && !open.is_empty() {
        let holds = (0..open.len()).filter(|at| room(&open[*at]) >= missing);
        let tightest = holds.min_by_key(|at| (busy(&open[*at]), room(&open[*at]), rest(&open[*at])));
        let slot = open.remove(tightest.filter(|_| fit != Fit::Least || shares.is_empty()).unwrap_or(0));
        let taken = missing.min(room(&slot));
        shares.push((slot.domain, taken * size));
        missing -= taken;
    }
    Some(shares)
}

/// As few domains as can take shares that differ by one block at most; of those, the tightest. The roomiest comes first.
fn balanced(open: &mut [Slot], blocks: u32, size: u32) -> Option<Vec<Share>> {
    open.sort_by_key(|slot| slot.room);
    let most = u32::try_from(open.len()).unwrap_or(u32::MAX).min(blocks);
    (1..=most).find_map(|count| {
        let (share, larger) = (blocks / count, blocks % count);
        let holds = |blocks: u32| open.iter().copied().filter(move |slot| slot.room / size >= blocks);
        let large: Vec<Slot> = holds(share + 1).take(larger as usize).collect();
        let others = holds(share).filter(|slot| !large.contains(slot)).take((count - larger) as usize);
        let mut chosen: Vec<Slot> = large.iter().copied().chain(others).collect();
        if large.len() < larger as usize || chosen.len() < count as usize {
            return None;
        }
        chosen.sort_by_key(|slot| Reverse(slot.room));
        let size_of = |at: usize| if at < larger as usize { (share + 1) * size } else { share * size };
        Some(chosen.iter().enumerate().map(|(at, slot)| (slot.domain, size_of(at))).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(rooms: &[u32]) -> Vec<Slot> {
        (0..).zip(rooms).map(|(domain, room)| Slot { domain, room: *room, busy: 0 }).collect()
    }

    /// What each domain gets.
    fn shares(fit: Fit, rooms: &[u32], pods: u32, block: u32) -> Option<Vec<u32>> {
        let shares = share_out(fit, &slots(rooms), pods, block)?;
        let of = |domain| shares.iter().filter(|share| share.0 == domain).map(|share| share.1).sum();
        Some((0..rooms.len()).map(|domain| of(u32::try_from(domain).unwrap())).collect())
    }

    #[test]
    fn best_fit_takes_the_roomiest_first_and_the_tightest_last() {
        assert_eq!(shares(Fit::Best, &[3, 3, 2, 1], 7, 1), Some(vec![3, 3, 0, 1]));
    }

    #[test]
    fn least_free_takes_the_tightest_first() {
        assert_eq!(shares(Fit::Least, &[3, 3, 2, 1], 7, 1), Some(vec![3, 1, 2, 1]));
        let order = share_out(Fit::Least, &slots(&[3, 3, 2, 1]), 7, 1).unwrap();
        assert_eq!(order, [(3, 1), (2, 2), (0, 3), (1, 1)]);
    }

    #[test]
    fn best_fit_counts_room_in_whole_blocks() {
        assert_eq!(shares(Fit::Best, &[6, 5, 4, 3, 2], 12, 2), Some(vec![6, 0, 4, 0, 2]));
    }

    #[test]
    fn least_free_counts_room_in_whole_blocks() {
        assert_eq!(shares(Fit::Least, &[6, 5, 4, 3, 2], 10, 2), Some(vec![0, 2, 4, 2, 2]));
    }

    #[test]
    fn one_domain_that_holds_all_is_never_split() {
        for fit in [Fit::Best, Fit::Least, Fit::Balanced, Fit::PackBusy] {
            assert_eq!(shares(fit, &[9, 1, 5, 4], 4, 1), Some(vec![0, 0, 0, 4]), "{fit:?}");
        }
    }

    #[test]
    fn balanced_shares_differ_by_one_at_most() {
        assert_eq!(shares(Fit::Balanced, &[15, 13, 10], 23, 1), Some(vec![12, 11, 0]));
        assert_eq!(shares(Fit::Balanced, &[14, 18], 32, 1), None);
        assert_eq!(shares(Fit::Balanced, &[18; 8], 128, 1), Some(vec![16; 8]));
    }

    #[test]
    fn balanced_takes_one_more_domain_where_fewer_cannot_be_even() {
        assert_eq!(shares(Fit::Balanced, &[9, 3, 4, 4], 12, 1), Some(vec![4, 0, 4, 4]));
    }

    #[test]
    fn balanced_shares_are_whole_blocks() {
        assert_eq!(shares(Fit::Balanced, &[8, 7, 9], 20, 4), Some(vec![8, 4, 8]));
    }

    #[test]
    fn a_smaller_last_block_sits_beside_another_if_it_can() {
        assert_eq!(share_out(Fit::Best, &slots(&[4, 6, 2]), 10, 4), Some(vec![(0, 4), (1, 6)]));
        assert_eq!(share_out(Fit::Best, &slots(&[4, 4, 2]), 10, 4), Some(vec![(0, 4), (1, 4), (2, 2)]));
        assert_eq!(share_out(Fit::Best, &slots(&[6, 5]), 10, 4), Some(vec![(1, 4), (0, 6)]));
        assert_eq!(share_out(Fit::Least, &slots(&[6, 9]), 14, 4), Some(vec![(0, 4), (1, 8), (0, 2)]));
        assert_eq!(share_out(Fit::Best, &slots(&[4, 4, 1]), 10, 4), None);
    }

    #[test]
    fn what_is_in_use_is_filled_before_an_untouched_domain_is_opened() {
        let busy = Slot { domain: 1, room: 7, busy: 100 };
        let slots = [Slot { domain: 0, room: 4, busy: 0 }, busy];
        assert_eq!(share_out(Fit::PackBusy, &slots, 4, 1), Some(vec![(1, 4)]));
        assert_eq!(holding(Fit::PackBusy, &slots, 4)[0], busy);
        assert_eq!(holding(Fit::Best, &slots, 4)[0].domain, 0);
    }
}
