//! The budget of a rolling update.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use crate::field::FieldError;
use crate::leader_worker_set::LeaderWorkerSet;
use crate::scaled::{Rounding, percent, scaled};
use crate::syntax::NOT_A_PERCENT;

const PATH: &str = "spec.rolloutStrategy.rollingUpdateConfiguration";
const NEGATIVE: &str = "must be greater than or equal to 0";

pub(super) fn check(set: &LeaderWorkerSet, old: Option<&LeaderWorkerSet>, errors: &mut Vec<FieldError>) {
    let (unavailable, surge) = (set.max_unavailable(), set.max_surge());
    let unavailable_error = number_error(&unavailable);
    let surge_error = number_error(&surge);
    let readable = unavailable_error.is_none() && surge_error.is_none();
    if let Some(detail) = unavailable_error {
        errors.push(FieldError::invalid(format!("{PATH}.maxUnavailable"), json(&unavailable), detail));
    }
    if let Some(detail) = surge_error {
        errors.push(FieldError::invalid(format!("{PATH}.maxSurge"), json(&surge), detail));
    }
    if readable && no_step(set.replicas(), &unavailable, &surge) && !old.is_some_and(|old| came_to_this(old, set)) {
        let detail = "must not be 0 when `maxSurge` is 0";
        errors.push(FieldError::invalid(format!("{PATH}.maxUnavailable"), json(&unavailable), detail));
    }
    if set.partition() < 0 {
        errors.push(FieldError::invalid(format!("{PATH}.partition"), set.partition(), NEGATIVE));
    }
}

fn number_error(value: &IntOrString) -> Option<&'static str> {
    match value {
        IntOrString::Int(number) => (*number < 0).then_some(NEGATIVE),
        IntOrString::String(text) => match percent(text) {
            Some(percent) => (percent > 100).then_some("must not be greater than 100%"),
            // Digits and a percent sign, and yet no number: too many digits.
            None if is_percent_shaped(text) => Some("invalid value"),
            None => Some(NOT_A_PERCENT),
        },
    }
}

fn is_percent_shaped(text: &str) -> bool {
    text.strip_suffix('%').is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether an update could never take its first step: nothing may be down and nothing may be added.
fn no_step(replicas: i32, unavailable: &IntOrString, surge: &IntOrString) -> bool {
    let unavailable = scaled(unavailable, replicas, Rounding::Down);
    let surge = scaled(surge, replicas, Rounding::Up);
    replicas > 0 && unavailable == Ok(0) && surge == Ok(0)
}

/// Whether the set was without a step before this change, by a scale-down that rounded its budget to 0, and the budget is not what the
/// change is about: an autoscaler must not lock a set for its owner.
fn came_to_this(old: &LeaderWorkerSet, new: &LeaderWorkerSet) -> bool {
    let budget = |set: &LeaderWorkerSet| (set.max_unavailable(), set.max_surge());
    let (unavailable, surge) = budget(old);
    budget(new) == (unavailable.clone(), surge.clone()) && no_step(old.replicas(), &unavailable, &surge)
}

fn json(value: &IntOrString) -> Value {
    match value {
        IntOrString::Int(number) => (*number).into(),
        IntOrString::String(text) => text.as_str().into(),
    }
}
