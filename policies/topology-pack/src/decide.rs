//! From a request to answers.

use std::rc::Rc;

use muster_placement_sdk::pack::{Fit, Found, Pack, Step, Want, answer_all};
use muster_placement_sdk::{Answer, Cluster, Decision, Failure, Request, Unit};

use crate::demands::{Demands, attempts, demands};
use crate::settings::{Level, Mode, Settings};

/// The host asks again sooner if the cluster changes.
const RETRY_MS: u32 = 30_000;

/// A level with more domains is only looked at inside a domain of the one before: it is one of hosts.
const MOST_DOMAINS: usize = 2048;

/// Answers, and lines for the log.
#[derive(Debug)]
pub(crate) struct Decided {
    pub(crate) answers: Vec<Answer>,
    pub(crate) notes: Vec<String>,
}

/// Answers for every unit, in the order of the request.
pub(crate) fn place<C: Cluster>(settings: &Settings, cluster: &C, request: &Request) -> Result<Decided, Failure> {
    let step = |level: &Level| Step { key: level.key.clone(), optional: level.mode == Mode::Preferred };
    let steps: Vec<Step> = settings.levels.iter().map(step).collect();
    let mut pack = Pack::new(cluster, &steps, request.exclusive).map_err(Failure::Unsupported)?;
    if pack.chain.rungs.is_empty() {
        let keys: Vec<_> = settings.levels.iter().map(|level| level.key.as_str()).collect();
        return Err(Failure::Unsupported(format!("no node carries any of the labels {}", keys.join(", "))));
    }
    let mut decider = Decider::new(settings, cluster, &mut pack);
    let answers = answer_all(&request.units, |unit, stay| decider.answer(unit, stay));
    Ok(Decided { answers, notes: std::mem::take(&mut pack.chain.notes) })
}

struct Decider<'p, 'a, C> {
    settings: &'p Settings,
    cluster: &'a C,
    pack: &'p mut Pack<'a, C>,
    /// Levels of the settings that are in the chain, with their rungs.
    levels: Vec<(&'p Level, usize)>,
    /// Which of them count, in the order in which that is tried.
    attempts: Rc<[Vec<bool>]>,
}

impl<'p, 'a, C: Cluster> Decider<'p, 'a, C> {
    fn new(settings: &'p Settings, cluster: &'a C, pack: &'p mut Pack<'a, C>) -> Self {
        let levels: Vec<(&Level, usize)> =
            settings.levels.iter().zip(&pack.chain.rung_of).filter_map(|(level, rung)| Some((level, (*rung)?))).collect();
        let attempts = attempts(&levels.iter().map(|(level, _)| *level).collect::<Vec<_>>());
        Self { settings, cluster, pack, levels, attempts: attempts.into() }
    }

    fn answer(&mut self, unit: &Unit, stay: bool) -> Option<Answer> {
        let levels: Vec<&Level> = self.levels.iter().map(|(level, _)| *level).collect();
        let demands = match demands(self.settings, &levels, unit) {
            Ok(demands) => demands,
            Err(why) => return Some(Answer::new(unit, Decision::Refuse, "SegmentMismatch", why)),
        };
        let mut shortage = None;
        for (at, counts) in Rc::clone(&self.attempts).iter().enumerate() {
            if at > 0 && !stay {
                // The level that counted the last time and does not any more.
                let given_up = counts.iter().position(|counts| !counts).map(|position| self.levels[position]);
                let given_up = given_up.filter(|(level, _)| !is_of_hosts(&level.key));
                shortage = given_up.map(|(_, rung)| self.pack.shortage(rung, unit).message).or(shortage);
            }
            let Some(found) = self.attempt(unit, &demands, counts, stay) else { continue };
            let place = self.pack.in_words(&found);
            let (code, message) = match (stay, shortage) {
                (true, _) => ("Kept", format!("stays in {place}")),
                (false, Some(shortage)) => ("Widened", format!("{place}: {shortage}")),
                (false, None) if found.places.len() == 1 => ("Packed", format!("{place} has room and fits best")),
                (false, None) => ("Packed", place),
            };
            return Some(Answer::new(unit, self.pack.decision(&found)?, code, message));
        }
        if stay { None } else { Some(self.nowhere(unit, &demands)) }
    }

    /// The unit's place if only these levels count.
    fn attempt(&mut self, unit: &Unit, demands: &Demands, counts: &[bool], stay: bool) -> Option<Found> {
        let fit = self.settings.fit.into();
        let mut blocks = vec![0; self.pack.chain.rungs.len()];
        let mut given_up = Vec::new();
        for ((block, counts), (_, rung)) in demands.blocks.iter().zip(counts).zip(&self.levels) {
            match counts {
                true => blocks[*rung] = *block,
                false => given_up.push(*rung),
            }
        }
        let is_free = self.pack.alone().is_empty() && blocks.iter().all(|block| *block == 0);
        let want = Want { block: demands.block, leader_apart: demands.leader_apart, ..Want::new(unit, blocks, fit) };
        // Subgroups stay whole if they can where nothing else is said.
        let granules = [demands.block, 1].into_iter().skip(usize::from(demands.block == 1));
        let mut tries: Vec<(Vec<usize>, u32)> = Vec::new();
        if fit == Fit::Balanced && !given_up.is_empty() {
            // Which wider domain is chosen depends on the shares inside it. The other fits choose it first.
            let small = given_up.iter().copied().filter(|rung| self.pack.chain.rungs[*rung].parents.len() <= MOST_DOMAINS);
            let small: Vec<usize> = small.collect();
            tries.extend(granules.clone().map(|granule| (small.clone(), granule)));
        }
        match given_up.first().filter(|_| is_free) {
            Some(widest) => tries.extend(granules.map(|granule| (vec![*widest], granule))),
            None => tries.push((Vec::new(), 0)),
        }
        tries.into_iter().find_map(|(rungs, granule)| {
            let mut want = want.clone();
            rungs.into_iter().for_each(|rung| want.blocks[rung] = granule);
            self.pack.place(&want, stay)
        })
    }

    fn nowhere(&mut self, unit: &Unit, demands: &Demands) -> Answer {
        let mut required = self.levels.iter().zip(&demands.blocks).filter(|((level, _), _)| level.mode == Mode::Required);
        let nearest = required.next_back().map(|((_, rung), block)| (*rung, *block));
        let alone = self.pack.alone().last().copied();
        if nearest.is_none() && alone.is_none() && self.unlabelled_has_room(unit) {
            let message =
                "nodes that carry the labels don't have enough room, and with those that don't there is; the scheduler decides";
            return Answer::new(unit, Decision::Unconstrained, "NodesWithoutLabels", message);
        }
        match nearest.filter(|(_, block)| *block < unit.size()) {
            Some((rung, block)) => {
                let message = self.segments_short(unit, rung, block);
                Answer::new(unit, Decision::Hold(RETRY_MS), "SegmentsDoNotFit", message)
            }
            None => {
                let rung = nearest.map(|(rung, _)| rung).max(alone).unwrap_or(0);
                let shortage = self.pack.shortage(rung, unit);
                Answer::new(unit, Decision::Hold(RETRY_MS), shortage.code(), shortage.message)
            }
        }
    }

    fn segments_short(&mut self, unit: &Unit, rung: usize, block: u32) -> String {
        let key = self.pack.chain.rungs[rung].key.clone();
        let needed = u64::from(unit.size().div_ceil(block));
        let left = self.pack.left(rung, unit).to_vec();
        let open = (0..).zip(&left).filter(|(domain, _)| self.pack.is_open(rung, *domain));
        let room: u64 = open.map(|(_, left)| u64::from(left.workers / block)).sum();
        let needs = format!("needs {needed} segments of {block} pods, each in one {key}; there is room for {room}");
        if room < needed { needs } else { format!("{needs}, but not as the wider levels and the fit ask") }
    }

    /// Whether the cluster as a whole has room, nodes without labels included.
    fn unlabelled_has_room(&mut self, unit: &Unit) -> bool {
        let crew = self.pack.crew(unit);
        let level = self.pack.chain.rungs[0].level.or_else(|| self.pack.chain.rungs.get(1)?.level);
        let domains = level.map(|level| self.cluster.node_domains(level)).unwrap_or_default();
        let fit = self.cluster.node_fit(crew.bulk);
        let sum = |all: bool| -> u64 {
            let of = fit.iter().zip(&domains).filter(|(_, domain)| all || **domain == muster_placement_sdk::NO_DOMAIN);
            of.map(|(fit, _)| u64::from(*fit)).sum()
        };
        sum(false) > 0 && sum(true) >= u64::from(crew.pods)
    }
}

/// Levels of single machines, which hardly any group fits into.
fn is_of_hosts(key: &str) -> bool {
    ["kubernetes.io/hostname", "cloud.google.com/gce-topology-host", "topology.gke.io/host"].contains(&key)
}
