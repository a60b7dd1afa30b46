//! Which losses make a group start over.

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

/// The verdict without the words that explain it.
fn pod_lost(verdict: Verdict) -> Option<String> {
    match verdict {
        Verdict::StartOver(loss) => Some(loss.pod),
        Verdict::Fine => None,
        Verdict::Remember(members) => panic!("{members} are to be remembered"),
    }
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
}

#[test]
fn members_that_run_are_written_down_before_the_group_is_complete() {
    let first_runs = |pods: &mut Vec<Value>| drop(pods.pop());
    assert_eq!(verdict(EAGER, &group(None, first_runs)), Verdict::Remember("1=aaaaaaaa".to_owned()));
    assert_eq!(verdict(EAGER, &group(Some("1=aaaaaaaa"), first_runs)), Verdict::Fine);
    assert_eq!(verdict(EAGER, &group(Some("1=aaaaaaaa"), |_| {})), Verdict::Remember(WHOLE.to_owned()));
    let none_runs = |pods: &mut Vec<Value>| {
        pods.pop();
        pods[1]["status"]["phase"] = json!("Pending");
    };
    assert_eq!(verdict(EAGER, &group(None, none_runs)), Verdict::Fine);
    // Upstream #998: replaced while nobody looked, and before the group was ever complete.
    let replaced = |pods: &mut Vec<Value>| {
        pods.pop();
        pods[1]["metadata"]["uid"] = json!("cccccccc-3");
    };
    assert_eq!(pod_lost(verdict(EAGER, &group(Some("1=aaaaaaaa"), replaced))).as_deref(), Some("serve-0-1"));
}

#[rstest]
#[case::a_deleted_worker(|pods: &mut Vec<Value>| deleted(&mut pods[2]), Some("serve-0-2"))]
#[case::a_restarted_worker(|pods: &mut Vec<Value>| restarted(&mut pods[1]), Some("serve-0-1"))]
#[case::a_restarted_leader(|pods: &mut Vec<Value>| restarted(&mut pods[0]), Some("serve-0"))]
#[case::a_restarted_init_container(
    |pods: &mut Vec<Value>| pods[1]["status"]["initContainerStatuses"] = json!([{ "name": "sidecar", "image": "", "imageID": "", "ready": true, "restartCount": 2 }]),
    Some("serve-0-1")
)]
#[case::a_restarted_ephemeral_container(
    |pods: &mut Vec<Value>| pods[1]["status"]["ephemeralContainerStatuses"] = json!([{ "name": "debug", "image": "", "imageID": "", "ready": true, "restartCount": 2 }]),
    None
)]
#[case::a_container_that_restarted_while_others_were_pulled(
    |pods: &mut Vec<Value>| { restarted(&mut pods[1]); pods[1]["status"]["phase"] = json!("Pending"); },
    Some("serve-0-1")
)]
#[case::a_leader_that_leaves_already(|pods: &mut Vec<Value>| deleted(&mut pods[0]), None)]
#[case::a_leader_and_a_worker_that_leave_together(|pods: &mut Vec<Value>| { deleted(&mut pods[0]); deleted(&mut pods[1]); }, None)]
#[case::a_worker_that_ended(|pods: &mut Vec<Value>| { restarted(&mut pods[1]); pods[1]["status"]["phase"] = json!("Failed"); }, None)]
#[case::a_worker_of_an_old_revision(
    |pods: &mut Vec<Value>| { deleted(&mut pods[1]); pods[1]["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/template-revision-hash"] = json!("k0"); },
    None
)]
#[case::a_worker_of_an_old_stateful_set(
    |pods: &mut Vec<Value>| { deleted(&mut pods[1]); pods[1]["metadata"]["ownerReferences"][0]["uid"] = json!("old"); },
    None
)]
#[case::a_worker_that_its_leader_owns_itself(
    |pods: &mut Vec<Value>| { deleted(&mut pods[1]); pods[1]["metadata"]["ownerReferences"][0]["uid"] = json!(LEADER); },
    Some("serve-0-1")
)]
#[case::a_worker_replaced_unseen(
    |pods: &mut Vec<Value>| pods[2]["metadata"]["uid"] = json!("cccccccc-3"),
    Some("serve-0-2")
)]
#[case::a_worker_that_was_gone_at_once(|pods: &mut Vec<Value>| drop(pods.pop()), Some("serve-0-2"))]
fn a_group_starts_over_when_a_member_is_lost(#[case] change: fn(&mut Vec<Value>), #[case] expected: Option<&str>) {
    assert_eq!(pod_lost(verdict(EAGER, &group(Some(WHOLE), change))).as_deref(), expected);
}

#[test]
fn a_group_whose_worker_stateful_set_was_deleted_starts_over() {
    let mut observed = group(Some(WHOLE), |_| {});
    observed.stateful_sets.clear();
    assert_eq!(pod_lost(verdict(EAGER, &observed)).as_deref(), Some("serve-0-1"));
    assert_eq!(verdict("None", &observed), Verdict::Fine);
    // A group that never was complete only waits for its workers.
    let mut starting = group(None, |_| {});
    starting.stateful_sets.clear();
    assert_eq!(verdict(EAGER, &starting), Verdict::Fine);
}

#[test]
fn workers_that_were_orphaned_on_purpose_wait_for_their_next_stateful_set() {
    let orphaned = |pods: &mut Vec<Value>| pods[1..].iter_mut().for_each(|pod| pod["metadata"]["ownerReferences"] = json!([]));
    let mut observed = group(Some(WHOLE), orphaned);
    observed.stateful_sets.clear();
    assert_eq!(verdict(EAGER, &observed), Verdict::Fine);
    let mut one_is_gone = group(Some(WHOLE), |pods| {
        orphaned(pods);
        pods.pop();
    });
    one_is_gone.stateful_sets.clear();
    assert_eq!(pod_lost(verdict(EAGER, &one_is_gone)).as_deref(), Some("serve-0-1"));
}

#[test]
fn a_worker_gone_at_once_is_told_as_gone_and_forgiven_while_the_group_is_to_start_first() {
    let gone = |pods: &mut Vec<Value>| drop(pods.pop());
    let Verdict::StartOver(loss) = verdict(EAGER, &group(Some(WHOLE), gone)) else { panic!("nothing is lost") };
    assert_eq!(loss.why, "pod serve-0-2 is gone");
    // An incomplete group has not started: the next pod of that rank decides.
    assert_eq!(verdict(AFTER_START, &group(Some(WHOLE), gone)), Verdict::Fine);
    assert_eq!(verdict("None", &group(Some(WHOLE), gone)), Verdict::Fine);
}

#[test]
fn workers_that_their_leader_owns_itself_need_no_stateful_set() {
    let direct = |pods: &mut Vec<Value>| {
        pods[1..].iter_mut().for_each(|pod| pod["metadata"]["ownerReferences"][0]["uid"] = json!(LEADER));
    };
    let mut observed = group(Some(WHOLE), direct);
    observed.stateful_sets.clear();
    assert_eq!(verdict(EAGER, &observed), Verdict::Fine);
}

#[test]
fn pods_made_by_hand_without_stateful_sets_start_over_too() {
    let mut observed = group(None, |pods| {
        pods[1]["metadata"]["ownerReferences"][0]["uid"] = json!(LEADER);
        deleted(&mut pods[1]);
    });
    observed.stateful_sets.clear();
    assert_eq!(pod_lost(verdict(EAGER, &observed)).as_deref(), Some("serve-0-1"));
}

#[test]
fn after_start_forgives_failures_until_all_have_started() {
    let starting = |pods: &mut Vec<Value>| {
        restarted(&mut pods[1]);
        pods[2]["status"]["phase"] = json!("Pending");
    };
    assert_eq!(verdict(AFTER_START, &group(None, starting)), Verdict::Fine);
    assert_eq!(pod_lost(verdict(EAGER, &group(None, starting))).as_deref(), Some("serve-0-1"));
    let started = |pods: &mut Vec<Value>| restarted(&mut pods[1]);
    assert_eq!(pod_lost(verdict(AFTER_START, &group(Some(WHOLE), started))).as_deref(), Some("serve-0-1"));
    // A member replaced before all ran was never needed; one replaced after that was.
    let waits = |pods: &mut Vec<Value>| pods[2]["status"]["phase"] = json!("Pending");
    assert_eq!(verdict(AFTER_START, &group(None, waits)), Verdict::Fine);
    let replaced = |pods: &mut Vec<Value>| {
        waits(pods);
        pods[2]["metadata"]["uid"] = json!("cccccccc-3");
    };
    assert_eq!(pod_lost(verdict(AFTER_START, &group(Some(WHOLE), replaced))).as_deref(), Some("serve-0-2"));
}

#[test]
fn the_experimental_annotation_makes_the_default_policy_patient() {
    let patient = set(|raw| {
        raw["metadata"]["annotations"] = json!({ "leaderworkerset.sigs.k8s.io/experimental-recreate-group-after-start": "" });
    });
    let starting = group(None, |pods| {
        restarted(&mut pods[1]);
        pods[2]["status"]["phase"] = json!("Pending");
    });
    assert_eq!(judge(&patient, &starting.groups(&patient)[&0]), Verdict::Fine);
    let started = group(None, |pods| restarted(&mut pods[1]));
    assert_eq!(pod_lost(judge(&patient, &started.groups(&patient)[&0])).as_deref(), Some("serve-0-1"));
}

#[rstest]
#[case::none("None")]
#[case::its_deprecated_name("Default")]
fn without_a_restart_policy_members_come_and_go(#[case] policy: &str) {
    assert_eq!(verdict(policy, &group(Some(WHOLE), |pods| deleted(&mut pods[2]))), Verdict::Fine);
    assert_eq!(verdict(policy, &group(Some(WHOLE), |pods| restarted(&mut pods[2]))), Verdict::Fine);
    let replaced = group(Some(WHOLE), |pods| pods[2]["metadata"]["uid"] = json!("cccccccc-3"));
    assert_eq!(verdict(policy, &replaced), Verdict::Remember("1=aaaaaaaa,2=cccccccc".to_owned()));
}

#[rstest]
#[case::deleted(deleted, "pod serve-0-1 on node n1 is being deleted")]
#[case::evicted(
    |pod: &mut Value| {
        deleted(pod);
        pod["status"]["conditions"] = json!([{ "type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet", "message": "The node was low on resource: memory." }]);
    },
    "pod serve-0-1 on node n1 is being deleted (TerminationByKubelet): The node was low on resource: memory."
)]
#[case::killed(
    |pod: &mut Value| {
        restarted(pod);
        pod["status"]["containerStatuses"][0]["lastState"] = json!({ "terminated": { "exitCode": 137, "reason": "OOMKilled" } });
    },
    "container main of pod serve-0-1 on node n1 has restarted (exit code 137, OOMKilled)"
)]
fn a_loss_is_told_with_its_cause(#[case] change: fn(&mut Value), #[case] expected: &str) {
    let lost = group(None, |pods| {
        pods[1]["spec"] = json!({ "containers": [], "nodeName": "n1" });
        change(&mut pods[1]);
    });
    let Verdict::StartOver(loss) = verdict(EAGER, &lost) else { panic!("the group doesn't start over") };
    assert_eq!(loss.why, expected);
}
