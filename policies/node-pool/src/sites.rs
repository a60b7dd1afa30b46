//! Where a unit may go.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use muster_placement_sdk::{Cluster, Demand, NO_DOMAIN, Whereabouts, merged};

/// Domains that one question to the host's index brings at most.
const MOST_DOMAINS: u32 = 1024;

/// The domains of one level that units go into, and what this call has given away of them.
///
/// Usually these are the pools. A set that asks for exclusive placement at another level gets domains of that level, of
/// those that lie inside one pool.
pub(crate) struct Sites<'a, C> {
    cluster: &'a C,
    pub(crate) level: u32,
    /// No other unit may be in the domain.
    pub(crate) exclusive: bool,
    /// Domains that are no choice, whatever they have room for.
    closed: BTreeSet<u32>,
    /// For every domain, the pool around it that no other unit may be in; none where pools are shared or are the domains.
    pools: Option<Vec<u32>>,
    given: BTreeMap<u32, Vec<Demand>>,
    /// By demand: domains with room for one more, best first.
    queues: BTreeMap<Key, VecDeque<u32>>,
    /// By demand: what the index said.
    asked: BTreeMap<Key, BTreeSet<u32>>,
}

type Key = Vec<(u32, u32)>;

impl<'a, C: Cluster> Sites<'a, C> {
    /// Sites in the pools of level `pool`.
    pub(crate) fn new(cluster: &'a C, pool: u32, exclusive: Option<u32>, shared: bool) -> Self {
        let empty = |level, exclusive| Self {
            cluster,
            level,
            exclusive,
            closed: BTreeSet::new(),
            pools: None,
            given: BTreeMap::new(),
            queues: BTreeMap::new(),
            asked: BTreeMap::new(),
        };
        let Some(level) = exclusive.filter(|level| *level != pool) else { return empty(pool, exclusive.is_some() || !shared) };
        let mut sites = empty(level, true);
        let pool_of = one_pool_each(cluster, level, pool);
        sites.closed = (0..).zip(&pool_of).filter(|(_, pool)| **pool == NO_DOMAIN).map(|(domain, _)| domain).collect();
        if !shared {
            let holders = cluster.domain_holders(pool);
            let held = |pool: &u32| holders.get(*pool as usize).is_some_and(|count| *count > 0);
            sites.closed.extend((0..).zip(&pool_of).filter(|(_, pool)| held(pool)).map(|(domain, _)| domain));
            sites.pools = Some(pool_of);
        }
        sites
    }

    /// Takes the place where the unit's pods run already, if it is still good.
    pub(crate) fn keep(&mut self, pods: &[Demand], current: Option<&Whereabouts>) -> Option<u32> {
        let domain = current?.domains.get(self.level as usize).copied()?;
        let good = self.has_room(domain, pods);
        good.then(|| self.give(domain, pods))
    }

    /// Takes the best domain for these pods: the one with the least left over.
    pub(crate) fn best(&mut self, pods: &[Demand]) -> Option<u32> {
        let key = key(pods);
        let mut queue = match self.queues.remove(&key) {
            Some(queue) => queue,
            None => self.cluster.best_domains(self.level, &merged(pods.iter().copied()), self.exclusive, MOST_DOMAINS).into(),
        };
        // What has no room for this demand any more gets none back during the call. What was just given to has the least
        // left over and stays in front.
        while queue.front().is_some_and(|domain| !self.has_room(*domain, pods)) {
            queue.pop_front();
        }
        let best = queue.front().copied();
        self.queues.insert(key, queue);
        best.map(|domain| self.give(domain, pods))
    }

    /// Whether this call gave something of the domain away.
    pub(crate) fn is_given(&self, domain: u32) -> bool {
        self.given.contains_key(&domain)
    }

    /// Whether the domain is a choice at all.
    pub(crate) fn is_open(&self, domain: u32) -> bool {
        !self.closed.contains(&domain)
    }

    /// How many pods this call gave places in the domain.
    pub(crate) fn pods_given(&self, domain: u32) -> u32 {
        self.given.get(&domain).map_or(0, |given| given.iter().map(|demand| demand.pods).sum())
    }

    fn has_room(&mut self, domain: u32, pods: &[Demand]) -> bool {
        if self.closed.contains(&domain) || (self.exclusive && self.is_given(domain)) {
            return false;
        }
        let given = self.given.get(&domain).cloned().unwrap_or_default();
        let together = merged(given.into_iter().chain(pods.iter().copied()));
        let (cluster, level, exclusive) = (self.cluster, self.level, self.exclusive);
        let fitting = self
            .asked
            .entry(key(&together))
            .or_insert_with(|| cluster.best_domains(level, &together, exclusive, MOST_DOMAINS).into_iter().collect());
        fitting.contains(&domain)
    }

    fn give(&mut self, domain: u32, pods: &[Demand]) -> u32 {
        let given = self.given.remove(&domain).unwrap_or_default();
        self.given.insert(domain, merged(given.into_iter().chain(pods.iter().copied())));
        if let Some(pools) = &self.pools {
            // The pool is taken with the domain, so its other domains are not free any more.
            let pool = pools.get(domain as usize).copied();
            let others = (0..).zip(pools).filter(|(other, around)| *other != domain && Some(**around) == pool);
            self.closed.extend(others.map(|(other, _)| other));
        }
        domain
    }
}

fn key(pods: &[Demand]) -> Key {
    merged(pods.iter().copied()).iter().map(|demand| (demand.shape, demand.pods)).collect()
}

/// For every domain of `level`: the one pool that all its nodes are in, or `NO_DOMAIN`.
fn one_pool_each<C: Cluster>(cluster: &C, level: u32, pool: u32) -> Vec<u32> {
    let mut pools: Vec<Option<u32>> = vec![None; cluster.domain_count(level) as usize];
    for (domain, pool) in cluster.node_domains(level).into_iter().zip(cluster.node_domains(pool)) {
        if let Some(known) = pools.get_mut(domain as usize) {
            *known = match *known {
                None => Some(pool),
                Some(known) if known == pool => Some(pool),
                Some(_) => Some(NO_DOMAIN),
            };
        }
    }
    pools.into_iter().map(|pool| pool.unwrap_or(NO_DOMAIN)).collect()
}
