//! A live cluster as a scenario: its nodes, what is used on them, who holds what, and a set's question.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, PodSpec};
use muster_core::cluster::Holding;
use muster_core::cluster::amounts::Amounts;
use muster_core::cluster::node::Facts;
use serde_json::{Value, json};

use crate::scenario::notation::taint;
use crate::scenario::{Brief, Held, Nodes, Peer, PodKind, Quantity, Request, Scenario, Some1, Template};

const HOSTNAME: &str = "kubernetes.io/hostname";

/// The shape of a cluster: the `nodes` part of a scenario, and what is held there.
///
/// `levels` are label keys, widest first; `used` is what pods take, by node.
pub fn cluster(nodes: &[Node], used: &BTreeMap<String, Amounts>, holdings: &[Holding], levels: &[String]) -> Scenario {
    let mut scenario = Scenario { name: "a captured cluster".to_owned(), levels: levels.to_vec(), ..Scenario::default() };
    let mut facts: Vec<Facts> = nodes.iter().map(Facts::of).collect();
    facts.sort_by(|a, b| a.name.cmp(&b.name));
    let mut kinds: BTreeMap<Amounts, String> = BTreeMap::new();
    for node in &facts {
        let count = kinds.len();
        let kind = kinds.entry(node.allocatable.clone()).or_insert_with(|| format!("kind{}", count + 1)).clone();
        let resources = node.allocatable.iter().map(|(name, amount)| (name.to_owned(), quantity(name, amount))).collect();
        scenario.templates.entry(kind.clone()).or_insert(Template { resources, ..Template::default() });
        let own = |(key, value): &(&String, &String)| *key != HOSTNAME || **value != node.name;
        let taints = node.taints.iter().map(|taint| {
            let value = if taint.value.is_empty() { String::new() } else { format!("={}", taint.value) };
            format!("{}{value}:{}", taint.key, taint.effect)
        });
        // Every pod takes one of the pods that a node has room for; used is said in what pods request.
        let taken =
            used.get(&node.name).into_iter().flat_map(Amounts::iter).filter(|(name, _)| *name != muster_core::cluster::PODS);
        scenario.nodes.push(Brief(Nodes {
            is: kind,
            name: Some(node.name.clone()),
            labels: node.labels.iter().filter(own).map(|(key, value)| (key.clone(), value.clone())).collect(),
            taints: taints.collect(),
            used: taken.map(|(name, amount)| (name.to_owned(), Quantity(quantity(name, amount)))).collect(),
            unready: !node.ready,
            cordoned: node.unschedulable,
        }));
    }
    scenario.held = holdings.iter().filter_map(|holding| held(holding, &facts)).map(Brief).collect();
    scenario
}

/// Amounts are in the scheduler's unit: thousandths of `cpu`, else one.
fn quantity(resource: &str, amount: i64) -> String {
    if resource == "cpu" { format!("{amount}m") } else { amount.to_string() }
}

/// A holding of a domain that is there. Groups whose pods are pinned one by one hold none.
fn held(holding: &Holding, nodes: &[Facts]) -> Option<Held> {
    let there = nodes.iter().any(|node| node.labels.get(&holding.level) == Some(&holding.domain));
    let index = holding.group.leader_pod.strip_prefix(&holding.set)?.strip_prefix('-')?;
    there.then(|| Held {
        group: format!("{}/{} {index}", holding.group.namespace, holding.set),
        at: format!("{}={}", holding.level, holding.domain),
        shared: !holding.exclusive,
        pods: None,
    })
}

/// A group of a peer: `group` is `NAMESPACE/SET INDEX`, `nodes` are those of its bound pods, and `holding` is what it was promised.
pub fn peer(group: String, labels: &BTreeMap<String, String>, holding: Option<&Holding>, nodes: Vec<String>) -> Peer {
    let parts = holding.into_iter().flat_map(|holding| holding.subgroups.iter().map(|part| (&part.level, &part.domain)));
    let whole = holding.map(|holding| (&holding.level, &holding.domain)).filter(|(level, _)| !level.is_empty());
    let mut places: Vec<String> = parts.chain(whole).map(|(key, value)| format!("{key}={value}")).collect();
    let at = if places.len() == 1 {
        places.pop().map(Some1::One)
    } else {
        Some(places).filter(|all| !all.is_empty()).map(Some1::Many)
    };
    Peer { group, at, nodes, labels: labels.clone() }
}

/// A kind of pod with this spec, without what placement does not look at.
pub fn pod_kind(spec: &PodSpec) -> PodKind {
    let spec = serde_json::to_value(spec).unwrap_or_default();
    let containers = |name: &str| {
        let each = spec[name].as_array().into_iter().flatten().map(|container| {
            let mut kept = json!({ "name": container["name"], "resources": container["resources"] });
            if !container["restartPolicy"].is_null() {
                kept["restartPolicy"] = container["restartPolicy"].clone();
            }
            without_nulls(kept)
        });
        each.collect::<Vec<_>>()
    };
    let mut kept = json!({ "containers": containers("containers") });
    let beside = ["nodeSelector", "tolerations", "overhead", "resources"].map(|name| (name, spec[name].clone()));
    for (name, value) in beside.into_iter().filter(|(_, value)| !value.is_null()) {
        kept[name] = value;
    }
    if !spec["initContainers"].is_null() {
        kept["initContainers"] = Value::Array(containers("initContainers"));
    }
    if !spec["affinity"]["nodeAffinity"].is_null() {
        kept["affinity"] = json!({ "nodeAffinity": spec["affinity"]["nodeAffinity"] });
    }
    PodKind { spec: Some(kept), ..PodKind::default() }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key, without_nulls(value))).collect())
        }
        other => other,
    }
}

/// New names for old ones, in the order in which they turn up.
#[derive(Debug, Default)]
struct Names(BTreeMap<String, String>);

impl Names {
    fn of(&mut self, prefix: &str, name: &str) -> String {
        let next = self.0.len() + 1;
        self.0.entry(name.to_owned()).or_insert_with(|| format!("{prefix}{next:04}")).clone()
    }
}

/// The same cluster with made-up names: nodes, domains, sets and namespaces, and values of taints where no pod could tolerate them.
/// Labels that are no levels, that no group is held by and no pod selects, are left out; keys stay.
pub fn anonymised(mut scenario: Scenario) -> Scenario {
    let selected: BTreeSet<String> = scenario.shapes.values().flat_map(selects).collect();
    let holding: BTreeSet<String> = holding_keys(&scenario);
    let mut domains: BTreeMap<String, Names> = BTreeMap::new();
    let (mut nodes, mut sets, mut spaces, mut taints) = (Names::default(), Names::default(), Names::default(), Names::default());
    for Brief(node) in &mut scenario.nodes {
        node.name = node.name.as_deref().map(|name| nodes.of("n", name));
        if scenario.shapes.is_empty() {
            for text in &mut node.taints {
                let (key, value, effect) = taint(text);
                let value = value.map(|value| format!("={}", taints.of("taint", &value))).unwrap_or_default();
                *text = format!("{key}{value}:{}", effect.unwrap_or_default());
            }
        }
        let levels = &scenario.levels;
        node.labels.retain(|key, _| levels.contains(key) || selected.contains(key) || holding.contains(key));
        for (key, value) in &mut node.labels {
            // What pods select must go on being what they select.
            if !selected.contains(key) {
                *value = domain(&mut domains, key, value);
            }
        }
    }
    let mut group = |text: &str| {
        let (owner, index) = text.rsplit_once(' ').unwrap_or((text, "0"));
        let (namespace, set) = owner.split_once('/').unwrap_or(("", owner));
        format!("{}/{} {index}", spaces.of("ns", namespace), sets.of("set", &format!("{namespace}/{set}")))
    };
    let mut place = |text: &str| match text.split_once('=') {
        Some((key, value)) if !selected.contains(key) => format!("{key}={}", domain(&mut domains, key, value)),
        _ => text.to_owned(),
    };
    for Brief(held) in &mut scenario.held {
        (held.group, held.at) = (group(&held.group), place(&held.at));
    }
    if let Some(request) = &mut scenario.request {
        let owner = request.owner.as_deref().map(|owner| group(&format!("{owner} 0")));
        request.owner = owner.and_then(|owner| Some(owner.rsplit_once(' ')?.0.to_owned()));
        let links = scenario.chain.iter().map(|link| link.0.settings.clone());
        let settings = std::iter::once(scenario.settings.clone()).chain(links).collect();
        only_telling_labels(request, &Value::Array(settings));
        for Brief(peer) in &mut request.peers {
            peer.group = group(&peer.group);
            peer.at = peer.at.take().map(|at| match at {
                Some1::One(at) => Some1::One(place(&at)),
                Some1::Many(all) => Some1::Many(all.iter().map(|at| place(at)).collect()),
            });
            peer.nodes = peer.nodes.iter().map(|node| nodes.of("n", node)).collect();
        }
        for text in &mut request.placed {
            if let Some((index, at)) = text.split_once(" @ ") {
                *text = format!("{index} @ {}", place(at));
            }
        }
        for Brief(unit) in &mut request.units.0 {
            for at in [&mut unit.current, &mut unit.previous].into_iter().flatten() {
                at.0.nodes =
                    at.0.nodes.iter().map(|node| if node.is_empty() { String::new() } else { nodes.of("n", node) }).collect();
            }
        }
    }
    scenario
}

/// Labels of a set and its peers: those that make them peers, with made-up values, and those whose values the settings name.
fn only_telling_labels(request: &mut Request, settings: &Value) {
    let settings = settings.to_string();
    let is_named = |value: &str| settings.contains(&Value::from(value).to_string());
    let own = request.labels.clone();
    let shares = |(key, value): (&String, &String)| request.peers.iter().any(|peer| peer.0.labels.get(key) == Some(value));
    let shared: BTreeSet<String> = own.iter().filter(|label| shares(*label)).map(|(key, _)| key.clone()).collect();
    let mut made_up = Names::default();
    for labels in std::iter::once(&mut request.labels).chain(request.peers.iter_mut().map(|peer| &mut peer.0.labels)) {
        labels.retain(|key, value| shared.contains(key) || is_named(value));
        for value in labels.values_mut().filter(|value| !is_named(value)) {
            *value = made_up.of("label", value);
        }
    }
}

/// Label keys of the domains that groups have.
fn holding_keys(scenario: &Scenario) -> BTreeSet<String> {
    let held = scenario.held.iter().map(|held| held.0.at.as_str());
    let peers =
        scenario.request.iter().flat_map(|request| &request.peers).flat_map(|peer| peer.0.places().iter().map(String::as_str));
    let held = held.chain(peers);
    let placed = scenario.request.iter().flat_map(|request| &request.placed).filter_map(|text| Some(text.split_once(" @ ")?.1));
    held.chain(placed).filter_map(|at| Some(at.split_once('=')?.0.to_owned())).collect()
}

fn domain(domains: &mut BTreeMap<String, Names>, key: &str, value: &str) -> String {
    let short = key.rsplit('/').next().unwrap_or(key);
    domains.entry(key.to_owned()).or_default().of(&format!("{}-", &short[..short.len().min(40)]), value)
}

/// Label keys that pods of a kind select.
fn selects(kind: &PodKind) -> Vec<String> {
    let mut keys: Vec<String> = kind.selector.keys().cloned().collect();
    let spec = kind.spec.clone().unwrap_or_default();
    keys.extend(spec["nodeSelector"].as_object().into_iter().flatten().map(|(key, _)| key.clone()));
    let terms = &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
    let expressions =
        terms.as_array().into_iter().flatten().flat_map(|term| term["matchExpressions"].as_array().into_iter().flatten());
    keys.extend(expressions.filter_map(|expression| expression["key"].as_str().map(str::to_owned)));
    keys
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use muster_core::cluster::GroupId;
    use muster_policy_host::Preparation;

    use super::*;
    use crate::scenario::{Link, Request, Unit, Units, parse};

    fn node(name: &str, rack: &str) -> Node {
        serde_json::from_value(json!({
            "metadata": { "name": name, "labels": { HOSTNAME: name, "rack": rack, "secret": "project-x" } },
            "spec": { "taints": [{ "key": "gpu", "value": "h100", "effect": "NoSchedule" }], "unschedulable": name == "b" },
            "status": { "allocatable": { "cpu": "64", "nvidia.com/gpu": "8", "pods": "110" }, "conditions": [{ "type": "Ready", "status": "True" }] },
        }))
        .unwrap()
    }

    fn captured() -> Scenario {
        let mut used = Amounts::default();
        used.set("nvidia.com/gpu", 4);
        used.set("cpu", 500);
        let holding = Holding {
            group: GroupId { namespace: "ml".to_owned(), leader_pod: "serve-3".to_owned() },
            set: "serve".to_owned(),
            level: "rack".to_owned(),
            domain: "r2".to_owned(),
            exclusive: true,
            divided: false,
            outstanding: Vec::new(),
            pinned: Vec::new(),
            subgroups: Vec::new(),
        };
        let mut scenario =
            cluster(&[node("b", "r2"), node("a", "r1")], &[("a".to_owned(), used)].into(), &[holding], &["rack".to_owned()]);
        let spec: PodSpec = serde_json::from_value(json!({
            "containers": [{ "name": "c", "image": "secret/image", "resources": { "requests": { "nvidia.com/gpu": "4" } } }],
            "tolerations": [{ "key": "gpu", "operator": "Exists" }],
        }))
        .unwrap();
        scenario.shapes.insert("leader".to_owned(), pod_kind(&spec));
        let units = Units(vec![Brief(Unit { pods: "[1 leader]".to_owned(), ..Unit::default() })]);
        scenario.request =
            Some(Request { owner: Some("ml/train".to_owned()), exclusive: Some("rack".to_owned()), units, ..Request::default() });
        scenario.properties = true;
        scenario
    }

    #[test]
    fn a_cluster_is_written_and_read_back() {
        let text = captured().to_yaml();
        assert!(text.contains(r#"- {"is":"kind1","labels":{"rack":"r1","secret":"project-x"},"name":"a","taints":["gpu=h100:NoSchedule"],"used":{"cpu":"500m","nvidia.com/gpu":"4"}}"#), "{text}");
        assert!(text.contains(r#"- {"at":"rack=r2","group":"ml/serve 3"}"#), "{text}");
        assert!(!text.contains("secret/image"), "{text}");
        let stage = parse(&text, Path::new("x")).unwrap()[0].stage(&Preparation::default()).unwrap();
        let shape = stage.request.units[0].pods[0].shape;
        assert_eq!(stage.snapshot.node_fit(shape)[..], [1, 0]);
        assert_eq!(stage.snapshot.domain_holders(muster_core::placement::LevelId(0))[..], [0, 1]);
    }

    /// Of one peer group 0 runs in rack r1, group 1 was promised r2, and group 2 is in both.
    #[test]
    fn peers_are_seen_as_in_the_cluster() {
        let labels = |app: &str, part: &str| -> BTreeMap<String, String> {
            [("app".to_owned(), app.to_owned()), ("part".to_owned(), part.to_owned())].into()
        };
        let mut scenario = captured();
        let promised = Holding {
            group: GroupId { namespace: "ml".to_owned(), leader_pod: "decode-1".to_owned() },
            set: "decode".to_owned(),
            level: "rack".to_owned(),
            domain: "r2".to_owned(),
            exclusive: false,
            divided: false,
            outstanding: Vec::new(),
            pinned: Vec::new(),
            subgroups: Vec::new(),
        };
        let request = scenario.request.as_mut().unwrap();
        request.labels = labels("llm", "prefill");
        request.peers = vec![
            Brief(peer("ml/decode 0".to_owned(), &labels("llm", "decode"), None, vec!["a".to_owned()])),
            Brief(peer("ml/decode 1".to_owned(), &labels("llm", "decode"), Some(&promised), Vec::new())),
            Brief(peer("ml/decode 2".to_owned(), &labels("llm", "decode"), None, vec!["a".to_owned(), "b".to_owned()])),
            Brief(peer("ml/other 0".to_owned(), &labels("chat", "prefill"), None, vec!["b".to_owned()])),
        ];
        let seen = |scenario: &Scenario| {
            let text = scenario.to_yaml();
            let by = |key: &str| Preparation { peers: Some(key.to_owned()), ..Preparation::default() };
            let peers = |key| parse(&text, Path::new("x")).unwrap()[0].stage(&by(key)).unwrap().request.peers;
            let told = |peer: &muster_core::placement::Peer| (peer.id, peer.domains[0].0);
            (peers("app").iter().map(told).collect::<Vec<_>>(), peers("part").iter().map(told).collect::<Vec<_>>())
        };
        // Racks r1 and r2 are domains 0 and 1.
        let expected = (vec![(0, 0), (1, 1), (2, u32::MAX)], vec![(0, 1)]);
        assert_eq!(seen(&scenario), expected);
        let hidden = anonymised(scenario);
        assert_eq!(seen(&hidden), expected);
        let text = hidden.to_yaml();
        for secret in ["llm", "decode", "chat", "prefill"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }

    #[test]
    fn made_up_names_tell_nothing_and_keep_the_shape() {
        let before = captured();
        let scenario = anonymised(before.clone());
        let text = scenario.to_yaml();
        for secret in ["project-x", "serve", "\"ml/", "r1", "train"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
        let fit = |scenario: &Scenario| {
            let stage = scenario.stage(&Preparation::default()).unwrap();
            (
                stage.snapshot.node_fit(stage.request.units[0].pods[0].shape),
                stage.snapshot.domain_holders(muster_core::placement::LevelId(0)),
            )
        };
        assert_eq!(fit(&scenario), fit(&before));
    }

    #[test]
    fn labels_that_any_policy_of_the_chain_names_keep_their_values() {
        let mut before = captured();
        let request = before.request.as_mut().unwrap();
        request.labels = [("tier", "gold"), ("team", "blue")].map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        before.settings = json!({ "prefer": "gold" });
        let link = Link { built_in: Some("node-pool".to_owned()), settings: json!({ "teams": ["blue"] }), ..Link::default() };
        before.chain = vec![Brief(Link { under_test: true, ..Link::default() }), Brief(link)];
        let after = anonymised(before.clone());
        assert_eq!(after.request.unwrap().labels, before.request.unwrap().labels);
        assert_eq!(after.chain, before.chain);
    }

    #[test]
    fn a_domain_of_a_key_that_is_no_level_stays_for_the_group_that_has_it() {
        let mut before = captured();
        before.levels.clear();
        let text = anonymised(before).to_yaml();
        let scenario = parse(&text, Path::new("x")).unwrap().remove(0);
        assert_eq!(scenario.held[0].0.at, "rack=rack-0002");
        scenario.stage(&Preparation::default()).unwrap();
    }
}
