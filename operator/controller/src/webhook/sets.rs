//! Sets on their way in: defaults filled in, rules checked.

use kube::core::admission::Operation;
use muster_api::LeaderWorkerSet;
use muster_api::defaults::default_set;
use muster_api::field::{FieldError, Verdict};
use muster_api::names::annotation;
use muster_api::validate::{collisions, validate_create, validate_scale, validate_update};
use muster_core::{claims, kueue};
use serde::Deserialize;
use serde_json::Value;

use super::Lookup;
use super::review::{Answer, Request};

/// Fills in defaults, as the smallest patch of the object as it was sent.
///
/// An object that isn't shaped like a set is let through unchanged: the API server checks it against the schema after
/// this, and says what is wrong with it better than we could.
pub(super) fn default(request: &Request) -> Answer {
    let Some(Ok(set)) = request.object.as_ref().map(LeaderWorkerSet::deserialize) else { return Answer::allow() };
    let old = request.old_object.as_ref().map(LeaderWorkerSet::deserialize).transpose();
    let mut defaulted = set.clone();
    default_set(&mut defaulted);
    // An old object that can't be read is no ground to change templates.
    let told = old.ok().and_then(|old| kueue::translate(&mut defaulted, old.as_ref()));
    // Both sides went through our types, so whatever those don't know is on neither side and not touched by the patch.
    match (serde_json::to_value(&set), serde_json::to_value(&defaulted)) {
        (Ok(before), Ok(after)) => {
            Answer { warnings: told.into_iter().collect(), ..Answer::change(json_patch::diff(&before, &after)) }
        }
        (Err(error), _) | (_, Err(error)) => Answer::fail(&format!("defaulting the set: {error}")),
    }
}

/// Checks a new set, or the change of one.
pub(super) async fn judge(request: &Request, lookup: &impl Lookup) -> Answer {
    let new = match request.operation {
        Operation::Create | Operation::Update => read("object", request.object.as_ref()),
        Operation::Delete | Operation::Connect => return Answer::allow(),
    };
    let old = (request.operation == Operation::Update).then(|| read("oldObject", request.old_object.as_ref())).transpose();
    let (new, old) = match (new, old) {
        (Ok(new), Ok(old)) => (new, old),
        (Err(message), _) | (_, Err(message)) => return Answer::refuse(&message),
    };
    let mut verdict = match &old {
        None => validate_create(&new),
        Some(old) => validate_update(old, &new),
    };
    verdict.errors.extend(collision(old.as_ref(), &new, lookup));
    verdict.warnings.extend(unknown_levels(old.as_ref(), &new, lookup));
    if let Some(old) = &old {
        match claims_stay(old, &new, lookup).await {
            Ok(error) => verdict.errors.extend(error),
            Err(error) => return Answer::fail(&format!("finding out whether the volume claim templates may change: {error:#}")),
        }
    }
    let answer = match verdict.refusal() {
        Some(message) => Answer::refuse_fields(&message, &verdict.errors),
        None => Answer::allow(),
    };
    Answer { warnings: verdict.warnings, ..answer }
}

/// Checks a change of a set's replicas alone, as autoscalers make it.
pub(super) async fn judge_scale(request: &Request, lookup: &impl Lookup) -> Answer {
    let (namespace, name) = (request.namespace.as_deref().unwrap_or_default(), request.name.as_deref().unwrap_or_default());
    let replicas = request.object.as_ref().and_then(|scale| scale.pointer("/spec/replicas")?.as_i64()).unwrap_or(0);
    let Ok(replicas) = i32::try_from(replicas) else { return Answer::allow() };
    let found = match lookup.set(namespace, name) {
        Some(set) => Ok(Some(set)),
        None => lookup.fetch_set(namespace, name).await,
    };
    let old = match found {
        Ok(Some(old)) => old,
        Ok(None) => return Answer::allow(),
        Err(error) => return Answer::fail(&format!("reading the set that is scaled: {error:#}")),
    };
    let mut new = LeaderWorkerSet::clone(&old);
    new.spec.replicas = Some(replicas);
    let mut errors = validate_scale(&old, &new);
    errors.extend(collision(Some(&old), &new, lookup));
    let verdict = Verdict { errors, warnings: Vec::new() };
    match verdict.refusal() {
        Some(message) => Answer::refuse_fields(&message, &verdict.errors),
        None => Answer::allow(),
    }
}

/// An object that a set would have to share with another. What is so already is not the change's fault.
fn collision(old: Option<&LeaderWorkerSet>, new: &LeaderWorkerSet, lookup: &impl Lookup) -> Option<FieldError> {
    if new.metadata.deletion_timestamp.is_some() || new.set_name().is_empty() {
        return None;
    }
    let others = lookup.sets(new.set_namespace());
    let others = others.iter().filter(|other| other.set_name() != new.set_name() && other.metadata.deletion_timestamp.is_none());
    let fresh = others.filter(|other| old.is_none_or(|old| collisions::between(old, other).is_none()));
    let found = fresh.filter_map(|other| collisions::between(new, other)).next();
    found.map(|found| found.error(new, old.is_none()))
}

/// Topology keys that no node has are no error: the nodes may come later.
fn unknown_levels(old: Option<&LeaderWorkerSet>, new: &LeaderWorkerSet, lookup: &impl Lookup) -> Vec<String> {
    let keys = [annotation::EXCLUSIVE_TOPOLOGY, annotation::SUBGROUP_EXCLUSIVE_TOPOLOGY].into_iter();
    let changed = keys.filter(|key| old.is_none_or(|old| old.annotation(key) != new.annotation(key)));
    let unknown = changed.filter_map(|key| {
        let level = new.annotation(key).filter(|level| !level.is_empty())?;
        let missing = lookup.node_label_exists(level) == Some(false);
        missing.then(|| format!("metadata.annotations.{key}: no node has the label {level} now, so no group can be placed yet"))
    });
    unknown.collect()
}

/// Volume claim templates of a StatefulSet can't be changed, so neither can those of a set that has its leader StatefulSet; except
/// to what that one says.
async fn claims_stay(old: &LeaderWorkerSet, new: &LeaderWorkerSet, lookup: &impl Lookup) -> anyhow::Result<Option<FieldError>> {
    let of = |set: &LeaderWorkerSet| set.spec.leader_worker_template.volume_claim_templates.clone();
    let wanted = of(new);
    if of(old) == wanted || new.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let Some(leaders) = lookup.leader_set(new).await? else { return Ok(None) };
    let live = leaders.spec.as_ref().and_then(|spec| spec.volume_claim_templates.clone()).unwrap_or_default();
    Ok(claims::difference(&wanted, &live).map(|difference| {
        FieldError::forbidden(
            "spec.leaderWorkerTemplate.volumeClaimTemplates",
            format!(
                "field is immutable once the set has its StatefulSets ({difference}): delete the set and create it again, \
                 or create another; claims that are retained are used again"
            ),
        )
    }))
}

fn read(which: &str, object: Option<&Value>) -> Result<LeaderWorkerSet, String> {
    let object = object.ok_or_else(|| format!("the request has no {which}"))?;
    LeaderWorkerSet::deserialize(object).map_err(|error| format!("{which} is not a LeaderWorkerSet: {error}"))
}
