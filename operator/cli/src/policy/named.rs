//! What a person means by the name of a policy: a file, the folder of its project, or `builtin:NAME`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};
use muster_policy_build::{RECIPE, Recipe};
use muster_policy_kit::Bytes;

use crate::output::{STRONG, WAITING, styled};

/// Folders of a project that say nothing about whether its component is up to date.
const ASIDE: [&str; 5] = ["target", "bindings", "scenarios", "node_modules", "__pycache__"];

/// Endings of files that lie beside a project's sources: texts, objects, keys, components that were pulled.
const BESIDE: [&str; 6] = ["md", "yaml", "yml", "key", "pub", "wasm"];

/// A component, and where its scenarios are.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) bytes: Bytes,
    pub(super) scenarios: Option<PathBuf>,
}

impl Found {
    /// Finds the component that is meant, and says so when its sources are newer.
    pub(super) fn by_name(name: &str) -> Result<Self> {
        let path = Path::new(name);
        if path.is_dir() { Self::in_folder(path) } else { Self::as_file(name, path) }
    }

    fn as_file(name: &str, path: &Path) -> Result<Self> {
        let folders = || path.ancestors().skip(1).take(3);
        let scenarios = folders().map(|folder| folder.join("scenarios")).find(|folder| folder.is_dir());
        let found = Self { bytes: Bytes::read(name)?, scenarios };
        if let Some(project) = folders().find(|folder| folder.join(RECIPE).is_file()) {
            warn_if_stale(project, path);
        }
        Ok(found)
    }

    fn in_folder(given: &Path) -> Result<Self> {
        let folder = given.canonicalize().with_context(|| format!("opening {}", given.display()))?;
        let scenarios = Some(folder.join("scenarios"));
        if folder.join(RECIPE).is_file() {
            let name = Recipe::read(&folder)?.policy.name;
            let here = given.strip_prefix(".").unwrap_or(given);
            let component = here.join("target").join(&name).with_extension("wasm");
            if !component.is_file() {
                bail!("{name} is not built yet: `muster policy build{}` builds it", argument(given));
            }
            warn_if_stale(&folder, &component);
            return Ok(Self { bytes: Bytes::read(&component.to_string_lossy())?, scenarios });
        }
        // A folder of Muster's own policies.
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        match Bytes::of_built_in(&name) {
            Ok(bytes) => Ok(Self { bytes, scenarios }),
            Err(_) => bail!(
                "{} is no policy's project: it has no {RECIPE}; `muster policy new` makes one, or name a component",
                given.display()
            ),
        }
    }
}

/// The recipe of a project that is named by its folder or by a component below it; none for any other policy.
pub(super) fn recipe(name: &Path) -> Option<Result<Recipe>> {
    let folder = name.ancestors().take(3).filter(|_| name.exists()).find(|folder| folder.join(RECIPE).is_file())?;
    Some(Recipe::read(folder).map_err(Into::into))
}

/// The folder as it follows a command; nothing for the one that we are in.
pub(super) fn argument(folder: &Path) -> String {
    if folder.as_os_str().is_empty() || folder == Path::new(".") { String::new() } else { format!(" {}", folder.display()) }
}

/// Who edits and forgets to build wonders for long why nothing changes.
fn warn_if_stale(project: &Path, component: &Path) {
    let built = fs::metadata(component).and_then(|metadata| metadata.modified());
    let Some((source, changed)) = newest(project, true) else { return };
    if built.is_ok_and(|built| built < changed) {
        let source = source.strip_prefix(project).unwrap_or(&source).display().to_string();
        let remedy = styled(STRONG, "muster policy build");
        let text = format!("{source} is newer than {}: {remedy} brings it up to date", component.display());
        anstream::eprintln!("{} {text}", styled(WAITING, "note:"));
    }
}

/// The source that was changed last.
fn newest(folder: &Path, is_project: bool) -> Option<(PathBuf, SystemTime)> {
    let entries = fs::read_dir(folder).ok()?.flatten().filter_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        // Who edits these does not have to build.
        let ending = Path::new(&name).extension().unwrap_or_default();
        let aside = name.starts_with('.')
            || (is_project && ASIDE.contains(&name.as_str()))
            || BESIDE.iter().any(|beside| ending == *beside);
        let metadata = entry.metadata().ok().filter(|_| !aside)?;
        if metadata.is_dir() { newest(&entry.path(), false) } else { Some((entry.path(), metadata.modified().ok()?)) }
    });
    entries.max_by_key(|(_, changed)| *changed)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_source_that_changed_last_is_found_without_what_was_built_from_it() {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let files = [
            ("policy.toml", 1),
            ("src/lib.rs", 2),
            ("target/policy.wasm", 3),
            ("scenarios/a.yaml", 4),
            ("README.md", 5),
            ("muster.key", 6),
        ];
        for (name, seconds) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            File::create(&path).unwrap().set_modified(now + Duration::from_secs(seconds)).unwrap();
        }
        let (source, changed) = newest(folder.path(), true).unwrap();
        assert_eq!((source, changed), (folder.path().join("src/lib.rs"), now + Duration::from_secs(2)));
    }

    #[test]
    fn a_project_that_is_not_built_says_how_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let recipe =
            "[policy]\nname = \"mine\"\nworld = \"placement-policy\"\nlanguage = \"c\"\n[build]\ncommands = [[\"true\"]]\n";
        fs::write(folder.path().join(RECIPE), recipe).unwrap();
        let error = Found::by_name(&folder.path().to_string_lossy()).unwrap_err().to_string();
        assert_eq!(error, format!("mine is not built yet: `muster policy build {}` builds it", folder.path().display()));
    }
}
