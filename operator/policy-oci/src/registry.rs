//! The only part that speaks to registries: everything it fetches is bounded in time and size and compared with its digest.

use std::collections::BTreeMap;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt as _;
use http::HeaderValue;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use serde_json::json;

use crate::bundle;
use crate::credentials::Credentials;
use crate::keys::{KeyError, PrivateKey};
use crate::layout::{self, Artifact, Descriptor, LayoutError, Manifest};
use crate::payload;
use crate::verify::{Form, Signature, Signer, VerificationPolicy, VerifyError, verify};

/// Largest manifest, as registries limit them too.
const MAX_MANIFEST_BYTES: usize = 4 << 20;
/// Largest payload of a signature.
const MAX_PAYLOAD_BYTES: usize = 64 << 10;
/// Signatures of one artifact that are looked at.
const MAX_SIGNATURES: usize = 32;
/// Media type of a config that says nothing.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// How long a registry may take to accept a connection, and to send the next bytes.
const STALLED: Duration = Duration::from_secs(10);

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
            user_agent: concat!("muster/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let client = Client::try_from(config).map_err(|error| RegistryError::Client(chain(&error)))?;
        let auth = match credentials {
            Credentials::Anonymous => RegistryAuth::Anonymous,
            Credentials::Basic { username, password } => RegistryAuth::Basic(username.clone(), password.clone()),
        };
        Ok(Self { client, auth, options })
    }

    /// The digest that a tag stands for now; the reference's own digest when it has one.
    ///
    /// # Errors
    /// When the registry doesn't say.
    pub async fn resolve(&self, reference: &Reference) -> Result<String, RegistryError> {
        match reference.digest() {
            Some(digest) => Ok(digest.to_owned()),
            None => self.manifest(reference).await.map(|(digest, _)| digest),
        }
    }

    /// Reads what a reference stands for and checks that it has the layout of a policy. Nothing else is downloaded yet.
    ///
    /// # Errors
    /// When it can't be read, has another digest than the reference says, or another layout.
    pub async fn artifact(&self, reference: &Reference) -> Result<Artifact, RegistryError> {
        let (digest, manifest) = self.manifest(reference).await?;
        Ok(layout::read(&digest, &manifest)?)
    }

    /// Every signature that lies beside the manifest `digest`; none when there is none.
    ///
    /// # Errors
    /// When the registry can't be read.
    pub async fn signatures(&self, reference: &Reference, digest: &str) -> Result<Vec<Signature>, RegistryError> {
        let mut signatures = self.bundles(reference, digest).await?;
        let Some(manifest) = self.signature_manifest(reference, digest).await? else { return Ok(signatures) };
        for layer in manifest.layers.iter().filter(|layer| layer.media_type == payload::MEDIA_TYPE).take(MAX_SIGNATURES) {
            let Some(signature) = layer.annotations.get(payload::SIGNATURE) else { continue };
            let said = |annotation: &str| layer.annotations.get(annotation).filter(|text| !text.is_empty()).cloned();
            signatures.push(Signature {
                form: Form::Payload,
                payload: self.blob(reference, layer, MAX_PAYLOAD_BYTES, "the payload of a signature").await?,
                signature: signature.clone(),
                certificate: said(payload::CERTIFICATE),
                chain: said(payload::CHAIN),
                bundle: said(payload::BUNDLE),
            });
        }
        Ok(signatures)
    }

    /// The signatures among the artifacts that refer to the manifest `digest`.
    async fn bundles(&self, reference: &Reference, digest: &str) -> Result<Vec<Signature>, RegistryError> {
        let subject = reference.clone_with_digest(digest.to_owned());
        let referring = self.attempt(reference, || async {
            self.client.store_auth_if_needed(reference.resolve_registry(), &self.auth).await;
            self.client.pull_referrers(&subject, None).await
        });
        let referring = match referring.await {
            Ok(index) => index.manifests,
            // Registries that know of no referrers say so in many ways, and a signature may still lie under its tag.
            Err(error) if !error.is_transient() => {
                tracing::debug!(%reference, %error, "the registry lists no referrers");
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        let is_bundle = |type_: &str| type_.starts_with(bundle::MEDIA_TYPE);
        // Some registries don't say what refers, or name the empty config instead; then the manifest does.
        let may_be_bundle = |type_: &str| type_ == EMPTY || is_bundle(type_);
        let may_be = referring.iter().filter(|entry| entry.artifact_type.as_deref().is_none_or(may_be_bundle));
        let mut bundles = Vec::new();
        for entry in may_be.take(MAX_SIGNATURES) {
            let (_, bytes) = self.manifest(&reference.clone_with_digest(entry.digest.clone())).await?;
            let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) else { continue };
            if let [layer] = manifest.layers.as_slice()
                && is_bundle(&layer.media_type)
            {
                let json = self.blob(reference, layer, MAX_PAYLOAD_BYTES, "the bundle of a signature").await?;
                bundles.push(Signature::from_bundle(&json));
            }
        }
        Ok(bundles)
    }

    /// Downloads the component of an artifact.
    ///
    /// # Errors
    /// When it can't be read, is too large, or has another digest than the manifest says.
    pub async fn component(&self, reference: &Reference, artifact: &Artifact) -> Result<Vec<u8>, RegistryError> {
        self.blob(reference, &artifact.layer, self.options.max_component_bytes, "the component").await
    }

    /// Pulls a policy, by tag or by digest.
    ///
    /// # Errors
    /// As for [`Registry::artifact`] and [`Registry::component`].
    pub async fn pull(&self, reference: &Reference) -> Result<Pulled, RegistryError> {
        let artifact = self.artifact(reference).await?;
        let component = self.component(reference, &artifact).await?;
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
        let digest = self.artifact(reference).await?.digest;
        let name = format!("{}/{}", reference.registry(), reference.repository());
        let payload = payload::write(&name, &digest);
        let mut layer = layout::descriptor(payload::MEDIA_TYPE, &payload);
        let signature = STANDARD.encode(key.sign(&payload)?);
        layer.annotations.insert(payload::SIGNATURE.to_owned(), signature);
        let mut layers = self.signature_manifest(reference, &digest).await?.map(|known| known.layers).unwrap_or_default();
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
        self.put_manifest(&signature_tag(reference, &digest), json!(manifest).to_string().into_bytes()).await?;
        Ok(digest)
    }

    /// Checks that somebody whom `policy` trusts signed what a reference stands for. Returns the digest and the signer.
    ///
    /// # Errors
    /// When nobody did, or the registry can't be read.
    pub async fn verify(&self, reference: &Reference, policy: &VerificationPolicy) -> Result<(String, Signer), SignError> {
        let digest = self.artifact(reference).await?.digest;
        let signatures = self.signatures(reference, &digest).await?;
        let signer = verify(&digest, &signatures, policy)?;
        Ok((digest, signer))
    }

    /// A manifest and its digest, which is compared with the reference's.
    async fn manifest(&self, reference: &Reference) -> Result<(String, Vec<u8>), RegistryError> {
        let accepted = [layout::MANIFEST, "application/vnd.oci.image.index.v1+json"];
        let bytes = self
            .attempt(reference, || async {
                let (bytes, _) = self.client.pull_manifest_raw(reference, &self.auth, &accepted).await?;
                Ok(bytes)
            })
            .await?;
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(RegistryError::TooLarge { what: "the manifest".to_owned(), limit: MAX_MANIFEST_BYTES });
        }
        let found = crate::digest(&bytes);
        match reference.digest() {
            Some(wanted) if wanted != found => Err(RegistryError::Digest { wanted: wanted.to_owned(), found }),
            _ => Ok((found, bytes.to_vec())),
        }
    }

    async fn signature_manifest(&self, reference: &Reference, digest: &str) -> Result<Option<Manifest>, RegistryError> {
        let tag = signature_tag(reference, digest);
        let bytes = match self.manifest(&tag).await {
            Ok((_, bytes)) => bytes,
            Err(RegistryError::Missing(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let manifest = serde_json::from_slice(&bytes);
        let unreadable = |error: serde_json::Error| LayoutError::Unreadable(format!("{tag}: {error}"));
        Ok(Some(manifest.map_err(unreadable)?))
    }

    async fn blob(&self, reference: &Reference, of: &Descriptor, limit: usize, what: &str) -> Result<Vec<u8>, RegistryError> {
        let too_large = || RegistryError::TooLarge { what: what.to_owned(), limit };
        // What the manifest says is believed only when it refuses: the bytes are counted as they come.
        if usize::try_from(of.size).map_or(true, |size| size > limit) {
            return Err(too_large());
        }
        let bytes = self.attempt(reference, || async {
            self.client.store_auth_if_needed(reference.resolve_registry(), &self.auth).await;
            let mut stream = self.client.pull_blob_stream(reference, of.digest.as_str()).await?;
            let mut bytes = Vec::with_capacity(usize::try_from(of.size).unwrap_or_default().min(limit));
            while let Some(chunk) = stream.next().await {
                let chunk = chunk?;
                if bytes.len() + chunk.len() > limit {
                    return Ok(None);
                }
                bytes.extend_from_slice(&chunk);
            }
            Ok(Some(bytes))
        });
        let bytes = bytes.await?.ok_or_else(too_large)?;
        let found = crate::digest(&bytes);
        if found == of.digest { Ok(bytes) } else { Err(RegistryError::Digest { wanted: of.digest.clone(), found }) }
    }

    async fn put(&self, reference: &Reference, bytes: Vec<u8>) -> Result<(), RegistryError> {
        let digest = crate::digest(&bytes);
        self.attempt(reference, || async {
            self.client.store_auth_if_needed(reference.resolve_registry(), &self.auth).await;
            self.client.push_blob(reference, bytes.clone(), &digest).await
        })
        .await?;
        Ok(())
    }

    async fn put_manifest(&self, reference: &Reference, manifest: Vec<u8>) -> Result<(), RegistryError> {
        self.attempt(reference, || async {
            self.client.store_auth_if_needed(reference.resolve_registry(), &self.auth).await;
            let type_ = HeaderValue::from_static(layout::MANIFEST);
            self.client.push_manifest_raw(reference, manifest.clone(), type_).await
        })
        .await?;
        Ok(())
    }

    /// Makes a request, again when that may help, and says in our words what went wrong.
    async fn attempt<T, F>(&self, reference: &Reference, request: impl Fn() -> F) -> Result<T, RegistryError>
    where
        F: Future<Output = Result<T, OciDistributionError>>,
    {
        let limit = self.options.timeout;
        let once = || async {
            match tokio::time::timeout(limit, request()).await {
                Ok(answer) => answer.map_err(|error| translate(reference, &error)),
                Err(_) => Err(RegistryError::Timeout { registry: reference.registry().to_owned(), limit }),
            }
        };
        let pauses = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(200))
            .with_max_times(self.options.attempts.saturating_sub(1))
            .with_jitter();
        once.retry(pauses).when(RegistryError::is_transient).await
    }
}

/// Where cosign puts the signatures of a manifest.
fn signature_tag(reference: &Reference, digest: &str) -> Reference {
    let tag = format!("{}.sig", digest.replace(':', "-"));
    Reference::with_tag(reference.registry().to_owned(), reference.repository().to_owned(), tag)
}

fn translate(reference: &Reference, error: &OciDistributionError) -> RegistryError {
    let registry = reference.registry().to_owned();
    let unauthorized =
        || RegistryError::Unauthorized { registry: registry.clone(), repository: reference.repository().to_owned() };
    let missing = || RegistryError::Missing(reference.whole());
    match error {
        OciDistributionError::UnauthorizedError { .. } | OciDistributionError::AuthenticationFailure(_) => unauthorized(),
        OciDistributionError::ImageManifestNotFoundError(_) => missing(),
        OciDistributionError::RegistryError { envelope, .. } => {
            let has = |codes: &[OciErrorCode]| envelope.errors.iter().any(|error| codes.contains(&error.code));
            if has(&[OciErrorCode::Unauthorized, OciErrorCode::Denied]) {
                unauthorized()
            } else if has(&[
                OciErrorCode::ManifestUnknown,
                OciErrorCode::NameUnknown,
                OciErrorCode::NotFound,
                OciErrorCode::BlobUnknown,
            ]) {
                missing()
            } else if has(&[OciErrorCode::Toomanyrequests]) {
                RegistryError::Unavailable { registry, why: envelope.to_string() }
            } else {
                RegistryError::Refused { registry, why: envelope.to_string() }
            }
        }
        OciDistributionError::ServerError { code: 403, .. } => unauthorized(),
        OciDistributionError::ServerError { code: 404, .. } => missing(),
        OciDistributionError::ServerError { code, message, .. } if *code == 429 || *code >= 500 => {
            RegistryError::Unavailable { registry, why: format!("HTTP {code} {}", message.trim()) }
        }
        OciDistributionError::RequestError(_) | OciDistributionError::IoError(_) => {
            RegistryError::Unavailable { registry, why: chain(error) }
        }
        OciDistributionError::DigestError(oci_client::errors::DigestError::VerificationError { expected, actual }) => {
            RegistryError::Digest { wanted: expected.clone(), found: actual.clone() }
        }
        other => RegistryError::Refused { registry, why: other.to_string() },
    }
}

/// An error with its causes: the outermost alone says only that "a request failed".
fn chain(error: &dyn std::error::Error) -> String {
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
