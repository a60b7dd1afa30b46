//! What is legal but surely not meant. Said once, when it is written, and never in the way.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::leader_worker_set::LeaderWorkerSet;
use crate::names::{annotation, label};
use crate::scaled::{Rounding, scaled};

const UPDATE: &str = "spec.rolloutStrategy.rollingUpdateConfiguration";
const TEMPLATE: &str = "spec.leaderWorkerTemplate";

/// Warnings about a set; about a change of one, only those that the set did not deserve before.
pub(super) fn of(set: &LeaderWorkerSet, old: Option<&LeaderWorkerSet>) -> Vec<String> {
    let before = old.map(all).unwrap_or_default();
    all(set).into_iter().filter(|warning| !before.contains(warning)).collect()
}

fn all(set: &LeaderWorkerSet) -> Vec<String> {
    let each = [partition(set), availability(set), exclusive(set), queued(set), retention(set)];
    each.into_iter().flatten().collect()
}

fn partition(set: &LeaderWorkerSet) -> Option<String> {
    let (partition, replicas) = (set.partition(), set.replicas());
    (partition >= replicas && partition > 0)
        .then(|| format!("{UPDATE}.partition: {partition} of {replicas} groups are kept from updates, which is all of them"))
}

fn availability(set: &LeaderWorkerSet) -> Option<String> {
    let replicas = set.replicas();
    let unavailable = scaled(&set.max_unavailable(), replicas, Rounding::Down).unwrap_or(0);
    let shown = match set.max_unavailable() {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(text) => text,
    };
    (replicas > 1 && unavailable >= replicas)
        .then(|| format!("{UPDATE}.maxUnavailable: {shown} of {replicas} groups: an update may take all of them down at once"))
}

/// A group in one domain whose subgroups each have a domain of the same kind to themselves.
fn exclusive(set: &LeaderWorkerSet) -> Option<String> {
    let key = set.annotation(annotation::SUBGROUP_EXCLUSIVE_TOPOLOGY).filter(|key| !key.is_empty())?;
    let several = set.sub_group_size().is_some_and(|part| part > 0 && set.size() - 1 > part);
    (several && set.annotation(annotation::EXCLUSIVE_TOPOLOGY) == Some(key)).then(|| {
        format!(
            "metadata.annotations.{}: the same key as exclusive-topology; a group in one {key} can't have several of them",
            annotation::SUBGROUP_EXCLUSIVE_TOPOLOGY
        )
    })
}

fn queued(set: &LeaderWorkerSet) -> Option<String> {
    set.label(label::KUEUE_QUEUE)?;
    let key = annotation::PLACEMENT_POLICY;
    set.annotation(key)?;
    Some(format!("metadata.annotations.{key}: has no effect, because Kueue places sets that have a queue"))
}

fn retention(set: &LeaderWorkerSet) -> Option<String> {
    let template = &set.spec.leader_worker_template;
    let policy = template.persistent_volume_claim_retention_policy.as_ref()?;
    let deletes = [&policy.when_deleted, &policy.when_scaled].into_iter().flatten().any(|choice| choice == "Delete");
    (deletes && template.volume_claim_templates.is_empty())
        .then(|| format!("{TEMPLATE}.persistentVolumeClaimRetentionPolicy: has no effect without volumeClaimTemplates"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::super::{validate_create, validate_update};
    use super::*;

    fn with(spec: &Value, annotations: &Value, labels: &Value) -> LeaderWorkerSet {
        let mut raw = json!({
            "apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet",
            "metadata": { "name": "a", "annotations": annotations, "labels": labels },
            "spec": { "replicas": 2, "leaderWorkerTemplate": {
                "size": 4, "workerTemplate": { "spec": { "containers": [{ "name": "main", "image": "image" }] } } } },
        });
        json_patch_merge(&mut raw["spec"], spec);
        serde_json::from_value(raw).unwrap()
    }

    fn json_patch_merge(base: &mut Value, over: &Value) {
        match (base, over) {
            (Value::Object(base), Value::Object(over)) => {
                over.iter().for_each(|(key, value)| json_patch_merge(base.entry(key.clone()).or_insert(Value::Null), value));
            }
            (base, over) => *base = over.clone(),
        }
    }

    fn update(part: &Value) -> Value {
        json!({ "rolloutStrategy": { "type": "RollingUpdate", "rollingUpdateConfiguration": part } })
    }

    const EXCLUSIVE: &str = "leaderworkerset.sigs.k8s.io/exclusive-topology";
    const SUBGROUPS: &str = "leaderworkerset.sigs.k8s.io/subgroup-exclusive-topology";

    #[rstest]
    #[case::nothing_is_updated(update(&json!({ "partition": 2 })), json!({}), json!({}),
        "spec.rolloutStrategy.rollingUpdateConfiguration.partition: 2 of 2 groups are kept from updates, which is all of them")]
    #[case::all_go_down(update(&json!({ "maxUnavailable": "100%" })), json!({}), json!({}),
        "spec.rolloutStrategy.rollingUpdateConfiguration.maxUnavailable: 100% of 2 groups: an update may take all of them down at once")]
    #[case::several_in_one(json!({ "leaderWorkerTemplate": { "subGroupPolicy": { "subGroupSize": 2 } } }),
        json!({ EXCLUSIVE: "rack", SUBGROUPS: "rack" }), json!({}),
        "metadata.annotations.leaderworkerset.sigs.k8s.io/subgroup-exclusive-topology: the same key as exclusive-topology; \
         a group in one rack can't have several of them")]
    #[case::queued(json!({}), json!({ "muster.dev/placement-policy": "node-pool" }), json!({ "kueue.x-k8s.io/queue-name": "q" }),
        "metadata.annotations.muster.dev/placement-policy: has no effect, because Kueue places sets that have a queue")]
    #[case::nothing_to_retain(
        json!({ "leaderWorkerTemplate": { "persistentVolumeClaimRetentionPolicy": { "whenDeleted": "Delete" } } }), json!({}), json!({}),
        "spec.leaderWorkerTemplate.persistentVolumeClaimRetentionPolicy: has no effect without volumeClaimTemplates")]
    fn what_is_surely_not_meant_is_said_once(
        #[case] spec: Value,
        #[case] annotations: Value,
        #[case] labels: Value,
        #[case] expected: &str,
    ) {
        let set = with(&spec, &annotations, &labels);
        let verdict = validate_create(&set);
        assert!(verdict.is_accepted(), "{:?}", verdict.refusal());
        assert_eq!(verdict.warnings, [expected]);
        let plain = with(&json!({}), &json!({}), &json!({}));
        assert_eq!(validate_update(&set, &set).warnings, Vec::<String>::new());
        assert_eq!(validate_update(&plain, &plain).warnings, Vec::<String>::new());
    }

    #[rstest]
    #[case::one_group(json!({ "replicas": 1 }))]
    #[case::part_of_the_groups(update(&json!({ "maxUnavailable": "50%", "partition": 1 })))]
    #[case::no_groups(json!({ "replicas": 0 }))]
    #[case::nested(json!({ "leaderWorkerTemplate": { "subGroupPolicy": { "subGroupSize": 4 } } }))]
    fn what_may_be_meant_is_not_warned_about(#[case] spec: Value) {
        let annotations = if spec.pointer("/leaderWorkerTemplate/subGroupPolicy").is_some() {
            json!({ EXCLUSIVE: "rack", SUBGROUPS: "rack" })
        } else {
            json!({})
        };
        assert_eq!(validate_create(&with(&spec, &annotations, &json!({}))).warnings, Vec::<String>::new());
    }
}
