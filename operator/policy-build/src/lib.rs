//! Builds a policy's project into a component that the operator loads, and lays out new projects.
//!
//! A project is a folder with a `policy.toml`, which says what the policy is and which commands compile it:
//!
//! ```text
//! policy.toml ─► tools (npm ci, pip install: into the cache) ─► bindings (C, Go) ─► commands ─┬─► component ─► checked ─► Built
//!                                                                                             └─► core module ─► wrapped ┘
//! ```
//!
//! The component imports nothing but Muster's interfaces. Where a language's runtime asks for WASI, a WASI that grants nothing
//! is linked in here, at build time, so that the operator's rule (no import of `wasi:*`) has no exception.
//!
//! This crate knows no engine: whether a component works is for `muster-policy-host` to say.

mod bindings;
mod component;
mod error;
mod recipe;
mod run;
pub mod rust;
mod template;
mod tools;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

pub use component::{component, imports};
pub use error::BuildError;
pub use recipe::{Language, Limits, Recipe, World};
pub use template::template;

use crate::error::At;
use crate::recipe::Variables;

/// The file that makes a folder a project.
pub const RECIPE: &str = "policy.toml";

/// How to build.
pub struct Options<'a> {
    /// Where tools are installed, and where compilers keep what they built: shared by all projects.
    pub cache: PathBuf,
    /// Where the component goes; `target/NAME.wasm` in the project if none.
    pub out: Option<PathBuf>,
    /// Whether packages of the system may be installed (only Rust on Debian without rustup's targets needs any).
    pub system_packages: bool,
    /// Told what is being done.
    pub progress: &'a dyn Fn(Progress<'_>),
}

impl fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("cache", &self.cache).field("out", &self.out).finish_non_exhaustive()
    }
}

/// What a build is doing.
#[derive(Debug, Clone, Copy)]
pub enum Progress<'a> {
    /// A step begins: a few words, such as `installing componentize-py`.
    Step(&'a str),
    /// A line that the step's program printed.
    Line(&'a str),
}

/// A built policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The policy's name in `policy.toml`.
    pub name: String,
    /// The world that it belongs to.
    pub world: World,
    /// The language that it is written in.
    pub language: Language,
    /// The component.
    pub path: PathBuf,
    /// The component's size in bytes.
    pub size: u64,
    /// What it imports: only interfaces of `muster:policy`.
    pub imports: Vec<String>,
}

/// Builds the project in the folder `project`.
///
/// # Errors
/// When `policy.toml` is faulty, a tool is missing, a command fails, or the result is not a component without WASI.
pub fn build(project: &Path, options: &Options<'_>) -> Result<Built, BuildError> {
    let project = fs::canonicalize(project).at("opening", project)?;
    let recipe = Recipe::read(&project)?;
    let out = match &options.out {
        Some(out) => std::path::absolute(out).at("finding", out)?,
        None => project.join("target").join(&recipe.policy.name).with_extension("wasm"),
    };
    create_parent(&out)?;
    let mut variables = Variables::new(&recipe, &project, &options.cache, &out);
    let tools = tools::install(&recipe, &project, options)?;
    if let Some(language) = recipe.build.bindings {
        (options.progress)(Progress::Step("writing the bindings"));
        bindings::write(language, &project, variables.wit(), recipe.policy.world)?;
    }
    let module = recipe.build.module.as_ref().map(|module| project.join(variables.fill(module)));
    if let Some(module) = &module {
        create_parent(module)?;
        variables.set_module(module);
    }
    for argv in &recipe.build.commands {
        run::step(argv, &recipe, &variables, &tools, &project, options)?;
    }
    if let Some(module) = &module {
        let bytes = fs::read(module).at("reading what the commands should have written, ", module)?;
        let bytes = component(&bytes, Some((variables.wit(), recipe.policy.world)))
            .map_err(|message| BuildError::Wrap { module: module.clone(), message })?;
        fs::write(&out, bytes).at("writing", &out)?;
    }
    let bytes = fs::read(&out).at("reading what the commands should have written, ", &out)?;
    let imports = component::checked_imports(&bytes)?;
    Ok(Built {
        name: recipe.policy.name,
        world: recipe.policy.world,
        language: recipe.policy.language,
        path: out,
        size: bytes.len() as u64,
        imports,
    })
}

fn create_parent(path: &Path) -> Result<(), BuildError> {
    let Some(folder) = path.parent() else { return Ok(()) };
    fs::create_dir_all(folder).at("creating", folder)
}
