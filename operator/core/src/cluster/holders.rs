//! Which domains are taken, as the owner of a view must see it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::ledger::{GroupId, Held, Holding, Ledger, Occupant};
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
    let in_scope = view.scope == Scope::Cluster || group.namespace == view.namespace;
    in_scope && !view.for_groups.contains(group)
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
    let rows = rows_held(holding, levels);
    let touched: BTreeSet<u32> = rows.iter().filter_map(|row| level.domain_of(*row)).collect();
    let anywhere = holding.outstanding.iter().any(|(_, pods)| *pods > 0);
    if holding.exclusive || anywhere || touched.len() == 1 {
        domains.extend(touched);
    }
}

/// Nodes of the domain that the holding names.
pub(crate) fn rows_held<'a>(holding: &Holding, levels: &'a BTreeMap<String, Arc<Level>>) -> &'a [u32] {
    let domain = levels.get(&holding.level).and_then(|level| Some((level, level.domain(&holding.domain)?)));
    domain.map_or(&[], |(level, domain)| level.rows_of(domain))
}

/// Nodes that another group has for itself, as the view's owner must see it, and that group's name for messages.
pub(crate) fn exclusive_rows(ledger: &Ledger, view: &View, levels: &BTreeMap<String, Arc<Level>>) -> BTreeMap<u32, String> {
    let mut rows = BTreeMap::new();
    for (group, held) in ledger.holdings.iter().filter(|(group, held)| held.holding.exclusive && is_visible(view, group)) {
        let name = group.in_set(&held.holding.set).to_string();
        for row in rows_held(&held.holding, levels) {
            rows.entry(*row).or_insert_with(|| name.clone());
        }
    }
    rows
}
