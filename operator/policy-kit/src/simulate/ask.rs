//! The questions of a simulation: one set's waiting groups, asked along a chain of policies as the operator asks them.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use muster_api::LeaderWorkerSet;
use muster_core::admission::Choice;
use muster_core::advice::Placement;
use muster_core::ask::{Concern, Question};
use muster_core::cluster::{Scope, Snapshot};
use muster_core::placement::{Answer, Reason};
use muster_core::placing::chain::{Carried, Guide, Label, Said, walk};
use muster_core::placing::{self, Asked, Settled};
use muster_policy_host::Preparation;
use serde_json::json;

use super::run::{REMEMBERED, Run};
use crate::chain::{Member, at_once};
use crate::scenario::Fault;

/// The operator of a simulated cluster, while it asks about one set.
struct Asking<'r, 'a> {
    run: &'r mut Run<'a>,
    set: LeaderWorkerSet,
    choice: Choice,
}

impl Run<'_> {
    /// Asks about groups of one set, and binds those that get their place.
    pub(super) fn ask(&mut self, set: usize, members: &[usize]) {
        let leaders: Vec<Pod> = members.iter().map(|group| leader(&self.pod_name(*group, 0))).collect();
        let questions = members.iter().zip(&leaders).map(|(group, leader)| Question {
            group: self.groups[*group].index,
            leader,
            demand: vec![(self.shape.clone(), self.groups[*group].size)],
            division: Vec::new(),
            prepared: self.prepared.clone(),
            subgroups: Vec::new(),
            concern: Concern::Waiting,
        });
        let questions: Vec<Question<'_>> = questions.collect();
        let names: Vec<String> = self.members.iter().map(|member| member.name.clone()).collect();
        let Ok(object) = self.object(set) else { return };
        let choice = Choice { exclusive: self.plan.exclusive.clone(), gated: true, ..Choice::default() };
        let mut asking = Asking { run: self, set: object, choice };
        let (asked, _) = asking.asked(&questions, &[], None);
        let settled = at_once(walk(&mut asking, &names, &asked));
        self.tally.refused += u32::try_from(settled.rejected.len()).unwrap_or(u32::MAX);
        for (index, placement) in settled.placed {
            let group = members.iter().copied().find(|group| self.groups[*group].index == index);
            if let (Some(group), Placement::Place(record)) = (group, placement) {
                self.bind(group, &record);
            }
        }
    }

    /// The set as an object.
    pub(super) fn object(&self, set: usize) -> Result<LeaderWorkerSet, Fault> {
        let set = json!({
            "apiVersion": "leaderworkerset.x-k8s.io/v1",
            "kind": "LeaderWorkerSet",
            "metadata": { "name": format!("set{set}"), "namespace": "ml" },
            "spec": { "leaderWorkerTemplate": { "workerTemplate": {} } },
        });
        serde_json::from_value(set).map_err(|error| Fault::new("request", error.to_string()))
    }

    /// Nodes that have failed lately, how often, and milliseconds since the last time.
    fn failed(&self) -> Vec<placing::Failed> {
        let each = self.failures.iter().filter_map(|(name, times)| {
            let recent: Vec<f64> = times.iter().copied().filter(|time| self.now - time < REMEMBERED).collect();
            let last = recent.last()?;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "milliseconds of a day")]
            let age_ms = ((self.now - last) * 1000.0) as u64;
            Some((name.clone(), u32::try_from(recent.len()).unwrap_or(u32::MAX), age_ms))
        });
        each.collect()
    }

    fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }
}

fn leader(name: &str) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.name = Some(name.to_owned());
    pod.metadata.namespace = Some("ml".to_owned());
    pod
}

impl Guide for Asking<'_, '_> {
    fn asked<'q>(&mut self, questions: &'q [Question<'q>], inside: &[Label], policy: Option<&str>) -> (Asked<'q>, Snapshot) {
        let preparation = policy.and_then(|name| self.run.member(name)).map(|member| member.preparation.clone());
        let Preparation { levels, .. } = preparation.unwrap_or_default();
        let mut asked = placing::asked(&self.set, &self.choice, questions, &levels, Scope::Namespace, BTreeSet::new());
        asked.view.inside = inside.to_vec();
        let snapshot = self.run.index.snapshot(asked.view.clone());
        // The sets of a workload are nobody's peers.
        asked.inform(&self.set, &snapshot, &[], &self.run.failed());
        (asked, snapshot)
    }

    async fn ask(&mut self, policy: &str, asked: &Asked<'_>, snapshot: &Snapshot) -> Said<Vec<Answer>> {
        let outcome = self.run.member(policy).and_then(|member| member.policy.place(snapshot, &asked.request));
        let Some(outcome) = outcome else { return Said::Native { observed: None } };
        self.run.tally.calls += 1;
        match outcome.result {
            Ok(answers) => Said::Answers(answers),
            Err(error) => {
                // What a policy can't answer is shown as its failure, and not made good by the native rule.
                self.run.tally.failed_calls += 1;
                Said::Hold(Reason { code: "PolicyFailed".to_owned(), message: format!("{policy}: {error}") })
            }
        }
    }

    fn settle(
        &mut self,
        asked: &Asked<'_>,
        snapshot: &Snapshot,
        answers: &[Answer],
        by: &str,
        _carried: &BTreeMap<u32, Carried>,
    ) -> Settled {
        placing::settle(&mut self.run.index, &self.set, asked, snapshot, answers, by)
    }
}
