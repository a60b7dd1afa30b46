//! Who a pod is within its set, read from its name and its template's annotations and written as labels.

use muster_api::names::{self, annotation, label};

use super::pod::{AdmissionError, PodContext, PodView};
use super::subgroups::{division, leader_excluded};

/// A pod's place in its group.
pub(super) struct Member {
    /// Name of the leader pod.
    pub(super) leader: String,
    /// `0` for the leader.
    pub(super) rank: i32,
}

impl Member {
    /// Name of the pod of that rank in the same group.
    pub(super) fn pod_of(&self, rank: i32) -> String {
        if rank == 0 { self.leader.clone() } else { format!("{}-{rank}", self.leader) }
    }
}

/// The leader's identity: group index, group key, subdomain, and a place in the first subgroup.
///
/// Labels that are there already stay as they are: a pod that is created again from a copy keeps what it had.
pub(super) fn of_leader(pod: &mut PodView<'_>, context: &PodContext<'_>) -> Result<Member, AdmissionError> {
    let name = pod.name().to_owned();
    if pod.label(label::GROUP_INDEX).is_none() {
        let (_, index) = names::parent_and_ordinal(&name).ok_or_else(|| AdmissionError::NoOrdinal { pod: name.clone() })?;
        pod.set_label(label::GROUP_INDEX, &index.to_string())?;
    }
    if pod.annotation(annotation::SUBDOMAIN_POLICY) == Some("UniquePerReplica") {
        pod.set_subdomain(&name)?;
    }
    if pod.label(label::GROUP_KEY).is_none() {
        pod.set_label(label::GROUP_KEY, &names::group_key(context.namespace, &name))?;
    }
    if pod.annotation(annotation::SUBGROUP_SIZE).is_some() && !in_a_subgroup(pod) && !leader_excluded(pod) {
        join_subgroup(pod, &name, 0)?;
    }
    Ok(Member { leader: name, rank: 0 })
}

/// The worker's identity: its rank, always from its name, and its subgroup.
pub(super) fn of_worker(pod: &mut PodView<'_>, group_size: i32) -> Result<Member, AdmissionError> {
    let name = pod.name().to_owned();
    let (parent, rank) = names::parent_and_ordinal(&name).ok_or_else(|| AdmissionError::NoOrdinal { pod: name.clone() })?;
    if rank == 0 {
        return Err(AdmissionError::SecondLeader { pod: name });
    }
    pod.set_label(label::WORKER_INDEX, &rank.to_string())?;
    if !in_a_subgroup(pod)
        && let Some(index) = division(pod, group_size)?.and_then(|subgroups| subgroups.index_of(rank))
    {
        let leader = pod.annotation(annotation::LEADER_NAME).unwrap_or_default().to_owned();
        join_subgroup(pod, &leader, index)?;
    }
    Ok(Member { leader: parent.to_owned(), rank })
}

fn in_a_subgroup(pod: &PodView<'_>) -> bool {
    pod.label(label::SUBGROUP_INDEX).is_some_and(|index| !index.is_empty())
}

fn join_subgroup(pod: &mut PodView<'_>, leader: &str, index: i32) -> Result<(), AdmissionError> {
    pod.set_label(label::SUBGROUP_INDEX, &index.to_string())?;
    pod.set_label(label::SUBGROUP_KEY, &names::subgroup_key(leader, index))
}

/// A number in an annotation, with the error text that upstream's users know: that of Go's `strconv.Atoi`.
pub(super) fn number(text: &str) -> Result<i32, AdmissionError> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    text.parse().map_err(|error: std::num::ParseIntError| AdmissionError::NotANumber {
        value: text.to_owned(),
        reason: if matches!(error.kind(), PosOverflow | NegOverflow) { "value out of range" } else { "invalid syntax" },
    })
}
