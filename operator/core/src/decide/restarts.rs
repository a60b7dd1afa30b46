//! Which groups start over now, which wait and which have failed.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use muster_api::LeaderWorkerSet;
use muster_api::conditions::event;
use muster_api::names::annotation;

use crate::observed::{Group, Observed};
use crate::plan::{Note, Plan, Write};
use crate::pods;
use crate::restart::{self, Entry, History, Loss, Permit, Verdict};

/// What restarts mean to the groups of a set.
#[derive(Debug, Default)]
pub(crate) struct Restarts {
    /// Groups that start over in this reconcile.
    pub(crate) begun: BTreeMap<u32, Loss>,
    /// Groups that have to, but not yet: they did so not long ago.
    pub(crate) waiting: BTreeMap<u32, Loss>,
    /// Groups that may not any more.
    pub(crate) failed: BTreeMap<u32, Loss>,
    /// How often which group has started over.
    pub(crate) history: History,
}

impl Restarts {
    /// Whether the group has lost a member and still stands.
    pub(crate) fn is_due(&self, group: u32) -> bool {
        self.waiting.contains_key(&group) || self.failed.contains_key(&group)
    }
}

/// Restarts the groups whose restart policy says so. All of a group goes: its leader is deleted after its dependents, and a new group
/// begins with its successor. What is written down comes first, so that a restart counts once whenever the operator dies.
pub(super) fn decide(
    set: &LeaderWorkerSet,
    observed: &Observed,
    groups: &BTreeMap<u32, Group<'_>>,
    replaced: &BTreeSet<u32>,
    now: Timestamp,
    plan: &mut Plan,
) -> Restarts {
    let leader_set = observed.leader_set(set);
    let mut restarts = Restarts { history: History::of(leader_set), ..Restarts::default() };
    let mut entries = BTreeMap::new();
    let mut written = Vec::new();
    let mut deletions = Plan::default();
    for (index, group) in groups {
        let own = |leader: &&Pod| pods::annotation(leader, annotation::LEADER_NAME).is_none() && !replaced.contains(index);
        let Some(leader) = group.live_leader().filter(own) else { continue };
        let Some(loss) = lost(set, group, leader, &restarts.history, plan) else { continue };
        let revision = pods::revision(leader).unwrap_or_default();
        match restarts.history.ask(*index, pods::uid(leader), revision, set.max_group_restarts(), now) {
            Permit::Again => start_over(group, leader, &loss, &mut deletions),
            Permit::Granted(entry) => {
                entries.insert(*index, Entry { bereft: is_bereft(group, leader), ..entry });
                written.push(cause(*index, group, leader, &loss));
                start_over(group, leader, &loss, &mut deletions);
            }
            Permit::Wait(pause) => {
                plan.requeue_within(pause);
                restarts.waiting.insert(*index, loss);
                continue;
            }
            Permit::Refused(entry) => {
                if let Some(entry) = entry {
                    written.push(failure(*index, leader, &loss, entry.times));
                    entries.insert(*index, entry);
                }
                restarts.failed.insert(*index, loss);
                continue;
            }
        }
        restarts.begun.insert(*index, loss);
    }
    if !entries.is_empty() {
        // A group of which nothing is there at the moment is a group all the same.
        let wanted = leader_set.map_or(0, |existing| super::leader_set_now(existing).replicas);
        let own = u32::try_from(set.replicas()).unwrap_or(0).max(wanted);
        let last = groups.keys().next_back().map_or(0, |last| last + 1);
        restarts.history = restarts.history.with(entries, last.max(own), now);
        let write = Write::RecordRestarts { name: set.set_name().to_owned(), history: restarts.history.render() };
        plan.push(write, None, None);
        plan.steps.last_mut().into_iter().for_each(|step| step.done = std::mem::take(&mut written));
    }
    plan.steps.append(&mut deletions.steps);
    restarts
}

/// What the group has lost, if it has to start over for it. Members are written down on the way.
fn lost(set: &LeaderWorkerSet, group: &Group<'_>, leader: &Pod, history: &History, plan: &mut Plan) -> Option<Loss> {
    match restart::judge(set, group) {
        Verdict::StartOver(loss) => return Some(loss),
        Verdict::Fine => {}
        Verdict::Remember(members) => {
            let (on, uid) = restart::register(group, leader);
            let (name, uid) = (pods::name(leader).to_owned(), uid.to_owned());
            plan.push(Write::RecordMembers { on, name, uid, members }, None, None);
        }
    }
    // A lost member that was replaced in the meantime leaves no trace but this: its group has failed, or was about to go when the
    // operator died.
    let (index, uid) = (group.index, pods::uid(leader));
    let lost = restart::recreates(set) && (history.has_failed(index, uid) || history.must_go(index, uid));
    lost.then(|| Loss { pod: pods::name(leader).to_owned(), why: "it has lost a member before".to_owned() })
}

/// Whether the group has had workers and its worker StatefulSet isn't there, as far as the caches know.
fn is_bereft(group: &Group<'_>, leader: &Pod) -> bool {
    group.worker_set.is_none() && pods::annotation(leader, annotation::MEMBERS).is_some()
}

fn start_over(group: &Group<'_>, leader: &Pod, loss: &Loss, plan: &mut Plan) {
    let (name, uid) = (pods::name(leader).to_owned(), pods::uid(leader).to_owned());
    let note = restart::note(&loss.pod, &name, group.index);
    let done = Note::normal(event::RECREATE_GROUP, "Delete", note).about(leader);
    let write = if is_bereft(group, leader) {
        Write::DeleteBereftLeader { name, uid }
    } else {
        Write::DeleteLeader { name, uid, resource_version: None }
    };
    plan.push(write, Some(done), None);
}

/// Says why; upstream's event, which follows, says only which pod.
fn cause(index: u32, group: &Group<'_>, leader: &Pod, loss: &Loss) -> Note {
    let lost = group.pods().map(|(_, pod)| pod).find(|pod| pods::name(pod) == loss.pod);
    Note::warning(event::GROUP_RESTARTING, "Restart", format!("Group {index} starts over: {}", loss.why))
        .about(lost.unwrap_or(leader))
}

fn failure(index: u32, leader: &Pod, loss: &Loss, times: u32) -> Note {
    let restarts = if times == 1 { "restart" } else { "restarts" };
    let text = format!(
        "Group {index} has failed after {times} {restarts} and is not started over again: {}. {}",
        loss.why,
        restart::remedy(pods::name(leader))
    );
    Note::warning(event::GROUP_FAILED, "Restart", text).about(leader)
}
