//! Policies from a real registry: pulled by digest with a password, verified before they are compiled, and kept while the registry
//! is gone.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

mod support;

use muster_cluster::Cluster;
use muster_e2e::{Set, Site, await_ready, decider, domains, verdicts};
use muster_guests::{Guest, all_into};
use muster_policy_oci::{Algorithm, PrivateKey, Pushed};
use muster_signers::{ISSUER, SUBJECT, Signing, Sigstore, statement};
use serde_json::{Value, json};

use support::{Corner, Signed, condition};

#[tokio::test]
async fn a_signed_policy_is_pulled_by_digest_with_a_pull_secret() {
    let corner = Corner::new().await.unwrap();
    let key = PrivateKey::generate(Algorithm::EcdsaP256).unwrap();
    let signed = corner.push_signed("racks", &Guest::default().component(), &key).await.unwrap();
    corner.policy.apply(&signed.spec).await.unwrap();
    let status = corner.policy.await_ready("True").await.unwrap();
    assert_eq!(condition(&status, "Verified"), ("Succeeded", "signed by the key spec.verify.keys[0]"));
    assert_eq!(status.active.unwrap().digest, signed.pushed.component);
}

#[tokio::test]
async fn a_bundle_that_refers_to_the_policy_is_a_signature_of_it() {
    let corner = Corner::new().await.unwrap();
    let key = PrivateKey::generate(Algorithm::EcdsaP256).unwrap();
    let pushed = corner.push("bundled", &Guest::default().component()).await.unwrap();
    let bundle = support::bundle_by_key(&pushed.digest, &key).unwrap();
    corner.attach_bundle("bundled", &pushed.digest, &bundle).await.unwrap();
    let mut spec = corner.spec("bundled", &pushed.digest);
    spec["verify"] = json!({ "keys": [{ "pem": key.public_pem() }] });
    corner.policy.apply(&spec).await.unwrap();
    let status = corner.policy.await_ready("True").await.unwrap();
    assert_eq!(condition(&status, "Verified"), ("Succeeded", "signed by the key spec.verify.keys[0]"));
}

/// An object that trusts an identity, whoever's key it signs with.
fn trusting(mut spec: Value, subject: &str, root: &Value) -> Value {
    spec["verify"] = json!({ "keyless": { "issuer": ISSUER, "subject": subject, "trustRootRef": root } });
    spec
}

#[tokio::test]
async fn a_policy_that_an_identity_signed_loads_however_cosign_wrote_it_down() {
    let corner = Corner::new().await.unwrap();
    let site = Sigstore::new();
    let root = corner.trust_root(&site.trusted_root()).await.unwrap();
    for way in ["annotated", "logged", "timed"] {
        let guest = Guest { level: way, ..Guest::default() };
        let Pushed { digest, component } = corner.push(way, &guest.component()).await.unwrap();
        let statement = statement(&digest);
        match way {
            "annotated" => corner.annotate(way, &digest, site.annotated(&digest, Signing::default())).await.unwrap(),
            "logged" => corner.attach_bundle(way, &digest, &site.bundle(&statement, Signing::default())).await.unwrap(),
            _ => corner.attach_bundle(way, &digest, &site.timed_bundle(&statement, Signing::default())).await.unwrap(),
        }
        corner.policy.apply(&trusting(corner.spec(way, &digest), SUBJECT, &root)).await.unwrap();
        let status = corner.policy.await_active(&component).await.unwrap();
        assert_eq!(condition(&status, "Verified"), ("Succeeded", format!("signed by {SUBJECT}").as_str()));
    }
}

#[tokio::test]
async fn another_identity_or_an_unknown_authority_is_refused_while_the_last_good_version_decides() {
    let corner = Corner::new().await.unwrap();
    let site = Sigstore::new();
    let root = corner.trust_root(&site.trusted_root()).await.unwrap();
    let pushed = corner.push("identities", &Guest::default().component()).await.unwrap();
    let bundle = site.timed_bundle(&statement(&pushed.digest), Signing::default());
    corner.attach_bundle("identities", &pushed.digest, &bundle).await.unwrap();
    let spec = corner.spec("identities", &pushed.digest);
    corner.policy.apply(&trusting(spec.clone(), SUBJECT, &root)).await.unwrap();
    let good = corner.policy.await_ready("True").await.unwrap();

    corner.policy.apply(&trusting(spec.clone(), "https://github.example/acme/other", &root)).await.unwrap();
    let bad = corner.policy.await_ready("False").await.unwrap();
    let (reason, message) = condition(&bad, "Verified");
    assert_eq!(reason, "NotTrusted");
    let why = format!("the signer is {SUBJECT}, not \"https://github.example/acme/other\"");
    assert!(message.ends_with(&why), "{message}");
    assert_eq!(bad.active, good.active);

    corner.policy.apply(&trusting(spec, SUBJECT, &root)).await.unwrap();
    corner.policy.await_ready("True").await.unwrap();
    // The administrator replaces the root: what was signed under the old one isn't believed any more.
    corner.trust_root(&Sigstore::new().trusted_root()).await.unwrap();
    let bad = corner.policy.await_ready("False").await.unwrap();
    let (reason, message) = condition(&bad, "Verified");
    assert_eq!(reason, "NotTrusted");
    assert!(message.contains("its timestamp can't be believed"), "{message}");
    corner.trust_root(&json!({})).await.unwrap();
    let bad = corner.policy.await_reason("Verified", "TrustUnusable").await.unwrap();
    let (_, message) = condition(&bad, "Verified");
    let expected = "spec.verify.keyless.trustRootRef: it is no trusted_root.json of Sigstore: missing field `mediaType`";
    assert!(message.starts_with(expected), "{message}");
    assert_eq!(bad.active, good.active);
}

#[tokio::test]
async fn an_identity_is_verified_at_an_author_s_desk() {
    let corner = Corner::new().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let site = Sigstore::new();
    let pushed = corner.push("desk", &Guest::default().component()).await.unwrap();
    let bundle = site.bundle(&statement(&pushed.digest), Signing::default());
    corner.attach_bundle("desk", &pushed.digest, &bundle).await.unwrap();
    std::fs::write(folder.path().join("root.json"), site.trusted_root().to_string()).unwrap();
    let reference = Corner::reference("desk:latest");
    let plain = format!("--plain-http={}", Corner::reference("").trim_end_matches('/'));
    let verify = async |identity: &str| {
        let args =
            ["verify", &reference, "--issuer", ISSUER, "--identity", identity, "--trust-root", "root.json", plain.as_str()];
        Corner::muster(folder.path(), &args).await
    };
    let expected = format!("{}\nsigned by {SUBJECT}\n", pushed.digest);
    assert_eq!(verify(SUBJECT).await.unwrap(), expected);
    assert_eq!(verify("https://github.example/acme/").await.unwrap(), expected);
    let said = verify("https://github.example/other/").await.unwrap_err().to_string();
    let why = format!("the signer is {SUBJECT}, not one that begins with \"https://github.example/other/\"");
    assert!(said.contains(&why), "{said}");
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
    corner.policy.apply(&spec).await.unwrap();
    let status = corner.policy.await_ready("True").await.unwrap();
    assert_eq!(condition(&status, "Verified").0, "Succeeded");
}

#[tokio::test]
async fn without_the_password_nothing_is_read() {
    let corner = Corner::new().await.unwrap();
    let pushed = corner.push("closed", &Guest::default().component()).await.unwrap();
    let mut spec = corner.spec("closed", &pushed.digest);
    spec["source"]["oci"]["pullSecrets"] = json!([]);
    corner.policy.apply(&spec).await.unwrap();
    let status = corner.policy.await_ready("False").await.unwrap();
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
    corner.policy.apply(&spec).await.unwrap();
    let status = corner.policy.await_ready("False").await.unwrap();
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
    corner.policy.apply(&corner.spec("absent", &absent)).await.unwrap();
    let status = corner.policy.await_ready("False").await.unwrap();
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
    corner.policy.apply(&spec).await.unwrap();
    let status = corner.policy.await_ready("False").await.unwrap();
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
    corner.policy.apply(&spec).await.unwrap();
    let status = corner.policy.await_ready("False").await.unwrap();
    assert_eq!(condition(&status, "Verified").0, "SignerNotNamed");
    spec["verify"] = json!({ "keys": [{ "pem": key.public_pem() }] });
    corner.policy.apply(&spec).await.unwrap();
    let status = corner.policy.await_ready("False").await.unwrap();
    let expected = format!("{} is not signed; sign it with `muster policy sign` or `cosign sign`", pushed.digest);
    assert_eq!(condition(&status, "Verified"), ("NotTrusted", expected.as_str()));
    let nothing = ["Accepted=Unknown", "Compiled=Unknown", "SettingsValid=Unknown", "Ready=False"];
    assert_eq!(verdicts(&status)[2..], nothing);
    corner.sign("unsigned", &pushed.digest, &key).await.unwrap();
    corner.policy.await_ready("True").await.unwrap();
}

#[tokio::test]
async fn a_key_is_replaced_while_the_policy_keeps_deciding() {
    let corner = Corner::new().await.unwrap();
    let (old, new) = (PrivateKey::generate(Algorithm::EcdsaP256).unwrap(), PrivateKey::generate(Algorithm::EcdsaP256).unwrap());
    let Signed { pushed, mut spec } = corner.push_signed("rotated", &Guest::default().component(), &old).await.unwrap();
    corner.policy.apply(&spec).await.unwrap();
    let good = corner.policy.await_ready("True").await.unwrap();
    spec["verify"] = json!({ "keys": [{ "pem": new.public_pem() }] });
    corner.policy.apply(&spec).await.unwrap();
    let bad = corner.policy.await_ready("False").await.unwrap();
    assert_eq!(condition(&bad, "Verified").0, "NotTrusted");
    assert!(condition(&bad, "Ready").1.ends_with("; the last good version keeps deciding"), "{}", condition(&bad, "Ready").1);
    assert_eq!(bad.active, good.active);
    corner.sign("rotated", &pushed.digest, &new).await.unwrap();
    corner.policy.await_ready("True").await.unwrap();
}

#[tokio::test]
async fn the_last_good_version_decides_while_the_registry_is_down() {
    let corner = Corner::new().await.unwrap();
    let key = PrivateKey::generate(Algorithm::EcdsaP256).unwrap();
    let Signed { mut spec, .. } = corner.push_signed("down", &Guest::default().component(), &key).await.unwrap();
    corner.policy.apply(&spec).await.unwrap();
    let good = corner.policy.await_ready("True").await.unwrap();
    // The same policy is now wanted from a registry that doesn't answer.
    spec["source"]["oci"]["image"] = json!("127.0.0.1:1/down");
    corner.policy.apply(&spec).await.unwrap();
    let bad = corner.policy.await_ready("False").await.unwrap();
    assert_eq!(condition(&bad, "Fetched").0, "RegistryUnavailable");
    assert_eq!(bad.active, good.active);
}

#[tokio::test]
async fn a_policy_whose_registry_is_down_when_the_operator_starts_places_a_set() {
    let corner = Corner::alone().await.unwrap();
    let mut site = Site::new("outage").await.unwrap();
    site.pool("a", 1).await.unwrap();
    site.pool("b", 1).await.unwrap();
    let key = PrivateKey::generate(Algorithm::EcdsaP256).unwrap();
    // The native rule would take `a`.
    let component = Guest { place: &all_into(1), level: site.key(), ..Guest::default() }.component();
    let signed = corner.push_signed("outage", &component, &key).await.unwrap();
    corner.policy.apply(&signed.spec).await.unwrap();
    let good = corner.policy.await_reason("Fetched", "Succeeded").await.unwrap();
    assert_eq!(condition(&good, "Ready"), ("Loaded", "the policy decides"));

    support::stop().await;
    Cluster::shared().await.operator().restart().await.unwrap();
    let kept = corner.policy.await_reason("Fetched", "KeptCopy").await.unwrap();
    let nothing_is_wrong =
        ["Fetched=True", "Verified=True", "Accepted=True", "Compiled=True", "SettingsValid=True", "Ready=True"];
    assert_eq!(verdicts(&kept), nothing_is_wrong);
    let why = condition(&kept, "Fetched").1;
    assert!(why.contains("can't be used now: ") && why.contains("Connection refused"), "{why}");
    assert!(why.ends_with(" is used, and the registry is asked again"), "{why}");
    assert_eq!(condition(&kept, "Verified").1, "signed by the key spec.verify.keys[0]");
    assert_eq!(kept.active.unwrap().digest, signed.pushed.component);
    let set = Set::new("late").groups(1, 1).on(&site, 8).annotated("muster.dev/placement-policy", &corner.policy.name);
    site.apply(&set.manifest()).await.unwrap();
    await_ready(&site, "late").await.unwrap();
    assert_eq!(decider(&site, "late-0").await.unwrap(), corner.policy.name);
    assert_eq!(domains(&site, "late", site.key()).await.unwrap()["0"], ["b".to_owned()].into());

    // A signer who isn't trusted any more is not believed because of the copy either; the old one is again.
    let other = PrivateKey::generate(Algorithm::EcdsaP256).unwrap();
    corner.policy.patch(&json!({ "verify": { "keys": [{ "pem": other.public_pem() }] } })).await.unwrap();
    let refused = corner.policy.await_ready("False").await.unwrap();
    let (reason, why) = condition(&refused, "Fetched");
    assert_eq!(reason, "RegistryUnavailable");
    assert!(why.contains("; the copy that was kept can't be used: no signature of "), "{why}");
    corner.policy.patch(&signed.spec).await.unwrap();
    corner.policy.await_reason("Fetched", "KeptCopy").await.unwrap();

    // The registry is back, with the same bytes.
    support::start().await.unwrap();
    assert_eq!(corner.push_signed("outage", &component, &key).await.unwrap().pushed, signed.pushed);
    let back = corner.policy.await_reason("Fetched", "Succeeded").await.unwrap();
    assert_eq!(condition(&back, "Ready"), ("Loaded", "the policy decides"));
}
