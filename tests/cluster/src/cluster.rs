//! The cluster that all tests of one program share.

use std::env;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result, bail};
use kube::Client;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::sync::OnceCell;

use crate::chart::{install_chart, merge};
use crate::control_plane::{ControlPlane, Controllers, remove};
use crate::fleet::Fleet;
use crate::layout::Layout;
use crate::namespace::Namespace;
use crate::operator::Operator;

/// Keeps the cluster after the tests and uses it again the next time, which saves ten seconds a run. `cargo xtask down` removes it.
const KEEP: &str = "MUSTER_TEST_KEEP";

/// Waits until its standard input ends, which is when the test program is gone in whatever way, then ends the processes whose
/// records are in `$1/run` and deletes `$1`. A shell, because a static is never dropped and a killed program cleans up nothing.
const REAPER: &str = r#"
cat >/dev/null
for record in "$1"/run/*.json; do
  pid=$(sed -n 's/.*"pid":\([0-9]*\).*/\1/p' "$record")
  started=$(sed -n 's/.*"started":"\([^"]*\)".*/\1/p' "$record")
  if [ -r "/proc/$pid/stat" ]; then
    now=$(sed 's/.*) //' "/proc/$pid/stat" | cut -d' ' -f20)
  else
    now=$(ps -o lstart= -p "$pid")
  fi
  [ "$now" = "$started" ] && kill -KILL "$pid"
done
sleep 0.2
rm -rf "$1"
"#;

static SHARED: OnceCell<Result<Cluster, String>> = OnceCell::const_new();

/// What the cluster of a test program is like.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Helm values, over those that tests always need.
    pub values: Value,
    /// Who acts besides the operator.
    pub controllers: Controllers,
}

impl Default for Setup {
    fn default() -> Self {
        Self { values: json!({}), controllers: Controllers::All }
    }
}

/// A control plane with the operator installed and running, and no nodes but those that tests add.
#[derive(Debug)]
pub struct Cluster {
    plane: ControlPlane,
    operator: Operator,
    // Its standard input stays open for as long as this program lives.
    _reaper: Option<Mutex<Child>>,
}

impl Cluster {
    /// The cluster of this test program: the first call starts it, and all other calls wait for that.
    ///
    /// # Panics
    /// When it can't be started, with the reason: no test can do anything without it.
    pub async fn shared() -> &'static Self {
        Self::shared_as(Setup::default).await
    }

    /// The cluster of this test program where it is not the usual one. All its tests must ask for the same.
    ///
    /// # Panics
    /// As for [`Cluster::shared`].
    pub async fn shared_as(setup: impl FnOnce() -> Setup) -> &'static Self {
        let start = || async move { Self::start(&setup()).await.map_err(|error| format!("{error:#}")) };
        let started = SHARED.get_or_init(start).await;
        match started {
            Ok(cluster) => cluster,
            Err(error) => panic!("the cluster for the tests can't be started: {error}"),
        }
    }

    async fn start(setup: &Setup) -> Result<Self> {
        // A cluster of another kind is not the one to keep.
        let keep = env::var_os(KEEP).is_some() && setup.controllers == Controllers::All && setup.values == json!({});
        let name = if keep { "test".to_owned() } else { format!("test-{}", std::process::id()) };
        let layout = Layout::find(&name)?;
        let reaper = if keep {
            None
        } else {
            // A folder of the same name is from an earlier program that had our pid.
            remove(&layout.state)?;
            Some(Mutex::new(reaper(&layout.state)?))
        };
        let plane = ControlPlane::start_with(&layout, None, setup.controllers).await?;
        if setup.controllers != Controllers::None {
            Fleet::new().cpu_nodes("cpu", "zone-a", 2).create(&plane.client().await?).await?;
        }
        let mut values = Self::values();
        merge(&mut values, &setup.values);
        install_chart(&plane, &values).await?;
        let operator = Operator::start(&plane).await?;
        Ok(Self { plane, operator, _reaper: reaper })
    }

    /// The Helm values that every cluster of tests has. The graces are what tests wait for; what is measured in minutes elsewhere is
    /// seconds here.
    #[must_use]
    pub fn values() -> Value {
        json!({
            "log": { "level": "info,muster=debug" },
            "placement": { "unplaceableGraceSeconds": 2, "stuckGraceSeconds": 3 },
        })
    }

    /// The control plane, to stop and start parts of it.
    #[must_use]
    pub fn plane(&self) -> &ControlPlane {
        &self.plane
    }

    /// The operator, to kill and restart it. Tests that do share it with all others: what they assert must hold for those too.
    #[must_use]
    pub fn operator(&self) -> &Operator {
        &self.operator
    }

    /// A new client with the administrator's rights, for the async runtime of the calling test.
    ///
    /// # Errors
    /// When the kubeconfig can't be read.
    pub async fn client(&self) -> Result<Client> {
        self.plane.client().await
    }

    /// A new namespace, named `prefix` and a random suffix.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn namespace(&'static self, prefix: &str) -> Result<Namespace> {
        Namespace::create(self, prefix).await
    }

    /// Runs kubectl with the administrator's rights and returns what it prints.
    ///
    /// # Errors
    /// When kubectl fails; the message is its own.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.kubectl_with(args, "").await
    }

    /// Like [`Cluster::kubectl`], with text on its standard input.
    ///
    /// # Errors
    /// When kubectl fails; the message is its own.
    pub async fn kubectl_with(&self, args: &[&str], input: &str) -> Result<String> {
        let mut command = tokio::process::Command::new(self.plane.layout().controlplane());
        command.arg("kubectl").args(args).env("KUBECONFIG", self.plane.layout().kubeconfig());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("starting kubectl")?;
        let mut stdin = child.stdin.take().context("kubectl has no standard input")?;
        // kubectl may end without reading; what it says then is the better error.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = child.wait_with_output().await?;
        if !output.status.success() {
            bail!("kubectl {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn reaper(state: &std::path::Path) -> Result<Child> {
    let mut command = Command::new("sh");
    command.args(["-c", REAPER, "muster-reaper"]).arg(state).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // Ctrl-C in the terminal reaches the tests, not what cleans up after them.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn().context("starting the process that cleans up after the tests")
}
