//! Policies from a real registry: pulled by digest with a password, verified before they are compiled, and kept while the registry
//! is gone.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

mod support;

use muster_guests::Guest;
use muster_policy_oci::{Algorithm, PrivateKey};
use serde_json::{Value, json};

use support::{Corner, condition, verdicts};

#[tokio::test]
async fn a_signed_policy_is_pulled_by_digest_with_a_pull_secret() {
    let corner = Corner::new().await.unwrap();
    let key = PrivateKey::generate(Algorithm::EcdsaP256).unwrap();
    let pushed = corner.push("racks", &Guest::default().component()).await.unwrap();
    corner.sign("racks", &pushed.digest, &key).await.unwrap();
    let mut spec = corner.spec("racks", &pushed.digest);
    spec["verify"] = json!({ "keys": [{ "pem": key.public_pem() }] });
    corner.apply(&spec).await.unwrap();
    let status = corner.await_ready("True").await.unwrap();
    assert_eq!(condition(&status, "Verified"), ("Succeeded", "signed by the key spec.verify.keys[0]"));
    assert_eq!(status.active.unwrap().digest, pushed.component);
}

#[tokio::test]
async fn a_bundle_that_refers_to_the_policy_is_a_signature_of_it() {
    let corner = Corner::new().await.unwrap();
    let key = PrivateKey::generate(Algorithm::EcdsaP256).unwrap();
    let pushed = corner.push("bundled", &Guest::default().component()).await.unwrap();
    corner.attach_bundle("bundled", &pushed.digest, &key).await.unwrap();
    let mut spec = corner.spec("bundled", &pushed.digest);
    spec["verify"] = json!({ "keys": [{ "pem": key.public_pem() }] });
    corner.apply(&spec).await.unwrap();
    let status = corner.await_ready("True").await.unwrap();
    assert_eq!(condition(&status, "Verified"), ("Succeeded", "signed by the key spec.verify.keys[0]"));
}

#[tokio::test]
async fn what_an_author_pushes_and_signs_loads_by_the_object_that_is_printed() {
    let corner = Corner::new().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let component = Guest::default().component();
    std::fs::write(folder.path().join("mine.wasm"), &component).unwrap();
    let (reference, plain) = (Corner::reference("authors:0.1.0"), Corner::reference(""));
    let plain = format!("--plain-http={}", plain.trim_end_matches('/'));
    let muster = async |args: &[&str]| Corner::muster(folder.path(), args).await.unwrap();

    muster(&["keygen", "team"]).await;
    let pushed = muster(&["push", "mine.wasm", &reference, &plain]).await;
    assert!(pushed.contains(&format!("next: muster policy sign {reference} --key muster.key ")), "{pushed}");
    let printed = muster(&["sign", &reference, "--key", "team.key", &plain]).await;
    let verified = muster(&["verify", &reference, "--key", "team.pub", &plain]).await;
    assert!(verified.contains("signed by the key team.pub"), "{verified}");
    muster(&["pull", &reference, "--file", "pulled.wasm", &plain]).await;
    assert_eq!(std::fs::read(folder.path().join("pulled.wasm")).unwrap(), component);

    let object: Value = serde_norway::from_str(&printed).unwrap();
    assert_eq!((&object["kind"], &object["metadata"]["name"]), (&json!("PlacementPolicy"), &json!("fixture")));
    let mut spec = object["spec"].clone();
    // The registry's password is the cluster's business, and not in what is printed.
    spec["source"]["oci"]["pullSecrets"] = json!([{ "namespace": support::HOME, "name": support::PULL_SECRET }]);
    corner.apply(&spec).await.unwrap();
    let status = corner.await_ready("True").await.unwrap();
    assert_eq!(condition(&status, "Verified").0, "Succeeded");
}

#[tokio::test]
async fn without_the_password_nothing_is_read() {
    let corner = Corner::new().await.unwrap();
    let pushed = corner.push("closed", &Guest::default().component()).await.unwrap();
    let mut spec = corner.spec("closed", &pushed.digest);
    spec["source"]["oci"]["pullSecrets"] = json!([]);
    corner.apply(&spec).await.unwrap();
    let status = corner.await_ready("False").await.unwrap();
    let (reason, message) = condition(&status, "Fetched");
    assert_eq!(reason, "Unauthorized");
    assert!(message.contains("name a Secret of type kubernetes.io/dockerconfigjson that has an entry for it"), "{message}");
}

#[tokio::test]
async fn a_secret_that_the_chart_does_not_list_is_not_read() {
    let corner = Corner::new().await.unwrap();
    let pushed = corner.push("unlisted", &Guest::default().component()).await.unwrap();
    let mut spec = corner.spec("unlisted", &pushed.digest);
    spec["source"]["oci"]["pullSecrets"][0]["name"] = json!("other");
    corner.apply(&spec).await.unwrap();
    let status = corner.await_ready("False").await.unwrap();
    let expected = format!(
        "spec.source.oci.pullSecrets[0]: the operator may not read Secret {}/other; add it to the chart's value policyHost.secrets",
        support::HOME
    );
    assert_eq!(condition(&status, "Fetched"), ("PullSecretUnusable", expected.as_str()));
}

#[tokio::test]
async fn a_digest_that_is_not_there_is_named() {
    let corner = Corner::new().await.unwrap();
    let absent = format!("sha256:{}", "0".repeat(64));
    corner.apply(&corner.spec("absent", &absent)).await.unwrap();
    let status = corner.await_ready("False").await.unwrap();
    let (reason, message) = condition(&status, "Fetched");
    assert_eq!(reason, "SourceMissing");
    assert!(message.ends_with(&format!("@{absent} does not exist")), "{message}");
    assert_eq!(status.candidate.unwrap().digest, absent);
}

#[tokio::test]
async fn a_tag_alone_is_refused_with_what_to_name_instead() {
    let corner = Corner::new().await.unwrap();
    let mut spec = corner.spec("racks:latest", "");
    spec["source"]["oci"].as_object_mut().unwrap().remove("digest");
    corner.apply(&spec).await.unwrap();
    let status = corner.await_ready("False").await.unwrap();
    let expected = "spec.source.oci.digest: Required value: a tag may point elsewhere tomorrow; \
                    name the digest that `muster policy push` printed";
    assert_eq!(condition(&status, "Fetched"), ("InvalidSpec", expected));
}

#[tokio::test]
async fn what_is_not_signed_is_refused_before_it_is_looked_at_and_taken_once_it_is() {
    let corner = Corner::new().await.unwrap();
    let key = PrivateKey::generate(Algorithm::Ed25519).unwrap();
    let pushed = corner.push("unsigned", &Guest::default().component()).await.unwrap();
    let mut spec = corner.spec("unsigned", &pushed.digest);
    corner.apply(&spec).await.unwrap();
    let status = corner.await_ready("False").await.unwrap();
    assert_eq!(condition(&status, "Verified").0, "SignerNotNamed");
    spec["verify"] = json!({ "keys": [{ "pem": key.public_pem() }] });
    corner.apply(&spec).await.unwrap();
    let status = corner.await_ready("False").await.unwrap();
    let expected = format!("{} is not signed; sign it with `muster policy sign` or `cosign sign`", pushed.digest);
    assert_eq!(condition(&status, "Verified"), ("NotTrusted", expected.as_str()));
    let nothing = ["Accepted=Unknown", "Compiled=Unknown", "SettingsValid=Unknown", "Ready=False"];
    assert_eq!(verdicts(&status)[2..], nothing);
    corner.sign("unsigned", &pushed.digest, &key).await.unwrap();
    corner.await_ready("True").await.unwrap();
}

#[tokio::test]
async fn a_key_is_replaced_while_the_policy_keeps_deciding() {
    let corner = Corner::new().await.unwrap();
    let (old, new) = (PrivateKey::generate(Algorithm::EcdsaP256).unwrap(), PrivateKey::generate(Algorithm::EcdsaP256).unwrap());
    let pushed = corner.push("rotated", &Guest::default().component()).await.unwrap();
    corner.sign("rotated", &pushed.digest, &old).await.unwrap();
    let mut spec = corner.spec("rotated", &pushed.digest);
    spec["verify"] = json!({ "keys": [{ "pem": old.public_pem() }] });
    corner.apply(&spec).await.unwrap();
    let good = corner.await_ready("True").await.unwrap();
    spec["verify"] = json!({ "keys": [{ "pem": new.public_pem() }] });
    corner.apply(&spec).await.unwrap();
    let bad = corner.await_ready("False").await.unwrap();
    assert_eq!(condition(&bad, "Verified").0, "NotTrusted");
    assert!(condition(&bad, "Ready").1.ends_with("; the last good version keeps deciding"), "{}", condition(&bad, "Ready").1);
    assert_eq!(bad.active, good.active);
    corner.sign("rotated", &pushed.digest, &new).await.unwrap();
    corner.await_ready("True").await.unwrap();
}

#[tokio::test]
async fn the_last_good_version_decides_while_the_registry_is_down() {
    let corner = Corner::new().await.unwrap();
    let pushed = corner.push("down", &Guest::default().component()).await.unwrap();
    let key = PrivateKey::generate(Algorithm::EcdsaP256).unwrap();
    corner.sign("down", &pushed.digest, &key).await.unwrap();
    let mut spec = corner.spec("down", &pushed.digest);
    spec["verify"] = json!({ "keys": [{ "pem": key.public_pem() }] });
    corner.apply(&spec).await.unwrap();
    let good = corner.await_ready("True").await.unwrap();
    // The same policy is now wanted from a registry that doesn't answer.
    spec["source"]["oci"]["image"] = json!("127.0.0.1:1/down");
    corner.apply(&spec).await.unwrap();
    let bad = corner.await_ready("False").await.unwrap();
    assert_eq!(condition(&bad, "Fetched").0, "RegistryUnavailable");
    assert_eq!(bad.active, good.active);
}
