//! A group's worker StatefulSet: made once, kept as it was made, raised as ranks are admitted.

use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use muster_api::LeaderWorkerSet;
use muster_api::conditions::event;
use muster_api::names::{annotation, label};

use super::groups::Inputs;
use super::{foreign, revisions};
use crate::backend::Seat;
use crate::observed::{Group, Observed};
use crate::owner::{is_controlled_by, pod_of_name};
use crate::plan::{Note, Plan, Write};
use crate::status::size_of;
use crate::{backend, drift, pods, revision};

/// How soon to look again for a ControllerRevision that the cache doesn't show yet (upstream's 1 s).
const REVISION_MISSING: Duration = Duration::from_secs(1);

/// Creates the group's worker StatefulSet, or raises its replicas, as far as the startup policy admits its ranks.
pub(super) fn ensure(inputs: &Inputs<'_>, group: &Group<'_>, leader: &Pod, seat: &Seat, plan: &mut Plan) {
    let Inputs { set, observed, current, advice, .. } = *inputs;
    let admitted = advice.workers.get(&group.index).map_or(0, |admitted| admitted.workers);
    let admitted = admitted.min(size_of(leader, set).saturating_sub(1));
    let leader_name = pods::name(leader);
    if let Some(existing) = observed.stateful_sets.get(leader_name) {
        let leaves = existing.metadata.deletion_timestamp.is_some();
        if is_controlled_by(&existing.metadata, leader.metadata.uid.as_deref()) {
            if !leaves {
                keep(inputs, leader, existing, seat, admitted, plan);
            }
        } else if pod_of_name(&existing.metadata, leader_name).is_none() {
            plan.taken.push(foreign::object("apps/v1", "StatefulSet", &existing.metadata));
        } else if !leaves {
            // That of the leader's predecessor is in the way of the new group until it is gone, which brings us back. The garbage
            // collector would see to it, too, where there is one.
            let uid = existing.metadata.uid.clone().unwrap_or_default();
            let leader = pods::uid(leader).to_owned();
            plan.push(Write::DeleteWorkerSet { name: leader_name.to_owned(), uid, leader }, None, None);
        }
        return;
    }
    if admitted == 0 {
        return;
    }
    let Some(restored) = template_of(set, observed, leader, current) else {
        plan.requeue_within(REVISION_MISSING);
        return;
    };
    let mut object = backend::worker_set(set, &restored, leader, seat, admitted);
    drift::mark(&mut object);
    plan.push(
        Write::CreateWorkerSet(object),
        Some(
            Note::normal(event::GROUPS_PROGRESSING, "Create", format!("Created worker statefulset for leader pod {leader_name}"))
                .about(leader),
        ),
        Some(
            Note::warning(
                event::FAILED_CREATE,
                "Create",
                format!("Failed to create worker statefulset for leader pod {leader_name}"),
            )
            .about(leader),
        ),
    );
}

/// Raises the replicas of an existing worker StatefulSet to what is admitted, and puts back what somebody changed.
fn keep(inputs: &Inputs<'_>, leader: &Pod, existing: &StatefulSet, seat: &Seat, admitted: u32, plan: &mut Plan) {
    let name = pods::name(leader);
    let repaired = |what: &str| {
        let text = format!("Worker statefulset {name} was changed by somebody; {what} as it was again");
        Note::normal(event::REPAIRED, "Update", text).about(leader)
    };
    let replicas = existing.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let replicas = u32::try_from(replicas).unwrap_or(0);
    // A leader that doesn't say how large its group is is no measure for it.
    let most = pods::annotation(leader, annotation::SIZE).map(|_| size_of(leader, inputs.set).saturating_sub(1));
    if replicas < admitted {
        plan.push(Write::ScaleWorkerSet { name: name.to_owned(), replicas: admitted }, None, None);
    } else if let Some(most) = most.filter(|most| replicas > *most) {
        let done = repaired("its number of replicas is");
        plan.push(Write::ScaleWorkerSet { name: name.to_owned(), replicas: most }, Some(done), None);
    }
    let mut labels = backend::worker_labels(inputs.set, leader);
    // Its pods are of the revision that its template names, whatever somebody has written on the leader since.
    let template = existing.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref()?.labels.as_ref());
    if let Some(made_from) = template.and_then(|labels| labels.get(label::REVISION)) {
        labels.insert(label::REVISION.to_owned(), made_from.clone());
    }
    if let Some(patch) = drift::of_labels(existing, &labels) {
        plan.push(Write::RelabelWorkerSet { name: name.to_owned(), patch }, Some(repaired("its labels are")), None);
    }
    let wanted = || {
        let made_from = template_of(inputs.set, inputs.observed, leader, inputs.current)?;
        Some(backend::worker_set(inputs.set, &made_from, leader, seat, replicas))
    };
    if let Some(object) = drift::may_be_edited(existing, wanted) {
        let uid = existing.metadata.uid.clone().unwrap_or_default();
        let generation = existing.metadata.generation.unwrap_or_default();
        plan.push(Write::RestoreWorkerSet { object, uid, generation }, Some(repaired("its spec is")), None);
    }
}

/// The set as it was when the leader was made. `None` when that revision isn't there (yet).
pub(super) fn template_of(
    set: &LeaderWorkerSet,
    observed: &Observed,
    leader: &Pod,
    current: &revisions::Current,
) -> Option<LeaderWorkerSet> {
    let key = pods::revision(leader)?;
    if key == current.key { Some(set.clone()) } else { revision::as_of(set, &observed.revisions, key) }
}
