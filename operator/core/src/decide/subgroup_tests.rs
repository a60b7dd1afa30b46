//! A group whose subgroups have domains of their own, from the question about it to what is written and held.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use muster_api::LeaderWorkerSet;
use serde_json::{Value, json};

use super::decide;
use crate::admission::Choice;
use crate::advice::{Admitted, Advice, Placement};
use crate::ask::{self, Concern, Question};
use crate::cluster::{Index, Scope};
use crate::observed::Observed;
use crate::placement::native;
use crate::placing::{self, Asked, NATIVE};
use crate::plan::{Plan, Write};
use crate::record::Record;
use crate::testing::{gated, now, set, with_leader, written};

const GRACE: Duration = Duration::from_secs(60);

/// The set `team/serve` of groups of five, whose subgroups of two want racks, with its leaders waiting.
fn waiting(kind: &str) -> (LeaderWorkerSet, Observed) {
    let set = set(|raw| {
        raw["metadata"]["annotations"] = json!({ "leaderworkerset.sigs.k8s.io/subgroup-exclusive-topology": "rack" });
        raw["spec"]["leaderWorkerTemplate"]["size"] = json!(5);
        raw["spec"]["leaderWorkerTemplate"]["subGroupPolicy"] = json!({ "subGroupSize": 2, "subGroupPolicyType": kind });
        raw["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"]["containers"][0]["resources"] =
            json!({ "limits": { "cpu": "8" } });
    });
    let mut observed = written(&decide(&set, &Observed::default(), &choice(), &Advice::default(), now()));
    for group in 0..2 {
        with_leader(&mut observed, group, gated);
    }
    (set, observed)
}

fn choice() -> Choice {
    Choice { subgroup_exclusive: Some("rack".to_owned()), gated: true, ..Choice::default() }
}

/// Racks of nodes with room for one pod each.
fn index_of(racks: &[(&str, usize)]) -> Index {
    let mut index = Index::new();
    for (rack, nodes) in racks {
        for number in 0..*nodes {
            let name = format!("{rack}-{number}");
            let node: Node = serde_json::from_value(json!({
                "metadata": { "name": name, "labels": { "rack": rack, "zone": "z", "kubernetes.io/hostname": name } },
                "status": { "allocatable": { "cpu": "8", "pods": "9" }, "conditions": [{ "type": "Ready", "status": "True" }] },
            }))
            .unwrap();
            index.apply_node(&node);
        }
    }
    index
}

fn asked<'q>(set: &LeaderWorkerSet, choice: &Choice, questions: &'q [Question<'q>]) -> Asked<'q> {
    placing::asked(set, choice, questions, &[], Scope::Namespace, BTreeSet::new())
}

/// What the native rule makes of the waiting groups.
fn placed(set: &LeaderWorkerSet, observed: &Observed, choice: &Choice, index: &mut Index) -> placing::Settled {
    let questions = ask::placement(set, observed, choice, GRACE, now());
    let asked = asked(set, choice, &questions);
    let snapshot = index.snapshot(asked.view.clone());
    let answers = native::place(&snapshot, &asked.request);
    placing::settle(index, set, &asked, &snapshot, &answers, NATIVE)
}

fn record_of(placement: &Placement) -> Record {
    match placement {
        Placement::Place(record) => record.clone(),
        other => panic!("{other:?}"),
    }
}

fn selected(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn leader_patch(plan: &Plan) -> &Value {
    let mut patches = plan.steps.iter().filter_map(|step| match &step.write {
        Write::PatchLeader { patch, .. } => Some(patch),
        _ => None,
    });
    patches.next().expect("a leader is patched")
}

fn worker_template(plan: &Plan) -> &Value {
    let mut made = plan.steps.iter().filter_map(|step| match &step.write {
        Write::CreateWorkerSet(object) => Some(&object["spec"]["template"]),
        _ => None,
    });
    made.next().expect("a worker StatefulSet is made")
}

fn all_start(placements: BTreeMap<u32, Placement>) -> Advice {
    let admitted = |group| (group, Admitted { workers: 4, reason: None });
    Advice { placements, workers: (0..2).map(admitted).collect(), ..Advice::default() }
}

#[test]
fn all_subgroups_of_all_waiting_groups_are_placed_in_one_go() {
    let (set, observed) = waiting("LeaderWorker");
    // Two racks that a larger first subgroup fits, and two that only the others do.
    let mut index = index_of(&[("r1", 2), ("r2", 3), ("r3", 2), ("r4", 3)]);
    let settled = placed(&set, &observed, &choice(), &mut index);
    let domains = |group: u32| record_of(&settled.placed[&group]).subgroups.unwrap().to_string();
    assert_eq!((domains(0), domains(1)), ("rack=0:r2,1:r1".to_owned(), "rack=0:r4,1:r3".to_owned()));
    let holding = index.holding(&ask::group_id(&set, &observed.pods["serve-0"])).unwrap();
    assert_eq!((holding.level.as_str(), holding.exclusive, holding.divided), ("", false, true));
    let held: Vec<_> = holding
        .subgroups
        .iter()
        .map(|held| (held.index, held.domain.as_str(), held.outstanding.iter().map(|(_, pods)| pods).sum::<u32>()))
        .collect();
    assert_eq!(held, [(0, "r2", 3), (1, "r1", 2)]);
}

#[test]
fn a_group_that_finds_no_rack_for_each_subgroup_waits_and_takes_none() {
    let (set, observed) = waiting("LeaderWorker");
    let mut index = index_of(&[("r1", 2), ("r2", 3), ("r3", 3)]);
    let settled = placed(&set, &observed, &choice(), &mut index);
    assert!(settled.placed.contains_key(&0));
    let (reason, _) = &settled.held[&1];
    assert_eq!(reason.code, "TooFewDomains");
    assert_eq!(
        reason.message,
        "1 of the group's 2 subgroups finds a domain of rack of its own (the next has 2 pods: 2 × {cpu: 8}): r1: held by \
         team/serve group 0 subgroup 1; r2: held by team/serve group 0 subgroup 0; r3: fits with room for 1 more"
    );
    // Left to the scheduler its leader would take a rack, and no autoscaler would see what its workers need.
    let questions = ask::placement(&set, &observed, &choice(), GRACE, now());
    let asked = asked(&set, &choice(), &questions);
    let rule = placing::Rule { unplaceable: muster_api::names::Unplaceable::Scheduler, grace: Duration::ZERO };
    let snapshot = index.snapshot(crate::cluster::View { for_groups: BTreeSet::new(), ..asked.view.clone() });
    let (placement, _) = placing::unplaceable(&asked, &snapshot, 1, reason, GRACE, rule);
    assert!(matches!(placement, Placement::Hold(_)), "{placement:?}");
}

#[test]
fn one_patch_places_the_leader_and_one_annotation_the_workers() {
    let (set, observed) = waiting("LeaderWorker");
    let settled = placed(&set, &observed, &choice(), &mut index_of(&[("r1", 2), ("r2", 3)]));
    let plan = decide(&set, &observed, &choice(), &all_start(settled.placed), now());
    let patch = leader_patch(&plan);
    assert_eq!(patch["spec"]["nodeSelector"], json!({ "rack": "r2" }));
    assert_eq!(patch["spec"]["schedulingGates"], json!([{ "$patch": "delete", "name": "muster.dev/placement" }]));
    assert_eq!(patch["spec"].as_object().unwrap().len(), 2, "no affinity: {patch}");
    let template = worker_template(&plan);
    assert_eq!(template["metadata"]["annotations"]["muster.dev/subgroup-domains"], "rack=0:r2,1:r1");
    assert_eq!(template["spec"].get("nodeSelector"), None);
    let note = plan.steps.iter().flat_map(|step| &step.done).find(|note| note.reason == "GroupPlaced").unwrap();
    let text = "Placed serve-0 in subgroups in rack=0:r2,1:r1 (exclusive): each subgroup has a domain of rack of its own: r2, r1";
    assert_eq!(note.text, text);

    // Killed right after the patch, the operator finds everything in the record.
    let mut patched = observed.clone();
    let record = patch["metadata"]["annotations"]["muster.dev/placement"].clone();
    with_leader(&mut patched, 0, |pod| {
        pod["metadata"]["annotations"]["muster.dev/placement"] = record;
        pod["spec"]["nodeSelector"] = json!({ "rack": "r2" });
    });
    let again = decide(&set, &patched, &choice(), &all_start(BTreeMap::new()), now());
    assert_eq!(worker_template(&again), template);
    let held = ask::holdings(&set, &patched, &choice(), |_, _| None);
    let held: Vec<_> = held[0]
        .subgroups
        .iter()
        .map(|held| (held.index, held.domain.as_str(), held.outstanding.iter().map(|(_, pods)| pods).sum::<u32>()))
        .collect();
    assert_eq!(held, [(0, "r2", 3), (1, "r1", 2)]);
}

#[test]
fn what_is_bound_is_no_longer_outstanding_in_its_subgroup() {
    let (set, mut observed) = waiting("LeaderWorker");
    let record = record_of(&placed(&set, &observed, &choice(), &mut index_of(&[("r1", 2), ("r2", 3)])).placed[&0]);
    with_leader(&mut observed, 0, |pod| {
        pod["metadata"]["annotations"]["muster.dev/placement"] = json!(record.render());
        pod["spec"]["nodeName"] = json!("r2-0");
    });
    let worker: k8s_openapi::api::core::v1::Pod = serde_json::from_value(json!({
        "metadata": { "name": "serve-0-3", "namespace": "team", "labels": { "leaderworkerset.sigs.k8s.io/name": "serve" } },
        "spec": { "nodeName": "r1-0", "containers": [] },
    }))
    .unwrap();
    observed.pods.insert("serve-0-3".to_owned(), worker.into());
    let held = ask::holdings(&set, &observed, &choice(), |_, _| None);
    let held: Vec<_> = held[0].subgroups.iter().map(|held| held.outstanding.iter().map(|(_, pods)| pods).sum::<u32>()).collect();
    assert_eq!(held, [2, 1]);
}

#[test]
fn an_excluded_leader_has_a_place_of_its_own_or_beside_a_subgroup() {
    let (set, observed) = waiting("LeaderExcluded");
    let one_group = |index: &mut Index| record_of(&placed(&set, &observed, &choice(), index).placed[&0]);
    let mut beside = index_of(&[("r1", 2), ("r2", 3)]);
    let record = one_group(&mut beside);
    assert_eq!(
        (record.subgroups.unwrap().to_string(), record.leader),
        ("rack=0:r1,1:r2".to_owned(), selected(&[("rack", "r2")]))
    );
    let holding = beside.holding(&ask::group_id(&set, &observed.pods["serve-0"])).unwrap();
    assert_eq!((holding.outstanding.len(), holding.pinned.len(), holding.subgroups[1].outstanding.len()), (0, 0, 2));

    let mut apart = index_of(&[("r1", 2), ("r2", 2), ("r3", 1)]);
    let record = one_group(&mut apart);
    assert_eq!(record.leader, selected(&[("kubernetes.io/hostname", "r3-0")]));
    let holding = apart.holding(&ask::group_id(&set, &observed.pods["serve-0"])).unwrap();
    assert_eq!(holding.pinned.iter().map(|(node, _)| node.as_str()).collect::<Vec<_>>(), ["r3-0"]);
    let mut patched = observed.clone();
    with_leader(&mut patched, 0, |pod| pod["metadata"]["annotations"]["muster.dev/placement"] = json!(record.render()));
    let held = ask::holdings(&set, &patched, &choice(), |_, _| None);
    assert_eq!(held[0].pinned, holding.pinned, "the record says as much as the decision");
    assert_eq!(held[0].subgroups, holding.subgroups);

    let none = placed(&set, &observed, &choice(), &mut index_of(&[("r1", 2), ("r2", 2)]));
    let why = "the group's subgroups find domains of rack, and no node is left for its leader (1 pod: 1 × {cpu: 8}): ";
    assert!(none.held[&0].0.message.starts_with(why), "{}", none.held[&0].0.message);
}

#[test]
fn both_annotations_with_one_label_contradict_each_other() {
    let (set, observed) = waiting("LeaderWorker");
    let both = Choice { exclusive: Some("rack".to_owned()), ..choice() };
    let questions = ask::placement(&set, &observed, &both, GRACE, now());
    let reason = placing::contradiction(&asked(&set, &both, &questions)).unwrap();
    assert_eq!(reason.code, "SameTopology");
    let apart = Choice { exclusive: Some("zone".to_owned()), ..choice() };
    assert_eq!(placing::contradiction(&asked(&set, &apart, &questions)), None);
}

/// A group whose leader somebody else has bound.
fn bound(kind: &str, node: &str) -> (LeaderWorkerSet, Observed) {
    let (set, mut observed) = waiting(kind);
    observed.pods.remove("serve-1");
    with_leader(&mut observed, 0, |pod| pod["spec"]["nodeName"] = json!(node));
    (set, observed)
}

fn settled(kind: &str, choice: &Choice, node: &str, racks: &[(&str, usize)]) -> Result<Record, crate::placement::Reason> {
    let (set, observed) = bound(kind, node);
    let questions = ask::placement(&set, &observed, choice, GRACE, now());
    assert_eq!(questions[0].concern, Concern::Bound { node: node.to_owned(), released: false });
    placing::settle_bound(&mut index_of(racks), &set, &asked(&set, choice, &questions), node)
}

#[test]
fn a_leader_that_somebody_else_has_bound_keeps_its_rack_and_the_others_find_theirs() {
    let record = settled("LeaderWorker", &choice(), "r2-0", &[("r1", 3), ("r2", 3)]).unwrap();
    assert_eq!(record.subgroups.unwrap().to_string(), "rack=0:r2,1:r1");
    let nested = Choice { exclusive: Some("zone".to_owned()), ..choice() };
    let record = settled("LeaderWorker", &nested, "r2-0", &[("r1", 3), ("r2", 3)]).unwrap();
    assert_eq!(
        (record.selector, record.subgroups.unwrap().to_string()),
        (selected(&[("zone", "z")]), "rack=0:r2,1:r1".to_owned())
    );
    let refused = settled("LeaderWorker", &choice(), "r2-0", &[("r1", 3), ("r2", 2)]).unwrap_err();
    assert_eq!(refused.code, "NoRoomForGroup");
    // An excluded leader takes its node from whatever subgroup comes there.
    let record = settled("LeaderExcluded", &choice(), "r1-0", &[("r1", 2), ("r2", 2), ("r3", 2)]).unwrap();
    assert_eq!(record.subgroups.unwrap().to_string(), "rack=0:r2,1:r3");
}
