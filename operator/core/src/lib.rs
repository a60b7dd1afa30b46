//! Muster's decisions, as functions from values to values.
//!
//! ```text
//!  cluster/    what the cluster looks like: nodes · levels/domains · shapes · fit · ledger ──► frozen Snapshot
//!  placement/  where a unit goes: Request ─► policy (native or WebAssembly) ─► Answer ─► check ─► Assignment
//!  startup     which ranks of a group may exist now: Request ─► policy ─► Step
//!  admission   what a pod of a set needs to know about itself: identity, environment, gate
//!  gang        the PodGroup of a group, for schedulers that bind it as a whole
//!  kueue       what a set in a queue asks of Kueue instead of exclusive placement
//!  subgroups   how a group divides, and where its subgroups are
//!  observed    everything one reconcile has read about one set
//!  claims      what becomes of the workers' volume claims
//!  decide      set + observed + advice + time ─► Plan
//!  drift       what somebody changed about an object of ours
//!  plan        the list of writes, printable as a person would read it
//! ```
//!
//! This crate knows no Kubernetes client, no async runtime, no WebAssembly engine and no clock: time is an argument.
//! It does know the Kubernetes *types*, because pods and nodes are what it decides about.
#![forbid(unsafe_code)]

pub mod admission;
pub mod advice;
pub mod ask;
pub mod backend;
pub mod claims;
pub mod cluster;
pub mod decide;
pub mod drift;
pub mod gang;
pub mod instructions;
pub mod kueue;
pub mod observed;
pub mod owner;
pub mod placement;
pub mod placing;
pub mod plan;
pub mod pods;
pub mod record;
pub mod restart;
pub mod revision;
pub mod rollout;
pub mod startup;
pub mod status;
pub mod subgroups;
#[cfg(test)]
mod testing;
pub mod text;
pub mod trouble;

pub use decide::decide;
