//! Objects of somebody else that have names of ours: left alone, and told about.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use muster_api::LeaderWorkerSetStatus;
use muster_api::conditions::{NAME_TAKEN, event};

use super::conditions::Own;
use crate::owner::controller;
use crate::plan::{Note, Plan, Related, Taken};

/// A name of ours is taken by this object.
pub(super) fn object(api_version: &'static str, kind: &'static str, meta: &ObjectMeta) -> Taken {
    let owner = controller(meta).map_or_else(|| "no controller".to_owned(), |owner| format!("{} {}", owner.kind, owner.name));
    let name = meta.name.clone().unwrap_or_default();
    let text = format!("{kind} {name} exists and belongs to {owner}; it is left alone. Rename the set or delete the {kind}");
    Taken { text, object: Related { api_version, kind, name, uid: meta.uid.clone() } }
}

/// Writes what is taken into the condition, and an event for each that is new in it.
pub(super) fn report(status: &mut LeaderWorkerSetStatus, plan: &mut Plan, generation: Option<i64>, now: Timestamp) {
    let texts: Vec<&str> = plan.taken.iter().map(|taken| taken.text.as_str()).collect();
    let own = Own {
        type_: NAME_TAKEN,
        bad: (!texts.is_empty()).then(|| ("ForeignObject", texts.join("; "))),
        good: ("NamesFree", "No name of the set is taken any more"),
    };
    let Some(before) = own.write(status, generation, now) else { return };
    let told = before.unwrap_or_default();
    for taken in plan.taken.iter().filter(|taken| !told.contains(&taken.text)) {
        plan.notes.push(Note::warning(event::FAILED_CREATE, "Create", &taken.text).relating(taken.object.clone()));
    }
}
