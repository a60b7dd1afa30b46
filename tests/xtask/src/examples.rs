//! The policies of `examples/policies/`, and new projects of both worlds in every language: built and tested with the author's kit,
//! as an author would.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use muster_policy_build::{Language, Options, Recipe, build};

use crate::cache::Cache;
use crate::{policies, work};

/// Written beside a component that passed its tests.
const PASSED: &str = "passed";
/// Generated clusters for each policy. Authors try 256; the host that tests run on is not optimised.
const CASES: &str = "64";
/// What builds components, and what judges them. A component is built again when the former changes, and tested again when the
/// latter does.
const BUILDERS: [&str; 2] = ["wit", "operator/policy-build"];
const JUDGES: [&str; 5] =
    ["operator/policy-kit/src", "operator/policy-host/src", "operator/core/src", "operator/cli/src/policy", "Cargo.lock"];

/// Builds and tests all of them, except those that passed before and are made of nothing that has changed since.
pub(crate) fn test(cache: &Cache) -> Result<()> {
    println!("Compilers that are missing are installed below {}, once:", cache.folder.join("policy-tools").display());
    println!("componentize-js from npm (400 MB), componentize-py (50 MB) and ziglang (400 MB) from pip.");
    // Together, as the tests against the control plane want them: alone they would be built with other features of what they share.
    let muster = cache.cargo(&["build", "--package", "muster-operator", "--package", "muster-cli", "--bins"]);
    work::run("building the operator and muster", muster, &cache.log("operator"))?;
    let kit = Kit::new(cache)?;
    let mut failed = Vec::new();
    for language in Language::ALL {
        let example = cache.root.join("examples/policies").join(language.name());
        let made = [("", "placement"), ("--startup", "startup")].map(|(flag, world)| kit.new_project(language, flag, world));
        for project in std::iter::once(Ok(example)).chain(made) {
            if let Err(error) = project.and_then(|project| kit.one(&project)) {
                eprintln!("error: {language}: {error:#}");
                failed.push(language.name());
            }
        }
    }
    failed.dedup();
    ensure!(failed.is_empty(), "policies in these languages failed: {}", failed.join(", "));
    kit.remove_old()
}

/// What every project goes through.
struct Kit<'a> {
    cache: &'a Cache,
    /// Components, each in a folder that its name and its inputs name.
    folder: PathBuf,
    builders: u64,
    judges: u64,
    started: std::time::SystemTime,
}

impl<'a> Kit<'a> {
    fn new(cache: &'a Cache) -> Result<Self> {
        let hash = |parts: &[&str]| policies::hash_of(&parts.iter().map(|part| cache.root.join(part)).collect::<Vec<_>>());
        let (builders, judges) = (hash(&BUILDERS)?, hash(&JUDGES)?);
        let started = std::time::SystemTime::now();
        Ok(Self { cache, folder: cache.folder.join("examples"), builders, judges, started })
    }

    /// `muster policy …`, with its output in a log.
    fn muster(&self, what: &str, args: &[&str], log: &str) -> Result<()> {
        let mut command = self.cache.command(self.cache.target().join("debug/muster"));
        command.arg("policy").args(args);
        work::run(what, command, &self.cache.log(log))
    }

    /// Lays out a new project, as `muster policy new` does.
    fn new_project(&self, language: Language, flag: &str, world: &str) -> Result<PathBuf> {
        let name = format!("new-{language}-{world}");
        let folder = self.cache.folder.join("examples-new").join(&name);
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
        }
        let place = folder.to_string_lossy().into_owned();
        let args = ["new", &name, "--lang", language.name(), "--dir", &place, flag];
        let args: Vec<&str> = args.into_iter().filter(|argument| !argument.is_empty()).collect();
        self.muster(&format!("muster policy new {name}"), &args, &name)?;
        Ok(folder)
    }

    /// Builds, checks and tests one project.
    fn one(&self, project: &Path) -> Result<()> {
        let recipe = Recipe::read(project)?;
        let name = recipe.policy.name;
        let inputs = policies::hash_of(&sources(project)?)? ^ self.builders;
        let folder = self.folder.join(format!("{name}-{inputs:016x}"));
        let component = folder.join(&name).with_extension("wasm");
        let scenarios = project.join("scenarios");
        let judges = format!("{:016x}", self.judges ^ policies::hash_of(std::slice::from_ref(&scenarios))?);
        let passed = folder.join(PASSED);
        if component.is_file() && fs::read_to_string(&passed).is_ok_and(|stamp| stamp == judges) {
            println!("✓ {name} passed before, and nothing has changed since");
            return fs::write(&passed, judges).with_context(|| format!("writing {}", passed.display()));
        }
        if !component.is_file() {
            // Under another name until it is whole.
            let unfinished = component.with_extension("unfinished");
            self.build(project, &unfinished)?;
            fs::rename(&unfinished, &component).with_context(|| format!("writing {}", component.display()))?;
        }
        let (file, scenarios) = (component.to_string_lossy(), scenarios.to_string_lossy());
        let mut args = vec!["test", &file, "--scenarios", &scenarios, "--cases", CASES];
        args.extend(recipe.limits.deadline.iter().flat_map(|deadline| ["--deadline", deadline.as_str()]));
        self.muster(&format!("muster policy test {name}"), &args, &name)?;
        fs::write(&passed, judges).with_context(|| format!("writing {}", passed.display()))
    }

    fn build(&self, project: &Path, out: &Path) -> Result<()> {
        let began = Instant::now();
        let out = Some(out.to_owned());
        let options = Options { cache: self.cache.folder.clone(), out, system_packages: true, progress: &work::say };
        let built = build(project, &options)?;
        println!("✓ {} in {}: {} KiB ({:.1} s)", built.name, built.language, built.size >> 10, began.elapsed().as_secs_f32());
        Ok(())
    }

    /// Components of sources that are no more.
    fn remove_old(&self) -> Result<()> {
        for entry in fs::read_dir(&self.folder).with_context(|| format!("reading {}", self.folder.display()))? {
            let folder = entry?.path();
            let used = fs::metadata(folder.join(PASSED)).and_then(|passed| passed.modified());
            // Half an hour: another checkout on this machine may be at work.
            if used.is_ok_and(|used| used + std::time::Duration::from_secs(1800) < self.started) {
                fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
            }
        }
        Ok(())
    }
}

/// What a component is made of.
fn sources(project: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(project).with_context(|| format!("reading {}", project.display()))?;
    let aside = ["scenarios", "README.md", ".gitignore", "target", "bindings", "__pycache__"];
    let is_source = |path: &PathBuf| path.file_name().is_some_and(|name| aside.iter().all(|aside| name != *aside));
    Ok(entries.flatten().map(|entry| entry.path()).filter(is_source).collect())
}
