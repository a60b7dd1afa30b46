//! A clock that signs what time it is (RFC 3161).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    CertificateParams, CertifiedIssuer, CustomExtension, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, SerialNumber, SigningKey as _,
    date_time_ymd,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use yasna::models::ObjectIdentifier;
use yasna::{DERWriter, Tag};

use super::authority;

const AUTHORITY: &str = "clocks";
const SERIAL: u8 = 7;

const SHA256: &[u64] = &[2, 16, 840, 1, 101, 3, 4, 2, 1];
const ECDSA_WITH_SHA256: &[u64] = &[1, 2, 840, 10045, 4, 3, 2];
const SIGNED_DATA: &[u64] = &[1, 2, 840, 113_549, 1, 7, 2];
const TIME: &[u64] = &[1, 2, 840, 113_549, 1, 9, 16, 1, 4];
const CONTENT_TYPE: &[u64] = &[1, 2, 840, 113_549, 1, 9, 3];
const MESSAGE_DIGEST: &[u64] = &[1, 2, 840, 113_549, 1, 9, 4];
const EXTENDED_KEY_USAGE: &[u64] = &[2, 5, 29, 37];
const TIME_STAMPING: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 8];
const COMMON_NAME: &[u64] = &[2, 5, 4, 3];
const POLICY: &[u64] = &[1, 3, 6, 1, 4, 1, 57264, 2];

#[derive(Debug)]
pub(crate) struct Clock {
    root: CertifiedIssuer<'static, KeyPair>,
    certificate: Vec<u8>,
    key: KeyPair,
}

fn id(writer: DERWriter<'_>, id: &[u64]) {
    writer.write_oid(&ObjectIdentifier::from_slice(id));
}

/// An algorithm without parameters.
fn algorithm(writer: DERWriter<'_>, of: &[u64]) {
    writer.write_sequence(|writer| id(writer.next(), of));
}

impl Clock {
    pub(crate) fn new() -> Self {
        let key = || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let root = CertifiedIssuer::self_signed(authority(AUTHORITY), key()).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "clock");
        params.serial_number = Some(SerialNumber::from(vec![SERIAL]));
        (params.not_before, params.not_after) = (date_time_ymd(2025, 1, 1), date_time_ymd(2035, 1, 1));
        params.custom_extensions = vec![only_for_time()];
        let key = key();
        let certificate = params.signed_by(&key, &root).unwrap().der().to_vec();
        Self { root, certificate, key }
    }

    /// Its part of a trust root.
    pub(crate) fn trusted(&self) -> Value {
        let certificates = [self.certificate.as_slice(), self.root.der()].map(|der| json!({ "rawBytes": STANDARD.encode(der) }));
        json!({
            "subject": { "organization": "acme", "commonName": AUTHORITY },
            "uri": "https://clock.example",
            "certChain": { "certificates": certificates },
            "validFor": { "start": "2025-01-01T00:00:00Z" },
        })
    }

    /// The clock's answer (`TimeStampResp`): `signature` was there at `time`.
    pub(crate) fn stamp(&self, signature: &[u8], time: &str) -> Vec<u8> {
        let said = said(signature, time);
        let attributes = attributes(&said);
        let signed = self.key.sign(&attributes).unwrap();
        yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer.next().write_sequence(|writer| writer.next().write_u8(0)); // granted
                writer.next().write_sequence(|writer| {
                    id(writer.next(), SIGNED_DATA);
                    let inner = |writer: DERWriter<'_>| signed_data(writer, &said, &attributes, &signed);
                    writer.next().write_tagged(Tag::context(0), inner);
                });
            });
        })
    }
}

/// The certificate's purpose, in the one form that is valid for clocks: critical, and the only one.
fn only_for_time() -> CustomExtension {
    let purposes = yasna::construct_der(|writer| writer.write_sequence(|writer| id(writer.next(), TIME_STAMPING)));
    let mut extension = CustomExtension::from_oid_content(EXTENDED_KEY_USAGE, purposes);
    extension.set_criticality(true);
    extension
}

/// What is said: that something of this hash was there at this time (`TSTInfo`).
fn said(signature: &[u8], time: &str) -> Vec<u8> {
    let time = time.parse::<jiff::Timestamp>().unwrap().strftime("%Y%m%d%H%M%SZ").to_string();
    yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_u8(1);
            id(writer.next(), POLICY);
            writer.next().write_sequence(|writer| {
                algorithm(writer.next(), SHA256);
                writer.next().write_bytes(&Sha256::digest(signature));
            });
            writer.next().write_u8(42);
            // A GeneralizedTime.
            writer.next().write_der(&[&[24, u8::try_from(time.len()).unwrap()], time.as_bytes()].concat());
        });
    })
}

/// What the clock signs: what kind of thing it says, and its hash.
fn attributes(said: &[u8]) -> Vec<u8> {
    yasna::construct_der(|writer| {
        writer.write_set_of(|writer| {
            writer.next().write_sequence(|writer| {
                id(writer.next(), CONTENT_TYPE);
                writer.next().write_set_of(|writer| id(writer.next(), TIME));
            });
            writer.next().write_sequence(|writer| {
                id(writer.next(), MESSAGE_DIGEST);
                writer.next().write_set_of(|writer| writer.next().write_bytes(&Sha256::digest(said)));
            });
        });
    })
}

fn signed_data(writer: DERWriter<'_>, said: &[u8], attributes: &[u8], signature: &[u8]) {
    writer.write_sequence(|writer| {
        writer.next().write_u8(3);
        writer.next().write_set_of(|writer| algorithm(writer.next(), SHA256));
        writer.next().write_sequence(|writer| {
            id(writer.next(), TIME);
            writer.next().write_tagged(Tag::context(0), |writer| writer.write_bytes(said));
        });
        writer.next().write_set_of(|writer| {
            writer.next().write_sequence(|writer| {
                writer.next().write_u8(1);
                writer.next().write_sequence(|writer| {
                    name(writer.next(), AUTHORITY);
                    writer.next().write_u8(SERIAL);
                });
                algorithm(writer.next(), SHA256);
                // The same set as was signed, under another tag.
                writer.next().write_der(&[&[0xa0], &attributes[1..]].concat());
                algorithm(writer.next(), ECDSA_WITH_SHA256);
                writer.next().write_bytes(signature);
            });
        });
    });
}

/// The name of an authority.
fn name(writer: DERWriter<'_>, common: &str) {
    writer.write_sequence(|writer| {
        writer.next().write_set_of(|writer| {
            writer.next().write_sequence(|writer| {
                id(writer.next(), COMMON_NAME);
                writer.next().write_utf8_string(common);
            });
        });
    });
}
