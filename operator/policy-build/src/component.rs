//! Core modules made components, with a WASI that grants nothing where they import one.

use std::fmt::Display;
use std::path::Path;

use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::{BuildError, World};

/// Linked into modules that import it, and only as much of it as they use.
const DENIED_WASI: &str = include_str!("denied_wasi.wat");
const WASI: &str = "wasi_snapshot_preview1";

/// Makes a component of a core module. A module that does not say its world itself (Go's don't) is taken to be of `world`, as
/// the `policy.wit` in that folder describes it.
///
/// # Errors
/// When the module does not implement its world, with what is missing.
pub fn component(module: &[u8], world: Option<(&Path, World)>) -> Result<Vec<u8>, String> {
    let mut module = module.to_vec();
    if let Some((wit, world)) = world.filter(|_| !says_its_world(&module)) {
        let mut resolve = Resolve::default();
        let (package, _) = resolve.push_path(wit).map_err(text)?;
        let world = resolve.select_world(&[package], Some(world.name())).map_err(text)?;
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).map_err(text)?;
    }
    let wasi = wat::parse_str(DENIED_WASI).map_err(text)?;
    let mut encoder = ComponentEncoder::default();
    encoder.validate(true).module(&module).map_err(text)?;
    if imports_wasi(&module) {
        encoder.adapter(WASI, &wasi).map_err(text)?;
    }
    encoder.encode().map_err(text)
}

fn text(error: impl Display) -> String {
    format!("{error:#}")
}

/// Bindings of Rust and C put the world into a section of the module; Go's leave it to the tool.
fn says_its_world(module: &[u8]) -> bool {
    let is_world =
        |payload| matches!(payload, Ok(Payload::CustomSection(section)) if section.name().starts_with("component-type"));
    Parser::new(0).parse_all(module).any(is_world)
}

fn imports_wasi(module: &[u8]) -> bool {
    Parser::new(0).parse_all(module).any(|payload| match payload {
        Ok(Payload::ImportSection(section)) => {
            section.into_imports().any(|import| import.is_ok_and(|import| import.module == WASI))
        }
        _ => false,
    })
}

/// What a component imports.
///
/// # Errors
/// When the bytes are no component.
pub fn imports(bytes: &[u8]) -> Result<Vec<String>, String> {
    if Parser::is_core_wasm(bytes) {
        return Err(
            "this is a core module, not a component: name it as `module` in policy.toml, so that it is made one".to_owned()
        );
    }
    let mut names = Vec::new();
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(|error| format!("this is not WebAssembly: {}", error.message()))? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    names.push(import.map_err(|error| error.message().to_owned())?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(names)
}

/// The imports of a component that imports no WASI.
pub(crate) fn checked_imports(bytes: &[u8]) -> Result<Vec<String>, BuildError> {
    let imports = imports(bytes).map_err(BuildError::NotAComponent)?;
    let wasi: Vec<String> = imports.iter().filter(|name| name.starts_with("wasi:")).cloned().collect();
    if wasi.is_empty() { Ok(imports) } else { Err(BuildError::Wasi(wasi)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A world with one import and one export, and room for the tests to say what a module of it does.
    fn wit() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let text = "package muster:policy@0.1.0;\nworld placement-policy { export answer: func() -> u32; }\n";
        std::fs::write(folder.path().join("policy.wit"), text).unwrap();
        folder
    }

    fn wrapped(module: &str) -> Result<Vec<u8>, String> {
        component(&wat::parse_str(module).unwrap(), Some((wit().path(), World::PlacementPolicy)))
    }

    #[test]
    fn a_module_that_imports_wasi_becomes_a_component_that_imports_nothing() {
        let module = r#"(module
            (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_open"
                (func (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (func (export "answer") (result i32) (call $clock (i32.const 0) (i64.const 0) (i32.const 8))))"#;
        assert_eq!(imports(&wrapped(module).unwrap()).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_module_without_what_the_world_exports_is_told_what_is_missing() {
        let error = wrapped(r#"(module (memory (export "memory") 1))"#).unwrap_err();
        assert!(error.contains("answer"), "{error}");
    }

    #[test]
    fn the_denied_wasi_has_all_of_preview_1_and_imports_only_the_memory() {
        let wasi = wat::parse_str(DENIED_WASI).unwrap();
        let (mut exports, mut imports) = (0, Vec::new());
        for payload in Parser::new(0).parse_all(&wasi) {
            match payload.unwrap() {
                Payload::ExportSection(section) => exports = section.count(),
                Payload::ImportSection(section) => {
                    imports.extend(section.into_imports().map(|import| import.unwrap().name.to_owned()));
                }
                _ => {}
            }
        }
        assert_eq!((exports, imports), (46, vec!["memory".to_owned()]));
    }

    #[test]
    fn components_that_import_wasi_and_core_modules_are_refused_with_a_way_out() {
        let component = r#"(component (import "wasi:cli/environment@0.2.0" (instance)))"#;
        let error = checked_imports(&wat::parse_str(component).unwrap()).unwrap_err().to_string();
        assert!(error.contains("wasi:cli/environment@0.2.0") && error.contains("--stub-wasi"), "{error}");
        let error = checked_imports(&wat::parse_str("(module)").unwrap()).unwrap_err().to_string();
        assert!(error.contains("name it as `module`"), "{error}");
        let error = checked_imports(b"not wasm").unwrap_err().to_string();
        assert!(error.contains("not WebAssembly"), "{error}");
    }
}
