//! A transparency log with one entry at a time: each is the only leaf of its tree.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster_policy_oci::{Algorithm, PrivateKey, PublicKey};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::pem_body;

/// What the log calls itself.
const ORIGIN: &str = "log.example";

/// A log of signatures.
#[derive(Debug)]
pub struct Log {
    key: PrivateKey,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self { key: PrivateKey::generate(Algorithm::EcdsaP256).unwrap() }
    }

    /// Its part of a trust root.
    pub(crate) fn trusted(&self) -> Value {
        json!({
            "baseUrl": format!("https://{ORIGIN}"),
            "hashAlgorithm": "SHA2_256",
            "publicKey": {
                "rawBytes": pem_body(&self.key.public_pem()),
                "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "validFor": { "start": "2025-01-01T00:00:00.000Z" },
            },
            "logId": { "keyId": STANDARD.encode(self.id()) },
        })
    }

    fn id(&self) -> [u8; 32] {
        Sha256::digest(STANDARD.decode(pem_body(&self.key.public_pem())).unwrap()).into()
    }

    /// An entry as a log of the first kind returns it, and its promise to take it in.
    pub(crate) fn promised(&self, body: &Value, time: &str) -> (Value, String) {
        let entry = json!({ "body": STANDARD.encode(body.to_string()),
            "integratedTime": time.parse::<jiff::Timestamp>().unwrap().as_second(),
            "logID": PublicKey::from_pem(&self.key.public_pem()).unwrap().fingerprint(), "logIndex": 0 });
        let promise = STANDARD.encode(self.key.sign(entry.to_string().as_bytes()).unwrap());
        (entry, promise)
    }

    /// An entry with the proof that the log has it.
    pub(crate) fn included(&self, body: &Value, version: &str) -> Value {
        let body_text = body.to_string();
        // The hash of a leaf, which is the whole tree.
        let root = STANDARD.encode(Sha256::digest([b"\0", body_text.as_bytes()].concat()));
        let head = format!("{ORIGIN}\n1\n{root}\n");
        let signature = [&self.id()[..4], &self.key.sign(head.as_bytes()).unwrap()].concat();
        let checkpoint = format!("{head}\n\u{2014} {ORIGIN} {}\n", STANDARD.encode(signature));
        json!({
            "logIndex": "0",
            "logId": { "keyId": STANDARD.encode(self.id()) },
            "kindVersion": { "kind": body["kind"], "version": version },
            "inclusionProof": {
                "logIndex": "0", "rootHash": root, "treeSize": "1", "hashes": [], "checkpoint": { "envelope": checkpoint },
            },
            "canonicalizedBody": STANDARD.encode(&body_text),
        })
    }
}
