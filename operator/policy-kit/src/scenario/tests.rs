use std::path::Path;

use muster_core::cluster::GroupId;
use muster_core::placement::{DomainId, LevelId, NodeId};
use muster_policy_host::Preparation;
use rstest::rstest;

use super::*;

const TWO_RACKS: &str = "
name: two racks
levels: [zone, rack, kubernetes.io/hostname]
templates:
  gpu8: {cpu: 64, gpu: 8}
nodes:
  - 2 x gpu8 @ z1/r1
  - {is: gpu8 @ z1/r2, name: lonely, used: {gpu: 4}}
  - {is: gpu8, cordoned: true}
shapes:
  leader: {gpu: 1}
  worker: {gpu: 4}
held:
  - ml/other 0 @ r2
request:
  owner: ml/train
  exclusive: rack
  units: 2 x [1 leader, 2 workers]
  badNodes: [{node: lonely, failures: 2, age: 10m}]
expect:
  - {unit: 0, within: z1/r1}
";

fn one(text: &str) -> Result<Scenario, ScenarioError> {
    parse(text, Path::new("case.yaml")).map(|mut scenarios| scenarios.remove(0))
}

fn racks() -> Preparation {
    Preparation { levels: vec!["zone".to_owned()], ..Preparation::default() }
}

#[test]
fn a_scenario_becomes_what_the_operator_looks_at() {
    let stage = one(TWO_RACKS).unwrap().stage(&racks()).unwrap();
    let snapshot = &stage.snapshot;
    // The policy's level first, then the one that the set is exclusive at.
    assert_eq!(snapshot.levels(), ["zone", "rack"]);
    let names: Vec<_> = (0..4).map(|row| snapshot.node_name(NodeId(row)).unwrap()).collect();
    assert_eq!(names, ["gpu8-0", "lonely", "z1-r1-0", "z1-r1-1"]);
    assert_eq!(snapshot.domain_holders(LevelId(1))[..], [0, 1]);
    let worker = stage.request.units[0].pods[1].shape;
    // The cordoned one has no room, and the lonely one is kept by the group that holds its rack.
    assert_eq!(snapshot.node_fit(worker)[..], [0, 0, 2, 2]);
    assert_eq!(stage.request.exclusive, Some(LevelId(1)));
    assert_eq!(stage.request.units.iter().map(|unit| (unit.id, unit.size())).collect::<Vec<_>>(), [(0, 3), (1, 3)]);
    assert_eq!((stage.request.bad_nodes[0].node, stage.request.bad_nodes[0].age_ms), (NodeId(1), 600_000));
    let group = GroupId { namespace: "ml".to_owned(), leader_pod: "train-1".to_owned() };
    assert!(stage.view.for_groups.contains(&group));
}

#[test]
fn running_units_do_not_count_against_themselves() {
    let text = TWO_RACKS.replace(
        "  units: 2 x [1 leader, 2 workers]",
        "  units:\n    - {pods: '[1 leader, 2 workers]', current: {nodes: [z1-r1-0, z1-r1-0, '']}}\n    - {pods: '[1 leader]', previous: r2}",
    );
    let stage = one(&text).unwrap().stage(&racks()).unwrap();
    let current = stage.request.units[0].current.clone().unwrap();
    assert_eq!(current.nodes, [NodeId(2), NodeId(2), NodeId::NONE]);
    assert_eq!(current.domains, [DomainId(0), DomainId(0)]);
    assert_eq!(stage.request.units[1].previous.clone().unwrap().domains, [DomainId(0), DomainId(1)]);
    let worker = stage.request.units[0].pods[1].shape;
    assert_eq!(stage.snapshot.node_fit(worker)[2], 2);
}

#[test]
fn what_is_written_is_read_back_as_it_was() {
    let scenario = one(TWO_RACKS).unwrap();
    assert_eq!(one(&scenario.to_yaml()).unwrap(), scenario);
}

#[rstest]
#[case(
    "nodes:\n  - 2 x gpu8 @ z1/r1",
    "nodes:\n  - two x gpu8 @ z1/r1",
    "case.yaml: nodes[0]: \"two\" is no number in \"two x gpu8 @ z1/r1\": write for example 8 x gpu8"
)]
#[case(
    "exclusive: rack",
    "exclusiv: rack",
    "case.yaml: request.exclusiv: unknown field `exclusiv`, expected one of `owner`, `labels`, `exclusive`, `units`, `subgroups`, `placed`, `peers`, `badNodes`"
)]
#[case("gpu: 4}}", "gpu: [4]}}", "case.yaml: nodes[1].used.gpu: [4] is no quantity; write for example 8 or 16Gi")]
#[case(
    "{gpu: 1}",
    "{gpu: 1, tolerates: [a]}",
    "case.yaml: shapes.leader: tolerates: neither a quantity, such as 8 or 16Gi, nor one of selector, tolerations and spec"
)]
#[case(
    "{unit: 0, within: z1/r1}",
    "{unit: 0}",
    "case.yaml: expect[0]: it must say one thing about the decision: within, inside, parts, subgroups, pinned, preferred, unconstrained, hold, refuse, unanswered, rejected or admit"
)]
#[case(
    "held:",
    "chain: [node-pool, {component: a.wasm}]\nheld:",
    "case.yaml: chain: the policy under test is not in it; add `underTest` where it is asked"
)]
#[case(
    "held:",
    "chain: [{builtIn: node-pool, underTest: true}]\nheld:",
    "case.yaml: chain[0]: it names more than one policy; write one of `builtIn: NAME`, `component: FILE` and `underTest: true`"
)]
#[case(
    "{unit: 0, within: z1/r1}",
    "{unit: 0, by: node-pool}",
    "case.yaml: expect[0]: by: there is no `chain`, so the policy under test is the only one that says something"
)]
#[case("name: two racks", "name: ''", "case.yaml: name: it has none; say in a sentence what the case shows")]
fn a_fault_names_file_field_and_remedy(#[case] right: &str, #[case] wrong: &str, #[case] message: &str) {
    assert!(TWO_RACKS.contains(right), "{right}");
    assert_eq!(one(&TWO_RACKS.replace(right, wrong)).unwrap_err().to_string(), message);
}

#[rstest]
#[case("z1/r1\n  - {is", "z1/r1/h/x\n  - {is", "nodes[0]: the path has 4 steps, and `levels` has 3")]
#[case("2 x gpu8 @", "2 x gpu9 @", "nodes[0]: there is no template \"gpu9\"; `templates` has gpu8")]
#[case("2 workers]", "2 wookies]", "request.units[0]: there is no shape \"wookies\"; `shapes` has leader, worker")]
#[case("other 0 @ r2", "other 0 @ rack=r9", "held[0]: there is no domain \"r9\" of rack; there are r1, r2")]
#[case("other 0 @ r2", "other 0 @ z2/r2", "held[0]: no node is at z2/r2; `nodes` says which places there are")]
#[case("exclusive: rack", "exclusive: row", "request.exclusive: there is no level \"row\"; `levels` has zone, rack, hostname")]
#[case(
    "node: lonely",
    "node: gone",
    "request.badNodes[0].node: there is no node \"gone\"; there are gpu8-0, lonely, z1-r1-0, z1-r1-1"
)]
#[case(
    "cpu: 64, gpu: 8",
    "cpu: lots",
    "nodes[0]: resource cpu: \"lots\" is not a Kubernetes quantity; write for example 500m, 8 or 16Gi"
)]
fn what_makes_no_sense_is_named(#[case] right: &str, #[case] wrong: &str, #[case] message: &str) {
    assert!(TWO_RACKS.contains(right), "{right}");
    let fault = one(&TWO_RACKS.replace(right, wrong)).unwrap().stage(&racks()).unwrap_err();
    assert_eq!(fault.to_string(), message);
}

const DIVIDED: &str = "  units: '[1 leader, 4 workers]'\n  subgroups: {size: 2, exclusive: zone}";

#[test]
fn subgroups_are_divided_as_the_set_would_divide_them() {
    let text = TWO_RACKS.replace("  units: 2 x [1 leader, 2 workers]", DIVIDED);
    let stage = one(&text).unwrap().stage(&racks()).unwrap();
    let unit = &stage.request.units[0];
    assert_eq!((stage.request.subgroup_exclusive, &unit.division[..]), (Some(LevelId(0)), &[3, 2][..]));
    let sizes = |unit: &muster_core::placement::Unit| {
        let each = unit.subgroups.iter().map(|subgroup| (subgroup.id.index, subgroup.pods.iter().map(|pods| pods.pods).sum()));
        each.collect::<Vec<(u32, u32)>>()
    };
    assert_eq!(sizes(unit), [(0, 3), (1, 2)]);
    let text = text.replace("exclusive: zone}", "exclusive: zone, leaderExcluded: true}");
    let stage = one(&text).unwrap().stage(&racks()).unwrap();
    assert_eq!(sizes(&stage.request.units[0]), [(0, 2), (1, 2)]);
}

#[rstest]
#[case(
    "size: 2",
    "size: 3",
    "request.subgroups.size: groups of 5 pods don't divide into subgroups of 3: its pods or its workers must be a multiple of it"
)]
#[case(
    "size: 2, exclusive: zone",
    "size: 5, exclusive: zone, leaderExcluded: true",
    "request.subgroups.size: groups of 5 pods don't divide into subgroups of 5: its workers must be a multiple of it"
)]
#[case(
    "'[1 leader, 4 workers]'",
    "'[2 leader, 3 workers]'",
    "request.units[0]: a group that is divided has one leader and workers of one kind: write [1 leader, 7 workers]"
)]
#[case(
    "units: '[1 leader, 4 workers]'",
    "units: [{pods: '[1 leader, 4 workers]', subgroups: [3, 2]}]",
    "request.units[0].subgroups: `request.subgroups` divides the groups already; leave one of the two out"
)]
#[case(
    "exclusive: zone",
    "exclusive: rack",
    "request.subgroups.exclusive: annotations exclusive-topology and subgroup-exclusive-topology both say rack, so all subgroups of a group would be in one rack and none alone in it: name a narrower label in subgroup-exclusive-topology, or remove one of the annotations"
)]
fn a_division_that_no_set_could_have_is_named(#[case] right: &str, #[case] wrong: &str, #[case] message: &str) {
    let text = TWO_RACKS.replace("  units: 2 x [1 leader, 2 workers]", &DIVIDED.replace(right, wrong));
    let fault = one(&text).unwrap().stage(&racks()).unwrap_err();
    assert_eq!(fault.to_string(), message);
}

#[test]
fn a_chain_is_written_short_or_in_full() {
    let link = |text: &str| text.parse::<Link>().unwrap();
    assert_eq!(link("underTest"), Link { under_test: true, ..Link::default() });
    assert_eq!(link("node-pool"), Link { built_in: Some("node-pool".to_owned()), ..Link::default() });
    assert_eq!(link("a.wasm"), Link { component: Some("a.wasm".to_owned()), ..Link::default() });
    let text = TWO_RACKS
        .replace("held:", "chain: [{builtIn: node-pool, settings: {shared: true}}, {underTest: true, settings: {a: 1}}]\nheld:");
    let scenario = one(&text).unwrap();
    assert_eq!(scenario.own_settings(), &serde_json::json!({ "a": 1 }));
    assert_eq!(one(&scenario.to_yaml()).unwrap(), scenario);
}

#[test]
fn several_cases_share_a_file() {
    let text = format!("{TWO_RACKS}\n---\n{}", TWO_RACKS.replace("two racks", "again"));
    let names: Vec<_> = parse(&text, Path::new("x")).unwrap().into_iter().map(|scenario| scenario.name).collect();
    assert_eq!(names, ["two racks", "again"]);
}

#[test]
fn groups_that_start_are_told_in_phases() {
    let text = "
name: three of four
startup:
  groups:
    - {size: 4, pods: [ready, {is: 2 x running, for: 10s, restarts: 1}], age: 30s}
    - {size: 2, placed: false}
expect:
  - {group: 0, admit: 4}
";
    let request = one(text).unwrap().startup_request().unwrap();
    assert_eq!((request.replicas, request.unplaced, request.groups[0].age_ms), (2, 1, 30_000));
    let pods: Vec<_> = request.groups[0].pods.iter().map(|pod| (pod.rank, pod.phase, pod.in_phase_ms, pod.restarts)).collect();
    use muster_core::startup::Phase::{Ready, Running};
    assert_eq!(pods, [(0, Ready, 0, 0), (1, Running, 10_000, 1), (2, Running, 10_000, 1)]);
    let wrong = one(&text.replace("2 x running", "4 x asleep")).unwrap().startup_request().unwrap_err();
    assert_eq!(
        wrong.to_string(),
        "startup.groups[0].pods[1]: \"asleep\" is no phase; there are pending, scheduled, running, ready, succeeded, failed, terminating"
    );
}
