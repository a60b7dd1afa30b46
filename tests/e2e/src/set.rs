//! Sets to apply.

use muster_api::names::annotation;
use muster_cluster::{GPU, merge};
use serde_json::{Value, json};

use crate::site::{Site, TAINT};

/// A LeaderWorkerSet in the making: one group of one pod that asks for nothing, until told otherwise.
#[derive(Clone, Debug)]
pub struct Set(Value);

impl Set {
    /// A set called `name`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(json!({
            "apiVersion": "leaderworkerset.x-k8s.io/v1",
            "kind": "LeaderWorkerSet",
            "metadata": { "name": name },
            "spec": { "leaderWorkerTemplate": { "workerTemplate": { "spec": {
                "containers": [{ "name": "main", "image": "example.com/main:1" }],
            } } } },
        }))
    }

    /// How many groups of how many pods.
    #[must_use]
    pub fn groups(self, replicas: i32, size: i32) -> Self {
        self.with(&json!({ "spec": { "replicas": replicas, "leaderWorkerTemplate": { "size": size } } }))
    }

    /// Adds or replaces an annotation of the set.
    #[must_use]
    pub fn annotated(self, key: &str, value: &str) -> Self {
        self.with(&json!({ "metadata": { "annotations": { key: value } } }))
    }

    /// Lets every pod onto the nodes of `site`, and asks for so many GPUs each.
    #[must_use]
    pub fn on(self, site: &Site, gpus: u32) -> Self {
        let spec = json!({
            "tolerations": [{ "key": TAINT, "value": site.name(), "effect": "NoSchedule" }],
            "containers": [{
                "name": "main",
                "image": "example.com/main:1",
                "resources": { "limits": { GPU: gpus.to_string() } },
            }],
        });
        self.with(&json!({ "spec": { "leaderWorkerTemplate": { "workerTemplate": { "spec": spec } } } }))
    }

    /// Each group alone in a domain of this node label.
    #[must_use]
    pub fn exclusive(self, key: &str) -> Self {
        self.annotated(annotation::EXCLUSIVE_TOPOLOGY, key)
    }

    /// Divides each group into subgroups of so many pods.
    #[must_use]
    pub fn subgroups(self, size: i32) -> Self {
        self.with(&json!({ "spec": { "leaderWorkerTemplate": { "subGroupPolicy": { "subGroupSize": size } } } }))
    }

    /// Leaves the leader out of every subgroup.
    #[must_use]
    pub fn leader_excluded(self) -> Self {
        let policy = json!({ "subGroupPolicyType": "LeaderExcluded" });
        self.with(&json!({ "spec": { "leaderWorkerTemplate": { "subGroupPolicy": policy } } }))
    }

    /// Each subgroup alone in a domain of this node label.
    #[must_use]
    pub fn subgroup_exclusive(self, key: &str) -> Self {
        self.annotated(annotation::SUBGROUP_EXCLUSIVE_TOPOLOGY, key)
    }

    /// Lays any part of an object over this one; lists are replaced.
    #[must_use]
    pub fn with(mut self, part: &Value) -> Self {
        merge(&mut self.0, part);
        self
    }

    /// The object.
    #[must_use]
    pub fn object(&self) -> &Value {
        &self.0
    }

    /// The object as text for `kubectl apply`.
    #[must_use]
    pub fn manifest(&self) -> String {
        self.0.to_string()
    }
}
