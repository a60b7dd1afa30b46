//! Volume claims: their owners, their end, and templates that can't be had any more.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::jiff::Timestamp;
use muster_api::conditions::{CLAIMS_DIFFER, event};
use muster_api::{LeaderWorkerSet, LeaderWorkerSetStatus};

use super::conditions::Own;
use crate::claims::{self, Fate};
use crate::observed::{Group, Observed};
use crate::plan::{Note, Plan, Write};

/// Makes the set an owner of its workers' claims where it should be one. Before anything that deletes a StatefulSet.
pub(super) fn keep(fates: &BTreeMap<String, Fate>, plan: &mut Plan) {
    for (name, fate) in fates {
        if let Fate::Owned(patch) = fate {
            plan.push(Write::OwnClaim { name: name.clone(), patch: patch.clone() }, None, None);
        }
    }
}

/// Deletes the claims of workers that are scaled away.
pub(super) fn delete(fates: &BTreeMap<String, Fate>, observed: &Observed, plan: &mut Plan) {
    for (name, _) in fates.iter().filter(|(_, fate)| **fate == Fate::Deleted) {
        let Some(claim) = observed.claims.get(name) else { continue };
        let uid = claim.metadata.uid.clone().unwrap_or_default();
        let text = format!("Deleted volume claim {name}: its worker was scaled away, and whenScaled is Delete");
        let done = Note::normal(event::CLAIM_DELETED, "Delete", text);
        let done = done.about_object("v1", "PersistentVolumeClaim", &claim.metadata);
        plan.push(Write::DeleteClaim { name: name.clone(), uid }, Some(done), None);
    }
}

/// The claims for which something is to be done.
pub(super) fn fates(
    set: &LeaderWorkerSet,
    leader_set: Option<&StatefulSet>,
    observed: &Observed,
    groups: &BTreeMap<u32, Group<'_>>,
    revision: &str,
) -> BTreeMap<String, Fate> {
    let live = leader_set.and_then(|existing| existing.spec.as_ref()?.replicas);
    let wanted = [set.replicas(), live.unwrap_or(0)].into_iter().filter_map(|count| u32::try_from(count).ok());
    claims::fates(set, observed, groups, wanted.max().unwrap_or(0), revision)
}

/// Templates that differ from those of the leader StatefulSet, which can't be changed. Admission refuses that; a set that slipped
/// past it is told, and everything else of it goes on.
pub(super) fn report(
    set: &LeaderWorkerSet,
    leader_set: Option<&StatefulSet>,
    status: &mut LeaderWorkerSetStatus,
    plan: &mut Plan,
    now: Timestamp,
) {
    let live = leader_set.and_then(|existing| existing.spec.as_ref());
    let live = live.map(|live| live.volume_claim_templates.as_deref().unwrap_or_default());
    let wanted = &set.spec.leader_worker_template.volume_claim_templates;
    let differs = |live| {
        claims::difference(wanted, live).filter(|_| claims::difference(&claims::as_upstream_copies(wanted), live).is_some())
    };
    let text = live.and_then(differs).map(|difference| {
        format!(
            "spec.leaderWorkerTemplate.volumeClaimTemplates can't be changed on a live set ({difference}): leaders keep the claims \
             they have. Take the change back, or delete the set and create it again"
        )
    });
    let told = text.as_ref().map(|text| Note::warning(event::CLAIMS_DIFFER, "Update", text));
    let own = Own {
        type_: CLAIMS_DIFFER,
        bad: text.map(|text| ("ImmutableTemplates", text)),
        good: ("TemplatesInUse", "The volume claim templates are those of the StatefulSets"),
    };
    own.report(set, status, told, plan, now);
}
