//! Builds the policies of `policies/` into components, and picks the way to a WebAssembly toolchain by itself.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use wit_component::ComponentEncoder;

use crate::work;

const TARGET: &str = "wasm32-unknown-unknown";
/// Debian's compiler for WebAssembly-capable browsers is newer than its stable one and has the standard library's sources.
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];
/// What the built components were built from.
const STAMP: &str = ".inputs";

/// Builds every policy to `<cache>/policies/<name>.wasm` and returns that folder. Does nothing if neither the policies nor the
/// interface changed.
pub(crate) fn build(root: &Path, cache: &Path) -> Result<PathBuf> {
    let out = cache.join("policies");
    let names = names(root)?;
    let inputs = format!("{:016x}", hash_of(&[root.join("policies"), root.join("wit")])?);
    let is_built = |name: &String| out.join(name).with_extension("wasm").is_file();
    if fs::read_to_string(out.join(STAMP)).is_ok_and(|stamp| stamp == inputs) && names.iter().all(is_built) {
        return Ok(out);
    }
    fs::create_dir_all(&out).with_context(|| format!("creating {}", out.display()))?;
    let modules = compile(root, cache)?;
    for name in &names {
        let module = modules.join(format!("{}.wasm", name.replace('-', "_")));
        let component = encode(&module).with_context(|| format!("making a component of {}", module.display()))?;
        let path = out.join(name).with_extension("wasm");
        println!("{} · {} KiB", path.display(), component.len() >> 10);
        fs::write(&path, component).with_context(|| format!("writing {}", path.display()))?;
    }
    remove_others(&out, &names)?;
    fs::write(out.join(STAMP), inputs).with_context(|| format!("writing to {}", out.display()))?;
    Ok(out)
}

/// Folders of `policies/` whose crate is a guest.
fn names(root: &Path) -> Result<Vec<String>> {
    let policies = root.join("policies");
    let mut names = Vec::new();
    for entry in fs::read_dir(&policies).with_context(|| format!("reading {}", policies.display()))? {
        let path = entry?.path();
        let is_guest = fs::read_to_string(path.join("Cargo.toml")).is_ok_and(|manifest| manifest.contains("cdylib"));
        names.extend(path.file_name().and_then(|name| name.to_str()).filter(|_| is_guest).map(str::to_owned));
    }
    names.sort();
    ensure!(!names.is_empty(), "no policy in {}: a policy is a folder with a crate of type cdylib", policies.display());
    Ok(names)
}

/// Hashes every file below the folders, by path and content, without what cargo writes.
fn hash_of(folders: &[PathBuf]) -> Result<u64> {
    let mut files = Vec::new();
    let mut open = folders.to_vec();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
            let path = entry?.path();
            match path.is_dir() {
                true if path.file_name().is_some_and(|name| name == "target") => {}
                true => open.push(path),
                false => files.push(path),
            }
        }
    }
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        let relative = folders.iter().find_map(|folder| file.strip_prefix(folder.parent()?).ok());
        relative.hash(&mut hasher);
        fs::read(&file).with_context(|| format!("reading {}", file.display()))?.hash(&mut hasher);
    }
    Ok(hasher.finish())
}

fn encode(module: &Path) -> Result<Vec<u8>> {
    ComponentEncoder::default().validate(true).module(&fs::read(module)?)?.encode()
}

/// A policy that was renamed must not stay built in.
fn remove_others(out: &Path, names: &[String]) -> Result<()> {
    for entry in fs::read_dir(out)? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if path.extension().is_some_and(|extension| extension == "wasm") && !names.iter().any(|name| name == stem) {
            fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    Ok(())
}

/// Builds all guests and returns the folder of their core modules.
fn compile(root: &Path, cache: &Path) -> Result<PathBuf> {
    let target = cache.join("guest-target");
    let toolchain = Toolchain::find(cache)?;
    println!("policies: {}", toolchain.says());
    let mut command = toolchain.cargo();
    command
        .current_dir(root.join("policies"))
        .args(["build", "--locked", "--release", "--lib", "--target", TARGET])
        .env("CARGO_TARGET_DIR", &target)
        // Flags for this machine's code mean nothing to guests.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET");
    work::run("building the policies", command, &cache.join("logs").join("policies.log"))?;
    Ok(target.join(TARGET).join("release"))
}

/// Where a standard library for guests comes from.
enum Toolchain {
    /// The compiler in use has one.
    Own,
    /// Debian's compiler builds it from its sources, with our own linker.
    Debian { linker: PathBuf },
}

impl Toolchain {
    fn find(cache: &Path) -> Result<Self> {
        let sysroot = sysroot()?;
        let has_target = || sysroot.join("lib/rustlib").join(TARGET).join("lib").is_dir();
        if has_target() {
            return Ok(Self::Own);
        }
        let added = Command::new("rustup").args(["target", "add", TARGET]).status();
        if added.is_ok_and(|status| status.success()) && has_target() {
            return Ok(Self::Own);
        }
        println!("policies: rustup can't add {TARGET} here; trying Debian's compiler");
        Self::debian(&sysroot, cache)
    }

    fn debian(sysroot: &Path, cache: &Path) -> Result<Self> {
        let advice = format!(
            "no WebAssembly toolchain. Do one of these:\n  rustup target add {TARGET}\n  sudo apt-get install -y {}",
            DEBIAN_PACKAGES.join(" ")
        );
        if !debian_is_installed() {
            let mut install = Command::new("apt-get");
            install.args(["install", "-y", "--no-install-recommends"]).args(DEBIAN_PACKAGES);
            let log = cache.join("logs").join("policies-toolchain.log");
            work::run("installing Debian's Rust for WebAssembly", install, &log).with_context(|| advice.clone())?;
        }
        ensure!(debian_is_installed(), advice);
        let linkers = fs::read_dir(sysroot.join("lib/rustlib"))?.flatten().map(|entry| entry.path().join("bin/rust-lld"));
        match linkers.into_iter().find(|linker| linker.is_file()) {
            Some(linker) => Ok(Self::Debian { linker }),
            None => bail!("no rust-lld in {}: Debian's compiler needs it to link guests.\n{advice}", sysroot.display()),
        }
    }

    fn says(&self) -> &'static str {
        match self {
            Self::Own => "with this toolchain's wasm32-unknown-unknown",
            Self::Debian { .. } => "with Debian's rustc, which builds the standard library first (about a minute)",
        }
    }

    fn cargo(&self) -> Command {
        match self {
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
        }
    }
}

fn debian_is_installed() -> bool {
    Path::new("/usr/bin/cargo").is_file()
        && Command::new("dpkg-query").args(["-W"]).args(DEBIAN_PACKAGES).output().is_ok_and(|output| output.status.success())
}

fn sysroot() -> Result<PathBuf> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().context("running rustc: is Rust installed?")?;
    ensure!(output.status.success(), "rustc --print sysroot: {}", String::from_utf8_lossy(&output.stderr));
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}
