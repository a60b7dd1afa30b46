//! Signatures as cosign 3 writes them: a bundle of Sigstore's that refers to the artifact, with a signed statement in an envelope
//! (in-toto in DSSE) and what its verification needs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::verify::{Form, Signature};

/// Media types of bundles begin so; the version follows.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle";
/// What the envelope holds.
const STATEMENT: &str = "application/vnd.in-toto+json";
/// What a statement says that is a signature. Others tell something about an artifact, and vouch for nothing.
const SIGNED: &str = "https://sigstore.dev/cosign/sign/v1";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    verification_material: Material,
    dsse_envelope: Option<Envelope>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    certificate: Option<Bytes>,
    x509_certificate_chain: Option<Chain>,
    #[serde(default)]
    tlog_entries: Vec<Entry>,
}

#[derive(Deserialize)]
struct Chain {
    #[serde(default)]
    certificates: Vec<Bytes>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bytes {
    raw_bytes: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    log_index: Number,
    log_id: LogId,
    integrated_time: Option<Number>,
    inclusion_promise: Option<Promise>,
    canonicalized_body: String,
}

/// 64-bit numbers are text in the JSON of protocol buffers.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Number(i64),
    Text(String),
}

impl Number {
    fn value(&self) -> Result<i64, String> {
        match self {
            Self::Number(value) => Ok(*value),
            Self::Text(text) => text.parse().map_err(|_| format!("{text:?} is no number")),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogId {
    key_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Promise {
    signed_entry_timestamp: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Deserialize)]
struct EnvelopeSignature {
    sig: String,
}

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
        parse(json).unwrap_or_else(|reason| Self { form: Form::Unreadable(reason), ..Self::default() })
    }
}

fn parse(bundle: &[u8]) -> Result<Signature, String> {
    let bundle: Bundle = serde_json::from_slice(bundle).map_err(|error| format!("its bundle can't be read: {error}"))?;
    let envelope = bundle.dsse_envelope.ok_or("its bundle holds a signature without a statement, which says of no artifact")?;
    let signature = envelope.signatures.first().ok_or("its bundle holds no signature")?;
    let decoded = |text: &str, what: &str| STANDARD.decode(text).map_err(|_| format!("{what} of its bundle is not base64"));
    let Material { certificate, x509_certificate_chain, tlog_entries } = bundle.verification_material;
    let chain = x509_certificate_chain.map(|chain| chain.certificates).unwrap_or_default();
    let mut certificates = certificate.into_iter().chain(chain);
    let certificate = certificates.next().map(|leaf| pem(&leaf.raw_bytes));
    let chain: String = certificates.map(|issuer| pem(&issuer.raw_bytes)).collect();
    Ok(Signature {
        form: Form::Statement(envelope.payload_type),
        payload: decoded(&envelope.payload, "the statement")?,
        signature: signature.sig.clone(),
        certificate,
        chain: (!chain.is_empty()).then_some(chain),
        bundle: tlog_entries.first().map(receipt).transpose()?.flatten(),
    })
}

/// The log's receipt as older signatures carry it; none if the log did not promise anything with a time.
fn receipt(entry: &Entry) -> Result<Option<String>, String> {
    let (Some(promise), Some(time)) = (&entry.inclusion_promise, &entry.integrated_time) else { return Ok(None) };
    let id = STANDARD.decode(&entry.log_id.key_id).map_err(|_| "the name of the log in its bundle is not base64")?;
    let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let payload = json!({
        "body": entry.canonicalized_body,
        "integratedTime": time.value()?,
        "logIndex": entry.log_index.value()?,
        "logID": id,
    });
    Ok(Some(json!({ "SignedEntryTimestamp": promise.signed_entry_timestamp, "Payload": payload }).to_string()))
}

fn pem(der: &str) -> String {
    let lines: Vec<&str> = der.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// What the signature of an envelope is of: type and content with their lengths, so that neither can pass for the other.
pub(crate) fn signed(type_: &str, payload: &[u8]) -> Vec<u8> {
    let mut signed = format!("DSSEv1 {} {type_} {} ", type_.len(), payload.len()).into_bytes();
    signed.extend_from_slice(payload);
    signed
}

/// Checks that a statement is a signature of the manifest `digest`.
pub(crate) fn check(type_: &str, payload: &[u8], digest: &str) -> Result<(), String> {
    if type_ != STATEMENT {
        return Err(format!("what is signed is of the type {type_:?}, not {STATEMENT:?}"));
    }
    let statement: Statement =
        serde_json::from_slice(payload).map_err(|error| format!("the statement that is signed can't be read: {error}"))?;
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

/// Whether an entry of the log is of this statement, this signature and this certificate.
pub(crate) fn logged(body: &Value, payload: &[u8], bytes: &[u8], is_leaf: impl Fn(&[u8]) -> bool) -> bool {
    use sha2::{Digest as _, Sha256};
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let decoded = |pointer: &str| STANDARD.decode(text(pointer)).unwrap_or_default();
    text("/kind") == "dsse"
        && text("/spec/payloadHash/algorithm") == "sha256"
        && text("/spec/payloadHash/value") == format!("{:x}", Sha256::digest(payload))
        && decoded("/spec/signatures/0/signature") == bytes
        && is_leaf(&decoded("/spec/signatures/0/verifier"))
}
