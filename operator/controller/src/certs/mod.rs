//! The operator's own certificates: made, shared, published and renewed without anybody's help.
//!
//! ```text
//!  Secret ──► plan(contents, names, now) ──► Keep | RenewServing | RotateCa ──► Secret     store, plan, issue
//!     │ bundle of authorities                                                               configurations
//!     ├──────────────► caBundle of every webhook in the named configurations
//!     └ certificate ─► TLS of the webhook server, swapped under open connections             tls
//! ```
//!
//! Every replica does all of this, whether it reconciles or not; the Secret's resource version keeps them from undoing
//! each other's work. Everything is looked at again each minute, and at once when the Secret or a configuration changes,
//! so a blanked `caBundle` or a deleted Secret is repaired within a moment.

mod configurations;
mod issue;
mod plan;
mod store;
mod tls;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::{Duration, SystemTime};

use axum_server::tls_rustls::RustlsConfig;
use backon::{ExponentialBuilder, Retryable};
use futures::stream::{BoxStream, SelectAll};
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use thiserror::Error;

use crate::webhook::{Part, Readiness};
pub(crate) use plan::Contents;
pub(crate) use plan::KeyError;

#[cfg(test)]
pub(crate) use {issue::carry_out, plan::plan, tls::client_config, tls::greet, tls::server_config};

/// How often everything is looked at when nothing seems to happen.
const CHECK_EVERY: Duration = Duration::from_secs(60);

/// How soon after a failure everything is looked at again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Where the certificates are kept and who must trust them.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Namespace of the operator: of its Secret and its Service.
    pub(crate) namespace: String,
    /// Name of the Secret.
    pub(crate) secret: String,
    /// Name of the Service by which the API server calls us.
    pub(crate) service: String,
    /// The URL by which the API server calls us instead, when the operator runs outside the cluster.
    pub(crate) url: Option<String>,
    /// Names of the MutatingWebhookConfigurations to publish the authorities in.
    pub(crate) mutating: Vec<String>,
    /// Names of the ValidatingWebhookConfigurations to publish the authorities in.
    pub(crate) validating: Vec<String>,
}

impl Settings {
    /// Every name that the serving certificate must be good for; the first is the one that the API server asks for.
    ///
    /// # Errors
    /// When the URL has no host or isn't one.
    pub(crate) fn names(&self) -> Result<Vec<String>, CertsError> {
        let Self { service, namespace, url, .. } = self;
        let mut names = vec![format!("{service}.{namespace}.svc"), service.clone()];
        if let Some(url) = url {
            let host = url.parse::<axum::http::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
            let host = host.ok_or_else(|| CertsError::Url { url: url.clone() })?;
            // An IPv6 address stands in brackets in a URL, and without them in a certificate.
            names.insert(0, host.trim_start_matches('[').trim_end_matches(']').to_owned());
        }
        Ok(names)
    }
}

/// Why the certificates can't be made, kept or published.
#[derive(Debug, Error)]
pub(crate) enum CertsError {
    /// The webhook URL can't be read.
    #[error("webhook URL {url:?} has no host; give one like https://10.0.0.7:9443")]
    Url {
        /// As it was given.
        url: String,
    },
    /// The API server refused, or couldn't be asked.
    #[error("{doing} {name}: {source}")]
    Api {
        /// What was attempted.
        doing: &'static str,
        /// Name of the object.
        name: String,
        /// The API server's answer.
        source: Box<kube::Error>,
    },
    /// A certificate can't be made.
    #[error("making a certificate: {0}")]
    Issue(#[from] rcgen::Error),
    /// The Secret's certificate can't be served.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Our own server can't be reached as the API server would reach it.
    #[error(transparent)]
    Unreachable(#[from] tls::Unreachable),
    /// Other replicas kept writing the Secret.
    #[error("Secret {secret} keeps changing while it is written; does somebody else manage it?")]
    Contended {
        /// Name of the Secret.
        secret: String,
    },
    /// The configuration that should send requests to us isn't there.
    #[error("{kind} {name} does not exist: install the chart, or name the right one")]
    NoConfiguration {
        /// Kind of the configuration.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// A patch is no patch.
    #[error("composing the patch of a webhook configuration: {0}")]
    Patch(#[source] serde_json::Error),
}

impl CertsError {
    fn api(doing: &'static str, name: &str) -> impl FnOnce(kube::Error) -> Self {
        let name = name.to_owned();
        move |source| Self::Api { doing, name, source: Box::new(source) }
    }
}

/// The certificates in use, and the TLS configuration that serves them.
pub(crate) struct Certificates {
    client: Client,
    settings: Settings,
    names: Vec<String>,
    contents: Contents,
    tls: RustlsConfig,
    readiness: Readiness,
}

impl Certificates {
    /// Reads or makes the certificates. Tries until the API server lets it, and says in the log what it waits for.
    ///
    /// # Errors
    /// When the settings are wrong; everything else is tried again.
    pub(crate) async fn obtain(client: Client, settings: Settings, readiness: Readiness) -> Result<Self, CertsError> {
        let names = settings.names()?;
        let secrets: Api<Secret> = Api::namespaced(client.clone(), &settings.namespace);
        let attempt = || async {
            let contents = store::converge(&secrets, &settings.secret, &names, &Contents::default(), SystemTime::now()).await?;
            let tls = tls::server_config(&contents)?;
            Ok::<_, CertsError>((contents, tls))
        };
        let patience = ExponentialBuilder::default().with_max_delay(Duration::from_secs(30)).without_max_times();
        let (contents, tls) = attempt
            .retry(patience)
            .notify(|error, pause| tracing::warn!(%error, ?pause, "no certificates yet, trying again"))
            .await?;
        Ok(Self { client, settings, names, contents, tls: RustlsConfig::from_config(tls), readiness })
    }

    /// For the webhook server. Later certificates appear in it by themselves.
    #[must_use]
    pub(crate) fn tls(&self) -> RustlsConfig {
        self.tls.clone()
    }

    /// Keeps the certificates good and published until `shutdown`, and tells [`Readiness`] whether the server that
    /// listens at `listening` can be reached by who trusts what is published.
    pub(crate) async fn run(mut self, listening: SocketAddr, shutdown: impl Future<Output = ()> + Send) {
        let mut shutdown = pin!(shutdown.fuse());
        let mut changes = self.changes();
        loop {
            let pause = if self.check(listening).await { CHECK_EVERY } else { RETRY_AFTER };
            tokio::select! {
                () = &mut shutdown => return,
                Some(()) = changes.next() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One look at everything. Each part goes on when another fails: an unpublished bundle is no reason to serve an
    /// outdated certificate. The bundle is published before the certificate is served that may need it.
    async fn check(&mut self, listening: SocketAddr) -> bool {
        let now = SystemTime::now();
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.settings.namespace);
        let renewed = store::converge(&secrets, &self.settings.secret, &self.names, &self.contents, now).await;
        let published = self.publish(&renewed.as_ref().unwrap_or(&self.contents).bundle).await;
        let loaded = renewed.and_then(|contents| self.load(contents));
        // The API server asks for the first name, and that is the one to be sure of.
        let name = self.names.first().map_or("", String::as_str);
        let greeted = tls::greet(listening, name, &self.contents.bundle, now).await;
        let parts =
            [(Part::Certificates, loaded), (Part::Configurations, published), (Part::Serving, greeted.map_err(CertsError::from))];
        let good = parts.iter().all(|(_, state)| state.is_ok());
        for (part, state) in parts {
            self.report(part, state);
        }
        good
    }

    /// An API server that can't be asked just now makes nothing worse that was good: nobody but it calls us, and when it
    /// comes back, we had better be ready.
    fn report(&self, part: Part, state: Result<(), CertsError>) {
        let reason = state.as_ref().err().map(ToString::to_string);
        let news = match state {
            Err(error @ CertsError::Api { .. }) => self.readiness.doubt(part, error.to_string()),
            state => self.readiness.set(part, state.map_err(|error| error.to_string())),
        };
        if let Some(reason) = reason.filter(|_| news) {
            tracing::warn!(?part, reason, "admission is not safe yet, trying again");
        }
    }

    async fn publish(&self, bundle: &str) -> Result<(), CertsError> {
        for name in &self.settings.mutating {
            configurations::publish::<MutatingWebhookConfiguration>(&self.client, name, bundle).await?;
        }
        for name in &self.settings.validating {
            configurations::publish::<ValidatingWebhookConfiguration>(&self.client, name, bundle).await?;
        }
        Ok(())
    }

    /// Serves what the Secret holds, from the next handshake on. Open connections go on with what they agreed on.
    fn load(&mut self, contents: Contents) -> Result<(), CertsError> {
        if (&contents.cert, &contents.key) != (&self.contents.cert, &self.contents.key) {
            self.tls.reload_from_config(tls::server_config(&contents)?);
            tracing::info!("serving a new certificate");
        }
        self.contents = contents;
        Ok(())
    }

    /// One item whenever the Secret or a configuration changes.
    fn changes(&self) -> SelectAll<BoxStream<'static, ()>> {
        fn of<K>(api: Api<K>, name: &str) -> BoxStream<'static, ()>
        where
            K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
        {
            let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
            let changes = watcher(api, config).default_backoff();
            // An interrupted watch is resumed by itself, and the regular look does not depend on it. Only `Init` says
            // nothing about the object; `InitDone` may mean that it isn't there any more.
            let tells = |event: &watcher::Event<K>| !matches!(event, watcher::Event::Init);
            changes.filter_map(move |event| async move { event.ok().filter(tells).map(drop) }).boxed()
        }
        let Settings { namespace, secret, mutating, validating, .. } = &self.settings;
        let mut changes = SelectAll::new();
        changes.push(of::<Secret>(Api::namespaced(self.client.clone(), namespace), secret));
        for name in mutating {
            changes.push(of::<MutatingWebhookConfiguration>(Api::all(self.client.clone()), name));
        }
        for name in validating {
            changes.push(of::<ValidatingWebhookConfiguration>(Api::all(self.client.clone()), name));
        }
        changes
    }
}
