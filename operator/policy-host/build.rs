//! Embeds the policies that `cargo xtask policies` built: every `*.wasm` of `$MUSTER_POLICIES`, or of `policies` in
//! Muster's cache. None there is fine for checking and testing the code; the operator then has no built-in policies, so a
//! release build refuses to go on.

use std::env;
use std::error::Error;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    for variable in ["MUSTER_POLICIES", "MUSTER_CACHE", "XDG_CACHE_HOME", "HOME"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let directory = directory();
    println!("cargo::rerun-if-changed={}", directory.display());
    let components = components(&directory);
    if components.is_empty() {
        let level = if env::var("PROFILE").is_ok_and(|profile| profile == "release") { "error" } else { "warning" };
        println!("cargo::{level}=no built-in policies in {}: build them with `cargo xtask policies`", directory.display());
    }
    let mut table = String::from("/// Name and bytes of every embedded policy.\nconst BUILT_INS: &[(&str, &[u8])] = &[\n");
    for (name, path) in components {
        println!("cargo::rerun-if-changed={}", path.display());
        table.push_str(&format!("    ({name:?}, include_bytes!({path:?})),\n"));
    }
    table.push_str("];\n");
    let out = env::var_os("OUT_DIR").ok_or("cargo did not set OUT_DIR")?;
    fs::write(Path::new(&out).join("built_ins.rs"), table)?;
    Ok(())
}

/// Where xtask puts them.
fn directory() -> PathBuf {
    let set = |variable| env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("MUSTER_POLICIES").unwrap_or_else(|| {
        let cache = || set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache"))).unwrap_or_default();
        set("MUSTER_CACHE").unwrap_or_else(|| cache().join("muster")).join("policies")
    })
}

/// Names and absolute paths, sorted, so that equal directories give equal operators.
fn components(directory: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut components: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension() == Some(OsStr::new("wasm")))
        .filter_map(|path| Some((path.file_stem()?.to_str()?.to_owned(), fs::canonicalize(&path).ok()?)))
        .collect();
    components.sort();
    components
}
