//! When a group has to start over: restart as a unit.
//!
//! The rules are upstream's (`reference` §2.6); the way a lost member is noticed is not. Upstream reacts to the deletion of a pod it
//! still sees, and misses one that its StatefulSet has replaced by then (upstream #998): the group is left half old, half new.
//! Here the workers of a complete group are written on its leader, and a group whose workers are others than those starts over,
//! however they were lost and whoever was looking.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use muster_api::LeaderWorkerSet;
use muster_api::leader_worker_set::RestartPolicyType;
use muster_api::names::annotation;

use crate::observed::Group;
use crate::owner::is_controlled_by;
use crate::pods;
use crate::status::size_of;

/// What the restart policy makes of a group as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing to do.
    Fine,
    /// The group is complete, and its members should be written down with this value.
    Remember(String),
    /// The group starts over, because of this pod.
    StartOver {
        /// Name of the pod that failed, was deleted or was replaced.
        because: String,
    },
}

/// Judges one group.
pub fn judge(set: &LeaderWorkerSet, group: &Group<'_>) -> Verdict {
    // A leader on its way out takes its group along; what comes after is another group.
    let Some(leader) = group.live_leader() else { return Verdict::Fine };
    let members = members(group, leader);
    let recreates = match set.restart_policy() {
        RestartPolicyType::None | RestartPolicyType::Default => false,
        RestartPolicyType::RecreateGroupOnPodRestart | RestartPolicyType::RecreateGroupAfterStart => true,
    };
    if recreates && let Some(pod) = failed(set, group, leader) {
        return Verdict::StartOver { because: pods::name(pod).to_owned() };
    }
    let known = pods::annotation(leader, annotation::MEMBERS);
    if recreates && known.is_some() && group.worker_set.is_none() {
        // The workers that were there are gone with their StatefulSet, and a new one would make strangers to this leader.
        return Verdict::StartOver { because: format!("{}-1", pods::name(leader)) };
    }
    let Some(now) = members else { return Verdict::Fine };
    match known {
        Some(known) if *known == now => Verdict::Fine,
        Some(known) if recreates => Verdict::StartOver { because: replaced(known, &now, pods::name(leader)) },
        Some(_) | None => Verdict::Remember(now),
    }
}

/// The first pod of the group that has failed: deleted, or with a container that was restarted.
fn failed<'a>(set: &LeaderWorkerSet, group: &Group<'a>, leader: &'a Pod) -> Option<&'a Pod> {
    if waits_for_start(set) && !has_started(group, leader) {
        return None;
    }
    // Pods beyond the group's size are there because somebody raised the replicas of its workers; they are taken away again.
    let size = size_of(leader);
    group.pods().filter(|(rank, _)| *rank == 0 || *rank < size).map(|(_, pod)| pod).find(|pod| {
        let own = std::ptr::eq(*pod, leader) || is_member(group, leader, pod);
        own && (pods::is_deleting(pod) || has_restarted(pod))
    })
}

/// A pod that ended for good is not a restart; its deletion will be.
fn has_restarted(pod: &Pod) -> bool {
    matches!(pods::phase_text(pod), "Running" | "Pending") && pods::restarts(pod) > 0
}

/// Whether a pod belongs to this incarnation of the group: made by its worker StatefulSet from its leader's revision, and that
/// StatefulSet by its leader. Anything else belongs to a group that is on its way out (upstream #804).
fn is_member(group: &Group<'_>, leader: &Pod, worker: &Pod) -> bool {
    let Some(workers) = group.worker_set else { return false };
    pods::revision(worker) == pods::revision(leader)
        && is_controlled_by(&worker.metadata, workers.metadata.uid.as_deref())
        && is_controlled_by(&workers.metadata, leader.metadata.uid.as_deref())
}

/// Whether failures before the whole group runs are forgiven.
fn waits_for_start(set: &LeaderWorkerSet) -> bool {
    set.restart_policy() == RestartPolicyType::RecreateGroupAfterStart
        || set.annotation(annotation::RECREATE_AFTER_START).is_some()
}

fn has_started(group: &Group<'_>, leader: &Pod) -> bool {
    let expected = usize::try_from(size_of(leader)).unwrap_or(usize::MAX);
    group.pods().count() == expected && group.pods().all(|(_, pod)| pods::phase_text(pod) != "Pending")
}

/// The workers of a complete group, `rank=uid` each; `None` while one is missing, leaving or of another incarnation.
fn members(group: &Group<'_>, leader: &Pod) -> Option<String> {
    let expected = size_of(leader).saturating_sub(1);
    let complete = expected > 0
        && group.workers.len() == expected as usize
        && group.workers.values().all(|worker| is_member(group, leader, worker) && !pods::is_deleting(worker));
    // The first 32 bits of a UID tell two pods of one name apart, and thousands of members still fit an annotation.
    let short = |uid: &str| uid.chars().take(8).collect::<String>();
    complete.then(|| {
        let each = group.workers.iter().map(|(rank, worker)| format!("{rank}={}", short(pods::uid(worker))));
        each.collect::<Vec<_>>().join(",")
    })
}

/// Name of the first member that is another than the one written down.
fn replaced(known: &str, now: &str, leader: &str) -> String {
    let read = |text: &str| -> BTreeMap<String, String> {
        text.split(',').filter_map(|entry| entry.split_once('=')).map(|(rank, uid)| (rank.to_owned(), uid.to_owned())).collect()
    };
    let known = read(known);
    let other = read(now).into_iter().find(|(rank, uid)| known.get(rank) != Some(uid));
    let rank = other.and_then(|(rank, _)| rank.parse::<i32>().ok());
    rank.map_or_else(|| leader.to_owned(), |rank| format!("{leader}-{rank}"))
}

/// The event's text, as upstream words it (also when the pod is the leader itself).
pub(crate) fn note(because: &str, leader: &str, group: u32) -> String {
    format!("Worker pod {because} failed, deleted leader pod {leader} to recreate group {group}")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::observed::Observed;
    use crate::testing::set;

    const LEADER: &str = "leader-uid";

    fn pod(name: &str, controller: &str, change: impl FnOnce(&mut Value)) -> Value {
        let index = if name == "serve-0" { "0" } else { "1" };
        let mut raw = json!({
            "metadata": {
                "name": name,
                "namespace": "team",
                "uid": format!("{name}-uid-of-36-characters"),
                "labels": {
                    "leaderworkerset.sigs.k8s.io/worker-index": index,
                    "leaderworkerset.sigs.k8s.io/template-revision-hash": "k1",
                },
                "annotations": { "leaderworkerset.sigs.k8s.io/size": "3" },
                "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "x", "uid": controller, "controller": true }],
            },
            "status": { "phase": "Running", "containerStatuses": [{ "name": "main", "image": "", "imageID": "", "ready": true, "restartCount": 0 }] },
        });
        change(&mut raw);
        raw
    }

    /// A complete group of three whose members were written down as `members`.
    fn group(members: Option<&str>, change: impl FnOnce(&mut Vec<Value>)) -> Observed {
        let mut pods = vec![
            pod("serve-0", "leaders-uid", |pod| pod["metadata"]["uid"] = json!(LEADER)),
            pod("serve-0-1", "workers-uid", |pod| pod["metadata"]["uid"] = json!("aaaaaaaa-1")),
            pod("serve-0-2", "workers-uid", |pod| pod["metadata"]["uid"] = json!("bbbbbbbb-2")),
        ];
        change(&mut pods);
        let workers = json!({ "metadata": {
            "name": "serve-0",
            "namespace": "team",
            "uid": "workers-uid",
            "labels": { "leaderworkerset.sigs.k8s.io/name": "serve" },
            "ownerReferences": [{ "apiVersion": "v1", "kind": "Pod", "name": "serve-0", "uid": LEADER, "controller": true }],
        } });
        if let Some(members) = members {
            pods[0]["metadata"]["annotations"]["muster.dev/members"] = json!(members);
        }
        let mut observed = Observed::default();
        for pod in pods {
            let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
            observed.pods.insert(name, std::sync::Arc::new(serde_json::from_value(pod).unwrap()));
        }
        observed.stateful_sets.insert("serve-0".to_owned(), std::sync::Arc::new(serde_json::from_value(workers).unwrap()));
        observed
    }

    fn verdict(policy: &str, observed: &Observed) -> Verdict {
        let set = set(|raw| raw["spec"]["leaderWorkerTemplate"]["restartPolicy"] = json!(policy));
        judge(&set, &observed.groups(&set)[&0])
    }

    fn start_over(because: &str) -> Verdict {
        Verdict::StartOver { because: because.to_owned() }
    }

    const WHOLE: &str = "1=aaaaaaaa,2=bbbbbbbb";
    const EAGER: &str = "RecreateGroupOnPodRestart";
    const AFTER_START: &str = "RecreateGroupAfterStart";

    fn deleted(pod: &mut Value) {
        pod["metadata"]["deletionTimestamp"] = json!("2026-11-22T11:00:00Z");
    }

    fn restarted(pod: &mut Value) {
        pod["status"]["containerStatuses"][0]["restartCount"] = json!(1);
    }

    #[test]
    fn a_complete_group_is_written_down_and_then_left_alone() {
        assert_eq!(verdict(EAGER, &group(None, |_| {})), Verdict::Remember(WHOLE.to_owned()));
        assert_eq!(verdict(EAGER, &group(Some(WHOLE), |_| {})), Verdict::Fine);
        assert_eq!(verdict(EAGER, &group(None, |pods| drop(pods.pop()))), Verdict::Fine);
    }

    #[rstest]
    #[case::a_deleted_worker(|pods: &mut Vec<Value>| deleted(&mut pods[2]), start_over("serve-0-2"))]
    #[case::a_restarted_worker(|pods: &mut Vec<Value>| restarted(&mut pods[1]), start_over("serve-0-1"))]
    #[case::a_restarted_leader(|pods: &mut Vec<Value>| restarted(&mut pods[0]), start_over("serve-0"))]
    #[case::a_leader_that_leaves_already(|pods: &mut Vec<Value>| deleted(&mut pods[0]), Verdict::Fine)]
    #[case::a_worker_that_ended(|pods: &mut Vec<Value>| { restarted(&mut pods[1]); pods[1]["status"]["phase"] = json!("Failed"); }, Verdict::Fine)]
    #[case::a_worker_of_an_old_revision(
        |pods: &mut Vec<Value>| { deleted(&mut pods[1]); pods[1]["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/template-revision-hash"] = json!("k0"); },
        Verdict::Fine
    )]
    #[case::a_worker_of_an_old_stateful_set(
        |pods: &mut Vec<Value>| { deleted(&mut pods[1]); pods[1]["metadata"]["ownerReferences"][0]["uid"] = json!("old"); },
        Verdict::Fine
    )]
    #[case::a_worker_replaced_unseen(
        |pods: &mut Vec<Value>| pods[2]["metadata"]["uid"] = json!("cccccccc-3"),
        start_over("serve-0-2")
    )]
    fn a_group_starts_over_when_a_member_is_lost(#[case] change: fn(&mut Vec<Value>), #[case] expected: Verdict) {
        assert_eq!(verdict(EAGER, &group(Some(WHOLE), change)), expected);
    }

    #[test]
    fn a_group_whose_worker_stateful_set_was_deleted_starts_over() {
        let mut observed = group(Some(WHOLE), |_| {});
        observed.stateful_sets.clear();
        assert_eq!(verdict(EAGER, &observed), start_over("serve-0-1"));
        assert_eq!(verdict("None", &observed), Verdict::Fine);
        // A group that never was complete only waits for its workers.
        let mut starting = group(None, |_| {});
        starting.stateful_sets.clear();
        assert_eq!(verdict(EAGER, &starting), Verdict::Fine);
    }

    #[test]
    fn after_start_forgives_failures_until_all_have_started() {
        let starting = |pods: &mut Vec<Value>| {
            restarted(&mut pods[1]);
            pods[2]["status"]["phase"] = json!("Pending");
        };
        assert_eq!(verdict(AFTER_START, &group(Some(WHOLE), starting)), Verdict::Fine);
        assert_eq!(verdict(EAGER, &group(Some(WHOLE), starting)), start_over("serve-0-1"));
        let started = |pods: &mut Vec<Value>| restarted(&mut pods[1]);
        assert_eq!(verdict(AFTER_START, &group(Some(WHOLE), started)), start_over("serve-0-1"));
    }

    #[test]
    fn without_a_restart_policy_members_come_and_go() {
        assert_eq!(verdict("None", &group(Some(WHOLE), |pods| deleted(&mut pods[2]))), Verdict::Fine);
        let replaced = group(Some(WHOLE), |pods| pods[2]["metadata"]["uid"] = json!("cccccccc-3"));
        assert_eq!(verdict("None", &replaced), Verdict::Remember("1=aaaaaaaa,2=cccccccc".to_owned()));
    }
}
