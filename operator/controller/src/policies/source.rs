//! From a policy's source to bytes: found, fetched, and signed by somebody who is trusted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, ResourceExt as _};
use muster_api::policy::{ConfigMapSource, EntryName, Keyless, OciSource, PolicySpec, Verify, VerifyKey, validate_policy};
use muster_policy_host::{PolicyKind, built_in, built_ins};
use muster_policy_oci::{Credentials, Identity, PublicKey, Reference, Subject, TrustRoot, VerificationPolicy};

use super::oci;
use super::status::{Fault, Verification};
use crate::context::Context;

/// The pause after a first failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Where a component's bytes came from, exactly enough to notice that they would be others now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// Part of this binary.
    BuiltIn,
    /// A ConfigMap at this resource version.
    ConfigMap(String),
    /// A registry, and a digest of the keys and roots that its signature was checked with.
    Registry(String),
    /// The copy that was kept of what a registry gave. Never what is wanted: the registry is asked again.
    Kept,
    /// Nowhere: it could not be fetched.
    Missing,
}

/// When a registry is asked again.
#[derive(Debug, Clone)]
pub(super) struct Retry {
    pub(super) trust: String,
    failures: u32,
    pub(super) at: Instant,
}

impl Retry {
    /// After one more failure.
    pub(super) fn after(before: Option<&Self>, trust: &str, now: Instant) -> Self {
        let failures = before.filter(|before| before.trust == trust).map_or(0, |before| before.failures) + 1;
        let pause = FIRST_PAUSE.saturating_mul(1_u32 << (failures - 1).min(16)).min(LONGEST_PAUSE);
        Self { trust: trust.to_owned(), failures, at: now + pause }
    }
}

/// What became of fetching.
pub(super) struct Sourced {
    pub(super) bytes: Result<Arc<[u8]>, Fault>,
    pub(super) origin: Origin,
    /// Digest of the artifact in its registry.
    pub(super) artifact: Option<String>,
    pub(super) verification: Verification,
    /// Why the bytes are those of a kept copy, if they are.
    pub(super) kept: Option<String>,
    pub(super) retry: Option<Retry>,
}

/// What is known of the same policy from before.
pub(super) struct Before<'a> {
    pub(super) spec: &'a PolicySpec,
    pub(super) origin: &'a Origin,
    pub(super) retry: Option<&'a Retry>,
}

impl Before<'_> {
    pub(super) fn is(&self, spec: &PolicySpec, origin: &Origin) -> bool {
        self.spec == spec && self.origin == origin
    }
}

/// Fetches a policy's component; `None` when it is what it was.
pub(super) async fn fetch(cx: &Context, kind: PolicyKind, spec: &PolicySpec, before: Option<Before<'_>>) -> Option<Sourced> {
    let errors = validate_policy(spec);
    let (bytes, origin) = if !errors.is_empty() {
        let message = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        (Err(fault("Fetched", "InvalidSpec", message)), Origin::Missing)
    } else if let Some(source) = &spec.source.oci {
        return oci::fetch(cx, spec, source, before).await;
    } else if let Some(source) = &spec.source.config_map {
        match config_map(cx, source).await {
            Ok((bytes, version)) => (Ok(bytes), Origin::ConfigMap(version)),
            Err(message) => (Err(fault("Fetched", "SourceMissing", message)), Origin::Missing),
        }
    } else {
        let name = spec.source.built_in.as_deref().unwrap_or_default();
        (part_of_this_binary(kind, name), Origin::BuiltIn)
    };
    let same = before.is_some_and(|before| before.is(spec, &origin));
    let sourced = Sourced { bytes, origin, artifact: None, verification: Verification::NotAsked, kept: None, retry: None };
    (!same).then_some(sourced)
}

pub(super) fn fault(condition: &'static str, reason: &'static str, message: impl Into<String>) -> Fault {
    Fault { condition, reason, message: message.into() }
}

fn part_of_this_binary(kind: PolicyKind, name: &str) -> Result<Arc<[u8]>, Fault> {
    built_in(name).map(Arc::from).ok_or_else(|| {
        let names: Vec<&str> = built_ins().iter().filter(|known| known.kind == kind).map(|known| known.name).collect();
        let message = format!("spec.source.builtIn: {name:?} is not part of this operator; it has {}", names.join(", "));
        fault("Fetched", "SourceMissing", message)
    })
}

async fn config_map(cx: &Context, source: &ConfigMapSource) -> Result<(Arc<[u8]>, String), String> {
    let ConfigMapSource { namespace, name, .. } = source;
    let api: Api<ConfigMap> = Api::namespaced(cx.client.clone(), namespace);
    let found = api.get_opt(name).await.map_err(|error| format!("reading ConfigMap {namespace}/{name}: {error}"))?;
    let object = found.ok_or_else(|| format!("spec.source.configMap: ConfigMap {namespace}/{name} does not exist"))?;
    Ok((component_in(&object, source)?, object.resource_version().unwrap_or_default()))
}

/// The entry that a source names. kubectl writes what happens to be text under `data`; that is no component either, and the
/// loader says why.
fn component_in(object: &ConfigMap, source: &ConfigMapSource) -> Result<Arc<[u8]>, String> {
    let ConfigMapSource { namespace, name, key } = source;
    let binary = object.binary_data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice());
    let text = object.data.as_ref().and_then(|data| data.get(key)).map(String::as_bytes);
    binary.or(text).map(Arc::from).ok_or_else(|| {
        let binary = object.binary_data.iter().flat_map(|data| data.keys());
        let keys: Vec<&str> = binary.chain(object.data.iter().flat_map(|data| data.keys())).map(String::as_str).collect();
        let keys = if keys.is_empty() { "it is empty".to_owned() } else { format!("it has {}", keys.join(", ")) };
        format!("spec.source.configMap.key: ConfigMap {namespace}/{name} has no entry {key:?}; {keys}")
    })
}

/// What the first pull secret with an entry for the registry says; nothing when there is none.
pub(super) async fn credentials(cx: &Context, source: &OciSource, reference: &Reference) -> Result<Credentials, Fault> {
    for (index, secret) in source.pull_secrets.iter().enumerate() {
        let entry =
            EntryName { namespace: secret.namespace.clone(), name: secret.name.clone(), key: ".dockerconfigjson".to_owned() };
        let path = format!("spec.source.oci.pullSecrets[{index}]");
        let config =
            secret_entry(cx, &entry).await.map_err(|why| fault("Fetched", "PullSecretUnusable", format!("{path}: {why}")))?;
        let found = Credentials::find(&config, reference.registry(), reference.repository());
        let unusable = |error| fault("Fetched", "PullSecretUnusable", format!("{path}: {error}"));
        if let Some(credentials) = found.map_err(unusable)? {
            return Ok(credentials);
        }
    }
    Ok(Credentials::Anonymous)
}

/// Whom `spec.verify` trusts, and a digest of all that says so.
pub(super) async fn trusted(cx: &Context, verify: Option<&Verify>) -> Result<(Option<VerificationPolicy>, String), Fault> {
    let Some(Verify { keys, keyless }) = verify else { return Ok((None, String::new())) };
    let unusable = |path: &str, why: String| fault("Verified", "TrustUnusable", format!("{path}: {why}"));
    let mut policy = VerificationPolicy::default();
    let mut read = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        let path = format!("spec.verify.keys[{index}]");
        let (name, pem) = key_text(cx, key, &path).await.map_err(|why| unusable(&path, why))?;
        policy.keys.push((name, PublicKey::from_pem(&pem).map_err(|error| unusable(&path, error.to_string()))?));
        read.push(muster_policy_oci::digest(pem.as_bytes()));
    }
    if let Some(Keyless { issuer, subject, subject_prefix, trust_root_ref }) = keyless {
        let path = "spec.verify.keyless.trustRootRef";
        let (config_map, secret) = (trust_root_ref.config_map_ref.as_ref(), trust_root_ref.secret_ref.as_ref());
        let json = entry(cx, config_map, secret).await.map_err(|why| unusable(path, why))?;
        let root = TrustRoot::from_json(&json).map_err(|error| unusable(path, error.to_string()))?;
        let subject = match (subject, subject_prefix) {
            (Some(name), _) => Subject::Equal(name.clone()),
            (None, prefix) => Subject::Prefix(prefix.clone().unwrap_or_default()),
        };
        policy.keyless = Some((Identity { issuer: issuer.clone(), subject }, root));
        read.push(muster_policy_oci::digest(&json));
    }
    Ok((Some(policy), read.join(" ")))
}

/// A key's name in messages, and its PEM.
async fn key_text(cx: &Context, key: &VerifyKey, path: &str) -> Result<(String, String), String> {
    if let Some(pem) = &key.pem {
        return Ok((path.to_owned(), pem.clone()));
    }
    let (config_map, secret) = (key.config_map_ref.as_ref(), key.secret_ref.as_ref());
    let bytes = entry(cx, config_map, secret).await?;
    let name = config_map.or(secret).map(|entry| format!("{}/{}/{}", entry.namespace, entry.name, entry.key));
    let pem = String::from_utf8(bytes).map_err(|_| "it is no public key in PEM".to_owned())?;
    Ok((name.unwrap_or_default(), pem))
}

async fn entry(cx: &Context, config_map: Option<&EntryName>, secret: Option<&EntryName>) -> Result<Vec<u8>, String> {
    match (config_map, secret) {
        (Some(entry), _) => config_map_entry(cx, entry).await,
        (None, Some(entry)) => secret_entry(cx, entry).await,
        (None, None) => Err("it names no object".to_owned()),
    }
}

async fn config_map_entry(cx: &Context, entry: &EntryName) -> Result<Vec<u8>, String> {
    let EntryName { namespace, name, key } = entry;
    let api: Api<ConfigMap> = Api::namespaced(cx.client.clone(), namespace);
    let found = api.get_opt(name).await.map_err(|error| format!("reading ConfigMap {namespace}/{name}: {error}"))?;
    let object = found.ok_or_else(|| format!("ConfigMap {namespace}/{name} does not exist"))?;
    let text = object.data.as_ref().and_then(|data| data.get(key)).map(|text| text.as_bytes().to_vec());
    let bytes = text.or_else(|| object.binary_data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.clone()));
    bytes.ok_or_else(|| format!("ConfigMap {namespace}/{name} has no entry {key:?}"))
}

async fn secret_entry(cx: &Context, entry: &EntryName) -> Result<Vec<u8>, String> {
    let EntryName { namespace, name, key } = entry;
    let api: Api<Secret> = Api::namespaced(cx.client.clone(), namespace);
    let found = api.get_opt(name).await.map_err(|error| match error {
        kube::Error::Api(status) if status.code == 403 => {
            format!("the operator may not read Secret {namespace}/{name}; add it to the chart's value policyHost.secrets")
        }
        other => format!("reading Secret {namespace}/{name}: {other}"),
    })?;
    let object = found.ok_or_else(|| format!("Secret {namespace}/{name} does not exist"))?;
    let bytes = object.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.clone());
    bytes.ok_or_else(|| format!("Secret {namespace}/{name} has no entry {key:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_asked_again_ever_later_and_at_once_with_other_keys() {
        let now = Instant::now();
        let mut retry = Retry::after(None, "old", now);
        let mut pauses = vec![(retry.at - now).as_secs()];
        for _ in 0..9 {
            retry = Retry::after(Some(&retry), "old", now);
            pauses.push((retry.at - now).as_secs());
        }
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!((Retry::after(Some(&retry), "new", now).at - now).as_secs(), 2);
    }
}
