//! Headless services: the set's, and each group's.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, Service};
use muster_api::LeaderWorkerSet;
use muster_api::conditions::event;
use muster_api::leader_worker_set::SubdomainPolicy;
use serde_json::Value;

use super::workers::template_of;
use super::{foreign, revisions};
use crate::backend;
use crate::drift::{self, ServiceDrift};
use crate::observed::{Group, Observed};
use crate::owner::{is_controlled_by, pod_of_name};
use crate::plan::{Note, Plan, Write};
use crate::pods;

/// The set's own service: for `Shared`, and for as long as a group lives that was made when that was the policy.
pub(super) fn shared(
    set: &LeaderWorkerSet,
    observed: &Observed,
    groups: &BTreeMap<u32, Group<'_>>,
    current: &revisions::Current,
    plan: &mut Plan,
) {
    let live = observed.services.get(set.set_name()).map(AsRef::as_ref);
    let needed = set.subdomain_policy() == SubdomainPolicy::Shared
        || groups
            .values()
            .filter_map(Group::live_leader)
            .any(|leader| policy_of(set, observed, leader, current) == SubdomainPolicy::Shared);
    if needed {
        ensure(&backend::shared_service(set), live, set.metadata.uid.as_deref(), plan);
    }
}

/// A group's service, if the revision that the group was made from has `UniquePerReplica`.
pub(super) fn of_group(
    set: &LeaderWorkerSet,
    observed: &Observed,
    index: u32,
    leader: &Pod,
    current: &revisions::Current,
    plan: &mut Plan,
) {
    if policy_of(set, observed, leader, current) != SubdomainPolicy::UniquePerReplica {
        return;
    }
    let name = pods::name(leader);
    let live = observed.services.get(name).map(AsRef::as_ref);
    // One of the leader's predecessor goes away by garbage collection; its deletion brings us back.
    let predecessors = |live: &Service| pod_of_name(&live.metadata, name).is_some_and(|uid| uid != pods::uid(leader));
    if live.is_some_and(predecessors) {
        return;
    }
    ensure(&backend::group_service(set, index, leader), live, leader.metadata.uid.as_deref(), plan);
}

/// The policy that a group was made with; the set's where its revision is lost.
fn policy_of(set: &LeaderWorkerSet, observed: &Observed, leader: &Pod, current: &revisions::Current) -> SubdomainPolicy {
    if pods::revision(leader) == Some(&current.key) {
        return set.subdomain_policy();
    }
    template_of(set, observed, leader, current).map_or_else(|| set.subdomain_policy(), |made| made.subdomain_policy())
}

/// Creates the service, or puts the one that is there back to what it should be.
fn ensure(wanted: &Value, live: Option<&Service>, owner: Option<&str>, plan: &mut Plan) {
    let Some(live) = live else { return create(wanted, plan) };
    if !is_controlled_by(&live.metadata, owner) {
        plan.taken.push(foreign::object("v1", "Service", &live.metadata));
        return;
    }
    if live.metadata.deletion_timestamp.is_some() {
        return;
    }
    let name = live.metadata.name.clone().unwrap_or_default();
    let repaired = |how: &str| {
        let text = format!("Service {name} was changed by somebody; {how}");
        Note::normal(event::REPAIRED, "Update", text).about_object("v1", "Service", &live.metadata)
    };
    match drift::of_service(live, wanted) {
        ServiceDrift::None => {}
        ServiceDrift::Patch(patch) => {
            let done = repaired("it is what it was again");
            plan.push(Write::RepairService { name, patch }, Some(done), None);
        }
        ServiceDrift::Replace => {
            let done = repaired("it is made again");
            let uid = live.metadata.uid.clone().unwrap_or_default();
            plan.push(Write::DeleteService { name, uid }, Some(done), None);
            create(wanted, plan);
        }
    }
}

fn create(wanted: &Value, plan: &mut Plan) {
    plan.push(
        Write::CreateService(wanted.clone()),
        None,
        Some(Note::warning(event::FAILED_CREATE, "Create", "Failed to create headless service for error")),
    );
}
