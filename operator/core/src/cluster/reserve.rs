//! Room held back for pods that are promised a place but not bound yet.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::changes::Change;
use super::holders::{rows_held, rows_named};
use super::ledger::{GroupId, Holding, Ledger};
use super::level::Level;
use super::packing::{Claims, Room};
use super::rows::{Different, Rows};
use super::shape::Shape;
use crate::placement::{Demand, ShapeId};

/// What the view's own groups take of every node: it does not count against themselves.
pub(crate) fn own_use(ledger: &Ledger, own: &BTreeSet<GroupId>, nodes: &Rows) -> Claims {
    let mut given_back = Claims::new();
    for pod in own.iter().filter_map(|group| ledger.occupants.get(group)).flat_map(|occupant| occupant.pods.values()) {
        if let Some(row) = pod.node.as_ref().and_then(|node| nodes.row_of(node)) {
            given_back.entry(row).or_default().add(&pod.requests, -1);
        }
    }
    given_back
}

/// The node table with claims taken and avoided nodes out of use.
pub(crate) fn nodes_with(mut nodes: Rows, claims: &Claims, avoided: &BTreeSet<u32>) -> Rows {
    for (row, claimed) in claims.iter().filter(|(_, claimed)| !claimed.is_empty()) {
        nodes.differ(*row).used.add(claimed, 1);
    }
    for row in avoided {
        nodes.differ(*row).avoided = true;
    }
    nodes
}

/// What all promises together take, kept while nothing that matters to it changes.
#[derive(Debug, Default)]
pub(crate) struct Promised {
    /// The ledger's [`Ledger::promises`] for which it was made.
    version: u64,
    pub(crate) claims: Claims,
    /// The nodes with the claims taken.
    pub(crate) different: Arc<Different>,
    /// Rows of which anything was looked at when room was found: what happens to others makes no difference.
    looked_at: BTreeSet<u32>,
}

impl Promised {
    /// Finds room for all promises.
    pub(crate) fn of(ledger: &Ledger, nodes: &Rows, levels: &BTreeMap<String, Arc<Level>>) -> Self {
        let (mut claims, mut looked_at) = (Claims::new(), BTreeSet::new());
        for promise in ledger.outstanding().flat_map(|(_, held)| promises(&held.holding, levels)) {
            reserve_one(&promise, nodes, &mut claims, &mut |row| {
                looked_at.insert(row);
            });
        }
        looked_at.extend(claims.keys());
        let with = nodes_with(nodes.clone(), &claims, &BTreeSet::new());
        Self { version: ledger.promises(), claims, different: Arc::clone(with.different()), looked_at }
    }

    /// Whether it would be found again after these changes.
    pub(crate) fn stands(&self, ledger: &Ledger, changes: &[Change]) -> bool {
        let matters = |change: &Change| match change {
            Change::Room(row) => self.looked_at.contains(row),
            Change::Facts { row, .. } => {
                self.looked_at.contains(row) || change.moves(|key| ledger.levels().any(|held| held == key))
            }
            Change::Came { .. } | Change::Gone { .. } => true,
        };
        self.version == ledger.promises() && !changes.iter().any(matters)
    }

    /// Whether a view of these groups, who take so much of the nodes themselves, leaves it as it is.
    pub(crate) fn holds_for(&self, own: &BTreeSet<GroupId>, own_use: &Claims, ledger: &Ledger) -> bool {
        !own.iter().any(|group| ledger.is_promised(group)) && !own_use.keys().any(|row| self.looked_at.contains(row))
    }

    /// Rows of which it takes something else than `before` did, with which these changes have been made since.
    pub(crate) fn differs_from(&self, before: &Self, changes: &[Change]) -> BTreeSet<u32> {
        let mut rows: BTreeSet<u32> = before.claims.keys().copied().collect();
        if changes.iter().any(Change::moves_rows) {
            changes.iter().for_each(|change| change.shift(&mut rows));
            rows.extend(self.claims.keys());
            return rows;
        }
        rows.extend(self.claims.keys());
        rows.retain(|row| self.claims.get(row) != before.claims.get(row));
        rows
    }
}

/// Adds the outstanding pods of every holding but `own`, packed into their domains in the order of group names. Pods that don't
/// fit any more reserve nothing: there is nothing left to keep from others.
///
/// With `only` rows, holdings that have no effect on those rows are left out.
pub(crate) fn reserve(
    ledger: &Ledger,
    own: &BTreeSet<GroupId>,
    nodes: &Rows,
    levels: &BTreeMap<String, Arc<Level>>,
    only: Option<&[u32]>,
    claims: &mut Claims,
) {
    let others = ledger.outstanding().filter(|(group, _)| !own.contains(group));
    let mut others: Vec<&Holding> = others.map(|(_, held)| &held.holding).collect();
    if let Some(rows) = only {
        let reached = touching(ledger, own, levels, nodes, rows);
        others.retain(|holding| reached.contains(&holding.group));
    }
    for promise in others.into_iter().flat_map(|holding| promises(holding, levels)) {
        reserve_one(&promise, nodes, claims, &mut |_| ());
    }
}

/// Pods that are to find room on these nodes.
struct Promise<'a> {
    rows: Cow<'a, [u32]>,
    outstanding: &'a [(Shape, u32)],
    pinned: &'a [(String, Shape)],
}

/// What one holding promises: to its subgroups first, then to pods that may go anywhere in its domain.
fn promises<'a>(holding: &'a Holding, levels: &'a BTreeMap<String, Arc<Level>>) -> impl Iterator<Item = Promise<'a>> {
    let whole = rows_held(holding, levels);
    let subgroups = holding.subgroups.iter().map(move |subgroup| {
        let rows = rows_named(&subgroup.level, &subgroup.domain, levels);
        let inside = |row: &u32| whole.binary_search(row).is_ok();
        let rows = match holding.level.as_str() {
            "" => Cow::Borrowed(rows),
            _ => rows.iter().copied().filter(inside).collect(),
        };
        Promise { rows, outstanding: &subgroup.outstanding, pinned: &[] }
    });
    let rest = Promise { rows: Cow::Borrowed(whole), outstanding: &holding.outstanding, pinned: &holding.pinned };
    subgroups.chain(std::iter::once(rest))
}

/// The groups that are promised room on `rows`, or share a node with one that is, and so on: one may push another aside.
fn touching<'a>(
    ledger: &'a Ledger,
    own: &BTreeSet<GroupId>,
    levels: &BTreeMap<String, Arc<Level>>,
    nodes: &Rows,
    rows: &[u32],
) -> BTreeSet<&'a GroupId> {
    let pinned: Vec<_> = ledger.pinning().filter(|(group, _)| !own.contains(group)).collect();
    let (mut groups, mut reached, mut seen) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut open: Vec<u32> = rows.to_vec();
    while let Some(row) = open.pop() {
        if !reached.insert(row) {
            continue;
        }
        let mut found: Vec<(&GroupId, &Holding)> = Vec::new();
        for (key, level) in levels {
            let Some(domain) = level.domain_of(row).filter(|domain| seen.insert((key, *domain))) else { continue };
            let there = ledger.at(key, level.name(domain).unwrap_or_default()).map(|(group, held)| (group, &held.holding));
            found.extend(there.filter(|(group, holding)| holding.is_outstanding() && !own.contains(group)));
        }
        let pins = |holding: &Holding| holding.pinned.iter().any(|(node, _)| *node == nodes[row].facts.name);
        found.extend(pinned.iter().map(|(group, held)| (*group, &held.holding)).filter(|(_, holding)| pins(holding)));
        for (group, holding) in found {
            if groups.insert(group) {
                let pins = holding.pinned.iter().filter_map(|(node, _)| nodes.row_of(node));
                open.extend(promises(holding, levels).flat_map(|promise| promise.rows.into_owned()).chain(pins));
            }
        }
    }
    groups
}

/// Claims room for one promise and tells which rows it looks at.
fn reserve_one(promise: &Promise<'_>, nodes: &Rows, claims: &mut Claims, looks_at: &mut dyn FnMut(u32)) {
    for (name, shape) in promise.pinned {
        if let Some(row) = nodes.row_of(name) {
            claims.entry(row).or_default().add(shape.requests(), 1);
        }
    }
    let shapes: Vec<_> = promise.outstanding.iter().map(|(shape, _)| shape.clone()).collect();
    let demands: Vec<_> =
        (0..).zip(promise.outstanding).map(|(shape, (_, pods))| Demand { shape: ShapeId(shape), pods: *pods }).collect();
    // Own use given back makes room, so where there are claims they alone decide.
    let looks_at = RefCell::new(looks_at);
    let fit = |row: u32, shape: usize| {
        looks_at.borrow_mut()(row);
        let (node, shape): (_, &Shape) = (&nodes[row], &shapes[shape]);
        match claims.contains_key(&row) {
            _ if shape.excluded_from(&node.facts).is_some() => 0,
            true => u32::MAX,
            false => node.room(shape.requests(), None),
        }
    };
    let packing = Room { nodes, shapes: &shapes, fit: &fit, counts_leftover: false }.pack(&promise.rows, &demands, claims);
    for (row, shape, pods) in packing.takes {
        claims.entry(row).or_default().add(shapes[shape].requests(), i64::from(pods));
    }
}
