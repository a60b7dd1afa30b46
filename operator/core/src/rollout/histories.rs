//! Rollouts with everything that may happen to them: a model of the StatefulSet controller and of caches that lag behind, and random
//! histories of what users, nodes, the controller and the operator do.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// One leader with its workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Group {
    revision: u8,
    ready: bool,
    deleting: bool,
    /// The update took it down while it was ready, and its successor is not ready yet.
    lost: bool,
}

/// What the operator wrote last, and what the StatefulSet controller has seen of it.
#[derive(Debug, Clone, Copy)]
struct LeaderSet {
    current: Current,
    revision: u8,
    seen: Current,
    seen_revision: u8,
    /// The revision that groups below the partition are made from.
    old_revision: u8,
}

#[derive(Debug, Clone, Copy)]
struct Wish {
    replicas: u32,
    budget: Budget,
    partition: u32,
    revision: u8,
}

#[derive(Debug, Clone)]
enum Event {
    /// The operator looks at its caches and acts.
    Reconcile,
    /// The StatefulSet controller reads the StatefulSet.
    Observe,
    /// It makes one sync on what it has read.
    Sync,
    /// A pod that was being deleted is gone.
    Gone(Index),
    Ready(Index),
    Fails(Index),
    /// The operator's cache catches up on one group.
    Cache(Index),
    Scale(u32),
    Template(u8),
    Partition(u32),
    Budget(u32, u32),
}

const MOST: u32 = 6;

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => Just(Event::Reconcile),
        5 => Just(Event::Observe),
        8 => Just(Event::Sync),
        5 => any::<Index>().prop_map(Event::Gone),
        8 => any::<Index>().prop_map(Event::Ready),
        2 => any::<Index>().prop_map(Event::Fails),
        12 => any::<Index>().prop_map(Event::Cache),
        1 => (0..=MOST).prop_map(Event::Scale),
        1 => (0_u8..4).prop_map(Event::Template),
        1 => (0..=MOST + 1).prop_map(Event::Partition),
        1 => (0_u32..4, 0_u32..4).prop_map(|(unavailable, surge)| Event::Budget(unavailable, surge)),
    ]
}

fn budget(replicas: u32, max_unavailable: u32, max_surge: u32) -> Budget {
    let max_surge = max_surge.min(replicas);
    let exhausted = replicas > 0 && max_surge == 0 && max_unavailable == 0;
    Budget { max_unavailable: if exhausted { 1 } else { max_unavailable }, max_surge }
}

#[derive(Debug)]
struct World {
    wish: Wish,
    unscaled: (u32, u32),
    leaders: LeaderSet,
    groups: Vec<Option<Group>>,
    cache: Vec<Option<Group>>,
    /// Groups that were down when the partition passed them: what becomes of them is no loss to the update.
    free: Vec<bool>,
    /// Groups of this revision never get ready.
    broken: u8,
}

impl World {
    fn new(replicas: u32, unavailable: u32, surge: u32) -> Self {
        let current = Current { partition: 0, replicas, set_replicas: replicas };
        let room = (MOST * 2) as usize;
        let group = |index: usize| {
            (index < replicas as usize).then_some(Group { revision: 0, ready: true, deleting: false, lost: false })
        };
        let groups: Vec<_> = (0..room).map(group).collect();
        Self {
            wish: Wish { replicas, budget: budget(replicas, unavailable, surge), partition: 0, revision: 0 },
            unscaled: (unavailable, surge),
            leaders: LeaderSet { current, revision: 0, seen: current, seen_revision: 0, old_revision: 0 },
            cache: groups.clone(),
            groups,
            free: vec![false; room],
            broken: 3,
        }
    }

    fn state(&self, index: u32) -> GroupState {
        let Some(group) = self.cache[index as usize] else { return GroupState::MISSING };
        let (ready, updated) = (group.ready && !group.deleting, group.revision == self.wish.revision);
        GroupState { ready, updated, stuck: !ready && !updated && !group.deleting && group.revision == self.broken }
    }

    fn reconcile(&mut self) -> Result<(), TestCaseError> {
        let states: Vec<GroupState> = (0..self.leaders.current.replicas).map(|index| self.state(index)).collect();
        let template_changed = self.leaders.revision != self.wish.revision;
        let before = self.leaders.current;
        let rollout = Rollout {
            replicas: self.wish.replicas,
            budget: self.wish.budget,
            user_partition: self.wish.partition,
            current: Some(before),
            template_changed,
            groups: &states,
        };
        let next = next(&rollout);
        prop_assert!(
            next.replicas <= self.wish.replicas + self.wish.budget.max_surge,
            "too many groups: {next:?} for {rollout:?}"
        );
        let settled = self.leaders.seen == before && self.leaders.seen_revision == self.leaders.revision;
        let due =
            if settled && !template_changed { replaceable(&rollout, before.partition.max(next.partition)) } else { Vec::new() };

        let top = if template_changed { u32::MAX } else { before.partition };
        let passed: Vec<u32> = (next.partition..next.replicas).filter(|index| *index < top).collect();
        for index in &passed {
            self.free[*index as usize] = !states.get(*index as usize).is_some_and(|state| state.ready);
        }
        self.leaders.current = Current { partition: next.partition, replicas: next.replicas, set_replicas: self.wish.replicas };
        self.leaders.revision = self.wish.revision;
        if passed.iter().any(|index| self.is_let_go(*index, next)) {
            self.within_budget(&rollout, next, before)?;
        }
        for index in due.into_iter().filter(|index| *index < next.replicas) {
            self.delete(index);
        }
        Ok(())
    }

    /// A ready group that the partition has let go is going to be replaced.
    fn is_let_go(&self, index: u32, next: Target) -> bool {
        let outdated = |group: Group| group.revision != self.wish.revision && group.ready && !group.deleting;
        index >= next.partition && !self.free[index as usize] && self.groups[index as usize].is_some_and(outdated)
    }

    /// Whoever replaces the groups that are let go, and when: those and the ones that are lost already fit into the budget.
    fn within_budget(&self, rollout: &Rollout<'_>, next: Target, before: Current) -> Result<(), TestCaseError> {
        let exists = |index: &u32| self.groups[*index as usize].is_some();
        let at_stake = |index: &u32| self.groups[*index as usize].is_some_and(|group| group.lost) || self.is_let_go(*index, next);
        let all = || 0..self.leaders.current.replicas.max(next.replicas);
        let mut lost = all().filter(at_stake).count();
        // A group that an earlier update broke for good is counted, unless this update would never get to it otherwise.
        let state = |index: u32| rollout.groups.get(index as usize).copied().unwrap_or(GroupState::MISSING);
        if (before.partition..before.replicas).all(|index| state(index).ready && state(index).updated) {
            lost -= all().filter(|index| state(*index).stuck && at_stake(index)).count();
        }
        let surge = (self.wish.replicas..next.replicas.max(self.wish.replicas)).filter(exists).count();
        let allowed = self.wish.budget.max_unavailable as usize + surge;
        prop_assert!(lost <= allowed, "{lost} groups lost to the update, {allowed} allowed: {rollout:?} → {next:?}\n{self:?}");
        Ok(())
    }

    /// Takes a group down for the update.
    fn delete(&mut self, index: u32) {
        if let Some(group) = &mut self.groups[index as usize]
            && !group.deleting
        {
            group.lost |= group.ready && !self.free[index as usize];
            group.deleting = true;
            group.ready = false;
        }
    }

    /// What a stock StatefulSet controller does in one sync.
    fn sync(&mut self) {
        let LeaderSet { seen, seen_revision, old_revision, .. } = self.leaders;
        for index in 0..self.groups.len() as u32 {
            let slot = &mut self.groups[index as usize];
            if index >= seen.replicas {
                if let Some(group) = slot {
                    *group = Group { deleting: true, ready: false, lost: false, ..*group };
                }
            } else if slot.is_none() {
                let revision = if index < seen.partition { old_revision } else { seen_revision };
                *slot = Some(Group { revision, ready: false, deleting: false, lost: false });
            }
        }
        for index in (seen.partition..seen.replicas).rev() {
            let Some(group) = self.groups[index as usize] else { break };
            if group.revision != seen_revision && !group.deleting {
                self.delete(index);
                break;
            }
            if !group.ready {
                break;
            }
        }
        let all_new = |index| self.groups[index as usize].is_some_and(|group| group.revision == seen_revision && group.ready);
        if seen.partition == 0 && (0..seen.replicas).all(all_new) {
            self.leaders.old_revision = seen_revision;
        }
    }

    fn existing(&self, index: Index) -> Option<u32> {
        let existing: Vec<u32> = (0..self.groups.len() as u32).filter(|index| self.groups[*index as usize].is_some()).collect();
        (!existing.is_empty()).then(|| *index.get(&existing))
    }

    fn gone(&mut self, index: u32) {
        if self.groups[index as usize].is_some_and(|group| group.deleting) {
            let lost = self.groups[index as usize].is_some_and(|group| group.lost);
            let seen = self.leaders.seen;
            // The controller makes the successor; that it comes a moment later makes no difference to the count.
            self.groups[index as usize] = (index < seen.replicas).then(|| {
                let revision = if index < seen.partition { self.leaders.old_revision } else { self.leaders.seen_revision };
                Group { revision, ready: false, deleting: false, lost }
            });
        }
    }

    fn ready(&mut self, index: u32) {
        if let Some(group) = &mut self.groups[index as usize]
            && !group.deleting
            && group.revision != self.broken
        {
            group.ready = true;
            group.lost = false;
        }
    }

    fn observe(&mut self) {
        self.leaders.seen = self.leaders.current;
        self.leaders.seen_revision = self.leaders.revision;
    }

    fn rescale(&mut self, replicas: u32) {
        self.wish.replicas = replicas;
        self.wish.budget = budget(replicas, self.unscaled.0, self.unscaled.1);
    }

    fn happen(&mut self, event: &Event) -> Result<(), TestCaseError> {
        let on = |index: &Index| self.existing(*index);
        match *event {
            Event::Reconcile => self.reconcile()?,
            Event::Observe => self.observe(),
            Event::Sync => self.sync(),
            Event::Gone(ref index) => on(index).into_iter().for_each(|index| self.gone(index)),
            Event::Ready(ref index) => on(index).into_iter().for_each(|index| self.ready(index)),
            Event::Fails(ref index) => {
                if let Some(group) = on(index).and_then(|index| self.groups[index as usize].as_mut()) {
                    group.ready = false;
                }
            }
            Event::Cache(index) => {
                let index = index.index(self.groups.len());
                self.cache[index] = self.groups[index];
            }
            Event::Scale(replicas) => self.rescale(replicas),
            // People change a template more slowly than caches follow.
            Event::Template(revision) => {
                self.wish.revision = revision;
                self.cache = self.groups.clone();
            }
            Event::Partition(partition) => self.wish.partition = partition,
            Event::Budget(unavailable, surge) => {
                self.unscaled = (unavailable, surge);
                self.rescale(self.wish.replicas);
            }
        }
        Ok(())
    }

    /// Everything works and nobody changes anything any more.
    fn settle(&mut self) -> Result<(), TestCaseError> {
        self.wish.partition = 0;
        if self.wish.revision == self.broken {
            self.wish.revision = 0;
        }
        for _ in 0..200 {
            self.cache = self.groups.clone();
            self.reconcile()?;
            self.observe();
            self.sync();
            for index in 0..self.groups.len() as u32 {
                self.gone(index);
                self.ready(index);
            }
        }
        let Wish { replicas, revision, .. } = self.wish;
        let done = Current { partition: 0, replicas, set_replicas: replicas };
        prop_assert_eq!(self.leaders.current, done, "the rollout is not over: {:?}", self);
        for index in 0..self.groups.len() as u32 {
            let wanted = (index < replicas).then_some((revision, true));
            let found = self.groups[index as usize].map(|group| (group.revision, group.ready));
            prop_assert_eq!(found, wanted, "group {} of {:?}", index, self);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_an_update_stays_within_its_budget_and_ends(
        (replicas, unavailable, surge) in (0..=MOST, 0_u32..4, 0_u32..4),
        events in prop::collection::vec(event(), 0..120),
    ) {
        let mut world = World::new(replicas, unavailable, surge);
        for event in events {
            world.happen(&event)?;
        }
        world.settle()?;
    }
}
