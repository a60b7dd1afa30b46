//! From a request to answers.

use muster_placement_sdk::{Answer, Cluster, Decision, Demand, Failure, Location, Reason, Request, Unit};

use crate::settings::{Mode, Settings};
use crate::sites::Sites;

/// The host asks again sooner if the cluster changes.
const RETRY_MS: u32 = 30_000;

/// Answers for every unit, in the order of the request.
///
/// Units that have pods somewhere keep that place before others choose, so that a scale-up never takes the room of a restart.
pub(crate) fn place<C: Cluster>(settings: &Settings, cluster: &C, request: &Request) -> Result<Vec<Answer>, Failure> {
    let levels = cluster.levels();
    let is_used = |level: &u32| cluster.domain_count(*level) > 0;
    let level_of = |key: &String| levels.iter().position(|level| level == key).and_then(|level| u32::try_from(level).ok());
    let Some(pool) = settings.keys.iter().filter_map(level_of).find(is_used) else {
        return no_pools(settings, request);
    };
    let mut sites = Sites::new(cluster, pool, request.exclusive, settings.shared);
    let kept: Vec<_> = request.units.iter().map(|unit| sites.keep(&unit.pods, unit.current.as_ref())).collect();
    let words = Words { cluster, level: sites.level, key: name(&levels, sites.level) };
    let answers = request.units.iter().zip(kept).map(|(unit, kept)| match kept.or_else(|| sites.best(&unit.pods)) {
        Some(domain) => words.within(unit, domain, kept.is_some()),
        None if settings.mode == Mode::Preferred && request.exclusive.is_none() => words.unconstrained(unit, &sites),
        None => words.hold(unit, &sites),
    });
    Ok(answers.collect())
}

fn name(levels: &[String], level: u32) -> &str {
    levels.get(level as usize).map_or("", String::as_str)
}

fn no_pools(settings: &Settings, request: &Request) -> Result<Vec<Answer>, Failure> {
    let why = format!("no node carries a pool label: looked for {}", settings.keys.join(", "));
    if settings.mode == Mode::Required || request.exclusive.is_some() {
        return Err(Failure::Unsupported(why));
    }
    let answer = |unit: &Unit| Answer::new(unit, Decision::Unconstrained, "NoPools", why.clone());
    Ok(request.units.iter().map(answer).collect())
}

/// Says decisions in words.
struct Words<'a, C> {
    cluster: &'a C,
    level: u32,
    /// Label key of the level.
    key: &'a str,
}

impl<C: Cluster> Words<'_, C> {
    fn within(&self, unit: &Unit, domain: u32, kept: bool) -> Answer {
        let (key, name) = (self.key, self.cluster.domain_name(self.level, domain));
        let (code, message) = match kept {
            true => ("Kept", format!("stays in {key}={name}")),
            false => ("BestFit", format!("{key}={name} has room and the least left over")),
        };
        Answer::new(unit, Decision::Within(vec![Location { level: self.level, domain }]), code, message)
    }

    fn unconstrained(&self, unit: &Unit, sites: &Sites<'_, C>) -> Answer {
        let message = format!("{}; the scheduler decides", self.shortage(unit, sites).message);
        Answer::new(unit, Decision::Unconstrained, "NoPoolFits", message)
    }

    fn hold(&self, unit: &Unit, sites: &Sites<'_, C>) -> Answer {
        let Reason { code, message } = self.shortage(unit, sites);
        Answer::new(unit, Decision::Hold(RETRY_MS), code, message)
    }

    /// Why nothing fits: what is needed, the best there is, and how much of the rest is taken.
    fn shortage(&self, unit: &Unit, sites: &Sites<'_, C>) -> Reason {
        let total: u32 = unit.pods.iter().map(|demand| demand.pods).sum();
        let needs = format!("needs {total} {} in one {}", plural(total, "pod"), self.key);
        let holders = self.cluster.domain_holders(self.level);
        let is_held = |domain: &u32| {
            sites.exclusive && (sites.is_given(*domain) || holders.get(*domain as usize).is_some_and(|count| *count > 0))
        };
        let domains = 0..self.cluster.domain_count(self.level);
        let held = u32::try_from(domains.clone().filter(is_held).count()).unwrap_or(u32::MAX);
        let free = if sites.exclusive { "free " } else { "" };
        let roomiest = self.roomiest(unit, sites, domains.filter(|domain| sites.is_open(*domain) && !is_held(domain)));
        let (code, best) = match roomiest {
            Some(best) => ("NoPoolLargeEnough", format!("the largest {free}one, {best}")),
            None => ("NoFreePool", format!("there is no {free}one")),
        };
        let taken = match held {
            0 => String::new(),
            1 => "; 1 is held by another group".to_owned(),
            _ => format!("; {held} are held by other groups"),
        };
        Reason { code: code.to_owned(), message: format!("{needs}; {best}{taken}") }
    }

    /// The domain with the most room for the shape that most of the pods have, and what of the unit fits there.
    fn roomiest(&self, unit: &Unit, sites: &Sites<'_, C>, domains: impl Iterator<Item = u32>) -> Option<String> {
        let main = unit.pods.iter().max_by_key(|demand| demand.pods)?;
        let room = |shape| self.cluster.domain_fit(self.level, shape);
        let fit = room(main.shape);
        let left = |domain: u32, fit: &[u32]| {
            fit.get(domain as usize).copied().unwrap_or_default().saturating_sub(sites.pods_given(domain))
        };
        // The first of equals: domains are in the order of their names.
        let best = domains.max_by_key(|domain| (left(*domain, &fit), std::cmp::Reverse(*domain)))?;
        let name = self.cluster.domain_name(self.level, best);
        let part = |demand: &Demand| format!("{} of {}", left(best, &room(demand.shape)).min(demand.pods), demand.pods);
        Some(match unit.pods.as_slice() {
            [_] => format!("{name}, has room for {}", left(best, &fit)),
            pods => format!("{name}, has room for {}", pods.iter().map(part).collect::<Vec<_>>().join(" and for ")),
        })
    }
}

fn plural(count: u32, word: &str) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}
