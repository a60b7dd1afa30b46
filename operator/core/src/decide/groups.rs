//! What happens to each group: its service, its placement, its workers.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use muster_api::LeaderWorkerSet;
use muster_api::conditions::event;
use muster_api::names::{self, annotation};
use serde_json::{Value, json};

use super::gangs::{self, Gang};
use super::restarts::Restarts;
use super::{revisions, services, workers};
use crate::admission::Choice;
use crate::advice::{Advice, Placement};
use crate::backend::Seat;
use crate::instructions;
use crate::observed::{Group, Observed};
use crate::placement::Reason;
use crate::plan::{Note, Plan, Write};
use crate::pods;
use crate::record::{Record, Standing, standing};
use crate::rollout::Target;

/// What every group's decision is made from.
pub(super) struct Inputs<'a> {
    pub(super) set: &'a LeaderWorkerSet,
    pub(super) observed: &'a Observed,
    pub(super) current: &'a revisions::Current,
    pub(super) choice: &'a Choice,
    pub(super) advice: &'a Advice,
    /// Groups that the rollout replaces now.
    pub(super) replace: &'a BTreeSet<u32>,
    /// Groups that start over, and what else is known of restarts.
    pub(super) restarts: &'a Restarts,
    pub(super) target: Target,
}

/// Plans every group's writes. Returns the groups that wait for placement, with the reason of each.
pub(super) fn decide(inputs: &Inputs<'_>, groups: &BTreeMap<u32, Group<'_>>, plan: &mut Plan) -> BTreeMap<u32, Reason> {
    let mut pending = BTreeMap::new();
    for (index, group) in groups {
        let Some(leader) = group.live_leader() else { continue };
        if pods::annotation(leader, annotation::LEADER_NAME).is_some() {
            plan.notes.push(ordinals_unsupported(leader));
            continue;
        }
        if inputs.restarts.begun.contains_key(index) || replace_outdated(inputs, *index, leader, plan) {
            continue;
        }
        services::of_group(inputs.set, inputs.observed, *index, leader, inputs.current, plan);
        // A group beyond the replicas is about to be removed by the StatefulSet controller: no room is taken for it.
        if *index >= inputs.target.replicas && pods::is_gated(leader) {
            continue;
        }
        let place = place(inputs.choice, inputs.advice.placements.get(index), group, leader, plan);
        let gang = gangs::ensure(inputs, group, leader, plan);
        match place {
            // Workers made now would be strangers to a leader that waits to go, or that has failed with its group.
            Where::Settled(_) if group.worker_set.is_none() && inputs.restarts.is_due(*index) => {}
            Where::Settled(seat) if gang == Gang::Ready => workers::ensure(inputs, group, leader, &seat, plan),
            Where::Waiting(reason) => {
                pending.insert(*index, reason);
            }
            Where::Settled(_) | Where::Leaving => {}
        }
    }
    pending
}

/// Deletes an outdated leader that the rollout's partition has let go, so that its successor is made from the new template.
///
/// The StatefulSet controller would do it too, but one leader at a time unless a feature gate is on that stock clusters don't
/// have; how many groups may be down at once is the partition's business, and it has been decided. Returns whether the group
/// is on its way out.
fn replace_outdated(inputs: &Inputs<'_>, index: u32, leader: &Pod, plan: &mut Plan) -> bool {
    if !inputs.replace.contains(&index) {
        return false;
    }
    let (name, uid) = (pods::name(leader).to_owned(), pods::uid(leader).to_owned());
    plan.push(Write::DeleteLeader { name, uid, resource_version: None }, None, None);
    true
}

enum Where {
    /// The group's pods go here.
    Settled(Box<Seat>),
    /// It waits.
    Waiting(Reason),
    /// Its leader is being deleted or belongs to the scheduler; nothing to do until that changes.
    Leaving,
}

impl Where {
    fn settled(seat: Seat) -> Self {
        Self::Settled(Box::new(seat))
    }
}

/// Carries out what was advised about one group's place.
fn place(choice: &Choice, advised: Option<&Placement>, group: &Group<'_>, leader: &Pod, plan: &mut Plan) -> Where {
    let standing = standing(leader, choice);
    match (standing, advised) {
        (Standing::Free, _) => Where::settled(Seat::default()),
        (_, Some(Placement::Again(reason))) => {
            delete_leader(leader, reason, plan);
            Where::Waiting(reason.clone())
        }
        (Standing::Waiting, Some(Placement::Place(record))) => {
            patch_leader(leader, record, None, plan);
            Where::settled(record.clone().into())
        }
        (Standing::Waiting, Some(Placement::Release { record, not_in })) => {
            patch_leader(leader, record, Some(not_in), plan);
            Where::Waiting(record.reason.clone())
        }
        // Placed, but a pod of it can't be scheduled and there is nowhere better: it stays and says so.
        (Standing::Placed(_), Some(Placement::Hold(reason))) => Where::Waiting(reason.clone()),
        (Standing::Placed(record), _) => Where::settled(record.into()),
        (Standing::Bound { .. }, Some(Placement::Settle(record))) => {
            write_record(leader, record, plan);
            Where::settled(record.clone().into())
        }
        (Standing::Bound { .. }, Some(Placement::Follow(selector))) => {
            Where::settled(Seat { selector: selector.clone(), ..Seat::default() })
        }
        (_, Some(Placement::Hold(reason))) => Where::Waiting(reason.clone()),
        // Its workers were made for where it is: by upstream, or when it was first seen.
        (Standing::Bound { .. }, None) if group.worker_set.is_some() => Where::settled(seat_of(group, choice)),
        (Standing::Released(record), _) => Where::Waiting(record.reason),
        (Standing::Waiting | Standing::Bound { .. } | Standing::Loose, _) => Where::Leaving,
    }
}

/// Where the group's workers are sent, read from themselves.
fn seat_of(group: &Group<'_>, choice: &Choice) -> Seat {
    let template = group.worker_set.and_then(|workers| workers.spec.as_ref()?.template.spec.as_ref());
    let key = choice.exclusive.as_deref();
    let domain = key.and_then(|key| template?.node_selector.as_ref()?.get_key_value(key));
    Seat { selector: domain.map(|(key, domain)| (key.clone(), domain.clone())).into_iter().collect(), ..Seat::default() }
}

fn patch_leader(leader: &Pod, record: &Record, not_in: Option<&[String]>, plan: &mut Plan) {
    let mut spec = json!({ "schedulingGates": [{ "$patch": "delete", "name": names::PLACEMENT_GATE }] });
    let selector = record.leader_selector(leader);
    if !selector.is_empty() {
        spec["nodeSelector"] = json!(selector);
    }
    let authors = instructions::node_affinity_of(leader);
    if let (Some(not_in), Some(level)) = (not_in, record.level.as_deref()) {
        spec["affinity"] = json!({ "nodeAffinity": release_affinity(authors.as_ref(), level, not_in) });
    } else if let Some(affinity) = record.instructions.node_affinity(authors.as_ref(), 0) {
        spec["affinity"] = json!({ "nodeAffinity": affinity });
    }
    let effects = &record.instructions.effects;
    if let Some(tolerations) = effects.tolerations_with(leader.spec.as_ref().and_then(|spec| spec.tolerations.as_deref())) {
        spec["tolerations"] = json!(tolerations);
    }
    let mut annotations = effects.all_annotations();
    annotations.insert(annotation::PLACEMENT.to_owned(), record.render());
    let mut metadata = json!({ "uid": pods::uid(leader), "annotations": annotations });
    if !effects.labels.is_empty() {
        metadata["labels"] = json!(effects.labels);
    }
    let patch = json!({ "metadata": metadata, "spec": spec });
    let name = pods::name(leader);
    let note = match place_in_words(record) {
        Some(place) => format!("Placed {name} in {place} ({}): {}", record.by, record.reason.message),
        _ if record.released => format!("Left {name} to the scheduler: {}", record.reason.message),
        _ => format!("Left the choice of node for {name} to the scheduler ({}): {}", record.by, record.reason.message),
    };
    let done = Note::normal(event::GROUP_PLACED, "Place", note).about(leader);
    let failed = Note::warning(event::FAILED_PLACE, "Place", format!("Failed to place leader pod {name}")).about(leader);
    plan.push(Write::PatchLeader { name: name.to_owned(), patch }, Some(done), Some(failed));
}

/// Notes where the scheduler's choice for a released leader puts its group.
fn write_record(leader: &Pod, record: &Record, plan: &mut Plan) {
    let name = pods::name(leader);
    let patch = json!({
        "metadata": { "uid": pods::uid(leader), "annotations": { annotation::PLACEMENT: record.render() } },
    });
    let note = format!("The group of {name} stays in {}: {}", place_in_words(record).unwrap_or_default(), record.reason.message);
    plan.push(
        Write::PatchLeader { name: name.to_owned(), patch },
        Some(Note::normal(event::GROUP_PLACED, "Place", note).about(leader)),
        None,
    );
}

/// For example `zone=a, subgroups in rack=0:r1,1:r2`; `None` for a group that was put nowhere.
fn place_in_words(record: &Record) -> Option<String> {
    let whole = record.level.as_deref().zip(record.domain.as_deref()).map(|(level, domain)| format!("{level}={domain}"));
    let subgroups = record.subgroups.as_ref().map(|subgroups| format!("subgroups in {subgroups}"));
    let parts: Vec<String> = whole.into_iter().chain(subgroups).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Node affinity that keeps a released leader where its group could be complete: on nodes of the level, out of the domains
/// named. Pod affinity of a gated pod can't be changed, node affinity can: only by adding requirements to every term it has.
fn release_affinity(authors: Option<&Value>, level: &str, not_in: &[String]) -> Value {
    let mut requirements = vec![json!({ "key": level, "operator": "Exists" })];
    if !not_in.is_empty() {
        requirements.push(json!({ "key": level, "operator": "NotIn", "values": not_in }));
    }
    let mut affinity = authors.and_then(Value::as_object).cloned().unwrap_or_default();
    instructions::require(&mut affinity, "matchExpressions", &requirements);
    Value::Object(affinity)
}

fn delete_leader(leader: &Pod, reason: &Reason, plan: &mut Plan) {
    let name = pods::name(leader).to_owned();
    let done = Note::normal(
        event::PLACED_AGAIN,
        "Delete",
        format!("Deleted leader pod {name} to place its group again: {}", reason.message),
    )
    .about(leader);
    // A leader that was not bound when this was decided must not have been bound since.
    let resource_version = pods::node(leader).is_none().then(|| leader.metadata.resource_version.clone()).flatten();
    plan.push(Write::DeleteLeader { name, uid: pods::uid(leader).to_owned(), resource_version }, Some(done), None);
}

fn ordinals_unsupported(leader: &Pod) -> Note {
    let namespace = leader.metadata.namespace.as_deref().unwrap_or_default();
    let key = annotation::LEADER_NAME;
    let needs = "requires Kubernetes ≥v1.27 or v1.26 with StatefulSetStartOrdinal feature";
    let name = pods::name(leader);
    Note::warning(
        event::FAILED_CREATE,
        "Create",
        format!("leader pod {namespace}/{name} contains mistake annotation '{key}': {needs}"),
    )
    .about(leader)
}
