use proptest::prelude::*;
use serde_json::{Value, json};

use super::{annotate, leader, worker};
use crate::admission::{Gang, Guard, Outcome, Placement, PodContext, mutate};
use crate::placement::effects::Effects;

fn placement() -> impl Strategy<Value = Placement> {
    prop_oneof![Just(Placement::None), Just(Placement::Gate)]
}

fn gang() -> impl Strategy<Value = Gang<'static>> {
    prop_oneof![Just(Gang::None), Just(Gang::Volcano), Just(Gang::Begin("0a1b2c3d")), Just(Gang::Join("set-1-abc-0a1b2c3d"))]
}

fn variables() -> impl Strategy<Value = Value> {
    let name = prop_oneof![Just("LWS_LEADER_ADDRESS"), Just("LWS_GROUP_SIZE"), Just("LWS_WORKER_INDEX"), Just("A"), Just("B")];
    proptest::collection::vec((name, "[a-z]{0,3}"), 0..6)
        .prop_map(|pairs| pairs.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect())
}

prop_compose! {
    fn pods()(
        is_leader in any::<bool>(),
        ordinal in 1..200_u32,
        subgroup in proptest::option::of(1..5_u32),
        subdomain in any::<bool>(),
        env in proptest::collection::vec(variables(), 1..3),
        init in proptest::collection::vec(variables(), 0..2),
    ) -> Value {
        let mut pod = if is_leader { leader(&format!("set-{ordinal}")) } else { worker(&format!("set-1-{ordinal}")) };
        if let Some(size) = subgroup {
            annotate(&mut pod, "subgroup-size", &size.to_string());
        }
        if subdomain {
            annotate(&mut pod, "subdomainPolicy", "UniquePerReplica");
        }
        let containers = |lists: Vec<Value>| -> Value {
            lists.into_iter().map(|env| json!({"name": "c", "env": env, "fieldOfTheFuture": [1]})).collect()
        };
        pod["spec"]["containers"] = containers(env);
        pod["spec"]["initContainers"] = containers(init);
        pod["spec"]["fieldOfTheFuture"] = json!({"kept": true});
        pod
    }
}

proptest! {
    #[test]
    fn admitting_twice_is_admitting_once(mut pod in pods(), placement in placement(), gang in gang()) {
        let context = PodContext { namespace: "ns", placement, gang, effects: &Effects::default(), guard: &Guard::default() };
        let outcome = mutate(&mut pod, &context).unwrap();
        let once = pod.clone();
        prop_assert_eq!(mutate(&mut pod, &context).unwrap(), outcome);
        prop_assert_eq!(pod, once);
    }

    #[test]
    fn fields_that_nobody_knows_survive(mut pod in pods(), placement in placement()) {
        mutate(&mut pod, &PodContext { namespace: "ns", placement, gang: Gang::None, effects: &Effects::default(), guard: &Guard::default() }).unwrap();
        prop_assert_eq!(&pod["spec"]["fieldOfTheFuture"], &json!({"kept": true}));
        for container in pod["spec"]["containers"].as_array().unwrap() {
            prop_assert_eq!(&container["fieldOfTheFuture"], &json!([1]));
        }
    }

    #[test]
    fn a_foreign_pod_keeps_every_byte(mut pod in pods(), placement in placement(), gang in gang(), without_name in any::<bool>()) {
        let (part, key) = if without_name { ("labels", "name") } else { ("annotations", "size") };
        pod["metadata"][part].as_object_mut().unwrap().remove(&format!("leaderworkerset.sigs.k8s.io/{key}"));
        pod["metadata"]["labels"].as_object_mut().unwrap().remove("leaderworkerset.sigs.k8s.io/worker-index");
        let before = serde_json::to_vec(&pod).unwrap();
        prop_assert_eq!(mutate(&mut pod, &PodContext { namespace: "ns", placement, gang, effects: &Effects::default(), guard: &Guard::default() }).unwrap(), Outcome::Foreign);
        prop_assert_eq!(serde_json::to_vec(&pod).unwrap(), before);
    }

    #[test]
    fn no_json_whatever_makes_admission_panic(labels in ".{0,8}", spec in ".{0,8}") {
        for mut pod in [json!(spec), json!([labels]), json!({"metadata": labels}), json!({"metadata": {"labels": [spec]}})] {
            let before = pod.clone();
            let outcome = mutate(&mut pod, &PodContext { namespace: "ns", placement: Placement::Gate, gang: Gang::None, effects: &Effects::default(), guard: &Guard::default() });
            prop_assert_eq!(outcome, Ok(Outcome::Foreign));
            prop_assert_eq!(pod, before);
        }
    }
}
