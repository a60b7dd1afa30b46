//! A domain for each subgroup: examples, and everything against a search that tries all there is.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::cluster::{Apart, Claims, Seating, Seats, Shortage, Snapshot, SubgroupHolding};
use crate::placement::check::RejectionCode;
use crate::placement::{DomainId, Place};

const RACK: &str = "rack";
const RACKS: LevelId = LevelId(1);

/// A node of a pool and a rack, with so many GPUs.
fn racked(name: &str, pool: &str, rack: &str, gpus: u32) -> k8s_openapi::api::core::v1::Node {
    let mut node = node_with(name, pool, gpus);
    node.metadata.labels.as_mut().unwrap().insert(RACK.into(), rack.into());
    node
}

/// Pools and racks; pods with 8, 4 and 2 GPUs.
fn racks_view() -> View {
    View { levels: vec![POOL.into(), RACK.into()], ..view_of(vec![shape(8), shape(4), shape(2)]) }
}

fn index_of(nodes: &[(&str, &str, &str, u32)]) -> Index {
    let mut index = Index::new();
    for (name, pool, rack, gpus) in nodes {
        index.apply_node(&racked(name, pool, rack, *gpus));
    }
    index
}

/// Names of the domains that a unit finds.
fn found(snapshot: &Snapshot, unit: &Unit, inside: Option<&[u32]>) -> Result<Vec<String>, Shortage> {
    let seating = Seating { snapshot, level: RACKS, claims: &Claims::new(), taken: &BTreeMap::new() };
    seating.find(unit, inside).map(|seats| names(snapshot, &seats.domains))
}

fn names(snapshot: &Snapshot, domains: &[DomainId]) -> Vec<String> {
    domains.iter().map(|domain| snapshot.domain_name(RACKS, *domain).unwrap().to_owned()).collect()
}

/// Racks of two nodes with 8 GPUs: r1 and r2 in pool a, r3 in pool b.
fn three_racks() -> Index {
    let nodes =
        [("n1", "a", "r1"), ("n2", "a", "r1"), ("n3", "a", "r2"), ("n4", "a", "r2"), ("n5", "b", "r3"), ("n6", "b", "r3")];
    index_of(&nodes.map(|(name, pool, rack)| (name, pool, rack, 8)))
}

#[test]
fn each_subgroup_gets_the_tightest_domain_that_is_left() {
    let mut index = three_racks();
    index.apply_node(&racked("n7", "c", "r0", 8));
    let snapshot = index.snapshot(racks_view());
    let unit = divided("s", 0, &[&[pods(0, 2)], &[pods(0, 1)]], &[]);
    assert_eq!(found(&snapshot, &unit, None), Ok(vec!["r1".to_owned(), "r0".to_owned()]));
}

#[test]
fn a_subgroup_gives_its_domain_to_one_that_fits_no_other() {
    // The first fits r1 and r2 and takes r1, the second fits nothing but r1.
    let index = &mut index_of(&[("n1", "a", "r1", 8), ("n2", "a", "r2", 4)]);
    let snapshot = index.snapshot(racks_view());
    let unit = divided("s", 0, &[&[pods(1, 1)], &[pods(0, 1)]], &[]);
    assert_eq!(found(&snapshot, &unit, None), Ok(vec!["r2".to_owned(), "r1".to_owned()]));
}

#[test]
fn an_excluded_leader_leaves_the_domain_that_a_subgroup_needs() {
    // Only r2 has a node with room for the leader beside a subgroup of one pod, and only if that subgroup is not there.
    let index = &mut index_of(&[("n1", "a", "r1", 4), ("n2", "a", "r2", 8), ("n3", "a", "r3", 4)]);
    let snapshot = index.snapshot(racks_view());
    let unit = divided("s", 0, &[&[pods(1, 1)], &[pods(1, 1)]], &[pods(0, 1)]);
    assert_eq!(found(&snapshot, &unit, None), Ok(vec!["r1".to_owned(), "r3".to_owned()]));
    let too_many = divided("s", 0, &[&[pods(1, 1)], &[pods(1, 1)], &[pods(1, 1)]], &[pods(0, 1)]);
    assert_eq!(found(&snapshot, &too_many, None), Err(Shortage::Leader));
}

#[test]
fn subgroups_stay_inside_the_nodes_that_are_given() {
    let snapshot = three_racks().snapshot(racks_view());
    let unit = divided("s", 0, &[&[pods(0, 1)], &[pods(0, 1)]], &[]);
    let pool = |name: &str| snapshot.rows(snapshot.place_of(POOL, name).unwrap()).to_vec();
    assert_eq!(found(&snapshot, &unit, Some(&pool("a"))), Ok(vec!["r1".to_owned(), "r2".to_owned()]));
    let shortage = Shortage::Subgroup { position: 1, found: 1, wanted: 2 };
    assert_eq!(found(&snapshot, &unit, Some(&pool("b"))), Err(shortage));
}

#[test]
fn a_bound_leader_keeps_its_subgroup_where_it_is() {
    let snapshot = three_racks().snapshot(racks_view());
    let mut unit = divided("s", 0, &[&[pods(0, 1)], &[pods(0, 1)]], &[]);
    unit.subgroups[0].bound = Some(DomainId(1));
    assert_eq!(found(&snapshot, &unit, None), Ok(vec!["r2".to_owned(), "r1".to_owned()]));
}

fn in_subgroup(mut pod: k8s_openapi::api::core::v1::Pod, index: u32) -> k8s_openapi::api::core::v1::Pod {
    let labels = pod.metadata.labels.as_mut().unwrap();
    labels.insert("leaderworkerset.sigs.k8s.io/subgroup-index".into(), index.to_string());
    labels.insert("leaderworkerset.sigs.k8s.io/subgroup-key".into(), "key".into());
    pod
}

#[test]
fn a_subgroup_keeps_away_from_others_but_not_from_groups_without_any() {
    let mut index = three_racks();
    index.apply_pod(&in_subgroup(member("other", 0, 1, 1, "n1"), 0));
    index.apply_pod(&member("plain", 0, 1, 1, "n3"));
    let unit = divided("s", 0, &[&[pods(1, 1)], &[pods(1, 1)]], &[]);
    assert_eq!(found(&index.snapshot(racks_view()), &unit, None), Ok(vec!["r2".to_owned(), "r3".to_owned()]));
    let snapshot = index.snapshot(View { namespace: "elsewhere".to_owned(), ..racks_view() });
    assert_eq!(found(&snapshot, &unit, None), Ok(vec!["r1".to_owned(), "r2".to_owned()]));
    let snapshot = index.snapshot(View { namespace: "elsewhere".to_owned(), scope: Scope::Cluster, ..racks_view() });
    assert_eq!(found(&snapshot, &unit, None), Ok(vec!["r2".to_owned(), "r3".to_owned()]));
}

#[test]
fn what_a_restarted_group_has_left_behind_keeps_out_all_but_the_same_subgroup() {
    let mut index = three_racks();
    index.apply_pod(&in_subgroup(member("s", 0, 1, 1, "n1"), 1));
    index.apply_pod(&in_subgroup(member("s", 0, 2, 1, "n3"), 0));
    let own = View { for_groups: [group("s", 0)].into(), ..racks_view() };
    let unit = divided("s", 0, &[&[pods(0, 2)], &[pods(0, 2)]], &[]);
    assert_eq!(found(&index.snapshot(own), &unit, None), Ok(vec!["r2".to_owned(), "r1".to_owned()]));
}

fn apart_holding(set: &str, index: u32, racks: &[&str], each: u32) -> Holding {
    let subgroups = (0..).zip(racks).map(|(index, rack)| SubgroupHolding {
        index,
        level: RACK.into(),
        domain: (*rack).to_owned(),
        outstanding: vec![(shape(8), each)],
        alone: true,
    });
    let none = String::new();
    Holding {
        level: none.clone(),
        domain: none,
        exclusive: false,
        divided: true,
        subgroups: subgroups.collect(),
        ..holding(set, index, "", vec![])
    }
}

#[test]
fn held_domains_keep_their_room_and_let_no_other_subgroup_in() {
    let mut index = three_racks();
    index.hold(apart_holding("other", 0, &["r1", "r3"], 1));
    let snapshot = index.snapshot(racks_view());
    assert_eq!(snapshot.domain_fit(RACKS, ShapeId(0)).to_vec(), [1, 2, 1], "room for groups without subgroups");
    let place = |rack| snapshot.place_of(RACK, rack).unwrap();
    let unit = divided("s", 0, &[&[pods(0, 1)]], &[]);
    assert_eq!(snapshot.kept_from(place("r3"), &unit.subgroups[0].id), Some("default/other group 0 subgroup 1"));
    assert_eq!(found(&snapshot, &unit, None), Ok(vec!["r2".to_owned()]));
    // A set with subgroups that doesn't ask for domains of their own is kept out too.
    let divided_view = index.snapshot(View { divided: true, ..racks_view() });
    assert_eq!(divided_view.domain_fit(RACKS, ShapeId(0)).to_vec(), [0, 2, 0]);
    // As is a group that wants a whole domain.
    assert_eq!(snapshot.domain_holders(RACKS).to_vec(), [1, 0, 1]);
    assert_eq!(snapshot.domain_holders(POOLS).to_vec(), [1, 1]);
}

#[test]
fn domains_of_subgroups_stay_held_until_the_last_pod_object_of_the_group_is_gone() {
    let mut index = three_racks();
    index.hold(apart_holding("s", 0, &["r1", "r2"], 1));
    index.apply_pod(&in_subgroup(member("s", 0, 0, 8, "n1"), 0));
    index.apply_pod(&in_subgroup(member("s", 0, 1, 8, "n3"), 1));
    index.release(&group("s", 0));
    index.remove_pod("default", "s-0-1");
    let unit = divided("t", 0, &[&[pods(0, 1)], &[pods(0, 1)]], &[]);
    let shortage = Err(Shortage::Subgroup { position: 1, found: 1, wanted: 2 });
    assert_eq!(found(&index.snapshot(racks_view()), &unit, None), shortage);
    index.remove_pod("default", "s-0");
    assert_eq!(found(&index.snapshot(racks_view()), &unit, None), Ok(vec!["r1".to_owned(), "r2".to_owned()]));
}

#[test]
fn a_worker_stateful_set_holds_the_domains_that_its_template_names() {
    let mut index = three_racks();
    let workers = serde_json::json!({
        "metadata": { "name": "s-0", "namespace": "default", "labels": {
            "leaderworkerset.sigs.k8s.io/name": "s",
            "leaderworkerset.sigs.k8s.io/group-index": "0",
            "leaderworkerset.sigs.k8s.io/group-key": "k",
        } },
        "spec": { "selector": {}, "serviceName": "s", "template": {
            "metadata": { "annotations": { "muster.dev/subgroup-domains": "rack=0:r1,1:r2" } },
            "spec": { "containers": [] },
        } },
    });
    index.apply_worker_set(&serde_json::from_value(workers).unwrap());
    let unit = divided("t", 0, &[&[pods(0, 1)]], &[]);
    assert_eq!(found(&index.snapshot(racks_view()), &unit, None), Ok(vec!["r3".to_owned()]));
    assert_eq!(index.snapshot(racks_view()).domain_holders(RACKS).to_vec(), [1, 1, 0]);
    index.remove_worker_set("default", "s-0");
    assert_eq!(found(&index.snapshot(racks_view()), &unit, None), Ok(vec!["r1".to_owned()]));
}

#[test]
fn of_two_groups_that_race_for_a_domain_one_gets_it() {
    let mut index = three_racks();
    let commit = |index: &mut Index, set| index.try_hold(&racks_view(), &[], apart_holding(set, 0, &["r1", "r2"], 2));
    assert_eq!(commit(&mut index, "s"), Ok(()));
    assert_eq!(commit(&mut index, "s"), Ok(()), "its own holding is no obstacle");
    let refused = commit(&mut index, "t").unwrap_err();
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (RejectionCode::DomainHeld, "rack=r1 is held by default/s group 0 subgroup 0")
    );
    let too_large = index.try_hold(&racks_view(), &[], apart_holding("t", 0, &["r3"], 3)).unwrap_err();
    assert_eq!(too_large.message, "rack=r3 has room for 2 of 3 pods");
}

#[test]
fn an_explanation_says_what_each_domain_has_for_the_subgroup_that_finds_none() {
    let mut index = three_racks();
    index.hold(apart_holding("other", 0, &["r3"], 1));
    index.apply_pod(&member("busy", 0, 0, 8, "n3"));
    let snapshot = index.snapshot(racks_view());
    let unit = divided("s", 0, &[&[pods(0, 2)], &[pods(0, 2)]], &[]);
    let apart = Apart { unit: &unit, level: RACKS, taken: &BTreeMap::new() };
    assert_eq!(
        snapshot.explain_subgroups(&apart).summary(),
        "1 of the group's 2 subgroups finds a domain of rack of its own (the next has 2 pods: 2 × {nvidia.com/gpu: 8}): \
         r1: fits with room for 0 more; r2: room for 1 of 2 pods; r3: held by default/other group 0 subgroup 0"
    );
    assert_eq!(
        snapshot.explain_with_subgroups(POOLS, false, &apart).summary(),
        "no domain of cloud.google.com/gke-nodepool fits the group (4 pods: 4 × {nvidia.com/gpu: 8}): \
         a: room for 3 of 4 pods; b: room for 1 of 4 pods"
    );
    index.remove_pod("default", "busy-0");
    index.hold(apart_holding("other", 0, &["r2"], 0));
    let snapshot = index.snapshot(racks_view());
    assert_eq!(
        snapshot.explain_with_subgroups(POOLS, false, &apart).domains[0].verdict.to_string(),
        "room for 1 of 2 subgroups, each in a rack of its own (r1: fits with room for 0 more; r2: held by default/other group 0 subgroup 0)"
    );
}

/// A small cluster with racks of nodes of 8 or 4 GPUs, and one group.
#[derive(Debug, Clone)]
struct Small {
    /// GPUs of the nodes of each rack.
    racks: Vec<Vec<u32>>,
    /// By subgroup: pods with 8 and with 4 GPUs.
    subgroups: Vec<(u32, u32)>,
    /// The leader's GPUs if it is in none.
    leader: Option<u32>,
    /// Racks that another group's subgroup has.
    held: BTreeSet<usize>,
}

fn small() -> impl Strategy<Value = Small> {
    let racks = prop::collection::vec(prop::collection::vec(prop_oneof![Just(4_u32), Just(8)], 1..3), 1..5);
    let subgroups = prop::collection::vec((0..2_u32, 0..3_u32), 1..4);
    let leader = prop::option::of(prop_oneof![Just(4_u32), Just(8)]);
    (racks, subgroups, leader, prop::collection::btree_set(0..5_usize, 0..2)).prop_map(|(racks, subgroups, leader, held)| Small {
        racks,
        subgroups,
        leader,
        held,
    })
}

impl Small {
    fn index(&self) -> Index {
        let mut index = Index::new();
        for (rack, nodes) in self.racks.iter().enumerate() {
            for (number, gpus) in nodes.iter().enumerate() {
                index.apply_node(&racked(&format!("n{rack}-{number}"), "p", &format!("r{rack}"), *gpus));
            }
            if self.held.contains(&rack) {
                index.hold(apart_holding("other", u32::try_from(rack).unwrap(), &[&format!("r{rack}")], 0));
            }
        }
        index
    }

    fn unit(&self) -> Unit {
        let demands: Vec<Vec<Demand>> =
            self.subgroups.iter().map(|(large, half)| vec![pods(0, *large), pods(1, *half)]).collect();
        let rest: Vec<Demand> = self.leader.iter().map(|gpus| pods(u32::from(*gpus == 4), 1)).collect();
        divided("s", 0, &demands.iter().map(Vec::as_slice).collect::<Vec<_>>(), &rest)
    }

    /// Whether there is any solution: every way to give subgroups racks and the leader a node, packed exactly.
    fn is_possible(&self) -> bool {
        self.tries(&mut Vec::new())
    }

    fn tries(&self, chosen: &mut Vec<usize>) -> bool {
        if chosen.len() == self.subgroups.len() {
            let nowhere = (usize::MAX, 0);
            let nodes = self.racks.iter().enumerate().flat_map(|(rack, nodes)| (0..nodes.len()).map(move |node| (rack, node)));
            return match self.leader {
                None => self.fits(chosen, nowhere, 0),
                Some(gpus) => nodes.into_iter().any(|place| self.fits(chosen, place, gpus)),
            };
        }
        (0..self.racks.len()).any(|rack| {
            let free = !chosen.contains(&rack) && !self.held.contains(&rack);
            chosen.push(rack);
            let possible = free && self.tries(chosen);
            chosen.pop();
            possible
        })
    }

    fn fits(&self, chosen: &[usize], leader: (usize, usize), gpus: u32) -> bool {
        let room = |rack: usize| {
            let take = |node| if (rack, node) == leader { gpus } else { 0 };
            let left: Option<Vec<u32>> =
                self.racks[rack].iter().enumerate().map(|(node, has)| has.checked_sub(take(node))).collect();
            left
        };
        let leader_fits = leader.0 == usize::MAX || room(leader.0).is_some();
        leader_fits
            && chosen.iter().zip(&self.subgroups).all(|(rack, (large, half))| {
                room(*rack).is_some_and(|left| {
                    let whole = left.iter().filter(|gpus| **gpus >= 8).count();
                    let halves: u32 = left.iter().map(|gpus| gpus / 4).sum();
                    whole >= *large as usize && halves >= 2 * large + half
                })
            })
    }
}

/// No two subgroups in one domain, none in a held one, and every node takes no more than it has.
fn is_sound(small: &Small, snapshot: &Snapshot, seats: &Seats) -> bool {
    let distinct: BTreeSet<_> = seats.domains.iter().collect();
    let held = |domain: &DomainId| {
        small.held.iter().any(|rack| snapshot.domain_name(RACKS, *domain) == Some(format!("r{rack}").as_str()))
    };
    let mut taken: BTreeMap<u32, u32> = BTreeMap::new();
    for (row, shape, pods) in &seats.packing.takes {
        *taken.entry(*row).or_default() += pods * [8, 4, 2][*shape];
    }
    let within = taken.iter().all(|(row, gpus)| {
        let slots = snapshot.node_fit(ShapeId(2))[*row as usize];
        *gpus <= slots * 2
    });
    let asked: u32 = small.subgroups.iter().map(|(large, half)| large + half).sum::<u32>() + u32::from(small.leader.is_some());
    let given: u32 = seats.packing.takes.iter().map(|(_, _, pods)| pods).sum();
    distinct.len() == seats.domains.len() && !seats.domains.iter().any(held) && within && given == asked
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn subgroups_find_domains_whenever_there_are_any_and_never_share_or_overfill_them(small in small()) {
        let mut index = small.index();
        let snapshot = index.snapshot(racks_view());
        let seating = Seating { snapshot: &snapshot, level: RACKS, claims: &Claims::new(), taken: &BTreeMap::new() };
        match seating.find(&small.unit(), None) {
            Ok(seats) => prop_assert!(is_sound(&small, &snapshot, &seats), "{seats:?}"),
            Err(shortage) => prop_assert!(!small.is_possible(), "{shortage:?}"),
        }
    }

    #[test]
    fn groups_find_domains_together_whenever_all_of_them_can(small in small(), cut in 0..4_usize) {
        // The same subgroups, of one group or of two: all fit as one if and only if all fit as two.
        let small = Small { leader: None, ..small };
        let mut index = small.index();
        let snapshot = index.snapshot(racks_view());
        let seating = Seating { snapshot: &snapshot, level: RACKS, claims: &Claims::new(), taken: &BTreeMap::new() };
        let (mut first, mut second) = (small.unit(), small.unit());
        second.id = 1;
        second.subgroups = first.subgroups.split_off(cut.min(first.subgroups.len()));
        second.subgroups.iter_mut().for_each(|subgroup| subgroup.id.group = group("s", 1));
        for unit in [&mut first, &mut second] {
            unit.pods = unit.subgroups.iter().flat_map(|subgroup| subgroup.pods.clone()).collect();
        }
        let found = seating.find_all(&[first, second]);
        prop_assert_eq!(found.iter().all(Result::is_ok), small.is_possible());
        let all: Vec<_> = found.iter().flatten().flatten().collect();
        let distinct: BTreeSet<_> = all.iter().collect();
        prop_assert_eq!(distinct.len(), all.len());
    }
}

#[test]
fn a_place_that_does_not_exist_keeps_nobody_out() {
    let snapshot = three_racks().snapshot(racks_view());
    let unit = divided("s", 0, &[&[pods(0, 1)]], &[]);
    assert_eq!(snapshot.kept_from(Place { level: LevelId(9), domain: DomainId(9) }, &unit.subgroups[0].id), None);
}
