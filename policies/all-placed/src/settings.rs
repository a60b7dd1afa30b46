//! What can be set.

use muster_startup_sdk::LeaderState;
use muster_startup_sdk::settings::{self, Fault};
use serde::Deserialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    pub(crate) scope: Scope,
    /// How far the leader must be, besides.
    pub(crate) leader: LeaderState,
}

/// Whose places count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum Scope {
    /// The group's own.
    Group,
    /// Those of all groups of the set.
    Set,
}

impl Default for Settings {
    fn default() -> Self {
        Self { scope: Scope::Set, leader: LeaderState::Created }
    }
}

pub(crate) fn parse(document: &str) -> Result<Settings, Fault> {
    settings::parse(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_settings_the_whole_set_counts() {
        assert_eq!(parse("{}"), Ok(Settings { scope: Scope::Set, leader: LeaderState::Created }));
    }

    #[test]
    fn an_unknown_scope_is_a_fault_that_lists_the_known_ones() {
        let fault = parse(r#"{"scope":"Namespace"}"#).unwrap_err();
        assert_eq!(fault, Fault::new("/scope", "unknown variant `Namespace`, expected `Group` or `Set`"));
    }
}
