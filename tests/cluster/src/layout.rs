//! Where things are: the checkout, the cache of built programs, and the folder that one cluster keeps its state in.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The folder under the checkout that holds the state of every cluster. It is ignored by git; deleting it loses nothing.
pub const STATE_FOLDER: &str = ".muster";

/// The paths that one cluster works with.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The checkout: the folder with `deploy/`, `examples/` and `tests/`.
    pub root: PathBuf,
    /// Programs that `cargo xtask` built: `controlplane`, `kwok`, `helm`, and kwok's `stages/`.
    pub bin: PathBuf,
    /// The operator's program.
    pub operator: PathBuf,
    /// State of this cluster: certificates, etcd's data, logs, pid files. Created on start, deleted on stop.
    pub state: PathBuf,
}

impl Layout {
    /// The layout of the cluster called `name`, whose state is `.muster/<name>`.
    ///
    /// # Errors
    /// Outside a checkout, or when a program is missing that `cargo xtask` should have built.
    pub fn find(name: &str) -> Result<Self> {
        let root = root()?;
        let state = root.join(STATE_FOLDER).join(name);
        let layout = Self { bin: cache()?.join("bin"), operator: operator()?, root, state };
        for program in [layout.controlplane(), layout.kwok(), layout.helm(), layout.stages()] {
            if !program.exists() {
                bail!("{} is missing; `cargo xtask e2e` and `cargo xtask up` build it", program.display());
            }
        }
        Ok(layout)
    }

    /// The control plane's components in one program; the first argument names the component.
    #[must_use]
    pub fn controlplane(&self) -> PathBuf {
        self.bin.join("controlplane")
    }

    /// The program that plays the kubelets.
    #[must_use]
    pub fn kwok(&self) -> PathBuf {
        self.bin.join("kwok")
    }

    /// Helm.
    #[must_use]
    pub fn helm(&self) -> PathBuf {
        self.bin.join("helm")
    }

    /// What kwok does with nodes and pods, one file a stage.
    #[must_use]
    pub fn stages(&self) -> PathBuf {
        self.bin.join("stages")
    }

    /// The command line tool, built beside the operator.
    #[must_use]
    pub fn muster(&self) -> PathBuf {
        self.operator.with_file_name("muster")
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.state.join("kubeconfig")
    }

    /// The log of the process called `name`.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.state.join("logs").join(format!("{name}.log"))
    }
}

/// The checkout that the current folder is in.
///
/// # Errors
/// Outside a checkout.
pub fn root() -> Result<PathBuf> {
    let here = env::current_dir().context("reading the current folder")?;
    here.ancestors()
        .find(|folder| folder.join("tests/cluster/controlplane/go.mod").is_file())
        .map(Path::to_path_buf)
        .with_context(|| format!("{} is not inside a checkout of Muster", here.display()))
}

/// The cache that outlives the checkout. The same rule as in `tests/xtask/src/cache.rs`, which sets `MUSTER_CACHE` for everything
/// it starts; repeated here so that a plain `cargo test -p muster-e2e` works too.
fn cache() -> Result<PathBuf> {
    if let Some(cache) = env::var_os("MUSTER_CACHE") {
        return Ok(cache.into());
    }
    match (env::var_os("XDG_CACHE_HOME"), env::var_os("HOME")) {
        (Some(xdg), _) => Ok(PathBuf::from(xdg).join("muster")),
        (None, Some(home)) => Ok(PathBuf::from(home).join(".cache/muster")),
        (None, None) => bail!("neither MUSTER_CACHE nor HOME is set; one must say where built programs are"),
    }
}

/// The operator that cargo put beside this program (`target/debug`, or one up from a test's `target/debug/deps`).
fn operator() -> Result<PathBuf> {
    if let Some(operator) = env::var_os("MUSTER_OPERATOR") {
        return Ok(operator.into());
    }
    let program = env::current_exe().context("reading this program's path")?;
    let found = program.ancestors().skip(1).take(2).map(|folder| folder.join("muster-operator")).find(|path| path.is_file());
    // Absent is not an error yet: a cluster without the operator has uses, and `Operator::start` names the path.
    Ok(found.unwrap_or_else(|| program.with_file_name("muster-operator")))
}
