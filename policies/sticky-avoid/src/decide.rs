//! From a request to answers: same nodes, else same domain, else elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use muster_placement_sdk::{
    Answer, Cluster, Decision, Demand, Domains, Location, NO_DOMAIN, NO_NODE, Request, Unit, Whereabouts, counted,
};

use crate::avoid::avoided;
use crate::seats::{Seats, Within};
use crate::settings::Settings;

/// The host asks again sooner if the cluster changes.
const RETRY_MS: u32 = 30_000;

/// Answers for every unit, in the order of the request. Units that run somewhere choose first, then those that had a place.
pub(crate) fn place<C: Cluster>(settings: &Settings, cluster: &C, request: &Request) -> Vec<Answer> {
    let mut search = Search::new(settings, cluster, request);
    let turn = |unit: &Unit| match (&unit.current, &unit.previous) {
        (Some(_), _) => 0,
        (None, Some(_)) => 1,
        (None, None) => 2,
    };
    let mut order: Vec<(usize, &Unit)> = request.units.iter().enumerate().collect();
    order.sort_by_key(|(_, unit)| turn(unit));
    let answers: BTreeMap<usize, Answer> = order.into_iter().map(|(position, unit)| (position, search.answer(unit))).collect();
    answers.into_values().collect()
}

struct Search<'a, C> {
    settings: &'a Settings,
    cluster: &'a C,
    request: &'a Request,
    names: Vec<String>,
    /// Levels to go back to, nearest first. Of a set that asks for exclusive placement: that level alone.
    levels: Vec<u32>,
    domains: BTreeMap<u32, Domains<'a, C>>,
    nodes: BTreeMap<u32, Vec<u32>>,
    seats: Seats<'a, C>,
}

impl<'a, C: Cluster> Search<'a, C> {
    fn new(settings: &'a Settings, cluster: &'a C, request: &'a Request) -> Self {
        let names = cluster.levels();
        let level_of = |key: &String| names.iter().position(|level| level == key).and_then(|level| u32::try_from(level).ok());
        let levels: Vec<u32> = match request.exclusive {
            Some(level) => vec![level],
            None => settings.keys.iter().rev().filter_map(level_of).filter(|level| cluster.domain_count(*level) > 0).collect(),
        };
        let exclusive = request.exclusive.is_some();
        let domains = levels.iter().map(|level| (*level, Domains::new(cluster, *level, exclusive))).collect();
        Self { settings, cluster, request, names, levels, domains, nodes: BTreeMap::new(), seats: Seats::new(cluster) }
    }

    fn answer(&mut self, unit: &Unit) -> Answer {
        let avoid = avoided(self.settings, self.request, unit);
        let answer = self
            .back(unit, &avoid)
            .or_else(|| self.elsewhere(unit, &avoid))
            .unwrap_or_else(|| Answer::new(unit, Decision::Unconstrained, "Elsewhere", self.freely(unit, &avoid)));
        Answer { avoid: avoid.into_iter().collect(), ..answer }
    }

    fn freely(&self, unit: &Unit, avoid: &BTreeSet<u32>) -> String {
        let start = match (&unit.current, &unit.previous) {
            (Some(_), _) => "where it is is no room for all of it",
            (None, Some(_)) => "where it was is no room any more",
            (None, None) => "it has been nowhere before",
        };
        format!("{start}; the scheduler decides{}", self.away_from(avoid))
    }

    fn away_from(&self, avoid: &BTreeSet<u32>) -> String {
        let names: Vec<_> = avoid.iter().take(3).map(|node| self.cluster.node_name(*node)).collect();
        let more = if avoid.len() > names.len() { format!(" and {} more", avoid.len() - names.len()) } else { String::new() };
        if avoid.is_empty() { String::new() } else { format!(", away from {}{more}", names.join(", ")) }
    }

    /// Where the unit's pods are, or were.
    fn back(&mut self, unit: &Unit, avoid: &BTreeSet<u32>) -> Option<Answer> {
        let at = unit.current.as_ref().or(unit.previous.as_ref())?;
        if unit.current.is_none()
            && self.settings.pin
            && let Some(answer) = self.same_nodes(unit, at, avoid)
        {
            return Some(answer);
        }
        for position in 0..self.levels.len() {
            let level = *self.levels.get(position)?;
            let Some(domain) = domain_at(at, level) else { continue };
            let room: Vec<Demand> = unit.pods.iter().copied().chain(self.blocked(level, domain, &unit.pods, avoid)).collect();
            if self.domains.get_mut(&level)?.has_room(domain, &room) {
                self.note(at, level, &unit.pods);
                let code = if unit.current.is_some() { "Kept" } else { "SameDomain" };
                let message = format!("{} {}{}", self.verb(unit), self.named(level, domain), self.away_from(avoid));
                return Some(self.within(unit, level, domain, code, message));
            }
        }
        None
    }

    /// The nodes that the unit's pods were on, with others inside the same domain for those that are no good.
    fn same_nodes(&mut self, unit: &Unit, at: &Whereabouts, avoid: &BTreeSet<u32>) -> Option<Answer> {
        if at.nodes.iter().all(|node| *node == NO_NODE) {
            return None;
        }
        let nearest = self.levels.iter().find_map(|level| Some((*level, domain_at(at, *level)?)));
        if self.request.exclusive.is_some() {
            let (level, domain) = nearest?;
            if !self.domains.get_mut(&level)?.has_room(domain, &unit.pods) {
                return None;
            }
        }
        let place = nearest.map_or(Within::Cluster, |(level, domain)| Within::Domain { level, domain });
        let (nodes, replaced) = self.seats.find(&unit.pods, &at.nodes, avoid, place)?;
        if let Some((level, _)) = nearest {
            self.note(at, level, &unit.pods);
        }
        let total = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
        let at = nearest.map_or_else(String::new, |(level, domain)| format!(" in {}", self.named(level, domain)));
        let (code, message) = match replaced {
            0 => ("SameNodes", format!("back on {}{at}", counted(total, "same node"))),
            _ => {
                let others = counted(u32::try_from(replaced).unwrap_or(u32::MAX), "other node");
                (
                    "NodesReplaced",
                    format!("back on {} of {total} nodes{at}, with {others}{}", nodes.len() - replaced, self.away_from(avoid)),
                )
            }
        };
        Some(Answer::new(unit, Decision::Pinned(nodes), code, message))
    }

    /// A free domain of the set's exclusive level, or none; for other sets the scheduler decides.
    fn elsewhere(&mut self, unit: &Unit, avoid: &BTreeSet<u32>) -> Option<Answer> {
        let level = self.request.exclusive?;
        let mut roomy = 0;
        for domain in self.domains.get_mut(&level)?.candidates(&unit.pods) {
            roomy += u32::from(self.domains.get_mut(&level)?.has_room(domain, &unit.pods));
            let room: Vec<Demand> = unit.pods.iter().copied().chain(self.blocked(level, domain, &unit.pods, avoid)).collect();
            let domains = self.domains.get_mut(&level)?;
            if domains.has_room(domain, &room) {
                domains.note(domain, &unit.pods);
                let message = format!("{} is free and has room{}", self.named(level, domain), self.away_from(avoid));
                return Some(self.within(unit, level, domain, "Elsewhere", message));
            }
        }
        let key = self.names.get(level as usize).map_or("", String::as_str);
        let message = match roomy {
            0 => self.domains.get(&level)?.shortage(key, &unit.pods).1,
            roomy => {
                let domains = counted(roomy, "free domain");
                format!(
                    "{domains} of {key} have room for it only{}",
                    self.away_from(avoid).replacen(", away from", " with nodes that it avoids:", 1)
                )
            }
        };
        Some(Answer::new(unit, Decision::Hold(RETRY_MS), "NoFreeDomain", message))
    }

    /// Pods that the avoided nodes of the domain would take: who asks for room beside them asks for room on the others.
    fn blocked(&mut self, level: u32, domain: u32, pods: &[Demand], avoid: &BTreeSet<u32>) -> Option<Demand> {
        let shape = pods.iter().max_by_key(|demand| demand.pods)?.shape;
        let cluster = self.cluster;
        let domains = self.nodes.entry(level).or_insert_with(|| cluster.node_domains(level));
        let inside: Vec<u32> = avoid.iter().copied().filter(|node| domains.get(*node as usize) == Some(&domain)).collect();
        let pods = self.seats.room_on(inside, shape);
        (pods > 0).then_some(Demand { shape, pods })
    }

    /// Counts the unit at the level and at all wider ones.
    fn note(&mut self, at: &Whereabouts, level: u32, pods: &[Demand]) {
        let wider = self.levels.iter().skip_while(|known| **known != level);
        for level in wider {
            if let (Some(domain), Some(domains)) = (domain_at(at, *level), self.domains.get_mut(level)) {
                domains.note(domain, pods);
            }
        }
    }

    fn within(&self, unit: &Unit, level: u32, domain: u32, code: &str, message: String) -> Answer {
        let location = Location { level, domain };
        Answer::new(unit, Decision::Within(vec![location]), code, message)
    }

    fn verb(&self, unit: &Unit) -> &'static str {
        if unit.current.is_some() { "stays in" } else { "goes back to" }
    }

    fn named(&self, level: u32, domain: u32) -> String {
        let key = self.names.get(level as usize).map_or("", String::as_str);
        format!("{key}={}", self.cluster.domain_name(level, domain))
    }
}

fn domain_at(at: &Whereabouts, level: u32) -> Option<u32> {
    at.domains.get(level as usize).copied().filter(|domain| *domain != NO_DOMAIN)
}
