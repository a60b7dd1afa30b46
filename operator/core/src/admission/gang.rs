//! Which gang a pod belongs to: Volcano reads an annotation, kube-scheduler a field that can't be changed later.

use muster_api::names::{self, annotation, label};

use super::pod::{AdmissionError, PodView};

/// What admission does about gang scheduling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gang<'a> {
    /// Nothing: it is off, or this cluster doesn't serve it, or the pod's leader belongs to no gang either.
    #[default]
    None,
    /// The pod is annotated for Volcano.
    Volcano,
    /// The pod is a leader and begins a gang of kube-scheduler, whose PodGroup's name ends with this.
    Begin(&'a str),
    /// The pod is a worker and joins its leader's gang of kube-scheduler: the PodGroup of this name.
    Join(&'a str),
}

/// Makes the pod a member of its gang.
pub(super) fn join(pod: &mut PodView<'_>, set: &str, leader: bool, gang: Gang<'_>) -> Result<(), AdmissionError> {
    let label = |pod: &PodView<'_>, key| pod.label(key).unwrap_or_default().to_owned();
    let (group, revision) = (label(pod, label::GROUP_INDEX), label(pod, label::REVISION));
    match gang {
        Gang::Volcano => pod.set_annotation(annotation::POD_GROUP, &names::pod_group(set, &group, &revision)),
        Gang::Begin(incarnation) if leader => {
            pod.set_scheduling_group(&names::own_pod_group(set, &group, &revision, incarnation))
        }
        Gang::Join(name) if !leader => pod.set_scheduling_group(name),
        Gang::None | Gang::Begin(_) | Gang::Join(_) => Ok(()),
    }
}
