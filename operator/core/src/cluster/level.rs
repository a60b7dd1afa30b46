//! One level of the topology: which domains a node label makes, and who is in them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::rows::Rows;
use crate::placement::DomainId;

/// The domains of one label key over one node table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Level {
    pub(crate) key: String,
    /// Label values in order; the position is the domain's id.
    pub(crate) names: Vec<String>,
    /// For every domain: its nodes' rows, ascending.
    pub(crate) rows: Vec<Vec<u32>>,
    /// For every node: its domain.
    pub(crate) of_node: Arc<[u32]>,
    /// How many nodes are in no domain.
    pub(crate) unlabelled: u32,
}

impl Level {
    /// A node without the label, or with an empty value, is in no domain and never in an "unknown" one.
    pub(crate) fn over(key: &str, nodes: &Rows) -> Self {
        let mut domains: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        let mut unlabelled = 0;
        for (row, node) in (0_u32..).zip(nodes.iter()) {
            match node.facts.labels.get(key) {
                Some(value) if !value.is_empty() => domains.entry(value).or_default().push(row),
                _ => unlabelled += 1,
            }
        }
        let mut of_node = vec![DomainId::NONE.0; nodes.len()];
        for (domain, rows) in (0_u32..).zip(domains.values()) {
            for row in rows {
                of_node[*row as usize] = domain;
            }
        }
        let names = domains.keys().map(|name| (*name).to_owned()).collect();
        Self { key: key.to_owned(), names, rows: domains.into_values().collect(), of_node: of_node.into(), unlabelled }
    }

    /// The domain of that name.
    pub(crate) fn domain(&self, name: &str) -> Option<u32> {
        let position = self.names.binary_search_by(|candidate| candidate.as_str().cmp(name)).ok()?;
        u32::try_from(position).ok()
    }

    /// The domain's nodes; none for a domain that does not exist.
    pub(crate) fn rows_of(&self, domain: u32) -> &[u32] {
        self.rows.get(domain as usize).map_or(&[], Vec::as_slice)
    }

    /// The domain a node is in, if any.
    pub(crate) fn domain_of(&self, row: u32) -> Option<u32> {
        self.of_node.get(row as usize).copied().filter(|domain| *domain != DomainId::NONE.0)
    }
}
