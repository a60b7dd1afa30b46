//! Pods on their way in: whose they are, whether they wait for a place, what they learn about themselves.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use kube::core::admission::Operation;
use muster_api::LeaderWorkerSet;
use muster_api::names::{annotation, label};
use muster_core::admission::guard::Keepers;
use muster_core::admission::{Gang, Guard, Placement, PodContext, choose, mutate};
use muster_core::gang::Provider;
use muster_core::placement::effects::Effects;
use serde_json::Value;

use super::Lookup;
use super::review::{Answer, Request};

/// Changes a new pod of a set as [`muster_core::admission`] says; lets every other pod pass.
pub(super) async fn change(request: &Request, lookup: &impl Lookup) -> Answer {
    let (Operation::Create, Some(before)) = (&request.operation, &request.object) else { return Answer::allow() };
    let namespace = request.namespace.as_deref().unwrap_or_default();
    // Not knowing is no ground for letting a pod run anywhere: the StatefulSet controller will try again.
    let found = match look_up(before, namespace, lookup).await {
        Ok(found) => found,
        Err(error) => return Answer::fail(&format!("{error:#}")),
    };
    let Found { placement, effects, guard, joins } = &found;
    let gang = match joins {
        Joins::None => Gang::None,
        Joins::Volcanos => Gang::Volcano,
        Joins::New => Gang::Begin(incarnation(&request.uid)),
        Joins::Existing(name) => Gang::Join(name),
    };
    let mut after = before.clone();
    match mutate(&mut after, &PodContext { namespace, placement: *placement, gang, effects, guard }) {
        Ok(outcome) => {
            let pod = request.name.as_deref().unwrap_or_default();
            tracing::debug!(namespace, pod, ?outcome, "pod admitted");
            Answer::change(json_patch::diff(before, &after))
        }
        Err(error) => Answer::refuse(&error.to_string()),
    }
}

/// What the cluster says about a new pod.
struct Found {
    placement: Placement,
    effects: Effects,
    guard: Guard,
    joins: Joins,
}

/// Asks for the pod of a set; what only copied a set's name depends on nobody's answer.
async fn look_up(pod: &Value, namespace: &str, lookup: &impl Lookup) -> anyhow::Result<Found> {
    let (Some(name), Some(_)) = (metadata(pod, "labels", label::SET_NAME), metadata(pod, "annotations", annotation::SIZE)) else {
        let (effects, guard) = (Effects::default(), Guard::default());
        return Ok(Found { placement: Placement::None, effects, guard, joins: Joins::None });
    };
    let set = set(namespace, name, lookup).await.context("looking for the pod's set")?;
    let placement = placement(pod, namespace, set.as_deref(), lookup).await;
    let (placement, effects) = placement.context("finding out whether the set is placed by Muster")?;
    let keepers = keepers(namespace, lookup).await.context("finding out whose domains the pod keeps out of")?;
    let guard = Guard::of(pod, (namespace, name), set.as_deref(), &keepers, lookup.guard());
    let joins = pod_group_to_join(pod, namespace, lookup).await;
    let joins = joins.context("finding out which PodGroup the pod's leader belongs to")?;
    Ok(Found { placement, effects, guard, joins })
}

/// A label or an annotation of a raw pod.
fn metadata<'a>(pod: &'a Value, part: &str, key: &str) -> Option<&'a str> {
    pod.get("metadata")?.get(part)?.get(key)?.as_str()
}

/// The gang of a new pod.
enum Joins {
    None,
    Volcanos,
    /// A gang of kube-scheduler's that begins with this leader.
    New,
    /// The gang of kube-scheduler's that its leader belongs to.
    Existing(String),
}

/// Which gang the pod belongs to. Every worker goes the way of its leader, whatever was switched on or off in between.
async fn pod_group_to_join(pod: &Value, namespace: &str, lookup: &impl Lookup) -> anyhow::Result<Joins> {
    let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str);
    let metadata = |part, key| metadata(pod, part, key);
    match lookup.gangs().await {
        None => return Ok(Joins::None),
        Some(Provider::Volcano) => return Ok(Joins::Volcanos),
        Some(Provider::Kubernetes) if metadata("labels", label::WORKER_INDEX) == Some("0") => return Ok(Joins::New),
        Some(Provider::Kubernetes) => {}
    }
    let Some(leader) = metadata("annotations", annotation::LEADER_NAME) else { return Ok(Joins::None) };
    // A StatefulSet's pods have one owner.
    let owner = text("/metadata/ownerReferences/0/uid");
    let found = lookup.leaders_pod_group(namespace, leader, owner).await?;
    Ok(found.map_or(Joins::None, Joins::Existing))
}

/// Tells a leader's PodGroup from that of its predecessor: eight digits of an admission request's UID, which no two leaders share.
fn incarnation(request: &str) -> &str {
    request.split('-').next().unwrap_or_default()
}

/// The set of that name; `None` if there is none any more.
async fn set(namespace: &str, name: &str, lookup: &impl Lookup) -> anyhow::Result<Option<Arc<LeaderWorkerSet>>> {
    match lookup.set(namespace, name) {
        Some(set) => Ok(Some(set)),
        None => lookup.fetch_set(namespace, name).await,
    }
}

/// The sets that want domains for themselves.
async fn keepers(namespace: &str, lookup: &impl Lookup) -> anyhow::Result<Arc<Keepers>> {
    match lookup.keepers() {
        Some(keepers) => Ok(keepers),
        None => lookup.fetch_keepers(namespace).await,
    }
}

/// Whether the pod's set is placed by Muster, and what its policies give it. Asked for leaders only, because only they are gated.
async fn placement(
    pod: &Value,
    namespace: &str,
    set: Option<&LeaderWorkerSet>,
    lookup: &impl Lookup,
) -> anyhow::Result<(Placement, Effects)> {
    let nothing = |placement| Ok((placement, Effects::default()));
    let metadata = |part, key| metadata(pod, part, key);
    if metadata("labels", label::WORKER_INDEX) != Some("0") {
        return nothing(Placement::None);
    }
    // A leader that outlives its set for a moment is nobody's to place. The scheduler must not have one that wants a domain for
    // itself: it would put it into another group's. Its template still says so.
    let Some(set) = set else {
        let wants_domain = [annotation::EXCLUSIVE_TOPOLOGY, annotation::SUBGROUP_EXCLUSIVE_TOPOLOGY];
        let exclusive = wants_domain.iter().any(|key| metadata("annotations", key).is_some());
        let queued = metadata("labels", label::KUEUE_QUEUE).is_some();
        return nothing(if exclusive && !queued { Placement::Gate } else { Placement::None });
    };
    let namespace_annotations = match lookup.namespace_annotations(namespace) {
        Some(annotations) => annotations,
        None => lookup.fetch_namespace_annotations(namespace).await?,
    };
    let none = BTreeMap::new();
    let annotations = set.metadata.annotations.as_ref().unwrap_or(&none);
    let labels = set.metadata.labels.as_ref().unwrap_or(&none);
    let choice = choose(annotations, labels, &namespace_annotations, &lookup.defaults());
    if choice.gated { Ok((Placement::Gate, lookup.prepared(namespace, &choice.placement))) } else { nothing(Placement::None) }
}
