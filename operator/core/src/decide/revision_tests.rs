//! The history of a set's template, and going back in it.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use muster_api::LeaderWorkerSet;
use rstest::rstest;
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

const KEY: &str = "leaderworkerset.sigs.k8s.io/template-revision-hash";

/// The leader StatefulSet that a plan applies.
fn leaders(plan: &Plan) -> &Value {
    let applied = plan.steps.iter().find_map(|step| match &step.write {
        Write::ApplyLeaderSet { object, .. } => Some(object),
        _ => None,
    });
    applied.unwrap_or_else(|| panic!("{plan}"))
}

#[test]
fn a_leader_stateful_set_whose_revision_is_lost_gets_it_again_under_its_key_and_starts_no_update() {
    let mut observed = at_rest(three());
    observed.revisions.clear();
    let plan = plan(&of_image("image:3", |_| {}), &observed);
    assert_eq!(lines(&plan), ["create revision serve-three-1", AT_REST]);
    assert_eq!(leaders(&plan)["metadata"]["labels"][KEY], "three");
    assert_eq!(leaders(&plan)["spec"]["template"]["metadata"]["labels"][KEY], "three");
}

#[test]
fn a_revision_of_another_set_with_the_wanted_key_is_no_revision_of_this_one() {
    let mut foreign = (*revision("image:3", "three", 3)).clone();
    foreign.metadata.owner_references.as_mut().unwrap()[0].uid = "another-set".to_owned();
    let mut observed = at_rest(three());
    observed.revisions = vec![Arc::new(foreign)];
    let plan = plan(&of_image("image:3", |_| {}), &observed);
    assert_eq!(lines(&plan), ["create revision serve-three-1", AT_REST]);
}

#[test]
fn a_revision_without_its_key_is_asked_for_by_its_own_name_again() {
    let mut observed = at_rest(three());
    let mut stripped = (*observed.revisions[2]).clone();
    stripped.metadata.labels.as_mut().unwrap().remove(KEY);
    observed.revisions[2] = Arc::new(stripped);
    assert_eq!(lines(&plan(&of_image("image:3", |_| {}), &observed))[..2], ["create revision serve-three-3", AT_REST]);
}

#[test]
fn an_update_that_got_as_far_as_its_revision_goes_on_with_it() {
    let mut observed = at_rest(three());
    observed.revisions.push(revision("image:4", "four", 4));
    let plan = plan(&of_image("image:4", |_| {}), &observed);
    assert_eq!(lines(&plan)[0], "apply leader StatefulSet serve (replicas 1, partition 1)", "{plan}");
    assert!(!plan.to_string().contains("revision serve-"), "{plan}");
    assert_eq!(leaders(&plan)["spec"]["template"]["metadata"]["labels"][KEY], "four");
}

#[test]
fn workers_are_made_from_the_newest_of_two_revisions_with_their_leaders_key() {
    let pair = |raw: &mut Value| raw["spec"]["leaderWorkerTemplate"]["size"] = json!(2);
    let of = |image: &str, key: &str, number: i64| {
        let raw = crate::revision::build(&of_image(image, pair), key, number);
        Arc::new(serde_json::from_value::<ControllerRevision>(raw).unwrap())
    };
    let revisions = vec![of("image:2b", "two", 5), of("image:2a", "two", 2), of("image:3", "three", 6)];
    let set = of_image("image:3", pair);
    let mut observed = written(&plan(&set, &Observed { revisions: revisions.clone(), ..Observed::default() }));
    observed.revisions = revisions;
    with_leader(&mut observed, 0, |pod| pod["metadata"]["labels"][KEY] = json!("two"));
    let advice = Advice { workers: [(0, Admitted { workers: 1, reason: None })].into(), ..Advice::default() };
    let plan = decide(&set, &observed, &Choice::default(), &advice, now());
    let workers = plan.steps.iter().find_map(|step| match &step.write {
        Write::CreateWorkerSet(object) => Some(object),
        _ => None,
    });
    let workers = workers.unwrap_or_else(|| panic!("{plan}"));
    assert_eq!(workers["spec"]["template"]["spec"]["containers"][0]["image"], "image:2b");
    assert_eq!(workers["metadata"]["labels"][KEY], "two");
}

#[rstest]
#[case::restart_policy("restartPolicy", json!("None"))]
#[case::retention_of_claims("persistentVolumeClaimRetentionPolicy", json!({ "whenDeleted": "Delete", "whenScaled": "Retain" }))]
#[case::type_of_subgroups("subGroupPolicy", json!({ "subGroupSize": 2, "subGroupPolicyType": "LeaderExcluded" }))]
fn any_part_of_the_template_that_changes_makes_a_revision(#[case] part: &str, #[case] changed: Value) {
    let odd = |raw: &mut Value| {
        raw["spec"]["leaderWorkerTemplate"]["size"] = json!(5);
        raw["spec"]["leaderWorkerTemplate"]["subGroupPolicy"] = json!({ "subGroupSize": 2 });
        raw["spec"]["leaderWorkerTemplate"]["persistentVolumeClaimRetentionPolicy"] =
            json!({ "whenDeleted": "Retain", "whenScaled": "Retain" });
    };
    let before = of_image("image:1", odd);
    let observed = written(&plan(&before, &Observed::default()));
    assert_eq!(lines(&plan(&before, &observed)), [AT_REST]);
    let after = of_image("image:1", |raw| {
        odd(raw);
        raw["spec"]["leaderWorkerTemplate"][part] = changed;
    });
    let plan = plan(&after, &observed);
    let lines = lines(&plan);
    assert!(lines[0].starts_with("create revision serve-") && lines[0].ends_with("-2"), "{plan}");
    assert_eq!(lines[1], "apply leader StatefulSet serve (replicas 1, partition 1)");
}

/// A set with characters in its template that Go's encoder spells in its own way.
fn with_a_redirection() -> LeaderWorkerSet {
    of_image("image:1", |raw| {
        raw["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"]["containers"][0]["args"] = json!(["serve 2>&1 <model"]);
    })
}

#[test]
fn a_key_is_the_hash_of_the_data_as_they_are_stored() {
    let stored = r#"{"spec":{"leaderWorkerTemplate":{"$patch":"replace","restartPolicy":"RecreateGroupOnPodRestart","size":1,"workerTemplate":{"spec":{"containers":[{"args":["serve 2\u003e\u00261 \u003cmodel"],"image":"image:1","name":"main"}]}}},"networkConfig":{"$patch":"replace","subdomainPolicy":"Shared"}}}"#;
    let key = muster_api::names::revision_hash(stored.as_bytes());
    assert_eq!(lines(&plan(&with_a_redirection(), &Observed::default()))[0], format!("create revision serve-{key}-1"));
}

#[test]
fn a_key_that_was_hashed_in_another_way_stays_and_starts_no_update() {
    let set = with_a_redirection();
    let unescaped = muster_api::names::revision_hash(crate::revision::payload(&set.spec).to_string().as_bytes());
    let raw = crate::revision::build(&set, &unescaped, 1);
    let revisions = vec![Arc::new(serde_json::from_value::<ControllerRevision>(raw).unwrap())];
    let mut observed = written(&plan(&set, &Observed { revisions: revisions.clone(), ..Observed::default() }));
    observed.revisions = revisions;
    let plan = plan(&set, &observed);
    assert_eq!(lines(&plan), [AT_REST]);
    assert_eq!(leaders(&plan)["spec"]["template"]["metadata"]["labels"][KEY], unescaped.as_str());
    assert_ne!(unescaped, crate::revision::own_key(&set.spec));
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
