//! Policies that are part of the operator, so that it works without a registry. `build.rs` finds them.

use std::sync::LazyLock;

use crate::accept::{PolicyKind, kind_of};

include!(concat!(env!("OUT_DIR"), "/built_ins.rs"));

/// A policy that was embedded when the operator was built.
#[derive(Debug, Clone, Copy)]
pub struct BuiltIn {
    /// Its name, as `spec.source.builtIn` gives it.
    pub name: &'static str,
    /// The world it belongs to.
    pub kind: PolicyKind,
    /// The component.
    pub bytes: &'static [u8],
}

/// All embedded policies by name. Empty if `cargo xtask policies` had not run when the operator was built.
pub fn built_ins() -> &'static [BuiltIn] {
    static TABLE: LazyLock<Vec<BuiltIn>> = LazyLock::new(|| {
        let known = |(name, bytes): &(&'static str, &'static [u8])| match kind_of(bytes) {
            Ok(kind) => Some(BuiltIn { name, kind, bytes }),
            Err(error) => {
                tracing::error!(name, %error, "the embedded policy is no policy; build it again with `cargo xtask policies`");
                None
            }
        };
        BUILT_INS.iter().filter_map(known).collect()
    });
    &TABLE
}

/// The bytes of one embedded policy.
pub fn built_in(name: &str) -> Option<&'static [u8]> {
    built_ins().iter().find(|built_in| built_in.name == name).map(|built_in| built_in.bytes)
}
