//! What can be set.

use muster_placement_sdk::duration::Duration;
use muster_placement_sdk::settings::{self, Fault};
use serde::Deserialize;

/// Zones, and pools of the managed clusters that people run.
const KEYS: [&str; 5] = [
    "topology.kubernetes.io/zone",
    "cloud.google.com/gke-nodepool",
    "eks.amazonaws.com/nodegroup",
    "karpenter.sh/nodepool",
    "kubernetes.azure.com/agentpool",
];

/// The host gives a policy 16 levels; one is left for the set's exclusive placement.
const MAX_KEYS: usize = 15;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(crate) struct Settings {
    /// Node label keys whose values name domains to go back to, widest first. The last one counts first.
    pub(crate) keys: Vec<String>,
    /// How long a node is avoided after its first failure. Every further one doubles that.
    pub(crate) ttl: Duration,
    /// How long it is avoided at most.
    pub(crate) max_ttl: Duration,
    /// From how many failures within a day on a node is avoided by groups that were not there.
    pub(crate) failures: u32,
    /// Whether pods go back to the very nodes they were on.
    pub(crate) pin: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keys: KEYS.map(str::to_owned).to_vec(),
            ttl: Duration::minutes(30),
            max_ttl: Duration::minutes(24 * 60),
            failures: 2,
            pin: true,
        }
    }
}

/// The settings, or every fault that they have.
pub(crate) fn parse(document: &str) -> Result<Settings, Vec<Fault>> {
    let settings: Settings = settings::parse(document).map_err(|fault| vec![fault])?;
    let mut faults = Vec::new();
    if settings.keys.len() > MAX_KEYS {
        faults.push(Fault::new("/keys", format!("{} keys, and at most {MAX_KEYS} are possible", settings.keys.len())));
    }
    for (position, key) in settings.keys.iter().enumerate() {
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            let message = format!("{key:?} is not a label key; one looks like topology.kubernetes.io/zone");
            faults.push(Fault::new(format!("/keys/{position}"), message));
        }
    }
    if settings.max_ttl < settings.ttl {
        let message = format!("{} is shorter than ttl, which is {}", settings.max_ttl, settings.ttl);
        faults.push(Fault::new("/maxTtl", message));
    }
    if settings.failures == 0 {
        faults.push(Fault::new("/failures", "0 failures make no node a bad one; give at least 1"));
    }
    if faults.is_empty() { Ok(settings) } else { Err(faults) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_settings_nodes_are_avoided_for_half_an_hour_to_a_day() {
        let settings = parse("{}").unwrap();
        assert_eq!((settings.ttl.to_string(), settings.max_ttl.to_string()), ("30m".to_owned(), "24h".to_owned()));
        assert_eq!((settings.failures, settings.pin), (2, true));
    }

    #[test]
    fn every_fault_is_told() {
        let faults = parse(r#"{"failures":0,"keys":[""],"maxTtl":"1m"}"#).unwrap_err();
        let paths: Vec<_> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(paths, ["/keys/0", "/maxTtl", "/failures"]);
        assert_eq!(faults[1].message, "1m is shorter than ttl, which is 30m");
    }

    #[test]
    fn a_duration_without_a_unit_is_a_fault() {
        let fault = parse(r#"{"ttl":"30"}"#).unwrap_err().remove(0);
        assert_eq!(fault, Fault::new("/ttl", "\"30\" is not a duration; one looks like 500ms, 90s, 30m or 1h30m"));
    }
}
