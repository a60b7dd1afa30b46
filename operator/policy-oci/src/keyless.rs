//! Signers without a key of their own: an identity provider vouched for them, an authority (Fulcio) put that into a certificate
//! that was good for minutes, and a log (Rekor) gave a receipt that says when they signed.
//!
//! Everything is checked from what travels with the signature and from the trust root; nobody is asked. Not checked: that the
//! authority logged the certificate (SCT), for which the log's receipt of the signature itself stands in.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use crate::bundle;
use crate::keys::PublicKey;
use crate::trust::{Authority, TrustRoot};
use crate::verify::{Form, Signature};

/// The purpose that a signer's certificate must be for.
const CODE_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 3];
/// The extension that names the identity provider, as a string of ASN.1.
const ISSUER: &str = "1.3.6.1.4.1.57264.1.8";
/// The same as bare bytes, in older certificates.
const ISSUER_OLD: &str = "1.3.6.1.4.1.57264.1.1";

/// Who must have signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// URL of the identity provider.
    pub issuer: String,
    /// What it calls the signer.
    pub subject: Subject,
}

/// A signer's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Exactly this.
    Equal(String),
    /// It begins so. The prefix ends in `/`, so that no longer name slips in.
    Prefix(String),
}

impl Subject {
    fn fits(&self, name: &str) -> bool {
        match self {
            Self::Equal(wanted) => name == wanted,
            Self::Prefix(prefix) => prefix.ends_with('/') && name.starts_with(prefix),
        }
    }
}

/// The receipt of the log, as cosign stores it.
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

/// Checks that `identity` made the signature `bytes` of `signed`. Returns the signer's name.
pub(crate) fn check(
    signature: &Signature,
    signed: &[u8],
    bytes: &[u8],
    identity: &Identity,
    root: &TrustRoot,
) -> Result<String, String> {
    let pem = signature.certificate.as_deref().ok_or("it carries no certificate, so a key made it")?;
    let leaf = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| "its certificate can't be read")?;
    let (_, parsed) = X509Certificate::from_der(&leaf).map_err(|_| "its certificate can't be read")?;
    let receipt = signature.bundle.as_deref().ok_or("it carries no receipt of a transparency log that says when it was made")?;
    let time = signed_at(receipt, signature, bytes, &leaf, root)?;
    chain(&leaf, signature.chain.as_deref(), root, time)?;
    let for_code = parsed.extended_key_usage().ok().flatten().is_some_and(|usage| usage.value.code_signing);
    if !for_code {
        return Err("its certificate is not one for signing code".to_owned());
    }
    let key = PublicKey::from_der(parsed.public_key().raw).map_err(|error| format!("the key of its certificate: {error}"))?;
    if !key.verifies(signed, bytes) {
        return Err("the signature is not of what it says, or was made by another key than its certificate's".to_owned());
    }
    named(&parsed, identity)
}

/// When the log saw this very signature.
fn signed_at(receipt: &str, signature: &Signature, bytes: &[u8], leaf: &[u8], root: &TrustRoot) -> Result<Timestamp, String> {
    let Receipt { signed_entry_timestamp, payload: entry } =
        serde_json::from_str(receipt).map_err(|error| format!("the log's receipt can't be read: {error}"))?;
    let time = Timestamp::from_second(entry.integrated_time).map_err(|_| "the log's receipt has no time")?;
    let hex = |id: &[u8; 32]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let log = root.logs.iter().find(|log| hex(log.key.id()) == entry.log_id && log.valid.holds(time));
    let log = log.ok_or_else(|| format!("the trust root knows no log {} at {time}", entry.log_id))?;
    // What the log signed: the entry with its keys in order and nothing between them.
    let signed = json!({
        "body": entry.body, "integratedTime": entry.integrated_time, "logID": entry.log_id, "logIndex": entry.log_index,
    });
    let by = STANDARD.decode(signed_entry_timestamp).map_err(|_| "the log's receipt can't be read")?;
    if !log.key.verifies(signed.to_string().as_bytes(), &by) {
        return Err("the log's receipt is forged".to_owned());
    }
    let body = STANDARD.decode(&entry.body).ok().and_then(|body| serde_json::from_slice::<Value>(&body).ok());
    logged(&body.unwrap_or_default(), signature, bytes, leaf)
        .then_some(time)
        .ok_or_else(|| "the log's receipt is for another signature".to_owned())
}

/// Whether an entry of the log is of this payload, this signature and this certificate.
fn logged(body: &Value, signature: &Signature, bytes: &[u8], leaf: &[u8]) -> bool {
    let is_leaf = |pem: &[u8]| CertificateDer::from_pem_slice(pem).is_ok_and(|certificate| certificate.as_ref() == leaf);
    let payload = &signature.payload;
    if signature.form != Form::Payload {
        return bundle::logged(body, payload, bytes, is_leaf);
    }
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let decoded = |pointer: &str| STANDARD.decode(text(pointer)).unwrap_or_default();
    text("/kind") == "hashedrekord"
        && text("/spec/data/hash/algorithm") == "sha256"
        && text("/spec/data/hash/value") == format!("{:x}", Sha256::digest(payload))
        && decoded("/spec/signature/content") == bytes
        && is_leaf(&decoded("/spec/signature/publicKey/content"))
}

/// Checks that one of the root's authorities issued the certificate, and that everything was good when it was used.
fn chain(leaf: &CertificateDer<'_>, carried: Option<&str>, root: &TrustRoot, time: Timestamp) -> Result<(), String> {
    let end = EndEntityCert::try_from(leaf).map_err(|error| format!("its certificate can't be used: {error}"))?;
    let carried = carried.unwrap_or_default().as_bytes();
    let carried: Vec<_> = CertificateDer::pem_slice_iter(carried).take(8).flatten().collect();
    let seconds = u64::try_from(time.as_second()).unwrap_or_default();
    let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let mut last = "the trust root has no authority that was valid then".to_owned();
    for Authority { chain, .. } in root.authorities.iter().filter(|authority| authority.valid.holds(time)) {
        let Some((anchor, between)) = chain.split_last() else { continue };
        if !good_at(anchor, time) {
            continue;
        }
        let Ok(trusted) = anchor_from_trusted_cert(anchor) else { continue };
        let between: Vec<CertificateDer<'_>> = between.iter().chain(&carried).cloned().collect();
        let usage = KeyUsage::required_if_present(CODE_SIGNING);
        match end.verify_for_usage(ALL_VERIFICATION_ALGS, &[trusted], &between, at, usage, None, None) {
            Ok(_) => return Ok(()),
            Err(error) => {
                last = format!("its certificate was not issued by an authority of the trust root, or not for {time}: {error}")
            }
        }
    }
    Err(last)
}

/// Chains are checked up to the root, not the root itself.
fn good_at(anchor: &CertificateDer<'_>, time: Timestamp) -> bool {
    let parsed = X509Certificate::from_der(anchor);
    parsed.is_ok_and(|(_, anchor)| {
        let validity = anchor.validity();
        (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&time.as_second())
    })
}

fn named(certificate: &X509Certificate<'_>, identity: &Identity) -> Result<String, String> {
    let issuer = issuer(certificate).ok_or("its certificate names no identity provider")?;
    if issuer != identity.issuer {
        return Err(format!("the signer was vouched for by {issuer:?}, not by {:?}", identity.issuer));
    }
    let names = certificate.subject_alternative_name().ok().flatten().map(|names| &names.value.general_names);
    let names = names.into_iter().flatten().filter_map(|name| match name {
        GeneralName::URI(name) | GeneralName::RFC822Name(name) => Some((*name).to_owned()),
        _ => None,
    });
    let names: Vec<String> = names.collect();
    match names.iter().find(|name| identity.subject.fits(name)) {
        Some(name) => Ok(name.clone()),
        None => Err(format!("the signer is {}, not {}", names.join(", "), wanted(&identity.subject))),
    }
}

fn wanted(subject: &Subject) -> String {
    match subject {
        Subject::Equal(name) => format!("{name:?}"),
        Subject::Prefix(prefix) => format!("one that begins with {prefix:?}"),
    }
}

fn issuer(certificate: &X509Certificate<'_>) -> Option<String> {
    let value = |oid: &str| {
        let found = certificate.extensions().iter().find(|extension| extension.oid.to_id_string() == oid);
        found.map(|extension| extension.value)
    };
    if let Some(value) = value(ISSUER) {
        let (rest, text) = x509_parser::der_parser::asn1_rs::Utf8String::from_der(value).ok()?;
        return rest.is_empty().then(|| text.string());
    }
    String::from_utf8(value(ISSUER_OLD)?.to_vec()).ok()
}
