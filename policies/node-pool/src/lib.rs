//! Placement policy `node-pool`: every group inside one node pool, in the one with the least left over.
//!
//! ```text
//!  settings.rs   keys, mode, shared
//!  decide.rs     request ─► answers: keep, else best fit, else hold with numbers
//! ```

mod decide;
mod settings;
#[cfg(test)]
mod tests;

use muster_placement_sdk::{
    Answer, Descriptor, Failure, Lifecycle, Placement, Preparation, Request, SettingsError, Snapshot, bad_settings,
    settings_error,
};

struct NodePool;

impl Lifecycle for NodePool {
    fn describe() -> Descriptor {
        muster_placement_sdk::descriptor!()
    }

    fn validate_settings(document: String) -> Vec<SettingsError> {
        settings::parse(&document).err().unwrap_or_default().into_iter().map(settings_error).collect()
    }

    fn prepare(document: String) -> Preparation {
        Preparation::levels(settings::parse(&document).map(|settings| settings.keys).unwrap_or_default())
    }
}

impl Placement for NodePool {
    fn place(document: String, view: &Snapshot, request: Request) -> Result<Vec<Answer>, Failure> {
        let settings = settings::parse(&document).map_err(bad_settings)?;
        decide::place(&settings, view, &request)
    }
}

muster_placement_sdk::export!(NodePool);
