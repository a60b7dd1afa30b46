//! The embedded policy `exclusive` and the native rule that it is the twin of, asked about the same clusters.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

mod fixtures;

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, PodSpec};
use muster_core::cluster::{Index, Scope, Shape, Snapshot, View};
use muster_core::placement::{Answer, Decision, Demand, DomainId, LevelId, NodeId, Request, ShapeId, Unit, Whereabouts, native};
use muster_policy_host::{Limits, built_in};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

const RACK: &str = "example.com/rack";

/// Racks by number; 0 stands for no label.
fn rack(number: u8) -> Option<String> {
    (number > 0).then(|| format!("r{number}"))
}

#[derive(Debug, Clone)]
struct Host {
    rack: u8,
    gpus: u32,
    ready: bool,
}

/// A pod of another set's group on a host.
#[derive(Debug, Clone)]
struct Tenant {
    group: u32,
    host: usize,
    gpus: u32,
    elsewhere: bool,
}

#[derive(Debug, Clone)]
struct Asked {
    workers: u32,
    heavy: bool,
    current: Option<u8>,
}

#[derive(Debug, Clone)]
struct Case {
    hosts: Vec<Host>,
    tenants: Vec<Tenant>,
    units: Vec<Asked>,
    cluster_wide: bool,
    exclusive: bool,
}

fn cases() -> impl Strategy<Value = Case> {
    let host = (0..6_u8, 0..9_u32, prop::bool::weighted(0.9)).prop_map(|(rack, gpus, ready)| Host { rack, gpus, ready });
    let tenant = (0..3_u32, 0..24_usize, 1..9_u32, any::<bool>()).prop_map(|(group, host, gpus, elsewhere)| Tenant {
        group,
        host,
        gpus,
        elsewhere,
    });
    let unit = (0..5_u32, any::<bool>(), prop::option::weighted(0.3, 1..7_u8)).prop_map(|(workers, heavy, current)| Asked {
        workers,
        heavy,
        current,
    });
    let lists = (prop::collection::vec(host, 0..24), prop::collection::vec(tenant, 0..4), prop::collection::vec(unit, 1..6));
    (lists, any::<bool>(), prop::bool::weighted(0.95)).prop_map(|((hosts, tenants, units), cluster_wide, exclusive)| Case {
        hosts,
        tenants,
        units,
        cluster_wide,
        exclusive,
    })
}

fn gpus(count: u32) -> PodSpec {
    let resources = json!({ "limits": { "nvidia.com/gpu": count.to_string() } });
    serde_json::from_value(json!({ "containers": [{ "name": "main", "resources": resources }] })).unwrap()
}

fn node(position: usize, host: &Host) -> Node {
    let labels = rack(host.rack).map_or_else(|| json!({}), |rack| json!({ RACK: rack }));
    serde_json::from_value(json!({
        "metadata": { "name": format!("n{position:02}"), "labels": labels },
        "status": {
            "allocatable": { "cpu": "64", "pods": "110", "nvidia.com/gpu": host.gpus.to_string() },
            "conditions": [{ "type": "Ready", "status": if host.ready { "True" } else { "False" } }],
        },
    }))
    .unwrap()
}

fn pod(position: usize, tenant: &Tenant) -> Pod {
    let leader = format!("other-{}", tenant.group);
    let mut pod: Pod = serde_json::from_value(json!({
        "metadata": {
            "name": format!("{leader}-{position}"),
            "namespace": if tenant.elsewhere { "elsewhere" } else { "default" },
            "labels": {
                "leaderworkerset.sigs.k8s.io/name": "other",
                "leaderworkerset.sigs.k8s.io/group-index": tenant.group.to_string(),
                "leaderworkerset.sigs.k8s.io/group-key": format!("key-of-{leader}"),
            },
        },
    }))
    .unwrap();
    pod.spec = Some(PodSpec { node_name: Some(format!("n{:02}", tenant.host)), ..gpus(tenant.gpus) });
    pod
}

/// Shape 0 is a leader's, 1 a worker's, 2 that of a worker that takes a whole machine.
fn snapshot(case: &Case) -> Snapshot {
    let mut index = Index::new();
    case.hosts.iter().enumerate().for_each(|(position, host)| index.apply_node(&node(position, host)));
    let tenants = case.tenants.iter().enumerate().filter(|(_, tenant)| tenant.host < case.hosts.len());
    tenants.for_each(|(position, tenant)| index.apply_pod(&pod(position, tenant)));
    index.snapshot(View {
        levels: vec![RACK.to_owned()],
        shapes: [1, 3, 8].map(|count| Shape::of(&gpus(count)).unwrap()).to_vec(),
        namespace: "default".to_owned(),
        scope: if case.cluster_wide { Scope::Cluster } else { Scope::Namespace },
        ..View::default()
    })
}

fn request(case: &Case, snapshot: &Snapshot) -> Request {
    let domain = |number: u8| {
        let all = 0..snapshot.domain_count(LevelId(0));
        let found = all.map(DomainId).find(|domain| snapshot.domain_name(LevelId(0), *domain) == rack(number).as_deref());
        found.unwrap_or(DomainId::NONE)
    };
    let unit = |(id, asked): (u32, &Asked)| {
        let workers = Demand { shape: ShapeId(if asked.heavy { 2 } else { 1 }), pods: asked.workers };
        let pods = [Demand { shape: ShapeId(0), pods: 1 }, workers].into_iter().filter(|demand| demand.pods > 0).collect();
        let nodes = vec![NodeId::NONE; asked.workers as usize + 1];
        let current = asked.current.map(|number| Whereabouts { domains: vec![domain(number)], nodes });
        Unit { id, pods, current, ..Unit::default() }
    };
    Request {
        owner: "default/train".to_owned(),
        exclusive: case.exclusive.then_some(LevelId(0)),
        units: (0..).zip(&case.units).map(unit).collect(),
        ..Request::default()
    }
}

/// Decisions and codes. Of several domains that a component names, the first counts: the others are for the case that somebody takes
/// that one meanwhile, and the native rule is asked again then.
fn in_words(answers: &[Answer]) -> Vec<String> {
    let word = |answer: &Answer| match &answer.decision {
        Decision::Within(places) => format!("{} within {:?}: {}", answer.unit, places.first(), answer.reason.code),
        // The native rule knows of every domain why it is none; the policy has fewer words for that.
        Decision::Hold { .. } => format!("{} holds", answer.unit),
        other => format!("{} {other:?}: {}", answer.unit, answer.reason.code),
    };
    answers.iter().map(word).collect()
}

#[test]
fn the_policy_exclusive_answers_as_the_native_rule_does() {
    let Some(bytes) = built_in("exclusive") else {
        assert!(!std::env::var("MUSTER_REQUIRE_BUILT_INS").is_ok_and(|value| value == "1"), "exclusive is not embedded");
        return;
    };
    let component =
        fixtures::engine().load_placement(bytes, Limits::new(Duration::from_millis(500), 64 << 20), &json!({})).unwrap();
    let mut kinds = std::collections::BTreeMap::<String, u32>::new();
    let mut runner = TestRunner::new(Config { cases: 3000, failure_persistence: None, ..Config::default() });
    let counted = std::cell::RefCell::new(&mut kinds);
    let result = runner.run(&cases(), |case| {
        let snapshot = snapshot(&case);
        let request = request(&case, &snapshot);
        let (native, twin) = (native::place(&snapshot, &request), component.place(&snapshot, &request).result);
        let twin = twin.map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(in_words(&twin), in_words(&native));
        for answer in native {
            *counted.borrow_mut().entry(answer.reason.code).or_default() += 1;
        }
        Ok(())
    });
    result.unwrap();
    // Clusters that never come to a decision would compare nothing.
    for code in ["Kept", "BestFit", "NoDomainLargeEnough", "AllDomainsHeld", "NoLabel", "Unconstrained"] {
        assert!(kinds.get(code).is_some_and(|count| *count >= 20), "{code}: {kinds:?}");
    }
    println!("{kinds:?}");
}
