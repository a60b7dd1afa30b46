//! From a request to answers: join a mix, else begin one, else hold with numbers.

use muster_placement_sdk::{
    Answer, Cluster, Decision, Demand, Domains, Failure, Location, NO_DOMAIN, Request, Unit, surroundings,
};

use crate::mixes::Mixes;
use crate::settings::{Exclusivity, Mode, Settings};

/// The host asks again sooner if the cluster changes.
const RETRY_MS: u32 = 30_000;

/// Answers for every unit, in the order of the request. Units that have pods somewhere keep that place before others choose.
pub(crate) fn place<C: Cluster>(settings: &Settings, cluster: &C, request: &Request) -> Result<Vec<Answer>, Failure> {
    let levels = cluster.levels();
    let level_of = |key: &String| levels.iter().position(|level| level == key).and_then(|level| u32::try_from(level).ok());
    let used = settings.keys.iter().filter_map(level_of).find(|level| cluster.domain_count(*level) > 0);
    let Some(level) = used else {
        return Err(Failure::Unsupported(format!("no node carries a domain label: looked for {}", settings.keys.join(", "))));
    };
    let Some(mixes) = Mixes::new(settings, request, level, cluster.domain_count(level)) else {
        let names: Vec<_> = settings.roles.iter().map(|role| role.role.as_str()).collect();
        let message = format!("label {} of the set should be one of: {}", settings.role, names.join(", "));
        return Ok(request.units.iter().map(|unit| Answer::new(unit, Decision::Refuse, "NoRole", message.clone())).collect());
    };
    let key = levels.get(level as usize).map_or("", String::as_str);
    let inner = match request.exclusive {
        None => None,
        Some(inner) => match Inner::new(cluster, inner, level) {
            Some(inner) => Some(inner),
            None => return Ok(contradictions(request, key, levels.get(inner as usize).map_or("", String::as_str))),
        },
    };
    let domains = Domains::new(cluster, level, false);
    let holders = cluster.domain_holders(level);
    let mut search = Search { settings, cluster, level, key, mixes, holders, domains, inner };
    let kept: Vec<_> = request.units.iter().map(|unit| search.keep(unit)).collect();
    Ok(request.units.iter().zip(kept).map(|(unit, kept)| kept.unwrap_or_else(|| search.answer(unit))).collect())
}

/// A group that must not share a domain can't sit beside others in it.
fn contradictions(request: &Request, key: &str, exclusive: &str) -> Vec<Answer> {
    let message = format!(
        "the set wants a domain of {exclusive} for each group, and groups of a mix share one of {key}: name a level inside {key} in \
         the set's exclusive-topology annotation, or remove it and use the setting exclusivity"
    );
    request.units.iter().map(|unit| Answer::new(unit, Decision::Refuse, "Contradiction", message.clone())).collect()
}

struct Search<'a, C> {
    settings: &'a Settings,
    cluster: &'a C,
    level: u32,
    /// Label key of the level.
    key: &'a str,
    mixes: Mixes<'a>,
    /// For every domain: who is there, of this application or not.
    holders: Vec<u32>,
    domains: Domains<'a, C>,
    inner: Option<Inner<'a, C>>,
}

/// Domains inside those of the mixes, one for each group, of a set that asks for exclusive placement.
struct Inner<'a, C> {
    /// For every domain: the domain of the mixes' level that all of it lies in.
    around: Vec<u32>,
    domains: Domains<'a, C>,
}

impl<'a, C: Cluster> Inner<'a, C> {
    /// None if the level is not inside the other one.
    fn new(cluster: &'a C, level: u32, outer: u32) -> Option<Self> {
        let around = surroundings(cluster, level, outer);
        let nested = around.iter().filter(|outer| **outer != NO_DOMAIN).count();
        let is_finer = level != outer && nested > cluster.domain_count(outer) as usize;
        is_finer.then(|| Self { around, domains: Domains::new(cluster, level, true) })
    }

    /// A free domain inside that one with room for the unit.
    fn take(&mut self, outer: u32, pods: &[Demand]) -> Option<Location> {
        let mut inside = self.domains.candidates(pods);
        inside.retain(|domain| self.around.get(*domain as usize) == Some(&outer));
        let domain = inside.into_iter().find_map(|domain| self.domains.take(domain, pods))?;
        Some(self.domains.location(domain))
    }
}

impl<C: Cluster> Search<'_, C> {
    fn keep(&mut self, unit: &Unit) -> Option<Answer> {
        let at = unit.current.as_ref()?;
        if let Some(inner) = &mut self.inner {
            let domain = inner.domains.keep(&unit.pods, Some(at))?;
            let location = inner.domains.location(domain);
            inner.around.get(domain as usize).iter().for_each(|outer| self.mixes.add(**outer));
            return Some(self.within(unit, location, "Kept", "stays in"));
        }
        let domain = self.domains.keep(&unit.pods, Some(at))?;
        self.mixes.add(domain);
        Some(self.within(unit, self.domains.location(domain), "Kept", "stays in"))
    }

    fn answer(&mut self, unit: &Unit) -> Answer {
        if let Some((location, company)) = self.join(unit) {
            return self.within(unit, location, "Joined", &format!("joins {company} in"));
        }
        if let Some(location) = self.begin(unit) {
            return self.within(unit, location, "Begun", &format!("begins a mix of {} in", self.settings.mix()));
        }
        let shortage = self.shortage(unit);
        if self.settings.mode == Mode::Required || self.inner.is_some() {
            return Answer::new(unit, Decision::Hold(RETRY_MS), "NoMix", shortage);
        }
        match self.alone(unit) {
            Some(location) => self.within(unit, location, "Alone", &format!("{shortage}; without the others it fits into")),
            None => Answer::new(unit, Decision::Unconstrained, "NoMixFits", format!("{shortage}; the scheduler decides")),
        }
    }

    /// A place in a mix that lacks one, at best where the unit was before.
    fn join(&mut self, unit: &Unit) -> Option<(Location, String)> {
        let mut open = self.mixes.open();
        open.retain(|domain| self.is_ours(*domain));
        let before = unit.previous.as_ref().and_then(|at| at.domains.get(self.level as usize));
        open.sort_by_key(|domain| Some(domain) != before);
        for domain in open {
            let company = self.mixes.in_words(domain);
            if let Some(location) = self.take(domain, &unit.pods, &unit.pods) {
                return Some((location, company));
            }
        }
        None
    }

    /// A domain with room for a whole mix, as far as it is known what that takes.
    fn begin(&mut self, unit: &Unit) -> Option<Location> {
        let like = unit.pods.iter().max_by_key(|demand| demand.pods)?.shape;
        let whole = self.mixes.whole(&unit.pods, like);
        for domain in self.domains.candidates(&whole) {
            let is_free = self.mixes.begun(domain) == 0 || self.settings.exclusivity != Exclusivity::ExclusiveSlice;
            if is_free && self.is_ours(domain) {
                let lacking = self.mixes.lacking(domain, like);
                let reserved: Vec<Demand> = whole.iter().copied().chain([lacking]).filter(|demand| demand.pods > 0).collect();
                if let Some(location) = self.take(domain, &unit.pods, &reserved) {
                    return Some(location);
                }
            }
        }
        None
    }

    /// Any domain with room for the unit alone.
    fn alone(&mut self, unit: &Unit) -> Option<Location> {
        let mut fitting = self.domains.candidates(&unit.pods);
        fitting.retain(|domain| self.is_ours(*domain));
        fitting.into_iter().find_map(|domain| self.take(domain, &unit.pods, &unit.pods))
    }

    /// Takes the place if `room` is there; of that only the unit's pods are given away, because the rest is for units that follow.
    fn take(&mut self, domain: u32, pods: &[Demand], room: &[Demand]) -> Option<Location> {
        if !self.domains.has_room(domain, room) {
            return None;
        }
        let location = match &mut self.inner {
            Some(inner) => inner.take(domain, pods)?,
            None => self.domains.location(domain),
        };
        self.domains.take(domain, pods)?;
        self.mixes.add(domain);
        Some(location)
    }

    /// Whether nobody else is in the domain, if that matters.
    fn is_ours(&self, domain: u32) -> bool {
        let holders = self.holders.get(domain as usize).copied().unwrap_or_default();
        // What this call gave away is counted as a member and not as a holder.
        self.settings.exclusivity == Exclusivity::None || holders <= self.mixes.members(domain)
    }

    fn within(&self, unit: &Unit, at: Location, code: &str, how: &str) -> Answer {
        let levels = self.cluster.levels();
        let key = levels.get(at.level as usize).map_or("", String::as_str);
        let message = format!("{how} {key}={}", self.cluster.domain_name(at.level, at.domain));
        Answer::new(unit, Decision::Within(vec![at]), code, message)
    }

    fn shortage(&self, unit: &Unit) -> String {
        let like = unit.pods.iter().max_by_key(|demand| demand.pods).map_or(0, |demand| demand.shape);
        let whole = self.mixes.whole(&unit.pods, like);
        let (_, message) = self.domains.shortage(self.key, &whole);
        let foreign = (0..self.cluster.domain_count(self.level)).filter(|domain| !self.is_ours(*domain)).count();
        let foreign = if foreign > 0 { format!("; others are in {foreign} of them") } else { String::new() };
        format!("no mix has a place for it, and a new one of {} {message}{foreign}", self.settings.mix())
    }
}
