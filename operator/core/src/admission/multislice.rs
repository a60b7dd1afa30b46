//! Multi-slice TPU jobs, on request: the variables by which several slices find each other (`MEGASCALE_*`).
//!
//! Upstream has nothing of this. The annotation [`TPU_MULTISLICE`] on the pod templates asks for it and says what counts as
//! a slice. Everything comes from the pod itself, so the number of *groups* is not known here.

use muster_api::names::annotation::TPU_MULTISLICE;
use muster_api::names::label;

use super::identity::Member;
use super::pod::{AdmissionError, PodView};
use super::tpu::Slice;

const PORT: &str = "8081";

#[derive(Clone, Copy)]
pub(super) enum Multislice {
    Group,
    Subgroup,
}

impl Multislice {
    /// Reads the annotation; `None` without it.
    pub(super) fn of(pod: &PodView<'_>) -> Result<Option<Self>, AdmissionError> {
        match pod.annotation(TPU_MULTISLICE) {
            None => Ok(None),
            Some("group") => Ok(Some(Self::Group)),
            Some("subgroup") => Ok(Some(Self::Subgroup)),
            Some(value) => Err(refusal(pod, value, "is neither group nor subgroup: write one of them or remove the annotation")),
        }
    }

    /// The variables, which are the same in every TPU container of the slice.
    pub(super) fn variables(
        self,
        pod: &PodView<'_>,
        member: &Member,
        slice: &Slice,
    ) -> Result<Vec<(&'static str, String)>, AdmissionError> {
        let mut variables = match self {
            Self::Group => of_groups(pod, slice)?,
            Self::Subgroup => of_subgroups(pod, member, slice)?,
        };
        variables.push(("MEGASCALE_PORT", PORT.to_owned()));
        Ok(variables)
    }
}

/// Slices count from the first subgroup that has TPUs: a leader without them may be a subgroup of its own.
fn of_subgroups(pod: &PodView<'_>, member: &Member, slice: &Slice) -> Result<Vec<(&'static str, String)>, AdmissionError> {
    let Some((subgroups, index)) = slice.subgroup else {
        let remedy = "needs subgroups: set spec.leaderWorkerTemplate.subGroupPolicy.subGroupSize, or write group";
        return Err(refusal(pod, "subgroup", remedy));
    };
    // Excluded or not, the first rank with TPUs and the last rank are in a subgroup.
    let first = subgroups.index_of(slice.first_rank).unwrap_or_default();
    let last = subgroups.last_index();
    Ok(vec![
        ("MEGASCALE_SLICE_ID", (index - first).to_string()),
        ("MEGASCALE_NUM_SLICES", (last - first + 1).to_string()),
        ("MEGASCALE_COORDINATOR_ADDRESS", format!("{}.{}", member.pod_of(slice.first_rank), pod.subdomain())),
    ])
}

/// The coordinator is the first process of group 0, whose subdomain is its own where each group has one.
fn of_groups(pod: &PodView<'_>, slice: &Slice) -> Result<Vec<(&'static str, String)>, AdmissionError> {
    if slice.subgroup.is_some() {
        return Err(refusal(pod, "group", "does not go with subgroups, each of which is a TPU slice: write subgroup"));
    }
    let text = |key: &str| pod.label(key).unwrap_or_default();
    let (set, group) = (text(label::SET_NAME), text(label::GROUP_INDEX));
    let first = Member { leader: format!("{set}-0"), rank: 0 };
    let own_subdomain = pod.subdomain() == format!("{set}-{group}");
    let subdomain = if own_subdomain { &first.leader } else { pod.subdomain() };
    Ok(vec![
        ("MEGASCALE_SLICE_ID", group.to_owned()),
        ("MEGASCALE_COORDINATOR_ADDRESS", format!("{}.{subdomain}", first.pod_of(slice.first_rank))),
    ])
}

fn refusal(pod: &PodView<'_>, value: &str, reason: &'static str) -> AdmissionError {
    AdmissionError::Multislice { pod: pod.name().to_owned(), value: value.to_owned(), reason }
}
