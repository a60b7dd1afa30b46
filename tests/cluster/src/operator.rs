//! The operator: our binary, started exactly as the Deployment in the cluster says, with its ServiceAccount's rights only.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use kube::api::{ListParams, PostParams, Request};
use kube::{Api, Client, Config};

use crate::certs::{self, Identity};
use crate::chart::{NAMESPACE, RELEASE};
use crate::control_plane::ControlPlane;
use crate::deployment::{self, Launch, Mount, Pod, Source};
use crate::ports;
use crate::process::{Process, Program};
use crate::wait::{PATIENCE, eventually};

/// Name of the pod that the process says it is.
const POD_NAME: &str = "muster-on-this-machine";
/// Longer than any cluster here lives.
const TOKEN_SECONDS: i64 = 365 * 24 * 3600;

/// A running (or killed) operator.
#[derive(Debug)]
pub struct Operator {
    program: Program,
    process: Process,
    state: std::path::PathBuf,
    ready: (String, u16),
    webhook: u16,
}

impl Operator {
    /// Reads the Deployment back from the API server, starts the operator as it says and waits until it is ready. An operator
    /// that already runs that way is kept.
    ///
    /// # Errors
    /// When the Deployment needs what only a kubelet can do, or the operator ends or isn't ready in time (with the end of its log).
    pub async fn start(plane: &ControlPlane) -> Result<Self> {
        let layout = plane.layout();
        let client = plane.client().await?;
        let deployment: Deployment = Api::namespaced(client.clone(), NAMESPACE)
            .get(RELEASE)
            .await
            .with_context(|| format!("reading Deployment {NAMESPACE}/{RELEASE}"))?;
        let home = layout.state.join("operator");
        let launch = deployment::read(&deployment, Pod { name: POD_NAME, namespace: NAMESPACE }, &home.join("volumes"))?;
        let mut inputs = String::new();
        for mount in &launch.mounts {
            inputs.push_str(&materialise(&client, mount).await?);
        }
        let kubeconfig = sign_in(plane, &client, &launch, &home).await?;
        let mut env = launch.env;
        env.push(("KUBECONFIG".to_owned(), kubeconfig));
        let program =
            Program { name: "operator".to_owned(), path: layout.operator.clone(), args: launch.args, env: Some(env), inputs };
        if !program.path.is_file() {
            bail!("{} is missing; `cargo xtask e2e` and `cargo xtask up` build it", program.path.display());
        }
        let (process, _) = Process::ensure(&layout.state, &program)?;
        let operator =
            Self { program, process, state: layout.state.clone(), ready: launch.ready, webhook: plane.ports().webhook };
        operator.ready().await?;
        Ok(operator)
    }

    /// Starts one more replica called `name`, as this one runs but with ports of its own, without waiting for anything. The API server
    /// knows nothing of it: behind an address on loopback there is no Service that could share requests out.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn replica(&self, name: &str) -> Result<Self> {
        let ports = ports::free(2)?;
        let mut program = Program { name: name.to_owned(), ..self.program.clone() };
        for (flag, port) in [("--webhook-bind=", ports[0]), ("--health-bind=", ports[1])] {
            let arg = program.args.iter_mut().find(|arg| arg.starts_with(flag));
            *arg.with_context(|| format!("the Deployment has no argument {flag}"))? = format!("{flag}127.0.0.1:{port}");
        }
        let variable = program.env.iter_mut().flatten().find(|(variable, _)| variable == "POD_NAME");
        name.clone_into(&mut variable.context("the Deployment has no POD_NAME")?.1);
        let (process, _) = Process::ensure(&self.state, &program)?;
        Ok(Self { program, process, state: self.state.clone(), ready: (self.ready.0.clone(), ports[1]), webhook: ports[0] })
    }

    /// The port that it serves admission on.
    #[must_use]
    pub fn webhook(&self) -> u16 {
        self.webhook
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.process.pid()
    }

    /// Kills the operator without warning (SIGKILL).
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Asks the operator to end, as a kubelet does, and waits until it has.
    pub fn stop(&self) {
        self.process.stop(Duration::from_secs(30));
    }

    /// Starts the operator again, with the same arguments, without waiting for anything. Running, it is left alone.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn resume(&self) -> Result<()> {
        Process::ensure(&self.state, &self.program).map(drop)
    }

    /// Kills the operator, starts it again and waits until it is ready.
    ///
    /// # Errors
    /// When it ends or isn't ready in time.
    pub async fn restart(&self) -> Result<()> {
        self.kill();
        self.resume()?;
        self.ready().await
    }

    /// Waits until the readiness probe of its Deployment succeeds.
    ///
    /// # Errors
    /// When it ends or isn't ready in time; the message has the end of its log.
    pub async fn ready(&self) -> Result<()> {
        tokio::select! {
            error = self.process.ended() => Err(error),
            result = eventually(PATIENCE, || async { self.http(&self.ready.0).await.map(drop) }) => result,
        }
        .with_context(|| format!("the operator is not ready; its log is {}", self.log().display()))
    }

    /// Asks its readiness probe once.
    ///
    /// # Errors
    /// When it is not ready, with what the probe says.
    pub async fn probe(&self) -> Result<()> {
        self.http(&self.ready.0).await.map(drop)
    }

    /// The metrics, as Prometheus would read them.
    ///
    /// # Errors
    /// When the operator doesn't answer.
    pub async fn metrics(&self) -> Result<String> {
        self.http("/metrics").await
    }

    /// Whether it runs.
    #[must_use]
    pub fn alive(&self) -> bool {
        self.process.alive()
    }

    /// Its log file.
    #[must_use]
    pub fn log(&self) -> &Path {
        self.process.log()
    }

    /// The body of a successful answer from its plain HTTP port.
    async fn http(&self, path: &str) -> Result<String> {
        // The client of the API server is an HTTP client too; without credentials nothing else is needed.
        let mut config = Config::new(format!("http://127.0.0.1:{}", self.ready.1).parse()?);
        // A refusal is an answer here; asked again and again for a minute, it would be none.
        config.default_retry = false;
        let client = Client::try_from(config)?;
        let request = Request::new(path).list(&ListParams::default())?;
        client.request_text(request).await.with_context(|| format!("asking the operator for {path}"))
    }
}

/// Writes the files of a volume and returns them as text, to notice changes.
async fn materialise(client: &Client, mount: &Mount) -> Result<String> {
    let mut files: Vec<(String, Vec<u8>)> = match &mount.source {
        Source::Empty => Vec::new(),
        Source::ConfigMap(name) => {
            let map: ConfigMap = Api::namespaced(client.clone(), NAMESPACE).get(name).await?;
            map.data.into_iter().flatten().map(|(key, text)| (key, text.into_bytes())).collect()
        }
        Source::Secret { name, optional } => {
            let secret: Option<Secret> = Api::namespaced(client.clone(), NAMESPACE).get_opt(name).await?;
            if secret.is_none() && !optional {
                bail!("Secret {NAMESPACE}/{name} is mounted by the operator and doesn't exist");
            }
            let data = secret.and_then(|secret| secret.data);
            data.into_iter().flatten().map(|(key, bytes)| (key, bytes.0)).collect()
        }
    };
    files.sort();
    if mount.source != Source::Empty && mount.folder.exists() {
        fs::remove_dir_all(&mount.folder)?;
    }
    fs::create_dir_all(&mount.folder).with_context(|| format!("creating {}", mount.folder.display()))?;
    for (name, bytes) in &files {
        fs::write(mount.folder.join(name), bytes)?;
    }
    Ok(format!("{files:?}"))
}

/// Gets a token for the operator's ServiceAccount and writes a kubeconfig that uses it; returns the path.
async fn sign_in(plane: &ControlPlane, client: &Client, launch: &Launch, home: &Path) -> Result<String> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), NAMESPACE);
    let request = TokenRequest {
        spec: Some(TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..TokenRequestSpec::default() }),
        ..TokenRequest::default()
    };
    let answer = accounts
        .create_token_request(&launch.account, &PostParams::default(), &request)
        .await
        .with_context(|| format!("getting a token for ServiceAccount {NAMESPACE}/{}", launch.account))?;
    fs::create_dir_all(home)?;
    let token = home.join("token");
    fs::write(&token, answer.status.and_then(|status| status.token).context("the API server gave no token")?)?;
    let kubeconfig = home.join("kubeconfig");
    certs::kubeconfig(
        &kubeconfig,
        &plane.layout().state.join("certs"),
        plane.ports().api,
        Identity::TokenFile(&token),
        NAMESPACE,
    )?;
    Ok(kubeconfig.display().to_string())
}
