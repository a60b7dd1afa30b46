//! Whose turn it is when several sets wait for the same room: the more important first, then the older.
//!
//! Sets are reconciled side by side, in the order of events. Without turns the one that happens to be looked at first takes a
//! domain that has just become free, whoever has waited for it. A set gives way only in the moment in which it would get its
//! place, and only to one that could use that very room and has not been asked since room was freed.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use muster_api::LeaderWorkerSet;

use super::{Asked, Settled, explain, settle};
use crate::ask::group_id;
use crate::cluster::{Index, Snapshot, Verdict, View};
use crate::placement::{Answer, Reason, Request};

/// The code of the reason for which a group that lets another set go first has no place.
pub const AFTER_OTHERS: &str = "AfterOthers";

/// How soon a set that gave way is asked again.
const AGAIN: Duration = Duration::from_millis(200);

/// A set's place in the queue: the smaller the sooner. Sets of one priority that are equally old go by their names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    priority: Reverse<i32>,
    created: Option<Timestamp>,
    owner: String,
}

impl Rank {
    /// The rank of the most important of these groups.
    pub fn of(set: &LeaderWorkerSet, request: &Request) -> Self {
        let priority = request.units.iter().map(|unit| unit.priority).max().unwrap_or(0);
        let created = set.metadata.creation_timestamp.as_ref().map(|time| time.0);
        Self { priority: Reverse(priority), created, owner: request.owner.clone() }
    }
}

/// What a set that waits needs.
#[derive(Debug, Clone)]
pub struct Claim {
    rank: Rank,
    asked: Option<u64>,
    view: View,
    request: Request,
}

impl Claim {
    /// The claim of groups that were asked about on this generation of the index, or not at all yet.
    pub fn new(set: &LeaderWorkerSet, asked: &Asked<'_>, generation: Option<u64>) -> Self {
        let Asked { view, request, .. } = asked;
        Self { rank: Rank::of(set, request), asked: generation, view: view.clone(), request: request.clone() }
    }

    /// Its place in the queue.
    pub fn rank(&self) -> &Rank {
        &self.rank
    }

    /// Whether it was not asked since room was freed (see [`Index::freed`]), and comes before this rank.
    pub fn goes_before(&self, rank: &Rank, freed: u64) -> bool {
        self.asked.is_none_or(|asked| asked < freed) && self.rank < *rank
    }

    /// Domains with room, for each kind of group that the set waits with.
    fn open_domains(&self, index: &mut Index) -> Vec<BTreeSet<String>> {
        let snapshot = index.snapshot(self.view.clone());
        let asked = Asked { questions: &[], view: self.view.clone(), request: self.request.clone() };
        let mut kinds: Vec<_> = Vec::new();
        let mut open = Vec::new();
        for unit in &self.request.units {
            if kinds.contains(&&unit.pods) {
                continue;
            }
            kinds.push(&unit.pods);
            let explained = explain(&asked, &snapshot, unit.id).map(|(_, explanation)| explanation);
            let domains = explained.into_iter().filter(|explanation| explanation.fits()).flat_map(|known| known.domains);
            let fitting = domains.filter(|report| matches!(report.verdict, Verdict::Fits { .. }));
            open.push(fitting.map(|report| report.domain).collect());
        }
        open
    }
}

/// [`settle`], unless that takes room from one of those ahead: then the whole batch gives way. Returns the position of the one
/// that goes first.
pub fn settle_in_turn(
    index: &mut Index,
    set: &LeaderWorkerSet,
    asked: &Asked<'_>,
    snapshot: &Snapshot,
    answers: &[Answer],
    by: &str,
    ahead: &[&Claim],
) -> (Settled, Option<usize>) {
    if ahead.is_empty() {
        return (settle(index, set, asked, snapshot, answers, by), None);
    }
    let open: Vec<_> = ahead.iter().map(|claim| claim.open_domains(index)).collect();
    let groups = asked.questions.iter().map(|question| (question.group, group_id(set, question.leader)));
    let held: Vec<_> = groups.map(|(unit, group)| (unit, index.held(&group), group)).collect();
    let mut settled = settle(index, set, asked, snapshot, answers, by);
    let loses = |index: &mut Index, (claim, before): (&&Claim, &Vec<BTreeSet<String>>)| {
        let after = claim.open_domains(index);
        before.iter().zip(&after).any(|(before, after)| !before.is_subset(after))
    };
    let first = ahead.iter().zip(&open).position(|claim| loses(index, claim));
    if let Some(first) = first {
        let reason = after(ahead[first]);
        for (unit, before, group) in held {
            if index.held(&group) != before && settled.placed.remove(&unit).is_some() {
                index.put_back(&group, before);
                settled.held.insert(unit, (reason.clone(), Some(AGAIN)));
            }
        }
    }
    (settled, first)
}

fn after(first: &Claim) -> Reason {
    let message = format!("{} is more important or older, waits for the same room and goes first", first.rank.owner);
    Reason { code: AFTER_OTHERS.to_owned(), message }
}

#[cfg(test)]
mod tests;
