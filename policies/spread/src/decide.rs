//! From a request to answers.

use muster_placement_sdk::pack::{Fit, Found, Pack, Step, WHOLE, Want, answer_all, count};
use muster_placement_sdk::{Answer, Cluster, Decision, Failure, Request, Unit};

use crate::settings::{Limit, Mode, Settings};

/// The host asks again sooner if the cluster changes.
const RETRY_MS: u32 = 30_000;

/// Answers for every unit, in the order of the request.
pub(crate) fn place<C: Cluster>(settings: &Settings, cluster: &C, request: &Request) -> Result<Vec<Answer>, Failure> {
    let steps = [Step { key: settings.key.clone(), optional: false }];
    let may_be_anywhere = settings.mode == Mode::Preferred && request.exclusive.is_none();
    let pack = match Pack::new(cluster, &steps, request.exclusive) {
        Ok(pack) => pack,
        Err(why) if may_be_anywhere => {
            let answer =
                |unit: &Unit| Answer::new(unit, Decision::Unconstrained, "NoDomains", format!("{why}; the scheduler decides"));
            return Ok(request.units.iter().map(answer).collect());
        }
        Err(why) => return Err(Failure::Unsupported(why)),
    };
    let spread = pack.chain.rung_of[0].unwrap_or(0);
    // A set that asks for a domain of its own of a nearer level gets one, inside the domain that is chosen.
    let nearest = pack.alone().iter().copied().max().unwrap_or(spread).max(spread);
    let counts = groups(request, &pack, spread);
    let mut decider = Decider { settings, pack, spread, nearest, counts, may_be_anywhere };
    Ok(answer_all(&request.units, |unit, stay| decider.answer(unit, stay)))
}

/// For every domain: how many groups have their place there, of the set and of its peers.
fn groups<C>(request: &Request, pack: &Pack<'_, C>, spread: usize) -> Vec<u32> {
    let rung = &pack.chain.rungs[spread];
    let mut counts = vec![0_u32; rung.parents.len()];
    let places = request.placed.iter().map(|placed| &placed.domains).chain(request.peers.iter().map(|peer| &peer.domains));
    for domains in places {
        let domain = rung.level.and_then(|level| domains.get(level as usize));
        if let Some(count) = domain.and_then(|domain| counts.get_mut(*domain as usize)) {
            *count += 1;
        }
    }
    counts
}

struct Decider<'p, 'a, C> {
    settings: &'p Settings,
    pack: Pack<'a, C>,
    /// The rung over which groups are spread.
    spread: usize,
    /// The rung of which a unit gets a domain: that one, or the set's exclusive one inside it.
    nearest: usize,
    /// For every domain of `spread`: its groups.
    counts: Vec<u32>,
    may_be_anywhere: bool,
}

impl<C: Cluster> Decider<'_, '_, C> {
    fn answer(&mut self, unit: &Unit, stay: bool) -> Option<Answer> {
        let room = self.room(unit);
        let allowed = self.allowed(&room);
        let Some(found) = self.find(unit, &allowed, stay) else {
            return (!stay).then(|| self.nowhere(unit, &allowed, &room));
        };
        let place = self.pack.in_words(&found);
        let home = found.places.first().and_then(|place| self.pack.chain.around(place.rung, place.domain, self.spread))?;
        let groups = self.counts[home as usize];
        self.counts[home as usize] += 1;
        let has = format!("{} has {}", self.pack.named(self.spread, home), count(groups, "other group"));
        let (code, message) = match (stay, allowed[home as usize]) {
            (true, _) => ("Kept", format!("stays in {place}")),
            (false, true) => ("Spread", format!("{place}: {has}")),
            (false, false) => {
                ("Skewed", format!("{place}: {has}, which is more than asked for, and those with fewer have no room"))
            }
        };
        Some(Answer::new(unit, self.pack.decision(&found)?, code, message))
    }

    /// For every domain of `spread`: whether the unit fits there.
    fn room(&mut self, unit: &Unit) -> Vec<bool> {
        let needs = self.pack.crew(unit).needs();
        let left: Vec<bool> = self.pack.left(self.nearest, unit).iter().map(|left| left.with_leader >= needs).collect();
        let mut room = vec![false; self.counts.len()];
        for (domain, _) in (0..).zip(left).filter(|(_, fits)| *fits) {
            let around =
                self.pack.chain.around(self.nearest, domain, self.spread).filter(|_| self.pack.is_open(self.nearest, domain));
            if let Some(room) = around.and_then(|around| room.get_mut(around as usize)) {
                *room = true;
            }
        }
        room
    }

    /// For every domain of `spread`: whether one more group is within the limit. Domains count that have a group or room for this one.
    fn allowed(&self, room: &[bool]) -> Vec<bool> {
        let counted = self.counts.iter().zip(room).filter(|(groups, room)| **groups > 0 || **room).map(|(groups, _)| *groups);
        let fewest = counted.min().unwrap_or(0);
        let all: u64 = self.counts.iter().map(|groups| u64::from(*groups)).sum();
        let within = |groups: u32| match self.settings.limit {
            Limit::Skew(skew) => groups + 1 - fewest.min(groups) <= skew,
            Limit::Share(share) => u64::from(groups) * 100 <= u64::from(share) * all,
        };
        self.counts.iter().map(|groups| within(*groups)).collect()
    }

    /// A place in a domain with as few groups as possible.
    fn find(&mut self, unit: &Unit, allowed: &[bool], stay: bool) -> Option<Found> {
        let mut blocks = vec![0; self.pack.chain.rungs.len()];
        blocks[self.spread] = WHOLE;
        let order = |domain: u32| {
            let around = self.pack.chain.around(self.nearest, domain, self.spread).map(|around| around as usize);
            let ranked = around.and_then(|around| Some((*self.counts.get(around)?, *allowed.get(around)?)));
            match (ranked, self.settings.mode) {
                // A unit stays where it runs whatever the others do.
                (Some(_), _) if stay => 0,
                (Some((groups, true)), _) => groups,
                // After all that are within the limit.
                (Some((groups, false)), Mode::Preferred) => groups.saturating_add(1 << 24),
                (Some((_, false)), Mode::Required) | (None, _) => u32::MAX,
            }
        };
        let domains = u32::try_from(self.pack.chain.rungs[self.nearest].parents.len()).unwrap_or(u32::MAX);
        let order = (0..domains).map(order).collect();
        self.pack.place(&Want { order, ..Want::new(unit, blocks, Fit::Best) }, stay)
    }

    fn nowhere(&mut self, unit: &Unit, allowed: &[bool], room: &[bool]) -> Answer {
        let too_many = allowed.iter().zip(room).filter(|(allowed, room)| **room && !**allowed).count();
        let shortage = self.pack.shortage(self.nearest, unit);
        if too_many == 0 {
            return match self.may_be_anywhere {
                true => Answer::new(
                    unit,
                    Decision::Unconstrained,
                    "NoDomainFits",
                    format!("{}; the scheduler decides", shortage.message),
                ),
                false => Answer::new(unit, Decision::Hold(RETRY_MS), shortage.code(), shortage.message),
            };
        }
        let key = &self.settings.key;
        let limit = match self.settings.limit {
            Limit::Skew(skew) => format!("at most {} more than another", count(skew, "group")),
            Limit::Share(share) => format!("at most {share}% of the groups before the next one"),
        };
        let message = format!(
            "a {key} may have {limit}; {too_many} with room for {} have too many groups, and the others no room",
            count(unit.size(), "pod")
        );
        Answer::new(unit, Decision::Hold(RETRY_MS), "WouldBeSkewed", message)
    }
}
