//! A copy of everything that a registry gave about one policy: to be read, and judged, again while the registry can't be reached.
//!
//! Nothing in a copy is believed: it is a place like any other ([`Read`]), whose digests and signatures are checked as a registry's are.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Reference;
use crate::layout::Descriptor;
use crate::read::{Read, Referrer};
use crate::registry::RegistryError;

/// Largest header of an encoded copy: a line per part, of which there are at most some hundred.
const MAX_HEADER_BYTES: usize = 256 << 10;

/// What one registry gave about one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// What was asked for: registry, repository and digest.
    reference: String,
    /// When it was.
    fetched: Timestamp,
    /// Manifests, lists and blobs, each by what it was asked for as.
    parts: BTreeMap<String, Vec<u8>>,
}

/// Why something is no copy.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// It was not written by [`Copy::encode`], or changed since.
    #[error("it is no copy of a policy: {0}")]
    Unreadable(String),
    /// It is of another policy.
    #[error("it is a copy of {found}, not of {wanted}")]
    Another {
        /// What it was looked up for.
        wanted: String,
        /// What it is a copy of.
        found: String,
    },
}

/// The first line of an encoded copy; the parts follow in this order.
#[derive(Serialize, Deserialize)]
struct Header {
    reference: String,
    fetched: Timestamp,
    parts: Vec<(String, usize)>,
}

impl Copy {
    /// When it was fetched.
    #[must_use]
    pub fn fetched(&self) -> Timestamp {
        self.fetched
    }

    /// A name for the copy of what `reference` stands for: of letters and digits, and of another one for another registry.
    #[must_use]
    pub fn name(reference: &Reference) -> String {
        crate::digest(reference.whole().as_bytes()).trim_start_matches("sha256:").to_owned()
    }

    /// The copy as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let header = Header {
            reference: self.reference.clone(),
            fetched: self.fetched,
            parts: self.parts.iter().map(|(name, part)| (name.clone(), part.len())).collect(),
        };
        let mut bytes = serde_json::json!(header).to_string().into_bytes();
        bytes.push(b'\n');
        self.parts.values().for_each(|part| bytes.extend_from_slice(part));
        bytes
    }

    /// The copy of what `reference` stands for.
    ///
    /// # Errors
    /// When it isn't one.
    pub fn decode(bytes: &[u8], reference: &Reference) -> Result<Self, CopyError> {
        let unreadable = |why: String| CopyError::Unreadable(why);
        let end = bytes.iter().take(MAX_HEADER_BYTES).position(|byte| *byte == b'\n');
        let (header, mut rest) = bytes.split_at(end.ok_or_else(|| unreadable("it has no header".to_owned()))?);
        let header: Header = serde_json::from_slice(header).map_err(|error| unreadable(error.to_string()))?;
        if header.reference != reference.whole() {
            return Err(CopyError::Another { wanted: reference.whole(), found: header.reference });
        }
        rest = &rest[1..];
        let mut parts = BTreeMap::new();
        for (name, length) in header.parts {
            let (part, behind) = rest.split_at_checked(length).ok_or_else(|| unreadable(format!("{name} is cut off")))?;
            parts.insert(name, part.to_vec());
            rest = behind;
        }
        if !rest.is_empty() {
            return Err(unreadable(format!("{} bytes belong to nothing", rest.len())));
        }
        Ok(Self { reference: header.reference, fetched: header.fetched, parts })
    }

    fn part(&self, name: &str) -> Result<Vec<u8>, RegistryError> {
        self.parts.get(name).cloned().ok_or_else(|| RegistryError::Missing(format!("{name} in the copy of {}", self.reference)))
    }
}

impl Read for Copy {
    async fn manifest(&self, reference: &Reference) -> Result<Vec<u8>, RegistryError> {
        self.part(&manifest_part(reference))
    }

    async fn referrers(&self, subject: &Reference) -> Result<Vec<Referrer>, RegistryError> {
        let json = self.part(&referrers_part(subject))?;
        let unreadable = |error: serde_json::Error| crate::layout::LayoutError::Unreadable(error.to_string());
        Ok(serde_json::from_slice(&json).map_err(unreadable)?)
    }

    async fn blob(&self, _: &Reference, of: &Descriptor, limit: usize, what: &str) -> Result<Vec<u8>, RegistryError> {
        let blob = self.part(&blob_part(of))?;
        if blob.len() > limit {
            return Err(RegistryError::TooLarge { what: what.to_owned(), limit });
        }
        Ok(blob)
    }
}

fn manifest_part(reference: &Reference) -> String {
    format!("manifests/{}", reference.digest().or(reference.tag()).unwrap_or_default())
}

fn referrers_part(subject: &Reference) -> String {
    format!("referrers/{}", subject.digest().unwrap_or_default())
}

fn blob_part(of: &Descriptor) -> String {
    format!("blobs/{}", of.digest)
}

/// Reads from another place and remembers all that it gives.
#[derive(Debug)]
pub struct Copying<'a, R> {
    from: &'a R,
    parts: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl<'a, R: Read> Copying<'a, R> {
    /// Remembers nothing yet.
    pub fn new(from: &'a R) -> Self {
        Self { from, parts: Mutex::default() }
    }

    /// All that was read, as the copy of what `reference` stands for.
    pub fn copy(self, reference: &Reference, fetched: Timestamp) -> Copy {
        let parts = self.parts.into_inner().unwrap_or_else(PoisonError::into_inner);
        Copy { reference: reference.whole(), fetched, parts }
    }

    fn remember(&self, name: String, part: Vec<u8>) {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).insert(name, part);
    }
}

impl<R: Read> Read for Copying<'_, R> {
    async fn manifest(&self, reference: &Reference) -> Result<Vec<u8>, RegistryError> {
        let bytes = self.from.manifest(reference).await?;
        self.remember(manifest_part(reference), bytes.clone());
        Ok(bytes)
    }

    async fn referrers(&self, subject: &Reference) -> Result<Vec<Referrer>, RegistryError> {
        let referrers = self.from.referrers(subject).await?;
        self.remember(referrers_part(subject), serde_json::json!(referrers).to_string().into_bytes());
        Ok(referrers)
    }

    async fn blob(&self, reference: &Reference, of: &Descriptor, limit: usize, what: &str) -> Result<Vec<u8>, RegistryError> {
        let bytes = self.from.blob(reference, of, limit, what).await?;
        self.remember(blob_part(of), bytes.clone());
        Ok(bytes)
    }
}
