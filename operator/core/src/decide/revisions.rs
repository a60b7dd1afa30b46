//! Which revision of the template is current, and which ones may go.

use k8s_openapi::api::apps::v1::StatefulSet;
use muster_api::LeaderWorkerSet;
use muster_api::conditions::event;
use muster_api::names::{self, label};

use crate::observed::Observed;
use crate::owner::is_controlled_by;
use crate::plan::{Note, Plan, Write};
use crate::revision;

/// The current revision of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Current {
    /// Its key.
    pub(super) key: String,
    /// The leader StatefulSet still carries another one: a rolling update begins with this reconcile.
    pub(super) changed: bool,
}

/// Finds the current revision and plans the ControllerRevisions that are missing.
///
/// The key on an existing leader StatefulSet is kept for as long as its revision means what the set says, whoever wrote it.
pub(super) fn current(set: &LeaderWorkerSet, leader_set: Option<&StatefulSet>, observed: &Observed, plan: &mut Plan) -> Current {
    let uid = set.metadata.uid.as_deref().unwrap_or_default();
    let revisions = || observed.revisions.iter().map(AsRef::as_ref);
    let own_key = revision::own_key(&set.spec);
    let kept_key = leader_set.and_then(|existing| existing.metadata.labels.as_ref()?.get(label::REVISION));

    let (key, why, changed) = match kept_key {
        None => match newest_describing(set, observed) {
            // The leader StatefulSet was deleted: its groups, if any are left, are of a revision that still stands.
            Some(existing) => return Current { key: existing.to_owned(), changed: false },
            None => (own_key, "for a newly created LeaderWorkerSet", false),
        },
        Some(kept) => match revision::find(revisions(), uid, kept) {
            None => (kept.clone(), "for existing LeaderWorkerSet", false),
            Some(existing) if revision::describes(existing, set) => {
                return Current { key: kept.clone(), changed: false };
            }
            Some(_) => (own_key, "for updated LWS", true),
        },
    };
    if revision::find(revisions(), uid, &key).is_none() {
        let number = revisions().map(|existing| existing.revision).max().unwrap_or(0) + 1;
        let adjective = if kept_key.is_some() && !changed { "missing revision" } else { "revision" };
        let note = Note::normal(event::CREATING_REVISION, "Create", format!("Creating {adjective} with key {key} {why}"))
            .about_revision(&names::revision_name(set.set_name(), &key, number));
        plan.push(Write::CreateRevision(revision::build(set, &key, number)), Some(note), None);
    }
    Current { key, changed }
}

/// Key of the newest revision of the set that means what the set says.
fn newest_describing<'a>(set: &LeaderWorkerSet, observed: &'a Observed) -> Option<&'a str> {
    let ours = observed.revisions.iter().filter(|revision| is_controlled_by(&revision.metadata, set.metadata.uid.as_deref()));
    let standing = ours.filter(|revision| revision::describes(revision, set)).max_by_key(|revision| revision.revision);
    revision::key(standing?)
}

/// Deletes the set's revisions that no group can need any more.
pub(super) fn truncate(set: &LeaderWorkerSet, observed: &Observed, key: &str, plan: &mut Plan) {
    let ours = |metadata| is_controlled_by(metadata, set.metadata.uid.as_deref());
    for outdated in &observed.revisions {
        if revision::key(outdated) != Some(key) && ours(&outdated.metadata) {
            let name = outdated.metadata.name.clone().unwrap_or_default();
            plan.push(Write::DeleteRevision { name }, None, None);
        }
    }
}
