//! Whom to believe about keyless signers: Sigstore's `trusted_root.json`, read from where the administrator put it.
//!
//! It is never fetched: an operator that needs Sigstore's servers to load a policy would stop when they do.

use std::fmt;
use std::sync::Arc;

use sigstore_verify::Verifier;
use sigstore_verify::trust_root::TrustedRoot;

use crate::crypto;

/// Authorities that issue certificates to signers, and logs and clocks that say when one signed.
#[derive(Clone)]
pub struct TrustRoot {
    pub(crate) verifier: Arc<Verifier>,
    /// Whether certificates must prove that a log of certificates has them: it is asked for if the root names such a log.
    pub(crate) certificates_logged: bool,
    /// Whether signatures must prove that a log has them; otherwise a clock is enough.
    pub(crate) signatures_logged: bool,
    /// The document's digest stands for all of it.
    digest: String,
}

impl fmt::Debug for TrustRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustRoot").field("digest", &self.digest).finish_non_exhaustive()
    }
}

impl PartialEq for TrustRoot {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for TrustRoot {}

/// Why a trust root can't be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no trusted_root.json of Sigstore: {0}")]
pub struct TrustRootError(String);

impl TrustRoot {
    /// Reads `trusted_root.json`.
    ///
    /// # Errors
    /// When it is something else, or names no authority, or nothing that says when a signature was made: then nobody could be believed.
    pub fn from_json(json: &[u8]) -> Result<Self, TrustRootError> {
        crypto::install();
        let wrong = |why: &str| Err(TrustRootError(why.to_owned()));
        let root: TrustedRoot = serde_json::from_slice(json).map_err(|error| TrustRootError(error.to_string()))?;
        if root.certificate_authorities.is_empty() {
            return wrong("certificateAuthorities is empty");
        }
        if root.tlogs.is_empty() && root.timestamp_authorities.is_empty() {
            return wrong("both tlogs and timestampAuthorities are empty, so that nothing tells when a signature was made");
        }
        let verifier = Verifier::new(&root).map_err(|error| TrustRootError(error.to_string()))?;
        Ok(Self {
            verifier: Arc::new(verifier),
            certificates_logged: !root.ctlogs.is_empty(),
            signatures_logged: !root.tlogs.is_empty(),
            digest: crate::digest(json),
        })
    }
}
