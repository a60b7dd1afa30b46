//! A Sigstore for tests: an authority, a log and a clock that sign as the real ones do, and whose trust root says so.
//!
//! Certificates are good on one day of March 2026 only, so that a test can sign too early or too late.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

mod clock;
mod log;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster_policy_oci::Signature;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, SanType, SigningKey as _, date_time_ymd,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use clock::Clock;
pub use log::Log;

/// Who signs here.
pub const SUBJECT: &str = "https://github.example/acme/policies/.github/workflows/release.yaml@refs/heads/main";
/// Who vouches for that.
pub const ISSUER: &str = "https://issuer.example";

/// What cosign 2 signs.
#[must_use]
pub fn payload(digest: &str) -> Vec<u8> {
    let payload = json!({"critical": {"identity": {"docker-reference": "registry.example/policy"},
        "image": {"docker-manifest-digest": digest}, "type": "cosign container image signature"}, "optional": null});
    payload.to_string().into_bytes()
}

/// What cosign 3 signs.
#[must_use]
pub fn statement(digest: &str) -> Value {
    json!({ "_type": "https://in-toto.io/Statement/v1", "predicateType": "https://sigstore.dev/cosign/sign/v1",
        "subject": [{ "digest": { "sha256": digest.trim_start_matches("sha256:") } }], "predicate": {} })
}

/// A statement as its signature covers it.
#[must_use]
pub fn enveloped(statement: &Value) -> Vec<u8> {
    let statement = statement.to_string();
    format!("DSSEv1 28 application/vnd.in-toto+json {} {statement}", statement.len()).into_bytes()
}

/// A bundle of a statement, a signature of it, and what its verification needs.
#[must_use]
pub fn bundle(material: &Value, statement: &Value, signature: &[u8]) -> Value {
    json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": material,
        "dsseEnvelope": {
            "payload": STANDARD.encode(statement.to_string()),
            "payloadType": "application/vnd.in-toto+json",
            "signatures": [{ "sig": STANDARD.encode(signature) }],
        },
    })
}

/// A way to sign.
#[derive(Debug, Clone, Copy)]
pub struct Signing {
    /// What the clocks say.
    pub time: &'static str,
    /// Whether the certificate is for signing code.
    pub for_code: bool,
}

impl Default for Signing {
    /// In the middle of the only day on which certificates are good here.
    fn default() -> Self {
        Self { time: "2026-03-01T12:00:00Z", for_code: true }
    }
}

/// A keyless signature as cosign 2 stores it: the payload's layer, and its annotations.
#[derive(Debug, Clone)]
pub struct Annotated {
    /// What was signed.
    pub payload: Vec<u8>,
    /// The signature, in base64.
    pub signature: String,
    /// The certificate, in PEM.
    pub certificate: String,
    /// The log's receipt, in JSON.
    pub receipt: String,
}

impl From<Annotated> for Signature {
    /// As it is found in a registry.
    fn from(Annotated { payload, signature, certificate, receipt }: Annotated) -> Self {
        Self::Payload { payload, signature, certificate: Some(certificate), chain: None, receipt: Some(receipt) }
    }
}

/// An authority with a root and an intermediate, a log, and a clock.
#[derive(Debug)]
pub struct Sigstore {
    root: CertifiedIssuer<'static, KeyPair>,
    intermediate: CertifiedIssuer<'static, KeyPair>,
    /// The log of signatures.
    pub log: Log,
    clock: Clock,
    /// Until when the trust root trusts the authority.
    pub authority_until: &'static str,
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(2035, 1, 1);
    params
}

fn pem_body(pem: &str) -> String {
    pem.lines().filter(|line| !line.starts_with('-')).collect()
}

impl Default for Sigstore {
    fn default() -> Self {
        Self::new()
    }
}

impl Sigstore {
    /// One that nobody else trusts.
    #[must_use]
    pub fn new() -> Self {
        let key = || KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let root = CertifiedIssuer::self_signed(authority("root"), key()).unwrap();
        let mut params = authority("intermediate");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        let intermediate = CertifiedIssuer::signed_by(params, key(), &root).unwrap();
        Self { root, intermediate, log: Log::new(), clock: Clock::new(), authority_until: "2036-01-01T00:00:00Z" }
    }

    /// The document that makes this authority, this log and this clock trusted: `trusted_root.json`.
    #[must_use]
    pub fn trusted_root(&self) -> Value {
        let certificates = [self.intermediate.der(), self.root.der()].map(|der| json!({ "rawBytes": STANDARD.encode(der) }));
        json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "certificateAuthorities": [{
                "subject": { "organization": "acme", "commonName": "root" },
                "uri": "https://fulcio.example",
                "certChain": { "certificates": certificates },
                "validFor": { "start": "2025-01-01T00:00:00Z", "end": self.authority_until },
            }],
            "tlogs": [self.log.trusted()],
            "timestampAuthorities": [self.clock.trusted()],
        })
    }

    /// A keyless signature of the manifest `digest` as cosign 2 writes it.
    #[must_use]
    pub fn annotated(&self, digest: &str, signing: Signing) -> Annotated {
        self.annotated_with_log(digest, signing, &self.log)
    }

    /// The same with the receipt of another log.
    #[must_use]
    pub fn annotated_with_log(&self, digest: &str, signing: Signing, log: &Log) -> Annotated {
        let (key, certificate) = self.certified(signing);
        let payload = payload(digest);
        let bytes = key.sign(&payload).unwrap();
        let body = json!({ "apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {
            "data": { "hash": { "algorithm": "sha256", "value": format!("{:x}", Sha256::digest(&payload)) } },
            "signature": { "content": STANDARD.encode(&bytes), "publicKey": { "content": STANDARD.encode(&certificate) } } } });
        let (entry, promise) = log.promised(&body, signing.time);
        let receipt = json!({ "SignedEntryTimestamp": promise, "Payload": entry }).to_string();
        Annotated { payload, signature: STANDARD.encode(bytes), certificate, receipt }
    }

    /// A keyless signature as cosign 3 writes it, with an entry of a log of the first kind (Rekor 1), which says when it was made.
    #[must_use]
    pub fn bundle(&self, statement: &Value, signing: Signing) -> Value {
        let (key, certificate) = self.certified(signing);
        let bytes = key.sign(&enveloped(statement)).unwrap();
        let envelope = bundle(&Value::Null, statement, &bytes)["dsseEnvelope"].to_string();
        let body = json!({ "apiVersion": "0.0.1", "kind": "dsse", "spec": {
            "envelopeHash": { "algorithm": "sha256", "value": format!("{:x}", Sha256::digest(envelope)) },
            "payloadHash": { "algorithm": "sha256", "value": format!("{:x}", Sha256::digest(statement.to_string())) },
            "signatures": [{ "signature": STANDARD.encode(&bytes), "verifier": STANDARD.encode(&certificate) }] } });
        let (entry, promise) = self.log.promised(&body, signing.time);
        let mut logged = self.log.included(&body, "0.0.1");
        logged["integratedTime"] = json!(entry["integratedTime"].to_string());
        logged["inclusionPromise"] = json!({ "signedEntryTimestamp": promise });
        let material = json!({ "certificate": { "rawBytes": pem_body(&certificate) }, "tlogEntries": [logged] });
        bundle(&material, statement, &bytes)
    }

    /// The same with an entry of a log of the second kind (Rekor 2), which knows no time: a clock says when it was made.
    #[must_use]
    pub fn timed_bundle(&self, statement: &Value, signing: Signing) -> Value {
        let (key, certificate) = self.certified(signing);
        let signed = enveloped(statement);
        let bytes = key.sign(&signed).unwrap();
        let verifier =
            json!({ "keyDetails": "PKIX_ECDSA_P256_SHA_256", "x509Certificate": { "rawBytes": pem_body(&certificate) } });
        let body = json!({ "apiVersion": "0.0.2", "kind": "hashedrekord", "spec": { "hashedRekordV002": {
            "data": { "algorithm": "SHA2_256", "digest": STANDARD.encode(Sha256::digest(&signed)) },
            "signature": { "content": STANDARD.encode(&bytes), "verifier": verifier } } } });
        let stamp = STANDARD.encode(self.clock.stamp(&bytes, signing.time));
        let material = json!({
            "certificate": { "rawBytes": pem_body(&certificate) },
            "tlogEntries": [self.log.included(&body, "0.0.2")],
            "timestampVerificationData": { "rfc3161Timestamps": [{ "signedTimestamp": stamp }] },
        });
        bundle(&material, statement, &bytes)
    }

    /// A key, and a certificate for it that is good for a day.
    fn certified(&self, signing: Signing) -> (KeyPair, String) {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(SUBJECT.try_into().unwrap())];
        (params.not_before, params.not_after) = (date_time_ymd(2026, 3, 1), date_time_ymd(2026, 3, 2));
        let purpose = if signing.for_code { ExtendedKeyUsagePurpose::CodeSigning } else { ExtendedKeyUsagePurpose::ServerAuth };
        params.extended_key_usages = vec![purpose];
        let issuer = yasna::construct_der(|writer| writer.write_utf8_string(ISSUER));
        params.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 57264, 1, 8], issuer)];
        let certificate = params.signed_by(&key, &self.intermediate).unwrap().pem();
        (key, certificate)
    }
}
