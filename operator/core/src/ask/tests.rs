use std::time::Duration;

use serde_json::{Value, json};

use super::{Concern, next_stuck, placement};
use crate::admission::Choice;
use crate::advice::Advice;
use crate::decide::decide;
use crate::observed::Observed;
use crate::testing::{now, set, with_leader, written};

const GRACE: Duration = Duration::from_secs(60);

/// The set `team/serve`, exclusive by rack, whose first leader is as `change` leaves it.
fn observed(change: impl FnOnce(&mut Value)) -> (muster_api::LeaderWorkerSet, Observed, Choice) {
    let set = set(|_| {});
    let choice = Choice { exclusive: Some("rack".to_owned()), gated: true, ..Choice::default() };
    let plan = decide(&set, &Observed::default(), &choice, &Advice::default(), now());
    let mut observed = written(&plan);
    with_leader(&mut observed, 0, change);
    (set, observed, choice)
}

fn record(leader: &mut Value, record: &Value) {
    leader["metadata"]["annotations"]["muster.dev/placement"] = json!(record.to_string());
}

fn unschedulable(leader: &mut Value) {
    let condition = json!({ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes",
        "lastTransitionTime": "2026-11-22T11:59:20Z" });
    leader["status"] = json!({ "phase": "Pending", "conditions": [condition] });
}

#[test]
fn a_placed_pod_that_can_not_be_scheduled_is_looked_at_again_when_its_grace_ends() {
    let (set, observed, choice) = observed(|leader| {
        record(
            leader,
            &json!({ "by": "exclusive", "level": "rack", "domain": "r1", "reason": { "code": "Fits", "message": "" } }),
        );
        unschedulable(leader);
    });
    // Forty of sixty seconds have passed.
    assert_eq!(next_stuck(&set, &observed, &choice, GRACE, now()), Some(Duration::from_secs(20)));
    assert!(placement(&set, &observed, &choice, GRACE, now()).is_empty());
    let sooner = Duration::from_secs(30);
    assert_eq!(next_stuck(&set, &observed, &choice, sooner, now()), None);
    let questions = placement(&set, &observed, &choice, sooner, now());
    assert_eq!(questions[0].concern, Concern::Stuck { rank: 0, message: "serve-0: 0/1 nodes".to_owned() });
}

#[test]
fn a_released_leader_asks_for_what_its_author_asked_for() {
    let released = |terms: Value| {
        move |leader: &mut Value| {
            let why = json!({ "code": "NoRoom", "message": "" });
            record(leader, &json!({ "by": "exclusive", "level": "rack", "released": true, "reason": why }));
            leader["spec"]["affinity"] = json!({ "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } } });
        }
    };
    let ours = |mut expressions: Vec<Value>| {
        expressions.push(json!({ "key": "rack", "operator": "Exists" }));
        expressions.push(json!({ "key": "rack", "operator": "NotIn", "values": ["r1"] }));
        json!([{ "matchExpressions": expressions }])
    };
    let zone = json!({ "key": "zone", "operator": "In", "values": ["a"] });
    for (terms, as_made) in [
        (ours(vec![]), json!({})),
        (
            ours(vec![zone.clone()]),
            json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{ "matchExpressions": [zone] }] } } }),
        ),
    ] {
        let (set, observed, choice) = observed(released(terms));
        let questions = placement(&set, &observed, &choice, GRACE, now());
        let author = json!({ "containers": [{ "name": "main", "image": "image:1" }], "affinity": as_made });
        let expected = crate::cluster::Shape::of(&serde_json::from_value(author).unwrap()).unwrap();
        assert_eq!(questions[0].demand[0], (expected, 1));
    }
}

#[test]
fn a_stuck_leader_asks_for_a_place_without_the_selector_of_the_one_it_has() {
    let (set, observed, choice) = observed(|leader| {
        let why = json!({ "code": "Fits", "message": "" });
        record(
            leader,
            &json!({ "by": "exclusive", "level": "rack", "domain": "r1", "selector": { "rack": "r1" }, "reason": why }),
        );
        leader["spec"]["nodeSelector"] = json!({ "rack": "r1", "zone": "a" });
        unschedulable(leader);
    });
    let questions = placement(&set, &observed, &choice, Duration::from_secs(30), now());
    let author = json!({ "containers": [{ "name": "main", "image": "image:1" }], "nodeSelector": { "zone": "a" } });
    let expected = crate::cluster::Shape::of(&serde_json::from_value(author).unwrap()).unwrap();
    assert_eq!(questions[0].demand[0], (expected, 1));
}
