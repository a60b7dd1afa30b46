//! `muster topology`: the domains of one level, what is in them and what is free.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;
use muster_core::pods;
use muster_core::record::Record;
use serde::Serialize;

use crate::output::{FAINT, GOOD, STRONG, WAITING, styled};
use crate::read::World;

/// The picture's content.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Map {
    pub(crate) level: String,
    pub(crate) domains: Vec<Domain>,
    /// Nodes in no domain, because they lack the label.
    pub(crate) unlabelled: usize,
}

/// One domain.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Domain {
    pub(crate) name: String,
    pub(crate) nodes: Vec<Host>,
    /// The groups with a pod in it or on its way to it.
    pub(crate) groups: Vec<String>,
}

/// One node.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Host {
    pub(crate) name: String,
    /// Ready, and not cordoned.
    pub(crate) usable: bool,
    /// The pods of sets on it: group and pod.
    pub(crate) pods: Vec<Guest>,
}

/// One pod of a group.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Guest {
    pub(crate) group: String,
    pub(crate) pod: String,
}

impl Map {
    pub(crate) fn of(world: &World, level: Option<&str>) -> Result<Self> {
        let level = match level {
            Some(level) => level.to_owned(),
            None => usual_level(world)
                .context("no group was placed by any level yet; name one with --level, such as a node pool's label")?,
        };
        let mut domains: BTreeMap<String, Domain> = BTreeMap::new();
        let mut guests = guests(world);
        let mut unlabelled = 0;
        for node in &world.nodes {
            let Some(domain) = node.labels().get(&level).filter(|domain| !domain.is_empty()) else {
                unlabelled += 1;
                continue;
            };
            let entry = domains.entry(domain.clone()).or_insert_with(|| Domain {
                name: domain.clone(),
                nodes: Vec::new(),
                groups: Vec::new(),
            });
            let pods = guests.remove(&node.name_any()).unwrap_or_default();
            entry.nodes.push(Host { name: node.name_any(), usable: is_usable(node), pods });
        }
        ensure!(
            !domains.is_empty(),
            "no node has the label {level}; `kubectl get nodes --show-labels` shows those that there are"
        );
        let expected = expected(world, &level);
        for domain in domains.values_mut() {
            let here = domain.nodes.iter().flat_map(|node| &node.pods).map(|guest| guest.group.clone());
            let on_their_way = expected.get(&domain.name).into_iter().flatten().cloned();
            domain.groups = here.chain(on_their_way).collect::<BTreeSet<_>>().into_iter().collect();
        }
        Ok(Self { level, domains: domains.into_values().collect(), unlabelled })
    }

    /// A box for each node: a letter per group, a dot for a free one, a cross for one that takes no pods.
    pub(crate) fn render(&self) -> String {
        let letters = self.letters();
        let width = self.domains.iter().map(|domain| domain.name.len()).max().unwrap_or(0);
        let mut text = format!("{}\n", styled(STRONG, &self.level));
        for domain in &self.domains {
            let nodes: String = domain.nodes.iter().map(|node| node_sign(node, &letters)).collect();
            let groups: Vec<String> =
                domain.groups.iter().map(|group| format!("{} {group}", letters.get(group).copied().unwrap_or('?'))).collect();
            let groups = if groups.is_empty() { styled(FAINT, "free") } else { groups.join(", ") };
            let _ = writeln!(text, "{:width$}  {nodes}  {groups}", domain.name);
        }
        if self.unlabelled > 0 {
            let _ = writeln!(text, "{}", styled(FAINT, &format!("{} nodes have no label {}", self.unlabelled, self.level)));
        }
        text
    }

    /// A sign for each group, in the order of their names.
    fn letters(&self) -> BTreeMap<String, char> {
        let groups: BTreeSet<&String> = self.domains.iter().flat_map(|domain| &domain.groups).collect();
        let signs = ('A'..='Z').chain('a'..='z').chain('0'..='9').cycle();
        groups.into_iter().cloned().zip(signs).collect()
    }
}

fn node_sign(node: &Host, letters: &BTreeMap<String, char>) -> String {
    let groups: BTreeSet<&String> = node.pods.iter().map(|guest| &guest.group).collect();
    let mut groups = groups.into_iter();
    match (groups.next(), groups.next()) {
        (Some(group), None) => styled(GOOD, &letters.get(group).copied().unwrap_or('?').to_string()),
        (Some(_), Some(_)) => styled(GOOD, "+"),
        (None, _) if node.usable => styled(FAINT, "·"),
        (None, _) => styled(WAITING, "×"),
    }
}

/// The level that most groups were placed by.
fn usual_level(world: &World) -> Option<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for placed in &world.sets {
        let records = placed.observed.pods.values().filter_map(|pod| Record::of(pod)?.level);
        records.chain(placed.choice.exclusive.clone()).for_each(|level| *counts.entry(level).or_default() += 1);
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(level, _)| level)
}

/// The pods of sets, by node.
fn guests(world: &World) -> BTreeMap<String, Vec<Guest>> {
    let mut guests: BTreeMap<String, Vec<Guest>> = BTreeMap::new();
    for placed in &world.sets {
        for (index, group) in placed.observed.groups(&placed.set) {
            for (_, pod) in group.pods() {
                let Some(node) = pods::node(pod) else { continue };
                let guest = Guest { group: name_of(placed, index), pod: pods::name(pod).to_owned() };
                guests.entry(node.to_owned()).or_default().push(guest);
            }
        }
    }
    guests
}

/// The groups that were sent to a domain, by domain.
fn expected(world: &World, level: &str) -> BTreeMap<String, Vec<String>> {
    let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for placed in &world.sets {
        for (index, group) in placed.observed.groups(&placed.set) {
            let record = group.leader.and_then(Record::of).filter(|record| record.level.as_deref() == Some(level));
            if let Some(domain) = record.and_then(|record| record.domain) {
                expected.entry(domain).or_default().push(name_of(placed, index));
            }
        }
    }
    expected
}

fn name_of(placed: &crate::read::Placed, group: u32) -> String {
    format!("{}/{}-{group}", placed.set.set_namespace(), placed.set.set_name())
}

fn is_usable(node: &Node) -> bool {
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    ready && !cordoned
}
