//! The set of a scenario and its groups, as the operator's own questions take them.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use muster_api::LeaderWorkerSet;
use muster_api::names::annotation;
use muster_core::admission::Choice;
use muster_core::ask::{self, Concern, Question};
use muster_core::cluster::{self as core_cluster, Index, Shape, Snapshot};
use muster_core::placement::effects::Effects;
use muster_core::placing::chain::Label;
use muster_core::placing::{self, Asked};
use muster_policy_host::Preparation;
use serde_json::json;

use super::stage::{Planned, complete, enter_placed, enter_running, owner, planned, shape};
use super::{Division, Fault, Request, Scenario, Scope, Sites};

/// A scenario with its cluster in an index, and its set.
#[derive(Debug)]
pub(crate) struct Scene<'s> {
    request: &'s Request,
    scope: core_cluster::Scope,
    planned: Vec<Planned<'s>>,
    /// What each of the planned units needs, leader first.
    needs: Vec<Vec<(Shape, u32)>>,
    prepared: Effects,
    choice: Choice,
    pub(crate) set: LeaderWorkerSet,
    pub(crate) index: Index,
    pub(crate) sites: Sites,
}

impl<'s> Scene<'s> {
    /// `prepared` is what pods get when they are created.
    pub(crate) fn new(scenario: &'s Scenario, prepared: Effects) -> Result<Self, Fault> {
        let request =
            scenario.request.as_ref().ok_or_else(|| Fault::new("request", "there is no question to a placement policy"))?;
        let (nodes, mut index) = scenario.index()?;
        let sites = Sites::new(scenario, &nodes);
        let owner = owner(request.owner.as_deref())?;
        let planned = planned(scenario, request)?;
        let specs = scenario.specs(&prepared)?;
        let choice = choice(request, &sites)?;
        enter_placed(&mut index, &sites, request, &owner, choice.exclusive.is_some(), &scenario.held)?;
        enter_running(&mut index, &sites, &planned, &specs, &owner)?;
        let mut needs = Vec::new();
        for unit in &planned {
            let each = unit.pods.iter().map(|(count, name)| Ok((shape(&format!("shapes.{name}"), &specs[name])?, *count)));
            let each = each.collect::<Result<Vec<_>, Fault>>()?;
            needs.push(match &request.subgroups {
                Some(division) => divided(unit, division, &each)?,
                None => each,
            });
        }
        let scope = match scenario.scope {
            Scope::Namespace => core_cluster::Scope::Namespace,
            Scope::Cluster => core_cluster::Scope::Cluster,
        };
        let set = set(request, &owner)?;
        Ok(Self { request, scope, planned, needs, prepared, choice, set, index, sites })
    }

    /// The leader of each unit, with what the operator reads from it.
    pub(crate) fn leaders(&self) -> Vec<Pod> {
        let leader = |(unit, needs): (&Planned<'_>, &Vec<(Shape, u32)>)| {
            let mut pod = Pod::default();
            pod.metadata.name = Some(format!("{}-{}", self.set.set_name(), unit.id));
            pod.metadata.namespace = self.set.metadata.namespace.clone();
            pod.spec.get_or_insert_default().priority = Some(unit.unit.priority);
            if let Some(Division { size, leader_excluded, .. }) = &self.request.subgroups {
                let pods: u32 = needs.iter().map(|(_, pods)| pods).sum();
                let kind = if *leader_excluded { "LeaderExcluded" } else { "LeaderWorker" };
                let read = [
                    (annotation::SIZE, pods.to_string()),
                    (annotation::SUBGROUP_SIZE, size.to_string()),
                    (annotation::SUBGROUP_POLICY_TYPE, kind.to_owned()),
                ];
                pod.metadata.annotations = Some(read.into_iter().map(|(key, value)| (key.to_owned(), value)).collect());
            }
            pod
        };
        self.planned.iter().zip(&self.needs).map(leader).collect()
    }

    /// One question for each unit. The leaders are those of this scene.
    pub(crate) fn questions<'q>(&self, leaders: &'q [Pod]) -> Vec<Question<'q>> {
        let each = self.planned.iter().zip(&self.needs).zip(leaders).map(|((unit, demand), leader)| Question {
            group: unit.id,
            leader,
            demand: demand.clone(),
            division: if unit.unit.subgroups.is_empty() { ask::division(leader) } else { unit.unit.subgroups.clone() },
            prepared: self.prepared.clone(),
            subgroups: match self.choice.subgroup_exclusive {
                Some(_) => ask::subgroup_demands(leader, demand),
                None => Vec::new(),
            },
            concern: Concern::Waiting,
        });
        each.collect()
    }

    /// The question about these groups to a policy that needs this, on nodes that carry all of the labels.
    pub(crate) fn asked<'q>(
        &mut self,
        questions: &'q [Question<'q>],
        preparation: &Preparation,
        inside: &[Label],
    ) -> (Asked<'q>, Snapshot) {
        let mut asked = placing::asked(&self.set, &self.choice, questions, &preparation.levels, self.scope, BTreeSet::new());
        asked.view.inside = inside.to_vec();
        let snapshot = self.index.snapshot(asked.view.clone());
        (asked, snapshot)
    }

    /// Fills in what the scenario says of where groups are and were.
    pub(crate) fn inform(&self, asked: &mut Asked<'_>, snapshot: &Snapshot, preparation: &Preparation) -> Result<(), Fault> {
        if let Some(reason) = placing::contradiction(asked) {
            return Err(Fault::new("request.subgroups.exclusive", reason.message));
        }
        complete(&mut asked.request, self.request, &self.planned, snapshot, &self.sites, preparation)
    }
}

fn choice(request: &Request, sites: &Sites) -> Result<Choice, Fault> {
    let key = |field: &str, name: &String| sites.key(field, name);
    let apart = request.subgroups.as_ref().and_then(|division| division.exclusive.as_ref());
    Ok(Choice {
        exclusive: request.exclusive.as_ref().map(|name| key("request.exclusive", name)).transpose()?,
        subgroup_exclusive: apart.map(|name| key("request.subgroups.exclusive", name)).transpose()?,
        gated: true,
        ..Choice::default()
    })
}

fn set(request: &Request, (namespace, name): &(String, String)) -> Result<LeaderWorkerSet, Fault> {
    let policy = request.subgroups.as_ref().map(|division| json!({ "subGroupSize": division.size }));
    let set = json!({
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": { "name": name, "namespace": namespace, "labels": request.labels },
        "spec": { "leaderWorkerTemplate": { "workerTemplate": {}, "subGroupPolicy": policy } },
    });
    serde_json::from_value(set).map_err(|error| Fault::new("request", error.to_string()))
}

/// What a group needs that is divided: its leader, and workers of one kind, as many as fill subgroups of that size.
fn divided(unit: &Planned<'_>, division: &Division, needs: &[(Shape, u32)]) -> Result<Vec<(Shape, u32)>, Fault> {
    let field = &unit.field;
    if !unit.unit.subgroups.is_empty() {
        let message = "`request.subgroups` divides the groups already; leave one of the two out";
        return Err(Fault::new(format!("{field}.subgroups"), message));
    }
    let needs = match needs {
        [(shape, 1)] => vec![(shape.clone(), 1)],
        [(shape, pods)] => vec![(shape.clone(), 1), (shape.clone(), pods - 1)],
        [leader @ (_, 1), workers] => vec![leader.clone(), workers.clone()],
        _ => {
            let message = "a group that is divided has one leader and workers of one kind: write [1 leader, 7 workers]";
            return Err(Fault::new(field, message));
        }
    };
    let (size, pods) = (division.size, needs.iter().map(|(_, pods)| pods).sum::<u32>());
    let workers = pods - 1;
    let even = size > 0 && (workers.is_multiple_of(size) || (pods.is_multiple_of(size) && !division.leader_excluded));
    if !even {
        let whole = if division.leader_excluded { "its workers" } else { "its pods or its workers" };
        let message = format!("groups of {pods} pods don't divide into subgroups of {size}: {whole} must be a multiple of it");
        return Err(Fault::new("request.subgroups.size", message));
    }
    Ok(needs)
}
