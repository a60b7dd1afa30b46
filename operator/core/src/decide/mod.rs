//! The third step of a reconcile: set + observed + advice + time → [`Plan`].
//!
//! Pure and infallible. What can't be done now is left out of the plan; the event that makes it possible brings the set back.
//!
//! ```text
//!  decide ─► revisions   which template is current; keep it as a ControllerRevision
//!         ─► leaders     the leader StatefulSet (rollout arithmetic in `rollout`), the shared service
//!         ─► groups      per group: service, placement, workers
//!         ─► status
//! ```

mod groups;
mod revisions;

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;
use muster_api::LeaderWorkerSet;
use muster_api::conditions::event;
use muster_api::leader_worker_set::SubdomainPolicy;
use muster_api::names::annotation;
use muster_api::scaled::{Rounding, scaled};

use crate::admission::Choice;
use crate::advice::Advice;
use crate::backend;
use crate::observed::{Group, Observed};
use crate::owner::{controller, is_controlled_by};
use crate::plan::{Note, Plan, Write};
use crate::rollout::{self, Current, GroupState, Rollout, Target};
use crate::status;

/// How long to wait for a leader StatefulSet of the same name that is being deleted (upstream's 5 s).
const LEADER_SET_DELETING: Duration = Duration::from_secs(5);

/// What one reconcile writes for a set that was defaulted and found valid.
pub fn decide(set: &LeaderWorkerSet, observed: &Observed, choice: &Choice, advice: &Advice, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    if set.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    if let Some(after) = advice.recheck {
        plan.requeue_within(after);
    }
    let leader_set = observed.leader_set(set);
    match leader_set {
        Some(existing) if !is_controlled_by(&existing.metadata, set.metadata.uid.as_deref()) => {
            plan.notes.push(foreign_object("StatefulSet", &existing.metadata));
            return plan;
        }
        Some(existing) if existing.metadata.deletion_timestamp.is_some() => {
            plan.requeue_within(LEADER_SET_DELETING);
            return plan;
        }
        Some(_) | None => {}
    }

    let groups = observed.groups(set);
    let revision = revisions::current(set, leader_set, observed, &mut plan);
    let target = apply_leader_set(set, leader_set, &revision, &groups, &mut plan);
    create_shared_service(set, observed, &mut plan);
    let replace_from = leader_set.filter(|_| !revision.changed).and_then(|existing| settled_partition(existing, target));
    let inputs = groups::Inputs { set, observed, current: &revision, choice, advice, replace_from, target };
    let pending = groups::decide(&inputs, &groups, &mut plan);

    let leaders = leader_set.and_then(|existing| existing.status.as_ref()).map_or(0, |status| status.replicas);
    let evidence =
        status::Evidence { groups: &groups, leaders, revision_key: &revision.key, pending: &pending, placed: choice.gated };
    let outcome = status::next(set, &evidence, now);
    if outcome.update_done {
        revisions::truncate(set, observed, &revision.key, &mut plan);
    }
    if set.status.as_ref() != Some(&outcome.status) {
        plan.status = Some(outcome.status);
        plan.notes.extend(outcome.notes);
    }
    plan
}

/// A name of ours is taken. The object is left alone, and the set says whose it is.
fn foreign_object(kind: &str, object: &ObjectMeta) -> Note {
    let owner = controller(object).map_or_else(|| "no controller".to_owned(), |owner| format!("{} {}", owner.kind, owner.name));
    let name = object.name.as_deref().unwrap_or_default();
    Note::warning(
        event::FAILED_CREATE,
        "Create",
        format!("{kind} {name} exists and belongs to {owner}; it is left alone. Rename the set or delete the {kind}"),
    )
}

/// Applies the leader StatefulSet at the rollout's next step and says what changes.
fn apply_leader_set(
    set: &LeaderWorkerSet,
    existing: Option<&StatefulSet>,
    revision: &revisions::Current,
    groups: &BTreeMap<u32, Group<'_>>,
    plan: &mut Plan,
) -> Target {
    let replicas = u32::try_from(set.replicas()).unwrap_or(0);
    let max_unavailable = budget(&set.max_unavailable(), set.replicas(), Rounding::Down);
    let max_surge = budget(&set.max_surge(), set.replicas(), Rounding::Up).min(replicas);
    let current = existing.map(leader_set_now);
    let states = group_states(current, &revision.key, groups);
    let target = rollout::next(&Rollout {
        replicas,
        max_unavailable,
        max_surge,
        user_partition: u32::try_from(set.partition()).unwrap_or(0),
        current,
        template_changed: revision.changed,
        groups: &states,
    });
    let object = backend::leader_set(set, &revision.key, target, max_unavailable.saturating_add(max_surge));
    let name = set.set_name();
    let (failure, verb) = if existing.is_some() { (event::FAILED_UPDATE, "update") } else { (event::FAILED_CREATE, "create") };
    plan.push(
        Write::ApplyLeaderSet { object, exists: existing.is_some() },
        leader_set_note(name, current, target, revision.changed),
        Some(Note::warning(failure, "Create", format!("Failed to {verb} leader statefulset {name}"))),
    );
    target
}

/// Groups that a budget stands for; validation keeps out what is no number.
fn budget(value: &IntOrString, replicas: i32, rounding: Rounding) -> u32 {
    u32::try_from(scaled(value, replicas, rounding).unwrap_or(0)).unwrap_or(0)
}

/// The partition that the StatefulSet controller acts on: it has seen the StatefulSet as it stands. `None` before that.
fn settled_partition(existing: &StatefulSet, target: Target) -> Option<u32> {
    let seen = existing.status.as_ref().and_then(|status| status.observed_generation);
    (seen.is_some() && seen == existing.metadata.generation).then(|| leader_set_now(existing).partition.max(target.partition))
}

fn leader_set_now(existing: &StatefulSet) -> Current {
    let spec = existing.spec.as_ref();
    let count = |number: Option<i32>, absent: u32| number.map_or(absent, |number| u32::try_from(number).unwrap_or(0));
    let strategy = spec.and_then(|spec| spec.update_strategy.as_ref()?.rolling_update.as_ref());
    let replicas = count(spec.and_then(|spec| spec.replicas), 1);
    let recorded = existing.metadata.annotations.as_ref().and_then(|annotations| annotations.get(annotation::REPLICAS));
    Current {
        partition: count(strategy.and_then(|strategy| strategy.partition), 0),
        replicas,
        set_replicas: recorded.and_then(|recorded| recorded.parse().ok()).unwrap_or(replicas),
    }
}

fn group_states(current: Option<Current>, revision_key: &str, groups: &BTreeMap<u32, Group<'_>>) -> Vec<GroupState> {
    let state = |index: u32| {
        let group = groups.get(&index);
        GroupState {
            ready: group.is_some_and(status::is_ready),
            updated: group.is_some_and(|group| status::is_updated(group, revision_key)),
        }
    };
    (0..current.map_or(0, |current| current.replicas)).map(state).collect()
}

/// What the change to the leader StatefulSet means to the set's owner.
fn leader_set_note(name: &str, current: Option<Current>, target: Target, template_changed: bool) -> Option<Note> {
    let Some(current) = current else {
        return Some(Note::normal(event::GROUPS_PROGRESSING, "Create", format!("Created leader statefulset {name}")));
    };
    if target.partition < current.partition && !template_changed {
        let (first, last) = (target.partition, current.partition - 1);
        let text = if first == last {
            format!("Updating replica {first}")
        } else {
            format!("Updating replicas {first} to {last} (inclusive)")
        };
        return Some(Note::normal(event::GROUPS_UPDATING, "Update", text));
    }
    if target.replicas < current.replicas && current.replicas > current.set_replicas {
        let (first, last) = (target.replicas, current.replicas - 1);
        let text = if first == last {
            format!("deleting surge replica {name}-{first}")
        } else {
            format!("deleting surge replicas from {name}-{first} to {name}-{last}")
        };
        return Some(Note::normal(event::GROUPS_PROGRESSING, "Delete", text));
    }
    None
}

fn create_shared_service(set: &LeaderWorkerSet, observed: &Observed, plan: &mut Plan) {
    if set.subdomain_policy() != SubdomainPolicy::Shared {
        return;
    }
    match observed.services.get(set.set_name()) {
        None => plan.push(
            Write::CreateService(backend::shared_service(set)),
            None,
            Some(Note::warning(event::FAILED_CREATE, "Create", "Failed to create headless service for error")),
        ),
        Some(service) if !is_controlled_by(&service.metadata, set.metadata.uid.as_deref()) => {
            plan.notes.push(foreign_object("Service", &service.metadata));
        }
        Some(_) => {}
    }
}

#[cfg(test)]
mod tests;
