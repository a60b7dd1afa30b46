//! How a rollout sees each group.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::jiff::Timestamp;
use muster_api::LeaderWorkerSet;

use super::leader_set_now;
use crate::observed::Group;
use crate::plan::Plan;
use crate::pods;
use crate::restart::{self, History, Verdict};
use crate::rollout::GroupState;
use crate::status;
use crate::trouble::{self, Outlook};

/// The states of the groups that the leader StatefulSet asks for.
pub(super) fn of(
    set: &LeaderWorkerSet,
    leader_set: Option<&StatefulSet>,
    revision_key: &str,
    groups: &BTreeMap<u32, Group<'_>>,
    now: Timestamp,
    plan: &mut Plan,
) -> Vec<GroupState> {
    let Some(current) = leader_set.map(leader_set_now) else { return Vec::new() };
    let history = History::of(leader_set);
    let mut state = |index: u32| {
        let Some(group) = groups.get(&index) else { return GroupState::MISSING };
        let (ready, updated) = (stays_ready(set, group), status::is_updated(group, set, revision_key));
        if ready || updated {
            return GroupState { ready, updated, stuck: false };
        }
        let failed = group.live_leader().is_some_and(|leader| history.has_failed(index, pods::uid(leader)));
        let stuck = failed
            || match trouble::outlook(group, now) {
                Outlook::Hopeless => true,
                Outlook::Open(until) => {
                    // Time alone makes it stuck, and no event would bring back an update that waits for it.
                    if current.partition > 0 {
                        plan.requeue_within(until);
                    }
                    false
                }
            };
        GroupState { ready, updated, stuck }
    };
    (0..current.replicas).map(&mut state).collect()
}

/// A leader on its way out may be ready for as long as its grace lasts, and so may one that is about to be deleted because its group
/// has lost a member: no other group may go on the strength of that.
fn stays_ready(set: &LeaderWorkerSet, group: &Group<'_>) -> bool {
    let leaves = || group.live_leader().is_none() || matches!(restart::judge(set, group), Verdict::StartOver(_));
    status::is_ready(group, set) && !leaves()
}
