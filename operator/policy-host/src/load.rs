//! The way from bytes to something that can be called, one typed error per step.
//!
//! size → accepted → compiled → described → settings valid. The steps are the conditions of a policy object.

use std::sync::Arc;
use std::time::Duration;

use muster_api::syntax;
use muster_core::placement::SettingsError;
use muster_core::placement::effects::{Effects, Forbidden, Stage};
use sha2::{Digest, Sha256};
use wasmtime::component::Component;

use crate::accept::{self, AcceptError};
use crate::call::CallError;
use crate::compile::CompileError;
use crate::component::{Descriptor, Preparation, Prepared, World, run};
use crate::convert;
use crate::engine::Engine;
use crate::schema::{self, Schema};
use crate::settings;
use crate::slots::Pace;
use crate::store::Limits;

/// Levels that one policy may read.
const MAX_LEVELS: usize = 16;

/// The steps of loading, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// The component is small enough to be looked at.
    Size,
    /// It is of the right world and imports only what policies get.
    Accepted,
    /// It is valid, compiles in time, and its functions have the right types.
    Compiled,
    /// It says who it is, and describes its settings by a schema that can be used.
    Described,
    /// It takes its settings, and says what it needs with them.
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
    /// Compiling took too long. It goes on, and whoever loads the same component again gets what comes of it.
    #[error("the component did not compile within {0:?}; that goes on in the background")]
    CompileTimeout(Duration),
    /// Others are being compiled, or were given up on and are still running.
    #[error("too many other components are being compiled")]
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
    /// `describe` answered with a settings schema that settings can't be compared with.
    #[error("`describe` answered with a settings-schema that is of no use: {0}")]
    Schema(String),
    /// The policy or its schema rejects the settings.
    #[error("the policy rejects its settings: {}", convert::list(.0))]
    Settings(Vec<SettingsError>),
    /// `validate-settings` failed.
    #[error("`validate-settings` failed: {0}")]
    ValidateSettings(#[source] CallError),
    /// `prepare` failed.
    #[error("`prepare` failed: {0}")]
    Prepare(#[source] CallError),
    /// `prepare` answered with a key that is none.
    #[error("`prepare` answered with {field} {value:?}: {expected}")]
    PrepareKeys {
        /// Which field of the preparation.
        field: &'static str,
        /// The key.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// `prepare` wants something for its pods that they don't get.
    #[error("`prepare` answered with {0}")]
    PrepareEffects(#[source] Forbidden),
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
            Self::Describe(_) | Self::Descriptor { .. } | Self::Schema(_) => Step::Described,
            Self::Settings(_)
            | Self::ValidateSettings(_)
            | Self::Prepare(_)
            | Self::PrepareKeys { .. }
            | Self::PrepareEffects(_) => Step::SettingsValid,
        }
    }

    /// What the author or the administrator can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::TooLarge { .. } => {
                Some("strip debug information, or raise the chart's value policyHost.maxComponentBytes".into())
            }
            Self::Refused(error) => error.hint(),
            Self::Compile(_) => {
                Some("check it with `wasm-tools validate`; threads, GC, exceptions, 64-bit memories and async are off".into())
            }
            Self::CompileTimeout(_) => Some(
                "try again later, make the component smaller, or raise the chart's value policyHost.compileTimeoutSeconds".into(),
            ),
            Self::CompileBusy => Some("it is tried again later".into()),
            Self::Link(_) => Some("build it against the wit/policy.wit of this operator".into()),
            Self::Schema(_) => Some("correct the schema in the policy, or let `describe` answer with an empty one".into()),
            Self::Settings(_) => Some("correct the fields of spec.settings that are named".into()),
            Self::Describe(_)
            | Self::ValidateSettings(_)
            | Self::Prepare(_)
            | Self::Descriptor { .. }
            | Self::PrepareKeys { .. }
            | Self::PrepareEffects(_) => None,
        }
    }

    /// The faults of the settings, if that is what is wrong.
    pub fn settings_errors(&self) -> &[SettingsError] {
        match self {
            Self::Settings(errors) => errors,
            Self::Describe(CallError::Settings(errors))
            | Self::ValidateSettings(CallError::Settings(errors))
            | Self::Prepare(CallError::Settings(errors)) => errors,
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
    pub(crate) preparation: Preparation,
    /// How fast it answers; the questions of loading it count as the first ones.
    pub(crate) pace: Arc<Pace>,
}

impl Engine {
    /// The first step of loading.
    ///
    /// # Errors
    /// When the component is larger than the engine's options allow.
    pub fn check_size(&self, bytes: &[u8]) -> Result<(), LoadError> {
        let limit = self.options.max_component_bytes;
        if bytes.len() > limit { Err(LoadError::TooLarge { size: bytes.len(), limit }) } else { Ok(()) }
    }
}

/// All steps, in order.
pub(crate) fn load<W: World>(
    engine: &Engine,
    bytes: &[u8],
    limits: Limits,
    settings: &serde_json::Value,
) -> Result<Loaded<W>, LoadError> {
    let (digest, pace) = (digest(bytes), Pace::unknown());
    let (pre, descriptor, schema) = described::<W>(engine, bytes, &digest, limits, &pace)?;
    let (settings, preparation) = take_settings(engine, &pre, limits, &pace, &schema, settings)?;
    Ok(Loaded { engine: engine.clone(), pre, limits, digest, descriptor, settings, preparation, pace })
}

/// The steps that need no settings.
fn described<W: World>(
    engine: &Engine,
    bytes: &[u8],
    digest: &str,
    limits: Limits,
    pace: &Arc<Pace>,
) -> Result<(W, Descriptor, Schema), LoadError> {
    engine.check_size(bytes)?;
    accept::accept(bytes, W::KIND)?;
    let pre = link::<W>(engine, &compile(engine, bytes, digest)?)?;
    let descriptor = run(engine, &pre, limits.patient(), pace, W::describe).result.map_err(LoadError::Describe)?;
    let schema = check_descriptor(&descriptor)?;
    Ok((pre, descriptor, schema))
}

/// Who a policy says it is, without any settings.
pub(crate) fn describe<W: World>(engine: &Engine, bytes: &[u8], limits: Limits) -> Result<Descriptor, LoadError> {
    described::<W>(engine, bytes, &digest(bytes), limits, &Pace::unknown()).map(|(_, descriptor, _)| descriptor)
}

/// The last steps again, for a component that is compiled already.
pub(crate) fn reconfigure<W: World>(
    loaded: &Loaded<W>,
    limits: Limits,
    settings: &serde_json::Value,
) -> Result<Loaded<W>, LoadError> {
    let schema = check_descriptor(&loaded.descriptor)?;
    let pace = Pace::unknown();
    let (settings, preparation) = take_settings(&loaded.engine, &loaded.pre, limits, &pace, &schema, settings)?;
    Ok(Loaded {
        engine: loaded.engine.clone(),
        pre: loaded.pre.clone(),
        limits,
        digest: loaded.digest.clone(),
        descriptor: loaded.descriptor.clone(),
        settings,
        preparation,
        pace,
    })
}

fn compile(engine: &Engine, bytes: &[u8], digest: &str) -> Result<Component, LoadError> {
    engine.compile(bytes, digest).map_err(|error| match error {
        CompileError::Timeout(limit) => LoadError::CompileTimeout(limit),
        CompileError::Busy => LoadError::CompileBusy,
        CompileError::Failed(why) => LoadError::Compile(convert::message(&why)),
    })
}

fn link<W: World>(engine: &Engine, component: &Component) -> Result<W, LoadError> {
    W::link(&engine.wasmtime, component).map_err(|error| LoadError::Link(convert::message(&format!("{error:#}"))))
}

fn check_descriptor(Descriptor { name, version, settings_schema }: &Descriptor) -> Result<Schema, LoadError> {
    let wrong = |field, value: &str, expected| Err(LoadError::Descriptor { field, value: convert::message(value), expected });
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > 63 || !name.bytes().all(is_name) {
        return wrong("name", name, "it must be 1 to 63 small letters, digits and dashes");
    }
    if version.is_empty() || version.len() > 64 || !version.bytes().all(|byte| byte.is_ascii_graphic()) {
        return wrong("version", version, "it must be a semantic version");
    }
    Schema::read(settings_schema).map_err(|why| LoadError::Schema(convert::message(&why)))
}

/// Compares the settings with the policy's schema, asks the policy about them and for what it needs with them.
fn take_settings<W: World>(
    engine: &Engine,
    pre: &W,
    limits: Limits,
    pace: &Arc<Pace>,
    schema: &Schema,
    settings: &serde_json::Value,
) -> Result<(String, Preparation), LoadError> {
    let settings = settings::canonical(settings);
    let unlike = schema.faults(&serde_json::from_str(&settings).unwrap_or_default());
    let validate = |store: &mut _, instance: &_| W::validate_settings(store, instance, &settings);
    let errors = match run(engine, pre, limits.patient(), pace, validate).result {
        Ok(errors) => convert::settings_errors(errors),
        // Settings that are not even of the right shape explain more than what the policy made of them.
        Err(_) if !unlike.is_empty() => Vec::new(),
        Err(error) => return Err(LoadError::ValidateSettings(error)),
    };
    let errors = schema::merged(errors, unlike);
    if !errors.is_empty() {
        return Err(LoadError::Settings(errors));
    }
    let prepare = |store: &mut _, instance: &_| W::prepare(store, instance, &settings);
    let prepared = run(engine, pre, limits.patient(), pace, prepare).result.map_err(LoadError::Prepare)?;
    Ok((settings, check_preparation(prepared)?))
}

fn check_preparation(prepared: Prepared) -> Result<Preparation, LoadError> {
    let Prepared { levels, effects, peers } = prepared;
    let wrong = |field, value: &str, expected| Err(LoadError::PrepareKeys { field, value: convert::message(value), expected });
    if let Some(level) = levels.get(MAX_LEVELS) {
        return wrong("level", level, "a policy reads at most 16 levels");
    }
    for (position, level) in levels.iter().enumerate() {
        if !syntax::is_label_key(level) {
            return wrong("level", level, "a level is a node label key");
        }
        if levels[..position].contains(level) {
            return wrong("level", level, "a level is named once");
        }
    }
    if let Some(peers) = peers.as_deref().filter(|peers| !syntax::is_label_key(peers)) {
        return wrong("peers", peers, "peers share a label key of their sets");
    }
    let effects = Effects::check(&effects, Stage::Preparation).map_err(LoadError::PrepareEffects)?;
    Ok(Preparation { levels, effects, peers })
}
