//! What the status says of each group, and of all together.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use muster_api::conditions::event;
use muster_api::group_status::MOST_LISTED;
use muster_api::{GroupCounts, GroupPhase, GroupStatus, LeaderWorkerSet, names};

use super::{Evidence, is_ready};
use crate::observed::Group;
use crate::plan::Note;
use crate::pods;
use crate::record::Record;
use crate::restart;
use crate::text::truncated;
use crate::trouble;

/// Longest message about one group.
const MESSAGE: usize = 256;

/// Reason of a group that has used up its budget of restarts.
pub(super) const BUDGET_USED_UP: &str = "RestartBudgetUsedUp";
/// Reason of a group that waits before it starts over once more.
const BACK_OFF: &str = "BackOff";
/// Reason of a group that starts over.
const MEMBER_LOST: &str = "MemberLost";
/// Reason of a group whose leader pod doesn't exist.
const LEADER_MISSING: &str = "LeaderMissing";

/// The groups of a status.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) groups: Vec<GroupStatus>,
    pub(super) counts: GroupCounts,
    pub(super) notes: Vec<Note>,
    /// When time alone changes what is said.
    pub(super) recheck: Option<Duration>,
}

/// Why a group is not ready: a word and a sentence.
type Why = (String, String);

/// Lists the groups that should exist, and those that do.
pub(super) fn list(set: &LeaderWorkerSet, evidence: &Evidence<'_>, now: Timestamp) -> Listed {
    let view = View { set, evidence, now };
    let wanted = 0..u32::try_from(set.replicas()).unwrap_or(0);
    let indices: BTreeSet<u32> = wanted.chain(evidence.groups.keys().copied()).collect();
    let mut counts = GroupCounts::default();
    let mut phases: Vec<(GroupPhase, u32)> = indices.into_iter().map(|index| (view.phase(index), index)).collect();
    phases.iter().for_each(|(phase, _)| counts.add(*phase));
    phases.sort_unstable();
    phases.truncate(MOST_LISTED);
    let before: BTreeMap<i32, &GroupStatus> =
        set.status.iter().flat_map(|status| &status.groups).map(|group| (group.index, group)).collect();
    let groups: Vec<GroupStatus> = phases.into_iter().map(|(phase, index)| view.status(phase, index, &before)).collect();
    let is_news = |group: &&GroupStatus| {
        let known = before.get(&group.index).and_then(|before| before.reason.as_deref());
        group.reason.as_deref() == Some(event::TERMINATION_BLOCKED) && known != Some(event::TERMINATION_BLOCKED)
    };
    let notes = groups.iter().filter(is_news).map(|group| view.blocked_note(group)).collect();
    Listed { counts, notes, recheck: view.next_overdue(), groups }
}

/// What is known of one set's groups.
struct View<'a> {
    set: &'a LeaderWorkerSet,
    evidence: &'a Evidence<'a>,
    now: Timestamp,
}

impl View<'_> {
    fn group(&self, index: u32) -> Option<&Group<'_>> {
        self.evidence.groups.get(&index)
    }

    fn phase(&self, index: u32) -> GroupPhase {
        let Evidence { restarts, pending, replaced, .. } = self.evidence;
        let Some(group) = self.group(index) else { return GroupPhase::Pending };
        let Some(leader) = group.leader else {
            // What a leader has left behind goes before the next one comes.
            return if group.worker_set.is_none() && group.workers.is_empty() {
                GroupPhase::Pending
            } else {
                GroupPhase::Terminating
            };
        };
        if restarts.failed.contains_key(&index) {
            GroupPhase::Failed
        } else if restarts.begun.contains_key(&index) || restarts.waiting.contains_key(&index) {
            GroupPhase::Restarting
        } else if replaced.contains(&index) {
            GroupPhase::Updating
        } else if pods::is_deleting(leader) {
            self.departure(index, leader)
        } else if is_ready(group, self.set) {
            GroupPhase::Ready
        } else if pending.contains_key(&index) {
            GroupPhase::Pending
        } else {
            GroupPhase::Starting
        }
    }

    fn departure(&self, index: u32, leader: &Pod) -> GroupPhase {
        let target = self.evidence.target;
        let outdated = pods::revision(leader) != Some(self.evidence.revision_key);
        if self.evidence.restarts.history.is_leaving(index, pods::uid(leader)) {
            GroupPhase::Restarting
        } else if outdated && (target.partition..target.replicas).contains(&index) {
            GroupPhase::Updating
        } else {
            GroupPhase::Terminating
        }
    }

    fn status(&self, phase: GroupPhase, index: u32, before: &BTreeMap<i32, &GroupStatus>) -> GroupStatus {
        let group = self.group(index);
        let leader = group.and_then(|group| group.leader);
        let revision = leader.and_then(pods::revision).map(str::to_owned);
        let number = i32::try_from(index).unwrap_or(i32::MAX);
        let mut why = if phase == GroupPhase::Ready { None } else { self.blocked(index).or_else(|| self.why(phase, index)) };
        if why.is_none() && phase == GroupPhase::Restarting {
            // What the group has lost is known only as long as its leader stands.
            let said = before.get(&number).filter(|before| before.phase == GroupPhase::Restarting);
            why = said.and_then(|before| before.reason.clone().zip(before.message.clone()));
        }
        let (reason, message) = why.unzip();
        let times = leader.map_or(0, |leader| {
            self.evidence.restarts.history.times(index, pods::uid(leader), revision.as_deref().unwrap_or_default())
        });
        GroupStatus {
            index: number,
            phase,
            reason,
            message: message.map(|message| truncated(&message, MESSAGE)),
            restarts: i32::try_from(times).unwrap_or(i32::MAX),
            domain: leader.and_then(Record::of).and_then(|record| record.domain),
            revision,
        }
    }

    fn why(&self, phase: GroupPhase, index: u32) -> Option<Why> {
        let Evidence { restarts, pending, admitted, .. } = self.evidence;
        let said = |reason: &str, message: &str| Some((reason.to_owned(), message.to_owned()));
        let leader = names::leader_pod(self.set.set_name(), i32::try_from(index).ok()?);
        if let Some(loss) = restarts.failed.get(&index) {
            return said(BUDGET_USED_UP, &format!("{}. {}", loss.why, restart::remedy(&leader)));
        }
        if let Some(loss) = restarts.waiting.get(&index) {
            return said(BACK_OFF, &format!("{}; it starts over after a pause, because it did so not long ago", loss.why));
        }
        if let Some(loss) = restarts.begun.get(&index) {
            return said(MEMBER_LOST, &loss.why);
        }
        if let Some(reason) = pending.get(&index) {
            return said(&reason.code, &reason.message);
        }
        let group = self.group(index);
        if phase == GroupPhase::Pending {
            return said(LEADER_MISSING, &format!("pod {leader} does not exist yet"));
        }
        let trouble = group?.pods().find_map(|(_, pod)| trouble::of(pod));
        if let Some(trouble) = trouble {
            return Some((trouble.reason, trouble.message));
        }
        let waits = admitted.get(&index).and_then(|admitted| admitted.reason.as_ref());
        waits.filter(|_| phase == GroupPhase::Starting).and_then(|reason| said(&reason.code, &reason.message))
    }

    /// The pod that holds up what has to go before the group can come back.
    fn blocked(&self, index: u32) -> Option<Why> {
        let group = self.group(index)?;
        let overdue = |pod: &&Pod| trouble::overdue(pod, self.now) == Some(Ok(()));
        // A leader that is deleted with its group stays until the last of it is gone; it holds up nothing.
        let pod = group.workers.values().copied().find(overdue);
        let pod = pod.or_else(|| group.leader.filter(|leader| group.workers.is_empty() && overdue(leader)))?;
        let place = pods::node(pod).map(|node| format!(" on node {node}")).unwrap_or_default();
        let message = format!(
            "pod {}{place} should be gone by now and holds its group up. If the node is lost, taint it with \
             node.kubernetes.io/out-of-service=nodeshutdown:NoExecute, or delete the pod with --force",
            pods::name(pod)
        );
        Some((event::TERMINATION_BLOCKED.to_owned(), message))
    }

    fn blocked_note(&self, status: &GroupStatus) -> Note {
        let text = format!("Group {}: {}", status.index, status.message.as_deref().unwrap_or_default());
        let note = Note::warning(event::TERMINATION_BLOCKED, "Delete", text);
        let leader = u32::try_from(status.index).ok().and_then(|index| self.group(index)).and_then(|group| group.leader);
        leader.map_or_else(|| note.clone(), |leader| note.clone().about(leader))
    }

    /// When the next pod that is being deleted will hold its group up.
    fn next_overdue(&self) -> Option<Duration> {
        let pods = self.evidence.groups.values().flat_map(|group| group.pods());
        pods.filter_map(|(_, pod)| trouble::overdue(pod, self.now)?.err()).min()
    }
}
