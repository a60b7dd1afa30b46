//! What a set looks like once every default is filled in.
//!
//! Upstream splits defaulting between the CRD schema and its webhook. [`default_set`] does both parts, so that its result is
//! complete whatever the schema in the cluster says, and doing it again changes nothing.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::leader_worker_set::{
    LeaderWorkerSet, NetworkConfig, RollingUpdateConfiguration, RolloutStrategy, RolloutStrategyType, SubGroupPolicyType,
    SubdomainPolicy,
};

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
    let network = spec.network_config.get_or_insert_with(NetworkConfig::default);
    network.subdomain_policy.get_or_insert(SubdomainPolicy::Shared);
}

fn default_rollout(strategy: &mut RolloutStrategy) {
    strategy.type_.get_or_insert(RolloutStrategyType::RollingUpdate);
    let update = strategy.rolling_update_configuration.get_or_insert_with(RollingUpdateConfiguration::default);
    update.partition.get_or_insert(0);
    update.max_unavailable.get_or_insert(IntOrString::Int(1));
    update.max_surge.get_or_insert(IntOrString::Int(0));
}
