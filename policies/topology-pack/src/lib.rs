//! Placement policy `topology-pack`: groups, or segments of them, inside one domain of each of several levels that nest.
//!
//! ```text
//!  presets.rs   levels of the providers that people run
//!  settings.rs  levels, fit, lastPartial
//!  demands.rs   what a unit needs at every level: the settings, worked out for its size and its subgroups
//!  decide.rs    request ─► answers: all levels, then without the nearest preferred one, and so on; else hold with numbers
//! ```

mod decide;
mod demands;
mod presets;
mod settings;
#[cfg(test)]
mod tests;

use muster_placement_sdk::{
    Answer, Descriptor, Failure, Lifecycle, Placement, Preparation, Request, SettingsError, Snapshot, bad_settings, log,
    settings_error,
};

struct TopologyPack;

impl Lifecycle for TopologyPack {
    fn describe() -> Descriptor {
        muster_placement_sdk::descriptor!()
    }

    fn validate_settings(document: String) -> Vec<SettingsError> {
        settings::parse(&document).err().unwrap_or_default().into_iter().map(settings_error).collect()
    }

    fn prepare(document: String) -> Preparation {
        Preparation::levels(settings::parse(&document).map(|settings| settings::label_keys(&settings.levels)).unwrap_or_default())
    }
}

impl Placement for TopologyPack {
    fn place(document: String, view: &Snapshot, request: Request) -> Result<Vec<Answer>, Failure> {
        let settings = settings::parse(&document).map_err(bad_settings)?;
        let decided = decide::place(&settings, view, &request)?;
        decided.notes.iter().for_each(|note| log::write(log::Level::Warn, note));
        Ok(decided.answers)
    }
}

muster_placement_sdk::export!(TopologyPack);
