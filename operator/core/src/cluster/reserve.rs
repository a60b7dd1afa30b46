//! Room held back for pods that are promised a place but not bound yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::holders::{row_of, rows_held};
use super::ledger::{GroupId, Holding, Ledger};
use super::level::Level;
use super::node::Node;
use super::packing::{Claims, Room};
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

/// Adds the outstanding pods of every holding but `own`, packed into its domain in the order of group names. Pods that don't
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
    let mut others: Vec<_> = others.map(|(_, held)| (&held.holding, rows_held(&held.holding, levels))).collect();
    if let Some(rows) = only {
        keep_touching(&mut others, rows, nodes);
    }
    for (holding, rows) in others {
        reserve_one(holding, nodes, rows, claims);
    }
}

/// Keeps the holdings that share a node with `rows`, or with a holding that does, and so on: one may push another aside.
fn keep_touching(holdings: &mut Vec<(&Holding, &[u32])>, rows: &[u32], nodes: &[Arc<Node>]) {
    let mut reached: BTreeSet<u32> = rows.iter().copied().collect();
    let mut kept = vec![false; holdings.len()];
    loop {
        let before = reached.len();
        for (kept, (holding, rows)) in kept.iter_mut().zip(holdings.iter()) {
            let pinned = || holding.pinned.iter().filter_map(|(node, _)| row_of(nodes, node));
            if !*kept && rows.iter().copied().chain(pinned()).any(|row| reached.contains(&row)) {
                *kept = true;
                reached.extend(rows.iter().copied().chain(pinned()));
            }
        }
        if reached.len() == before {
            break;
        }
    }
    let mut kept = kept.into_iter();
    holdings.retain(|_| kept.next().unwrap_or(false));
}

fn reserve_one(holding: &Holding, nodes: &[Arc<Node>], rows: &[u32], claims: &mut Claims) {
    for (name, shape) in &holding.pinned {
        if let Some(row) = row_of(nodes, name) {
            claims.entry(row).or_default().add(shape.requests(), 1);
        }
    }
    let shapes: Vec<_> = holding.outstanding.iter().map(|(shape, _)| shape.clone()).collect();
    let demands: Vec<_> =
        (0..).zip(&holding.outstanding).map(|(shape, (_, pods))| Demand { shape: ShapeId(shape), pods: *pods }).collect();
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
    let packing = room.pack(rows, &demands, claims);
    room.commit(&packing, claims);
}
