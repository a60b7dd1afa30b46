use std::collections::BTreeMap;
use std::sync::Arc;

use muster_api::LeaderWorkerSet;
use serde_json::{Value, json};

use super::decide;
use crate::admission::Choice;
use crate::advice::{Admitted, Advice, Placement};
use crate::observed::Observed;
use crate::placement::Reason;
use crate::plan::{Plan, Write};
use crate::record::Record;
use crate::testing::{gated, now, ready, set, with_leader, written};

fn lines(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|step| step.write.to_string()).collect()
}

fn notes(plan: &Plan) -> Vec<&str> {
    plan.steps.iter().flat_map(|step| &step.done).chain(&plan.notes).map(|note| note.text.as_str()).collect()
}

/// Every worker of every group may start.
fn all_start() -> Advice {
    let admitted = |group| (group, Admitted { workers: 3, reason: None });
    Advice { workers: (0..4).map(admitted).collect(), ..Advice::default() }
}

fn first_plan(set: &LeaderWorkerSet) -> Plan {
    decide(set, &Observed::default(), &Choice::default(), &Advice::default(), now())
}

fn created(plan: &Plan, name: &str) -> Value {
    let object = plan.steps.iter().find_map(|step| match &step.write {
        Write::CreateWorkerSet(object) | Write::CreateService(object) | Write::ApplyLeaderSet { object, .. } => {
            (object["metadata"]["name"] == name && object["kind"] != "Service").then(|| object.clone())
        }
        _ => None,
    });
    object.unwrap_or_else(|| panic!("{name} is not in {plan}"))
}

#[test]
fn a_new_set_gets_its_revision_then_its_leaders_then_its_service() {
    let plan = first_plan(&set(|_| {}));
    let key = "77bb2f67f".len();
    assert_eq!(key, 9);
    let lines = lines(&plan);
    assert!(lines[0].starts_with("create revision serve-"), "{lines:?}");
    assert_eq!(lines[1..], ["apply leader StatefulSet serve (replicas 2, partition 0)", "create service serve"]);
    assert_eq!(notes(&plan)[1], "Created leader statefulset serve");
}

#[test]
fn the_leader_stateful_set_is_what_upstream_writes() {
    let set = set(|raw| {
        raw["metadata"]["labels"] = json!({ "team": "a" });
        raw["metadata"]["annotations"] = json!({
            "leaderworkerset.sigs.k8s.io/exclusive-topology": "rack",
            "kubectl.kubernetes.io/last-applied-configuration": "{}",
        });
        raw["spec"]["leaderWorkerTemplate"]["leaderTemplate"] = json!({ "metadata": { "labels": { "role": "leader" } }, "spec": { "containers": [], "newerThanUs": { "kept": true } } });
        raw["spec"]["rolloutStrategy"] = json!({
            "type": "RollingUpdate",
            "rollingUpdateConfiguration": { "maxUnavailable": 1, "maxSurge": 1, "partition": 0 },
        });
    });
    let object = created(&first_plan(&set), "serve");
    let key = object["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/template-revision-hash"].clone();
    assert_eq!(
        object,
        json!({
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {
                "name": "serve",
                "namespace": "team",
                "labels": {
                    "team": "a",
                    "leaderworkerset.sigs.k8s.io/name": "serve",
                    "leaderworkerset.sigs.k8s.io/template-revision-hash": key,
                },
                "annotations": {
                    "leaderworkerset.sigs.k8s.io/exclusive-topology": "rack",
                    "leaderworkerset.sigs.k8s.io/replicas": "2",
                },
                "ownerReferences": [{
                    "apiVersion": "leaderworkerset.x-k8s.io/v1",
                    "kind": "LeaderWorkerSet",
                    "name": "serve",
                    "uid": "set-uid",
                    "controller": true,
                    "blockOwnerDeletion": true,
                }],
            },
            "spec": {
                "serviceName": "serve",
                "replicas": 2,
                "podManagementPolicy": "Parallel",
                "selector": { "matchLabels": {
                    "leaderworkerset.sigs.k8s.io/name": "serve",
                    "leaderworkerset.sigs.k8s.io/worker-index": "0",
                } },
                "template": {
                    "metadata": {
                        "labels": {
                            "role": "leader",
                            "leaderworkerset.sigs.k8s.io/name": "serve",
                            "leaderworkerset.sigs.k8s.io/worker-index": "0",
                            "leaderworkerset.sigs.k8s.io/template-revision-hash": key,
                        },
                        "annotations": {
                            "leaderworkerset.sigs.k8s.io/size": "4",
                            "leaderworkerset.sigs.k8s.io/exclusive-topology": "rack",
                        },
                    },
                    "spec": { "containers": [], "newerThanUs": { "kept": true } },
                },
                "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "partition": 0, "maxUnavailable": 2 } },
            },
        })
    );
}

#[test]
fn a_label_of_the_sets_author_that_has_a_key_of_ours_loses_on_both_stateful_sets() {
    let set = set(|raw| {
        raw["metadata"]["labels"] = json!({
            "team": "a",
            "leaderworkerset.sigs.k8s.io/name": "theirs",
            "leaderworkerset.sigs.k8s.io/group-index": "theirs",
            "leaderworkerset.sigs.k8s.io/group-key": "theirs",
            "leaderworkerset.sigs.k8s.io/template-revision-hash": "theirs",
        });
    });
    let mut observed = written(&first_plan(&set));
    with_leader(&mut observed, 1, |_| {});
    let plan = decide(&set, &observed, &Choice::default(), &all_start(), now());
    let key = "598f659f7";
    let leaders = created(&plan, "serve")["metadata"]["labels"].clone();
    assert_eq!((&leaders["team"], &leaders["leaderworkerset.sigs.k8s.io/name"]), (&json!("a"), &json!("serve")));
    assert_eq!(leaders["leaderworkerset.sigs.k8s.io/template-revision-hash"], key);
    assert_eq!(
        created(&plan, "serve-1")["metadata"]["labels"],
        json!({
            "team": "a",
            "leaderworkerset.sigs.k8s.io/name": "serve",
            "leaderworkerset.sigs.k8s.io/group-index": "1",
            "leaderworkerset.sigs.k8s.io/group-key": muster_api::names::group_key("team", "serve-1"),
            "leaderworkerset.sigs.k8s.io/template-revision-hash": key,
        })
    );
}

#[test]
fn a_leader_gets_its_workers_once_and_only_as_many_as_are_admitted() {
    let set = set(|_| {});
    let mut observed = written(&first_plan(&set));
    with_leader(&mut observed, 0, |_| {});

    let waiting = decide(&set, &observed, &Choice::default(), &Advice::default(), now());
    assert!(!lines(&waiting).iter().any(|line| line.starts_with("create worker")), "{waiting}");

    let plan = decide(&set, &observed, &Choice::default(), &all_start(), now());
    let workers = created(&plan, "serve-0");
    assert_eq!(workers["spec"]["replicas"], 3);
    assert_eq!(workers["spec"]["ordinals"], json!({ "start": 1 }));
    assert_eq!(workers["spec"]["serviceName"], "serve");
    assert_eq!(workers["metadata"]["ownerReferences"][0]["uid"], "leader-0-uid");
    let identity = json!({
        "leaderworkerset.sigs.k8s.io/group-index": "0",
        "leaderworkerset.sigs.k8s.io/name": "serve",
        "leaderworkerset.sigs.k8s.io/group-key": "b2b7c35a2dfb46ed2b40dc9bc4ef52a45ea56ae4",
    });
    let key = &workers["spec"]["selector"]["matchLabels"]["leaderworkerset.sigs.k8s.io/group-key"];
    assert_eq!(key.as_str().unwrap().len(), identity["leaderworkerset.sigs.k8s.io/group-key"].as_str().unwrap().len());
    assert_eq!(
        workers["spec"]["template"]["metadata"]["annotations"],
        json!({ "leaderworkerset.sigs.k8s.io/size": "4", "leaderworkerset.sigs.k8s.io/leader-name": "serve-0" })
    );

    observed.stateful_sets.extend(written(&plan).stateful_sets);
    let again = decide(&set, &observed, &Choice::default(), &all_start(), now());
    assert!(!lines(&again).iter().any(|line| line.starts_with("create worker")), "{again}");
}

#[test]
fn more_admitted_ranks_raise_the_workers_and_fewer_never_lower_them() {
    let set = set(|_| {});
    let mut observed = written(&first_plan(&set));
    with_leader(&mut observed, 0, |_| {});
    let admitted = |workers| Advice { workers: [(0, Admitted { workers, reason: None })].into(), ..Advice::default() };
    let plan = decide(&set, &observed, &Choice::default(), &admitted(1), now());
    assert_eq!(created(&plan, "serve-0")["spec"]["replicas"], 1);
    observed.stateful_sets.extend(written(&plan).stateful_sets);
    let more = decide(&set, &observed, &Choice::default(), &admitted(3), now());
    assert!(lines(&more).contains(&"scale worker StatefulSet serve-0 to 3".to_owned()), "{more}");
    let fewer = decide(&set, &observed, &Choice::default(), &admitted(0), now());
    assert!(!lines(&fewer).iter().any(|line| line.starts_with("scale")), "{fewer}");
}

fn exclusive() -> Choice {
    Choice { exclusive: Some("rack".to_owned()), gated: true, ..Choice::default() }
}

fn in_rack(rack: &str) -> Record {
    let reason = Reason { code: "BestFit".to_owned(), message: "fits with nothing left over".to_owned() };
    Record {
        level: Some("rack".to_owned()),
        domain: Some(rack.to_owned()),
        exclusive: true,
        selector: [("rack".to_owned(), rack.to_owned())].into(),
        ..Record::new("exclusive", reason)
    }
}

#[test]
fn a_placed_group_gets_leader_patch_and_workers_in_one_plan() {
    let set = set(|_| {});
    let mut observed = written(&first_plan(&set));
    with_leader(&mut observed, 0, gated);
    let advice = Advice { placements: [(0, Placement::Place(in_rack("r1")))].into(), ..all_start() };
    let plan = decide(&set, &observed, &exclusive(), &advice, now());
    let lines = lines(&plan);
    let at = |start: &str| lines.iter().position(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}: {plan}"));
    assert!(at("place leader serve-0 on nodes {\"rack\":\"r1\"}") < at("create worker StatefulSet serve-0"));
    assert_eq!(created(&plan, "serve-0")["spec"]["template"]["spec"]["nodeSelector"], json!({ "rack": "r1" }));
    let Some(Write::PatchLeader { patch, .. }) =
        plan.steps.iter().map(|step| &step.write).find(|write| matches!(write, Write::PatchLeader { .. }))
    else {
        panic!("no patch")
    };
    assert_eq!(patch["metadata"]["uid"], "leader-0-uid");
    assert_eq!(patch["spec"]["schedulingGates"], json!([{ "$patch": "delete", "name": "muster.dev/placement" }]));
    assert_eq!(patch["spec"].as_object().unwrap().len(), 2, "a selector and the gate, and no affinity: {patch}");
}

#[test]
fn a_placed_group_whose_workers_were_not_created_yet_gets_them_where_its_record_says() {
    let set = set(|_| {});
    let mut observed = written(&first_plan(&set));
    with_leader(&mut observed, 0, |pod| {
        pod["metadata"]["annotations"]["muster.dev/placement"] = json!(in_rack("r7").render());
    });
    let plan = decide(&set, &observed, &exclusive(), &all_start(), now());
    assert_eq!(created(&plan, "serve-0")["spec"]["template"]["spec"]["nodeSelector"], json!({ "rack": "r7" }));
}

#[test]
fn a_group_that_waits_creates_nothing_and_the_set_says_why() {
    let set = set(|_| {});
    let mut observed = written(&first_plan(&set));
    with_leader(&mut observed, 0, gated);
    with_leader(&mut observed, 1, gated);
    let why = Reason { code: "NoDomainLargeEnough".to_owned(), message: "r1: room for 2 of 4 pods".to_owned() };
    let hold = |group| (group, Placement::Hold(why.clone()));
    let advice = Advice { placements: [hold(0), hold(1)].into(), ..all_start() };
    let plan = decide(&set, &observed, &exclusive(), &advice, now());
    assert!(!lines(&plan).iter().any(|line| line.contains("serve-") && !line.contains("revision")), "{plan}");
    let status = plan.status.unwrap();
    let pending = status.conditions.iter().find(|condition| condition.type_ == "PlacementPending").unwrap();
    assert_eq!((pending.status.as_str(), pending.reason.as_str()), ("True", "NoDomainLargeEnough"));
    assert_eq!(pending.message, "2 of 2 groups wait for placement; groups 0, 1: r1: room for 2 of 4 pods");
}

#[test]
fn a_released_leader_keeps_its_own_affinity_and_gains_only_node_terms() {
    let set = set(|_| {});
    let mut observed = written(&first_plan(&set));
    with_leader(&mut observed, 0, |pod| {
        gated(pod);
        pod["spec"]["affinity"] = json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{ "matchExpressions": [{ "key": "arch", "operator": "In", "values": ["arm64"] }] }],
        } } });
    });
    let record = Record { released: true, domain: None, selector: BTreeMap::new(), ..in_rack("") };
    let advice = Advice { placements: [(0, Placement::Release { record, not_in: vec!["r1".to_owned()] })].into(), ..all_start() };
    let plan = decide(&set, &observed, &exclusive(), &advice, now());
    let patch = plan.steps.iter().find_map(|step| match &step.write {
        Write::PatchLeader { patch, .. } => Some(patch.clone()),
        _ => None,
    });
    assert_eq!(
        patch.unwrap()["spec"]["affinity"],
        json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [{
            "matchExpressions": [
                { "key": "arch", "operator": "In", "values": ["arm64"] },
                { "key": "rack", "operator": "Exists" },
                { "key": "rack", "operator": "NotIn", "values": ["r1"] },
            ],
        }] } } })
    );
    assert!(!lines(&plan).iter().any(|line| line.starts_with("create worker")), "{plan}");
}

#[test]
fn a_stateful_set_of_somebody_else_is_left_alone_and_named() {
    let set = set(|_| {});
    let foreign = json!({ "metadata": { "name": "serve", "ownerReferences": [
        { "apiVersion": "x/v1", "kind": "Database", "name": "db", "uid": "other", "controller": true },
    ] } });
    let mut observed = Observed::default();
    observed.stateful_sets.insert("serve".to_owned(), Arc::new(serde_json::from_value(foreign).unwrap()));
    let plan = decide(&set, &observed, &Choice::default(), &all_start(), now());
    assert_eq!(lines(&plan), Vec::<String>::new());
    assert_eq!(
        notes(&plan),
        ["StatefulSet serve exists and belongs to Database db; it is left alone. Rename the set or delete the StatefulSet"]
    );
}

#[test]
fn a_revision_that_upstream_wrote_is_kept_and_starts_no_rollout() {
    let set = set(|raw| {
        raw["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"]["volumes"] = json!([{ "name": "v", "emptyDir": {} }])
    });
    let mut observed = written(&first_plan(&set));
    let mut revision: Value = serde_json::to_value(&*observed.revisions[0]).unwrap();
    revision["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/template-revision-hash"] = json!("upstreams");
    let template = &mut revision["data"]["spec"]["leaderWorkerTemplate"]["workerTemplate"];
    template["metadata"] = json!({ "creationTimestamp": null });
    template["spec"]["containers"][0]["resources"] = json!({});
    observed.revisions = vec![Arc::new(serde_json::from_value(revision).unwrap())];
    let mut leaders: Value = serde_json::to_value(&*observed.stateful_sets["serve"]).unwrap();
    leaders["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/template-revision-hash"] = json!("upstreams");
    observed.stateful_sets.insert("serve".to_owned(), Arc::new(serde_json::from_value(leaders).unwrap()));

    let plan = decide(&set, &observed, &Choice::default(), &all_start(), now());
    assert!(!lines(&plan).iter().any(|line| line.contains("revision")), "{plan}");
    let leaders = created(&plan, "serve");
    assert_eq!(leaders["spec"]["updateStrategy"]["rollingUpdate"]["partition"], 0);
    let labels = &leaders["spec"]["template"]["metadata"]["labels"];
    assert_eq!(labels["leaderworkerset.sigs.k8s.io/template-revision-hash"], "upstreams");
}

#[test]
fn a_changed_template_makes_a_revision_and_holds_all_groups_until_the_next_step() {
    let old = set(|_| {});
    let observed = written(&first_plan(&old));
    let new =
        set(|raw| raw["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"]["containers"][0]["image"] = json!("image:2"));
    let plan = decide(&new, &observed, &Choice::default(), &all_start(), now());
    let lines = lines(&plan);
    assert!(lines[0].starts_with("create revision serve-") && lines[0].ends_with("-2"), "{plan}");
    assert_eq!(lines[1], "apply leader StatefulSet serve (replicas 2, partition 2)");
}

#[test]
fn a_ready_set_says_so_with_upstreams_words() {
    let set = set(|raw| {
        raw["spec"]["replicas"] = json!(1);
        raw["spec"]["leaderWorkerTemplate"]["size"] = json!(1);
    });
    let mut observed = written(&first_plan(&set));
    with_leader(&mut observed, 0, ready);
    let plan = decide(&set, &observed, &Choice::default(), &Advice::default(), now());
    let status = plan.status.unwrap();
    assert_eq!((status.ready_replicas, status.updated_replicas), (1, 1));
    assert_eq!(status.hpa_pod_selector, "leaderworkerset.sigs.k8s.io/name=serve,leaderworkerset.sigs.k8s.io/worker-index=0");
    let condition = &status.conditions[0];
    assert_eq!((condition.type_.as_str(), condition.status.as_str()), ("Available", "True"));
    assert_eq!((condition.reason.as_str(), condition.message.as_str()), ("AllGroupsReady", "All replicas are ready"));
    assert_eq!(plan.notes[0].text, "All replicas are ready, with 1 groups ready of total 1 groups");
}

#[test]
fn a_set_that_is_being_deleted_is_left_to_garbage_collection() {
    let set = set(|raw| raw["metadata"]["deletionTimestamp"] = json!("2026-11-22T11:59:00Z"));
    assert_eq!(first_plan(&set), Plan::default());
}

/// A rollout of four groups of which the partition has let `from` and above go.
fn rolling(from: i32, seen: i64) -> (LeaderWorkerSet, Observed) {
    let two_at_once = |raw: &mut Value| {
        raw["spec"]["replicas"] = json!(4);
        raw["spec"]["leaderWorkerTemplate"]["size"] = json!(1);
        raw["spec"]["rolloutStrategy"] = json!({
            "type": "RollingUpdate",
            "rollingUpdateConfiguration": { "maxUnavailable": 2, "maxSurge": 0, "partition": 0 },
        });
    };
    let old = set(two_at_once);
    let mut observed = written(&first_plan(&old));
    (0..4).for_each(|group| with_leader(&mut observed, group, ready));
    let new = set(|raw| {
        two_at_once(raw);
        raw["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"]["containers"][0]["image"] = json!("image:2");
    });
    let begun = decide(&new, &observed, &Choice::default(), &Advice::default(), now());
    let after = written(&begun);
    observed.revisions.extend(after.revisions);
    let mut leaders = serde_json::to_value(&*after.stateful_sets["serve"]).unwrap();
    leaders["metadata"]["generation"] = json!(3);
    leaders["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = json!(from);
    leaders["status"] = json!({ "replicas": 4, "observedGeneration": seen, "updateRevision": "serve-2" });
    observed.stateful_sets.insert("serve".to_owned(), Arc::new(serde_json::from_value(leaders).unwrap()));
    (new, observed)
}

#[test]
fn a_rollout_replaces_all_leaders_that_its_partition_has_let_go_at_once() {
    let (set, observed) = rolling(2, 3);
    let plan = decide(&set, &observed, &Choice::default(), &Advice::default(), now());
    let deleted: Vec<String> = lines(&plan).into_iter().filter(|line| line.starts_with("delete leader")).collect();
    assert_eq!(deleted, ["delete leader serve-2", "delete leader serve-3"]);
}

#[test]
fn a_rollout_replaces_no_leader_before_its_successors_template_is_known() {
    let (set, observed) = rolling(2, 2);
    let plan = decide(&set, &observed, &Choice::default(), &Advice::default(), now());
    assert!(!lines(&plan).iter().any(|line| line.starts_with("delete leader")), "{plan}");
}

#[test]
fn a_rollout_deletes_no_leader_where_no_stateful_set_controller_would_make_its_successor() {
    let (set, mut observed) = rolling(2, 3);
    let mut leaders = serde_json::to_value(&*observed.stateful_sets["serve"]).unwrap();
    leaders["status"] = json!({ "replicas": 4 });
    observed.stateful_sets.insert("serve".to_owned(), Arc::new(serde_json::from_value(leaders).unwrap()));
    let plan = decide(&set, &observed, &Choice::default(), &Advice::default(), now());
    assert!(!lines(&plan).iter().any(|line| line.starts_with("delete leader")), "{plan}");
}

#[test]
fn a_partition_raised_meanwhile_protects_the_groups_below_it_at_once() {
    let (mut set, observed) = rolling(2, 3);
    set.spec.rollout_strategy.as_mut().unwrap().rolling_update_configuration.as_mut().unwrap().partition = Some(3);
    let plan = decide(&set, &observed, &Choice::default(), &Advice::default(), now());
    let lines = lines(&plan);
    assert!(lines.contains(&"apply leader StatefulSet serve (replicas 4, partition 3)".to_owned()), "{plan}");
    assert!(
        lines.contains(&"delete leader serve-3".to_owned()) && !lines.contains(&"delete leader serve-2".to_owned()),
        "{plan}"
    );
}

#[test]
fn leaders_that_failed_or_recovered_since_the_partition_let_them_go_stay_within_the_budget() {
    // Two may be down, and one is down below the partition: one leader at a time.
    let (set, mut observed) = rolling(2, 3);
    with_leader(&mut observed, 0, |pod| {
        ready(pod);
        pod["status"]["conditions"][0]["status"] = json!("False");
        pod["status"]["conditions"][0]["lastTransitionTime"] = json!("2026-11-22T11:59:00Z");
    });
    let plan = decide(&set, &observed, &Choice::default(), &Advice::default(), now());
    let deleted: Vec<String> = lines(&plan).into_iter().filter(|line| line.starts_with("delete leader")).collect();
    assert_eq!(deleted, ["delete leader serve-3"]);
}

#[test]
fn a_rollout_takes_no_group_down_on_the_strength_of_one_that_is_about_to_start_over() {
    // Two may be down. Group 3 is updated, and seems ready: a container of it has restarted, so it goes in the same reconcile.
    let (set, mut observed) = rolling(3, 3);
    let key =
        observed.stateful_sets["serve"].metadata.labels.clone().unwrap()["leaderworkerset.sigs.k8s.io/template-revision-hash"]
            .clone();
    let partition = |observed: &Observed| {
        let plan = decide(&set, observed, &Choice::default(), &Advice::default(), now());
        created(&plan, "serve")["spec"]["updateStrategy"]["rollingUpdate"]["partition"].clone()
    };
    let updated = |pod: &mut Value, restarts: i32| {
        ready(pod);
        pod["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/template-revision-hash"] = json!(key);
        pod["status"]["containerStatuses"] =
            json!([{ "name": "main", "image": "", "imageID": "", "ready": true, "restartCount": restarts }]);
    };
    with_leader(&mut observed, 3, |pod| updated(pod, 0));
    assert_eq!(partition(&observed), 1);
    with_leader(&mut observed, 3, |pod| updated(pod, 1));
    assert_eq!(partition(&observed), 2);
}
