//! Components in a registry, and who must have signed them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An artifact in a registry, in the layout that the CNCF describes for WebAssembly.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OciSource {
    /// Registry and repository, such as registry.example/policies/racks. A tag may stand behind it, for people; it decides nothing.
    pub image: String,
    /// Digest of the manifest, as muster policy push prints it: sha256 and 64 hexadecimal digits.
    #[serde(default)]
    pub digest: String,
    /// Secrets of type kubernetes.io/dockerconfigjson; the first that has an entry for the registry is used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pull_secrets: Vec<SecretName>,
}

/// A Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretName {
    /// Namespace of the Secret.
    pub namespace: String,
    /// Name of the Secret.
    pub name: String,
}

/// Who must have signed the artifact. A signature by one of those listed here is enough.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verify {
    /// Public keys. List a key's successor beside it to replace it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<VerifyKey>,
    /// An identity, for signatures without a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyless: Option<Keyless>,
}

/// A public key in PEM. Exactly one field is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerifyKey {
    /// The key itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pem: Option<String>,
    /// An entry of a ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<EntryName>,
    /// An entry of a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<EntryName>,
}

/// An entry of a ConfigMap or a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EntryName {
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// Key of the entry.
    pub key: String,
}

/// A signer that an identity provider vouches for. Exactly one of subject and subjectPrefix is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Keyless {
    /// URL of the identity provider.
    pub issuer: String,
    /// What it calls the signer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// How the signer's name begins; ends in a slash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_prefix: Option<String>,
    /// Where Sigstore's trusted_root.json is.
    pub trust_root_ref: TrustRootRef,
}

/// Where a trust root is. Exactly one field is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrustRootRef {
    /// An entry of a ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<EntryName>,
    /// An entry of a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<EntryName>,
}
