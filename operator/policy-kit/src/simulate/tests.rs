use super::*;
use crate::policy::Policy;
use crate::properties::cluster_of;

const RACK: &str = "example.com/rack";

fn plan() -> Plan {
    Plan { horizon: 6.0 * 3600.0, arrival: 300.0, exclusive: Some(RACK.to_owned()), ..Plan::default() }
}

fn native(plan: &Plan) -> Outcome {
    let cluster = cluster_of(&[RACK.to_owned()], 34);
    simulate(&[Policy::Native], &cluster, plan, &Workload::draw(plan, 34)).unwrap()
}

#[test]
fn equal_seeds_make_equal_workloads_and_outcomes() {
    let plan = plan();
    assert_eq!(Workload::draw(&plan, 34), Workload::draw(&plan, 34));
    assert_ne!(Workload::draw(&plan, 34), Workload::draw(&Plan { seed: 1, ..plan.clone() }, 34));
    assert_eq!(native(&plan), native(&plan));
}

#[test]
fn exclusive_groups_are_placed_whole_or_wait() {
    let outcome = native(&plan());
    assert!(outcome.placed > 0 && outcome.placed <= outcome.asked, "{outcome:?}");
    assert_eq!((outcome.wedged, outcome.refused, outcome.failed_calls), (0, 0, 0), "{outcome:?}");
    // Two racks, each for one group.
    assert!(outcome.utilisation > 0.0 && outcome.utilisation <= 0.5, "{outcome:?}");
}

#[test]
fn what_is_left_to_the_scheduler_can_wedge() {
    // More groups of eight than a cluster of four nodes can ever hold, one pod a node.
    let plan = Plan { exclusive: None, sizes: vec![8], arrival: 600.0, failure: 0.0, ..plan() };
    let cluster = cluster_of(&[RACK.to_owned()], 4);
    let outcome = simulate(&[Policy::Native], &cluster, &plan, &Workload::draw(&plan, 4)).unwrap();
    assert!(outcome.wedged > 0, "{outcome:?}");
    assert_eq!(outcome.utilisation, 0.0);
}

#[test]
fn a_set_on_an_idle_cluster_runs_at_once() {
    let plan = Plan { failure: 0.0, ..plan() };
    let workload =
        Workload { arrivals: vec![workload::Arrival { at: 3600.0, size: 17, runtimes: vec![3600.0] }], outages: Vec::new() };
    let outcome = simulate(&[Policy::Native], &cluster_of(&[RACK.to_owned()], 34), &plan, &workload).unwrap();
    assert_eq!((outcome.asked, outcome.placed, outcome.never, outcome.wait_p99), (1, 1, 0, 0.0));
    // Half of the nodes for an hour of six.
    assert!((outcome.utilisation - 0.5 / 6.0).abs() < 1e-9, "{outcome:?}");
}

#[test]
fn a_group_that_loses_a_node_is_placed_again() {
    let plan = Plan { failure: 0.0, ..plan() };
    let workload = Workload {
        arrivals: vec![workload::Arrival { at: 0.0, size: 2, runtimes: vec![7200.0] }],
        // All nodes of the first rack, where the group is.
        outages: (0..17).map(|node| workload::Outage { node, from: 600.0, until: 20_000.0 }).collect(),
    };
    let outcome = simulate(&[Policy::Native], &cluster_of(&[RACK.to_owned()], 34), &plan, &workload).unwrap();
    assert!(outcome.asked > 1 && outcome.placed > 1 && outcome.never == 0, "{outcome:?}");
}

#[test]
fn the_plot_has_a_curve_for_each_policy() {
    let outcome = native(&plan());
    let outcomes = [outcome.clone(), Outcome { policy: "<mine> 1".to_owned(), ..outcome }];
    let drawn = svg(&outcomes).unwrap();
    assert!(drawn.starts_with("<svg") && drawn.matches("<polyline").count() >= 2, "{drawn}");
    let page = html(&outcomes).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("&lt;mine&gt; 1") && !page.contains("<mine>"), "{page}");
}

/// A policy by hand that puts every unit into the first domain of this level.
fn into_the_first(level: &str) -> Policy {
    let engine = muster_policy_host::Engine::new(muster_policy_host::EngineOptions::default()).unwrap();
    let bytes = muster_guests::Guest { level, ..muster_guests::Guest::that(&muster_guests::all_into(0)) }.component();
    let limits = muster_policy_host::Limits::default();
    Policy::Placement(engine.load_placement(&bytes, limits, &serde_json::Value::Null).unwrap())
}

#[test]
fn the_policies_of_a_chain_choose_inside_what_the_ones_before_them_left() {
    let plan = Plan { failure: 0.0, exclusive: None, ..plan() };
    let arrivals = (0..3).map(|at| workload::Arrival { at: 60.0 * f64::from(at), size: 17, runtimes: vec![7200.0] }).collect();
    let workload = Workload { arrivals, outages: Vec::new() };
    let cluster = cluster_of(&[RACK.to_owned()], 34);
    let played = |policies: &[Policy]| simulate(policies, &cluster, &plan, &workload).unwrap();
    let alone = played(&[into_the_first(RACK)]);
    // The first rack holds one group; the second group waits for it to end, and the third for that.
    assert_eq!((alone.policy.as_str(), alone.placed, alone.wedged, alone.never), ("fixture 1.2.3", 3, 0, 0), "{alone:?}");
    let chain = played(&[into_the_first(RACK), into_the_first(RACK)]);
    assert_eq!(chain.policy, "fixture 1.2.3, fixture 1.2.3");
    assert_eq!((chain.placed, chain.wait_p99), (alone.placed, alone.wait_p99));
    assert!(chain.calls > alone.calls, "{} calls of one, {} of two", alone.calls, chain.calls);
}

#[test]
fn the_native_rule_is_the_last_of_a_chain_for_an_exclusive_set() {
    // The policy names the one region; which of its racks it is, is left to the native rule.
    let plan = Plan { failure: 0.0, ..plan() };
    let workload =
        Workload { arrivals: vec![workload::Arrival { at: 0.0, size: 2, runtimes: vec![3600.0; 2] }], outages: Vec::new() };
    let region = "example.com/region";
    let cluster = cluster_of(&[region.to_owned(), RACK.to_owned()], 34);
    let outcome = simulate(&[into_the_first(region)], &cluster, &plan, &workload).unwrap();
    assert_eq!((outcome.placed, outcome.refused, outcome.wedged, outcome.wait_p99), (2, 0, 0, 0.0), "{outcome:?}");
}

#[test]
fn a_startup_policy_can_not_be_simulated() {
    let engine = muster_policy_host::Engine::new(muster_policy_host::EngineOptions::default()).unwrap();
    let limits = muster_policy_host::Limits::default();
    let startup = Policy::Startup(engine.load_startup(&muster_guests::startup(), limits, &serde_json::Value::Null).unwrap());
    let fault = simulate(&[startup], &cluster_of(&[RACK.to_owned()], 34), &plan(), &Workload::draw(&plan(), 34)).unwrap_err();
    assert_eq!(fault.to_string(), "policies: fixture is a startup policy; only placement policies are simulated");
}
