//! What is signed: a small document that names the manifest ("simple signing"), as cosign writes it.

use serde::Deserialize;
use serde_json::json;

/// Media type of the layer that holds it.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// Media type of the config beside it.
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Annotation of the layer: the signature in base64.
pub(crate) const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// Annotation of the layer: a keyless signer's certificate in PEM.
pub(crate) const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
/// Annotation of the layer: certificates of those who issued it.
pub(crate) const CHAIN: &str = "dev.sigstore.cosign/chain";
/// Annotation of the layer: the transparency log's receipt.
pub(crate) const BUNDLE: &str = "dev.sigstore.cosign/bundle";

const TYPES: [&str; 2] = ["cosign container image signature", "atomic container signature"];

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: Image,
    #[serde(rename = "type")]
    type_: String,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

/// The payload that says: this manifest, of this repository.
pub(crate) fn write(repository: &str, digest: &str) -> Vec<u8> {
    let payload = json!({
        "critical": {
            "identity": { "docker-reference": repository },
            "image": { "docker-manifest-digest": digest },
            "type": TYPES[0],
        },
        "optional": null,
    });
    payload.to_string().into_bytes()
}

/// Checks that a payload speaks of the manifest `digest`. The repository it names is not compared, so that mirrors work.
pub(crate) fn check(payload: &[u8], digest: &str) -> Result<(), String> {
    let read: Payload = serde_json::from_slice(payload).map_err(|error| format!("what is signed can't be read: {error}"))?;
    if !TYPES.contains(&read.critical.type_.as_str()) {
        return Err(format!("what is signed is a {:?}, not a {:?}", read.critical.type_, TYPES[0]));
    }
    if read.critical.image.digest != digest {
        return Err(format!("it signs another artifact, {}", read.critical.image.digest));
    }
    Ok(())
}
