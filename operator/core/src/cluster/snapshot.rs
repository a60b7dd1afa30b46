//! A frozen view of the cluster for one placement decision.

use std::sync::Arc;

use crate::placement::{Demand, DomainId, LevelId, NodeId, ShapeId};

/// A frozen, read-only view of the cluster: flat columns, cheap to clone, safe to hand to a policy.
///
/// Methods that take an id return an empty column, `None` or 0 for an id that the snapshot does not have; a policy can ask
/// nonsense and gets nothing.
#[derive(Debug, Clone)]
pub struct Snapshot {}

impl Snapshot {
    /// Equal numbers mean equal content.
    pub fn generation(&self) -> u64 { todo!() }
    /// Label keys of the topology, in the order the view was asked for.
    pub fn levels(&self) -> &[String] { todo!() }
    /// How many nodes there are.
    pub fn node_count(&self) -> u32 { todo!() }
    /// How many domains the level has.
    pub fn domain_count(&self, _level: LevelId) -> u32 { todo!() }
    /// For every domain of `level`: the domain of the level before it that contains it; `NONE` where there is none or they do not nest.
    pub fn domain_parents(&self, _level: LevelId) -> Arc<[u32]> { todo!() }
    /// For every domain of `level`: how many pods of this shape fit after the scheduler's hard filters.
    pub fn domain_fit(&self, _level: LevelId, _shape: ShapeId) -> Arc<[u32]> { todo!() }
    /// For every domain of `level`: how many other units sit there, as the request's owner must see them (0 is free).
    pub fn domain_holders(&self, _level: LevelId) -> Arc<[u32]> { todo!() }
    /// For every node: its domain at `level`.
    pub fn node_domains(&self, _level: LevelId) -> Arc<[u32]> { todo!() }
    /// For every node: how many pods of this shape fit.
    pub fn node_fit(&self, _shape: ShapeId) -> Arc<[u32]> { todo!() }
    /// The nodes of one domain and how many pods of this shape fit on each, in the same order.
    pub fn nodes_in(&self, _level: LevelId, _domain: DomainId, _shape: ShapeId) -> (Vec<u32>, Vec<u32>) { todo!() }
    /// At most `limit` domains of `level` with room for all of `pods` together, least leftover first, ties by name; only free ones if `exclusive`.
    pub fn best_domains(&self, _level: LevelId, _pods: &[Demand], _exclusive: bool, _limit: u32) -> Vec<u32> { todo!() }
    /// The label value that makes the domain.
    pub fn domain_name(&self, _level: LevelId, _domain: DomainId) -> Option<&str> { todo!() }
    /// The node's name.
    pub fn node_name(&self, _node: NodeId) -> Option<&str> { todo!() }
    /// One label of one node.
    pub fn node_label(&self, _node: NodeId, _key: &str) -> Option<&str> { todo!() }
}
