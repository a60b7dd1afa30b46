//! Builds the policies of `policies/` into components.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use muster_policy_build::rust::{Cargo, TARGET};

use crate::work;

/// Folders that builds write.
const WRITTEN: [&str; 3] = ["target", "bindings", "__pycache__"];
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
        let bytes = fs::read(&module).with_context(|| format!("reading {}", module.display()))?;
        let component = muster_policy_build::component(&bytes, None);
        let component = component.map_err(|error| anyhow!("making a component of {}: {error}", module.display()))?;
        let path = out.join(name).with_extension("wasm");
        println!("{} · {} KiB", path.display(), component.len() >> 10);
        fs::write(&path, component).with_context(|| format!("writing {}", path.display()))?;
    }
    remove_others(&out, &names)?;
    fs::write(out.join(STAMP), inputs).with_context(|| format!("writing to {}", out.display()))?;
    Ok(out)
}

/// Folders of `policies/` whose crate is a guest.
pub(crate) fn names(root: &Path) -> Result<Vec<String>> {
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

/// Hashes the files and every file below the folders, by path and content, without what builds write.
pub(crate) fn hash_of(paths: &[PathBuf]) -> Result<u64> {
    let (mut open, mut files): (Vec<PathBuf>, Vec<PathBuf>) = paths.iter().cloned().partition(|path| path.is_dir());
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
            let path = entry?.path();
            match path.is_dir() {
                true if path.file_name().is_some_and(|name| WRITTEN.iter().any(|written| name == *written)) => {}
                true => open.push(path),
                false => files.push(path),
            }
        }
    }
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        let relative = paths.iter().find_map(|folder| file.strip_prefix(folder.parent()?).ok());
        relative.hash(&mut hasher);
        fs::read(&file).with_context(|| format!("reading {}", file.display()))?.hash(&mut hasher);
    }
    Ok(hasher.finish())
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
    let toolchain = Cargo::find(true, &work::say)?;
    println!("policies: {}", toolchain.says());
    let mut command = toolchain.command();
    command
        .current_dir(root.join("policies"))
        .args(["build", "--locked", "--release", "--lib", "--target", TARGET])
        .env("CARGO_TARGET_DIR", &target);
    work::run("building the policies", command, &cache.join("logs").join("policies.log"))?;
    Ok(target.join(TARGET).join("release"))
}
