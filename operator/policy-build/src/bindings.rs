//! Bindings for languages whose own tools don't write them: C and Go.
//!
//! wit-bindgen writes Go as a program of its own, with a runtime library from the network. Here it becomes packages below the
//! author's module (`bindings/…`), the library is a part of them, and what the policy exports is looked for in the author's
//! package at the module's root.

use std::fs;
use std::path::Path;

use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::Resolve;

use crate::error::At;
use crate::recipe::Bindings;
use crate::{BuildError, World};

/// Where they are written, in the project.
const FOLDER: &str = "bindings";
/// What Go's bindings need at run time.
const GO_RUNTIME: [(&str, &str); 2] =
    [("wit/runtime/runtime.go", include_str!("go/runtime.go.txt")), ("wit/types/types.go", include_str!("go/types.go.txt"))];

/// Writes the bindings of one world to the project.
pub(crate) fn write(language: Bindings, project: &Path, wit: &Path, world: World) -> Result<(), BuildError> {
    let fault = |error: &dyn std::fmt::Display| BuildError::Wit { path: wit.to_owned(), message: format!("{error:#}") };
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(wit).map_err(|error| fault(&error))?;
    let world = resolve.select_world(&[package], Some(world.name())).map_err(|error| fault(&error))?;
    let mut files = Files::default();
    let mut generator = match language {
        Bindings::C => wit_bindgen_c::Opts::default().build(),
        Bindings::Go => wit_bindgen_go::Opts { quiet: true, ..wit_bindgen_go::Opts::default() }.build(),
    };
    generator.generate(&mut resolve, world, &mut files).map_err(|error| fault(&error))?;
    let folder = project.join(FOLDER);
    let module = if language == Bindings::Go { go_module(project)? } else { String::new() };
    for (name, content) in files.iter() {
        match language {
            Bindings::C => save(&folder.join(name), content)?,
            Bindings::Go => {
                if let Some((name, content)) = go_file(name, &String::from_utf8_lossy(content), &module) {
                    save(&folder.join(name), content.as_bytes())?;
                }
            }
        }
    }
    if language == Bindings::Go {
        GO_RUNTIME.iter().try_for_each(|(name, content)| save(&folder.join(name), content.as_bytes()))?;
    }
    Ok(())
}

/// Files that have not changed are left alone, so that compilers see that they have nothing to do.
fn save(path: &Path, content: &[u8]) -> Result<(), BuildError> {
    if fs::read(path).is_ok_and(|found| found == content) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).at("creating", folder)?;
    }
    fs::write(path, content).at("writing", path)
}

/// The path of the author's module.
fn go_module(project: &Path) -> Result<String, BuildError> {
    let path = project.join("go.mod");
    let text = fs::read_to_string(&path).at("reading", &path)?;
    let module = text.lines().find_map(|line| line.trim().strip_prefix("module "));
    let fault = || BuildError::Recipe { path, message: "no line `module …`: `go mod init NAME` writes one".to_owned() };
    module.map(|module| module.trim().trim_matches('"').to_owned()).ok_or_else(fault)
}

/// A generated file at its place below the author's module; none for what the author's module has itself.
fn go_file(name: &str, content: &str, module: &str) -> Option<(String, String)> {
    let name = match name {
        "go.mod" => return None,
        "wit_exports.go" => "component/main.go".to_owned(),
        name => name.to_owned(),
    };
    let lines = content.lines().map(|line| go_import(line, module).unwrap_or_else(|| line.to_owned()) + "\n");
    Some((name, lines.collect()))
}

/// A line that imports one of the generated packages, with the path that the package has here.
fn go_import(line: &str, module: &str) -> Option<String> {
    let (before, path) = line.strip_suffix('"')?.split_once('"')?;
    if let Some(exports) = path.strip_prefix("wit_component/export_") {
        // Whatever interface it is: the author's functions are in one package.
        return Some(format!("{before}export_{exports} \"{module}\""));
    }
    let rest = path.strip_prefix("wit_component/").or_else(|| path.strip_prefix("go.bytecodealliance.org/pkg/"))?;
    Some(format!("{before}\"{module}/{FOLDER}/{rest}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_of_generated_go_are_found_below_the_authors_module() {
        let import = |line| go_import(line, "example.com/p");
        assert_eq!(
            import("\twitTypes \"go.bytecodealliance.org/pkg/wit/types\""),
            Some("\twitTypes \"example.com/p/bindings/wit/types\"".into())
        );
        assert_eq!(
            import("\t\"wit_component/muster_policy_log\""),
            Some("\t\"example.com/p/bindings/muster_policy_log\"".into())
        );
        assert_eq!(
            import("\t\"wit_component/export_muster_policy_placement\""),
            Some("\texport_muster_policy_placement \"example.com/p\"".into())
        );
        assert_eq!(import("\t\"unsafe\""), None);
        assert_eq!(import("\tpanic(\"unreachable\")"), None);
    }
}
