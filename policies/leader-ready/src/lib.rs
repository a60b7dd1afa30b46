//! Startup policy `leader-ready`: workers are created when their leader is ready.

mod decide;

use muster_startup_sdk::settings::{self, Nothing};
use muster_startup_sdk::{Descriptor, Failure, Lifecycle, Preparation, Request, SettingsError, Startup, Step, settings_error};

struct LeaderReady;

impl Lifecycle for LeaderReady {
    fn describe() -> Descriptor {
        muster_startup_sdk::descriptor!()
    }

    fn validate_settings(document: String) -> Vec<SettingsError> {
        settings::parse::<Nothing>(&document).err().map(settings_error).into_iter().collect()
    }

    fn prepare(_settings: String) -> Preparation {
        Preparation::nothing()
    }
}

impl Startup for LeaderReady {
    fn next(_settings: String, request: Request) -> Result<Vec<Step>, Failure> {
        Ok(request.groups.iter().map(decide::step).collect())
    }
}

muster_startup_sdk::export!(LeaderReady);
