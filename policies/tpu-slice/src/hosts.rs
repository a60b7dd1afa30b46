//! Which domains are whole, healthy slices.

use std::cell::OnceCell;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use muster_placement_sdk::{Cluster, NO_DOMAIN, Request};

use crate::settings::{ACCELERATOR, Settings, TOPOLOGY};
use crate::slices::TPU;

/// A kind of host: nodes with these labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    pub(crate) accelerator: String,
    /// None: whatever the topology of their pool.
    pub(crate) topology: Option<String>,
}

/// What a domain is to a slice of one kind of host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Has no such host.
    Other,
    /// Has too few of them, or too many, or others besides.
    Incomplete,
    /// One of its hosts, this node, is not usable. The slice is dead: its hosts are one machine.
    Dead(u32),
    /// One of its hosts, this node, has failed lately.
    Quarantined(u32),
    /// All there, and well.
    Whole,
}

/// The nodes of the cluster, in columns that are read once, and only if somebody asks for TPUs.
pub(crate) struct Hosts<'a, C> {
    cluster: &'a C,
    accelerators: Labels,
    topologies: Labels,
    usable: OnceCell<Vec<bool>>,
    chips: OnceCell<Vec<u64>>,
    /// Nodes that have failed lately.
    bad: BTreeSet<u32>,
    states: BTreeMap<(Kind, u32, u32, u32), Vec<State>>,
}

/// The values of one label.
struct Labels {
    /// None: no node has it.
    level: Option<u32>,
    nodes: OnceCell<Vec<u32>>,
}

impl Labels {
    fn nodes<C: Cluster>(&self, cluster: &C) -> &[u32] {
        self.nodes.get_or_init(|| self.level.map_or_else(Vec::new, |level| cluster.node_domains(level)))
    }

    /// Domains are in the order of their names.
    fn domain<C: Cluster>(&self, cluster: &C, name: &str) -> Option<u32> {
        let level = self.level?;
        let (mut low, mut high) = (0, cluster.domain_count(level));
        while low < high {
            let middle = low + (high - low) / 2;
            match cluster.domain_name(level, middle).as_str().cmp(name) {
                Ordering::Equal => return Some(middle),
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
            }
        }
        None
    }
}

pub(crate) fn level_of(levels: &[String], key: &str) -> Option<u32> {
    levels.iter().position(|level| level == key).and_then(|level| u32::try_from(level).ok())
}

impl<'a, C: Cluster> Hosts<'a, C> {
    pub(crate) fn new(settings: &Settings, cluster: &'a C, request: &Request) -> Self {
        let levels = cluster.levels();
        let lately = request.bad_nodes.iter().filter(|bad| bad.age_ms < settings.quarantine.as_millis());
        Self {
            cluster,
            accelerators: Labels { level: level_of(&levels, ACCELERATOR), nodes: OnceCell::new() },
            topologies: Labels { level: level_of(&levels, TOPOLOGY), nodes: OnceCell::new() },
            usable: OnceCell::new(),
            chips: OnceCell::new(),
            bad: lately.map(|bad| bad.node).collect(),
            states: BTreeMap::new(),
        }
    }

    /// How many chips the hosts of that kind have: usually one number.
    pub(crate) fn chips_of(&self, kind: &Kind) -> BTreeSet<u32> {
        let is_kind = self.matcher(kind);
        let chips = self.chips().iter().enumerate().filter(|(node, chips)| **chips > 0 && is_kind(*node));
        chips.filter_map(|(_, chips)| u32::try_from(*chips).ok()).collect()
    }

    fn chips(&self) -> &[u64] {
        self.chips.get_or_init(|| self.cluster.node_capacity(TPU))
    }

    /// Nodes that have failed lately, at most as many as an answer may avoid.
    pub(crate) fn bad(&self) -> Vec<u32> {
        self.bad.iter().copied().take(64).collect()
    }

    /// For every domain of the level: what it is to slices of `hosts` hosts of that kind with so many chips each.
    pub(crate) fn states(&mut self, level: u32, kind: &Kind, chips: u32, hosts: u32) -> &[State] {
        let key = (kind.clone(), level, chips, hosts);
        if !self.states.contains_key(&key) {
            let states = self.survey(level, kind, chips, hosts);
            self.states.insert(key.clone(), states);
        }
        self.states.get(&key).map_or(&[], Vec::as_slice)
    }

    fn survey(&self, level: u32, kind: &Kind, chips: u32, hosts: u32) -> Vec<State> {
        #[derive(Clone, Copy, Default)]
        struct Count {
            nodes: u32,
            of_kind: u32,
            dead: Option<u32>,
            bad: Option<u32>,
        }
        let (is_kind, chips_of) = (self.matcher(kind), self.chips());
        let usable = self.usable.get_or_init(|| self.cluster.node_usable());
        let mut counts = vec![Count::default(); self.cluster.domain_count(level) as usize];
        for (node, (domain, id)) in self.cluster.node_domains(level).into_iter().zip(0_u32..).enumerate() {
            let Some(count) = counts.get_mut(domain as usize).filter(|_| domain != NO_DOMAIN) else { continue };
            count.nodes += 1;
            count.of_kind += u32::from(is_kind(node) && chips_of.get(node) == Some(&u64::from(chips)));
            if !usable.get(node).copied().unwrap_or(false) {
                count.dead = count.dead.or(Some(id));
            } else if self.bad.contains(&id) {
                count.bad = count.bad.or(Some(id));
            }
        }
        let state = |count: Count| match count {
            Count { of_kind: 0, .. } => State::Other,
            Count { nodes, of_kind, .. } if nodes != hosts || of_kind != hosts => State::Incomplete,
            Count { dead: Some(node), .. } => State::Dead(node),
            Count { bad: Some(node), .. } => State::Quarantined(node),
            _ => State::Whole,
        };
        counts.into_iter().map(state).collect()
    }

    fn matcher(&self, kind: &Kind) -> impl Fn(usize) -> bool {
        let accelerator = self.accelerators.domain(self.cluster, &kind.accelerator);
        let topology = kind.topology.as_ref().map(|topology| self.topologies.domain(self.cluster, topology));
        let (accelerators, topologies) = (self.accelerators.nodes(self.cluster), self.topologies.nodes(self.cluster));
        move |node| {
            accelerator.is_some_and(|wanted| accelerators.get(node) == Some(&wanted))
                && topology.is_none_or(|wanted| wanted.is_some_and(|wanted| topologies.get(node) == Some(&wanted)))
        }
    }
}
