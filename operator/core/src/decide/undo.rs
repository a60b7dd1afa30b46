//! Going back to an earlier revision because the set's owner asks for it by annotation.

use k8s_openapi::api::apps::v1::ControllerRevision;
use muster_api::LeaderWorkerSet;
use muster_api::conditions::event;
use muster_api::names::annotation;
use serde_json::{Value, json};

use crate::observed::Observed;
use crate::plan::{Note, Plan, Related, Write};
use crate::revision;

/// Plans the one write that puts the template of the wanted revision into the set and takes the annotation off; or only the latter,
/// with what is wrong.
pub(super) fn plan(set: &LeaderWorkerSet, observed: &Observed, wanted: &str, plan: &mut Plan) {
    let uid = set.metadata.uid.as_deref().unwrap_or_default();
    let mut known: Vec<&ControllerRevision> = observed.revisions.iter().map(AsRef::as_ref).collect();
    known.retain(|one| revision::is_of(one, uid) && revision::key(one).is_some());
    known.sort_by_key(|one| std::cmp::Reverse(one.revision));
    // The version is not tested but replaced: this way a set that has changed meanwhile is a conflict, and not a bad patch.
    let forget = json!([
        { "op": "replace", "path": "/metadata/resourceVersion", "value": set.metadata.resource_version },
        { "op": "remove", "path": format!("/metadata/annotations/{}", annotation::UNDO_TO.replace('/', "~1")) },
    ]);
    let refused =
        |detail: String| Note::warning(event::FAILED_UNDO, "Undo", format!("{}: {wanted:?} {detail}", annotation::UNDO_TO));
    let found = find(set, &known, wanted.trim());
    let (patch, done) = match found {
        None => (forget.clone(), refused(format!("is no earlier revision of this set; there are {}", list(&known)))),
        Some(found) if revision::describes(found, set) => {
            (forget.clone(), refused(format!("is what the set says already ({})", shown(found))))
        }
        Some(found) => match revision::restore(found, set).and_then(|earlier| template(&earlier)) {
            Err(error) => (forget.clone(), refused(format!("can't be read ({}): {error}", shown(found)))),
            Ok((template, network)) => {
                let mut patch = forget.clone();
                let writes = [
                    json!({ "op": "replace", "path": "/spec/leaderWorkerTemplate", "value": template }),
                    json!({ "op": "add", "path": "/spec/networkConfig", "value": network }),
                ];
                patch.as_array_mut().into_iter().for_each(|operations| operations.extend(writes.clone()));
                (patch, Note::normal(event::UNDONE, "Undo", format!("Went back to revision {}", shown(found))))
            }
        },
    };
    let done = match found {
        Some(found) => done.relating(Related::revision(&found.metadata)),
        None => done,
    };
    let failed = refused("was refused and is given up".to_owned());
    plan.push(Write::UndoSet { patch, forget }, Some(done), Some(failed));
}

/// The revision that is meant: `previous`, or by number, or by key. `known` are ordered newest first.
fn find<'a>(set: &LeaderWorkerSet, known: &[&'a ControllerRevision], wanted: &str) -> Option<&'a ControllerRevision> {
    if wanted == "previous" {
        return known.iter().copied().find(|one| !revision::describes(one, set));
    }
    let number = wanted.parse::<i64>().ok();
    let by_number = known.iter().copied().find(|one| Some(one.revision) == number);
    by_number.or_else(|| known.iter().copied().find(|one| revision::key(one) == Some(wanted)))
}

/// The parts of a spec that a revision keeps, as they are written into a set. Go writes nulls where nothing is; the API server takes
/// them for values.
fn template(set: &LeaderWorkerSet) -> Result<(Value, Value), serde_json::Error> {
    let mut template = serde_json::to_value(&set.spec.leader_worker_template)?;
    let mut network = serde_json::to_value(set.spec.network_config.clone().unwrap_or_default())?;
    without_nulls(&mut template);
    without_nulls(&mut network);
    if network == json!({}) {
        network = json!({ "subdomainPolicy": "Shared" });
    }
    Ok((template, network))
}

fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn shown(revision: &ControllerRevision) -> String {
    format!("{} (key {})", revision.revision, revision::key(revision).unwrap_or_default())
}

fn list(known: &[&ControllerRevision]) -> String {
    let shown: Vec<String> = known.iter().rev().map(|one| shown(one)).collect();
    if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
}
