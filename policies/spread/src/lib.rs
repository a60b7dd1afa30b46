//! Placement policy `spread`: the groups of a set, or of several sets, over the domains of a level.
//!
//! ```text
//!  settings.rs  key, mode, maxSkew or maxSharePercent, peers
//!  decide.rs    request ─► answers: the domain with the fewest groups that is within the limit, else hold with numbers
//! ```

mod decide;
mod settings;
#[cfg(test)]
mod tests;

use muster_placement_sdk::{
    Answer, Descriptor, Failure, Lifecycle, Placement, Preparation, Request, SettingsError, Snapshot, bad_settings,
    settings_error,
};

struct Spread;

impl Lifecycle for Spread {
    fn describe() -> Descriptor {
        muster_placement_sdk::descriptor!()
    }

    fn validate_settings(document: String) -> Vec<SettingsError> {
        settings::parse(&document).err().unwrap_or_default().into_iter().map(settings_error).collect()
    }

    fn prepare(document: String) -> Preparation {
        let Ok(settings) = settings::parse(&document) else { return Preparation::levels(Vec::<String>::new()) };
        Preparation { peers: settings.peers, ..Preparation::levels([settings.key]) }
    }
}

impl Placement for Spread {
    fn place(document: String, view: &Snapshot, request: Request) -> Result<Vec<Answer>, Failure> {
        let settings = settings::parse(&document).map_err(bad_settings)?;
        decide::place(&settings, view, &request)
    }
}

muster_placement_sdk::export!(Spread);
