//! What one reconcile is going to write, in order, readable as a list.

use std::fmt;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use muster_api::LeaderWorkerSetStatus;
use serde_json::Value;

/// One write to the API server.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Create a ControllerRevision.
    CreateRevision(Value),
    /// Renumber a ControllerRevision that is current again, or say why it is.
    PatchRevision {
        /// Object name.
        name: String,
        /// Merge patch; carries the revision's UID.
        patch: Value,
    },
    /// Write the template of an earlier revision into the set, and take the annotation off that asked for it.
    UndoSet {
        /// JSON patch of the set; carries its resource version. If it is refused, only `forget` is written.
        patch: Value,
        /// JSON patch that takes the annotation off.
        forget: Value,
    },
    /// Server-side apply the leader StatefulSet.
    ApplyLeaderSet {
        /// The StatefulSet, with the fields Muster owns.
        object: Value,
        /// Whether one exists already; names the event on failure.
        exists: bool,
    },
    /// Create a headless service.
    CreateService(Value),
    /// Put a headless service back to what it was made as.
    RepairService {
        /// Service name.
        name: String,
        /// Merge patch; carries the service's UID.
        patch: Value,
    },
    /// Delete a headless service of ours that can't be put back, so that it can be made again.
    DeleteService {
        /// Service name.
        name: String,
        /// Only this incarnation of it.
        uid: String,
    },
    /// Strategic merge patch of a leader pod: selector or affinity, record, gate removal, in one.
    PatchLeader {
        /// Pod name.
        name: String,
        /// The patch; carries the pod's UID, so that it can't hit a successor.
        patch: Value,
    },
    /// Create a group's worker StatefulSet.
    CreateWorkerSet(Value),
    /// Raise the replicas of a group's worker StatefulSet, as its startup policy admits more ranks.
    ScaleWorkerSet {
        /// StatefulSet name.
        name: String,
        /// New replicas.
        replicas: u32,
    },
    /// Give a group's worker StatefulSet back the labels that it is found by.
    RelabelWorkerSet {
        /// StatefulSet name.
        name: String,
        /// Merge patch; carries the StatefulSet's UID.
        patch: Value,
    },
    /// Delete a worker StatefulSet whose leader has been replaced by another pod of its name, if that is still so.
    DeleteWorkerSet {
        /// Name of the StatefulSet, and of the leader.
        name: String,
        /// Only this incarnation of it.
        uid: String,
        /// UID of the leader there is now.
        leader: String,
    },
    /// Put the spec of a worker StatefulSet that Muster made back to what it was made as, unless it is that already.
    RestoreWorkerSet {
        /// The StatefulSet as it was made.
        object: Value,
        /// Only this incarnation of it.
        uid: String,
        /// The generation that was looked at.
        generation: i64,
    },
    /// Write down the workers of a complete group.
    RecordMembers {
        /// Where.
        on: Register,
        /// Name of the leader pod and of its worker StatefulSet.
        name: String,
        /// The UID of that one of them, so that a successor of the same name is not meant.
        uid: String,
        /// The members.
        members: String,
    },
    /// Create a group's PodGroup.
    CreatePodGroup(Value),
    /// Put right a PodGroup of ours that somebody has changed.
    RepairPodGroup {
        /// API version, of either kind of PodGroup.
        api_version: &'static str,
        /// Its name.
        name: String,
        /// A merge patch; carries the object's UID, so that it can't hit a successor.
        patch: Value,
    },
    /// Write down on the leader StatefulSet which groups start over, before they do.
    RecordRestarts {
        /// StatefulSet name.
        name: String,
        /// The whole history.
        history: String,
    },
    /// Delete a leader pod, its dependents first.
    DeleteLeader {
        /// Pod name.
        name: String,
        /// Only this incarnation of it.
        uid: String,
        /// Only if unchanged since it was read, when set.
        resource_version: Option<String>,
    },
    /// Delete the leader of a group whose worker StatefulSet somebody deleted, unless there is one after all.
    DeleteBereftLeader {
        /// Pod name.
        name: String,
        /// Only this incarnation of it.
        uid: String,
    },
    /// Make the set an owner of a volume claim, or one no more.
    OwnClaim {
        /// Claim name.
        name: String,
        /// Strategic merge patch; carries the claim's UID, where it is known.
        patch: Value,
    },
    /// Delete the volume claim of a worker that is scaled away.
    DeleteClaim {
        /// Claim name.
        name: String,
        /// Only this incarnation of it.
        uid: String,
    },
    /// Delete a ControllerRevision that no group needs any more.
    DeleteRevision {
        /// Object name.
        name: String,
    },
}

/// Where the members of a group are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Register {
    /// On its leader, which outlives its worker StatefulSet.
    Leader,
    /// On its worker StatefulSet: of a group that upstream made, because a takeover changes no pod.
    WorkerSet,
}

/// An event on the set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// `Warning` rather than `Normal`.
    pub warning: bool,
    /// Event reason.
    pub reason: &'static str,
    /// Event action.
    pub action: &'static str,
    /// For people.
    pub text: String,
    /// The other object it is about.
    pub related: Option<Related>,
}

/// The other object of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Related {
    /// API version.
    pub api_version: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Name; the namespace is the set's.
    pub name: String,
    /// UID, where it is known.
    pub uid: Option<String>,
}

impl Related {
    const REVISION: &'static str = "ControllerRevision";

    /// A revision that is there.
    pub fn revision(meta: &ObjectMeta) -> Self {
        Self { uid: meta.uid.clone(), ..Self::new_revision(meta.name.clone().unwrap_or_default()) }
    }

    /// A revision that is being made. It may get another name than the planned one, and has no UID before it is there.
    pub fn new_revision(name: String) -> Self {
        Self { api_version: "apps/v1", kind: Self::REVISION, name, uid: None }
    }

    /// Whether it was planned as [`Related::new_revision`].
    pub fn is_new_revision(&self) -> bool {
        self.kind == Self::REVISION && self.uid.is_none()
    }
}

impl Note {
    /// A normal event.
    pub fn normal(reason: &'static str, action: &'static str, text: impl Into<String>) -> Self {
        Self { warning: false, reason, action, text: text.into(), related: None }
    }

    /// A warning.
    pub fn warning(reason: &'static str, action: &'static str, text: impl Into<String>) -> Self {
        Self { warning: true, reason, action, text: text.into(), related: None }
    }

    /// The same, about this pod.
    #[must_use]
    pub fn about(self, pod: &Pod) -> Self {
        let name = crate::pods::name(pod).to_owned();
        Self { related: Some(Related { api_version: "v1", kind: "Pod", name, uid: pod.metadata.uid.clone() }), ..self }
    }

    /// The same, about this object of the set's namespace.
    #[must_use]
    pub fn about_object(self, api_version: &'static str, kind: &'static str, meta: &ObjectMeta) -> Self {
        let name = meta.name.clone().unwrap_or_default();
        Self { related: Some(Related { api_version, kind, name, uid: meta.uid.clone() }), ..self }
    }

    /// The same, with this as the other object.
    #[must_use]
    pub fn relating(self, object: Related) -> Self {
        Self { related: Some(object), ..self }
    }
}

/// A write with the events that go with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What to write.
    pub write: Write,
    /// Published when it succeeded.
    pub done: Vec<Note>,
    /// Published when it failed, with the error appended to its text.
    pub failed: Option<Note>,
}

/// An object of somebody else that has a name of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// What it is, whose it is and what to do about it.
    pub text: String,
    /// The object.
    pub object: Related,
}

/// Everything one reconcile writes: steps in order, then the status, then events.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Writes, in order. See [`Write::subject`] for what becomes of those after one that failed.
    pub steps: Vec<Step>,
    /// The status, if it differs from the one observed.
    pub status: Option<LeaderWorkerSetStatus>,
    /// Events that belong to the status, or to nothing that is written. Not published when the status meets a conflict: who looks again
    /// says them again.
    pub notes: Vec<Note>,
    /// Names of ours that objects of somebody else have, one sentence each. They become a condition and its events.
    pub taken: Vec<Taken>,
    /// Reconcile again after this long even if nothing changes.
    pub requeue: Option<Duration>,
}

impl Plan {
    /// Appends a write with its events.
    pub fn push(&mut self, write: Write, done: Option<Note>, failed: Option<Note>) {
        self.steps.push(Step { write, done: done.into_iter().collect(), failed });
    }

    /// Asks for another reconcile at most this far away.
    pub fn requeue_within(&mut self, after: Duration) {
        self.requeue = Some(self.requeue.map_or(after, |sooner| sooner.min(after)));
    }
}

/// The subject of what is written down about restarts.
const RESTARTS: &str = "restarts";

impl Write {
    /// What the write is about, such as one group. After a write has failed, those that follow about the same are left out, because
    /// they may build on it; the rest of the plan does not: a template that the API server refuses keeps no group from starting over.
    pub fn subject(&self) -> &str {
        match self {
            Self::CreateRevision(_) | Self::PatchRevision { .. } | Self::UndoSet { .. } | Self::ApplyLeaderSet { .. } => {
                "the template"
            }
            Self::CreateService(object) | Self::CreateWorkerSet(object) | Self::RestoreWorkerSet { object, .. } => {
                object_name(object)
            }
            Self::CreatePodGroup(object) => {
                object.pointer("/metadata/ownerReferences/0/name").and_then(Value::as_str).unwrap_or_default()
            }
            Self::RecordRestarts { .. } => RESTARTS,
            Self::DeleteLeader { name, .. }
            | Self::DeleteBereftLeader { name, .. }
            | Self::RepairService { name, .. }
            | Self::DeleteService { name, .. }
            | Self::PatchLeader { name, .. }
            | Self::ScaleWorkerSet { name, .. }
            | Self::RelabelWorkerSet { name, .. }
            | Self::DeleteWorkerSet { name, .. }
            | Self::RecordMembers { name, .. }
            | Self::RepairPodGroup { name, .. }
            | Self::OwnClaim { name, .. }
            | Self::DeleteClaim { name, .. }
            | Self::DeleteRevision { name } => name,
        }
    }

    /// Another subject whose failure leaves this write out. A group that starts over without being counted would outlive any budget.
    pub fn relies_on(&self) -> Option<&str> {
        matches!(self, Self::DeleteLeader { .. } | Self::DeleteBereftLeader { .. }).then_some(RESTARTS)
    }
}

fn object_name(object: &Value) -> &str {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("?")
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PatchRevision { name, patch } => match patch.get("revision") {
                Some(number) => write!(f, "make revision {name} number {number}"),
                None => write!(f, "note the cause of revision {name}"),
            },
            Self::UndoSet { patch, forget } if patch == forget => write!(f, "forget an undo"),
            Self::UndoSet { .. } => write!(f, "undo"),
            Self::CreateRevision(object) => write!(f, "create revision {}", object_name(object)),
            Self::ApplyLeaderSet { object, .. } => {
                let at = |pointer| object.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
                let partition = at("/spec/updateStrategy/rollingUpdate/partition");
                write!(
                    f,
                    "apply leader StatefulSet {} (replicas {}, partition {partition})",
                    object_name(object),
                    at("/spec/replicas")
                )
            }
            Self::CreateService(object) => write!(f, "create service {}", object_name(object)),
            Self::RepairService { name, .. } => write!(f, "repair service {name}"),
            Self::DeleteService { name, .. } => write!(f, "delete service {name}"),
            Self::PatchLeader { name, patch } => match (patch.pointer("/spec/nodeSelector"), patch.pointer("/spec")) {
                (Some(selector), _) => write!(f, "place leader {name} on nodes {selector}"),
                (None, Some(_)) => write!(f, "leave leader {name} to the scheduler"),
                (None, None) => write!(f, "record the place of leader {name}"),
            },
            Self::CreateWorkerSet(object) => {
                let replicas = object.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or_default();
                write!(f, "create worker StatefulSet {} (replicas {replicas})", object_name(object))
            }
            Self::ScaleWorkerSet { name, replicas } => write!(f, "scale worker StatefulSet {name} to {replicas}"),
            Self::RelabelWorkerSet { name, .. } => write!(f, "label worker StatefulSet {name}"),
            Self::DeleteWorkerSet { name, .. } => write!(f, "delete worker StatefulSet {name} of a former leader"),
            Self::RestoreWorkerSet { object, .. } => write!(f, "restore worker StatefulSet {}", object_name(object)),
            Self::RecordMembers { on: Register::Leader, name, .. } => write!(f, "record the workers of leader {name}"),
            Self::RecordMembers { on: Register::WorkerSet, name, .. } => write!(f, "record the workers of StatefulSet {name}"),
            Self::CreatePodGroup(object) => write!(f, "create PodGroup {}", object_name(object)),
            Self::RepairPodGroup { name, .. } => write!(f, "repair PodGroup {name}"),
            Self::RecordRestarts { name, .. } => write!(f, "record the restarts of groups on StatefulSet {name}"),
            Self::DeleteLeader { name, .. } => write!(f, "delete leader {name}"),
            Self::DeleteBereftLeader { name, .. } => write!(f, "delete leader {name}, which has lost its workers"),
            Self::OwnClaim { name, .. } => write!(f, "own volume claim {name}"),
            Self::DeleteClaim { name, .. } => write!(f, "delete volume claim {name}"),
            Self::DeleteRevision { name } => write!(f, "delete revision {name}"),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.steps.iter().enumerate() {
            writeln!(f, "{}. {}", position + 1, step.write)?;
        }
        if self.status.is_some() {
            writeln!(f, "{}. write status", self.steps.len() + 1)?;
        }
        if let Some(after) = self.requeue {
            writeln!(f, "then look again within {after:?}")?;
        }
        Ok(())
    }
}
