//! Which domains are taken, as the owner of a view must see it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

use rpds::RedBlackTreeMapSync;

use super::ledger::{GroupId, Held, Holding, Ledger, Occupant, SubgroupId, any_pods};
use super::level::Level;
use super::rows::Rows;
use super::snapshot::{Scope, View};

/// For every domain of one level: how many other groups sit there.
#[derive(Debug)]
pub(crate) struct Holders {
    pub(crate) count: Arc<[u32]>,
    /// The first of them by name.
    first: HashMap<u32, Arc<Seat>>,
}

impl Holders {
    /// The first group by name that sits in the domain, for messages.
    pub(crate) fn first(&self, domain: u32) -> Option<&str> {
        self.first.get(&domain).map(|seat| seat.name.as_str())
    }
}

/// Where one group sits at one level.
#[derive(Debug)]
struct Seat {
    /// For messages.
    name: String,
    domains: BTreeSet<u32>,
}

/// Where every group sits at one level. Kept up group by group, because looking through the pods of all takes milliseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sitting(RedBlackTreeMapSync<GroupId, Arc<Seat>>);

/// What it takes to tell where a group sits at one level.
#[derive(Clone, Copy)]
pub(crate) struct Survey<'a> {
    pub(crate) ledger: &'a Ledger,
    pub(crate) nodes: &'a Rows,
    pub(crate) level: &'a Level,
    /// The level of every holding.
    pub(crate) levels: &'a BTreeMap<String, Arc<Level>>,
}

impl Sitting {
    /// Looks through all groups.
    pub(crate) fn of(survey: Survey<'_>) -> Self {
        let mut sitting = Self::default();
        survey.ledger.occupants.keys().chain(survey.ledger.holdings.keys()).for_each(|group| sitting.update(group, survey));
        sitting
    }

    /// Looks again where this group sits.
    pub(crate) fn update(&mut self, group: &GroupId, Survey { ledger, nodes, level, levels }: Survey<'_>) {
        let occupant = ledger.occupants.get(group).map(AsRef::as_ref);
        let held = ledger.holdings.get(group).map(AsRef::as_ref);
        let Some(set) = held.map(|held| &held.holding.set).or(occupant.map(|occupant| &occupant.set)) else {
            self.0.remove_mut(group);
            return;
        };
        let mut domains = BTreeSet::new();
        occupied(occupant, nodes, level, &mut domains);
        promised(held, level, levels, nodes, &mut domains);
        self.0.insert_mut(group.clone(), Arc::new(Seat { name: group.in_set(set).to_string(), domains }));
    }

    /// Counts the groups that a view's owner must see in every one of so many domains.
    pub(crate) fn holders(&self, view: &View, domains: usize) -> Holders {
        let mut count = vec![0_u32; domains];
        let mut first = HashMap::new();
        let from = match view.scope {
            Scope::Namespace => GroupId { namespace: view.namespace.clone(), leader_pod: String::new() },
            Scope::Cluster => GroupId { namespace: String::new(), leader_pod: String::new() },
        };
        let in_scope = self.0.range(&from..).take_while(|(group, _)| is_in_scope(view, group));
        for (_, seat) in in_scope.filter(|(group, _)| !view.for_groups.contains(group)) {
            for domain in &seat.domains {
                count[*domain as usize] += 1;
                first.entry(*domain).or_insert_with(|| Arc::clone(seat));
            }
        }
        Holders { count: count.into(), first }
    }
}

/// What the view's owner must keep away from: upstream's anti-affinity sees every group of the namespace, exclusive or not.
pub(crate) fn is_visible(view: &View, group: &GroupId) -> bool {
    is_in_scope(view, group) && !view.for_groups.contains(group)
}

fn is_in_scope(view: &View, group: &GroupId) -> bool {
    view.scope == Scope::Cluster || group.namespace == view.namespace
}

/// Domains in which the group has pods, or in which pods of it must be once they are bound.
fn occupied(occupant: Option<&Occupant>, nodes: &Rows, level: &Level, domains: &mut BTreeSet<u32>) {
    for pod in occupant.iter().flat_map(|occupant| occupant.pods.values()) {
        let domain = match &pod.node {
            Some(node) => nodes.row_of(node).and_then(|row| level.domain_of(row)),
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
    nodes: &Rows,
    domains: &mut BTreeSet<u32>,
) {
    let Some(Held { holding, .. }) = held else { return };
    for (node, _) in &holding.pinned {
        domains.extend(nodes.row_of(node).and_then(|row| level.domain_of(row)));
    }
    let mut promise = |key: &str, domain: &str, all: bool| {
        let rows = rows_named(key, domain, levels);
        if key == level.key {
            domains.extend(level.domain(domain));
        } else if all {
            domains.extend(touched(level, rows));
        } else {
            domains.extend(only_touched(level, rows));
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

/// The domain of `level` that these nodes are in, if there is one and no other.
fn only_touched(level: &Level, rows: &[u32]) -> Option<u32> {
    let mut domains = rows.iter().filter_map(|row| level.domain_of(*row));
    let first = domains.next()?;
    domains.all(|domain| domain == first).then_some(first)
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
    nodes: &Rows,
    level: &Level,
    levels: &BTreeMap<String, Arc<Level>>,
) -> BTreeMap<u32, BTreeSet<Tenant>> {
    let mut tenants: BTreeMap<u32, BTreeSet<Tenant>> = BTreeMap::new();
    for (group, occupant) in ledger.occupants.iter().filter(|(group, _)| is_in_scope(view, group)) {
        let tenant = |index| tenant(group, &occupant.set, Some(index));
        for pod in occupant.pods.values() {
            let domain = match &pod.node {
                Some(node) => nodes.row_of(node).and_then(|row| level.domain_of(row)),
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

/// Nodes that other groups have for themselves, as the owner of a view must see it. For an owner whose pods are subgroups', so are
/// those that other subgroups have for themselves.
#[derive(Debug)]
pub(crate) struct Kept {
    /// By row: 0, or a keeper's position and 1.
    of_row: Vec<u32>,
    keepers: Vec<Keeper>,
}

#[derive(Debug)]
struct Keeper {
    held: Arc<Held>,
    /// Its group in words, once somebody has asked.
    name: OnceLock<String>,
}

impl Kept {
    /// Of a node that several have, the first by name counts.
    pub(crate) fn of(ledger: &Ledger, view: &View, levels: &BTreeMap<String, Arc<Level>>, nodes: &Rows) -> Self {
        let mut kept = Self { of_row: vec![0; nodes.len()], keepers: Vec::new() };
        for (_, held) in ledger.keepers().filter(|(group, _)| is_visible(view, group)) {
            let holding = &held.holding;
            let number = u32::try_from(kept.keepers.len() + 1).unwrap_or(u32::MAX);
            let whole = if holding.exclusive { rows_held(holding, levels) } else { &[] };
            let parts = holding.subgroups.iter().filter(|subgroup| view.divided && subgroup.alone);
            let parts = parts.flat_map(|subgroup| rows_named(&subgroup.level, &subgroup.domain, levels));
            for row in whole.iter().chain(parts).map(|row| *row as usize) {
                if kept.of_row[row] == 0 {
                    kept.of_row[row] = number;
                }
            }
            kept.keepers.push(Keeper { held: Arc::clone(held), name: OnceLock::new() });
        }
        kept
    }

    pub(crate) fn is_kept(&self, row: u32) -> bool {
        self.of_row.get(row as usize).is_some_and(|number| *number > 0)
    }

    /// Rows that are kept, and nobody else counts on.
    pub(crate) fn rows(&self) -> impl Iterator<Item = usize> {
        self.of_row.iter().enumerate().filter(|(_, number)| **number > 0).map(|(row, _)| row)
    }

    /// The group that has the node, for messages.
    pub(crate) fn by(&self, row: u32) -> Option<&str> {
        let keeper = self.keepers.get((*self.of_row.get(row as usize)? as usize).checked_sub(1)?)?;
        let holding = &keeper.held.holding;
        Some(keeper.name.get_or_init(|| holding.group.in_set(&holding.set).to_string()))
    }
}
