//! What a set must be.
//!
//! The rules and texts of upstream's webhook, one function for each part of the spec, and after them what upstream lets through
//! and pods then fail over (`extras`). Nothing here panics, whatever the set says: it may come straight from a person, without
//! schema or defaults applied.
//!
//! Rules of our own never lock an object that is already there: on an update they look only at what the update changes.

pub mod collisions;
mod extras;
mod rollout;
mod subgroup;
mod template;
#[cfg(test)]
mod tests;
mod tpu;
mod warnings;

use crate::field::FieldError;
pub use crate::field::{FieldErrorKind, Verdict};
use crate::leader_worker_set::{LeaderWorkerSet, MAX_REPLICAS};
use crate::syntax::dns1035_label_error;

/// Judges a new set.
pub fn validate_create(set: &LeaderWorkerSet) -> Verdict {
    let mut verdict = Verdict { errors: contract(set, None), warnings: warnings::of(set, None) };
    extras::check(set, None, &mut verdict);
    template::check(set, None, &mut verdict);
    tpu::check(set, None, &mut verdict);
    verdict
}

/// Judges a change of a set. A set that is being deleted passes, so that its finalizers can always be removed.
pub fn validate_update(old: &LeaderWorkerSet, new: &LeaderWorkerSet) -> Verdict {
    if new.metadata.deletion_timestamp.is_some() {
        return Verdict::default();
    }
    let mut verdict = Verdict { errors: contract(new, Some(old)), warnings: warnings::of(new, Some(old)) };
    subgroup::check_change(old, new, &mut verdict.errors);
    check_subdomain_stays(new, &mut verdict.errors);
    extras::check(new, Some(old), &mut verdict);
    template::check(new, Some(old), &mut verdict);
    tpu::check(new, Some(old), &mut verdict);
    verdict
}

/// Judges a change of nothing but the replicas, as it comes through `/scale`.
pub fn validate_scale(old: &LeaderWorkerSet, new: &LeaderWorkerSet) -> Vec<FieldError> {
    let mut errors = Vec::new();
    check_counts(new, &mut errors);
    if extras::name_length(old).is_none() {
        errors.extend(extras::name_length(new));
    }
    errors
}

/// Upstream's rules for any set, in upstream's order.
fn contract(set: &LeaderWorkerSet, old: Option<&LeaderWorkerSet>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    check_name(set, &mut errors);
    check_counts(set, &mut errors);
    rollout::check(set, old, &mut errors);
    subgroup::check(set, &mut errors);
    errors
}

fn check_name(set: &LeaderWorkerSet, errors: &mut Vec<FieldError>) {
    let name = set.set_name();
    let generated = set.metadata.generate_name.as_deref().is_some_and(|prefix| !prefix.is_empty());
    if name.is_empty() {
        if !generated {
            errors.push(FieldError::required("metadata.name", "name or generateName is required"));
        }
    } else if let Some(detail) = dns1035_label_error(name) {
        errors.push(FieldError::invalid("metadata.name", name, detail));
    }
}

fn check_counts(set: &LeaderWorkerSet, errors: &mut Vec<FieldError>) {
    let (replicas, size) = (set.replicas(), set.size());
    if replicas < 0 {
        errors.push(FieldError::invalid("spec.replicas", replicas, "replicas must be equal or greater than 0"));
    }
    if replicas > MAX_REPLICAS {
        errors.push(FieldError::invalid("spec.replicas", replicas, "replicas must be equal or less than 1000000"));
    }
    if size < 1 {
        errors.push(FieldError::invalid("spec.leaderWorkerTemplate.size", size, "size must be equal or greater than 1"));
    }
    if i64::from(replicas) * i64::from(size) > i64::from(i32::MAX) {
        let detail = "the product of replicas and worker replicas must not exceed 2147483647";
        errors.push(FieldError::invalid("spec.replicas", replicas, detail));
    }
}

/// Defaulting fills the field, so this is met only where defaulting didn't run.
fn check_subdomain_stays(set: &LeaderWorkerSet, errors: &mut Vec<FieldError>) {
    if set.spec.network_config.as_ref().is_some_and(|network| network.subdomain_policy.is_none()) {
        let path = "spec.networkConfig.subdomainPolicy";
        errors.push(FieldError::invalid(path, serde_json::Value::Null, "cannot set subdomainPolicy as null"));
    }
}
