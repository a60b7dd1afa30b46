//! What a unit asks for: how many slices of which hosts.

use std::collections::BTreeMap;

use muster_placement_sdk::{Cluster, Demand, Entry, PodShape, Unit, counted};

use crate::hosts::{Hosts, Kind, level_of};
use crate::settings::{ACCELERATOR, PARTITION, POOL, SUB_SLICES, Settings, TOPOLOGY, sub_slice_key};
use crate::topology::{Topology, dimensions_of, is_known};

/// The resource.
pub(crate) const TPU: &str = "google.com/tpu";

/// The label of a set whose slices have another topology than their pool. On pods it is an annotation that GKE reads.
const SLICE_TOPOLOGY: &str = "cloud.google.com/gke-tpu-slice-topology";

/// Chips of a partition.
const CUBE: u32 = 64;

/// What a unit asks for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ask {
    /// No pod requests TPUs.
    NoTpus,
    /// Every slice is one host, and any host of the kind will do.
    SingleHosts,
    Slices(Slices),
}

/// Slices of several hosts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Slices {
    /// Label key of the domains that slices are made of: pools, sub-slices or partitions.
    pub(crate) key: String,
    pub(crate) level: u32,
    pub(crate) topology: Topology,
    pub(crate) kind: Kind,
    /// Chips of a host.
    pub(crate) chips: u32,
    /// Hosts of a domain.
    pub(crate) hosts: u32,
    /// Domains of a slice.
    pub(crate) domains: u32,
    /// For every domain: the pods that it takes, in the order of ranks, without a leader that requests no TPUs.
    pub(crate) parts: Vec<Vec<Demand>>,
    /// A leader that requests no TPUs.
    pub(crate) leader: Option<Demand>,
    /// Something that the user should know.
    pub(crate) note: String,
}

/// Why a unit gets nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The set is wrong.
    Refuse(&'static str, String),
    /// The cluster has nothing of that kind.
    Hold(&'static str, String),
}

fn refuse<T>(code: &'static str, message: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Refuse(code, message.into()))
}

/// What pods of each shape ask for.
pub(crate) type Shapes = BTreeMap<u32, PodShape>;

/// The shapes of all units: most of a set have the same.
pub(crate) fn shapes_of<C: Cluster>(cluster: &C, units: &[Unit]) -> Shapes {
    let mut shapes = Shapes::new();
    for demand in units.iter().flat_map(|unit| &unit.pods) {
        shapes.entry(demand.shape).or_insert_with(|| cluster.describe_shape(demand.shape));
    }
    shapes
}

/// Reads out of its pods what the unit asks for.
pub(crate) fn ask<C: Cluster>(
    settings: &Settings,
    cluster: &C,
    hosts: &Hosts<'_, C>,
    shapes: &Shapes,
    labels: &[Entry],
    unit: &Unit,
) -> Result<Ask, Fault> {
    let Some(pods) = TpuPods::of(shapes, unit)? else { return Ok(Ask::NoTpus) };
    let levels = cluster.levels();
    let wish = labels.iter().find(|label| label.key == SLICE_TOPOLOGY).map(|label| label.value.as_str());
    let layout = Layout::of(&pods, wish.or(settings.slice_topology()), |key| {
        level_of(&levels, key).filter(|level| cluster.domain_count(*level) > 0)
    })?;
    let accelerator = &pods.accelerator;
    let mut note = String::new();
    if !is_known(accelerator, &layout.topology) {
        let message = format!("{accelerator} is not known to come in topology {}", layout.topology);
        if settings.strict {
            return refuse("UnknownTopology", format!("{message}; the setting strict refuses such ones"));
        }
        note = format!(" ({message})");
    }
    let chips = fitting_chips(hosts, &pods, &layout, unit)?;
    if layout.topology.chips() <= chips {
        return Ok(Ask::SingleHosts);
    }
    let key = layout.key;
    let Some(level) = level_of(&levels, &key) else {
        let shapes = SUB_SLICES.join(", ");
        let message = format!(
            "{} is no sub-slice that nodes are labelled for: there are {shapes}; name another one in the setting sliceTopology",
            layout.topology
        );
        return refuse("UnknownTopology", message);
    };
    let (hosts, domains) =
        if key == PARTITION { (CUBE / chips, layout.topology.chips() / CUBE) } else { (layout.topology.chips() / chips, 1) };
    let kind = Kind { accelerator: pods.accelerator.clone(), topology: layout.of_pool.map(|topology| topology.to_string()) };
    let (leader, parts) = pods.divided(hosts);
    Ok(Ask::Slices(Slices { key, level, topology: layout.topology, kind, chips, hosts, domains, parts, leader, note }))
}

/// The unit's pods that request TPUs, and what they have in common.
struct TpuPods {
    accelerator: String,
    /// As selected, if it is.
    topology: Option<String>,
    /// Chips of each.
    chips: u32,
    /// Shapes of all pods in the order of ranks, and whether they request TPUs.
    ranks: Vec<(u32, bool)>,
}

impl TpuPods {
    fn of(shapes: &Shapes, unit: &Unit) -> Result<Option<Self>, Fault> {
        let mut found: Option<Self> = None;
        let mut ranks = Vec::with_capacity(unit.size() as usize);
        for demand in &unit.pods {
            let Some(shape) = shapes.get(&demand.shape) else { continue };
            let requested = shape.requests.iter().find(|quantity| quantity.resource == TPU).map_or(0, |quantity| quantity.amount);
            ranks.extend((0..demand.pods).map(|_| (demand.shape, requested > 0)));
            if requested == 0 {
                continue;
            }
            let selected = |key: &str| shape.selector.iter().find(|entry| entry.key == key).map(|entry| entry.value.clone());
            let Some(accelerator) = selected(ACCELERATOR) else { return refuse("NoTopology", not_specified()) };
            let chips = u32::try_from(requested).unwrap_or(u32::MAX);
            let pods = Self { accelerator, topology: selected(TOPOLOGY), chips, ranks: Vec::new() };
            match &found {
                Some(known)
                    if (&known.accelerator, &known.topology, known.chips) != (&pods.accelerator, &pods.topology, chips) =>
                {
                    return refuse("MixedPods", "leader and workers request different TPUs: a slice has one kind of host");
                }
                Some(_) => {}
                None => found = Some(pods),
            }
        }
        Ok(found.map(|found| Self { ranks, ..found }))
    }

    /// For every slice: how many of its pods request TPUs.
    fn in_slices(&self, unit: &Unit) -> Vec<u32> {
        let count = |ranks: &[(u32, bool)]| u32::try_from(ranks.iter().filter(|(_, tpus)| *tpus).count()).unwrap_or(u32::MAX);
        if unit.subgroups.is_empty() {
            return vec![count(&self.ranks)];
        }
        let together: u32 = unit.subgroups.iter().sum();
        // A leader that is in no subgroup comes before all of them.
        let mut rest = self.ranks.get(self.ranks.len().saturating_sub(together as usize)..).unwrap_or_default();
        let mut counts = Vec::with_capacity(unit.subgroups.len());
        for size in &unit.subgroups {
            let (subgroup, after) = rest.split_at((*size as usize).min(rest.len()));
            counts.push(count(subgroup));
            rest = after;
        }
        counts
    }

    /// A leader that requests no TPUs, and the others, so many to a domain. Everybody else does request some: the numbers of pods
    /// in slices would not be right otherwise.
    fn divided(&self, hosts: u32) -> (Option<Demand>, Vec<Vec<Demand>>) {
        let leader = self.ranks.first().filter(|(_, tpus)| !tpus).map(|(shape, _)| Demand { shape: *shape, pods: 1 });
        let others: Vec<u32> = self.ranks.iter().filter(|(_, tpus)| *tpus).map(|(shape, _)| *shape).collect();
        let demands = |shapes: &[u32]| {
            let runs = shapes.chunk_by(|one, next| one == next);
            let demand = |run: &[u32]| {
                let pods = u32::try_from(run.len()).unwrap_or(u32::MAX);
                run.first().map(|shape| Demand { shape: *shape, pods })
            };
            runs.filter_map(demand).collect()
        };
        (leader, others.chunks(hosts.max(1) as usize).map(demands).collect())
    }
}

fn not_specified() -> String {
    format!("TPU topology not specified: pods that request {TPU} have to select {ACCELERATOR} and {TOPOLOGY}")
}

/// The topology of a slice, and what it is made of.
struct Layout {
    key: String,
    topology: Topology,
    /// Topology of the pools that it lies in.
    of_pool: Option<Topology>,
}

impl Layout {
    fn of(pods: &TpuPods, wish: Option<&str>, level: impl Fn(&str) -> Option<u32>) -> Result<Self, Fault> {
        let read = |text: &str| match text.parse::<Topology>() {
            Err(error) => refuse("BadTopology", error.to_string()),
            Ok(topology) => match dimensions_of(&pods.accelerator) {
                Some(dimensions) if dimensions != topology.dimensions() => {
                    let message = format!("{} has topologies of {dimensions} dimensions, unlike {topology}", pods.accelerator);
                    refuse("BadTopology", message)
                }
                _ => Ok(topology),
            },
        };
        let of_pool = pods.topology.as_deref().map(read).transpose()?;
        let wish = wish.map(read).transpose()?;
        match (of_pool, wish) {
            (None, Some(topology)) if topology.dimensions() == 3 => Self::of_partitions(topology, None),
            (None, _) => refuse("NoTopology", not_specified()),
            (Some(topology), None) => Ok(Self::whole_pool(topology)),
            (Some(of_pool), Some(topology)) if topology == of_pool && level(PARTITION).is_none() => Ok(Self::whole_pool(of_pool)),
            (Some(of_pool), Some(topology)) if topology.dimensions() == 3 => Self::of_partitions(topology, Some(of_pool)),
            (Some(of_pool), Some(topology)) if topology == of_pool => Ok(Self::whole_pool(of_pool)),
            (Some(of_pool), Some(topology)) if topology.fits_into(&of_pool) => {
                Ok(Self { key: sub_slice_key(&topology.to_string()), topology, of_pool: Some(of_pool) })
            }
            (Some(of_pool), Some(topology)) => {
                refuse("BadTopology", format!("a slice of {topology} is no part of a pool of {of_pool}"))
            }
        }
    }

    fn whole_pool(topology: Topology) -> Self {
        Self { key: POOL.to_owned(), topology: topology.clone(), of_pool: Some(topology) }
    }

    fn of_partitions(topology: Topology, of_pool: Option<Topology>) -> Result<Self, Fault> {
        if topology.chips().is_multiple_of(CUBE) {
            return Ok(Self { key: PARTITION.to_owned(), topology, of_pool });
        }
        refuse("BadTopology", format!("a slice of {topology} can't be made of partitions, which have {CUBE} chips each"))
    }
}

/// How many chips the hosts have that are right for these pods.
fn fitting_chips<C: Cluster>(hosts: &Hosts<'_, C>, pods: &TpuPods, layout: &Layout, unit: &Unit) -> Result<u32, Fault> {
    let topology = layout.of_pool.as_ref().map(ToString::to_string);
    let there = hosts.chips_of(&Kind { accelerator: pods.accelerator.clone(), topology: topology.clone() });
    if there.is_empty() {
        let of = topology.map(|topology| format!(" and {TOPOLOGY}={topology}")).unwrap_or_default();
        return Err(Fault::Hold("NoSuchHosts", format!("no node has {TPU}, {ACCELERATOR}={}{of}", pods.accelerator)));
    }
    let mut first = None;
    // Hosts that the pods take as a whole go first: theirs is the fault to tell.
    let right = there.contains(&pods.chips).then_some(pods.chips);
    for chips in right.into_iter().chain(there.iter().copied().filter(|chips| Some(*chips) != right)) {
        match check(pods, layout, unit, chips) {
            Ok(()) => return Ok(chips),
            Err(fault) => first = first.or(Some(fault)),
        }
    }
    first.map_or(Ok(pods.chips), Err)
}

/// Whether the pods are right for hosts with so many chips.
fn check(pods: &TpuPods, layout: &Layout, unit: &Unit, chips: u32) -> Result<(), Fault> {
    let topology = &layout.topology;
    let needed = match topology.hosts(chips) {
        Some(hosts) => hosts,
        None if topology.chips() < chips => 1,
        None => {
            let message = format!("{topology} has {} chips, which hosts with {chips} don't divide evenly", topology.chips());
            return refuse("UnevenTopology", message);
        }
    };
    if needed > 1 && pods.chips != chips {
        let message = format!("pod must request all {chips} chips of its host, and requests {} {TPU}", pods.chips);
        return refuse("PartOfAHost", message);
    }
    if let Some(wrong) = pods.in_slices(unit).into_iter().find(|count| *count != needed) {
        let message = format!(
            "Number of workers in worker group not equal to specified topology: {topology} is {} with {chips} chips each, and {} \
             in one slice",
            counted(needed, "host"),
            counted(wrong, "TPU pod"),
        );
        return refuse("WrongGroupSize", message);
    }
    Ok(())
}
