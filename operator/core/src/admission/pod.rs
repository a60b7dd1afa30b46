//! Admission of one pod: is it ours, who is it, does it wait for a place, what does it know.

use muster_api::names::{PLACEMENT_GATE, annotation, label};
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::environment::{self, GroupEnvironment};
use super::gang::Gang;
use super::guard::{self, Guard};
use super::{effects, gang, identity, subgroups, tpu};
use crate::placement::effects::Effects;

/// Whether Muster decides where the groups of the pod's set go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Somebody else does (the scheduler, Kueue): the pod goes to the scheduler as it is.
    None,
    /// Muster does: leaders wait behind the scheduling gate until their group has a place.
    Gate,
}

/// What admission has to know besides the pod itself.
#[derive(Clone, Copy, Debug)]
pub struct PodContext<'a> {
    /// The namespace of the request. A pod on its way in need not name its own.
    pub namespace: &'a str,
    /// From [`super::Choice::gated`] of the pod's set.
    pub placement: Placement,
    /// Which gang the pod belongs to.
    pub gang: Gang<'a>,
    /// What the set's placement policy gives a new leader.
    pub effects: &'a Effects,
    /// How the pod and others keep out of each other's domains.
    pub guard: &'a Guard,
}

/// What became of the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The pod does not belong to a set; not one byte of it was changed.
    Foreign,
    /// A leader, now with its identity and environment.
    Leader {
        /// Whether it waits behind the gate.
        gated: bool,
    },
    /// A worker, now with its identity and environment.
    Worker,
}

/// Why a pod is refused. The texts are upstream's where upstream refuses the same pod.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AdmissionError {
    /// The name does not end in a dash and a number, so the pod was not made by a StatefulSet.
    #[error("parsing pod ordinal for pod {pod}")]
    NoOrdinal {
        /// Name of the pod.
        pod: String,
    },
    /// A pod of a worker template whose name says rank 0. Upstream labels it as one more leader of the group.
    #[error("pod {pod} is a worker by its template and the leader by its name: workers are numbered from 1")]
    SecondLeader {
        /// Name of the pod.
        pod: String,
    },
    /// An annotation that must be a number is none.
    #[error("strconv.Atoi: parsing {value:?}: {reason}")]
    NotANumber {
        /// What the annotation says.
        value: String,
        /// In the words of Go's `strconv`.
        reason: &'static str,
    },
    /// The subgroup size is below one. Upstream divides by it and panics.
    #[error("annotation leaderworkerset.sigs.k8s.io/subgroup-size of pod {pod} is {value}, but must be at least 1")]
    SubgroupSize {
        /// What the annotation says.
        value: i32,
        /// Name of the pod.
        pod: String,
    },
    /// A leader that needs a place among the TPU hosts of a subgroup and belongs to none. Upstream refuses it too, over a
    /// label that it doesn't set on such a leader.
    #[error(
        "pod {pod} requests google.com/tpu, but annotation leaderworkerset.sigs.k8s.io/subgroup-policy-type is LeaderExcluded, \
         which keeps the leader out of every subgroup and so out of every TPU slice: set \
         spec.leaderWorkerTemplate.subGroupPolicy.subGroupPolicyType to LeaderWorker, or give the set a \
         spec.leaderWorkerTemplate.leaderTemplate that does not request google.com/tpu"
    )]
    ExcludedLeaderRequestsTpus {
        /// Name of the pod.
        pod: String,
    },
    /// A TPU pod beyond the end of its group, as when somebody scales a worker StatefulSet by hand.
    #[error(
        "pod {pod} requests google.com/tpu and has rank {rank}, but annotation leaderworkerset.sigs.k8s.io/size is {size}, so it is \
         not among the TPU hosts of its group: change spec.leaderWorkerTemplate.size instead of the StatefulSet"
    )]
    OutsideTheGroup {
        /// Name of the pod.
        pod: String,
        /// Its rank, from its name.
        rank: i32,
        /// What the annotation says.
        size: i32,
    },
    /// A TPU pod whose template claims a subgroup for it that it is not in.
    #[error(
        "pod {pod} requests google.com/tpu, and its label leaderworkerset.sigs.k8s.io/subgroup-index is {labelled}, but rank {rank} \
         belongs to subgroup {index}: remove the label from the template"
    )]
    OutsideTheSubgroup {
        /// Name of the pod.
        pod: String,
        /// What the label says.
        labelled: i32,
        /// Its rank, from its name.
        rank: i32,
        /// The subgroup of that rank.
        index: i32,
    },
    /// A slice so large that no pod can hold the list of its hosts.
    #[error(
        "TPU_WORKER_HOSTNAMES of pod {pod} would list {hosts} hosts, which no object can hold: make \
         spec.leaderWorkerTemplate.size smaller, or divide the group by subGroupPolicy.subGroupSize"
    )]
    TooManyTpuHosts {
        /// Name of the pod.
        pod: String,
        /// Pods in its slice.
        hosts: usize,
    },
    /// The multi-slice annotation can't be followed.
    #[error("annotation muster.dev/tpu-multislice of pod {pod} is {value:?}, which {reason}")]
    Multislice {
        /// Name of the pod.
        pod: String,
        /// What the annotation says.
        value: String,
        /// What is wrong with that, and the remedy.
        reason: &'static str,
    },
    /// The annotation that names the domains of the group's subgroups can't be followed. Muster writes it, and nobody else has to.
    #[error(
        "annotation muster.dev/subgroup-domains of pod {pod} is {value:?}, which {reason}: delete the worker StatefulSet, and it is \
         made anew"
    )]
    SubgroupDomains {
        /// Name of the pod.
        pod: String,
        /// What the annotation says.
        value: String,
        /// What is wrong with that.
        reason: String,
    },
    /// The annotation that says what the group's pods get one by one can't be followed. Muster writes it, and nobody else has to.
    #[error(
        "annotation muster.dev/instructions of pod {pod} is {value:?}, which {reason}: delete the worker StatefulSet, and it is made \
         anew"
    )]
    Instructions {
        /// Name of the pod.
        pod: String,
        /// What the annotation says.
        value: String,
        /// What is wrong with that.
        reason: String,
    },
    /// A pod that says which rank it has without what every template of a set says.
    #[error("size annotation is unexpectedly missing for pod {pod}")]
    NoSize {
        /// Name of the pod.
        pod: String,
    },
    /// A worker whose template doesn't say which group it belongs to.
    #[error("Failure constructing environment variables, no group index label found for pod {pod}")]
    NoGroupIndex {
        /// `namespace/name` of the pod.
        pod: String,
    },
    /// The object is not shaped like a pod.
    #[error("{field} of the pod is not {expected}")]
    Malformed {
        /// Path of the field.
        field: &'static str,
        /// What should have been there.
        expected: &'static str,
    },
}

/// Gives a pod of a set its identity, its gate and its environment; leaves any other pod alone.
///
/// A pod belongs to a set when it has the set's name as a label, and a rank as another or the size annotation, which every template
/// of a set carries. Upstream refuses every pod with the name alone, too; such a pod is mostly somebody's debugging copy that wants to
/// be found by the set's services, so Muster lets it pass as it is. On an error the pod may be half changed and must be refused.
///
/// # Errors
/// [`AdmissionError`] when the pod is of a set but its name, labels or annotations don't say where in it.
pub fn mutate(pod: &mut Value, context: &PodContext<'_>) -> Result<Outcome, AdmissionError> {
    let mut pod = PodView { pod };
    let Some(set) = pod.label(label::SET_NAME) else { return Ok(Outcome::Foreign) };
    let Some(size) = pod.annotation(annotation::SIZE) else {
        let member = pod.label(label::WORKER_INDEX).is_some();
        return if member { Err(AdmissionError::NoSize { pod: pod.name().to_owned() }) } else { Ok(Outcome::Foreign) };
    };
    let (set, group_size) = (set.to_owned(), size.to_owned());
    let size = identity::number(&group_size)?;
    let leader = pod.label(label::WORKER_INDEX) == Some("0");
    let (member, outcome) = if leader {
        let member = identity::of_leader(&mut pod, context)?;
        let gated = context.placement == Placement::Gate && pod.gate()?;
        if gated {
            effects::prepare(&mut pod, context.effects)?;
        }
        (member, Outcome::Leader { gated })
    } else {
        let member = identity::of_worker(&mut pod, size)?;
        subgroups::send_to_domain(&mut pod, member.rank, size)?;
        effects::follow(&mut pod, member.rank)?;
        (member, Outcome::Worker)
    };
    let text = |label: Option<&str>| label.unwrap_or_default().to_owned();
    let Some(group_index) = pod.label(label::GROUP_INDEX) else {
        return Err(AdmissionError::NoGroupIndex { pod: format!("{}/{}", context.namespace, pod.name()) });
    };
    let group = GroupEnvironment {
        leader_address: format!("{set}-{group_index}.{}.{}", pod.subdomain(), context.namespace),
        group_size,
        worker_index: text(pod.label(label::WORKER_INDEX)),
    };
    guard::protect(&mut pod, context.namespace, leader, context.guard)?;
    gang::join(&mut pod, &set, leader, context.gang)?;
    tpu::inject(&mut pod, &member, size)?;
    environment::inject(&mut pod, &group)?;
    Ok(outcome)
}

/// Typed access to the few fields of a raw pod that admission reads and writes.
pub(super) struct PodView<'a> {
    pod: &'a mut Value,
}

impl PodView<'_> {
    pub(super) fn name(&self) -> &str {
        self.pod.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn label(&self, key: &str) -> Option<&str> {
        self.pod.get("metadata")?.get("labels")?.get(key)?.as_str()
    }

    pub(super) fn annotation(&self, key: &str) -> Option<&str> {
        self.pod.get("metadata")?.get("annotations")?.get(key)?.as_str()
    }

    pub(super) fn set_label(&mut self, key: &str, value: &str) -> Result<(), AdmissionError> {
        let labels = object(self.pod, "metadata").and_then(|metadata| child(metadata, "labels"));
        let labels = labels.ok_or(AdmissionError::Malformed { field: "metadata.labels", expected: "an object" })?;
        labels.insert(key.to_owned(), value.into());
        Ok(())
    }

    pub(super) fn set_annotation(&mut self, key: &str, value: &str) -> Result<(), AdmissionError> {
        let annotations = object(self.pod, "metadata").and_then(|metadata| child(metadata, "annotations"));
        let annotations =
            annotations.ok_or(AdmissionError::Malformed { field: "metadata.annotations", expected: "an object" })?;
        annotations.insert(key.to_owned(), value.into());
        Ok(())
    }

    pub(super) fn remove_annotation(&mut self, key: &str) {
        let annotations = self.pod.get_mut("metadata").and_then(|metadata| metadata.get_mut("annotations")?.as_object_mut());
        if let Some(annotations) = annotations {
            annotations.remove(key);
        }
    }

    /// Names the PodGroup of the API server's own kind, unless the pod's author has.
    pub(super) fn set_scheduling_group(&mut self, name: &str) -> Result<(), AdmissionError> {
        let group = self.spec()?.entry("schedulingGroup").or_insert(Value::Null);
        if group.is_null() {
            *group = json!({ "podGroupName": name });
        }
        Ok(())
    }

    /// The value that the pod selects for a node label.
    pub(super) fn node_selector(&self, key: &str) -> Option<&str> {
        self.pod.get("spec")?.get("nodeSelector")?.get(key)?.as_str()
    }

    pub(super) fn select_nodes(&mut self, key: &str, value: &str) -> Result<(), AdmissionError> {
        let selector = child(self.spec()?, "nodeSelector")
            .ok_or(AdmissionError::Malformed { field: "spec.nodeSelector", expected: "an object" })?;
        selector.insert(key.to_owned(), value.into());
        Ok(())
    }

    pub(super) fn subdomain(&self) -> &str {
        self.pod.pointer("/spec/subdomain").and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn set_subdomain(&mut self, name: &str) -> Result<(), AdmissionError> {
        self.spec()?.insert("subdomain".to_owned(), name.into());
        Ok(())
    }

    /// Adds the scheduling gate once. A pod that names its node already is past any placing (and the API server
    /// refuses a gate on it), so that one stays as it is. Returns whether the pod is gated now.
    fn gate(&mut self) -> Result<bool, AdmissionError> {
        let spec = self.spec()?;
        if spec.get("nodeName").and_then(Value::as_str).is_some_and(|node| !node.is_empty()) {
            return Ok(false);
        }
        let gates = list(spec, "schedulingGates")
            .ok_or(AdmissionError::Malformed { field: "spec.schedulingGates", expected: "a list" })?;
        let ours = |gate: &Value| gate.get("name").and_then(Value::as_str) == Some(PLACEMENT_GATE);
        if !gates.iter().any(ours) {
            gates.push(json!({"name": PLACEMENT_GATE}));
        }
        Ok(true)
    }

    /// The containers, then the init containers.
    pub(super) fn containers(&mut self) -> Result<impl Iterator<Item = &mut Value>, AdmissionError> {
        let (mut regular, mut init) = (None, None);
        for (key, value) in self.spec()? {
            let slot = match key.as_str() {
                "containers" => &mut regular,
                "initContainers" => &mut init,
                _ => continue,
            };
            match value {
                Value::Null => {}
                Value::Array(containers) => *slot = Some(containers),
                _ => return Err(AdmissionError::Malformed { field: "spec.containers", expected: "a list" }),
            }
        }
        Ok(regular.into_iter().chain(init).flatten())
    }

    pub(super) fn spec(&mut self) -> Result<&mut Map<String, Value>, AdmissionError> {
        object(self.pod, "spec").ok_or(AdmissionError::Malformed { field: "spec", expected: "an object" })
    }
}

/// The object under `key`, if there is one.
fn object<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut Map<String, Value>> {
    value.get_mut(key)?.as_object_mut()
}

/// The object under `key`, made if there is none (or a null, which means the same).
pub(super) fn child<'a>(parent: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    let value = parent.entry(key).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut()
}

/// The list under `key`, made if there is none (or a null, which means the same).
pub(super) fn list<'a>(parent: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Vec<Value>> {
    let value = parent.entry(key).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Array(Vec::new());
    }
    value.as_array_mut()
}
