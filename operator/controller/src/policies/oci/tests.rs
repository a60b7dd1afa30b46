//! A registry that comes and goes: what is kept of it, when that stands in for it, and when never.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster_policy_host::{CacheOptions, Folder};
use muster_policy_oci::{Algorithm, Copy, Credentials, PrivateKey, PublicKey, digest, layout};
use rstest::rstest;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;

/// Answers by path; `""` answers all that have none.
type Answers = Arc<Mutex<BTreeMap<String, (StatusCode, Vec<u8>)>>>;

/// A registry over real HTTP with one signed policy, and the folder of the operator that pulls it.
struct Site {
    answers: Answers,
    address: SocketAddr,
    server: Option<JoinHandle<()>>,
    folder: tempfile::TempDir,
    reference: Reference,
    key: PrivateKey,
    /// Paths of the parts: manifest, component, list of signatures, payload of the signature.
    parts: [String; 4],
}

const COMPONENT: &[u8] = b"a component";

async fn answer(State(answers): State<Answers>, uri: Uri) -> (StatusCode, Vec<u8>) {
    let answers = answers.lock().unwrap();
    let known = answers.get("").or_else(|| answers.get(uri.path())).cloned();
    known.unwrap_or((StatusCode::NOT_FOUND, Vec::new()))
}

impl Site {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (manifest, _) = layout::write(COMPONENT, &BTreeMap::new());
        let pinned = digest(&manifest);
        let key = PrivateKey::generate(Algorithm::EcdsaP256).unwrap();
        let payload = json!({ "critical": { "identity": { "docker-reference": "" }, "type": "cosign container image signature",
            "image": { "docker-manifest-digest": pinned } }, "optional": null });
        let payload = payload.to_string().into_bytes();
        let mut layer = layout::descriptor("application/vnd.dev.cosign.simplesigning.v1+json", &payload);
        let signature = STANDARD.encode(key.sign(&payload).unwrap());
        layer.annotations.insert("dev.cosignproject.cosign/signature".to_owned(), signature);
        let signatures = json!({ "schemaVersion": 2, "config": layout::descriptor("x/y", b"{}"), "layers": [layer] });
        let parts = [
            format!("/v2/racks/manifests/{pinned}"),
            format!("/v2/racks/blobs/{}", digest(COMPONENT)),
            format!("/v2/racks/manifests/{}.sig", pinned.replace(':', "-")),
            format!("/v2/racks/blobs/{}", layer.digest),
        ];
        let bytes = [manifest, COMPONENT.to_vec(), signatures.to_string().into_bytes(), payload];
        let answers = parts.iter().cloned().zip(bytes.map(|bytes| (StatusCode::OK, bytes))).collect();
        let mut site = Self {
            answers: Arc::new(Mutex::new(answers)),
            address,
            server: None,
            folder: tempfile::tempdir().unwrap(),
            reference: format!("{address}/racks@{pinned}").parse().unwrap(),
            key,
            parts,
        };
        site.serve(listener);
        site
    }

    fn serve(&mut self, listener: TcpListener) {
        let router = Router::new().fallback(answer).with_state(self.answers.clone());
        self.server = Some(tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }));
    }

    /// Nobody listens any more.
    async fn stop(&mut self) {
        let server = self.server.take().unwrap();
        server.abort();
        let _ = server.await;
    }

    /// Every request is answered so.
    fn answers_all(&self, status: StatusCode) {
        self.answers.lock().unwrap().insert(String::new(), (status, Vec::new()));
    }

    fn kept(&self) -> Kept {
        Kept::new(Some(self.opened()))
    }

    fn opened(&self) -> Folder {
        Folder::open(CacheOptions { folder: self.folder.path().join("copies"), max_bytes: 1 << 20 }, "policy").unwrap()
    }

    /// Trusts these keys.
    fn wanted(keys: &[&PrivateKey]) -> Wanted {
        let keys = keys.iter().map(|key| ("platform".to_owned(), PublicKey::from_pem(&key.public_pem()).unwrap())).collect();
        let trusted = Ok(Some(VerificationPolicy { keys, keyless: None }));
        Wanted { trusted, allow_unsigned: false, max_bytes: 1 << 10 }
    }

    async fn pull_by(&self, wanted: &Wanted) -> Result<(Verified, Option<String>), Fault> {
        let options = Options { plain_http: vec![self.address.to_string()], attempts: 1, ..Options::default() };
        let registry = Registry::new(options, &Credentials::Anonymous).unwrap();
        // As after a start: nothing is remembered but what is on disk.
        read_or_copied(&registry, &self.kept(), &self.reference, wanted, true).await
    }

    async fn pull(&self) -> Result<(Verified, Option<String>), Fault> {
        self.pull_by(&Self::wanted(&[&self.key])).await
    }

    /// Changes the copy as somebody does who knows how it is written, checksum and all.
    fn tamper(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let (folder, name) = (self.opened(), Copy::name(&self.reference));
        let mut bytes = folder.read(&name).unwrap();
        change(&mut bytes);
        folder.write(&name, &bytes).unwrap();
    }

    fn has_copy(&self) -> bool {
        self.opened().path(&Copy::name(&self.reference)).exists()
    }
}

/// Replaces the only place where `old` is by `new`, of the same length.
fn replace(bytes: &mut [u8], old: &[u8], new: &[u8]) {
    let at = bytes.windows(old.len()).position(|window| window == old).unwrap();
    bytes[at..at + old.len()].copy_from_slice(new);
}

#[tokio::test]
async fn a_policy_loads_from_its_copy_while_its_registry_is_down() {
    let mut site = Site::new().await;
    let (read, kept) = site.pull().await.unwrap();
    assert_eq!((&*read.component, kept), (COMPONENT, None));
    site.stop().await;
    let (read, kept) = site.pull().await.unwrap();
    assert_eq!(&*read.component, COMPONENT);
    assert_eq!(read.verification, Verification::By("the key platform".to_owned()));
    let kept = kept.unwrap();
    assert!(kept.starts_with(&format!("spec.source.oci: {} can't be used now: ", site.address)), "{kept}");
    assert!(kept.contains("Connection refused") && kept.ends_with("Z is used, and the registry is asked again"), "{kept}");
    let listener = TcpListener::bind(site.address).await.unwrap();
    site.serve(listener);
    assert_eq!(site.pull().await.unwrap().1, None);
}

#[rstest]
#[case(StatusCode::INTERNAL_SERVER_ERROR)]
#[case(StatusCode::BAD_GATEWAY)]
#[case(StatusCode::SERVICE_UNAVAILABLE)]
#[tokio::test]
async fn a_registry_that_has_trouble_of_its_own_is_stood_in_for(#[case] status: StatusCode) {
    let site = Site::new().await;
    site.pull().await.unwrap();
    site.answers_all(status);
    assert!(site.pull().await.unwrap().1.unwrap().contains(&format!("HTTP {}", status.as_u16())));
}

#[rstest]
#[case(StatusCode::NOT_FOUND, "SourceMissing")]
#[case(StatusCode::UNAUTHORIZED, "Unauthorized")]
#[case(StatusCode::FORBIDDEN, "Unauthorized")]
#[tokio::test]
async fn what_a_registry_says_about_the_policy_counts_though_there_is_a_copy(#[case] status: StatusCode, #[case] reason: &str) {
    let site = Site::new().await;
    site.pull().await.unwrap();
    site.answers_all(status);
    let fault = site.pull().await.unwrap_err();
    assert_eq!((fault.condition, fault.reason), ("Fetched", reason));
    assert!(site.has_copy());
}

#[tokio::test]
async fn a_registry_that_sends_other_bytes_is_not_stood_in_for() {
    let site = Site::new().await;
    site.pull().await.unwrap();
    for (part, reason) in [(&site.parts[0], "DigestMismatch"), (&site.parts[1], "DigestMismatch")] {
        let known = site.answers.lock().unwrap().insert(part.clone(), (StatusCode::OK, b"another compon".to_vec())).unwrap();
        assert_eq!(site.pull().await.unwrap_err().reason, reason, "{part}");
        site.answers.lock().unwrap().insert(part.clone(), known);
    }
    site.answers.lock().unwrap().remove(&site.parts[2]);
    assert_eq!(site.pull().await.unwrap_err().reason, "NotTrusted");
}

#[tokio::test]
async fn a_copy_is_judged_by_the_signers_that_are_trusted_now() {
    let mut site = Site::new().await;
    site.pull().await.unwrap();
    site.stop().await;
    let other = PrivateKey::generate(Algorithm::Ed25519).unwrap();
    let fault = site.pull_by(&Site::wanted(&[&other])).await.unwrap_err();
    assert_eq!((fault.condition, fault.reason), ("Fetched", "RegistryUnavailable"));
    assert!(fault.message.contains("; the copy that was kept can't be used: no signature of sha256:"), "{}", fault.message);
    assert!(fault.message.ends_with("by a signer that is trusted: it does not verify with platform"), "{}", fault.message);
    let nobody = Wanted { trusted: Ok(None), allow_unsigned: false, max_bytes: 1 << 10 };
    assert!(site.pull_by(&nobody).await.unwrap_err().message.contains("spec.verify: Required value"));
    // Once the key is trusted again, the copy is of use again.
    assert!(site.pull().await.is_ok());
}

#[rstest]
#[case::the_component(1, "was asked for, and sha256:")]
#[case::the_manifest(0, "was asked for, and sha256:")]
#[case::the_payload_of_the_signature(3, "was asked for, and sha256:")]
#[tokio::test]
async fn a_copy_with_another_byte_is_refused_and_removed(#[case] part: usize, #[case] expected: &str) {
    let mut site = Site::new().await;
    site.pull().await.unwrap();
    site.stop().await;
    let bytes = site.answers.lock().unwrap()[&site.parts[part]].1.clone();
    let mut other = bytes.clone();
    // A space more or less would do: the last byte is one that leaves JSON readable only when it is itself.
    *other.last_mut().unwrap() ^= 1;
    site.tamper(|copy| replace(copy, &bytes, &other));
    let fault = site.pull().await.unwrap_err();
    assert_eq!(fault.reason, "RegistryUnavailable");
    assert!(fault.message.contains(expected) && fault.message.ends_with("; it was removed"), "{}", fault.message);
    assert!(!site.has_copy());
}

#[tokio::test]
async fn a_copy_without_its_signature_is_refused() {
    let mut site = Site::new().await;
    site.pull().await.unwrap();
    site.stop().await;
    // The list of signatures is no longer what is asked for, and so there is none.
    site.tamper(|copy| replace(copy, b".sig\"", b".gis\""));
    let fault = site.pull().await.unwrap_err();
    assert!(fault.message.contains("is not signed; sign it with `muster policy sign`"), "{}", fault.message);
}

#[tokio::test]
async fn a_copy_whose_signature_was_changed_is_refused() {
    let mut site = Site::new().await;
    site.pull().await.unwrap();
    site.stop().await;
    let list = String::from_utf8(site.answers.lock().unwrap()[&site.parts[2]].1.clone()).unwrap();
    let before = list.split("cosign/signature\":\"").nth(1).unwrap()[..20].to_owned();
    site.tamper(|copy| replace(copy, before.as_bytes(), b"AAAAAAAAAAAAAAAAAAAA"));
    let fault = site.pull().await.unwrap_err();
    assert!(fault.message.ends_with("it does not verify with platform"), "{}", fault.message);
}

#[tokio::test]
async fn a_copy_that_was_changed_on_disk_is_removed() {
    let mut site = Site::new().await;
    site.pull().await.unwrap();
    site.stop().await;
    let path = site.opened().path(&Copy::name(&site.reference));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[9] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let fault = site.pull().await.unwrap_err();
    assert!(fault.message.ends_with("can't be used: its checksum is wrong; it was removed"), "{}", fault.message);
    assert!(!site.has_copy());
}

#[tokio::test]
async fn a_copy_of_another_digest_or_registry_does_not_pass_for_this_one() {
    let mut site = Site::new().await;
    site.pull().await.unwrap();
    site.stop().await;
    let (folder, bytes) = (site.opened(), site.opened().read(&Copy::name(&site.reference)).unwrap());
    let mirror: Reference = format!("127.0.0.1:1/racks@{}", site.reference.digest().unwrap()).parse().unwrap();
    let other = site.reference.clone_with_digest(format!("sha256:{}", "1".repeat(64)));
    for another in [mirror, other] {
        site.reference = another;
        // There is no copy of it, and one that was laid there is known for what it is.
        let fault = site.pull().await.unwrap_err();
        assert!(!fault.message.contains("the copy that was kept"), "{}", fault.message);
        folder.write(&Copy::name(&site.reference), &bytes).unwrap();
        let fault = site.pull().await.unwrap_err();
        assert!(fault.message.contains("it is a copy of "), "{}", fault.message);
        assert!(!site.has_copy());
    }
}

#[tokio::test]
async fn what_is_not_trusted_is_not_kept() {
    let site = Site::new().await;
    let other = PrivateKey::generate(Algorithm::Ed25519).unwrap();
    assert_eq!(site.pull_by(&Site::wanted(&[&other])).await.unwrap_err().reason, "NotTrusted");
    assert!(!site.has_copy());
}
