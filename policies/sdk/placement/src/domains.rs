//! Domains of one level, and what a call has given away of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Cluster, Demand, Location, NO_DOMAIN, Whereabouts, merged};

/// Domains that the first question to the operator's index asks for: enough for most calls, and cheap to find and to copy.
const FEW_DOMAINS: u32 = 64;
/// Domains that one question brings at most.
const MOST_DOMAINS: u32 = 1024;

/// The domains of one level. It counts what it gives away: the snapshot does not change during a call.
///
/// Ask it about those units first that have pods somewhere ([`keep`](Self::keep)), so that a scale-up never takes the room of a
/// restart; then about the others ([`best`](Self::best)).
#[derive(Debug)]
pub struct Domains<'a, C> {
    cluster: &'a C,
    level: u32,
    exclusive: bool,
    /// Domains that are no choice, whatever they have room for.
    closed: BTreeSet<u32>,
    given: BTreeMap<u32, Vec<Demand>>,
    /// By demand: how many of the best domains have no room for one more.
    passed: BTreeMap<Key, usize>,
    /// By demand: what the index said.
    asked: BTreeMap<Key, Fitting>,
}

/// Domains with room for one demand, if nothing else is put there.
#[derive(Debug)]
struct Fitting {
    best_first: Vec<u32>,
    /// The same in order.
    sorted: Vec<u32>,
    /// Whether there may be more.
    more: bool,
}

impl Fitting {
    fn asked<C: Cluster>(cluster: &C, level: u32, pods: &[Demand], exclusive: bool, limit: u32) -> Self {
        let best_first = cluster.best_domains(level, pods, exclusive, limit);
        let mut sorted = best_first.clone();
        sorted.sort_unstable();
        Self { more: best_first.len() >= limit as usize, best_first, sorted }
    }

    /// Whether the domain has room; none if it is not known.
    fn says_of(&self, domain: u32) -> Option<bool> {
        let has = self.sorted.binary_search(&domain).is_ok();
        (has || !self.more).then_some(has)
    }
}

type Key = Vec<(u32, u32)>;

/// Why nothing fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// No node carries the label.
    NoDomains,
    /// Other units hold every domain that is a choice.
    AllHeld,
    /// Those that are left are too small.
    TooSmall,
}

impl<'a, C: Cluster> Domains<'a, C> {
    /// All domains of the level. Where it is `exclusive`, no two units share one.
    pub fn new(cluster: &'a C, level: u32, exclusive: bool) -> Self {
        let (closed, given) = (BTreeSet::new(), BTreeMap::new());
        Self { cluster, level, exclusive, closed, given, passed: BTreeMap::new(), asked: BTreeMap::new() }
    }

    /// Takes these domains out of the choice.
    pub fn close(&mut self, domains: impl IntoIterator<Item = u32>) {
        self.closed.extend(domains);
    }

    /// Takes the domain where the unit's pods are, if it is still good.
    pub fn keep(&mut self, pods: &[Demand], at: Option<&Whereabouts>) -> Option<u32> {
        let domain = at?.domains.get(self.level as usize).copied().filter(|domain| *domain != NO_DOMAIN)?;
        self.take(domain, pods)
    }

    /// Takes the domain with the least left over. Pods of several units fill a domain before they open the next.
    pub fn best(&mut self, pods: &[Demand]) -> Option<u32> {
        let key = key(pods);
        let mut passed = self.passed.get(&key).copied().unwrap_or_default();
        // What has no room for this demand any more gets none back during the call. What was just given to has the least
        // left over and stays in front.
        let best = loop {
            match self.nth(pods, passed) {
                Some(domain) if !self.has_room(domain, pods) => passed += 1,
                found => break found,
            }
        };
        self.passed.insert(key, passed);
        let domain = best?;
        self.note(domain, pods);
        Some(domain)
    }

    /// Takes this domain, if it has room beside what was given away before.
    pub fn take(&mut self, domain: u32, pods: &[Demand]) -> Option<u32> {
        self.has_room(domain, pods).then(|| {
            self.note(domain, pods);
            domain
        })
    }

    /// Counts pods that go into the domain, without asking whether they fit.
    pub fn note(&mut self, domain: u32, pods: &[Demand]) {
        let given = self.given.remove(&domain).unwrap_or_default();
        self.given.insert(domain, merged(given.into_iter().chain(pods.iter().copied())));
    }

    /// Whether all of the pods fit beside what was given away before.
    pub fn has_room(&mut self, domain: u32, pods: &[Demand]) -> bool {
        if self.closed.contains(&domain) || (self.exclusive && self.given.contains_key(&domain)) {
            return false;
        }
        let given = self.given.get(&domain).cloned().unwrap_or_default();
        let together = merged(given.into_iter().chain(pods.iter().copied()));
        let (cluster, level) = (self.cluster, self.level);
        let known = self.fitting(&together).says_of(domain);
        if let Some(fits) = known.or_else(|| self.all_fitting(&together).says_of(domain)) {
            return fits;
        }
        // There are more than the index names. The sum is less exact, and the operator checks the answer in any case.
        let fits = |demand: &Demand| entry(&cluster.domain_fit(level, demand.shape), domain) >= demand.pods;
        !self.is_held(domain) && together.iter().all(fits)
    }

    /// Domains that are a choice and have room for these pods, least left over first, whatever this call gave away of them.
    pub fn candidates(&mut self, pods: &[Demand]) -> Vec<u32> {
        let best_first = self.all_fitting(pods).best_first.clone();
        best_first.into_iter().filter(|domain| !self.closed.contains(domain)).collect()
    }

    /// Domains that a unit of these pods could have as well: nobody has them, and this call gave nothing of them away.
    pub fn spare(&mut self, pods: &[Demand], limit: usize) -> Vec<Location> {
        let more = self.fitting(pods).more;
        let spare = self.untouched(pods, limit);
        if spare.len() >= limit || !more {
            return spare;
        }
        self.all_fitting(pods);
        self.untouched(pods, limit)
    }

    /// Those among the domains that the index was asked for.
    fn untouched(&self, pods: &[Demand], limit: usize) -> Vec<Location> {
        let key = key(pods);
        let fitting = self.asked.get(&key).map_or(&[] as &[u32], |fitting| fitting.best_first.as_slice());
        // Something was given away of those that have no room any more.
        let passed = self.passed.get(&key).copied().unwrap_or_default();
        let open = |domain: &&u32| !self.given.contains_key(domain) && !self.closed.contains(domain);
        fitting.iter().skip(passed).filter(open).take(limit).map(|domain| self.location(*domain)).collect()
    }

    /// The domain that comes after `better` others with room for these pods.
    fn nth(&mut self, pods: &[Demand], better: usize) -> Option<u32> {
        let fitting = self.fitting(pods);
        if better < fitting.best_first.len() || !fitting.more {
            return fitting.best_first.get(better).copied();
        }
        self.all_fitting(pods).best_first.get(better).copied()
    }

    /// The best domains, or more if more were asked for before.
    fn fitting(&mut self, pods: &[Demand]) -> &Fitting {
        let pods = merged(pods.iter().copied());
        let (cluster, level, exclusive) = (self.cluster, self.level, self.exclusive);
        self.asked.entry(key(&pods)).or_insert_with(|| Fitting::asked(cluster, level, &pods, exclusive, FEW_DOMAINS))
    }

    /// All that the index names.
    fn all_fitting(&mut self, pods: &[Demand]) -> &Fitting {
        let pods = merged(pods.iter().copied());
        let (cluster, level, exclusive) = (self.cluster, self.level, self.exclusive);
        let ask = || Fitting::asked(cluster, level, &pods, exclusive, MOST_DOMAINS);
        let known = self.asked.entry(key(&pods)).or_insert_with(ask);
        if known.more && known.best_first.len() < MOST_DOMAINS as usize {
            *known = ask();
        }
        known
    }

    /// The place that the domain is.
    pub fn location(&self, domain: u32) -> Location {
        Location { level: self.level, domain }
    }

    /// Why a unit of these pods gets nothing: in one word, and in a sentence with what is needed, the best there is, and how much of
    /// the rest is taken. `key` is the level's label.
    pub fn shortage(&self, key: &str, pods: &[Demand]) -> (Obstacle, String) {
        let count = self.cluster.domain_count(self.level);
        if count == 0 {
            return (Obstacle::NoDomains, format!("no node carries the label {key}"));
        }
        let holders = if self.exclusive { self.cluster.domain_holders(self.level) } else { Vec::new() };
        let choice: Vec<u32> = (0..count).filter(|domain| !self.closed.contains(domain)).collect();
        let is_held = |domain: &u32| self.exclusive && (entry(&holders, *domain) > 0 || self.given.contains_key(domain));
        let (held, free): (Vec<u32>, Vec<u32>) = choice.into_iter().partition(is_held);
        let free_word = if self.exclusive { "free " } else { "" };
        let (obstacle, best) = match self.roomiest(pods, &free) {
            Some(best) => (Obstacle::TooSmall, format!("the largest {free_word}one, {best}")),
            None => (Obstacle::AllHeld, format!("there is no {free_word}one")),
        };
        let taken = match held.len() {
            0 => String::new(),
            1 => "; 1 is held by another group".to_owned(),
            held => format!("; {held} are held by other groups"),
        };
        let total: u32 = pods.iter().map(|demand| demand.pods).sum();
        (obstacle, format!("needs {} in one {key}; {best}{taken}", counted(total, "pod")))
    }

    /// The domain with the most room for the shape that most of the pods have, and what of the unit fits there.
    fn roomiest(&self, pods: &[Demand], domains: &[u32]) -> Option<String> {
        let pods = merged(pods.iter().copied());
        let main = pods.iter().max_by_key(|demand| demand.pods)?;
        let fit = self.cluster.domain_fit(self.level, main.shape);
        let left = |domain: u32, fit: &[u32]| entry(fit, domain).saturating_sub(self.pods_given(domain));
        // The first of equals: domains are in the order of their names.
        let best = *domains.iter().max_by_key(|domain| (left(**domain, &fit), std::cmp::Reverse(**domain)))?;
        let name = self.cluster.domain_name(self.level, best);
        let room = |demand: &Demand| left(best, &self.cluster.domain_fit(self.level, demand.shape));
        let part = |demand: &Demand| format!("{} of {}", room(demand).min(demand.pods), demand.pods);
        Some(match pods.as_slice() {
            [_] => format!("{name}, has room for {}", left(best, &fit)),
            pods if pods.iter().all(|demand| room(demand) >= demand.pods) => {
                format!("{name}, has room for each kind of them, and not for all together")
            }
            pods => format!("{name}, has room for {}", pods.iter().map(part).collect::<Vec<_>>().join(" and for ")),
        })
    }

    fn pods_given(&self, domain: u32) -> u32 {
        self.given.get(&domain).map_or(0, |given| given.iter().map(|demand| demand.pods).sum())
    }

    fn is_held(&self, domain: u32) -> bool {
        self.exclusive && entry(&self.cluster.domain_holders(self.level), domain) > 0
    }
}

fn key(pods: &[Demand]) -> Key {
    merged(pods.iter().copied()).iter().map(|demand| (demand.shape, demand.pods)).collect()
}

fn entry(column: &[u32], row: u32) -> u32 {
    column.get(row as usize).copied().unwrap_or_default()
}

/// For every domain of `level`: the domain of `outer` that all its nodes are in, or [`NO_DOMAIN`]. The levels need not follow each
/// other.
pub fn surroundings<C: Cluster>(cluster: &C, level: u32, outer: u32) -> Vec<u32> {
    let mut around: Vec<Option<u32>> = vec![None; cluster.domain_count(level) as usize];
    for (domain, outer) in cluster.node_domains(level).into_iter().zip(cluster.node_domains(outer)) {
        if let Some(known) = around.get_mut(domain as usize) {
            *known = Some(known.map_or(outer, |known| if known == outer { known } else { NO_DOMAIN }));
        }
    }
    around.into_iter().map(|outer| outer.unwrap_or(NO_DOMAIN)).collect()
}

/// A number with its noun: `1 pod`, `2 pods`.
pub fn counted(count: u32, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
