//! What the cluster looks like, as placement needs it.

pub mod snapshot;

pub use snapshot::Snapshot;
