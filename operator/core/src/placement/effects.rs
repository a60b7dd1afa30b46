//! What a policy gives pods beside their place, and what of it is allowed.
//!
//! Effects only add. Keys that belong to Kubernetes, to the LeaderWorkerSet API or to Muster are not a policy's business, nor is a
//! toleration that opens nodes whatever their taints are: nodes that are not ready or cordoned stay closed.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodSpec, Toleration};
use muster_api::names;
use muster_api::syntax;
use serde::{Deserialize, Serialize};

/// Effects of one answer, or of one policy's preparation, at most.
pub const MAX_EFFECTS: usize = 32;
const MAX_VALUE_BYTES: usize = 1024;
/// Environment variables that pods of sets get from Muster itself.
const OWN_ENVIRONMENT: [&str; 4] = ["LWS_", "TPU_", "MEGASCALE_", "MUSTER_"];

/// One thing that pods get, as a policy says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// They tolerate a taint.
    Toleration {
        /// The taint's key.
        key: String,
        /// Its value; any if absent.
        value: Option<String>,
        /// Its effect (`NoSchedule`, …); any if absent.
        effect: Option<String>,
    },
    /// Their node must have this label.
    NodeSelector(String, String),
    /// They carry this label.
    Label(String, String),
    /// They carry this annotation.
    Annotation(String, String),
    /// Their containers have this environment variable.
    Env(String, String),
    /// This scheduler schedules them.
    SchedulerName(String),
}

/// When an effect comes.
#[derive(Debug, Clone, Copy)]
pub enum Stage<'a> {
    /// With the policy's settings, before any pod exists.
    Preparation,
    /// With an answer, when the leader exists already; with what its pods got from the preparation.
    Answer(&'a Effects),
}

/// An effect that pods don't get.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("effect {effect}: {why}")]
pub struct Forbidden {
    /// The effect, such as `label a.example/b`.
    pub effect: String,
    /// What is wrong and what would be right.
    pub why: String,
}

/// Effects that are allowed, by kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Effects {
    /// Taints that the pods tolerate.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Labels that their nodes must have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Labels that they get.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations that they get.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Environment variables that their containers get.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Who schedules them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler_name: Option<String>,
}

impl Eq for Effects {}

impl Effects {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Sorts effects by kind, if all of them are allowed at that stage.
    ///
    /// # Errors
    /// With the first that is not.
    pub fn check(effects: &[Effect], stage: Stage<'_>) -> Result<Self, Forbidden> {
        if effects.len() > MAX_EFFECTS {
            let why = format!("{} effects, and at most {MAX_EFFECTS} are possible", effects.len());
            return Err(Forbidden { effect: "list".to_owned(), why });
        }
        let mut sorted = Self::default();
        for effect in effects {
            sorted.add(effect, stage).map_err(|why| Forbidden { effect: effect.named(), why })?;
        }
        Ok(sorted)
    }

    fn add(&mut self, effect: &Effect, stage: Stage<'_>) -> Result<(), String> {
        match effect {
            Effect::Toleration { key, value, effect } => {
                let toleration = toleration(key, value.as_deref(), effect.as_deref())?;
                if !self.tolerations.contains(&toleration) {
                    self.tolerations.push(toleration);
                }
                Ok(())
            }
            Effect::NodeSelector(key, value) => {
                label_key(key)?;
                label_value(value)?;
                once(&mut self.node_selector, key, value)
            }
            Effect::Label(key, value) => {
                label_key(key)?;
                ours_or_kubernetes(key)?;
                label_value(value)?;
                once(&mut self.labels, key, value)
            }
            Effect::Annotation(key, value) => {
                label_key(key)?;
                ours_or_kubernetes(key)?;
                short(value)?;
                once(&mut self.annotations, key, value)
            }
            Effect::Env(name, value) => {
                env_name(name)?;
                short(value)?;
                if let Stage::Answer(prepared) = stage
                    && !prepared.env.contains_key(name)
                {
                    return Err(
                        "a container that exists takes no new variable: name it in `prepare` with a first value".to_owned()
                    );
                }
                once(&mut self.env, name, value)
            }
            Effect::SchedulerName(name) => {
                if matches!(stage, Stage::Answer(_)) {
                    return Err("a pod that exists keeps its scheduler: name it in `prepare`".to_owned());
                }
                if !syntax::is_dns1123_subdomain(name) {
                    return Err("a scheduler's name is a DNS subdomain".to_owned());
                }
                match self.scheduler_name.replace(name.clone()) {
                    Some(other) if other != *name => Err(format!("{other} is named already")),
                    _ => Ok(()),
                }
            }
        }
    }

    /// These and the others, which win where both have the same key.
    #[must_use]
    pub fn and(mut self, others: &Self) -> Self {
        for toleration in &others.tolerations {
            if !self.tolerations.contains(toleration) {
                self.tolerations.push(toleration.clone());
            }
        }
        self.node_selector.extend(others.node_selector.clone());
        self.labels.extend(others.labels.clone());
        self.annotations.extend(others.annotations.clone());
        self.env.extend(others.env.clone());
        self.scheduler_name = others.scheduler_name.clone().or(self.scheduler_name);
        self
    }

    /// What the policies of a chain give, in its order: what the first one says is not narrowed by later ones.
    pub fn of_chain(each: impl IntoIterator<Item = Self>) -> Self {
        each.into_iter().reduce(|first, later| later.and(&first)).unwrap_or_default()
    }

    /// Gives a pod's spec what placement looks at: tolerations and node labels.
    pub fn change_spec(&self, spec: &mut PodSpec) {
        let tolerations = spec.tolerations.get_or_insert_default();
        tolerations.extend(self.tolerations.iter().cloned());
        let selector = spec.node_selector.get_or_insert_default();
        for (key, value) in &self.node_selector {
            selector.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }

    /// All tolerations of a pod that has these already; `None` if it gets no more.
    pub fn tolerations_with(&self, own: Option<&[Toleration]>) -> Option<Vec<Toleration>> {
        let own = own.unwrap_or_default();
        let more: Vec<_> = self.tolerations.iter().filter(|toleration| !own.contains(toleration)).cloned().collect();
        (!more.is_empty()).then(|| own.iter().cloned().chain(more).collect())
    }

    /// The annotations that carry them: their own, and one for every environment variable, which containers read it from.
    pub fn all_annotations(&self) -> BTreeMap<String, String> {
        let env = self.env.iter().map(|(name, value)| (names::annotation::env(name), value.clone()));
        self.annotations.clone().into_iter().chain(env).collect()
    }
}

impl Effect {
    fn named(&self) -> String {
        match self {
            Self::Toleration { key, .. } => format!("toleration {key}"),
            Self::NodeSelector(key, _) => format!("node-selector {key}"),
            Self::Label(key, _) => format!("label {key}"),
            Self::Annotation(key, _) => format!("annotation {key}"),
            Self::Env(name, _) => format!("env {name}"),
            Self::SchedulerName(name) => format!("scheduler-name {name}"),
        }
    }
}

fn toleration(key: &str, value: Option<&str>, effect: Option<&str>) -> Result<Toleration, String> {
    label_key(key)?;
    if key.starts_with("node.kubernetes.io/") || key.starts_with("node.cloudprovider.kubernetes.io/") {
        return Err("Kubernetes taints nodes with this key when they are no good, and they stay closed".to_owned());
    }
    value.map_or(Ok(()), label_value)?;
    Ok(Toleration {
        key: Some(key.to_owned()),
        operator: Some(if value.is_some() { "Equal" } else { "Exists" }.to_owned()),
        value: value.map(str::to_owned),
        effect: effect.map(str::to_owned),
        toleration_seconds: None,
    })
}

fn label_key(key: &str) -> Result<(), String> {
    if syntax::is_label_key(key) {
        Ok(())
    } else {
        Err("the key is not one that Kubernetes takes: PREFIX/NAME or NAME".to_owned())
    }
}

fn label_value(value: &str) -> Result<(), String> {
    if syntax::is_label_value(value) {
        return Ok(());
    }
    let value = crate::text::truncated(value, 80);
    Err(format!("the value {value:?} is no label value: at most 63 letters, digits, dashes, dots and underscores"))
}

fn short(value: &str) -> Result<(), String> {
    if value.len() <= MAX_VALUE_BYTES {
        Ok(())
    } else {
        Err(format!("the value has {} bytes, and at most {MAX_VALUE_BYTES} are possible", value.len()))
    }
}

fn ours_or_kubernetes(key: &str) -> Result<(), String> {
    let Some((prefix, _)) = key.split_once('/') else { return Ok(()) };
    let within = |domain: &str| prefix == domain || prefix.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    match ["kubernetes.io", "k8s.io", "muster.dev"].into_iter().find(|domain| within(domain)) {
        Some(domain) => Err(format!("keys of {domain} are not a policy's to set: use a prefix of your own")),
        None => Ok(()),
    }
}

fn env_name(name: &str) -> Result<(), String> {
    let good = name.len() <= 63
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.ends_with(|last: char| last.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !good {
        return Err(
            "the name must have at most 63 letters, digits and underscores, the first a letter and the last no underscore"
                .to_owned(),
        );
    }
    match OWN_ENVIRONMENT.into_iter().find(|own| name.starts_with(own)) {
        Some(own) => Err(format!("variables that begin with {own} are the operator's")),
        None => Ok(()),
    }
}

fn once(map: &mut BTreeMap<String, String>, key: &str, value: &str) -> Result<(), String> {
    match map.insert(key.to_owned(), value.to_owned()) {
        Some(other) if other != value => Err(format!("it is {other:?} already in the same list")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
