//! The third step of a reconcile: set + observed + advice + time → [`Plan`].
//!
//! Pure and infallible. What can't be done now is left out of the plan; the event that makes it possible brings the set back.
//!
//! ```text
//!  decide ─► revisions   which template is current; keep it as a ControllerRevision
//!         ─► states      how the rollout sees each group
//!         ─► leaders     the leader StatefulSet (rollout arithmetic in `rollout`), the shared service
//!         ─► restarts    which groups start over, wait to or have failed
//!         ─► groups      per group: service, placement, PodGroup, workers
//!         ─► claims      volume claims of workers: kept as long as the set, gone with what is scaled away
//!         ─► status
//! ```

mod claims;
mod conditions;
mod foreign;
mod gangs;
mod groups;
mod queued;
mod restarts;
mod revisions;
mod services;
mod states;
mod undo;
mod workers;

pub(crate) use restarts::Restarts;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::jiff::Timestamp;
use muster_api::LeaderWorkerSet;
use muster_api::conditions::event;
use muster_api::names::annotation;

use crate::admission::Choice;
use crate::advice::Advice;
use crate::backend;
use crate::observed::{Group, Observed};
use crate::owner::is_controlled_by;
use crate::plan::{Note, Plan, Step, Write};
use crate::pods;
use crate::rollout::{self, Budget, Current, Rollout, Target};
use crate::status;

/// How long to wait for a leader StatefulSet of the same name that is being deleted (upstream's 5 s).
const LEADER_SET_DELETING: Duration = Duration::from_secs(5);

/// What one reconcile writes for a set that was defaulted and found valid.
pub fn decide(set: &LeaderWorkerSet, observed: &Observed, choice: &Choice, advice: &Advice, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    if set.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let leader_set = observed.leader_set(set);
    if let Some(wanted) = set.annotation(annotation::UNDO_TO) {
        // What comes back by it is another set to decide about.
        undo::plan(set, observed, wanted, &mut plan);
        return plan;
    }
    if let Some(after) = advice.recheck {
        plan.requeue_within(after);
    }
    if leader_set.is_some_and(|existing| is_in_the_way(set, existing, now, &mut plan)) {
        return plan;
    }

    let groups = observed.groups(set);
    let revision = revisions::current(set, leader_set, observed, &mut plan);
    let current = leader_set.map(leader_set_now);
    let states = states::of(set, leader_set, &revision.key, &groups, now, &mut plan);
    let rollout = Rollout {
        replicas: u32::try_from(set.replicas()).unwrap_or(0),
        budget: Budget::of(set),
        user_partition: u32::try_from(set.partition()).unwrap_or(0),
        current,
        template_changed: revision.changed,
        groups: &states,
    };
    let fates = claims::fates(set, leader_set, observed, &groups, &revision.key);
    claims::keep(&fates, &mut plan);
    let target = apply_leader_set(set, &rollout, &revision, &groups, &mut plan);
    services::shared(set, observed, &groups, &revision, &mut plan);
    let mut replace = leader_set.map(|existing| replaceable(existing, &rollout, target)).unwrap_or_default();
    replace.retain(|index| groups.get(index).is_some_and(|group| is_outdated(group, &revision.key)));
    let restarts = restarts::decide(set, observed, &groups, &replace, now, &mut plan);
    let inputs =
        groups::Inputs { set, observed, current: &revision, choice, advice, replace: &replace, restarts: &restarts, target };
    let pending = groups::decide(&inputs, &groups, &mut plan);

    claims::delete(&fates, observed, &mut plan);

    let leaders = leader_set.and_then(|existing| existing.status.as_ref()).map_or(0, |status| status.replicas);
    let evidence = status::Evidence {
        groups: &groups,
        leaders,
        revision_key: &revision.key,
        pending: &pending,
        placed: choice.gated,
        restarts: &restarts,
        replaced: &replace,
        target,
        admitted: &advice.workers,
    };
    let mut outcome = status::next(set, &evidence, now);
    if let Some(after) = outcome.recheck {
        plan.requeue_within(after);
    }
    foreign::report(&mut outcome.status, &mut plan, set.metadata.generation, now);
    claims::report(set, leader_set, &mut outcome.status, &mut plan, now);
    queued::report(set, &mut outcome.status, &mut plan, now);
    if outcome.update_done {
        revisions::truncate(set, observed, &groups, &revision.key, &mut plan);
    }
    if set.status.as_ref() != Some(&outcome.status) {
        plan.status = Some(outcome.status);
        plan.notes.extend(outcome.notes);
    }
    plan
}

/// Whether the leader StatefulSet that there is leaves nothing to decide: somebody else's is reported, one that is being deleted is
/// waited for.
fn is_in_the_way(set: &LeaderWorkerSet, existing: &StatefulSet, now: Timestamp, plan: &mut Plan) -> bool {
    if !is_controlled_by(&existing.metadata, set.metadata.uid.as_deref()) {
        plan.taken.push(foreign::object("apps/v1", "StatefulSet", &existing.metadata));
        let mut status = set.status.clone().unwrap_or_default();
        foreign::report(&mut status, plan, set.metadata.generation, now);
        plan.status = (set.status.as_ref() != Some(&status)).then_some(status);
        return true;
    }
    let leaves = existing.metadata.deletion_timestamp.is_some();
    if leaves {
        plan.requeue_within(LEADER_SET_DELETING);
    }
    leaves
}

/// Applies the leader StatefulSet at the rollout's next step and says what changes.
fn apply_leader_set(
    set: &LeaderWorkerSet,
    rollout: &Rollout<'_>,
    revision: &revisions::Current,
    groups: &BTreeMap<u32, Group<'_>>,
    plan: &mut Plan,
) -> Target {
    let Rollout { budget, current, .. } = *rollout;
    let target = rollout::next(rollout);
    let target = if current.is_none() { beginning(target, &revision.key, groups) } else { target };
    let object = backend::leader_set(set, &revision.key, target, budget.max_unavailable.saturating_add(budget.max_surge));
    let name = set.set_name();
    let exists = current.is_some();
    let failed = if exists {
        Note::warning(event::FAILED_UPDATE, "Update", format!("Failed to update leader statefulset {name}"))
    } else {
        Note::warning(event::FAILED_CREATE, "Create", format!("Failed to create leader statefulset {name}"))
    };
    let done = leader_set_notes(name, rollout, target, revision, groups);
    plan.steps.push(Step { write: Write::ApplyLeaderSet { object, exists }, done, failed: Some(failed) });
    target
}

/// Where a leader StatefulSet begins. If it is made again while groups of an older revision live, they keep that one until the
/// rollout's next steps let them go.
fn beginning(target: Target, key: &str, groups: &BTreeMap<u32, Group<'_>>) -> Target {
    let mut live = groups.values().filter_map(Group::live_leader);
    let outdated = live.any(|leader| crate::pods::revision(leader).is_some_and(|made| made != key));
    if outdated { Target { partition: target.partition.max(target.replicas), ..target } } else { target }
}

/// Groups whose outdated leaders are deleted now, so that their successors are made from the new template.
///
/// None before the StatefulSet controller has seen the StatefulSet as it stands, and none where there is no such controller: nobody
/// would make the successors.
fn replaceable(existing: &StatefulSet, rollout: &Rollout<'_>, target: Target) -> BTreeSet<u32> {
    let status = existing.status.as_ref();
    let works = status.and_then(|status| status.update_revision.as_ref()).is_some_and(|revision| !revision.is_empty());
    let seen = status.and_then(|status| status.observed_generation);
    if rollout.template_changed || !works || seen.is_none() || seen != existing.metadata.generation {
        return BTreeSet::new();
    }
    let from = leader_set_now(existing).partition.max(target.partition);
    rollout::replaceable(rollout, from).into_iter().filter(|index| *index < target.replicas).collect()
}

/// Whether the group's leader is of another revision. One that names none was not made by the leader StatefulSet, and its successor
/// wouldn't name one either.
fn is_outdated(group: &Group<'_>, revision_key: &str) -> bool {
    group.live_leader().and_then(pods::revision).is_some_and(|key| key != revision_key)
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

/// What the change to the leader StatefulSet means to the set's owner.
fn leader_set_notes(
    name: &str,
    rollout: &Rollout<'_>,
    target: Target,
    revision: &revisions::Current,
    groups: &BTreeMap<u32, Group<'_>>,
) -> Vec<Note> {
    let Some(current) = rollout.current else {
        let text = format!("Created leader statefulset {name}");
        return vec![Note::normal(event::GROUPS_PROGRESSING, "Create", text).relating(revision.object.clone())];
    };
    let mut notes = Vec::new();
    if target.partition < current.partition && !rollout.template_changed {
        let (first, last) = (target.partition, current.partition - 1);
        let text = if first == last {
            format!("Updating replica {first}")
        } else {
            format!("Updating replicas {first} to {last} (inclusive)")
        };
        notes.push(Note::normal(event::GROUPS_UPDATING, "Update", text).relating(revision.object.clone()));
    }
    if target.replicas < current.replicas && is_under_way(rollout, current, revision, groups) {
        let (first, last) = (target.replicas, current.replicas - 1);
        let text = if first == last {
            format!("deleting surge replica {name}-{first}")
        } else {
            format!("deleting surge replicas from {name}-{first} to {name}-{last}")
        };
        notes.push(Note::normal(event::GROUPS_PROGRESSING, "Delete", text));
    }
    notes
}

/// Whether groups that go belong to a rollout: there is a surge, or groups that are still to be updated.
fn is_under_way(
    rollout: &Rollout<'_>,
    current: Current,
    revision: &revisions::Current,
    groups: &BTreeMap<u32, Group<'_>>,
) -> bool {
    let surge = current.replicas > current.set_replicas;
    let held = rollout.template_changed || current.partition > rollout.user_partition;
    surge || held || groups.range(rollout.user_partition..).any(|(_, group)| is_outdated(group, &revision.key))
}

#[cfg(test)]
mod event_tests;
#[cfg(test)]
mod object_tests;
#[cfg(test)]
mod revision_tests;
#[cfg(test)]
mod shape_tests;
#[cfg(test)]
mod subgroup_tests;
#[cfg(test)]
mod tests;
