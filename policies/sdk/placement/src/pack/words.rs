//! What people read about a packing.

use super::{Found, Pack, Place};
use crate::{Answer, Cluster, Unit};

/// Places that a message names one by one.
const MOST_NAMED: usize = 4;

/// Why a unit fits nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
    /// No domain is free, however large.
    pub none_free: bool,
    /// One sentence with numbers.
    pub message: String,
}

impl Shortage {
    /// `NoFreeDomain` or `NoDomainLargeEnough`.
    pub fn code(&self) -> &'static str {
        if self.none_free { "NoFreeDomain" } else { "NoDomainLargeEnough" }
    }
}

impl<C: Cluster> Pack<'_, C> {
    /// `rack=r1`.
    pub fn named(&self, rung: usize, domain: u32) -> String {
        format!("{}={}", self.chain.rungs[rung].key, self.chain.name(self.cluster, rung, domain))
    }

    /// `rack=r1`, or `16 in rack=r1, 16 in rack=r2`.
    pub fn in_words(&self, found: &Found) -> String {
        let part = |place: &Place| format!("{} in {}", place.pods, self.named(place.rung, place.domain));
        match found.places.as_slice() {
            [one] => self.named(one.rung, one.domain),
            several => {
                let first: Vec<_> = several.iter().take(MOST_NAMED).map(part).collect();
                match several.len().saturating_sub(MOST_NAMED) {
                    0 => first.join(", "),
                    more => format!("{} and {more} more", first.join(", ")),
                }
            }
        }
    }

    /// Why the unit does not fit into one domain of the rung: what it needs, the best there is, and how much of the rest is taken.
    pub fn shortage(&mut self, rung: usize, unit: &Unit) -> Shortage {
        let crew = self.crew(unit);
        let key = self.chain.rungs[rung].key.clone();
        let needs = format!("needs {} in one {key}", count(crew.pods, "pod"));
        let nested = &self.chain.rungs[rung].nested;
        let held = self.closed[rung].iter().zip(nested).filter(|(closed, nested)| **closed && **nested).count();
        let strays = nested.iter().filter(|nested| !**nested).count();
        let stray =
            (0..).zip(nested).find(|(_, nested)| !**nested).map(|(domain, _)| self.chain.name(self.cluster, rung, domain));
        let left = match &mut self.rooms[rung] {
            Some(room) => room.left(self.cluster, &self.shapes, &crew),
            None => &[],
        };
        let open = (0..).zip(left).zip(&self.closed[rung]).filter(|(_, closed)| !**closed);
        // The first of equals: domains are in the order of their names.
        let roomiest = open
            .map(|((domain, left), _)| (domain, *left))
            .max_by_key(|(domain, left)| (left.with_leader, left.workers, std::cmp::Reverse(*domain)));
        let free = if self.alone.is_empty() && self.apart.is_none() { "" } else { "free " };
        let best = match roomiest {
            None => format!("there is no {free}one"),
            Some((domain, left)) => {
                let name = self.chain.name(self.cluster, rung, domain);
                let room = match (left.with_leader, left.workers) {
                    (0, workers) if !crew.is_uniform() => format!("{} and none for its leader", count(workers, "worker")),
                    (pods, _) => pods.to_string(),
                };
                format!("the largest {free}one, {name}, has room for {room}")
            }
        };
        let taken = match held {
            0 => String::new(),
            1 => "; 1 is held by another group".to_owned(),
            _ => format!("; {held} are held by other groups"),
        };
        let strays = match (strays, stray) {
            (_, None) => String::new(),
            (1, Some(name)) => format!("; {name} is not inside one {}", self.chain.rungs[rung - 1].key),
            (_, Some(name)) => format!("; {strays}, such as {name}, are not inside one {}", self.chain.rungs[rung - 1].key),
        };
        Shortage { none_free: roomiest.is_none(), message: format!("{needs}; {best}{taken}{strays}") }
    }
}

/// Answers for all units: those that have running pods and can stay where these are, then the others. `answer` is asked whether a
/// unit can stay (with `true`; `None` if it can't), or for a new place. The answers are in the order of the units.
pub fn answer_all(units: &[Unit], mut answer: impl FnMut(&Unit, bool) -> Option<Answer>) -> Vec<Answer> {
    let mut answers: Vec<Option<Answer>> =
        units.iter().map(|unit| unit.current.as_ref().and_then(|_| answer(unit, true))).collect();
    for runs in [true, false] {
        for (unit, known) in
            units.iter().zip(&mut answers).filter(|(unit, known)| known.is_none() && unit.current.is_some() == runs)
        {
            *known = answer(unit, false);
        }
    }
    answers.into_iter().flatten().collect()
}

/// `1 pod`, `2 pods`.
pub fn count(number: u32, word: &str) -> String {
    if number == 1 { format!("1 {word}") } else { format!("{number} {word}s") }
}
