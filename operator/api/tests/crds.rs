//! The definitions in `deploy/crd`: current, small enough, and what an API server takes.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that is not as it should be")]

use std::fs;
use std::path::Path;

use muster_api::crd;
use serde_json::{Value, json};

/// Plain `kubectl apply` stores the whole object in an annotation, and annotations hold 262,144 bytes. The rest is for growth.
const SIZE_LIMIT: usize = 200_000;

fn definition(plural: &str) -> Value {
    let crd = crd::crds().into_iter().find(|crd| crd.spec.names.plural == plural).unwrap();
    serde_json::to_value(crd).unwrap()
}

fn schema(plural: &str) -> Value {
    definition(plural).pointer("/spec/versions/0/schema/openAPIV3Schema").unwrap().clone()
}

#[test]
fn generated_crds_are_current() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/crd");
    for (name, content) in crd::files().unwrap() {
        let committed = fs::read_to_string(directory.join(&name)).unwrap_or_default();
        assert!(committed == content, "deploy/crd/{name} is not what the types say; run `{}`", crd::GENERATE);
    }
}

#[test]
fn definitions_are_small_enough_for_plain_apply() {
    for crd in crd::crds() {
        let size = serde_json::to_string(&crd).unwrap().len();
        assert!(size < SIZE_LIMIT, "{} has {size} bytes, limit {SIZE_LIMIT}", crd.spec.names.plural);
    }
}

#[test]
fn schemas_are_structural() {
    for plural in ["leaderworkersets", "placementpolicies", "startuppolicies"] {
        let mut faults = Vec::new();
        let nodes = walk(&schema(plural), plural, &mut faults);
        assert!(faults.is_empty(), "{faults:#?}");
        assert!(nodes > 30, "{plural}: the walk saw only {nodes} nodes");
    }
}

/// Visits every node, notes what an API server would refuse, and counts the nodes.
fn walk(node: &Value, path: &str, faults: &mut Vec<String>) -> usize {
    let untyped =
        ["type", "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields"].iter().all(|key| node[key].is_null());
    let mut fault = |what: &str| faults.push(format!("{path}: {what}"));
    if untyped {
        fault("neither a type nor int-or-string nor unknown fields kept");
    }
    for keyword in ["$ref", "allOf", "anyOf", "oneOf", "not", "nullable", "definitions", "$defs"] {
        if !node[keyword].is_null() {
            fault(&format!("has {keyword}"));
        }
    }
    if node["type"] == "array" && node["items"].is_null() {
        fault("an array without items");
    }
    for key in node["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let items = &node["items"];
        let required = items["required"].as_array().is_some_and(|required| required.contains(&json!(key)));
        let defaulted = !items["properties"][key]["default"].is_null();
        if items["properties"][key].is_null() || !(required || defaulted) {
            fault(&format!("the key {key} is neither required nor defaulted"));
        }
    }
    let properties = node["properties"].as_object().into_iter().flatten().map(|(name, inner)| (format!("{path}.{name}"), inner));
    let inner = ["items", "additionalProperties"].map(|key| (format!("{path}[]"), &node[key]));
    let below: Vec<_> = properties.chain(inner.into_iter().filter(|(_, inner)| inner.is_object())).collect();
    1 + below.into_iter().map(|(path, inner)| walk(inner, &path, faults)).sum::<usize>()
}

#[test]
fn the_set_is_served_as_upstream_serves_it() {
    let definition = definition("leaderworkersets");
    let names =
        json!({"kind": "LeaderWorkerSet", "plural": "leaderworkersets", "singular": "leaderworkerset", "shortNames": ["lws"]});
    assert_eq!(definition["spec"]["names"], names);
    assert_eq!(definition["spec"]["group"], "leaderworkerset.x-k8s.io");
    assert_eq!(definition["spec"]["scope"], "Namespaced");
    assert_eq!(definition["spec"]["conversion"], Value::Null);
    let version = &definition["spec"]["versions"][0];
    let columns = json!([
        {"name": "Ready", "type": "integer", "jsonPath": ".status.readyReplicas"},
        {"name": "Desired", "type": "integer", "jsonPath": ".spec.replicas"},
        {"name": "Up-to-date", "type": "integer", "jsonPath": ".status.updatedReplicas"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]);
    assert_eq!(version["additionalPrinterColumns"], columns);
    let scale = json!({
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.hpaPodSelector",
    });
    assert_eq!(version["subresources"], json!({"status": {}, "scale": scale}));
}

#[test]
fn every_default_of_the_set_is_in_the_schema() {
    let schema = schema("leaderworkersets");
    for (field, default) in [
        ("replicas", json!(1)),
        ("startupPolicy", json!("LeaderCreated")),
        ("leaderWorkerTemplate.size", json!(1)),
        ("leaderWorkerTemplate.restartPolicy", json!("RecreateGroupOnPodRestart")),
        ("leaderWorkerTemplate.subGroupPolicy.subGroupPolicyType", json!("LeaderWorker")),
        ("rolloutStrategy.type", json!("RollingUpdate")),
        ("rolloutStrategy.rollingUpdateConfiguration.partition", json!(0)),
        ("rolloutStrategy.rollingUpdateConfiguration.maxUnavailable", json!(1)),
        ("rolloutStrategy.rollingUpdateConfiguration.maxSurge", json!(0)),
    ] {
        let node = field.split('.').fold(&schema["properties"]["spec"], |node, name| &node["properties"][name]);
        assert_eq!(node["default"], default, "{field}");
    }
}

/// All that a set's schema asks of values, without the templates, which are those of other APIs.
fn demands(node: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    for keyword in ["enum", "maximum", "minimum", "required"] {
        if !node[keyword].is_null() {
            found.push((format!("{path} {keyword}"), node[keyword].clone()));
        }
    }
    for (name, inner) in node["properties"].as_object().into_iter().flatten() {
        if !["leaderTemplate", "workerTemplate", "volumeClaimTemplates"].contains(&name.as_str()) {
            demands(inner, &format!("{path}.{name}"), found);
        }
    }
}

#[test]
fn a_set_is_asked_for_what_upstream_asks_for_and_nothing_else() {
    let mut found = Vec::new();
    demands(&schema("leaderworkersets")["properties"]["spec"], "spec", &mut found);
    let expected = [
        ("spec required", json!(["leaderWorkerTemplate"])),
        ("spec.leaderWorkerTemplate required", json!(["workerTemplate"])),
        (
            "spec.leaderWorkerTemplate.restartPolicy enum",
            json!(["Default", "RecreateGroupOnPodRestart", "RecreateGroupAfterStart", "None"]),
        ),
        ("spec.leaderWorkerTemplate.subGroupPolicy.subGroupPolicyType enum", json!(["LeaderWorker", "LeaderExcluded"])),
        ("spec.networkConfig required", json!(["subdomainPolicy"])),
        ("spec.networkConfig.subdomainPolicy enum", json!(["Shared", "UniquePerReplica"])),
        ("spec.replicas maximum", json!(1_000_000.0)),
        ("spec.replicas minimum", json!(0.0)),
        ("spec.rolloutStrategy required", json!(["type"])),
        ("spec.rolloutStrategy.type enum", json!(["RollingUpdate"])),
        ("spec.startupPolicy enum", json!(["LeaderCreated", "LeaderReady"])),
    ];
    let found: Vec<(&str, Value)> = found.iter().map(|(path, value)| (path.as_str(), value.clone())).collect();
    // A size has no minimum in the schema: admission refuses one below 1, in words.
    assert_eq!(found, expected);
    let definition = definition("leaderworkersets").to_string();
    assert!(!definition.contains("x-kubernetes-validations"), "there are rules in CEL");
}

#[test]
fn templates_keep_unknown_fields_and_know_the_pod_api() {
    let template =
        &schema("leaderworkersets")["properties"]["spec"]["properties"]["leaderWorkerTemplate"]["properties"]["workerTemplate"];
    let pod = &template["properties"]["spec"];
    let container = &pod["properties"]["containers"]["items"];
    for node in [template, pod, container] {
        assert_eq!(node["x-kubernetes-preserve-unknown-fields"], true);
    }
    let metadata: Vec<_> = template["properties"]["metadata"]["properties"].as_object().unwrap().keys().collect();
    assert_eq!(metadata, ["annotations", "finalizers", "labels", "name", "namespace"]);
    assert_eq!(pod["properties"]["containers"]["x-kubernetes-list-map-keys"], json!(["name"]));
    assert_eq!(pod["properties"]["tolerations"]["x-kubernetes-list-type"], "atomic");
    assert_eq!(container["properties"]["ports"]["x-kubernetes-list-map-keys"], json!(["containerPort", "protocol"]));
    assert_eq!(container["properties"]["ports"]["items"]["properties"]["protocol"]["default"], "TCP");
    let amount = &container["properties"]["resources"]["properties"]["limits"]["additionalProperties"];
    assert_eq!(amount["x-kubernetes-int-or-string"], true);
    assert_eq!(amount["type"], Value::Null);
}
