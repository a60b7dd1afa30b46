//! Gang scheduling: one PodGroup for each group, for a scheduler that binds a group as a whole or not at all.
//!
//! Two schedulers are served. *Volcano* gets the PodGroups that upstream writes for it (`reference` §2.12), name for name and field
//! for field. *Kubernetes* is the API server's own kind (`scheduling.k8s.io/v1alpha2`, Kubernetes 1.36, off by default), which
//! upstream doesn't serve yet. Its PodGroup needs no Workload: it states its own policy.
//!
//! Where this differs from upstream on purpose: size and resources are those of the revision that the leader was made from (upstream
//! takes the live spec, so a group that restarts during a rollout would wait for members it doesn't have); limits count where a
//! container requests nothing, as the API server makes them requests of the pod; and a PodGroup of Muster's own that somebody changes
//! is put right (one that upstream made stays as it is as long as its leader does).

pub mod quantity;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use muster_api::LeaderWorkerSet;
use muster_api::names::{self, annotation, label};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::backend::leader_reference;
use crate::cluster::amounts::{Amounts, PODS, QuantityError};
use crate::cluster::shape::requests_of;
use crate::pods;

/// Whose PodGroups are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// The scheduler Volcano.
    Volcano,
    /// kube-scheduler, with its feature gate `GangScheduling`.
    Kubernetes,
}

impl Provider {
    /// API version of its PodGroups.
    pub fn api_version(self) -> &'static str {
        match self {
            Self::Volcano => "scheduling.volcano.sh/v1beta1",
            Self::Kubernetes => "scheduling.k8s.io/v1alpha2",
        }
    }

    /// What to do on a cluster that doesn't serve its PodGroups.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Volcano => "install Volcano",
            Self::Kubernetes => {
                "start the API server with --feature-gates=GenericWorkload=true and \
                 --runtime-config=scheduling.k8s.io/v1alpha2=true, and the scheduler with \
                 --feature-gates=GenericWorkload=true,GangScheduling=true"
            }
        }
    }
}

/// Gang scheduling as it stands in this cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gangs {
    /// Whose PodGroups are written.
    pub provider: Provider,
    /// Whether the API server serves them.
    pub served: bool,
}

/// A PodGroup of either kind, as the cache has it.
#[derive(Debug, Clone, PartialEq)]
pub struct PodGroup {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// Its spec.
    pub spec: Value,
}

/// The field manager that Muster creates PodGroups as.
pub const MAKER: &str = "muster";

impl PodGroup {
    /// Whether Muster made it, rather than upstream before Muster took over.
    pub fn is_made_by_muster(&self) -> bool {
        self.metadata.managed_fields.iter().flatten().any(|entry| entry.manager.as_deref() == Some(MAKER))
    }

    /// How many pods the API server's own kind binds together; 1 without a gang.
    pub fn min_count(&self) -> u32 {
        let count = self.spec.pointer("/schedulingPolicy/gang/minCount").and_then(Value::as_u64);
        count.and_then(|count| u32::try_from(count).ok()).unwrap_or(1)
    }
}

/// Name of the PodGroup that Volcano schedules the leader's group with.
pub fn volcano_name(leader: &Pod) -> String {
    let part = |key| pods::label(leader, key).unwrap_or_default();
    names::pod_group(part(label::SET_NAME), part(label::GROUP_INDEX), part(label::REVISION))
}

/// Name of the PodGroup that admission gave the leader, for Muster to create. `None` for a leader without one, or with one that its
/// author chose and sees to.
pub fn own_name(leader: &Pod) -> Option<&str> {
    let name = leader.spec.as_ref()?.scheduling_group.as_ref()?.pod_group_name.as_deref()?;
    name.strip_prefix(&format!("{}-", volcano_name(leader))).map(|_| name)
}

/// The PodGroup that Volcano gets. `restored` is the set as of the leader's revision; annotations come from `live`.
pub fn volcano(live: &LeaderWorkerSet, restored: &LeaderWorkerSet, leader: &Pod, min_member: u32) -> Value {
    let mut object = pod_group(Provider::Volcano, &volcano_name(leader), leader, true);
    let annotations = live.metadata.annotations.iter().flatten();
    let volcanos: Map<String, Value> = annotations
        .filter(|(key, _)| key.starts_with(annotation::VOLCANO_PREFIX))
        .map(|(key, value)| (key.clone(), Value::from(value.as_str())))
        .collect();
    if !volcanos.is_empty() {
        object["metadata"]["annotations"] = Value::Object(volcanos);
    }
    object["spec"] = json!({ "minMember": min_member });
    if let Some(resources) = min_resources(restored) {
        object["spec"]["minResources"] = resources;
    }
    if let Some(queue) = live.annotation(annotation::VOLCANO_QUEUE) {
        object["spec"]["queue"] = queue.into();
    }
    object
}

/// The PodGroup of the API server's own kind: all `min_count` pods together, or one by one when that is 1.
pub fn kubernetes(name: &str, leader: &Pod, min_count: u32) -> Value {
    let policy = if min_count > 1 { json!({ "gang": { "minCount": min_count } }) } else { json!({ "basic": {} }) };
    // This PodGroup can't go before the last pod that names it, its leader included. If it held up its leader's deletion too, a
    // group that starts over would wait for itself.
    let mut object = pod_group(Provider::Kubernetes, name, leader, false);
    object["spec"] = json!({ "schedulingPolicy": policy });
    object
}

fn pod_group(provider: Provider, name: &str, leader: &Pod, blocks_leader: bool) -> Value {
    let kept = [label::SET_NAME, label::GROUP_INDEX, label::REVISION];
    let labels: Map<String, Value> =
        kept.into_iter().map(|key| (key.to_owned(), pods::label(leader, key).unwrap_or_default().into())).collect();
    let mut owner = leader_reference(leader);
    owner["blockOwnerDeletion"] = blocks_leader.into();
    json!({
        "apiVersion": provider.api_version(),
        "kind": "PodGroup",
        "metadata": {
            "name": name,
            "namespace": leader.metadata.namespace,
            "labels": labels,
            "ownerReferences": [owner],
        },
    })
}

/// What a PodGroup has to be changed by to be as `wanted`, and the fields that this is about, as a merge patch bound to the object.
/// `None` while all is well. What Muster doesn't write is not looked at. The spec of the API server's own kind can't be changed.
pub fn repair(wanted: &Value, existing: &PodGroup) -> Option<(Value, String)> {
    let meta = json!(existing.metadata);
    let mut patch = json!({});
    let mut fields = Vec::new();
    let mut compare = |path: [&'static str; 2], live: Option<&Value>, exact: bool| {
        let Some(wanted) = wanted[path[0]].get(path[1]) else { return };
        if let Some(difference) = difference(wanted, live.unwrap_or(&Value::Null), exact) {
            patch[path[0]][path[1]] = difference;
            fields.push(path.join("."));
        }
    };
    compare(["metadata", "labels"], meta.get("labels"), false);
    compare(["metadata", "annotations"], meta.get("annotations"), false);
    if wanted["apiVersion"] == Provider::Volcano.api_version() {
        compare(["spec", "minMember"], existing.spec.get("minMember"), true);
        compare(["spec", "minResources"], existing.spec.get("minResources"), true);
        compare(["spec", "queue"], existing.spec.get("queue"), true);
    }
    if fields.is_empty() {
        return None;
    }
    patch["metadata"]["uid"] = json!(existing.metadata.uid);
    Some((patch, fields.join(", ")))
}

/// The merge patch from `live` to `wanted`; `exact` also removes what is not wanted.
fn difference(wanted: &Value, live: &Value, exact: bool) -> Option<Value> {
    let (Value::Object(wanted), Value::Object(live)) = (wanted, live) else {
        return (wanted != live).then(|| wanted.clone());
    };
    let changed = wanted.iter().filter(|(key, value)| live.get(*key) != Some(value));
    let mut patch: Map<String, Value> = changed.map(|(key, value)| (key.clone(), value.clone())).collect();
    if exact {
        patch.extend(live.keys().filter(|key| !wanted.contains_key(*key)).map(|key| (key.clone(), Value::Null)));
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// What all pods of a group request together; `None` for templates whose quantities can't be read.
fn min_resources(set: &LeaderWorkerSet) -> Option<Value> {
    let leader = set.leader_template().typed().ok()?.spec?;
    let worker = set.worker_template().typed().ok()?.spec?;
    let total = requests_of_group(&leader, &worker, set.size()).ok()?;
    let named = total.iter().filter(|(resource, _)| *resource != PODS);
    let texts = named.map(|(resource, amount)| {
        let format = format_of(resource, [&leader, &worker]);
        (resource.to_owned(), Value::from(quantity::canonical(resource, amount, format)))
    });
    Some(Value::Object(texts.collect()))
}

fn requests_of_group(leader: &PodSpec, worker: &PodSpec, size: i32) -> Result<Amounts, QuantityError> {
    let mut total = requests_of(leader)?;
    total.add(&requests_of(worker)?, i64::from(size) - 1);
    Ok(total)
}

/// The format of a sum is that of its first part, as in Kubernetes' own arithmetic.
fn format_of(resource: &str, specs: [&PodSpec; 2]) -> quantity::Format {
    let parts = specs.into_iter().flat_map(|spec| {
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let declared = spec.resources.iter().chain(containers.filter_map(|container| container.resources.as_ref()));
        let lists = declared.flat_map(|resources| [&resources.requests, &resources.limits]);
        lists.chain([&spec.overhead]).flatten().filter_map(|list| list.get(resource))
    });
    parts.map(|quantity| quantity.0.as_str()).find_map(quantity::Format::of).unwrap_or_default()
}

#[cfg(test)]
mod tests;
