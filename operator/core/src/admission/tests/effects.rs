//! What placement policies give pods on their way in.

use serde_json::{Value, json};

use super::{admit, leader, worker};
use crate::admission::{AdmissionError, Gang, Guard, Outcome, Placement, PodContext, mutate};
use crate::placement::effects::{Effect, Effects, Stage};

fn tpu_effects() -> Effects {
    let effects = [
        Effect::Toleration { key: "google.com/tpu".to_owned(), value: None, effect: Some("NoSchedule".to_owned()) },
        Effect::NodeSelector("arch".to_owned(), "arm64".to_owned()),
        Effect::Label("example.com/tier".to_owned(), "gold".to_owned()),
        Effect::Env("SLICE".to_owned(), "none".to_owned()),
        Effect::SchedulerName("mine".to_owned()),
    ];
    Effects::check(&effects, Stage::Preparation).unwrap()
}

fn admit_gated(pod: &mut Value, effects: &Effects) -> Result<Outcome, AdmissionError> {
    mutate(
        pod,
        &PodContext { namespace: "default", placement: Placement::Gate, gang: Gang::None, effects, guard: &Guard::default() },
    )
}

fn instructed(name: &str, instructions: &Value) -> Value {
    let mut pod = worker(name);
    pod["metadata"]["annotations"]["muster.dev/instructions"] = instructions.to_string().into();
    pod
}

#[test]
fn a_gated_leader_gets_what_its_policy_prepared_and_carries_a_note_of_it() {
    let mut pod = leader("set-1");
    admit_gated(&mut pod, &tpu_effects()).unwrap();
    let toleration = json!({ "key": "google.com/tpu", "operator": "Exists", "effect": "NoSchedule" });
    assert_eq!(pod["spec"]["tolerations"], json!([toleration]));
    assert_eq!(pod["spec"]["nodeSelector"], json!({ "arch": "arm64" }));
    assert_eq!(pod["spec"]["schedulerName"], "mine");
    assert_eq!(pod["metadata"]["labels"]["example.com/tier"], "gold");
    let path = "metadata.annotations['env.muster.dev/SLICE']";
    let variable = json!({ "name": "SLICE", "valueFrom": { "fieldRef": { "fieldPath": path } } });
    assert_eq!(pod["spec"]["containers"][0]["env"].as_array().unwrap().last(), Some(&variable));
    assert_eq!(pod["metadata"]["annotations"]["env.muster.dev/SLICE"], "none");
    let noted = pod["metadata"]["annotations"]["muster.dev/effects"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Effects>(noted).unwrap(), tpu_effects());
    let once = pod.clone();
    admit_gated(&mut pod, &tpu_effects()).unwrap();
    assert_eq!(pod, once);
}

#[test]
fn what_the_author_has_set_stays() {
    let mut pod = leader("set-1");
    pod["spec"]["schedulerName"] = "authors".into();
    pod["spec"]["nodeSelector"] = json!({ "arch": "amd64" });
    pod["spec"]["containers"][0]["env"] = json!([{ "name": "SLICE", "value": "mine" }]);
    pod["metadata"]["labels"]["example.com/tier"] = "silver".into();
    admit_gated(&mut pod, &tpu_effects()).unwrap();
    assert_eq!(pod["spec"]["schedulerName"], "authors");
    assert_eq!(pod["spec"]["nodeSelector"], json!({ "arch": "amd64" }));
    assert_eq!(pod["metadata"]["labels"]["example.com/tier"], "silver");
    let slice: Vec<_> =
        pod["spec"]["containers"][0]["env"].as_array().unwrap().iter().filter(|variable| variable["name"] == "SLICE").collect();
    assert_eq!(slice, [&json!({ "name": "SLICE", "value": "mine" })]);
}

#[test]
fn a_leader_that_nobody_places_gets_nothing() {
    let mut pod = leader("set-1");
    let context = PodContext {
        namespace: "default",
        placement: Placement::None,
        gang: Gang::None,
        effects: &tpu_effects(),
        guard: &Guard::default(),
    };
    mutate(&mut pod, &context).unwrap();
    assert_eq!(pod["spec"].get("tolerations"), None);
    assert_eq!(pod["metadata"]["annotations"].get("muster.dev/effects"), None);
}

#[test]
fn a_worker_goes_where_the_instructions_send_its_rank_and_loses_them() {
    let parts = json!([{ "pods": 2, "key": "rack", "value": "r1" }, { "pods": 2, "key": "rack", "value": "r2" }]);
    let instructions = json!({ "parts": parts, "avoid": ["bad"], "effects": tpu_effects() });
    for (name, rack) in [("set-1-1", "r1"), ("set-1-2", "r2"), ("set-1-3", "r2")] {
        let mut pod = instructed(name, &instructions);
        admit(&mut pod).unwrap();
        assert_eq!(pod["spec"]["nodeSelector"], json!({ "arch": "arm64", "rack": rack }), "{name}");
        let required = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
        let field = json!({ "key": "metadata.name", "operator": "NotIn", "values": ["bad"] });
        assert_eq!(pod.pointer(required), Some(&json!([{ "matchFields": [field] }])));
        assert_eq!(pod["metadata"]["annotations"]["env.muster.dev/SLICE"], "none");
        assert_eq!(pod["metadata"]["annotations"].get("muster.dev/instructions"), None);
        let once = pod.clone();
        admit(&mut pod).unwrap();
        assert_eq!(pod, once);
    }
}

#[test]
fn a_pinned_worker_goes_to_the_node_of_its_rank() {
    let mut pod = instructed("set-1-2", &json!({ "pins": ["n0", "n1", "n2"] }));
    admit(&mut pod).unwrap();
    let required = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/matchFields/0";
    assert_eq!(pod.pointer(required), Some(&json!({ "key": "metadata.name", "operator": "In", "values": ["n2"] })));
}

#[test]
fn a_worker_whose_author_selects_another_domain_is_refused_with_both() {
    let mut pod = instructed("set-1-1", &json!({ "parts": [{ "pods": 4, "key": "rack", "value": "r1" }] }));
    pod["spec"]["nodeSelector"] = json!({ "rack": "r9" });
    let error = admit(&mut pod).unwrap_err().to_string();
    assert!(error.contains("sends rank 1 to rack=r1, and the pod selects rack=r9 already"), "{error}");
}

#[test]
fn instructions_that_cannot_be_read_refuse_the_pod() {
    let mut pod = worker("set-1-1");
    pod["metadata"]["annotations"]["muster.dev/instructions"] = "rack r1".into();
    let error = admit(&mut pod).unwrap_err().to_string();
    assert!(
        error.starts_with("annotation muster.dev/instructions of pod set-1-1 is \"rack r1\", which is not readable"),
        "{error}"
    );
}
