//! Which signatures by an identity count, in each way that cosign writes them, and every way in which one can be wrong.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster_policy_oci::{
    Algorithm, Identity, PrivateKey, Signature, Signer, Subject, TrustRoot, VerificationPolicy, VerifyError, verify,
};
use muster_signers::{Annotated, ISSUER, SUBJECT, Signing, Sigstore, payload, statement};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

const DIGEST: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
const OTHER: &str = "sha256:2222222222222222222222222222222222222222222222222222222222222222";

/// How a signature is written.
#[derive(Clone, Copy)]
enum Way {
    /// By cosign 2.
    Annotated,
    /// By cosign 3, with a log that says when.
    Logged,
    /// By cosign 3, with a log and a clock.
    Timed,
}

fn signed(site: &Sigstore, way: Way, digest: &str, signing: Signing) -> Signature {
    match way {
        Way::Annotated => site.annotated(digest, signing).into(),
        Way::Logged => read(&site.bundle(&statement(digest), signing)),
        Way::Timed => read(&site.timed_bundle(&statement(digest), signing)),
    }
}

fn read(bundle: &Value) -> Signature {
    Signature::from_bundle(bundle.to_string().as_bytes())
}

fn identity() -> Identity {
    Identity { issuer: ISSUER.to_owned(), subject: Subject::Equal(SUBJECT.to_owned()) }
}

fn believing(root: &Value, identity: Identity) -> VerificationPolicy {
    let root = TrustRoot::from_json(root.to_string().as_bytes()).unwrap();
    VerificationPolicy { keys: Vec::new(), keyless: Some((identity, root)) }
}

fn keyless(site: &Sigstore) -> VerificationPolicy {
    believing(&site.trusted_root(), identity())
}

fn refusal(signature: Signature, policy: &VerificationPolicy) -> String {
    let said = verify(DIGEST, &[signature], policy).unwrap_err().to_string();
    let start = format!("no signature of {DIGEST} is by a signer that is trusted: ");
    said.strip_prefix(&start).unwrap_or(&said).to_owned()
}

#[rstest]
fn the_identity_that_is_trusted_counts(
    #[values(Way::Annotated, Way::Logged, Way::Timed)] way: Way,
    #[values(Subject::Equal(SUBJECT.into()), Subject::Prefix("https://github.example/acme/".into()))] subject: Subject,
) {
    let site = Sigstore::new();
    let policy = believing(&site.trusted_root(), Identity { subject, ..identity() });
    let signer = verify(DIGEST, &[signed(&site, way, DIGEST, Signing::default())], &policy);
    assert_eq!(signer, Ok(Signer::Identity(SUBJECT.to_owned())));
}

#[rstest]
#[case(Identity { subject: Subject::Equal("https://github.example/acme/other".into()), ..identity() },
    "the signer is https://github.example/acme/policies/.github/workflows/release.yaml@refs/heads/main, \
     not \"https://github.example/acme/other\"")]
#[case(Identity { subject: Subject::Prefix("https://github.example/acm".into()), ..identity() },
    "the signer is https://github.example/acme/policies/.github/workflows/release.yaml@refs/heads/main, \
     not one that begins with \"https://github.example/acm\"")]
#[case(Identity { issuer: "https://other.example".into(), ..identity() },
    "the signer was vouched for by \"https://issuer.example\", not by \"https://other.example\"")]
fn another_identity_does_not_count(
    #[values(Way::Annotated, Way::Logged, Way::Timed)] way: Way,
    #[case] wanted: Identity,
    #[case] expected: &str,
) {
    let site = Sigstore::new();
    let policy = believing(&site.trusted_root(), wanted);
    assert_eq!(refusal(signed(&site, way, DIGEST, Signing::default()), &policy), expected);
}

#[rstest]
fn a_certificate_counts_only_while_it_was_good(
    #[values(Way::Annotated, Way::Logged, Way::Timed)] way: Way,
    #[values("2026-02-27T12:00:00Z", "2026-03-05T12:00:00Z")] time: &'static str,
) {
    let site = Sigstore::new();
    let said = refusal(signed(&site, way, DIGEST, Signing { time, ..Signing::default() }), &keyless(&site));
    let start = "its certificate was not issued for signing code by an authority of the trust root, or was not good then: ";
    assert!(said.starts_with(start), "{said}");
    assert!(said.contains(if time < "2026-03" { "CertNotValidYet" } else { "CertExpired" }), "{said}");
}

#[rstest]
fn an_authority_counts_only_while_it_was_good(#[values(Way::Annotated, Way::Logged, Way::Timed)] way: Way) {
    // Everything about the signature is in order, but its authority was retired before.
    let mut site = Sigstore::new();
    site.authority_until = "2026-02-01T00:00:00Z";
    let said = refusal(signed(&site, way, DIGEST, Signing::default()), &keyless(&site));
    assert_eq!(said, "the trust root has no authority that was valid at 2026-03-01T12:00:00Z");
}

#[test]
fn a_certificate_of_a_forged_authority_does_not_count() {
    let (site, forger) = (Sigstore::new(), Sigstore::new());
    // The forger names itself as the real authority does, and even has the real log's receipt.
    let forged = forger.annotated_with_log(DIGEST, Signing::default(), &site.log);
    let said = refusal(forged.into(), &keyless(&site));
    assert!(
        said.starts_with(
            "its certificate was not issued for signing code by an authority of the trust root, or was not good then: "
        ),
        "{said}"
    );
}

#[rstest]
#[case(Way::Annotated, "what the log says of it can't be believed: invalid inclusion promise: No log key valid at")]
#[case(Way::Logged, "what the log says of it can't be believed: invalid inclusion promise: No log key valid at")]
#[case(
    Way::Timed,
    "its timestamp can't be believed: invalid RFC 3161 timestamp: TSA timestamp verification failed: Failed to verify timestamp signature: "
)]
fn what_another_site_signed_does_not_count(#[case] way: Way, #[case] expected: &str) {
    let (site, other) = (Sigstore::new(), Sigstore::new());
    let said = refusal(signed(&other, way, DIGEST, Signing::default()), &keyless(&site));
    assert!(said.starts_with(expected), "{said}");
}

#[test]
fn a_receipt_of_another_log_does_not_count() {
    let (site, forger) = (Sigstore::new(), Sigstore::new());
    let forged = site.annotated_with_log(DIGEST, Signing::default(), &forger.log);
    let said = refusal(forged.into(), &keyless(&site));
    assert!(
        said.starts_with("what the log says of it can't be believed: invalid inclusion promise: No log key valid at"),
        "{said}"
    );
}

#[test]
fn a_receipt_with_a_changed_time_does_not_count() {
    let site = Sigstore::new();
    let mut signature = site.annotated(DIGEST, Signing { time: "2026-03-05T12:00:00Z", ..Signing::default() });
    let mut receipt: Value = serde_json::from_str(&signature.receipt).unwrap();
    receipt["Payload"]["integratedTime"] = json!(1_772_366_400);
    signature.receipt = receipt.to_string();
    let said = refusal(signature.into(), &keyless(&site));
    assert!(
        said.starts_with("what the log says of it can't be believed: invalid inclusion promise: SET verification failed"),
        "{said}"
    );
}

#[test]
fn a_receipt_of_another_signature_does_not_count() {
    let site = Sigstore::new();
    let Annotated { receipt, .. } = site.annotated(OTHER, Signing::default());
    let signature = Annotated { receipt, ..site.annotated(DIGEST, Signing::default()) };
    let said = refusal(signature.into(), &keyless(&site));
    assert!(said.starts_with("it is of something else: artifact hash mismatch for hashedrekord entry"), "{said}");
}

#[test]
fn what_cannot_be_read_of_an_annotated_signature_is_named() {
    let site = Sigstore::new();
    let said = |change: fn(&mut Annotated)| {
        let mut signature = site.annotated(DIGEST, Signing::default());
        change(&mut signature);
        refusal(signature.into(), &keyless(&site))
    };
    assert_eq!(said(|signature| signature.certificate = "-----".to_owned()), "its certificate can't be read");
    assert_eq!(
        said(|signature| signature.receipt = "{}".to_owned()),
        "the log's receipt can't be read: missing field `SignedEntryTimestamp` at line 1 column 2"
    );
    assert_eq!(
        said(|signature| signature.receipt = signature.receipt.replace("\"body\":\"", "\"body\":\"A")),
        "the log's receipt is of something that can't be read"
    );
    assert_eq!(
        said(|signature| signature.receipt = signature.receipt.replace("\"logID\":\"", "\"logID\":\"gé")),
        "the log's receipt names the log otherwise than by hexadecimal digits"
    );
}

#[rstest]
fn a_certificate_for_a_server_does_not_sign_policies(#[values(Way::Annotated, Way::Logged, Way::Timed)] way: Way) {
    let site = Sigstore::new();
    let signature = signed(&site, way, DIGEST, Signing { for_code: false, ..Signing::default() });
    let said = refusal(signature, &keyless(&site));
    assert!(
        said.starts_with(
            "its certificate was not issued for signing code by an authority of the trust root, or was not good then: "
        ),
        "{said}"
    );
}

#[test]
fn a_certificate_that_no_log_has_does_not_count_where_the_root_names_such_a_log() {
    let site = Sigstore::new();
    let mut root = site.trusted_root();
    root["ctlogs"] = root["tlogs"].clone();
    let policy = believing(&root, identity());
    let said = refusal(signed(&site, Way::Timed, DIGEST, Signing::default()), &policy);
    assert!(said.starts_with("invalid signed certificate timestamp: certificate is missing SCT extension"), "{said}");
}

#[test]
fn a_clock_is_enough_where_the_root_names_no_log() {
    let site = Sigstore::new();
    let mut bundle = site.timed_bundle(&statement(DIGEST), Signing::default());
    bundle["verificationMaterial"]["tlogEntries"] = json!([]);
    let mut root = site.trusted_root();
    let said = refusal(read(&bundle), &believing(&root, identity()));
    assert!(
        said.starts_with(
            "something is missing: application/vnd.dev.sigstore.bundle.v0.3+json bundle must have an inclusion proof"
        ),
        "{said}"
    );
    root["tlogs"] = json!([]);
    let signer = verify(DIGEST, &[read(&bundle)], &believing(&root, identity()));
    assert_eq!(signer, Ok(Signer::Identity(SUBJECT.to_owned())));
}

#[test]
fn a_signature_by_a_key_has_no_identity() {
    let site = Sigstore::new();
    let key = PrivateKey::generate(Algorithm::EcdsaP256).unwrap();
    let payload = payload(DIGEST);
    let signature = STANDARD.encode(key.sign(&payload).unwrap());
    let by_key = Signature::Payload { payload, signature, certificate: None, chain: None, receipt: None };
    assert_eq!(refusal(by_key, &keyless(&site)), "it carries no certificate, so a key made it");
}

/// Changes one place of a good bundle by a trusted identity.
#[rstest]
#[case("/dsseEnvelope/payloadType", json!("text/plain"), "what is signed is of the type \"text/plain\", not \"application/vnd.in-toto+json\"")]
#[case("/dsseEnvelope/payload", json!(STANDARD.encode(statement(DIGEST).to_string() + " ")), "the signature is not of what it says, or was made by another key than its certificate's")]
#[case("/dsseEnvelope/signatures/0/sig", json!("AAAA"), "the signature is not of what it says, or was made by another key than its certificate's")]
#[case("/dsseEnvelope/signatures", json!([]), "its bundle can't be read: DSSE envelope must contain exactly one signature, found 0")]
#[case("/dsseEnvelope", json!(null), "its bundle can't be read: invalid type: null")]
#[case("/verificationMaterial/tlogEntries/0/integratedTime", json!("1772366401"), "what the log says of it can't be believed: invalid inclusion promise: SET verification failed")]
#[case("/verificationMaterial/tlogEntries/0/logIndex", json!("8"), "what the log says of it can't be believed: invalid inclusion promise: SET verification failed")]
#[case("/verificationMaterial/tlogEntries/0/inclusionPromise", json!(null), "it carries neither a receipt of a transparency log nor a timestamp that says when it was made")]
#[case("/verificationMaterial/tlogEntries/0/inclusionProof", json!(null), "something is missing: application/vnd.dev.sigstore.bundle.v0.3+json bundle must have an inclusion proof")]
#[case("/verificationMaterial/tlogEntries/0/inclusionProof/checkpoint/envelope", json!("log.example\n2\nAAAA\n"), "its bundle can't be read: Invalid checkpoint format: missing blank line separator")]
#[case("/verificationMaterial/tlogEntries", json!([]), "something is missing: application/vnd.dev.sigstore.bundle.v0.3+json bundle must have an inclusion proof")]
#[case("/verificationMaterial/certificate/rawBytes", json!("AAAA"), "malformed certificate: ")]
fn a_bundle_that_was_changed_does_not_count(#[case] place: &str, #[case] value: Value, #[case] expected: &str) {
    let site = Sigstore::new();
    let mut bundle = site.bundle(&statement(DIGEST), Signing::default());
    *bundle.pointer_mut(place).unwrap() = value;
    let said = refusal(read(&bundle), &keyless(&site));
    assert!(said.starts_with(expected), "{said}");
}

static SITE: LazyLock<(Sigstore, VerificationPolicy)> = LazyLock::new(|| {
    let site = Sigstore::new();
    let policy = keyless(&site);
    (site, policy)
});

proptest! {
    /// What comes from a registry may be anything: it is judged, and ends nothing.
    #[test]
    fn any_byte_may_be_any_other(
        timed: bool,
        place in prop::sample::select(vec![
            "/verificationMaterial/certificate/rawBytes",
            "/verificationMaterial/tlogEntries/0/canonicalizedBody",
            "/verificationMaterial/tlogEntries/0/inclusionProof/rootHash",
            "/verificationMaterial/tlogEntries/0/inclusionPromise/signedEntryTimestamp",
            "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp",
            "/dsseEnvelope/payload",
            "/dsseEnvelope/signatures/0/sig",
        ]),
        at: prop::sample::Index,
        byte: u8,
        cut: bool,
    ) {
        let (site, policy) = &*SITE;
        let statement = statement(DIGEST);
        let sign = if timed { Sigstore::timed_bundle } else { Sigstore::bundle };
        let mut bundle = sign(site, &statement, Signing::default());
        if let Some(Value::String(text)) = bundle.pointer_mut(place) {
            let mut bytes = STANDARD.decode(&*text).unwrap();
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] = byte }
            *text = STANDARD.encode(bytes);
        }
        match verify(DIGEST, &[read(&bundle)], policy) {
            Ok(signer) => prop_assert_eq!(signer, Signer::Identity(SUBJECT.to_owned())),
            Err(VerifyError::Untrusted { reasons, .. }) => prop_assert!(!reasons.concat().is_empty()),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}

/// The same where a clock says when it was made.
#[rstest]
#[case("/verificationMaterial/timestampVerificationData/rfc3161Timestamps", json!([]), "it carries neither a receipt of a transparency log nor a timestamp that says when it was made")]
#[case("/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp", json!("AAAA"), "its timestamp can't be believed: invalid RFC 3161 timestamp: TSA timestamp verification failed: Failed to parse timestamp response: ")]
#[case("/verificationMaterial/tlogEntries", json!([]), "something is missing: application/vnd.dev.sigstore.bundle.v0.3+json bundle must have an inclusion proof")]
#[case("/dsseEnvelope/signatures/0/sig", json!("AAAA"), "its timestamp can't be believed: invalid RFC 3161 timestamp: TSA timestamp verification failed: Timestamp message hash mismatch: ")]
fn a_timed_bundle_that_was_changed_does_not_count(#[case] place: &str, #[case] value: Value, #[case] expected: &str) {
    let site = Sigstore::new();
    let mut bundle = site.timed_bundle(&statement(DIGEST), Signing::default());
    *bundle.pointer_mut(place).unwrap() = value;
    let said = refusal(read(&bundle), &keyless(&site));
    assert!(said.starts_with(expected), "{said}");
}

#[test]
fn a_clock_s_word_for_another_signature_does_not_count() {
    let site = Sigstore::new();
    let other = site.timed_bundle(&statement(DIGEST), Signing::default());
    let mut bundle = site.timed_bundle(&statement(DIGEST), Signing::default());
    let place = "/verificationMaterial/timestampVerificationData";
    *bundle.pointer_mut(place).unwrap() = other.pointer(place).unwrap().clone();
    let said = refusal(read(&bundle), &keyless(&site));
    assert!(said.starts_with("its timestamp can't be believed: invalid RFC 3161 timestamp: TSA timestamp verification failed: Timestamp message hash mismatch: "), "{said}");
}

#[test]
fn a_trust_root_that_is_none_says_so() {
    let said = TrustRoot::from_json(b"{}").unwrap_err().to_string();
    assert!(said.starts_with("it is no trusted_root.json of Sigstore: missing field `mediaType`"), "{said}");
}

#[rstest]
#[case("certificateAuthorities", "it is no trusted_root.json of Sigstore: certificateAuthorities is empty")]
#[case("tlogs", "")]
#[case("timestampAuthorities", "")]
fn a_trust_root_must_name_an_authority_and_something_that_knows_the_time(#[case] emptied: &str, #[case] expected: &str) {
    let mut root = Sigstore::new().trusted_root();
    root[emptied] = json!([]);
    let said = TrustRoot::from_json(root.to_string().as_bytes()).err().map(|error| error.to_string()).unwrap_or_default();
    assert_eq!(said, expected);
    root["tlogs"] = json!([]);
    root["timestampAuthorities"] = json!([]);
    assert!(TrustRoot::from_json(root.to_string().as_bytes()).is_err());
}

#[test]
fn the_trust_root_of_the_public_sigstore_is_read() {
    let root = sigstore_verify::trust_root::SIGSTORE_PRODUCTION_TRUSTED_ROOT;
    let policy =
        VerificationPolicy { keys: Vec::new(), keyless: Some((identity(), TrustRoot::from_json(root.as_bytes()).unwrap())) };
    let said = refusal(signed(&Sigstore::new(), Way::Logged, DIGEST, Signing::default()), &policy);
    assert!(
        said.starts_with("what the log says of it can't be believed: invalid inclusion promise: No log key valid at"),
        "{said}"
    );
}
