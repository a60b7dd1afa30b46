//! The history of a set's template, and going back in it.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use muster_api::LeaderWorkerSet;
use rstest::rstest;
use serde_json::{Value, json};

use super::decide;
use crate::admission::Choice;
use crate::advice::Advice;
use crate::observed::Observed;
use crate::plan::{Plan, Write};
use crate::testing::{now, ready, set, with_leader, written};

fn lines(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|step| step.write.to_string()).collect()
}

fn notes(plan: &Plan) -> Vec<&str> {
    plan.steps.iter().flat_map(|step| &step.done).map(|note| note.text.as_str()).collect()
}

/// One group of one pod with this image.
fn of_image(image: &str, change: impl FnOnce(&mut Value)) -> LeaderWorkerSet {
    set(|raw| {
        raw["metadata"]["resourceVersion"] = json!("42");
        raw["spec"]["replicas"] = json!(1);
        raw["spec"]["leaderWorkerTemplate"]["size"] = json!(1);
        raw["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"]["containers"][0]["image"] = json!(image);
        change(raw);
    })
}

fn plan(set: &LeaderWorkerSet, observed: &Observed) -> Plan {
    decide(set, observed, &Choice::default(), &Advice::default(), now())
}

/// The revision of this image under a key and a number.
fn revision(image: &str, key: &str, number: i64) -> Arc<ControllerRevision> {
    let mut raw = crate::revision::build(&of_image(image, |_| {}), key, number);
    raw["metadata"]["uid"] = json!(format!("{key}-uid"));
    Arc::new(serde_json::from_value(raw).unwrap())
}

/// A set at rest at `image:3`, which it came to by way of 1 and 2.
fn at_rest(revisions: Vec<Arc<ControllerRevision>>) -> Observed {
    let set = of_image("image:3", |_| {});
    let mut observed = written(&plan(&set, &Observed { revisions: revisions.clone(), ..Observed::default() }));
    observed.revisions = revisions;
    with_leader(&mut observed, 0, ready);
    observed
}

fn three() -> Vec<Arc<ControllerRevision>> {
    vec![revision("image:1", "one", 1), revision("image:2", "two", 2), revision("image:3", "three", 3)]
}

const AT_REST: &str = "apply leader StatefulSet serve (replicas 1, partition 0)";

#[rstest]
#[case::ten("10", &[])]
#[case::one("1", &["delete revision serve-one-1"])]
#[case::none("0", &["delete revision serve-two-2", "delete revision serve-one-1"])]
fn a_set_at_rest_keeps_its_history_to_the_limit(#[case] limit: &str, #[case] deleted: &[&str]) {
    let set = of_image("image:3", |raw| {
        raw["metadata"]["annotations"] = json!({ "muster.dev/revision-history-limit": limit });
    });
    let expected: Vec<&str> = [AT_REST].into_iter().chain(deleted.iter().copied()).collect();
    assert_eq!(lines(&plan(&set, &at_rest(three()))), expected);
}

fn without_history(image: &str) -> LeaderWorkerSet {
    of_image(image, |raw| raw["metadata"]["annotations"] = json!({ "muster.dev/revision-history-limit": "0" }))
}

#[test]
fn a_revision_that_a_group_still_names_is_never_deleted() {
    let mut observed = at_rest(three());
    // A surplus group of the revision before, on its way out.
    with_leader(&mut observed, 1, |pod| {
        pod["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/template-revision-hash"] = json!("two");
        pod["metadata"]["deletionTimestamp"] = json!("2026-11-22T11:59:00Z");
    });
    assert_eq!(lines(&plan(&without_history("image:3"), &observed)), [AT_REST, "delete revision serve-one-1"]);
}

#[test]
fn of_two_revisions_with_one_key_the_newer_is_kept_and_nobody_elses_is_touched() {
    let mut foreign = (*revision("image:9", "other", 8)).clone();
    foreign.metadata.owner_references.as_mut().unwrap()[0].uid = "another-set".to_owned();
    let again = revision("image:3", "three", 7);
    let observed = at_rest(vec![revision("image:3", "three", 3), again, Arc::new(foreign)]);
    assert_eq!(lines(&plan(&of_image("image:3", |_| {}), &observed)), [AT_REST, "delete revision serve-three-3"]);
}

#[test]
fn a_set_that_goes_back_gets_the_key_it_had_and_the_newest_number() {
    let back = plan(&of_image("image:1", |_| {}), &at_rest(three()));
    assert_eq!(
        lines(&back)[..2],
        ["make revision serve-one-1 number 4", "apply leader StatefulSet serve (replicas 1, partition 1)"]
    );
    assert_eq!(notes(&back)[0], "Using revision 1 with key one again, as revision 4");
    let Write::ApplyLeaderSet { object, .. } = &back.steps[1].write else { panic!("{back}") };
    assert_eq!(object["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/template-revision-hash"], "one");
}

#[test]
fn a_leader_stateful_set_with_an_edited_key_starts_no_update() {
    let mut observed = at_rest(three());
    let mut leaders: Value = serde_json::to_value(&*observed.stateful_sets["serve"]).unwrap();
    leaders["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/template-revision-hash"] = json!("edited");
    observed.stateful_sets.insert("serve".to_owned(), Arc::new(serde_json::from_value(leaders).unwrap()));
    let plan = plan(&of_image("image:3", |_| {}), &observed);
    assert_eq!(lines(&plan), [AT_REST]);
    let Write::ApplyLeaderSet { object, .. } = &plan.steps[0].write else { panic!("{plan}") };
    assert_eq!(object["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/template-revision-hash"], "three");
}

#[test]
fn a_revision_says_why_it_was_made() {
    let because = |cause: &'static str| {
        move |raw: &mut Value| raw["metadata"]["annotations"] = json!({ "kubernetes.io/change-cause": cause })
    };
    let first = plan(&of_image("image:4", because("larger model")), &at_rest(three()));
    let Write::CreateRevision(object) = &first.steps[0].write else { panic!("{first}") };
    assert_eq!(object["metadata"]["annotations"], json!({ "kubernetes.io/change-cause": "larger model" }));
    let later = plan(&of_image("image:3", because("fix")), &at_rest(three()));
    assert_eq!(lines(&later), ["note the cause of revision serve-three-3", AT_REST]);
}

/// What an undo writes into the set, and what it says.
fn undo(wanted: &str) -> (Value, String) {
    let set = of_image("image:3", |raw| {
        raw["metadata"]["annotations"] = json!({ "muster.dev/undo-to": wanted });
    });
    let plan = plan(&set, &at_rest(three()));
    let [step] = plan.steps.as_slice() else { panic!("{plan}") };
    let Write::UndoSet { patch, forget } = &step.write else { panic!("{plan}") };
    assert_eq!(
        *forget,
        json!([
            { "op": "replace", "path": "/metadata/resourceVersion", "value": "42" },
            { "op": "remove", "path": "/metadata/annotations/muster.dev~1undo-to" },
        ])
    );
    (patch.clone(), step.done[0].text.clone())
}

#[rstest]
#[case::by_number("1", "image:1", "Went back to revision 1 (key one)")]
#[case::by_key("two", "image:2", "Went back to revision 2 (key two)")]
#[case::the_one_before("previous", "image:2", "Went back to revision 2 (key two)")]
fn an_undo_writes_the_template_of_the_revision_that_is_asked_for(#[case] wanted: &str, #[case] image: &str, #[case] told: &str) {
    let (patch, note) = undo(wanted);
    assert_eq!(note, told);
    assert_eq!(patch[2]["path"], "/spec/leaderWorkerTemplate");
    assert_eq!(patch[2]["value"]["workerTemplate"]["spec"]["containers"][0]["image"], image);
    assert_eq!(patch[2]["value"].get("$patch"), None);
    assert_eq!(patch[3], json!({ "op": "add", "path": "/spec/networkConfig", "value": { "subdomainPolicy": "Shared" } }));
}

#[rstest]
#[case::unknown(
    "7",
    r#"muster.dev/undo-to: "7" is no earlier revision of this set; there are 1 (key one), 2 (key two), 3 (key three)"#
)]
#[case::current("3", r#"muster.dev/undo-to: "3" is what the set says already (3 (key three))"#)]
fn an_undo_that_can_not_be_is_forgotten_and_told(#[case] wanted: &str, #[case] told: &str) {
    let (patch, note) = undo(wanted);
    assert_eq!(note, told);
    assert_eq!(patch.as_array().unwrap().len(), 2);
}
