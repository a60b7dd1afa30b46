//! The fields of a scenario file. `tests/scenarios/README.md` describes them for people.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::Expect;
use super::notation::{self, Brief, Some1};

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// One case: a cluster, a question and what the answer should be.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Scenario {
    /// What the case shows, as a sentence.
    pub name: String,
    /// Where it comes from, or why it matters.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The policy's settings.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub settings: Value,
    /// The policies that are asked, one after the other, as a set would name them; the policy under test alone if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<Brief<Link>>,
    /// Whom an exclusive group keeps away from.
    #[serde(skip_serializing_if = "is_default")]
    pub scope: Scope,
    /// Keys of node labels, widest first; paths such as `z1/r1` give their values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub levels: Vec<String>,
    /// Kinds of node, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub templates: BTreeMap<String, Template>,
    /// The nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<Brief<Nodes>>,
    /// Kinds of pod, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub shapes: BTreeMap<String, PodKind>,
    /// Groups of other sets that hold domains.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<Brief<Held>>,
    /// The question to a placement policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Request>,
    /// The question to a startup policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub startup: Option<Startup>,
    /// What the answers should be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expect: Vec<Expect>,
    /// The properties of every policy are checked on this case too.
    #[serde(skip_serializing_if = "is_default")]
    pub properties: bool,
    /// The folder that it was read from: where paths in it begin.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// One policy of a chain; in short the name of a built-in one, the path of a component, or `underTest`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Link {
    /// A policy that is part of the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub built_in: Option<String>,
    /// The file of a component, from the scenario's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// The policy that the scenario is played with.
    #[serde(skip_serializing_if = "is_default")]
    pub under_test: bool,
    /// Its settings; for the one under test those of the scenario if there are none.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub settings: Value,
}

impl FromStr for Link {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = || Some(text.to_owned()).filter(|text| !text.is_empty());
        Ok(match text {
            "underTest" => Self { under_test: true, ..Self::default() },
            path if path.contains('/') || path.ends_with(".wasm") => Self { component: named(), ..Self::default() },
            _ => Self { built_in: named(), ..Self::default() },
        })
    }
}

/// Whom an exclusive group keeps away from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// Groups of its namespace.
    #[default]
    Namespace,
    /// All groups.
    Cluster,
}

/// Quantities by resource name; `gpu` and `tpu` are short for `nvidia.com/gpu` and `google.com/tpu`.
pub type Resources = BTreeMap<String, String>;

/// What nodes of a kind have: resources, and beside them labels, taints and whether they take pods.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Template {
    /// Allocatable.
    pub resources: Resources,
    /// Labels beside those of the path.
    pub labels: BTreeMap<String, String>,
    /// `key=value:Effect`.
    pub taints: Vec<String>,
}

/// What pods of a kind ask for: resources, and beside them node labels and tolerations; or a whole pod spec.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PodKind {
    /// Requests.
    pub requests: Resources,
    /// Node labels that it selects.
    pub selector: BTreeMap<String, String>,
    /// `key=value:Effect`, `key:Effect` or `key`.
    pub tolerations: Vec<String>,
    /// A pod spec, as Kubernetes has it, in place of all this.
    pub spec: Option<Value>,
}

/// Takes a field out of an object, as the type that it must have.
fn take<T: for<'de> Deserialize<'de> + Default, E: serde::de::Error>(
    fields: &mut BTreeMap<String, Value>,
    name: &str,
) -> Result<T, E> {
    let Some(value) = fields.remove(name) else { return Ok(T::default()) };
    serde_json::from_value(value).map_err(|error| E::custom(format!("{name}: {error}")))
}

/// Everything that is left is a resource.
fn resources<E: serde::de::Error>(fields: BTreeMap<String, Value>, beside: &str) -> Result<Resources, E> {
    let each = fields.into_iter().map(|(name, value)| match value {
        Value::Number(number) => Ok((name, number.to_string())),
        Value::String(text) => Ok((name, text)),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            let wrong = format!("{name}: neither a quantity, such as 8 or 16Gi, nor one of {beside}");
            Err(E::custom(wrong))
        }
    });
    each.collect()
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = BTreeMap::<String, Value>::deserialize(deserializer)?;
        let (labels, taints) = (take(&mut fields, "labels")?, take(&mut fields, "taints")?);
        Ok(Self { labels, taints, resources: resources(fields, "labels and taints")? })
    }
}

impl<'de> Deserialize<'de> for PodKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = BTreeMap::<String, Value>::deserialize(deserializer)?;
        let (selector, tolerations) = (take(&mut fields, "selector")?, take(&mut fields, "tolerations")?);
        let spec = take(&mut fields, "spec")?;
        let kind = Self { selector, tolerations, spec, requests: resources(fields, "selector, tolerations and spec")? };
        if kind.spec.is_some() && (Self { spec: None, ..kind.clone() }) != Self::default() {
            return Err(D::Error::custom("spec: a whole pod spec stands alone; put requests, selector and tolerations into it"));
        }
        Ok(kind)
    }
}

impl Serialize for Template {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields: BTreeMap<&str, Value> =
            self.resources.iter().map(|(name, amount)| (name.as_str(), amount.clone().into())).collect();
        if !self.labels.is_empty() {
            fields.insert("labels", serde_json::json!(self.labels));
        }
        if !self.taints.is_empty() {
            fields.insert("taints", serde_json::json!(self.taints));
        }
        fields.serialize(serializer)
    }
}

impl Serialize for PodKind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields: BTreeMap<&str, Value> =
            self.requests.iter().map(|(name, amount)| (name.as_str(), amount.clone().into())).collect();
        if !self.selector.is_empty() {
            fields.insert("selector", serde_json::json!(self.selector));
        }
        if !self.tolerations.is_empty() {
            fields.insert("tolerations", serde_json::json!(self.tolerations));
        }
        if let Some(spec) = &self.spec {
            fields.insert("spec", spec.clone());
        }
        fields.serialize(serializer)
    }
}

/// Some equal nodes; in short `COUNT x TEMPLATE @ PATH`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Nodes {
    /// `COUNT x TEMPLATE @ PATH`; count and path may be left out.
    pub is: String,
    /// The node's name, if it is one node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// More labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// More taints.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<String>,
    /// What pods that belong to no set use on each.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub used: BTreeMap<String, Quantity>,
    /// Not ready.
    #[serde(skip_serializing_if = "is_default")]
    pub unready: bool,
    /// Cordoned.
    #[serde(skip_serializing_if = "is_default")]
    pub cordoned: bool,
}

impl FromStr for Nodes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        notation::counted(text)?;
        Ok(Self { is: text.to_owned(), ..Self::default() })
    }
}

/// An amount of a resource, as a number or a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Quantity(pub String);

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Number(number) => Ok(Self(number.to_string())),
            Value::String(text) => Ok(Self(text)),
            other => Err(D::Error::custom(format!("{other} is no quantity; write for example 8 or 16Gi"))),
        }
    }
}

/// A group of another set that holds a domain; in short `NAMESPACE/SET INDEX @ PLACE`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Held {
    /// `NAMESPACE/SET INDEX`.
    pub group: String,
    /// The domain that it holds.
    pub at: String,
    /// Others may be there too.
    #[serde(skip_serializing_if = "is_default")]
    pub shared: bool,
    /// Its pods that are not bound yet, for which room is kept: `7 workers`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<String>,
}

impl FromStr for Held {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (group, at) = group_at(text)?;
        Ok(Self { group, at, ..Self::default() })
    }
}

fn group_at(text: &str) -> Result<(String, String), String> {
    let (group, at) = notation::placed(text);
    notation::group(group)?;
    let at =
        at.ok_or_else(|| format!("{text:?} names no place: write NAMESPACE/SET INDEX @ PLACE, such as ml/other 0 @ rack=r1"))?;
    Ok((group.to_owned(), at.to_owned()))
}

/// The question to a placement policy.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Request {
    /// `NAMESPACE/SET`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Labels of the set.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The level of exclusive placement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclusive: Option<String>,
    /// `2 x [1 leader, 7 workers]`, or a list.
    pub units: Units,
    /// How the set divides its groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subgroups: Option<Division>,
    /// Groups of the set that have their place: `INDEX @ PLACE`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub placed: Vec<String>,
    /// Groups of the set's peers: `NAMESPACE/SET INDEX @ PLACE`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<Brief<Peer>>,
    /// Nodes that have failed groups lately.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bad_nodes: Vec<BadNode>,
}

/// How a set divides its groups into subgroups, as its `subGroupPolicy` and `subgroup-exclusive-topology` say it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Division {
    /// Pods of a subgroup.
    pub size: u32,
    /// The level at which each subgroup has a domain of its own; they may share domains if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclusive: Option<String>,
    /// The leader is in no subgroup (`LeaderExcluded`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub leader_excluded: bool,
}

/// The units asked about.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Units(pub Vec<Brief<Unit>>);

impl<'de> Deserialize<'de> for Units {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;

        impl<'de> serde::de::Visitor<'de> for OneOrMany {
            type Value = Units;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("units, such as 2 x [1 leader, 7 workers], or a list of them")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Units, E> {
                Ok(Units(vec![Brief(text.parse().map_err(E::custom)?)]))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Units, A::Error> {
                let mut units = Vec::new();
                while let Some(unit) = list.next_element()? {
                    units.push(unit);
                }
                Ok(Units(units))
            }
        }

        deserializer.deserialize_any(OneOrMany)
    }
}

/// Some equal units; in short `COUNT x [1 leader, 7 workers]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Unit {
    /// `COUNT x [1 leader, 7 workers]`.
    pub pods: String,
    /// Index of the first; by default the one after the unit before, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// Higher is more important.
    #[serde(skip_serializing_if = "is_default")]
    pub priority: i32,
    /// How many pods each of its subgroups has; by default as the request divides it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subgroups: Vec<u32>,
    /// Where its pods run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<Brief<Where>>,
    /// Where its pods ran before it started over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<Brief<Where>>,
}

impl FromStr for Unit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        notation::demands(notation::counted(text)?.1)?;
        Ok(Self { pods: text.to_owned(), ..Self::default() })
    }
}

/// Where pods are: in short a place.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Where {
    /// A domain that all of them are in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Each one's node, in the order of ranks; an empty name for none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
}

impl FromStr for Where {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self { at: Some(text.to_owned()), nodes: Vec::new() })
    }
}

/// A group of a peer; in short `NAMESPACE/SET INDEX @ PLACE`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Peer {
    /// `NAMESPACE/SET INDEX`.
    pub group: String,
    /// Where all of it is, or the places that it is spread over; nowhere yet if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Some1<String>>,
    /// Nodes that pods of it run on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// Labels of its set; if there are some, it is a peer only by the label that the policy goes by.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl Peer {
    /// The places that it is in.
    pub(crate) fn places(&self) -> &[String] {
        match &self.at {
            None => &[],
            Some(Some1::One(place)) => std::slice::from_ref(place),
            Some(Some1::Many(places)) => places,
        }
    }
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (group, at) = notation::placed(text);
        notation::group(group)?;
        Ok(Self { group: group.to_owned(), at: at.map(|at| Some1::One(at.to_owned())), ..Self::default() })
    }
}

/// A node that has failed groups.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BadNode {
    /// Its name.
    pub node: String,
    /// How often within a day.
    #[serde(default = "one")]
    pub failures: u32,
    /// How long ago the last time was: `10m`.
    #[serde(default)]
    pub age: Option<String>,
}

fn one() -> u32 {
    1
}

/// The question to a startup policy.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Startup {
    /// `NAMESPACE/SET`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Labels of the set.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Groups of the complete set; by default those that are listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// How many of them have no place; by default the listed ones that are not placed and those that are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unplaced: Option<u32>,
    /// The groups that are not complete.
    pub groups: Vec<StartingGroup>,
}

/// A group that is starting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StartingGroup {
    /// Its index; by default its position in the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// How many pods it has when complete.
    pub size: u32,
    /// The pods that exist, in the order of ranks: `ready`, `3 x running`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<Brief<StartingPod>>,
    /// How long ago the first was created: `30s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<String>,
    /// How often it has been started over.
    #[serde(default, skip_serializing_if = "is_default")]
    pub recreations: u32,
    /// It has its place.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub placed: bool,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_yes(value: &bool) -> bool {
    *value
}

/// Some equal pods of a group that is starting; in short `COUNT x PHASE`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct StartingPod {
    /// `COUNT x PHASE`.
    pub is: String,
    /// The rank of the first; by default the one after the pod before, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    /// How long in this phase: `10s`.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Restarts of its containers.
    #[serde(skip_serializing_if = "is_default")]
    pub restarts: u32,
}

impl FromStr for StartingPod {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self { is: text.to_owned(), ..Self::default() })
    }
}
