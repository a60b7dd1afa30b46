//! Placement policy `sticky-avoid`: a group that starts over goes back where it was, and away from nodes that failed.
//!
//! ```text
//!  settings.rs   keys, ttl, maxTtl, failures, pin
//!  avoid.rs      which nodes to keep away from, and for how long
//!  seats.rs      one node per pod: those from before, with replacements for the ones that are no good
//!  decide.rs     request ─► answers: same nodes, else same domain, else elsewhere
//! ```

mod avoid;
mod decide;
mod seats;
mod settings;
#[cfg(test)]
mod tests;

use muster_placement_sdk::{
    Answer, Descriptor, Failure, Lifecycle, Placement, Preparation, Request, SettingsError, Snapshot, bad_settings,
    settings_error,
};

struct StickyAvoid;

impl Lifecycle for StickyAvoid {
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

impl Placement for StickyAvoid {
    fn place(document: String, view: &Snapshot, request: Request) -> Result<Vec<Answer>, Failure> {
        let settings = settings::parse(&document).map_err(bad_settings)?;
        Ok(decide::place(&settings, view, &request))
    }
}

muster_placement_sdk::export!(StickyAvoid);
