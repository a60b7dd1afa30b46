//! How the operator is started: flags say where it is wired in, the configuration file says how it behaves.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use muster_api::names::Unplaceable;
use muster_core::admission::Defaults;
use muster_core::admission::guard::{Mode, Rules};
use muster_core::cluster::Scope;
use muster_core::gang::Provider;
use serde::Deserialize;

/// The Muster operator: reconciles and admits LeaderWorkerSets.
#[derive(Debug, Clone, Parser)]
#[command(name = "muster-operator", version)]
pub(crate) struct Args {
    /// Configuration file (YAML); built-in defaults without one.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Namespace of the operator's lease and certificate secret.
    #[arg(long, env = "POD_NAMESPACE", default_value = "muster-system")]
    pub(crate) namespace: String,
    /// Name of this replica, as it appears on the lease.
    #[arg(long, env = "POD_NAME", default_value = "muster-operator")]
    pub(crate) pod_name: String,
    /// Address that the admission webhooks listen on (HTTPS).
    #[arg(long, default_value = "0.0.0.0:9443", value_name = "ADDR")]
    pub(crate) webhook_bind: SocketAddr,
    /// Service that the API server reaches the webhooks by.
    #[arg(long, default_value = "muster-webhook", value_name = "NAME")]
    pub(crate) webhook_service: String,
    /// Base URL that the API server reaches the webhooks by, when it isn't the service (an operator outside the cluster).
    #[arg(long, value_name = "URL")]
    pub(crate) webhook_url: Option<String>,
    /// MutatingWebhookConfiguration whose CA bundle the operator keeps up to date.
    #[arg(long, default_value = "muster", value_name = "NAME")]
    pub(crate) mutating_webhook: String,
    /// ValidatingWebhookConfiguration likewise.
    #[arg(long, default_value = "muster", value_name = "NAME")]
    pub(crate) validating_webhook: String,
    /// Secret that holds the operator's CA and serving certificate.
    #[arg(long, default_value = "muster-webhook-cert", value_name = "NAME")]
    pub(crate) cert_secret: String,
    /// Address of /healthz, /readyz and /metrics (HTTP).
    #[arg(long, default_value = "0.0.0.0:8080", value_name = "ADDR")]
    pub(crate) health_bind: SocketAddr,
    /// Lease that decides which replica reconciles.
    #[arg(long, default_value = "muster", value_name = "NAME")]
    pub(crate) lease: String,
    /// Folder that compiled policies and copies of those from registries are kept in, of this replica alone. Without one, policies are
    /// compiled at every start, and load only while their registries can be reached.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) policy_cache_dir: Option<PathBuf>,
    /// Log format.
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) log_format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LogFormat {
    /// For machines: one JSON object a line.
    Json,
    /// For people.
    Text,
}

/// The configuration file. Every key has a default; an unknown key is an error that names it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct Config {
    /// What a set gets that chooses no policy.
    defaults: PolicyDefaults,
    /// How groups are placed.
    pub(crate) placement: Placement,
    /// Bounds on components.
    pub(crate) policy_host: PolicyHost,
    /// Whether groups are bound as a whole, and by whom.
    gang_scheduling: GangScheduling,
    /// How many sets are reconciled at once.
    pub(crate) concurrency: u16,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            defaults: PolicyDefaults::default(),
            placement: Placement::default(),
            policy_host: PolicyHost::default(),
            gang_scheduling: GangScheduling::default(),
            concurrency: 8,
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct PolicyDefaults {
    placement_policy: String,
    startup_policy: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct GangScheduling {
    provider: Option<Provider>,
}

/// How groups are placed.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct Placement {
    scope: ScopeName,
    guard: GuardName,
    unplaceable: UnplaceableName,
    unplaceable_grace_seconds: u64,
    stuck_grace_seconds: u64,
}

impl Default for Placement {
    fn default() -> Self {
        Self {
            scope: ScopeName::Namespace,
            guard: GuardName::None,
            unplaceable: UnplaceableName::Scheduler,
            unplaceable_grace_seconds: 10,
            stuck_grace_seconds: 60,
        }
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
enum ScopeName {
    Namespace,
    Cluster,
}

#[derive(Debug, Clone, Copy, Deserialize)]
enum GuardName {
    None,
    Affinity,
}

#[derive(Debug, Clone, Copy, Deserialize)]
enum UnplaceableName {
    Scheduler,
    Hold,
}

impl Placement {
    /// Whose groups an exclusive group keeps out of its domain.
    pub(crate) fn scope(&self) -> Scope {
        match self.scope {
            ScopeName::Namespace => Scope::Namespace,
            ScopeName::Cluster => Scope::Cluster,
        }
    }

    /// Which pods carry terms that keep domains.
    pub(crate) fn guard(&self) -> Rules {
        let mode = match self.guard {
            GuardName::None => Mode::None,
            GuardName::Affinity => Mode::Affinity,
        };
        Rules { mode, scope: self.scope() }
    }

    /// What becomes of a group that fits nowhere, for sets that don't say.
    pub(crate) fn unplaceable(&self) -> Unplaceable {
        match self.unplaceable {
            UnplaceableName::Scheduler => Unplaceable::Scheduler,
            UnplaceableName::Hold => Unplaceable::Hold,
        }
    }

    /// How long a group that fits nowhere keeps its gate before its leader is left to the scheduler.
    pub(crate) fn unplaceable_grace(&self) -> Duration {
        Duration::from_secs(self.unplaceable_grace_seconds)
    }

    /// How long a pod may be unschedulable where its group was put before the group is placed again.
    pub(crate) fn stuck_grace(&self) -> Duration {
        Duration::from_secs(self.stuck_grace_seconds)
    }
}

/// Bounds on components.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct PolicyHost {
    /// Largest component that is loaded, in bytes.
    pub(crate) max_component_bytes: usize,
    /// Longest compilation, in seconds.
    pub(crate) compile_timeout_seconds: u64,
    /// Calls into components at the same time; 0 stands for the number of cores.
    pub(crate) max_concurrent_calls: usize,
    /// Whether components from registries are taken whose signer no policy names.
    pub(crate) allow_unsigned: bool,
    /// Registries (`host` or `host:port`) that are spoken to without TLS.
    pub(crate) plain_http_registries: Vec<String>,
}

impl Default for PolicyHost {
    fn default() -> Self {
        Self {
            max_component_bytes: 32 << 20,
            compile_timeout_seconds: 60,
            max_concurrent_calls: 0,
            allow_unsigned: false,
            plain_http_registries: Vec::new(),
        }
    }
}

impl Config {
    /// Reads the file, or takes the defaults when there is none.
    pub(crate) fn read(file: Option<&Path>) -> anyhow::Result<Self> {
        let Some(file) = file else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(file).with_context(|| format!("reading configuration {}", file.display()))?;
        serde_norway::from_str(&text).with_context(|| format!("configuration {}", file.display()))
    }

    /// Whose PodGroups are written; `None` while gang scheduling is off.
    pub(crate) fn gangs(&self) -> Option<Provider> {
        self.gang_scheduling.provider
    }

    /// Policies of sets and namespaces that choose none.
    pub(crate) fn defaults(&self) -> Defaults {
        let named = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        Defaults { placement: named(&self.defaults.placement_policy), startup: named(&self.defaults.startup_policy) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gangs(text: &str) -> Result<Option<Provider>, String> {
        serde_norway::from_str::<Config>(text).map(|config| config.gangs()).map_err(|error| error.to_string())
    }

    #[test]
    fn gang_scheduling_is_off_unless_a_known_scheduler_is_named() {
        assert_eq!(gangs("concurrency: 2"), Ok(None));
        assert_eq!(gangs("gangScheduling: {}"), Ok(None));
        assert_eq!(gangs("gangScheduling: {provider: volcano}"), Ok(Some(Provider::Volcano)));
        assert_eq!(gangs("gangScheduling: {provider: kubernetes}"), Ok(Some(Provider::Kubernetes)));
        let refusal = gangs("gangScheduling: {provider: yunikorn}").unwrap_err();
        assert!(
            refusal.contains("gangScheduling.provider: unknown variant `yunikorn`, expected `volcano` or `kubernetes`"),
            "{refusal}"
        );
    }

    #[test]
    fn domains_are_guarded_by_terms_only_when_that_is_asked_for() {
        let mode = |text: &str| {
            let config = serde_norway::from_str::<Config>(text);
            config.map(|config| config.placement.guard().mode).map_err(|error| error.to_string())
        };
        assert_eq!(mode("placement: {scope: Cluster}"), Ok(Mode::None));
        assert_eq!(mode("placement: {guard: None}"), Ok(Mode::None));
        assert_eq!(mode("placement: {guard: Affinity}"), Ok(Mode::Affinity));
        let refusal = mode("placement: {guard: affinity}").unwrap_err();
        assert!(refusal.contains("placement.guard: unknown variant `affinity`, expected `None` or `Affinity`"), "{refusal}");
    }
}
