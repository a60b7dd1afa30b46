//! Levels that nest: every domain of one lies inside one domain of the level before.

use crate::{Cluster, NO_DOMAIN};

/// Marks a level that is made of another one's values: the text before their last dot. `derived:nvidia.com/gpu.clique#prefix` has
/// one domain per NVLink domain, whose cliques share a prefix.
const DERIVED: (&str, &str) = ("derived:", "#prefix");

/// The node label key that a derived level is made of.
pub fn derived_from(key: &str) -> Option<&str> {
    key.strip_prefix(DERIVED.0)?.strip_suffix(DERIVED.1)
}

/// A level that may take part in a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its label key, or `derived:KEY#prefix`.
    pub key: String,
    /// Whether the chain may do without it if it does not nest or no node carries it.
    pub optional: bool,
}

/// A level of the chain.
#[derive(Debug, Clone)]
pub struct Rung {
    /// Its label key.
    pub key: String,
    /// Its level in the snapshot; none if it is derived.
    pub level: Option<u32>,
    /// For every domain: the domain of the rung before that contains it. Domains of the first rung are in domain 0 of nothing.
    pub parents: Vec<u32>,
    /// For every domain: whether it is inside one domain of every rung before.
    pub nested: Vec<bool>,
    /// Names of the domains, if the rung is derived.
    names: Vec<String>,
    /// Domains of the next rung, grouped by domain of this one.
    starts: Vec<u32>,
    inside: Vec<u32>,
}

impl Rung {
    /// Domains of the next rung that are inside this domain.
    pub fn children(&self, domain: u32) -> &[u32] {
        let at = |position: u32| self.starts.get(position as usize).copied().unwrap_or(0) as usize;
        self.inside.get(at(domain)..at(domain + 1)).unwrap_or_default()
    }

    fn link(&mut self, next: &[u32]) {
        let mut counts = vec![0_u32; self.nested.len() + 1];
        let known = |parent: &u32| (*parent as usize) < self.nested.len();
        next.iter().filter(|parent| known(parent)).for_each(|parent| counts[*parent as usize + 1] += 1);
        for at in 1..counts.len() {
            counts[at] += counts[at - 1];
        }
        let mut inside = vec![0; counts.last().copied().unwrap_or(0) as usize];
        let mut open = counts.clone();
        for (child, parent) in (0..).zip(next).filter(|(_, parent)| known(parent)) {
            inside[open[*parent as usize] as usize] = child;
            open[*parent as usize] += 1;
        }
        (self.starts, self.inside) = (counts, inside);
    }
}

/// Levels from the widest to the nearest.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    /// The levels that nest.
    pub rungs: Vec<Rung>,
    /// For every step that was asked for: its rung.
    pub rung_of: Vec<Option<usize>>,
    /// What was left out and why, for the log.
    pub notes: Vec<String>,
}

impl Chain {
    /// The chain of these steps, widest first. Optional ones that don't nest are left out.
    ///
    /// # Errors
    /// With what is wrong with the labels, if a step that is not optional has no domain or lies inside no other.
    pub fn new<C: Cluster>(cluster: &C, steps: &[Step]) -> Result<Self, String> {
        let mut chain = Self { rung_of: vec![None; steps.len()], ..Self::default() };
        let mut held: Vec<usize> = Vec::new();
        for (position, step) in steps.iter().enumerate() {
            let Some(mut rung) = Rung::of(cluster, &step.key) else {
                if !step.optional {
                    return Err(format!("no node carries the label {}", derived_from(&step.key).unwrap_or(&step.key)));
                }
                continue;
            };
            while let Some(outer) = chain.rungs.last() {
                rung.parents = parents(cluster, outer, &rung);
                rung.nested = rung.parents.iter().map(|parent| outer.nested.get(*parent as usize) == Some(&true)).collect();
                if rung.nested.contains(&true) {
                    break;
                }
                let why = format!("no {} lies inside one {}", rung.key, outer.key);
                let outer_is_optional = held.last().is_none_or(|held| steps[*held].optional);
                if step.optional || !outer_is_optional {
                    if !step.optional {
                        return Err(format!(
                            "{why}: the levels must nest, so correct the node labels or leave one of the levels out"
                        ));
                    }
                    chain.notes.push(format!("level {} is left out: {why}", step.key));
                    rung.nested.clear();
                    break;
                }
                chain.notes.push(format!("level {} is left out: {why}", outer.key));
                chain.rungs.pop();
                held.pop().map(|held| chain.rung_of[held].take());
                rung.nested = vec![true; rung.parents.len()];
                rung.parents.fill(0);
            }
            if rung.nested.is_empty() {
                continue;
            }
            if let Some(outer) = chain.rungs.last() {
                chain.notes.extend(stray(cluster, outer, &rung));
            }
            chain.rung_of[position] = Some(chain.rungs.len());
            held.push(position);
            chain.rungs.push(rung);
        }
        for at in 1..chain.rungs.len() {
            let next = std::mem::take(&mut chain.rungs[at].parents);
            chain.rungs[at - 1].link(&next);
            chain.rungs[at].parents = next;
        }
        Ok(chain)
    }

    /// The domain of rung `wider` around a domain of `rung`.
    pub fn around(&self, rung: usize, domain: u32, wider: usize) -> Option<u32> {
        let mut domain = domain;
        for at in ((wider + 1)..=rung).rev() {
            domain = self.rungs[at].parents.get(domain as usize).copied().filter(|parent| *parent != NO_DOMAIN)?;
        }
        Some(domain)
    }

    /// The name of a domain.
    pub fn name<C: Cluster>(&self, cluster: &C, rung: usize, domain: u32) -> String {
        self.rungs[rung].name(cluster, domain)
    }
}

impl Rung {
    /// The level as the first rung of a chain; none if it has no domain.
    fn of<C: Cluster>(cluster: &C, key: &str) -> Option<Self> {
        let real = derived_from(key).unwrap_or(key);
        let level = cluster.levels().iter().position(|level| level == real).and_then(|level| u32::try_from(level).ok())?;
        let count = cluster.domain_count(level);
        let mut names: Vec<String> = Vec::new();
        if derived_from(key).is_some() {
            names = (0..count).map(|domain| prefix(&cluster.domain_name(level, domain)).to_owned()).collect();
            names.sort_unstable();
            names.dedup();
        }
        let (count, level) = if derived_from(key).is_some() { (names.len(), None) } else { (count as usize, Some(level)) };
        let rung = Self {
            key: key.to_owned(),
            level,
            parents: vec![0; count],
            nested: vec![true; count],
            names,
            starts: Vec::new(),
            inside: Vec::new(),
        };
        (count > 0).then_some(rung)
    }

    fn name<C: Cluster>(&self, cluster: &C, domain: u32) -> String {
        match self.level {
            Some(level) => cluster.domain_name(level, domain),
            None => self.names.get(domain as usize).cloned().unwrap_or_default(),
        }
    }

    /// For every domain of the level that this rung is made of: its domain here.
    fn of_values<C: Cluster>(&self, cluster: &C, level: u32) -> Vec<u32> {
        let domain =
            |value: u32| self.names.binary_search_by(|name| name.as_str().cmp(prefix(&cluster.domain_name(level, value))));
        (0..cluster.domain_count(level)).map(|value| domain(value).map_or(NO_DOMAIN, id)).collect()
    }

    /// For every node: its domain.
    fn of_nodes<C: Cluster>(&self, cluster: &C) -> Vec<u32> {
        if let Some(level) = self.level {
            return cluster.node_domains(level);
        }
        let Some(level) = made_of(cluster, &self.key) else { return Vec::new() };
        let domains = self.of_values(cluster, level);
        let domain = |value: u32| domains.get(value as usize).copied().unwrap_or(NO_DOMAIN);
        cluster.node_domains(level).into_iter().map(domain).collect()
    }
}

/// The first of these label keys that some node carries.
pub fn first_used<'k, C: Cluster>(cluster: &C, keys: &'k [String]) -> Option<&'k String> {
    let levels = cluster.levels();
    let is_used = |key: &&String| {
        let level = levels.iter().position(|level| level == *key).and_then(|level| u32::try_from(level).ok());
        level.is_some_and(|level| cluster.domain_count(level) > 0)
    };
    keys.iter().find(is_used)
}

fn made_of<C: Cluster>(cluster: &C, key: &str) -> Option<u32> {
    let real = derived_from(key)?;
    cluster.levels().iter().position(|level| level == real).and_then(|level| u32::try_from(level).ok())
}

fn prefix(value: &str) -> &str {
    value.rsplit_once('.').map_or(value, |(prefix, _)| prefix)
}

/// For every domain of `inner`: the one domain of `outer` that has all its nodes; `NO_DOMAIN` if there is none.
fn parents<C: Cluster>(cluster: &C, outer: &Rung, inner: &Rung) -> Vec<u32> {
    match (outer.level, inner.level) {
        (Some(outer), Some(inner)) if outer + 1 == inner => cluster.domain_parents(inner),
        (None, Some(level)) if derived_from(&outer.key) == cluster.levels().get(level as usize).map(String::as_str) => {
            outer.of_values(cluster, level)
        }
        _ => common(&outer.of_nodes(cluster), &inner.of_nodes(cluster), inner.parents.len()),
    }
}

fn common(outer: &[u32], inner: &[u32], count: usize) -> Vec<u32> {
    let mut parents: Vec<Option<u32>> = vec![None; count];
    for (domain, around) in inner.iter().zip(outer) {
        if let Some(known) = parents.get_mut(*domain as usize) {
            *known = match *known {
                None => Some(*around),
                Some(known) if known == *around => Some(known),
                Some(_) => Some(NO_DOMAIN),
            };
        }
    }
    parents.into_iter().map(|parent| parent.unwrap_or(NO_DOMAIN)).collect()
}

/// A line about domains that are no choice because they are not inside one domain of the rung before.
fn stray<C: Cluster>(cluster: &C, outer: &Rung, inner: &Rung) -> Option<String> {
    let strays = inner.parents.iter().filter(|parent| **parent == NO_DOMAIN).count();
    let first = inner.parents.iter().position(|parent| *parent == NO_DOMAIN).map(id)?;
    Some(format!(
        "{strays} of {} domains of {} are no choice because their nodes are not in one {}; the first is {}",
        inner.parents.len(),
        inner.key,
        outer.key,
        inner.name(cluster, first),
    ))
}

fn id(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}
