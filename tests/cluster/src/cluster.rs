//! The cluster that all tests of one program share.

use std::env;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result, bail};
use kube::Client;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::sync::OnceCell;

use crate::chart::install_chart;
use crate::control_plane::{ControlPlane, remove};
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
        let started = SHARED.get_or_init(|| async { Self::start().await.map_err(|error| format!("{error:#}")) }).await;
        match started {
            Ok(cluster) => cluster,
            Err(error) => panic!("the cluster for the tests can't be started: {error}"),
        }
    }

    async fn start() -> Result<Self> {
        let keep = env::var_os(KEEP).is_some();
        let name = if keep { "test".to_owned() } else { format!("test-{}", std::process::id()) };
        let layout = Layout::find(&name)?;
        let reaper = if keep {
            None
        } else {
            // A folder of the same name is from an earlier program that had our pid.
            remove(&layout.state)?;
            Some(Mutex::new(reaper(&layout.state)?))
        };
        let plane = ControlPlane::start(&layout, None).await?;
        Fleet::new().cpu_nodes("cpu", "zone-a", 2).create(&plane.client().await?).await?;
        // The graces are what tests wait for; what is measured in minutes elsewhere is seconds here.
        let values = json!({
            "log": { "level": "info,muster=debug" },
            "placement": { "unplaceableGraceSeconds": 2, "stuckGraceSeconds": 3 },
        });
        install_chart(&plane, &values).await?;
        let operator = Operator::start(&plane).await?;
        Ok(Self { plane, operator, _reaper: reaper })
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
