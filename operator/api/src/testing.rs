//! Sets for tests.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::LeaderWorkerSet;

/// A set named `default/vllm` with this spec.
#[expect(clippy::needless_pass_by_value, reason = "so that a call is `set(json!(…))`")]
pub(crate) fn set(spec: Value) -> LeaderWorkerSet {
    let object = json!({
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {"name": "vllm", "namespace": "default"},
        "spec": spec,
    });
    serde_json::from_value(object).unwrap()
}

/// A valid set of two groups of four.
pub(crate) fn valid_set() -> LeaderWorkerSet {
    set(json!({
        "replicas": 2,
        "leaderWorkerTemplate": {
            "size": 4,
            "workerTemplate": {"spec": {"containers": [{"name": "worker", "image": "registry.test/worker"}]}},
        },
    }))
}

/// Sets of every kind of small and of extreme number, most of them wrong in some way.
pub(crate) fn any_set() -> impl Strategy<Value = LeaderWorkerSet> {
    let number = || prop::option::of(prop_oneof![-2..6_i32, Just(i32::MIN), Just(i32::MAX), Just(1_000_001)]);
    let budget = || {
        let text = prop_oneof!["[0-9]{0,3}%", "[a-z%0-9-]{0,4}", Just("99999999999999999999%".to_owned())];
        prop::option::of(prop_oneof![
            (-2..6_i32).prop_map(IntOrString::Int),
            Just(IntOrString::Int(i32::MAX)),
            text.prop_map(IntOrString::String)
        ])
    };
    let subgroups = prop::option::of((number(), prop::option::of(prop::sample::select(vec!["LeaderWorker", "LeaderExcluded"]))));
    let restart = prop::option::of(prop::sample::select(vec!["", "Default", "None", "RecreateGroupAfterStart"]));
    let template = prop::sample::select(vec![
        json!({}),
        json!(null),
        json!("text"),
        json!({"spec": {"containers": []}}),
        json!({"spec": {"containers": [{"name": "a", "new": 1}]}}),
        json!({"spec": {"containers": [{"name": 1}]}}),
    ]);
    (number(), number(), number(), budget(), budget(), subgroups, restart, template).prop_map(
        |(replicas, size, partition, unavailable, surge, subgroups, restart, template)| {
            let subgroups = subgroups.map(|(size, kind)| json!({"subGroupSize": size, "subGroupPolicyType": kind}));
            set(json!({
                "replicas": replicas,
                "rolloutStrategy": {"rollingUpdateConfiguration": {
                    "partition": partition, "maxUnavailable": unavailable, "maxSurge": surge,
                }},
                "leaderWorkerTemplate": {
                    "size": size, "subGroupPolicy": subgroups, "restartPolicy": restart, "workerTemplate": template,
                },
            }))
        },
    )
}
