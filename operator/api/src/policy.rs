//! The policy objects: which WebAssembly component decides, with which settings and limits.
//!
//! `PlacementPolicy` says *where* a group goes, `StartupPolicy` says *when* its members start. Both are cluster-scoped, have the
//! same spec and status, and differ only in the WIT world that their component must export.
#![expect(clippy::duplicated_attributes, reason = "printer columns of one type are not duplicates of each other")]

mod limits;
mod oci;
mod validate;
mod validate_oci;

pub use oci::{EntryName, Keyless, OciSource, SecretName, TrustRootRef, Verify, VerifyKey};
pub use validate::validate_policy;

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::crd::embedded;
use crate::field::FieldError;

/// Spec of a [`PlacementPolicy`]: the shared [`PolicySpec`], nothing more.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "policy.muster.dev",
    version = "v1alpha1",
    kind = "PlacementPolicy",
    plural = "placementpolicies",
    singular = "placementpolicy",
    shortname = "plpol",
    status = "PolicyStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Decides where groups go: a WebAssembly component of the world placement-policy.",
    printcolumn(name = "Component", type_ = "string", json_path = ".status.active.name"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.active.version"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(transparent)]
#[schemars(description = "What the policy should be.")]
pub struct PlacementPolicySpec(pub PolicySpec);

/// Spec of a [`StartupPolicy`]: the shared [`PolicySpec`], nothing more.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "policy.muster.dev",
    version = "v1alpha1",
    kind = "StartupPolicy",
    plural = "startuppolicies",
    singular = "startuppolicy",
    shortname = "supol",
    status = "PolicyStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Decides when the members of a group start: a WebAssembly component of the world startup-policy.",
    printcolumn(name = "Component", type_ = "string", json_path = ".status.active.name"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.active.version"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(transparent)]
#[schemars(description = "What the policy should be.")]
pub struct StartupPolicySpec(pub PolicySpec);

/// What both kinds of policy say about their component.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicySpec {
    /// Where the component comes from. Exactly one of its fields is set.
    pub source: PolicySource,

    /// Who must have signed the component of a source in a registry. Checked before anything of it is compiled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verify>,

    /// Settings handed to the component, which checks them field by field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub settings: Option<Value>,

    /// What one call of the component may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = {}))]
    pub limits: Option<PolicyLimits>,

    /// What decides instead when the component can't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "Default"))]
    pub on_failure: Option<OnFailure>,

    /// What becomes of the component's answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "Enforce"))]
    pub mode: Option<PolicyMode>,

    /// Namespaces whose sets may use the policy; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "selector_schema")]
    pub namespace_selector: Option<LabelSelector>,
}

/// Where a component comes from. Exactly one field is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicySource {
    /// Name of a component that is part of the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built_in: Option<String>,

    /// An entry of a ConfigMap, under binaryData.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapSource>,

    /// An artifact in a registry, by digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oci: Option<OciSource>,
}

/// An entry of a ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapSource {
    /// Namespace of the ConfigMap.
    pub namespace: String,
    /// Name of the ConfigMap.
    pub name: String,
    /// Key of the entry.
    pub key: String,
}

/// What one call of a component may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyLimits {
    /// Time for one call, from 1ms to 500ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "50ms"))]
    pub deadline: Option<String>,

    /// Memory of one instance, up to 256Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "64Mi"))]
    pub memory: Option<String>,
}

/// What decides when a component can't: Default means no policy, Hold means wait, LastGood means its previous version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnFailure {
    /// As if the set had no policy.
    #[default]
    Default,
    /// Nothing: new groups wait.
    Hold,
    /// The version of the component that answered last.
    LastGood,
}

/// What becomes of a component's answers: Enforce applies them, Observe records them and applies the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PolicyMode {
    /// They are applied.
    #[default]
    Enforce,
    /// They are recorded, and the default is applied.
    Observe,
}

/// What was last seen of a policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    /// Whether the policy can be used, and why not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,

    /// Generation of the policy that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The component that answers now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<ActiveComponent>,

    /// The component that is being loaded, or that could not be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<CandidateComponent>,

    /// What the last failed load or call said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// The component that answers for a policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActiveComponent {
    /// Digest of its bytes, `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// Name that it gives itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Version that it gives itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What the pods of sets that use it get when they are created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub effects: Option<Value>,
    /// Since when it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}

/// A component that does not answer yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CandidateComponent {
    /// Digest of its bytes, or of its manifest while its bytes are not here: `sha256:` and 64 hexadecimal digits.
    pub digest: String,
}

/// Settings are whatever the component makes of them.
fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

fn conditions_schema(_: &mut SchemaGenerator) -> Schema {
    embedded::conditions()
}

fn selector_schema(_: &mut SchemaGenerator) -> Schema {
    embedded::label_selector()
}

/// What the two kinds of policy have in common, for code that treats them alike.
pub trait Policy: kube::Resource<DynamicType = ()> {
    /// What the policy should be.
    fn policy(&self) -> &PolicySpec;
    /// What was last seen of it.
    fn status(&self) -> Option<&PolicyStatus>;
}

impl Policy for PlacementPolicy {
    fn policy(&self) -> &PolicySpec {
        &self.spec.0
    }

    fn status(&self) -> Option<&PolicyStatus> {
        self.status.as_ref()
    }
}

impl Policy for StartupPolicy {
    fn policy(&self) -> &PolicySpec {
        &self.spec.0
    }

    fn status(&self) -> Option<&PolicyStatus> {
        self.status.as_ref()
    }
}

impl PolicySpec {
    /// What decides instead when the component can't.
    pub fn on_failure(&self) -> OnFailure {
        self.on_failure.unwrap_or_default()
    }

    /// What becomes of the answers.
    pub fn mode(&self) -> PolicyMode {
        self.mode.unwrap_or_default()
    }

    /// The settings for the component; an empty object when there are none.
    pub fn settings(&self) -> Value {
        self.settings.clone().unwrap_or_else(|| Value::Object(Map::new()))
    }

    /// Time for one call.
    ///
    /// # Errors
    /// When the text is no duration or out of bounds.
    pub fn deadline(&self) -> Result<Duration, FieldError> {
        limits::deadline(self.limits.as_ref().and_then(|limits| limits.deadline.as_deref()))
    }

    /// Memory of one instance, in bytes.
    ///
    /// # Errors
    /// When the text is no amount of memory or out of bounds.
    pub fn memory(&self) -> Result<u64, FieldError> {
        limits::memory(self.limits.as_ref().and_then(|limits| limits.memory.as_deref()))
    }
}
