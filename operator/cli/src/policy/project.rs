//! `muster policy new` and `build`: an author's project.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use muster_policy_build::{BuildError, Built, Language, Options, Progress, World, build as build_project, template};
use serde::Serialize;

use super::named::argument;
use super::size;
use crate::args::Output;
use crate::output::{self, FAINT, STRONG, styled};

/// Lays a project out in a new folder.
pub(super) fn new(name: &str, language: Language, startup: bool, folder: Option<&Path>) -> Result<()> {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let starts = name.starts_with(|first: char| first.is_ascii_lowercase());
    ensure!(
        starts && name.len() <= 63 && name.bytes().all(good) && !name.ends_with('-'),
        "{name:?} is no name for a policy: at most 63 small letters, digits and dashes, the first a letter"
    );
    let world = if startup { World::StartupPolicy } else { World::PlacementPolicy };
    let folder = folder.map_or_else(|| PathBuf::from(name), Path::to_owned);
    let occupied = fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some());
    ensure!(!occupied, "{} is there already and not empty; choose another folder with --dir", folder.display());
    for (path, text) in template(language, name, world) {
        let path = folder.join(path);
        let parent = path.parent().unwrap_or(&folder);
        fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    let shown = folder.display();
    let (world, source, needs) = (world.name().replace('-', " "), language.source(), language.needs());
    output::print(&format!(
        "{shown} is a new {world} in {language}: {source} is the place to go on.\n\n  \
         cd {shown}\n  \
         muster policy build    # {needs}\n  \
         muster policy test     # plays scenarios/, and checks what every policy must do\n\n\
         README.md there says how a cluster gets it, wit/policy.wit what there is to know about the interface."
    ));
    Ok(())
}

/// What was built.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Product {
    name: String,
    path: PathBuf,
    bytes: u64,
    imports: Vec<String>,
}

/// Builds the project of a folder.
pub(super) fn build(folder: &Path, out: Option<PathBuf>, output: Output) -> Result<()> {
    let quiet = output != Output::Text;
    let progress = move |progress: Progress<'_>| match progress {
        Progress::Step(step) if !quiet => anstream::eprintln!("{}", styled(STRONG, step)),
        Progress::Line(line) if !quiet => anstream::eprintln!("{}", styled(FAINT, line)),
        Progress::Step(_) | Progress::Line(_) => {}
    };
    let options = Options { cache: cache()?, out, system_packages: false, progress: &progress };
    let Built { name, path, size: bytes, imports, .. } =
        build_project(folder, &options).map_err(|error| shortened(error, quiet))?;
    let product = Product { name, path, bytes, imports };
    output::show(output, &product, || {
        let imports = if product.imports.is_empty() { "nothing".to_owned() } else { product.imports.join(", ") };
        let bytes = size(usize::try_from(product.bytes).unwrap_or(usize::MAX));
        let folder = argument(folder);
        format!(
            "{}  {bytes}\nimports {imports}\n\nnext: muster policy test{folder}     plays its scenarios, and checks what every policy must do\n      \
             muster policy check{folder}    what the operator says when it loads it",
            product.path.display()
        )
    })
}

/// What a failed program printed has been shown line by line, if anything was.
fn shortened(error: BuildError, quiet: bool) -> anyhow::Error {
    match error {
        BuildError::Failed { command, status, .. } if !quiet => anyhow::anyhow!("`{command}` failed ({status})"),
        error => error.into(),
    }
}

/// Where tools of languages are kept: shared by all projects.
pub(super) fn cache() -> Result<PathBuf> {
    let set = |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    match set("MUSTER_CACHE").or_else(|| home().map(|cache| cache.join("muster"))) {
        Some(cache) => Ok(cache),
        None => bail!("there is no place for the tools of languages: set MUSTER_CACHE to a folder"),
    }
}
