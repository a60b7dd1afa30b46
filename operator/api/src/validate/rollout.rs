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
    let before = errors.len();
    for (field, value) in [("maxUnavailable", &unavailable), ("maxSurge", &surge)] {
        let details = number_errors(value).iter();
        errors.extend(details.map(|detail| FieldError::invalid(format!("{PATH}.{field}"), json(value), *detail)));
    }
    let readable = errors.len() == before;
    if readable && no_step(set.replicas(), &unavailable, &surge) && !old.is_some_and(|old| came_to_this(old, set)) {
        let detail = "must not be 0 when `maxSurge` is 0";
        errors.push(FieldError::invalid(format!("{PATH}.maxUnavailable"), json(&unavailable), detail));
    }
    if set.partition() < 0 {
        errors.push(FieldError::invalid(format!("{PATH}.partition"), set.partition(), NEGATIVE));
    }
}

/// What is wrong with a number of groups, in upstream's words and their order.
fn number_errors(value: &IntOrString) -> &'static [&'static str] {
    match value {
        IntOrString::Int(..0) => &[NEGATIVE],
        IntOrString::Int(_) => &[],
        IntOrString::String(text) => match percent(text) {
            Some(..=100) => &[],
            Some(_) => &["must not be greater than 100%"],
            // Digits and a percent sign, and yet no number: too many digits.
            None if is_percent_shaped(text) => &["invalid value"],
            None => &[NOT_A_PERCENT, "invalid value"],
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
