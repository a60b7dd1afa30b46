//! A member that was lost while nobody looked, before it was written down.
//!
//! Members are written down as soon as they run, so a group whose operator dies first can lose one without a trace: by the time the next
//! operator looks, the StatefulSet has replaced it, and the group is half old and half new. What is left to go by is time. The
//! StatefulSet controller makes all workers of a group together; one that it made when the others had been ready for a while is a
//! successor. It may also be one that could not be made before (while no operator admitted it); the group starts over then, too: it has
//! not been complete before. Neither is judged that long after an operator has begun to look, because it would have seen a loss itself.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::Members;
use crate::drift;
use crate::observed::Group;
use crate::pods;

/// Workers that are made together come within this time of each other, counted in the API's whole seconds.
const TOGETHER: Duration = Duration::from_secs(2);
/// How long before a successor was made the others were ready, at least.
const FOR_A_WHILE: Duration = Duration::from_secs(3);
/// How long the StatefulSet controller may take to try again, once pods are admitted again.
const RETRY: Duration = Duration::from_secs(120);

/// The name of a worker that isn't written down and must be the successor of one that nobody saw.
pub(super) fn successor(group: &Group<'_>, leader: &Pod, known: &Members, present: &Members) -> Option<String> {
    let since = group.since?;
    let workers = group.worker_set?;
    // Ranks that are admitted one after another are made one after another. Upstream's groups may have had members replaced singly.
    let at_once = workers.metadata.generation == Some(1);
    let born = pods::created(&workers.metadata).filter(|born| at_once && drift::is_marked(workers) && *born < since)?;
    let pod = |rank: &u32| group.workers.get(rank).copied();
    let all: Vec<&Pod> = present.keys().filter_map(pod).collect();
    let candidates = present.keys().filter(|rank| !known.contains_key(rank)).filter_map(pod);
    let late = candidates.filter(|candidate| {
        let Some(made) = pods::created(&candidate.metadata) else { return false };
        made <= later(since, RETRY) && was_made_late(made, born, since, leader, &all)
    });
    late.map(|pod| pods::name(pod).to_owned()).next()
}

/// Whether all members that were not made along with this one had been ready for a while, and before anybody looked. The leader has
/// no say where there are others: it may be ready only with all of its workers.
fn was_made_late(made: Timestamp, born: Timestamp, since: Timestamp, leader: &Pod, workers: &[&Pod]) -> bool {
    let ready = |pod: &Pod| pods::ready_since(pod).is_some_and(|ready| ready < since && later(ready, FOR_A_WHILE) <= made);
    if workers.len() == 1 {
        return ready(leader) && later(born, FOR_A_WHILE) <= made;
    }
    let begun = beginning(made, workers);
    let mut others = workers.iter().filter(|pod| pods::created(&pod.metadata).is_some_and(|created| created < begun)).peekable();
    others.peek().is_some() && others.all(|pod| ready(pod))
}

/// When the first of the workers was made that come in one go with the one made at this time.
fn beginning(made: Timestamp, workers: &[&Pod]) -> Timestamp {
    let mut times: Vec<Timestamp> = workers.iter().filter_map(|pod| pods::created(&pod.metadata)).collect();
    times.sort_unstable();
    let before = times.into_iter().rev().filter(|time| *time <= made);
    before.fold(made, |begun, time| if begun <= later(time, TOGETHER) { time } else { begun })
}

fn later(time: Timestamp, after: Duration) -> Timestamp {
    time.checked_add(after).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    /// Seconds after the group's StatefulSet was made.
    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn pod(name: &str, (made, ready): (i64, i64)) -> Pod {
        let ready = json!({ "type": "Ready", "status": "True", "lastTransitionTime": at(ready).to_string() });
        let metadata = json!({ "name": name, "creationTimestamp": at(made).to_string() });
        let raw = json!({ "metadata": metadata, "status": { "phase": "Running", "conditions": [ready] } });
        serde_json::from_value(raw).unwrap()
    }

    /// Which worker is the successor of one, when workers were made and ready at these times and the operator has looked since then.
    fn found(known: &[u32], workers: &[(i64, i64)], since: i64, change: impl FnOnce(&mut Value)) -> Option<String> {
        let mut raw = json!({ "metadata": {
            "name": "serve-0", "generation": 1, "creationTimestamp": at(0).to_string(), "annotations": { "muster.dev/made-as": "x" },
        } });
        change(&mut raw);
        let stateful_set = serde_json::from_value(raw).unwrap();
        let leader = pod("serve-0", (0, 1));
        let pods: Vec<Pod> = (1..).zip(workers).map(|(rank, times)| pod(&format!("serve-0-{rank}"), *times)).collect();
        let group = Group {
            since: Some(at(since)),
            leader: Some(&leader),
            workers: (1..).zip(&pods).collect(),
            worker_set: Some(&stateful_set),
            ..Group::default()
        };
        let ranks = |ranks: &mut dyn Iterator<Item = u32>| ranks.map(|rank| (rank, format!("uid-{rank}"))).collect();
        let known = ranks(&mut known.iter().copied());
        successor(&group, &leader, &known, &ranks(&mut group.workers.keys().copied()))
    }

    #[rstest]
    #[case::one_of_two(&[(0, 2), (9, 10)], Some("serve-0-2"))]
    #[case::two_of_three(&[(10, 12), (0, 2), (9, 10)], Some("serve-0-1"))]
    #[case::the_only_one(&[(9, 10)], Some("serve-0-1"))]
    #[case::made_together(&[(0, 2), (1, 2)], None)]
    #[case::made_one_after_another_for_a_while(&[(0, 1), (2, 3), (4, 5), (6, 7)], None)]
    #[case::the_others_were_not_ready_yet(&[(0, 7), (9, 10)], None)]
    #[case::an_only_one_made_with_its_stateful_set(&[(2, 3)], None)]
    fn a_worker_made_long_after_the_others_is_a_successor(#[case] workers: &[(i64, i64)], #[case] expected: Option<&str>) {
        assert_eq!(found(&[], workers, 8, |_| {}).as_deref(), expected);
    }

    #[test]
    fn what_is_written_down_or_was_watched_is_no_matter_of_time() {
        let workers = [(0, 2), (9, 10)];
        assert_eq!(found(&[2], &workers, 8, |_| {}), None, "written down");
        assert_eq!(found(&[1], &workers, 8, |_| {}).as_deref(), Some("serve-0-2"), "the other is written down");
        assert_eq!(found(&[], &workers, 1, |_| {}), None, "watched since before the first was ready");
        assert_eq!(found(&[], &[(0, 2), (129, 130)], 8, |_| {}), None, "long after");
        assert_eq!(found(&[], &workers, 8, |raw| raw["metadata"]["generation"] = json!(2)), None, "admitted by and by");
        assert_eq!(found(&[], &workers, 8, |raw| raw["metadata"]["annotations"] = json!({})), None, "made by upstream");
    }
}
