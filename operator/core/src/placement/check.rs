//! Checks a policy's answers: a wrong policy can be unhelpful, never harmful.
//!
//! Answers are applied in order, each on top of the ones before it. What passes becomes an [`Assignment`]; what doesn't becomes
//! a [`Rejection`] and changes nothing. The frozen snapshot may be out of date by then, so the index checks again when the
//! assignment is committed ([`Index::commit`](crate::cluster::Index::commit)).

mod extras;

use std::collections::{BTreeMap, BTreeSet};

use self::extras::Extras;
use super::{Answer, Decision, Demand, DomainId, LevelId, NodeId, Part, Place, Request, Subgroup, Unit, without};
use crate::cluster::{
    Claims, GroupId, Holding, LeaderSeat, Packing, Seating, Seats, Shape, Shortage, Snapshot, SubgroupHolding, SubgroupId, View,
};
use crate::instructions::{Instructions, MAX_PREFERRED, PartDomain};
use crate::subgroups::SubgroupDomains;

/// Domains that are looked at in one answer.
const MAX_CANDIDATES: usize = 64;

/// Label key by which a pod is bound to one node.
pub const HOSTNAME: &str = "kubernetes.io/hostname";

/// Why an answer was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RejectionCode {
    /// The request has no such unit.
    UnknownUnit,
    /// The unit was answered before.
    AnsweredTwice,
    /// There is no such domain.
    UnknownPlace,
    /// There is no such node.
    UnknownNode,
    /// Not one node per pod.
    WrongPinCount,
    /// The pods don't fit together with what is there.
    NotEnoughRoom,
    /// Another group sits there, or has it for itself.
    DomainHeld,
    /// The set asks for a domain of its own and the answer is wider than one, or none.
    NotExclusive,
    /// The parts are not all pods of the unit.
    WrongParts,
    /// An effect is not allowed, or contradicts what the pods' author has set.
    EffectRefused,
    /// A list is longer than it may be.
    TooMany,
}

impl RejectionCode {
    /// CamelCase name: event reason and metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownUnit => "UnknownUnit",
            Self::AnsweredTwice => "AnsweredTwice",
            Self::UnknownPlace => "UnknownPlace",
            Self::UnknownNode => "UnknownNode",
            Self::WrongPinCount => "WrongPinCount",
            Self::NotEnoughRoom => "NotEnoughRoom",
            Self::DomainHeld => "DomainHeld",
            Self::NotExclusive => "NotExclusive",
            Self::WrongParts => "WrongParts",
            Self::EffectRefused => "EffectRefused",
            Self::TooMany => "TooMany",
        }
    }
}

/// An answer that must not be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Rejection {
    /// For programs.
    pub code: RejectionCode,
    /// For people: names the unit, the place and the numbers.
    pub message: String,
}

impl Rejection {
    pub(crate) fn new(code: RejectionCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// A checked decision in the words of Kubernetes objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Node labels that every pod of the unit must select.
    pub selector: BTreeMap<String, String>,
    /// Label key of the domain to hold; empty for a unit that holds none itself.
    pub level: String,
    /// Label value of the domain to hold.
    pub domain: String,
    /// No other group may enter the domain.
    pub exclusive: bool,
    /// What its pods get one by one.
    pub instructions: Instructions,
    /// The subgroups that have a domain each; the leader is in the one whose domain it shares, if it does.
    pub subgroups: Vec<Seat>,
    /// Where a leader that is in no subgroup goes.
    pub leader: Option<LeaderPlace>,
}

/// The place of a leader that is in no subgroup, in the words of Kubernetes objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderPlace {
    /// Node label that it must select.
    pub selector: (String, String),
    /// The node that it is bound to go to, unless it shares a domain with a subgroup.
    pub node: Option<String>,
}

/// A subgroup's domain in the words of Kubernetes objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// The subgroup's index in its group.
    pub index: u32,
    /// Label key of the domain.
    pub level: String,
    /// Label value of the domain.
    pub domain: String,
    /// The subgroup's pods.
    pub pods: Vec<Demand>,
}

impl Assignment {
    /// The domains of its subgroups, if they have any.
    pub fn subgroup_domains(&self) -> Option<SubgroupDomains> {
        let level = self.subgroups.first()?.level.clone();
        let domains = self.subgroups.iter().map(|seat| (seat.index, seat.domain.clone())).collect();
        Some(SubgroupDomains { level, domains })
    }

    /// The holding that keeps this assignment's room until the pods are bound. `pods` are the unit's, with ids of `view`.
    pub fn holding(&self, group: GroupId, set: &str, view: &View, pods: &[Demand]) -> Holding {
        let shape = |demand: &Demand| view.shapes.get(demand.shape.0 as usize).cloned();
        let count = |pods: &[Demand]| -> Vec<(Shape, u32)> {
            pods.iter().filter_map(|demand| Some((shape(demand)?, demand.pods))).collect()
        };
        let mut counted = count(&without(pods, self.subgroups.iter().flat_map(|seat| &seat.pods)));
        let parts = self.parts(pods, count);
        if !parts.is_empty() {
            counted.clear();
        }
        let pin = self.leader.as_ref().and_then(|leader| leader.node.clone());
        // What is not in a subgroup is the leader.
        let pin = pin.and_then(|node| Some((node, counted.pop()?.0)));
        let subgroups = self.subgroups.iter().map(|seat| SubgroupHolding {
            index: seat.index,
            level: seat.level.clone(),
            domain: seat.domain.clone(),
            outstanding: count(&seat.pods),
            alone: true,
        });
        let subgroups: Vec<_> = subgroups.chain(parts).collect();
        let divided = view.divided || !self.subgroups.is_empty();
        let pins = &self.instructions.pins;
        let (outstanding, pinned) = if pins.is_empty() {
            (counted, pin.into_iter().collect())
        } else {
            let each = counted.into_iter().flat_map(|(shape, pods)| (0..pods).map(move |_| shape.clone()));
            (Vec::new(), pins.iter().cloned().zip(each).collect())
        };
        let (level, domain, exclusive) = (self.level.clone(), self.domain.clone(), self.exclusive);
        Holding { group, set: set.to_owned(), level, domain, exclusive, divided, outstanding, pinned, subgroups }
    }

    /// What each part holds.
    fn parts(&self, pods: &[Demand], count: impl Fn(&[Demand]) -> Vec<(Shape, u32)>) -> Vec<SubgroupHolding> {
        let unit = Unit { pods: pods.to_vec(), ..Unit::default() };
        let mut start = 0;
        let each = (0..).zip(&self.instructions.parts).map(|(index, part)| {
            let ranks = start..start + part.pods;
            start = ranks.end;
            let (level, domain) = (part.key.clone(), part.value.clone());
            SubgroupHolding { index, level, domain, outstanding: count(&unit.ranks(ranks)), alone: false }
        });
        each.collect()
    }
}

/// A checked answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    /// Carry this out.
    Assigned(Assignment),
    /// The scheduler decides, with what its pods get all the same.
    Unconstrained(Instructions),
    /// Ask again later.
    Hold {
        /// Milliseconds until the next question.
        retry_ms: u32,
    },
    /// Not until the set or the settings change.
    Refused,
}

/// Checks the answers to one request against one snapshot.
#[derive(Debug)]
pub struct Checker<'a> {
    snapshot: &'a Snapshot,
    request: &'a Request,
    answered: BTreeSet<u32>,
    /// What accepted answers take.
    claims: Claims,
    /// Exclusive domains that accepted answers took, and for which unit.
    taken: BTreeMap<DomainId, u32>,
    /// Domains that subgroups of accepted answers took.
    seated: BTreeMap<DomainId, SubgroupId>,
}

/// Whether a node has the label.
fn has(snapshot: &Snapshot, row: u32, (key, value): &(String, String)) -> bool {
    snapshot.node_label(NodeId(row), key) == Some(value.as_str())
}

impl<'a> Checker<'a> {
    /// A checker that has seen no answer yet.
    pub fn new(snapshot: &'a Snapshot, request: &'a Request) -> Self {
        let (claims, taken, seated) = (Claims::new(), BTreeMap::new(), BTreeMap::new());
        Self { snapshot, request, answered: BTreeSet::new(), claims, taken, seated }
    }

    /// Checks the next answer. A rejected answer leaves its unit open for another.
    pub fn apply(&mut self, answer: &Answer) -> Result<Checked, Rejection> {
        let request = self.request;
        let unit = request.units.iter().find(|unit| unit.id == answer.unit);
        let unit = unit.ok_or_else(|| {
            let message = format!("unit {} is not one of the {} units of {}", answer.unit, request.units.len(), request.owner);
            Rejection::new(RejectionCode::UnknownUnit, message)
        })?;
        if self.answered.contains(&unit.id) {
            return Err(Rejection::new(RejectionCode::AnsweredTwice, format!("unit {} was answered before", unit.id)));
        }
        let extras = Extras::of(self.snapshot, unit, answer)?;
        let checked = match &answer.decision {
            Decision::Within(places) => self.within_one(unit, places, &extras).map(Checked::Assigned)?,
            Decision::Preferred(places) => self.preferred(unit, places, extras)?,
            Decision::Parts(parts) => self.parts(unit, parts, extras).map(Checked::Assigned)?,
            Decision::Pinned(nodes) => self.pinned(unit, nodes, extras).map(Checked::Assigned)?,
            Decision::Apart(domains) => self.apart(unit, Some(domains), extras).map(Checked::Assigned)?,
            Decision::Unconstrained => self.unconstrained(unit, extras)?,
            Decision::Hold { retry_ms } => Checked::Hold { retry_ms: *retry_ms },
            Decision::Refuse => Checked::Refused,
        };
        self.answered.insert(unit.id);
        Ok(checked)
    }

    fn unconstrained(&mut self, unit: &Unit, extras: Extras) -> Result<Checked, Rejection> {
        match self.request.exclusive {
            Some(level) => Err(self.too_wide(unit, level, "the scheduler's choice")),
            None if unit.subgroups.is_empty() && self.snapshot.view().inside.is_empty() => {
                Ok(Checked::Unconstrained(extras.instructions))
            }
            None if unit.subgroups.is_empty() => self.anywhere_inside(unit, extras).map(Checked::Assigned),
            None => self.apart(unit, None, extras).map(Checked::Assigned),
        }
    }

    /// The labels that every pod has to select because an earlier decision has narrowed the nodes to them.
    fn inside(&self) -> BTreeMap<String, String> {
        self.snapshot.view().inside.iter().cloned().collect()
    }

    /// The domain that is the unit's: the one that was answered, or the narrower one that its pods have to be in as well, so that the
    /// ledger keeps room where they will be.
    fn nearest(&self, place: Place) -> (String, String) {
        let (snapshot, rows) = (self.snapshot, self.snapshot.rows(place));
        // Nodes are counted only for an answer that leads outside, which is rare.
        if rows.iter().all(|row| snapshot.view().inside.iter().all(|label| has(snapshot, *row, label))) {
            return self.named(place);
        }
        match self.narrowest() {
            Some((nodes, inside)) if nodes < rows.len() => inside.clone(),
            _ => self.named(place),
        }
    }

    /// The narrowest of the domains that earlier decisions have narrowed the choice to, with the number of its nodes. The last of equals.
    fn narrowest(&self) -> Option<(usize, &'a (String, String))> {
        let snapshot = self.snapshot;
        let nodes = |label: &(String, String)| (0..snapshot.node_count()).filter(|row| has(snapshot, *row, label)).count();
        snapshot.view().inside.iter().rev().map(|label| (nodes(label), label)).min_by_key(|(nodes, _)| *nodes)
    }

    /// All pods on nodes that an earlier decision has narrowed the choice to.
    fn anywhere_inside(&mut self, unit: &Unit, extras: Extras) -> Result<Assignment, Rejection> {
        let (level, domain) = match self.snapshot.view().inside.as_slice() {
            [only] => only.clone(),
            _ => self.narrowest().map(|(_, label)| label.clone()).unwrap_or_default(),
        };
        let rows: Vec<u32> = (0..self.snapshot.node_count()).filter(|row| extras.allows(self.snapshot, *row)).collect();
        let packing = self.snapshot.with_room(|room| room.pack(&rows, &unit.pods, &self.claims));
        if !packing.is_complete() {
            let (placed, wanted) = (packing.placed, packing.wanted);
            let message = format!("unit {}: {level}={domain} has room for {placed} of {wanted} pods", unit.id);
            return Err(Rejection::new(RejectionCode::NotEnoughRoom, message));
        }
        self.take(unit, &packing, None);
        let (selector, instructions) = (self.inside(), extras.instructions);
        Ok(Assignment { selector, level, domain, exclusive: false, instructions, subgroups: Vec::new(), leader: None })
    }

    fn preferred(&mut self, unit: &Unit, places: &[Place], mut extras: Extras) -> Result<Checked, Rejection> {
        if places.len() > MAX_PREFERRED {
            return Err(too_many(unit, "preferred domains", places.len(), MAX_PREFERRED));
        }
        for place in places {
            self.known(unit, *place)?;
            extras.instructions.preferred.push(self.named(*place));
        }
        self.unconstrained(unit, extras)
    }

    /// The first of these domains that is good; if none is, why the first is not.
    fn within_one(&mut self, unit: &Unit, places: &[Place], extras: &Extras) -> Result<Assignment, Rejection> {
        let mut first = None;
        for place in places.iter().take(MAX_CANDIDATES) {
            match self.within(unit, *place, extras.clone()) {
                Ok(assignment) => return Ok(assignment),
                Err(rejection) => drop(first.get_or_insert(rejection)),
            }
        }
        let mut rejection = first.unwrap_or_else(|| {
            Rejection::new(RejectionCode::UnknownPlace, format!("unit {}: the answer names no domain to be within", unit.id))
        });
        if places.len() > 1 {
            rejection.message = format!("{}; none of {} domains is good", rejection.message, places.len());
        }
        Err(rejection)
    }

    fn known(&self, unit: &Unit, place: Place) -> Result<&'a str, Rejection> {
        let snapshot = self.snapshot;
        snapshot.domain_name(place.level, place.domain).filter(|_| snapshot.knows(place, &unit.pods)).ok_or_else(|| {
            let message = format!("unit {}: there is no domain {} of level {}", unit.id, place.domain.0, place.level.0);
            Rejection::new(RejectionCode::UnknownPlace, message)
        })
    }

    /// Nodes of the domain that give room to the unit: not those that another group has for itself, even where the answered domain
    /// is wider than theirs, and not those that the answer leaves out.
    fn open(&self, unit: &Unit, place: Place, extras: &Extras) -> Result<Vec<u32>, Rejection> {
        let rows = self.snapshot.rows(place).iter().copied();
        let open: Vec<u32> = rows.filter(|row| !self.snapshot.is_kept(*row)).collect();
        if open.is_empty() {
            let (key, name) = self.named(place);
            let by = self.snapshot.kept_by(place).unwrap_or("another group");
            return Err(self.held(unit, &format!("{key}={name}"), by));
        }
        Ok(open.into_iter().filter(|row| extras.allows(self.snapshot, *row)).collect())
    }

    fn within(&mut self, unit: &Unit, place: Place, extras: Extras) -> Result<Assignment, Rejection> {
        let name = self.known(unit, place)?;
        let key = self.key(place.level);
        let home = self.home(unit, self.snapshot.rows(place), &format!("{key}={name}"))?;
        let open = self.open(unit, place, &extras)?;
        let packing = self.snapshot.with_room(|room| room.pack(&open, &unit.pods, &self.claims));
        if !packing.is_complete() {
            let (placed, wanted) = (packing.placed, packing.wanted);
            let message = format!("unit {}: {key}={name} has room for {placed} of {wanted} pods", unit.id);
            return Err(Rejection::new(RejectionCode::NotEnoughRoom, message));
        }
        let seats = match self.request.subgroup_exclusive.filter(|_| !unit.subgroups.is_empty()) {
            None => None,
            Some(level) => {
                let found = self.seating(level).find(unit, Some(&open));
                Some(found.map_err(|shortage| self.too_few(unit, level, &shortage, &format!("{key}={name}")))?)
            }
        };
        self.take(unit, seats.as_ref().map_or(&packing, |seats| &seats.packing), home);
        let (subgroups, leader) = seats.map(|seats| self.seat(unit, &seats)).unwrap_or_default();
        let mut selector = self.inside();
        selector.insert(key.to_owned(), name.to_owned());
        let (level, domain) = match home {
            Some(home) => self.named(home),
            None => self.nearest(place),
        };
        selector.insert(level.clone(), domain.clone());
        let instructions = extras.instructions;
        Ok(Assignment { selector, level, domain, exclusive: home.is_some(), instructions, subgroups, leader })
    }

    /// Subgroups in domains of their own, wherever in the cluster: in these, or in any.
    fn apart(&mut self, unit: &Unit, domains: Option<&[DomainId]>, extras: Extras) -> Result<Assignment, Rejection> {
        let (Some(level), None) = (self.request.subgroup_exclusive, self.request.exclusive) else {
            let message = format!("unit {}: its subgroups are not to be spread over the cluster", unit.id);
            return Err(Rejection::new(RejectionCode::NotExclusive, message));
        };
        let found = match domains {
            None => self.seating(level).find(unit, extras.rows(self.snapshot).as_deref()),
            Some(domains) if domains.len() == unit.subgroups.len() => self.seating(level).check(unit, domains),
            Some(domains) => {
                let (named, wanted) = (domains.len(), unit.subgroups.len());
                let message = format!("unit {}: {named} domains for {wanted} subgroups; name one domain per subgroup", unit.id);
                return Err(Rejection::new(RejectionCode::UnknownPlace, message));
            }
        };
        let seats = found.map_err(|shortage| self.too_few(unit, level, &shortage, "the cluster"))?;
        self.take(unit, &seats.packing, None);
        let (subgroups, leader) = self.seat(unit, &seats);
        let (level, domain) = Default::default();
        let selector = self.inside();
        let instructions = extras.instructions;
        Ok(Assignment { selector, level, domain, exclusive: false, instructions, subgroups, leader })
    }

    fn seating(&self, level: LevelId) -> Seating<'_> {
        Seating { snapshot: self.snapshot, level, claims: &self.claims, taken: &self.seated }
    }

    /// Takes the subgroups' domains, and names them and the leader's place.
    fn seat(&mut self, unit: &Unit, seats: &Seats) -> (Vec<Seat>, Option<LeaderPlace>) {
        let Some(level) = self.request.subgroup_exclusive else { return Default::default() };
        self.seated.extend(seats.domains.iter().copied().zip(unit.subgroups.iter().map(|subgroup| subgroup.id.clone())));
        let seat = |(position, (subgroup, domain)): (usize, (&Subgroup, &DomainId))| {
            let (level, domain) = self.named(Place { level, domain: *domain });
            let leader = if seats.leader == Some(LeaderSeat::Beside(position)) { unit.rest() } else { Vec::new() };
            let pods = subgroup.pods.iter().copied().chain(leader).collect();
            Seat { index: subgroup.id.index, level, domain, pods }
        };
        let each: Vec<Seat> = unit.subgroups.iter().zip(&seats.domains).enumerate().map(seat).collect();
        let leader = seats.leader.and_then(|leader| match leader {
            LeaderSeat::Beside(position) => {
                let beside = each.get(position)?;
                Some(LeaderPlace { selector: (beside.level.clone(), beside.domain.clone()), node: None })
            }
            LeaderSeat::On(row) => {
                let node = NodeId(row);
                let value = self.snapshot.node_label(node, HOSTNAME)?.to_owned();
                Some(LeaderPlace {
                    selector: (HOSTNAME.to_owned(), value),
                    node: self.snapshot.node_name(node).map(str::to_owned),
                })
            }
        });
        (each, leader)
    }

    /// Counts a pod that is bound to a node already.
    pub(crate) fn occupy(&mut self, node: NodeId, pod: Demand) {
        let claims = &mut self.claims;
        self.snapshot.with_room(|room| room.claim(node.0, pod.shape.0 as usize, pod.pods, claims));
    }

    fn too_few(&self, unit: &Unit, level: LevelId, shortage: &Shortage, place: &str) -> Rejection {
        let message = format!("unit {}: {place} has {}", unit.id, shortage.in_words(self.key(level)));
        Rejection::new(RejectionCode::NotEnoughRoom, message)
    }

    fn parts(&mut self, unit: &Unit, parts: &[Part], mut extras: Extras) -> Result<Assignment, Rejection> {
        Self::undivided(unit, "split it by rank")?;
        let counted = parts.iter().fold(0_u32, |sum, part| sum.saturating_add(part.pods));
        if counted != unit.size() || parts.iter().any(|part| part.pods == 0) {
            let (count, size) = (parts.len(), unit.size());
            let message = format!("unit {}: {count} parts of {counted} pods for {size}; every pod is in one part", unit.id);
            return Err(Rejection::new(RejectionCode::WrongParts, message));
        }
        let (mut claims, mut takes, mut rows, mut start) = (self.claims.clone(), Vec::new(), Vec::new(), 0);
        for part in parts {
            self.known(unit, part.place)?;
            let open = self.open(unit, part.place, &extras)?;
            let ranks = start..start + part.pods;
            start = ranks.end;
            let packing = self.snapshot.with_room(|room| {
                let packing = room.pack(&open, &unit.ranks(ranks.clone()), &claims);
                room.commit(&packing, &mut claims);
                packing
            });
            let (key, value) = self.named(part.place);
            if !packing.is_complete() {
                let (placed, wanted, first, last) = (packing.placed, packing.wanted, ranks.start, ranks.end - 1);
                let message =
                    format!("unit {}: {key}={value} has room for {placed} of {wanted} pods, ranks {first} to {last}", unit.id);
                return Err(Rejection::new(RejectionCode::NotEnoughRoom, message));
            }
            takes.extend(packing.takes);
            rows.extend_from_slice(self.snapshot.rows(part.place));
            extras.instructions.parts.push(PartDomain { pods: part.pods, key, value });
        }
        let home = self.home(unit, &rows, "the place of all parts")?;
        self.take(unit, &Packing { takes, ..Packing::default() }, home);
        Ok(self.assignment(home, extras))
    }

    /// Whether a policy may look inside the unit: not where the core finds its subgroups their domains.
    fn undivided(unit: &Unit, what: &str) -> Result<(), Rejection> {
        if unit.subgroups.is_empty() {
            return Ok(());
        }
        let message = format!("unit {}: its subgroups are placed by domain, so the answer can't {what}", unit.id);
        Err(Rejection::new(RejectionCode::NotExclusive, message))
    }

    /// An assignment that binds all pods to no more than an exclusive domain, if there is one.
    fn assignment(&self, home: Option<Place>, extras: Extras) -> Assignment {
        let (level, domain) = home.map_or_else(Default::default, |home| self.named(home));
        let mut selector = self.inside();
        selector.extend(home.map(|_| (level.clone(), domain.clone())));
        let (exclusive, instructions) = (home.is_some(), extras.instructions);
        Assignment { selector, level, domain, exclusive, instructions, subgroups: Vec::new(), leader: None }
    }

    fn pinned(&mut self, unit: &Unit, nodes: &[NodeId], mut extras: Extras) -> Result<Assignment, Rejection> {
        Self::undivided(unit, "name nodes")?;
        let snapshot = self.snapshot;
        let each: Vec<usize> = unit.pods.iter().flat_map(|demand| (0..demand.pods).map(|_| demand.shape.0 as usize)).collect();
        if each.len() != nodes.len() || each.iter().any(|shape| *shape >= snapshot.view().shapes.len()) {
            let message = format!("unit {}: {} nodes for {} pods; name one node per pod", unit.id, nodes.len(), each.len());
            return Err(Rejection::new(RejectionCode::WrongPinCount, message));
        }
        let mut names = Vec::with_capacity(nodes.len());
        for node in nodes {
            let name = snapshot.node_name(*node).ok_or_else(|| {
                Rejection::new(RejectionCode::UnknownNode, format!("unit {}: there is no node {}", unit.id, node.0))
            })?;
            if let Some(by) = snapshot.exclusive_holder(node.0) {
                return Err(self.held(unit, &format!("node {name}"), by));
            }
            if !extras.allows(snapshot, node.0) {
                let message = format!("unit {}: the answer pins a pod to node {name} and rules it out", unit.id);
                return Err(Rejection::new(RejectionCode::NotEnoughRoom, message));
            }
            names.push(name.to_owned());
        }
        let rows: Vec<u32> = nodes.iter().map(|node| node.0).collect();
        let home = self.home(unit, &rows, "the pinned nodes")?;
        let packing = self.pack_pins(unit, &rows, &each)?;
        self.take(unit, &packing, home);
        extras.instructions.pins = names;
        Ok(self.assignment(home, extras))
    }

    fn pack_pins(&self, unit: &Unit, rows: &[u32], each: &[usize]) -> Result<Packing, Rejection> {
        let mut claims = self.claims.clone();
        self.snapshot.with_room(|room| {
            for (row, shape) in rows.iter().zip(each) {
                if room.slots(*row, *shape, &claims) == 0 {
                    let name = self.snapshot.node_name(NodeId(*row)).unwrap_or_default();
                    let message = format!("unit {}: node {name} has no room for the pods pinned to it", unit.id);
                    return Err(Rejection::new(RejectionCode::NotEnoughRoom, message));
                }
                room.claim(*row, *shape, 1, &mut claims);
            }
            let takes = rows.iter().zip(each).map(|(row, shape)| (*row, *shape, 1)).collect();
            Ok(Packing { takes, ..Packing::default() })
        })
    }

    /// The free domain that an exclusive unit has for itself; `None` if the set doesn't ask for one.
    fn home(&self, unit: &Unit, rows: &[u32], answered: &str) -> Result<Option<Place>, Rejection> {
        let Some(level) = self.request.exclusive else { return Ok(None) };
        let domain = self.snapshot.around(level, rows).ok_or_else(|| self.too_wide(unit, level, answered))?;
        let place = Place { level, domain };
        let (key, name) = self.named(place);
        if let Some(other) = self.taken.get(&domain) {
            return Err(self.held(unit, &format!("{key}={name}"), &format!("unit {other} of {}", self.request.owner)));
        }
        match self.snapshot.holder(place) {
            Some(by) => Err(self.held(unit, &format!("{key}={name}"), by)),
            None => Ok(Some(place)),
        }
    }

    fn take(&mut self, unit: &Unit, packing: &Packing, home: Option<Place>) {
        let claims = &mut self.claims;
        self.snapshot.with_room(|room| room.commit(packing, claims));
        if let Some(home) = home {
            self.taken.insert(home.domain, unit.id);
        }
    }

    fn key(&self, level: LevelId) -> &'a str {
        self.snapshot.levels().get(level.0 as usize).map_or("", String::as_str)
    }

    fn named(&self, place: Place) -> (String, String) {
        let name = self.snapshot.domain_name(place.level, place.domain).unwrap_or_default();
        (self.key(place.level).to_owned(), name.to_owned())
    }

    fn held(&self, unit: &Unit, place: &str, by: &str) -> Rejection {
        Rejection::new(RejectionCode::DomainHeld, format!("unit {}: {place} is held by {by}", unit.id))
    }

    fn too_wide(&self, unit: &Unit, level: LevelId, answered: &str) -> Rejection {
        let key = self.key(level);
        let message =
            format!("unit {}: {} asks for a {key} of its own and {answered} is not inside one", unit.id, self.request.owner);
        Rejection::new(RejectionCode::NotExclusive, message)
    }
}

fn too_many(unit: &Unit, what: &str, count: usize, most: usize) -> Rejection {
    Rejection::new(RejectionCode::TooMany, format!("unit {}: {count} {what}, and at most {most} are possible", unit.id))
}
