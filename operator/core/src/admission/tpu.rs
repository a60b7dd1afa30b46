//! The variables by which the processes on the TPU hosts of one slice find each other (`reference` §2.11).
//!
//! A slice is the pods of one subgroup that request `google.com/tpu`, or of the whole group where a set has no subgroups.
//! Every TPU container runs one process: C containers in a pod are C entries in each list, host after host, and the
//! process with id *i* is entry *i* of both lists. That C is the pod's own, and so are the ports: a pod can't see its
//! neighbours, so leader and workers of one slice need the same number of TPU containers with the same ports.
//!
//! Where the result differs from upstream's, which lists pods that don't exist, leaves out some that do, or gives two
//! processes one id (each has a test of its name):
//!
//! - *Members are those of the subgroup labels, in every layout.* A leader that is one member more of the first subgroup is
//!   in its list, and the workers behind it count on. Workers of a leader without TPUs stay in their labelled subgroup;
//!   upstream divides them anew and names a worker beyond the last. Placement goes by the labels, so lists that
//!   don't would join processes of two slices.
//! - *Several TPU containers in a subgroup* each get their variables; upstream knows the first only.
//! - *A leader that requests TPUs but belongs to no subgroup* (`LeaderExcluded`) is refused with the remedy; upstream
//!   refuses it over a label that it never set.
//! - *A pod whose rank or label has no place in the lists* is refused; upstream gives it an id that is in no list.
//! - *A port that only the node will know* (`valueFrom`) leaves out `TPU_PROCESS_ADDRESSES`; upstream writes addresses
//!   that end in a colon.

use std::collections::BTreeMap;
use std::ops::Range;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use muster_api::names::{annotation, env, label};
use serde_json::{Value, json};

use super::identity::{self, Member};
use super::multislice::Multislice;
use super::pod::{AdmissionError, PodView, list};
use super::subgroups::division;
use crate::cluster::amounts::Amounts;
use crate::subgroups::Subgroups;

const RESOURCE: &str = "google.com/tpu";

/// Port of the process in the first TPU container; those of the next containers follow.
const FIRST_PORT: usize = 8476;

/// Entries in all lists of one pod. Even with the shortest of names, more are larger than any object that etcd takes.
const MAX_ENTRIES: usize = 1 << 17;

/// Appends the variables to every TPU container of the pod, behind those of its template.
///
/// Nothing that the template says is overruled: a variable that is there already wins when the group's own are put in
/// front ([`super::environment`]), and a first TPU container that knows its hosts or its id means that the template
/// arranges all of it.
pub(super) fn inject(pod: &mut PodView<'_>, member: &Member, group_size: i32) -> Result<(), AdmissionError> {
    let processes = Processes::of(pod)?;
    if processes.ports.is_empty() {
        return Ok(());
    }
    let multislice = Multislice::of(pod)?;
    if processes.arranged_by_template && multislice.is_none() {
        return Ok(());
    }
    let slice = Slice::of(pod, member, group_size)?;
    let slices = multislice.map(|multislice| multislice.variables(pod, member, &slice)).transpose()?.unwrap_or_default();
    let lists = if processes.arranged_by_template { None } else { Some(slice.lists(pod, member, &processes)?) };
    let first_id = slice.position(member.rank) * processes.ports.len();
    for (place, container) in pod.containers()?.filter(|container| requests_tpus(container)).enumerate() {
        let Some(variables) = container.as_object_mut().and_then(|fields| list(fields, "env")) else {
            return Err(AdmissionError::Malformed { field: "spec.containers[].env", expected: "a list" });
        };
        let mut add = |name: &str, value: &str| variables.push(json!({"name": name, "value": value}));
        if let Some(lists) = &lists {
            add(env::TPU_WORKER_HOSTNAMES, &lists.names);
            add(env::TPU_WORKER_ID, &(first_id + place).to_string());
            add(env::TPU_NAME, &member.leader);
            if let Some(addresses) = &lists.addresses {
                add(env::TPU_PROCESS_ADDRESSES, addresses);
            }
            add(env::TPU_PROCESS_PORT, &(FIRST_PORT + place).to_string());
        }
        slices.iter().for_each(|(name, value)| add(name, value));
    }
    Ok(())
}

/// What is the same for every process of a slice: an entry each, in the order of their ids, separated by commas.
struct Lists {
    names: String,
    /// `None` where a port isn't known.
    addresses: Option<String>,
}

/// The TPU containers of a pod: the regular ones, then those that initialise.
struct Processes {
    /// One each; `None` where the template takes the port from elsewhere, so that it is known on the node only.
    ports: Vec<Option<String>>,
    /// Whether the template gives the first of them its hosts or its id.
    arranged_by_template: bool,
}

impl Processes {
    fn of(pod: &mut PodView<'_>) -> Result<Self, AdmissionError> {
        let mut processes = Self { ports: Vec::new(), arranged_by_template: false };
        for (place, container) in pod.containers()?.filter(|container| requests_tpus(container)).enumerate() {
            if place == 0 {
                let has = |name| variable(container, name).is_some();
                processes.arranged_by_template = has(env::TPU_WORKER_HOSTNAMES) || has(env::TPU_WORKER_ID);
            }
            processes.ports.push(match variable(container, env::TPU_PROCESS_PORT) {
                None => Some((FIRST_PORT + place).to_string()),
                Some(port) => port.get("value").and_then(Value::as_str).filter(|port| !port.is_empty()).map(str::to_owned),
            });
        }
        Ok(processes)
    }
}

/// The pods that share a TPU slice with a pod, itself among them.
pub(super) struct Slice {
    /// Ranks of the slice that request TPUs; never empty.
    ranks: Range<i32>,
    /// The lowest rank of the group that requests TPUs.
    pub(super) first_rank: i32,
    /// How the group divides and which part this slice is, for a set with subgroups.
    pub(super) subgroup: Option<(Subgroups, i32)>,
}

impl Slice {
    fn of(pod: &PodView<'_>, member: &Member, group_size: i32) -> Result<Self, AdmissionError> {
        let leader = member.rank == 0 || pod.annotation(annotation::LEADER_REQUESTS_TPUS) == Some("true");
        let first_rank = i32::from(!leader);
        if member.rank >= group_size {
            let (pod, rank) = (pod.name().to_owned(), member.rank);
            return Err(AdmissionError::OutsideTheGroup { pod, rank, size: group_size });
        }
        let (ranks, subgroup) = match division(pod, group_size)? {
            None => (0..group_size, None),
            Some(subgroups) => {
                let index = own_subgroup(pod, member.rank, subgroups)?;
                (subgroups.ranks(index), Some((subgroups, index)))
            }
        };
        Ok(Self { ranks: ranks.start.max(first_rank)..ranks.end, first_rank, subgroup })
    }

    fn position(&self, rank: i32) -> usize {
        usize::try_from(rank - self.ranks.start).unwrap_or_default()
    }

    fn lists(&self, pod: &PodView<'_>, member: &Member, processes: &Processes) -> Result<Lists, AdmissionError> {
        let (hosts, containers) = (self.ranks.len(), processes.ports.len());
        if hosts.saturating_mul(containers).saturating_mul(containers) > MAX_ENTRIES {
            return Err(AdmissionError::TooManyTpuHosts { pod: pod.name().to_owned(), hosts });
        }
        let host = |rank| format!("{}.{}", member.pod_of(rank), pod.subdomain());
        let names: Vec<String> = self.ranks.clone().flat_map(|rank| std::iter::repeat_n(host(rank), containers)).collect();
        let ports = processes.ports.iter().map(Option::as_deref).collect::<Option<Vec<_>>>();
        let addresses = ports.map(|ports| {
            let addresses = names.iter().zip(ports.iter().cycle()).map(|(name, port)| format!("{name}:{port}"));
            addresses.collect::<Vec<_>>().join(",")
        });
        Ok(Lists { names: names.join(","), addresses })
    }
}

/// The subgroup that the pod is labelled with, if it is the one that its rank belongs to.
fn own_subgroup(pod: &PodView<'_>, rank: i32, subgroups: Subgroups) -> Result<i32, AdmissionError> {
    let name = || pod.name().to_owned();
    let Some(index) = subgroups.index_of(rank) else {
        return Err(AdmissionError::ExcludedLeaderRequestsTpus { pod: name() });
    };
    let labelled = identity::number(pod.label(label::SUBGROUP_INDEX).unwrap_or_default())?;
    if labelled != index {
        return Err(AdmissionError::OutsideTheSubgroup { pod: name(), labelled, rank, index });
    }
    Ok(index)
}

/// Whether a container asks for any TPU: by its limit, or by its request if it has no limit.
fn requests_tpus(container: &Value) -> bool {
    let Some(resources) = container.get("resources") else { return false };
    let asked = ["limits", "requests"].into_iter().find_map(|kind| resources.get(kind)?.get(RESOURCE));
    let quantity = match asked {
        Some(Value::String(text)) => Quantity(text.clone()),
        Some(Value::Number(number)) => Quantity(number.to_string()),
        _ => return false,
    };
    // What is no quantity at all never gets here: the API server has decoded the pod before it asks.
    Amounts::parse(&BTreeMap::from([(RESOURCE.to_owned(), quantity)])).is_ok_and(|amounts| !amounts.is_empty())
}

fn variable<'a>(container: &'a Value, name: &str) -> Option<&'a Value> {
    let named = |variable: &&Value| variable.get("name").and_then(Value::as_str) == Some(name);
    container.get("env")?.as_array()?.iter().find(named)
}
