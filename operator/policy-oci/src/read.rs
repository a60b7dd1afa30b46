//! Reading a policy and its signatures from wherever its parts lie. Every digest is checked here, so that no place has to be believed.

use serde::{Deserialize, Serialize};

use crate::bundle;
use crate::layout::{self, Artifact, Descriptor, LayoutError, Manifest};
use crate::payload;
use crate::registry::RegistryError;
use crate::verify::Signature;
use crate::{Reference, digest};

/// Largest payload of a signature.
const MAX_PAYLOAD_BYTES: usize = 64 << 10;
/// Signatures of one artifact that are looked at.
const MAX_SIGNATURES: usize = 32;
/// Media type of a config that says nothing.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// An artifact that refers to another one, as a list of them names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Referrer {
    /// Digest of its manifest.
    pub digest: String,
    /// What it says it is; some registries leave it out.
    #[serde(default)]
    pub artifact_type: Option<String>,
}

/// A place where manifests and blobs lie: a registry, or a copy of what one gave. Nothing that it gives is believed.
pub trait Read: Sync {
    /// The manifest that a reference stands for.
    fn manifest(&self, reference: &Reference) -> impl Future<Output = Result<Vec<u8>, RegistryError>> + Send;

    /// What refers to the manifest that `subject` names by digest; nothing when the place knows of no such lists.
    fn referrers(&self, subject: &Reference) -> impl Future<Output = Result<Vec<Referrer>, RegistryError>> + Send;

    /// A blob of at most `limit` bytes, which messages call `what`.
    fn blob(
        &self,
        reference: &Reference,
        of: &Descriptor,
        limit: usize,
        what: &str,
    ) -> impl Future<Output = Result<Vec<u8>, RegistryError>> + Send;
}

/// Reads what a reference stands for and checks that it has the layout of a policy. Nothing else is read yet.
///
/// # Errors
/// When it can't be read, has another digest than the reference says, or another layout.
pub async fn artifact(from: &impl Read, reference: &Reference) -> Result<Artifact, RegistryError> {
    let (digest, manifest) = manifest(from, reference).await?;
    Ok(layout::read(&digest, &manifest)?)
}

/// The component of an artifact, of at most `max_bytes`.
///
/// # Errors
/// When it can't be read, is too large, or has another digest than the manifest says.
pub async fn component(
    from: &impl Read,
    reference: &Reference,
    artifact: &Artifact,
    max_bytes: usize,
) -> Result<Vec<u8>, RegistryError> {
    blob(from, reference, &artifact.layer, max_bytes, "the component").await
}

/// Every signature that lies beside the manifest `digest`; none when there is none.
///
/// # Errors
/// When they can't be read.
pub async fn signatures(from: &impl Read, reference: &Reference, digest: &str) -> Result<Vec<Signature>, RegistryError> {
    let mut signatures = bundles(from, reference, digest).await?;
    let Some(manifest) = signature_manifest(from, reference, digest).await? else { return Ok(signatures) };
    for layer in manifest.layers.iter().filter(|layer| layer.media_type == payload::MEDIA_TYPE).take(MAX_SIGNATURES) {
        let Some(signature) = layer.annotations.get(payload::SIGNATURE) else { continue };
        let said = |annotation: &str| layer.annotations.get(annotation).filter(|text| !text.is_empty()).cloned();
        signatures.push(Signature::Payload {
            payload: blob(from, reference, layer, MAX_PAYLOAD_BYTES, "the payload of a signature").await?,
            signature: signature.clone(),
            certificate: said(payload::CERTIFICATE),
            chain: said(payload::CHAIN),
            receipt: said(payload::BUNDLE),
        });
    }
    Ok(signatures)
}

/// The signatures among the artifacts that refer to the manifest `digest`.
async fn bundles(from: &impl Read, reference: &Reference, digest: &str) -> Result<Vec<Signature>, RegistryError> {
    let referring = from.referrers(&reference.clone_with_digest(digest.to_owned())).await?;
    let is_bundle = |type_: &str| type_.starts_with(bundle::MEDIA_TYPE);
    // Some registries don't say what refers, or name the empty config instead; then the manifest does.
    let may_be_bundle = |type_: &str| type_ == EMPTY || is_bundle(type_);
    let may_be = referring.iter().filter(|entry| entry.artifact_type.as_deref().is_none_or(may_be_bundle));
    let mut bundles = Vec::new();
    for entry in may_be.take(MAX_SIGNATURES) {
        let (_, bytes) = manifest(from, &reference.clone_with_digest(entry.digest.clone())).await?;
        let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) else { continue };
        if let [layer] = manifest.layers.as_slice()
            && is_bundle(&layer.media_type)
        {
            let json = blob(from, reference, layer, MAX_PAYLOAD_BYTES, "the bundle of a signature").await?;
            bundles.push(Signature::from_bundle(&json));
        }
    }
    Ok(bundles)
}

/// A manifest and its digest, which is compared with the reference's.
pub(crate) async fn manifest(from: &impl Read, reference: &Reference) -> Result<(String, Vec<u8>), RegistryError> {
    let bytes = from.manifest(reference).await?;
    let found = digest(&bytes);
    match reference.digest() {
        Some(wanted) if wanted != found => Err(RegistryError::Digest { wanted: wanted.to_owned(), found }),
        _ => Ok((found, bytes)),
    }
}

/// The manifest that lists the signatures of the manifest `digest`, as cosign 2 writes it.
pub(crate) async fn signature_manifest(
    from: &impl Read,
    reference: &Reference,
    digest: &str,
) -> Result<Option<Manifest>, RegistryError> {
    let tag = signature_tag(reference, digest);
    let bytes = match manifest(from, &tag).await {
        Ok((_, bytes)) => bytes,
        Err(RegistryError::Missing(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let manifest = serde_json::from_slice(&bytes);
    let unreadable = |error: serde_json::Error| LayoutError::Unreadable(format!("{tag}: {error}"));
    Ok(Some(manifest.map_err(unreadable)?))
}

async fn blob(
    from: &impl Read,
    reference: &Reference,
    of: &Descriptor,
    limit: usize,
    what: &str,
) -> Result<Vec<u8>, RegistryError> {
    // What the manifest says is believed only when it refuses: the bytes are counted as they come.
    if usize::try_from(of.size).map_or(true, |size| size > limit) {
        return Err(RegistryError::TooLarge { what: what.to_owned(), limit });
    }
    let bytes = from.blob(reference, of, limit, what).await?;
    let found = digest(&bytes);
    if found == of.digest { Ok(bytes) } else { Err(RegistryError::Digest { wanted: of.digest.clone(), found }) }
}

/// Where cosign puts the signatures of a manifest.
pub(crate) fn signature_tag(reference: &Reference, digest: &str) -> Reference {
    let tag = format!("{}.sig", digest.replace(':', "-"));
    Reference::with_tag(reference.registry().to_owned(), reference.repository().to_owned(), tag)
}
