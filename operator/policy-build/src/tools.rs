//! Compilers that come as packages: installed into the cache, once for all projects that ask for the same ones.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::error::At;
use crate::{BuildError, Options, Recipe, run};

/// Written when everything is installed; without it an installation was interrupted.
const COMPLETE: &str = ".complete";

/// Installs what the recipe asks for, unless it is there, and returns the folders of its programs.
pub(crate) fn install(recipe: &Recipe, project: &Path, options: &Options<'_>) -> Result<Vec<PathBuf>, BuildError> {
    let mut folders = Vec::new();
    if let Some(manifest) = &recipe.tools.npm {
        let manifest = project.join(manifest);
        let files = [manifest.clone(), manifest.with_file_name("package-lock.json")];
        let folder = once("npm", &files, options, |folder| npm(&files, folder, options))?;
        folders.push(folder.join("node_modules/.bin"));
    }
    if let Some(requirements) = &recipe.tools.pip {
        let requirements = project.join(requirements);
        let folder = once("pip", std::slice::from_ref(&requirements), options, |folder| pip(&requirements, folder, options))?;
        folders.push(folder.join("bin"));
    }
    Ok(folders)
}

/// Runs `install` with a folder named by the content of `files`, if it did not succeed there before.
fn once(
    kind: &str,
    files: &[PathBuf],
    options: &Options<'_>,
    install: impl FnOnce(&Path) -> Result<(), BuildError>,
) -> Result<PathBuf, BuildError> {
    let mut hash = Sha256::new();
    for file in files {
        hash.update(fs::read(file).at("reading", file)?);
    }
    let name: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let tools = options.cache.join("policy-tools");
    let folder = tools.join(format!("{kind}-{name}"));
    fs::create_dir_all(&tools).at("creating", &tools)?;
    // Another build may want the same tools at the same time.
    let lock = folder.with_extension("lock");
    let held = File::create(&lock).at("creating", &lock)?;
    held.lock().at("locking", &lock)?;
    if folder.join(COMPLETE).is_file() {
        return Ok(folder);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder).at("removing", &folder)?;
    }
    fs::create_dir_all(&folder).at("creating", &folder)?;
    install(&folder)?;
    let complete = folder.join(COMPLETE);
    fs::write(&complete, "").at("writing", &complete)?;
    Ok(folder)
}

fn npm(files: &[PathBuf], folder: &Path, options: &Options<'_>) -> Result<(), BuildError> {
    for file in files {
        let to = folder.join(file.file_name().unwrap_or_default());
        fs::copy(file, &to).at("writing", &to)?;
    }
    let mut command = Command::new("npm");
    // Nothing of these packages needs a script of its own to run on this machine.
    command.current_dir(folder).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
    let what = format!("installing {} with npm", wanted(&files[0]));
    run::run(&what, "npm ci", command, "install Node.js 20 or newer, with npm", options.progress)
}

fn pip(requirements: &Path, folder: &Path, options: &Options<'_>) -> Result<(), BuildError> {
    let remedy = "install Python 3.10 or newer, with the module venv (Debian: apt-get install python3-venv)";
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv"]).arg(folder);
    run::run("making an environment for Python's packages", "python3 -m venv", venv, remedy, options.progress)?;
    let mut install = Command::new(folder.join("bin/python"));
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]).arg(requirements);
    let what = format!("installing {} with pip", wanted(requirements));
    run::run(&what, "pip install", install, remedy, options.progress)
}

/// The names in a list of packages, for the person who waits for them.
fn wanted(list: &Path) -> String {
    let text = fs::read_to_string(list).unwrap_or_default();
    let names: Vec<&str> = if list.extension().is_some_and(|extension| extension == "json") {
        text.lines()
            .filter_map(|line| line.trim().strip_prefix('"'))
            .filter_map(|line| line.split_once("\": \""))
            .filter(|(_, value)| value.starts_with(|first: char| first.is_ascii_digit()))
            .map(|(name, _)| name)
            .collect()
    } else {
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', '-'])).collect()
    };
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn tools_are_installed_once_per_content_and_again_after_an_interruption() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("requirements.txt");
        let options = Options { cache: folder.path().join("cache"), out: None, system_packages: false, progress: &|_| {} };
        let installs = Cell::new(0);
        let install = |succeeds: bool| {
            once("pip", std::slice::from_ref(&list), &options, |_| {
                installs.set(installs.get() + 1);
                if succeeds { Ok(()) } else { Err(BuildError::Rust("interrupted".into())) }
            })
        };
        fs::write(&list, "a==1\n").unwrap();
        install(false).unwrap_err();
        let first = install(true).unwrap();
        assert_eq!(install(true).unwrap(), first);
        assert_eq!(installs.get(), 2);
        fs::write(&list, "a==2\n").unwrap();
        assert_ne!(install(true).unwrap(), first);
        assert_eq!(installs.get(), 3);
    }

    #[test]
    fn what_is_installed_is_said_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        assert_eq!(wanted(&file("requirements.txt", "# compiler\nziglang==0.17.1\n")), "ziglang==0.17.1");
        assert_eq!(
            wanted(&file(
                "package.json",
                "{\n  \"type\": \"module\",\n  \"devDependencies\": {\n    \"@a/b\": \"1.0.0\"\n  }\n}\n"
            )),
            "@a/b"
        );
    }
}
