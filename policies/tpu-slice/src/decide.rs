//! From a request to answers.

use std::collections::{BTreeMap, BTreeSet};

use muster_placement_sdk::{
    Answer, Cluster, Decision, Demand, Domains, Location, NO_DOMAIN, NO_NODE, Part, Request, Unit, Whereabouts, counted, merged,
    surroundings,
};

use crate::choose::{Choice, Surroundings, least_room_first};
use crate::hosts::{Hosts, State, level_of};
use crate::settings::{BLOCK, PARTITION, POOL, SUB_SLICES, Settings, sub_slice_key};
use crate::slices::{Ask, Fault, Slices, ask, shapes_of};

/// The host asks again sooner if the cluster changes.
const RETRY_MS: u32 = 30_000;

/// Domains that one question to the index brings at most.
const MOST_DOMAINS: u32 = 1024;

/// Answers for every unit, in the order of the request. Units that have pods somewhere choose first.
pub(crate) fn place<C: Cluster>(settings: &Settings, cluster: &C, request: &Request) -> Vec<Answer> {
    let hosts = Hosts::new(settings, cluster, request);
    let shapes = shapes_of(cluster, &request.units);
    let asks: Vec<_> = request.units.iter().map(|unit| ask(settings, cluster, &hosts, &shapes, &request.labels, unit)).collect();
    let mut search = Search::new(cluster, request, hosts);
    let mut answers: BTreeMap<usize, Answer> = BTreeMap::new();
    for runs in [true, false] {
        let turn = request.units.iter().zip(&asks).enumerate().filter(|(_, (unit, _))| unit.current.is_some() == runs);
        for (position, (unit, ask)) in turn {
            answers.insert(position, search.answer(unit, ask));
        }
    }
    answers.into_values().collect()
}

/// Shapes and numbers of pods.
type Pods = Vec<(u32, u32)>;

struct Search<'a, C> {
    cluster: &'a C,
    request: &'a Request,
    hosts: Hosts<'a, C>,
    levels: Vec<String>,
    /// Domains that this call gave away, with their level.
    taken: BTreeSet<(u32, u32)>,
    /// Domains of the set's exclusive level that this call gave away.
    taken_around: BTreeSet<u32>,
    /// By level and demand: domains with room, best first.
    asked: BTreeMap<(u32, Pods), Vec<u32>>,
    /// By level: the domain of every node.
    nodes: BTreeMap<u32, Vec<u32>>,
    /// By level of sub-slices: larger ones and pools around each, and the room these have, widest first.
    larger: BTreeMap<u32, Vec<Surroundings>>,
    /// By level of slices: the domain around each, of the set's exclusive level or of blocks.
    around: BTreeMap<u32, Vec<u32>>,
    /// Places for leaders that have no room in their slice.
    leaders: Option<Domains<'a, C>>,
    /// Places for units that need no slice, but a domain for themselves.
    ordinary: Option<Domains<'a, C>>,
}

/// Why a domain is no choice.
#[derive(Debug, Default)]
struct Tally {
    all: u32,
    held: u32,
    incomplete: u32,
    no_room: u32,
    /// Nodes for which a slice is dead or left alone.
    dead: Vec<u32>,
    quarantined: Vec<u32>,
}

impl<'a, C: Cluster> Search<'a, C> {
    fn new(cluster: &'a C, request: &'a Request, hosts: Hosts<'a, C>) -> Self {
        let levels = cluster.levels();
        let leaders = level_of(&levels, POOL).map(|pool| Domains::new(cluster, pool, false));
        let ordinary = request.exclusive.map(|level| Domains::new(cluster, level, true));
        let (taken, taken_around, asked) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
        let (nodes, larger, around) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { cluster, request, hosts, levels, taken, taken_around, asked, nodes, larger, around, leaders, ordinary }
    }

    fn answer(&mut self, unit: &Unit, ask: &Result<Ask, Fault>) -> Answer {
        match ask {
            Err(Fault::Refuse(code, message)) => Answer::new(unit, Decision::Refuse, *code, message.clone()),
            Err(Fault::Hold(code, message)) => hold(unit, code, message.clone()),
            Ok(Ask::NoTpus) => self.ordinary(unit, "NoTpus", "no pod requests google.com/tpu"),
            Ok(Ask::SingleHosts) => {
                let answer = self.ordinary(unit, "SingleHost", "a slice is one host, and any of its kind will do");
                Answer { avoid: self.hosts.bad(), ..answer }
            }
            Ok(Ask::Slices(slices)) => self.sliced(unit, slices),
        }
    }

    /// A unit that needs no slice: anywhere, or in a domain for itself if its set wants that.
    fn ordinary(&mut self, unit: &Unit, code: &str, why: &str) -> Answer {
        let Some(domains) = &mut self.ordinary else {
            return Answer::new(unit, Decision::Unconstrained, code, format!("{why}; the scheduler decides"));
        };
        let kept = domains.keep(&unit.pods, unit.current.as_ref());
        let key = self.request.exclusive.and_then(|level| self.levels.get(level as usize)).map_or("", String::as_str);
        match kept.or_else(|| domains.best(&unit.pods)) {
            Some(domain) => {
                let at = domains.location(domain);
                let message = format!("{why}; {key}={} is free", self.cluster.domain_name(at.level, domain));
                Answer::new(unit, Decision::Within(vec![at]), code, message)
            }
            None => hold(unit, "NoFreeDomain", domains.shortage(key, &unit.pods).1),
        }
    }

    fn sliced(&mut self, unit: &Unit, slices: &Slices) -> Answer {
        if self.request.exclusive == Some(slices.level) && slices.parts.len() > 1 {
            let message = format!(
                "the group needs {} of {}, and its set asks for one exclusive domain of that label for each group: remove the \
                 exclusive-topology annotation, slices are exclusive without it",
                slices.parts.len(),
                slices.key
            );
            return Answer::new(unit, Decision::Refuse, "SeveralDomains", message);
        }
        let running = self.domains_of(slices, unit.current.as_ref());
        if running.iter().any(Option::is_some) {
            return self.joined(unit, slices, &running);
        }
        let before: Option<Vec<u32>> = self.domains_of(slices, unit.previous.as_ref()).into_iter().collect();
        let before = before.filter(|before| self.all_good(slices, before, &[State::Whole]));
        let (code, chosen) = match before {
            Some(before) => ("SameSlice", Some(before)),
            None => ("WholeSlice", self.choose(slices)),
        };
        let (needed, around) = (self.needs(slices), self.request.exclusive.is_some());
        match chosen {
            Some(chosen) => match self.decision(slices, &chosen) {
                Some(decision) => Answer::new(unit, decision, code, self.in_words(slices, &chosen, code)),
                None => {
                    let inside = if around { "inside the slice" } else { "in any node pool" };
                    hold(unit, "NoRoomForLeader", format!("{needed}; its leader, which requests no TPUs, has no room {inside}"))
                }
            },
            None => hold(unit, "NoSlice", format!("{needed}; {}", self.shortage(slices))),
        }
    }

    /// A unit some of whose pods run: the others join them in their slices, or none does. A slice is never split.
    fn joined(&mut self, unit: &Unit, slices: &Slices, running: &[Option<u32>]) -> Answer {
        let known: Vec<u32> = running.iter().flatten().copied().collect();
        if !self.all_good(slices, &known, &[State::Whole, State::Quarantined(NO_NODE)]) {
            let names = self.names(slices, &known);
            let message = format!(
                "the slice in {} {names} lost a host or its room: a slice lives and dies as a whole, so the group has to start over",
                slices.key
            );
            return hold(unit, "DeadSlice", message);
        }
        let missing = running.iter().filter(|domain| domain.is_none()).count();
        self.taken.extend(known.iter().map(|domain| (slices.level, *domain)));
        let Some(others) = self.pick(slices, (missing, 1), known.first().copied()) else {
            let message = format!("{}; {}", self.needs(slices), self.shortage(slices));
            return hold(unit, "NoSlice", message);
        };
        let mut others = others.into_iter();
        let all: Vec<u32> = running.iter().filter_map(|domain| domain.or_else(|| others.next())).collect();
        match self.decision(slices, &all) {
            Some(decision) => Answer::new(unit, decision, "Kept", self.in_words(slices, &all, "Kept")),
            None => hold(unit, "NoRoomForLeader", format!("{}; its leader has no room", self.needs(slices))),
        }
    }

    /// For every part: the domain that its pods are in, if they are anywhere and not in several.
    fn domains_of(&mut self, slices: &Slices, at: Option<&Whereabouts>) -> Vec<Option<u32>> {
        let Some(at) = at else { return vec![None; slices.parts.len()] };
        let domain = at.domains.get(slices.level as usize).copied().filter(|domain| *domain != NO_DOMAIN);
        if slices.parts.len() == 1 && domain.is_some() {
            return vec![domain];
        }
        let domains = self.node_domains(slices.level);
        let mut nodes = at.nodes.iter().skip(usize::from(slices.leader.is_some()));
        let part = |part: &Vec<Demand>| {
            let pods = part.iter().map(|demand| demand.pods).sum::<u32>() as usize;
            let placed: Vec<u32> = nodes.by_ref().take(pods).copied().filter(|node| *node != NO_NODE).collect();
            let domain = |node: u32| domains.get(node as usize).copied().filter(|domain| *domain != NO_DOMAIN);
            let first = placed.first().and_then(|node| domain(*node))?;
            placed.iter().all(|node| domain(*node) == Some(first)).then_some(first)
        };
        slices.parts.iter().map(part).collect()
    }

    /// Whether the domains are different ones that are free, have room, are in one of these states, and lie where they have to.
    fn all_good(&mut self, slices: &Slices, domains: &[u32], states: &[State]) -> bool {
        let room: BTreeSet<u32> = self.with_room(slices.level, &part_of(slices)).iter().copied().collect();
        let around = self.around(slices.level);
        let is_state =
            |state: &State| states.iter().any(|wanted| std::mem::discriminant(wanted) == std::mem::discriminant(state));
        let known = self.hosts.states(slices.level, &slices.kind, slices.chips, slices.hosts).to_vec();
        let good = |domain: &u32| {
            room.contains(domain)
                && known.get(*domain as usize).is_some_and(is_state)
                && !self.taken.contains(&(slices.level, *domain))
        };
        let mut distinct = domains.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let place = |domain: &u32| around.get(*domain as usize).copied().unwrap_or(NO_DOMAIN);
        let together = self.request.exclusive.is_none()
            || domains
                .first()
                .map(place)
                .is_some_and(|first| self.is_open(first) && domains.iter().map(place).all(|at| at == first));
        distinct.len() == domains.len() && domains.iter().all(good) && together
    }

    fn choose(&mut self, slices: &Slices) -> Option<Vec<u32>> {
        self.pick(slices, (slices.parts.len() / slices.domains as usize, slices.domains as usize), None)
    }

    /// So many slices of so many domains; in the same domain of the set's exclusive level as `beside`.
    fn pick(&mut self, slices: &Slices, (count, domains): (usize, usize), beside: Option<u32>) -> Option<Vec<u32>> {
        let mut candidates: Vec<u32> = self.with_room(slices.level, &part_of(slices)).to_vec();
        let around = self.around(slices.level);
        let states = self.hosts.states(slices.level, &slices.kind, slices.chips, slices.hosts);
        candidates.retain(|domain| states.get(*domain as usize) == Some(&State::Whole));
        candidates.retain(|domain| !self.taken.contains(&(slices.level, *domain)));
        let together = self.request.exclusive.is_some();
        if together {
            candidates.retain(|domain| around.get(*domain as usize).is_some_and(|around| self.is_open(*around)));
            let place = |domain: u32| around.get(domain as usize);
            candidates.retain(|domain| beside.is_none_or(|beside| place(beside) == place(*domain)));
        }
        let surroundings = self.surroundings(slices);
        least_room_first(&mut candidates, &surroundings);
        let with_leader: Option<BTreeSet<u32>> =
            slices.leader.map(|leader| self.with_room(slices.level, &led(slices, leader)).iter().copied().collect());
        Choice { candidates, around: &around, together, with_leader: with_leader.as_ref() }.of(count, domains)
    }

    /// Writes down that the domains are taken, and says so. None if the leader has no room anywhere.
    fn decision(&mut self, slices: &Slices, chosen: &[u32]) -> Option<Decision> {
        let first = *chosen.first()?;
        let inside = match slices.leader {
            Some(leader) => self.with_room(slices.level, &led(slices, leader)).contains(&first),
            None => true,
        };
        let outside = match slices.leader {
            Some(leader) if !inside && self.request.exclusive.is_none() => {
                let leaders = self.leaders.as_mut()?;
                let domain = leaders.best(&[leader])?;
                Some(leaders.location(domain))
            }
            _ if inside => None,
            _ => return None,
        };
        self.taken.extend(chosen.iter().map(|domain| (slices.level, *domain)));
        if self.request.exclusive.is_some() {
            let around = self.around(slices.level);
            self.taken_around.extend(around.get(first as usize));
        }
        let place = |domain: &u32| Location { level: slices.level, domain: *domain };
        if let ([domain], None) = (chosen, outside) {
            return Some(Decision::Within(vec![place(domain)]));
        }
        let leader_inside = u32::from(slices.leader.is_some() && outside.is_none());
        let pods = slices.parts.iter().map(|part| part.iter().map(|demand| demand.pods).sum::<u32>());
        let parts = pods.zip(chosen).enumerate().map(|(position, (pods, domain))| Part {
            pods: if position == 0 { pods + leader_inside } else { pods },
            location: place(domain),
        });
        Some(Decision::Parts(outside.map(|location| Part { pods: 1, location }).into_iter().chain(parts).collect()))
    }

    /// Domains of the level with room for these pods that nobody holds.
    fn with_room(&mut self, level: u32, pods: &[Demand]) -> &[u32] {
        let pods = merged(pods.iter().copied());
        let key = (level, pods.iter().map(|demand| (demand.shape, demand.pods)).collect());
        let cluster = self.cluster;
        self.asked.entry(key).or_insert_with(|| cluster.best_domains(level, &pods, true, MOST_DOMAINS))
    }

    fn node_domains(&mut self, level: u32) -> &[u32] {
        let cluster = self.cluster;
        self.nodes.entry(level).or_insert_with(|| cluster.node_domains(level))
    }

    /// For every domain of the level: the domain of the set's exclusive level that all of it lies in, else its block.
    fn around(&mut self, level: u32) -> Vec<u32> {
        if let Some(known) = self.around.get(&level) {
            return known.clone();
        }
        let is_partition = self.levels.get(level as usize).is_some_and(|key| key == PARTITION);
        let outer = self.request.exclusive.or_else(|| level_of(&self.levels, BLOCK).filter(|_| is_partition));
        let around = outer.map_or_else(Vec::new, |outer| surroundings(self.cluster, level, outer));
        self.around.insert(level, around.clone());
        around
    }

    /// Whether the domain of the set's exclusive level is free.
    fn is_open(&self, around: u32) -> bool {
        let Some(level) = self.request.exclusive else { return true };
        let held = || self.cluster.domain_holders(level).get(around as usize).is_none_or(|holders| *holders > 0);
        around != NO_DOMAIN && !self.taken_around.contains(&around) && !held()
    }

    /// For sub-slices: the larger ones and the pools around them, widest first, and what room these have left.
    fn surroundings(&mut self, slices: &Slices) -> Vec<Surroundings> {
        if slices.key == POOL || slices.key == PARTITION {
            return Vec::new();
        }
        if !self.larger.contains_key(&slices.level) {
            let larger = SUB_SLICES.into_iter().map(sub_slice_key).take_while(|key| *key != slices.key);
            let keys = std::iter::once(POOL.to_owned()).chain(larger);
            let levels: Vec<u32> = keys.filter_map(|key| level_of(&self.levels, &key)).collect();
            let shape = slices.parts.first().and_then(|part| part.last()).map_or(0, |demand| demand.shape);
            let used = levels.into_iter().filter(|level| self.cluster.domain_count(*level) > 0).collect::<Vec<_>>();
            let larger = used
                .into_iter()
                .map(|level| (surroundings(self.cluster, slices.level, level), self.cluster.domain_fit(level, shape)));
            let larger = larger.collect();
            self.larger.insert(slices.level, larger);
        }
        let mut larger = self.larger.get(&slices.level).cloned().unwrap_or_default();
        for (around, room) in &mut larger {
            for (_, domain) in self.taken.iter().filter(|(level, _)| *level == slices.level) {
                if let Some(room) = around.get(*domain as usize).and_then(|around| room.get_mut(*around as usize)) {
                    *room = room.saturating_sub(slices.hosts);
                }
            }
        }
        larger
    }

    fn names(&self, slices: &Slices, domains: &[u32]) -> String {
        let names: Vec<_> = domains.iter().map(|domain| self.cluster.domain_name(slices.level, *domain)).collect();
        names.join(", ")
    }

    fn in_words(&self, slices: &Slices, chosen: &[u32], code: &str) -> String {
        let (key, names, topology) = (&slices.key, self.names(slices, chosen), &slices.topology);
        let what = match (chosen.len() / slices.domains.max(1) as usize, slices.domains) {
            (1, 1) => format!("a whole slice of {topology}"),
            (slices, 1) => format!("{slices} whole slices of {topology}"),
            (1, domains) => format!("{domains} partitions for a slice of {topology}"),
            (slices, domains) => format!("{domains} partitions for each of {slices} slices of {topology}"),
        };
        let verb = match code {
            "Kept" => "stays in",
            "SameSlice" => "returns to",
            _ => "gets",
        };
        format!("{verb} {what}: {key}={names}{}", slices.note)
    }

    fn needs(&self, slices: &Slices) -> String {
        let count = u32::try_from(slices.parts.len()).unwrap_or(u32::MAX);
        let (topology, accelerator) = (&slices.topology, &slices.kind.accelerator);
        let hosts = slices.hosts * slices.domains;
        let what = counted(count / slices.domains.max(1), &format!("whole {accelerator} slice"));
        format!("needs {what} of {topology}, {} of {} each{}", counted(hosts, "host"), counted(slices.chips, "chip"), slices.note)
    }

    /// What there is of that kind, and why it is no choice.
    fn shortage(&mut self, slices: &Slices) -> String {
        let tally = self.tally(slices);
        let nodes = |nodes: &[u32]| {
            let names: Vec<_> = nodes.iter().take(3).map(|node| self.cluster.node_name(*node)).collect();
            names.join(", ")
        };
        let mut parts = Vec::new();
        let mut tell = |count: usize, text: String| {
            if count > 0 {
                parts.push(format!("{count} {text}"));
            }
        };
        tell(tally.held as usize, "taken by other groups".to_owned());
        tell(tally.dead.len(), format!("with a host that is not usable ({})", nodes(&tally.dead)));
        tell(tally.quarantined.len(), format!("with a host that failed lately ({})", nodes(&tally.quarantined)));
        tell(tally.incomplete as usize, format!("without exactly {}", counted(slices.hosts, "such host")));
        tell(tally.no_room as usize, "without room".to_owned());
        let blocked = tally.held + tally.incomplete + tally.no_room;
        let blocked = blocked as usize + tally.dead.len() + tally.quarantined.len();
        tell((tally.all as usize).saturating_sub(blocked), "free".to_owned());
        let detail = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
        format!("there {} {} of {}{detail}", if tally.all == 1 { "is" } else { "are" }, tally.all, slices.key)
    }

    fn tally(&mut self, slices: &Slices) -> Tally {
        let room: BTreeSet<u32> = self.with_room(slices.level, &part_of(slices)).iter().copied().collect();
        let around = self.around(slices.level);
        let holders = self.cluster.domain_holders(slices.level);
        let states = self.hosts.states(slices.level, &slices.kind, slices.chips, slices.hosts).to_vec();
        let mut tally = Tally::default();
        for (domain, state) in (0_u32..).zip(&states) {
            let held = holders.get(domain as usize).is_some_and(|holders| *holders > 0)
                || self.taken.contains(&(slices.level, domain))
                || (self.request.exclusive.is_some() && !around.get(domain as usize).is_some_and(|around| self.is_open(*around)));
            tally.all += u32::from(*state != State::Other);
            match state {
                State::Other => {}
                State::Incomplete => tally.incomplete += 1,
                State::Dead(node) => tally.dead.push(*node),
                _ if held => tally.held += 1,
                State::Quarantined(node) => tally.quarantined.push(*node),
                State::Whole => tally.no_room += u32::from(!room.contains(&domain)),
            }
        }
        tally
    }
}

fn hold(unit: &Unit, code: &str, message: String) -> Answer {
    Answer::new(unit, Decision::Hold(RETRY_MS), code, message)
}

/// What one domain takes.
fn part_of(slices: &Slices) -> Vec<Demand> {
    slices.parts.first().cloned().unwrap_or_default()
}

/// What the first domain takes if the leader goes there too.
fn led(slices: &Slices, leader: Demand) -> Vec<Demand> {
    std::iter::once(leader).chain(part_of(slices)).collect()
}
