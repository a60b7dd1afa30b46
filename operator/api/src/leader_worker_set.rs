//! The LeaderWorkerSet: groups of pods, each with a leader and workers.
//!
//! Field names, defaults and limits are those of upstream's v1. The struct is read in two states: *raw*, as a person wrote it,
//! where almost everything may be missing, and *defaulted* (see [`crate::defaults`]). The accessors ([`LeaderWorkerSet::replicas`],
//! [`LeaderWorkerSet::size`], …) are total: they answer for a raw set what its default will be.
#![expect(clippy::duplicated_attributes, reason = "printer columns of one type are not duplicates of each other")]

use std::fmt;

use k8s_openapi::api::apps::v1::StatefulSetPersistentVolumeClaimRetentionPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::StrDeserializer;
use serde::{Deserialize, Deserializer, Serialize};

use crate::crd::embedded;
use crate::group_status::{GroupCounts, GroupStatus};
use crate::names::annotation;
use crate::scaled::{Rounding, scaled};
use crate::template::{ClaimTemplate, PodTemplate};

/// The most groups a set may have.
pub const MAX_REPLICAS: i32 = 1_000_000;

/// What a set should be.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "leaderworkerset.x-k8s.io",
    version = "v1",
    kind = "LeaderWorkerSet",
    plural = "leaderworkersets",
    singular = "leaderworkerset",
    shortname = "lws",
    namespaced,
    status = "LeaderWorkerSetStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A set of groups of pods. Each group has a leader and workers that start, sit and fail together.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.hpaPodSelector"
    ),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".spec.replicas"),
    printcolumn(name = "Up-to-date", type_ = "integer", json_path = ".status.updatedReplicas"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct LeaderWorkerSetSpec {
    /// Number of groups. Not part of the revision: changing it never restarts a pod of a group that stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = 1), range(min = 0, max = 1_000_000))]
    pub replicas: Option<i32>,

    /// What a group is. Any change in it starts a rolling update.
    pub leader_worker_template: LeaderWorkerTemplate,

    /// How groups are replaced when the template changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout_strategy: Option<RolloutStrategy>,

    /// When the workers of a group are created.
    #[serde(default, deserialize_with = "empty_is_absent", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "LeaderCreated"))]
    pub startup_policy: Option<StartupPolicyType>,

    /// How the pods find each other by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_config: Option<NetworkConfig>,
}

/// What one group is made of. The whole of it is the payload of a revision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaderWorkerTemplate {
    /// Template of the leader pod. The worker template serves for leaders too when this is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader_template: Option<PodTemplate>,

    /// Template of the worker pods.
    pub worker_template: PodTemplate,

    /// Pods in a group, leader included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = 1))]
    pub size: Option<i32>,

    /// What a failed pod means for its group.
    #[serde(default, deserialize_with = "empty_is_absent", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "RecreateGroupOnPodRestart"))]
    pub restart_policy: Option<RestartPolicyType>,

    /// Splits each group into subgroups. Cannot be added or removed later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_group_policy: Option<SubGroupPolicy>,

    /// Claims that every pod of a group gets for itself, leader and workers alike.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volume_claim_templates: Vec<ClaimTemplate>,

    /// What happens to those claims when the set is deleted or scaled down. Both are kept by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim_retention_policy: Option<StatefulSetPersistentVolumeClaimRetentionPolicy>,
}

/// Splits a group into subgroups, for instance one per rack of a slice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubGroupPolicy {
    /// Whether the leader belongs to the first subgroup or to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "LeaderWorker"))]
    pub sub_group_policy_type: Option<SubGroupPolicyType>,

    /// Pods in a subgroup. Must divide the size of the group, or that size without the leader. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_group_size: Option<i32>,
}

/// How groups are replaced when the template changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["type"]))]
pub struct RolloutStrategy {
    /// Kind of the strategy.
    #[serde(rename = "type", default, deserialize_with = "empty_is_absent", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "RollingUpdate"))]
    pub type_: Option<RolloutStrategyType>,

    /// Budget of a rolling update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolling_update_configuration: Option<RollingUpdateConfiguration>,
}

/// Budget of a rolling update, counted in groups.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollingUpdateConfiguration {
    /// Groups with a lower index than this keep their revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = 0))]
    pub partition: Option<i32>,

    /// Groups that may be down during the update: a number, or a percentage of replicas rounded down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = 1))]
    pub max_unavailable: Option<IntOrString>,

    /// Groups that may exist above replicas during the update: a number, or a percentage of replicas rounded up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = 0))]
    pub max_surge: Option<IntOrString>,
}

/// How the pods of a set find each other by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["subdomainPolicy"]))]
pub struct NetworkConfig {
    /// One headless service for the set, or one for each group.
    #[serde(default, deserialize_with = "empty_is_absent", skip_serializing_if = "Option::is_none")]
    pub subdomain_policy: Option<SubdomainPolicy>,
}

/// What was last seen of a set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaderWorkerSetStatus {
    /// Whether the set is available, progressing, being updated, waiting for a place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,

    /// Groups whose leader and workers are ready.
    #[serde(default)]
    pub ready_replicas: i32,

    /// Groups at the current revision.
    #[serde(default)]
    pub updated_replicas: i32,

    /// Groups that exist, surplus ones of an update included.
    #[serde(default)]
    pub replicas: i32,

    /// Label selector of the leader pods, for a HorizontalPodAutoscaler.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hpa_pod_selector: String,

    /// Generation of the set that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The groups, at most 64 of them: those that are not ready first, by phase and index.
    // Never left out: an empty list has to replace one that isn't.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["index"], "maxItems" = 64))]
    pub groups: Vec<GroupStatus>,

    /// How many groups are in each phase, those that are not listed included.
    #[serde(default)]
    pub group_counts: GroupCounts,
}

/// What a failed pod means for its group. Default is a deprecated name of None.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RestartPolicyType {
    /// Deprecated name of [`RestartPolicyType::None`]; defaulting rewrites it.
    Default,
    /// A pod that restarts or is deleted takes its whole group with it.
    RecreateGroupOnPodRestart,
    /// As `RecreateGroupOnPodRestart`, but only once every pod of the group has been running.
    RecreateGroupAfterStart,
    /// Pods restart one by one.
    None,
}

/// When the workers of a group are created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StartupPolicyType {
    /// As soon as the leader pod exists.
    LeaderCreated,
    /// Once the leader pod is ready.
    LeaderReady,
}

/// Whether the leader belongs to the first subgroup or to none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SubGroupPolicyType {
    /// The leader belongs to subgroup 0.
    LeaderWorker,
    /// The leader belongs to no subgroup.
    LeaderExcluded,
}

/// Kind of a rollout strategy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RolloutStrategyType {
    /// Groups are replaced from the highest index down, within a budget.
    RollingUpdate,
}

/// Whether the pods' DNS names come from one headless service for the set, or one for each group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SubdomainPolicy {
    /// One service for the set.
    Shared,
    /// One service for each group.
    UniquePerReplica,
}

impl RestartPolicyType {
    /// The value as the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "Default",
            Self::RecreateGroupOnPodRestart => "RecreateGroupOnPodRestart",
            Self::RecreateGroupAfterStart => "RecreateGroupAfterStart",
            Self::None => "None",
        }
    }
}

impl StartupPolicyType {
    /// The value as the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LeaderCreated => "LeaderCreated",
            Self::LeaderReady => "LeaderReady",
        }
    }
}

impl SubGroupPolicyType {
    /// The value as the API spells it; also the value of the annotation `subgroup-policy-type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LeaderWorker => "LeaderWorker",
            Self::LeaderExcluded => "LeaderExcluded",
        }
    }
}

impl SubdomainPolicy {
    /// The value as the API spells it; also the value of the annotation `subdomainPolicy`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shared => "Shared",
            Self::UniquePerReplica => "UniquePerReplica",
        }
    }
}

impl fmt::Display for RestartPolicyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for StartupPolicyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for SubGroupPolicyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for SubdomainPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl LeaderWorkerSet {
    /// Name of the set; empty before the API server has given it one (`generateName`).
    pub fn set_name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// Namespace of the set; empty only for an object that never was in a cluster.
    pub fn set_namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// An annotation of the set.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// A label of the set.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// Number of groups asked for.
    pub fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    /// Pods in a group, leader included.
    pub fn size(&self) -> i32 {
        self.spec.leader_worker_template.size.unwrap_or(1)
    }

    /// The template that leaders are made from: their own, or the workers'.
    pub fn leader_template(&self) -> &PodTemplate {
        let template = &self.spec.leader_worker_template;
        template.leader_template.as_ref().unwrap_or(&template.worker_template)
    }

    /// The template that workers are made from.
    pub fn worker_template(&self) -> &PodTemplate {
        &self.spec.leader_worker_template.worker_template
    }

    /// What a failed pod means for its group; never the deprecated `Default`.
    pub fn restart_policy(&self) -> RestartPolicyType {
        match self.spec.leader_worker_template.restart_policy {
            Some(RestartPolicyType::Default) => RestartPolicyType::None,
            Some(policy) => policy,
            None => RestartPolicyType::RecreateGroupOnPodRestart,
        }
    }

    /// When the workers of a group are created.
    pub fn startup_policy(&self) -> StartupPolicyType {
        self.spec.startup_policy.unwrap_or(StartupPolicyType::LeaderCreated)
    }

    /// Which headless service the pods' DNS names come from.
    pub fn subdomain_policy(&self) -> SubdomainPolicy {
        self.spec.network_config.as_ref().and_then(|network| network.subdomain_policy).unwrap_or(SubdomainPolicy::Shared)
    }

    /// Pods in a subgroup; `None` without a subgroup policy that has a size.
    pub fn sub_group_size(&self) -> Option<i32> {
        self.spec.leader_worker_template.sub_group_policy.as_ref()?.sub_group_size
    }

    /// Whether the leader belongs to a subgroup; `None` without a subgroup policy.
    pub fn sub_group_policy_type(&self) -> Option<SubGroupPolicyType> {
        let policy = self.spec.leader_worker_template.sub_group_policy.as_ref()?;
        Some(policy.sub_group_policy_type.unwrap_or(SubGroupPolicyType::LeaderWorker))
    }

    /// Groups with a lower index than this keep their revision.
    pub fn partition(&self) -> i32 {
        self.rolling_update().and_then(|update| update.partition).unwrap_or(0)
    }

    /// Groups that may be down during an update, unscaled.
    pub fn max_unavailable(&self) -> IntOrString {
        self.rolling_update().and_then(|update| update.max_unavailable.clone()).unwrap_or(IntOrString::Int(1))
    }

    /// Groups that may exist above `replicas` during an update, unscaled.
    pub fn max_surge(&self) -> IntOrString {
        self.rolling_update().and_then(|update| update.max_surge.clone()).unwrap_or(IntOrString::Int(0))
    }

    /// Groups that there may be at most, those of an update's surge included.
    pub fn most_groups(&self) -> i32 {
        let replicas = self.replicas().max(0);
        let surge = scaled(&self.max_surge(), replicas, Rounding::Up).unwrap_or(0).clamp(0, replicas);
        replicas.saturating_add(surge)
    }

    /// How often in a row a group may start over; `None` without limit, and for a value that admission would have refused.
    pub fn max_group_restarts(&self) -> Option<u32> {
        max_group_restarts(self.annotation(annotation::MAX_GROUP_RESTARTS)?)
    }

    fn rolling_update(&self) -> Option<&RollingUpdateConfiguration> {
        self.spec.rollout_strategy.as_ref()?.rolling_update_configuration.as_ref()
    }
}

/// Reads the value of the annotation [`annotation::MAX_GROUP_RESTARTS`].
pub(crate) fn max_group_restarts(value: &str) -> Option<u32> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| value.parse().ok()).flatten()
}

/// Reads `""` as absent. Go clients that hold upstream's structs send unset enums as the empty string, and upstream's webhook
/// defaults those.
fn empty_is_absent<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    match Option::<String>::deserialize(deserializer)? {
        None => Ok(None),
        Some(text) if text.is_empty() => Ok(None),
        Some(text) => T::deserialize(StrDeserializer::new(&text)).map(Some),
    }
}

fn conditions_schema(_: &mut SchemaGenerator) -> Schema {
    embedded::conditions()
}
