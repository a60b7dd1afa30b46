//! Policies as OCI artifacts: pushed, pulled by digest, signed and verified.
//!
//! ```text
//!  Registry ─┐
//!            ├─ read ── manifest (digest checked) ─► Artifact ─┬─► signatures ─► verify (pure) ─► who signed it
//!  Copy ─────┘                                                 └─► component (size bounded, digest checked)
//! ```
//!
//! What is fetched is judged by functions from values to values ([`layout`], [`verify()`]); only [`Registry`] speaks to anybody. A
//! [`Copy`] holds what a registry gave, and is read and judged in the same way.
//! An artifact has the layout that the CNCF describes for WebAssembly; a signature has the one of cosign, so that either tool
//! verifies what the other signed. Signatures are read as cosign 2 writes them (under a tag) and as cosign 3 does (as bundles that
//! refer to the artifact), and written in the older way, which both read.

mod bundle;
mod copy;
mod credentials;
mod crypto;
mod keyless;
mod keys;
pub mod layout;
mod payload;
pub mod read;
mod registry;
mod trust;
mod verify;
mod wire;

pub use copy::{Copy, CopyError, Copying};
pub use credentials::{Credentials, CredentialsError};
pub use keyless::{Identity, Subject};
pub use keys::{Algorithm, KeyError, PrivateKey, PublicKey};
pub use oci_client::Reference;
pub use registry::{Options, Pulled, PushError, Pushed, Registry, RegistryError, SignError};
pub use trust::{TrustRoot, TrustRootError};
pub use verify::{Signature, Signer, VerificationPolicy, VerifyError, verify};

/// `sha256:` and the hexadecimal digest of some bytes.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    use sha2::{Digest as _, Sha256};
    format!("sha256:{:x}", Sha256::digest(bytes))
}
