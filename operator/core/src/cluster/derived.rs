//! What is derived from the node table and the ledger, and catches up with them when it is next asked for.
//!
//! ```text
//!  node, pod events ──► changes ──► levels · room for promises · slots per shape
//!  groups that moved ──────────────► seats
//! ```
//! Making any of it anew takes milliseconds at 15,000 nodes; following what has happened since the last view takes microseconds.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::changes::Change;
use super::fit::Fits;
use super::holders::{Sitting, Survey, bound_rows};
use super::ledger::{GroupId, Held, Ledger};
use super::level::{Level, Numbers};
use super::packing::Claims;
use super::reserve::{Promised, nodes_with, reserve};
use super::rows::Rows;
use super::snapshot::View;

/// Following more groups than these costs more than looking through all of them.
const MANY: usize = 4096;

/// More changes are not kept before all that is derived has caught up with them.
const LONG: usize = if cfg!(test) { 8 } else { 8192 };

/// Following more nodes that came or went costs a level more than being made again.
const MANY_MOVES: usize = if cfg!(test) { 5 } else { 512 };

/// Numbers for names of domains that need not exist, beyond four for each that does.
const SPARE_NUMBERS: usize = if cfg!(test) { 4 } else { 4096 };

/// By node: the groups that have pods bound to it, and how many.
pub(crate) type Members = HashMap<String, Vec<(GroupId, u32)>>;

/// The levels that holdings refer to.
pub(crate) type HeldLevels = BTreeMap<String, Arc<Level>>;

/// What everything is derived from.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    pub(crate) nodes: Rows,
    pub(crate) ledger: Ledger,
    pub(crate) members_on: Members,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Derived {
    /// What has happened to the node table, oldest first.
    changes: Vec<Change>,
    /// By label key.
    levels: HashMap<String, Known>,
    /// What all promises take, as it was found when so many of the changes had been seen.
    promised: (Promised, usize),
    /// Slots per node that promises leave.
    fits: Fits,
    /// Where groups sit, by level.
    sitting: HashMap<String, Sitting>,
    /// How many of the changes the seats have seen.
    seated: usize,
    /// Groups that sit elsewhere since that was last looked at.
    moved: Vec<GroupId>,
}

/// A level, as far as it has caught up.
#[derive(Debug)]
struct Known {
    level: Arc<Level>,
    numbers: Numbers,
    /// How many of the changes it has seen.
    seen: usize,
}

impl Derived {
    /// Notes a change of the node table, which is made already.
    pub(crate) fn note(&mut self, change: Change, sources: &Sources) {
        if self.levels.is_empty() && self.fits.is_empty() {
            self.promised = Default::default();
            return;
        }
        self.changes.push(change);
        if self.changes.len() >= LONG {
            self.forget_changes(sources);
        }
    }

    /// Notes that a group may sit elsewhere.
    pub(crate) fn group_moved(&mut self, group: &GroupId) {
        if self.moved.len() >= MANY {
            self.sitting.clear();
            self.moved.clear();
        }
        if !self.sitting.is_empty() {
            self.moved.push(group.clone());
        }
    }

    /// Brings the levels of holdings and all seats up to date.
    pub(crate) fn catch_up(&mut self, sources: &Sources) -> HeldLevels {
        // Names of domains that nobody has any more: with them goes all that they are numbers for.
        self.levels.retain(|_, known| known.numbers.len() <= 4 * known.level.len() + SPARE_NUMBERS);
        self.sitting.retain(|key, _| self.levels.contains_key(key));
        let keys: Vec<String> = self.sitting.keys().cloned().collect();
        keys.iter().for_each(|key| drop(self.level(key, &sources.nodes)));
        let held = sources.ledger.levels().map(|key| (key.clone(), self.level(key, &sources.nodes))).collect();
        self.follow_groups(&held, sources);
        held
    }

    /// Brings everything up to date but what nobody has asked for in a long time, and forgets the changes.
    fn forget_changes(&mut self, sources: &Sources) {
        self.levels.retain(|_, known| known.seen > 0);
        self.sitting.retain(|key, _| self.levels.contains_key(key));
        let held_levels = self.catch_up(sources);
        self.reserve_promised(&held_levels, sources);
        let (promised, seen) = &mut self.promised;
        self.fits.catch_up(&sources.nodes.with(&promised.different), &self.changes);
        self.changes.clear();
        *seen = 0;
        self.seated = 0;
        self.levels.values_mut().for_each(|known| known.seen = 0);
    }

    /// The level of that label key.
    pub(crate) fn level(&mut self, key: &str, nodes: &Rows) -> Arc<Level> {
        let seen = self.changes.len();
        let known = self.levels.entry(key.to_owned()).or_insert_with(|| {
            let mut numbers = Numbers::default();
            Known { level: Arc::new(Level::over(key, nodes, &mut numbers)), numbers, seen }
        });
        let Known { level, numbers, .. } = known;
        let new = &self.changes[known.seen..];
        match new.iter().filter(|change| level.is_touched_by(change)).count() {
            0 => {}
            1..MANY_MOVES => Arc::make_mut(level).follow(new.iter(), numbers),
            _ => *level = Arc::new(Level::over(key, nodes, numbers)),
        }
        known.seen = seen;
        Arc::clone(level)
    }

    /// The node table of a view and its slots by shape: what promises to others take is taken there.
    pub(crate) fn columns(
        &mut self,
        view: &View,
        mut claims: Claims,
        avoided: BTreeSet<u32>,
        held_levels: &HeldLevels,
        sources: &Sources,
    ) -> (Rows, Vec<Arc<[u32]>>) {
        self.reserve_promised(held_levels, sources);
        let Sources { nodes, ledger, .. } = sources;
        let (promised, _) = &self.promised;
        let base = nodes.with(&promised.different);
        let mut different: BTreeSet<u32> = claims.keys().copied().collect();
        let seen = if promised.holds_for(&view.for_groups, &claims, ledger) {
            nodes_with(base.clone(), &claims, &avoided)
        } else {
            reserve(ledger, &view.for_groups, nodes, held_levels, None, &mut claims);
            different.extend(claims.keys().chain(promised.claims.keys()));
            nodes_with(nodes.clone(), &claims, &avoided)
        };
        different.extend(avoided);
        let (fits, kept_up) = (&mut self.fits, (&base, self.changes.as_slice()));
        let fit = view.shapes.iter().map(|shape| fits.column_with(shape, kept_up, &seen, &different)).collect();
        (seen, fit)
    }

    /// Finds room for all promises, unless what was found last still stands.
    fn reserve_promised(&mut self, levels: &HeldLevels, Sources { nodes, ledger, .. }: &Sources) {
        let (promised, seen) = &mut self.promised;
        if !promised.stands(ledger, &self.changes[*seen..]) {
            let found = Promised::of(ledger, nodes, levels);
            let rows = found.differs_from(promised, &self.changes[*seen..]);
            self.changes.extend(rows.into_iter().map(Change::Room));
            *promised = found;
        }
        *seen = self.changes.len();
    }

    /// Where groups sit at a level.
    pub(crate) fn sitting(&mut self, key: &str, levels: &HeldLevels, Sources { nodes, ledger, .. }: &Sources) -> Sitting {
        let level = self.level(key, nodes);
        if let Some(sitting) = self.sitting.get(key) {
            return sitting.clone();
        }
        let survey = Survey { ledger, nodes, level: &level, levels };
        let numbers = self.levels.get_mut(key).map(|known| &mut known.numbers);
        let sitting = numbers.map(|numbers| Sitting::of(survey, numbers)).unwrap_or_default();
        self.sitting.insert(key.to_owned(), sitting.clone());
        sitting
    }

    /// Looks again where the groups sit that have moved, or that nodes have moved under. Their levels are up to date.
    fn follow_groups(&mut self, levels: &HeldLevels, sources: &Sources) {
        let new = std::mem::replace(&mut self.seated, self.changes.len())..self.changes.len();
        if !self.sitting.is_empty() {
            let seen = |key: &String| levels.contains_key(key) || self.sitting.contains_key(key);
            let moved = moved_under(&self.changes[new], seen, sources);
            moved.iter().for_each(|group| self.group_moved(group));
        }
        let Sources { nodes, ledger, .. } = sources;
        let moved: BTreeSet<GroupId> = std::mem::take(&mut self.moved).into_iter().collect();
        for group in &moved {
            let bound = bound_rows(group, ledger, nodes);
            for (key, sitting) in &mut self.sitting {
                let Some(known) = self.levels.get_mut(key) else { continue };
                let survey = Survey { ledger, nodes, level: &known.level, levels };
                sitting.update(group, &bound, survey, &mut known.numbers);
            }
        }
    }
}

/// The groups that may sit elsewhere because of nodes that came, went or got other labels of keys that are `seen`: those with pods
/// or promises there, and those that hold a domain of such a node.
fn moved_under(changes: &[Change], seen: impl Fn(&String) -> bool, sources: &Sources) -> BTreeSet<GroupId> {
    let Sources { ledger, members_on, .. } = sources;
    let (mut nodes, mut places) = (BTreeSet::new(), BTreeSet::new());
    for change in changes.iter().filter(|change| change.moves(&seen)) {
        for facts in change.facts() {
            nodes.insert(facts.name.as_str());
            places.extend(ledger.levels().filter_map(|key| Some((key.as_str(), facts.labels.get(key)?.as_str()))));
        }
    }
    if nodes.is_empty() {
        return BTreeSet::new();
    }
    let there = nodes.iter().filter_map(|node| members_on.get(*node)).flatten().map(|(group, _)| group);
    let holding = places.into_iter().flat_map(|(key, domain)| ledger.at(key, domain)).map(|(group, _)| group);
    let pins = |held: &Held| held.holding.pinned.iter().any(|(node, _)| nodes.contains(node.as_str()));
    let pinned = ledger.pinning().filter(|(_, held)| pins(held)).map(|(group, _)| group);
    there.chain(holding).chain(pinned).cloned().collect()
}
