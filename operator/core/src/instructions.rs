//! What pods of a placed group get one by one: their part's domain, their node, what they prefer and avoid, effects.
//!
//! One value serves both ways in which it reaches pods: the leader exists already and is patched; workers are changed at admission,
//! which reads the value from an annotation of their template, so that the template itself stays what its author wrote.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::placement::effects::Effects;

/// Domains that the scheduler is asked to favour at most.
pub const MAX_PREFERRED: usize = 10;

/// Pods with consecutive ranks that are bound to one domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartDomain {
    /// How many ranks.
    pub pods: u32,
    /// Label key of the domain.
    pub key: String,
    /// Label value of the domain.
    pub value: String,
}

/// What the pods of one group get.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Instructions {
    /// Domains by rank: the first so many ranks, the next so many, and so on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PartDomain>,
    /// Node names by rank.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<String>,
    /// Node labels (key and value) that the scheduler is to favour, best first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub preferred: Vec<(String, String)>,
    /// Names of nodes that no pod goes to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub avoid: Vec<String>,
    /// What they get beside their place.
    #[serde(skip_serializing_if = "Effects::is_empty")]
    pub effects: Effects,
}

impl Instructions {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The annotation's text.
    pub fn render(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The domain of the part that a rank is in: label key and value.
    pub fn part_of(&self, rank: u32) -> Option<(&str, &str)> {
        let mut end = 0_u32;
        let part = self.parts.iter().find(|part| {
            end = end.saturating_add(part.pods);
            rank < end
        })?;
        Some((&part.key, &part.value))
    }

    /// Node labels that the pod of a rank selects.
    pub fn selector(&self, rank: u32) -> BTreeMap<String, String> {
        let part = self.part_of(rank).map(|(key, value)| (key.to_owned(), value.to_owned()));
        self.effects.node_selector.clone().into_iter().chain(part).collect()
    }

    /// The node affinity of a pod of this rank: its author's, with what it must and should do added. `None` if that is nothing.
    pub fn node_affinity(&self, authors: Option<&Value>, rank: u32) -> Option<Value> {
        let pin = self.pins.get(rank as usize).map(|node| field("In", node));
        let fields: Vec<Value> = pin.into_iter().chain(self.avoid.iter().map(|node| field("NotIn", node))).collect();
        if fields.is_empty() && self.preferred.is_empty() {
            return None;
        }
        let mut affinity = authors.and_then(Value::as_object).cloned().unwrap_or_default();
        require(&mut affinity, "matchFields", &fields);
        prefer(&mut affinity, &self.preferred);
        Some(Value::Object(affinity))
    }
}

fn field(operator: &str, node: &str) -> Value {
    json!({ "key": "metadata.name", "operator": operator, "values": [node] })
}

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Adds requirements (`matchExpressions` or `matchFields`) to every term of a node affinity: a node must meet them whichever term it
/// meets. Terms are all that may change on a gated pod, and only by growing.
pub(crate) fn require(affinity: &mut Map<String, Value>, list: &str, requirements: &[Value]) {
    if requirements.is_empty() {
        return;
    }
    let mut terms = match affinity.get(REQUIRED).and_then(|required| required.get("nodeSelectorTerms")) {
        Some(Value::Array(terms)) => terms.clone(),
        _ => Vec::new(),
    };
    if terms.is_empty() {
        terms.push(json!({}));
    }
    for term in terms.iter_mut().filter_map(Value::as_object_mut) {
        let known = term.entry(list).or_insert(Value::Null);
        let mut all = known.as_array().cloned().unwrap_or_default();
        all.extend(requirements.iter().cloned());
        *known = Value::Array(all);
    }
    affinity.insert(REQUIRED.to_owned(), json!({ "nodeSelectorTerms": terms }));
}

/// Asks the scheduler to favour nodes with these labels, the first most.
fn prefer(affinity: &mut Map<String, Value>, preferred: &[(String, String)]) {
    if preferred.is_empty() {
        return;
    }
    let mut terms = affinity.get(PREFERRED).and_then(Value::as_array).cloned().unwrap_or_default();
    // 100 is the scheduler's largest weight.
    let weights = (1..=100).rev().step_by(100 / MAX_PREFERRED);
    terms.extend(preferred.iter().take(MAX_PREFERRED).zip(weights).map(|((key, value), weight)| {
        let expression = json!({ "key": key, "operator": "In", "values": [value] });
        json!({ "weight": weight, "preference": { "matchExpressions": [expression] } })
    }));
    affinity.insert(PREFERRED.to_owned(), Value::Array(terms));
}

/// The leader's node affinity as JSON, the form in which instructions are added to it.
pub(crate) fn node_affinity_of(pod: &Pod) -> Option<Value> {
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    serde_json::to_value(affinity).ok()
}

#[cfg(test)]
mod tests;
