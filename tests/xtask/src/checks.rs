//! What CI runs, step by step. A failed step doesn't stop the others: one run shows everything that is wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use crate::cache::Cache;
use crate::{examples, go, policies, prerequisites, work};

/// Cluster tests mostly wait, so more of them run at once than there are cores.
const CLUSTER_TEST_THREADS: &str = "8";

/// One step of `cargo xtask test`, in the order in which they run: the quick ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Step {
    /// Formatting of both workspaces.
    Fmt,
    /// The policies' components build.
    Guests,
    /// Clippy without warnings.
    Clippy,
    /// Generated files are what the code generates.
    Generated,
    /// Unit and property tests.
    Unit,
    /// Tests of the policies on this machine.
    Policies,
    /// The example policies in five languages build and answer as they should.
    Examples,
    /// The control plane, kwok and Helm build.
    Programs,
    /// The Helm chart: lint, good and bad values.
    Chart,
    /// Tests against the real control plane.
    Cluster,
}

impl Step {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    fn run(self, cache: &Cache) -> Result<()> {
        match self {
            Self::Fmt => fmt(cache),
            Self::Guests => policies::build(&cache.root, &cache.folder).map(drop),
            Self::Clippy => clippy(cache),
            Self::Generated => {
                crds(cache)?;
                unchanged(cache, "deploy/crd")
            }
            Self::Unit => unit(cache),
            Self::Policies => {
                let tests = guest_cargo(cache, &["test", "--workspace"]);
                work::run("tests of the policies", tests, &cache.log("policy-tests"))
            }
            Self::Examples => examples::test(cache),
            Self::Programs => go::build(cache),
            Self::Chart => chart(cache),
            Self::Cluster => cluster(cache),
        }
    }
}

/// Runs the steps in `only`, or all of them, and prints what ran.
pub(crate) fn run(cache: &Cache, only: &[Step]) -> Result<()> {
    prerequisites::check()?;
    let steps: Vec<Step> = Step::value_variants().iter().copied().filter(|step| only.is_empty() || only.contains(step)).collect();
    let started = Instant::now();
    let mut results: Vec<(Step, Duration, bool)> = Vec::new();
    for step in steps {
        println!("\n── {} ──", step.name());
        let began = Instant::now();
        let result = step.run(cache);
        if let Err(error) = &result {
            eprintln!("error: {error:#}");
        }
        results.push((step, began.elapsed(), result.is_ok()));
    }
    println!("\n{:<12} {:>8}  result", "step", "seconds");
    for (step, took, passed) in &results {
        println!("{:<12} {:>8.1}  {}", step.name(), took.as_secs_f32(), if *passed { "passed" } else { "FAILED" });
    }
    println!("{:<12} {:>8.1}", "all", started.elapsed().as_secs_f32());
    let failed: Vec<String> = results.iter().filter(|(.., passed)| !passed).map(|(step, ..)| step.name()).collect();
    ensure!(failed.is_empty(), "failed: {}. Logs are in {}", failed.join(", "), cache.folder.join("logs").display());
    Ok(())
}

/// Cargo in the policies' own workspace, which builds for other targets and into another folder.
fn guest_cargo(cache: &Cache, args: &[&str]) -> Command {
    let mut cargo = cache.cargo(args);
    cargo.current_dir(cache.root.join("policies")).env("CARGO_TARGET_DIR", cache.folder.join("guest-target"));
    cargo
}

fn fmt(cache: &Cache) -> Result<()> {
    let fix = "`cargo fmt --all` (also in policies/) puts it right";
    work::run("formatting", cache.cargo(&["fmt", "--all", "--check"]), &cache.log("fmt")).context(fix)?;
    work::run("formatting of the policies", guest_cargo(cache, &["fmt", "--all", "--check"]), &cache.log("fmt-policies"))
        .context(fix)
}

fn clippy(cache: &Cache) -> Result<()> {
    let host = cache.cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    work::run("clippy", host, &cache.log("clippy"))?;
    let guests = guest_cargo(cache, &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    work::run("clippy of the policies", guests, &cache.log("clippy-policies"))
}

/// Writes the generated files again.
pub(crate) fn generate(cache: &Cache) -> Result<()> {
    crds(cache)?;
    go::build(cache)?;
    manifests(cache)
}

fn crds(cache: &Cache) -> Result<()> {
    let crds = cache.cargo(&["run", "--package", "muster-api", "--bin", "crdgen"]);
    work::run("generating deploy/crd", crds, &cache.log("crdgen"))
}

/// What the chart makes of its default values, for those who install with kubectl or kustomize.
fn manifests(cache: &Cache) -> Result<()> {
    let output = helm(cache, "template", &cache.root.join("deploy/helm")).args(["--namespace", "muster-system"]).output();
    let output = output.context("starting helm")?;
    ensure!(output.status.success(), "helm template: {}", String::from_utf8_lossy(&output.stderr));
    let rendered = String::from_utf8(output.stdout).context("helm template prints no text")?;
    let text = format!("# Generated from deploy/helm by `cargo xtask generate`.\n{rendered}");
    fs::write(cache.root.join("deploy/kustomize/muster.yaml"), text).context("writing deploy/kustomize/muster.yaml")
}

/// Fails if a folder of generated files is not as it was committed.
fn unchanged(cache: &Cache, folder: &str) -> Result<()> {
    let mut git = cache.command("git");
    git.args(["status", "--porcelain", "--untracked-files=all", "--", folder]);
    let changed = git.output().context("starting git")?.stdout;
    let changed = String::from_utf8_lossy(&changed);
    ensure!(
        changed.is_empty(),
        "generated files differ from the committed ones; commit what `cargo xtask generate` wrote:\n{changed}"
    );
    Ok(())
}

fn unit(cache: &Cache) -> Result<()> {
    let mut tests = cache.cargo(&["test", "--workspace", "--exclude", "muster-cluster", "--exclude", "muster-e2e"]);
    // A missing component would otherwise only skip the tests of it.
    tests.env("MUSTER_REQUIRE_BUILT_INS", "1");
    work::run("unit and property tests", tests, &cache.log("unit"))
}

/// The start of a command line for tests that need the cluster; the operator must be built before it runs.
pub(crate) fn cluster_tests(cache: &Cache) -> Command {
    let mut tests = cache.cargo(&["test"]);
    tests.env("RUST_TEST_THREADS", CLUSTER_TEST_THREADS).env("MUSTER_REQUIRE_BUILT_INS", "1");
    tests.env("MUSTER_OPERATOR", cache.target().join("debug/muster-operator"));
    tests
}

fn cluster(cache: &Cache) -> Result<()> {
    let operator = cache.cargo(&["build", "--package", "muster-operator", "--package", "muster-cli", "--bins"]);
    work::run("building the operator and muster", operator, &cache.log("operator"))?;
    let mut tests = cluster_tests(cache);
    // One program that fails keeps no other from running: one run shows everything that is wrong.
    tests.args(["--no-fail-fast", "--package", "muster-cluster", "--package", "muster-e2e"]);
    work::run("tests against the control plane", tests, &cache.log("cluster"))
}

/// `helm lint`, the manifests that are generated from the chart, and `helm template` with values that must be accepted and values that must be refused.
fn chart(cache: &Cache) -> Result<()> {
    let chart = cache.root.join("deploy/helm");
    let mut lint = helm(cache, "lint", &chart);
    lint.arg("--strict");
    work::run("helm lint", lint, &cache.log("helm-lint"))?;
    work::run("helm template", helm(cache, "template", &chart), &cache.log("helm-template"))?;
    manifests(cache)?;
    unchanged(cache, "deploy/kustomize")?;
    for values in files(&chart.join("ci/accepted"))? {
        let mut template = helm(cache, "template", &chart);
        template.arg("--values").arg(&values);
        work::run(&format!("helm template with {}", name(&values)), template, &cache.log("helm-template"))?;
    }
    for values in files(&chart.join("ci/refused"))? {
        let output = helm(cache, "template", &chart).arg("--values").arg(&values).output().context("starting helm")?;
        let expected = refusal(&values)?;
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            bail!("helm template accepts {}, which it must refuse", values.display());
        }
        ensure!(said.contains(&expected), "helm template refuses {} without saying {expected:?}:\n{said}", values.display());
        println!("✓ helm template refuses {}", name(&values));
    }
    built_ins(cache, &chart)
}

/// Every policy of `policies/` can be had by its name alone, as an object of one kind.
fn built_ins(cache: &Cache, chart: &Path) -> Result<()> {
    for policy in policies::names(&cache.root)? {
        let mut kinds = Vec::new();
        for kind in ["placement", "startup"] {
            let mut template = helm(cache, "template", chart);
            template.args(["--set-json", &format!("policies.{kind}.{policy}={{}}")]);
            if template.output().context("starting helm")?.status.success() {
                kinds.push(kind);
            }
        }
        ensure!(kinds.len() == 1, "{policy} must be in one list of deploy/helm/templates/_policies.tpl; it is in {kinds:?}");
    }
    println!("✓ helm template makes an object of every built-in policy");
    Ok(())
}

/// What the refusal of a values file must say: the rest of its first line, `# refused: …`.
fn refusal(values: &Path) -> Result<String> {
    let text = fs::read_to_string(values).with_context(|| format!("reading {}", values.display()))?;
    let first = text.lines().next().and_then(|line| line.strip_prefix("# refused: "));
    first.map(|text| text.trim().to_owned()).with_context(|| format!("{} does not begin with `# refused: `", values.display()))
}

fn helm(cache: &Cache, task: &str, chart: &Path) -> Command {
    let mut helm = cache.command(cache.bin().join("helm"));
    // Nothing of the user's own Helm is read or written.
    for (variable, folder) in [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")] {
        helm.env(variable, cache.folder.join("helm").join(folder));
    }
    helm.arg(task);
    if task == "template" {
        helm.arg("muster");
    }
    helm.arg(chart);
    helm
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    ensure!(!files.is_empty(), "{} has no values to test the chart with", folder.display());
    Ok(files)
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
