//! Which signatures count: good ones, and every way in which one can be wrong.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

mod site;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster_policy_oci::{Algorithm, Identity, PrivateKey, PublicKey, Signature, Signer, Subject, VerificationPolicy, verify};
use rstest::rstest;
use serde_json::{Value, json};

use site::{Signing, Site, payload};

const DIGEST: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
const OTHER: &str = "sha256:2222222222222222222222222222222222222222222222222222222222222222";

fn public(key: &PrivateKey) -> PublicKey {
    PublicKey::from_pem(&key.public_pem()).unwrap()
}

fn by_key(key: &PrivateKey, payload: Vec<u8>) -> Signature {
    let signature = STANDARD.encode(key.sign(&payload).unwrap());
    Signature { payload, signature, ..Signature::default() }
}

fn trusting(keys: &[(&str, &PrivateKey)]) -> VerificationPolicy {
    let keys = keys.iter().map(|(name, key)| ((*name).to_owned(), public(key))).collect();
    VerificationPolicy { keys, keyless: None }
}

fn refusal(signatures: &[Signature], policy: &VerificationPolicy) -> String {
    verify(DIGEST, signatures, policy).unwrap_err().to_string()
}

#[rstest]
#[case(Algorithm::EcdsaP256)]
#[case(Algorithm::Ed25519)]
fn a_signature_by_a_trusted_key_counts(#[case] algorithm: Algorithm) {
    let key = PrivateKey::generate(algorithm).unwrap();
    let signer = verify(DIGEST, &[by_key(&key, payload(DIGEST))], &trusting(&[("platform", &key)]));
    assert_eq!(signer, Ok(Signer::Key("platform".to_owned())));
}

#[test]
fn what_is_not_signed_says_how_to_sign_it() {
    let key = PrivateKey::generate(Algorithm::EcdsaP256).unwrap();
    let expected = format!("{DIGEST} is not signed; sign it with `muster policy sign` or `cosign sign`");
    assert_eq!(refusal(&[], &trusting(&[("platform", &key)])), expected);
}

#[test]
fn a_signature_by_another_key_does_not_count() {
    let (ours, theirs) =
        (PrivateKey::generate(Algorithm::EcdsaP256).unwrap(), PrivateKey::generate(Algorithm::EcdsaP256).unwrap());
    let said = refusal(&[by_key(&theirs, payload(DIGEST))], &trusting(&[("platform", &ours)]));
    assert_eq!(said, format!("no signature of {DIGEST} is by a signer that is trusted: it does not verify with platform"));
}

#[test]
fn a_payload_that_was_changed_after_signing_does_not_count() {
    let key = PrivateKey::generate(Algorithm::EcdsaP256).unwrap();
    let mut signature = by_key(&key, payload(OTHER));
    signature.payload = payload(DIGEST);
    assert!(refusal(&[signature], &trusting(&[("platform", &key)])).ends_with("it does not verify with platform"));
}

#[test]
fn a_true_signature_of_another_artifact_does_not_count() {
    let key = PrivateKey::generate(Algorithm::EcdsaP256).unwrap();
    let said = refusal(&[by_key(&key, payload(OTHER))], &trusting(&[("platform", &key)]));
    assert!(said.ends_with(&format!("it signs another artifact, {OTHER}")), "{said}");
}

#[test]
fn one_trusted_signature_among_others_is_enough_and_a_replaced_key_need_not_sign_again() {
    let (old, new) = (PrivateKey::generate(Algorithm::EcdsaP256).unwrap(), PrivateKey::generate(Algorithm::Ed25519).unwrap());
    let both = [by_key(&old, payload(DIGEST)), by_key(&new, payload(DIGEST))];
    assert_eq!(verify(DIGEST, &both, &trusting(&[("new", &new)])), Ok(Signer::Key("new".to_owned())));
    assert_eq!(verify(DIGEST, &both[..1], &trusting(&[("new", &new), ("old", &old)])), Ok(Signer::Key("old".to_owned())));
    let said = refusal(&both[..1], &trusting(&[("new", &new)]));
    assert!(said.ends_with("it does not verify with new"), "{said}");
}

fn identity() -> Identity {
    Identity { issuer: "https://issuer.example".to_owned(), subject: Subject::Equal(site::SUBJECT.to_owned()) }
}

fn keyless(site: &Site, identity: Identity) -> VerificationPolicy {
    VerificationPolicy { keys: Vec::new(), keyless: Some((identity, site.root())) }
}

#[test]
fn the_identity_that_is_trusted_counts() {
    let site = Site::new();
    let signature = site.sign(DIGEST, &Signing::default());
    let signer = verify(DIGEST, std::slice::from_ref(&signature), &keyless(&site, identity()));
    assert_eq!(signer, Ok(Signer::Identity(site::SUBJECT.to_owned())));
    let prefix = Subject::Prefix("https://github.example/acme/".to_owned());
    let signer = verify(DIGEST, &[signature], &keyless(&site, Identity { subject: prefix, ..identity() }));
    assert_eq!(signer, Ok(Signer::Identity(site::SUBJECT.to_owned())));
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
fn another_identity_does_not_count(#[case] wanted: Identity, #[case] expected: &str) {
    let site = Site::new();
    let said = refusal(&[site.sign(DIGEST, &Signing::default())], &keyless(&site, wanted));
    assert!(said.ends_with(expected), "{said}");
}

#[test]
fn a_certificate_counts_only_while_it_was_good() {
    let site = Site::new();
    for time in ["2026-02-27T12:00:00Z", "2026-03-05T12:00:00Z"] {
        let late = site.sign(DIGEST, &Signing { time, ..Signing::default() });
        let said = refusal(&[late], &keyless(&site, identity()));
        assert!(
            said.contains(&format!("its certificate was not issued by an authority of the trust root, or not for {time}")),
            "{said}"
        );
    }
}

#[test]
fn an_authority_counts_only_while_it_was_good() {
    // Everything about the signature is in order, but its authority was retired before.
    let mut site = Site::new();
    site.authority_until = "2026-02-01T00:00:00Z";
    let said = refusal(&[site.sign(DIGEST, &Signing::default())], &keyless(&site, identity()));
    assert!(said.ends_with("the trust root has no authority that was valid then"), "{said}");
}

#[test]
fn a_certificate_of_a_forged_authority_does_not_count() {
    let (site, forger) = (Site::new(), Site::new());
    // The forger names itself as the real authority does, and even has the real log's receipt.
    let forged = forger.sign_with_log(DIGEST, &Signing::default(), &site.log);
    let said = refusal(&[forged], &keyless(&site, identity()));
    assert!(said.contains("its certificate was not issued by an authority of the trust root"), "{said}");
}

#[test]
fn a_receipt_of_another_log_does_not_count() {
    let (site, forger) = (Site::new(), Site::new());
    let said = refusal(&[site.sign_with_log(DIGEST, &Signing::default(), &forger.log)], &keyless(&site, identity()));
    assert!(said.contains("the trust root knows no log"), "{said}");
}

#[test]
fn a_receipt_with_a_changed_time_does_not_count() {
    let site = Site::new();
    let mut signature = site.sign(DIGEST, &Signing { time: "2026-03-05T12:00:00Z", ..Signing::default() });
    let mut receipt: Value = serde_json::from_str(&signature.bundle.unwrap()).unwrap();
    receipt["Payload"]["integratedTime"] = json!(1_772_366_400);
    signature.bundle = Some(receipt.to_string());
    let said = refusal(&[signature], &keyless(&site, identity()));
    assert!(said.ends_with("the log's receipt is forged"), "{said}");
}

#[test]
fn a_receipt_of_another_signature_does_not_count() {
    let site = Site::new();
    let mut signature = site.sign(DIGEST, &Signing::default());
    signature.bundle = site.sign(OTHER, &Signing::default()).bundle;
    let said = refusal(&[signature], &keyless(&site, identity()));
    assert!(said.ends_with("the log's receipt is for another signature"), "{said}");
}

#[test]
fn a_certificate_for_a_server_does_not_sign_policies() {
    let site = Site::new();
    let said = refusal(&[site.sign(DIGEST, &Signing { for_code: false, ..Signing::default() })], &keyless(&site, identity()));
    assert!(said.contains("its certificate"), "{said}");
}

#[test]
fn a_signature_by_a_key_has_no_identity() {
    let site = Site::new();
    let key = PrivateKey::generate(Algorithm::EcdsaP256).unwrap();
    let said = refusal(&[by_key(&key, payload(DIGEST))], &keyless(&site, identity()));
    assert!(said.ends_with("it carries no certificate, so a key made it"), "{said}");
}

fn by_key_in_a_bundle(key: &PrivateKey, statement: &Value) -> Value {
    let material = json!({ "publicKey": { "hint": "" }, "tlogEntries": [] });
    site::bundle(&material, statement, &key.sign(&site::enveloped(statement)).unwrap())
}

fn read(bundle: &Value) -> Signature {
    Signature::from_bundle(bundle.to_string().as_bytes())
}

#[test]
fn a_bundle_by_a_trusted_key_counts() {
    let (key, other) = (PrivateKey::generate(Algorithm::EcdsaP256).unwrap(), PrivateKey::generate(Algorithm::EcdsaP256).unwrap());
    let signed = read(&by_key_in_a_bundle(&key, &site::statement(DIGEST)));
    let signer = verify(DIGEST, std::slice::from_ref(&signed), &trusting(&[("platform", &key)]));
    assert_eq!(signer, Ok(Signer::Key("platform".to_owned())));
    assert!(refusal(&[signed], &trusting(&[("other", &other)])).ends_with("it does not verify with other"));
}

#[test]
fn a_bundle_by_a_trusted_identity_counts_and_one_by_another_does_not() {
    let site = Site::new();
    let signed = read(&site.bundle(&site::statement(DIGEST), &Signing::default()));
    let signer = verify(DIGEST, std::slice::from_ref(&signed), &keyless(&site, identity()));
    assert_eq!(signer, Ok(Signer::Identity(site::SUBJECT.to_owned())));
    let other = Identity { issuer: "https://other.example".into(), ..identity() };
    assert!(refusal(&[signed], &keyless(&site, other)).contains("not by \"https://other.example\""));
}

#[test]
fn an_attestation_by_a_trusted_key_is_no_signature() {
    let key = PrivateKey::generate(Algorithm::EcdsaP256).unwrap();
    let mut statement = site::statement(DIGEST);
    statement["predicateType"] = json!("https://slsa.dev/provenance/v1");
    let said = refusal(&[read(&by_key_in_a_bundle(&key, &statement))], &trusting(&[("platform", &key)]));
    assert!(
        said.ends_with("the statement that is signed is an attestation (https://slsa.dev/provenance/v1), not a signature"),
        "{said}"
    );
}

#[test]
fn a_bundle_of_another_artifact_does_not_count() {
    let key = PrivateKey::generate(Algorithm::EcdsaP256).unwrap();
    let said = refusal(&[read(&by_key_in_a_bundle(&key, &site::statement(OTHER)))], &trusting(&[("platform", &key)]));
    assert!(said.ends_with(&format!("it signs another artifact, {OTHER}")), "{said}");
}

/// Changes one place of a good bundle by a trusted identity.
#[rstest]
#[case("/dsseEnvelope/payloadType", json!("text/plain"), "what is signed is of the type \"text/plain\", not \"application/vnd.in-toto+json\"")]
#[case("/dsseEnvelope/payload", json!(STANDARD.encode(site::statement(DIGEST).to_string() + " ")), "the log's receipt is for another signature")]
#[case("/dsseEnvelope/signatures/0/sig", json!("AAAA"), "the log's receipt is for another signature")]
#[case("/dsseEnvelope/signatures", json!([]), "its bundle holds no signature")]
#[case("/dsseEnvelope", json!(null), "its bundle holds a signature without a statement, which says of no artifact")]
#[case("/verificationMaterial/tlogEntries/0/integratedTime", json!("1772366401"), "the log's receipt is forged")]
#[case("/verificationMaterial/tlogEntries/0/logIndex", json!("8"), "the log's receipt is forged")]
#[case("/verificationMaterial/tlogEntries/0/inclusionPromise", json!(null),
    "it carries no receipt of a transparency log that says when it was made")]
#[case("/verificationMaterial/tlogEntries", json!([]), "it carries no receipt of a transparency log that says when it was made")]
#[case("/verificationMaterial/certificate/rawBytes", json!("AAAA"), "its certificate can't be read")]
fn a_bundle_that_was_changed_does_not_count(#[case] place: &str, #[case] value: Value, #[case] expected: &str) {
    let site = Site::new();
    let mut bundle = site.bundle(&site::statement(DIGEST), &Signing::default());
    *bundle.pointer_mut(place).unwrap() = value;
    let said = refusal(&[read(&bundle)], &keyless(&site, identity()));
    assert!(said.ends_with(expected), "{said}");
}

#[test]
fn a_bundle_that_is_none_says_so() {
    let key = PrivateKey::generate(Algorithm::EcdsaP256).unwrap();
    let said = refusal(&[Signature::from_bundle(b"{}")], &trusting(&[("platform", &key)]));
    assert!(said.contains("its bundle can't be read: missing field `verificationMaterial`"), "{said}");
}
