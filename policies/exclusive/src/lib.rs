//! Placement policy `exclusive`: what the operator does by itself for a set that asks for exclusive placement, as a component.

mod decide;
#[cfg(test)]
mod tests;

use muster_placement_sdk::settings::{self, Nothing};
use muster_placement_sdk::{
    Answer, Descriptor, Failure, Lifecycle, Placement, Preparation, Request, SettingsError, Snapshot, settings_error,
};

struct Exclusive;

impl Lifecycle for Exclusive {
    fn describe() -> Descriptor {
        muster_placement_sdk::descriptor!()
    }

    fn validate_settings(document: String) -> Vec<SettingsError> {
        settings::parse::<Nothing>(&document).err().map(settings_error).into_iter().collect()
    }

    /// The key of the set's exclusive placement is a level in any case.
    fn prepare(_settings: String) -> Preparation {
        Preparation::levels([] as [&str; 0])
    }
}

impl Placement for Exclusive {
    fn place(_settings: String, view: &Snapshot, request: Request) -> Result<Vec<Answer>, Failure> {
        Ok(decide::place(view, &request))
    }
}

muster_placement_sdk::export!(Exclusive);
