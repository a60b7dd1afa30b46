//! Whose turn it is when several sets wait for room: the more important first, then the older.
//!
//! Sets are reconciled side by side, in the order of events. Without a queue the one that happens to be looked at first takes a
//! domain that has just become free, whoever has waited for it.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use muster_core::pods;

use super::SetRef;

/// How long a set lets others go first at most, in one go; and how long it does not do so again after that.
const PATIENCE: Duration = Duration::from_secs(3);
const IMMUNITY: Duration = Duration::from_secs(60);

/// Priority, then age of a gated leader, then name: the smaller the sooner.
type Rank = (Reverse<i32>, Option<Timestamp>);

#[derive(Debug, Default)]
struct Waiter {
    leaders: HashMap<String, Rank>,
    /// The index's generation when the set was asked about last.
    asked: u64,
    /// Since when it lets others go first.
    yields: Option<Timestamp>,
}

/// The sets with gated leaders.
#[derive(Debug, Default)]
pub(crate) struct Queue(Mutex<HashMap<SetRef, Waiter>>);

impl Queue {
    /// Enters a leader that waits, or takes out one that doesn't.
    pub(super) fn put(&self, set: SetRef, pod: &Pod) {
        if !pods::is_gated(pod) || pods::is_deleting(pod) {
            return self.take(&set, pods::name(pod));
        }
        let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
        let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        self.lock().entry(set).or_default().leaders.insert(pods::name(pod).to_owned(), (Reverse(priority), created));
    }

    /// A leader is gone.
    pub(super) fn take(&self, set: &SetRef, pod: &str) {
        let mut sets = self.lock();
        let Some(waiter) = sets.get_mut(set) else { return };
        waiter.leaders.remove(pod);
        if waiter.leaders.is_empty() {
            sets.remove(set);
        }
    }

    /// The set is asked about on this generation of the index.
    pub(crate) fn asked(&self, set: &SetRef, generation: u64) {
        if let Some(waiter) = self.lock().get_mut(set) {
            waiter.asked = generation;
        }
    }

    /// A set that ranks before this one and has not been asked about since room was last freed. A set that has let others go first
    /// for long enough has its turn.
    pub(crate) fn ahead_of(&self, set: &SetRef, freed: u64, now: Timestamp) -> Option<SetRef> {
        let mut sets = self.lock();
        let own = sets.get(set)?.rank(set)?;
        let others = sets.iter().filter(|(_, other)| other.asked < freed);
        let others = others.filter_map(|(name, other)| Some((other.rank(name)?, name)));
        let first = others.filter(|(rank, _)| *rank < own).min_by(|one, other| one.0.cmp(&other.0)).map(|(_, name)| name.clone());
        let waiter = sets.get_mut(set)?;
        let Some(first) = first else {
            waiter.yields = None;
            return None;
        };
        let passed = Duration::from_millis(pods::millis_between(*waiter.yields.get_or_insert(now), now));
        if passed >= IMMUNITY {
            waiter.yields = Some(now);
        }
        (passed < PATIENCE || passed >= IMMUNITY).then_some(first)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SetRef, Waiter>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    /// Sets of one priority that are equally old go by their names.
    fn rank(&self, set: &SetRef) -> Option<(Rank, String)> {
        Some((self.leaders.values().min()?.to_owned(), set.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::ToSpan as _;
    use serde_json::json;

    use super::*;

    fn noon() -> Timestamp {
        "2026-11-26T12:00:00Z".parse().unwrap()
    }

    fn set(name: &str) -> SetRef {
        SetRef::new(name).within("team")
    }

    fn leader(name: &str, priority: i32, created: &str) -> Pod {
        let gates = json!([{ "name": "muster.dev/placement" }]);
        let metadata = json!({ "name": name, "creationTimestamp": created });
        let spec = json!({ "priority": priority, "schedulingGates": gates, "containers": [] });
        serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap()
    }

    fn queue() -> Queue {
        let queue = Queue::default();
        queue.put(set("old"), &leader("old-0", 0, "2026-11-26T10:00:00Z"));
        queue.put(set("young"), &leader("young-0", 0, "2026-11-26T11:00:00Z"));
        queue.put(set("urgent"), &leader("urgent-0", 9, "2026-11-26T11:30:00Z"));
        queue
    }

    #[test]
    fn the_more_important_goes_first_and_then_the_older() {
        let queue = queue();
        assert_eq!(queue.ahead_of(&set("urgent"), 5, noon()), None);
        assert_eq!(queue.ahead_of(&set("old"), 5, noon()), Some(set("urgent")));
        assert_eq!(queue.ahead_of(&set("young"), 5, noon()), Some(set("urgent")));
        queue.asked(&set("urgent"), 5);
        assert_eq!(queue.ahead_of(&set("old"), 5, noon()), None);
        assert_eq!(queue.ahead_of(&set("young"), 5, noon()), Some(set("old")));
    }

    #[test]
    fn room_that_is_freed_gives_everybody_ahead_another_turn() {
        let queue = queue();
        queue.asked(&set("urgent"), 5);
        assert_eq!(queue.ahead_of(&set("old"), 6, noon()), Some(set("urgent")));
    }

    #[test]
    fn a_set_that_is_placed_is_nobodys_rival() {
        let queue = queue();
        let mut placed = leader("urgent-0", 9, "2026-11-26T11:30:00Z");
        placed.spec.as_mut().unwrap().scheduling_gates = None;
        queue.put(set("urgent"), &placed);
        assert_eq!(queue.ahead_of(&set("old"), 5, noon()), None);
    }

    #[test]
    fn nobody_waits_for_others_for_ever() {
        let queue = queue();
        assert_eq!(queue.ahead_of(&set("old"), 5, noon()), Some(set("urgent")));
        assert_eq!(queue.ahead_of(&set("old"), 6, noon() + 2.seconds()), Some(set("urgent")));
        assert_eq!(queue.ahead_of(&set("old"), 7, noon() + 3.seconds()), None);
        assert_eq!(queue.ahead_of(&set("old"), 8, noon() + 59.seconds()), None);
        assert_eq!(queue.ahead_of(&set("old"), 9, noon() + 61.seconds()), Some(set("urgent")));
    }
}
