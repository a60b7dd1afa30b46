//! What may be loaded at all, decided from names alone and before anything is compiled.
//!
//! A component can touch only what it imports, so the list of allowed imports is the list of what policies are allowed to do.

use std::fmt;

use wasmparser::{Parser, Payload};

use crate::convert;

/// How deep components may lie in each other.
const MAX_DEPTH: u32 = 32;
/// Modules and components in a component. Those of languages that link dynamically have some tens.
const MAX_INNER: u32 = 500;

/// The two worlds of `wit/policy.wit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PolicyKind {
    /// World `placement-policy`: where the units of a set go.
    Placement,
    /// World `startup-policy`: which ranks of a group may exist.
    Startup,
}

impl PolicyKind {
    /// The name of the world in `wit/policy.wit`.
    pub fn world(self) -> &'static str {
        match self {
            Self::Placement => "placement-policy",
            Self::Startup => "startup-policy",
        }
    }

    /// The kind of object in the Kubernetes API that takes policies of this world.
    pub fn object(self) -> &'static str {
        match self {
            Self::Placement => "PlacementPolicy",
            Self::Startup => "StartupPolicy",
        }
    }

    fn interface(self) -> &'static str {
        match self {
            Self::Placement => "placement",
            Self::Startup => "startup",
        }
    }

    fn imports(self) -> &'static [&'static str] {
        match self {
            Self::Placement => &["types", "log", "cluster"],
            Self::Startup => &["types", "log"],
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Placement => Self::Startup,
            Self::Startup => Self::Placement,
        }
    }
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.world())
    }
}

/// Why a component was refused before it was compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AcceptError {
    /// Neither a module nor a component.
    #[error("this is not WebAssembly: {0}")]
    NotWasm(String),
    /// A core module.
    #[error("this is a core WebAssembly module, not a component")]
    CoreModule,
    /// Imports some interface of WASI.
    #[error("the component imports `{0}`; policies may not import WASI")]
    Wasi(String),
    /// Imports something else that policies don't get.
    #[error("the component imports `{import}`; a {kind} may import only {}", allowed(*kind))]
    UnknownImport {
        /// The import.
        import: String,
        /// The world it was checked against.
        kind: PolicyKind,
    },
    /// A good component, of the other world.
    #[error("the component is a {found}, and this needs a {wanted}")]
    OtherWorld {
        /// What it is.
        found: PolicyKind,
        /// What was asked for.
        wanted: PolicyKind,
    },
    /// Speaks a version of the interface that this host doesn't.
    #[error("the component speaks `{0}`, and this operator speaks muster:policy@0.1")]
    OtherVersion(String),
    /// Has more in it than any policy needs; compilers take long over such things, or run out of stack.
    #[error("the component has {what}, and at most {limit} are possible")]
    TooComplex {
        /// How many of what.
        what: String,
        /// The most that there may be.
        limit: String,
    },
    /// Exports no policy.
    #[error("the component does not export `{0}`")]
    MissingExport(String),
}

impl AcceptError {
    /// What the author or the administrator can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotWasm(_) => "check that the source names a .wasm component and that the whole file arrived".into(),
            Self::CoreModule => "make it a component with `wasm-tools component new`, or with the wit-component library".into(),
            Self::Wasi(_) => {
                "build it without WASI: `muster policy build` does so for Rust, Go, JavaScript, Python and C; for Rust alone, target \
                 wasm32-unknown-unknown instead of wasm32-wasip1 or wasm32-wasip2"
                    .into()
            }
            Self::UnknownImport { .. } => "build it against wit/policy.wit and remove what is not in its world".into(),
            Self::TooComplex { .. } => "let the compiler link it into fewer modules".into(),
            Self::OtherWorld { found, .. } => format!("use it in a {} instead", found.object()),
            Self::OtherVersion(_) => "build it against the wit/policy.wit of this operator, or upgrade the operator".into(),
            Self::MissingExport(_) => "build it against one of the worlds of wit/policy.wit".into(),
        };
        Some(hint)
    }
}

fn allowed(kind: PolicyKind) -> String {
    let names: Vec<_> = kind.imports().iter().map(|name| format!("`muster:policy/{name}@0.1`")).collect();
    names.join(", ")
}

/// Checks that `bytes` are a component that exports what `kind` must and imports nothing else than what it may.
pub(crate) fn accept(bytes: &[u8], kind: PolicyKind) -> Result<(), AcceptError> {
    let names = names(bytes)?;
    // WASI first: it is the common mistake, and its hint solves the rest.
    if let Some(import) = names.imports.iter().find(|name| name.starts_with("wasi:") || name.starts_with("wasi_")) {
        return Err(AcceptError::Wasi(import.clone()));
    }
    let exports = |interface: &str| names.exports.iter().any(|name| is_ours(name, interface));
    if !exports(kind.interface()) {
        return Err(missing(&names, kind));
    }
    if !exports("lifecycle") {
        return Err(missing_interface(&names, "lifecycle"));
    }
    match names.imports.iter().find(|name| !kind.imports().iter().any(|allowed| is_ours(name, allowed))) {
        Some(import) => Err(AcceptError::UnknownImport { import: import.clone(), kind }),
        None => Ok(()),
    }
}

/// Which world a component belongs to.
///
/// # Errors
/// When it belongs to none.
pub fn kind_of(bytes: &[u8]) -> Result<PolicyKind, AcceptError> {
    match accept(bytes, PolicyKind::Placement) {
        Ok(()) => Ok(PolicyKind::Placement),
        Err(AcceptError::OtherWorld { found, .. }) => accept(bytes, found).map(|()| found),
        Err(error) => Err(error),
    }
}

fn missing(names: &Names, kind: PolicyKind) -> AcceptError {
    let other = kind.other();
    if names.exports.iter().any(|name| is_ours(name, other.interface())) {
        AcceptError::OtherWorld { found: other, wanted: kind }
    } else {
        missing_interface(names, kind.interface())
    }
}

fn missing_interface(names: &Names, interface: &str) -> AcceptError {
    let prefix = format!("muster:policy/{interface}@");
    match names.exports.iter().find(|name| name.starts_with(&prefix)) {
        Some(name) => AcceptError::OtherVersion(name.clone()),
        None => AcceptError::MissingExport(format!("muster:policy/{interface}@0.1.0")),
    }
}

/// Versions 0.1.x are compatible with each other, as in wasmtime's linker; pre-releases are not.
fn is_ours(name: &str, interface: &str) -> bool {
    let patch = name
        .strip_prefix("muster:policy/")
        .and_then(|rest| rest.strip_prefix(interface))
        .and_then(|rest| rest.strip_prefix("@0.1."));
    patch.is_some_and(|patch| !patch.is_empty() && patch.bytes().all(|byte| byte.is_ascii_digit()))
}

#[derive(Default)]
struct Names {
    imports: Vec<String>,
    exports: Vec<String>,
}

/// What is wrong with the first bytes, in the words of somebody who named the wrong file.
fn beginning(bytes: &[u8]) -> Option<String> {
    const MAGIC: &[u8] = b"\0asm";
    if bytes.is_empty() {
        return Some("it is empty".to_owned());
    }
    let first = &bytes[..bytes.len().min(MAGIC.len())];
    (first != MAGIC).then(|| format!("it begins with \"{}\", and WebAssembly with \"\\0asm\"", first.escape_ascii()))
}

/// The names that the outermost component imports and exports. Stops at the first fault; full validation comes with compiling.
fn names(bytes: &[u8]) -> Result<Names, AcceptError> {
    if Parser::is_core_wasm(bytes) {
        return Err(AcceptError::CoreModule);
    }
    if let Some(why) = beginning(bytes) {
        return Err(AcceptError::NotWasm(why));
    }
    let not_wasm = |error: wasmparser::BinaryReaderError| AcceptError::NotWasm(convert::message(error.message()));
    // What is no name yet, because nothing is validated, is shown to people all the same.
    let name = |name: &str| convert::message(name);
    let mut names = Names::default();
    let (mut depth, mut inner) = (0_u32, 0_u32);
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(not_wasm)? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                (depth, inner) = (depth + 1, inner + 1);
                if depth > MAX_DEPTH {
                    let (what, limit) = (format!("{depth} levels inside each other"), format!("{MAX_DEPTH} levels"));
                    return Err(AcceptError::TooComplex { what, limit });
                }
                if inner > MAX_INNER {
                    let (what, limit) =
                        (format!("{inner} modules and components"), format!("{MAX_INNER} modules and components"));
                    return Err(AcceptError::TooComplex { what, limit });
                }
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    names.imports.push(name(import.map_err(not_wasm)?.name.name));
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    names.exports.push(name(export.map_err(not_wasm)?.name.name));
                }
            }
            _ => {}
        }
    }
    Ok(names)
}
