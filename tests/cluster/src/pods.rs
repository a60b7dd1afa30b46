//! Pods for tests.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::ObjectMeta;

/// A pod of one container that asks for nothing.
#[derive(Clone, Debug)]
pub struct PodBuilder {
    pod: Pod,
    requests: BTreeMap<String, Quantity>,
}

impl PodBuilder {
    /// A pod called `name`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        Self { pod: Pod { metadata, spec: Some(PodSpec::default()), status: None }, requests: BTreeMap::new() }
    }

    /// Adds or replaces a label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.pod.metadata.labels.get_or_insert_default().insert(key.to_owned(), value.to_owned());
        self
    }

    /// Asks for `amount` of a resource (as request and limit).
    #[must_use]
    pub fn resource(mut self, name: &str, amount: &str) -> Self {
        self.requests.insert(name.to_owned(), Quantity(amount.to_owned()));
        self
    }

    /// Binds the pod to a node, past the scheduler.
    #[must_use]
    pub fn on(mut self, node: &str) -> Self {
        self.pod.spec.get_or_insert_default().node_name = Some(node.to_owned());
        self
    }

    /// Asks for nodes with this label.
    #[must_use]
    pub fn node_selector(mut self, key: &str, value: &str) -> Self {
        let spec = self.pod.spec.get_or_insert_default();
        spec.node_selector.get_or_insert_default().insert(key.to_owned(), value.to_owned());
        self
    }

    /// The pod object.
    #[must_use]
    pub fn build(self) -> Pod {
        let mut pod = self.pod;
        let requests = (!self.requests.is_empty()).then_some(self.requests);
        pod.spec.get_or_insert_default().containers = vec![Container {
            name: "main".to_owned(),
            image: Some("example.com/main:1".to_owned()),
            resources: Some(ResourceRequirements { limits: requests.clone(), requests, ..ResourceRequirements::default() }),
            ..Container::default()
        }];
        pod
    }
}

/// Whether the pod's `Ready` condition is true.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
