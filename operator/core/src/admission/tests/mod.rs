//! Tables for every rule of admission; expected values are written out.

mod choice;
mod effects;
mod gang;
mod guard;
mod multislice;
mod pods;
mod properties;
mod subgroup_domains;
mod subgroups;
mod tpu;
mod tpu_in_subgroups;
mod tpu_properties;

use serde_json::{Value, json};

use super::{AdmissionError, Gang, Guard, Outcome, Placement, PodContext, mutate};
use crate::placement::effects::Effects;

/// A leader as the StatefulSet controller creates it from a template of a set named `set`.
fn leader(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {
                "leaderworkerset.sigs.k8s.io/name": "set",
                "leaderworkerset.sigs.k8s.io/worker-index": "0",
                "leaderworkerset.sigs.k8s.io/template-revision-hash": "abc",
            },
            "annotations": {"leaderworkerset.sigs.k8s.io/size": "4"},
        },
        "spec": {"subdomain": "set", "containers": [{"name": "main", "image": "i"}]},
    })
}

/// A worker as the StatefulSet controller creates it from the worker template of group 1 of a set named `set`.
fn worker(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {
                "leaderworkerset.sigs.k8s.io/name": "set",
                "leaderworkerset.sigs.k8s.io/group-index": "1",
                "leaderworkerset.sigs.k8s.io/group-key": "key",
            },
            "annotations": {
                "leaderworkerset.sigs.k8s.io/size": "4",
                "leaderworkerset.sigs.k8s.io/leader-name": "set-1",
            },
        },
        "spec": {"subdomain": "set", "containers": [{"name": "main", "image": "i"}]},
    })
}

fn label<'a>(pod: &'a Value, key: &str) -> Option<&'a str> {
    pod["metadata"]["labels"].get(format!("leaderworkerset.sigs.k8s.io/{key}"))?.as_str()
}

fn annotate(pod: &mut Value, key: &str, value: &str) {
    pod["metadata"]["annotations"][format!("leaderworkerset.sigs.k8s.io/{key}")] = value.into();
}

/// Admits a pod of a set that somebody else places.
fn admit(pod: &mut Value) -> Result<Outcome, AdmissionError> {
    mutate(
        pod,
        &PodContext {
            namespace: "default",
            placement: Placement::None,
            gang: Gang::None,
            effects: &Effects::default(),
            guard: &Guard::default(),
        },
    )
}

/// A container that requests TPUs.
fn tpu_container(name: &str) -> Value {
    json!({"name": name, "image": "i", "resources": {"limits": {"google.com/tpu": "4"}}})
}

/// The pod of that name, of a set `test-sample` whose service is `default`, with one TPU container. Groups are numbered by
/// one digit, so a longer name is a worker's.
fn tpu_pod(name: &str, size: &str) -> Value {
    let group = &name["test-sample-".len()..];
    let mut pod = if group.len() == 1 { leader(name) } else { worker(name) };
    pod["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/name"] = "test-sample".into();
    if group.len() > 1 {
        pod["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/group-index"] = group[..1].into();
        annotate(&mut pod, "leader-name", &name[.."test-sample-0".len()]);
    }
    annotate(&mut pod, "size", size);
    pod["spec"] = json!({"subdomain": "default", "containers": [tpu_container("main")]});
    pod
}

/// A variable of a container; `None` if it isn't there.
fn variable<'a>(container: &'a Value, name: &str) -> Option<&'a str> {
    let named: Vec<&Value> = container["env"].as_array()?.iter().filter(|variable| variable["name"] == name).collect();
    assert!(named.len() <= 1, "{name} is there twice");
    named.first()?["value"].as_str()
}
