//! Whether an artifact was signed by somebody who is trusted. Pure: what is needed was fetched before.

use std::borrow::Cow;

use sigstore_verify::types::Bundle;

use crate::bundle;
use crate::keyless::{self, Identity};
use crate::keys::PublicKey;
use crate::payload;
use crate::trust::TrustRoot;

/// A signature as it was found beside an artifact. Nothing about it is believed yet.
#[derive(Clone, Debug, PartialEq)]
pub enum Signature {
    /// As cosign 2 writes it: a payload that names the manifest, and the rest in annotations.
    Payload {
        /// What was signed.
        payload: Vec<u8>,
        /// The signature, in base64.
        signature: String,
        /// A keyless signer's certificate, in PEM.
        certificate: Option<String>,
        /// Certificates of those who issued it, in PEM.
        chain: Option<String>,
        /// The log's receipt, in JSON.
        receipt: Option<String>,
    },
    /// As cosign 3 writes it: a bundle with a statement in an envelope.
    Bundle(Box<Bundle>),
    /// Something that can't be read, and why.
    Unreadable(String),
}

/// Who may sign. One signature by any one of them is enough, so that a key can be replaced by listing its successor beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerificationPolicy {
    /// Keys, each with the name that messages call it by.
    pub keys: Vec<(String, PublicKey)>,
    /// An identity, and whom to believe about it.
    pub keyless: Option<(Identity, TrustRoot)>,
}

/// Who signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signer {
    /// The key of this name.
    Key(String),
    /// Whom the identity provider calls so.
    Identity(String),
}

impl std::fmt::Display for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key(name) => write!(f, "the key {name}"),
            Self::Identity(name) => f.write_str(name),
        }
    }
}

/// Why nobody who is trusted signed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Nobody at all did.
    #[error("{0} is not signed; sign it with `muster policy sign` or `cosign sign`")]
    Unsigned(String),
    /// Somebody did, and here is what is wrong with each signature.
    #[error("no signature of {digest} is by a signer that is trusted: {}", numbered(.reasons))]
    Untrusted {
        /// Digest of the manifest.
        digest: String,
        /// One sentence a signature.
        reasons: Vec<String>,
    },
}

fn numbered(reasons: &[String]) -> String {
    let several = reasons.len() > 1;
    let number = |(index, reason): (usize, &String)| if several { format!("({}) {reason}", index + 1) } else { reason.clone() };
    reasons.iter().enumerate().map(number).collect::<Vec<_>>().join("; ")
}

/// Looks for a signature of the manifest `digest` by somebody whom the policy trusts.
///
/// # Errors
/// When there is none; the message says of every signature why it doesn't count.
pub fn verify(digest: &str, signatures: &[Signature], policy: &VerificationPolicy) -> Result<Signer, VerifyError> {
    if signatures.is_empty() {
        return Err(VerifyError::Unsigned(digest.to_owned()));
    }
    let mut reasons = Vec::new();
    for signature in signatures {
        match one(digest, signature, policy) {
            Ok(signer) => return Ok(signer),
            Err(reason) => reasons.push(reason),
        }
    }
    Err(VerifyError::Untrusted { digest: digest.to_owned(), reasons })
}

fn one(digest: &str, signature: &Signature, policy: &VerificationPolicy) -> Result<Signer, String> {
    let (signed, bytes) = signed(digest, signature)?;
    if let Some((name, _)) = policy.keys.iter().find(|(_, key)| key.verifies(&signed, &bytes)) {
        return Ok(Signer::Key(name.clone()));
    }
    let keys: Vec<&str> = policy.keys.iter().map(|(name, _)| name.as_str()).collect();
    let by_key = (!keys.is_empty()).then(|| format!("it does not verify with {}", keys.join(" or ")));
    let by_identity = match &policy.keyless {
        None => None,
        Some((identity, root)) => match keyless::check(digest, signature, identity, root) {
            Ok(name) => return Ok(Signer::Identity(name)),
            Err(reason) => Some(reason),
        },
    };
    let reasons: Vec<String> = by_key.into_iter().chain(by_identity).collect();
    Err(if reasons.is_empty() { "no signer is trusted".to_owned() } else { reasons.join(", and ") })
}

type Bytes<'a> = Cow<'a, [u8]>;

/// The bytes that were signed, which speak of the manifest `digest`, and those of the signature.
fn signed<'a>(digest: &str, signature: &'a Signature) -> Result<(Bytes<'a>, Bytes<'a>), String> {
    use base64::Engine as _;
    match signature {
        Signature::Payload { payload, signature, .. } => {
            payload::check(payload, digest)?;
            let decoded = base64::engine::general_purpose::STANDARD.decode(signature.trim());
            Ok((Cow::Borrowed(payload), Cow::Owned(decoded.map_err(|_| "the signature is not base64")?)))
        }
        Signature::Bundle(bundle) => {
            let envelope = bundle::envelope(bundle)?;
            bundle::check(envelope, digest)?;
            Ok((Cow::Owned(envelope.pae()), Cow::Borrowed(envelope.signature.sig.as_bytes())))
        }
        Signature::Unreadable(reason) => Err(reason.clone()),
    }
}
