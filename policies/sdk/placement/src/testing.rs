//! A small cluster for tests of a decision: nodes with labels and resources, shapes with requests, domains with holders.
//!
//! ```
//! use muster_placement_sdk::testing::Table;
//! use muster_placement_sdk::Cluster;
//!
//! // Two racks of whole machines: every node has room for one pod.
//! let cluster = Table::new(["zone", "rack"]).nodes(18, ["z1", "r1"]).nodes(4, ["z1", "r2"]).held("rack", "r1", 1);
//! assert_eq!(cluster.domain_fit(1, 0), [18, 4]);
//! assert_eq!(cluster.domain_holders(1), [1, 0]);
//! ```
//!
//! It is a model, simpler than the operator's index, with the same meaning: domains and nodes are in the order of their names, ids
//! that don't exist give nothing, and a node without a label is in no domain.

use std::collections::BTreeMap;

use crate::{Cluster, Decision, Demand, Entry, NO_DOMAIN, PodShape, Quantity, Request, Unit};

/// What a node without further ado has one of, and a shape without further ado asks one of.
pub const SLOT: &str = "example.com/slot";

/// One node.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What it has in all.
    pub capacity: BTreeMap<String, u64>,
    /// What others use of it.
    pub used: BTreeMap<String, u64>,
    /// Ready and not cordoned.
    pub usable: bool,
}

/// A cluster in a table.
#[derive(Debug, Clone, Default)]
pub struct Table {
    levels: Vec<String>,
    nodes: Vec<Node>,
    shapes: Vec<PodShape>,
    holders: BTreeMap<(String, String), u32>,
}

impl Table {
    /// No nodes, these levels, and two equal shapes (0 for leaders, 1 for workers) that ask for one slot.
    pub fn new(levels: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let table = Self { levels: levels.into_iter().map(Into::into).collect(), ..Self::default() };
        table.shape(&[(SLOT, 1)], &[]).shape(&[(SLOT, 1)], &[])
    }

    /// The same table with other shapes than the first two: add them with [`shape`](Self::shape).
    pub fn without_shapes(mut self) -> Self {
        self.shapes.clear();
        self
    }

    /// One more shape: what a pod of it asks for, and the node labels that it selects.
    pub fn shape(mut self, requests: &[(&str, u64)], selector: &[(&str, &str)]) -> Self {
        let quantity = |(name, amount): &(&str, u64)| Quantity { resource: (*name).to_owned(), amount: *amount };
        let entry = |(key, value): &(&str, &str)| Entry { key: (*key).to_owned(), value: (*value).to_owned() };
        self.shapes
            .push(PodShape { requests: requests.iter().map(quantity).collect(), selector: selector.iter().map(entry).collect() });
        self
    }

    /// So many more nodes of one slot each, with these values of the levels; an empty value means that the label is missing.
    pub fn nodes<'v>(self, count: usize, values: impl IntoIterator<Item = &'v str>) -> Self {
        self.nodes_with(count, values, &[(SLOT, 1)])
    }

    /// So many more nodes with these resources.
    pub fn nodes_with<'v>(mut self, count: usize, values: impl IntoIterator<Item = &'v str>, has: &[(&str, u64)]) -> Self {
        let values = values.into_iter().map(str::to_owned);
        let labels: BTreeMap<_, _> = self.levels.iter().cloned().zip(values).filter(|(_, value)| !value.is_empty()).collect();
        let capacity: BTreeMap<_, _> = has.iter().map(|(name, amount)| ((*name).to_owned(), *amount)).collect();
        for _ in 0..count {
            let name = format!("n{:04}", self.nodes.len());
            let (labels, capacity) = (labels.clone(), capacity.clone());
            self.nodes.push(Node { name, labels, capacity, used: BTreeMap::new(), usable: true });
        }
        self
    }

    /// Changes the node with this id.
    pub fn change(mut self, node: usize, change: impl FnOnce(&mut Node)) -> Self {
        change(&mut self.nodes[node]);
        self
    }

    /// So many other units sit in the domain.
    pub fn held(mut self, level: &str, domain: &str, holders: u32) -> Self {
        self.holders.insert((level.to_owned(), domain.to_owned()), holders);
        self
    }

    /// The domain's id. Panics if there is none of this name.
    pub fn domain(&self, level: &str, name: &str) -> u32 {
        let position = self.names(self.level(level)).iter().position(|known| known == name);
        id(position.unwrap_or_else(|| panic!("no domain {name} of {level}")))
    }

    /// The level's id. Panics if there is none of this key.
    pub fn level(&self, key: &str) -> u32 {
        id(self.levels.iter().position(|level| level == key).unwrap_or_else(|| panic!("no level {key}")))
    }

    /// A decision in words: `rack=r1`, `rack=r1 or rack=r2`, `2 in rack=r1, 3 in rack=r2`, `n0001 n0002`, `prefers rack=r1`, `any`,
    /// `hold` or `refuse`.
    pub fn in_words(&self, decision: &Decision) -> String {
        let place = |level: u32, domain: u32| format!("{}={}", self.levels[level as usize], self.domain_name(level, domain));
        let list =
            |places: &[crate::Location]| places.iter().map(|at| place(at.level, at.domain)).collect::<Vec<_>>().join(" or ");
        match decision {
            Decision::Within(places) => list(places),
            Decision::Preferred(places) => format!("prefers {}", list(places)),
            Decision::Parts(parts) => {
                let part = |part: &crate::Part| format!("{} in {}", part.pods, place(part.location.level, part.location.domain));
                parts.iter().map(part).collect::<Vec<_>>().join(", ")
            }
            Decision::Pinned(nodes) => nodes.iter().map(|node| self.node_name(*node)).collect::<Vec<_>>().join(" "),
            Decision::Unconstrained => "any".to_owned(),
            Decision::Hold(_) => "hold".to_owned(),
            Decision::Refuse => "refuse".to_owned(),
        }
    }

    fn names(&self, level: u32) -> Vec<String> {
        let Some(key) = self.levels.get(level as usize) else { return Vec::new() };
        let mut names: Vec<_> = self.nodes.iter().filter_map(|node| node.labels.get(key).cloned()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn fits(&self, node: &Node, shape: u32, used: &BTreeMap<String, u64>) -> u32 {
        let Some(shape) = self.shapes.get(shape as usize).filter(|_| node.usable) else { return 0 };
        if shape.selector.iter().any(|entry| node.labels.get(&entry.key) != Some(&entry.value)) {
            return 0;
        }
        let left = |name: &str| {
            let amount = |map: &BTreeMap<String, u64>| map.get(name).copied().unwrap_or(0);
            amount(&node.capacity).saturating_sub(amount(&node.used) + amount(used))
        };
        let slots = shape.requests.iter().filter(|quantity| quantity.amount > 0);
        let slots = slots.map(|quantity| left(&quantity.resource) / quantity.amount).min();
        u32::try_from(slots.unwrap_or(u64::from(u32::MAX))).unwrap_or(u32::MAX)
    }

    /// Slots left over in the domain after all pods took theirs; `None` if they don't fit.
    fn left_over(&self, level: u32, domain: u32, pods: &[Demand]) -> Option<u64> {
        let inside: Vec<&Node> = self.in_domain(level, domain).map(|node| &self.nodes[node as usize]).collect();
        let mut used: Vec<BTreeMap<String, u64>> = vec![BTreeMap::new(); inside.len()];
        for demand in pods {
            for _ in 0..demand.pods {
                let room = |at: &usize| self.fits(inside[*at], demand.shape, &used[*at]) > 0;
                let at = (0..inside.len()).find(room)?;
                for quantity in &self.shapes[demand.shape as usize].requests {
                    *used[at].entry(quantity.resource.clone()).or_default() += quantity.amount;
                }
            }
        }
        let shape = pods.iter().max_by_key(|demand| demand.pods).map_or(0, |demand| demand.shape);
        Some(inside.iter().zip(&used).map(|(node, used)| u64::from(self.fits(node, shape, used))).sum())
    }

    fn in_domain(&self, level: u32, domain: u32) -> impl Iterator<Item = u32> {
        let domains = self.node_domains(level).into_iter().enumerate();
        domains.filter(move |(_, of)| *of == domain && domain != NO_DOMAIN).map(|(node, _)| id(node))
    }
}

impl Cluster for Table {
    fn levels(&self) -> Vec<String> {
        self.levels.clone()
    }

    fn node_count(&self) -> u32 {
        id(self.nodes.len())
    }

    fn domain_count(&self, level: u32) -> u32 {
        id(self.names(level).len())
    }

    fn domain_parents(&self, level: u32) -> Vec<u32> {
        let outer = level.checked_sub(1).map(|outer| self.node_domains(outer));
        let parent = |domain: u32| {
            let outer = outer.as_ref()?;
            let mut parents = self.in_domain(level, domain).map(|node| outer[node as usize]);
            let first = parents.next()?;
            parents.all(|parent| parent == first).then_some(first)
        };
        (0..self.domain_count(level)).map(|domain| parent(domain).unwrap_or(NO_DOMAIN)).collect()
    }

    fn domain_fit(&self, level: u32, shape: u32) -> Vec<u32> {
        let fit = self.node_fit(shape);
        let sum = |domain| self.in_domain(level, domain).fold(0_u32, |sum, node| sum.saturating_add(fit[node as usize]));
        (0..self.domain_count(level)).map(sum).collect()
    }

    fn domain_holders(&self, level: u32) -> Vec<u32> {
        let Some(key) = self.levels.get(level as usize) else { return Vec::new() };
        let held = |name: String| self.holders.get(&(key.clone(), name)).copied().unwrap_or(0);
        self.names(level).into_iter().map(held).collect()
    }

    fn node_domains(&self, level: u32) -> Vec<u32> {
        let Some(key) = self.levels.get(level as usize) else { return Vec::new() };
        let names = self.names(level);
        let domain = |node: &Node| names.binary_search(node.labels.get(key)?).ok().map(id);
        self.nodes.iter().map(|node| domain(node).unwrap_or(NO_DOMAIN)).collect()
    }

    fn node_fit(&self, shape: u32) -> Vec<u32> {
        self.nodes.iter().map(|node| self.fits(node, shape, &BTreeMap::new())).collect()
    }

    fn nodes_in(&self, level: u32, domain: u32, shape: u32) -> (Vec<u32>, Vec<u32>) {
        let fit = self.node_fit(shape);
        self.in_domain(level, domain).map(|node| (node, fit[node as usize])).unzip()
    }

    fn node_usable(&self) -> Vec<bool> {
        self.nodes.iter().map(|node| node.usable).collect()
    }

    fn node_capacity(&self, resource: &str) -> Vec<u64> {
        self.nodes.iter().map(|node| node.capacity.get(resource).copied().unwrap_or(0)).collect()
    }

    fn describe_shape(&self, shape: u32) -> PodShape {
        let none = PodShape { requests: Vec::new(), selector: Vec::new() };
        self.shapes.get(shape as usize).cloned().unwrap_or(none)
    }

    fn best_domains(&self, level: u32, pods: &[Demand], exclusive: bool, limit: u32) -> Vec<u32> {
        let holders = self.domain_holders(level);
        let open = (0..self.domain_count(level)).filter(|domain| !(exclusive && holders[*domain as usize] > 0));
        let mut fitting: Vec<(u64, u32)> =
            open.filter_map(|domain| Some((self.left_over(level, domain, pods)?, domain))).collect();
        fitting.sort_unstable();
        fitting.into_iter().map(|(_, domain)| domain).take(limit as usize).collect()
    }

    fn domain_name(&self, level: u32, domain: u32) -> String {
        self.names(level).get(domain as usize).cloned().unwrap_or_default()
    }

    fn node_name(&self, node: u32) -> String {
        self.nodes.get(node as usize).map(|node| node.name.clone()).unwrap_or_default()
    }

    fn node_label(&self, node: u32, key: &str) -> Option<String> {
        self.nodes.get(node as usize)?.labels.get(key).cloned()
    }
}

/// A unit of one leader (shape 0) and `pods - 1` workers (shape 1).
pub fn unit(id: u32, pods: u32) -> Unit {
    let pods = vec![Demand { shape: 0, pods: 1 }, Demand { shape: 1, pods: pods.saturating_sub(1) }];
    unit_of(id, pods.into_iter().filter(|demand| demand.pods > 0).collect())
}

/// A unit of these pods.
pub fn unit_of(id: u32, pods: Vec<Demand>) -> Unit {
    Unit { id, pods, priority: 0, subgroups: Vec::new(), current: None, previous: None }
}

/// A request of set `ml/train` for these units.
pub fn request(exclusive: Option<u32>, units: Vec<Unit>) -> Request {
    Request {
        owner: "ml/train".to_owned(),
        labels: Vec::new(),
        exclusive,
        units,
        placed: Vec::new(),
        peers: Vec::new(),
        bad_nodes: Vec::new(),
    }
}

fn id(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}
