//! How often groups have started over: an annotation on the leader StatefulSet, which outlives operators and leaders.
//!
//! A restart is written down before it is carried out, under the UID of the leader that is going to be deleted: however often the
//! operator comes back to that leader, it counts once.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::jiff::Timestamp;
use muster_api::names::annotation;
use serde::{Deserialize, Serialize};

use crate::pods::millis_between;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Added to twice the pause: a group that ran longer than that since it started over begins to count anew.
const STABLE: Duration = Duration::from_secs(60);
/// Most groups that are remembered, about 100 KiB of the 256 KiB that annotations may take. The latest restarts stay.
const MOST: usize = 1000;

/// What is remembered of one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// How often it has started over in a row.
    pub times: u32,
    /// When it did so last.
    pub last: Timestamp,
    /// UID of the leader that was deleted for it, or that it failed with.
    pub leader: String,
    /// Revision key of that leader. Another revision has a history of its own.
    pub revision: String,
    /// Its worker StatefulSet was not in the caches. They may lag behind, so what is written here is no reason to delete the leader.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bereft: bool,
    /// It may not start over again: this leader's group has failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
}

impl Entry {
    fn is_stable(&self, now: Timestamp) -> bool {
        passed(self.last, now) > pause_after(self.times) * 2 + STABLE
    }
}

/// Whether a group that has to start over may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permit {
    /// It may, and it has been written down before that this leader goes.
    Again,
    /// It may, once this is written down.
    Granted(Entry),
    /// Not before this time has passed.
    Wait(Duration),
    /// Never: its budget is used up. To be written down if it isn't yet.
    Refused(Option<Entry>),
}

/// Groups that started over, by index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History(BTreeMap<u32, Entry>);

impl History {
    /// What is written on the leader StatefulSet; nothing if nobody can read it.
    pub fn of(leader_set: Option<&StatefulSet>) -> Self {
        let annotations = leader_set.and_then(|object| object.metadata.annotations.as_ref());
        let text = annotations.and_then(|annotations| annotations.get(annotation::RESTARTS));
        Self(text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default())
    }

    /// The annotation's text.
    pub fn render(&self) -> String {
        serde_json::to_string(&self.0).unwrap_or_default()
    }

    /// Asks whether the group of this leader may start over now, at most `most` times in a row.
    pub fn ask(&self, group: u32, leader: &str, revision: &str, most: Option<u32>, now: Timestamp) -> Permit {
        let known = self.entry(group, leader, revision);
        if known.is_some_and(|entry| entry.leader == leader && !entry.failed) {
            return Permit::Again;
        }
        let entry = |times, last, failed| {
            let (leader, revision) = (leader.to_owned(), revision.to_owned());
            Entry { times, last, leader, revision, bereft: false, failed }
        };
        let last = known.map_or(now, |entry| entry.last);
        let times = known.filter(|entry| entry.failed || !entry.is_stable(now)).map_or(0, |entry| entry.times);
        if most.is_some_and(|most| times >= most) {
            let written = known.is_some_and(|entry| entry.failed);
            return Permit::Refused((!written).then(|| entry(times, last, true)));
        }
        let pause = known.map_or(Duration::ZERO, |entry| pause_after(entry.times).saturating_sub(passed(entry.last, now)));
        if pause.is_zero() { Permit::Granted(entry(times.saturating_add(1), now, false)) } else { Permit::Wait(pause) }
    }

    /// How often the group of this leader has started over in a row.
    pub fn times(&self, group: u32, leader: &str, revision: &str) -> u32 {
        self.entry(group, leader, revision).map_or(0, |entry| entry.times)
    }

    /// Whether this leader was deleted so that its group starts over.
    pub fn is_leaving(&self, group: u32, leader: &str) -> bool {
        self.0.get(&group).is_some_and(|entry| entry.leader == leader && !entry.failed)
    }

    /// Whether this leader has to be deleted, whatever its group looks like by now: that its group starts over was decided, written
    /// down and told.
    pub fn must_go(&self, group: u32, leader: &str) -> bool {
        self.0.get(&group).is_some_and(|entry| entry.leader == leader && !entry.failed && !entry.bereft)
    }

    /// Whether the group of this leader has failed.
    pub fn has_failed(&self, group: u32, leader: &str) -> bool {
        self.0.get(&group).is_some_and(|entry| entry.leader == leader && entry.failed)
    }

    /// What counts for a leader: not what was at another revision, nor the end of a group whose leader somebody has deleted since.
    fn entry(&self, group: u32, leader: &str, revision: &str) -> Option<&Entry> {
        self.0.get(&group).filter(|entry| entry.revision == revision && (!entry.failed || entry.leader == leader))
    }

    /// The history with these entries, without those that mean nothing any more: of groups from `groups` on, and of stable ones.
    #[must_use]
    pub fn with(&self, entries: BTreeMap<u32, Entry>, groups: u32, now: Timestamp) -> Self {
        let mut all = self.0.clone();
        all.extend(entries);
        all.retain(|group, entry| *group < groups && (entry.failed || !entry.is_stable(now)));
        while all.len() > MOST {
            let oldest = all.iter().min_by_key(|(_, entry)| (entry.failed, entry.last)).map(|(group, _)| *group);
            oldest.and_then(|group| all.remove(&group));
        }
        Self(all)
    }
}

/// How long a group must not start over again: 1 s after the first time, then twice as long each time, up to 5 minutes.
fn pause_after(times: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << times.saturating_sub(1).min(10)).min(LONGEST_PAUSE)
}

fn passed(since: Timestamp, now: Timestamp) -> Duration {
    Duration::from_millis(millis_between(since, now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    /// Asks for group 0 with this leader at revision `k1`, and writes down what is granted or refused.
    fn ask(history: &mut History, leader: &str, most: Option<u32>, seconds: i64) -> Permit {
        let permit = history.ask(0, leader, "k1", most, at(seconds));
        if let Permit::Granted(entry) | Permit::Refused(Some(entry)) = &permit {
            *history = history.with([(0, entry.clone())].into(), 4, at(seconds));
        }
        permit
    }

    fn entry(times: u32, seconds: i64, leader: &str, failed: bool) -> Entry {
        Entry { times, last: at(seconds), leader: leader.to_owned(), revision: "k1".to_owned(), bereft: false, failed }
    }

    #[test]
    fn a_group_that_keeps_failing_starts_over_less_and_less_often() {
        let mut history = History::default();
        assert_eq!(ask(&mut history, "a", None, 0), Permit::Granted(entry(1, 0, "a", false)));
        assert_eq!(ask(&mut history, "b", None, 0), Permit::Wait(Duration::from_secs(1)));
        assert_eq!(ask(&mut history, "b", None, 1), Permit::Granted(entry(2, 1, "b", false)));
        assert_eq!(ask(&mut history, "c", None, 3), Permit::Granted(entry(3, 3, "c", false)));
        assert_eq!(ask(&mut history, "d", None, 3), Permit::Wait(Duration::from_secs(4)));
        // 4 s of pause, twice, and a minute: it was stable.
        assert_eq!(ask(&mut history, "d", None, 72), Permit::Granted(entry(1, 72, "d", false)));
        history = History([(0, entry(40, 0, "x", false))].into());
        assert_eq!(ask(&mut history, "y", None, 1), Permit::Wait(Duration::from_secs(299)));
    }

    #[test]
    fn a_restart_counts_once_however_often_its_leader_is_met() {
        let mut history = History::default();
        assert_eq!(ask(&mut history, "a", Some(1), 0), Permit::Granted(entry(1, 0, "a", false)));
        assert_eq!(ask(&mut history, "a", Some(1), 0), Permit::Again);
        assert_eq!(ask(&mut history, "a", Some(1), 900), Permit::Again);
        assert_eq!(history.times(0, "b", "k1"), 1);
    }

    #[test]
    fn a_group_that_has_used_up_its_budget_fails_until_somebody_does_something() {
        let mut history = History::default();
        ask(&mut history, "a", Some(2), 0);
        ask(&mut history, "b", Some(2), 1);
        let failed = Permit::Refused(Some(entry(2, 1, "c", true)));
        assert_eq!(ask(&mut history, "c", Some(2), 2), failed);
        assert_eq!(ask(&mut history, "c", Some(2), 9_000), Permit::Refused(None), "time alone is no remedy");
        assert_eq!(
            history.ask(0, "c", "k1", Some(3), at(9_000)),
            Permit::Granted(entry(3, 9_000, "c", false)),
            "a raised budget"
        );
        assert_eq!(history.ask(0, "c", "k1", None, at(9_000)), Permit::Granted(entry(3, 9_000, "c", false)), "no budget");
        let fresh = history.ask(0, "d", "k2", Some(2), at(3));
        assert!(matches!(fresh, Permit::Granted(Entry { times: 1, .. })), "a new revision: {fresh:?}");
        assert_eq!(history.ask(0, "d", "k1", Some(2), at(3)), Permit::Granted(entry(1, 3, "d", false)), "a deleted leader");
    }

    #[test]
    fn with_a_budget_of_none_the_first_failure_is_the_last() {
        assert_eq!(ask(&mut History::default(), "a", Some(0), 0), Permit::Refused(Some(entry(0, 0, "a", true))));
    }

    #[test]
    fn what_means_nothing_any_more_is_forgotten() {
        let history = History(
            [
                (0, entry(1, 0, "a", false)),
                (1, entry(1, 990, "b", false)),
                (2, entry(2, 0, "c", true)),
                (7, entry(1, 990, "d", false)),
            ]
            .into(),
        );
        let kept = history.with(BTreeMap::new(), 4, at(1000));
        assert_eq!(kept.0.into_keys().collect::<Vec<_>>(), [1, 2]);
        let crowd = (0..1200).map(|group| (group, entry(1, i64::from(group), "a", false))).collect();
        let kept = History::default().with(crowd, 2000, at(1200)).0;
        assert_eq!(kept.keys().min(), Some(&1138), "stable ones go first");
        let crowd = (0..1200).map(|group| (group, entry(9, i64::from(group) / 100, "a", false))).collect();
        let kept = History::default().with(crowd, 2000, at(20));
        assert_eq!((kept.0.len(), kept.0.keys().min()), (1000, Some(&200)));
        assert!(kept.render().len() < 128 * 1024, "{}", kept.render().len());
    }

    #[test]
    fn the_annotation_is_read_as_it_is_written_and_garbage_is_nothing() {
        let on = |text: &str| {
            let annotations = [("muster.dev/restarts".to_owned(), text.to_owned())];
            let metadata = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                annotations: Some(annotations.into()),
                ..Default::default()
            };
            History::of(Some(&StatefulSet { metadata, ..StatefulSet::default() }))
        };
        let history = History([(3, entry(2, 0, "uid", true))].into());
        let text = r#"{"3":{"times":2,"last":"2027-01-15T08:00:00Z","leader":"uid","revision":"k1","failed":true}}"#;
        assert_eq!(history.render(), text);
        assert_eq!(on(text), history);
        assert_eq!(on("soon"), History::default());
    }
}
