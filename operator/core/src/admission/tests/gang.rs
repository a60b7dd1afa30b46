use rstest::rstest;
use serde_json::{Value, json};

use super::{leader, worker};
use crate::admission::{Gang, Guard, Placement, PodContext, mutate};
use crate::placement::effects::Effects;

fn admitted(mut pod: Value, gang: Gang<'_>) -> Value {
    mutate(
        &mut pod,
        &PodContext {
            namespace: "default",
            placement: Placement::None,
            gang,
            effects: &Effects::default(),
            guard: &Guard::default(),
        },
    )
    .unwrap();
    pod
}

/// A worker as the worker StatefulSet of a real set makes it: with the revision of its leader.
fn worker_of_a_revision() -> Value {
    let mut pod = worker("set-1-2");
    pod["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/template-revision-hash"] = "abc".into();
    pod
}

#[rstest]
#[case::leader(leader("set-1"))]
#[case::worker(worker_of_a_revision())]
fn volcano_finds_the_name_of_the_pod_group_in_upstreams_annotation(#[case] pod: Value) {
    let pod = admitted(pod, Gang::Volcano);
    assert_eq!(pod["metadata"]["annotations"]["scheduling.k8s.io/group-name"], "set-1-abc");
    assert_eq!(pod["spec"].get("schedulingGroup"), None);
    assert_eq!(pod["spec"].get("schedulerName"), None, "which scheduler has the pods is their author's choice");
}

#[rstest]
#[case::a_leader_begins_a_gang(leader("set-1"), Gang::Begin("0a1b2c3d"), Some("set-1-abc-0a1b2c3d"))]
#[case::a_worker_joins_its_leaders(worker_of_a_revision(), Gang::Join("set-1-abc-0a1b2c3d"), Some("set-1-abc-0a1b2c3d"))]
#[case::a_worker_begins_none(worker_of_a_revision(), Gang::Begin("0a1b2c3d"), None)]
#[case::a_leader_joins_none(leader("set-1"), Gang::Join("set-1-abc-0a1b2c3d"), None)]
#[case::switched_off(leader("set-1"), Gang::None, None)]
fn kube_scheduler_finds_the_name_of_the_pod_group_in_the_spec(
    #[case] pod: Value,
    #[case] gang: Gang<'_>,
    #[case] expected: Option<&str>,
) {
    let pod = admitted(pod, gang);
    assert_eq!(pod["spec"].get("schedulingGroup"), expected.map(|name| json!({ "podGroupName": name })).as_ref());
    assert_eq!(pod["metadata"]["annotations"].get("scheduling.k8s.io/group-name"), None);
}

#[test]
fn a_scheduling_group_that_the_author_chose_stays() {
    let mut pod = leader("set-1");
    pod["spec"]["schedulingGroup"] = json!({ "podGroupName": "mine" });
    assert_eq!(admitted(pod, Gang::Begin("0a1b2c3d"))["spec"]["schedulingGroup"], json!({ "podGroupName": "mine" }));
}

// What Kueue and KAI-Scheduler read on a pod, and what must not appear there: see `reference` of either in their LWS integrations.
#[test]
fn kueue_and_kai_find_what_they_read() {
    let mut pod = worker_of_a_revision();
    pod["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "team".into();
    pod["metadata"]["labels"]["kueue.x-k8s.io/pod-group-name"] = "workload".into();
    pod["metadata"]["annotations"]["kueue.x-k8s.io/pod-group-total-count"] = "4".into();
    pod["spec"]["schedulingGates"] = json!([{ "name": "kueue.x-k8s.io/admission" }]);
    let pod = admitted(pod, Gang::None);
    assert_eq!(
        pod["metadata"]["labels"],
        json!({
            "leaderworkerset.sigs.k8s.io/name": "set",
            "leaderworkerset.sigs.k8s.io/group-index": "1",
            "leaderworkerset.sigs.k8s.io/group-key": "key",
            "leaderworkerset.sigs.k8s.io/template-revision-hash": "abc",
            "leaderworkerset.sigs.k8s.io/worker-index": "2",
            "kueue.x-k8s.io/queue-name": "team",
            "kueue.x-k8s.io/pod-group-name": "workload",
        })
    );
    assert_eq!(
        pod["metadata"]["annotations"],
        json!({
            "leaderworkerset.sigs.k8s.io/size": "4",
            "leaderworkerset.sigs.k8s.io/leader-name": "set-1",
            "kueue.x-k8s.io/pod-group-total-count": "4",
        })
    );
    assert_eq!(pod["spec"]["schedulingGates"], json!([{ "name": "kueue.x-k8s.io/admission" }]));
}
