//! Small readings of a pod: what the rest of the core asks of one.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use muster_api::names::{self, label as labels};

use crate::startup::Phase;

/// A label's value.
pub fn label<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

/// An annotation's value.
pub fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// The pod's name; empty for a pod that has none, which the API server never serves.
pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// The pod's UID; empty as for [`name`].
pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// The revision key the pod was made from.
pub fn revision(pod: &Pod) -> Option<&str> {
    label(pod, labels::REVISION)
}

/// The node the pod is bound to.
pub fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|node| !node.is_empty())
}

/// Whether the pod is being deleted.
pub fn is_deleting(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Whether Muster's scheduling gate is still on the pod.
pub fn is_gated(pod: &Pod) -> bool {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.scheduling_gates.as_ref())
        .is_some_and(|gates| gates.iter().any(|gate| gate.name == names::PLACEMENT_GATE))
}

/// The pod's node selector; empty when it has none.
pub fn node_selector(pod: &Pod) -> BTreeMap<String, String> {
    pod.spec.as_ref().and_then(|spec| spec.node_selector.clone()).unwrap_or_default()
}

fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a k8s_openapi::api::core::v1::PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == type_)
}

/// Whether the Ready condition is True.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

/// Since when the Ready condition is True.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    condition(pod, "Ready").filter(|ready| ready.status == "True")?.last_transition_time.as_ref().map(|time| time.0)
}

/// When the object was created.
pub fn created(meta: &ObjectMeta) -> Option<Timestamp> {
    meta.creation_timestamp.as_ref().map(|time| time.0)
}

/// Upstream's reading of a working leader: phase Running and Ready.
pub fn is_running_and_ready(pod: &Pod) -> bool {
    phase_text(pod) == "Running" && is_ready(pod)
}

/// The phase as the kubelet wrote it; a pod without one is pending.
pub(crate) fn phase_text(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// When the scheduler last said that it finds no node for this pod, and what it said. `None` for a pod that is bound, gated or
/// not looked at yet.
pub fn unschedulable(pod: &Pod) -> Option<(Timestamp, &str)> {
    let scheduled = condition(pod, "PodScheduled")?;
    let hopeless = scheduled.status == "False" && scheduled.reason.as_deref() == Some("Unschedulable");
    let since = scheduled.last_transition_time.as_ref()?.0;
    (hopeless && node(pod).is_none()).then(|| (since, scheduled.message.as_deref().unwrap_or_default()))
}

/// The pod as a startup policy sees it.
pub fn startup_view(pod: &Pod, rank: u32, now: Timestamp) -> crate::startup::Pod {
    let phase = phase(pod);
    let since = match phase {
        Phase::Ready | Phase::Running => condition(pod, "Ready"),
        Phase::Scheduled => condition(pod, "PodScheduled"),
        Phase::Pending | Phase::Succeeded | Phase::Failed | Phase::Terminating => None,
    }
    .and_then(|condition| condition.last_transition_time.as_ref())
    .or(pod.metadata.deletion_timestamp.as_ref())
    .or(pod.metadata.creation_timestamp.as_ref());
    crate::startup::Pod { rank, phase, in_phase_ms: since.map_or(0, |time| millis_between(time.0, now)), restarts: restarts(pod) }
}

/// Container restarts of the pod, init containers included.
pub fn restarts(pod: &Pod) -> u32 {
    let Some(status) = &pod.status else { return 0 };
    let containers = status.container_statuses.iter().flatten();
    let init = status.init_container_statuses.iter().flatten();
    containers.chain(init).map(|container| u32::try_from(container.restart_count).unwrap_or(0)).sum()
}

/// Milliseconds from `earlier` to `later`; 0 when the clocks disagree.
pub fn millis_between(earlier: Timestamp, later: Timestamp) -> u64 {
    u64::try_from(later.duration_since(earlier).as_millis()).unwrap_or(0)
}

fn phase(pod: &Pod) -> Phase {
    if is_deleting(pod) {
        return Phase::Terminating;
    }
    match phase_text(pod) {
        "Succeeded" => Phase::Succeeded,
        "Failed" => Phase::Failed,
        // Upstream asks for the condition alone.
        _ if is_ready(pod) => Phase::Ready,
        "Running" => Phase::Running,
        _ if node(pod).is_some() => Phase::Scheduled,
        _ => Phase::Pending,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_that_is_ready_counts_as_ready_before_its_phase_says_that_it_runs() {
        let of = |text: &str| {
            let status = json!({ "phase": text, "conditions": [{ "type": "Ready", "status": "True" }] });
            phase(&serde_json::from_value(json!({ "metadata": {}, "spec": { "containers": [] }, "status": status })).unwrap())
        };
        assert_eq!((of("Running"), of("Pending")), (Phase::Ready, Phase::Ready));
        assert_eq!((of("Succeeded"), of("Failed")), (Phase::Succeeded, Phase::Failed));
    }
}
