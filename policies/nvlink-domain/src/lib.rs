//! Placement policy `nvlink-domain`: every group inside one NVLink partition, and a larger one in equal slices of several.
//!
//! ```text
//!  settings.rs  keys, maxPerDomain, exclusive, allowUneven, near, wholeNodes, tolerations
//!  decide.rs    request ─► answers: one partition, else equal slices, else hold with numbers
//! ```

mod decide;
mod settings;
#[cfg(test)]
mod tests;

use muster_placement_sdk::{
    Answer, Descriptor, Failure, Lifecycle, Placement, Preparation, Request, SettingsError, Snapshot, settings_error,
};

struct NvlinkDomain;

impl Lifecycle for NvlinkDomain {
    fn describe() -> Descriptor {
        Descriptor {
            name: "nvlink-domain".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            settings_schema: include_str!("../settings.schema.json").to_owned(),
        }
    }

    fn validate_settings(document: String) -> Vec<SettingsError> {
        settings::parse(&document).err().unwrap_or_default().into_iter().map(settings_error).collect()
    }

    fn prepare(document: String) -> Preparation {
        let settings = settings::parse(&document).unwrap_or_default();
        Preparation { effects: settings.effects(), ..Preparation::levels(settings.label_keys()) }
    }
}

impl Placement for NvlinkDomain {
    fn place(document: String, view: &Snapshot, request: Request) -> Result<Vec<Answer>, Failure> {
        let faults = |faults: Vec<_>| Failure::Settings(faults.into_iter().map(settings_error).collect());
        let settings = settings::parse(&document).map_err(faults)?;
        decide::place(&settings, view, &request)
    }
}

muster_placement_sdk::export!(NvlinkDomain);
