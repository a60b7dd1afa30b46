//! `up`: control plane → nodes → chart → operator → examples, then what to try next.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use muster_cluster::{ControlPlane, Fleet, Layout, Operator, Process, Program, install_chart, merge};
use serde_json::{Value, json};

use crate::progress;

/// Name of the cluster's state folder.
const NAME: &str = "up";

/// Starts a cluster with simulated nodes and the operator, and applies examples.
#[derive(Debug, clap::Args)]
pub(crate) struct Up {
    /// Example to apply, a folder of `examples/`; may be given more than once.
    #[arg(long, default_value = "vllm-gpu")]
    example: Vec<String>,
    /// Simulated nodes: GPU pools, TPU slices and plain nodes.
    #[arg(long, default_value_t = 24)]
    nodes: usize,
    /// Goes on with the next example when one does not become ready in time.
    #[arg(long)]
    keep_going: bool,
    /// Port of the API server on 127.0.0.1; any free one when left out.
    #[arg(long)]
    api_port: Option<u16>,
    /// Seconds to wait for each example.
    #[arg(long, default_value_t = 120)]
    timeout: u64,
    /// More values for the Helm chart, as JSON.
    #[arg(long, value_parser = object, default_value = "{}")]
    values: Value,
}

fn object(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err("not a JSON object".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

impl Up {
    pub(crate) async fn run(self) -> Result<()> {
        let layout = Layout::find(NAME)?;
        let examples = self.examples(&layout)?;
        let started = Instant::now();
        let plane = step("control plane", ControlPlane::start(&layout, self.api_port)).await?;
        let client = plane.client().await?;
        let kubectl = install_tools(&layout)?;

        let fleet = Fleet::of(self.nodes);
        step(&format!("{} simulated nodes", self.nodes), fleet.create(&client)).await?;
        let registry = step("registry", async { registry(&plane) }).await?;
        step("Helm chart", install_chart(&plane, &self.values_with(&registry))).await?;
        let operator = step("operator", Operator::start(&plane)).await?;
        let mut failed = Vec::new();
        for (name, folder) in &examples {
            println!("\nExample {name}: kubectl apply -f {}", folder.display());
            let shown = match apply(&layout, folder) {
                Ok(()) => progress::until_ready(&client, folder, Duration::from_secs(self.timeout)).await,
                Err(error) => Err(error),
            };
            let shown = shown.with_context(|| {
                format!(
                    "example {name}; the operator's log is {}. Everything keeps running; `cargo xtask down` ends it",
                    operator.log().display()
                )
            });
            match shown {
                Ok(()) => {}
                Err(error) if self.keep_going => {
                    eprintln!("\nerror: {error:#}");
                    failed.push(name.as_str());
                }
                Err(error) => return Err(error),
            }
        }
        plane.check()?;
        next(&layout, &kubectl, &registry, started.elapsed(), &failed);
        Ok(())
    }

    /// What this cluster needs of the chart, below what was asked for: its registry speaks no TLS, and an operator that was built
    /// without optimisation takes minutes to compile an interpreter.
    fn values_with(&self, registry: &str) -> Value {
        let mut values = json!({ "policyHost": { "plainHttpRegistries": [registry], "compileTimeoutSeconds": 600 } });
        merge(&mut values, &self.values);
        values
    }

    /// The folders of the examples to apply.
    fn examples(&self, layout: &Layout) -> Result<Vec<(String, PathBuf)>> {
        let all = layout.root.join("examples");
        let found = self.example.iter().map(|name| {
            let folder = all.join(name);
            if !folder.is_dir() {
                bail!("--example {name}: there is no {}; there are {}", folder.display(), names(&all));
            }
            Ok((name.clone(), folder))
        });
        found.collect()
    }
}

/// Starts a registry for policies that are too large for a ConfigMap, and returns its address. It keeps everything in memory.
fn registry(plane: &ControlPlane) -> Result<String> {
    let address = format!("127.0.0.1:{}", plane.ports().registry);
    let program = Program {
        name: "registry".to_owned(),
        path: plane.layout().bin.join("registry"),
        args: vec![format!("--listen={address}")],
        env: None,
        inputs: String::new(),
    };
    Process::ensure(&plane.layout().state, &program)?;
    Ok(address)
}

fn names(folder: &std::path::Path) -> String {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names.join(", ")
}

/// Runs one step and prints how long it took.
async fn step<T>(what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let started = Instant::now();
    let spinner = indicatif::ProgressBar::new_spinner().with_message(what.to_owned());
    spinner.enable_steady_tick(Duration::from_millis(100));
    let done = work.await;
    spinner.finish_and_clear();
    match &done {
        Ok(_) => println!("✓ {what} ({:.1} s)", started.elapsed().as_secs_f32()),
        Err(_) => println!("✗ {what}"),
    }
    done
}

/// Puts `kubectl` and `muster` (also as kubectl's plugin) next to the state, and returns their folder.
fn install_tools(layout: &Layout) -> Result<PathBuf> {
    let folder = layout.state.join("bin");
    fs::create_dir_all(&folder)?;
    let kubectl = format!("'{}' kubectl", layout.controlplane().display());
    let muster = format!("'{}'", layout.muster().display());
    for (name, command) in [("kubectl", &kubectl), ("muster", &muster), ("kubectl-muster", &muster)] {
        let path = folder.join(name);
        fs::write(&path, format!("#!/bin/sh\nexec {command} \"$@\"\n")).with_context(|| format!("writing {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(folder)
}

fn apply(layout: &Layout, folder: &std::path::Path) -> Result<()> {
    let mut command = Command::new(layout.controlplane());
    command.args(["kubectl", "apply", "-f"]).arg(folder).env("KUBECONFIG", layout.kubeconfig());
    let output = command.output().context("starting kubectl")?;
    print!("{}", String::from_utf8_lossy(&output.stdout));
    ensure!(output.status.success(), "kubectl apply failed:\n{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

fn next(layout: &Layout, kubectl: &std::path::Path, registry: &str, took: Duration, failed: &[&str]) {
    match failed {
        [] => println!("\nReady after {:.0} s.", took.as_secs_f32()),
        failed => println!("\nRunning after {:.0} s; not ready: {}.", took.as_secs_f32(), failed.join(", ")),
    }
    println!(
        "
  export KUBECONFIG={}
  export PATH={}:$PATH
  export REGISTRY={registry}      # for policies; without TLS: `muster policy push … --plain-http $REGISTRY`

Try next:
  muster status -A                                   the sets; `muster status NAME -w` shows one's groups and pods, live
  muster topology                                    the node pools, and which group is where
  kubectl scale lws --all --replicas=3               one more group, in a node pool of its own
  kubectl get events --sort-by=.metadata.creationTimestamp    what happened, and what the operator did and why

Logs are in {}. `cargo xtask down` stops and deletes everything.",
        layout.kubeconfig().display(),
        kubectl.display(),
        layout.state.join("logs").display(),
    );
}
