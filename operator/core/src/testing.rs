//! Builders for this crate's tests.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use muster_api::{LeaderWorkerSet, defaults};
use serde_json::{Value, json};

use crate::observed::Observed;
use crate::plan::{Plan, Write};

pub(crate) fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

/// A defaulted set `team/serve` of two groups with four pods each, changed by `change`.
pub(crate) fn set(change: impl FnOnce(&mut Value)) -> LeaderWorkerSet {
    let mut raw = json!({
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": { "name": "serve", "namespace": "team", "uid": "set-uid", "generation": 1 },
        "spec": {
            "replicas": 2,
            "leaderWorkerTemplate": {
                "size": 4,
                "workerTemplate": { "spec": { "containers": [{ "name": "main", "image": "image:1" }] } },
            },
        },
    });
    change(&mut raw);
    let mut set: LeaderWorkerSet = serde_json::from_value(raw).unwrap();
    defaults::default_set(&mut set);
    set
}

/// What the caches show once the plan's objects exist; pods are added by [`with_leader`].
pub(crate) fn written(plan: &Plan) -> Observed {
    let mut observed = Observed::default();
    for step in &plan.steps {
        match &step.write {
            Write::CreateRevision(object) => {
                let revision: ControllerRevision = serde_json::from_value(object.clone()).unwrap();
                observed.revisions.push(Arc::new(revision));
            }
            Write::ApplyLeaderSet { object, .. } | Write::CreateWorkerSet(object) => {
                let object: StatefulSet = serde_json::from_value(object.clone()).unwrap();
                observed.stateful_sets.insert(object.metadata.name.clone().unwrap(), Arc::new(object));
            }
            Write::CreateService(object) => {
                let service: k8s_openapi::api::core::v1::Service = serde_json::from_value(object.clone()).unwrap();
                observed.services.insert(service.metadata.name.clone().unwrap(), Arc::new(service));
            }
            _ => {}
        }
    }
    observed
}

/// The leader of a group as StatefulSet controller and admission make it, changed by `change`.
pub(crate) fn with_leader(observed: &mut Observed, group: u32, change: impl FnOnce(&mut Value)) {
    let template = &observed.stateful_sets["serve"].spec.as_ref().unwrap().template;
    let mut raw = serde_json::to_value(template).unwrap();
    let name = format!("serve-{group}");
    raw["metadata"]["name"] = json!(name);
    raw["metadata"]["namespace"] = json!("team");
    raw["metadata"]["uid"] = json!(format!("leader-{group}-uid"));
    raw["metadata"]["resourceVersion"] = json!("7");
    raw["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/group-index"] = json!(group.to_string());
    raw["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/group-key"] = json!(muster_api::names::group_key("team", &name));
    change(&mut raw);
    let pod: Pod = serde_json::from_value(raw).unwrap();
    observed.pods.insert(name, Arc::new(pod));
}

/// Puts Muster's gate on.
pub(crate) fn gated(pod: &mut Value) {
    pod["spec"]["schedulingGates"] = json!([{ "name": "muster.dev/placement" }]);
}

/// Running and ready on a node.
pub(crate) fn ready(pod: &mut Value) {
    pod["spec"]["nodeName"] = json!("node-1");
    pod["status"] = json!({ "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] });
}
