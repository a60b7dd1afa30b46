//! Sets on their way in: defaults filled in, rules checked.

use kube::core::admission::Operation;
use muster_api::LeaderWorkerSet;
use muster_api::defaults::default_set;
use muster_api::field::FieldError;
use muster_api::validate::{validate_create, validate_update};
use muster_core::claims;
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
    let mut defaulted = set.clone();
    default_set(&mut defaulted);
    // Both sides went through our types, so whatever those don't know is on neither side and not touched by the patch.
    match (serde_json::to_value(&set), serde_json::to_value(&defaulted)) {
        (Ok(before), Ok(after)) => Answer::change(json_patch::diff(&before, &after)),
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
