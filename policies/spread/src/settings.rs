//! What can be set.

use muster_placement_sdk::settings::{self, Fault};
use serde::Deserialize;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Label key of the level over which groups are spread.
    pub(crate) key: String,
    pub(crate) mode: Mode,
    pub(crate) limit: Limit,
    /// Label key of sets: those of one namespace with one value of it are counted together.
    pub(crate) peers: Option<String>,
}

/// What happens to a group that may go into no domain with room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub(crate) enum Mode {
    /// It waits.
    #[default]
    Required,
    /// It goes where the fewest others are.
    Preferred,
}

/// When a domain has enough groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// With one more it would have so many more than another.
    Skew(u32),
    /// It has more than so many percent of all groups.
    Share(u32),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct Document {
    key: String,
    mode: Mode,
    max_skew: Option<u32>,
    max_share_percent: Option<u32>,
    peers: Option<String>,
}

impl Default for Document {
    fn default() -> Self {
        let key = "topology.kubernetes.io/zone".to_owned();
        Self { key, mode: Mode::Required, max_skew: None, max_share_percent: None, peers: None }
    }
}

/// The settings, or every fault that they have.
pub(crate) fn parse(document: &str) -> Result<Settings, Vec<Fault>> {
    let document: Document = settings::parse(document).map_err(|fault| vec![fault])?;
    let mut faults: Vec<Fault> = settings::key_fault("/key", &document.key, "topology.kubernetes.io/zone").into_iter().collect();
    let peers = document.peers.as_deref();
    faults.extend(peers.and_then(|key| settings::key_fault("/peers", key, "app.kubernetes.io/part-of")));
    if document.max_skew == Some(0) {
        faults.push(Fault::new("/maxSkew", "0 allows no group anywhere; use 1 or more"));
    }
    if document.max_share_percent.is_some_and(|share| !(1..=99).contains(&share)) {
        faults.push(Fault::new("/maxSharePercent", "use a number from 1 to 99"));
    }
    if document.max_skew.is_some() && document.max_share_percent.is_some() {
        faults.push(Fault::new("/maxSharePercent", "there is a maxSkew already; use one of the two"));
    }
    let limit = match document.max_share_percent {
        Some(share) => Limit::Share(share),
        None => Limit::Skew(document.max_skew.unwrap_or(1)),
    };
    let settings = Settings { key: document.key, mode: document.mode, limit, peers: document.peers };
    if faults.is_empty() { Ok(settings) } else { Err(faults) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths_of(document: &str) -> Vec<String> {
        parse(document).unwrap_err().into_iter().map(|fault| fault.path).collect()
    }

    #[test]
    fn without_settings_zones_differ_by_one_group_at_most() {
        let settings = parse("{}").unwrap();
        assert_eq!(settings.key, "topology.kubernetes.io/zone");
        assert_eq!((settings.mode, settings.limit, settings.peers), (Mode::Required, Limit::Skew(1), None));
    }

    #[test]
    fn skew_and_share_exclude_each_other() {
        assert_eq!(parse(r#"{"maxSharePercent":30}"#).unwrap().limit, Limit::Share(30));
        assert_eq!(paths_of(r#"{"maxSkew":2,"maxSharePercent":30}"#), ["/maxSharePercent"]);
    }

    #[test]
    fn every_fault_is_reported() {
        assert_eq!(paths_of(r#"{"key":"","maxSkew":0,"peers":"a b"}"#), ["/key", "/peers", "/maxSkew"]);
        assert_eq!(paths_of(r#"{"maxSharePercent":100}"#), ["/maxSharePercent"]);
        assert_eq!(paths_of(r#"{"skew":1}"#), ["/skew"]);
    }
}
