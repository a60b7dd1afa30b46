//! Bundles of Sigstore's: what cosign 3 writes, a signed statement in an envelope (in-toto in DSSE) and what its verification
//! needs; and what cosign 2 writes without a key, put into that form.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::{Value, json};
use sigstore_verify::types::{Bundle, DsseEnvelope, SignatureContent};

use crate::verify::Signature;

/// Media types of bundles begin so; the version follows.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle";
/// What the envelope holds.
const STATEMENT: &str = "application/vnd.in-toto+json";
/// What a statement says that is a signature. Others tell something about an artifact, and vouch for nothing.
const SIGNED: &str = "https://sigstore.dev/cosign/sign/v1";
/// Most certificates that are looked at between a signer and an authority.
const MAX_CHAIN: usize = 8;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(default)]
    subject: Vec<Subject>,
    predicate_type: String,
}

#[derive(Deserialize)]
struct Subject {
    digest: std::collections::BTreeMap<String, String>,
}

impl Signature {
    /// A bundle of Sigstore's as a signature. One that can't be read is a signature by nobody, with the reason.
    #[must_use]
    pub fn from_bundle(json: &[u8]) -> Self {
        match serde_json::from_slice(json) {
            Ok(bundle) => Self::Bundle(Box::new(bundle)),
            Err(error) => Self::Unreadable(format!("its bundle can't be read: {error}")),
        }
    }
}

/// The envelope of a bundle.
pub(crate) fn envelope(bundle: &Bundle) -> Result<&DsseEnvelope, String> {
    match &bundle.content {
        SignatureContent::DsseEnvelope(envelope) => Ok(envelope),
        _ => Err("its bundle holds a signature without a statement, which says of no artifact".to_owned()),
    }
}

/// Checks that an envelope's statement is a signature of the manifest `digest`.
pub(crate) fn check(envelope: &DsseEnvelope, digest: &str) -> Result<(), String> {
    if envelope.payload_type != STATEMENT {
        return Err(format!("what is signed is of the type {:?}, not {STATEMENT:?}", envelope.payload_type));
    }
    let statement: Statement = serde_json::from_slice(envelope.payload.as_bytes())
        .map_err(|error| format!("the statement that is signed can't be read: {error}"))?;
    if statement.predicate_type != SIGNED {
        return Err(format!("the statement that is signed is an attestation ({}), not a signature", statement.predicate_type));
    }
    let named: Vec<String> =
        statement.subject.iter().filter_map(|subject| subject.digest.get("sha256")).map(|hex| format!("sha256:{hex}")).collect();
    if named.iter().any(|named| named == digest) {
        Ok(())
    } else {
        Err(format!("it signs another artifact, {}", named.join(", ")))
    }
}

/// The receipt of the log, as cosign 2 stores it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Receipt {
    signed_entry_timestamp: String,
    payload: Entry,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    body: String,
    integrated_time: i64,
    log_index: i64,
    #[serde(rename = "logID")]
    log_id: String,
}

/// A keyless signature as cosign 2 writes it, in annotations, as a bundle.
pub(crate) fn of_payload(signature: &Signature) -> Result<Bundle, String> {
    let Signature::Payload { signature, certificate, chain, receipt, .. } = signature else {
        return Err("it is a bundle already".to_owned());
    };
    let certificate = certificate.as_deref().ok_or("it carries no certificate, so a key made it")?;
    let leaf = CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(|_| "its certificate can't be read")?;
    let carried = CertificateDer::pem_slice_iter(chain.as_deref().unwrap_or_default().as_bytes()).take(MAX_CHAIN).flatten();
    let certificates: Vec<Value> =
        std::iter::once(leaf).chain(carried).map(|certificate| json!({ "rawBytes": STANDARD.encode(certificate) })).collect();
    let receipt = receipt.as_deref().ok_or("it carries no receipt of a transparency log that says when it was made")?;
    let bundle = json!({
        "mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.1",
        "verificationMaterial": {
            "x509CertificateChain": { "certificates": certificates },
            "tlogEntries": [entry(receipt)?],
        },
        "messageSignature": { "signature": signature.trim() },
    });
    serde_json::from_value(bundle).map_err(|error| format!("what it carries can't be read: {error}"))
}

fn entry(receipt: &str) -> Result<Value, String> {
    let Receipt { signed_entry_timestamp, payload: entry } =
        serde_json::from_str(receipt).map_err(|error| format!("the log's receipt can't be read: {error}"))?;
    let id: Option<Vec<u8>> = (0..entry.log_id.len() / 2)
        .map(|byte| entry.log_id.get(2 * byte..2 * byte + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect();
    let body = STANDARD.decode(&entry.body).ok().and_then(|body| serde_json::from_slice::<Value>(&body).ok());
    let body = body.ok_or("the log's receipt is of something that can't be read")?;
    Ok(json!({
        "logIndex": entry.log_index.to_string(),
        "logId": { "keyId": STANDARD.encode(id.ok_or("the log's receipt names the log otherwise than by hexadecimal digits")?) },
        "kindVersion": { "kind": body["kind"], "version": body["apiVersion"] },
        "integratedTime": entry.integrated_time.to_string(),
        "inclusionPromise": { "signedEntryTimestamp": signed_entry_timestamp },
        "canonicalizedBody": entry.body,
    }))
}
