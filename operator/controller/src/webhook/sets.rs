//! Sets on their way in: defaults filled in, rules checked.

use kube::core::admission::Operation;
use muster_api::LeaderWorkerSet;
use muster_api::defaults::default_set;
use muster_api::validate::{validate_create, validate_update};
use serde::Deserialize;
use serde_json::Value;

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
pub(super) fn judge(request: &Request) -> Answer {
    let verdict = match request.operation {
        Operation::Create => read("object", request.object.as_ref()).map(|set| validate_create(&set)),
        Operation::Update => read("oldObject", request.old_object.as_ref())
            .and_then(|old| Ok(validate_update(&old, &read("object", request.object.as_ref())?))),
        Operation::Delete | Operation::Connect => return Answer::allow(),
    };
    let verdict = match verdict {
        Ok(verdict) => verdict,
        Err(message) => return Answer::refuse(&message),
    };
    let answer = match verdict.refusal() {
        Some(message) => Answer::refuse_fields(&message, &verdict.errors),
        None => Answer::allow(),
    };
    Answer { warnings: verdict.warnings, ..answer }
}

fn read(which: &str, object: Option<&Value>) -> Result<LeaderWorkerSet, String> {
    let object = object.ok_or_else(|| format!("the request has no {which}"))?;
    LeaderWorkerSet::deserialize(object).map_err(|error| format!("{which} is not a LeaderWorkerSet: {error}"))
}
