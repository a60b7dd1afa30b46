//! The last check before a holding enters the ledger, against the live index.

use std::collections::{BTreeMap, BTreeSet};

use super::ledger::{Holding, SubgroupHolding, SubgroupId};
use super::packing::Claims;
use super::shape::Shape;
use super::snapshot::Snapshot;
use crate::placement::check::{Rejection, RejectionCode};
use crate::placement::{Demand, NodeId, Place, ShapeId};

/// Whether the holding may enter. `snapshot` is of this moment, has the selector's keys and the holding's levels as levels and
/// ignores only the holding's own group.
pub(crate) fn check(
    snapshot: &Snapshot,
    pods: &[Demand],
    holding: &Holding,
    selector: &BTreeMap<String, String>,
) -> Result<(), Rejection> {
    let mut rows: Option<Vec<u32>> = None;
    for (key, value) in selector {
        let place = place(snapshot, key, value)?;
        if !snapshot.knows(place, pods) {
            return Err(gone(key, value));
        }
        if *key == holding.level {
            is_open(snapshot, place, holding)?;
        }
        let inside = snapshot.rows(place);
        rows = Some(match rows {
            None => inside.to_vec(),
            Some(rows) => rows.into_iter().filter(|row| inside.binary_search(row).is_ok()).collect(),
        });
    }
    if !holding.subgroups.is_empty() {
        return subgroups_fit(snapshot, holding, rows.as_deref());
    }
    if !holding.pinned.is_empty() {
        return pins_fit(snapshot, holding, rows.as_deref(), Claims::new());
    }
    let packing = pack(snapshot, rows.unwrap_or_default(), pods, &mut Claims::new());
    packing.map_err(|(placed, wanted)| no_room(&holding.level, &holding.domain, placed, wanted))
}

fn place(snapshot: &Snapshot, key: &str, value: &str) -> Result<Place, Rejection> {
    snapshot.place_of(key, value).ok_or_else(|| gone(key, value))
}

fn gone(key: &str, value: &str) -> Rejection {
    Rejection::new(RejectionCode::UnknownPlace, format!("no node has the label {key}={value} any more"))
}

fn no_room(level: &str, domain: &str, placed: u32, wanted: u32) -> Rejection {
    Rejection::new(RejectionCode::NotEnoughRoom, format!("{level}={domain} has room for {placed} of {wanted} pods"))
}

/// Takes room for the pods on those of the nodes that no other group has for itself; how many of how many fit if not all do.
fn pack(snapshot: &Snapshot, mut rows: Vec<u32>, pods: &[Demand], claims: &mut Claims) -> Result<(), (u32, u32)> {
    rows.retain(|row| !snapshot.is_kept(*row));
    snapshot.with_room(|room| {
        let packing = room.pack(&rows, pods, claims);
        room.commit(&packing, claims);
        if packing.is_complete() { Ok(()) } else { Err((packing.placed, packing.wanted)) }
    })
}

fn is_open(snapshot: &Snapshot, place: Place, holding: &Holding) -> Result<(), Rejection> {
    let holder = if holding.exclusive { snapshot.holder(place) } else { snapshot.kept_by(place) };
    holder.map_or(Ok(()), |by| Err(held(&holding.level, &holding.domain, by)))
}

fn held(level: &str, domain: &str, by: &str) -> Rejection {
    Rejection::new(RejectionCode::DomainHeld, format!("{level}={domain} is held by {by}"))
}

/// Each subgroup alone in a domain that has room for it, and room on its node for a leader that is in none of them.
fn subgroups_fit(snapshot: &Snapshot, holding: &Holding, inside: Option<&[u32]>) -> Result<(), Rejection> {
    let (mut claims, mut taken) = (Claims::new(), BTreeSet::new());
    for subgroup in &holding.subgroups {
        let SubgroupHolding { index, level, domain, outstanding, alone } = subgroup;
        let place = place(snapshot, level, domain)?;
        let id = SubgroupId { group: holding.group.clone(), index: *index };
        if let Some(by) = snapshot.kept_from(place, &id).filter(|_| *alone) {
            return Err(held(level, domain, by));
        }
        if *alone && !taken.insert(place) {
            return Err(held(level, domain, "another subgroup of the group"));
        }
        let rows = snapshot.rows(place).iter().copied();
        let rows = rows.filter(|row| inside.is_none_or(|inside| inside.binary_search(row).is_ok())).collect();
        let packed = pack(snapshot, rows, &demands(snapshot, outstanding), &mut claims);
        packed.map_err(|(placed, wanted)| no_room(level, domain, placed, wanted))?;
    }
    pins_fit(snapshot, holding, inside, claims)
}

/// Pods in terms of the snapshot, which knows the shapes of everything that is asked about.
fn demands(snapshot: &Snapshot, pods: &[(Shape, u32)]) -> Vec<Demand> {
    let id = |shape: &Shape| snapshot.view().shapes.iter().position(|known| known == shape).and_then(|at| u32::try_from(at).ok());
    pods.iter().map(|(shape, pods)| Demand { shape: ShapeId(id(shape).unwrap_or(u32::MAX)), pods: *pods }).collect()
}

fn pins_fit(snapshot: &Snapshot, holding: &Holding, inside: Option<&[u32]>, mut claims: Claims) -> Result<(), Rejection> {
    for (name, shape) in &holding.pinned {
        let NodeId(row) =
            snapshot.node_of(name).ok_or_else(|| Rejection::new(RejectionCode::UnknownNode, format!("node {name} is gone")))?;
        if inside.is_some_and(|rows| !rows.contains(&row)) {
            let message = format!("node {name} is not in {}={} any more", holding.level, holding.domain);
            return Err(Rejection::new(RejectionCode::UnknownPlace, message));
        }
        if let Some(by) = snapshot.exclusive_holder(row) {
            return Err(Rejection::new(RejectionCode::DomainHeld, format!("node {name} is held by {by}")));
        }
        if !snapshot.takes(row, shape, &mut claims) {
            let message = format!("node {name} has no room for the pods pinned to it");
            return Err(Rejection::new(RejectionCode::NotEnoughRoom, message));
        }
    }
    Ok(())
}
