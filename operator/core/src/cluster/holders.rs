//! Which domains are taken, as the owner of a view must see it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use rpds::RedBlackTreeMapSync;

use super::ledger::{GroupId, Held, Holding, Ledger, Occupant, SubgroupId, any_pods};
use super::level::{Level, Numbers};
use super::rows::Rows;
use super::snapshot::{Scope, View};

/// Where one group sits at one level.
#[derive(Debug)]
pub(crate) struct Seat {
    group: GroupId,
    /// For messages.
    pub(crate) name: String,
    /// The numbers of the domains' names, ascending.
    domains: Vec<u32>,
}

/// Where every group sits at one level. Kept up group by group, because looking through the pods of all takes milliseconds, and by
/// numbers that don't change when domains come and go. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sitting {
    seats: RedBlackTreeMapSync<GroupId, Arc<Seat>>,
    /// By number of the domain's name: who sits there, in the order of groups.
    there: RedBlackTreeMapSync<u32, Arc<Vec<Arc<Seat>>>>,
}

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
    pub(crate) fn of(survey: Survey<'_>, numbers: &mut Numbers) -> Self {
        let mut sitting = Self::default();
        let groups = survey.ledger.occupants.keys().chain(survey.ledger.holdings.keys());
        groups.for_each(|group| sitting.update(group, &bound_rows(group, survey.ledger, survey.nodes), survey, numbers));
        sitting
    }

    /// Looks again where this group sits, whose pods are bound to nodes of these rows.
    pub(crate) fn update(&mut self, group: &GroupId, bound: &[u32], survey: Survey<'_>, numbers: &mut Numbers) {
        let Survey { ledger, nodes, level, levels } = survey;
        let occupant = ledger.occupants.get(group).map(AsRef::as_ref);
        let held = ledger.holdings.get(group).map(AsRef::as_ref);
        let Some(set) = held.map(|held| &held.holding.set).or(occupant.map(|occupant| &occupant.set)) else {
            self.leave(group);
            return;
        };
        let mut domains = Vec::new();
        domains.extend(bound.iter().filter_map(|row| level.number(level.domain_of(*row)?)));
        expected(occupant, level, numbers, &mut domains);
        promised(held, level, levels, nodes, numbers, &mut domains);
        domains.sort_unstable();
        domains.dedup();
        let name = group.in_set(set).to_string();
        if self.seats.get(group).is_some_and(|seat| seat.name == name && seat.domains == domains) {
            return;
        }
        self.leave(group);
        let seat = Arc::new(Seat { group: group.clone(), name, domains });
        seat.domains.iter().for_each(|number| self.sit(*number, &seat));
        self.seats.insert_mut(group.clone(), seat);
    }

    fn sit(&mut self, number: u32, seat: &Arc<Seat>) {
        let Some(there) = self.there.get_mut(&number) else {
            self.there.insert_mut(number, Arc::new(vec![Arc::clone(seat)]));
            return;
        };
        let position = there.partition_point(|other| other.group < seat.group);
        Arc::make_mut(there).insert(position, Arc::clone(seat));
    }

    fn leave(&mut self, group: &GroupId) {
        let Some(seat) = self.seats.get(group).cloned() else { return };
        for number in &seat.domains {
            let Some(there) = self.there.get_mut(number) else { continue };
            Arc::make_mut(there).retain(|other| other.group != *group);
            if there.is_empty() {
                self.there.remove_mut(number);
            }
        }
        self.seats.remove_mut(group);
    }

    /// The groups in a domain that a view's owner must see, in their order.
    pub(crate) fn visible<'a>(&'a self, view: &'a View, number: u32) -> impl Iterator<Item = &'a Seat> {
        visible(view, self.there.get(&number).map_or(&[], |there| there.as_slice()))
    }

    /// Counts the groups that a view's owner must see in every domain of the level.
    pub(crate) fn holders(&self, view: &View, level: &Level) -> Arc<[u32]> {
        let highest = level.numbers().iter().max().map_or(0, |highest| *highest as usize + 1);
        let mut domains = vec![None; highest];
        level.numbers().iter().enumerate().for_each(|(domain, number)| domains[*number as usize] = Some(domain));
        let mut count = vec![0_u32; level.len()];
        for (number, there) in self.there.iter() {
            if let Some(Some(domain)) = domains.get(*number as usize) {
                count[*domain] = u32::try_from(visible(view, there).count()).unwrap_or(u32::MAX);
            }
        }
        count.into()
    }
}

fn visible<'a>(view: &'a View, there: &'a [Arc<Seat>]) -> impl Iterator<Item = &'a Seat> {
    let in_scope = match view.scope {
        Scope::Cluster => there,
        Scope::Namespace => {
            let first = there.partition_point(|seat| seat.group.namespace < view.namespace);
            let own = there[first..].partition_point(|seat| seat.group.namespace == view.namespace);
            &there[first..first + own]
        }
    };
    in_scope.iter().map(AsRef::as_ref).filter(|seat: &&Seat| !view.for_groups.contains(&seat.group))
}

/// What the view's owner must keep away from: upstream's anti-affinity sees every group of the namespace, exclusive or not.
pub(crate) fn is_visible(view: &View, group: &GroupId) -> bool {
    is_in_scope(view, group) && !view.for_groups.contains(group)
}

fn is_in_scope(view: &View, group: &GroupId) -> bool {
    view.scope == Scope::Cluster || group.namespace == view.namespace
}

/// Rows of the nodes to which pods of the group are bound.
pub(crate) fn bound_rows(group: &GroupId, ledger: &Ledger, nodes: &Rows) -> Vec<u32> {
    let pods = ledger.occupants.get(group).into_iter().flat_map(|occupant| occupant.pods.values());
    pods.filter_map(|pod| nodes.row_of(pod.node.as_ref()?)).collect()
}

/// Domains in which pods of the group must be once they are bound.
fn expected(occupant: Option<&Occupant>, level: &Level, numbers: &mut Numbers, domains: &mut Vec<u32>) {
    for pod in occupant.iter().flat_map(|occupant| occupant.pods.values()) {
        if pod.node.is_none() {
            domains.extend(pod.selector.get(&level.key).and_then(|value| named(value, numbers)));
        }
        if pod.subgroups.level == level.key {
            domains.extend(pod.subgroups.domains.values().filter_map(|value| named(value, numbers)));
        }
    }
}

/// The number of a domain by name, whether it exists or not: a view shows those that do.
fn named(value: &str, numbers: &mut Numbers) -> Option<u32> {
    (!value.is_empty()).then(|| numbers.of(value))
}

/// Domains that a holding keeps from others at `level`: all that its own domain touches if others must stay out of all of it
/// or its pods may still go anywhere in it; else only the one around it.
fn promised(
    held: Option<&Held>,
    level: &Level,
    levels: &BTreeMap<String, Arc<Level>>,
    nodes: &Rows,
    numbers: &mut Numbers,
    domains: &mut Vec<u32>,
) {
    let Some(Held { holding, .. }) = held else { return };
    for (node, _) in &holding.pinned {
        domains.extend(nodes.row_of(node).and_then(|row| level.number(level.domain_of(row)?)));
    }
    let mut promise = |key: &str, domain: &str, all: bool| {
        let rows = rows_named(key, domain, levels);
        if key == level.key {
            domains.extend(named(domain, numbers));
        } else if all {
            domains.extend(touched(level, rows).into_iter().filter_map(|domain| level.number(domain)));
        } else {
            domains.extend(only_touched(level, rows).and_then(|domain| level.number(domain)));
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
    let mut last = None;
    // Neighbours by row are mostly neighbours by domain.
    rows.iter().filter_map(|row| level.domain_of(*row)).filter(|domain| last.replace(*domain) != Some(*domain)).collect()
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
        Self::by_these(ledger.keepers(), view, levels, nodes)
    }

    /// The same for these rows; of others it may not be known that they are kept.
    pub(crate) fn on(rows: &[u32], ledger: &Ledger, view: &View, levels: &BTreeMap<String, Arc<Level>>, nodes: &Rows) -> Self {
        let places: BTreeSet<(&str, &str)> = levels
            .values()
            .flat_map(|level| {
                let named = |domain| Some((level.key.as_str(), level.name(domain)?));
                touched(level, rows).into_iter().filter_map(named)
            })
            .collect();
        let there = places.into_iter().flat_map(|(key, domain)| ledger.at(key, domain));
        let keepers: BTreeMap<_, _> = there.filter(|(_, held)| held.holding.keeps()).collect();
        Self::by_these(keepers.into_iter(), view, levels, nodes)
    }

    fn by_these<'a>(
        keepers: impl Iterator<Item = (&'a GroupId, &'a Arc<Held>)>,
        view: &View,
        levels: &BTreeMap<String, Arc<Level>>,
        nodes: &Rows,
    ) -> Self {
        let mut kept = Self { of_row: vec![0; nodes.len()], keepers: Vec::new() };
        for (_, held) in keepers.filter(|(group, _)| is_visible(view, group)) {
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
