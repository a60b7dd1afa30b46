//! The Kubernetes API types that Muster serves.
//!
//! ```text
//!  leader_worker_set   LeaderWorkerSet (leaderworkerset.x-k8s.io/v1): spec, status, total accessors
//!  group_status        what the status says of each group
//!  template            pod and claim templates: raw JSON with typed views, so that nothing in them is ever lost
//!  policy              PlacementPolicy and StartupPolicy (policy.muster.dev/v1alpha1)
//!  names               every label, annotation, variable, object name and hash of the contract
//!  conditions          condition types, reasons and messages; event reasons
//!  defaults            what a set looks like once every default is filled in
//!  validate            what a set must be, with errors that name field, value and remedy
//!  field               errors that name a field, its value and the remedy
//!  scaled              "25%" of 7, rounded up or down
//!  crd                 the CustomResourceDefinitions of `deploy/crd`
//! ```
//!
//! This crate is for everybody who reads or writes those objects: the decisions (`muster-core`), the operator, the command line
//! and the tests. It holds values and pure functions only: no client, no clock, no I/O. Which pods exist and where they go is
//! decided elsewhere.
//!
//! The LeaderWorkerSet API is that of kubernetes-sigs/lws. Where a comment says *upstream*, it means that project.
#![forbid(unsafe_code)]

pub mod conditions;
pub mod crd;
pub mod defaults;
pub mod field;
pub mod group_status;
pub mod leader_worker_set;
pub mod names;
pub mod policy;
pub mod scaled;
pub mod syntax;
pub mod template;
#[cfg(test)]
mod testing;
pub mod validate;

pub use group_status::{GroupCounts, GroupPhase, GroupStatus};
pub use leader_worker_set::{LeaderWorkerSet, LeaderWorkerSetSpec, LeaderWorkerSetStatus};
pub use policy::{PlacementPolicy, StartupPolicy};
pub use template::{ClaimTemplate, PodTemplate};
