//! Rust types and traits made from `wit/policy.wit`. The second world reuses the first one's shared interfaces.
#![allow(missing_docs, missing_debug_implementations, unreachable_pub, clippy::all, reason = "generated code")]

pub(crate) mod placement_policy {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "placement-policy",
        imports: { default: trappable },
        with: { "muster:policy/cluster.snapshot": muster_core::cluster::Snapshot },
    });
}

pub(crate) mod startup_policy {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "startup-policy",
        imports: { default: trappable },
        with: {
            "muster:policy/types": super::placement_policy::muster::policy::types,
            "muster:policy/log": super::placement_policy::muster::policy::log,
        },
    });
}
