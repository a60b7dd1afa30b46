//! What can be set.

use muster_placement_sdk::settings::{self, Fault};
use serde::Deserialize;

/// Pools of the managed clusters that people run. Only some providers make a pool a part of the network (a multi-host TPU slice
/// of GKE is one): on EKS, with Karpenter and with most others a pool groups machines of one kind.
const KEYS: [&str; 10] = [
    "cloud.google.com/gke-nodepool",
    "eks.amazonaws.com/nodegroup",
    "karpenter.sh/nodepool",
    "kubernetes.azure.com/agentpool",
    "compute.coreweave.com/node-pool",
    "ibm-cloud.kubernetes.io/worker-pool-name",
    "alibabacloud.com/nodepool-id",
    "doks.digitalocean.com/node-pool",
    "lke.linode.com/pool-id",
    "k8s.scaleway.com/pool-name",
];

/// The host gives a policy 16 levels; one is left for the set's exclusive placement.
const MAX_KEYS: usize = 15;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// Label keys whose values name pools; the first that some node carries is used.
    pub(crate) keys: Vec<String>,
    pub(crate) mode: Mode,
    /// Whether groups may share a pool when their set does not ask for exclusive placement.
    pub(crate) shared: bool,
}

/// What happens to a group that fits into no pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum Mode {
    /// It waits.
    Required,
    /// The scheduler decides, and favours pools with room.
    Preferred,
}

impl Default for Settings {
    fn default() -> Self {
        Self { keys: KEYS.map(str::to_owned).to_vec(), mode: Mode::Required, shared: true }
    }
}

/// The settings, or every fault that they have.
pub(crate) fn parse(document: &str) -> Result<Settings, Vec<Fault>> {
    let settings: Settings = settings::parse(document).map_err(|fault| vec![fault])?;
    let faults = settings::key_faults("/keys", &settings.keys, MAX_KEYS, KEYS[0]);
    if faults.is_empty() { Ok(settings) } else { Err(faults) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(document: &str) -> Vec<(String, String)> {
        parse(document).unwrap_err().into_iter().map(|fault| (fault.path, fault.message)).collect()
    }

    #[test]
    fn without_settings_the_pools_of_known_providers_are_required_and_shared() {
        let settings = parse("{}").unwrap();
        assert_eq!(settings.keys[0], "cloud.google.com/gke-nodepool");
        assert_eq!((settings.keys.len(), settings.mode, settings.shared), (10, Mode::Required, true));
    }

    #[test]
    fn an_unknown_field_is_a_fault() {
        let expected = [("/share".to_owned(), "unknown field `share`, expected one of `keys`, `mode`, `shared`".to_owned())];
        assert_eq!(faults_of(r#"{"share":false}"#), expected);
    }

    #[test]
    fn an_unknown_mode_is_a_fault_that_lists_the_known_ones() {
        let faults = faults_of(r#"{"mode":"required"}"#);
        assert_eq!(faults[0].0, "/mode");
        assert_eq!(faults[0].1, "unknown variant `required`, expected `Required` or `Preferred`");
    }

    #[test]
    fn every_bad_key_is_a_fault() {
        let faults = faults_of(r#"{"keys":["rack","","rack"]}"#);
        let paths: Vec<_> = faults.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["/keys/1", "/keys/2"]);
    }

    #[test]
    fn no_keys_at_all_are_a_fault() {
        assert_eq!(faults_of(r#"{"keys":[]}"#)[0].0, "/keys");
    }
}
