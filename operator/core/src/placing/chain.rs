//! Several policies, one after the other: what one leaves open is what the next is asked about.
//!
//! An answer that binds a unit to nodes or parts, holds or refuses it is final. One that names domains narrows: the next policy is
//! asked on a snapshot in which nothing outside the best of them has room, then the second best, and so on until it finds a place.
//! For a set that asks for exclusive placement the native rule is always the last in the chain, so that a policy may leave the
//! choice inside its domains to it.

mod walk;

use std::collections::BTreeSet;

pub use walk::{Guide, Said, complete, walk};

use super::Asked;
use crate::cluster::Snapshot;
use crate::instructions::MAX_PREFERRED;
use crate::placement::check::{Rejection, RejectionCode};
use crate::placement::effects::Effect;
use crate::placement::{Answer, Decision, NodeId, Place};
use crate::record::Record;

/// What a unit takes along from one policy to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Carried {
    /// Names of nodes: ids mean something else in the next snapshot.
    avoid: BTreeSet<String>,
    effects: Vec<Effect>,
    /// Label keys and values.
    preferred: Vec<(String, String)>,
}

/// One label that nodes must have: a domain, in words that mean the same in every snapshot.
pub type Label = (String, String);

/// What an answer leaves to the next policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Narrowed {
    /// Nothing.
    Final,
    /// A choice inside one of these domains, best first; anywhere if there are none.
    Open(Vec<Label>),
}

/// Whether the answer is the last word about its unit.
fn is_final(asked: &Asked<'_>, snapshot: &Snapshot, answer: &Answer, last: bool) -> bool {
    let exclusive = asked.request.exclusive;
    match &answer.decision {
        Decision::Parts(_) | Decision::Pinned(_) | Decision::Apart(_) | Decision::Hold { .. } | Decision::Refuse => true,
        Decision::Preferred(_) | Decision::Unconstrained => last && exclusive.is_none(),
        Decision::Within(places) => {
            let alone = |level| places.iter().any(|place| snapshot.around(level, snapshot.rows(*place)).is_some());
            last && exclusive.is_none_or(alone)
        }
    }
}

/// What an answer leaves open. `last` says that no policy comes after.
///
/// # Errors
/// When none of the domains that it names has room for the unit.
pub fn narrow(asked: &Asked<'_>, snapshot: &Snapshot, answer: &Answer, last: bool) -> Result<Narrowed, Rejection> {
    if is_final(asked, snapshot, answer, last) {
        return Ok(Narrowed::Final);
    }
    let Decision::Within(places) = &answer.decision else { return Ok(Narrowed::Open(Vec::new())) };
    let pods = asked.request.units.iter().find(|unit| unit.id == answer.unit).map_or(&[][..], |unit| &unit.pods);
    let good: Vec<_> = places.iter().filter(|place| snapshot.fits(**place, pods)).filter_map(|at| label(snapshot, *at)).collect();
    if good.is_empty() {
        let (unit, count) = (answer.unit, places.len());
        let message = format!("unit {unit}: none of the {count} domains that the answer names has room for it");
        return Err(Rejection::new(RejectionCode::NotEnoughRoom, message));
    }
    Ok(Narrowed::Open(good))
}

fn label(snapshot: &Snapshot, place: Place) -> Option<Label> {
    let key = snapshot.levels().get(place.level.0 as usize)?;
    Some((key.clone(), snapshot.domain_name(place.level, place.domain)?.to_owned()))
}

impl Carried {
    /// What it takes along, and what this answer adds.
    #[must_use]
    pub fn and(mut self, snapshot: &Snapshot, answer: &Answer) -> Self {
        self.avoid.extend(answer.avoid.iter().filter_map(|node| snapshot.node_name(*node).map(str::to_owned)));
        self.effects.extend(answer.effects.iter().cloned());
        if let Decision::Preferred(places) = &answer.decision {
            self.preferred.extend(places.iter().filter_map(|place| label(snapshot, *place)));
        }
        self
    }

    /// An answer with what earlier policies have said about its unit.
    #[must_use]
    pub fn complete(&self, snapshot: &Snapshot, mut answer: Answer) -> Answer {
        let avoid = self.avoid.iter().filter_map(|name| snapshot.node_of(name));
        let avoid: BTreeSet<NodeId> = answer.avoid.iter().copied().chain(avoid).collect();
        answer.avoid = avoid.into_iter().collect();
        answer.effects.splice(0..0, self.effects.iter().cloned());
        answer
    }

    /// A record with the preferences of earlier policies before its own, if it leaves the scheduler a choice.
    pub fn prefer(&self, record: &mut Record) {
        let free = record.domain.is_none() && record.subgroups.is_none();
        let instructions = &mut record.instructions;
        if free && instructions.parts.is_empty() && instructions.pins.is_empty() {
            instructions.preferred.splice(0..0, self.preferred.iter().cloned());
            instructions.preferred.truncate(MAX_PREFERRED);
        }
    }
}

#[cfg(test)]
mod tests;
