//! `muster snapshot` and `muster policy record`: the live cluster, and a set's question, as a scenario file.

mod chain;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use muster_api::LeaderWorkerSet;
use muster_core::ask::{self, Concern};
use muster_core::cluster::Holding;
use muster_core::cluster::amounts::Amounts;
use muster_core::pods;
use muster_policy_kit::Scenario;
use muster_policy_kit::capture::{anonymised, cluster, peer, pod_kind};
use muster_policy_kit::scenario::{Brief, Peer, Request, Unit, Units};

use crate::output::{self, WAITING, styled};
use crate::read::{Placed, Reader, World};

/// Levels that most clusters have, widest first.
const USUAL_LEVELS: [&str; 2] = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"];

/// Where it goes, and what it tells.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Kept {
    /// Label key that is a level, widest first; may be repeated. By default region, zone, and those that sets are placed by.
    #[arg(short, long = "level")]
    levels: Vec<String>,
    /// Made-up names for nodes, domains, sets and namespaces; other labels are left out.
    #[arg(long)]
    anonymise: bool,
    /// File to write; otherwise it is printed.
    #[arg(short, long, value_name = "FILE", value_parser = file)]
    output: Option<std::path::PathBuf>,
}

/// Elsewhere `-o` names a format, and nobody wants a file called `yaml`.
fn file(name: &str) -> Result<std::path::PathBuf, String> {
    match name {
        "yaml" => Err("here it names a file; leave it out to print YAML".to_owned()),
        "json" | "text" => Err(format!("here it names a file, and a scenario is YAML; for a file of that name say ./{name}")),
        name => Ok(name.into()),
    }
}

/// `muster snapshot`.
pub(crate) async fn snapshot(reader: &Reader, kept: &Kept) -> Result<()> {
    let world = reader.world().await?;
    let scenario = captured(&world, kept, None);
    write(scenario, kept, &Next::Simulate)
}

/// `muster policy record`.
pub(crate) async fn record(reader: &Reader, set: &str, all: bool, kept: &Kept) -> Result<()> {
    let world = reader.world().await?;
    let placed =
        world.sets.iter().find(|placed| placed.set.set_name() == set && placed.set.set_namespace() == reader.namespace());
    let placed = placed.with_context(|| {
        format!("there is no LeaderWorkerSet {set:?} in namespace {:?}; `muster status -A` lists all", reader.namespace())
    })?;
    let groups = asked(placed, all);
    if groups.is_empty() {
        bail!("no group of {set} waits for a place; --all records the question as if all did");
    }
    let mut scenario = captured(&world, kept, all.then_some(placed));
    scenario.name = format!("{} groups of {set} to place", groups.len());
    question(&mut scenario, placed, &groups, &world)?;
    let mut policies = Vec::new();
    for policy in &placed.choice.placement {
        policies.push((policy.clone(), reader.placement_policy(policy).await?));
    }
    scenario.settings = chain::settings(policies.first().and_then(|(_, object)| object.as_ref()));
    let (links, notes) = chain::links(&policies);
    scenario.chain = links;
    for note in notes {
        anstream::eprintln!("{} {note}", styled(WAITING, "note:"));
    }
    write(scenario, kept, &Next::Run)
}

/// What a file that was written is for.
enum Next {
    Simulate,
    Run,
}

fn write(scenario: Scenario, kept: &Kept, next: &Next) -> Result<()> {
    let text = if kept.anonymise { anonymised(scenario) } else { scenario }.to_yaml();
    match &kept.output {
        Some(file) => {
            save(file, &text)?;
            let shown = file.display();
            output::print(&match next {
                Next::Simulate => format!("wrote {shown}\n\nnext: muster policy simulate builtin:node-pool --cluster {shown}"),
                Next::Run => format!(
                    "wrote {shown}\n\nnext: muster policy run --scenario {shown}    or, with another policy: muster policy replay {shown} --against …"
                ),
            });
            Ok(())
        }
        None => {
            output::print(&text);
            Ok(())
        }
    }
}

fn save(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))
}

/// The cluster; without the pods and places of `but`.
fn captured(world: &World, kept: &Kept, but: Option<&Placed>) -> Scenario {
    let is_but =
        |namespace: &str, set: &str| but.is_some_and(|but| but.set.set_namespace() == namespace && but.set.set_name() == set);
    let mut used: BTreeMap<String, Amounts> = BTreeMap::new();
    for bound in &world.bound {
        if !bound.set.as_ref().is_some_and(|(namespace, set)| is_but(namespace, set)) {
            used.entry(bound.node.clone()).or_default().add(&bound.requests, 1);
        }
    }
    let holdings: Vec<Holding> = world
        .sets
        .iter()
        .filter(|placed| !is_but(placed.set.set_namespace(), placed.set.set_name()))
        .flat_map(|placed| holdings(placed, world))
        .collect();
    let levels = if kept.levels.is_empty() { usual_levels(world) } else { kept.levels.clone() };
    cluster(&world.nodes, &used, &holdings, &levels)
}

fn holdings(placed: &Placed, world: &World) -> Vec<Holding> {
    let label = |node: &str, key: &str| {
        let node = world.nodes.iter().find(|known| known.name_any() == node)?;
        node.labels().get(key).map(String::as_str)
    };
    ask::holdings(&placed.set, &placed.observed, &placed.choice, label)
}

/// Those that nodes carry of the usual ones, and those that sets are placed by.
fn usual_levels(world: &World) -> Vec<String> {
    let held = world.sets.iter().flat_map(|placed| {
        let holdings = holdings(placed, world).into_iter().map(|holding| holding.level);
        holdings.chain(placed.choice.exclusive.clone()).collect::<Vec<_>>()
    });
    let held: BTreeSet<String> = held.filter(|key| !key.is_empty()).collect();
    let carried = |key: &&str| world.nodes.iter().any(|node| node.labels().contains_key(*key));
    let usual = USUAL_LEVELS.into_iter().filter(carried).map(str::to_owned);
    let mut levels: Vec<String> = usual.collect();
    levels.extend(held.into_iter().filter(|key| !USUAL_LEVELS.contains(&key.as_str())));
    levels
}

/// A group to ask about: its index, its workers and how many pods each of its subgroups has.
struct Asked {
    index: u32,
    workers: u32,
    subgroups: Vec<u32>,
    priority: i32,
}

/// The groups that wait for a place, or all of them.
fn asked(placed: &Placed, all: bool) -> Vec<Asked> {
    let priority = |leader: &Pod| leader.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
    if all {
        let workers = u32::try_from(placed.set.size()).unwrap_or(1).saturating_sub(1);
        let groups = placed.observed.groups(&placed.set);
        let with_leaders = groups.iter().filter_map(|(index, group)| Some((*index, group.leader?)));
        let each =
            with_leaders.map(|(index, leader)| Asked { index, workers, subgroups: Vec::new(), priority: priority(leader) });
        return each.collect();
    }
    let questions = ask::placement(&placed.set, &placed.observed, &placed.choice, Duration::MAX, Timestamp::now());
    let waiting = questions.into_iter().filter(|question| matches!(question.concern, Concern::Waiting | Concern::Released));
    let each = waiting.map(|question| Asked {
        index: question.group,
        workers: question.demand.iter().skip(1).map(|(_, pods)| pods).sum(),
        priority: priority(question.leader),
        subgroups: question.division,
    });
    each.collect()
}

/// What the operator would ask about these groups.
fn question(scenario: &mut Scenario, placed: &Placed, asked: &[Asked], world: &World) -> Result<()> {
    let set = &placed.set;
    let template = |template: &muster_api::PodTemplate, name: &str| -> Result<_> {
        let spec = template.typed().with_context(|| format!("reading the {name}'s template"))?.spec;
        Ok(pod_kind(&spec.unwrap_or_default()))
    };
    scenario.shapes.insert("leader".to_owned(), template(set.leader_template(), "leader")?);
    scenario.shapes.insert("worker".to_owned(), template(set.worker_template(), "worker")?);
    let units = asked.iter().map(|Asked { index, workers, subgroups, priority }| {
        let pods = if *workers == 0 { "[1 leader]".to_owned() } else { format!("[1 leader, {workers} worker]") };
        Brief(Unit { pods, id: Some(*index), priority: *priority, subgroups: subgroups.clone(), ..Unit::default() })
    });
    let units = Units(units.collect());
    let own = holdings(placed, world).into_iter().filter_map(|holding| {
        let index: u32 = holding.group.leader_pod.strip_prefix(set.set_name())?.strip_prefix('-')?.parse().ok()?;
        let there = !holding.level.is_empty() && asked.iter().all(|asked| asked.index != index);
        there.then(|| format!("{index} @ {}={}", holding.level, holding.domain))
    });
    let own: Vec<String> = own.collect();
    // The question's own places are said once, as its own.
    let name = format!("{}/{} ", set.set_namespace(), set.set_name());
    scenario.held.retain(|held| !held.0.group.starts_with(&name));
    scenario.request = Some(Request {
        owner: Some(format!("{}/{}", set.set_namespace(), set.set_name())),
        labels: set.labels().clone(),
        exclusive: placed.choice.exclusive.clone(),
        units,
        placed: own,
        peers: peers(placed, world).into_iter().map(Brief).collect(),
        ..Request::default()
    });
    scenario.properties = true;
    Ok(())
}

/// Groups of the sets that may be peers: those of the namespace with some label in common. By which label it is, a policy says when it
/// is asked.
fn peers(placed: &Placed, world: &World) -> Vec<Peer> {
    let set = &placed.set;
    let shares = |other: &LeaderWorkerSet| set.labels().iter().any(|(key, value)| other.labels().get(key) == Some(value));
    let others = world.sets.iter().filter(|other| {
        other.set.set_namespace() == set.set_namespace() && other.set.set_name() != set.set_name() && shares(&other.set)
    });
    others.flat_map(|other| groups_of(other, world)).collect()
}

/// The groups of a set that are somewhere or have been promised a place.
fn groups_of(placed: &Placed, world: &World) -> Vec<Peer> {
    let (set, holdings) = (&placed.set, holdings(placed, world));
    let groups = placed.observed.groups(set);
    let index_of = |holding: &Holding| -> Option<u32> {
        holding.group.leader_pod.strip_prefix(set.set_name())?.strip_prefix('-')?.parse().ok()
    };
    let indices: BTreeSet<u32> = groups.keys().copied().chain(holdings.iter().filter_map(index_of)).collect();
    let each = indices.into_iter().filter_map(|index| {
        let pods = groups.get(&index).into_iter().flat_map(|group| group.pods());
        let nodes: Vec<String> = pods.filter_map(|(_, pod)| Bound::of(pod)).map(|bound| bound.node).collect();
        let holding = holdings.iter().find(|holding| index_of(holding) == Some(index));
        let name = format!("{}/{} {index}", set.set_namespace(), set.set_name());
        (holding.is_some() || !nodes.is_empty()).then(|| peer(name, set.labels(), holding, nodes))
    });
    each.collect()
}

/// A pod that takes room on a node.
pub(crate) struct Bound {
    pub(crate) node: String,
    /// Namespace and name of its set, if it has one.
    pub(crate) set: Option<(String, String)>,
    pub(crate) requests: Amounts,
}

impl Bound {
    pub(crate) fn of(pod: &Pod) -> Option<Self> {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if matches!(phase, Some("Succeeded" | "Failed")) {
            return None;
        }
        let node = pods::node(pod)?.to_owned();
        let requests = muster_core::cluster::shape::requests_of(pod.spec.as_ref()?).ok()?;
        let set = pod.labels().get(muster_api::names::label::SET_NAME).cloned();
        Some(Self { node, set: set.map(|set| (pod.namespace().unwrap_or_default(), set)), requests })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_no_name_for_a_file() {
        assert_eq!(file("yaml").unwrap_err(), "here it names a file; leave it out to print YAML");
        assert!(file("json").unwrap_err().contains("say ./json"));
        assert_eq!(file("cluster.yaml"), Ok("cluster.yaml".into()));
    }
}
