//! Revisions of a set: what a template was when a group was made from it.
//!
//! Revisions are compared by meaning, not by bytes: upstream's are written by another encoder, and taking one over must not
//! start a rollout.

mod meaning;

use k8s_openapi::api::apps::v1::ControllerRevision;
use muster_api::defaults::default_set;
use muster_api::names::{self, annotation, label};
use muster_api::{LeaderWorkerSet, LeaderWorkerSetSpec};
use serde_json::{Value, json};

use crate::owner::controller_uid;
use crate::text::as_go_writes;

/// The revision key that a ControllerRevision is filed under.
pub fn key(revision: &ControllerRevision) -> Option<&str> {
    revision.metadata.labels.as_ref()?.get(label::REVISION).map(String::as_str)
}

/// Whether the revision belongs to the set with this UID, or to nobody.
pub fn is_of(revision: &ControllerRevision, set_uid: &str) -> bool {
    controller_uid(&revision.metadata).is_none_or(|uid| uid == set_uid)
}

/// The newest revision with this key among those that belong to the set (or to nobody).
pub fn find<'a>(
    revisions: impl IntoIterator<Item = &'a ControllerRevision>,
    set_uid: &str,
    wanted: &str,
) -> Option<&'a ControllerRevision> {
    revisions
        .into_iter()
        .filter(|revision| key(revision) == Some(wanted) && is_of(revision, set_uid))
        .max_by_key(|revision| revision.revision)
}

/// What a revision of this spec keeps.
pub fn payload(spec: &LeaderWorkerSetSpec) -> Value {
    // A spec that was read from JSON can be written as JSON.
    names::revision_patch(spec).unwrap_or_default()
}

/// The key that a revision of this spec gets when there is none to keep: the hash of its data as they are stored.
pub fn own_key(spec: &LeaderWorkerSetSpec) -> String {
    names::revision_hash(as_go_writes(&payload(spec).to_string()).as_bytes())
}

/// The ControllerRevision of the set's spec as it stands.
pub fn build(set: &LeaderWorkerSet, key: &str, number: i64) -> Value {
    let set_name = set.metadata.name.as_deref().unwrap_or_default();
    let mut revision = json!({
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": names::revision_name(set_name, key, number),
            "namespace": set.metadata.namespace,
            "labels": { label::SET_NAME: set_name, label::REVISION: key },
            "ownerReferences": [crate::backend::owner_reference(set)],
        },
        "data": payload(&set.spec),
        "revision": number,
    });
    if let Some(cause) = set.annotation(annotation::CHANGE_CAUSE) {
        revision["metadata"]["annotations"] = json!({ annotation::CHANGE_CAUSE: cause });
    }
    revision
}

/// One form for all ways to write the same template.
pub(crate) fn meaning(template: &Value) -> Value {
    meaning::of(template)
}

/// Whether the revision means what the set's spec says now.
pub fn describes(revision: &ControllerRevision, set: &LeaderWorkerSet) -> bool {
    let meaning = |mut set: LeaderWorkerSet| {
        // A revision may be older than a default that has been stored with the set since.
        default_set(&mut set);
        meaning::of(&payload(&set.spec))
    };
    restore(revision, set).is_ok_and(|restored| meaning(restored) == meaning(set.clone()))
}

/// The set with the parts of its spec that a revision keeps put back to what they were.
///
/// # Errors
/// When the revision's data are not a spec that this version understands.
pub fn restore(revision: &ControllerRevision, set: &LeaderWorkerSet) -> Result<LeaderWorkerSet, serde_json::Error> {
    let mut spec = serde_json::to_value(&set.spec)?;
    let kept = revision.data.as_ref().map(|data| &data.0["spec"]);
    for part in ["leaderWorkerTemplate", "networkConfig"] {
        if let Some(Value::Object(kept)) = kept.map(|kept| &kept[part]) {
            let mut kept = kept.clone();
            // To the API server a null is an absent field; to our types it is none of the values that they have.
            kept.retain(|name, value| name != "$patch" && !value.is_null());
            spec[part] = Value::Object(kept);
        }
    }
    let mut restored = set.clone();
    restored.spec = serde_json::from_value(spec)?;
    Ok(restored)
}

/// The set as it was at a revision. A key without a revision, or one that can't be read, is `None`.
pub fn as_of<R: AsRef<ControllerRevision>>(set: &LeaderWorkerSet, revisions: &[R], key: &str) -> Option<LeaderWorkerSet> {
    let uid = set.metadata.uid.as_deref().unwrap_or_default();
    restore(find(revisions.iter().map(AsRef::as_ref), uid, key)?, set).ok()
}
