//! Subgroups: how a group may be split, and that the split stays.

use serde_json::Value;

use crate::field::FieldError;
use crate::leader_worker_set::{LeaderWorkerSet, SubGroupPolicyType};
use crate::names::annotation::SUBGROUP_EXCLUSIVE_TOPOLOGY;

// Upstream spells it `SubGroupPolicy`, which is no field of the object.
const PATH: &str = "spec.leaderWorkerTemplate.subGroupPolicy.subGroupSize";
const AT_LEAST_ONE: &str = "subGroupSize must be equal or greater than 1";

pub(super) fn check(set: &LeaderWorkerSet, errors: &mut Vec<FieldError>) {
    match (set.sub_group_policy_type(), set.sub_group_size()) {
        (None, _) => check_annotation(set, errors),
        (Some(_), None) => errors.push(FieldError::required(PATH, AT_LEAST_ONE)),
        (Some(_), Some(part)) if part < 1 => errors.push(FieldError::invalid(PATH, part, AT_LEAST_ONE)),
        (Some(kind), Some(part)) => check_division(set.size(), part, kind, errors),
    }
}

fn check_division(size: i32, part: i32, kind: SubGroupPolicyType, errors: &mut Vec<FieldError>) {
    if size < 1 {
        return; // The size has its own error; nothing sensible can be said about its parts.
    }
    let (whole, without_leader) = (size % part == 0, (size - 1) % part == 0);
    if !whole && !without_leader {
        errors.push(FieldError::invalid(PATH, part, "size or size - 1 must be divisible by subGroupSize"));
    }
    if part > size {
        errors.push(FieldError::invalid(PATH, part, "subGroupSize cannot be larger than size"));
    }
    if kind == SubGroupPolicyType::LeaderExcluded && !without_leader {
        let detail = "size-1 must be divisible by subGroupSize when using LeaderExcluded";
        errors.push(FieldError::invalid(PATH, part, detail));
    }
}

fn check_annotation(set: &LeaderWorkerSet, errors: &mut Vec<FieldError>) {
    if let Some(level) = set.annotation(SUBGROUP_EXCLUSIVE_TOPOLOGY) {
        let path = format!("metadata.annotations.{SUBGROUP_EXCLUSIVE_TOPOLOGY}");
        errors.push(FieldError::invalid(path, level, "cannot have subgroup-exclusive-topology without subGroupSize set"));
    }
}

/// Pods carry their subgroup in labels that can't change, so neither can the size of subgroups.
pub(super) fn check_change(old: &LeaderWorkerSet, new: &LeaderWorkerSet, errors: &mut Vec<FieldError>) {
    let detail = match (old.sub_group_size(), new.sub_group_size()) {
        (Some(old), Some(new)) if old != new => "field is immutable",
        (None, Some(_)) => "cannot enable subGroupSize after the lws is already created",
        (Some(_), None) => "cannot remove subGroupSize after enabled",
        _ => return,
    };
    errors.push(FieldError::invalid(PATH, new.sub_group_size().map_or(Value::Null, Value::from), detail));
}
