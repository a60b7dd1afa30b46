//! What upstream lets through and pods then fail over: names too long for what is derived from them, annotations that say nothing.

use crate::field::{FieldError, Verdict};
use crate::leader_worker_set::{LeaderWorkerSet, max_group_restarts};
use crate::names::{Unplaceable, annotation};
use crate::syntax::{is_dns1123_subdomain, is_label_key};

/// Longest value of a label.
const LABEL_VALUE: usize = 63;
/// Longest hash that a StatefulSet appends to its name in the label `controller-revision-hash` of its pods, and a dash.
const HASH_PART: usize = 11;

pub(super) fn check(set: &LeaderWorkerSet, old: Option<&LeaderWorkerSet>, verdict: &mut Verdict) {
    check_name_length(set, old, verdict);
    for key in [annotation::EXCLUSIVE_TOPOLOGY, annotation::SUBGROUP_EXCLUSIVE_TOPOLOGY] {
        check_annotation(set, old, key, verdict, |path, value| {
            let detail = "must be the key of a node label, such as \"topology.kubernetes.io/zone\"";
            (!is_label_key(value)).then(|| FieldError::invalid(path, value, detail))
        });
    }
    check_annotation(set, old, annotation::PLACEMENT_POLICY, verdict, |path, value| {
        let detail = "must be the name of a policy object, or several separated by commas: lower case letters, digits, '-' and '.'; \
                      remove the annotation to use the default";
        let good = value.split(',').all(|name| is_dns1123_subdomain(name.trim()));
        (!good).then(|| FieldError::invalid(path, value, detail))
    });
    check_annotation(set, old, annotation::STARTUP_POLICY, verdict, |path, value| {
        let detail = "must be the name of a policy object: lower case letters, digits, '-' and '.'; \
                      remove the annotation to use the default";
        (!is_dns1123_subdomain(value)).then(|| FieldError::invalid(path, value, detail))
    });
    check_annotation(set, old, annotation::REVISION_HISTORY_LIMIT, verdict, |path, value| {
        let detail = "must be a number of revisions, 0 or more; remove the annotation to keep 10";
        value.parse::<u32>().is_err().then(|| FieldError::invalid(path, value, detail))
    });
    check_annotation(set, old, annotation::MAX_GROUP_RESTARTS, verdict, |path, value| {
        let detail = "must be a whole number, 0 or more; remove the annotation to let groups start over without limit";
        max_group_restarts(value).is_none().then(|| FieldError::invalid(path, value, detail))
    });
    check_annotation(set, old, annotation::KUEUE_TOPOLOGY, verdict, |path, value| {
        (!["true", "false"].contains(&value)).then(|| FieldError::not_supported(path, value, &["true", "false"]))
    });
    check_annotation(set, old, annotation::UNPLACEABLE, verdict, |path, value| {
        Unplaceable::parse(value).is_none().then(|| FieldError::not_supported(path, value, &Unplaceable::VALUES))
    });
}

/// Checks an annotation that is new or has changed.
fn check_annotation(
    set: &LeaderWorkerSet,
    old: Option<&LeaderWorkerSet>,
    key: &str,
    verdict: &mut Verdict,
    check: impl Fn(String, &str) -> Option<FieldError>,
) {
    let value = set.annotation(key);
    if old.is_some_and(|old| old.annotation(key) == value) {
        return;
    }
    verdict.errors.extend(value.and_then(|value| check(format!("metadata.annotations.{key}"), value)));
}

/// A worker pod carries the label `controller-revision-hash: <set>-<group>-<hash>`, a leader pod `<set>-<hash>`. A set whose name
/// leaves no room for them would never get that pod. A name can't be changed, so a set that has such a name already is only warned, and
/// one that would come to have it by growing is kept from that.
fn check_name_length(set: &LeaderWorkerSet, old: Option<&LeaderWorkerSet>, verdict: &mut Verdict) {
    let Some(error) = name_length(set) else { return };
    if old.and_then(name_length).is_some() {
        verdict.warnings.push(error.to_string());
    } else {
        verdict.errors.push(error);
    }
}

/// What is wrong with the length of the set's name.
pub(super) fn name_length(set: &LeaderWorkerSet) -> Option<FieldError> {
    let (name, max) = (set.set_name(), longest_name(set));
    // A name over the limit of any service name is refused already.
    if name.len() <= max || name.len() > LABEL_VALUE {
        return None;
    }
    let detail = format!(
        "must be no more than {max} characters with {} replicas of size {}, because pods carry labels that append a group's index \
         and a hash to it, and a label holds {LABEL_VALUE}",
        set.replicas(),
        set.size()
    );
    Some(FieldError::invalid("metadata.name", name, detail))
}

fn longest_name(set: &LeaderWorkerSet) -> usize {
    if set.size() <= 1 {
        return LABEL_VALUE - HASH_PART;
    }
    let last = set.most_groups().max(1) - 1;
    LABEL_VALUE - HASH_PART - 1 - last.to_string().len()
}
