//! Clusters and requests, generated.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_oneof};

use crate::policy::Policy;
use crate::scenario::{Brief, Held, Nodes, PodKind, Quantity, Request, Scenario, Template, Unit, Units};

/// Used where a policy reads no level at all, so that there is something to be exclusive about.
const RACK: &str = "example.com/rack";
const HOSTNAME: &str = "kubernetes.io/hostname";
const GPUS: u8 = 4;

/// The keys that the policy reads, or one to have some.
pub fn levels_of(policy: &Policy) -> Vec<String> {
    let levels = policy.preparation().levels;
    if levels.is_empty() { vec![RACK.to_owned()] } else { levels }
}

/// A cluster and a request in small numbers, which are what shrinks.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    nodes: Vec<NodeSeed>,
    /// Pods of leader and workers.
    units: Vec<(u8, bool)>,
    exclusive: Option<usize>,
    /// Level, node and whether others may be there.
    held: Vec<(usize, usize, bool)>,
    /// Domains of a level lie inside those of the one before.
    nested: bool,
}

#[derive(Debug, Clone)]
struct NodeSeed {
    /// By level; 0 is no label.
    domains: Vec<u8>,
    used: u8,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Good,
    Unready,
    Cordoned,
    Tainted,
}

/// Some dozen nodes at most: faults that need more are rare, and those that are found are read by people.
pub(crate) fn cases(levels: usize) -> impl Strategy<Value = Case> {
    let state =
        prop_oneof![6 => Just(State::Good), 1 => Just(State::Unready), 1 => Just(State::Cordoned), 1 => Just(State::Tainted)];
    let domain = prop_oneof![1 => Just(0_u8), 8 => 1_u8..4];
    let node = (vec(domain, levels), 0..=GPUS, state).prop_map(|(domains, used, state)| NodeSeed { domains, used, state });
    let unit = (0_u8..6, any::<bool>());
    let held = vec((0..levels, 0_usize..12, any::<bool>()), 0..3);
    (vec(node, 0..13), vec(unit, 1..6), option::of(0..levels), held, any::<bool>())
        .prop_map(|(nodes, units, exclusive, held, nested)| Case { nodes, units, exclusive, held, nested })
}

impl Case {
    /// As a scenario that can be written down.
    pub(crate) fn scenario(&self, levels: &[String]) -> Scenario {
        let mut scenario = frame("a generated case", levels);
        let labels: Vec<BTreeMap<String, String>> = self.nodes.iter().map(|node| self.labels(node, levels)).collect();
        for (position, (node, labels)) in self.nodes.iter().zip(&labels).enumerate() {
            let used = (node.used > 0).then(|| ("gpu".to_owned(), Quantity(node.used.to_string())));
            scenario.nodes.push(Brief(Nodes {
                is: "gpu4".to_owned(),
                name: Some(format!("n{position}")),
                labels: labels.clone(),
                used: used.into_iter().collect(),
                unready: node.state == State::Unready,
                cordoned: node.state == State::Cordoned,
                taints: if node.state == State::Tainted { vec!["example.com/broken:NoSchedule".to_owned()] } else { Vec::new() },
            }));
        }
        for (number, (level, node, shared)) in self.held.iter().enumerate() {
            let key = &levels[*level];
            if let Some(domain) = labels.get(*node).and_then(|labels| labels.get(key)) {
                let (group, at) = (format!("ml/other {number}"), format!("{key}={domain}"));
                scenario.held.push(Brief(Held { group, at, shared: *shared, pods: None }));
            }
        }
        let units = self.units.iter().map(|(workers, hungry)| {
            let worker = if *hungry { "worker" } else { "small" };
            let pods = if *workers == 0 { "[1 leader]".to_owned() } else { format!("[1 leader, {workers} {worker}]") };
            Brief(Unit { pods, ..Unit::default() })
        });
        scenario.request = Some(Request {
            exclusive: self.exclusive.map(|level| levels[level].clone()),
            units: Units(units.collect()),
            ..Request::default()
        });
        scenario
    }

    fn labels(&self, node: &NodeSeed, levels: &[String]) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        let mut path = String::new();
        for (key, domain) in levels.iter().zip(&node.domains).filter(|(key, _)| *key != HOSTNAME) {
            if *domain == 0 {
                continue;
            }
            let letter = char::from(b'a' + (*domain - 1));
            path.push(letter);
            labels.insert(key.clone(), if self.nested { path.clone() } else { letter.to_string() });
        }
        labels
    }
}

/// A scenario without nodes and units.
fn frame(name: &str, levels: &[String]) -> Scenario {
    let resources =
        |list: &[(&str, &str)]| list.iter().map(|(name, amount)| ((*name).to_owned(), (*amount).to_owned())).collect();
    let pod = |gpus: &str| PodKind { requests: resources(&[("cpu", "1"), ("gpu", gpus)]), ..PodKind::default() };
    let template =
        |gpus: u32| Template { resources: resources(&[("cpu", "64"), ("gpu", &gpus.to_string())]), ..Template::default() };
    let shapes = [("leader", pod("1")), ("small", pod("1")), ("worker", pod("2"))];
    Scenario {
        name: name.to_owned(),
        levels: levels.to_vec(),
        templates: [("gpu4", template(u32::from(GPUS))), ("gpu8", template(8))]
            .map(|(name, kind)| (name.to_owned(), kind))
            .into(),
        shapes: shapes.map(|(name, kind)| (name.to_owned(), kind)).into(),
        properties: true,
        ..Scenario::default()
    }
}

fn asking(mut scenario: Scenario, exclusive: Option<String>, units: &str) -> Scenario {
    let units = Units(vec![Brief(Unit { pods: units.to_owned(), ..Unit::default() })]);
    scenario.request = Some(Request { exclusive, units, ..Request::default() });
    scenario
}

pub(crate) fn without_nodes(policy: &Policy) -> Scenario {
    asking(frame("no nodes", &levels_of(policy)), None, "2 x [1 leader, 3 worker]")
}

pub(crate) fn without_labels(policy: &Policy) -> Scenario {
    let levels = levels_of(policy);
    let mut scenario = frame("nodes without labels", &levels);
    scenario.nodes = vec![Brief(Nodes { is: "4 x gpu8".to_owned(), ..Nodes::default() })];
    let exclusive = levels.into_iter().find(|key| key != HOSTNAME);
    asking(scenario, exclusive, "2 x [1 leader, 3 worker]")
}

pub(crate) fn small(policy: &Policy) -> Scenario {
    large(policy, 8, 2)
}

/// [`cluster_of`] the policy's levels, and a question about so many units of 8 pods that are exclusive at the narrowest.
pub fn large(policy: &Policy, nodes: u32, units: u32) -> Scenario {
    let levels = levels_of(policy);
    let exclusive = levels.iter().rev().find(|key| *key != HOSTNAME).cloned();
    asking(cluster_of(&levels, nodes), exclusive, &format!("{units} x [1 leader, 7 worker]"))
}

/// So many nodes of 8 accelerators in racks of about 17: the domains of the narrowest level. Each wider level has a twentieth of them.
pub fn cluster_of(levels: &[String], nodes: u32) -> Scenario {
    let mut scenario = frame("a large cluster", levels);
    let racks = (nodes * 6 / 100).max(1);
    let inside: Vec<&String> = levels.iter().filter(|key| *key != HOSTNAME).collect();
    for rack in 0..racks {
        let mut domains = racks;
        let mut labels = BTreeMap::new();
        for key in inside.iter().rev() {
            let domain = u64::from(rack) * u64::from(domains) / u64::from(racks);
            let name = key.rsplit('/').next().unwrap_or(key);
            labels.insert((*key).clone(), format!("{}-{domain:04}", &name[..name.len().min(40)]));
            domains = (domains / 20).max(1);
        }
        let nodes = (0..(nodes + rack) / racks).map(|number| {
            let (name, labels) = (Some(format!("rack{rack:04}-{number:02}")), labels.clone());
            Brief(Nodes { is: "gpu8".to_owned(), name, labels, ..Nodes::default() })
        });
        scenario.nodes.extend(nodes);
    }
    scenario
}
