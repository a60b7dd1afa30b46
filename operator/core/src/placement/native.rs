//! The native placement policy: exclusive, best fit. What the core does when no component is asked.

use std::collections::BTreeMap;

use super::{Answer, Decision, Demand, DomainId, LevelId, Place, Reason, Request, Unit};
use crate::cluster::{DomainReport, Snapshot, Verdict};

/// Milliseconds after which a unit that fits nowhere is asked about again if the cluster does not change before.
pub const RETRY_MS: u32 = 30_000;

/// Answers for every unit of the request, in its order.
///
/// An exclusive unit stays in its current domain if that is still free and large enough; else it goes to the smallest free
/// domain that fits, ties by name. Units that have a domain keep it before others choose, so that a scale-up never takes the
/// place of a restart. Without exclusivity the scheduler decides.
pub fn place(snapshot: &Snapshot, request: &Request) -> Vec<Answer> {
    let Some(level) = request.exclusive else {
        let message = format!("{} asks for no topology; the scheduler decides", request.owner);
        return request
            .units
            .iter()
            .map(|unit| answer(unit, Decision::Unconstrained, "Unconstrained", message.clone()))
            .collect();
    };
    let mut search = Search::new(snapshot, request, level);
    let kept: Vec<Option<DomainId>> = request.units.iter().map(|unit| search.keep(unit)).collect();
    let answers = request.units.iter().zip(kept).map(|(unit, kept)| search.answer(unit, kept));
    answers.collect()
}

/// One request on its way through the free domains.
struct Search<'a> {
    snapshot: &'a Snapshot,
    request: &'a Request,
    level: LevelId,
    taken: BTreeMap<DomainId, u32>,
    /// By demand: most units of a set demand the same.
    offers: Vec<Offer<'a>>,
}

/// What there is for one demand.
struct Offer<'a> {
    pods: &'a [Demand],
    /// Free domains that fit, best first.
    domains: Vec<DomainId>,
    /// Why nothing is left, once that is so.
    nothing: Option<Reason>,
}

impl<'a> Search<'a> {
    fn new(snapshot: &'a Snapshot, request: &'a Request, level: LevelId) -> Self {
        Self { snapshot, request, level, taken: BTreeMap::new(), offers: Vec::new() }
    }

    /// Takes the unit's current domain if it is still good.
    fn keep(&mut self, unit: &Unit) -> Option<DomainId> {
        let current = unit.current?;
        let domain = self.snapshot.around(self.level, self.snapshot.rows(current))?;
        let place = Place { level: self.level, domain };
        let free = self.snapshot.holder(place).is_none() && !self.taken.contains_key(&domain);
        let good = free && self.snapshot.fits(place, &unit.pods);
        good.then(|| self.taken.insert(domain, unit.id));
        good.then_some(domain)
    }

    fn answer(&mut self, unit: &'a Unit, kept: Option<DomainId>) -> Answer {
        if let Some(domain) = kept {
            let message = format!("stays in {}", self.named(domain));
            return answer(unit, self.within(domain), "Kept", message);
        }
        let offer = self.offer(unit);
        let best = self.offers[offer].domains.iter().copied().find(|domain| !self.taken.contains_key(domain));
        if let Some(domain) = best {
            self.taken.insert(domain, unit.id);
            let message = format!("{} is the smallest free domain that fits", self.named(domain));
            return answer(unit, self.within(domain), "BestFit", message);
        }
        let reason = self.offers[offer].nothing.clone().unwrap_or_else(|| self.why_nothing(&unit.pods));
        self.offers[offer].nothing = Some(reason.clone());
        Answer { unit: unit.id, decision: Decision::Hold { retry_ms: RETRY_MS }, reason }
    }

    /// Position of the offer for the unit's demand.
    fn offer(&mut self, unit: &'a Unit) -> usize {
        self.offers.iter().position(|offer| offer.pods == unit.pods.as_slice()).unwrap_or_else(|| {
            let domains = self.snapshot.best_domains(self.level, &unit.pods, true, u32::MAX);
            let domains = domains.into_iter().map(DomainId).collect();
            self.offers.push(Offer { pods: &unit.pods, domains, nothing: None });
            self.offers.len() - 1
        })
    }

    fn why_nothing(&self, pods: &[Demand]) -> Reason {
        let mut explanation = self.snapshot.explain(self.level, pods, true);
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
        Decision::Within(Place { level: self.level, domain })
    }

    fn named(&self, domain: DomainId) -> String {
        let key = self.snapshot.levels().get(self.level.0 as usize).map_or("", String::as_str);
        format!("{key}={}", self.snapshot.domain_name(self.level, domain).unwrap_or_default())
    }
}

fn answer(unit: &Unit, decision: Decision, code: &str, message: String) -> Answer {
    Answer { unit: unit.id, decision, reason: Reason { code: code.to_owned(), message } }
}
