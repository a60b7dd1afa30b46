//! Signers without a key of their own: an identity provider vouched for them, an authority (Fulcio) put that into a certificate
//! that was good for minutes, and a log (Rekor) or a clock says when they signed.
//!
//! Everything is checked from what travels with the signature and from the trust root; nobody is asked.

use sigstore_verify::types::{Artifact, Sha256Hash};
use sigstore_verify::{CertificateError, Error, TimestampError, VerificationPolicy};

use crate::bundle;
use crate::trust::TrustRoot;
use crate::verify::Signature;

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

/// Checks that `identity` signed the manifest `digest`, which the signature is known to speak of. Returns the signer's name.
pub(crate) fn check(digest: &str, signature: &Signature, identity: &Identity, root: &TrustRoot) -> Result<String, String> {
    let policy = VerificationPolicy::any_identity().require_issuer(&identity.issuer);
    let policy = if root.certificates_logged { policy } else { policy.skip_sct() };
    let unlogged = |policy: VerificationPolicy| policy.skip_tlog_unsafe();
    let (bundle, artifact, policy) = match signature {
        Signature::Bundle(bundle) => {
            let digest = Sha256Hash::from_hex(digest.trim_start_matches("sha256:")).map_err(|error| error.to_string())?;
            let policy = if root.signatures_logged { policy } else { unlogged(policy) };
            ((**bundle).clone(), Artifact::from(digest), policy)
        }
        // The receipt that cosign 2 keeps is the log's signed promise, with its time; that it was kept is proved nowhere.
        Signature::Payload { payload, .. } => {
            (bundle::of_payload(signature)?, Artifact::from(payload.as_slice()), unlogged(policy))
        }
        Signature::Unreadable(reason) => return Err(reason.clone()),
    };
    if bundle.signing_certificate().is_none() {
        return Err("it carries no certificate, so a key made it".to_owned());
    }
    let verified = root.verifier.verify(artifact, &bundle, &policy).map_err(|error| told(&error))?;
    let name = verified.identity().ok_or("its certificate names nobody")?.as_str();
    if identity.subject.fits(name) {
        Ok(name.to_owned())
    } else {
        Err(format!("the signer is {name}, not {}", wanted(&identity.subject)))
    }
}

/// What is wrong with a signature, as a part of a sentence about it.
fn told(error: &Error) -> String {
    match error {
        Error::IssuerMismatch { expected, actual } => {
            format!("the signer was vouched for by {:?}, not by {expected:?}", actual.as_deref().unwrap_or("nobody"))
        }
        Error::SignatureInvalid(_) => {
            "the signature is not of what it says, or was made by another key than its certificate's".to_owned()
        }
        Error::Certificate(CertificateError::ChainInvalid(why)) => {
            format!(
                "its certificate was not issued for signing code by an authority of the trust root, or was not good then: {why}"
            )
        }
        Error::Certificate(CertificateError::NoValidAuthority { time }) => {
            format!("the trust root has no authority that was valid at {time}")
        }
        Error::Timestamp(TimestampError::NoVerifiedTimestamp(_)) => {
            "it carries neither a receipt of a transparency log nor a timestamp that says when it was made".to_owned()
        }
        Error::Timestamp(why) => format!("its timestamp can't be believed: {why}"),
        Error::TransparencyLog(why) => format!("what the log says of it can't be believed: {why}"),
        Error::ArtifactMismatch(why) => format!("it is of something else: {why}"),
        Error::Bundle(why) => format!("something is missing: {why}"),
        other => other.to_string(),
    }
}

fn wanted(subject: &Subject) -> String {
    match subject {
        Subject::Equal(name) => format!("{name:?}"),
        Subject::Prefix(prefix) => format!("one that begins with {prefix:?}"),
    }
}
