//! When a group has to start over: restart as a unit.
//!
//! The rules are upstream's (`reference` §2.6); the way a lost member is noticed is not. Upstream reacts to the deletion of a pod it
//! still sees, and misses one that its StatefulSet has replaced by then (upstream #998): the group is left half old, half new.
//! Here the workers of a group are written on its leader (or its worker StatefulSet, if upstream made it) as soon as they run, and a group whose workers are others than those
//! starts over, however they were lost and whoever was looking. A worker that never ran leaves nothing half done.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use muster_api::LeaderWorkerSet;
use muster_api::leader_worker_set::RestartPolicyType;
use muster_api::names::annotation;

use crate::drift;
use crate::observed::Group;
use crate::owner::{controller, is_controlled_by};
use crate::plan::Register;
use crate::pods;
use crate::status::size_of;
use crate::trouble;

mod history;
mod unseen;

pub use history::{Entry, History, Permit};

/// What the restart policy makes of a group as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing to do.
    Fine,
    /// The group's members should be written down with this value.
    Remember(String),
    /// The group starts over.
    StartOver(Loss),
}

/// The pod that a group starts over for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Name of the pod that failed, was deleted or was replaced.
    pub pod: String,
    /// What happened to it, in words.
    pub why: String,
}

/// Workers by rank, with the first 32 bits of their UIDs: enough to tell two pods of one name apart, and thousands fit an annotation.
type Members = BTreeMap<u32, String>;

/// Judges one group.
pub fn judge(set: &LeaderWorkerSet, group: &Group<'_>) -> Verdict {
    // A leader on its way out takes its group along; what comes after is another group.
    let Some(leader) = group.live_leader() else { return Verdict::Fine };
    let patient = waits_for_start(set);
    let started = !patient || has_started(set, group, leader);
    let recreates = recreates(set);
    if recreates
        && started
        && let Some(pod) = failed(set, group, leader)
    {
        return Verdict::StartOver(Loss { pod: pods::name(pod).to_owned(), why: trouble::loss(pod) });
    }
    let known = written_down(group, leader).map(read).unwrap_or_default();
    if group.worker_set.is_none() {
        // The workers that were there are gone with their StatefulSet, and a new one would make strangers to this leader.
        // Unless they were left behind on purpose (`--cascade=orphan`): the next StatefulSet takes those in as they are.
        let bereft = recreates && !known.is_empty() && left_behind(group, leader) != known;
        let loss = || Loss { pod: format!("{}-1", pods::name(leader)), why: "its worker StatefulSet was deleted".to_owned() };
        return if bereft { Verdict::StartOver(loss()) } else { Verdict::Fine };
    }
    let present = present(set, group, leader);
    if recreates && let Some(loss) = missed(&known, &present, group).filter(|loss| !patient || loss.replaced) {
        let pod = format!("{}-{}", pods::name(leader), loss.rank);
        let why = if loss.replaced { "was replaced by another" } else { "is gone" };
        return Verdict::StartOver(Loss { why: format!("pod {pod} {why}"), pod });
    }
    if recreates
        && !patient
        && let Some(pod) = unseen::successor(group, leader, &known, &present)
    {
        return Verdict::StartOver(Loss { why: format!("pod {pod} was made long after the others"), pod });
    }
    let mut members = known.clone();
    if started {
        members.extend(worth_noting(set, group, leader, present));
    }
    if members == known { Verdict::Fine } else { Verdict::Remember(write(&members)) }
}

/// The members as they are written down, on the leader or on its worker StatefulSet.
fn written_down<'a>(group: &Group<'a>, leader: &'a Pod) -> Option<&'a str> {
    let workers = || group.worker_set.filter(|workers| is_controlled_by(&workers.metadata, leader.metadata.uid.as_deref()));
    pods::annotation(leader, annotation::MEMBERS).or_else(|| {
        let annotations = workers()?.metadata.annotations.as_ref()?;
        annotations.get(annotation::MEMBERS).map(String::as_str)
    })
}

/// Where the group's members are to be written down: the place, and the UID of the object.
pub(crate) fn register<'a>(group: &Group<'a>, leader: &'a Pod) -> (Register, &'a str) {
    let on_leader = || pods::annotation(leader, annotation::MEMBERS).is_some();
    let adopted = group.worker_set.filter(|workers| !drift::is_marked(workers) && !on_leader());
    match adopted.and_then(|workers| workers.metadata.uid.as_deref()) {
        Some(uid) => (Register::WorkerSet, uid),
        None => (Register::Leader, pods::uid(leader)),
    }
}

/// Whether the set's restart policy ever takes a whole group.
pub(crate) fn recreates(set: &LeaderWorkerSet) -> bool {
    match set.restart_policy() {
        RestartPolicyType::None | RestartPolicyType::Default => false,
        RestartPolicyType::RecreateGroupOnPodRestart | RestartPolicyType::RecreateGroupAfterStart => true,
    }
}

/// The first pod of the group that has failed: deleted, or with a container that was restarted.
fn failed<'a>(set: &LeaderWorkerSet, group: &Group<'a>, leader: &'a Pod) -> Option<&'a Pod> {
    // Pods beyond the group's size are there because somebody raised the replicas of its workers; they are taken away again.
    let size = size_of(leader, set);
    group.pods().filter(|(rank, _)| *rank == 0 || *rank < size).map(|(_, pod)| pod).find(|pod| {
        let own = std::ptr::eq(*pod, leader) || is_member(group, leader, pod);
        own && (pods::is_deleting(pod) || has_restarted(pod))
    })
}

/// A pod that ended for good is not a restart; its deletion will be.
fn has_restarted(pod: &Pod) -> bool {
    matches!(pods::phase_text(pod), "Running" | "Pending") && pods::restarts(pod) > 0
}

/// Whether a pod belongs to this incarnation of the group: made from its leader's revision by its worker StatefulSet, and that by its
/// leader; or by the leader itself, as pods made by hand may be. Anything else belongs to a group that is on its way out
/// (upstream #804).
fn is_member(group: &Group<'_>, leader: &Pod, worker: &Pod) -> bool {
    let leaders_own = |metadata| is_controlled_by(metadata, leader.metadata.uid.as_deref());
    let by_set = group.worker_set.is_some_and(|workers| {
        is_controlled_by(&worker.metadata, workers.metadata.uid.as_deref()) && leaders_own(&workers.metadata)
    });
    pods::revision(worker) == pods::revision(leader) && (by_set || leaders_own(&worker.metadata))
}

/// Whether failures before the whole group runs are forgiven.
fn waits_for_start(set: &LeaderWorkerSet) -> bool {
    set.restart_policy() == RestartPolicyType::RecreateGroupAfterStart
        || set.annotation(annotation::RECREATE_AFTER_START).is_some()
}

fn has_started(set: &LeaderWorkerSet, group: &Group<'_>, leader: &Pod) -> bool {
    let expected = usize::try_from(size_of(leader, set)).unwrap_or(usize::MAX);
    group.pods().count() == expected && group.pods().all(|(_, pod)| pods::phase_text(pod) != "Pending")
}

/// The group's own workers, without those that are leaving.
fn present(set: &LeaderWorkerSet, group: &Group<'_>, leader: &Pod) -> Members {
    let size = size_of(leader, set);
    let stays = |worker: &Pod| is_member(group, leader, worker) && !pods::is_deleting(worker);
    let staying = group.workers.iter().filter(|(rank, worker)| **rank < size && stays(worker));
    staying.map(|(rank, worker)| (*rank, short_uid(worker))).collect()
}

/// Workers that no StatefulSet answers for, only their leader or nobody, and that are not leaving.
fn left_behind(group: &Group<'_>, leader: &Pod) -> Members {
    let leaders_own = |worker: &Pod| is_controlled_by(&worker.metadata, leader.metadata.uid.as_deref());
    let left = |worker: &Pod| (controller(&worker.metadata).is_none() || leaders_own(worker)) && !pods::is_deleting(worker);
    let left = group.workers.iter().filter(|(_, worker)| left(worker));
    left.map(|(rank, worker)| (*rank, short_uid(worker))).collect()
}

fn short_uid(pod: &Pod) -> String {
    pods::uid(pod).chars().take(8).collect()
}

/// The members to write down: all once the group is complete, and before that those that run, because others may rely on them.
fn worth_noting(set: &LeaderWorkerSet, group: &Group<'_>, leader: &Pod, present: Members) -> Members {
    let complete = present.len() == size_of(leader, set).saturating_sub(1) as usize;
    let runs = |rank: &u32| group.workers.get(rank).is_some_and(|worker| pods::phase_text(worker) != "Pending");
    present.into_iter().filter(|(rank, _)| complete || runs(rank)).collect()
}

/// A member whose end nobody has seen.
struct Missed {
    rank: u32,
    replaced: bool,
}

/// The first rank that is held by another pod than the one written down, or by none any more: pods that were never bound, and those
/// that are deleted by force, are gone at once, and who makes their successors may take his time.
fn missed(known: &Members, present: &Members, group: &Group<'_>) -> Option<Missed> {
    known.iter().find_map(|(rank, uid)| match present.get(rank) {
        Some(now) => (now != uid).then_some(Missed { rank: *rank, replaced: true }),
        None => (!group.workers.contains_key(rank)).then_some(Missed { rank: *rank, replaced: false }),
    })
}

fn read(text: &str) -> Members {
    let entries = text.split(',').filter_map(|entry| entry.split_once('='));
    entries.filter_map(|(rank, uid)| Some((rank.parse().ok()?, uid.to_owned()))).collect()
}

fn write(members: &Members) -> String {
    members.iter().map(|(rank, uid)| format!("{rank}={uid}")).collect::<Vec<_>>().join(",")
}

/// The event's text, as upstream words it (also when the pod is the leader itself).
pub(crate) fn note(because: &str, leader: &str, group: u32) -> String {
    format!("Worker pod {because} failed, deleted leader pod {leader} to recreate group {group}")
}

/// What to do about a group that has failed.
pub(crate) fn remedy(leader: &str) -> String {
    format!(
        "Correct the template, raise the set's annotation {} or delete pod {leader}, and it goes on",
        annotation::MAX_GROUP_RESTARTS
    )
}

#[cfg(test)]
mod tests;
