//! Startup policy `waves`: the workers of a group are created in waves, each after the one before it.

mod decide;
mod settings;

use muster_startup_sdk::{
    Descriptor, Failure, Lifecycle, Preparation, Request, SettingsError, Startup, Step, bad_settings, settings_error,
};

struct Waves;

impl Lifecycle for Waves {
    fn describe() -> Descriptor {
        muster_startup_sdk::descriptor!()
    }

    fn validate_settings(document: String) -> Vec<SettingsError> {
        settings::parse(&document).err().map(settings_error).into_iter().collect()
    }

    fn prepare(_settings: String) -> Preparation {
        Preparation::nothing()
    }
}

impl Startup for Waves {
    fn next(document: String, request: Request) -> Result<Vec<Step>, Failure> {
        let settings = settings::parse(&document).map_err(|fault| bad_settings(vec![fault]))?;
        Ok(request.groups.iter().map(|group| decide::step(&settings, group)).collect())
    }
}

muster_startup_sdk::export!(Waves);
