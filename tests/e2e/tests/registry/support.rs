//! A registry with a password, and a cluster whose operator may use it.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, ensure};
use http::HeaderValue;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::api::{ObjectMeta, Patch, PatchParams};
use kube::{Api, Client};
use muster_api::policy::PolicyStatus;
use muster_cluster::{Cluster, Process, Program, Setup, eventually};
use muster_e2e::{PATIENCE, Policy, message, reason};
use muster_policy_oci::{Credentials, Options, PrivateKey, Pushed, Reference, Registry};
use muster_signers::Annotated;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use serde_json::{Value, json};
use tokio::sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The namespace of the pull secret. The chart, which is installed first, gives the operator a role there.
pub(crate) const HOME: &str = "default";
pub(crate) const PULL_SECRET: &str = "registry";
const USER: &str = "puller";
const PASSWORD: &str = "correct horse";

static PORT: OnceLock<u16> = OnceLock::new();
static COUNT: AtomicU32 = AtomicU32::new(0);
static STARTING: Mutex<()> = Mutex::const_new(());
/// Tests that stop what all use do so while no other runs.
static TURNS: RwLock<()> = RwLock::const_new(());

fn registry() -> String {
    let free = || TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).map_or(0, |address| address.port());
    format!("127.0.0.1:{}", PORT.get_or_init(free))
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A bundle by a key alone, without a log, as `cosign sign --key` writes it for those who have none.
pub(crate) fn bundle_by_key(digest: &str, key: &PrivateKey) -> Result<Value> {
    let material = json!({ "publicKey": { "hint": "" }, "tlogEntries": [] });
    let statement = muster_signers::statement(digest);
    Ok(muster_signers::bundle(&material, &statement, &key.sign(&muster_signers::enveloped(&statement))?))
}

fn described(type_: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": type_, "digest": muster_policy_oci::digest(bytes), "size": bytes.len() })
}

fn auth() -> RegistryAuth {
    RegistryAuth::Basic(USER.to_owned(), PASSWORD.to_owned())
}

/// Writes what the product never writes.
async fn writer() -> Result<oci_client::Client> {
    let config = ClientConfig { protocol: ClientProtocol::HttpsExcept(vec![registry()]), ..ClientConfig::default() };
    let client = oci_client::Client::try_from(config)?;
    client.store_auth_if_needed(&registry(), &auth()).await;
    Ok(client)
}

async fn put(reference: &Reference, blobs: [Vec<u8>; 2], manifest: Vec<u8>) -> Result<()> {
    let client = writer().await?;
    for blob in blobs {
        let digest = muster_policy_oci::digest(&blob);
        client.push_blob(reference, blob, &digest).await?;
    }
    client.push_manifest_raw(reference, manifest, HeaderValue::from_static(MANIFEST)).await?;
    Ok(())
}

/// What a test shares with the others of this program.
enum Turn {
    /// The operator and the registry, which run.
    Shared { _guard: RwLockReadGuard<'static, ()> },
    /// Nothing: no other test runs meanwhile.
    Alone { _guard: RwLockWriteGuard<'static, ()> },
}

/// One test's policy, and its way to the registry.
pub(crate) struct Corner {
    pub(crate) policy: Policy,
    client: Client,
    registry: Registry,
    /// Last, so that others begin when all is put back.
    _turn: Turn,
}

/// A policy that was pushed and signed.
pub(crate) struct Signed {
    pub(crate) pushed: Pushed,
    /// The spec that names it and the signer.
    pub(crate) spec: Value,
}

impl Corner {
    /// The policy of a test beside others.
    pub(crate) async fn new() -> Result<Self> {
        Self::at(Turn::Shared { _guard: TURNS.read().await }).await
    }

    /// The policy of a test that stops the registry or the operator.
    pub(crate) async fn alone() -> Result<Self> {
        Self::at(Turn::Alone { _guard: TURNS.write().await }).await
    }

    async fn at(turn: Turn) -> Result<Self> {
        let setup = || Setup {
            values: json!({ "policyHost": {
                "plainHttpRegistries": [registry()],
                "secrets": [{ "namespace": HOME, "name": PULL_SECRET }],
            } }),
            ..Setup::default()
        };
        let client = Cluster::shared_as(setup).await.client().await?;
        start().await?;
        pull_secret(&client).await?;
        let credentials = Credentials::Basic { username: USER.to_owned(), password: PASSWORD.to_owned() };
        let options = Options { plain_http: vec![registry()], ..Options::default() };
        let name = format!("from-registry-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let registry = Registry::new(options, &credentials)?;
        Ok(Self { policy: Policy::new(client.clone(), &name), client, registry, _turn: turn })
    }

    /// Pushes a component, signs it and returns the policy that asks for this signature.
    pub(crate) async fn push_signed(&self, name: &str, component: &[u8], key: &PrivateKey) -> Result<Signed> {
        let pushed = self.push(name, component).await?;
        self.sign(name, &pushed.digest, key).await?;
        let mut spec = self.spec(name, &pushed.digest);
        spec["verify"] = json!({ "keys": [{ "pem": key.public_pem() }] });
        Ok(Signed { pushed, spec })
    }

    pub(crate) async fn push(&self, name: &str, component: &[u8]) -> Result<Pushed> {
        let reference: Reference = format!("{}/{name}:latest", registry()).parse()?;
        Ok(self.registry.push(&reference, component, &BTreeMap::new()).await?)
    }

    pub(crate) async fn sign(&self, name: &str, digest: &str, key: &PrivateKey) -> Result<()> {
        let reference: Reference = format!("{}/{name}@{digest}", registry()).parse()?;
        self.registry.sign(&reference, key).await?;
        Ok(())
    }

    /// Signs as cosign 3 does: with a bundle in an artifact that refers to the signed one.
    pub(crate) async fn attach_bundle(&self, name: &str, digest: &str, bundle: &Value) -> Result<()> {
        let type_ = "application/vnd.dev.sigstore.bundle.v0.3+json";
        let subject: Reference = format!("{}/{name}@{digest}", registry()).parse()?;
        let (signed, _) = writer().await?.pull_manifest_raw(&subject, &auth(), &[MANIFEST]).await?;
        let bundle = bundle.to_string().into_bytes();
        let empty = b"{}".to_vec();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": type_,
            "config": described("application/vnd.oci.empty.v1+json", &empty),
            "layers": [described(type_, &bundle)],
            "subject": { "mediaType": MANIFEST, "digest": digest, "size": signed.len() },
        });
        let manifest = manifest.to_string().into_bytes();
        let attached = subject.clone_with_digest(muster_policy_oci::digest(&manifest));
        put(&attached, [empty, bundle], manifest).await
    }

    /// Signs as cosign 2 does without a key: with a manifest that lies beside the signed one and says everything in annotations.
    pub(crate) async fn annotate(&self, name: &str, digest: &str, signature: Annotated) -> Result<()> {
        let tag = format!("{}/{name}:{}.sig", registry(), digest.replace(':', "-"));
        let mut layer = described("application/vnd.dev.cosign.simplesigning.v1+json", &signature.payload);
        layer["annotations"] = json!({
            "dev.cosignproject.cosign/signature": signature.signature,
            "dev.sigstore.cosign/certificate": signature.certificate,
            "dev.sigstore.cosign/bundle": signature.receipt,
        });
        let config = b"{}".to_vec();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": described("application/vnd.oci.image.config.v1+json", &config),
            "layers": [layer],
        });
        put(&tag.parse()?, [config, signature.payload], manifest.to_string().into_bytes()).await
    }

    /// Puts a trust root where policies find it, under a name of this test's; returns the reference to it.
    pub(crate) async fn trust_root(&self, root: &Value) -> Result<Value> {
        let name = &self.policy.name;
        let object = ConfigMap {
            metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
            data: Some([("trusted_root.json".to_owned(), root.to_string())].into()),
            ..ConfigMap::default()
        };
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), HOME);
        api.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(object)).await?;
        Ok(json!({ "configMapRef": { "namespace": HOME, "name": name, "key": "trusted_root.json" } }))
    }

    /// What the registry calls `name`.
    pub(crate) fn reference(name: &str) -> String {
        format!("{}/{name}", registry())
    }

    /// What `muster policy …` prints in a folder, with the password in a file as `docker login` writes it there.
    pub(crate) async fn muster(folder: &Path, args: &[&str]) -> Result<String> {
        let config = json!({ "auths": { registry(): { "username": USER, "password": PASSWORD } } });
        std::fs::write(folder.join("config.json"), config.to_string())?;
        let mut command = Command::new(Cluster::shared().await.plane().layout().muster());
        command
            .arg("policy")
            .args(args)
            .current_dir(folder)
            .env("DOCKER_CONFIG", folder)
            .env("MUSTER_CACHE", folder.join("cache"));
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        ensure!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// A policy from the registry, with the pull secret and without a signer.
    pub(crate) fn spec(&self, name: &str, digest: &str) -> Value {
        json!({ "source": { "oci": {
            "image": format!("{}/{name}", registry()),
            "digest": digest,
            "pullSecrets": [{ "namespace": HOME, "name": PULL_SECRET }],
        } } })
    }
}

/// The registry as a process of the shared cluster.
async fn program() -> (&'static Path, Program) {
    let layout = Cluster::shared().await.plane().layout();
    let args = [format!("--listen={}", registry()), format!("--user={USER}"), format!("--password={PASSWORD}")];
    let program = Program {
        name: "registry".into(),
        path: layout.bin.join("registry"),
        args: args.into(),
        env: None,
        inputs: String::new(),
    };
    (&layout.state, program)
}

/// Starts the registry, with nothing in it, unless it runs.
pub(crate) async fn start() -> Result<()> {
    let (state, program) = program().await;
    {
        // Two that start it at the same time would start it twice.
        let _one = STARTING.lock().await;
        Process::ensure(state, &program)?;
    }
    eventually(PATIENCE, || async { Ok(tokio::net::TcpStream::connect(registry()).await.map(drop)?) }).await
}

/// Stops the registry; what was in it is gone.
pub(crate) async fn stop() {
    let (state, program) = program().await;
    Process::of(state, &program.name).kill();
}

async fn pull_secret(client: &Client) -> Result<()> {
    // That the namespace is there is what a chart with `policyHost.secrets` asks for.
    Api::<Namespace>::all(client.clone()).get(HOME).await?;
    let config = json!({ "auths": { registry(): { "username": USER, "password": PASSWORD } } });
    let secret = Secret {
        metadata: ObjectMeta { name: Some(PULL_SECRET.to_owned()), ..ObjectMeta::default() },
        type_: Some("kubernetes.io/dockerconfigjson".to_owned()),
        data: Some([(".dockerconfigjson".to_owned(), ByteString(config.to_string().into_bytes()))].into()),
        ..Secret::default()
    };
    let api: Api<Secret> = Api::namespaced(client.clone(), HOME);
    api.patch(PULL_SECRET, &PatchParams::apply("test").force(), &Patch::Apply(secret)).await?;
    Ok(())
}

/// Reason and message of one condition.
pub(crate) fn condition<'a>(status: &'a PolicyStatus, type_: &str) -> (&'a str, &'a str) {
    (reason(status, type_), message(status, type_))
}
