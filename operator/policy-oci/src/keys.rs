//! Keys that sign policies: the only place that touches the primitives.

use std::fmt;

use rcgen::{KeyPair, SigningKey as _};
use ring::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

/// Kinds of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256: what cosign makes.
    EcdsaP256,
    /// ECDSA on P-384 with SHA-384; read, never made.
    EcdsaP384,
    /// Ed25519.
    Ed25519,
}

/// Why a key can't be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is no PEM of a public key.
    #[error("it is no public key in PEM (-----BEGIN PUBLIC KEY-----)")]
    NotPem,
    /// It is a key of another kind.
    #[error("it is a key of the kind {0}; ECDSA on P-256 or P-384 and Ed25519 are supported")]
    Kind(String),
    /// It is no private key that can be read.
    #[error("it is no private key in PEM without a password (-----BEGIN PRIVATE KEY-----): {0}")]
    Private(String),
}

/// A key that signatures are checked with.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    algorithm: Algorithm,
    key: Vec<u8>,
    /// SHA-256 of its DER: how logs and people name it.
    id: [u8; 32],
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKey").field("algorithm", &self.algorithm).field("fingerprint", &self.fingerprint()).finish()
    }
}

impl PublicKey {
    /// Reads a key from PEM, as `cosign generate-key-pair` and `muster policy keygen` write it.
    ///
    /// # Errors
    /// When it is no PEM, or of a kind that isn't supported.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError::NotPem)?;
        Self::from_der(&der)
    }

    /// Reads a key from the DER of its `SubjectPublicKeyInfo`.
    ///
    /// # Errors
    /// As for [`PublicKey::from_pem`].
    pub fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        let (rest, info) = SubjectPublicKeyInfo::from_der(der).map_err(|_| KeyError::NotPem)?;
        if !rest.is_empty() {
            return Err(KeyError::NotPem);
        }
        let curve = info.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
        let curve = curve.map(|curve| curve.to_id_string());
        let algorithm = match (info.algorithm.algorithm.to_id_string().as_str(), curve.as_deref()) {
            ("1.2.840.10045.2.1", Some("1.2.840.10045.3.1.7")) => Algorithm::EcdsaP256,
            ("1.2.840.10045.2.1", Some("1.3.132.0.34")) => Algorithm::EcdsaP384,
            ("1.3.101.112", None) => Algorithm::Ed25519,
            ("1.2.840.113549.1.1.1", _) => return Err(KeyError::Kind("RSA".to_owned())),
            (other, curve) => {
                return Err(KeyError::Kind(curve.map_or_else(|| other.to_owned(), |curve| format!("{other}/{curve}"))));
            }
        };
        Ok(Self { algorithm, key: info.subject_public_key.data.to_vec(), id: Sha256::digest(der).into() })
    }

    /// Whether `signature` is this key's, of exactly `message`.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &dyn VerificationAlgorithm = match self.algorithm {
            Algorithm::EcdsaP256 => &ECDSA_P256_SHA256_ASN1,
            Algorithm::EcdsaP384 => &ECDSA_P384_SHA384_ASN1,
            Algorithm::Ed25519 => &ED25519,
        };
        UnparsedPublicKey::new(algorithm, &self.key).verify(message, signature).is_ok()
    }

    /// Its kind.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hexadecimal SHA-256 of its DER, by which logs and people name it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.id.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A key that signs.
pub struct PrivateKey(KeyPair);

/// The key itself stays out of logs.
impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PrivateKey").finish_non_exhaustive()
    }
}

impl PrivateKey {
    /// A new key.
    ///
    /// # Errors
    /// When the kind is only read, never made, or the machine has no randomness.
    pub fn generate(algorithm: Algorithm) -> Result<Self, KeyError> {
        let kind = match algorithm {
            Algorithm::EcdsaP256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Algorithm::Ed25519 => &rcgen::PKCS_ED25519,
            Algorithm::EcdsaP384 => return Err(KeyError::Kind("ECDSA on P-384, which is not made here".to_owned())),
        };
        KeyPair::generate_for(kind).map(Self).map_err(|error| KeyError::Private(error.to_string()))
    }

    /// Reads an unencrypted PKCS#8 key from PEM.
    ///
    /// # Errors
    /// When it is something else, such as a key with a password.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        if pem.contains("ENCRYPTED") {
            return Err(KeyError::Private(
                "it is encrypted; sign with cosign, or make a key with `muster policy keygen`".to_owned(),
            ));
        }
        let key = KeyPair::from_pem(pem).map_err(|error| KeyError::Private(error.to_string()))?;
        let supported = [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519];
        if supported.iter().all(|kind| !key.is_compatible(kind)) {
            return Err(KeyError::Kind("RSA or an unknown curve".to_owned()));
        }
        Ok(Self(key))
    }

    /// The key as PKCS#8 in PEM, to be kept secret.
    #[must_use]
    pub fn to_pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// The public half in PEM, for `spec.verify.keys`.
    #[must_use]
    pub fn public_pem(&self) -> String {
        self.0.public_key_pem()
    }

    /// Signs exactly `message`.
    ///
    /// # Errors
    /// When the machine has no randomness.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.0.sign(message).map_err(|error| KeyError::Private(error.to_string()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(Algorithm::EcdsaP256)]
    #[case(Algorithm::Ed25519)]
    fn a_key_survives_pem_and_verifies_only_what_it_signed(#[case] algorithm: Algorithm) {
        let key = PrivateKey::from_pem(&PrivateKey::generate(algorithm).unwrap().to_pem()).unwrap();
        let public = PublicKey::from_pem(&key.public_pem()).unwrap();
        let other = PublicKey::from_pem(&PrivateKey::generate(algorithm).unwrap().public_pem()).unwrap();
        let signature = key.sign(b"message").unwrap();
        assert_eq!(public.algorithm(), algorithm);
        assert!(public.verifies(b"message", &signature));
        assert!(!public.verifies(b"massage", &signature));
        assert!(!other.verifies(b"message", &signature));
        assert!(!public.verifies(b"message", &signature[1..]));
    }

    #[test]
    fn keys_that_cannot_be_used_are_refused_with_what_can() {
        assert_eq!(PublicKey::from_pem("key").unwrap_err(), KeyError::NotPem);
        let private = PrivateKey::generate(Algorithm::EcdsaP256).unwrap().to_pem();
        assert_eq!(PublicKey::from_pem(&private).unwrap_err(), KeyError::NotPem);
        let encrypted = PrivateKey::from_pem("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----").unwrap_err();
        assert!(encrypted.to_string().contains("make a key with `muster policy keygen`"), "{encrypted}");
    }
}
