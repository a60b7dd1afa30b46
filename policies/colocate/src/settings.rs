//! What can be set.

use muster_placement_sdk::counted;
use muster_placement_sdk::settings::{self, Fault};
use serde::Deserialize;

/// Domains of NVLink, where prefill and decode hand caches over.
const KEYS: [&str; 5] = [
    "ds.coreweave.com/nvlink.domain",
    "topology.k8s.aws/ultraserver-id",
    "topology.k8s.aws/capacity-block-id",
    "accelerator.topograph.run/domain",
    "cloud.google.com/gce-topology-subblock",
];

/// The host gives a policy 16 levels; one is left for the set's exclusive placement.
const MAX_KEYS: usize = 15;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// Node label keys whose values name domains; the first that some node carries is used.
    #[serde(default = "default_keys")]
    pub(crate) keys: Vec<String>,
    /// Label key of sets: those of one namespace with the same value are one application.
    #[serde(default = "default_peers")]
    pub(crate) peers: String,
    /// Label key of sets whose value is the set's role in the application.
    #[serde(default = "default_role")]
    pub(crate) role: String,
    /// A mix: what belongs into one domain together.
    pub(crate) roles: Vec<Role>,
    #[serde(default)]
    pub(crate) mode: Mode,
    #[serde(default)]
    pub(crate) exclusivity: Exclusivity,
}

/// So many groups of the sets with this role.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Role {
    pub(crate) role: String,
    pub(crate) count: u32,
    /// How many pods one of its groups has, so that whoever comes first leaves room for it.
    #[serde(default)]
    pub(crate) pods: u32,
}

/// What happens to a group for which no domain has a place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum Mode {
    /// It waits.
    #[default]
    Required,
    /// It goes into a domain without the others, or the scheduler decides.
    Preferred,
}

/// Whom a mix shares its domain with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum Exclusivity {
    /// Anybody.
    #[default]
    None,
    /// Nobody: a domain has one mix.
    ExclusiveSlice,
    /// Other mixes of its application.
    ExclusiveTopology,
}

fn default_keys() -> Vec<String> {
    KEYS.map(str::to_owned).to_vec()
}

fn default_peers() -> String {
    "app.kubernetes.io/part-of".to_owned()
}

fn default_role() -> String {
    "app.kubernetes.io/component".to_owned()
}

impl Settings {
    /// The mix in words: `2 prefill and 1 decode`.
    pub(crate) fn mix(&self) -> String {
        let roles: Vec<_> = self.roles.iter().map(|role| format!("{} {}", role.count, role.role)).collect();
        roles.join(" and ")
    }
}

/// The settings, or every fault that they have.
pub(crate) fn parse(document: &str) -> Result<Settings, Vec<Fault>> {
    let settings: Settings = settings::parse(document).map_err(|fault| vec![fault])?;
    let faults: Vec<Fault> = key_faults(&settings).into_iter().chain(role_faults(&settings.roles)).collect();
    if faults.is_empty() { Ok(settings) } else { Err(faults) }
}

fn key_faults(settings: &Settings) -> Vec<Fault> {
    let mut faults = Vec::new();
    if settings.keys.is_empty() || settings.keys.len() > MAX_KEYS {
        let message = format!("name 1 to {MAX_KEYS} node label keys, not {}, or leave the field out", settings.keys.len());
        faults.push(Fault::new("/keys", message));
    }
    let each = settings.keys.iter().enumerate().map(|(position, key)| (format!("/keys/{position}"), key));
    let labels = [("/peers".to_owned(), &settings.peers), ("/role".to_owned(), &settings.role)];
    for (path, key) in each.chain(labels) {
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            faults.push(Fault::new(path, format!("{key:?} is not a label key; one looks like app.kubernetes.io/part-of")));
        }
    }
    faults
}

fn role_faults(roles: &[Role]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (position, role) in roles.iter().enumerate() {
        if role.role.is_empty() {
            faults.push(Fault::new(format!("/roles/{position}/role"), "a role needs a name, such as prefill"));
        }
        if role.count == 0 {
            let message = format!("0 groups of {} are no part of a mix; give at least 1, or leave the role out", role.role);
            faults.push(Fault::new(format!("/roles/{position}/count"), message));
        }
        if let Some(first) = roles.iter().position(|other| other.role == role.role).filter(|first| *first < position) {
            let message = format!("{:?} is named at /roles/{first} already", role.role);
            faults.push(Fault::new(format!("/roles/{position}/role"), message));
        }
    }
    let groups: u64 = roles.iter().map(|role| u64::from(role.count)).sum();
    if !(2..=1024).contains(&groups) {
        let have = counted(u32::try_from(groups).unwrap_or(u32::MAX), "group");
        faults.push(Fault::new("/roles", format!("a mix has 2 to 1024 groups, not {have}")));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(document: &str) -> Vec<(String, String)> {
        parse(document).unwrap_err().into_iter().map(|fault| (fault.path, fault.message)).collect()
    }

    #[test]
    fn roles_are_enough() {
        let settings = parse(r#"{"roles":[{"role":"prefill","count":2},{"role":"decode","count":1}]}"#).unwrap();
        assert_eq!(settings.mix(), "2 prefill and 1 decode");
        assert_eq!((settings.mode, settings.exclusivity), (Mode::Required, Exclusivity::None));
        assert_eq!(
            (settings.peers.as_str(), settings.role.as_str()),
            ("app.kubernetes.io/part-of", "app.kubernetes.io/component")
        );
    }

    #[test]
    fn settings_without_roles_are_a_fault() {
        assert_eq!(faults_of("{}"), [(String::new(), "missing field `roles`".to_owned())]);
    }

    #[test]
    fn a_mix_of_one_group_is_none() {
        let expected = ("/roles".to_owned(), "a mix has 2 to 1024 groups, not 1 group".to_owned());
        assert_eq!(faults_of(r#"{"roles":[{"role":"prefill","count":1}]}"#), [expected]);
    }

    #[test]
    fn every_fault_of_a_role_is_told() {
        let document = r#"{"roles":[{"role":"a","count":2},{"role":"a","count":0},{"role":"","count":1}]}"#;
        let paths: Vec<_> = faults_of(document).into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["/roles/1/count", "/roles/1/role", "/roles/2/role"]);
    }

    #[test]
    fn an_unknown_exclusivity_is_a_fault_that_lists_the_known_ones() {
        let faults = faults_of(r#"{"exclusivity":"Exclusive","roles":[]}"#);
        let message = "unknown variant `Exclusive`, expected one of `None`, `ExclusiveSlice`, `ExclusiveTopology`";
        assert_eq!(faults, [("/exclusivity".to_owned(), message.to_owned())]);
    }

    #[test]
    fn what_is_no_label_key_is_a_fault() {
        let faults = faults_of(r#"{"keys":["rack",""],"peers":"","roles":[{"role":"a","count":2}]}"#);
        let paths: Vec<_> = faults.into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["/keys/1", "/peers"]);
    }
}
