//! A domain for each subgroup of a group, no two of them in one.
//!
//! Which domains a subgroup fits does not depend on where the others go, because domains of one level have no node in common. So
//! finding a domain for each is a matching of subgroups to domains, made as large as it can be by letting subgroups change their
//! domain when another has no other choice. That is exact; only what [`Room::pack`] misses is missed.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::ledger::SubgroupId;
use super::packing::{Claims, Packing, Room};
use super::rows::count;
use super::snapshot::Snapshot;
use crate::placement::{Demand, DomainId, LevelId, Place, Subgroup, Unit};

/// Finds domains for subgroups on top of what is taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seating<'a> {
    pub(crate) snapshot: &'a Snapshot,
    /// The level whose domains subgroups don't share.
    pub(crate) level: LevelId,
    /// What is taken on top of the snapshot.
    pub(crate) claims: &'a Claims,
    /// Domains that subgroups of other units of the request have.
    pub(crate) taken: &'a BTreeMap<DomainId, SubgroupId>,
}

/// Where the pods of one unit go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seats {
    /// In the order of the unit's subgroups.
    pub(crate) domains: Vec<DomainId>,
    /// Where the leader goes if it is in no subgroup.
    pub(crate) leader: Option<LeaderSeat>,
    pub(crate) packing: Packing,
}

/// The place of a leader that is in no subgroup. It has to have one, or the scheduler might give it room that a subgroup needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaderSeat {
    /// In the domain of the subgroup at this position.
    Beside(usize),
    /// On a node outside of those domains.
    On(u32),
}

/// What is missing for a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shortage {
    /// A subgroup finds no domain.
    Subgroup {
        /// Its position in the unit.
        position: usize,
        /// How many found one.
        found: u32,
        /// How many there are.
        wanted: u32,
    },
    /// All subgroups find one, and then the leader, which is in none of them, finds no node.
    Leader,
}

impl Shortage {
    /// For example `room for 1 of 2 subgroups, each in a rack of its own`.
    pub(crate) fn in_words(&self, level: &str) -> String {
        match self {
            Self::Subgroup { found, wanted, .. } => {
                format!("room for {found} of {wanted} subgroups, each in a {level} of its own")
            }
            Self::Leader => "no room for the leader beside its subgroups".to_owned(),
        }
    }
}

/// Nodes that a unit may use; `None` for all.
pub(crate) type Inside<'r> = Option<&'r [u32]>;

/// Pods without a subgroup that are to fit into one domain together with whatever subgroup gets it.
type Beside<'d> = Option<(DomainId, &'d [Demand])>;

impl Seating<'_> {
    /// A domain for each subgroup, and room for the pods that are in none.
    pub(crate) fn find(&self, unit: &Unit, inside: Inside<'_>) -> Result<Seats, Shortage> {
        let rest = unit.rest();
        let domains = self.matched(unit, inside, None)?;
        if let Some(seats) = self.pack(unit, &domains, inside, &rest) {
            return Ok(seats);
        }
        // The leader is in the way of a subgroup, or a subgroup in its way: each domain is tried for it.
        let candidates = self.candidates(inside);
        let tried = candidates.into_iter().find_map(|domain| {
            self.fitting(&rest, &self.rows(domain, inside))?;
            let domains = self.matched(unit, inside, Some((domain, &rest))).ok()?;
            self.pack_beside(unit, &domains, inside, (domain, &rest))
        });
        tried.ok_or(Shortage::Leader)
    }

    /// What an answer that names the domains takes, in the order of the unit's subgroups; or what is wrong with it.
    pub(crate) fn check(&self, unit: &Unit, domains: &[DomainId]) -> Result<Seats, Shortage> {
        let wanted = count(unit.subgroups.len());
        for (position, (subgroup, domain)) in unit.subgroups.iter().zip(domains).enumerate() {
            let twice = domains.iter().take(position).any(|other| other == domain);
            let fits = || self.fitting(&subgroup.pods, &self.rows(*domain, None)).is_some();
            if twice || !self.is_open(subgroup, *domain) || !fits() {
                return Err(Shortage::Subgroup { position, found: count(position), wanted });
            }
        }
        self.pack(unit, domains, None, &unit.rest()).ok_or(Shortage::Leader)
    }

    /// Domains for all units that have any, in their order: a unit that finds none waits, and does not keep the next from trying.
    pub(crate) fn find_all(&self, units: &[Unit]) -> Vec<Result<Vec<DomainId>, Shortage>> {
        if units.iter().any(|unit| !unit.rest().is_empty()) {
            return self.find_in_turn(units);
        }
        let mut fits = HashMap::new();
        let mut matching = Matching::default();
        let mut hopeless: Vec<(Vec<Vec<DomainId>>, Shortage)> = Vec::new();
        let mut outcomes: Vec<Result<std::ops::Range<usize>, Shortage>> = Vec::new();
        for unit in units {
            let offers: Vec<_> = unit.subgroups.iter().map(|subgroup| self.offers(subgroup, None, None, &mut fits)).collect();
            // Seats only become fewer: what one unit did not find, the next like it does not find either.
            if let Some((_, shortage)) = hopeless.iter().find(|(known, _)| *known == offers) {
                outcomes.push(Err(shortage.clone()));
                continue;
            }
            let before = matching.clone();
            let first = matching.len();
            let added = offers.iter().enumerate().try_for_each(|(position, offers)| {
                let (found, wanted) = (count(position), count(unit.subgroups.len()));
                if matching.add(offers.clone()) { Ok(()) } else { Err(Shortage::Subgroup { position, found, wanted }) }
            });
            if let Err(shortage) = &added {
                matching = before;
                hopeless.push((offers, shortage.clone()));
            }
            outcomes.push(added.map(|()| first..first + unit.subgroups.len()));
        }
        outcomes.into_iter().map(|found| found.map(|range| matching.seats[range].to_vec())).collect()
    }

    /// Pods without a subgroup take room of domains that others may need, so each unit is placed on top of those before it.
    fn find_in_turn(&self, units: &[Unit]) -> Vec<Result<Vec<DomainId>, Shortage>> {
        let (mut claims, mut taken) = (self.claims.clone(), self.taken.clone());
        let each = units.iter().map(|unit| {
            let seats = Seating { claims: &claims, taken: &taken, ..*self }.find(unit, None)?;
            self.snapshot.with_room(|room| room.commit(&seats.packing, &mut claims));
            taken.extend(seats.domains.iter().copied().zip(unit.subgroups.iter().map(|subgroup| subgroup.id.clone())));
            Ok(seats.domains)
        });
        each.collect()
    }

    /// A domain for each subgroup, whatever becomes of the pods that are in none.
    fn matched(&self, unit: &Unit, inside: Inside<'_>, beside: Beside<'_>) -> Result<Vec<DomainId>, Shortage> {
        let (mut fits, mut matching) = (HashMap::new(), Matching::default());
        let wanted = count(unit.subgroups.len());
        for (position, subgroup) in unit.subgroups.iter().enumerate() {
            if !matching.add(self.offers(subgroup, inside, beside, &mut fits)) {
                return Err(Shortage::Subgroup { position, found: count(position), wanted });
            }
        }
        Ok(matching.seats)
    }

    /// Domains that the subgroup may have and fits, tightest first, ties by name. `fits` remembers them by demand.
    fn offers<'u>(
        &self,
        subgroup: &'u Subgroup,
        inside: Inside<'_>,
        beside: Beside<'_>,
        fits: &mut HashMap<&'u [Demand], Arc<[DomainId]>>,
    ) -> Vec<DomainId> {
        let fitting = fits.entry(&subgroup.pods).or_insert_with(|| {
            let fitting = self.candidates(inside).into_iter().filter_map(|domain| {
                let with = beside.filter(|(place, _)| *place == domain).map_or(&[][..], |(_, pods)| pods);
                let pods: Vec<Demand> = subgroup.pods.iter().chain(with).copied().collect();
                Some((self.fitting(&pods, &self.rows(domain, inside))?.leftover, domain))
            });
            let mut fitting: Vec<_> = fitting.collect();
            // Domain ids are in the order of names.
            fitting.sort_unstable();
            fitting.into_iter().map(|(_, domain)| domain).collect()
        });
        fitting.iter().copied().filter(|domain| self.is_open(subgroup, *domain)).collect()
    }

    pub(crate) fn candidates(&self, inside: Inside<'_>) -> BTreeSet<DomainId> {
        let Some(rows) = inside else { return (0..self.snapshot.domain_count(self.level)).map(DomainId).collect() };
        let column = self.snapshot.node_domains(self.level);
        let domains = rows.iter().filter_map(|row| column.get(*row as usize)).map(|domain| DomainId(*domain));
        domains.filter(|domain| *domain != DomainId::NONE).collect()
    }

    fn is_open(&self, subgroup: &Subgroup, domain: DomainId) -> bool {
        let place = Place { level: self.level, domain };
        subgroup.bound.is_none_or(|bound| bound == domain)
            && self.taken.get(&domain).is_none_or(|taken| *taken == subgroup.id)
            && self.snapshot.kept_from(place, &subgroup.id).is_none()
    }

    /// Nodes of the domain that the unit may use: not those that another group has for itself.
    fn rows(&self, domain: DomainId, inside: Inside<'_>) -> Vec<u32> {
        let place = Place { level: self.level, domain };
        let usable = |row: &u32| inside.is_none_or(|inside| inside.binary_search(row).is_ok()) && !self.snapshot.is_kept(*row);
        self.snapshot.rows(place).iter().copied().filter(usable).collect()
    }

    fn fitting(&self, pods: &[Demand], rows: &[u32]) -> Option<Packing> {
        let packing = self.snapshot.with_room(|room| room.pack(rows, pods, self.claims));
        packing.is_complete().then_some(packing)
    }

    /// Packs every subgroup into its domain, and then the rest where it is least in the way: into those domains first.
    fn pack(&self, unit: &Unit, domains: &[DomainId], inside: Inside<'_>, rest: &[Demand]) -> Option<Seats> {
        self.snapshot.with_room(|room| {
            let (mut claims, mut packing) = (self.claims.clone(), Packing::default());
            let (mut own, mut leader) = (Vec::new(), None);
            for (subgroup, domain) in unit.subgroups.iter().zip(domains) {
                let rows = self.rows(*domain, inside);
                take(room, &rows, &subgroup.pods, &mut claims, &mut packing)?;
                own.extend(rows);
            }
            if !rest.is_empty() {
                let known: BTreeSet<u32> = own.iter().copied().collect();
                let all = inside.map_or_else(|| (0..self.snapshot.node_count()).collect(), <[u32]>::to_vec);
                let others = all.into_iter().filter(|row| !known.contains(row) && !self.snapshot.is_kept(*row));
                own.extend(others);
                take(room, &own, rest, &mut claims, &mut packing)?;
                leader = packing.takes.last().map(|(row, _, _)| self.leader_seat(*row, domains));
            }
            Some(Seats { domains: domains.to_vec(), leader, packing })
        })
    }

    /// Packs every subgroup into its domain, and the rest into the one that was kept for it.
    fn pack_beside(&self, unit: &Unit, domains: &[DomainId], inside: Inside<'_>, beside: (DomainId, &[Demand])) -> Option<Seats> {
        self.snapshot.with_room(|room| {
            let (mut claims, mut packing) = (self.claims.clone(), Packing::default());
            let (place, rest) = beside;
            let mut leader = None;
            for (position, (subgroup, domain)) in unit.subgroups.iter().zip(domains).enumerate() {
                let mut pods = subgroup.pods.clone();
                if *domain == place {
                    pods.extend(rest);
                    leader = Some(LeaderSeat::Beside(position));
                }
                take(room, &self.rows(*domain, inside), &pods, &mut claims, &mut packing)?;
            }
            if leader.is_none() {
                take(room, &self.rows(place, inside), rest, &mut claims, &mut packing)?;
                leader = packing.takes.last().map(|(row, _, _)| LeaderSeat::On(*row));
            }
            Some(Seats { domains: domains.to_vec(), leader, packing })
        })
    }

    fn leader_seat(&self, row: u32, domains: &[DomainId]) -> LeaderSeat {
        let domain = self.snapshot.node_domains(self.level).get(row as usize).copied().map(DomainId);
        let beside = domains.iter().position(|own| Some(*own) == domain);
        beside.map_or(LeaderSeat::On(row), LeaderSeat::Beside)
    }
}

/// Packs the pods and adds them to `all`; `None` if they don't fit.
fn take(room: &Room<'_>, rows: &[u32], pods: &[Demand], claims: &mut Claims, all: &mut Packing) -> Option<()> {
    let packing = room.pack(rows, pods, claims);
    packing.is_complete().then_some(())?;
    room.commit(&packing, claims);
    all.takes.extend(packing.takes);
    all.placed += packing.placed;
    all.wanted += packing.wanted;
    Some(())
}

/// Seats for some of the subgroups, each of which has a list of domains that would do.
#[derive(Debug, Clone, Default)]
struct Matching {
    offers: Vec<Arc<[DomainId]>>,
    seats: Vec<DomainId>,
    sits: BTreeMap<DomainId, usize>,
}

impl Matching {
    fn len(&self) -> usize {
        self.seats.len()
    }

    /// Seats one more, moving as few of the others as possible. If that can't be done nothing changes.
    fn add(&mut self, offers: Vec<DomainId>) -> bool {
        let newcomer = self.seats.len();
        self.offers.push(offers.into());
        // Who looks for another seat so that the domain becomes free. Breadth first is the fewest moves.
        let mut looking_for: BTreeMap<DomainId, usize> = BTreeMap::new();
        let mut queue = VecDeque::from([newcomer]);
        while let Some(who) = queue.pop_front() {
            let offers = Arc::clone(&self.offers[who]);
            if let Some(free) = offers.iter().find(|domain| !self.sits.contains_key(domain)) {
                looking_for.insert(*free, who);
                self.move_up(*free, newcomer, &looking_for);
                return true;
            }
            for domain in offers.iter() {
                if !looking_for.contains_key(domain) {
                    looking_for.insert(*domain, who);
                    queue.extend(self.sits.get(domain));
                }
            }
        }
        self.offers.pop();
        false
    }

    /// Everyone on the way from the newcomer to the free domain takes the seat that it looked for.
    fn move_up(&mut self, free: DomainId, newcomer: usize, looking_for: &BTreeMap<DomainId, usize>) {
        let mut domain = free;
        while let Some(who) = looking_for.get(&domain).copied() {
            self.sits.insert(domain, who);
            if who == newcomer {
                self.seats.push(domain);
                return;
            }
            domain = std::mem::replace(&mut self.seats[who], domain);
        }
    }
}
