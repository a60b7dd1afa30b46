//! The control plane: etcd, kube-apiserver, kube-controller-manager, kube-scheduler and kwok, as background processes on loopback.
//!
//! Nothing is simulated except the kubelets. Starting is idempotent: what runs and is healthy is kept, what doesn't is started.

use std::fs::{self, File};

use anyhow::{Context, Result, anyhow};
use kube::Client;
use kube::api::{ListParams, Request};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::certs::{self, Identity};
use crate::kubelets;
use crate::layout::Layout;
use crate::ports;
use crate::process::{Process, Program};
use crate::recovery;
use crate::wait::{PATIENCE, eventually};

/// Alpha features that Muster integrates with and that stock clusters have switched off.
const FEATURES: &str = "GenericWorkload=true,GangScheduling=true";
/// Everything runs on one machine; the defaults (20 to 100 requests a second) would be what tests measure.
const QPS: u32 = 2_000;
/// Requests above [`QPS`] that may come at once.
const BURST: u32 = 4_000;

/// The loopback ports of one cluster. They are kept for its lifetime, so that kubeconfigs stay valid across restarts.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Ports {
    /// kube-apiserver, HTTPS.
    pub api: u16,
    /// etcd, for the API server.
    pub etcd: u16,
    /// etcd, for peers it doesn't have.
    pub etcd_peer: u16,
    /// The operator's admission webhook, HTTPS.
    pub webhook: u16,
    /// The operator's health checks and metrics, HTTP.
    pub health: u16,
    /// A registry for policies, HTTP; only `up` starts one.
    pub registry: u16,
}

/// Which parts of a control plane act.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Controllers {
    /// All of them, and simulated kubelets.
    #[default]
    All,
    /// The same, without the alpha features that Muster integrates with: as most clusters are.
    Stock,
    /// None: the API server stores and admits, and whoever wants a pod or a status writes it by hand.
    None,
}

/// A running control plane.
#[derive(Debug)]
pub struct ControlPlane {
    layout: Layout,
    ports: Ports,
    controllers: Controllers,
    // Held while this program works on the state folder: two programs at once would start everything twice.
    _lock: File,
}

impl ControlPlane {
    /// Starts what doesn't run yet and waits until the API server is ready. `api_port` asks for a certain port.
    ///
    /// # Errors
    /// When the wanted port is taken, another program works on the same state, or a component ends; the message has the end of its log.
    pub async fn start(layout: &Layout, api_port: Option<u16>) -> Result<Self> {
        Self::start_with(layout, api_port, Controllers::All).await
    }

    /// Like [`ControlPlane::start`], with these controllers.
    ///
    /// # Errors
    /// As for [`ControlPlane::start`].
    pub async fn start_with(layout: &Layout, api_port: Option<u16>, controllers: Controllers) -> Result<Self> {
        fs::create_dir_all(&layout.state).with_context(|| format!("creating {}", layout.state.display()))?;
        let lock = lock(layout)?;
        let ports = choose_ports(layout, api_port)?;
        let certs = layout.state.join("certs");
        certs::ensure(&certs)?;
        certs::kubeconfig(&layout.kubeconfig(), &certs, ports.api, Identity::Certificate("admin"), "default")?;
        let plane = Self { layout: layout.clone(), ports, controllers, _lock: lock };
        plane.ensure("etcd", plane.etcd())?;
        plane.start_api_server().await?;
        if controllers == Controllers::None {
            return Ok(plane);
        }
        plane.ensure("kube-controller-manager", plane.controller_manager()?)?;
        plane.ensure("kube-scheduler", plane.scheduler()?)?;
        kubelets::bound(&plane.client().await?).await?;
        plane.ensure_kwok()?;
        Ok(plane)
    }

    /// The paths of this cluster.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The ports of this cluster.
    #[must_use]
    pub fn ports(&self) -> Ports {
        self.ports
    }

    /// A new client with the administrator's rights. Each async runtime needs a client of its own.
    ///
    /// # Errors
    /// When the kubeconfig can't be read.
    pub async fn client(&self) -> Result<Client> {
        let kubeconfig = Kubeconfig::read_from(self.layout.kubeconfig())?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(Client::try_from(config)?)
    }

    /// Kills the API server as a power cut would; etcd and everything else keep running.
    pub fn stop_api_server(&self) {
        self.process("kube-apiserver").kill();
    }

    /// Starts the API server unless it runs and waits until it is ready and, where it was away, until those that act see it again.
    ///
    /// # Errors
    /// When it ends or isn't ready in time; the message has the end of its log.
    pub async fn start_api_server(&self) -> Result<()> {
        let began = self.ensure("kube-apiserver", self.api_server())?;
        let process = self.process("kube-apiserver");
        let client = self.client().await?;
        tokio::select! {
            error = process.ended() => Err(error),
            result = eventually(PATIENCE, || ready(&client)) => result,
        }
        .with_context(|| format!("the API server is not ready; its log is {}", process.log().display()))?;
        if began && self.process("kube-scheduler").alive() {
            recovery::complete(&client).await.context("the API server is back, but not everybody follows it again")?;
        }
        Ok(())
    }

    /// The process of one component: `etcd`, `kube-apiserver`, `kube-controller-manager`, `kube-scheduler` or `kwok`.
    #[must_use]
    pub fn process(&self, component: &str) -> Process {
        Process::of(&self.layout.state, component)
    }

    /// Checks that every component runs.
    ///
    /// # Errors
    /// Names the component that ended, with the end of its log.
    pub fn check(&self) -> Result<()> {
        let store: &[&str] = &["etcd", "kube-apiserver"];
        let acting: &[&str] = match self.controllers {
            Controllers::All | Controllers::Stock => &["kube-controller-manager", "kube-scheduler", "kwok"],
            Controllers::None => &[],
        };
        store.iter().chain(acting).try_for_each(|component| self.process(component).check())
    }

    /// Whether it was started now.
    fn ensure(&self, component: &str, flags: Vec<String>) -> Result<bool> {
        let args = std::iter::once(component.to_owned()).chain(flags).collect();
        let program =
            Program { name: component.to_owned(), path: self.layout.controlplane(), args, env: None, inputs: String::new() };
        Process::ensure(&self.layout.state, &program).map(|(_, began)| began)
    }

    fn ensure_kwok(&self) -> Result<()> {
        let mut stages: Vec<_> = fs::read_dir(self.layout.stages())?.flatten().map(|entry| entry.path()).collect();
        stages.sort();
        let kubeconfig = self.component_kubeconfig("kwok")?;
        let mut args = vec![format!("--kubeconfig={kubeconfig}"), "--manage-all-nodes=true".into()];
        // Off by default, and then the heartbeats of the stages are too rare: nodes would be lost every other minute.
        args.push("--node-lease-duration-seconds=40".into());
        args.extend(stages.iter().map(|stage| format!("--config={}", stage.display())));
        let program = Program { name: "kwok".into(), path: self.layout.kwok(), args, env: None, inputs: String::new() };
        Process::ensure(&self.layout.state, &program).map(drop)
    }

    fn etcd(&self) -> Vec<String> {
        let client = format!("http://127.0.0.1:{}", self.ports.etcd);
        let peer = format!("http://127.0.0.1:{}", self.ports.etcd_peer);
        vec![
            format!("--data-dir={}", self.layout.state.join("etcd").display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            // The data is worth nothing after a crash of the machine, and fsync is most of etcd's latency.
            "--unsafe-no-fsync=true".into(),
            "--quota-backend-bytes=8589934592".into(),
            "--log-level=warn".into(),
        ]
    }

    fn api_server(&self) -> Vec<String> {
        let cert = |file: &str| self.layout.state.join("certs").join(file).display().to_string();
        // Nobody makes the ServiceAccount that this plugin wants for every pod.
        let disabled = (self.controllers == Controllers::None).then(|| "--disable-admission-plugins=ServiceAccount".to_owned());
        let flags = vec![
            "--bind-address=127.0.0.1".into(),
            "--advertise-address=127.0.0.1".into(),
            format!("--secure-port={}", self.ports.api),
            // A Service can't have a loopback endpoint, and nothing in this cluster dials `kubernetes.default`.
            "--endpoint-reconciler-type=none".into(),
            format!("--etcd-servers=http://127.0.0.1:{}", self.ports.etcd),
            format!("--client-ca-file={}", cert("ca.crt")),
            format!("--tls-cert-file={}", cert("server.crt")),
            format!("--tls-private-key-file={}", cert("server.key")),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            format!("--service-account-key-file={}", cert("service-accounts.pub")),
            format!("--service-account-signing-key-file={}", cert("service-accounts.key")),
            "--service-cluster-ip-range=10.0.0.0/16".into(),
            "--authorization-mode=RBAC".into(),
            // Off by default, and on in some distributions: whoever names an owner must be allowed to hold up its deletion.
            "--enable-admission-plugins=OwnerReferencesPermissionEnforcement".into(),
            "--allow-privileged=true".into(),
            // One machine's worth of load comes from few users; sharing it out fairly only slows tests down.
            "--enable-priority-and-fairness=false".into(),
            "--max-requests-inflight=4000".into(),
            "--max-mutating-requests-inflight=2000".into(),
        ];
        let alpha =
            (self.controllers != Controllers::Stock).then(|| "--runtime-config=scheduling.k8s.io/v1alpha2=true".to_owned());
        flags.into_iter().chain(disabled).chain(self.features()).chain(alpha).collect()
    }

    fn features(&self) -> Option<String> {
        (self.controllers != Controllers::Stock).then(|| format!("--feature-gates={FEATURES}"))
    }

    fn controller_manager(&self) -> Result<Vec<String>> {
        let certs = self.layout.state.join("certs");
        let flags = vec![
            format!("--kubeconfig={}", self.component_kubeconfig("controller-manager")?),
            format!("--root-ca-file={}", certs.join("ca.crt").display()),
            format!("--service-account-private-key-file={}", certs.join("service-accounts.key").display()),
            "--use-service-account-credentials=true".into(),
            "--leader-elect=false".into(),
            "--secure-port=0".into(),
            format!("--kube-api-qps={QPS}"),
            format!("--kube-api-burst={BURST}"),
            "--concurrent-statefulset-syncs=20".into(),
            // An autoscaler looks every 15 s by default, and a test of one waits for several looks.
            "--horizontal-pod-autoscaler-sync-period=1s".into(),
        ];
        Ok(flags.into_iter().chain(self.features()).collect())
    }

    fn scheduler(&self) -> Result<Vec<String>> {
        let config = self.layout.state.join("scheduler.json");
        let text = json!({
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "leaderElection": { "leaderElect": false },
            "clientConnection": { "kubeconfig": self.component_kubeconfig("scheduler")?, "qps": QPS, "burst": BURST },
        });
        fs::write(&config, serde_json::to_string_pretty(&text)?).with_context(|| format!("writing {}", config.display()))?;
        let flags = [format!("--config={}", config.display()), "--secure-port=0".into()];
        Ok(flags.into_iter().chain(self.features()).collect())
    }

    fn component_kubeconfig(&self, name: &str) -> Result<String> {
        let certs = self.layout.state.join("certs");
        let path = certs.join(format!("{name}.kubeconfig"));
        certs::kubeconfig(&path, &certs, self.ports.api, Identity::Certificate(name), "default")?;
        Ok(path.display().to_string())
    }
}

async fn ready(client: &Client) -> Result<()> {
    // Any GET will do; listing is the one that asks for no name.
    client.request_text(Request::new("/readyz").list(&ListParams::default())?).await?;
    Ok(())
}

fn lock(layout: &Layout) -> Result<File> {
    let path = layout.state.join("lock");
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    file.try_lock().map_err(|_| anyhow!("another program works on {}; wait until it is done", layout.state.display()))?;
    Ok(file)
}

/// The ports recorded at the first start, unless somebody else took one since.
fn choose_ports(layout: &Layout, api_port: Option<u16>) -> Result<Ports> {
    let path = layout.state.join("ports.json");
    let known: Option<Ports> = fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let serving = |name: &str| Process::of(&layout.state, name).alive();
    if let Some(known) = known {
        let usable = |port, name: &str| serving(name) || ports::require(port, "").is_ok();
        let wanted = api_port.is_none_or(|port| port == known.api);
        if wanted && usable(known.api, "kube-apiserver") && usable(known.etcd, "etcd") && usable(known.webhook, "operator") {
            return Ok(known);
        }
    }
    if let Some(port) = api_port {
        ports::require(port, "--api-port")?;
    }
    let free = ports::free(6)?;
    let [api, etcd, etcd_peer, webhook, health, registry] = free[..] else { anyhow::bail!("six ports were asked for") };
    let chosen = Ports { api: api_port.unwrap_or(api), etcd, etcd_peer, webhook, health, registry };
    fs::write(&path, serde_json::to_vec(&chosen)?).with_context(|| format!("writing {}", path.display()))?;
    Ok(chosen)
}

/// Ends every process of the cluster in `state` and deletes the folder.
///
/// # Errors
/// When the folder can't be deleted.
pub fn remove(state: &std::path::Path) -> Result<()> {
    let mut processes = Process::all(state);
    // The operator and the controllers first: they would log a storm of errors about an absent API server.
    processes
        .sort_by_key(|process| ["kube-apiserver", "etcd"].iter().position(|last| process.log().ends_with(format!("{last}.log"))));
    processes.iter().for_each(Process::kill);
    match fs::remove_dir_all(state) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("deleting {}", state.display()))
        }
        _ => Ok(()),
    }
}
