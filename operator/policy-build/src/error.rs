//! Why a policy was not built.

use std::io;
use std::path::{Path, PathBuf};

use crate::RECIPE;

/// Why a policy was not built. Each says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The folder is no project.
    #[error("{} has no {RECIPE}: `muster policy new` makes a project", .0.display())]
    NoRecipe(PathBuf),
    /// `policy.toml` is faulty.
    #[error("{}: {message}", path.display())]
    Recipe {
        /// The file.
        path: PathBuf,
        /// The field and what is wrong with it.
        message: String,
    },
    /// A file could not be read or written.
    #[error("{doing} {}: {source}", path.display())]
    File {
        /// What was attempted.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A program that must be on the machine is not there.
    #[error("{program} can't be started ({source}): {remedy}")]
    Missing {
        /// The program.
        program: String,
        /// Why it can't be started.
        source: io::Error,
        /// How to get it.
        remedy: String,
    },
    /// No Rust toolchain that compiles to WebAssembly.
    #[error("{0}")]
    Rust(String),
    /// A program failed.
    #[error("`{command}` failed ({status}):\n{tail}")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: String,
        /// The last lines that it printed.
        tail: String,
    },
    /// The interface can't be read, or bindings can't be made of it.
    #[error("{}: {message}", path.display())]
    Wit {
        /// The folder of `policy.wit`.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The core module does not implement the world.
    #[error("{} can't be made a component: {message}", module.display())]
    Wrap {
        /// The module.
        module: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The commands wrote something else than a component.
    #[error("{0}")]
    NotAComponent(String),
    /// The component imports WASI, which no operator loads.
    #[error(
        "the component imports {}, and policies may not import WASI: let the language's tool leave it out (componentize-py: \
         --stub-wasi, componentize-js: --disable), or build a core module and name it as `module`, to which a WASI that grants \
         nothing is linked",
        .0.join(", ")
    )]
    Wasi(Vec<String>),
}

/// Says what was attempted with which file.
pub(crate) trait At<T> {
    fn at(self, doing: &'static str, path: &Path) -> Result<T, BuildError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, doing: &'static str, path: &Path) -> Result<T, BuildError> {
        self.map_err(|source| BuildError::File { doing, path: path.to_owned(), source })
    }
}
