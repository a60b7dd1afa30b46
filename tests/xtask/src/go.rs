//! The programs that are built from Go modules: the control plane, kwok, Helm and a registry.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cache::Cache;
use crate::work;

/// Flags of `go build`. Debug information would double the size of the programs.
const LINKER: &str = "-s -w";
/// What kwok does with nodes and pods: files of its module, below `kustomize/stage`.
const STAGES: [&str; 5] = [
    "node/fast/node-initialize.yaml",
    "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    "pod/fast/pod-ready.yaml",
    "pod/fast/pod-complete.yaml",
    "pod/fast/pod-delete.yaml",
];

/// One program and the module below `tests/cluster` that it is built from.
struct Program {
    name: &'static str,
    package: &'static str,
    /// Said while it is built for the first time.
    cold: &'static str,
}

const PROGRAMS: [Program; 4] = [
    Program { name: "controlplane", package: ".", cold: "Kubernetes and etcd, 7 to 10 min the first time" },
    Program { name: "kwok", package: "sigs.k8s.io/kwok/cmd/kwok", cold: "2 to 3 min the first time" },
    Program { name: "helm", package: "helm.sh/helm/v4/cmd/helm", cold: "2 to 3 min the first time" },
    Program { name: "registry", package: ".", cold: "a few seconds" },
];

/// Builds what is missing or older than its module.
pub(crate) fn build(cache: &Cache) -> Result<()> {
    fs::create_dir_all(cache.bin()).with_context(|| format!("creating {}", cache.bin().display()))?;
    // One after the other: each of them keeps all cores busy.
    PROGRAMS.iter().try_for_each(|program| program.ensure(cache))?;
    stages(cache)
}

impl Program {
    fn ensure(&self, cache: &Cache) -> Result<()> {
        let module = cache.root.join("tests/cluster").join(self.name);
        let linker = self.linker(&module)?;
        let (program, stamp) = (cache.bin().join(self.name), cache.bin().join(format!("{}.stamp", self.name)));
        let wanted = self.stamp(&module, &linker)?;
        if program.exists() && fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
            return Ok(());
        }
        // Built beside its place and then moved: a running cluster keeps the file it was started from.
        let fresh = cache.bin().join(format!("{}.new", self.name));
        let mut go = cache.command("go");
        go.current_dir(&module).args(["build", "-v", "-trimpath", "-buildvcs=false", "-ldflags", &linker, "-o"]);
        go.arg(&fresh).arg(self.package);
        work::run(&format!("building {} ({})", self.name, self.cold), go, &cache.log(self.name))?;
        fs::rename(&fresh, &program)?;
        fs::write(&stamp, wanted).with_context(|| format!("writing {}", stamp.display()))
    }

    /// The control plane is told its version; without it the API server says v0.0.0 and clients distrust it.
    fn linker(&self, module: &Path) -> Result<String> {
        if self.name != "controlplane" {
            return Ok(LINKER.to_owned());
        }
        let text = fs::read_to_string(module.join("go.mod")).context("reading the control plane's go.mod")?;
        let version = text.lines().find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes "));
        let version =
            version.and_then(|version| version.split_whitespace().next()).context("go.mod doesn't require k8s.io/kubernetes")?;
        let mut numbers = version.trim_start_matches('v').split('.');
        let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
        let set = |key: &str, value: &str| format!(" -X k8s.io/component-base/version.{key}={value}");
        Ok(LINKER.to_owned() + &set("gitVersion", version) + &set("gitMajor", major) + &set("gitMinor", minor))
    }

    /// Changes when the source, its dependencies or the flags do.
    fn stamp(&self, module: &Path, linker: &str) -> Result<String> {
        let mut hasher = DefaultHasher::new();
        linker.hash(&mut hasher);
        for file in ["go.mod", "go.sum", "main.go"] {
            let path = module.join(file);
            match fs::read(&path) {
                Ok(bytes) => bytes.hash(&mut hasher),
                // kwok and Helm are built from their own modules as they are.
                Err(_) if file == "main.go" => {}
                Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
            }
        }
        Ok(format!("{:016x}", hasher.finish()))
    }
}

/// Copies kwok's stages out of its module.
fn stages(cache: &Cache) -> Result<()> {
    let target = cache.bin().join("stages");
    let (source, stamp) = (kwok_module(cache)?, cache.bin().join("stages.stamp"));
    let wanted = source.display().to_string();
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    if target.exists() {
        fs::remove_dir_all(&target)?;
    }
    fs::create_dir_all(&target)?;
    for stage in STAGES {
        let from = source.join("kustomize/stage").join(stage);
        let to = target.join(from.file_name().context("a stage is a file")?);
        // Read and written, not copied: files of the module cache are read-only, and a copy would be too.
        let text = fs::read(&from).with_context(|| format!("reading {}", from.display()))?;
        fs::write(&to, text).with_context(|| format!("writing {}", to.display()))?;
    }
    fs::write(&stamp, wanted)?;
    Ok(())
}

/// The folder of kwok's source in Go's module cache, downloaded if need be.
fn kwok_module(cache: &Cache) -> Result<PathBuf> {
    let mut go = Command::new("go");
    go.current_dir(cache.root.join("tests/cluster/kwok")).args(["mod", "download", "-json", "sigs.k8s.io/kwok"]);
    let output = go.output().context("starting go")?;
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    match answer["Dir"].as_str() {
        Some(folder) => Ok(PathBuf::from(folder)),
        None => bail!("go mod download sigs.k8s.io/kwok: {}", String::from_utf8_lossy(&output.stderr).trim()),
    }
}
