//! Names of levels and domains in a scenario: `z1/r1`, `rack=r1`.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Node;

use super::{Fault, Scenario};

/// The label that every node has.
pub(crate) const HOSTNAME: &str = "kubernetes.io/hostname";

/// Levels, and the labels of all nodes.
#[derive(Debug, Clone, Default)]
pub struct Sites {
    levels: Vec<String>,
    labels: BTreeMap<String, BTreeMap<String, String>>,
}

impl Sites {
    /// Those of a scenario.
    pub(crate) fn new(scenario: &Scenario, nodes: &[Node]) -> Self {
        let each = nodes.iter().map(|node| {
            let meta = &node.metadata;
            (meta.name.clone().unwrap_or_default(), meta.labels.clone().unwrap_or_default())
        });
        Self { levels: scenario.levels.clone(), labels: each.collect() }
    }

    /// How many nodes there are.
    pub fn node_count(&self) -> usize {
        self.labels.len()
    }

    /// The label key that a scenario means: the key itself, or what stands after its prefix.
    pub(crate) fn key(&self, field: &str, name: &str) -> Result<String, Fault> {
        let known = self.levels.iter().map(String::as_str).chain([HOSTNAME]);
        let found = known.clone().find(|key| *key == name).or_else(|| known.clone().find(|key| short(key) == name));
        if let Some(key) = found {
            return Ok(key.to_owned());
        }
        // Any label of a node makes a level, whether paths speak of it or not.
        if self.labels.values().any(|labels| labels.contains_key(name)) || name.contains('/') {
            return Ok(name.to_owned());
        }
        let known: Vec<&str> = self.levels.iter().map(|key| short(key)).collect();
        Err(Fault::new(field, format!("there is no level {name:?}; `levels` has {}", listed(&known))))
    }

    /// The domain that a text names: key and value.
    pub(crate) fn place(&self, field: &str, text: &str) -> Result<(String, String), Fault> {
        let (key, value) = match text.split_once('=') {
            Some((level, value)) => (self.key(field, level.trim())?, value.trim().to_owned()),
            None => self.path(field, text.trim())?,
        };
        if self.nodes_of(&key, &value).is_empty() {
            let there: BTreeSet<&str> = self.labels.values().filter_map(|labels| labels.get(&key).map(String::as_str)).collect();
            let there: Vec<&str> = there.into_iter().take(12).collect();
            return Err(Fault::new(field, format!("there is no domain {value:?} of {key}; there are {}", listed(&there))));
        }
        Ok((key, value))
    }

    /// `z1/r1`: a value for each level, from the widest.
    fn path(&self, field: &str, text: &str) -> Result<(String, String), Fault> {
        let values: Vec<&str> = text.split('/').map(str::trim).collect();
        if values.len() > self.levels.len() {
            let message = format!("{text:?} has {} steps, and `levels` has {}", values.len(), self.levels.len());
            return Err(Fault::new(field, message));
        }
        let matches = |labels: &BTreeMap<String, String>| {
            self.levels.iter().zip(&values).all(|(key, value)| labels.get(key).is_some_and(|label| label == value))
        };
        let last = values.last().copied().unwrap_or_default().to_owned();
        if self.labels.values().any(matches) {
            return Ok((self.levels[values.len() - 1].clone(), last));
        }
        // One name alone may be that of a narrower domain, if no other level has such a one.
        let alone = |key: &&String| values.len() == 1 && !self.nodes_of(key, &last).is_empty();
        let candidates: Vec<&String> = self.levels.iter().filter(alone).collect();
        match candidates.as_slice() {
            [key] => Ok(((*key).clone(), last)),
            [] => Err(Fault::new(field, format!("no node is at {text}; `nodes` says which places there are"))),
            _ => Err(Fault::new(field, format!("{text:?} is a domain of several levels; write LEVEL={text}"))),
        }
    }

    pub(crate) fn has_node(&self, field: &str, name: &str) -> Result<(), Fault> {
        if self.labels.contains_key(name) {
            return Ok(());
        }
        let there: Vec<&str> = self.labels.keys().map(String::as_str).take(12).collect();
        Err(Fault::new(field, format!("there is no node {name:?}; there are {}", listed(&there))))
    }

    /// Names of the nodes of a domain.
    pub(crate) fn nodes_of(&self, key: &str, value: &str) -> BTreeSet<&str> {
        let inside = self.labels.iter().filter(|(_, labels)| labels.get(key).is_some_and(|label| label == value));
        inside.map(|(name, _)| name.as_str()).collect()
    }

    /// `rack=r1`: a domain as reports name it.
    pub(crate) fn named(&self, key: &str, value: &str) -> String {
        let unique = self.levels.iter().filter(|level| short(level) == short(key)).count() <= 1;
        format!(
            "{}={value}",
            if unique && (self.levels.iter().any(|level| level == key) || key == HOSTNAME) { short(key) } else { key }
        )
    }
}

/// What stands after the prefix of a label key.
pub(crate) fn short(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or(key)
}

pub(crate) fn listed(names: &[&str]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
