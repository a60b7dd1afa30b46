//! A policy to work with: a component of either world, or the rule that the operator follows without one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use muster_core::placement::Answer;
use muster_policy_host::{
    Descriptor, Engine, Limits, LoadError, PlacementComponent, PolicyKind, Preparation, StartupComponent, built_in, built_ins,
    kind_of,
};
use serde_json::Value;

/// How a built-in policy is named where a file could stand.
const BUILT_IN: &str = "builtin:";

/// The bytes of a component, and where they are from.
#[derive(Debug, Clone)]
pub struct Bytes {
    /// As it was named.
    pub origin: String,
    /// The component.
    pub bytes: Arc<[u8]>,
}

/// A policy that could not be had.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file is not there or can't be read.
    #[error("reading {}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: std::io::Error,
    },
    /// No built-in policy of that name.
    #[error("no policy {name:?} is built in; there are {known}")]
    BuiltIn {
        /// The name.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// A step of loading failed.
    #[error("{origin}: {error}{}", error.hint().map(|hint| format!("; {hint}")).unwrap_or_default())]
    Load {
        /// Which component.
        origin: String,
        /// The step's error.
        error: LoadError,
    },
}

impl Bytes {
    /// Reads a component: a file, or `builtin:NAME`.
    ///
    /// # Errors
    /// When there is no such file or no such built-in policy.
    pub fn read(name: &str) -> Result<Self, PolicyError> {
        if let Some(name) = name.strip_prefix(BUILT_IN) {
            return Self::of_built_in(name);
        }
        let path = Path::new(name);
        let bytes = fs::read(path).map_err(|why| PolicyError::File { path: path.to_owned(), why })?;
        Ok(Self { origin: name.to_owned(), bytes: bytes.into() })
    }

    /// A policy that is part of the operator.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn of_built_in(name: &str) -> Result<Self, PolicyError> {
        let bytes = built_in(name).ok_or_else(|| {
            let known: Vec<&str> = built_ins().iter().map(|known| known.name).collect();
            let known =
                if known.is_empty() { "none: build them with `cargo xtask policies`".to_owned() } else { known.join(", ") };
            PolicyError::BuiltIn { name: name.to_owned(), known }
        })?;
        Ok(Self { origin: format!("{BUILT_IN}{name}"), bytes: bytes.into() })
    }

    /// The world that it belongs to.
    ///
    /// # Errors
    /// When it belongs to none, as the operator's loader would say.
    pub fn kind(&self) -> Result<PolicyKind, PolicyError> {
        kind_of(&self.bytes).map_err(|error| self.error(error.into()))
    }

    /// Loads it as the operator does.
    ///
    /// # Errors
    /// The step that failed, and why.
    pub fn load(&self, engine: &Engine, limits: Limits, settings: &Value) -> Result<Policy, PolicyError> {
        // The operator looks at nothing of a component that is too large; `kind` would.
        engine.check_size(&self.bytes).map_err(|error| self.error(error))?;
        let loaded = match self.kind()? {
            PolicyKind::Placement => engine.load_placement(&self.bytes, limits, settings).map(Policy::Placement),
            PolicyKind::Startup => engine.load_startup(&self.bytes, limits, settings).map(Policy::Startup),
        };
        loaded.map_err(|error| self.error(error))
    }

    /// Who it says it is, whatever settings it wants.
    ///
    /// # Errors
    /// The step that failed, and why.
    pub fn describe(&self, engine: &Engine, limits: Limits) -> Result<Descriptor, PolicyError> {
        engine.check_size(&self.bytes).map_err(|error| self.error(error))?;
        engine.describe(&self.bytes, self.kind()?, limits).map_err(|error| self.error(error))
    }

    fn error(&self, error: LoadError) -> PolicyError {
        PolicyError::Load { origin: self.origin.clone(), error }
    }
}

/// A policy that can be asked.
#[derive(Debug, Clone)]
pub enum Policy {
    /// A placement policy.
    Placement(PlacementComponent),
    /// A startup policy.
    Startup(StartupComponent),
    /// What the operator does when no placement policy is named.
    Native,
}

impl Policy {
    /// Name and version.
    pub fn name(&self) -> String {
        match self {
            Self::Placement(component) => format!("{} {}", component.name(), component.version()),
            Self::Startup(component) => format!("{} {}", component.name(), component.version()),
            Self::Native => "native".to_owned(),
        }
    }

    /// Its name alone.
    pub fn short_name(&self) -> &str {
        match self {
            Self::Placement(component) => component.name(),
            Self::Startup(component) => component.name(),
            Self::Native => "native",
        }
    }

    /// `sha256:…` of the component; nothing for the native rule.
    pub fn digest(&self) -> Option<&str> {
        match self {
            Self::Placement(component) => Some(component.digest()),
            Self::Startup(component) => Some(component.digest()),
            Self::Native => None,
        }
    }

    /// What it needs.
    pub fn preparation(&self) -> Preparation {
        match self {
            Self::Placement(component) => component.preparation().clone(),
            Self::Startup(component) => component.preparation().clone(),
            Self::Native => Preparation::default(),
        }
    }

    /// JSON Schema of its settings; empty if there is none.
    pub fn settings_schema(&self) -> &str {
        match self {
            Self::Placement(component) => component.settings_schema(),
            Self::Startup(component) => component.settings_schema(),
            Self::Native => "",
        }
    }

    /// The same policy with other settings.
    ///
    /// # Errors
    /// When it rejects them.
    pub fn with_settings(&self, limits: Limits, settings: &Value) -> Result<Self, LoadError> {
        match self {
            Self::Placement(component) => component.reconfigured(limits, settings).map(Self::Placement),
            Self::Startup(component) => component.reconfigured(limits, settings).map(Self::Startup),
            Self::Native => Ok(Self::Native),
        }
    }

    /// Its answers to a placement question; `None` for a policy of the other world.
    pub(crate) fn place(
        &self,
        snapshot: &muster_core::cluster::Snapshot,
        request: &muster_core::placement::Request,
    ) -> Option<muster_policy_host::CallOutcome<Vec<Answer>>> {
        match self {
            Self::Placement(component) => Some(component.place(snapshot, request)),
            Self::Startup(_) => None,
            Self::Native => {
                let started = std::time::Instant::now();
                let answers = muster_core::placement::native::place(snapshot, request);
                Some(muster_policy_host::CallOutcome {
                    result: Ok(answers),
                    duration: started.elapsed(),
                    instantiate: std::time::Duration::ZERO,
                    peak_memory: 0,
                    instructions: None,
                    logs: Vec::new(),
                    logs_dropped: 0,
                })
            }
        }
    }
}
