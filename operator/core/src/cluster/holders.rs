//! Which domains are taken, as the owner of a view must see it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::ledger::{GroupId, Held, Holding, Ledger, Occupant, SubgroupId, any_pods};
use super::level::Level;
use super::node::Node;
use super::snapshot::{Scope, View};

/// For every domain of one level: how many other groups sit there.
#[derive(Debug)]
pub(crate) struct Holders {
    pub(crate) count: Arc<[u32]>,
    /// The first of them by name, for messages.
    pub(crate) first: BTreeMap<u32, String>,
}

/// Row of the named node.
pub(crate) fn row_of(nodes: &[Arc<Node>], name: &str) -> Option<u32> {
    let position = nodes.binary_search_by(|node| node.facts.name.as_str().cmp(name)).ok()?;
    u32::try_from(position).ok()
}

/// What the view's owner must keep away from: upstream's anti-affinity sees every group of the namespace, exclusive or not.
pub(crate) fn is_visible(view: &View, group: &GroupId) -> bool {
    is_in_scope(view, group) && !view.for_groups.contains(group)
}

fn is_in_scope(view: &View, group: &GroupId) -> bool {
    view.scope == Scope::Cluster || group.namespace == view.namespace
}

/// Counts the groups of every domain of `level`. `levels` has the level of every holding.
pub(crate) fn holders(
    ledger: &Ledger,
    view: &View,
    nodes: &[Arc<Node>],
    level: &Level,
    levels: &BTreeMap<String, Arc<Level>>,
) -> Holders {
    let mut count = vec![0_u32; level.names.len()];
    let mut first = BTreeMap::new();
    for group in ledger.occupants.keys().chain(ledger.holdings.keys()).collect::<BTreeSet<_>>() {
        if !is_visible(view, group) {
            continue;
        }
        let occupant = ledger.occupants.get(group).map(AsRef::as_ref);
        let held = ledger.holdings.get(group).map(AsRef::as_ref);
        let set = held.map(|held| &held.holding.set).or(occupant.map(|occupant| &occupant.set));
        let mut domains = BTreeSet::new();
        occupied(occupant, nodes, level, &mut domains);
        promised(held, level, levels, nodes, &mut domains);
        for domain in domains {
            count[domain as usize] += 1;
            first.entry(domain).or_insert_with(|| group.in_set(set.map_or("", String::as_str)).to_string());
        }
    }
    Holders { count: count.into(), first }
}

/// Domains in which the group has pods, or in which pods of it must be once they are bound.
fn occupied(occupant: Option<&Occupant>, nodes: &[Arc<Node>], level: &Level, domains: &mut BTreeSet<u32>) {
    for pod in occupant.iter().flat_map(|occupant| occupant.pods.values()) {
        let domain = match &pod.node {
            Some(node) => row_of(nodes, node).and_then(|row| level.domain_of(row)),
            None => pod.selector.get(&level.key).and_then(|value| level.domain(value)),
        };
        domains.extend(domain);
        if pod.subgroups.level == level.key {
            domains.extend(pod.subgroups.domains.values().filter_map(|value| level.domain(value)));
        }
    }
}

/// Domains that a holding keeps from others at `level`: all that its own domain touches if others must stay out of all of it
/// or its pods may still go anywhere in it; else only the one around it.
fn promised(
    held: Option<&Held>,
    level: &Level,
    levels: &BTreeMap<String, Arc<Level>>,
    nodes: &[Arc<Node>],
    domains: &mut BTreeSet<u32>,
) {
    let Some(Held { holding, .. }) = held else { return };
    for (node, _) in &holding.pinned {
        domains.extend(row_of(nodes, node).and_then(|row| level.domain_of(row)));
    }
    let mut promise = |key: &str, domain: &str, all: bool| {
        let touched = touched(level, rows_named(key, domain, levels));
        if all || touched.len() == 1 {
            domains.extend(touched);
        }
    };
    promise(&holding.level, &holding.domain, holding.exclusive || any_pods(&holding.outstanding));
    for subgroup in &holding.subgroups {
        // Of groups a subgroup's domain keeps nobody out, so only where its pods are or may come counts.
        promise(&subgroup.level, &subgroup.domain, any_pods(&subgroup.outstanding));
    }
}

/// Domains of `level` that these nodes are in.
fn touched(level: &Level, rows: &[u32]) -> BTreeSet<u32> {
    rows.iter().filter_map(|row| level.domain_of(*row)).collect()
}

/// Nodes of the domain that the holding names.
pub(crate) fn rows_held<'a>(holding: &Holding, levels: &'a BTreeMap<String, Arc<Level>>) -> &'a [u32] {
    rows_named(&holding.level, &holding.domain, levels)
}

/// Nodes with that label and value.
pub(crate) fn rows_named<'a>(key: &str, domain: &str, levels: &'a BTreeMap<String, Arc<Level>>) -> &'a [u32] {
    let domain = levels.get(key).and_then(|level| Some((level, level.domain(domain)?)));
    domain.map_or(&[], |(level, domain)| level.rows_of(domain))
}

/// A subgroup, or some subgroup of a group, that has pods in a domain or is to have them there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tenant {
    pub(crate) group: GroupId,
    /// `None` where it is not known which subgroups of the group will be there.
    pub(crate) index: Option<u32>,
    /// For messages.
    pub(crate) name: String,
}

impl Tenant {
    pub(crate) fn is(&self, subgroup: &SubgroupId) -> bool {
        self.group == subgroup.group && self.index == Some(subgroup.index)
    }
}

/// The subgroups in every domain of `level`: what upstream's anti-affinity between subgroups sees, whether they asked for it or not.
///
/// Pods that the view's own groups still have count as those of the subgroup that they belong to; what those groups hold does not,
/// because that is being decided anew.
pub(crate) fn tenants(
    ledger: &Ledger,
    view: &View,
    nodes: &[Arc<Node>],
    level: &Level,
    levels: &BTreeMap<String, Arc<Level>>,
) -> BTreeMap<u32, BTreeSet<Tenant>> {
    let mut tenants: BTreeMap<u32, BTreeSet<Tenant>> = BTreeMap::new();
    for (group, occupant) in ledger.occupants.iter().filter(|(group, _)| is_in_scope(view, group)) {
        let tenant = |index| tenant(group, &occupant.set, Some(index));
        for pod in occupant.pods.values() {
            let domain = match &pod.node {
                Some(node) => row_of(nodes, node).and_then(|row| level.domain_of(row)),
                None => pod.selector.get(&level.key).and_then(|value| level.domain(value)),
            };
            if let Some((domain, index)) = domain.zip(pod.subgroup) {
                tenants.entry(domain).or_default().insert(tenant(index));
            }
            for (index, value) in pod.subgroups.domains.iter().filter(|_| pod.subgroups.level == level.key) {
                level.domain(value).map(|domain| tenants.entry(domain).or_default().insert(tenant(*index)));
            }
        }
    }
    for (group, held) in ledger.holdings.iter().filter(|(group, held)| held.holding.divided && is_visible(view, group)) {
        let holding = &held.holding;
        for subgroup in &holding.subgroups {
            // Which subgroups are in a part is not known.
            let index = subgroup.alone.then_some(subgroup.index);
            for domain in touched(level, rows_named(&subgroup.level, &subgroup.domain, levels)) {
                tenants.entry(domain).or_default().insert(tenant(group, &holding.set, index));
            }
        }
        if holding.subgroups.is_empty() && any_pods(&holding.outstanding) {
            for domain in touched(level, rows_held(holding, levels)) {
                tenants.entry(domain).or_default().insert(tenant(group, &holding.set, None));
            }
        }
    }
    tenants
}

fn tenant(group: &GroupId, set: &str, index: Option<u32>) -> Tenant {
    let name = match index {
        Some(index) => format!("{} subgroup {index}", group.in_set(set)),
        None => group.in_set(set).to_string(),
    };
    Tenant { group: group.clone(), index, name }
}

/// Nodes that another group has for itself, as the view's owner must see it, and that group's name for messages. For an owner
/// whose pods are subgroups', so are those that other subgroups have for themselves.
pub(crate) fn exclusive_rows(ledger: &Ledger, view: &View, levels: &BTreeMap<String, Arc<Level>>) -> BTreeMap<u32, String> {
    let mut rows = BTreeMap::new();
    for (group, Held { holding, .. }) in ledger.holdings.iter().map(|(group, held)| (group, held.as_ref())) {
        if !is_visible(view, group) {
            continue;
        }
        let name = group.in_set(&holding.set).to_string();
        let whole = if holding.exclusive { rows_held(holding, levels) } else { &[] };
        let parts = holding.subgroups.iter().filter(|subgroup| view.divided && subgroup.alone);
        let parts = parts.flat_map(|subgroup| rows_named(&subgroup.level, &subgroup.domain, levels));
        for row in whole.iter().chain(parts) {
            rows.entry(*row).or_insert_with(|| name.clone());
        }
    }
    rows
}
