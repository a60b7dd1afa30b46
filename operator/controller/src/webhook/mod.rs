//! Admission: the API server asks over HTTPS, every replica answers, and no answer has a side effect.
//!
//! ```text
//!  /mutate-leaderworkerset-x-k8s-io-v1-leaderworkerset ──► sets::default ──► muster_api::defaults   ┐
//!  /validate-leaderworkerset-x-k8s-io-v1-leaderworkerset ► sets::judge ────► muster_api::validate   ├─► review::Answer
//!  …-leaderworkerset-scale ──────────────────────────────► sets::judge_scale ► muster_api::validate ├─► review::Answer
//!  /mutate--v1-pod ──────────────────────────────────────► pods::mutate ───► muster_core::admission ┘
//! ```
//!
//! Paths are upstream's, so that its webhook configurations would find us. Upstream's fourth path, which validates pods
//! and always agrees, is not served: it only makes every update of a pod depend on the operator.
//!
//! The handlers are stateless. What they need to know of the cluster comes through [`Lookup`]. Since nothing is
//! written, a dry run is like any other request.

mod health;
mod lookup;
mod pods;
mod readiness;
mod review;
mod server;
mod sets;

#[cfg(test)]
mod tests;

pub(crate) use health::serve_health;
pub(crate) use lookup::Lookup;
pub(crate) use readiness::{Part, Readiness};
pub(crate) use server::{bind, serve};
