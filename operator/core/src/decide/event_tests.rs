//! What a set's events say, to the letter: one row per event of upstream's.

use std::sync::Arc;

use muster_api::LeaderWorkerSet;
use rstest::rstest;
use serde_json::{Value, json};

use super::decide;
use crate::admission::Choice;
use crate::advice::{Admitted, Advice};
use crate::observed::Observed;
use crate::plan::{Note, Plan};
use crate::testing::{now, ready, set, with_leader, written};

/// Type, reason, action, kind of the related object, text.
type Told = (&'static str, &'static str, &'static str, &'static str, String);

fn told(note: &Note) -> Told {
    let related = note.related.as_ref().map_or("", |related| related.kind);
    (if note.warning { "Warning" } else { "Normal" }, note.reason, note.action, related, note.text.clone())
}

/// What a plan says when all goes well.
fn said(plan: &Plan) -> Vec<Told> {
    plan.steps.iter().flat_map(|step| &step.done).chain(&plan.notes).map(told).collect()
}

/// What a plan says when nothing is taken; the error follows each text after a colon.
fn complained(plan: &Plan) -> Vec<Told> {
    plan.steps.iter().filter_map(|step| step.failed.as_ref()).map(told).collect()
}

/// Groups of one pod that `image` runs.
fn of_image(image: &str, replicas: i32, change: impl FnOnce(&mut Value)) -> LeaderWorkerSet {
    set(|raw| {
        raw["spec"]["replicas"] = json!(replicas);
        raw["spec"]["leaderWorkerTemplate"]["size"] = json!(1);
        raw["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"]["containers"][0]["image"] = json!(image);
        change(raw);
    })
}

fn budget(unavailable: i32, surge: i32) -> impl Fn(&mut Value) {
    move |raw: &mut Value| {
        raw["spec"]["rolloutStrategy"] = json!({
            "type": "RollingUpdate",
            "rollingUpdateConfiguration": { "maxUnavailable": unavailable, "maxSurge": surge, "partition": 0 },
        });
    }
}

fn plan(set: &LeaderWorkerSet, observed: &Observed) -> Plan {
    let workers = (0..4).map(|group| (group, Admitted { workers: 3, reason: None })).collect();
    decide(set, observed, &Choice::default(), &Advice { workers, ..Advice::default() }, now())
}

fn first(set: &LeaderWorkerSet) -> Plan {
    plan(set, &Observed::default())
}

/// Changes a StatefulSet as somebody else would.
fn edit(observed: &mut Observed, name: &str, change: impl FnOnce(&mut Value)) {
    let mut raw = serde_json::to_value(&*observed.stateful_sets[name]).unwrap();
    change(&mut raw);
    observed.stateful_sets.insert(name.to_owned(), Arc::new(serde_json::from_value(raw).unwrap()));
}

/// A rollout to `image:2` whose leader StatefulSet is at this partition and these replicas, with the groups from `done` on updated and
/// all of them ready.
fn rolling(set: &LeaderWorkerSet, partition: u32, replicas: u32, done: u32) -> Observed {
    let mut old = set.clone();
    old.spec.leader_worker_template = of_image("image:1", 1, |_| {}).spec.leader_worker_template;
    let mut observed = written(&first(&old));
    let begun = written(&plan(set, &observed));
    let leaders = |observed: &mut Observed, groups: std::ops::Range<u32>| {
        groups.for_each(|group| with_leader(observed, group, ready));
    };
    leaders(&mut observed, 0..done.min(replicas));
    observed.revisions.extend(begun.revisions);
    observed.stateful_sets.extend(begun.stateful_sets);
    leaders(&mut observed, done..replicas);
    edit(&mut observed, "serve", |raw| {
        raw["spec"]["replicas"] = json!(replicas);
        raw["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = json!(partition);
    });
    observed
}

/// The plan of such a rollout's next step.
fn step(set: &LeaderWorkerSet, partition: u32, replicas: u32, done: u32) -> Plan {
    plan(set, &rolling(set, partition, replicas, done))
}

/// A set without the revision that its leader StatefulSet names.
fn without_revision() -> Plan {
    let set = set(|_| {});
    let mut observed = written(&first(&set));
    observed.revisions.clear();
    plan(&set, &observed)
}

fn with_another_template() -> Plan {
    let observed = written(&first(&set(|_| {})));
    plan(
        &set(|raw| raw["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"]["containers"][0]["image"] = json!("image:2")),
        &observed,
    )
}

/// One group whose leader is there, changed by `change`.
fn with_first_leader(change: impl FnOnce(&mut Value)) -> Plan {
    let set = set(|raw| raw["spec"]["replicas"] = json!(1));
    let mut observed = written(&first(&set));
    with_leader(&mut observed, 0, change);
    plan(&set, &observed)
}

fn restarted(pod: &mut Value) {
    ready(pod);
    pod["status"]["containerStatuses"] =
        json!([{ "name": "main", "image": "", "imageID": "", "ready": true, "restartCount": 1 }]);
}

fn ready_set() -> Plan {
    let set = of_image("image:1", 2, |_| {});
    let mut observed = written(&first(&set));
    (0..2).for_each(|group| with_leader(&mut observed, group, ready));
    plan(&set, &observed)
}

#[rstest]
#[case::first_revision(
    first(&set(|_| {})),
    ("CreatingRevision", "Create", "ControllerRevision", "Creating revision with key 598f659f7 for a newly created LeaderWorkerSet")
)]
#[case::missing_revision(
    without_revision(),
    ("CreatingRevision", "Create", "ControllerRevision", "Creating missing revision with key 598f659f7 for existing LeaderWorkerSet")
)]
#[case::changed_revision(
    with_another_template(),
    ("CreatingRevision", "Create", "ControllerRevision", "Creating revision with key 5cc9fc5574 for updated LWS")
)]
#[case::leader_set(first(&set(|_| {})), ("GroupsProgressing", "Create", "ControllerRevision", "Created leader statefulset serve"))]
#[case::one_group_let_go(
    step(&of_image("image:2", 3, budget(1, 0)), 3, 3, 3),
    ("GroupsUpdating", "Update", "ControllerRevision", "Updating replica 2")
)]
#[case::groups_let_go(
    step(&of_image("image:2", 4, budget(2, 0)), 4, 4, 4),
    ("GroupsUpdating", "Update", "ControllerRevision", "Updating replicas 2 to 3 (inclusive)")
)]
#[case::surplus_group_given_back(
    step(&of_image("image:2", 2, budget(0, 1)), 0, 3, 0),
    ("GroupsProgressing", "Delete", "", "deleting surge replica serve-2")
)]
#[case::surplus_groups_given_back(
    step(&of_image("image:2", 2, budget(0, 2)), 0, 4, 0),
    ("GroupsProgressing", "Delete", "", "deleting surge replicas from serve-2 to serve-3")
)]
#[case::conditions(
    first(&set(|_| {})),
    ("GroupsProgressing", "Update", "", "Replicas are progressing, with 0 groups ready of total 2 groups")
)]
#[case::ready(ready_set(), ("AllGroupsReady", "Update", "", "All replicas are ready, with 2 groups ready of total 2 groups"))]
#[case::workers(
    with_first_leader(|_| {}),
    ("GroupsProgressing", "Create", "Pod", "Created worker statefulset for leader pod serve-0")
)]
#[case::restart(
    with_first_leader(restarted),
    ("RecreateGroup", "Delete", "Pod", "Worker pod serve-0 failed, deleted leader pod serve-0 to recreate group 0")
)]
fn an_event_about_what_was_done_is_upstreams(
    #[case] plan: Plan,
    #[case] expected: (&'static str, &'static str, &'static str, &str),
) {
    let (reason, action, related, text) = expected;
    let expected = ("Normal", reason, action, related, text.to_owned());
    let said = said(&plan);
    assert!(said.contains(&expected), "{expected:?} is not among {said:#?}");
}

#[rstest]
#[case::leader_set(first(&set(|_| {})), ("FailedCreate", "Create", "", "Failed to create leader statefulset serve"))]
#[case::leader_set_that_is_there(with_another_template(), ("FailedUpdate", "Update", "", "Failed to update leader statefulset serve"))]
#[case::service(first(&set(|_| {})), ("FailedCreate", "Create", "", "Failed to create headless service for error"))]
#[case::workers(
    with_first_leader(|_| {}),
    ("FailedCreate", "Create", "Pod", "Failed to create worker statefulset for leader pod serve-0")
)]
fn an_event_about_what_was_refused_is_upstreams_up_to_the_error(
    #[case] plan: Plan,
    #[case] expected: (&'static str, &'static str, &'static str, &str),
) {
    let (reason, action, related, text) = expected;
    let expected = ("Warning", reason, action, related, text.to_owned());
    let complained = complained(&plan);
    assert!(complained.contains(&expected), "{expected:?} is not among {complained:#?}");
}

#[test]
fn a_leader_with_the_annotation_of_workers_is_reported_and_gets_none() {
    let plan = with_first_leader(|pod| {
        pod["metadata"]["annotations"]["leaderworkerset.sigs.k8s.io/leader-name"] = json!("serve");
    });
    assert!(!plan.to_string().contains("create worker"), "{plan}");
    let text = "leader pod team/serve-0 contains mistake annotation 'leaderworkerset.sigs.k8s.io/leader-name': requires Kubernetes \
                ≥v1.27 or v1.26 with StatefulSetStartOrdinal feature";
    let said = said(&plan);
    assert!(said.contains(&("Warning", "FailedCreate", "Create", "Pod", text.to_owned())), "{said:#?}");
}

/// What the plan says about its leader StatefulSet.
fn about_leaders(plan: &Plan) -> Vec<&str> {
    let step = plan.steps.iter().find(|step| step.write.to_string().starts_with("apply leader StatefulSet")).unwrap();
    step.done.iter().map(|note| note.text.as_str()).collect()
}

#[test]
fn a_step_that_lets_groups_go_and_gives_one_back_says_both() {
    let step = step(&of_image("image:2", 4, budget(1, 1)), 1, 5, 1);
    assert!(step.to_string().contains("apply leader StatefulSet serve (replicas 4, partition 0)"), "{step}");
    assert_eq!(about_leaders(&step), ["Updating replica 0", "deleting surge replica serve-4"]);
}

#[test]
fn groups_that_a_scale_down_takes_from_a_rollout_are_named() {
    let set = of_image("image:2", 2, budget(1, 0));
    // It was four when the rollout began.
    let mut observed = rolling(&set, 3, 4, 3);
    edit(&mut observed, "serve", |raw| raw["metadata"]["annotations"]["leaderworkerset.sigs.k8s.io/replicas"] = json!("4"));
    let plan = plan(&set, &observed);
    assert_eq!(about_leaders(&plan).last(), Some(&"deleting surge replicas from serve-2 to serve-3"), "{plan}");
}

#[rstest]
#[case::with_all_groups(4)]
#[case::while_one_is_missing(3)]
fn a_scale_down_at_rest_says_nothing_of_surge(#[case] leaders: u32) {
    let mut observed = written(&first(&of_image("image:1", 4, |_| {})));
    (0..leaders).for_each(|group| with_leader(&mut observed, group, ready));
    let plan = plan(&of_image("image:1", 2, |_| {}), &observed);
    assert!(plan.to_string().contains("apply leader StatefulSet serve (replicas 2, partition 0)"), "{plan}");
    assert_eq!(about_leaders(&plan), Vec::<&str>::new());
}

#[test]
fn an_event_about_a_revision_that_is_there_names_it_with_its_uid() {
    let set = of_image("image:2", 3, budget(1, 0));
    let mut observed = rolling(&set, 3, 3, 3);
    let mut current = (*observed.revisions[1]).clone();
    current.metadata.uid = Some("second-uid".to_owned());
    observed.revisions[1] = Arc::new(current);
    let plan = plan(&set, &observed);
    let note = plan.steps.iter().flat_map(|step| &step.done).find(|note| note.text == "Updating replica 2").unwrap();
    let related = note.related.clone().unwrap();
    assert_eq!(
        (related.api_version, related.name.as_str(), related.uid.as_deref()),
        ("apps/v1", "serve-56b59f97dc-2", Some("second-uid"))
    );
}
