//! Stops asking a policy that keeps failing, and tries it again later.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Failures in a row that open the breaker.
const IN_A_ROW: usize = 5;
/// Calls that are remembered; more than half of them failed opens it too.
const WINDOW: usize = 20;
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
const LAST_BACK_OFF: Duration = Duration::from_secs(5 * 60);

/// May the policy be asked now?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    /// Yes.
    Call,
    /// Yes, once: the result of this call decides whether the policy is used again.
    Trial,
    /// No, not before this time.
    Refused {
        /// When a trial is possible.
        until: Instant,
    },
}

/// Counts the failures of one policy. Knows no clock: time is an argument.
///
/// Closed: every call is permitted. Open: none, for a back-off that doubles from 1 s to 5 min with every failed trial. Then
/// one trial: success closes the breaker and forgets the past.
#[derive(Debug, Clone)]
pub struct Breaker {
    failed: VecDeque<bool>,
    state: State,
    back_off: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open {
        until: Instant,
    },
    /// A trial is running. Should nobody ever report its end, another one is permitted then.
    Trial {
        until: Instant,
    },
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failed: VecDeque::with_capacity(WINDOW), state: State::Closed, back_off: FIRST_BACK_OFF }
    }
}

impl Breaker {
    /// Asks before a call.
    pub fn permit(&mut self, now: Instant) -> Permit {
        match self.state {
            State::Closed => Permit::Call,
            State::Open { until } | State::Trial { until } if now < until => Permit::Refused { until },
            State::Open { .. } | State::Trial { .. } => {
                self.state = State::Trial { until: now + self.back_off };
                Permit::Trial
            }
        }
    }

    /// Reports how a permitted call ended. `failed` is [`CallError::is_fault`](crate::CallError::is_fault). Returns whether the
    /// breaker opened just now.
    pub fn record(&mut self, now: Instant, failed: bool) -> bool {
        match self.state {
            // A call that began before the breaker opened.
            State::Open { .. } => false,
            State::Trial { .. } if failed => {
                self.back_off = (self.back_off * 2).min(LAST_BACK_OFF);
                self.state = State::Open { until: now + self.back_off };
                false
            }
            State::Trial { .. } => {
                *self = Self::default();
                false
            }
            State::Closed => {
                self.remember(failed);
                let opens = self.is_bad();
                if opens {
                    self.state = State::Open { until: now + self.back_off };
                }
                opens
            }
        }
    }

    /// Whether calls are refused, or only tried.
    pub fn is_open(&self) -> bool {
        self.state != State::Closed
    }

    fn remember(&mut self, failed: bool) {
        if self.failed.len() == WINDOW {
            self.failed.pop_front();
        }
        self.failed.push_back(failed);
    }

    fn is_bad(&self) -> bool {
        let in_a_row = self.failed.iter().rev().take_while(|failed| **failed).count();
        let in_window = self.failed.iter().filter(|failed| **failed).count();
        in_a_row >= IN_A_ROW || in_window * 2 > WINDOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A breaker that was opened at the time given.
    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        let opened: Vec<_> = (0..5).map(|_| breaker.record(now, true)).collect();
        assert_eq!(opened, [false, false, false, false, true]);
        breaker
    }

    #[test]
    fn five_failures_in_a_row_open_it() {
        let now = Instant::now();
        let mut breaker = opened(now);
        assert!(breaker.is_open());
        assert_eq!(breaker.permit(now), Permit::Refused { until: now + SECOND });
    }

    #[test]
    fn a_success_between_failures_keeps_it_closed() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for failed in [true, true, true, true, false, true, true, true, true] {
            assert!(!breaker.record(now, failed));
        }
        assert_eq!(breaker.permit(now), Permit::Call);
    }

    #[test]
    fn more_than_half_of_twenty_failures_open_it() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        // 10 of 20 are not more than half.
        for _ in 0..10 {
            assert!(!breaker.record(now, true));
            assert!(!breaker.record(now, false));
        }
        // 11 of 20: the oldest failure leaves the window as one comes, the oldest success as the next one comes.
        assert!(!breaker.record(now, true));
        assert!(breaker.record(now, true));
    }

    #[test]
    fn after_the_back_off_there_is_one_trial() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let later = now + SECOND;
        assert_eq!(breaker.permit(later), Permit::Trial);
        assert_eq!(breaker.permit(later), Permit::Refused { until: later + SECOND });
    }

    #[test]
    fn a_good_trial_closes_it_and_forgets_the_past() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let later = now + SECOND;
        breaker.permit(later);
        breaker.record(later, false);
        assert_eq!(breaker.permit(later), Permit::Call);
        assert!(!breaker.record(later, true));
    }

    #[test]
    fn failed_trials_double_the_back_off_up_to_five_minutes() {
        let mut now = Instant::now();
        let mut breaker = opened(now);
        let mut waits = Vec::new();
        for _ in 0..11 {
            let Permit::Refused { until } = breaker.permit(now) else { panic!("open") };
            waits.push((until - now).as_secs());
            now = until;
            assert_eq!(breaker.permit(now), Permit::Trial);
            breaker.record(now, true);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }

    #[test]
    fn a_trial_that_never_reports_is_followed_by_another() {
        let now = Instant::now();
        let mut breaker = opened(now);
        assert_eq!(breaker.permit(now + SECOND), Permit::Trial);
        assert_eq!(breaker.permit(now + 2 * SECOND), Permit::Trial);
    }
}
