//! The native placement policy: exclusive, best fit. What the core does when no component is asked.

use std::collections::BTreeMap;

use super::{Answer, Decision, Demand, DomainId, LevelId, Place, Reason, Request, Unit};
use crate::cluster::{Apart, Best, Claims, DomainReport, Seating, Snapshot, SubgroupId, Verdict};

/// Milliseconds after which a unit that fits nowhere is asked about again if the cluster does not change before.
pub const RETRY_MS: u32 = 30_000;

/// Answers for every unit of the request, in its order.
///
/// An exclusive unit stays in its current domain if that is still free and large enough; else it goes to the smallest free
/// domain that fits, ties by name. Units that have a domain keep it before others choose, so that a scale-up never takes the
/// place of a restart. Subgroups that must not share domains have to find some inside; without exclusivity for the whole unit they
/// are spread over all domains there are. Otherwise the scheduler decides.
pub fn place(snapshot: &Snapshot, request: &Request) -> Vec<Answer> {
    let Some(level) = request.exclusive else {
        return match request.subgroup_exclusive {
            Some(level) => apart(snapshot, request, level),
            None => request.units.iter().map(|unit| unconstrained(request, unit)).collect(),
        };
    };
    let mut search = Search::new(snapshot, request, level);
    let kept: Vec<Option<DomainId>> = request.units.iter().map(|unit| search.keep(unit)).collect();
    let answers = request.units.iter().zip(kept).map(|(unit, kept)| search.answer(unit, kept));
    answers.collect()
}

fn unconstrained(request: &Request, unit: &Unit) -> Answer {
    let message = format!("{} asks for no topology; the scheduler decides", request.owner);
    answer(unit, Decision::Unconstrained, "Unconstrained", message)
}

/// Finds the subgroups of all units domains in one go.
fn apart(snapshot: &Snapshot, request: &Request, level: LevelId) -> Vec<Answer> {
    let (claims, mut taken) = (Claims::new(), BTreeMap::new());
    let found = Seating { snapshot, level, claims: &claims, taken: &BTreeMap::new() }.find_all(&request.units);
    for (unit, domains) in request.units.iter().zip(&found) {
        let domains = domains.iter().flatten().copied();
        taken.extend(domains.zip(unit.subgroups.iter().map(|subgroup| subgroup.id.clone())));
    }
    let each = request.units.iter().zip(found).map(|(unit, found)| match found {
        _ if unit.subgroups.is_empty() => unconstrained(request, unit),
        Ok(domains) => {
            let key = snapshot.levels().get(level.0 as usize).map_or("", String::as_str);
            let names: Vec<_> = domains.iter().filter_map(|domain| snapshot.domain_name(level, *domain)).collect();
            let message = format!("each subgroup has a domain of {key} of its own: {}", names.join(", "));
            answer(unit, Decision::Apart(domains), "SubgroupsApart", message)
        }
        Err(_) => {
            let explanation = snapshot.explain_subgroups(&Apart { unit, level, taken: &taken });
            let code = if explanation.domains.is_empty() { "NoLabel" } else { "TooFewDomains" };
            answer(unit, Decision::Hold { retry_ms: RETRY_MS }, code, explanation.summary())
        }
    });
    each.collect()
}

/// One request on its way through the free domains.
struct Search<'a> {
    snapshot: &'a Snapshot,
    request: &'a Request,
    level: LevelId,
    taken: BTreeMap<DomainId, u32>,
    /// Domains that subgroups have, of those levels that cross the units' domains.
    seated: BTreeMap<DomainId, SubgroupId>,
    /// By demand: most units of a set demand the same.
    offers: Vec<Offer<'a>>,
}

/// What there is for one demand.
struct Offer<'a> {
    pods: &'a [Demand],
    /// Free domains that fit, best first, as far as they were looked for.
    domains: Vec<DomainId>,
    /// The others.
    more: Best<'a>,
    /// How many of the first of them are known to be taken. What is taken stays so, and without this every unit would walk past
    /// the domains of all units before it.
    passed: usize,
    /// Why nothing is left, once that is so.
    nothing: Option<Reason>,
}

impl<'a> Search<'a> {
    fn new(snapshot: &'a Snapshot, request: &'a Request, level: LevelId) -> Self {
        Self { snapshot, request, level, taken: BTreeMap::new(), seated: BTreeMap::new(), offers: Vec::new() }
    }

    /// Takes the unit's current domain if it is still good.
    fn keep(&mut self, unit: &Unit) -> Option<DomainId> {
        let domain = *unit.current.as_ref()?.domains.get(self.level.0 as usize).filter(|domain| **domain != DomainId::NONE)?;
        let place = Place { level: self.level, domain };
        let free = self.snapshot.holder(place).is_none() && !self.taken.contains_key(&domain);
        let good = free && self.snapshot.fits(place, &unit.pods) && self.take(unit, domain);
        good.then_some(domain)
    }

    /// Takes a domain for the unit, unless its subgroups don't find one each inside.
    fn take(&mut self, unit: &Unit, domain: DomainId) -> bool {
        if let Some(level) = self.request.subgroup_exclusive.filter(|_| !unit.subgroups.is_empty()) {
            let rows = self.snapshot.rows(Place { level: self.level, domain });
            let seating = Seating { snapshot: self.snapshot, level, claims: &Claims::new(), taken: &self.seated };
            let Ok(seats) = seating.find(unit, Some(rows)) else { return false };
            self.seated.extend(seats.domains.into_iter().zip(unit.subgroups.iter().map(|subgroup| subgroup.id.clone())));
        }
        self.taken.insert(domain, unit.id);
        true
    }

    fn answer(&mut self, unit: &'a Unit, kept: Option<DomainId>) -> Answer {
        if let Some(domain) = kept {
            let message = format!("stays in {}", self.named(domain));
            return answer(unit, self.within(domain), "Kept", message);
        }
        let offer = self.offer(unit);
        if self.offers[offer].nothing.is_none()
            && let Some(domain) = self.take_first(unit, offer)
        {
            let message = format!("{} is the smallest free domain that fits", self.named(domain));
            return answer(unit, self.within(domain), "BestFit", message);
        }
        let reason = self.offers[offer].nothing.clone().unwrap_or_else(|| self.why_nothing(unit));
        self.offers[offer].nothing = Some(reason.clone());
        Answer::new(unit.id, Decision::Hold { retry_ms: RETRY_MS }, reason)
    }

    /// Takes the first domain of the offer that is free and good for the unit.
    fn take_first(&mut self, unit: &Unit, offer: usize) -> Option<DomainId> {
        let Offer { domains, passed, .. } = &mut self.offers[offer];
        *passed += domains[*passed..].iter().take_while(|domain| self.taken.contains_key(domain)).count();
        let first = *passed;
        for position in first.. {
            let Offer { domains, more, .. } = &mut self.offers[offer];
            if position == domains.len() {
                domains.push(more.next()?);
            }
            let domain = domains[position];
            if !self.taken.contains_key(&domain) && self.take(unit, domain) {
                return Some(domain);
            }
        }
        None
    }

    /// Position of the offer for the unit's demand. Subgroups are a part of it: those of one set with the same pods differ only in
    /// what earlier incarnations have left behind.
    fn offer(&mut self, unit: &'a Unit) -> usize {
        let like = |offer: &Offer<'_>| offer.pods == unit.pods.as_slice() && unit.subgroups.is_empty();
        self.offers.iter().position(like).unwrap_or_else(|| {
            let more = self.snapshot.best(self.level, &unit.pods, true);
            self.offers.push(Offer { pods: &unit.pods, domains: Vec::new(), more, passed: 0, nothing: None });
            self.offers.len() - 1
        })
    }

    fn why_nothing(&self, unit: &Unit) -> Reason {
        let mut explanation = match self.request.subgroup_exclusive.filter(|_| !unit.subgroups.is_empty()) {
            Some(level) => {
                let apart = Apart { unit, level, taken: &self.seated };
                self.snapshot.explain_with_subgroups(self.level, true, &apart)
            }
            None => self.snapshot.explain(self.level, &unit.pods, true),
        };
        for (domain, report) in (0..).map(DomainId).zip(&mut explanation.domains) {
            if let Some(other) = self.taken.get(&domain) {
                report.verdict = Verdict::Held { by: format!("{} group {other}", self.request.owner) };
            }
        }
        let held = |report: &DomainReport| matches!(report.verdict, Verdict::Held { .. });
        let code = match () {
            () if explanation.domains.is_empty() => "NoLabel",
            () if explanation.domains.iter().all(held) => "AllDomainsHeld",
            () => "NoDomainLargeEnough",
        };
        Reason { code: code.to_owned(), message: explanation.summary() }
    }

    fn within(&self, domain: DomainId) -> Decision {
        Decision::within(Place { level: self.level, domain })
    }

    fn named(&self, domain: DomainId) -> String {
        let key = self.snapshot.levels().get(self.level.0 as usize).map_or("", String::as_str);
        format!("{key}={}", self.snapshot.domain_name(self.level, domain).unwrap_or_default())
    }
}

fn answer(unit: &Unit, decision: Decision, code: &str, message: String) -> Answer {
    Answer::new(unit.id, decision, Reason { code: code.to_owned(), message })
}
