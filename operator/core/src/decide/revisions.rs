//! Which revision of the template is current, and which ones may go.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use muster_api::LeaderWorkerSet;
use muster_api::conditions::event;
use muster_api::names::{self, annotation, label};
use serde_json::json;

use crate::observed::{Group, Observed};
use crate::owner::is_controlled_by;
use crate::plan::{Note, Plan, Related, Write};
use crate::{pods, revision};

/// The current revision of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Current {
    /// Its key.
    pub(super) key: String,
    /// The leader StatefulSet still carries another one: a rolling update begins with this reconcile.
    pub(super) changed: bool,
    /// Its ControllerRevision, for events.
    pub(super) object: Related,
}

impl Current {
    fn standing(revision: &ControllerRevision, changed: bool) -> Self {
        let key = revision::key(revision).unwrap_or_default().to_owned();
        Self { key, changed, object: Related::revision(&revision.metadata) }
    }
}

/// Finds the current revision and plans the ControllerRevisions that are missing.
///
/// The key on an existing leader StatefulSet is kept for as long as its revision means what the set says, whoever wrote it. A set that
/// goes back to an earlier revision gets that one's key again, so that groups that still are at it stay as they are.
pub(super) fn current(set: &LeaderWorkerSet, leader_set: Option<&StatefulSet>, observed: &Observed, plan: &mut Plan) -> Current {
    let uid = set.metadata.uid.as_deref().unwrap_or_default();
    let all = || observed.revisions.iter().map(AsRef::as_ref);
    // One that somebody took the key off counts for nothing; it gets its labels back when its name is wanted again.
    let ours = |one: &&ControllerRevision| revision::is_of(one, uid) && revision::key(one).is_some();
    let newest = all().filter(ours).map(|one| one.revision).max().unwrap_or(0);
    let known = |key: &&String| revision::find(all(), uid, key).is_some();
    // Pods are made with the template's; the StatefulSet's own may have been edited.
    let kept_key = leader_set.and_then(|existing| {
        let own = existing.metadata.labels.as_ref().and_then(|labels| labels.get(label::REVISION));
        let of_pods = || existing.spec.as_ref()?.template.metadata.as_ref()?.labels.as_ref()?.get(label::REVISION);
        own.filter(known).or_else(|| of_pods().filter(known)).or(own)
    });
    let kept = kept_key.and_then(|kept| revision::find(all(), uid, kept));
    if let Some(kept) = kept.filter(|kept| revision::describes(kept, set)) {
        explain(set, kept, None, plan);
        return Current::standing(kept, false);
    }
    if kept_key.is_none() || kept.is_some() {
        let standing = all().filter(ours).filter(|one| revision::describes(one, set));
        if let Some(standing) = standing.max_by_key(|one| one.revision) {
            explain(set, standing, Some(newest + 1).filter(|_| standing.revision < newest), plan);
            // Without a leader StatefulSet nothing changes: it was deleted, and its groups, if any are left, are of a revision that stands.
            return Current::standing(standing, kept.is_some());
        }
    }
    let (key, what, changed) = match (kept_key, kept) {
        (None, _) => (revision::own_key(&set.spec), ("revision", "for a newly created LeaderWorkerSet"), false),
        (Some(kept), None) => (kept.clone(), ("missing revision", "for existing LeaderWorkerSet"), false),
        (Some(_), Some(_)) => (revision::own_key(&set.spec), ("revision", "for updated LWS"), true),
    };
    let object = Related::new_revision(names::revision_name(set.set_name(), &key, newest + 1));
    let note = Note::normal(event::CREATING_REVISION, "Create", format!("Creating {} with key {key} {}", what.0, what.1))
        .relating(object.clone());
    plan.push(Write::CreateRevision(revision::build(set, &key, newest + 1)), Some(note), None);
    Current { key, changed, object }
}

/// Keeps a revision's change cause what the set says it is, and gives a revision that the set went back to the newest number.
fn explain(set: &LeaderWorkerSet, revision: &ControllerRevision, number: Option<i64>, plan: &mut Plan) {
    if !is_controlled_by(&revision.metadata, set.metadata.uid.as_deref()) {
        return;
    }
    let cause = set.annotation(annotation::CHANGE_CAUSE);
    let told = revision.metadata.annotations.as_ref().and_then(|annotations| annotations.get(annotation::CHANGE_CAUSE));
    let mut patch = json!({});
    // A cause that was taken off the set stays with the revision that it was given for.
    if cause.is_some() && cause != told.map(String::as_str) {
        patch["metadata"]["annotations"][annotation::CHANGE_CAUSE] = json!(cause);
    }
    let name = revision.metadata.name.clone().unwrap_or_default();
    let done = number.map(|number| {
        patch["revision"] = json!(number);
        let key = revision::key(revision).unwrap_or_default();
        let text = format!("Using revision {} with key {key} again, as revision {number}", revision.revision);
        Note::normal(event::REUSING_REVISION, "Update", text).relating(Related::revision(&revision.metadata))
    });
    if patch != json!({}) {
        patch["metadata"]["uid"] = json!(revision.metadata.uid);
        plan.push(Write::PatchRevision { name, patch }, done, None);
    }
}

/// Deletes the set's revisions beyond its history, except those that something still names.
pub(super) fn truncate(
    set: &LeaderWorkerSet,
    observed: &Observed,
    groups: &BTreeMap<u32, Group<'_>>,
    current: &str,
    plan: &mut Plan,
) {
    let limit = set.annotation(annotation::REVISION_HISTORY_LIMIT).and_then(|limit| limit.parse().ok());
    let limit: usize = limit.unwrap_or(annotation::REVISION_HISTORY_DEFAULT);
    let of_pods = groups.values().flat_map(Group::pods).filter_map(|(_, pod)| pods::revision(pod));
    let of_sets = observed.stateful_sets.values().filter_map(|object| object.metadata.labels.as_ref()?.get(label::REVISION));
    let mut named: BTreeSet<&str> = of_pods.chain(of_sets.map(String::as_str)).chain([current]).collect();
    let mut ours: Vec<&ControllerRevision> = observed.revisions.iter().map(AsRef::as_ref).collect();
    ours.retain(|one| is_controlled_by(&one.metadata, set.metadata.uid.as_deref()) && revision::key(one).is_some());
    ours.sort_by_key(|one| std::cmp::Reverse(one.revision));
    let mut history = 0;
    let mut seen = BTreeSet::new();
    for one in ours {
        let key = revision::key(one).unwrap_or_default();
        // Of two revisions with one key (upstream makes such) the newer one is meant by whoever names it.
        let newest = seen.insert(key);
        if newest && named.contains(key) {
            continue;
        }
        if newest && history < limit {
            history += 1;
            named.insert(key);
            continue;
        }
        plan.push(Write::DeleteRevision { name: one.metadata.name.clone().unwrap_or_default() }, None, None);
    }
}
