//! Decisions over small clusters: pools of whole machines, one pod a machine.

use muster_placement_sdk::{Answer, Cluster, Decision, Demand, Failure, Location, NO_DOMAIN, Request, Unit};

use crate::decide::place;
use crate::settings::{Settings, parse};

const POOL: &str = "cloud.google.com/gke-nodepool";
const RACK: &str = "example.com/rack";

/// Nodes with their labels, and who sits in which domain. Every node has room for one pod of any shape.
#[derive(Default)]
struct Nodes {
    levels: Vec<&'static str>,
    /// For every node: its value at every level.
    nodes: Vec<Vec<&'static str>>,
    held: Vec<(&'static str, u32)>,
}

impl Nodes {
    fn pools(pools: &[(&'static str, u32)]) -> Self {
        let nodes = pools.iter().flat_map(|(name, size)| (0..*size).map(move |_| vec![*name])).collect();
        Self { levels: vec![POOL], nodes, held: Vec::new() }
    }

    fn held(mut self, domain: &'static str, holders: u32) -> Self {
        self.held.push((domain, holders));
        self
    }

    fn names(&self, level: u32) -> Vec<&'static str> {
        let mut names: Vec<_> = self.nodes.iter().filter_map(|node| node.get(level as usize).copied()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

impl Cluster for Nodes {
    fn levels(&self) -> Vec<String> {
        self.levels.iter().map(ToString::to_string).collect()
    }

    fn domain_count(&self, level: u32) -> u32 {
        self.names(level).len() as u32
    }

    fn domain_fit(&self, level: u32, _shape: u32) -> Vec<u32> {
        let room = |name: &&str| self.nodes.iter().filter(|node| node.get(level as usize) == Some(name)).count() as u32;
        self.names(level).iter().map(room).collect()
    }

    fn domain_holders(&self, level: u32) -> Vec<u32> {
        let held = |name: &&str| self.held.iter().find(|(held, _)| held == name).map_or(0, |(_, count)| *count);
        self.names(level).iter().map(held).collect()
    }

    fn node_domains(&self, level: u32) -> Vec<u32> {
        let names = self.names(level);
        let domain = |node: &Vec<&str>| names.iter().position(|name| node.get(level as usize) == Some(name));
        self.nodes.iter().map(|node| domain(node).map_or(NO_DOMAIN, |domain| domain as u32)).collect()
    }

    fn best_domains(&self, level: u32, pods: &[Demand], exclusive: bool, limit: u32) -> Vec<u32> {
        let wanted: u32 = pods.iter().map(|demand| demand.pods).sum();
        let (fit, holders) = (self.domain_fit(level, 0), self.domain_holders(level));
        let fits = |domain: &u32| fit[*domain as usize] >= wanted && !(exclusive && holders[*domain as usize] > 0);
        let mut domains: Vec<u32> = (0..self.domain_count(level)).filter(fits).collect();
        domains.sort_by_key(|domain| fit[*domain as usize]);
        domains.truncate(limit as usize);
        domains
    }

    fn domain_name(&self, level: u32, domain: u32) -> String {
        self.names(level).get(domain as usize).copied().unwrap_or_default().to_owned()
    }
}

/// A unit of one leader and the rest workers of another shape.
fn unit(id: u32, pods: u32) -> Unit {
    let pods = vec![Demand { shape: 0, pods: 1 }, Demand { shape: 1, pods: pods - 1 }];
    Unit { id, pods, priority: 0, current: None }
}

fn request(exclusive: Option<u32>, units: Vec<Unit>) -> Request {
    Request { owner: "ml/train".to_owned(), exclusive, units }
}

fn settings(document: &str) -> Settings {
    parse(document).unwrap()
}

/// Decisions in words: `a`, `hold`, `any`.
fn decisions(cluster: &Nodes, answers: &[Answer]) -> Vec<String> {
    let word = |answer: &Answer| match &answer.decision {
        Decision::Within(place) => cluster.domain_name(place.level, place.domain),
        Decision::Hold(_) => "hold".to_owned(),
        Decision::Unconstrained => "any".to_owned(),
        other => format!("{other:?}"),
    };
    answers.iter().map(word).collect()
}

fn decide(document: &str, cluster: &Nodes, request: &Request) -> Vec<String> {
    decisions(cluster, &place(&settings(document), cluster, request).unwrap())
}

#[test]
fn a_unit_goes_where_it_leaves_least_over() {
    let cluster = Nodes::pools(&[("a", 8), ("b", 3), ("c", 4)]);
    assert_eq!(decide("{}", &cluster, &request(None, vec![unit(0, 3)])), ["b"]);
}

#[test]
fn units_of_one_request_fill_a_pool_before_they_open_the_next() {
    let cluster = Nodes::pools(&[("a", 4), ("b", 5)]);
    let units = (0..5).map(|id| unit(id, 2)).collect();
    assert_eq!(decide("{}", &cluster, &request(None, units)), ["a", "a", "b", "b", "hold"]);
}

#[test]
fn an_exclusive_set_gets_a_pool_for_every_unit() {
    let cluster = Nodes::pools(&[("a", 4), ("b", 5), ("c", 4)]).held("a", 1);
    let units = (0..3).map(|id| unit(id, 2)).collect();
    assert_eq!(decide("{}", &cluster, &request(Some(0), units)), ["c", "b", "hold"]);
}

#[test]
fn pools_that_are_not_shared_are_exclusive_too() {
    let cluster = Nodes::pools(&[("a", 4), ("b", 4)]).held("a", 2);
    let units = vec![unit(0, 2), unit(1, 2)];
    assert_eq!(decide(r#"{"shared":false}"#, &cluster, &request(None, units)), ["b", "hold"]);
}

#[test]
fn what_fits_nowhere_is_held_with_numbers() {
    let cluster = Nodes::pools(&[("a", 8), ("b", 16), ("c", 4), ("d", 16)]).held("b", 1).held("d", 3);
    let answers = place(&settings("{}"), &cluster, &request(Some(0), vec![unit(0, 16)])).unwrap();
    assert_eq!(answers[0].decision, Decision::Hold(30_000));
    assert_eq!(answers[0].reason.code, "NoPoolLargeEnough");
    assert_eq!(
        answers[0].reason.message,
        "needs 16 pods in one cloud.google.com/gke-nodepool; the largest free one, a, has room for 1 of 1 and for 8 of 15; \
         2 are held by other groups"
    );
}

#[test]
fn a_unit_of_equal_pods_reads_more_simply() {
    let cluster = Nodes::pools(&[("a", 8)]);
    let unit = Unit { pods: vec![Demand { shape: 0, pods: 9 }], ..unit(0, 9) };
    let answers = place(&settings("{}"), &cluster, &request(None, vec![unit])).unwrap();
    assert_eq!(
        answers[0].reason.message,
        "needs 9 pods in one cloud.google.com/gke-nodepool; the largest one, a, has room for 8"
    );
}

#[test]
fn all_pools_held_is_another_reason_than_all_too_small() {
    let cluster = Nodes::pools(&[("a", 8)]).held("a", 1);
    let answers = place(&settings("{}"), &cluster, &request(Some(0), vec![unit(0, 2)])).unwrap();
    assert_eq!(answers[0].reason.code, "NoFreePool");
    assert_eq!(
        answers[0].reason.message,
        "needs 2 pods in one cloud.google.com/gke-nodepool; there is no free one; 1 is held by another group"
    );
}

#[test]
fn a_preferred_pool_is_left_to_the_scheduler_when_none_fits() {
    let cluster = Nodes::pools(&[("a", 2)]);
    let units = vec![unit(0, 2), unit(1, 2)];
    assert_eq!(decide(r#"{"mode":"Preferred"}"#, &cluster, &request(None, units)), ["a", "any"]);
}

#[test]
fn an_exclusive_set_waits_even_where_pools_are_only_preferred() {
    let cluster = Nodes::pools(&[("a", 2)]).held("a", 1);
    assert_eq!(decide(r#"{"mode":"Preferred"}"#, &cluster, &request(Some(0), vec![unit(0, 2)])), ["hold"]);
}

#[test]
fn a_unit_stays_where_it_runs_and_goes_before_the_others() {
    let cluster = Nodes::pools(&[("a", 2), ("b", 4)]);
    let running = Unit { current: Some(Location { level: 0, domain: 0 }), ..unit(1, 2) };
    assert_eq!(decide("{}", &cluster, &request(Some(0), vec![unit(0, 2), running])), ["b", "a"]);
}

#[test]
fn a_unit_leaves_a_pool_that_became_too_small() {
    let cluster = Nodes::pools(&[("a", 2), ("b", 4)]);
    let running = Unit { current: Some(Location { level: 0, domain: 0 }), ..unit(0, 3) };
    assert_eq!(decide("{}", &cluster, &request(None, vec![running])), ["b"]);
}

#[test]
fn the_first_key_that_some_node_carries_counts() {
    let nodes = vec![vec!["", "x"], vec!["", "x"]];
    let cluster = Nodes { levels: vec!["absent", RACK], nodes, held: Vec::new() };
    // Nobody has a value for the first key; the test cluster has no empty names to take out.
    struct WithoutFirst(Nodes);
    impl Cluster for WithoutFirst {
        fn levels(&self) -> Vec<String> {
            self.0.levels()
        }
        fn domain_count(&self, level: u32) -> u32 {
            if level == 0 { 0 } else { self.0.domain_count(level) }
        }
        fn domain_fit(&self, level: u32, shape: u32) -> Vec<u32> {
            self.0.domain_fit(level, shape)
        }
        fn domain_holders(&self, level: u32) -> Vec<u32> {
            self.0.domain_holders(level)
        }
        fn node_domains(&self, level: u32) -> Vec<u32> {
            self.0.node_domains(level)
        }
        fn best_domains(&self, level: u32, pods: &[Demand], exclusive: bool, limit: u32) -> Vec<u32> {
            self.0.best_domains(level, pods, exclusive, limit)
        }
        fn domain_name(&self, level: u32, domain: u32) -> String {
            self.0.domain_name(level, domain)
        }
    }
    let cluster = WithoutFirst(cluster);
    let keys = settings(r#"{"keys":["absent","example.com/rack"]}"#);
    let answers = place(&keys, &cluster, &request(None, vec![unit(0, 2)])).unwrap();
    assert_eq!(answers[0].decision, Decision::Within(Location { level: 1, domain: 0 }));
}

#[test]
fn a_cluster_without_pools_is_not_supported() {
    let cluster = Nodes { levels: vec![POOL], ..Nodes::default() };
    let failure = place(&settings(r#"{"keys":["pool"]}"#), &cluster, &request(None, vec![unit(0, 2)])).unwrap_err();
    assert_eq!(failure, Failure::Unsupported("no node carries a pool label: looked for pool".to_owned()));
}

#[test]
fn exclusive_racks_are_taken_inside_one_pool() {
    // r1 lies across two pools, r2 is held, r3 is inside pool b.
    let nodes = vec![vec!["a", "r1"], vec!["b", "r1"], vec!["a", "r2"], vec!["a", "r2"], vec!["b", "r3"], vec!["b", "r3"]];
    let cluster = Nodes { levels: vec![POOL, RACK], nodes, held: vec![("r2", 1)] };
    assert_eq!(decide("{}", &cluster, &request(Some(1), vec![unit(0, 2), unit(1, 2)])), ["r3", "hold"]);
}

#[test]
fn exclusive_racks_of_one_pool_go_to_one_unit_where_pools_are_not_shared() {
    let nodes = vec![vec!["a", "r1"], vec!["a", "r1"], vec!["a", "r2"], vec!["a", "r2"]];
    let cluster = Nodes { levels: vec![POOL, RACK], nodes, held: Vec::new() };
    let units = || vec![unit(0, 2), unit(1, 2)];
    assert_eq!(decide("{}", &cluster, &request(Some(1), units())), ["r1", "r2"]);
    assert_eq!(decide(r#"{"shared":false}"#, &cluster, &request(Some(1), units())), ["r1", "hold"]);
}
