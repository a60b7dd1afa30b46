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
    Answer, Descriptor, Failure, Lifecycle, Placement, Preparation, Request, SettingsError, Snapshot, bad_settings,
    settings_error,
};

struct NvlinkDomain;

impl Lifecycle for NvlinkDomain {
    fn describe() -> Descriptor {
        muster_placement_sdk::descriptor!()
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
        let settings = settings::parse(&document).map_err(bad_settings)?;
        decide::place(&settings, view, &request)
    }
}

muster_placement_sdk::export!(NvlinkDomain);
