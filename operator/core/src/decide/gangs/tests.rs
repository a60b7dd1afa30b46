//! When each group gets its PodGroup, how large the gang is, and whose PodGroup is left alone.

use std::sync::Arc;

use muster_api::LeaderWorkerSet;
use rstest::rstest;
use serde_json::{Value, json};

use crate::admission::Choice;
use crate::advice::{Admitted, Advice, Placement};
use crate::decide;
use crate::gang::{Gangs, PodGroup, Provider};
use crate::observed::Observed;
use crate::placement::Reason;
use crate::plan::{Plan, Write};
use crate::record::Record;
use crate::testing::{gated, now, ready, set, with_leader, written};

const OWN: &str = "-0a1b2c3d";

fn choice() -> Choice {
    Choice::default()
}

fn exclusive() -> Choice {
    Choice { exclusive: Some("rack".to_owned()), gated: true, ..Choice::default() }
}

/// One group whose leader exists, changed by `change`; its three workers may start.
fn observed(set: &LeaderWorkerSet, gangs: Option<Gangs>, change: impl FnOnce(&mut Value)) -> Observed {
    let first = decide(set, &Observed::default(), &choice(), &Advice::default(), now());
    let mut observed = written(&first);
    observed.gangs = gangs;
    with_leader(&mut observed, 0, |pod| {
        if gangs.is_some_and(|gangs| gangs.provider == Provider::Kubernetes) {
            begin_gang(pod);
        }
        change(pod);
    });
    observed
}

/// What admission does with a leader under kube-scheduler.
fn begin_gang(pod: &mut Value) {
    let revision = &pod["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/template-revision-hash"];
    let name = format!("serve-0-{}{OWN}", revision.as_str().unwrap());
    pod["spec"]["schedulingGroup"] = json!({ "podGroupName": name });
}

fn served(provider: Provider) -> Option<Gangs> {
    Some(Gangs { provider, served: true })
}

fn missing(provider: Provider) -> Option<Gangs> {
    Some(Gangs { provider, served: false })
}

fn advice(placement: Option<Placement>) -> Advice {
    let workers = [(0, Admitted { workers: 3, reason: None })].into();
    Advice { workers, placements: placement.map(|placement| (0, placement)).into_iter().collect(), ..Advice::default() }
}

fn plan(set: &LeaderWorkerSet, observed: &Observed, choice: &Choice, placement: Option<Placement>) -> Plan {
    decide(set, observed, choice, &advice(placement), now())
}

/// What the plan writes about the group, in words.
fn lines(plan: &Plan) -> Vec<String> {
    let all = plan.steps.iter().map(|step| step.write.to_string());
    all.filter(|line| !line.starts_with("apply leader StatefulSet")).map(|line| without_revision(&line)).collect()
}

/// The text with `serve-0-<revision>` shortened, whatever the revision is called.
fn without_revision(text: &str) -> String {
    let Some(start) = text.find("PodGroup serve-0-").map(|at| at + "PodGroup serve-0-".len()) else { return text.to_owned() };
    let end = text[start..].find(|c: char| !c.is_ascii_alphanumeric()).map_or(text.len(), |length| start + length);
    format!("{}REVISION{}", &text[..start], &text[end..])
}

fn notes(plan: &Plan) -> Vec<String> {
    let done = plan.steps.iter().flat_map(|step| &step.done);
    done.chain(&plan.notes).map(|note| without_revision(&format!("{}: {}", note.reason, note.text))).collect()
}

/// The PodGroup that the plan creates.
fn created(plan: &Plan) -> Value {
    let object = plan.steps.iter().find_map(|step| match &step.write {
        Write::CreatePodGroup(object) => Some(object.clone()),
        _ => None,
    });
    object.unwrap_or_else(|| panic!("no PodGroup is created: {plan}"))
}

/// How many pods the PodGroup that the plan creates binds together.
fn members(plan: &Plan) -> u64 {
    let spec = &created(plan)["spec"];
    let gang = spec.pointer("/minMember").or_else(|| spec.pointer("/schedulingPolicy/gang/minCount"));
    match gang {
        Some(members) => members.as_u64().unwrap(),
        None => {
            assert_eq!(*spec, json!({ "schedulingPolicy": { "basic": {} } }));
            1
        }
    }
}

/// Puts a PodGroup into the cache, as the plan creates it but changed by `change`.
fn keep(observed: &mut Observed, plan: &Plan, change: impl FnOnce(&mut Value)) {
    let mut object = created(plan);
    object["metadata"]["uid"] = json!("group-uid");
    object["metadata"]["managedFields"] = json!([{ "manager": "muster", "operation": "Update" }]);
    change(&mut object);
    let metadata = serde_json::from_value(object["metadata"].clone()).unwrap();
    let group = PodGroup { metadata, spec: object["spec"].clone() };
    observed.pod_groups.insert(object["metadata"]["name"].as_str().unwrap().to_owned(), Arc::new(group));
}

fn record(released: bool) -> Record {
    let reason = Reason { code: "Exclusive".to_owned(), message: "it fits".to_owned() };
    let (level, domain) = (Some("rack".to_owned()), (!released).then(|| "r1".to_owned()));
    Record { level, domain, exclusive: true, released, ..Record::new("exclusive", reason) }
}

#[rstest]
#[case::volcano(Provider::Volcano, "create PodGroup serve-0-REVISION")]
#[case::kubernetes(Provider::Kubernetes, "create PodGroup serve-0-REVISION-0a1b2c3d")]
fn a_group_gets_its_pod_group_before_its_workers(#[case] provider: Provider, #[case] first: &str) {
    let set = set(|_| {});
    let plan = plan(&set, &observed(&set, served(provider), |_| {}), &choice(), None);
    assert_eq!(lines(&plan), [first, "create worker StatefulSet serve-0 (replicas 3)"]);
    assert_eq!(members(&plan), 4);
}

#[test]
fn without_a_provider_there_are_no_pod_groups() {
    let set = set(|_| {});
    assert_eq!(
        lines(&plan(&set, &observed(&set, None, |_| {}), &choice(), None)),
        ["create worker StatefulSet serve-0 (replicas 3)"]
    );
}

#[rstest]
#[case::volcano(Provider::Volcano)]
#[case::kubernetes(Provider::Kubernetes)]
fn no_gang_waits_for_members_that_wait_for_its_leader(#[case] provider: Provider) {
    let leader_ready = set(|raw| raw["spec"]["startupPolicy"] = json!("LeaderReady"));
    let seen = observed(&leader_ready, served(provider), |_| {});
    assert_eq!(members(&plan(&leader_ready, &seen, &choice(), None)), 1);

    let plain = set(|_| {});
    let seen = observed(&plain, served(provider), |_| {});
    let in_waves = Choice { startup: Some("waves".to_owned()), ..choice() };
    assert_eq!(members(&plan(&plain, &seen, &in_waves, None)), 1);

    // Upstream's way of placing an exclusive group: its workers follow its leader.
    let loose = Choice { gated: false, ..exclusive() };
    assert_eq!(members(&plan(&plain, &seen, &loose, None)), 1);

    let seen = observed(&plain, served(provider), gated);
    let release = Placement::Release { record: record(true), not_in: Vec::new() };
    let released = plan(&plain, &seen, &exclusive(), Some(release));
    assert_eq!(members(&released), 1);
    assert_eq!(lines(&released)[0], "leave leader serve-0 to the scheduler");
}

#[rstest]
#[case::volcano(Provider::Volcano)]
#[case::kubernetes(Provider::Kubernetes)]
fn a_group_that_muster_places_is_one_gang_once_it_has_a_place(#[case] provider: Provider) {
    let set = set(|_| {});
    let seen = observed(&set, served(provider), gated);
    let held = Placement::Hold(Reason { code: "NoDomain".to_owned(), message: "no rack has room".to_owned() });
    assert_eq!(lines(&plan(&set, &seen, &exclusive(), Some(held))), [""; 0], "a group without a place holds nothing");

    let placed = plan(&set, &seen, &exclusive(), Some(Placement::Place(record(false))));
    assert_eq!(members(&placed), 4);
    let lines = lines(&placed);
    assert!(lines[0].starts_with("record the place of leader serve-0") || lines[0].starts_with("leave leader"), "{lines:?}");
    assert!(lines[1].starts_with("create PodGroup serve-0-REVISION"), "{lines:?}");
    assert_eq!(lines[2..], ["create worker StatefulSet serve-0 (replicas 3)"]);
}

#[rstest]
#[case::volcano(Provider::Volcano)]
#[case::kubernetes(Provider::Kubernetes)]
fn a_leader_that_is_going_away_gets_none(#[case] provider: Provider) {
    let set = set(|_| {});
    let leaving = observed(&set, served(provider), |pod| {
        pod["metadata"]["deletionTimestamp"] = json!("2026-11-22T11:59:00Z");
    });
    assert_eq!(lines(&plan(&set, &leaving, &choice(), None)), [""; 0]);

    let seen = observed(&set, served(provider), |pod| {
        pod["metadata"]["annotations"]["muster.dev/placement"] = json!(record(false).render());
    });
    let again = Placement::Again(Reason { code: "Stuck".to_owned(), message: "no node".to_owned() });
    assert_eq!(lines(&plan(&set, &seen, &exclusive(), Some(again))), ["delete leader serve-0"]);
}

#[rstest]
#[case::volcano(Provider::Volcano)]
#[case::kubernetes(Provider::Kubernetes)]
fn a_foreign_pod_group_is_left_alone_and_the_set_says_whose_it_is(#[case] provider: Provider) {
    let set = set(|_| {});
    let mut seen = observed(&set, served(provider), |_| {});
    let first = plan(&set, &seen, &choice(), None);
    keep(&mut seen, &first, |object| {
        object["metadata"]["ownerReferences"] =
            json!([{ "apiVersion": "batch/v1", "kind": "Job", "name": "train", "uid": "job-uid", "controller": true }]);
        object["spec"] = json!({ "minMember": 9 });
    });
    let plan = plan(&set, &seen, &choice(), None);
    assert_eq!(lines(&plan), ["create worker StatefulSet serve-0 (replicas 3)"]);
    let suffix = if provider == Provider::Kubernetes { OWN } else { "" };
    let expected = format!(
        "FailedCreate: PodGroup serve-0-REVISION{suffix} exists and belongs to Job train; it is left alone. \
         Rename the set or delete the PodGroup"
    );
    assert!(notes(&plan).contains(&expected), "{:#?}", notes(&plan));
}

#[test]
fn the_pod_group_of_a_predecessor_is_left_to_garbage_collection() {
    let set = set(|_| {});
    let mut seen = observed(&set, served(Provider::Volcano), |_| {});
    let first = plan(&set, &seen, &choice(), None);
    keep(&mut seen, &first, |object| object["metadata"]["ownerReferences"][0]["uid"] = json!("predecessor"));
    let plan = plan(&set, &seen, &choice(), None);
    assert_eq!(lines(&plan), ["create worker StatefulSet serve-0 (replicas 3)"]);
    assert!(!notes(&plan).iter().any(|note| note.starts_with("FailedCreate")), "{:#?}", notes(&plan));
}

#[test]
fn a_pod_group_that_somebody_changed_is_put_right() {
    let set = set(|_| {});
    let mut seen = observed(&set, served(Provider::Volcano), ready);
    let first = plan(&set, &seen, &choice(), None);
    keep(&mut seen, &first, |object| object["spec"]["minMember"] = json!(2));
    let repairing = plan(&set, &seen, &choice(), None);
    let step = repairing.steps.iter().find(|step| matches!(step.write, Write::RepairPodGroup { .. })).unwrap();
    let Write::RepairPodGroup { api_version, patch, .. } = &step.write else { unreachable!() };
    assert_eq!(*api_version, "scheduling.volcano.sh/v1beta1");
    assert_eq!(*patch, json!({ "metadata": { "uid": "group-uid" }, "spec": { "minMember": 4 } }));
    let expected = "Repaired: PodGroup serve-0-REVISION was not as it should be; put right: spec.minMember";
    assert!(notes(&repairing).iter().any(|note| note == expected), "{:#?}", notes(&repairing));

    keep(&mut seen, &first, |object| {
        object["spec"]["minMember"] = json!(2);
        object["metadata"]["deletionTimestamp"] = json!("2026-11-22T11:59:00Z");
    });
    assert_eq!(lines(&plan(&set, &seen, &choice(), None)), ["create worker StatefulSet serve-0 (replicas 3)"]);
}

#[test]
fn a_group_of_one_has_its_pod_group_too() {
    let set = set(|raw| raw["spec"]["leaderWorkerTemplate"]["size"] = json!(1));
    let seen = observed(&set, served(Provider::Volcano), |_| {});
    assert_eq!(members(&plan(&set, &seen, &choice(), None)), 1);
}

#[test]
fn a_pod_group_that_upstream_made_stays_as_it_is() {
    let set = set(|_| {});
    let mut seen = observed(&set, served(Provider::Volcano), ready);
    let first = plan(&set, &seen, &choice(), None);
    keep(&mut seen, &first, |object| {
        object["metadata"]["managedFields"] = json!([{ "manager": "lws", "operation": "Update" }]);
        object["spec"] = json!({ "minMember": 1, "queue": "before" });
    });
    assert_eq!(lines(&plan(&set, &seen, &choice(), None)), ["create worker StatefulSet serve-0 (replicas 3)"]);
}

#[test]
fn size_and_resources_stay_those_of_the_leaders_revision() {
    let before = set(|raw| {
        let resources = json!({ "requests": { "cpu": "2" } });
        raw["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"]["containers"][0]["resources"] = resources;
    });
    let seen = observed(&before, served(Provider::Volcano), |_| {});
    let mut after = before.clone();
    after.spec.leader_worker_template.size = Some(9);
    let plan = plan(&after, &seen, &choice(), None);
    assert_eq!(created(&plan)["spec"], json!({ "minMember": 4, "minResources": { "cpu": "8" } }));
}

#[test]
fn a_leader_without_a_known_revision_gets_volcanos_pod_group_all_the_same() {
    let set = set(|_| {});
    let seen = observed(&set, served(Provider::Volcano), |pod| {
        pod["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/template-revision-hash"] = json!("lost");
    });
    let plan = plan(&set, &seen, &choice(), None);
    assert_eq!(created(&plan)["metadata"]["name"], "serve-0-lost");
    assert_eq!(members(&plan), 4);
}

#[test]
fn without_volcanos_pod_groups_new_groups_wait_and_running_ones_go_on() {
    let set = set(|_| {});
    let waiting = plan(&set, &observed(&set, missing(Provider::Volcano), |_| {}), &choice(), None);
    assert_eq!(lines(&waiting), [""; 0]);
    let expected = "GangUnavailable: This cluster does not serve PodGroups of scheduling.volcano.sh/v1beta1, so workers of new groups \
                    are not created: install Volcano, or switch gang scheduling off";
    assert!(notes(&waiting).iter().any(|note| note == expected), "{:#?}", notes(&waiting));

    let mut seen = observed(&set, served(Provider::Volcano), ready);
    let first = plan(&set, &seen, &choice(), None);
    seen.stateful_sets.extend(written(&first).stateful_sets.into_iter().filter(|(name, _)| name == "serve-0"));
    seen.gangs = missing(Provider::Volcano);
    let running = plan(&set, &seen, &choice(), None);
    assert_eq!(lines(&running), [""; 0]);
    assert!(!notes(&running).iter().any(|note| note.starts_with("GangUnavailable")), "{:#?}", notes(&running));
    assert!(running.status.is_some(), "the status is still written");
}

#[test]
fn without_kube_schedulers_pod_groups_pods_are_scheduled_one_by_one() {
    let set = set(|_| {});
    let alone = |pod: &mut Value| pod["spec"]["schedulingGroup"] = Value::Null;
    let plan = plan(&set, &observed(&set, missing(Provider::Kubernetes), alone), &choice(), None);
    assert_eq!(lines(&plan), ["create worker StatefulSet serve-0 (replicas 3)"]);
    let told = notes(&plan).into_iter().find(|note| note.starts_with("GangUnavailable")).unwrap();
    assert!(
        told.contains("scheduling.k8s.io/v1alpha2, so pods of new groups are scheduled one by one: start the API server"),
        "{told}"
    );
}

#[test]
fn a_leader_that_waits_for_a_gang_which_cannot_come_begins_again() {
    let plain = set(|_| {});
    let mut seen = observed(&plain, served(Provider::Kubernetes), |_| {});
    let first = plan(&plain, &seen, &choice(), None);
    keep(&mut seen, &first, |_| {});
    let leader_ready = set(|raw| raw["spec"]["startupPolicy"] = json!("LeaderReady"));
    let changed = plan(&leader_ready, &seen, &choice(), None);
    assert_eq!(lines(&changed), ["delete leader serve-0"]);
    let [Write::DeleteLeader { uid, resource_version, .. }] = changed
        .steps
        .iter()
        .map(|step| &step.write)
        .filter(|write| matches!(write, Write::DeleteLeader { .. }))
        .collect::<Vec<_>>()[..]
    else {
        panic!("{changed}")
    };
    assert_eq!((uid.as_str(), resource_version.as_deref()), ("leader-0-uid", Some("7")), "it must not have been bound since");

    // What is bound stays bound.
    let mut seen = observed(&plain, served(Provider::Kubernetes), ready);
    keep(&mut seen, &first, |_| {});
    assert_eq!(lines(&plan(&leader_ready, &seen, &choice(), None)), ["create worker StatefulSet serve-0 (replicas 3)"]);
}

#[test]
fn a_leader_that_still_waits_for_a_gang_after_gangs_were_switched_off_begins_again() {
    let set = set(|_| {});
    for gangs in [None, served(Provider::Volcano)] {
        let plan = plan(&set, &observed(&set, gangs, begin_gang), &choice(), None);
        assert_eq!(lines(&plan), ["delete leader serve-0"]);
        let told = notes(&plan).into_iter().find(|note| note.starts_with("GangChanged")).unwrap();
        assert!(told.ends_with("gang scheduling by kube-scheduler was switched off"), "{told}");
    }
    let bound = observed(&set, None, |pod| {
        begin_gang(pod);
        ready(pod);
    });
    assert_eq!(lines(&plan(&set, &bound, &choice(), None)), ["create worker StatefulSet serve-0 (replicas 3)"]);
}
