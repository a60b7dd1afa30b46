//! A frozen view of the cluster for one placement decision.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use super::best::Best;
use super::holders::{Kept, Sitting, Tenant, tenants};
use super::ledger::{GroupId, Ledger, SubgroupId};
use super::level::Level;
use super::packing::{Claims, Packing, Room};
use super::past::Seats;
use super::rows::Rows;
use super::shape::Shape;
use crate::placement::{Demand, DomainId, LevelId, NodeId, Place, ShapeId};

/// Whom an exclusive group keeps away from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Every group of the same namespace, whether exclusive or not: what upstream's anti-affinity sees.
    #[default]
    Namespace,
    /// Every group of the cluster.
    Cluster,
}

/// What a decision wants to see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// Label keys, widest first. Their positions are the level ids.
    pub levels: Vec<String>,
    /// Their positions are the shape ids.
    pub shapes: Vec<Shape>,
    /// Namespace of the owner.
    pub namespace: String,
    /// Whom the owner's groups keep away from.
    pub scope: Scope,
    /// The groups being placed: their own pods and holdings don't count against them.
    pub for_groups: BTreeSet<GroupId>,
    /// The owner's pods carry keys of subgroups and may be anywhere in the group's domain, so that they keep out of the domains that
    /// other subgroups have for themselves.
    pub divided: bool,
    /// Names of nodes that are no good for these groups, whatever room they have.
    pub avoid: BTreeSet<String>,
    /// Labels (key and value) that nodes must have to be good for these groups: domains that an earlier decision has narrowed to.
    pub inside: Vec<(String, String)>,
}

/// A frozen, read-only view of the cluster: flat columns, cheap to clone, safe to hand to a policy.
///
/// Methods that take an id return an empty column, `None` or 0 for an id that the snapshot does not have; a policy can ask
/// nonsense and gets nothing.
#[derive(Debug, Clone)]
pub struct Snapshot(Arc<Frozen>);

#[derive(Debug)]
pub(super) struct Frozen {
    pub(super) generation: u64,
    pub(super) view: View,
    pub(super) nodes: Rows,
    pub(super) levels: Vec<Arc<Level>>,
    /// Levels that holdings refer to.
    pub(super) held_levels: BTreeMap<String, Arc<Level>>,
    /// By level: where groups sit.
    pub(super) sitting: Vec<Sitting>,
    pub(super) ledger: Ledger,
    pub(super) past: Seats,
    /// By shape: slots per node, those that others have for themselves included. Empty in a view of a few rows.
    pub(super) fit: Vec<Arc<[u32]>>,
    pub(super) lazy: Lazy,
}

/// Columns that are made when they are first asked for; by level, and by level and shape.
#[derive(Debug)]
pub(super) struct Lazy {
    parents: Vec<OnceLock<Arc<[u32]>>>,
    domain_fit: Vec<Vec<OnceLock<Arc<[u32]>>>>,
    holders: Vec<OnceLock<Arc<[u32]>>>,
    tenants: Vec<OnceLock<BTreeMap<u32, BTreeSet<Tenant>>>>,
    kept: OnceLock<Kept>,
    /// By shape: slots per node, none on nodes that others have for themselves.
    fit: Vec<OnceLock<Arc<[u32]>>>,
}

impl Lazy {
    /// With what is known of the nodes that others have for themselves, if it is.
    pub(super) fn for_view(view: &View, kept: Option<Kept>) -> Self {
        fn cells<T>(count: usize) -> Vec<OnceLock<T>> {
            (0..count).map(|_| OnceLock::new()).collect()
        }
        Self {
            parents: cells(view.levels.len()),
            domain_fit: view.levels.iter().map(|_| cells(view.shapes.len())).collect(),
            holders: cells(view.levels.len()),
            tenants: cells(view.levels.len()),
            kept: kept.map_or_else(OnceLock::new, OnceLock::from),
            fit: cells(view.shapes.len()),
        }
    }
}

impl From<Frozen> for Snapshot {
    fn from(frozen: Frozen) -> Self {
        Self(Arc::new(frozen))
    }
}

impl Snapshot {
    /// Equal numbers mean equal content.
    pub fn generation(&self) -> u64 {
        self.0.generation
    }

    /// What was asked for.
    pub fn view(&self) -> &View {
        &self.0.view
    }

    /// Label keys of the topology, in the order the view was asked for.
    pub fn levels(&self) -> &[String] {
        &self.0.view.levels
    }

    /// How many nodes there are.
    pub fn node_count(&self) -> u32 {
        u32::try_from(self.0.nodes.len()).unwrap_or(u32::MAX)
    }

    /// How many domains the level has.
    pub fn domain_count(&self, level: LevelId) -> u32 {
        self.level(level).map_or(0, |level| u32::try_from(level.len()).unwrap_or(u32::MAX))
    }

    /// For every domain of `level`: the domain of the level before it that contains it; `NONE` where there is none or they do not nest.
    pub fn domain_parents(&self, level: LevelId) -> Arc<[u32]> {
        let Some((cell, inner)) = self.0.lazy.parents.get(level.0 as usize).zip(self.level(level)) else { return [].into() };
        let around = level.0.checked_sub(1).and_then(|wider| self.level(LevelId(wider)));
        Arc::clone(cell.get_or_init(|| inner.rows().map(|rows| around.map_or(DomainId::NONE.0, |o| common(o, rows))).collect()))
    }

    /// For every domain of `level`: how many pods of this shape fit after the scheduler's hard filters.
    pub fn domain_fit(&self, level: LevelId, shape: ShapeId) -> Arc<[u32]> {
        let cell = self.0.lazy.domain_fit.get(level.0 as usize).and_then(|shapes| shapes.get(shape.0 as usize));
        let Some(((cell, level), fit)) = cell.zip(self.level(level)).zip(self.fit(shape)) else {
            return [].into();
        };
        let sum = |rows: &[u32]| rows.iter().fold(0_u32, |sum, row| sum.saturating_add(fit[*row as usize]));
        Arc::clone(cell.get_or_init(|| level.rows().map(sum).collect()))
    }

    /// For every domain of `level`: how many other units sit there, as the request's owner must see them (0 is free).
    pub fn domain_holders(&self, level: LevelId) -> Arc<[u32]> {
        let frozen = &self.0;
        let known = frozen.lazy.holders.get(level.0 as usize).zip(frozen.sitting.get(level.0 as usize)).zip(self.level(level));
        let Some(((cell, sitting), level)) = known else { return [].into() };
        Arc::clone(cell.get_or_init(|| sitting.holders(&frozen.view, level)))
    }

    /// For every node: its domain at `level`.
    pub fn node_domains(&self, level: LevelId) -> Arc<[u32]> {
        self.level(level).map_or_else(|| [].into(), |level| Arc::clone(&level.of_node))
    }

    /// For every node: how many pods of this shape fit.
    pub fn node_fit(&self, shape: ShapeId) -> Arc<[u32]> {
        self.fit(shape).map_or_else(|| [].into(), Arc::clone)
    }

    /// The nodes of one domain and how many pods of this shape fit on each, in the same order.
    pub fn nodes_in(&self, level: LevelId, domain: DomainId, shape: ShapeId) -> (Vec<u32>, Vec<u32>) {
        let rows = self.rows(Place { level, domain });
        let Some(fit) = self.fit(shape) else { return (Vec::new(), Vec::new()) };
        (rows.to_vec(), rows.iter().map(|row| fit[*row as usize]).collect())
    }

    /// For every node: ready and not cordoned.
    pub fn node_usable(&self) -> impl ExactSizeIterator<Item = bool> {
        self.0.nodes.iter().map(|node| node.facts.ready && !node.facts.unschedulable)
    }

    /// For every node: how much of a resource it has in all (allocatable), in the scheduler's unit.
    pub fn node_capacity(&self, resource: &str) -> impl ExactSizeIterator<Item = u64> {
        self.0.nodes.iter().map(move |node| u64::try_from(node.facts.allocatable.get(resource)).unwrap_or(0))
    }

    /// The shape with this id.
    pub fn shape(&self, shape: ShapeId) -> Option<&Shape> {
        self.0.view.shapes.get(shape.0 as usize)
    }

    /// At most `limit` domains of `level` with room for all of `pods` together, least leftover first, ties by name; only free ones if `exclusive`.
    pub fn best_domains(&self, level: LevelId, pods: &[Demand], exclusive: bool, limit: u32) -> Vec<u32> {
        self.best(level, pods, exclusive).take(limit as usize).map(|domain| domain.0).collect()
    }

    /// Domains of `level` with room for all of `pods` together, least leftover first, ties by name; only free ones if `exclusive`.
    pub(crate) fn best<'a>(&'a self, level: LevelId, pods: &'a [Demand], exclusive: bool) -> Best<'a> {
        Best::of(self, level, pods, exclusive)
    }

    /// The label value that makes the domain.
    pub fn domain_name(&self, level: LevelId, domain: DomainId) -> Option<&str> {
        self.level(level)?.name(domain.0)
    }

    /// The node's name.
    pub fn node_name(&self, node: NodeId) -> Option<&str> {
        self.0.nodes.get(node.0).map(|node| node.facts.name.as_str())
    }

    /// One label of one node.
    pub fn node_label(&self, node: NodeId, key: &str) -> Option<&str> {
        self.0.nodes.get(node.0)?.facts.labels.get(key).map(String::as_str)
    }

    /// Whether some node has the level's label with nothing in it.
    pub(crate) fn has_empty_label(&self, level: LevelId) -> bool {
        let Some(level) = self.level(level).filter(|level| level.unlabelled > 0) else { return false };
        self.0.nodes.iter().any(|node| node.facts.labels.get(&level.key).is_some_and(String::is_empty))
    }

    /// The level of that label key, if the view has it.
    pub fn level_of(&self, key: &str) -> Option<LevelId> {
        let position = self.levels().iter().position(|level| level == key)?;
        u32::try_from(position).ok().map(LevelId)
    }

    /// The place with that label key and value, if it exists.
    pub fn place_of(&self, key: &str, value: &str) -> Option<Place> {
        let level = self.level_of(key)?;
        Some(Place { level, domain: DomainId(self.level(level)?.domain(value)?) })
    }

    /// The node of that name.
    pub fn node_of(&self, name: &str) -> Option<NodeId> {
        self.0.nodes.row_of(name).map(NodeId)
    }

    /// Whether all these pods fit the domain together, with what is bound and reserved there.
    pub fn fits(&self, place: Place, pods: &[Demand]) -> bool {
        self.knows(place, pods) && self.pack(place, pods, &Claims::new()).is_complete()
    }

    /// Whether domain and shapes exist in this snapshot.
    pub(crate) fn knows(&self, place: Place, pods: &[Demand]) -> bool {
        let shapes = self.0.view.shapes.len();
        self.domain_name(place.level, place.domain).is_some() && pods.iter().all(|demand| (demand.shape.0 as usize) < shapes)
    }

    /// Packs the pods into the domain on top of `claims`.
    pub(crate) fn pack(&self, place: Place, pods: &[Demand], claims: &Claims) -> Packing {
        self.with_room(|room| room.pack(self.rows(place), pods, claims))
    }

    /// Gives the node table to a packing.
    pub(crate) fn with_room<T>(&self, packs: impl FnOnce(&Room<'_>) -> T) -> T {
        let (nodes, shapes) = (&self.0.nodes, &self.0.view.shapes);
        let columns: Vec<&[u32]> = (0..).zip(&self.0.fit).filter_map(|(shape, _)| Some(&self.fit(ShapeId(shape))?[..])).collect();
        let column = |row: u32, shape: usize| columns[shape][row as usize];
        let counted = |row: u32, shape: usize| nodes[row].slots(&shapes[shape]);
        let fit: &dyn Fn(u32, usize) -> u32 = if columns.is_empty() { &counted } else { &column };
        packs(&Room { nodes, shapes, fit, counts_leftover: true })
    }

    /// Rows of the domain's nodes; none if there is no such domain.
    pub(crate) fn rows(&self, place: Place) -> &[u32] {
        self.level(place.level).map_or(&[], |level| level.rows_of(place.domain.0))
    }

    /// The one domain of `level` that has all these nodes.
    pub(crate) fn around(&self, level: LevelId, rows: &[u32]) -> Option<DomainId> {
        Some(DomainId(common(self.level(level)?, rows))).filter(|domain| *domain != DomainId::NONE)
    }

    /// The group that holds the domain, for messages.
    pub(crate) fn holder(&self, place: Place) -> Option<&str> {
        let number = self.level(place.level)?.number(place.domain.0)?;
        let sitting = self.0.sitting.get(place.level.0 as usize)?;
        sitting.visible(&self.0.view, number).next().map(|seat| seat.name.as_str())
    }

    /// The group that has this node for itself, for messages.
    pub(crate) fn exclusive_holder(&self, row: u32) -> Option<&str> {
        self.kept().by(row)
    }

    /// Whether another group has this node for itself.
    pub(crate) fn is_kept(&self, row: u32) -> bool {
        self.kept().is_kept(row)
    }

    fn kept(&self) -> &Kept {
        let frozen = &self.0;
        frozen.lazy.kept.get_or_init(|| Kept::of(&frozen.ledger, &frozen.view, &frozen.held_levels, &frozen.nodes))
    }

    /// Slots per node. Nodes that another group has for itself are room for nobody else, so no policy may count on them.
    fn fit(&self, shape: ShapeId) -> Option<&Arc<[u32]>> {
        let (fit, cell) = self.0.fit.get(shape.0 as usize).zip(self.0.lazy.fit.get(shape.0 as usize))?;
        Some(cell.get_or_init(|| {
            let mut fit = Arc::clone(fit);
            for row in self.kept().rows().filter(|row| self.0.fit[shape.0 as usize][*row] > 0) {
                Arc::make_mut(&mut fit)[row] = 0;
            }
            fit
        }))
    }

    /// Who keeps the subgroup out of a domain that it wants for itself, for messages; `None` if it is free.
    pub(crate) fn kept_from(&self, place: Place, subgroup: &SubgroupId) -> Option<&str> {
        let sitting = self.tenants(place.level)?.get(&place.domain.0)?;
        sitting.iter().find(|tenant| !tenant.is(subgroup)).map(|tenant| tenant.name.as_str())
    }

    /// Claims room for one pod on a node; false if there is none.
    pub(super) fn takes(&self, row: u32, shape: &Shape, claims: &mut Claims) -> bool {
        let node = &self.0.nodes[row];
        let free = node.excludes(shape).is_none() && node.room(shape.requests(), claims.get(&row)) > 0;
        if free {
            claims.entry(row).or_default().add(shape.requests(), 1);
        }
        free
    }

    pub(super) fn level(&self, level: LevelId) -> Option<&Level> {
        self.0.levels.get(level.0 as usize).map(AsRef::as_ref)
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.0.ledger
    }

    pub(super) fn past(&self) -> &Seats {
        &self.0.past
    }

    pub(super) fn held_levels(&self) -> &BTreeMap<String, Arc<Level>> {
        &self.0.held_levels
    }

    pub(super) fn nodes(&self) -> &Rows {
        &self.0.nodes
    }

    fn tenants(&self, level: LevelId) -> Option<&BTreeMap<u32, BTreeSet<Tenant>>> {
        let frozen = &self.0;
        let (cell, level) = frozen.lazy.tenants.get(level.0 as usize).zip(self.level(level))?;
        Some(cell.get_or_init(|| tenants(&frozen.ledger, &frozen.view, &frozen.nodes, level, &frozen.held_levels)))
    }
}

/// The domain that all rows share, or `NONE`.
fn common(level: &Level, rows: &[u32]) -> u32 {
    let mut domains = rows.iter().map(|row| level.of_node[*row as usize]);
    let first = domains.next().unwrap_or(DomainId::NONE.0);
    if domains.all(|domain| domain == first) { first } else { DomainId::NONE.0 }
}
