//! Write startup policies for Muster in Rust: world `startup-policy`, which ranks of a group may exist now.
//!
//! A policy is a `cdylib` crate that implements [`Lifecycle`] and [`Startup`] and names its type in [`export!`]. `wit/policy.wit`
//! says what every function means; see `policies/leader-ready`.

pub use muster_policy_sdk::{duration, settings};

mod group;
#[cfg(feature = "testing")]
pub mod testing;

pub use group::LeaderState;

#[allow(missing_docs, clippy::all, clippy::unwrap_used, clippy::expect_used, reason = "generated code")]
#[doc(hidden)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        world: "startup-policy",
        pub_export_macro: true,
        export_macro_name: "export_startup",
        default_bindings_module: "muster_startup_sdk::bindings",
        additional_derives: [PartialEq],
    });
}

pub use bindings::exports::muster::policy::lifecycle::{Descriptor, Guest as Lifecycle, Preparation};
pub use bindings::exports::muster::policy::startup::{Group, Guest as Startup, Phase, Pod, Request, Step};
pub use bindings::muster::policy::log;
pub use bindings::muster::policy::types::{Entry, Failure, Reason, SettingsError};

/// The settings fault as the interface has it.
pub fn settings_error(fault: settings::Fault) -> SettingsError {
    SettingsError { path: fault.path, message: fault.message }
}

/// The failure of a call whose settings turn out to be faulty.
pub fn bad_settings(faults: Vec<settings::Fault>) -> Failure {
    Failure::Settings(faults.into_iter().map(settings_error).collect())
}

impl Preparation {
    /// A startup policy needs nothing.
    pub fn nothing() -> Self {
        Self { levels: Vec::new(), effects: Vec::new(), peers: None }
    }
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
        $crate::bindings::export_startup!($policy with_types_in $crate::bindings);
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() = || {
            fn is_policy<T: $crate::Lifecycle + $crate::Startup>() {}
            is_policy::<$policy>();
        };
    };
}
