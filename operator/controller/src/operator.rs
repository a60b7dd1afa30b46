//! Wiring: what every replica runs, and what only the lease holder does.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use kube::Client;
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder};
use muster_policy_host::{CacheOptions, Engine, EngineOptions, Folder};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::args::{Args, Config, PolicyHost};
use crate::caches::{Caches, SetRef};
use crate::certs::{Certificates, Settings};
use crate::context::Context;
use crate::events::Events;
use crate::lookup::FromCaches;
use crate::metrics::Metrics;
use crate::policies::Policies;
use crate::webhook::{Part, Readiness};
use crate::{policies, sets, webhook};

/// Seconds that a lease is good for, and seconds before its end at which it is renewed (as upstream: 15 and 5).
const LEASE: (u64, u64) = (15, 5);

/// How long reconciling waits for policies after a start: a registry that doesn't answer holds up only the sets that need it.
const FIRST_PASS: Duration = Duration::from_secs(20);

/// Compiled policies that are kept on disk. The chart's volume has room for these, for the copies and for what is being written.
const POLICY_CACHE_BYTES: u64 = 224 << 20;
/// Copies of what registries gave, components and signatures, that are kept on disk beside them.
const POLICY_COPIES_BYTES: u64 = 96 << 20;

/// Sets that wait to be reconciled.
type Due = mpsc::UnboundedReceiver<SetRef>;

/// Runs the operator until it is told to stop, or until it loses its lease.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    // Two libraries bring a TLS provider of their own choice; the first caller decides for the process.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = Arc::new(Config::read(args.config.as_deref())?);
    let client = Client::try_default().await.context("finding the API server: run in a pod, or set KUBECONFIG")?;
    let metrics = Arc::new(Metrics::new());
    let readiness = Readiness::default();

    let health = TcpListener::bind(args.health_bind).await.with_context(|| format!("listening on {}", args.health_bind))?;
    let counted = metrics.clone();
    tokio::spawn(webhook::serve_health(health, readiness.clone(), move || counted.render(), std::future::pending()));

    let mut started = Caches::start(&client, config.gangs());
    let caches = started.caches.clone();
    serve_admission(&args, &config, &client, &caches, &readiness).await?;
    started.synced().await;
    readiness.set(Part::Caches, Ok(()));
    tracing::info!("caches are complete");

    let cx = Context {
        events: Arc::new(Events::new(client.clone(), &args.pod_name)),
        policies: Arc::new(Policies::new(engine(&config.policy_host, args.policy_cache_dir.as_deref())?, copies(&args))),
        client: client.clone(),
        caches,
        config,
        metrics,
        waiting: Arc::default(),
        moves: Arc::default(),
        verified: Arc::default(),
        claim_templates: Arc::default(),
        applied: Arc::default(),
        failures: Arc::default(),
    };
    let (leading, lease) = compete(&args, client).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    let outcome = tokio::select! {
        outcome = lead(&args, leading.clone(), cx, started.due) => outcome,
        _ = terminate.recv() => Ok(()),
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    drop(leading);
    give_up(lease).await;
    outcome
}

/// Certificates and the webhook server: on every replica, whether it leads or not.
async fn serve_admission(
    args: &Args,
    config: &Config,
    client: &Client,
    caches: &Arc<Caches>,
    readiness: &Readiness,
) -> anyhow::Result<()> {
    let settings = Settings {
        namespace: args.namespace.clone(),
        secret: args.cert_secret.clone(),
        service: args.webhook_service.clone(),
        url: args.webhook_url.clone(),
        mutating: vec![args.mutating_webhook.clone()],
        validating: vec![args.validating_webhook.clone()],
    };
    let listener = webhook::bind(args.webhook_bind)?;
    let listening = listener.local_addr()?;
    let certs = Certificates::obtain(client.clone(), settings, readiness.clone()).await?;
    let lookup = Arc::new(FromCaches {
        client: client.clone(),
        caches: caches.clone(),
        defaults: config.defaults(),
        guard: config.placement.guard(),
    });
    tokio::spawn(webhook::serve(listener, certs.tls(), lookup, std::future::pending()));
    tokio::spawn(certs.run(listening, std::future::pending()));
    tracing::info!(%listening, "serving admission");
    Ok(())
}

/// The folder for copies of what registries gave, if there is one. Policies load without it too, while their registries can be reached.
fn copies(args: &Args) -> Option<Folder> {
    let folder = args.policy_cache_dir.as_ref()?.join("copies");
    let opened = Folder::open(CacheOptions { folder: folder.clone(), max_bytes: POLICY_COPIES_BYTES }, "policy");
    let failed = |error: &std::io::Error| tracing::warn!(folder = %folder.display(), %error, "no copies of policies from registries are kept");
    opened.inspect_err(failed).ok()
}

fn engine(limits: &PolicyHost, cache: Option<&Path>) -> anyhow::Result<Engine> {
    let mut options = EngineOptions {
        max_component_bytes: limits.max_component_bytes,
        compile_timeout: Duration::from_secs(limits.compile_timeout_seconds),
        // A folder of our own below the volume's, which others may write to.
        cache: cache.map(|folder| CacheOptions { folder: folder.join("compiled"), max_bytes: POLICY_CACHE_BYTES }),
        ..EngineOptions::default()
    };
    if let Some(calls) = NonZeroUsize::new(limits.max_concurrent_calls) {
        options.max_concurrent_calls = calls;
    }
    Engine::new(options).context("starting the WebAssembly engine")
}

/// The lease as a flag, and the task that keeps it.
type Lease = (watch::Receiver<bool>, JoinHandle<kube_lease_manager::Result<LeaseManager>>);

/// Begins to compete for the lease.
async fn compete(args: &Args, client: Client) -> anyhow::Result<Lease> {
    let lease = LeaseManagerBuilder::new(client, &args.lease)
        .with_namespace(&args.namespace)
        .with_identity(&args.pod_name)
        .with_duration(LEASE.0)
        .with_grace(LEASE.1)
        .build()
        .await
        .context("building the lease")?;
    Ok(lease.watch().await)
}

/// Gives the lease up, so that the next replica need not wait until it runs out.
async fn give_up(keeper: JoinHandle<kube_lease_manager::Result<LeaseManager>>) {
    let released = tokio::time::timeout(Duration::from_secs(3), async {
        let manager = keeper.await.ok()?.ok()?;
        manager.release().await.ok()
    });
    if !matches!(released.await, Ok(Some(()))) {
        tracing::debug!("the lease runs out by itself");
    }
}

/// Waits for the lease, then reconciles for as long as it is ours. A replica that loses it ends: what it remembers is worthless
/// from then on, and the next one starts from what the cluster says.
async fn lead(args: &Args, mut leading: watch::Receiver<bool>, cx: Context, due: Due) -> anyhow::Result<()> {
    leading.wait_for(|leads| *leads).await.context("waiting for the lease")?;
    tracing::info!(lease = args.lease, "leading");
    cx.caches.deciding_since.get_or_init(|| cx.now());

    let (loaded, mut first_pass) = watch::channel(false);
    tokio::spawn(policies::run(cx.clone(), loaded));
    match tokio::time::timeout(FIRST_PASS, first_pass.wait_for(|loaded| *loaded)).await {
        Ok(loaded) => drop(loaded.context("loading policies")?),
        Err(_) => tracing::warn!("some policies are still being loaded; sets that use them wait for them"),
    }
    tokio::select! {
        () = sets::run(cx, due) => Ok(()),
        lost = leading.wait_for(|leads| !*leads) => {
            lost.context("watching the lease")?;
            anyhow::bail!("another replica took the lease; starting over")
        }
    }
}
