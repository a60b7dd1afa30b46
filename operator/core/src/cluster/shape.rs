//! What makes two pods the same to placement: their demand and the hard filters the scheduler would apply.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    Container, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, ResourceRequirements, Toleration as ApiToleration,
};

use super::amounts::{Amounts, PODS, QuantityError};
use super::node::{Facts, Taint};

/// Distinct pod demand with its hard filters. Cheap to clone; equal shapes fit the same nodes.
///
/// Scheduling gates, preferences, priorities and pod (anti-)affinity are no part of it. Host ports, volumes and resource claims
/// are hard filters too but not modelled: the scheduler has the last word on them, and a pod it refuses makes its group be
/// placed again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shape(Arc<Parts>);

#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Parts {
    requests: Amounts,
    selector: BTreeMap<String, String>,
    /// Terms of the required node affinity, any of which must hold; `None` if there is no such affinity.
    affinity: Option<Vec<Term>>,
    tolerations: Vec<Toleration>,
}

#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Term {
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
}

#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Requirement {
    key: String,
    operator: String,
    values: Vec<String>,
}

#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Toleration {
    key: String,
    operator: String,
    value: String,
    effect: String,
}

/// Why a node is not for pods of a shape, whatever room it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exclusion {
    /// The node is not `Ready=True`.
    Unready,
    /// The node is cordoned.
    Unschedulable,
    /// A `NoSchedule` or `NoExecute` taint is not tolerated.
    Tainted,
    /// The pod's node selector or required node affinity does not match.
    Filtered,
    /// The decision keeps away from the node, say because pods could not be scheduled there.
    Avoided,
}

impl Shape {
    /// The shape of a pod or of a pod template.
    pub fn of(spec: &PodSpec) -> Result<Self, QuantityError> {
        let mut tolerations: Vec<_> = spec.tolerations.iter().flatten().map(Toleration::from).collect();
        add_admitted(&mut tolerations);
        tolerations.sort();
        tolerations.dedup();
        let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
        let required = affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
        Ok(Self(Arc::new(Parts {
            requests: requests_of(spec)?,
            selector: spec.node_selector.clone().unwrap_or_default(),
            affinity: required.map(|selector| selector.node_selector_terms.iter().map(Term::from).collect()),
            tolerations,
        })))
    }

    /// What one pod of this shape takes from its node.
    pub fn requests(&self) -> &Amounts {
        &self.0.requests
    }

    /// The pod's own node selector.
    pub fn selector(&self) -> &BTreeMap<String, String> {
        &self.0.selector
    }

    /// The value of a node label that the pod's own node selector asks for.
    pub fn selected(&self, key: &str) -> Option<&str> {
        self.0.selector.get(key).map(String::as_str)
    }

    /// Why the scheduler's filters keep pods of this shape off the node; `None` if only room decides.
    pub fn excluded_from(&self, node: &Facts) -> Option<Exclusion> {
        if !node.ready {
            return Some(Exclusion::Unready);
        }
        if node.unschedulable {
            return Some(Exclusion::Unschedulable);
        }
        if !node.taints.iter().all(|taint| self.0.tolerations.iter().any(|toleration| toleration.tolerates(taint))) {
            return Some(Exclusion::Tainted);
        }
        let selected = self.0.selector.iter().all(|(key, value)| node.labels.get(key) == Some(value));
        let wanted = self.0.affinity.as_ref().is_none_or(|terms| terms.iter().any(|term| term.matches(node)));
        (!(selected && wanted)).then_some(Exclusion::Filtered)
    }
}

/// What a pod takes from its node, as the scheduler counts: the larger of all containers together (with the init containers
/// that keep running) and the hungriest moment of initialisation, plus the runtime's overhead; pod-level requests win.
pub fn requests_of(spec: &PodSpec) -> Result<Amounts, QuantityError> {
    let mut running = Amounts::default();
    for container in &spec.containers {
        running.add(&container_requests(container)?, 1);
    }
    let mut restartable = Amounts::default();
    let mut peak = Amounts::default();
    for container in spec.init_containers.iter().flatten() {
        let mut own = container_requests(container)?;
        if container.restart_policy.as_deref() == Some("Always") {
            running.add(&own, 1);
            restartable.add(&own, 1);
            peak.raise_to(&restartable);
        } else {
            own.add(&restartable, 1);
            peak.raise_to(&own);
        }
    }
    running.raise_to(&peak);
    if let Some(resources) = &spec.resources {
        for (resource, amount) in declared(resources)?.iter() {
            running.set(resource, amount);
        }
    }
    if let Some(overhead) = &spec.overhead {
        running.add(&Amounts::parse(overhead)?, 1);
    }
    running.set(PODS, 1);
    Ok(running)
}

fn container_requests(container: &Container) -> Result<Amounts, QuantityError> {
    container.resources.as_ref().map_or_else(|| Ok(Amounts::default()), declared)
}

/// Requests, and limits where there is no request: the API server fills these in for pods, but not in templates.
fn declared(resources: &ResourceRequirements) -> Result<Amounts, QuantityError> {
    let mut list = resources.limits.clone().unwrap_or_default();
    list.extend(resources.requests.clone().unwrap_or_default());
    Amounts::parse(&list)
}

/// Adds the tolerations that the API server gives every pod (its admission plugin `DefaultTolerationSeconds`), so that a template and
/// the pods that are made from it have one shape.
fn add_admitted(tolerations: &mut Vec<Toleration>) {
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let taint = Taint { key: key.to_owned(), value: String::new(), effect: "NoExecute".to_owned() };
        if !tolerations.iter().any(|toleration| toleration.tolerates(&taint)) {
            let operator = "Exists".to_owned();
            tolerations.push(Toleration { key: taint.key, operator, value: taint.value, effect: taint.effect });
        }
    }
}

impl Term {
    /// An empty term matches nothing, as in the scheduler.
    fn matches(&self, node: &Facts) -> bool {
        if self.labels.is_empty() && self.fields.is_empty() {
            return false;
        }
        let labels = self.labels.iter().all(|wanted| wanted.matches(node.labels.get(&wanted.key).map(String::as_str)));
        labels && self.fields.iter().all(|wanted| wanted.key == "metadata.name" && wanted.matches(Some(&node.name)))
    }
}

impl Requirement {
    fn matches(&self, actual: Option<&str>) -> bool {
        let listed = |value: &str| self.values.iter().any(|wanted| wanted == value);
        let compared = |holds: fn(i64, i64) -> bool| {
            let numbers = actual.and_then(|value| value.parse().ok()).zip(self.values.first().and_then(|v| v.parse().ok()));
            numbers.is_some_and(|(actual, bound)| holds(actual, bound))
        };
        match self.operator.as_str() {
            "In" => actual.is_some_and(listed),
            "NotIn" => !actual.is_some_and(listed),
            "Exists" => actual.is_some(),
            "DoesNotExist" => actual.is_none(),
            "Gt" => compared(|actual, bound| actual > bound),
            "Lt" => compared(|actual, bound| actual < bound),
            _ => false,
        }
    }
}

impl Toleration {
    fn tolerates(&self, taint: &Taint) -> bool {
        let effect = self.effect.is_empty() || self.effect == taint.effect;
        let key = self.key.is_empty() || self.key == taint.key;
        // An empty key means every key, and only together with Exists.
        let value = match self.operator.as_str() {
            "Exists" => true,
            "" | "Equal" => !self.key.is_empty() && self.value == taint.value,
            _ => false,
        };
        effect && key && value
    }
}

impl From<&NodeSelectorTerm> for Term {
    fn from(term: &NodeSelectorTerm) -> Self {
        let read = |list: &Option<Vec<NodeSelectorRequirement>>| list.iter().flatten().map(Requirement::from).collect();
        Self { labels: read(&term.match_expressions), fields: read(&term.match_fields) }
    }
}

impl From<&NodeSelectorRequirement> for Requirement {
    fn from(requirement: &NodeSelectorRequirement) -> Self {
        let mut values = requirement.values.clone().unwrap_or_default();
        values.sort();
        Self { key: requirement.key.clone(), operator: requirement.operator.clone(), values }
    }
}

impl From<&ApiToleration> for Toleration {
    fn from(toleration: &ApiToleration) -> Self {
        Self {
            key: toleration.key.clone().unwrap_or_default(),
            operator: toleration.operator.clone().unwrap_or_default(),
            value: toleration.value.clone().unwrap_or_default(),
            effect: toleration.effect.clone().unwrap_or_default(),
        }
    }
}
