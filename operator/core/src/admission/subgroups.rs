//! A pod's place among the subgroups of its group, and the domain that its subgroup was given.

use muster_api::names::annotation;

use super::identity;
use super::pod::{AdmissionError, PodView};
use crate::subgroups::{SubgroupDomains, Subgroups};

/// Reads the annotations that every template of a set with subgroups carries; `None` for a set without.
pub(super) fn division(pod: &PodView<'_>, group_size: i32) -> Result<Option<Subgroups>, AdmissionError> {
    let Some(text) = pod.annotation(annotation::SUBGROUP_SIZE) else { return Ok(None) };
    let size = identity::number(text)?;
    let subgroups = Subgroups::new(group_size, size, leader_excluded(pod));
    subgroups.map(Some).ok_or_else(|| AdmissionError::SubgroupSize { value: size, pod: pod.name().to_owned() })
}

/// Whether the leader belongs to no subgroup.
pub(super) fn leader_excluded(pod: &PodView<'_>) -> bool {
    pod.annotation(annotation::SUBGROUP_POLICY_TYPE) == Some("LeaderExcluded")
}

/// Sends a worker to the domain that Muster found for its subgroup, which its template's annotation names. The subgroup is that of
/// its rank, because that is how room was counted, whatever a label of the template says.
pub(super) fn send_to_domain(pod: &mut PodView<'_>, rank: i32, group_size: i32) -> Result<(), AdmissionError> {
    let Some(text) = pod.annotation(annotation::SUBGROUP_DOMAINS) else { return Ok(()) };
    let refusal = |reason: String| AdmissionError::SubgroupDomains {
        pod: pod.name().to_owned(),
        value: crate::text::truncated(text, 256),
        reason,
    };
    let domains: SubgroupDomains = text.parse().map_err(|error| refusal(format!("is {error}")))?;
    let index = division(pod, group_size)?.and_then(|subgroups| subgroups.index_of(rank));
    let index = index.and_then(|index| u32::try_from(index).ok());
    let Some(index) = index else { return Err(refusal(format!("has no use for rank {rank}, which is in no subgroup"))) };
    let Some((key, domain)) = domains.selector(index) else {
        return Err(refusal(format!("names no domain for subgroup {index}, which rank {rank} is in")));
    };
    let (key, domain) = (key.to_owned(), domain.to_owned());
    match pod.node_selector(&key) {
        Some(other) if other != domain => {
            Err(refusal(format!("names {key}={domain} for subgroup {index}, and the pod selects {key}={other} already")))
        }
        _ => pod.select_nodes(&key, &domain),
    }
}
