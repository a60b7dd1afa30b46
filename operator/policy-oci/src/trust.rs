//! Whom to believe about keyless signers: Sigstore's `trusted_root.json`, read from where the administrator put it.
//!
//! It is never fetched: an operator that needs Sigstore's servers to load a policy would stop when they do.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use serde::Deserialize;

use crate::keys::PublicKey;

/// Authorities that issue certificates to signers, and logs that say when one signed.
#[derive(Clone, PartialEq, Eq)]
pub struct TrustRoot {
    pub(crate) authorities: Vec<Authority>,
    pub(crate) logs: Vec<Log>,
}

impl fmt::Debug for TrustRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (authorities, logs) = (self.authorities.len(), self.logs.len());
        f.debug_struct("TrustRoot").field("authorities", &authorities).field("logs", &logs).finish()
    }
}

/// One authority: its certificates, the root last.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Authority {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) valid: Window,
}

/// One transparency log.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Log {
    pub(crate) key: PublicKey,
    pub(crate) valid: Window,
}

/// When something was good.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    start: Option<Timestamp>,
    end: Option<Timestamp>,
}

impl Window {
    pub(crate) fn holds(self, time: Timestamp) -> bool {
        self.start.is_none_or(|start| start <= time) && self.end.is_none_or(|end| time <= end)
    }
}

/// Why a trust root can't be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no trusted_root.json of Sigstore: {0}")]
pub struct TrustRootError(String);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    certificate_authorities: Vec<FileAuthority>,
    #[serde(default)]
    tlogs: Vec<FileLog>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileAuthority {
    cert_chain: FileChain,
    valid_for: Option<FileWindow>,
}

#[derive(Deserialize)]
struct FileChain {
    certificates: Vec<FileBytes>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileBytes {
    raw_bytes: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileLog {
    public_key: FileKey,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileKey {
    raw_bytes: String,
    valid_for: Option<FileWindow>,
}

#[derive(Deserialize)]
struct FileWindow {
    start: Option<String>,
    end: Option<String>,
}

impl TrustRoot {
    /// Reads `trusted_root.json`.
    ///
    /// # Errors
    /// When it is something else, or names no authority or no log: then nobody could be believed.
    pub fn from_json(json: &[u8]) -> Result<Self, TrustRootError> {
        let file: File = serde_json::from_slice(json).map_err(|error| TrustRootError(error.to_string()))?;
        let mut root = Self { authorities: Vec::new(), logs: Vec::new() };
        for (index, authority) in file.certificate_authorities.iter().enumerate() {
            let path = format!("certificateAuthorities[{index}]");
            let chain =
                authority.cert_chain.certificates.iter().map(|one| decode(&one.raw_bytes, &path).map(CertificateDer::from));
            let chain: Vec<_> = chain.collect::<Result<_, _>>()?;
            let valid = window(authority.valid_for.as_ref(), &path)?;
            root.authorities.push(Authority { chain, valid });
        }
        for (index, log) in file.tlogs.iter().enumerate() {
            let path = format!("tlogs[{index}].publicKey");
            let der = decode(&log.public_key.raw_bytes, &path)?;
            let valid = window(log.public_key.valid_for.as_ref(), &path)?;
            match PublicKey::from_der(&der) {
                Ok(key) => root.logs.push(Log { key, valid }),
                // A root may name logs of kinds that are not supported here; their receipts are refused as of unknown logs.
                Err(error) => tracing::debug!(path, %error, "a log of the trust root is left out"),
            }
        }
        if root.authorities.iter().all(|authority| authority.chain.is_empty()) {
            return Err(TrustRootError("certificateAuthorities names no certificate".to_owned()));
        }
        if root.logs.is_empty() {
            return Err(TrustRootError("tlogs names no key that is supported".to_owned()));
        }
        Ok(root)
    }
}

fn decode(base64: &str, path: &str) -> Result<Vec<u8>, TrustRootError> {
    STANDARD.decode(base64).map_err(|error| TrustRootError(format!("{path}: rawBytes: {error}")))
}

fn window(window: Option<&FileWindow>, path: &str) -> Result<Window, TrustRootError> {
    let read = |time: Option<&String>| {
        let parsed = time.map(|time| time.parse::<Timestamp>());
        parsed.transpose().map_err(|error| TrustRootError(format!("{path}: validFor: {error}")))
    };
    Ok(Window {
        start: read(window.and_then(|window| window.start.as_ref()))?,
        end: read(window.and_then(|window| window.end.as_ref()))?,
    })
}
