//! The nodes and pods of a scenario, as objects of the Kubernetes API.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use muster_core::cluster::amounts::Amounts;
use serde_json::{Value, json};

use super::notation::{counted, placed, resource, taint};
use super::sites::{HOSTNAME, listed, short};
use super::{Fault, Nodes, PodKind, Resources, Scenario, Template};

/// Nodes and the pods that belong to no set.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) pods: Vec<Pod>,
}

/// Makes the nodes of a scenario.
pub(crate) fn cluster(scenario: &Scenario) -> Result<Cluster, Fault> {
    let mut cluster = Cluster { nodes: Vec::new(), pods: Vec::new() };
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for (position, line) in scenario.nodes.iter().enumerate() {
        add(scenario, &format!("nodes[{position}]"), &line.0, &mut counts, &mut cluster)?;
    }
    let mut names: Vec<&str> = cluster.nodes.iter().filter_map(|node| node.metadata.name.as_deref()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Fault::new("nodes", format!("two nodes are named {:?}; give each its own `name`", pair[0])));
    }
    Ok(cluster)
}

fn add(
    scenario: &Scenario,
    field: &str,
    line: &Nodes,
    counts: &mut BTreeMap<String, u32>,
    cluster: &mut Cluster,
) -> Result<(), Fault> {
    let (count, rest) = counted(&line.is).map_err(|message| Fault::new(field, message))?;
    let (template_name, path) = placed(rest);
    let template = scenario.templates.get(template_name).ok_or_else(|| {
        let known: Vec<&str> = scenario.templates.keys().map(String::as_str).collect();
        Fault::new(field, format!("there is no template {template_name:?}; `templates` has {}", listed(&known)))
    })?;
    if line.name.is_some() && count != 1 {
        return Err(Fault::new(
            format!("{field}.name"),
            format!("{count} nodes can't have one name; leave it out, or the count"),
        ));
    }
    let path: Vec<&str> = path.map(|path| path.split('/').map(str::trim).collect()).unwrap_or_default();
    if path.len() > scenario.levels.len() {
        let message = format!("the path has {} steps, and `levels` has {}", path.len(), scenario.levels.len());
        return Err(Fault::new(field, message));
    }
    let steps: Vec<&str> = path.iter().copied().filter(|step| !is_missing(step)).collect();
    let prefix = if steps.is_empty() { template_name.to_owned() } else { steps.join("-") };
    for _ in 0..count {
        let next = counts.entry(prefix.clone()).or_default();
        let name = line.name.clone().unwrap_or_else(|| format!("{prefix}-{next}"));
        *next += 1;
        let mut labels = template.labels.clone();
        labels.insert(HOSTNAME.to_owned(), name.clone());
        for (position, key) in scenario.levels.iter().enumerate() {
            match path.get(position) {
                Some(step) if !is_missing(step) => drop(labels.insert(key.clone(), (*step).to_owned())),
                None if matches!(short(key), "host" | "hostname") => drop(labels.insert(key.clone(), name.clone())),
                _ => {}
            }
        }
        labels.extend(line.labels.clone());
        if !line.used.is_empty() {
            let used = line.used.iter().map(|(name, amount)| (name.clone(), amount.0.clone())).collect();
            cluster.pods.push(pod(
                &format!("used-{name}"),
                "kube-system",
                spec_of(&format!("{field}.used"), &used)?,
                &name,
                json!({}),
            ));
        }
        cluster.nodes.push(node(field, &name, &labels, template, line)?);
    }
    Ok(())
}

/// A step of a path for a level that the node has no label of.
fn is_missing(step: &str) -> bool {
    matches!(step, "" | "-")
}

fn node(field: &str, name: &str, labels: &BTreeMap<String, String>, template: &Template, line: &Nodes) -> Result<Node, Fault> {
    let mut allocatable = quantities(field, &template.resources)?;
    allocatable.entry("pods".to_owned()).or_insert_with(|| ApiQuantity("110".to_owned()));
    let taints: Vec<Value> = template
        .taints
        .iter()
        .chain(&line.taints)
        .map(|text| {
            let (key, value, effect) = taint(text);
            json!({ "key": key, "value": value, "effect": effect.unwrap_or_else(|| "NoSchedule".to_owned()) })
        })
        .collect();
    let ready = if line.unready { "False" } else { "True" };
    let node = json!({
        "metadata": { "name": name, "labels": labels },
        "spec": { "taints": taints, "unschedulable": line.cordoned },
        "status": { "allocatable": allocatable, "conditions": [{ "type": "Ready", "status": ready }] },
    });
    serde_json::from_value(node).map_err(|error| Fault::new(field, error.to_string()))
}

/// Resources in the API's terms, checked to be quantities.
fn quantities(field: &str, resources: &Resources) -> Result<BTreeMap<String, ApiQuantity>, Fault> {
    let list: BTreeMap<String, ApiQuantity> =
        resources.iter().map(|(name, amount)| (resource(name).to_owned(), ApiQuantity(amount.clone()))).collect();
    Amounts::parse(&list).map_err(|error| Fault::new(field, error.to_string()))?;
    Ok(list)
}

fn spec_of(field: &str, requests: &Resources) -> Result<PodSpec, Fault> {
    let container = json!({ "name": "main", "resources": { "requests": quantities(field, requests)? } });
    serde_json::from_value(json!({ "containers": [container] })).map_err(|error| Fault::new(field, error.to_string()))
}

/// The spec of pods of a kind.
pub(crate) fn spec(name: &str, kind: &PodKind) -> Result<PodSpec, Fault> {
    let field = format!("shapes.{name}");
    if let Some(spec) = &kind.spec {
        return serde_json::from_value(spec.clone()).map_err(|error| Fault::new(format!("{field}.spec"), error.to_string()));
    }
    let mut spec = spec_of(&field, &kind.requests)?;
    spec.node_selector = Some(kind.selector.clone()).filter(|selector| !selector.is_empty());
    let tolerations: Vec<Value> = kind
        .tolerations
        .iter()
        .map(|text| {
            let (key, value, effect) = taint(text);
            let operator = if value.is_some() { "Equal" } else { "Exists" };
            json!({ "key": key, "operator": operator, "value": value, "effect": effect })
        })
        .collect();
    spec.tolerations = serde_json::from_value(Value::Array(tolerations)).map_err(|error| Fault::new(field, error.to_string()))?;
    Ok(spec)
}

/// A bound pod.
pub(crate) fn pod(name: &str, namespace: &str, mut spec: PodSpec, node: &str, labels: Value) -> Pod {
    spec.node_name = Some(node.to_owned());
    let mut pod = Pod::default();
    pod.metadata.name = Some(name.to_owned());
    pod.metadata.namespace = Some(namespace.to_owned());
    pod.metadata.labels = serde_json::from_value(labels).ok();
    pod.spec = Some(spec);
    pod
}
