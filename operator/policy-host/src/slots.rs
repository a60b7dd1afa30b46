//! Places for running calls, so shared that a slow policy delays no quick one.
//!
//! The pool has memory for exactly so many calls. Four rules keep one policy from living at the cost of others:
//! - the last free place is for policies that have shown to be quick;
//! - no policy has all places, and a slow one has only one at a time;
//! - of those that wait, the policy goes first whose last turn is the longest ago;
//! - a slow policy has few calls waiting: further ones are sent away, because whoever waits is a thread of the operator's.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What a quick policy's calls take on average, at most.
const QUICK: Duration = Duration::from_millis(10);
/// Calls of one slow policy that may run or wait, when there is room for them.
const MOST_OF_ONE: usize = 2;
/// Calls of all slow policies together that may run or wait; beyond that each policy has one.
const MOST_OF_ALL: usize = 4;

/// How fast a policy answers, in the eyes of those that share places with it. One of each loaded component.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Weighted average of its calls in microseconds, the last one counting a quarter.
    micros: AtomicU64,
}

impl Pace {
    /// Of a policy that nothing is known of: slow, until its first call is over.
    pub(crate) fn unknown() -> Arc<Self> {
        Arc::new(Self { micros: AtomicU64::new(u64::MAX) })
    }

    fn is_slow(&self) -> bool {
        u128::from(self.micros.load(Ordering::Relaxed)) > QUICK.as_micros()
    }

    /// Notes what a call took. A call more or less that is lost to a race changes nothing that matters.
    pub(crate) fn note(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX / 8);
        let known = self.micros.load(Ordering::Relaxed);
        let average = if known == u64::MAX { took } else { (known / 4).saturating_mul(3).saturating_add(took / 4) };
        self.micros.store(average, Ordering::Relaxed);
    }
}

/// A slow policy has enough calls that run or wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Busy;

/// The places.
#[derive(Debug)]
pub(crate) struct Slots {
    count: usize,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Who has a place.
    running: Vec<Arc<Pace>>,
    /// Who waits for one.
    waiting: Vec<Waiting>,
    /// Turns given so far.
    turns: u64,
    /// The last turn of each policy that has a call running or waiting.
    last: Vec<(Arc<Pace>, u64)>,
}

#[derive(Debug)]
struct Waiting {
    ticket: u64,
    pace: Arc<Pace>,
}

impl Slots {
    pub(crate) fn new(count: usize) -> Self {
        Self { count, state: Mutex::default(), freed: Condvar::new() }
    }

    /// Waits for a place. It is given back when the result is dropped.
    pub(crate) fn take(&self, pace: &Arc<Pace>) -> Slot<'_> {
        self.wait(self.lock(), pace)
    }

    /// Waits for a place, unless the policy has enough calls that wait already.
    pub(crate) fn take_if_not_busy(&self, pace: &Arc<Pace>) -> Result<Slot<'_>, Busy> {
        let state = self.lock();
        if pace.is_slow() {
            let of_this = state.calls().filter(|known| Arc::ptr_eq(known, pace)).count();
            let of_all = state.calls().filter(|known| known.is_slow()).count();
            if of_this >= MOST_OF_ONE || (of_this > 0 && of_all >= MOST_OF_ALL) {
                return Err(Busy);
            }
        }
        Ok(self.wait(state, pace))
    }

    fn wait(&self, mut state: MutexGuard<'_, State>, pace: &Arc<Pace>) -> Slot<'_> {
        state.turns += 1;
        let ticket = state.turns;
        state.waiting.push(Waiting { ticket, pace: pace.clone() });
        let not_yet = |state: &mut State| state.next(self.count) != Some(ticket);
        let mut state = self.freed.wait_while(state, not_yet).unwrap_or_else(PoisonError::into_inner);
        state.waiting.retain(|waiting| waiting.ticket != ticket);
        state.running.push(pace.clone());
        state.give_turn(pace);
        drop(state);
        // There may be a place for one more.
        self.freed.notify_all();
        Slot { slots: self, pace: pace.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn calls(&self) -> impl Iterator<Item = &Arc<Pace>> {
        self.running.iter().chain(self.waiting.iter().map(|waiting| &waiting.pace))
    }

    /// Whose turn it is, if there is a place for anybody who waits.
    fn next(&self, count: usize) -> Option<u64> {
        let free = count.saturating_sub(self.running.len());
        let may = |pace: &Arc<Pace>| {
            let running = self.running.iter().filter(|running| Arc::ptr_eq(running, pace)).count();
            match pace.is_slow() {
                true => running == 0 && (free > 1 || (free == 1 && count == 1)),
                false => free > 0 && running < count.saturating_sub(1).max(1),
            }
        };
        let last = |pace: &Arc<Pace>| self.last.iter().find(|(known, _)| Arc::ptr_eq(known, pace)).map(|(_, turn)| *turn);
        let eligible = self.waiting.iter().filter(|waiting| may(&waiting.pace));
        eligible.min_by_key(|waiting| (last(&waiting.pace), waiting.ticket)).map(|waiting| waiting.ticket)
    }

    fn give_turn(&mut self, pace: &Arc<Pace>) {
        self.turns += 1;
        let turn = self.turns;
        match self.last.iter_mut().find(|(known, _)| Arc::ptr_eq(known, pace)) {
            Some((_, last)) => *last = turn,
            None => self.last.push((pace.clone(), turn)),
        }
    }

    fn end(&mut self, pace: &Arc<Pace>) {
        if let Some(position) = self.running.iter().position(|running| Arc::ptr_eq(running, pace)) {
            self.running.swap_remove(position);
        }
        if !self.calls().any(|known| Arc::ptr_eq(known, pace)) {
            self.last.retain(|(known, _)| !Arc::ptr_eq(known, pace));
        }
    }
}

/// A place for one running call.
pub(crate) struct Slot<'a> {
    slots: &'a Slots,
    pace: Arc<Pace>,
}

impl Slot<'_> {
    /// Notes what the call took that had this place.
    pub(crate) fn took(&self, took: Duration) {
        self.pace.note(took);
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.slots.lock().end(&self.pace);
        self.slots.freed.notify_all();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]
mod tests {
    use super::*;

    fn pace(millis: u64) -> Arc<Pace> {
        let pace = Pace::unknown();
        pace.note(Duration::from_millis(millis));
        pace
    }

    /// Whether a call of this policy would wait.
    fn waits(slots: &Slots, pace: &Arc<Pace>) -> bool {
        let mut state = slots.lock();
        state.waiting.push(Waiting { ticket: 0, pace: pace.clone() });
        let waits = state.next(slots.count) != Some(0);
        state.waiting.pop();
        waits
    }

    #[test]
    fn the_last_place_is_for_a_quick_policy() {
        let (slots, slow, other, quick) = (Slots::new(2), pace(500), Pace::unknown(), pace(1));
        let _running = slots.take(&slow);
        assert!(waits(&slots, &other));
        assert!(!waits(&slots, &quick));
    }

    #[test]
    fn a_slow_policy_runs_one_call_at_a_time_and_a_quick_one_leaves_a_place() {
        let (slots, slow, quick) = (Slots::new(3), pace(500), pace(1));
        let slow_running = slots.take(&slow);
        assert!(waits(&slots, &slow));
        assert!(!waits(&slots, &pace(500)));
        drop(slow_running);
        let _two = [slots.take(&quick), slots.take(&quick)];
        assert!(waits(&slots, &quick));
        assert!(!waits(&slots, &pace(1)));
    }

    #[test]
    fn one_place_is_for_everybody() {
        let (slots, slow, quick) = (Slots::new(1), pace(500), pace(1));
        assert!(!waits(&slots, &slow) && !waits(&slots, &quick));
        let _running = slots.take(&slow);
        assert!(waits(&slots, &quick));
    }

    #[test]
    fn a_slow_policy_does_not_let_many_calls_wait_and_a_quick_one_does() {
        let slots = Slots::new(2);
        let (slow, quick) = (pace(500), pace(1));
        slots.lock().waiting.extend([1, 2].map(|ticket| Waiting { ticket, pace: slow.clone() }));
        assert!(slots.take_if_not_busy(&slow).is_err());
        assert!(slots.take_if_not_busy(&quick).is_ok());
    }

    #[test]
    fn many_slow_policies_together_still_wait_with_one_call_each() {
        let slots = Slots::new(8);
        let others: Vec<_> = (0..4).map(|_| pace(500)).collect();
        slots.lock().running.extend(others.iter().cloned());
        assert!(slots.take_if_not_busy(&others[0]).is_err());
        assert!(slots.take_if_not_busy(&pace(500)).is_ok());
    }

    #[test]
    fn whose_last_turn_is_longest_ago_goes_first() {
        let (slots, often, seldom) = (Slots::new(3), pace(1), pace(1));
        drop(slots.take(&often));
        let mut state = slots.lock();
        state.give_turn(&seldom);
        state.give_turn(&often);
        state.waiting.push(Waiting { ticket: 100, pace: often.clone() });
        state.waiting.push(Waiting { ticket: 101, pace: seldom.clone() });
        assert_eq!(state.next(3), Some(101));
    }

    #[test]
    fn one_slow_call_among_quick_ones_makes_a_policy_slow_for_a_while() {
        let pace = pace(0);
        pace.note(Duration::from_millis(500));
        let quick_calls = (1..).find(|_| {
            pace.note(Duration::ZERO);
            !pace.is_slow()
        });
        assert_eq!(quick_calls, Some(9));
    }

    #[test]
    fn a_given_back_place_is_taken_by_whoever_waits_for_it() {
        let (slots, slow) = (Slots::new(2), pace(500));
        let running = slots.take(&slow);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| drop(slots.take(&slow)));
            drop(running);
            waiting.join().unwrap();
        });
        assert!(slots.lock().running.is_empty() && slots.lock().last.is_empty());
    }
}
