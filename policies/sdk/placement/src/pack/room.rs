//! How many pods of a unit the domains of one level have room for, after what a call has given away.
//!
//! Columns say how many pods of one shape fit where nothing else is put. A leader of another shape than its workers takes some of
//! that room, or none (a leader without accelerators beside workers that leave processors unused): nodes say how many such
//! leaders there is room for beside a full load of workers, and every further one counts as whole workers.

use std::collections::BTreeMap;

use crate::{Cluster, Demand, PodShape, Unit};

/// The pods of a unit: a leader, and workers that are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crew {
    /// The leader's shape.
    pub leader: u32,
    /// The shape of most pods.
    pub bulk: u32,
    /// All pods.
    pub pods: u32,
    /// How many workers' room a leader takes where it takes any.
    weight: u32,
    /// How many workers' room the workers of other shapes take more than their number.
    extra: u32,
}

impl Crew {
    /// How many workers' room all its pods take at most.
    pub fn needs(&self) -> u32 {
        self.pods.saturating_add(self.extra)
    }

    /// Whether the leader is a pod like the others.
    pub fn is_uniform(&self) -> bool {
        self.leader == self.bulk
    }
}

/// Shapes that were asked about.
#[derive(Debug, Default)]
pub struct Shapes {
    known: BTreeMap<u32, (PodShape, u32)>,
}

impl Shapes {
    /// The first known shape that asks for the same.
    fn canonical<C: Cluster>(&mut self, cluster: &C, shape: u32) -> u32 {
        if let Some((_, same)) = self.known.get(&shape) {
            return *same;
        }
        let described = cluster.describe_shape(shape);
        let same = self.known.iter().find(|(_, (known, _))| *known == described).map_or(shape, |(_, (_, same))| *same);
        self.known.insert(shape, (described, same));
        same
    }

    /// How many pods of shape `of` have at least the room of one pod of shape `what`.
    fn weight(&self, what: u32, of: u32) -> u32 {
        let requests = |shape: u32| self.known.get(&shape).map(|(shape, _)| shape.requests.as_slice()).unwrap_or_default();
        let of = requests(of).iter().filter(|quantity| quantity.amount > 0);
        let weight = of.filter_map(|have| {
            let needs = requests(what).iter().find(|needs| needs.resource == have.resource)?;
            Some(needs.amount.div_ceil(have.amount))
        });
        u32::try_from(weight.max().unwrap_or(1).max(1)).unwrap_or(u32::MAX)
    }

    /// How many workers' room of this crew the pods take at most.
    pub fn room_of(&self, demand: &Demand, crew: &Crew) -> u32 {
        let shape = self.known.get(&demand.shape).map_or(demand.shape, |(_, same)| *same);
        demand.pods.saturating_mul(if shape == crew.bulk { 1 } else { self.weight(shape, crew.bulk) })
    }

    /// The unit's pods.
    pub fn crew<C: Cluster>(&mut self, cluster: &C, unit: &Unit) -> Crew {
        let mut pods: Vec<Demand> = unit.pods.iter().copied().filter(|demand| demand.pods > 0).collect();
        pods.iter_mut().for_each(|demand| demand.shape = self.canonical(cluster, demand.shape));
        let leader = pods.first().map_or(0, |demand| demand.shape);
        if let Some(first) = pods.first_mut() {
            first.pods -= 1;
        }
        let workers = crate::merged(pods);
        // The first of equals.
        let bulk = workers
            .iter()
            .rev()
            .max_by_key(|demand| demand.pods)
            .filter(|demand| demand.pods > 0)
            .map_or(leader, |demand| demand.shape);
        let extra = |demand: &Demand| demand.pods.saturating_mul(self.weight(demand.shape, bulk) - 1);
        let extra = workers.iter().filter(|demand| demand.shape != bulk).map(extra).fold(0, u32::saturating_add);
        Crew { leader, bulk, pods: unit.size(), weight: self.weight(leader, bulk), extra }
    }
}

/// What a domain has left for a crew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Left {
    /// Workers that fit.
    pub workers: u32,
    /// Pods that fit if the leader is one of them; 0 if it has no place.
    pub with_leader: u32,
}

impl Left {
    /// What is left without so much workers' room.
    pub fn without(self, taken: u32) -> Self {
        Self { workers: self.workers.saturating_sub(taken), with_leader: self.with_leader.saturating_sub(taken) }
    }
}

/// The room in the domains of one level.
#[derive(Debug)]
pub struct Room {
    level: u32,
    given: BTreeMap<u32, Vec<Demand>>,
    /// One entry per kind of crew that was asked about: usually one, two during a rollout.
    ready: Vec<Ready>,
}

/// Columns for one crew.
#[derive(Debug)]
struct Ready {
    crew: Crew,
    /// Room for workers when nothing is given.
    workers: Vec<u32>,
    /// Room for leaders when nothing else is there.
    leaders: Vec<u32>,
    /// Leaders that fit beside a full load of workers.
    seats: Vec<u32>,
    left: Vec<Left>,
    /// The most workers that any domain had room for.
    most: u32,
}

impl Room {
    /// The room of a level.
    pub fn new(level: u32) -> Self {
        Self { level, given: BTreeMap::new(), ready: Vec::new() }
    }

    /// What every domain has left.
    pub fn left<C: Cluster>(&mut self, cluster: &C, shapes: &Shapes, crew: &Crew) -> &[Left] {
        &self.ready(cluster, shapes, crew).left
    }

    /// The most workers that any domain had room for before anything was given.
    pub fn most<C: Cluster>(&mut self, cluster: &C, shapes: &Shapes, crew: &Crew) -> u32 {
        self.ready(cluster, shapes, crew).most
    }

    fn ready<C: Cluster>(&mut self, cluster: &C, shapes: &Shapes, crew: &Crew) -> &Ready {
        let alike = |ready: &Ready| (ready.crew.leader, ready.crew.bulk) == (crew.leader, crew.bulk);
        let at = self.ready.iter().position(alike).unwrap_or_else(|| {
            self.ready.push(self.load(cluster, shapes, crew));
            self.ready.len() - 1
        });
        &self.ready[at]
    }

    /// Takes the room of these pods.
    pub fn give(&mut self, shapes: &Shapes, domain: u32, pods: &[Demand]) {
        let same =
            |demand: &Demand| Demand { shape: shapes.known.get(&demand.shape).map_or(demand.shape, |known| known.1), ..*demand };
        let given = self.given.entry(domain).or_default();
        *given = crate::merged(given.iter().chain(pods).map(same));
        for ready in &mut self.ready {
            let left = ready.left_in(shapes, domain, given);
            if let Some(known) = ready.left.get_mut(domain as usize) {
                *known = left;
            }
        }
    }

    /// Whether the call gave something of the domain away.
    pub fn is_given(&self, domain: u32) -> bool {
        self.given.contains_key(&domain)
    }

    fn load<C: Cluster>(&self, cluster: &C, shapes: &Shapes, crew: &Crew) -> Ready {
        let workers = cluster.domain_fit(self.level, crew.bulk);
        let (leaders, seats) = if crew.is_uniform() {
            (Vec::new(), Vec::new())
        } else {
            (cluster.domain_fit(self.level, crew.leader), self.seats(cluster, shapes, crew, workers.len()))
        };
        let most = workers.iter().copied().max().unwrap_or(0);
        let mut ready = Ready { crew: *crew, workers, leaders, seats, left: Vec::new(), most };
        let none = Vec::new();
        ready.left = (0..ready.workers.len())
            .map(|domain| {
                let domain = u32::try_from(domain).unwrap_or(u32::MAX);
                ready.left_in(shapes, domain, self.given.get(&domain).unwrap_or(&none))
            })
            .collect();
        ready
    }

    /// For every domain: how many leaders its nodes have room for beside a full load of workers.
    fn seats<C: Cluster>(&self, cluster: &C, shapes: &Shapes, crew: &Crew, count: usize) -> Vec<u32> {
        let amounts = |shape: u32| shapes.known.get(&shape).map(|(shape, _)| shape.requests.as_slice()).unwrap_or_default();
        // Per resource that both ask for: what a worker takes, what a leader takes.
        let shared: Vec<(u64, u64)> = amounts(crew.bulk)
            .iter()
            .filter_map(|worker| {
                let leader = amounts(crew.leader).iter().find(|leader| leader.resource == worker.resource)?;
                (worker.amount > 0 && leader.amount > 0).then_some((worker.amount, leader.amount))
            })
            .collect();
        let seats_of = |workers: u32, leaders: u32| {
            let beside = shared.iter().map(|(worker, leader)| {
                let full = u64::from(workers).saturating_mul(*worker);
                // At least so much is free there: the larger of what the workers and what the leaders could fill.
                u64::from(leaders).saturating_mul(*leader).saturating_sub(full) / leader
            });
            let beside = beside.min().map_or(leaders, |seats| u32::try_from(seats).unwrap_or(u32::MAX));
            if workers == 0 { leaders } else { beside.min(leaders) }
        };
        let mut seats = vec![0_u32; count];
        let (workers, leaders) = (cluster.node_fit(crew.bulk), cluster.node_fit(crew.leader));
        for ((domain, workers), leaders) in cluster.node_domains(self.level).into_iter().zip(workers).zip(leaders) {
            if let Some(seats) = seats.get_mut(domain as usize).filter(|_| leaders > 0) {
                *seats = seats.saturating_add(seats_of(workers, leaders));
            }
        }
        seats
    }
}

impl Ready {
    fn left_in(&self, shapes: &Shapes, domain: u32, given: &[Demand]) -> Left {
        let at = |column: &[u32]| column.get(domain as usize).copied().unwrap_or(0);
        let crew = &self.crew;
        let (mut taken, mut leaders) = (0_u32, 0);
        for demand in given {
            let weight = match demand.shape {
                shape if shape == crew.bulk => 1,
                shape if shape == crew.leader => {
                    leaders = demand.pods;
                    continue;
                }
                shape => shapes.weight(shape, crew.bulk),
            };
            taken = taken.saturating_add(demand.pods.saturating_mul(weight));
        }
        let displaced = |leaders: u32| leaders.saturating_sub(at(&self.seats)).saturating_mul(crew.weight);
        let workers = at(&self.workers).saturating_sub(taken.saturating_add(displaced(leaders)));
        if crew.is_uniform() {
            return Left { workers, with_leader: workers };
        }
        let cost = displaced(leaders + 1) - displaced(leaders);
        let has_place = leaders < at(&self.leaders) && cost <= workers;
        Left { workers, with_leader: if has_place { workers - cost + 1 } else { 0 } }
    }
}
