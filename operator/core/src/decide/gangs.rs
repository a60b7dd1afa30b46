//! The PodGroup of each group, and when its pods may be one gang.

use k8s_openapi::api::core::v1::Pod;
use muster_api::conditions::event;
use muster_api::leader_worker_set::StartupPolicyType;
use serde_json::Value;

use super::foreign;
use super::groups::Inputs;
use super::workers::template_of;
use crate::advice::Placement;
use crate::gang::{self, PodGroup, Provider};
use crate::observed::Group;
use crate::owner::{is_controlled_by, pod_of_name};
use crate::plan::{Note, Plan, Write};
use crate::pods;
use crate::record::{Standing, standing};
use crate::status::size_of;

/// What gang scheduling says about one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gang {
    /// Its workers may be created.
    Ready,
    /// Its workers have to wait for the PodGroup.
    Missing,
    /// It starts over, as another gang.
    Leaving,
}

/// Creates the group's PodGroup, or puts it right.
pub(super) fn ensure(inputs: &Inputs<'_>, group: &Group<'_>, leader: &Pod, plan: &mut Plan) -> Gang {
    let provider = inputs.observed.gangs.map(|gangs| gangs.provider);
    if provider != Some(Provider::Kubernetes) && gang::own_name(leader).is_some() && pods::node(leader).is_none() {
        return start_over(leader, "gang scheduling by kube-scheduler was switched off", plan);
    }
    let advised = inputs.advice.placements.get(&group.index);
    let let_go = matches!(advised, Some(Placement::Place(_) | Placement::Release { .. }));
    // A group without a place holds nothing, and one that is about to be placed again will be another gang.
    if matches!(advised, Some(Placement::Again(_))) || (pods::is_gated(leader) && !let_go) {
        return Gang::Ready;
    }
    match provider {
        None => Gang::Ready,
        Some(Provider::Volcano) => volcano(inputs, group, leader, plan),
        Some(Provider::Kubernetes) => {
            let min_count = min_member(inputs, leader, advised, size_of(leader, inputs.set));
            kubernetes(inputs, group, leader, min_count, plan)
        }
    }
}

/// How many pods of the group must find a node together: all of them, or only the leader when the others are created after it
/// runs or is bound. A gang that waited for those would wait for ever.
fn min_member(inputs: &Inputs<'_>, leader: &Pod, advised: Option<&Placement>, size: u32) -> u32 {
    let at_once = inputs.set.startup_policy() == StartupPolicyType::LeaderCreated && inputs.choice.startup.is_none();
    let follow_leader = match standing(leader, inputs.choice) {
        Standing::Free | Standing::Placed(_) => false,
        Standing::Waiting => matches!(advised, Some(Placement::Release { .. })),
        Standing::Released(_) | Standing::Bound { .. } | Standing::Loose => true,
    };
    if at_once && !follow_leader { size } else { 1 }
}

fn volcano(inputs: &Inputs<'_>, group: &Group<'_>, leader: &Pod, plan: &mut Plan) -> Gang {
    let Inputs { set, observed, current, .. } = *inputs;
    if !is_served(inputs, group.worker_set.is_none(), plan) {
        // As upstream, whose reconcile of the leader fails before it creates workers. What runs goes on.
        return if group.worker_set.is_some() { Gang::Ready } else { Gang::Missing };
    }
    // Upstream doesn't look for the revision here. While it is not known the live spec has to do, and is put right afterwards.
    let restored = template_of(set, observed, leader, current).unwrap_or_else(|| set.clone());
    let size = u32::try_from(restored.size()).unwrap_or(1);
    let min_member = min_member(inputs, leader, inputs.advice.placements.get(&group.index), size);
    let wanted = gang::volcano(set, &restored, leader, min_member);
    create_or_repair(inputs, leader, wanted, &gang::volcano_name(leader), plan);
    Gang::Ready
}

fn kubernetes(inputs: &Inputs<'_>, group: &Group<'_>, leader: &Pod, min_count: u32, plan: &mut Plan) -> Gang {
    // The scheduler may have been quicker than we: a group whose workers are still to come is as new as one whose leader is unbound.
    let fresh = pods::node(leader).is_none() || (group.worker_set.is_none() && size_of(leader, inputs.set) > 1);
    let served = is_served(inputs, fresh, plan);
    // A leader that was admitted while there was no such API is scheduled by itself, and so are its workers.
    let Some(name) = gang::own_name(leader).filter(|_| served) else { return Gang::Ready };
    let existing = inputs.observed.pod_groups.get(name).filter(|existing| is_ours(existing, leader));
    if pods::node(leader).is_none() && existing.is_some_and(|existing| existing.min_count() > min_count) {
        return start_over(leader, "its gang waits for members that are only created once the leader runs", plan);
    }
    create_or_repair(inputs, leader, gang::kubernetes(name, leader, min_count), name, plan);
    Gang::Ready
}

/// Whether the API server serves the provider's PodGroups; if not, and if it `matters` to this group, the set says so.
fn is_served(inputs: &Inputs<'_>, matters: bool, plan: &mut Plan) -> bool {
    let Some(gangs) = inputs.observed.gangs else { return false };
    let known = |plan: &Plan| plan.notes.iter().any(|note| note.reason == event::GANG_UNAVAILABLE);
    if !gangs.served && matters && !known(plan) {
        let (kind, remedy) = (gangs.provider.api_version(), gangs.provider.remedy());
        let consequence = match gangs.provider {
            Provider::Volcano => "workers of new groups are not created",
            Provider::Kubernetes => "pods of new groups are scheduled one by one",
        };
        plan.notes.push(Note::warning(
            event::GANG_UNAVAILABLE,
            "Create",
            format!("This cluster does not serve PodGroups of {kind}, so {consequence}: {remedy}, or switch gang scheduling off"),
        ));
    }
    gangs.served
}

fn is_ours(existing: &PodGroup, leader: &Pod) -> bool {
    is_controlled_by(&existing.metadata, leader.metadata.uid.as_deref())
}

fn create_or_repair(inputs: &Inputs<'_>, leader: &Pod, wanted: Value, name: &str, plan: &mut Plan) {
    let leader_name = pods::name(leader);
    let api_version = inputs.observed.gangs.map_or("", |gangs| gangs.provider.api_version());
    let failed = |verb: &str| {
        let text = format!("Failed to {verb} PodGroup {name} for leader pod {leader_name}");
        Some(Note::warning(event::FAILED_CREATE, "Create", text).about(leader))
    };
    match inputs.observed.pod_groups.get(name) {
        None => plan.push(Write::CreatePodGroup(wanted), None, failed("create")),
        // One that upstream made says what it should in upstream's words, from the set as it was then.
        Some(existing) if is_ours(existing, leader) && !existing.is_made_by_muster() => {}
        Some(existing) if is_ours(existing, leader) => {
            let leaving = existing.metadata.deletion_timestamp.is_some();
            let Some((patch, fields)) = gang::repair(&wanted, existing).filter(|_| !leaving) else { return };
            let text = format!("PodGroup {name} was not as it should be; put right: {fields}");
            let done = Note::normal(event::REPAIRED, "Update", text).about(leader);
            let write = Write::RepairPodGroup { api_version, name: name.to_owned(), patch };
            plan.push(write, Some(done), failed("repair"));
        }
        // The PodGroup of the leader's predecessor goes away by garbage collection; its deletion brings us back.
        Some(existing) if pod_of_name(&existing.metadata, leader_name).is_some() => {}
        Some(existing) => plan.taken.push(foreign::object(api_version, "PodGroup", &existing.metadata)),
    }
}

/// Deletes a leader that is not bound, and that can't be as it stands: which gang a pod belongs to is settled when it is created.
fn start_over(leader: &Pod, because: &str, plan: &mut Plan) -> Gang {
    let name = pods::name(leader).to_owned();
    let text = format!("Deleted leader pod {name}, which was not bound, to begin its group again: {because}");
    let done = Note::normal(event::GANG_CHANGED, "Delete", text).about(leader);
    // It must not have been bound since.
    let resource_version = leader.metadata.resource_version.clone();
    plan.push(Write::DeleteLeader { name, uid: pods::uid(leader).to_owned(), resource_version }, Some(done), None);
    Gang::Leaving
}

#[cfg(test)]
mod tests;
