//! Pods on their way in: whose they are, whether they wait for a place, what they learn about themselves.

use std::collections::BTreeMap;

use kube::core::admission::Operation;
use muster_api::names::{annotation, label};
use muster_core::admission::{Placement, PodContext, choose, mutate};
use serde_json::Value;

use super::Lookup;
use super::review::{Answer, Request};

/// Changes a new pod of a set as [`muster_core::admission`] says; lets every other pod pass.
pub(super) async fn change(request: &Request, lookup: &impl Lookup) -> Answer {
    let (Operation::Create, Some(before)) = (&request.operation, &request.object) else { return Answer::allow() };
    let namespace = request.namespace.as_deref().unwrap_or_default();
    let placement = match placement(before, namespace, lookup).await {
        Ok(placement) => placement,
        // Not knowing is no ground for letting a leader run anywhere: the StatefulSet controller will try again.
        Err(error) => return Answer::fail(&format!("finding out whether the set is placed by Muster: {error:#}")),
    };
    let mut after = before.clone();
    match mutate(&mut after, &PodContext { namespace, placement }) {
        Ok(outcome) => {
            let pod = request.name.as_deref().unwrap_or_default();
            tracing::debug!(namespace, pod, ?outcome, "pod admitted");
            Answer::change(json_patch::diff(before, &after))
        }
        Err(error) => Answer::refuse(&error.to_string()),
    }
}

/// Whether the pod's set is placed by Muster. Asked for leaders only, because only they are gated.
async fn placement(pod: &Value, namespace: &str, lookup: &impl Lookup) -> anyhow::Result<Placement> {
    let metadata = |part: &str, key: &str| pod.get("metadata")?.get(part)?.get(key)?.as_str();
    let leader = metadata("labels", label::WORKER_INDEX) == Some("0");
    let (Some(name), Some(_), true) = (metadata("labels", label::SET_NAME), metadata("annotations", annotation::SIZE), leader)
    else {
        return Ok(Placement::None);
    };
    let set = match lookup.set(namespace, name) {
        Some(set) => Some(set),
        None => lookup.fetch_set(namespace, name).await?,
    };
    // A leader that outlives its set for a moment is nobody's to place.
    let Some(set) = set else { return Ok(Placement::None) };
    let namespace_annotations = match lookup.namespace_annotations(namespace) {
        Some(annotations) => annotations,
        None => lookup.fetch_namespace_annotations(namespace).await?,
    };
    let none = BTreeMap::new();
    let annotations = set.metadata.annotations.as_ref().unwrap_or(&none);
    let labels = set.metadata.labels.as_ref().unwrap_or(&none);
    let choice = choose(annotations, labels, &namespace_annotations, &lookup.defaults());
    Ok(if choice.gated { Placement::Gate } else { Placement::None })
}
