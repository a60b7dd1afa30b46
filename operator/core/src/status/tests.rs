//! What a status says, computed by `decide` from objects as the API server has them.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use muster_api::{GroupPhase, GroupStatus, LeaderWorkerSet, LeaderWorkerSetStatus};
use serde_json::{Value, json};

use crate::admission::Choice;
use crate::advice::{Admitted, Advice, Placement};
use crate::decide;
use crate::observed::Observed;
use crate::placement::Reason;
use crate::plan::{Plan, Write};
use crate::testing::{gated, now, ready, set, with_leader, written};

/// Groups of one pod each.
fn single(replicas: i32, change: impl FnOnce(&mut Value)) -> LeaderWorkerSet {
    set(|raw| {
        raw["spec"]["replicas"] = json!(replicas);
        raw["spec"]["leaderWorkerTemplate"]["size"] = json!(1);
        change(raw);
    })
}

fn created(set: &LeaderWorkerSet) -> Observed {
    written(&decide(set, &Observed::default(), &Choice::default(), &Advice::default(), now()))
}

fn plan_at(set: &LeaderWorkerSet, observed: &Observed, at: Timestamp) -> Plan {
    decide(set, observed, &Choice::default(), &Advice::default(), at)
}

/// The set with the status of a plan, and that status; the one it had if the plan changes nothing.
fn settle(set: &mut LeaderWorkerSet, observed: &Observed, at: Timestamp) -> LeaderWorkerSetStatus {
    if let Some(status) = plan_at(set, observed, at).status {
        set.status = Some(status);
    }
    set.status.clone().unwrap()
}

/// Carries out what a plan writes about restarts.
fn record(plan: &Plan, observed: &mut Observed) {
    for step in &plan.steps {
        if let Write::RecordRestarts { history, .. } = &step.write {
            let mut leaders = (*observed.stateful_sets["serve"]).clone();
            leaders.metadata.annotations.get_or_insert_default().insert("muster.dev/restarts".to_owned(), history.clone());
            observed.stateful_sets.insert("serve".to_owned(), Arc::new(leaders));
        }
    }
}

fn restarted(pod: &mut Value) {
    ready(pod);
    pod["status"]["containerStatuses"] = json!([{
        "name": "main", "image": "", "imageID": "", "ready": true, "restartCount": 1,
        "lastState": { "terminated": { "exitCode": 1, "reason": "Error" } },
    }]);
}

fn phases(status: &LeaderWorkerSetStatus) -> Vec<(i32, GroupPhase)> {
    status.groups.iter().map(|group| (group.index, group.phase)).collect()
}

fn group(status: &LeaderWorkerSetStatus, index: i32) -> GroupStatus {
    status.groups.iter().find(|group| group.index == index).cloned().unwrap()
}

fn condition<'a>(status: &'a LeaderWorkerSetStatus, type_: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let found = status.conditions.iter().find(|condition| condition.type_ == type_)?;
    Some((&found.status, &found.reason, &found.message))
}

#[test]
fn groups_are_listed_with_those_that_need_somebody_first() {
    let mut set = single(5, |_| {});
    let mut observed = created(&set);
    with_leader(&mut observed, 0, ready);
    with_leader(&mut observed, 1, |_| {});
    with_leader(&mut observed, 2, |pod| {
        pod["status"] = json!({ "phase": "Pending", "containerStatuses": [{
            "name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": "ImagePullBackOff", "message": "Back-off pulling image \"image:1\"" } },
        }] });
    });
    with_leader(&mut observed, 3, |pod| pod["metadata"]["deletionTimestamp"] = json!("2026-11-22T12:00:00Z"));
    let status = settle(&mut set, &observed, now());
    assert_eq!(
        phases(&status),
        [
            (4, GroupPhase::Pending),
            (3, GroupPhase::Terminating),
            (1, GroupPhase::Starting),
            (2, GroupPhase::Starting),
            (0, GroupPhase::Ready)
        ]
    );
    assert_eq!(group(&status, 4).reason.as_deref(), Some("LeaderMissing"));
    assert_eq!(group(&status, 4).message.as_deref(), Some("pod serve-4 does not exist yet"));
    assert_eq!(group(&status, 2).reason.as_deref(), Some("ImagePullBackOff"));
    let message = "container main of pod serve-2 waits: ImagePullBackOff: Back-off pulling image \"image:1\"";
    assert_eq!(group(&status, 2).message.as_deref(), Some(message));
    let first = group(&status, 0);
    assert_eq!((first.reason, first.message, first.restarts, first.domain), (None, None, 0, None));
    assert!(first.revision.is_some());
    let counts = &status.group_counts;
    assert_eq!((counts.pending, counts.terminating, counts.starting, counts.ready, counts.failed), (1, 1, 2, 1, 0));
}

#[test]
fn a_set_of_many_groups_lists_as_many_as_a_status_may_hold() {
    let mut set = single(100_000, |_| {});
    let mut observed = created(&set);
    (0..70).for_each(|group| with_leader(&mut observed, group, ready));
    let status = settle(&mut set, &observed, now());
    assert_eq!(status.groups.len(), 64);
    assert_eq!((status.groups[0].index, status.groups[63].index), (70, 133));
    assert_eq!((status.group_counts.pending, status.group_counts.ready), (99_930, 70));
    assert!(serde_json::to_string(&status).unwrap().len() < 32 * 1024);
}

#[test]
fn a_status_that_says_it_all_is_not_written_again() {
    let mut set = single(3, |_| {});
    let mut observed = created(&set);
    with_leader(&mut observed, 0, ready);
    with_leader(&mut observed, 1, restarted);
    settle(&mut set, &observed, now());
    record(&plan_at(&set, &observed, now()), &mut observed);
    settle(&mut set, &observed, now());
    let later = plan_at(&set, &observed, "2026-11-22T12:05:00Z".parse().unwrap());
    assert_eq!(later.status, None);
    assert!(later.notes.is_empty(), "{:?}", later.notes);
}

#[test]
fn a_group_that_waits_for_a_place_says_why_and_one_that_has_it_where() {
    let mut set = single(2, |_| {});
    let mut observed = created(&set);
    with_leader(&mut observed, 0, gated);
    with_leader(&mut observed, 1, |pod| {
        ready(pod);
        let record =
            json!({ "by": "exclusive", "level": "rack", "domain": "r7", "reason": { "code": "BestFit", "message": "" } });
        pod["metadata"]["annotations"]["muster.dev/placement"] = json!(record.to_string());
    });
    let why = Reason { code: "NoDomainLargeEnough".to_owned(), message: "r1: room for 0 of 1 pods".to_owned() };
    let advice = Advice { placements: [(0, Placement::Hold(why))].into(), ..Advice::default() };
    let choice = Choice { exclusive: Some("rack".to_owned()), gated: true, ..Choice::default() };
    set.status = decide(&set, &observed, &choice, &advice, now()).status;
    let status = set.status.unwrap();
    let waits = group(&status, 0);
    assert_eq!((waits.phase, waits.reason.as_deref()), (GroupPhase::Pending, Some("NoDomainLargeEnough")));
    assert_eq!(waits.message.as_deref(), Some("r1: room for 0 of 1 pods"));
    assert_eq!((group(&status, 1).phase, group(&status, 1).domain.as_deref()), (GroupPhase::Ready, Some("r7")));
}

#[test]
fn a_restart_is_written_down_before_the_leader_goes_and_told_with_its_cause() {
    let set = single(2, |_| {});
    let mut observed = created(&set);
    with_leader(&mut observed, 0, ready);
    with_leader(&mut observed, 1, restarted);
    let plan = plan_at(&set, &observed, now());
    let lines: Vec<String> = plan.steps.iter().map(|step| step.write.to_string()).collect();
    let at = lines.iter().position(|line| line == "record the restarts of groups on StatefulSet serve").unwrap();
    assert_eq!(lines[at + 1], "delete leader serve-1");
    let told: Vec<(&str, &str)> =
        plan.steps[at..].iter().flat_map(|step| &step.done).map(|note| (note.reason, note.text.as_str())).collect();
    assert_eq!(
        told,
        [
            (
                "GroupRestarting",
                "Group 1 starts over: container main of pod serve-1 on node node-1 has restarted (exit code 1, Error)"
            ),
            ("RecreateGroup", "Worker pod serve-1 failed, deleted leader pod serve-1 to recreate group 1"),
        ]
    );
    let status = plan.status.clone().unwrap();
    let restarting = group(&status, 1);
    assert_eq!(
        (restarting.phase, restarting.restarts, restarting.reason.as_deref()),
        (GroupPhase::Restarting, 1, Some("MemberLost"))
    );

    // Killed between the two writes, or looking at a leader that is gone already: the same restart, not another one.
    record(&plan, &mut observed);
    let again = plan_at(&set, &observed, now());
    let lines: Vec<String> = again.steps.iter().map(|step| step.write.to_string()).collect();
    assert!(
        lines.contains(&"delete leader serve-1".to_owned()) && !lines.iter().any(|line| line.starts_with("record")),
        "{again}"
    );

    // The cause stays in the status until the next leader is there.
    let set = LeaderWorkerSet { status: Some(status), ..set };
    with_leader(&mut observed, 1, |pod| {
        restarted(pod);
        pod["metadata"]["deletionTimestamp"] = json!("2026-11-22T12:00:30Z");
    });
    let leaving = group(&plan_at(&set, &observed, now()).status.unwrap_or(set.status.unwrap()), 1);
    assert_eq!((leaving.phase, leaving.reason.as_deref()), (GroupPhase::Restarting, Some("MemberLost")));
}

#[test]
fn a_restart_that_was_written_down_is_carried_out_though_its_cause_is_gone() {
    let set = single(1, |_| {});
    let mut observed = created(&set);
    with_leader(&mut observed, 0, restarted);
    let plan = plan_at(&set, &observed, now());
    record(&plan, &mut observed);
    // The operator died before it deleted the leader, and by now nothing is to be seen of the loss.
    with_leader(&mut observed, 0, ready);
    let again = plan_at(&set, &observed, now());
    assert!(again.to_string().contains("delete leader serve-0") && !again.to_string().contains("record"), "{again}");
    let none = single(1, |raw| raw["spec"]["leaderWorkerTemplate"]["restartPolicy"] = json!("None"));
    assert!(!plan_at(&none, &observed, now()).to_string().contains("delete leader"), "the set no longer asks for it");
}

#[test]
fn restarts_of_a_group_are_remembered_while_nothing_of_it_is_there() {
    let set = single(2, |_| {});
    let mut observed = created(&set);
    with_leader(&mut observed, 0, ready);
    with_leader(&mut observed, 1, restarted);
    let first = plan_at(&set, &observed, now());
    record(&first, &mut observed);
    observed.pods.remove("serve-1");
    with_leader(&mut observed, 0, restarted);
    let second = plan_at(&set, &observed, now());
    record(&second, &mut observed);
    let history = &observed.stateful_sets["serve"].metadata.annotations.as_ref().unwrap()["muster.dev/restarts"];
    let history: Value = serde_json::from_str(history).unwrap();
    assert_eq!((&history["0"]["times"], &history["1"]["times"]), (&json!(1), &json!(1)), "{history}");
}

#[test]
fn a_group_that_waits_to_start_over_is_not_ready_whatever_its_pods_say() {
    let mut set = single(1, |_| {});
    let mut observed = created(&set);
    with_leader(&mut observed, 0, restarted);
    record(&plan_at(&set, &observed, now()), &mut observed);
    with_leader(&mut observed, 0, |pod| {
        restarted(pod);
        pod["metadata"]["uid"] = json!("leader-0-second");
    });
    let status = settle(&mut set, &observed, now());
    assert_eq!((status.ready_replicas, condition(&status, "Available")), (0, None));
    assert_eq!(phases(&status), [(0, GroupPhase::Restarting)]);
}

#[test]
fn a_group_that_has_used_up_its_budget_fails_alone_and_says_what_helps() {
    let mut set = single(3, |raw| raw["metadata"]["annotations"] = json!({ "muster.dev/max-group-restarts": "1" }));
    let mut observed = created(&set);
    with_leader(&mut observed, 0, ready);
    with_leader(&mut observed, 1, restarted);
    with_leader(&mut observed, 2, ready);
    let first = plan_at(&set, &observed, now());
    assert!(first.to_string().contains("delete leader serve-1"), "{first}");
    record(&first, &mut observed);
    with_leader(&mut observed, 1, |pod| {
        restarted(pod);
        pod["metadata"]["uid"] = json!("leader-1-second");
    });
    let later: Timestamp = "2026-11-22T12:00:10Z".parse().unwrap();
    let second = plan_at(&set, &observed, later);
    assert!(!second.to_string().contains("delete leader"), "{second}");
    let note = second.steps.iter().flat_map(|step| &step.done).find(|note| note.reason == "GroupFailed").unwrap();
    assert_eq!(
        note.text,
        "Group 1 has failed after 1 restart and is not started over again: container main of pod serve-1 on node node-1 has restarted \
         (exit code 1, Error). Correct the template, raise the set's annotation muster.dev/max-group-restarts or delete pod serve-1, \
         and it goes on"
    );
    record(&second, &mut observed);
    let status = settle(&mut set, &observed, later);
    assert_eq!(phases(&status), [(1, GroupPhase::Failed), (0, GroupPhase::Ready), (2, GroupPhase::Ready)]);
    assert_eq!((group(&status, 1).reason.as_deref(), group(&status, 1).restarts), (Some("RestartBudgetUsedUp"), 1));
    let (value, reason, message) = condition(&status, "GroupsFailed").unwrap();
    assert_eq!((value, reason), ("True", "RestartBudgetUsedUp"));
    assert!(message.starts_with("Group 1 used up the budget of restarts. Group 1: container main of pod serve-1"), "{message}");
    let third = plan_at(&set, &observed, later);
    assert!(third.status.is_none() && third.notes.is_empty() && !third.to_string().contains("record"), "{third}");

    set.metadata.annotations.as_mut().unwrap().insert("muster.dev/max-group-restarts".to_owned(), "2".to_owned());
    let raised = plan_at(&set, &observed, later);
    assert!(raised.to_string().contains("delete leader serve-1"), "{raised}");
    let status = raised.status.unwrap();
    assert_eq!(condition(&status, "GroupsFailed"), Some(("False", "NoGroupFailed", "No group has failed")));
}

#[test]
fn a_pod_that_stays_on_a_lost_node_is_named_once() {
    let mut set = single(1, |_| {});
    let mut observed = created(&set);
    with_leader(&mut observed, 0, |pod| {
        ready(pod);
        pod["metadata"]["deletionTimestamp"] = json!("2026-11-22T12:00:00Z");
    });
    let soon = plan_at(&set, &observed, "2026-11-22T12:00:10Z".parse().unwrap());
    assert_eq!(soon.requeue.map(|after| after.as_secs()), Some(20));
    let late: Timestamp = "2026-11-22T12:00:30Z".parse().unwrap();
    let plan = plan_at(&set, &observed, late);
    let note = plan.notes.iter().find(|note| note.reason == "TerminationBlocked").unwrap();
    assert_eq!(
        note.text,
        "Group 0: pod serve-0 on node node-1 should be gone by now and holds its group up. If the node is lost, taint it with \
         node.kubernetes.io/out-of-service=nodeshutdown:NoExecute, or delete the pod with --force"
    );
    let status = settle(&mut set, &observed, late);
    assert_eq!(group(&status, 0).reason.as_deref(), Some("TerminationBlocked"));
    let again = plan_at(&set, &observed, late);
    assert!(again.status.is_none() && again.notes.is_empty(), "{:?}", again.notes);
}

#[test]
fn a_leader_made_by_hand_without_a_size_is_as_large_as_the_set_says() {
    let mut set = set(|raw| raw["spec"]["replicas"] = json!(1));
    let mut observed = created(&set);
    with_leader(&mut observed, 0, |pod| {
        ready(pod);
        pod["metadata"]["annotations"] = json!({});
    });
    let status = settle(&mut set, &observed, now());
    assert_eq!(status.ready_replicas, 0, "three workers are missing");
}

#[test]
fn a_new_leader_with_the_workers_of_the_one_before_is_no_ready_group() {
    let mut set = set(|raw| {
        raw["spec"]["replicas"] = json!(1);
        raw["spec"]["leaderWorkerTemplate"]["size"] = json!(2);
    });
    let mut observed = created(&set);
    with_leader(&mut observed, 0, ready);
    let workers = |leader: &str| {
        let object = json!({
            "metadata": {
                "name": "serve-0",
                "labels": { "leaderworkerset.sigs.k8s.io/name": "serve" },
                "ownerReferences": [{ "apiVersion": "v1", "kind": "Pod", "name": "serve-0", "uid": leader, "controller": true }],
            },
            "spec": { "replicas": 1, "selector": {}, "serviceName": "serve", "template": {} },
            "status": { "replicas": 1, "availableReplicas": 1 },
        });
        Arc::new(serde_json::from_value(object).unwrap())
    };
    observed.stateful_sets.insert("serve-0".to_owned(), workers("leader-0-before"));
    assert_eq!(settle(&mut set, &observed, now()).ready_replicas, 0);
    observed.stateful_sets.insert("serve-0".to_owned(), workers("leader-0-uid"));
    assert_eq!(settle(&mut set, &observed, now()).ready_replicas, 1);
}

#[test]
fn a_rollout_says_at_once_that_it_is_under_way_and_that_groups_progress() {
    let old = single(2, |_| {});
    let mut observed = created(&old);
    with_leader(&mut observed, 0, ready);
    with_leader(&mut observed, 1, ready);
    let mut new = single(2, |raw| {
        raw["metadata"]["generation"] = json!(2);
        raw["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"]["containers"][0]["image"] = json!("image:2");
    });
    new.status = plan_at(&old, &observed, now()).status;
    let status = settle(&mut new, &observed, "2026-11-22T12:01:00Z".parse().unwrap());
    assert_eq!(condition(&status, "UpdateInProgress"), Some(("True", "GroupsUpdating", "Rolling Upgrade is in progress")));
    assert_eq!(condition(&status, "Progressing"), Some(("True", "GroupsProgressing", "Replicas are progressing")));
    assert_eq!(condition(&status, "Available"), Some(("False", "AllGroupsReady", "All replicas are ready")));
    assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(2)));
    assert_eq!((status.observed_generation, status.ready_replicas, status.updated_replicas), (Some(2), 2, 0));
    // What turned False keeps its words and turned just now.
    let times: Vec<(&str, String)> = status
        .conditions
        .iter()
        .map(|condition| (condition.type_.as_str(), condition.last_transition_time.0.to_string()))
        .collect();
    let turned = "2026-11-22T12:01:00Z".to_owned();
    assert_eq!(times, [("Available", turned.clone()), ("UpdateInProgress", turned.clone()), ("Progressing", turned)]);

    // All groups are updated and one of them isn't ready: the update is called under way until all of them are.
    let begun = written(&plan_at(&new, &observed, now()));
    observed.revisions.extend(begun.revisions);
    observed.stateful_sets.extend(begun.stateful_sets);
    with_leader(&mut observed, 0, ready);
    with_leader(&mut observed, 1, |_| {});
    let status = settle(&mut new, &observed, now());
    assert_eq!((status.ready_replicas, status.updated_replicas), (1, 2));
    assert_eq!(condition(&status, "UpdateInProgress"), Some(("True", "GroupsUpdating", "Rolling Upgrade is in progress")));
    assert_eq!(condition(&status, "Progressing"), Some(("True", "GroupsProgressing", "Replicas are progressing")));
    with_leader(&mut observed, 1, ready);
    let status = settle(&mut new, &observed, now());
    assert_eq!(condition(&status, "UpdateInProgress"), Some(("False", "GroupsUpdating", "Rolling Upgrade is in progress")));
    assert_eq!(condition(&status, "Available"), Some(("True", "AllGroupsReady", "All replicas are ready")));
}

#[test]
fn a_set_of_no_groups_is_available() {
    let mut set = single(0, |_| {});
    let observed = created(&set);
    let status = settle(&mut set, &observed, now());
    assert_eq!(condition(&status, "Available"), Some(("True", "AllGroupsReady", "All replicas are ready")));
    assert_eq!((status.ready_replicas, status.updated_replicas), (0, 0));
}

#[test]
fn a_surplus_group_counts_as_ready_and_updated_and_makes_no_set_available() {
    let mut set = single(2, |_| {});
    let mut observed = created(&set);
    with_leader(&mut observed, 0, ready);
    with_leader(&mut observed, 2, ready);
    let status = settle(&mut set, &observed, now());
    assert_eq!((status.ready_replicas, status.updated_replicas), (2, 2));
    assert_eq!(condition(&status, "Available"), None);
    assert_eq!(condition(&status, "Progressing"), Some(("True", "GroupsProgressing", "Replicas are progressing")));
}

/// Gives a group its workers, all of them available, changed by `change`.
fn with_workers(set: &LeaderWorkerSet, observed: &mut Observed, group: u32, change: impl FnOnce(&mut Value)) {
    let name = format!("serve-{group}");
    observed.stateful_sets.remove(&name);
    let advice = Advice { workers: [(group, Admitted { workers: 3, reason: None })].into(), ..Advice::default() };
    let made = written(&decide(set, observed, &Choice::default(), &advice, now()));
    let mut raw = serde_json::to_value(&*made.stateful_sets[&name]).unwrap();
    raw["metadata"]["generation"] = json!(1);
    raw["status"] = json!({
        "replicas": 3, "availableReplicas": 3, "observedGeneration": 1, "currentRevision": "r1", "updateRevision": "r1",
    });
    change(&mut raw);
    observed.stateful_sets.insert(name, Arc::new(serde_json::from_value(raw).unwrap()));
}

#[test]
fn a_leader_without_its_worker_stateful_set_counts_nowhere() {
    let mut set = set(|_| {});
    let mut observed = created(&set);
    with_leader(&mut observed, 0, ready);
    with_workers(&set, &mut observed, 0, |_| {});
    with_leader(&mut observed, 1, |pod| {
        ready(pod);
        pod["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/template-revision-hash"] = json!("before");
    });
    let status = settle(&mut set, &observed, now());
    assert_eq!((status.ready_replicas, status.updated_replicas), (1, 1));
    assert_eq!(condition(&status, "UpdateInProgress"), None);
    assert_eq!(condition(&status, "Progressing"), Some(("True", "GroupsProgressing", "Replicas are progressing")));
}

/// Ready and updated groups of a set of one whose workers are changed by `change`.
fn counted(change: impl FnOnce(&mut Value)) -> (i32, i32) {
    let mut set = set(|raw| raw["spec"]["replicas"] = json!(1));
    let mut observed = created(&set);
    with_leader(&mut observed, 0, ready);
    with_workers(&set, &mut observed, 0, change);
    let status = settle(&mut set, &observed, now());
    (status.ready_replicas, status.updated_replicas)
}

#[test]
fn workers_are_ready_when_all_of_them_are_available_at_one_revision_by_a_status_of_the_present() {
    assert_eq!(counted(|_| {}), (1, 1));
    assert_eq!(counted(|raw| raw["status"]["availableReplicas"] = json!(2)), (0, 1));
    assert_eq!(counted(|raw| raw["status"]["updateRevision"] = json!("r2")), (0, 1));
    assert_eq!(counted(|raw| raw["metadata"]["generation"] = json!(2)), (0, 1));
    assert_eq!(counted(|raw| raw["status"]["observedGeneration"] = json!(null)), (1, 1));
}

#[test]
fn a_group_is_updated_when_leader_and_worker_stateful_set_both_are() {
    let label = "leaderworkerset.sigs.k8s.io/template-revision-hash";
    assert_eq!(counted(|raw| raw["metadata"]["labels"][label] = json!("before")), (1, 0));
}

#[test]
fn a_selector_that_autoscalers_have_stays() {
    let mut set = single(1, |_| {});
    set.status = Some(LeaderWorkerSetStatus { hpa_pod_selector: "app=chat".to_owned(), ..LeaderWorkerSetStatus::default() });
    let observed = created(&set);
    assert_eq!(settle(&mut set, &observed, now()).hpa_pod_selector, "app=chat");
}
