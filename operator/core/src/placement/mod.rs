//! Where a unit goes: the values a placement policy reads and answers with.
//!
//! The same types serve the native policy ([`native`]) and WebAssembly components (`muster-policy-host` converts them to and
//! from `wit/policy.wit`). Ids are row numbers of one [`Snapshot`](crate::cluster::Snapshot) and mean nothing outside the call.

pub mod check;
pub mod effects;
pub mod native;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use self::effects::{Effect, Effects};
use crate::cluster::SubgroupId;

/// Row of the snapshot's node table. [`NodeId::NONE`] stands for "no node" where there is one entry per pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

impl NodeId {
    /// A pod that is bound nowhere, or to a node that is gone.
    pub const NONE: Self = Self(u32::MAX);
}

/// Row of one level's domain table. [`DomainId::NONE`] stands for "no domain" in columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomainId(pub u32);

impl DomainId {
    /// A node without the level's label is in no domain.
    pub const NONE: Self = Self(u32::MAX);
}

/// Position in the snapshot's levels, widest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LevelId(pub u32);

/// Position in the snapshot's table of distinct pod shapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShapeId(pub u32);

/// So many pods of one shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Demand {
    /// Which shape.
    pub shape: ShapeId,
    /// How many pods.
    pub pods: u32,
}

/// A domain together with the level it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The level.
    pub level: LevelId,
    /// The domain at that level.
    pub domain: DomainId,
}

/// Why a policy answered as it did. Shown to users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// CamelCase ASCII, at most 64 bytes: condition reason, event reason and metric label.
    pub code: String,
    /// One sentence for a person, at most 1024 bytes.
    pub message: String,
}

/// A fault in a settings document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingsError {
    /// RFC 6901 JSON pointer; empty for the document itself.
    pub path: String,
    /// What is wrong and what would be right.
    pub message: String,
}

/// A part of a unit that must have a domain to itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subgroup {
    /// Who it is: a domain may be shared with pods of its own that an earlier incarnation has left.
    pub id: SubgroupId,
    /// What it needs. All of it is in its unit's `pods` too.
    pub pods: Vec<Demand>,
    /// The only domain that it can have, because its leader is bound there.
    pub bound: Option<DomainId>,
}

/// Where the pods of a unit are, or were.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Whereabouts {
    /// For every level of the snapshot: the domain that all of them are in; [`DomainId::NONE`] if there is none such.
    pub domains: Vec<DomainId>,
    /// For every pod, in the order of ranks: its node, or [`NodeId::NONE`].
    pub nodes: Vec<NodeId>,
}

/// Pods that must sit together: for now a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unit {
    /// Names the unit in the answer; for a group its index.
    pub id: u32,
    /// What it needs, leader first. Every entry's pods fit the unit's domain together.
    pub pods: Vec<Demand>,
    /// Higher is more important.
    pub priority: i32,
    /// How many pods each of its subgroups has, in the order of ranks, whether they may share domains or not.
    pub division: Vec<u32>,
    /// Where its running pods are, if it has any.
    pub current: Option<Whereabouts>,
    /// Where its pods were before it started over, if that is remembered.
    pub previous: Option<Whereabouts>,
    /// What its pods got from their policy when they were created. Policies don't see it.
    pub prepared: Effects,
    /// Its subgroups, if each must have a domain of the request's `subgroup_exclusive` to itself. Policies don't see these: they
    /// choose for the whole unit, and the core finds its subgroups their domains inside.
    pub subgroups: Vec<Subgroup>,
}

impl Unit {
    /// How many pods it has.
    pub fn size(&self) -> u32 {
        self.pods.iter().fold(0, |sum, demand| sum.saturating_add(demand.pods))
    }

    /// What the ranks of this range need.
    pub fn ranks(&self, ranks: std::ops::Range<u32>) -> Vec<Demand> {
        let mut start = 0_u32;
        let each = self.pods.iter().filter_map(|demand| {
            let own = start..start.saturating_add(demand.pods);
            start = own.end;
            let pods = own.end.min(ranks.end).saturating_sub(own.start.max(ranks.start));
            (pods > 0).then_some(Demand { shape: demand.shape, pods })
        });
        each.collect()
    }

    /// Pods that are in no subgroup: the leader of a group whose subgroups exclude it, and everything of a unit without subgroups.
    pub fn rest(&self) -> Vec<Demand> {
        without(&self.pods, self.subgroups.iter().flat_map(|subgroup| &subgroup.pods))
    }
}

/// What is left of `pods` without the others.
pub(crate) fn without<'a>(pods: &[Demand], others: impl Iterator<Item = &'a Demand>) -> Vec<Demand> {
    let mut left = pods.to_vec();
    for other in others {
        let mut pods = other.pods;
        for demand in left.iter_mut().filter(|demand| demand.shape == other.shape) {
            let taken = demand.pods.min(pods);
            demand.pods -= taken;
            pods -= taken;
        }
    }
    left.retain(|demand| demand.pods > 0);
    left
}

/// A group of the asking set that has its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Its index.
    pub id: u32,
    /// For every level of the snapshot: the domain that all of it is in, or [`DomainId::NONE`].
    pub domains: Vec<DomainId>,
}

/// A group of another set that is a peer of the asking one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// `namespace/name` of its set.
    pub owner: String,
    /// Labels of its set.
    pub labels: BTreeMap<String, String>,
    /// Its index.
    pub id: u32,
    /// As in [`Placed`].
    pub domains: Vec<DomainId>,
}

/// A node on which pods of groups have lately been lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadNode {
    /// Which.
    pub node: NodeId,
    /// How often within a day.
    pub failures: u32,
    /// Milliseconds since the last time.
    pub age_ms: u64,
}

/// The question to a placement policy: every waiting unit of one set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// `namespace/name` of the set.
    pub owner: String,
    /// Labels of the set.
    pub labels: BTreeMap<String, String>,
    /// The level at which no other unit may share a domain, if the set asks for exclusive placement.
    pub exclusive: Option<LevelId>,
    /// The level at which no two subgroups may share a domain, if the set asks for that.
    pub subgroup_exclusive: Option<LevelId>,
    /// Ordered by priority, then id.
    pub units: Vec<Unit>,
    /// The set's groups that have their place already.
    pub placed: Vec<Placed>,
    /// Groups of the set's peers, if its policy asks for them.
    pub peers: Vec<Peer>,
    /// Nodes that have failed groups lately.
    pub bad_nodes: Vec<BadNode>,
}

/// Pods with consecutive ranks that go inside one domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// How many ranks.
    pub pods: u32,
    /// Where.
    pub place: Place,
}

/// What to do with one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// All its pods go inside one of these domains, the first that is found good.
    Within(Vec<Place>),
    /// The scheduler decides and favours these, best first.
    Preferred(Vec<Place>),
    /// Each part goes inside its domain; the parts are all of the unit, in the order of ranks.
    Parts(Vec<Part>),
    /// One node per pod, in the order of `unit.pods`.
    Pinned(Vec<NodeId>),
    /// Each subgroup goes inside a domain of its own, in the order of `unit.subgroups`. Only the native policy says so.
    Apart(Vec<DomainId>),
    /// The scheduler decides; where subgroups must not share domains, the core finds them some.
    Unconstrained,
    /// Not now. Ask again after so many milliseconds, or sooner if the cluster changes.
    Hold {
        /// Milliseconds until the next question.
        retry_ms: u32,
    },
    /// Not ever, until the set or the settings change.
    Refuse,
}

impl Decision {
    /// All pods inside this one domain.
    pub fn within(place: Place) -> Self {
        Self::Within(vec![place])
    }
}

/// A policy's answer for one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// `Unit::id`.
    pub unit: u32,
    /// What to do with it.
    pub decision: Decision,
    /// Nodes that none of its pods may go to.
    pub avoid: Vec<NodeId>,
    /// What its pods get beside their place.
    pub effects: Vec<Effect>,
    /// Why.
    pub reason: Reason,
}

impl Answer {
    /// An answer that says where, and nothing else.
    pub fn new(unit: u32, decision: Decision, reason: Reason) -> Self {
        Self { unit, decision, avoid: Vec::new(), effects: Vec::new(), reason }
    }
}

#[cfg(test)]
mod tests;
