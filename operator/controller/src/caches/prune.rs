//! Objects without what nobody here reads: the caches hold every pod of the cluster.

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{Container, Node, PersistentVolumeClaim, Pod, PodSpec, Service, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use muster_core::owner::controller;

use super::shelf::set_of;

fn slim_meta(meta: &mut ObjectMeta) {
    meta.managed_fields = None;
    if let Some(annotations) = &mut meta.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}

fn resources_only(container: &Container) -> Container {
    Container {
        name: container.name.clone(),
        resources: container.resources.clone(),
        restart_policy: container.restart_policy.clone(),
        ..Container::default()
    }
}

/// A pod as placement, groups and status need it.
pub(super) fn pod(mut pod: Pod) -> Pod {
    slim_meta(&mut pod.metadata);
    if let Some(spec) = pod.spec.take() {
        pod.spec = Some(PodSpec {
            affinity: spec.affinity,
            containers: spec.containers.iter().map(resources_only).collect(),
            init_containers: spec.init_containers.map(|containers| containers.iter().map(resources_only).collect()),
            node_name: spec.node_name,
            node_selector: spec.node_selector,
            overhead: spec.overhead,
            priority: spec.priority,
            resources: spec.resources,
            scheduling_gates: spec.scheduling_gates,
            scheduling_group: spec.scheduling_group,
            tolerations: spec.tolerations,
            ..PodSpec::default()
        });
    }
    pod
}

/// A StatefulSet; of those that are nobody's set, only that they exist. One of ours stays ours when somebody takes its label off.
pub(super) fn stateful_set(mut object: StatefulSet) -> StatefulSet {
    slim_meta(&mut object.metadata);
    let owned = controller(&object.metadata).is_some_and(|owner| matches!(owner.kind.as_str(), "LeaderWorkerSet" | "Pod"));
    if set_of(&object.metadata).is_none() && !owned {
        object.spec = None;
        object.status = None;
    }
    object
}

/// A service: whose it is, and of those of a set what is kept as it was made.
pub(crate) fn service(mut object: Service) -> Service {
    slim_meta(&mut object.metadata);
    let ours = set_of(&object.metadata).is_some();
    object.spec = object.spec.filter(|_| ours).map(|spec| ServiceSpec {
        cluster_ip: spec.cluster_ip,
        publish_not_ready_addresses: spec.publish_not_ready_addresses,
        selector: spec.selector,
        type_: spec.type_,
        ..ServiceSpec::default()
    });
    object.status = None;
    object
}

/// A volume claim: whose it is.
pub(crate) fn claim(mut object: PersistentVolumeClaim) -> PersistentVolumeClaim {
    slim_meta(&mut object.metadata);
    object.spec = None;
    object.status = None;
    object
}

/// A ControllerRevision; of those that are nobody's set, only that they exist.
pub(super) fn revision(mut object: ControllerRevision) -> ControllerRevision {
    slim_meta(&mut object.metadata);
    if set_of(&object.metadata).is_none() {
        object.data = None;
    }
    object
}

/// A node without images and the like.
pub(super) fn node(mut node: Node) -> Node {
    slim_meta(&mut node.metadata);
    if let Some(status) = &mut node.status {
        status.images = None;
        status.volumes_attached = None;
        status.volumes_in_use = None;
    }
    node
}
