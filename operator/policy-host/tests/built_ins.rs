//! The embedded policies, asked about real snapshots.
//!
//! They are embedded only if `cargo xtask policies` ran before; `MUSTER_REQUIRE_BUILT_INS=1`, which `cargo xtask test` sets,
//! makes their absence a failure.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

mod fixtures;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Container, Node, NodeCondition, NodeStatus, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use muster_core::cluster::{Index, Shape, Snapshot, View};
use muster_core::placement::{Decision, Demand, Request, ShapeId, Unit};
use muster_core::startup::{Group, Phase, Pod};
use muster_policy_host::{Limits, LoadError, PlacementComponent, built_in, built_ins};
use rstest::rstest;
use serde_json::json;

const POOL: &str = "cloud.google.com/gke-nodepool";

/// The policy, or none where none are embedded and none are required.
fn embedded(name: &str) -> Option<&'static [u8]> {
    let bytes = built_in(name);
    let required = std::env::var("MUSTER_REQUIRE_BUILT_INS").is_ok_and(|value| value == "1");
    assert!(bytes.is_some() || !required, "{name} is not embedded, only {:?}", built_ins());
    bytes
}

fn node_pool(settings: &serde_json::Value) -> Option<Result<PlacementComponent, LoadError>> {
    Some(fixtures::engine().load_placement(embedded("node-pool")?, Limits::default(), settings))
}

fn quantities(gpus: &str) -> BTreeMap<String, Quantity> {
    let quantity = |name: &str, amount: &str| (name.to_owned(), Quantity(amount.to_owned()));
    BTreeMap::from([quantity("nvidia.com/gpu", gpus), quantity("cpu", "64"), quantity("pods", "110")])
}

/// A node of the pool with 8 GPUs.
fn node(name: &str, pool: &str) -> Node {
    let mut node = Node::default();
    node.metadata.name = Some(name.to_owned());
    node.metadata.labels = Some(BTreeMap::from([(POOL.to_owned(), pool.to_owned())]));
    let ready = NodeCondition { type_: "Ready".to_owned(), status: "True".to_owned(), ..NodeCondition::default() };
    node.status = Some(NodeStatus { allocatable: Some(quantities("8")), conditions: Some(vec![ready]), ..NodeStatus::default() });
    node
}

/// A pod that takes a whole node.
fn gpu_shape() -> Shape {
    let requests = BTreeMap::from([("nvidia.com/gpu".to_owned(), Quantity("8".to_owned()))]);
    let resources = ResourceRequirements { requests: Some(requests), ..ResourceRequirements::default() };
    let container = Container { name: "main".to_owned(), resources: Some(resources), ..Container::default() };
    Shape::of(&PodSpec { containers: vec![container], ..PodSpec::default() }).unwrap()
}

fn cluster(pools: &[(&str, u32)]) -> Index {
    let mut index = Index::new();
    for (pool, size) in pools {
        for number in 0..*size {
            index.apply_node(&node(&format!("{pool}-{number}"), pool));
        }
    }
    index
}

fn view(index: &mut Index, component: &PlacementComponent) -> Snapshot {
    index.snapshot(View {
        levels: component.preparation().levels.clone(),
        shapes: vec![gpu_shape()],
        namespace: "default".to_owned(),
        ..View::default()
    })
}

/// Groups of a leader and a worker with 8 GPUs each, each in a pool of its own.
fn vllm(snapshot: &Snapshot, groups: u32) -> Request {
    let one = Demand { shape: ShapeId(0), pods: 1 };
    let unit = |id| Unit { id, pods: vec![one, one], ..Unit::default() };
    Request {
        owner: "default/vllm".to_owned(),
        exclusive: snapshot.level_of(POOL),
        units: (0..groups).map(unit).collect(),
        ..Request::default()
    }
}

#[test]
fn each_vllm_group_gets_a_pool_of_its_own() {
    let Some(component) = node_pool(&json!({})) else { return };
    let component = component.unwrap();
    let snapshot = view(&mut cluster(&[("gpu-a", 2), ("gpu-b", 2)]), &component);
    let answers = component.place(&snapshot, &vllm(&snapshot, 3)).result.unwrap();
    let pool = |decision: &Decision| match decision {
        Decision::Within(places) => snapshot.domain_name(places[0].level, places[0].domain).unwrap_or("?").to_owned(),
        other => format!("{other:?}"),
    };
    let pools: Vec<_> = answers.iter().map(|answer| pool(&answer.decision)).collect();
    assert_eq!(pools, ["gpu-a", "gpu-b", "Hold { retry_ms: 30000 }"]);
    assert_eq!(
        answers[2].reason.message,
        "needs 2 pods in one cloud.google.com/gke-nodepool; there is no free one; 2 are held by other groups"
    );
}

#[test]
fn a_misspelt_setting_is_pointed_to() {
    let Some(component) = node_pool(&json!({"shard": true})) else { return };
    let error = component.unwrap_err();
    assert_eq!(error.settings_errors()[0].path, "/shard");
}

#[test]
fn workers_wait_for_their_leader() {
    let Some(bytes) = embedded("leader-ready") else { return };
    let component = fixtures::engine().load_startup(bytes, Limits::default(), &json!({})).unwrap();
    let group = |index, phase| {
        let pods = vec![Pod { rank: 0, phase, in_phase_ms: 0, restarts: 0 }];
        Group { index, size: 2, pods, age_ms: 0, recreations: 0, placed: true }
    };
    let groups = vec![group(0, Phase::Running), group(1, Phase::Ready)];
    let owner = "default/vllm".to_owned();
    let request = muster_core::startup::Request { owner, labels: BTreeMap::new(), replicas: 2, unplaced: 0, groups };
    let steps = component.next(&request).result.unwrap();
    let admitted: Vec<_> = steps.iter().map(|step| step.admit).collect();
    assert_eq!(admitted, [1, 2]);
}

#[rstest]
#[case::node_pool("node-pool", json!({}))]
#[case::exclusive("exclusive", json!({}))]
#[case::sticky_avoid("sticky-avoid", json!({}))]
#[case::tpu_slice("tpu-slice", json!({}))]
fn fifty_groups_over_ten_thousand_nodes_are_answered_in_time(#[case] name: &str, #[case] settings: serde_json::Value) {
    let Some(bytes) = embedded(name) else { return };
    let component = fixtures::engine().load_placement(bytes, Limits::default(), &settings).unwrap();
    let names: Vec<String> = (0..600).map(|pool| format!("pool-{pool:03}")).collect();
    let pools: Vec<_> = names.iter().map(|name| (name.as_str(), 17)).collect();
    let mut index = cluster(&pools);
    let mut levels = component.preparation().levels.clone();
    if !levels.iter().any(|level| level == POOL) {
        levels.push(POOL.to_owned());
    }
    let snapshot = index.snapshot(View { levels, shapes: vec![gpu_shape()], namespace: "default".to_owned(), ..View::default() });
    let request = vllm(&snapshot, 50);
    let first = component.place(&snapshot, &request);
    assert_eq!(first.result.as_ref().map(Vec::len), Ok(50), "{first:?}");
    let started = Instant::now();
    let mut times: Vec<_> = (0..20).map(|_| component.place(&snapshot, &request)).collect();
    times.sort_by_key(|outcome| outcome.duration);
    let (median, worst) = (&times[10], &times[19]);
    println!(
        "{name}: 50 groups, {} nodes: first {:?}; then median {:?} (instantiate {:?}), worst {:?}, peak {} KiB, all {:?}",
        snapshot.node_count(),
        first.duration,
        median.duration,
        median.instantiate,
        worst.duration,
        median.peak_memory >> 10,
        started.elapsed()
    );
    // The default deadline of a call. Whatever else the machine does only adds to what a call takes, so the quickest one tells.
    let quickest = &times[0];
    assert!(quickest.duration < Duration::from_millis(50), "{:?}", quickest.duration);
}
