//! What this process remembers between reconciles. All of it may be lost at any moment: a restarted operator begins its
//! patience anew and applies once more what already stands, and nothing else changes.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use muster_api::names::annotation;
use muster_core::cluster::GroupId;
use muster_core::placing::turns::{Claim, Rank};
use muster_core::pods::millis_between;
use serde_json::Value;

use crate::caches::SetRef;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A set that waits for a place for some of its groups.
#[derive(Debug, Default)]
struct Waiter {
    /// Since when each leader (by UID) waits.
    leaders: HashMap<String, Timestamp>,
    /// What its groups need.
    claims: Vec<Arc<Claim>>,
    /// Since when it lets others go first.
    gives_way: Option<Timestamp>,
}

impl Waiter {
    /// How long a set lets others go first at most in one go, and how long after that it does so again.
    const PATIENCE: Duration = Duration::from_secs(3);
    const IMMUNITY: Duration = Duration::from_secs(60);

    fn is_patient(&mut self, now: Timestamp) -> bool {
        let passed = self.gives_way.map(|since| Duration::from_millis(millis_between(since, now)));
        if passed.is_some_and(|passed| passed >= Self::IMMUNITY) {
            self.gives_way = None;
            return true;
        }
        passed.is_none_or(|passed| passed < Self::PATIENCE)
    }
}

/// The sets that wait, since when, and for what.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    sets: Mutex<HashMap<SetRef, Waiter>>,
}

impl Waiting {
    /// Adds leaders that wait, and returns since when each does.
    pub(crate) fn note(&self, set: &SetRef, waiting: &HashSet<String>, now: Timestamp) -> HashMap<String, Timestamp> {
        let mut sets = lock(&self.sets);
        let leaders = &mut sets.entry(set.clone()).or_default().leaders;
        for uid in waiting {
            leaders.entry(uid.clone()).or_insert(now);
        }
        leaders.clone()
    }

    /// These, and no others, wait.
    pub(crate) fn update(&self, set: &SetRef, waiting: &HashSet<String>, claims: Vec<Claim>, now: Timestamp) {
        if waiting.is_empty() {
            lock(&self.sets).remove(set);
            return;
        }
        self.note(set, waiting, now);
        if let Some(known) = lock(&self.sets).get_mut(set) {
            known.leaders.retain(|uid, _| waiting.contains(uid));
            known.claims = claims.into_iter().map(Arc::new).collect();
        }
    }

    /// The claims that go before this rank's, first things first; none if the set has let others go first for long enough.
    pub(crate) fn ahead_of(&self, set: &SetRef, rank: &Rank, freed: u64, now: Timestamp) -> Vec<(SetRef, Arc<Claim>)> {
        let mut sets = lock(&self.sets);
        if sets.get_mut(set).is_some_and(|waiter| !waiter.is_patient(now)) {
            return Vec::new();
        }
        let others = sets.iter().filter(|(other, _)| *other != set);
        let claims = others.flat_map(|(other, waiter)| waiter.claims.iter().map(|claim| (other.clone(), claim.clone())));
        let mut ahead: Vec<_> = claims.filter(|(_, claim)| claim.goes_before(rank, freed)).collect();
        ahead.sort_by(|(_, one), (_, other)| one.rank().cmp(other.rank()));
        ahead
    }

    /// The set has let another go first.
    pub(crate) fn gave_way(&self, set: &SetRef, now: Timestamp) {
        lock(&self.sets).entry(set.clone()).or_default().gives_way.get_or_insert(now);
    }

    /// The sets that something new in the cluster may help.
    pub(crate) fn sets(&self) -> Vec<SetRef> {
        lock(&self.sets).keys().cloned().collect()
    }
}

/// A node label and its value.
type Domain = (String, String);

#[derive(Debug)]
struct Move {
    times: u32,
    last: Timestamp,
    left: Vec<(Domain, Timestamp)>,
}

/// Groups that gave up their place: how often, when, and which domains they left.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    groups: Mutex<HashMap<GroupId, Move>>,
}

impl Moves {
    const FIRST_PAUSE: Duration = Duration::from_secs(10);
    const LONGEST_PAUSE: Duration = Duration::from_secs(600);
    /// How long a group keeps away from a domain where it could not be scheduled, and how long it must stay to start over.
    const MEMORY: Duration = Duration::from_secs(1800);

    /// Asks to move a group now. The first move is free; then each waits twice as long as the one before.
    ///
    /// # Errors
    /// With the time that is left to wait.
    pub(crate) fn permit(&self, group: &GroupId, leaving: Option<Domain>, now: Timestamp) -> Result<(), Duration> {
        let mut groups = lock(&self.groups);
        let known = groups.entry(group.clone()).or_insert(Move { times: 0, last: now, left: Vec::new() });
        let passed = Duration::from_millis(millis_between(known.last, now));
        if passed > Self::MEMORY {
            known.times = 0;
        }
        if known.times > 0 {
            let pause = Self::FIRST_PAUSE.saturating_mul(1 << (known.times - 1).min(10)).min(Self::LONGEST_PAUSE);
            if passed < pause {
                return Err(pause.saturating_sub(passed));
            }
        }
        known.times += 1;
        known.last = now;
        known.left.extend(leaving.map(|domain| (domain, now)));
        Ok(())
    }

    /// Domains that the group left not long ago.
    pub(crate) fn avoided(&self, group: &GroupId, now: Timestamp) -> Vec<Domain> {
        let groups = lock(&self.groups);
        let left = groups.get(group).into_iter().flat_map(|known| &known.left);
        let recent = left.filter(|(_, since)| Duration::from_millis(millis_between(*since, now)) < Self::MEMORY);
        recent.map(|(domain, _)| domain.clone()).collect()
    }
}

/// What was applied last by set, and how the object stood then, so that what stands is not applied again.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    sets: Mutex<HashMap<SetRef, (u64, u64)>>,
}

impl Applied {
    /// Whether this is what was applied last, and nobody has changed the object since: its spec (by its generation), labels,
    /// annotations and owners.
    pub(crate) fn stands(&self, set: &SetRef, wanted: &Value, live: &ObjectMeta) -> bool {
        lock(&self.sets).get(set) == Some(&(hash(wanted), standing(live)))
    }

    /// This was applied, and the object stands so.
    pub(crate) fn remember(&self, set: SetRef, wanted: &Value, live: &ObjectMeta) {
        lock(&self.sets).insert(set, (hash(wanted), standing(live)));
    }

    /// The set is gone.
    pub(crate) fn forget(&self, set: &SetRef) {
        lock(&self.sets).remove(set);
    }
}

/// Generations of worker StatefulSets (by UID) that were found to say what they should.
#[derive(Debug, Default)]
pub(crate) struct Verified {
    generations: Mutex<HashMap<String, i64>>,
}

impl Verified {
    /// How many are remembered at most. Forgetting costs one request for each.
    const LIMIT: usize = 100_000;

    /// Whether this generation was found good.
    pub(crate) fn knows(&self, uid: &str, generation: i64) -> bool {
        lock(&self.generations).get(uid) == Some(&generation)
    }

    /// This generation is good.
    pub(crate) fn remember(&self, uid: &str, generation: i64) {
        let mut generations = lock(&self.generations);
        if generations.len() >= Self::LIMIT {
            generations.clear();
        }
        generations.insert(uid.to_owned(), generation);
    }
}

/// Claim templates of leader StatefulSets (by UID), as the API server has them. They never change.
#[derive(Debug, Default)]
pub(crate) struct ClaimTemplates {
    sets: Mutex<HashMap<String, Value>>,
}

impl ClaimTemplates {
    /// How many are remembered at most. Forgetting costs one request for each.
    const LIMIT: usize = 10_000;

    /// The templates of this StatefulSet, if it was read before.
    pub(crate) fn of(&self, uid: &str) -> Option<Value> {
        lock(&self.sets).get(uid).cloned()
    }

    /// The StatefulSet has these.
    pub(crate) fn remember(&self, uid: &str, templates: Value) {
        let mut sets = lock(&self.sets);
        if sets.len() >= Self::LIMIT {
            sets.clear();
        }
        sets.insert(uid.to_owned(), templates);
    }
}

fn hash(value: impl std::hash::Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn standing(live: &ObjectMeta) -> u64 {
    let owners: Vec<&str> = live.owner_references.iter().flatten().map(|owner| owner.uid.as_str()).collect();
    // What is written beside the applied object is no change of it.
    let others = live.annotations.iter().flatten().filter(|(key, _)| key.as_str() != annotation::RESTARTS);
    hash((&live.uid, live.generation, &live.labels, others.collect::<Vec<_>>(), owners))
}

/// Failures in a row, for back-off.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    counts: Mutex<HashMap<SetRef, u32>>,
}

impl Failures {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(60);

    /// Another failure: how long to wait before the next attempt.
    pub(crate) fn back_off(&self, set: &SetRef) -> Duration {
        let mut counts = lock(&self.counts);
        let count = counts.entry(set.clone()).or_insert(0);
        let delay = Self::FIRST.saturating_mul(1 << (*count).min(10));
        *count = count.saturating_add(1);
        delay.min(Self::LONGEST)
    }

    /// It worked.
    pub(crate) fn clear(&self, set: &SetRef) {
        lock(&self.counts).remove(set);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn moves_of_one_group_are_farther_and_farther_apart() {
        let moves = Moves::default();
        let group = GroupId { namespace: "team".to_owned(), leader_pod: "a-0".to_owned() };
        let domain = || Some(("pool".to_owned(), "p1".to_owned()));
        assert_eq!(moves.permit(&group, domain(), at(0)), Ok(()));
        assert_eq!(moves.permit(&group, None, at(4)), Err(Duration::from_secs(6)));
        assert_eq!(moves.permit(&group, None, at(10)), Ok(()));
        assert_eq!(moves.permit(&group, None, at(29)), Err(Duration::from_secs(1)));
        assert_eq!(moves.permit(&group, None, at(30)), Ok(()));
        assert_eq!(moves.avoided(&group, at(30)), [("pool".to_owned(), "p1".to_owned())]);
        assert_eq!(moves.avoided(&group, at(1800)), []);
    }

    #[test]
    fn an_applied_object_stands_until_somebody_changes_it() {
        let applied = Applied::default();
        let set = SetRef::new("a").within("team");
        let wanted = serde_json::json!({ "replicas": 2 });
        let live = |generation, label: &str| ObjectMeta {
            uid: Some("u1".to_owned()),
            generation: Some(generation),
            labels: Some([("team".to_owned(), label.to_owned())].into()),
            ..ObjectMeta::default()
        };
        applied.remember(set.clone(), &wanted, &live(1, "x"));
        assert!(applied.stands(&set, &wanted, &live(1, "x")));
        assert!(!applied.stands(&set, &serde_json::json!({ "replicas": 3 }), &live(1, "x")));
        assert!(!applied.stands(&set, &wanted, &live(2, "x")));
        assert!(!applied.stands(&set, &wanted, &live(1, "y")));
    }

    #[test]
    fn a_leader_keeps_the_time_it_began_to_wait_until_it_waits_no_more() {
        let waiting = Waiting::default();
        let set = SetRef::new("a").within("team");
        let leaders = HashSet::from(["u1".to_owned()]);
        waiting.update(&set, &leaders, Vec::new(), at(0));
        assert_eq!(waiting.note(&set, &leaders, at(9))["u1"], at(0));
        waiting.update(&set, &HashSet::new(), Vec::new(), at(10));
        assert!(waiting.sets().is_empty());
        assert_eq!(waiting.note(&set, &leaders, at(20))["u1"], at(20));
    }

    #[test]
    fn nobody_lets_others_go_first_for_ever() {
        let mut waiter = Waiter::default();
        assert!(waiter.is_patient(at(0)));
        waiter.gives_way = Some(at(0));
        assert!(waiter.is_patient(at(2)));
        assert!(!waiter.is_patient(at(3)));
        assert!(!waiter.is_patient(at(59)));
        assert!(waiter.is_patient(at(60)));
        assert_eq!(waiter.gives_way, None);
    }
}
