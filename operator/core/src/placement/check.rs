//! Checks a policy's answers: a wrong policy can be unhelpful, never harmful.
//!
//! Answers are applied in order, each on top of the ones before it. What passes becomes an [`Assignment`]; what doesn't becomes
//! a [`Rejection`] and changes nothing. The frozen snapshot may be out of date by then, so the index checks again when the
//! assignment is committed ([`Index::commit`](crate::cluster::Index::commit)).

use std::collections::{BTreeMap, BTreeSet};

use super::{Answer, Decision, Demand, DomainId, LevelId, NodeId, Place, Request, Subgroup, Unit, without};
use crate::cluster::{
    Claims, GroupId, Holding, LeaderSeat, Packing, Seating, Seats, Shape, Shortage, Snapshot, SubgroupHolding, SubgroupId, View,
};
use crate::subgroups::SubgroupDomains;

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
    /// Node names, one per pod in the order of the unit's pods.
    pub pins: Option<Vec<String>>,
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
        let pin = self.leader.as_ref().and_then(|leader| leader.node.clone());
        // What is not in a subgroup is the leader.
        let pin = pin.and_then(|node| Some((node, counted.pop()?.0)));
        let subgroups = self.subgroups.iter().map(|seat| SubgroupHolding {
            index: seat.index,
            level: seat.level.clone(),
            domain: seat.domain.clone(),
            outstanding: count(&seat.pods),
        });
        let subgroups: Vec<_> = subgroups.collect();
        let divided = view.divided || !subgroups.is_empty();
        let (outstanding, pinned) = match &self.pins {
            None => (counted, pin.into_iter().collect()),
            Some(pins) => {
                let each = counted.into_iter().flat_map(|(shape, pods)| (0..pods).map(move |_| shape.clone()));
                (Vec::new(), pins.iter().cloned().zip(each).collect())
            }
        };
        let (level, domain, exclusive) = (self.level.clone(), self.domain.clone(), self.exclusive);
        Holding { group, set: set.to_owned(), level, domain, exclusive, divided, outstanding, pinned, subgroups }
    }
}

/// A checked answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    /// Carry this out.
    Assigned(Assignment),
    /// The scheduler decides.
    Unconstrained,
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
        let checked = match &answer.decision {
            Decision::Within(place) => self.within(unit, *place).map(Checked::Assigned)?,
            Decision::Pinned(nodes) => self.pinned(unit, nodes).map(Checked::Assigned)?,
            Decision::Apart(domains) => self.apart(unit, Some(domains)).map(Checked::Assigned)?,
            Decision::Unconstrained => match request.exclusive {
                Some(level) => return Err(self.too_wide(unit, level, "the scheduler's choice")),
                None if unit.subgroups.is_empty() => Checked::Unconstrained,
                None => self.apart(unit, None).map(Checked::Assigned)?,
            },
            Decision::Hold { retry_ms } => Checked::Hold { retry_ms: *retry_ms },
            Decision::Refuse => Checked::Refused,
        };
        self.answered.insert(unit.id);
        Ok(checked)
    }

    fn within(&mut self, unit: &Unit, place: Place) -> Result<Assignment, Rejection> {
        let snapshot = self.snapshot;
        let Some(name) = snapshot.domain_name(place.level, place.domain).filter(|_| snapshot.knows(place, &unit.pods)) else {
            let message = format!("unit {}: there is no domain {} of level {}", unit.id, place.domain.0, place.level.0);
            return Err(Rejection::new(RejectionCode::UnknownPlace, message));
        };
        let key = self.key(place.level);
        let rows = snapshot.rows(place);
        let home = self.home(unit, rows, &format!("{key}={name}"))?;
        // Nodes that another group has for itself give no room, even where the answered domain is wider than theirs.
        let open: Vec<u32> = rows.iter().copied().filter(|row| snapshot.exclusive_holder(*row).is_none()).collect();
        if open.is_empty() {
            let by = snapshot.kept_by(place).unwrap_or("another group");
            return Err(self.held(unit, &format!("{key}={name}"), by));
        }
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
        let mut selector = BTreeMap::from([(key.to_owned(), name.to_owned())]);
        let (level, domain) = match home {
            Some(home) => self.named(home),
            None => (key.to_owned(), name.to_owned()),
        };
        selector.insert(level.clone(), domain.clone());
        Ok(Assignment { selector, level, domain, exclusive: home.is_some(), pins: None, subgroups, leader })
    }

    /// Subgroups in domains of their own, wherever in the cluster: in these, or in any.
    fn apart(&mut self, unit: &Unit, domains: Option<&[DomainId]>) -> Result<Assignment, Rejection> {
        let (Some(level), None) = (self.request.subgroup_exclusive, self.request.exclusive) else {
            let message = format!("unit {}: its subgroups are not to be spread over the cluster", unit.id);
            return Err(Rejection::new(RejectionCode::NotExclusive, message));
        };
        let found = match domains {
            None => self.seating(level).find(unit, None),
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
        let (selector, level, domain) = Default::default();
        Ok(Assignment { selector, level, domain, exclusive: false, pins: None, subgroups, leader })
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

    fn pinned(&mut self, unit: &Unit, nodes: &[NodeId]) -> Result<Assignment, Rejection> {
        if !unit.subgroups.is_empty() {
            let message = format!("unit {}: its subgroups are placed by domain, so the answer can't name nodes", unit.id);
            return Err(Rejection::new(RejectionCode::NotExclusive, message));
        }
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
            names.push(name.to_owned());
        }
        let rows: Vec<u32> = nodes.iter().map(|node| node.0).collect();
        let home = self.home(unit, &rows, "the pinned nodes")?;
        let packing = self.pack_pins(unit, &rows, &each)?;
        self.take(unit, &packing, home);
        let (level, domain) = home.map_or_else(Default::default, |home| self.named(home));
        let selector = home.map(|_| (level.clone(), domain.clone())).into_iter().collect();
        Ok(Assignment {
            selector,
            level,
            domain,
            exclusive: home.is_some(),
            pins: Some(names),
            subgroups: Vec::new(),
            leader: None,
        })
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
