//! One level of the topology: which domains a node label makes, and who is in them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::changes::Change;
use super::node::Facts;
use super::rows::{Rows, count};
use crate::placement::DomainId;

/// Numbers for the names of one level's domains that stay the same whatever domains come and go. A domain that does not exist has
/// one too, once somebody has named it.
#[derive(Debug, Default)]
pub(crate) struct Numbers(HashMap<Arc<str>, u32>);

impl Numbers {
    pub(crate) fn of(&mut self, name: &str) -> u32 {
        if let Some(number) = self.0.get(name) {
            return *number;
        }
        let number = count(self.0.len());
        self.0.insert(name.into(), number);
        number
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// The domains of one label key over one node table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Level {
    pub(crate) key: String,
    /// Label values in order; the position is the domain's id.
    names: Vec<Arc<str>>,
    /// By domain: the number of its name.
    numbers: Vec<u32>,
    /// By domain: where its nodes start in `members`; and where those of the last one end.
    starts: Vec<u32>,
    /// Rows of the nodes, domain by domain, ascending in each.
    members: Vec<u32>,
    /// For every node: its domain.
    pub(crate) of_node: Arc<[u32]>,
    /// How many nodes are in no domain.
    pub(crate) unlabelled: u32,
}

impl Level {
    /// A node without the label, or with an empty value, is in no domain and never in an "unknown" one.
    pub(crate) fn over(key: &str, nodes: &Rows, numbers: &mut Numbers) -> Self {
        let mut domains: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        let mut unlabelled = 0;
        for (row, node) in (0_u32..).zip(nodes.iter()) {
            match value(&node.facts, key) {
                Some(value) => domains.entry(value).or_default().push(row),
                None => unlabelled += 1,
            }
        }
        let mut of_node = vec![DomainId::NONE.0; nodes.len()];
        let (mut starts, mut members) = (vec![0], Vec::with_capacity(nodes.len()));
        for (domain, rows) in (0_u32..).zip(domains.values()) {
            rows.iter().for_each(|row| of_node[*row as usize] = domain);
            members.extend_from_slice(rows);
            starts.push(count(members.len()));
        }
        let names = domains.keys().map(|name| Arc::from(*name)).collect();
        let numbers = domains.keys().map(|name| numbers.of(name)).collect();
        Self { key: key.to_owned(), names, numbers, starts, members, of_node: of_node.into(), unlabelled }
    }

    /// Whether the change moves rows or the domain of one.
    pub(crate) fn is_touched_by(&self, change: &Change) -> bool {
        match change {
            Change::Room(_) => false,
            Change::Facts { before, after, .. } => value(before, &self.key) != value(after, &self.key),
            Change::Came { .. } | Change::Gone { .. } => true,
        }
    }

    /// Does what has happened to the node table.
    pub(crate) fn follow<'a>(&mut self, changes: impl Iterator<Item = &'a Change>, numbers: &mut Numbers) {
        let mut of_node = self.of_node.to_vec();
        for change in changes {
            match change {
                Change::Room(_) => {}
                Change::Facts { row, before, after } => {
                    if value(before, &self.key) != value(after, &self.key) {
                        self.leave(*row, &mut of_node);
                        self.enter(*row, after, numbers, &mut of_node);
                    }
                }
                Change::Came { row, facts } => {
                    self.members.iter_mut().filter(|member| **member >= *row).for_each(|member| *member += 1);
                    of_node.insert(*row as usize, DomainId::NONE.0);
                    self.enter(*row, facts, numbers, &mut of_node);
                }
                Change::Gone { row, .. } => {
                    self.leave(*row, &mut of_node);
                    of_node.remove(*row as usize);
                    self.members.iter_mut().filter(|member| **member > *row).for_each(|member| *member -= 1);
                }
            }
        }
        self.of_node = of_node.into();
    }

    /// Enters a row that is in no domain into the one that its label names.
    fn enter(&mut self, row: u32, facts: &Facts, numbers: &mut Numbers, of_node: &mut [u32]) {
        let Some(name) = value(facts, &self.key) else {
            self.unlabelled += 1;
            return;
        };
        let domain = self.search(name).unwrap_or_else(|domain| {
            self.names.insert(domain, name.into());
            self.numbers.insert(domain, numbers.of(name));
            self.starts.insert(domain, self.starts[domain]);
            renumber(of_node, |id| if id as usize >= domain { id + 1 } else { id });
            domain
        });
        let (first, last) = (self.starts[domain] as usize, self.starts[domain + 1] as usize);
        let position = first + self.members[first..last].partition_point(|member| *member < row);
        self.members.insert(position, row);
        self.starts[domain + 1..].iter_mut().for_each(|start| *start += 1);
        of_node[row as usize] = count(domain);
    }

    /// Takes a row out of its domain, and its domain away if it was the last one there.
    fn leave(&mut self, row: u32, of_node: &mut [u32]) {
        let id = std::mem::replace(&mut of_node[row as usize], DomainId::NONE.0);
        if id == DomainId::NONE.0 {
            self.unlabelled -= 1;
            return;
        }
        let domain = id as usize;
        let (first, last) = (self.starts[domain] as usize, self.starts[domain + 1] as usize);
        let position = first + self.members[first..last].partition_point(|member| *member < row);
        self.members.remove(position);
        self.starts[domain + 1..].iter_mut().for_each(|start| *start -= 1);
        if last - first == 1 {
            self.names.remove(domain);
            self.numbers.remove(domain);
            self.starts.remove(domain);
            renumber(of_node, |other| if other > id { other - 1 } else { other });
        }
    }

    /// How many domains there are.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// The label value that makes the domain.
    pub(crate) fn name(&self, domain: u32) -> Option<&str> {
        self.names.get(domain as usize).map(AsRef::as_ref)
    }

    fn search(&self, name: &str) -> Result<usize, usize> {
        self.names.binary_search_by(|candidate| candidate.as_ref().cmp(name))
    }

    /// The domain of that name.
    pub(crate) fn domain(&self, name: &str) -> Option<u32> {
        self.search(name).ok().map(count)
    }

    /// The number of the domain's name.
    pub(crate) fn number(&self, domain: u32) -> Option<u32> {
        self.numbers.get(domain as usize).copied()
    }

    /// By domain: the numbers of their names.
    pub(crate) fn numbers(&self) -> &[u32] {
        &self.numbers
    }

    /// The domain's nodes; none for a domain that does not exist.
    pub(crate) fn rows_of(&self, domain: u32) -> &[u32] {
        let bounds = self.starts.get(domain as usize).zip(self.starts.get(domain as usize + 1));
        bounds.map_or(&[], |(first, last)| &self.members[*first as usize..*last as usize])
    }

    /// The nodes of every domain.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &[u32]> {
        self.starts.windows(2).map(|bounds| &self.members[bounds[0] as usize..bounds[1] as usize])
    }

    /// The domain a node is in, if any.
    pub(crate) fn domain_of(&self, row: u32) -> Option<u32> {
        self.of_node.get(row as usize).copied().filter(|domain| *domain != DomainId::NONE.0)
    }
}

/// What puts the node into a domain.
fn value<'a>(facts: &'a Facts, key: &str) -> Option<&'a str> {
    facts.labels.get(key).map(String::as_str).filter(|value| !value.is_empty())
}

fn renumber(of_node: &mut [u32], number: impl Fn(u32) -> u32) {
    of_node.iter_mut().filter(|domain| **domain != DomainId::NONE.0).for_each(|domain| *domain = number(*domain));
}
