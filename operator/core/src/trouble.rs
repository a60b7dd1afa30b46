//! What keeps a pod from working, and why it is leaving, by what the API says of it: for people, and for decisions that must tell a
//! pod that takes its time from one that won't get anywhere.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod, PodCondition};
use k8s_openapi::jiff::Timestamp;

use crate::observed::Group;
use crate::pods::{self, millis_between};

/// A reason in one word and a sentence about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// In CamelCase: the kubelet's or the scheduler's word for it.
    pub reason: String,
    /// Names the pod, and the container if it is about one.
    pub message: String,
    /// It won't pass by itself: the kubelet tries again and again what failed before.
    pub lasting: bool,
}

/// Reasons of a waiting container that are no more than a beginning.
const BEGINNING: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// How long a group may be on its way before an update stops waiting for it: a Deployment's progress deadline.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long after the end of its grace a pod may still be there before it counts as held up.
const OVERDUE: Duration = Duration::from_secs(30);

/// What keeps the pod from working, if it is more than that it has only begun.
pub fn of(pod: &Pod) -> Option<Trouble> {
    let name = pods::name(pod);
    if pods::phase_text(pod) == "Failed" {
        let status = pod.status.as_ref()?;
        let reason = status.reason.clone().unwrap_or_else(|| "Failed".to_owned());
        let message = sentence(format!("pod {name} has failed"), status.message.as_deref());
        return Some(Trouble { reason, message, lasting: false });
    }
    if let Some(trouble) = containers(pod).find_map(|container| of_container(name, container)) {
        return Some(trouble);
    }
    let (_, why) = pods::unschedulable(pod)?;
    let message = sentence(format!("pod {name} can't be scheduled"), Some(why));
    Some(Trouble { reason: "Unschedulable".to_owned(), message, lasting: false })
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let init = pod.status.iter().flat_map(|status| status.init_container_statuses.iter().flatten());
    init.chain(pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten()))
}

fn of_container(pod: &str, container: &ContainerStatus) -> Option<Trouble> {
    let state = container.state.as_ref()?;
    let about = format!("container {} of pod {pod}", container.name);
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.clone().filter(|reason| !BEGINNING.contains(&reason.as_str()))?;
        let message = sentence(format!("{about} waits: {reason}"), waiting.message.as_deref());
        return Some(Trouble { reason, message, lasting: true });
    }
    let ended = state.terminated.as_ref().filter(|ended| ended.exit_code != 0)?;
    let reason = ended.reason.clone().unwrap_or_else(|| "Error".to_owned());
    let message = sentence(format!("{about} has ended with exit code {}", ended.exit_code), ended.message.as_deref());
    Some(Trouble { reason, message, lasting: false })
}

fn sentence(start: String, detail: Option<&str>) -> String {
    match detail.map(str::trim).filter(|detail| !detail.is_empty()) {
        Some(detail) => format!("{start}: {detail}"),
        None => start,
    }
}

/// Why a pod's group has lost it, in words that go on from "Group 3 starts over: ".
pub fn loss(pod: &Pod) -> String {
    let place = pods::node(pod).map(|node| format!(" on node {node}")).unwrap_or_default();
    let name = pods::name(pod);
    if pods::is_deleting(pod) {
        return format!("pod {name}{place} {}", departure(pod));
    }
    let restarted = containers(pod).find(|container| container.restart_count > 0);
    match restarted {
        Some(container) => format!("container {} of pod {name}{place} has restarted{}", container.name, last_end(container)),
        None => format!("pod {name}{place} has failed"),
    }
}

/// What the pod's departure is owed to, as whoever decided it wrote on the pod.
fn departure(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let disruption = conditions.iter().find(|condition| condition.type_ == "DisruptionTarget" && condition.status == "True");
    let said = |condition: &PodCondition| {
        let reason = condition.reason.clone().unwrap_or_default();
        sentence(format!("is being deleted ({reason})"), condition.message.as_deref())
    };
    match (disruption, status.and_then(|status| status.reason.as_deref())) {
        (Some(condition), _) => said(condition),
        (None, Some(reason)) => {
            sentence(format!("is being deleted ({reason})"), status.and_then(|status| status.message.as_deref()))
        }
        (None, None) => "is being deleted".to_owned(),
    }
}

/// How the container ended the last time.
fn last_end(container: &ContainerStatus) -> String {
    let terminated = |state: Option<&ContainerState>| state.and_then(|state| state.terminated.clone());
    match terminated(container.last_state.as_ref()).or_else(|| terminated(container.state.as_ref())) {
        Some(ended) => {
            let reason = ended.reason.map(|reason| format!(", {reason}")).unwrap_or_default();
            format!(" (exit code {}{reason})", ended.exit_code)
        }
        None => String::new(),
    }
}

/// Whether a group that isn't ready will by all signs not become ready as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    /// It may, and counts as hopeless after this time.
    Open(Duration),
    /// It won't.
    Hopeless,
}

/// The outlook of a group that isn't ready. A group without a leader is only about to begin.
pub fn outlook(group: &Group<'_>, now: Timestamp) -> Outlook {
    if group.live_leader().is_none() {
        return Outlook::Open(PATIENCE);
    }
    if group.pods().any(|(_, pod)| !pods::is_deleting(pod) && of(pod).is_some_and(|trouble| trouble.lasting)) {
        return Outlook::Hopeless;
    }
    let last_change = group.pods().filter_map(|(_, pod)| changed(pod)).max();
    let left =
        PATIENCE.saturating_sub(last_change.map_or(Duration::ZERO, |then| Duration::from_millis(millis_between(then, now))));
    if left.is_zero() { Outlook::Hopeless } else { Outlook::Open(left) }
}

/// When the pod's readiness changed last.
fn changed(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
    let moved = ready.and_then(|ready| ready.last_transition_time.as_ref()).map(|time| time.0);
    moved.max(pod.metadata.creation_timestamp.as_ref().map(|time| time.0))
}

/// Whether a pod that is being deleted should be gone by now; `Err` with the time until it should. `None` for one that stays.
pub fn overdue(pod: &Pod, now: Timestamp) -> Option<Result<(), Duration>> {
    let due = pod.metadata.deletion_timestamp.as_ref()?.0;
    let left = Duration::from_millis(millis_between(now, due)) + OVERDUE;
    let left = left.saturating_sub(Duration::from_millis(millis_between(due, now)));
    Some(if left.is_zero() { Ok(()) } else { Err(left) })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::now;

    fn pod(status: &Value) -> Pod {
        let raw = json!({
            "metadata": { "name": "serve-0", "uid": "u", "creationTimestamp": "2026-11-22T11:55:00Z" },
            "status": status,
        });
        serde_json::from_value(raw).unwrap()
    }

    fn container(state: &Value) -> Value {
        json!({ "phase": "Pending", "containerStatuses": [
            { "name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state },
        ] })
    }

    #[rstest]
    #[case::only_begun(container(&json!({ "waiting": { "reason": "ContainerCreating" } })), None)]
    #[case::running(container(&json!({ "running": {} })), None)]
    #[case::crashing(
        container(&json!({ "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 10s" } })),
        Some(("CrashLoopBackOff", "container main of pod serve-0 waits: CrashLoopBackOff: back-off 10s", true))
    )]
    #[case::ended(
        container(&json!({ "terminated": { "exitCode": 3, "reason": "Error" } })),
        Some(("Error", "container main of pod serve-0 has ended with exit code 3", false))
    )]
    #[case::evicted(
        json!({ "phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory." }),
        Some(("Evicted", "pod serve-0 has failed: The node was low on resource: memory.", false))
    )]
    #[case::unschedulable(
        json!({ "phase": "Pending", "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/3 nodes are available.", "lastTransitionTime": "2026-11-22T11:55:00Z",
        }] }),
        Some(("Unschedulable", "pod serve-0 can't be scheduled: 0/3 nodes are available.", false))
    )]
    fn a_pod_in_trouble_says_which(#[case] status: Value, #[case] expected: Option<(&str, &str, bool)>) {
        let found = of(&pod(&status));
        let found = found.as_ref().map(|trouble| (trouble.reason.as_str(), trouble.message.as_str(), trouble.lasting));
        assert_eq!(found, expected);
    }

    #[test]
    fn a_group_is_hopeless_when_a_container_cannot_start_or_nothing_has_changed_for_ten_minutes() {
        let at = |pod: &Pod, now: Timestamp| outlook(&Group { leader: Some(pod), ..Group::default() }, now);
        let starting = pod(&container(&json!({ "running": {} })));
        assert_eq!(at(&starting, now()), Outlook::Open(Duration::from_secs(300)));
        assert_eq!(at(&starting, "2026-11-22T12:05:00Z".parse().unwrap()), Outlook::Hopeless);
        let crashing = pod(&container(&json!({ "waiting": { "reason": "CrashLoopBackOff" } })));
        assert_eq!(at(&crashing, now()), Outlook::Hopeless);
        // It was ready a minute ago.
        let lost = pod(&json!({ "phase": "Running", "conditions": [
            { "type": "Ready", "status": "False", "lastTransitionTime": "2026-11-22T11:59:00Z" },
        ] }));
        assert_eq!(at(&lost, now()), Outlook::Open(Duration::from_secs(540)));
    }
}
