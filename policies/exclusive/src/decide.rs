//! From a request to answers: keep, else best fit, else hold with numbers.

use muster_placement_sdk::{Answer, Cluster, Decision, Demand, Domains, Obstacle, Request, Unit};

/// The host asks again sooner if the cluster changes.
const RETRY_MS: u32 = 30_000;

/// Domains that an answer names beside the best one, for the case that somebody takes that meanwhile.
const SPARE: usize = 7;

/// Answers for every unit, in the order of the request: those of the operator's own rule (`operator/core/src/placement/native.rs`).
///
/// A unit stays in its current domain if that is still free and large enough; else it goes to the smallest free domain that fits,
/// ties by name. Units that have a domain keep it before others choose. Without a wish for exclusive placement the scheduler
/// decides.
pub(crate) fn place<C: Cluster>(cluster: &C, request: &Request) -> Vec<Answer> {
    let Some(level) = request.exclusive else {
        let message = format!("{} asks for no topology; the scheduler decides", request.owner);
        let answer = |unit: &Unit| Answer::new(unit, Decision::Unconstrained, "Unconstrained", message.clone());
        return request.units.iter().map(answer).collect();
    };
    let key = cluster.levels().get(level as usize).cloned().unwrap_or_default();
    let mut domains = Domains::new(cluster, level, true);
    let kept: Vec<_> = request.units.iter().map(|unit| domains.keep(&unit.pods, unit.current.as_ref())).collect();
    // By demand: why nothing is left. Nothing that was given away comes back, so that the first reason stays true.
    let mut shortages: Vec<(&[Demand], Obstacle, String)> = Vec::new();
    let mut choices = Vec::with_capacity(request.units.len());
    for (unit, kept) in request.units.iter().zip(kept) {
        let chosen = kept.or_else(|| domains.best(&unit.pods));
        if chosen.is_none() && !shortages.iter().any(|(pods, ..)| *pods == unit.pods) {
            let (obstacle, message) = domains.shortage(&key, &unit.pods);
            shortages.push((&unit.pods, obstacle, message));
        }
        choices.push((chosen, kept.is_some()));
    }
    let answers = request.units.iter().zip(choices).map(|(unit, (chosen, kept))| match chosen {
        Some(domain) => {
            let named = format!("{key}={}", cluster.domain_name(level, domain));
            let mut places = vec![domains.location(domain)];
            if kept {
                return Answer::new(unit, Decision::Within(places), "Kept", format!("stays in {named}"));
            }
            places.extend(domains.spare(&unit.pods, SPARE));
            let message = format!("{named} is the smallest free domain that fits");
            Answer::new(unit, Decision::Within(places), "BestFit", message)
        }
        None => {
            let known = shortages.iter().find(|(pods, ..)| *pods == unit.pods);
            let (code, message) = known.map_or(("NoDomain", ""), |(_, obstacle, message)| (code(*obstacle), message.as_str()));
            Answer::new(unit, Decision::Hold(RETRY_MS), code, message)
        }
    });
    answers.collect()
}

fn code(obstacle: Obstacle) -> &'static str {
    match obstacle {
        Obstacle::NoDomains => "NoLabel",
        Obstacle::AllHeld => "AllDomainsHeld",
        Obstacle::TooSmall => "NoDomainLargeEnough",
    }
}
