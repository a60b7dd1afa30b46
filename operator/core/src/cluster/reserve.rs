//! Room held back for pods that are promised a place but not bound yet.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::holders::{row_of, rows_held, rows_named};
use super::ledger::{GroupId, Holding, Ledger};
use super::level::Level;
use super::node::Node;
use super::packing::{Claims, Room};
use super::shape::Shape;
use crate::placement::{Demand, ShapeId};

/// What the view's own groups take of every node: it does not count against themselves.
pub(crate) fn own_use(ledger: &Ledger, own: &BTreeSet<GroupId>, nodes: &[Arc<Node>]) -> Claims {
    let mut given_back = Claims::new();
    for pod in own.iter().filter_map(|group| ledger.occupants.get(group)).flat_map(|occupant| occupant.pods.values()) {
        if let Some(row) = pod.node.as_ref().and_then(|node| row_of(nodes, node)) {
            given_back.entry(row).or_default().add(&pod.requests, -1);
        }
    }
    given_back
}

/// Adds the outstanding pods of every holding but `own`, packed into their domains in the order of group names. Pods that don't
/// fit any more reserve nothing: there is nothing left to keep from others.
///
/// With `only` rows, holdings that have no effect on those rows are left out.
pub(crate) fn reserve(
    ledger: &Ledger,
    own: &BTreeSet<GroupId>,
    nodes: &[Arc<Node>],
    levels: &BTreeMap<String, Arc<Level>>,
    only: Option<&[u32]>,
    claims: &mut Claims,
) {
    let others = ledger.holdings.iter().filter(|(group, held)| held.holding.is_outstanding() && !own.contains(group));
    let mut others: Vec<_> = others.flat_map(|(_, held)| promises(&held.holding, levels)).collect();
    if let Some(rows) = only {
        keep_touching(&mut others, rows, nodes);
    }
    for promise in others {
        reserve_one(&promise, nodes, claims);
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

/// Keeps the promises that share a node with `rows`, or with a promise that does, and so on: one may push another aside.
fn keep_touching(promises: &mut Vec<Promise<'_>>, rows: &[u32], nodes: &[Arc<Node>]) {
    let mut reached: BTreeSet<u32> = rows.iter().copied().collect();
    let mut kept = vec![false; promises.len()];
    loop {
        let before = reached.len();
        for (kept, promise) in kept.iter_mut().zip(promises.iter()) {
            let pinned = || promise.pinned.iter().filter_map(|(node, _)| row_of(nodes, node));
            if !*kept && promise.rows.iter().copied().chain(pinned()).any(|row| reached.contains(&row)) {
                *kept = true;
                reached.extend(promise.rows.iter().copied().chain(pinned()));
            }
        }
        if reached.len() == before {
            break;
        }
    }
    let mut kept = kept.into_iter();
    promises.retain(|_| kept.next().unwrap_or(false));
}

fn reserve_one(promise: &Promise<'_>, nodes: &[Arc<Node>], claims: &mut Claims) {
    for (name, shape) in promise.pinned {
        if let Some(row) = row_of(nodes, name) {
            claims.entry(row).or_default().add(shape.requests(), 1);
        }
    }
    let shapes: Vec<_> = promise.outstanding.iter().map(|(shape, _)| shape.clone()).collect();
    let demands: Vec<_> =
        (0..).zip(promise.outstanding).map(|(shape, (_, pods))| Demand { shape: ShapeId(shape), pods: *pods }).collect();
    // Own use given back makes room, so slots are counted with the claims and not before them.
    let base = claims.clone();
    let fit = |row: u32, shape: usize| {
        let node: &Node = &nodes[row as usize];
        if shapes[shape].excluded_from(&node.facts).is_some() {
            return 0;
        }
        node.room(shapes[shape].requests(), base.get(&row))
    };
    let room = Room { nodes, shapes: &shapes, fit: &fit };
    let packing = room.pack(&promise.rows, &demands, claims);
    room.commit(&packing, claims);
}
