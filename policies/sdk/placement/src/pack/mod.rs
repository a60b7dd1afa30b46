//! Packing units into domains of levels that nest, for policies that place by topology.
//!
//! ```text
//!  chain.rs   levels that nest: which domain lies inside which; what does not nest is left out or refused
//!  division.rs subgroups as blocks of ranks
//!  room.rs    how many pods a domain has left for a unit, after what this call gave away
//!  split.rs   sharing pods out over domains side by side: best, least, balanced, pack-busy
//!  solve.rs   the same down the chain, in blocks that stay whole
//!  leaders.rs the same with a leader that is not like its workers
//!  words.rs   what people read about it
//!  books.rs   what the call gave away, and what that leaves
//!  mod.rs     a unit into one domain or into several
//! ```
//!
//! ```
//! use muster_placement_sdk::pack::{Fit, Pack, Step, WHOLE, Want};
//! use muster_placement_sdk::testing::{Table, unit};
//!
//! let racks = Table::new(["zone", "rack"]).nodes(4, ["z1", "r1"]).nodes(3, ["z1", "r2"]);
//! let steps = ["zone", "rack"].map(|key| Step { key: key.to_owned(), optional: false });
//! let mut pack = Pack::new(&racks, &steps, None)?;
//! let unit = unit(0, 3);
//! let found = pack.place(&Want::new(&unit, vec![0, WHOLE], Fit::Best), false).unwrap();
//! assert_eq!(found.places[0].domain, racks.domain("rack", "r2"));
//! # Ok::<(), String>(())
//! ```

mod books;
mod chain;
mod division;
mod leaders;
mod room;
mod solve;
mod split;
#[cfg(test)]
mod tests;
mod words;

use std::cmp::Reverse;
use std::collections::BTreeMap;

pub use chain::{Chain, Rung, Step, derived_from, first_used};
pub use division::Division;
pub use room::{Crew, Left};
pub use split::{Fit, Share, Slot, share_out};
pub use words::{Shortage, answer_all, count};

use crate::{Cluster, Decision, Demand, Location, NO_DOMAIN, Part, Unit};
use leaders::Leaders;
use room::{Room, Shapes};
use solve::Task;

/// A block of all pods of a unit, however many they are.
pub const WHOLE: u32 = u32::MAX;

/// Domains in the answer for a unit that goes into one of them.
const MOST_CHOICES: usize = 8;
/// Domains in which a split is tried. The first is the one nearly always.
const MOST_TRIES: usize = 64;
/// More places than that are not written down one by one: the pods go inside the domain around them.
const MOST_PLACES: usize = 512;

/// What a unit needs.
#[derive(Debug, Clone)]
pub struct Want<'u> {
    /// The unit.
    pub unit: &'u Unit,
    /// For every rung of the chain: blocks of so many pods stay inside one domain. [`WHOLE`] for the whole unit; 0 where it does
    /// not matter.
    pub blocks: Vec<u32>,
    /// Below the last of these rungs, blocks of so many pods stay together if they can.
    pub block: u32,
    /// Which domains are better.
    pub fit: Fit,
    /// Blocks are counted without the leader, who is one more in the first.
    pub leader_apart: bool,
    /// The unit gets at most so many pods in one domain of the last rung, whatever room it has. Only where it is split.
    pub most: u32,
    /// For every domain of the last rung: lower is better, whatever fits best; `u32::MAX` is no choice. Empty if it does not matter.
    /// Only where the unit is not split.
    pub order: Vec<u32>,
}

impl<'u> Want<'u> {
    /// What most units need.
    pub fn new(unit: &'u Unit, blocks: Vec<u32>, fit: Fit) -> Self {
        Self { unit, blocks, block: 1, fit, leader_apart: false, most: u32::MAX, order: Vec::new() }
    }
}

/// So many pods in a domain of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The rung.
    pub rung: usize,
    /// Its domain.
    pub domain: u32,
    /// How many pods.
    pub pods: u32,
}

/// Where a unit goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// In the order of ranks.
    pub places: Vec<Place>,
    /// If it is one place: other domains of the same rung that would do, best first.
    pub others: Vec<u32>,
}

/// The books of one call.
#[derive(Debug)]
pub struct Pack<'a, C> {
    cluster: &'a C,
    /// The levels.
    pub chain: Chain,
    shapes: Shapes,
    rooms: Vec<Option<Room>>,
    /// By rung: domains that are no choice.
    closed: Vec<Vec<bool>>,
    /// Rungs of which every unit gets a domain for itself.
    alone: Vec<usize>,
    /// The rung of which no domain has two units.
    apart: Option<usize>,
    /// By rung: something was given away that does not say in which domains below.
    vague: Vec<bool>,
    /// By rung and domain: pods that were given it as a whole. Each domain below may have to take any of them.
    loose: Vec<BTreeMap<u32, Vec<Demand>>>,
    /// What the host's index said last, and to which question.
    asked: Option<(usize, Vec<Demand>, Vec<u32>)>,
    /// By rung and shape: how much of every domain was in use when the call began.
    busy: BTreeMap<(usize, u32), Vec<u32>>,
}

impl<'a, C: Cluster> Pack<'a, C> {
    /// Nothing given away yet. `chain.rung_of` is about `steps`; the level of exclusive placement is one more rung if it is not
    /// among them.
    ///
    /// # Errors
    /// See [`Chain::new`].
    pub fn new(cluster: &'a C, steps: &[Step], exclusive: Option<u32>) -> Result<Self, String> {
        let levels = cluster.levels();
        let mut all = steps.to_vec();
        let own = exclusive.and_then(|level| levels.get(level as usize)).map(|key| {
            let position = all.iter().position(|step| step.key == *key);
            let position = position.unwrap_or_else(|| {
                let position = by_width(cluster, &levels, steps, key);
                all.insert(position, Step { key: key.clone(), optional: false });
                position
            });
            all[position].optional = false;
            position
        });
        let mut chain = Chain::new(cluster, &all)?;
        let alone = own.and_then(|position| chain.rung_of[position]);
        if let Some(position) = own.filter(|_| all.len() > steps.len()) {
            chain.rung_of.remove(position);
        }
        let closed = chain.rungs.iter().map(|rung| rung.nested.iter().map(|nested| !nested).collect()).collect();
        let rooms = chain.rungs.iter().map(|rung| rung.level.map(Room::new)).collect();
        let vague = vec![false; chain.rungs.len()];
        let loose = vec![BTreeMap::new(); chain.rungs.len()];
        let mut pack = Self {
            cluster,
            chain,
            shapes: Shapes::default(),
            rooms,
            closed,
            alone: Vec::new(),
            apart: None,
            vague,
            loose,
            asked: None,
            busy: BTreeMap::new(),
        };
        alone.into_iter().for_each(|rung| pack.keep_alone(rung));
        Ok(pack)
    }

    /// From now on, every unit gets a domain of this rung for itself, of those that nobody holds.
    pub fn keep_alone(&mut self, rung: usize) {
        if self.chain.rungs[rung].level.is_some() && !self.alone.contains(&rung) {
            self.alone.push(rung);
            self.close_held(rung);
        }
    }

    /// From now on, no domain of this rung that somebody holds is a choice, nor one that a unit was given pods in. Unlike with
    /// [`keep_alone`](Self::keep_alone), a unit may be in several.
    pub fn keep_apart(&mut self, rung: usize) {
        self.apart = Some(rung);
        self.close_held(rung);
    }

    fn close_held(&mut self, rung: usize) {
        let Some(level) = self.chain.rungs[rung].level else { return };
        for (domain, holders) in (0..).zip(self.cluster.domain_holders(level)) {
            if holders > 0 {
                self.close(rung, domain);
            }
        }
    }

    /// Rungs of which every unit has a domain for itself.
    pub fn alone(&self) -> &[usize] {
        &self.alone
    }

    /// Whether a unit may go there at all.
    pub fn is_open(&self, rung: usize, domain: u32) -> bool {
        self.closed[rung].get(domain as usize) == Some(&false)
    }

    /// The unit's pods.
    pub fn crew(&mut self, unit: &Unit) -> Crew {
        self.shapes.crew(self.cluster, unit)
    }

    /// What every domain of the rung has left for the unit; nothing if the rung is derived.
    pub fn left(&mut self, rung: usize, unit: &Unit) -> &[Left] {
        let crew = self.shapes.crew(self.cluster, unit);
        match &mut self.rooms[rung] {
            Some(room) => room.left(self.cluster, &self.shapes, &crew),
            None => &[],
        }
    }

    /// For every rung: the domain that the unit's running pods are in.
    pub fn current(&self, unit: &Unit) -> Vec<Option<u32>> {
        let known = unit.current.as_ref().map(|current| current.domains.as_slice()).unwrap_or_default();
        let domain = |level: u32| known.get(level as usize).copied().filter(|domain| *domain != NO_DOMAIN);
        self.chain.rungs.iter().map(|rung| rung.level.and_then(domain)).collect()
    }

    /// Finds the unit a place and takes it. With `stay`, only where its running pods are.
    pub fn place(&mut self, want: &Want<'_>, stay: bool) -> Option<Found> {
        let stays = if stay { self.current(want.unit) } else { Vec::new() };
        let crew = self.shapes.crew(self.cluster, want.unit);
        let pods = crew.pods.saturating_sub(u32::from(want.leader_apart));
        let mut blocks = want.blocks.clone();
        blocks.resize(self.chain.rungs.len(), 0);
        self.alone.iter().for_each(|rung| blocks[*rung] = WHOLE);
        let whole = blocks.iter().rposition(|block| *block >= pods);
        let last = blocks.iter().rposition(|block| *block > 0).unwrap_or(0);
        // A derived domain is no place by itself; the values that it is made of are.
        let leaf = (last..self.chain.rungs.len()).find(|rung| self.chain.rungs[*rung].level.is_some())?;
        // What stays together at a near rung does so at the ones before.
        for rung in (whole.map_or(0, |whole| whole + 1)..leaf).rev() {
            blocks[rung] = blocks[rung].max(blocks[rung + 1]);
        }
        let known = |rung: usize| stays.iter().take(rung + 1).any(Option::is_some);
        if stay && !whole.is_some_and(known) {
            return None;
        }
        let search = Search { want, crew, blocks, whole, leaf, ordered: leaf, stays };
        let found = match whole {
            Some(rung) if rung == leaf => self.in_one(&search),
            _ => {
                let places = self.in_several(&search, None)?;
                Some(Found { places: self.refined(&search, places), others: Vec::new() })
            }
        }?;
        self.take(want.unit, &found);
        Some(found)
    }

    /// The whole unit in one domain of the last rung that matters.
    fn in_one(&mut self, search: &Search<'_>) -> Option<Found> {
        let Search { want, crew, leaf, .. } = search;
        // Levels of hosts have thousands of domains, of which none has ever had room for the unit.
        let most = self.rooms[*leaf].as_mut()?.most(self.cluster, &self.shapes, crew);
        if crew.needs() > most.saturating_add(u32::from(!crew.is_uniform())) {
            return None;
        }
        let mut fitting = self.best(search);
        if fitting.is_empty() && !crew.is_uniform() {
            let is_open = self.choices(*leaf, search);
            fitting = self.ask(*leaf, want.unit);
            fitting.retain(|domain| is_open[*domain as usize]);
            fitting.sort_by_key(|domain| want.order.get(*domain as usize).copied().unwrap_or(0));
            fitting.truncate(MOST_CHOICES);
        }
        let domain = *fitting.first()?;
        let one = vec![Place { rung: *leaf, domain, pods: crew.pods }];
        let places = self.refined(search, one.clone());
        let others = if places == one { fitting.split_off(1) } else { Vec::new() };
        Some(Found { places, others })
    }

    /// Domains of the last rung that matters with room for the whole unit, best first, and no more than an answer names.
    fn best(&mut self, search: &Search<'_>) -> Vec<u32> {
        let Search { want, crew, leaf, stays, .. } = search;
        let needs = crew.needs();
        let busy = self.busy(*leaf, search);
        let limits = self.limits(*leaf, want.unit);
        let loose = self.loosely_taken(*leaf, crew);
        let (chain, closed) = (&self.chain, &self.closed[*leaf]);
        let Some(room) = &mut self.rooms[*leaf] else { return Vec::new() };
        let around = |domain: u32| {
            let fits = |(wider, limits): (usize, &Vec<u32>)| {
                let limit = chain.around(*leaf, domain, wider).and_then(|around| limits.get(around as usize));
                limit.is_none_or(|limit| *limit >= needs)
            };
            let stays_in =
                |(wider, stay): (usize, &Option<u32>)| stay.is_none_or(|stay| chain.around(*leaf, domain, wider) == Some(stay));
            limits.iter().enumerate().filter(|(_, limits)| !limits.is_empty()).all(fits)
                && stays.iter().enumerate().take(leaf + 1).all(stays_in)
        };
        // A short list that is kept in order: sorting all domains for every unit is what would take the time.
        let mut best: Vec<(Rank, u32)> = Vec::with_capacity(MOST_CHOICES + 1);
        for ((domain, left), closed) in (0..).zip(room.left(self.cluster, &self.shapes, crew)).zip(closed) {
            let taken = loose.get(domain as usize).copied().unwrap_or(0);
            if *closed || left.with_leader.saturating_sub(taken) < needs {
                continue;
            }
            let of = |column: &[u32]| column.get(domain as usize).copied().unwrap_or(0);
            let key = (of(&want.order), Reverse(of(&busy)), left.with_leader);
            let is_worse = best.len() == MOST_CHOICES && best.last().is_some_and(|(last, _)| *last <= key);
            if is_worse || key.0 == u32::MAX || !around(domain) {
                continue;
            }
            best.insert(best.partition_point(|(known, _)| *known <= key), (key, domain));
            best.truncate(MOST_CHOICES);
        }
        best.into_iter().map(|(_, domain)| domain).collect()
    }

    /// The unit, or the pods of one place, in several domains.
    fn in_several(&mut self, search: &Search<'_>, part: Option<(Place, bool)>) -> Option<Vec<Place>> {
        let Search { want, crew, leaf, .. } = search;
        let with_leader = part.is_none_or(|(_, has_leader)| has_leader);
        let apart = u32::from(want.leader_apart && with_leader);
        let pods = part.map_or(crew.pods, |(place, _)| place.pods) - apart;
        let busy = self.busy(*leaf, search);
        let mut domains = match part {
            Some((place, _)) => self.chain.rungs[place.rung].children(place.domain).to_vec(),
            None => self.all(*leaf),
        };
        match part {
            Some(_) => domains.retain(|domain| self.is_open(*leaf, *domain)),
            None => {
                let choices = self.choices(*leaf, search);
                domains.retain(|domain| choices[*domain as usize]);
            }
        }
        let loose = self.loosely_taken(*leaf, crew);
        let column = self.left(*leaf, want.unit);
        let (mut left, mut room) = (vec![Left::default(); column.len()], vec![0; column.len()]);
        for at in domains.into_iter().map(|domain| domain as usize) {
            left[at] = column[at].without(loose.get(at).copied().unwrap_or(0));
            room[at] = left[at].workers.min(want.most);
        }
        let leaders = Leaders { left: &left, apart, needed: with_leader && (apart > 0 || !crew.is_uniform()) };
        let limits = if part.is_none() { self.limits(*leaf, want.unit) } else { Vec::new() };
        let (chain, blocks, fit) = (&self.chain, &search.blocks, want.fit);
        let mut task = Task { chain, leaf: *leaf, blocks, fit, busy: &busy, limits: &limits, pods, first: None };
        let mut best: Option<(usize, Vec<Share>)> = None;
        for (rung, domains) in self.roots(search, part.map(|(place, _)| place), &task, &room) {
            let Some(shares) = leaders.share(&mut task, rung, &domains, &room) else { continue };
            // The first that works; for equal shares, the one with the fewest.
            if best.as_ref().is_none_or(|(count, _)| shares.len() < *count) {
                best = Some((shares.len(), shares));
            }
            if want.fit != Fit::Balanced {
                break;
            }
        }
        let mut shares = best?.1;
        if let Some(first) = shares.first_mut() {
            first.1 += apart;
        }
        (shares.len() <= MOST_PLACES)
            .then(|| shares.into_iter().map(|(domain, pods)| Place { rung: *leaf, domain, pods }).collect())
    }

    /// Groups of domains over one of which a split may go: those below every domain that the whole unit can be in, best first.
    fn roots(&self, search: &Search<'_>, part: Option<Place>, task: &Task<'_>, room: &[u32]) -> Vec<(usize, Vec<u32>)> {
        let below = |rung: usize, domain: u32| (rung + 1, self.chain.rungs[rung].children(domain).to_vec());
        if let Some(place) = part {
            return vec![below(place.rung, place.domain)];
        }
        let Some(whole) = search.whole else {
            return vec![(0, self.all(0))];
        };
        let choices = self.choices(whole, search);
        let slot = |domain: u32| Slot { domain, room: task.capacity(whole, domain, room), busy: task.busy_in(whole, domain) };
        let slots: Vec<Slot> = (0..).zip(&choices).filter(|(_, open)| **open).map(|(domain, _)| slot(domain)).collect();
        // A leader that needs less than a worker makes room for one more.
        let least = task.pods.saturating_sub(u32::from(!search.crew.is_uniform()));
        let holding = split::holding(search.want.fit, &slots, least);
        let fits_around = |slot: &&Slot| {
            let around = |wider: usize| self.chain.around(whole, slot.domain, wider).map(|around| task.limit(wider, around));
            (0..whole).filter_map(around).all(|limit| limit >= least)
        };
        holding.iter().filter(fits_around).take(MOST_TRIES).map(|slot| below(whole, slot.domain)).collect()
    }

    /// All domains of the rung.
    fn all(&self, rung: usize) -> Vec<u32> {
        let count = self.chain.rungs.get(rung).map_or(0, |rung| rung.parents.len());
        (0..u32::try_from(count).unwrap_or(u32::MAX)).collect()
    }

    /// The same places, split further where a nearer rung has domains with room for several pods each.
    fn refined(&mut self, search: &Search<'_>, places: Vec<Place>) -> Vec<Place> {
        let next = search.leaf + 1;
        if next >= self.chain.rungs.len() {
            return places;
        }
        let Some(room) = &mut self.rooms[next] else { return places };
        if room.most(self.cluster, &self.shapes, &search.crew) <= 1 {
            return places;
        }
        let mut refined = Vec::new();
        for (at, place) in places.iter().enumerate() {
            let split = [search.want.block, 1].into_iter().find_map(|block| {
                let mut blocks = search.blocks.clone();
                blocks[next] = block;
                let below = Search { leaf: next, blocks, stays: Vec::new(), ..search.clone() };
                let split = self.in_several(&below, Some((*place, at == 0)))?;
                Some(self.refined(&below, split))
            });
            let split = split.filter(|split| split.iter().any(|place| place.pods > 1));
            refined.extend(split.unwrap_or_else(|| vec![*place]));
        }
        if refined.len() > MOST_PLACES { places } else { refined }
    }

    /// For every domain of the rung: whether the unit may go there.
    fn choices(&self, rung: usize, search: &Search<'_>) -> Vec<bool> {
        let ordered = |domain: usize| rung != search.ordered || search.want.order.get(domain) != Some(&u32::MAX);
        let mut open: Vec<bool> =
            self.closed[rung].iter().enumerate().map(|(domain, closed)| !closed && ordered(domain)).collect();
        let last = search.whole.unwrap_or(0).min(rung);
        let stays = search.stays.iter().enumerate().take(last + 1).filter_map(|(wider, domain)| Some((wider, (*domain)?)));
        for (wider, domain) in stays {
            for (inner, open) in (0..).zip(open.iter_mut()) {
                *open = *open && self.chain.around(rung, inner, wider) == Some(domain);
            }
        }
        open
    }

    /// What answers name: the place as the interface has it.
    fn location(&self, rung: usize, domain: u32) -> Option<Location> {
        Some(Location { level: self.chain.rungs[rung].level?, domain })
    }

    /// The places as a decision.
    pub fn decision(&self, found: &Found) -> Option<Decision> {
        match found.places.as_slice() {
            [one] => {
                let domains = std::iter::once(&one.domain).chain(&found.others);
                Some(Decision::Within(domains.filter_map(|domain| self.location(one.rung, *domain)).collect()))
            }
            several => {
                let part = |place: &Place| Some(Part { pods: place.pods, location: self.location(place.rung, place.domain)? });
                several.iter().map(part).collect::<Option<Vec<_>>>().map(Decision::Parts)
            }
        }
    }
}

/// Lower is better: the order that was asked for, what is most in use, what has least room.
type Rank = (u32, Reverse<u32>, u32);

/// One question, worked out.
#[derive(Debug, Clone)]
struct Search<'w> {
    want: &'w Want<'w>,
    crew: Crew,
    blocks: Vec<u32>,
    /// The nearest rung with the whole unit in one domain.
    whole: Option<usize>,
    /// The nearest rung that matters.
    leaf: usize,
    /// The rung that `want.order` is about.
    ordered: usize,
    /// By rung: where running pods are, and the unit must stay. Empty if it need not.
    stays: Vec<Option<u32>>,
}

/// Where a level belongs among the steps: before the first with more domains.
fn by_width<C: Cluster>(cluster: &C, levels: &[String], steps: &[Step], key: &str) -> usize {
    let count = |key: &str| {
        let level = levels.iter().position(|level| level == derived_from(key).unwrap_or(key))?;
        Some(cluster.domain_count(u32::try_from(level).ok()?))
    };
    let own = count(key);
    steps.iter().position(|step| count(&step.key) > own).unwrap_or(steps.len())
}

/// For every domain of the level: how much of what pods of the shape ask for is in use there, in thousandths.
fn in_use<C: Cluster>(cluster: &C, level: u32, shape: u32) -> Vec<u32> {
    let usable = cluster.node_usable();
    let fit = cluster.node_fit(shape);
    let mut most = vec![u64::from(u32::MAX); fit.len()];
    for quantity in cluster.describe_shape(shape).requests.iter().filter(|quantity| quantity.amount > 0) {
        for (most, capacity) in most.iter_mut().zip(cluster.node_capacity(&quantity.resource)) {
            *most = (*most).min(capacity / quantity.amount);
        }
    }
    let mut sums = vec![(0_u64, 0_u64); cluster.domain_count(level) as usize];
    for (node, domain) in cluster.node_domains(level).into_iter().enumerate() {
        if let Some((free, all)) = sums.get_mut(domain as usize).filter(|_| usable.get(node) == Some(&true)) {
            *free += u64::from(fit[node]);
            *all += most[node].max(u64::from(fit[node]));
        }
    }
    let held = cluster.domain_holders(level);
    let share = |(domain, (free, all)): (usize, &(u64, u64))| {
        let used = if *all == 0 { 0 } else { u32::try_from((all - free) * 1000 / all).unwrap_or(1000) };
        used.max(u32::from(held.get(domain).is_some_and(|held| *held > 0)))
    };
    sums.iter().enumerate().map(share).collect()
}
