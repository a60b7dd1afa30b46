//! What the index costs: memory, events, views, a plan for everything.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Node, Pod};
use muster_core::cluster::{Index, View};
use muster_core::placement::check::{Checked, Checker};
use muster_core::placement::{LevelId, Request, ShapeId, native};

use crate::fleet::{self, BLOCK, CHASSIS, Fleet, HOST, RACK};
use crate::measure::{Effort, resident, times};
use crate::table::{Figure, Line};

/// An event, and the one that takes it back: the cluster stays as it is, however often it is measured.
struct Flip<T> {
    objects: [T; 2],
    turn: usize,
}

impl<T: Clone> Flip<T> {
    fn new(objects: [T; 2]) -> Self {
        Self { objects, turn: 0 }
    }

    fn next(&mut self) -> T {
        self.turn += 1;
        self.objects[self.turn % 2].clone()
    }
}

/// A cluster in the middle of its work.
struct Busy {
    index: Index,
    node: Flip<Node>,
    pod: Flip<Pod>,
    relabelled: Flip<Node>,
}

/// Events, views and memory of a cluster of 15,000 nodes and 100,000 pods.
pub(crate) fn lines(effort: Effort, lines: &mut Vec<Line>) {
    let fleet = Fleet { nodes: effort.size(15_000, 60), racks: effort.size(938, 4) };
    let (members, others) = (effort.size(40_000, 160), effort.size(60_000, 240));
    let size = format!("{} nodes, {} pods", fleet.nodes, members + others);
    let before = resident();
    let index = fleet::busy(fleet, members, others);
    lines.push(Line {
        what: "index: memory".to_owned(),
        size: size.clone(),
        figure: Figure::Bytes(resident().saturating_sub(before)),
        target: (!effort.smoke).then_some(200e6),
        beside: None,
    });
    let middle = fleet.nodes / 2;
    let mut busy = Busy {
        index,
        node: Flip::new([fleet.node(middle), cordoned(fleet.node(middle))]),
        pod: Flip::new([fleet::member(1, 3, Some(middle)), fleet::member(1, 3, Some(middle + 1))]),
        relabelled: Flip::new([fleet.node(middle), labelled(fleet.node(middle), RACK, "rack-other")]),
    };
    events(effort, &size, &mut busy, lines);
    views(effort, &size, &mut busy, lines);
    arrivals(effort, &size, fleet, &mut busy, lines);
    decision(effort, &size, &mut busy, lines);
}

fn events(effort: Effort, size: &str, busy: &mut Busy, lines: &mut Vec<Line>) {
    let runs = effort.size(2000, 4);
    let node = |busy: &mut Busy, node: Node| busy.index.apply_node(&node);
    let pod = |busy: &mut Busy, pod: Pod| busy.index.apply_pod(&pod);
    let alone = times(runs, busy, |busy| busy.node.next(), node);
    lines.push(Line::new("index: node event", size, alone).within(20.0));
    let alone = times(runs, busy, |busy| busy.pod.next(), pod);
    lines.push(Line::new("index: pod event", size, alone).within(20.0));
    let runs = effort.size(300, 4);
    let seen = |busy: &mut Busy| drop(busy.index.snapshot(view()));
    let after = |busy: &mut Busy| (seen(busy), busy.node.next()).1;
    lines.push(Line::new("index: node event after a view", size, times(runs, busy, after, node)).within(20.0));
    let after = |busy: &mut Busy| (seen(busy), busy.pod.next()).1;
    lines.push(Line::new("index: pod event after a view", size, times(runs, busy, after, pod)).within(20.0));
    let relabel = |busy: &mut Busy| (seen(busy), busy.relabelled.next()).1;
    lines.push(Line::new("index: node gets another label", size, times(effort.size(100, 4), busy, relabel, node)).within(20.0));
}

fn views(effort: Effort, size: &str, busy: &mut Busy, lines: &mut Vec<Line>) {
    let runs = effort.size(300, 4);
    let freeze = |busy: &mut Busy, ()| busy.index.snapshot(view());
    let after_pod = |busy: &mut Busy| {
        let pod = busy.pod.next();
        busy.index.apply_pod(&pod);
    };
    lines.push(Line::new("index: view after a pod event", size, times(runs, busy, after_pod, freeze)).within(50.0));
    let after_node = |busy: &mut Busy| {
        let node = busy.node.next();
        busy.index.apply_node(&node);
    };
    lines.push(Line::new("index: view after a node event", size, times(runs, busy, after_node, freeze)).within(50.0));
    let columns = |busy: &mut Busy, ()| read_columns(&mut busy.index, &view());
    lines.push(Line::new("index: view and its domain columns", size, times(runs, busy, after_pod, columns)));
    let relabel = |busy: &mut Busy| {
        let node = busy.relabelled.next();
        busy.index.apply_node(&node);
    };
    let relabelled = times(effort.size(30, 4), busy, relabel, freeze);
    lines.push(Line::new("index: view after a node got another label", size, relabelled));
}

/// A node comes and goes.
fn arrivals(effort: Effort, size: &str, fleet: Fleet, busy: &mut Busy, lines: &mut Vec<Line>) {
    let newcomer = renamed(fleet.node(fleet.nodes / 3), "gke-fleet-a3-05000-new");
    let name = "gke-fleet-a3-05000-new";
    let runs = effort.size(30, 4);
    let gone = |busy: &mut Busy| {
        busy.index.remove_node(name);
        drop(busy.index.snapshot(view()));
    };
    let came = times(runs, busy, gone, |busy, ()| busy.index.apply_node(&newcomer));
    lines.push(Line::new("index: a new node", size, came).within(20.0));
    let fresh = |busy: &mut Busy| {
        busy.index.remove_node(name);
        drop(busy.index.snapshot(view()));
        busy.index.apply_node(&newcomer);
    };
    let viewed = times(runs, busy, fresh, |busy, ()| busy.index.snapshot(view()));
    lines.push(Line::new("index: view after a new node", size, viewed));
    busy.index.remove_node(name);
}

/// From an event to a holding, for one group.
fn decision(effort: Effort, size: &str, busy: &mut Busy, lines: &mut Vec<Line>) {
    let mut request = fleet::request(1);
    request.exclusive = None;
    let view = fleet::view();
    let place = |busy: &mut Busy, ()| {
        let snapshot = busy.index.snapshot(view.clone());
        let best = snapshot.best_domains(LevelId(1), &request.units[0].pods, false, 1);
        let (group, key) = (fleet::group_id(1_000_000), RACK.to_owned());
        let domain = best.first().and_then(|domain| snapshot.domain_name(LevelId(1), muster_core::placement::DomainId(*domain)));
        let mut holding = fleet::holding(1_000_000, &key, domain.unwrap_or_default().to_owned(), false, Vec::new());
        holding.group = group;
        holding.outstanding = vec![(view.shapes[0].clone(), 1), (view.shapes[1].clone(), fleet::GROUP - 1)];
        busy.index.try_hold(&view, &request.units[0].pods, holding)
    };
    let event = |busy: &mut Busy| {
        busy.index.release(&fleet::group_id(1_000_000));
        let pod = busy.pod.next();
        busy.index.apply_pod(&pod);
    };
    let placed = times(effort.size(100, 4), busy, event, place);
    lines.push(Line::new("a view, one group's best domain, its holding", size, placed));
}

/// As a reconcile asks: for the groups of one set, two levels, two shapes.
fn view() -> View {
    let for_groups: BTreeSet<_> = [fleet::group_id(2), fleet::group_id(3)].into();
    View { for_groups, ..fleet::view() }
}

fn read_columns(index: &mut Index, view: &View) -> usize {
    let snapshot = index.snapshot(view.clone());
    let levels = (0..).zip(&view.levels).map(|(level, _)| LevelId(level));
    let read = levels.map(|level| {
        let fit = (0..).zip(&view.shapes).map(|(shape, _)| snapshot.domain_fit(level, ShapeId(shape)).len());
        fit.sum::<usize>() + snapshot.domain_parents(level).len() + snapshot.domain_holders(level).len()
    });
    read.sum()
}

fn cordoned(mut node: Node) -> Node {
    node.spec.get_or_insert_default().unschedulable = Some(true);
    node
}

fn labelled(mut node: Node, key: &str, value: &str) -> Node {
    node.metadata.labels.get_or_insert_default().insert(key.to_owned(), value.to_owned());
    node
}

fn renamed(mut node: Node, name: &str) -> Node {
    node.metadata.name = Some(name.to_owned());
    labelled(node, HOST, name)
}

/// Everything anew: a node comes, and levels, columns, answers and holdings of a whole set are made again.
pub(crate) fn replan(effort: Effort, lines: &mut Vec<Line>) {
    // With hosts, chassis of two and blocks that makes 9,600 domains.
    let fleet = Fleet { nodes: effort.size(6000, 40), racks: effort.size(571, 4) };
    let view = fleet::cluster_wide(&[BLOCK, RACK, CHASSIS, HOST]);
    for (level, units, pods) in [(1, fleet.racks, fleet::GROUP), (2, effort.size(1000, 10), 2)] {
        let mut index = fleet.index();
        let domains: u32 = {
            let snapshot = index.snapshot(view.clone());
            (0..4).map(|level| snapshot.domain_count(LevelId(level))).sum()
        };
        let request = Request { exclusive: Some(LevelId(level)), ..fleet::request_of(units, pods) };
        let middle = fleet.node(fleet.nodes / 2);
        let reset = |index: &mut Index| {
            (0..units).for_each(|unit| index.release(&fleet::group_id(unit)));
            index.remove_node(&fleet::node_name(fleet.nodes / 2));
        };
        let plan = |index: &mut Index, ()| {
            index.apply_node(&middle);
            read_columns(index, &view);
            placed(index, &view, &request)
        };
        let took = times(effort.size(3, 1), &mut index, reset, plan);
        reset(&mut index);
        let count = plan(&mut index, ());
        let size = format!("{} nodes, {domains} domains, {count} of {units} groups of {pods}", fleet.nodes);
        lines.push(Line::new("full replan", size, took).within(100_000.0));
    }
}

/// Places all units by the native rule; how many have their domain then.
fn placed(index: &mut Index, view: &View, request: &Request) -> usize {
    let snapshot = index.snapshot(view.clone());
    let answers = native::place(&snapshot, request);
    let mut checker = Checker::new(&snapshot, request);
    let each = answers.iter().zip(&request.units).filter(|(answer, unit)| {
        let Ok(Checked::Assigned(assignment)) = checker.apply(answer) else { return false };
        index.commit(view, "replanned", fleet::group_id(answer.unit), &unit.pods, &assignment).is_ok()
    });
    each.count()
}
