//! The status of a set: counts and conditions as upstream computes them (`reference` §1.3, §1.4), plus `PlacementPending`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use muster_api::names::{self, annotation, label};
use muster_api::{LeaderWorkerSet, LeaderWorkerSetStatus, conditions};

use crate::advice::Admitted;
use crate::decide::Restarts;
use crate::observed::Group;
use crate::owner::pod_of_name;
use crate::placement::Reason;
use crate::plan::Note;
use crate::pods;
use crate::rollout::Target;

mod groups;
#[cfg(test)]
mod tests;

/// What the status is computed from, besides the set.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// Groups by index.
    pub groups: &'a BTreeMap<u32, Group<'a>>,
    /// Replicas in the leader StatefulSet's status.
    pub leaders: i32,
    /// The key of the set's current revision.
    pub revision_key: &'a str,
    /// Groups that wait for placement, with the reason of each.
    pub pending: &'a BTreeMap<u32, Reason>,
    /// Whether Muster places the set's groups at all.
    pub placed: bool,
    /// Which groups start over, wait to or have failed.
    pub(crate) restarts: &'a Restarts,
    /// Groups that the rollout replaces now.
    pub(crate) replaced: &'a BTreeSet<u32>,
    /// What the leader StatefulSet is to say.
    pub target: Target,
    /// Which workers may exist.
    pub admitted: &'a BTreeMap<u32, Admitted>,
}

/// The status, the events its changes deserve, and whether every group is at the current revision and ready.
#[derive(Debug)]
pub struct Outcome {
    /// What the status should be.
    pub status: LeaderWorkerSetStatus,
    /// Events.
    pub notes: Vec<Note>,
    /// Nothing needs an older revision any more.
    pub update_done: bool,
    /// When time alone makes the status another.
    pub recheck: Option<Duration>,
}

#[derive(Debug, Default)]
struct Counts {
    ready: i32,
    updated: i32,
    ready_in_range: i32,
    window: i32,
    window_updated: i32,
    window_done: i32,
}

/// Computes the status as of `now`.
pub fn next(set: &LeaderWorkerSet, evidence: &Evidence<'_>, now: Timestamp) -> Outcome {
    let counts = count(set, evidence);
    let mut status = set.status.clone().unwrap_or_default();
    status.ready_replicas = counts.ready;
    status.updated_replicas = counts.updated;
    status.replicas = evidence.leaders;
    if status.hpa_pod_selector.is_empty() {
        status.hpa_pod_selector = names::hpa_pod_selector(set.set_name());
    }
    let generation = set.metadata.generation;
    status.observed_generation = generation;

    let mut writer = Conditions { now, generation, list: &mut status.conditions, changed: Vec::new() };
    let done = counts.window_updated == counts.window;
    if !done {
        writer.set_true(conditions::UPDATE_IN_PROGRESS, conditions::REASON_GROUPS_UPDATING, conditions::MESSAGE_GROUPS_UPDATING);
        writer.set_true(conditions::PROGRESSING, conditions::REASON_GROUPS_PROGRESSING, conditions::MESSAGE_GROUPS_PROGRESSING);
    } else if counts.ready_in_range == set.replicas() && counts.window_done == counts.window {
        writer.set_true(conditions::AVAILABLE, conditions::REASON_ALL_GROUPS_READY, conditions::MESSAGE_ALL_GROUPS_READY);
    } else {
        writer.set_true(conditions::PROGRESSING, conditions::REASON_GROUPS_PROGRESSING, conditions::MESSAGE_GROUPS_PROGRESSING);
    }
    let changed = writer.changed.first().copied();
    let pending = writer.placement(evidence);
    let failed = writer.failed(set, evidence);
    for condition in &mut status.conditions {
        condition.observed_generation = generation;
    }

    let tally = format!("with {} groups ready of total {} groups", counts.ready, set.replicas());
    let mut notes: Vec<Note> =
        changed.map(|(reason, message)| Note::normal(reason, "Update", format!("{message}, {tally}"))).into_iter().collect();
    notes.extend(pending.into_iter().chain(failed));
    let listed = groups::list(set, evidence, now);
    (status.groups, status.group_counts) = (listed.groups, listed.counts);
    notes.extend(listed.notes);
    let update_done = set.partition() == 0 && counts.window_done == set.replicas();
    Outcome { status, notes, update_done, recheck: listed.recheck }
}

fn count(set: &LeaderWorkerSet, evidence: &Evidence<'_>) -> Counts {
    let replicas = u32::try_from(set.replicas()).unwrap_or(0);
    let partition = u32::try_from(set.partition()).unwrap_or(0);
    let mut counts = Counts::default();
    for (index, group) in evidence.groups {
        let Some(leader) = group.leader else { continue };
        if expects_workers(leader, set) && group.worker_set.is_none() {
            continue;
        }
        // A group that has to start over, and may not yet or any more, is not whole, whatever its pods say.
        let ready = is_ready(group, set) && !evidence.restarts.is_due(*index);
        let updated = is_updated(group, set, evidence.revision_key);
        counts.ready += i32::from(ready);
        counts.updated += i32::from(updated);
        counts.ready_in_range += i32::from(ready && *index < replicas);
        if (partition..replicas).contains(index) {
            counts.window += 1;
            counts.window_updated += i32::from(updated);
            counts.window_done += i32::from(ready && updated);
        }
    }
    counts
}

/// Pods that the group was made for, from its leader's own annotation: a set that is being resized has groups of two sizes. A leader
/// made by hand may have none; then the set's size counts.
pub(crate) fn size_of(leader: &Pod, set: &LeaderWorkerSet) -> u32 {
    let own = pods::annotation(leader, annotation::SIZE).and_then(|size| size.parse().ok());
    own.unwrap_or_else(|| u32::try_from(set.size()).unwrap_or(1))
}

fn expects_workers(leader: &Pod, set: &LeaderWorkerSet) -> bool {
    size_of(leader, set) > 1
}

/// Leader running and ready, and every worker the group was made for available.
pub fn is_ready(group: &Group<'_>, set: &LeaderWorkerSet) -> bool {
    let Some(leader) = group.leader else { return false };
    let workers = size_of(leader, set).saturating_sub(1);
    let complete = workers == 0
        || group.workers_ready()
            && !has_predecessors_workers(group, leader)
            && group.worker_set.and_then(|workers| workers.spec.as_ref()?.replicas) == i32::try_from(workers).ok();
    pods::is_running_and_ready(leader) && complete
}

/// Whether the worker StatefulSet is that of the leader before this one, and about to go: new leader and old workers are no group.
fn has_predecessors_workers(group: &Group<'_>, leader: &Pod) -> bool {
    let maker = group.worker_set.and_then(|workers| pod_of_name(&workers.metadata, pods::name(leader)));
    maker.is_some_and(|maker| maker != pods::uid(leader))
}

/// Leader and worker StatefulSet both carry the current revision.
pub fn is_updated(group: &Group<'_>, set: &LeaderWorkerSet, revision_key: &str) -> bool {
    let Some(leader) = group.leader else { return false };
    let workers_updated = !expects_workers(leader, set)
        || group
            .worker_set
            .and_then(|workers| workers.metadata.labels.as_ref()?.get(label::REVISION))
            .is_some_and(|key| key == revision_key);
    pods::revision(leader) == Some(revision_key) && workers_updated
}

/// Puts a condition in the place of the one of its type, which is returned. One whose status stays keeps the time of its last
/// transition.
pub(crate) fn put(list: &mut Vec<Condition>, mut condition: Condition) -> Option<Condition> {
    let Some(known) = list.iter_mut().find(|known| known.type_ == condition.type_) else {
        list.push(condition);
        return None;
    };
    if known.status == condition.status {
        condition.last_transition_time = known.last_transition_time.clone();
    }
    Some(std::mem::replace(known, condition))
}

struct Conditions<'a> {
    now: Timestamp,
    generation: Option<i64>,
    list: &'a mut Vec<Condition>,
    changed: Vec<(&'static str, &'static str)>,
}

impl Conditions<'_> {
    /// Sets a condition True and those it excludes False; a flipped one keeps its reason and message, as upstream has it.
    fn set_true(&mut self, type_: &str, reason: &'static str, message: &'static str) {
        for condition in self.list.iter_mut().filter(|condition| excludes(type_, &condition.type_) && condition.status == "True")
        {
            condition.status = "False".to_owned();
            condition.last_transition_time = Time(self.now);
        }
        if self.write(type_, "True", reason, message) {
            self.changed.push((reason, message));
        }
    }

    /// Whether anything but the observed generation changed.
    fn write(&mut self, type_: &str, status: &str, reason: &str, message: &str) -> bool {
        let condition = Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            observed_generation: self.generation,
            last_transition_time: Time(self.now),
        };
        let before = put(self.list, condition);
        before.is_none_or(|before| before.status != status || before.reason != reason || before.message != message)
    }

    /// `PlacementPending`: True while a group waits; False once none does, but only where it was ever True or Muster places.
    fn placement(&mut self, evidence: &Evidence<'_>) -> Option<Note> {
        const PLACED: &str = "AllGroupsPlaced";
        if let Some((_, first)) = evidence.pending.iter().next() {
            let message = pending_message(evidence.pending, evidence.groups.len());
            let changed = self.write(conditions::PLACEMENT_PENDING, "True", &first.code, &message);
            return changed.then(|| Note::warning(conditions::PLACEMENT_PENDING, "Place", message));
        }
        let known = self.list.iter().any(|condition| condition.type_ == conditions::PLACEMENT_PENDING);
        if !known && !evidence.placed {
            return None;
        }
        let changed = self.write(conditions::PLACEMENT_PENDING, "False", PLACED, "No group waits for placement");
        (changed && known).then(|| Note::normal(PLACED, "Place", "No group waits for placement any more"))
    }
}

impl Conditions<'_> {
    /// `GroupsFailed`: True while a group has used up its budget of restarts; False once none has any more.
    fn failed(&mut self, set: &LeaderWorkerSet, evidence: &Evidence<'_>) -> Option<Note> {
        let failed = &evidence.restarts.failed;
        let Some((first, loss)) = failed.iter().next() else {
            let known = self.list.iter().any(|condition| condition.type_ == conditions::GROUPS_FAILED);
            let changed = known && self.write(conditions::GROUPS_FAILED, "False", "NoGroupFailed", "No group has failed");
            return changed.then(|| Note::normal("NoGroupFailed", "Restart", "No group has failed any more"));
        };
        let indices: Vec<String> = failed.keys().map(u32::to_string).collect();
        let word = if indices.len() == 1 { "Group" } else { "Groups" };
        let remedy = crate::restart::remedy(&format!("{}-{first}", set.set_name()));
        let listed = crate::text::truncated(&indices.join(", "), 1024);
        let message = format!("{word} {listed} used up the budget of restarts. Group {first}: {}. {remedy}", loss.why);
        self.write(conditions::GROUPS_FAILED, "True", groups::BUDGET_USED_UP, &crate::text::truncated(&message, 4096));
        None
    }
}

fn excludes(one: &str, other: &str) -> bool {
    let ongoing = |type_: &str| type_ == conditions::PROGRESSING || type_ == conditions::UPDATE_IN_PROGRESS;
    one == conditions::AVAILABLE && ongoing(other) || ongoing(one) && other == conditions::AVAILABLE
}

/// Groups that wait for the same reason are named together; the text stays within what a condition may hold.
fn pending_message(pending: &BTreeMap<u32, Reason>, total: usize) -> String {
    let mut by_message: Vec<(&str, Vec<String>)> = Vec::new();
    for (index, reason) in pending {
        match by_message.iter_mut().find(|(message, _)| *message == reason.message) {
            Some((_, indices)) => indices.push(index.to_string()),
            None => by_message.push((&reason.message, vec![index.to_string()])),
        }
    }
    let mut text = format!("{} of {total} groups wait for placement", pending.len());
    for (message, indices) in by_message {
        let word = if indices.len() == 1 { "group" } else { "groups" };
        text.push_str(&format!("; {word} {}: {message}", indices.join(", ")));
        if text.len() > 4096 {
            break;
        }
    }
    crate::text::truncated(&text, 4096)
}
