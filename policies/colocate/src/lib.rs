//! Placement policy `colocate`: groups of several sets side by side in one domain, in fixed proportions.
//!
//! ```text
//!  settings.rs   keys, peers, role, roles, mode, exclusivity
//!  mixes.rs      who of the application is in which domain, and which places that leaves open
//!  decide.rs     request ─► answers: join a mix, else begin one, else hold with numbers
//! ```

mod decide;
mod mixes;
mod settings;
#[cfg(test)]
mod tests;

use muster_placement_sdk::{
    Answer, Descriptor, Failure, Lifecycle, Placement, Preparation, Request, SettingsError, Snapshot, bad_settings,
    settings_error,
};

struct Colocate;

impl Lifecycle for Colocate {
    fn describe() -> Descriptor {
        muster_placement_sdk::descriptor!()
    }

    fn validate_settings(document: String) -> Vec<SettingsError> {
        settings::parse(&document).err().unwrap_or_default().into_iter().map(settings_error).collect()
    }

    fn prepare(document: String) -> Preparation {
        match settings::parse(&document) {
            Ok(settings) => Preparation { peers: Some(settings.peers), ..Preparation::levels(settings.keys) },
            Err(_) => Preparation::levels([] as [&str; 0]),
        }
    }
}

impl Placement for Colocate {
    fn place(document: String, view: &Snapshot, request: Request) -> Result<Vec<Answer>, Failure> {
        let settings = settings::parse(&document).map_err(bad_settings)?;
        decide::place(&settings, view, &request)
    }
}

muster_placement_sdk::export!(Colocate);
