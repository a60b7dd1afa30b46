//! What must hold over any history of a small cluster.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, Pod};
use proptest::prelude::*;

use super::*;
use crate::cluster::{Snapshot, SubgroupHolding, Verdict};
use crate::placement::check::{Checked, Checker};
use crate::placement::{Decision, Request, native};

#[derive(Debug, Clone)]
enum Event {
    Node { name: u8, pool: u8, gpus: u32 },
    NodeGone { name: u8 },
    Pod { set: u8, group: u32, rank: u32, gpus: u32, node: Option<u8> },
    PodGone { set: u8, group: u32, rank: u32 },
}

fn event() -> impl Strategy<Value = Event> {
    let pod = (0..2_u8, 0..3_u32, 0..3_u32);
    prop_oneof![
        (0..6_u8, 0..4_u8, 0..9_u32).prop_map(|(name, pool, gpus)| Event::Node { name, pool, gpus }),
        (0..6_u8).prop_map(|name| Event::NodeGone { name }),
        (pod.clone(), 1..9_u32, prop::option::of(0..6_u8)).prop_map(|((set, group, rank), gpus, node)| Event::Pod {
            set,
            group,
            rank,
            gpus,
            node
        }),
        pod.prop_map(|(set, group, rank)| Event::PodGone { set, group, rank }),
    ]
}

/// A holding of a pool, of a node, of nodes one by one, or of nodes for a part.
fn promise() -> impl Strategy<Value = Holding> {
    (0..3_u32, 1..4_u8, 0..6_u8, 0..4_u8, any::<bool>(), 0..3_u32).prop_map(
        |(group, pool, node, kind, exclusive, outstanding)| {
            let outstanding = if outstanding > 0 { vec![(shape(1), outstanding)] } else { Vec::new() };
            let of_pool = Holding { exclusive, ..holding("red", group, pool_name(pool), outstanding.clone()) };
            let (level, domain) = ("kubernetes.io/hostname".to_owned(), format!("n{node}"));
            match kind {
                0 => of_pool,
                1 => Holding { level, domain, ..of_pool },
                2 => Holding { pinned: vec![(domain, shape(1))], outstanding: Vec::new(), ..of_pool },
                _ => {
                    let part = SubgroupHolding { index: 0, level, domain, outstanding, alone: exclusive };
                    Holding {
                        subgroups: vec![part],
                        level: String::new(),
                        domain: String::new(),
                        exclusive: false,
                        outstanding: Vec::new(),
                        ..of_pool
                    }
                }
            }
        },
    )
}

fn set_name(set: u8) -> &'static str {
    ["red", "blue"][usize::from(set)]
}

/// Pool 0 stands for no label.
fn pool_name(pool: u8) -> &'static str {
    ["", "a", "b", "c"][usize::from(pool)]
}

fn apply(event: &Event, index: &mut Index, nodes: &mut BTreeMap<String, Node>, pods: &mut BTreeMap<String, Pod>) {
    match event {
        Event::Node { name, pool, gpus } => {
            let node = node_with(&format!("n{name}"), pool_name(*pool), *gpus);
            index.apply_node(&node);
            nodes.insert(format!("n{name}"), node);
        }
        Event::NodeGone { name } => {
            index.remove_node(&format!("n{name}"));
            nodes.remove(&format!("n{name}"));
        }
        Event::Pod { set, group, rank, gpus, node } => {
            let node = node.map(|node| format!("n{node}")).unwrap_or_default();
            let mut pod = member(set_name(*set), *group, *rank, *gpus, &node);
            if node.is_empty() {
                // It is bound to go where its GPUs say, which may be nowhere.
                let selector = [(POOL.to_owned(), pool_name(u8::try_from(gpus % 4).unwrap()).to_owned())];
                pod.spec.as_mut().unwrap().node_selector = Some(selector.into());
            }
            index.apply_pod(&pod);
            pods.insert(pod.metadata.name.clone().unwrap(), pod);
        }
        Event::PodGone { set, group, rank } => {
            let name = member(set_name(*set), *group, *rank, 0, "").metadata.name.unwrap();
            index.remove_pod("default", &name);
            pods.remove(&name);
        }
    }
}

/// Everything that a policy can read.
fn columns(snapshot: &Snapshot) -> Vec<Vec<u32>> {
    let mut columns = vec![snapshot.node_fit(ShapeId(0)).to_vec(), snapshot.node_fit(ShapeId(1)).to_vec()];
    for level in [LevelId(0), LevelId(1)] {
        columns.push(snapshot.node_domains(level).to_vec());
        columns.push(snapshot.domain_holders(level).to_vec());
        columns.push(snapshot.domain_parents(level).to_vec());
        columns.push(snapshot.domain_fit(level, ShapeId(0)).to_vec());
        columns.push(snapshot.domain_fit(level, ShapeId(1)).to_vec());
    }
    columns
}

fn wide_view() -> View {
    View { levels: vec![POOL.into(), "kubernetes.io/hostname".into()], ..view_of(vec![shape(1), shape(8)]) }
}

proptest! {
    #[test]
    fn an_index_kept_up_by_events_equals_one_built_from_what_is_left(
        events in prop::collection::vec((event(), prop::option::weighted(0.2, promise())), 0..60),
    ) {
        let (mut index, mut nodes, mut pods) = (Index::new(), BTreeMap::new(), BTreeMap::new());
        let mut holdings = BTreeMap::new();
        for (event, promise) in &events {
            apply(event, &mut index, &mut nodes, &mut pods);
            if let Some(promise) = promise {
                index.hold(promise.clone());
                holdings.insert(promise.group.clone(), promise.clone());
            }
            // Read in between, so that columns are kept up and not made once at the end.
            let seen = index.snapshot(wide_view());
            let before = columns(&seen);
            prop_assert_eq!(before, columns(&index.snapshot(wide_view())));
        }
        let mut rebuilt = Index::new();
        pods.values().for_each(|pod| rebuilt.apply_pod(pod));
        nodes.values().for_each(|node| rebuilt.apply_node(node));
        rebuilt.replace_holdings_of_set("default", "red", holdings.into_values().collect());
        prop_assert_eq!(columns(&index.snapshot(wide_view())), columns(&rebuilt.snapshot(wide_view())));
    }

    #[test]
    fn the_best_domains_are_those_that_packing_every_domain_finds_best(
        events in prop::collection::vec(event(), 0..60),
        pool in 1..4_u8,
        leaders in 0..3_u32,
        workers in 1..9_u32,
        sizes in (1..9_u32, 1..9_u32),
        exclusive: bool,
    ) {
        let (mut index, mut nodes, mut all) = (Index::new(), BTreeMap::new(), BTreeMap::new());
        events.iter().for_each(|event| apply(event, &mut index, &mut nodes, &mut all));
        index.hold(holding("red", 0, pool_name(pool), vec![(shape(1), 2)]));
        let snapshot = index.snapshot(view_of(vec![shape(sizes.0), shape(sizes.1)]));
        let wanted = [pods(0, leaders), pods(1, workers)];
        let verdicts = snapshot.explain(POOLS, &wanted, exclusive).domains.into_iter().map(|report| report.verdict);
        let fits = |(domain, verdict)| if let Verdict::Fits { leftover } = verdict { Some((leftover, domain)) } else { None };
        let mut best: Vec<(u32, u32)> = (0..).zip(verdicts).filter_map(fits).collect();
        best.sort_unstable();
        let best: Vec<u32> = best.into_iter().map(|(_, domain)| domain).collect();
        prop_assert_eq!(snapshot.best_domains(POOLS, &wanted, exclusive, 9), best.clone());
        prop_assert_eq!(snapshot.best_domains(POOLS, &wanted, exclusive, 1), best.into_iter().take(1).collect::<Vec<_>>());
    }

    #[test]
    fn a_snapshot_stays_as_it_was(first in prop::collection::vec(event(), 0..20), later in prop::collection::vec(event(), 1..20)) {
        let (mut index, mut nodes, mut pods) = (Index::new(), BTreeMap::new(), BTreeMap::new());
        first.iter().for_each(|event| apply(event, &mut index, &mut nodes, &mut pods));
        // One is read before the changes and one only after them.
        let (read, unread) = (index.snapshot(wide_view()), index.snapshot(View { scope: Scope::Cluster, ..wide_view() }));
        let before = columns(&read);
        later.iter().for_each(|event| apply(event, &mut index, &mut nodes, &mut pods));
        prop_assert_eq!(&before, &columns(&read));
        // All groups are of one namespace, so the scope makes no difference.
        prop_assert_eq!(&before, &columns(&unread));
    }
}

#[derive(Debug, Clone)]
enum Step {
    Place { set: u8, groups: BTreeSet<u32>, size: u32 },
    Bind { set: u8, group: u32 },
    Release { set: u8, group: u32 },
    PodGone { set: u8, group: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    let one = (0..2_u8, 0..4_u32);
    prop_oneof![
        2 => (0..2_u8, prop::collection::btree_set(0..4_u32, 1..4), 1..4_u32)
            .prop_map(|(set, groups, size)| Step::Place { set, groups, size }),
        3 => one.clone().prop_map(|(set, group)| Step::Bind { set, group }),
        1 => one.clone().prop_map(|(set, group)| Step::Release { set, group }),
        2 => one.prop_map(|(set, group)| Step::PodGone { set, group }),
    ]
}

/// A cluster of whole-node pods, seen from outside the index.
#[derive(Default)]
struct World {
    index: Index,
    pools: BTreeMap<String, Vec<String>>,
    groups: BTreeMap<GroupId, Placed>,
}

#[derive(Debug, Default)]
struct Placed {
    pool: String,
    held: bool,
    unbound: u32,
    /// Node by rank.
    bound: BTreeMap<u32, String>,
}

impl World {
    /// Pools of 1, 2, 2, 3 and 4 nodes.
    fn new() -> Self {
        let mut world = Self::default();
        for (pool, size) in [("a", 3), ("b", 1), ("c", 2), ("d", 4), ("e", 2)] {
            for number in 0..size {
                let name = format!("{pool}{number}");
                world.index.apply_node(&node(&name, pool));
                world.pools.entry(pool.into()).or_default().push(name);
            }
        }
        world
    }

    fn place(&mut self, set: &str, groups: &BTreeSet<u32>, size: u32) {
        let waiting: Vec<u32> = groups.iter().copied().filter(|index| !self.groups.contains_key(&group(set, *index))).collect();
        let for_groups = waiting.iter().map(|index| group(set, *index)).collect();
        let view = View { for_groups, ..view() };
        let snapshot = self.index.snapshot(view.clone());
        let units: Vec<Unit> = waiting.iter().map(|index| unit(*index, &[pods(0, 1), pods(0, size - 1)])).collect();
        let request = Request { owner: format!("default/{set}"), exclusive: Some(POOLS), units, ..Request::default() };
        let mut checker = Checker::new(&snapshot, &request);
        for answer in native::place(&snapshot, &request) {
            let checked = checker.apply(&answer).expect("native answers pass the check");
            let Checked::Assigned(assignment) = checked else {
                assert!(matches!(answer.decision, Decision::Hold { .. }));
                continue;
            };
            let id = group(set, answer.unit);
            self.index.commit(&view, set, id.clone(), &[pods(0, size)], &assignment).expect("nothing raced");
            self.groups.insert(id, Placed { pool: assignment.domain, held: true, unbound: size, ..Placed::default() });
        }
    }

    /// Binds one more pod to a free node of the pool, as the scheduler would.
    fn bind(&mut self, set: &str, index: u32) {
        let id = group(set, index);
        let busy: BTreeSet<String> = self.groups.values().flat_map(|placed| placed.bound.values().cloned()).collect();
        let Some(placed) = self.groups.get_mut(&id).filter(|placed| placed.held && placed.unbound > 0) else { return };
        let free = self.pools[&placed.pool].iter().find(|node| !busy.contains(*node));
        let node = free.expect("the room was kept for the group").clone();
        let rank = (0..).find(|rank| !placed.bound.contains_key(rank)).unwrap();
        self.index.apply_pod(&member(set, index, rank, 8, &node));
        placed.bound.insert(rank, node);
        placed.unbound -= 1;
        self.index.hold(holding(set, index, &placed.pool, vec![(shape(8), placed.unbound)]));
    }

    fn release(&mut self, set: &str, index: u32) {
        let id = group(set, index);
        self.index.release(&id);
        if let Some(placed) = self.groups.get_mut(&id) {
            placed.held = false;
        }
        self.groups.retain(|_, placed| placed.held || !placed.bound.is_empty());
    }

    fn pod_gone(&mut self, set: &str, index: u32) {
        // Only groups that were given up lose pods here; a restarting group is placed again as a whole.
        let Some(placed) = self.groups.get_mut(&group(set, index)).filter(|placed| !placed.held) else { return };
        if let Some((rank, _)) = placed.bound.pop_first() {
            self.index.remove_pod("default", &member(set, index, rank, 8, "").metadata.name.unwrap());
        }
        self.groups.retain(|_, placed| placed.held || !placed.bound.is_empty());
    }

    /// Every pool has at most one group that holds it or still has pods in it.
    fn is_exclusive(&self) -> bool {
        let pools: BTreeSet<_> = self.groups.values().map(|placed| &placed.pool).collect();
        pools.len() == self.groups.len()
    }

    /// Every group fits its pool.
    fn is_within_capacity(&self) -> bool {
        self.groups.values().all(|placed| placed.bound.len() + placed.unbound as usize <= self.pools[&placed.pool].len())
    }
}

proptest! {
    #[test]
    fn groups_sit_alone_and_fit_over_any_sequence_of_place_bind_and_delete(steps in prop::collection::vec(step(), 0..60)) {
        let mut world = World::new();
        for step in &steps {
            match step {
                Step::Place { set, groups, size } => world.place(set_name(*set), groups, *size),
                Step::Bind { set, group } => world.bind(set_name(*set), *group),
                Step::Release { set, group } => world.release(set_name(*set), *group),
                Step::PodGone { set, group } => world.pod_gone(set_name(*set), *group),
            }
            prop_assert!(world.is_exclusive(), "{:?}", world.groups);
            prop_assert!(world.is_within_capacity(), "{:?}", world.groups);
            let taken: u32 = world.index.snapshot(view()).domain_holders(POOLS).iter().sum();
            prop_assert_eq!(taken as usize, world.groups.len());
        }
    }
}
