//! Placement policy `tpu-slice`: every multi-host TPU slice gets whole hosts of its own that are wired as it needs them.
//!
//! ```text
//!  settings.rs   sliceTopology, strict, quarantine
//!  topology.rs   4x4, 2x2x4: sides, chips, which of them exist
//!  slices.rs     a unit ─► how many slices of how many hosts, or why that is wrong
//!  hosts.rs      nodes ─► which pools, sub-slices and partitions are whole, healthy and of that kind
//!  choose.rs     which of them, when there are several
//!  decide.rs     request ─► answers
//! ```

mod choose;
mod decide;
mod hosts;
mod settings;
mod slices;
#[cfg(test)]
mod tests;
mod topology;

use muster_placement_sdk::{
    Answer, Descriptor, Effect, Failure, Lifecycle, Placement, Preparation, Request, SettingsError, Snapshot, TaintEffect,
    Toleration, bad_settings, settings_error,
};

struct TpuSlice;

impl Lifecycle for TpuSlice {
    fn describe() -> Descriptor {
        muster_placement_sdk::descriptor!()
    }

    fn validate_settings(document: String) -> Vec<SettingsError> {
        settings::parse(&document).err().unwrap_or_default().into_iter().map(settings_error).collect()
    }

    fn prepare(document: String) -> Preparation {
        let settings = settings::parse(&document).unwrap_or_default();
        // GKE taints every TPU node, and a node that a pod does not tolerate has no room for it.
        let toleration = Toleration { key: slices::TPU.to_owned(), value: None, effect: Some(TaintEffect::NoSchedule) };
        Preparation { effects: vec![Effect::Toleration(toleration)], ..Preparation::levels(settings.levels()) }
    }
}

impl Placement for TpuSlice {
    fn place(document: String, view: &Snapshot, request: Request) -> Result<Vec<Answer>, Failure> {
        let settings = settings::parse(&document).map_err(bad_settings)?;
        Ok(decide::place(&settings, view, &request))
    }
}

muster_placement_sdk::export!(TpuSlice);
