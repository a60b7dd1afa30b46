//! An authority and a log of a test's own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster_policy_oci::{Algorithm, PrivateKey, PublicKey, Signature, TrustRoot};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, SanType, SigningKey as _, date_time_ymd,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Who signs here.
pub(crate) const SUBJECT: &str = "https://github.example/acme/policies/.github/workflows/release.yaml@refs/heads/main";

/// What cosign signs.
pub(crate) fn payload(digest: &str) -> Vec<u8> {
    let payload = json!({"critical": {"identity": {"docker-reference": "registry.example/policy"},
        "image": {"docker-manifest-digest": digest}, "type": "cosign container image signature"}, "optional": null});
    payload.to_string().into_bytes()
}

/// A way to sign.
pub(crate) struct Signing {
    /// What the log's clock says.
    pub(crate) time: &'static str,
    /// Whether the certificate is for signing code.
    pub(crate) for_code: bool,
}

impl Default for Signing {
    /// In the middle of the only day on which certificates are good here.
    fn default() -> Self {
        Self { time: "2026-03-01T12:00:00Z", for_code: true }
    }
}

/// An authority with a root and an intermediate, and a log.
pub(crate) struct Site {
    root: CertifiedIssuer<'static, KeyPair>,
    intermediate: CertifiedIssuer<'static, KeyPair>,
    pub(crate) log: PrivateKey,
    pub(crate) authority_until: &'static str,
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(2035, 1, 1);
    params
}

impl Site {
    pub(crate) fn new() -> Self {
        let key = || KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let root = CertifiedIssuer::self_signed(authority("root"), key()).unwrap();
        let mut params = authority("intermediate");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        let intermediate = CertifiedIssuer::signed_by(params, key(), &root).unwrap();
        let log = PrivateKey::generate(Algorithm::EcdsaP256).unwrap();
        Self { root, intermediate, log, authority_until: "2036-01-01T00:00:00Z" }
    }

    /// The document that makes this authority and this log trusted.
    pub(crate) fn root(&self) -> TrustRoot {
        let certificates = [self.intermediate.der(), self.root.der()].map(|der| json!({ "rawBytes": STANDARD.encode(der) }));
        let log = self.log.public_pem().lines().filter(|line| !line.starts_with('-')).collect::<String>();
        let document = json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "certificateAuthorities": [{ "certChain": { "certificates": certificates },
                "validFor": { "start": "2025-01-01T00:00:00Z", "end": self.authority_until } }],
            "tlogs": [{ "publicKey": { "rawBytes": log, "validFor": { "start": "2025-01-01T00:00:00.000Z" } } }],
        });
        TrustRoot::from_json(document.to_string().as_bytes()).unwrap()
    }

    pub(crate) fn sign(&self, digest: &str, signing: &Signing) -> Signature {
        self.sign_with_log(digest, signing, &self.log)
    }

    /// A keyless signature whose receipt is some log's.
    pub(crate) fn sign_with_log(&self, digest: &str, signing: &Signing, log: &PrivateKey) -> Signature {
        let (key, certificate) = self.certified(signing);
        let payload = payload(digest);
        let bytes = key.sign(&payload).unwrap();
        let body = json!({ "apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {
            "data": { "hash": { "algorithm": "sha256", "value": format!("{:x}", Sha256::digest(&payload)) } },
            "signature": { "content": STANDARD.encode(&bytes), "publicKey": { "content": STANDARD.encode(&certificate) } } } });
        let entry = entry(&body, signing, log);
        let promise = STANDARD.encode(log.sign(entry.to_string().as_bytes()).unwrap());
        let bundle = json!({ "SignedEntryTimestamp": promise, "Payload": entry }).to_string();
        let signature = STANDARD.encode(bytes);
        Signature { payload, signature, certificate: Some(certificate), bundle: Some(bundle), ..Signature::default() }
    }

    /// The same as cosign 3 writes it: a bundle.
    pub(crate) fn bundle(&self, statement: &Value, signing: &Signing) -> Value {
        let (key, certificate) = self.certified(signing);
        let bytes = key.sign(&enveloped(statement)).unwrap();
        let body = json!({ "apiVersion": "0.0.1", "kind": "dsse", "spec": {
            "payloadHash": { "algorithm": "sha256", "value": format!("{:x}", Sha256::digest(statement.to_string())) },
            "signatures": [{ "signature": STANDARD.encode(&bytes), "verifier": STANDARD.encode(&certificate) }] } });
        let entry = entry(&body, signing, &self.log);
        let promise = STANDARD.encode(self.log.sign(entry.to_string().as_bytes()).unwrap());
        let id: Vec<u8> =
            (0..32).map(|byte| u8::from_str_radix(&entry["logID"].as_str().unwrap()[2 * byte..][..2], 16).unwrap()).collect();
        let der: String = certificate.lines().filter(|line| !line.starts_with('-')).collect();
        let material = json!({
            "certificate": { "rawBytes": der },
            "tlogEntries": [{
                "logIndex": entry["logIndex"].to_string(),
                "logId": { "keyId": STANDARD.encode(id) },
                "kindVersion": { "kind": "dsse", "version": "0.0.1" },
                "integratedTime": entry["integratedTime"].to_string(),
                "inclusionPromise": { "signedEntryTimestamp": promise },
                "canonicalizedBody": entry["body"],
            }],
        });
        bundle(&material, statement, &bytes)
    }

    /// A key, and a certificate for it that is good for a day.
    fn certified(&self, signing: &Signing) -> (KeyPair, String) {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(SUBJECT.try_into().unwrap())];
        (params.not_before, params.not_after) = (date_time_ymd(2026, 3, 1), date_time_ymd(2026, 3, 2));
        let purpose = if signing.for_code { ExtendedKeyUsagePurpose::CodeSigning } else { ExtendedKeyUsagePurpose::ServerAuth };
        params.extended_key_usages = vec![purpose];
        let issuer = "https://issuer.example";
        let mut text = vec![0x0c, u8::try_from(issuer.len()).unwrap()];
        text.extend_from_slice(issuer.as_bytes());
        params.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 57264, 1, 8], text)];
        let certificate = params.signed_by(&key, &self.intermediate).unwrap().pem();
        (key, certificate)
    }
}

/// What a log says about an entry.
fn entry(body: &Value, signing: &Signing, log: &PrivateKey) -> Value {
    json!({ "body": STANDARD.encode(body.to_string()),
        "integratedTime": signing.time.parse::<jiff::Timestamp>().unwrap().as_second(),
        "logID": PublicKey::from_pem(&log.public_pem()).unwrap().fingerprint(), "logIndex": 7 })
}

/// What cosign 3 signs.
pub(crate) fn statement(digest: &str) -> Value {
    json!({ "_type": "https://in-toto.io/Statement/v1", "predicateType": "https://sigstore.dev/cosign/sign/v1",
        "subject": [{ "digest": { "sha256": digest.strip_prefix("sha256:").unwrap() } }], "predicate": {} })
}

/// A statement as its signature covers it.
pub(crate) fn enveloped(statement: &Value) -> Vec<u8> {
    let statement = statement.to_string();
    format!("DSSEv1 28 application/vnd.in-toto+json {} {statement}", statement.len()).into_bytes()
}

pub(crate) fn bundle(material: &Value, statement: &Value, signature: &[u8]) -> Value {
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
