//! What can be set.

use muster_placement_sdk::duration::Duration;
use muster_placement_sdk::settings::{self, Fault};
use serde::Deserialize;

use crate::topology::Topology;

pub(crate) const BLOCK: &str = "cloud.google.com/gce-topology-block";
pub(crate) const POOL: &str = "cloud.google.com/gke-nodepool";
/// Set of 16 hosts that super-slices are made of.
pub(crate) const PARTITION: &str = "cloud.google.com/gke-tpu-partition-4x4x4-id";
pub(crate) const ACCELERATOR: &str = "cloud.google.com/gke-tpu-accelerator";
pub(crate) const TOPOLOGY: &str = "cloud.google.com/gke-tpu-topology";

/// Sub-slices whose hosts GKE labels, largest first.
pub(crate) const SUB_SLICES: [&str; 5] = ["8x16", "8x8", "4x8", "4x4", "2x4"];

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(crate) struct Settings {
    /// Topology of the slices where it is not that of their pool: a part of one, or several partitions.
    slice_topology: String,
    /// Whether a topology that is not known to exist is refused.
    pub(crate) strict: bool,
    /// How long a slice with a host that failed is left alone.
    pub(crate) quarantine: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { slice_topology: String::new(), strict: false, quarantine: Duration::minutes(30) }
    }
}

impl Settings {
    /// The setting, if it is set.
    pub(crate) fn slice_topology(&self) -> Option<&str> {
        Some(self.slice_topology.as_str()).filter(|topology| !topology.is_empty())
    }

    /// The levels that decisions read, widest first.
    pub(crate) fn levels(&self) -> Vec<String> {
        let sub_slices = SUB_SLICES.into_iter().map(sub_slice_key);
        let own = self.slice_topology.parse::<Topology>().ok().filter(|topology| topology.dimensions() == 2);
        let own = own.filter(|_| !SUB_SLICES.contains(&self.slice_topology.as_str()));
        let own = own.map(|topology| sub_slice_key(&topology.to_string()));
        let wide = [BLOCK, POOL].map(str::to_owned);
        wide.into_iter().chain(own).chain(sub_slices).chain([PARTITION, ACCELERATOR, TOPOLOGY].map(str::to_owned)).collect()
    }
}

/// The label of hosts in a sub-slice of that topology.
pub(crate) fn sub_slice_key(topology: &str) -> String {
    format!("cloud.google.com/gke-tpu-slice-{topology}-id")
}

/// The settings, or every fault that they have.
pub(crate) fn parse(document: &str) -> Result<Settings, Vec<Fault>> {
    let settings: Settings = settings::parse(document).map_err(|fault| vec![fault])?;
    match settings.slice_topology().map(str::parse::<Topology>) {
        Some(Err(error)) => Err(vec![Fault::new("/sliceTopology", error.to_string())]),
        _ => Ok(settings),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_settings_slices_are_whole_pools_and_rest_for_half_an_hour_after_a_failure() {
        let settings = parse("{}").unwrap();
        assert_eq!((settings.slice_topology(), settings.strict), (None, false));
        assert_eq!(settings.quarantine.to_string(), "30m");
        assert_eq!(settings.levels().len(), 10);
    }

    #[test]
    fn a_topology_that_is_none_is_a_fault() {
        let faults = parse(r#"{"sliceTopology":"2*4"}"#).unwrap_err();
        assert_eq!(faults, [Fault::new("/sliceTopology", "\"2*4\" is not a TPU topology; one looks like 4x4 or 2x2x4")]);
    }

    #[test]
    fn a_sub_slice_of_another_shape_brings_its_own_level() {
        let settings = parse(r#"{"sliceTopology":"2x2"}"#).unwrap();
        assert_eq!(settings.levels()[2], "cloud.google.com/gke-tpu-slice-2x2-id");
        assert_eq!(settings.levels().len(), 11);
    }

    #[test]
    fn an_unknown_field_is_a_fault() {
        assert_eq!(parse(r#"{"topology":"2x4"}"#).unwrap_err()[0].path, "/topology");
    }
}
