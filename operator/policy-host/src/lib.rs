//! Runs placement and startup policies as WebAssembly components, within limits.
//!
//! ```text
//!  bytes ─► size ─► accept ─► compile ─► describe ─► validate settings ─► prepare ─► PlacementComponent | StartupComponent
//!           (load.rs: one typed error per step, so that a policy object can say which step failed)
//!
//!  component.place(snapshot, request) ─► a fresh store and instance (store.rs) ─► guest ─► normalised answers | CallError
//! ```
//!
//! This crate is the only one that knows wasmtime. It converts between `muster_core`'s values and those of `wit/policy.wit`, and
//! judges nothing: whether an answer may be followed is decided by `muster_core::placement`.
//!
//! Everything here blocks and is `Send + Sync`: call it from a thread that may block.

mod accept;
mod bindings;
mod breaker;
mod built_in;
mod cache;
mod call;
mod compile;
mod complexity;
mod component;
mod convert;
mod engine;
mod folder;
mod load;
mod schema;
mod settings;
mod slots;
mod store;

pub use accept::{AcceptError, PolicyKind, kind_of};
pub use breaker::{Breaker, Permit};
pub use built_in::{BuiltIn, built_in, built_ins};
pub use call::{CallError, CallOutcome, LogLevel, LogLine, TrapKind};
pub use component::{Descriptor, PlacementComponent, Preparation, StartupComponent};
pub use convert::message;
pub use engine::{Allocation, Engine, EngineError, EngineOptions};
pub use folder::{CacheOptions, Folder};
pub use load::{LoadError, Step, digest};
pub use store::Limits;
