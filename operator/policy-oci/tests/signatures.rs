//! Which signatures by a key count: good ones, and every way in which one can be wrong.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster_policy_oci::{Algorithm, PrivateKey, PublicKey, Signature, Signer, VerificationPolicy, verify};
use muster_signers::{bundle, enveloped, payload, statement};
use rstest::rstest;
use serde_json::{Value, json};

const DIGEST: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
const OTHER: &str = "sha256:2222222222222222222222222222222222222222222222222222222222222222";

fn public(key: &PrivateKey) -> PublicKey {
    PublicKey::from_pem(&key.public_pem()).unwrap()
}

fn by_key(key: &PrivateKey, payload: Vec<u8>) -> Signature {
    let signature = STANDARD.encode(key.sign(&payload).unwrap());
    Signature::Payload { payload, signature, certificate: None, chain: None, receipt: None }
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
    let Signature::Payload { signature, .. } = by_key(&key, payload(OTHER)) else { panic!("a payload was signed") };
    let signature = Signature::Payload { payload: payload(DIGEST), signature, certificate: None, chain: None, receipt: None };
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

fn by_key_in_a_bundle(key: &PrivateKey, statement: &Value) -> Value {
    let material = json!({ "publicKey": { "hint": "" }, "tlogEntries": [] });
    bundle(&material, statement, &key.sign(&enveloped(statement)).unwrap())
}

fn read(bundle: &Value) -> Signature {
    Signature::from_bundle(bundle.to_string().as_bytes())
}

#[test]
fn a_bundle_by_a_trusted_key_counts() {
    let (key, other) = (PrivateKey::generate(Algorithm::EcdsaP256).unwrap(), PrivateKey::generate(Algorithm::EcdsaP256).unwrap());
    let signed = read(&by_key_in_a_bundle(&key, &statement(DIGEST)));
    let signer = verify(DIGEST, std::slice::from_ref(&signed), &trusting(&[("platform", &key)]));
    assert_eq!(signer, Ok(Signer::Key("platform".to_owned())));
    assert!(refusal(&[signed], &trusting(&[("other", &other)])).ends_with("it does not verify with other"));
}

#[test]
fn an_attestation_by_a_trusted_key_is_no_signature() {
    let key = PrivateKey::generate(Algorithm::EcdsaP256).unwrap();
    let mut statement = statement(DIGEST);
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
    let said = refusal(&[read(&by_key_in_a_bundle(&key, &statement(OTHER)))], &trusting(&[("platform", &key)]));
    assert!(said.ends_with(&format!("it signs another artifact, {OTHER}")), "{said}");
}

#[test]
fn a_bundle_that_is_none_says_so() {
    let key = PrivateKey::generate(Algorithm::EcdsaP256).unwrap();
    let said = refusal(&[Signature::from_bundle(b"{}")], &trusting(&[("platform", &key)]));
    assert!(said.contains("its bundle can't be read: missing field `verificationMaterial`"), "{said}");
}
