//! The first backend: groups rendered as StatefulSets and headless services, object for object what upstream writes (lws v0.10,
//! `reference` §2.4, §2.5, §2.10), so that a cluster can move between the two operators without a pod noticing.
//!
//! Templates are opaque JSON: a field newer than our bindings travels through untouched. Nothing is added to a pod template that
//! upstream would not add; what Muster needs on a pod comes at admission or by patch.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use muster_api::LeaderWorkerSet;
use muster_api::leader_worker_set::SubdomainPolicy;
use muster_api::names::{annotation, label};
use serde_json::{Map, Value, json};

use crate::instructions::Instructions;
use crate::pods;
use crate::record::Record;
use crate::rollout::Target;
use crate::subgroups::SubgroupDomains;

type Strings = BTreeMap<String, String>;

/// Owner reference to the set, as on everything it owns directly.
pub fn owner_reference(set: &LeaderWorkerSet) -> Value {
    json!({
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "name": set.metadata.name,
        "uid": set.metadata.uid,
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

pub(crate) fn leader_reference(leader: &Pod) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "name": pods::name(leader),
        "uid": pods::uid(leader),
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

fn strings(pairs: impl IntoIterator<Item = (&'static str, String)>) -> Strings {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// The user's labels or annotations of the set with the operator's own on top.
fn with(user: Option<&Strings>, ours: Strings) -> Strings {
    let mut merged = user.cloned().unwrap_or_default();
    merged.extend(ours);
    merged
}

/// A copy of a raw pod template with labels and annotations added.
fn template(raw: &Value, labels: Strings, annotations: Strings) -> Value {
    let mut copy = raw.clone();
    let metadata = &mut copy["metadata"];
    if !metadata.is_object() {
        *metadata = json!({});
    }
    for (field, additions) in [("labels", labels), ("annotations", annotations)] {
        if additions.is_empty() {
            continue;
        }
        let map = &mut metadata[field];
        if !map.is_object() {
            *map = json!({});
        }
        for (key, value) in additions {
            map[key] = Value::String(value);
        }
    }
    copy
}

/// Annotations that leader and worker templates have in common.
fn shared_annotations(set: &LeaderWorkerSet) -> Strings {
    let mut annotations = strings([(annotation::SIZE, set.size().to_string())]);
    let mut copy_if_set = |key: &str| {
        if let Some(value) = set.annotation(key).filter(|value| !value.is_empty()) {
            annotations.insert(key.to_owned(), value.to_owned());
        }
    };
    copy_if_set(annotation::EXCLUSIVE_TOPOLOGY);
    if let Some(size) = set.sub_group_size() {
        copy_if_set(annotation::SUBGROUP_EXCLUSIVE_TOPOLOGY);
        annotations.insert(annotation::SUBGROUP_SIZE.to_owned(), size.to_string());
        if let Some(kind) = set.sub_group_policy_type() {
            annotations.insert(annotation::SUBGROUP_POLICY_TYPE.to_owned(), kind.as_str().to_owned());
        }
    }
    annotations
}

fn claims(set: &LeaderWorkerSet, spec: &mut Map<String, Value>) {
    let template = &set.spec.leader_worker_template;
    if !template.volume_claim_templates.is_empty() {
        let raw = template.volume_claim_templates.iter().map(|claim| claim.0.clone()).collect();
        spec.insert("volumeClaimTemplates".to_owned(), Value::Array(raw));
    }
    if let Some(policy) = &template.persistent_volume_claim_retention_policy {
        // Clients that hold upstream's structs send a half that is not set as the empty string, which no StatefulSet may have.
        let halves = [("whenDeleted", &policy.when_deleted), ("whenScaled", &policy.when_scaled)];
        let halves = halves.into_iter().filter_map(|(when, choice)| Some((when, choice.as_ref()?)));
        let halves: BTreeMap<_, _> = halves.filter(|(_, choice)| !choice.is_empty()).collect();
        spec.insert("persistentVolumeClaimRetentionPolicy".to_owned(), json!(halves));
    }
}

/// The leader StatefulSet, for server-side apply.
///
/// `max_parallel` is how many leaders the StatefulSet controller may replace at once where the cluster lets it.
pub fn leader_set(set: &LeaderWorkerSet, revision_key: &str, target: Target, max_parallel: u32) -> Value {
    let set_name = set.set_name();
    let mut annotations = shared_annotations(set);
    if set.subdomain_policy() == SubdomainPolicy::UniquePerReplica {
        annotations.insert(annotation::SUBDOMAIN_POLICY.to_owned(), SubdomainPolicy::UniquePerReplica.as_str().to_owned());
    }
    let labels = strings([
        (label::WORKER_INDEX, "0".to_owned()),
        (label::SET_NAME, set_name.to_owned()),
        (label::REVISION, revision_key.to_owned()),
    ]);
    let own_labels = strings([(label::SET_NAME, set_name.to_owned()), (label::REVISION, revision_key.to_owned())]);
    let own_annotations = strings([(annotation::REPLICAS, set.replicas().to_string())]);
    let mut object = json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {
            "name": set_name,
            "namespace": set.set_namespace(),
            "labels": with(set.metadata.labels.as_ref(), own_labels),
            "annotations": with(users_annotations(set).as_ref(), own_annotations),
            "ownerReferences": [owner_reference(set)],
        },
        "spec": {
            "serviceName": set_name,
            "replicas": target.replicas,
            "podManagementPolicy": "Parallel",
            "selector": { "matchLabels": { label::SET_NAME: set_name, label::WORKER_INDEX: "0" } },
            "template": template(&set.leader_template().0, labels, annotations),
            "updateStrategy": {
                "type": "RollingUpdate",
                "rollingUpdate": { "partition": target.partition, "maxUnavailable": max_parallel.max(1) },
            },
        },
    });
    if let Some(Value::Object(spec)) = object.get_mut("spec") {
        claims(set, spec);
    }
    object
}

/// Copies of the set's annotations, without kubectl's record of the whole object, which has no meaning on another one.
fn users_annotations(set: &LeaderWorkerSet) -> Option<Strings> {
    let mut annotations = set.metadata.annotations.clone()?;
    annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    Some(annotations)
}

/// Where the pods of a group go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seat {
    /// Node labels that all of them select.
    pub selector: Strings,
    /// The domains that its subgroups have for themselves.
    pub subgroups: Option<SubgroupDomains>,
    /// What they get one by one.
    pub instructions: Instructions,
}

impl From<Record> for Seat {
    fn from(record: Record) -> Self {
        Self { selector: record.selector, subgroups: record.subgroups, instructions: record.instructions }
    }
}

/// Labels that a group's worker StatefulSet selects its pods by.
fn identity(live: &LeaderWorkerSet, leader: &Pod) -> Strings {
    strings([
        (label::GROUP_INDEX, pods::label(leader, label::GROUP_INDEX).unwrap_or_default().to_owned()),
        (label::SET_NAME, live.set_name().to_owned()),
        (label::GROUP_KEY, pods::label(leader, label::GROUP_KEY).unwrap_or_default().to_owned()),
    ])
}

/// Labels of the operator's own on a group's worker StatefulSet and its pods.
pub fn worker_labels(live: &LeaderWorkerSet, leader: &Pod) -> BTreeMap<String, String> {
    let revision = strings([(label::REVISION, pods::revision(leader).unwrap_or_default().to_owned())]);
    with(Some(&identity(live, leader)), revision)
}

/// The worker StatefulSet of one group.
///
/// `restored` is the set as of the leader's revision; labels and annotations come from `live`, as upstream has it. The seat's
/// selector ties every worker to the group's domain; what workers get by rank is in annotations of the template, which admission
/// reads.
pub fn worker_set(live: &LeaderWorkerSet, restored: &LeaderWorkerSet, leader: &Pod, seat: &Seat, replicas: u32) -> Value {
    let leader_name = pods::name(leader);
    let identity = identity(live, leader);
    let labels = worker_labels(live, leader);
    let mut annotations = shared_annotations(restored);
    annotations.insert(annotation::LEADER_NAME.to_owned(), leader_name.to_owned());
    if requests_tpus(leader) {
        annotations.insert(annotation::LEADER_REQUESTS_TPUS.to_owned(), "true".to_owned());
    }
    if let Some(subgroups) = &seat.subgroups {
        annotations.insert(annotation::SUBGROUP_DOMAINS.to_owned(), subgroups.to_string());
    }
    if !seat.instructions.is_empty() {
        annotations.insert(annotation::INSTRUCTIONS.to_owned(), seat.instructions.render());
    }
    let mut pod_template = template(&restored.worker_template().0, labels.clone(), annotations);
    if !seat.selector.is_empty() {
        let map = &mut pod_template["spec"]["nodeSelector"];
        if !map.is_object() {
            *map = json!({});
        }
        for (key, value) in &seat.selector {
            map[key] = Value::String(value.clone());
        }
    }
    let service = match restored.subdomain_policy() {
        SubdomainPolicy::Shared => live.set_name(),
        SubdomainPolicy::UniquePerReplica => leader_name,
    };
    let mut object = json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {
            "name": leader_name,
            "namespace": live.set_namespace(),
            "labels": with(live.metadata.labels.as_ref(), labels),
            "annotations": users_annotations(live),
            "ownerReferences": [leader_reference(leader)],
        },
        "spec": {
            "serviceName": service,
            "replicas": replicas,
            "podManagementPolicy": "Parallel",
            "ordinals": { "start": 1 },
            "selector": { "matchLabels": identity },
            "template": pod_template,
        },
    });
    if let Some(Value::Object(spec)) = object.get_mut("spec") {
        claims(restored, spec);
    }
    object
}

fn requests_tpus(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let mut resources = containers.filter_map(|container| container.resources.as_ref());
    resources.any(|resources| {
        let asked = resources.limits.as_ref().and_then(|limits| limits.get("google.com/tpu"));
        let asked = asked.or_else(|| resources.requests.as_ref().and_then(|requests| requests.get("google.com/tpu")));
        asked.is_some_and(|quantity| quantity.0 != "0")
    })
}

fn headless(name: &str, namespace: &str, set_name: &str, selector: &Value, owner: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": { label::SET_NAME: set_name },
            "ownerReferences": [owner],
        },
        "spec": { "clusterIP": "None", "publishNotReadyAddresses": true, "selector": selector },
    })
}

/// The set's headless service (`Shared`).
pub fn shared_service(set: &LeaderWorkerSet) -> Value {
    let set_name = set.set_name();
    headless(set_name, set.set_namespace(), set_name, &json!({ label::SET_NAME: set_name }), &owner_reference(set))
}

/// One group's headless service (`UniquePerReplica`).
pub fn group_service(set: &LeaderWorkerSet, group: u32, leader: &Pod) -> Value {
    let set_name = set.set_name();
    let selector = json!({ label::SET_NAME: set_name, label::GROUP_INDEX: group.to_string() });
    headless(pods::name(leader), set.set_namespace(), set_name, &selector, &leader_reference(leader))
}
