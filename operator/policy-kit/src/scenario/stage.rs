//! A scenario as the operator would see it: an index of its cluster, a view, and the request.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, PodSpec};
use muster_api::names::label;
use muster_core::cluster::{self as core_cluster, GroupId, Holding, Index, Snapshot, View};
use muster_core::placement::effects::Effects;
use muster_core::placement::{self as core, DomainId, LevelId, NodeId, Whereabouts};
use muster_policy_host::Preparation;
use serde_json::json;

use super::cluster::{cluster, pod, spec};
use super::notation::{counted, demands, group, millis, placed};
use super::scene::Scene;
use super::sites::listed;
use super::{Brief, Fault, Held, Peer, Request, Scenario, Sites, Unit, Where};

/// Everything that one question needs.
#[derive(Debug)]
pub struct Stage {
    /// The live picture, for those who go on from here.
    pub index: Index,
    /// What the decision looks at.
    pub view: View,
    /// Frozen.
    pub snapshot: Snapshot,
    /// The question.
    pub request: core::Request,
    /// Names of levels and domains.
    pub sites: Sites,
}

/// A unit with its pods in numbers and names.
#[derive(Debug)]
pub(super) struct Planned<'a> {
    pub(super) id: u32,
    pub(super) unit: &'a Unit,
    pub(super) field: String,
    pub(super) pods: Vec<(u32, String)>,
}

impl Scenario {
    /// The levels, nodes and domains of the scenario.
    ///
    /// # Errors
    /// The first field that makes no sense.
    pub fn sites(&self) -> Result<Sites, Fault> {
        Ok(Sites::new(self, &cluster(self)?.nodes))
    }

    /// Its nodes, and an index of them, of what is used and of what other sets hold.
    ///
    /// # Errors
    /// The first field that makes no sense.
    pub fn index(&self) -> Result<(Vec<Node>, Index), Fault> {
        let objects = cluster(self)?;
        let sites = Sites::new(self, &objects.nodes);
        let mut index = Index::new();
        objects.nodes.iter().for_each(|node| index.apply_node(node));
        objects.pods.iter().for_each(|pod| index.apply_pod(pod));
        self.enter_held(&mut index, &sites)?;
        Ok((objects.nodes, index))
    }

    /// Puts the scenario on stage, for a policy that needs this.
    ///
    /// # Errors
    /// The first field that makes no sense: a place that is not there, a shape that is not described.
    pub fn stage(&self, preparation: &Preparation) -> Result<Stage, Fault> {
        let mut scene = Scene::new(self, preparation.effects.clone())?;
        let leaders = scene.leaders();
        let questions = scene.questions(&leaders);
        let (mut asked, snapshot) = scene.asked(&questions, preparation, &[]);
        scene.inform(&mut asked, &snapshot, preparation)?;
        Ok(Stage { view: asked.view, snapshot, request: asked.request, index: scene.index, sites: scene.sites })
    }

    /// Pod specs by the name of their shape, with what the policy gives pods when they are created.
    pub(super) fn specs(&self, prepared: &Effects) -> Result<BTreeMap<String, PodSpec>, Fault> {
        let each = self.shapes.iter().map(|(name, kind)| {
            let mut spec = spec(name, kind)?;
            prepared.change_spec(&mut spec);
            Ok((name.clone(), spec))
        });
        each.collect()
    }

    /// Groups of other sets that hold something.
    fn enter_held(&self, index: &mut Index, sites: &Sites) -> Result<(), Fault> {
        for (position, held) in self.held.iter().enumerate() {
            let (field, held) = (format!("held[{position}]"), &held.0);
            let fault = |message| Fault::new(&field, message);
            let (namespace, set, number) = group(&held.group).map_err(fault)?;
            let (level, domain) = sites.place(&field, &held.at)?;
            let mut outstanding = Vec::new();
            for (count, name) in held.pods.as_deref().map_or(Ok(Vec::new()), demands).map_err(fault)? {
                let name = self.shape_name(&field, &name)?;
                outstanding.push((shape(&field, &spec(name, &self.shapes[name])?)?, count));
            }
            let group = group_id(&namespace, &set, number);
            index.hold(Holding { exclusive: !held.shared, outstanding, ..holding(group, set, level, domain) });
        }
        Ok(())
    }

    /// The shape of that name; `workers` is `worker`.
    fn shape_name(&self, field: &str, name: &str) -> Result<&str, Fault> {
        let singular = name.strip_suffix('s').unwrap_or(name);
        let found =
            self.shapes.keys().find(|known| *known == name).or_else(|| self.shapes.keys().find(|known| *known == singular));
        found.map(String::as_str).ok_or_else(|| {
            let known: Vec<&str> = self.shapes.keys().map(String::as_str).collect();
            Fault::new(field, format!("there is no shape {name:?}; `shapes` has {}", listed(&known)))
        })
    }
}

/// Groups of the set and of its peers that have their place.
pub(super) fn enter_placed(
    index: &mut Index,
    sites: &Sites,
    request: &Request,
    (namespace, set): &(String, String),
    exclusive: bool,
    held: &[Brief<Held>],
) -> Result<(), Fault> {
    let held = held.iter().filter_map(|held| group(&held.0.group).ok());
    let held: BTreeSet<GroupId> = held.map(|(namespace, set, number)| group_id(&namespace, &set, number)).collect();
    for (position, peer) in request.peers.iter().enumerate() {
        let field = format!("request.peers[{position}]");
        let (namespace, set, number) = group(&peer.0.group).map_err(|message| Fault::new(&field, message))?;
        let group = group_id(&namespace, &set, number);
        // What `held` says of it is more.
        if let Some(at) = peer.0.places().last().filter(|_| !held.contains(&group)) {
            let (level, domain) = sites.place(&field, at)?;
            index.hold(holding(group, set, level, domain));
        }
    }
    for (position, text) in request.placed.iter().enumerate() {
        let field = format!("request.placed[{position}]");
        let (number, (level, domain)) = own_place(&field, text, sites)?;
        index.hold(Holding { exclusive, ..holding(group_id(namespace, set, number), set.clone(), level, domain) });
    }
    Ok(())
}

fn holding(group: GroupId, set: String, level: String, domain: String) -> Holding {
    Holding {
        group,
        set,
        level,
        domain,
        exclusive: false,
        divided: false,
        outstanding: Vec::new(),
        pinned: Vec::new(),
        subgroups: Vec::new(),
    }
}

/// Namespace and name of the asking set.
pub(crate) fn owner(owner: Option<&str>) -> Result<(String, String), Fault> {
    let text = owner.unwrap_or("ml/train");
    let parts = text.split_once('/').filter(|(namespace, set)| !namespace.is_empty() && !set.is_empty());
    let parts = parts.map(|(namespace, set)| (namespace.to_owned(), set.to_owned()));
    parts.ok_or_else(|| Fault::new("owner", format!("{text:?} is no set: write NAMESPACE/SET, such as ml/train")))
}

fn group_id(namespace: &str, set: &str, index: u32) -> GroupId {
    GroupId { namespace: namespace.to_owned(), leader_pod: format!("{set}-{index}") }
}

/// The units one by one.
pub(super) fn planned<'a>(scenario: &'a Scenario, request: &'a Request) -> Result<Vec<Planned<'a>>, Fault> {
    let mut all: Vec<Planned<'a>> = Vec::new();
    for (position, unit) in request.units.0.iter().enumerate() {
        let (unit, field) = (&unit.0, format!("request.units[{position}]"));
        let fault = |message| Fault::new(&field, message);
        let (count, pods) = counted(&unit.pods).map_err(fault)?;
        let mut named = Vec::new();
        for (count, name) in demands(pods).map_err(fault)? {
            named.push((count, scenario.shape_name(&field, &name)?.to_owned()));
        }
        if count != 1 && (unit.current.is_some() || unit.previous.is_some()) {
            return Err(Fault::new(&field, format!("{count} units can't be in one place; list them one by one")));
        }
        let first = unit.id.unwrap_or_else(|| all.last().map_or(0, |before| before.id + 1));
        for id in first..first.saturating_add(count) {
            if all.iter().any(|known| known.id == id) {
                return Err(Fault::new(&field, format!("there are two units with id {id}")));
            }
            all.push(Planned { id, unit, field: field.clone(), pods: named.clone() });
        }
    }
    Ok(all)
}

pub(super) fn shape(field: &str, spec: &PodSpec) -> Result<core_cluster::Shape, Fault> {
    core_cluster::Shape::of(spec).map_err(|error| Fault::new(field, error.to_string()))
}

/// Pods of the units that run already.
pub(super) fn enter_running(
    index: &mut Index,
    sites: &Sites,
    planned: &[Planned<'_>],
    specs: &BTreeMap<String, PodSpec>,
    (namespace, set): &(String, String),
) -> Result<(), Fault> {
    for Planned { id, unit, field, pods } in planned {
        let Some(current) = unit.current.as_ref().filter(|current| !current.0.nodes.is_empty()) else { continue };
        let shapes: Vec<&String> = pods.iter().flat_map(|(count, name)| (0..*count).map(move |_| name)).collect();
        for (rank, (node, shape)) in current.0.nodes.iter().zip(shapes).enumerate().filter(|(_, (node, _))| !node.is_empty()) {
            sites.has_node(&format!("{field}.current.nodes[{rank}]"), node)?;
            let name = if rank == 0 { format!("{set}-{id}") } else { format!("{set}-{id}-{rank}") };
            let labels = json!({
                label::SET_NAME: set, label::GROUP_INDEX: id.to_string(), label::GROUP_KEY: format!("{set}-{id}"),
            });
            index.apply_pod(&pod(&name, namespace, specs[shape].clone(), node, labels));
        }
    }
    Ok(())
}

/// `INDEX @ PLACE`.
fn own_place(field: &str, text: &str, sites: &Sites) -> Result<(u32, (String, String)), Fault> {
    let (number, at) = placed(text);
    let wrong = || Fault::new(field, format!("{text:?} is no placed group: write INDEX @ PLACE, such as 0 @ rack=r1"));
    let number = number.parse().map_err(|_| wrong())?;
    Ok((number, sites.place(field, at.ok_or_else(wrong)?)?))
}

/// What of a request needs ids of the snapshot.
pub(super) fn complete(
    asked: &mut core::Request,
    request: &Request,
    planned: &[Planned<'_>],
    snapshot: &Snapshot,
    sites: &Sites,
    preparation: &Preparation,
) -> Result<(), Fault> {
    for unit in &mut asked.units {
        let Some(Planned { unit: from, field, .. }) = planned.iter().find(|planned| planned.id == unit.id) else { continue };
        let size = unit.size();
        let whereabouts = |name: &str, at: &Option<super::Brief<Where>>| {
            at.as_ref().map(|at| whereabouts(&format!("{field}.{name}"), &at.0, size, snapshot, sites)).transpose()
        };
        unit.current = whereabouts("current", &from.current)?;
        unit.previous = whereabouts("previous", &from.previous)?;
    }
    for (position, text) in request.placed.iter().enumerate() {
        let (id, (key, value)) = own_place(&format!("request.placed[{position}]"), text, sites)?;
        asked.placed.push(core::Placed { id, domains: domains_around(snapshot, &rows_of(snapshot, &key, &value)) });
    }
    // Those that an earlier policy of the chain has just placed.
    let (namespace, set) = asked.owner.split_once('/').unwrap_or_default();
    for (id, domains) in snapshot.groups_of(namespace, set) {
        if asked.placed.iter().all(|known| known.id != id) {
            asked.placed.push(core::Placed { id, domains });
        }
    }
    let by_label = preparation.peers.as_deref();
    for (position, peer) in request.peers.iter().enumerate().filter(|(_, peer)| is_peer(request, &peer.0, by_label)) {
        asked.peers.push(peer_in(&format!("request.peers[{position}]"), &peer.0, snapshot, sites)?);
    }
    for (position, bad) in request.bad_nodes.iter().enumerate() {
        let field = format!("request.badNodes[{position}]");
        sites.has_node(&format!("{field}.node"), &bad.node)?;
        let age = bad.age.as_deref().map_or(Ok(0), millis).map_err(|message| Fault::new(format!("{field}.age"), message))?;
        let node = snapshot.node_of(&bad.node).unwrap_or(NodeId::NONE);
        asked.bad_nodes.push(core::BadNode { node, failures: bad.failures, age_ms: age });
    }
    Ok(())
}

/// Whether the policy gets to see it: one whose labels are told has to share the label that the policy goes by with the set.
fn is_peer(request: &Request, peer: &Peer, by_label: Option<&str>) -> bool {
    let Some(key) = by_label else { return false };
    let own = request.labels.get(key);
    peer.labels.is_empty() || own.is_none() || peer.labels.get(key) == own
}

fn peer_in(field: &str, peer: &Peer, snapshot: &Snapshot, sites: &Sites) -> Result<core::Peer, Fault> {
    let (namespace, set, id) = group(&peer.group).map_err(|message| Fault::new(field, message))?;
    let mut rows = Vec::new();
    for at in peer.places() {
        let (key, value) = sites.place(field, at)?;
        rows.extend(rows_of(snapshot, &key, &value));
    }
    for (position, name) in peer.nodes.iter().enumerate() {
        sites.has_node(&format!("{field}.nodes[{position}]"), name)?;
        rows.extend(snapshot.node_of(name).map(|node| node.0));
    }
    let (labels, domains) = (peer.labels.clone(), domains_around(snapshot, &rows));
    Ok(core::Peer { owner: format!("{namespace}/{set}"), labels, id, domains })
}

fn whereabouts(field: &str, at: &Where, size: u32, snapshot: &Snapshot, sites: &Sites) -> Result<Whereabouts, Fault> {
    let mut nodes = vec![NodeId::NONE; size as usize];
    let mut rows = Vec::new();
    for (rank, name) in at.nodes.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
        sites.has_node(&format!("{field}.nodes[{rank}]"), name)?;
        let Some(slot) = nodes.get_mut(rank) else {
            return Err(Fault::new(format!("{field}.nodes"), format!("it has {} nodes for {size} pods", at.nodes.len())));
        };
        *slot = snapshot.node_of(name).unwrap_or(NodeId::NONE);
        rows.push(slot.0);
    }
    if let Some(place) = &at.at {
        let (key, value) = sites.place(field, place)?;
        if rows.is_empty() {
            rows = rows_of(snapshot, &key, &value);
        }
    }
    Ok(Whereabouts { domains: domains_around(snapshot, &rows), nodes })
}

fn rows_of(snapshot: &Snapshot, key: &str, value: &str) -> Vec<u32> {
    (0..snapshot.node_count()).filter(|row| snapshot.node_label(NodeId(*row), key) == Some(value)).collect()
}

/// For every level: the domain that all these nodes are in, or none.
fn domains_around(snapshot: &Snapshot, rows: &[u32]) -> Vec<DomainId> {
    let levels = (0..).zip(snapshot.levels()).map(|(level, _)| snapshot.node_domains(LevelId(level)));
    let each = levels.map(|domains| {
        let mut domains = rows.iter().map(|row| domains[*row as usize]);
        let first = domains.next().unwrap_or(DomainId::NONE.0);
        if domains.all(|domain| domain == first) { DomainId(first) } else { DomainId::NONE }
    });
    each.collect()
}
