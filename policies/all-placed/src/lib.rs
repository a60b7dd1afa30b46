//! Startup policy `all-placed`: workers are created when every group of the set has its place.

mod decide;
mod settings;

use muster_startup_sdk::{
    Descriptor, Failure, Lifecycle, Preparation, Request, SettingsError, Startup, Step, bad_settings, settings_error,
};

struct AllPlaced;

impl Lifecycle for AllPlaced {
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

impl Startup for AllPlaced {
    fn next(document: String, request: Request) -> Result<Vec<Step>, Failure> {
        let settings = settings::parse(&document).map_err(|fault| bad_settings(vec![fault]))?;
        Ok(decide::next(settings, &request))
    }
}

muster_startup_sdk::export!(AllPlaced);
