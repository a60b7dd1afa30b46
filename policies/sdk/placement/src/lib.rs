//! Write placement policies for Muster in Rust: world `placement-policy`, where the units of a set go.
//!
//! A policy is a `cdylib` crate that implements two traits and exports them:
//!
//! ```ignore
//! use muster_placement_sdk::{Answer, Failure, Lifecycle, Placement, Request, Snapshot};
//!
//! struct MyPolicy;
//!
//! impl Lifecycle for MyPolicy { /* describe, validate_settings, levels */ }
//! impl Placement for MyPolicy { /* place */ }
//!
//! muster_placement_sdk::export!(MyPolicy);
//! ```
//!
//! `wit/policy.wit` says what every function means. Keep the decision in a function of plain values, over [`Cluster`] instead
//! of [`Snapshot`], and a plain `cargo test` tests it; see `policies/node-pool`.

pub use muster_policy_sdk::settings;

#[allow(missing_docs, clippy::all, clippy::unwrap_used, clippy::expect_used, reason = "generated code")]
#[doc(hidden)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        world: "placement-policy",
        pub_export_macro: true,
        export_macro_name: "export_placement",
        default_bindings_module: "muster_placement_sdk::bindings",
        additional_derives: [PartialEq],
    });
}

pub use bindings::exports::muster::policy::lifecycle::{Descriptor, Guest as Lifecycle};
pub use bindings::exports::muster::policy::placement::{Answer, Decision, Guest as Placement, Request, Unit};
pub use bindings::muster::policy::cluster::Snapshot;
pub use bindings::muster::policy::log;
pub use bindings::muster::policy::types::{Demand, Failure, Location, Reason, SettingsError};

/// In columns: no domain.
pub const NO_DOMAIN: u32 = u32::MAX;

/// The settings fault as the interface has it.
pub fn settings_error(fault: settings::Fault) -> SettingsError {
    SettingsError { path: fault.path, message: fault.message }
}

/// One entry per shape: the pods of equal shapes added up, in the order of their first appearance.
pub fn merged(pods: impl IntoIterator<Item = Demand>) -> Vec<Demand> {
    let mut merged: Vec<Demand> = Vec::new();
    for demand in pods {
        match merged.iter_mut().find(|known| known.shape == demand.shape) {
            Some(known) => known.pods = known.pods.saturating_add(demand.pods),
            None => merged.push(demand),
        }
    }
    merged
}

/// What a policy reads of the cluster. [`Snapshot`] is the real one; tests of a decision bring their own.
pub trait Cluster {
    /// Label keys of the levels.
    fn levels(&self) -> Vec<String>;
    /// How many domains the level has.
    fn domain_count(&self, level: u32) -> u32;
    /// For every domain: how many pods of this shape fit.
    fn domain_fit(&self, level: u32, shape: u32) -> Vec<u32>;
    /// For every domain: how many other units sit there.
    fn domain_holders(&self, level: u32) -> Vec<u32>;
    /// For every node: its domain.
    fn node_domains(&self, level: u32) -> Vec<u32>;
    /// Domains with room for all of `pods` together, least left over first.
    fn best_domains(&self, level: u32, pods: &[Demand], exclusive: bool, limit: u32) -> Vec<u32>;
    /// The label value that makes the domain.
    fn domain_name(&self, level: u32, domain: u32) -> String;
}

impl Cluster for Snapshot {
    fn levels(&self) -> Vec<String> {
        Snapshot::levels(self)
    }

    fn domain_count(&self, level: u32) -> u32 {
        Snapshot::domain_count(self, level)
    }

    fn domain_fit(&self, level: u32, shape: u32) -> Vec<u32> {
        Snapshot::domain_fit(self, level, shape)
    }

    fn domain_holders(&self, level: u32) -> Vec<u32> {
        Snapshot::domain_holders(self, level)
    }

    fn node_domains(&self, level: u32) -> Vec<u32> {
        Snapshot::node_domains(self, level)
    }

    fn best_domains(&self, level: u32, pods: &[Demand], exclusive: bool, limit: u32) -> Vec<u32> {
        Snapshot::best_domains(self, level, pods, exclusive, limit)
    }

    fn domain_name(&self, level: u32, domain: u32) -> String {
        Snapshot::domain_name(self, level, domain)
    }
}

/// Makes a type the policy of this component.
///
/// Natively, where `cargo test` runs, it only checks that the type has the traits: the names of a component's exports mean
/// nothing to a native linker.
#[macro_export]
macro_rules! export {
    ($policy:ident) => {
        #[cfg(target_arch = "wasm32")]
        $crate::bindings::export_placement!($policy with_types_in $crate::bindings);
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() = || {
            fn is_policy<T: $crate::Lifecycle + $crate::Placement>() {}
            is_policy::<$policy>();
        };
    };
}
