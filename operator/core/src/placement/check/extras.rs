//! What an answer says beside where its unit goes: nodes to keep off, and effects.

use std::collections::{BTreeMap, BTreeSet};

use super::{Rejection, RejectionCode, too_many};
use crate::cluster::Snapshot;
use crate::instructions::Instructions;
use crate::placement::effects::{Effects, Stage};
use crate::placement::{Answer, NodeId, Unit};

/// Nodes that one answer may have pods avoid.
const MAX_AVOIDED: usize = 64;

/// What an answer says beside the decision.
#[derive(Debug, Clone)]
pub(super) struct Extras {
    avoid: BTreeSet<u32>,
    /// Node labels that this answer asks for; those of the preparation are in the shapes.
    selector: BTreeMap<String, String>,
    pub(super) instructions: Instructions,
}

impl Extras {
    pub(super) fn of(snapshot: &Snapshot, unit: &Unit, answer: &Answer) -> Result<Self, Rejection> {
        if answer.avoid.len() > MAX_AVOIDED {
            return Err(too_many(unit, "nodes to avoid", answer.avoid.len(), MAX_AVOIDED));
        }
        let refused =
            |why: &dyn std::fmt::Display| Rejection::new(RejectionCode::EffectRefused, format!("unit {}: {why}", unit.id));
        let effects = Effects::check(&answer.effects, Stage::Answer(&unit.prepared)).map_err(|why| refused(&why))?;
        let shapes = unit.pods.iter().filter_map(|demand| snapshot.view().shapes.get(demand.shape.0 as usize));
        for (key, value) in &effects.node_selector {
            let other = shapes.clone().find_map(|shape| shape.selected(key).filter(|other| other != value));
            if let Some(other) = other {
                return Err(refused(&format!("effect node-selector {key}={value}: its pods select {key}={other} already")));
            }
        }
        let named = |node: &NodeId| {
            let unknown = || Rejection::new(RejectionCode::UnknownNode, format!("unit {}: there is no node {}", unit.id, node.0));
            snapshot.node_name(*node).map(str::to_owned).ok_or_else(unknown)
        };
        let avoid: BTreeSet<NodeId> = answer.avoid.iter().copied().collect();
        let names = avoid.iter().map(named).collect::<Result<_, _>>()?;
        let selector = effects.node_selector.clone();
        let instructions = Instructions { avoid: names, effects: unit.prepared.clone().and(&effects), ..Instructions::default() };
        Ok(Self { avoid: avoid.into_iter().map(|node| node.0).collect(), selector, instructions })
    }

    pub(super) fn allows(&self, snapshot: &Snapshot, row: u32) -> bool {
        let has = |(key, value): (&String, &String)| snapshot.node_label(NodeId(row), key) == Some(value.as_str());
        !self.avoid.contains(&row) && self.selector.iter().all(has)
    }

    /// The nodes that are left; `None` for all of them.
    pub(super) fn rows(&self, snapshot: &Snapshot) -> Option<Vec<u32>> {
        let all = self.avoid.is_empty() && self.selector.is_empty();
        (!all).then(|| (0..snapshot.node_count()).filter(|row| self.allows(snapshot, *row)).collect())
    }
}
