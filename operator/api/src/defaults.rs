//! What a set looks like once every default is filled in.
//!
//! Upstream splits defaulting between the CRD schema and its webhook. [`default_set`] does both parts, so that its result is
//! complete whatever the schema in the cluster says, and doing it again changes nothing.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::leader_worker_set::{LeaderWorkerSet, RolloutStrategy, RolloutStrategyType, SubGroupPolicyType, SubdomainPolicy};

/// Fills in every default of the set's spec, and replaces the deprecated restart policy `Default` by `None`.
pub fn default_set(set: &mut LeaderWorkerSet) {
    let (restart_policy, startup_policy) = (set.restart_policy(), set.startup_policy());
    let spec = &mut set.spec;
    spec.replicas.get_or_insert(1);
    spec.startup_policy = Some(startup_policy);

    let template = &mut spec.leader_worker_template;
    template.size.get_or_insert(1);
    template.restart_policy = Some(restart_policy);
    if let Some(policy) = &mut template.sub_group_policy {
        policy.sub_group_policy_type.get_or_insert(SubGroupPolicyType::LeaderWorker);
    }

    default_rollout(spec.rollout_strategy.get_or_insert_default());
    let network = spec.network_config.get_or_insert_default();
    network.subdomain_policy.get_or_insert(SubdomainPolicy::Shared);
}

fn default_rollout(strategy: &mut RolloutStrategy) {
    strategy.type_.get_or_insert(RolloutStrategyType::RollingUpdate);
    let update = strategy.rolling_update_configuration.get_or_insert_default();
    update.partition.get_or_insert(0);
    update.max_unavailable.get_or_insert(IntOrString::Int(1));
    update.max_surge.get_or_insert(IntOrString::Int(0));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::testing::{any_set, set};

    #[test]
    fn a_set_that_says_nothing_gets_every_default() {
        let mut bare = set(json!({"leaderWorkerTemplate": {"workerTemplate": {}, "subGroupPolicy": {"subGroupSize": 1}}}));
        default_set(&mut bare);
        let expected = json!({
            "replicas": 1,
            "startupPolicy": "LeaderCreated",
            "networkConfig": {"subdomainPolicy": "Shared"},
            "rolloutStrategy": {
                "type": "RollingUpdate",
                "rollingUpdateConfiguration": {"partition": 0, "maxUnavailable": 1, "maxSurge": 0},
            },
            "leaderWorkerTemplate": {
                "size": 1,
                "restartPolicy": "RecreateGroupOnPodRestart",
                "subGroupPolicy": {"subGroupPolicyType": "LeaderWorker", "subGroupSize": 1},
                "workerTemplate": {},
            },
        });
        assert_eq!(serde_json::to_value(&bare.spec).unwrap(), expected);
    }

    #[test]
    fn what_a_set_says_stays() {
        let spec = json!({
            "replicas": 0,
            "startupPolicy": "LeaderReady",
            "networkConfig": {"subdomainPolicy": "UniquePerReplica"},
            "rolloutStrategy": {
                "type": "RollingUpdate",
                "rollingUpdateConfiguration": {"partition": 2, "maxUnavailable": "10%", "maxSurge": 3},
            },
            "leaderWorkerTemplate": {
                "size": 4,
                "restartPolicy": "RecreateGroupAfterStart",
                "subGroupPolicy": {"subGroupPolicyType": "LeaderExcluded", "subGroupSize": 3},
                "workerTemplate": {"spec": {"containers": []}},
            },
        });
        let mut full = set(spec.clone());
        default_set(&mut full);
        assert_eq!(serde_json::to_value(&full.spec).unwrap(), spec);
    }

    #[test]
    fn the_deprecated_restart_policy_becomes_none() {
        let mut old = set(json!({"leaderWorkerTemplate": {"workerTemplate": {}, "restartPolicy": "Default"}}));
        default_set(&mut old);
        assert_eq!(serde_json::to_value(old.spec.leader_worker_template.restart_policy).unwrap(), json!("None"));
    }

    #[test]
    fn empty_strings_of_go_clients_are_defaulted() {
        let mut sent_by_go = set(json!({
            "startupPolicy": "",
            "rolloutStrategy": {"type": ""},
            "leaderWorkerTemplate": {"workerTemplate": {}, "restartPolicy": ""},
        }));
        default_set(&mut sent_by_go);
        let spec = serde_json::to_value(&sent_by_go.spec).unwrap();
        assert_eq!(spec["startupPolicy"], "LeaderCreated");
        assert_eq!(spec["rolloutStrategy"]["type"], "RollingUpdate");
        assert_eq!(spec["leaderWorkerTemplate"]["restartPolicy"], "RecreateGroupOnPodRestart");
    }

    proptest! {
        #[test]
        fn defaulting_twice_changes_nothing(mut set in any_set()) {
            default_set(&mut set);
            let once = set.clone();
            default_set(&mut set);
            prop_assert_eq!(once, set);
        }

        #[test]
        fn accessors_answer_for_a_raw_set_what_its_default_will_be(raw in any_set()) {
            let mut full = raw.clone();
            default_set(&mut full);
            prop_assert_eq!(raw.replicas(), full.replicas());
            prop_assert_eq!(raw.size(), full.size());
            prop_assert_eq!(raw.restart_policy(), full.restart_policy());
            prop_assert_eq!(raw.startup_policy(), full.startup_policy());
            prop_assert_eq!(raw.subdomain_policy(), full.subdomain_policy());
            prop_assert_eq!(raw.sub_group_policy_type(), full.sub_group_policy_type());
            prop_assert_eq!(raw.max_unavailable(), full.max_unavailable());
            prop_assert_eq!(raw.max_surge(), full.max_surge());
            prop_assert_eq!(raw.partition(), full.partition());
        }
    }
}
