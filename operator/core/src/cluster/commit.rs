//! The last check before a holding enters the ledger, against the live index.

use std::collections::BTreeMap;

use super::ledger::Holding;
use super::packing::Claims;
use super::snapshot::Snapshot;
use crate::placement::check::{Rejection, RejectionCode};
use crate::placement::{Demand, NodeId, Place};

/// Whether the holding may enter. `snapshot` is of this moment, has the selector's keys as levels and ignores only the
/// holding's own group.
pub(crate) fn check(
    snapshot: &Snapshot,
    pods: &[Demand],
    holding: &Holding,
    selector: &BTreeMap<String, String>,
) -> Result<(), Rejection> {
    let mut rows: Option<Vec<u32>> = None;
    for (key, value) in selector {
        let place = snapshot.place_of(key, value).filter(|place| snapshot.knows(*place, pods)).ok_or_else(|| {
            Rejection::new(RejectionCode::UnknownPlace, format!("no node has the label {key}={value} any more"))
        })?;
        if *key == holding.level {
            is_open(snapshot, place, holding)?;
        }
        let inside = snapshot.rows(place);
        rows = Some(match rows {
            None => inside.to_vec(),
            Some(rows) => rows.into_iter().filter(|row| inside.binary_search(row).is_ok()).collect(),
        });
    }
    if !holding.pinned.is_empty() {
        return pins_fit(snapshot, holding, rows.as_deref());
    }
    let open: Vec<u32> = rows.unwrap_or_default().into_iter().filter(|row| snapshot.exclusive_holder(*row).is_none()).collect();
    let packing = snapshot.with_room(|room| room.pack(&open, pods, &Claims::new()));
    if packing.is_complete() {
        return Ok(());
    }
    let (level, domain, placed, wanted) = (&holding.level, &holding.domain, packing.placed, packing.wanted);
    Err(Rejection::new(RejectionCode::NotEnoughRoom, format!("{level}={domain} has room for {placed} of {wanted} pods")))
}

fn is_open(snapshot: &Snapshot, place: Place, holding: &Holding) -> Result<(), Rejection> {
    let holder = if holding.exclusive { snapshot.holder(place) } else { snapshot.kept_by(place) };
    holder.map_or(Ok(()), |by| {
        let message = format!("{}={} is held by {by}", holding.level, holding.domain);
        Err(Rejection::new(RejectionCode::DomainHeld, message))
    })
}

fn pins_fit(snapshot: &Snapshot, holding: &Holding, inside: Option<&[u32]>) -> Result<(), Rejection> {
    let mut claims = Claims::new();
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
