//! What can be set.

use muster_placement_sdk::pack::derived_from;
use muster_placement_sdk::settings::{self, Fault};
use muster_placement_sdk::{Effect, TaintEffect, Toleration};
use serde::Deserialize;

/// Where clusters say which nodes share NVLink: the partition itself where the driver labels it, else what the provider calls
/// the rack or the domain.
const KEYS: [&str; 8] = [
    "nvidia.com/gpu.clique",
    "ds.coreweave.com/nvlink.domain",
    "topology.k8s.aws/ultraserver-id",
    "accelerator.topograph.run/sub-domain",
    "accelerator.topograph.run/domain",
    "network.topology.nvidia.com/accelerator",
    "topology.k8s.aws/capacity-block-id",
    "cloud.google.com/gce-topology-subblock",
];

/// The host gives a policy 16 levels; one is left for the set's exclusive placement and one for `near`.
const MAX_KEYS: usize = 14;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(crate) struct Settings {
    /// Label keys whose values name NVLink partitions; the first that some node carries is used.
    pub(crate) keys: Vec<String>,
    /// Pods of one group in one partition, whatever room it has.
    pub(crate) max_per_domain: u32,
    /// No two groups share a partition.
    pub(crate) exclusive: bool,
    /// Slices of a large group may differ by one pod.
    pub(crate) allow_uneven: bool,
    /// Label key of a wider level whose domains slices of a group should share.
    pub(crate) near: Option<String>,
    /// Every pod must take all accelerators of its node.
    pub(crate) whole_nodes: bool,
    /// The accelerators' resource name.
    pub(crate) resource: String,
    /// Taints that the pods get onto.
    pub(crate) tolerations: Vec<Taint>,
}

/// A taint of effect `NoSchedule`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Taint {
    pub(crate) key: String,
    /// Whatever the value, if there is none.
    pub(crate) value: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        let arm = Taint { key: "kubernetes.io/arch".to_owned(), value: Some("arm64".to_owned()) };
        Self {
            keys: KEYS.map(str::to_owned).to_vec(),
            max_per_domain: 16,
            exclusive: false,
            allow_uneven: false,
            near: None,
            whole_nodes: true,
            resource: "nvidia.com/gpu".to_owned(),
            tolerations: vec![Taint { key: "nvidia.com/gpu".to_owned(), value: None }, arm],
        }
    }
}

impl Settings {
    /// Label keys that the host must index, the widest first.
    pub(crate) fn label_keys(&self) -> Vec<String> {
        let near = self.near.as_deref().map(|near| derived_from(near).unwrap_or(near).to_owned());
        let near = near.filter(|near| !self.keys.contains(near));
        near.into_iter().chain(self.keys.iter().cloned()).collect()
    }

    /// What the pods get when they are created.
    pub(crate) fn effects(&self) -> Vec<Effect> {
        let toleration = |taint: &Taint| Toleration {
            key: taint.key.clone(),
            value: taint.value.clone(),
            effect: Some(TaintEffect::NoSchedule),
        };
        self.tolerations.iter().map(toleration).map(Effect::Toleration).collect()
    }
}

/// The settings, or every fault that they have.
pub(crate) fn parse(document: &str) -> Result<Settings, Vec<Fault>> {
    let settings: Settings = settings::parse(document).map_err(|fault| vec![fault])?;
    let faults = faults(&settings);
    if faults.is_empty() { Ok(settings) } else { Err(faults) }
}

fn faults(settings: &Settings) -> Vec<Fault> {
    let mut faults = settings::key_faults("/keys", &settings.keys, MAX_KEYS, "nvidia.com/gpu.clique");
    if settings.max_per_domain == 0 {
        faults.push(Fault::new("/maxPerDomain", "0 pods fit no group; 16 is what an NVL72 rack of 18 nodes keeps schedulable"));
    }
    if settings.resource.is_empty() && settings.whole_nodes {
        faults.push(Fault::new("/resource", "name the accelerators' resource, or set wholeNodes to false"));
    }
    if let Some(near) = settings.near.as_deref() {
        let fault = settings::key_fault("/near", derived_from(near).unwrap_or(near), "topology.kubernetes.io/zone");
        faults.extend(fault);
    }
    if settings.tolerations.len() > 32 {
        faults
            .push(Fault::new("/tolerations", format!("{} tolerations, and at most 32 are possible", settings.tolerations.len())));
    }
    let keys = settings.tolerations.iter().enumerate();
    faults.extend(
        keys.filter_map(|(at, taint)| settings::key_fault(&format!("/tolerations/{at}/key"), &taint.key, "nvidia.com/gpu")),
    );
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths_of(document: &str) -> Vec<String> {
        parse(document).unwrap_err().into_iter().map(|fault| fault.path).collect()
    }

    #[test]
    fn without_settings_sixteen_whole_nodes_of_a_partition_are_shared() {
        let settings = parse("{}").unwrap();
        assert_eq!(
            (settings.max_per_domain, settings.exclusive, settings.allow_uneven, settings.whole_nodes),
            (16, false, false, true)
        );
        assert_eq!(settings.label_keys()[0], "nvidia.com/gpu.clique");
    }

    #[test]
    fn pods_get_onto_nodes_with_accelerators_and_of_the_other_architecture() {
        let toleration = |key: &str, value: Option<&str>| {
            let (key, value) = (key.to_owned(), value.map(str::to_owned));
            Effect::Toleration(Toleration { key, value, effect: Some(TaintEffect::NoSchedule) })
        };
        let expected = [toleration("nvidia.com/gpu", None), toleration("kubernetes.io/arch", Some("arm64"))];
        assert_eq!(parse("{}").unwrap().effects(), expected);
        assert_eq!(parse(r#"{"tolerations":[]}"#).unwrap().effects(), []);
    }

    #[test]
    fn the_level_that_slices_share_is_indexed_before_the_partitions() {
        let settings = parse(r#"{"near":"example.com/block","keys":["rack"]}"#).unwrap();
        assert_eq!(settings.label_keys(), ["example.com/block", "rack"]);
        let derived = parse(r#"{"near":"derived:nvidia.com/gpu.clique#prefix","keys":["nvidia.com/gpu.clique"]}"#).unwrap();
        assert_eq!(derived.label_keys(), ["nvidia.com/gpu.clique"]);
    }

    #[test]
    fn every_fault_is_reported() {
        let document = r#"{"keys":[],"maxPerDomain":0,"near":"a b","resource":"","tolerations":[{"key":""}]}"#;
        assert_eq!(paths_of(document), ["/keys", "/maxPerDomain", "/resource", "/near", "/tolerations/0/key"]);
        assert_eq!(paths_of(r#"{"maxPerDomain":-1}"#), ["/maxPerDomain"]);
        assert_eq!(paths_of(r#"{"uneven":true}"#), ["/uneven"]);
    }
}
