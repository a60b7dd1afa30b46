//! A cargo that compiles to WebAssembly.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{BuildError, Progress, run};

/// The target of policies in Rust: nothing under it, so nothing is imported.
pub const TARGET: &str = "wasm32-unknown-unknown";
/// Debian's compiler for WebAssembly-capable browsers is newer than its stable one and has the standard library's sources.
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// Where a standard library for guests comes from.
#[derive(Debug, Clone)]
pub enum Cargo {
    /// The compiler in use has one.
    Own,
    /// Debian's compiler builds it from its sources, with our own linker.
    Debian {
        /// The linker of the compiler in use.
        linker: PathBuf,
    },
}

impl Cargo {
    /// Looks for one: the compiler in use, else with a target that rustup adds, else Debian's, whose packages are installed if
    /// `system_packages`.
    ///
    /// # Errors
    /// When there is none, with what to do about it.
    pub fn find(system_packages: bool, progress: &dyn Fn(Progress<'_>)) -> Result<Self, BuildError> {
        let sysroot = sysroot()?;
        let has_target = || sysroot.join("lib/rustlib").join(TARGET).join("lib").is_dir();
        if has_target() {
            return Ok(Self::Own);
        }
        // Asked of rustup only where nothing else is there: without its server it takes its time to say so.
        if !debian_is_installed() {
            progress(Progress::Step("adding the target wasm32-unknown-unknown with rustup"));
            let added = Command::new("rustup").args(["target", "add", TARGET]).output();
            if added.is_ok_and(|output| output.status.success()) && has_target() {
                return Ok(Self::Own);
            }
        }
        Self::debian(&sysroot, system_packages, progress)
    }

    fn debian(sysroot: &Path, system_packages: bool, progress: &dyn Fn(Progress<'_>)) -> Result<Self, BuildError> {
        let advice = format!(
            "no Rust toolchain for WebAssembly. Do one of these:\n  rustup target add {TARGET}\n  sudo apt-get install -y {}",
            DEBIAN_PACKAGES.join(" ")
        );
        if !debian_is_installed() && system_packages {
            let mut install = Command::new("apt-get");
            install.args(["install", "-y", "--no-install-recommends"]).args(DEBIAN_PACKAGES);
            run::run("installing Debian's Rust for WebAssembly", "apt-get install", install, &advice, progress)?;
        }
        if !debian_is_installed() {
            return Err(BuildError::Rust(advice));
        }
        let linkers = fs::read_dir(sysroot.join("lib/rustlib")).into_iter().flatten().flatten();
        match linkers.map(|entry| entry.path().join("bin/rust-lld")).find(|linker| linker.is_file()) {
            Some(linker) => Ok(Self::Debian { linker }),
            None => Err(BuildError::Rust(format!(
                "no rust-lld in {}: Debian's compiler needs it to link guests.\n{advice}",
                sysroot.display()
            ))),
        }
    }

    /// Which one it is.
    pub fn says(&self) -> &'static str {
        match self {
            Self::Own => "with this toolchain's wasm32-unknown-unknown",
            Self::Debian { .. } => "with Debian's rustc, which builds the standard library first (about a minute)",
        }
    }

    /// The start of a command line, without flags that concern only this machine's code.
    pub fn command(&self) -> Command {
        let mut command = match self {
            Self::Own => Command::new("cargo"),
            Self::Debian { linker } => {
                let mut cargo = Command::new("/usr/bin/cargo");
                cargo
                    .arg("-Zbuild-std=std,panic_abort")
                    .env("RUSTC", "/usr/bin/rustc")
                    // Building the standard library is not a stable feature; Debian ships the compiler that can.
                    .env("RUSTC_BOOTSTRAP", "1")
                    .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker)
                    .env_remove("RUSTUP_TOOLCHAIN");
                cargo
            }
        };
        // Flags for this machine's code mean nothing to guests, and the folder is the recipe's to choose.
        for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_TARGET_DIR"] {
            command.env_remove(variable);
        }
        command
    }
}

fn debian_is_installed() -> bool {
    Path::new("/usr/bin/cargo").is_file()
        && Command::new("dpkg-query").args(["-W"]).args(DEBIAN_PACKAGES).output().is_ok_and(|output| output.status.success())
}

fn sysroot() -> Result<PathBuf, BuildError> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).args(["--print", "sysroot"]).output().map_err(|source| BuildError::Missing {
        program: "rustc".to_owned(),
        source,
        remedy: "install Rust with rustup".to_owned(),
    })?;
    if !output.status.success() {
        return Err(BuildError::Rust(format!("rustc --print sysroot: {}", String::from_utf8_lossy(&output.stderr))));
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}
