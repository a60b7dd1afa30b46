//! The way from bytes to something that can be called, one typed error per step.
//!
//! size → accepted → compiled → described → settings valid. The steps are the conditions of a policy object.

use std::time::Duration;

use muster_core::placement::SettingsError;
use sha2::{Digest, Sha256};
use wasmtime::component::Component;

use crate::accept::{self, AcceptError};
use crate::call::CallError;
use crate::component::{Descriptor, World, run};
use crate::convert;
use crate::engine::{CompileError, Engine};
use crate::settings;
use crate::store::Limits;

/// Levels that one policy may read.
const MAX_LEVELS: usize = 16;
/// A label key: a prefix of 253 bytes, a slash, a name of 63.
const MAX_LABEL_KEY_BYTES: usize = 317;

/// The steps of loading, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// The component is small enough to be looked at.
    Size,
    /// It is of the right world and imports only what policies get.
    Accepted,
    /// It is valid, compiles in time, and its functions have the right types.
    Compiled,
    /// It says who it is.
    Described,
    /// It takes its settings, and says which levels it reads.
    SettingsValid,
}

/// Why a policy was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The component is too large.
    #[error("the component has {size} bytes, and at most {limit} are allowed")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// What the operator allows, in bytes.
        limit: usize,
    },
    /// The component's imports or exports are not those of a policy.
    #[error(transparent)]
    Refused(#[from] AcceptError),
    /// The component is not valid, or uses parts of WebAssembly that are off.
    #[error("the component does not compile: {0}")]
    Compile(String),
    /// Compiling took too long.
    #[error("the component did not compile within {0:?}")]
    CompileTimeout(Duration),
    /// Earlier compilations that took too long are still running.
    #[error("too many compilations are still running")]
    CompileBusy,
    /// Its functions have other types than `wit/policy.wit` says.
    #[error("the component's functions do not fit wit/policy.wit: {0}")]
    Link(String),
    /// `describe` failed.
    #[error("`describe` failed: {0}")]
    Describe(#[source] CallError),
    /// `describe` answered nonsense.
    #[error("`describe` answered with {field} {value:?}: {expected}")]
    Descriptor {
        /// Which field of the descriptor.
        field: &'static str,
        /// What it says.
        value: String,
        /// What it should say.
        expected: &'static str,
    },
    /// The policy rejects the settings.
    #[error("the policy rejects its settings: {}", convert::list(.0))]
    Settings(Vec<SettingsError>),
    /// `validate-settings` failed.
    #[error("`validate-settings` failed: {0}")]
    ValidateSettings(#[source] CallError),
    /// `levels` failed.
    #[error("`levels` failed: {0}")]
    Levels(#[source] CallError),
    /// `levels` answered nonsense.
    #[error("`levels` answered with {value:?}: {expected}")]
    LevelKeys {
        /// The level's key.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
}

/// `sha256:` and the hexadecimal digest of a component's bytes.
pub fn digest(component: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(component))
}

impl LoadError {
    /// The step that failed; all before it went well.
    pub fn step(&self) -> Step {
        match self {
            Self::TooLarge { .. } => Step::Size,
            Self::Refused(_) => Step::Accepted,
            Self::Compile(_) | Self::CompileTimeout(_) | Self::CompileBusy | Self::Link(_) => Step::Compiled,
            Self::Describe(_) | Self::Descriptor { .. } => Step::Described,
            Self::Settings(_) | Self::ValidateSettings(_) | Self::Levels(_) | Self::LevelKeys { .. } => Step::SettingsValid,
        }
    }

    /// What the author or the administrator can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::TooLarge { .. } => Some("strip debug information, or raise the operator's limit".into()),
            Self::Refused(error) => error.hint(),
            Self::Compile(_) => {
                Some("check it with `wasm-tools validate`; threads, GC, exceptions, 64-bit memories and async are off".into())
            }
            Self::CompileTimeout(_) => Some("make the component smaller, or raise the operator's limit".into()),
            Self::CompileBusy => Some("it is tried again later".into()),
            Self::Link(_) => Some("build it against the wit/policy.wit of this operator".into()),
            Self::Settings(_) => Some("correct the fields of spec.settings that are named".into()),
            Self::Describe(error) | Self::ValidateSettings(error) | Self::Levels(error) => match error {
                CallError::Deadline { .. } => Some("raise spec.limits.deadline, or make the policy faster".into()),
                CallError::Memory { .. } => Some("raise spec.limits.memory, or make the policy smaller".into()),
                _ => None,
            },
            Self::Descriptor { .. } | Self::LevelKeys { .. } => None,
        }
    }

    /// The faults of the settings, if that is what is wrong.
    pub fn settings_errors(&self) -> &[SettingsError] {
        match self {
            Self::Settings(errors) => errors,
            Self::Describe(CallError::Settings(errors))
            | Self::ValidateSettings(CallError::Settings(errors))
            | Self::Levels(CallError::Settings(errors)) => errors,
            _ => &[],
        }
    }
}

/// A component that passed every step.
pub(crate) struct Loaded<W> {
    pub(crate) engine: Engine,
    pub(crate) pre: W,
    pub(crate) limits: Limits,
    pub(crate) digest: String,
    pub(crate) descriptor: Descriptor,
    pub(crate) settings: String,
    pub(crate) levels: Vec<String>,
}

/// All steps, in order.
pub(crate) fn load<W: World>(
    engine: &Engine,
    bytes: &[u8],
    limits: Limits,
    settings: &serde_json::Value,
) -> Result<Loaded<W>, LoadError> {
    let limit = engine.options.max_component_bytes;
    if bytes.len() > limit {
        return Err(LoadError::TooLarge { size: bytes.len(), limit });
    }
    accept::accept(bytes, W::KIND)?;
    let pre = link::<W>(engine, &compile(engine, bytes)?)?;
    let descriptor = run(engine, &pre, limits, W::describe).result.map_err(LoadError::Describe)?;
    check_descriptor(&descriptor)?;
    let digest = digest(bytes);
    let (settings, levels) = take_settings(engine, &pre, limits, settings)?;
    Ok(Loaded { engine: engine.clone(), pre, limits, digest, descriptor, settings, levels })
}

/// The last steps again, for a component that is compiled already.
pub(crate) fn reconfigure<W: World>(
    loaded: &Loaded<W>,
    limits: Limits,
    settings: &serde_json::Value,
) -> Result<Loaded<W>, LoadError> {
    let (settings, levels) = take_settings(&loaded.engine, &loaded.pre, limits, settings)?;
    Ok(Loaded {
        engine: loaded.engine.clone(),
        pre: loaded.pre.clone(),
        limits,
        digest: loaded.digest.clone(),
        descriptor: loaded.descriptor.clone(),
        settings,
        levels,
    })
}

fn compile(engine: &Engine, bytes: &[u8]) -> Result<Component, LoadError> {
    engine.compile(bytes).map_err(|error| match error {
        CompileError::Timeout(limit) => LoadError::CompileTimeout(limit),
        CompileError::Busy => LoadError::CompileBusy,
        CompileError::Failed(why) => LoadError::Compile(why),
    })
}

fn link<W: World>(engine: &Engine, component: &Component) -> Result<W, LoadError> {
    W::link(&engine.wasmtime, component).map_err(|error| LoadError::Link(format!("{error:#}")))
}

fn check_descriptor(Descriptor { name, version, settings_schema }: &Descriptor) -> Result<(), LoadError> {
    let wrong = |field, value: &str, expected| Err(LoadError::Descriptor { field, value: convert::message(value), expected });
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > 63 || !name.bytes().all(is_name) {
        return wrong("name", name, "it must be 1 to 63 small letters, digits and dashes");
    }
    if version.is_empty() || version.len() > 64 || !version.bytes().all(|byte| byte.is_ascii_graphic()) {
        return wrong("version", version, "it must be a semantic version");
    }
    if !settings_schema.is_empty() && serde_json::from_str::<serde_json::Value>(settings_schema).is_err() {
        return wrong("settings-schema", settings_schema, "it must be a JSON document or empty");
    }
    Ok(())
}

/// Asks the policy about its settings and for the levels it reads with them.
fn take_settings<W: World>(
    engine: &Engine,
    pre: &W,
    limits: Limits,
    settings: &serde_json::Value,
) -> Result<(String, Vec<String>), LoadError> {
    let settings = settings::canonical(settings);
    let validate = |store: &mut _, instance: &_| W::validate_settings(store, instance, &settings);
    let errors = run(engine, pre, limits, validate).result.map_err(LoadError::ValidateSettings)?;
    if !errors.is_empty() {
        return Err(LoadError::Settings(convert::settings_errors(errors)));
    }
    let levels = |store: &mut _, instance: &_| W::levels(store, instance, &settings);
    let levels = run(engine, pre, limits, levels).result.map_err(LoadError::Levels)?;
    check_levels(&levels)?;
    Ok((settings, levels))
}

fn check_levels(levels: &[String]) -> Result<(), LoadError> {
    let wrong = |value: &str, expected| Err(LoadError::LevelKeys { value: convert::message(value), expected });
    if let Some(level) = levels.get(MAX_LEVELS) {
        return wrong(level, "a policy reads at most 16 levels");
    }
    for (position, level) in levels.iter().enumerate() {
        if level.is_empty() || level.len() > MAX_LABEL_KEY_BYTES || !level.bytes().all(|byte| byte.is_ascii_graphic()) {
            return wrong(level, "a level is a node label key");
        }
        if levels[..position].contains(level) {
            return wrong(level, "a level is named once");
        }
    }
    Ok(())
}
