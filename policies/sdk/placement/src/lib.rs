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

pub use muster_policy_sdk::{duration, settings};

pub mod pack;

mod domains;
#[cfg(feature = "testing")]
pub mod testing;

#[allow(missing_docs, clippy::all, clippy::unwrap_used, clippy::expect_used, reason = "generated code")]
#[doc(hidden)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        world: "placement-policy",
        pub_export_macro: true,
        export_macro_name: "export_placement",
        default_bindings_module: "muster_placement_sdk::bindings",
        additional_derives: [PartialEq, Clone],
    });
}

pub use bindings::exports::muster::policy::lifecycle::{Descriptor, Guest as Lifecycle, Preparation};
pub use bindings::exports::muster::policy::placement::{
    Answer, BadNode, Decision, Guest as Placement, Part, Peer, Placed, Request, Unit, Whereabouts,
};
pub use bindings::muster::policy::cluster::{PodShape, Quantity, Snapshot};
pub use bindings::muster::policy::log;
pub use bindings::muster::policy::types::{
    Demand, Effect, Entry, Failure, Location, Reason, SettingsError, TaintEffect, Toleration,
};

pub use domains::{Domains, Obstacle, counted, surroundings};

/// In columns: no domain.
pub const NO_DOMAIN: u32 = u32::MAX;

/// In columns: no node.
pub const NO_NODE: u32 = u32::MAX;

/// The settings fault as the interface has it.
pub fn settings_error(fault: settings::Fault) -> SettingsError {
    SettingsError { path: fault.path, message: fault.message }
}

/// The failure of a call whose settings turn out to be faulty.
pub fn bad_settings(faults: Vec<settings::Fault>) -> Failure {
    Failure::Settings(faults.into_iter().map(settings_error).collect())
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

impl Unit {
    /// How many pods it has.
    pub fn size(&self) -> u32 {
        self.pods.iter().fold(0, |sum, demand| sum.saturating_add(demand.pods))
    }
}

impl Answer {
    /// An answer without effects. `code` is CamelCase; `message` one sentence for a person.
    pub fn new(unit: &Unit, decision: Decision, code: impl Into<String>, message: impl Into<String>) -> Self {
        let reason = Reason { code: code.into(), message: message.into() };
        Self { unit: unit.id, decision, avoid: Vec::new(), effects: Vec::new(), reason }
    }
}

impl Preparation {
    /// What a policy needs that only reads these levels.
    pub fn levels(levels: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { levels: levels.into_iter().map(Into::into).collect(), effects: Vec::new(), peers: None }
    }
}

/// What a policy reads of the cluster. [`Snapshot`] is the real one; tests of a decision use [`testing::Table`] or bring their own.
pub trait Cluster {
    /// Label keys of the levels.
    fn levels(&self) -> Vec<String>;
    /// How many nodes there are.
    fn node_count(&self) -> u32;
    /// How many domains the level has.
    fn domain_count(&self, level: u32) -> u32;
    /// For every domain: the domain of the level before it that contains it.
    fn domain_parents(&self, level: u32) -> Vec<u32>;
    /// For every domain: how many pods of this shape fit.
    fn domain_fit(&self, level: u32, shape: u32) -> Vec<u32>;
    /// For every domain: how many other units sit there.
    fn domain_holders(&self, level: u32) -> Vec<u32>;
    /// For every node: its domain.
    fn node_domains(&self, level: u32) -> Vec<u32>;
    /// For every node: how many pods of this shape fit.
    fn node_fit(&self, shape: u32) -> Vec<u32>;
    /// `node_fit` for the nodes of one domain: node ids and counts.
    fn nodes_in(&self, level: u32, domain: u32, shape: u32) -> (Vec<u32>, Vec<u32>);
    /// For every node: whether it is ready and not cordoned.
    fn node_usable(&self) -> Vec<bool>;
    /// For every node: how much of a resource it has in all.
    fn node_capacity(&self, resource: &str) -> Vec<u64>;
    /// What pods of this shape ask for.
    fn describe_shape(&self, shape: u32) -> PodShape;
    /// Domains with room for all of `pods` together, least left over first.
    fn best_domains(&self, level: u32, pods: &[Demand], exclusive: bool, limit: u32) -> Vec<u32>;
    /// The label value that makes the domain.
    fn domain_name(&self, level: u32, domain: u32) -> String;
    /// The node's name.
    fn node_name(&self, node: u32) -> String;
    /// One label of one node.
    fn node_label(&self, node: u32, key: &str) -> Option<String>;
}

/// The same functions, of the imported resource.
macro_rules! imported {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        impl Cluster for Snapshot {
            $(fn $name(&self, $($argument: $type),*) -> $result {
                Snapshot::$name(self, $($argument),*)
            })*
        }
    };
}

imported! {
    levels() -> Vec<String>;
    node_count() -> u32;
    domain_count(level: u32) -> u32;
    domain_parents(level: u32) -> Vec<u32>;
    domain_fit(level: u32, shape: u32) -> Vec<u32>;
    domain_holders(level: u32) -> Vec<u32>;
    node_domains(level: u32) -> Vec<u32>;
    node_fit(shape: u32) -> Vec<u32>;
    nodes_in(level: u32, domain: u32, shape: u32) -> (Vec<u32>, Vec<u32>);
    node_usable() -> Vec<bool>;
    node_capacity(resource: &str) -> Vec<u64>;
    describe_shape(shape: u32) -> PodShape;
    best_domains(level: u32, pods: &[Demand], exclusive: bool, limit: u32) -> Vec<u32>;
    domain_name(level: u32, domain: u32) -> String;
    node_name(node: u32) -> String;
    node_label(node: u32, key: &str) -> Option<String>;
}

/// Who the policy of this crate is: the crate's name and version, and the settings of `settings.schema.json` beside its `Cargo.toml`.
#[macro_export]
macro_rules! descriptor {
    () => {
        $crate::Descriptor {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            settings_schema: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/settings.schema.json")).to_owned(),
        }
    };
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
