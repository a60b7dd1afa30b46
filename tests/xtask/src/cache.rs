//! Where built things are kept: outside the checkout, so that a clean clone on a used machine is quick.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The checkout and the cache.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    /// The checkout.
    pub(crate) root: PathBuf,
    /// `$MUSTER_CACHE`, else `$XDG_CACHE_HOME/muster`, else `~/.cache/muster`.
    pub(crate) folder: PathBuf,
}

impl Cache {
    pub(crate) fn find() -> Result<Self> {
        let manifest = env::var_os("CARGO_MANIFEST_DIR").context("run this as `cargo xtask`")?;
        let root =
            Path::new(&manifest).ancestors().nth(2).context("tests/xtask is two folders below the checkout")?.to_path_buf();
        let folder = match (env::var_os("MUSTER_CACHE"), env::var_os("XDG_CACHE_HOME"), env::var_os("HOME")) {
            (Some(own), ..) => PathBuf::from(own),
            (None, Some(xdg), _) => PathBuf::from(xdg).join("muster"),
            (None, None, Some(home)) => PathBuf::from(home).join(".cache/muster"),
            (None, None, None) => bail!("HOME is not set; say where to keep built programs with MUSTER_CACHE"),
        };
        Ok(Self { root, folder })
    }

    /// Programs built from Go modules, and kwok's stages.
    pub(crate) fn bin(&self) -> PathBuf {
        self.folder.join("bin")
    }

    /// Built components.
    pub(crate) fn policies(&self) -> PathBuf {
        self.folder.join("policies")
    }

    /// Where cargo builds for this machine. A folder that the caller chose is respected.
    pub(crate) fn target(&self) -> PathBuf {
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| self.folder.join("target"), PathBuf::from)
    }

    /// A log of long work.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.folder.join("logs").join(format!("{name}.log"))
    }

    /// A command run in the checkout that finds everything built.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", self.target())
            .env("MUSTER_CACHE", &self.folder)
            .env("MUSTER_POLICIES", self.policies());
        command
    }

    /// Cargo, the one that runs us.
    pub(crate) fn cargo(&self, args: &[&str]) -> Command {
        let mut command = self.command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(args);
        command
    }
}
