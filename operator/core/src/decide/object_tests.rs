//! The objects of a set: services, worker StatefulSets, and others' objects that have their names.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Service;
use muster_api::LeaderWorkerSet;
use serde_json::{Value, json};

use super::decide;
use crate::admission::Choice;
use crate::advice::{Admitted, Advice};
use crate::observed::Observed;
use crate::plan::{Plan, Write};
use crate::testing::{now, ready, set, with_leader, written};

fn lines(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|step| step.write.to_string()).collect()
}

fn advised(set: &LeaderWorkerSet, observed: &Observed, workers: u32) -> Plan {
    let admitted = |group| (group, Admitted { workers, reason: None });
    let advice = Advice { workers: (0..4).map(admitted).collect(), ..Advice::default() };
    decide(set, observed, &Choice::default(), &advice, now())
}

fn change<K: serde::Serialize + serde::de::DeserializeOwned>(object: &mut Arc<K>, change: impl FnOnce(&mut Value)) {
    let mut raw = serde_json::to_value(&**object).unwrap();
    change(&mut raw);
    *object = Arc::new(serde_json::from_value(raw).unwrap());
}

/// Two groups as they stand once everything of them was written, and a plan that has nothing to do.
fn standing(set: &LeaderWorkerSet) -> Observed {
    let mut observed = written(&advised(set, &Observed::default(), 3));
    (0..2).for_each(|group| with_leader(&mut observed, group, ready));
    let plan = advised(set, &observed, 3);
    let more = written(&plan);
    observed.stateful_sets.extend(more.stateful_sets);
    observed.services.extend(more.services);
    for (name, workers) in &mut observed.stateful_sets {
        change(workers, |raw| {
            raw["metadata"]["uid"] = json!(format!("{name}-workers"));
            raw["metadata"]["generation"] = json!(1);
        });
    }
    observed
}

fn workers<'a>(observed: &'a mut Observed, name: &str) -> &'a mut Arc<StatefulSet> {
    observed.stateful_sets.get_mut(name).unwrap()
}

fn service<'a>(observed: &'a mut Observed, name: &str) -> &'a mut Arc<Service> {
    observed.services.get_mut(name).unwrap()
}

const APPLY: &str = "apply leader StatefulSet serve (replicas 2, partition 0)";

#[test]
fn what_stands_as_it_was_made_is_left_alone() {
    let set = set(|_| {});
    assert_eq!(lines(&advised(&set, &standing(&set), 3)), [APPLY]);
}

#[test]
fn replicas_that_somebody_raised_or_lowered_come_back() {
    let set = set(|_| {});
    let mut observed = standing(&set);
    change(workers(&mut observed, "serve-0"), |raw| raw["spec"]["replicas"] = json!(7));
    change(workers(&mut observed, "serve-1"), |raw| raw["spec"]["replicas"] = json!(1));
    let plan = advised(&set, &observed, 3);
    assert_eq!(lines(&plan), [APPLY, "scale worker StatefulSet serve-0 to 3", "scale worker StatefulSet serve-1 to 3"]);
    // A startup policy that admits fewer by now takes none away.
    change(workers(&mut observed, "serve-1"), |raw| raw["spec"]["replicas"] = json!(3));
    let fewer = advised(&set, &observed, 1);
    assert_eq!(lines(&fewer), [APPLY, "scale worker StatefulSet serve-0 to 3"]);
}

#[test]
fn a_worker_stateful_set_that_may_have_been_edited_is_restored_to_what_it_was_made_as() {
    let set = set(|_| {});
    let mut observed = standing(&set);
    change(workers(&mut observed, "serve-0"), |raw| {
        raw["metadata"]["generation"] = json!(2);
        raw["spec"]["template"]["spec"]["containers"][0]["image"] = json!("edited");
    });
    let plan = advised(&set, &observed, 3);
    assert_eq!(lines(&plan), [APPLY, "restore worker StatefulSet serve-0"]);
    let Write::RestoreWorkerSet { object, uid, generation } = &plan.steps[1].write else { panic!("{plan}") };
    assert_eq!((uid.as_str(), *generation), ("serve-0-workers", 2));
    assert_eq!(object["spec"]["template"]["spec"]["containers"][0]["image"], "image:1");
}

#[test]
fn a_worker_stateful_set_that_upstream_made_is_never_rendered_anew() {
    let set = set(|_| {});
    let mut observed = standing(&set);
    change(workers(&mut observed, "serve-0"), |raw| {
        raw["metadata"]["generation"] = json!(2);
        raw["metadata"]["annotations"] = json!({});
        raw["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(30);
    });
    assert_eq!(lines(&advised(&set, &observed, 3)), [APPLY]);
}

#[test]
fn lost_labels_of_a_worker_stateful_set_come_back() {
    let set = set(|_| {});
    let mut observed = standing(&set);
    change(workers(&mut observed, "serve-0"), |raw| raw["metadata"]["labels"] = json!({ "team": "a" }));
    let plan = advised(&set, &observed, 3);
    assert_eq!(lines(&plan), [APPLY, "label worker StatefulSet serve-0"]);
    let Write::RelabelWorkerSet { patch, .. } = &plan.steps[1].write else { panic!("{plan}") };
    assert_eq!(patch["metadata"]["uid"], "serve-0-workers");
    assert_eq!(patch["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/group-index"], "0");
}

#[test]
fn a_group_whose_worker_stateful_set_lost_all_labels_has_lost_nothing_else() {
    let set = set(|_| {});
    let mut observed = standing(&set);
    with_leader(&mut observed, 0, |pod| {
        ready(pod);
        pod["metadata"]["annotations"]["muster.dev/members"] = json!("1=aaaaaaaa");
    });
    let worker = json!({
        "metadata": {
            "name": "serve-0-1", "namespace": "team", "uid": "aaaaaaaa-1",
            "labels": { "leaderworkerset.sigs.k8s.io/worker-index": "1" },
        },
        "status": { "phase": "Running" },
    });
    observed.pods.insert("serve-0-1".to_owned(), Arc::new(serde_json::from_value(worker).unwrap()));
    change(workers(&mut observed, "serve-0"), |raw| raw["metadata"]["labels"] = json!({}));
    assert_eq!(lines(&advised(&set, &observed, 3)), [APPLY, "label worker StatefulSet serve-0"]);
}

#[test]
fn workers_are_of_the_revision_they_were_made_from_whatever_is_written_on_their_leader() {
    let set = set(|_| {});
    let mut observed = standing(&set);
    with_leader(&mut observed, 0, |pod| {
        ready(pod);
        pod["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/template-revision-hash"] = json!("edited");
    });
    assert_eq!(lines(&advised(&set, &observed, 3)), [APPLY]);
}

#[test]
fn members_of_a_group_that_upstream_made_are_written_on_its_worker_stateful_set() {
    let set = set(|raw| raw["spec"]["leaderWorkerTemplate"]["size"] = json!(2));
    let mut observed = standing(&set);
    let workers_uid = "serve-0-workers";
    let worker = json!({
        "metadata": {
            "name": "serve-0-1", "namespace": "team", "uid": "aaaaaaaa-1",
            "labels": observed.pods["serve-0"].metadata.labels,
            "ownerReferences": [
                { "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "serve-0", "uid": workers_uid, "controller": true },
            ],
        },
        "status": { "phase": "Running" },
    });
    let mut worker = worker;
    worker["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/worker-index"] = json!("1");
    observed.pods.insert("serve-0-1".to_owned(), Arc::new(serde_json::from_value(worker.clone()).unwrap()));
    assert_eq!(lines(&advised(&set, &observed, 1)), [APPLY, "record the workers of leader serve-0"]);

    change(workers(&mut observed, "serve-0"), |raw| raw["metadata"]["annotations"] = json!({}));
    let plan = advised(&set, &observed, 1);
    assert_eq!(lines(&plan), [APPLY, "record the workers of StatefulSet serve-0"]);
    let Write::RecordMembers { uid, members, .. } = &plan.steps[1].write else { panic!("{plan}") };
    assert_eq!((uid.as_str(), members.as_str()), (workers_uid, "1=aaaaaaaa"));
    // What is written there counts as if it stood on the leader.
    change(workers(&mut observed, "serve-0"), |raw| raw["metadata"]["annotations"] = json!({ "muster.dev/members": members }));
    assert_eq!(lines(&advised(&set, &observed, 1)), [APPLY]);
    worker["metadata"]["uid"] = json!("bbbbbbbb-2");
    observed.pods.insert("serve-0-1".to_owned(), Arc::new(serde_json::from_value(worker).unwrap()));
    let lost = lines(&advised(&set, &observed, 1));
    assert!(lost.contains(&"delete leader serve-0".to_owned()), "{lost:?}");
}

#[test]
fn workers_of_a_former_leader_are_in_the_way_of_its_successor_and_go() {
    let set = set(|_| {});
    let mut observed = standing(&set);
    change(workers(&mut observed, "serve-1"), |raw| raw["metadata"]["ownerReferences"][0]["uid"] = json!("before"));
    let plan = advised(&set, &observed, 3);
    assert_eq!(lines(&plan), [APPLY, "delete worker StatefulSet serve-1 of a former leader"]);
    let Write::DeleteWorkerSet { uid, leader, .. } = &plan.steps[1].write else { panic!("{plan}") };
    assert_eq!((uid.as_str(), leader.as_str()), ("serve-1-workers", "leader-1-uid"));
    change(workers(&mut observed, "serve-1"), |raw| raw["metadata"]["deletionTimestamp"] = json!("2026-11-22T12:00:00Z"));
    assert_eq!(lines(&advised(&set, &observed, 3)), [APPLY]);
}

#[test]
fn workers_beside_a_leader_that_somebody_else_bound_are_kept_as_they_were_made() {
    let set = set(|raw| raw["metadata"]["annotations"] = json!({ "leaderworkerset.sigs.k8s.io/exclusive-topology": "rack" }));
    let mut observed = standing(&set);
    change(workers(&mut observed, "serve-0"), |raw| raw["spec"]["replicas"] = json!(7));
    let admitted = (0..2).map(|group| (group, Admitted { workers: 3, reason: None })).collect();
    let advice = Advice { workers: admitted, ..Advice::default() };
    let exclusive = Choice { exclusive: Some("rack".to_owned()), ..Choice::default() };
    let plan = decide(&set, &observed, &exclusive, &advice, now());
    assert_eq!(lines(&plan), [APPLY, "scale worker StatefulSet serve-0 to 3"]);
}

#[test]
fn a_changed_service_is_repaired_and_one_with_an_address_is_made_again() {
    let set = set(|_| {});
    let mut observed = standing(&set);
    change(service(&mut observed, "serve"), |raw| raw["spec"]["publishNotReadyAddresses"] = json!(false));
    assert_eq!(lines(&advised(&set, &observed, 3)), [APPLY, "repair service serve"]);
    change(service(&mut observed, "serve"), |raw| raw["spec"]["clusterIP"] = json!("10.0.0.1"));
    assert_eq!(lines(&advised(&set, &observed, 3)), [APPLY, "delete service serve", "create service serve"]);
}

#[test]
fn names_that_are_taken_become_a_condition_and_each_one_event() {
    let set = set(|_| {});
    let mut observed = standing(&set);
    change(service(&mut observed, "serve"), |raw| raw["metadata"]["ownerReferences"] = json!([]));
    change(workers(&mut observed, "serve-1"), |raw| raw["metadata"]["ownerReferences"][0]["kind"] = json!("Database"));
    change(workers(&mut observed, "serve-1"), |raw| raw["metadata"]["ownerReferences"][0]["uid"] = json!("db"));
    let plan = advised(&set, &observed, 3);
    let service = "Service serve exists and belongs to no controller; it is left alone. Rename the set or delete the Service";
    let workers =
        "StatefulSet serve-1 exists and belongs to Database serve-1; it is left alone. Rename the set or delete the StatefulSet";
    let told = |plan: &Plan| plan.notes.iter().filter(|note| note.warning).map(|note| note.text.clone()).collect::<Vec<_>>();
    assert_eq!(told(&plan), [service, workers]);
    let status = plan.status.unwrap();
    let condition = status.conditions.iter().find(|condition| condition.type_ == "NameTaken").unwrap();
    assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("True", "ForeignObject"));
    assert_eq!(condition.message, format!("{service}; {workers}"));

    // The same again is no news.
    let mut known = set.clone();
    known.status = Some(status);
    assert_eq!(told(&advised(&known, &observed, 3)), Vec::<String>::new());
    let free = advised(&known, &standing(&set), 3).status.unwrap();
    let condition = free.conditions.iter().find(|condition| condition.type_ == "NameTaken").unwrap();
    assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", "NamesFree"));
}

/// A set that is switched from one subdomain policy to the other while both of its groups are of the first.
fn switched(from: &str, to: &str) -> (LeaderWorkerSet, Observed) {
    let with_policy = |policy: &str| set(|raw| raw["spec"]["networkConfig"] = json!({ "subdomainPolicy": policy }));
    let mut observed = standing(&with_policy(from));
    observed.services.clear();
    let new = with_policy(to);
    let begun = advised(&new, &observed, 3);
    observed.revisions.extend(written(&begun).revisions);
    (new, observed)
}

#[test]
fn groups_have_the_services_of_the_revision_they_were_made_from() {
    let (set, observed) = switched("UniquePerReplica", "Shared");
    let services: Vec<_> = lines(&advised(&set, &observed, 3)).into_iter().filter(|line| line.contains("service")).collect();
    assert_eq!(services, ["create service serve", "create service serve-0", "create service serve-1"]);
    let (set, observed) = switched("Shared", "UniquePerReplica");
    let services: Vec<_> = lines(&advised(&set, &observed, 3)).into_iter().filter(|line| line.contains("service")).collect();
    assert_eq!(services, ["create service serve"]);
}

#[test]
fn a_leader_stateful_set_that_was_deleted_comes_back_at_the_revision_it_had() {
    let set = set(|_| {});
    let mut observed = standing(&set);
    // Upstream's key, which no hash of ours yields.
    let key = json!("upstreams");
    observed.revisions = observed
        .revisions
        .iter()
        .cloned()
        .map(|mut revision| {
            change(&mut revision, |raw| {
                raw["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/template-revision-hash"] = key.clone()
            });
            revision
        })
        .collect();
    observed.stateful_sets.remove("serve");
    let plan = advised(&set, &observed, 3);
    assert_eq!(lines(&plan)[0], "apply leader StatefulSet serve (replicas 2, partition 2)");
    let Write::ApplyLeaderSet { object, .. } = &plan.steps[0].write else { panic!("{plan}") };
    assert_eq!(object["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/template-revision-hash"], key);
}
