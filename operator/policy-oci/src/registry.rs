//! Registries as they are spoken to. Everything that is fetched is bounded in time and size; whoever reads it compares it with its digest.

use std::collections::BTreeMap;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use serde::Deserialize;
use serde_json::json;

use crate::credentials::Credentials;
use crate::keys::{KeyError, PrivateKey};
use crate::layout::{self, Artifact, Descriptor, LayoutError, Manifest};
use crate::payload;
use crate::read::{self, Read, Referrer};
use crate::verify::{Signer, VerificationPolicy, VerifyError, verify};
use crate::wire::{self, Asked, Wire};

/// Largest manifest, as registries limit them too.
const MAX_MANIFEST_BYTES: usize = 4 << 20;
/// How long a registry may take to accept a connection, and to send the next bytes.
pub(crate) const STALLED: Duration = Duration::from_secs(10);

/// What we call ourselves.
pub(crate) const USER_AGENT: &str = concat!("muster/", env!("CARGO_PKG_VERSION"));

/// How registries are spoken to.
#[derive(Clone, Debug)]
pub struct Options {
    /// Registries (`host` or `host:port`) that are spoken to without TLS.
    pub plain_http: Vec<String>,
    /// Largest component that is downloaded, in bytes.
    pub max_component_bytes: usize,
    /// How long one request may take, its body included.
    pub timeout: Duration,
    /// How often a request is made before its failure counts, when trying again may help.
    pub attempts: usize,
}

impl Default for Options {
    /// TLS only, 32 MiB, a minute, three attempts.
    fn default() -> Self {
        Self { plain_http: Vec::new(), max_component_bytes: 32 << 20, timeout: Duration::from_secs(60), attempts: 3 }
    }
}

/// Why a registry didn't give or take something.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No client: the machine has no certificates of authorities, for example.
    #[error("no registry can be spoken to: {0}")]
    Client(String),
    /// The registry can't be reached, or has trouble of its own.
    #[error("{registry} can't be used now: {why}")]
    Unavailable {
        /// Which registry.
        registry: String,
        /// What happened.
        why: String,
    },
    /// The registry took too long.
    #[error("{registry} did not answer within {limit:?}")]
    Timeout {
        /// Which registry.
        registry: String,
        /// How long it had.
        limit: Duration,
    },
    /// The registry wants other credentials.
    #[error(
        "{registry} lets nobody read {repository} with these credentials; name a Secret of type \
             kubernetes.io/dockerconfigjson that has an entry for it"
    )]
    Unauthorized {
        /// Which registry.
        registry: String,
        /// Which repository.
        repository: String,
    },
    /// There is no such thing.
    #[error("{0} does not exist")]
    Missing(String),
    /// What was sent is not what was asked for.
    #[error("{wanted} was asked for, and {found} was sent: the registry or somebody before it has changed the bytes")]
    Digest {
        /// The digest that was asked for.
        wanted: String,
        /// The digest of what was sent.
        found: String,
    },
    /// It is too large.
    #[error("{what} has more than {limit} bytes")]
    TooLarge {
        /// What is.
        what: String,
        /// How large it may be.
        limit: usize,
    },
    /// It is no policy.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Anything else that the registry says.
    #[error("{registry}: {why}")]
    Refused {
        /// Which registry.
        registry: String,
        /// What it says.
        why: String,
    },
}

impl RegistryError {
    /// Whether the same request may succeed later without anybody changing anything about it.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Timeout { .. })
    }

    /// Whether the registry answered in plain HTTP where TLS was expected.
    #[must_use]
    pub fn lacks_tls(&self) -> bool {
        matches!(self, Self::Unavailable { why, .. } if why.contains("corrupt message"))
    }
}

/// Why something was not pushed.
pub type PushError = RegistryError;

/// Why something was not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The signature is there, but by nobody who is trusted.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

/// What was pulled.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The artifact.
    pub artifact: Artifact,
    /// The component's bytes.
    pub component: Vec<u8>,
}

/// What was pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Digest of the manifest, for `spec.source.oci.digest`.
    pub digest: String,
    /// Digest of the component, as `status.active.digest` will show it.
    pub component: String,
}

/// A registry as one user sees it.
pub struct Registry {
    /// What is read goes this way.
    wire: Wire,
    /// What is written goes this way.
    client: Client,
    auth: RegistryAuth,
    options: Options,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Registry {
    /// A client that introduces itself by `credentials`.
    ///
    /// # Errors
    /// When the machine has no certificates to trust.
    pub fn new(options: Options, credentials: &Credentials) -> Result<Self, RegistryError> {
        // The HTTP client takes the process's provider; whoever comes first decides, and all here decide the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = ClientConfig {
            protocol: ClientProtocol::HttpsExcept(options.plain_http.clone()),
            connect_timeout: Some(STALLED),
            read_timeout: Some(STALLED),
            use_monolithic_push: true,
            platform_resolver: None,
            user_agent: USER_AGENT,
            ..ClientConfig::default()
        };
        let client = Client::try_from(config).map_err(|error| RegistryError::Client(chain(&error)))?;
        let auth = match credentials {
            Credentials::Anonymous => RegistryAuth::Anonymous,
            Credentials::Basic { username, password } => RegistryAuth::Basic(username.clone(), password.clone()),
        };
        Ok(Self { wire: Wire::new(&options, credentials)?, client, auth, options })
    }

    /// The digest that a tag stands for now; the reference's own digest when it has one.
    ///
    /// # Errors
    /// When the registry doesn't say.
    pub async fn resolve(&self, reference: &Reference) -> Result<String, RegistryError> {
        match reference.digest() {
            Some(digest) => Ok(digest.to_owned()),
            None => read::manifest(self, reference).await.map(|(digest, _)| digest),
        }
    }

    /// Pulls a policy, by tag or by digest.
    ///
    /// # Errors
    /// As for [`read::artifact`] and [`read::component`].
    pub async fn pull(&self, reference: &Reference) -> Result<Pulled, RegistryError> {
        let artifact = read::artifact(self, reference).await?;
        let component = read::component(self, reference, &artifact, self.options.max_component_bytes).await?;
        Ok(Pulled { artifact, component })
    }

    /// Pushes a component as a policy, under the reference's tag, or by its digest when the reference has none.
    ///
    /// # Errors
    /// When the registry doesn't take it.
    pub async fn push(
        &self,
        reference: &Reference,
        component: &[u8],
        annotations: &BTreeMap<String, String>,
    ) -> Result<Pushed, PushError> {
        let (manifest, config) = layout::write(component, annotations);
        let pushed = Pushed { digest: crate::digest(&manifest), component: crate::digest(component) };
        let by = if reference.tag().is_some() { reference.clone() } else { reference.clone_with_digest(pushed.digest.clone()) };
        self.put(reference, config).await?;
        self.put(reference, component.to_vec()).await?;
        self.put_manifest(&by, manifest).await?;
        Ok(pushed)
    }

    /// Signs what a reference stands for, beside the signatures that are there. Returns the digest that was signed.
    ///
    /// # Errors
    /// When it is no policy, or the registry doesn't take the signature.
    pub async fn sign(&self, reference: &Reference, key: &PrivateKey) -> Result<String, SignError> {
        let digest = read::artifact(self, reference).await?.digest;
        let name = format!("{}/{}", reference.registry(), reference.repository());
        let payload = payload::write(&name, &digest);
        let mut layer = layout::descriptor(payload::MEDIA_TYPE, &payload);
        let signature = STANDARD.encode(key.sign(&payload)?);
        layer.annotations.insert(payload::SIGNATURE.to_owned(), signature);
        let mut layers = read::signature_manifest(self, reference, &digest).await?.map(|known| known.layers).unwrap_or_default();
        if layers.contains(&layer) {
            return Ok(digest);
        }
        layers.push(layer);
        self.put(reference, payload).await?;
        let differences: Vec<&str> = layers.iter().map(|layer| layer.digest.as_str()).collect();
        let config = json!({
            "architecture": "", "os": "", "config": {}, "rootfs": { "type": "layers", "diff_ids": differences },
        });
        let config = config.to_string().into_bytes();
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(layout::MANIFEST.to_owned()),
            config: layout::descriptor(payload::CONFIG, &config),
            layers,
            annotations: BTreeMap::new(),
        };
        self.put(reference, config).await?;
        self.put_manifest(&read::signature_tag(reference, &digest), json!(manifest).to_string().into_bytes()).await?;
        Ok(digest)
    }

    /// Checks that somebody whom `policy` trusts signed what a reference stands for. Returns the digest and the signer.
    ///
    /// # Errors
    /// When nobody did, or the registry can't be read.
    pub async fn verify(&self, reference: &Reference, policy: &VerificationPolicy) -> Result<(String, Signer), SignError> {
        let digest = read::artifact(self, reference).await?.digest;
        let signatures = read::signatures(self, reference, &digest).await?;
        let signer = verify(&digest, &signatures, policy)?;
        Ok((digest, signer))
    }

    async fn put(&self, reference: &Reference, bytes: Vec<u8>) -> Result<(), RegistryError> {
        let digest = crate::digest(&bytes);
        self.attempt(reference, || async {
            self.client.store_auth_if_needed(reference.resolve_registry(), &self.auth).await;
            let pushed = self.client.push_blob(reference, bytes.clone(), &digest).await;
            pushed.map(drop).map_err(|error| translate(reference, &error))
        })
        .await
    }

    async fn put_manifest(&self, reference: &Reference, manifest: Vec<u8>) -> Result<(), RegistryError> {
        self.attempt(reference, || async {
            self.client.store_auth_if_needed(reference.resolve_registry(), &self.auth).await;
            let type_ = HeaderValue::from_static(layout::MANIFEST);
            let pushed = self.client.push_manifest_raw(reference, manifest.clone(), type_).await;
            pushed.map(drop).map_err(|error| translate(reference, &error))
        })
        .await
    }

    async fn get(&self, asked: &Asked<'_>) -> Result<Vec<u8>, RegistryError> {
        self.attempt(asked.reference, || self.wire.get(asked)).await
    }

    /// Makes a request, again when that may help.
    async fn attempt<T, F>(&self, reference: &Reference, request: impl Fn() -> F) -> Result<T, RegistryError>
    where
        F: Future<Output = Result<T, RegistryError>>,
    {
        let limit = self.options.timeout;
        let late = |_| Err(RegistryError::Timeout { registry: reference.registry().to_owned(), limit });
        let once = || async { tokio::time::timeout(limit, request()).await.unwrap_or_else(late) };
        let pauses = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(200))
            .with_max_times(self.options.attempts.saturating_sub(1))
            .with_jitter();
        once.retry(pauses).when(RegistryError::is_transient).await
    }
}

impl Read for Registry {
    async fn manifest(&self, reference: &Reference) -> Result<Vec<u8>, RegistryError> {
        let name = reference.digest().or(reference.tag()).unwrap_or_default();
        let accept = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json";
        let what = format!("the manifest {reference}");
        self.get(&Asked { reference, path: format!("manifests/{name}"), accept, limit: MAX_MANIFEST_BYTES, what: &what }).await
    }

    async fn referrers(&self, subject: &Reference) -> Result<Vec<Referrer>, RegistryError> {
        let (digest, accept) = (subject.digest().unwrap_or_default(), "application/vnd.oci.image.index.v1+json");
        let what = format!("the list of what refers to {subject}");
        let asked = |path: String| Asked { reference: subject, path, accept, limit: MAX_MANIFEST_BYTES, what: what.as_str() };
        let mut listed = self.get(&asked(format!("referrers/{digest}"))).await;
        if matches!(listed, Err(RegistryError::Missing(_))) {
            // A registry that knows of no such lists has one under a tag, if those who push made one.
            listed = self.get(&asked(format!("manifests/{}", digest.replace(':', "-")))).await;
        }
        let list = match listed {
            Ok(list) => serde_json::from_slice::<Referrers>(&list).map_err(|error| error.to_string()),
            Err(error) if error.is_transient() || matches!(error, RegistryError::TooLarge { .. }) => return Err(error),
            Err(error) => Err(error.to_string()),
        };
        // Registries that know of no referrers say so in many ways, and a signature may still lie under its tag.
        Ok(list
            .inspect_err(|error| tracing::debug!(reference = %subject, error, "no referrers are listed"))
            .unwrap_or_default()
            .manifests)
    }

    async fn blob(&self, reference: &Reference, of: &Descriptor, limit: usize, what: &str) -> Result<Vec<u8>, RegistryError> {
        self.get(&Asked { reference, path: format!("blobs/{}", of.digest), accept: "*/*", limit, what }).await
    }
}

/// A list of artifacts, as far as it matters here.
#[derive(Default, Deserialize)]
struct Referrers {
    #[serde(default)]
    manifests: Vec<Referrer>,
}

/// What went wrong with a push, in our words.
fn translate(reference: &Reference, error: &OciDistributionError) -> RegistryError {
    let registry = reference.registry().to_owned();
    match error {
        OciDistributionError::UnauthorizedError { .. } | OciDistributionError::AuthenticationFailure(_) => {
            wire::unauthorized(reference)
        }
        OciDistributionError::ImageManifestNotFoundError(_) => RegistryError::Missing(reference.whole()),
        OciDistributionError::RegistryError { envelope, .. } => {
            let refused = || RegistryError::Refused { registry, why: envelope.to_string() };
            wire::told(reference, envelope).unwrap_or_else(refused)
        }
        OciDistributionError::ServerError { code, message, .. } => wire::refusal(reference, *code, message.as_bytes()),
        OciDistributionError::RequestError(_) | OciDistributionError::IoError(_) => {
            RegistryError::Unavailable { registry, why: chain(error) }
        }
        other => RegistryError::Refused { registry, why: other.to_string() },
    }
}

/// An error with its causes: the outermost alone says only that "a request failed".
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut said: Vec<String> = Vec::new();
    for cause in causes.map(ToString::to_string) {
        // A transparent wrapper says the same as what it wraps.
        if said.last() != Some(&cause) {
            said.push(cause);
        }
    }
    said.join(": ")
}
