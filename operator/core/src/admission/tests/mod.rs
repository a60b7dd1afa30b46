//! Tables for every rule of admission; expected values are written out.

mod choice;
mod pods;
mod properties;

use serde_json::{Value, json};

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
