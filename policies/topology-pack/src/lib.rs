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
    Answer, Descriptor, Failure, Lifecycle, Placement, Preparation, Request, SettingsError, Snapshot, log, settings_error,
};

struct TopologyPack;

impl Lifecycle for TopologyPack {
    fn describe() -> Descriptor {
        Descriptor {
            name: "topology-pack".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            settings_schema: include_str!("../settings.schema.json").to_owned(),
        }
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
        let faults = |faults: Vec<_>| Failure::Settings(faults.into_iter().map(settings_error).collect());
        let settings = settings::parse(&document).map_err(faults)?;
        let decided = decide::place(&settings, view, &request)?;
        decided.notes.iter().for_each(|note| log::write(log::Level::Warn, note));
        Ok(decided.answers)
    }
}

muster_placement_sdk::export!(TopologyPack);
