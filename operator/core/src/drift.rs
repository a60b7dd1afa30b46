//! What somebody changed about an object that Muster made, and how to put it back.
//!
//! Only what certainly is a change is put back: a difference may as well be another operator's (or another version's) way of
//! writing the same thing, and putting that "right" would restart pods. What does no harm (more labels, ports of a headless
//! service) is left to whoever added it.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Service;
use muster_api::names::{self, annotation};
use serde_json::{Value, json};

/// How a service of ours differs from what it was made as.
#[derive(Debug, Clone, PartialEq)]
pub enum ServiceDrift {
    /// Not in anything that matters.
    None,
    /// In fields that this merge patch puts back.
    Patch(Value),
    /// In fields that can't be changed any more: it has to be made again.
    Replace,
}

/// Compares a live service of ours with what it should be.
pub fn of_service(live: &Service, wanted: &Value) -> ServiceDrift {
    let uid = live.metadata.uid.as_deref();
    let mut patch = json!({});
    let labels = json!(live.metadata.labels);
    for (key, value) in wanted["metadata"]["labels"].as_object().into_iter().flatten() {
        if labels.get(key) != Some(value) {
            patch["metadata"]["labels"][key] = value.clone();
        }
    }
    // Of a service without our label the caches know no more; with it the next look sees all.
    if let Some(spec) = &live.spec {
        if spec.type_.as_deref() == Some("ExternalName") {
            patch["spec"]["type"] = json!("ClusterIP");
            patch["spec"]["clusterIP"] = json!("None");
            patch["spec"]["externalName"] = Value::Null;
        } else if spec.cluster_ip.as_deref() != Some("None") {
            return ServiceDrift::Replace;
        }
        if json!(spec.selector) != wanted["spec"]["selector"] {
            // A merge patch takes keys away only by name.
            let mut selector = json!({});
            for key in spec.selector.iter().flatten().map(|(key, _)| key) {
                selector[key] = Value::Null;
            }
            for (key, value) in wanted["spec"]["selector"].as_object().into_iter().flatten() {
                selector[key] = value.clone();
            }
            patch["spec"]["selector"] = selector;
        }
        if spec.publish_not_ready_addresses != Some(true) {
            patch["spec"]["publishNotReadyAddresses"] = json!(true);
        }
    }
    if patch == json!({}) {
        return ServiceDrift::None;
    }
    patch["metadata"]["uid"] = json!(uid);
    ServiceDrift::Patch(patch)
}

/// The labels that a live worker StatefulSet lacks or has otherwise, as a merge patch.
pub fn of_labels(live: &StatefulSet, wanted: &BTreeMap<String, String>) -> Option<Value> {
    let labels = live.metadata.labels.as_ref();
    let differs = |key: &str, value: &String| labels.and_then(|labels| labels.get(key)) != Some(value);
    let differing: BTreeMap<_, _> = wanted.iter().filter(|(key, value)| differs(key, value)).collect();
    (!differing.is_empty()).then(|| json!({ "metadata": { "uid": live.metadata.uid, "labels": differing } }))
}

/// Marks a worker StatefulSet that is about to be created with what its spec is.
pub fn mark(object: &mut Value) {
    let mark = made_as(object);
    object["metadata"]["annotations"][annotation::MADE_AS] = Value::String(mark);
}

/// Whether Muster made a worker StatefulSet.
pub fn is_marked(live: &StatefulSet) -> bool {
    live.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(annotation::MADE_AS))
}

/// Whether a live worker StatefulSet was edited since Muster made it exactly as `wanted` says: then every difference is drift. One
/// that was never edited, that somebody else made, or that would be made differently today is not judged.
pub fn may_be_edited(live: &StatefulSet, wanted: impl FnOnce() -> Option<Value>) -> Option<Value> {
    live.metadata.generation.filter(|generation| *generation > 1)?;
    let mark = live.metadata.annotations.as_ref()?.get(annotation::MADE_AS)?;
    wanted().filter(|wanted| *mark == made_as(wanted))
}

/// Hash of a rendered StatefulSet's spec, without its replicas, which rise as ranks are admitted.
fn made_as(object: &Value) -> String {
    let mut spec = object["spec"].clone();
    if let Value::Object(fields) = &mut spec {
        fields.remove("replicas");
    }
    spec.sort_all_objects();
    names::revision_hash(spec.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn wanted() -> Value {
        json!({
            "metadata": { "labels": { "leaderworkerset.sigs.k8s.io/name": "serve" } },
            "spec": { "clusterIP": "None", "publishNotReadyAddresses": true, "selector": { "leaderworkerset.sigs.k8s.io/name": "serve" } },
        })
    }

    fn drift(change: impl FnOnce(&mut Value)) -> ServiceDrift {
        let mut live = wanted();
        live["metadata"]["uid"] = json!("u1");
        live["spec"]["type"] = json!("ClusterIP");
        change(&mut live);
        of_service(&serde_json::from_value(live).unwrap(), &wanted())
    }

    #[rstest]
    #[case::as_made(|_: &mut Value| {})]
    #[case::more_labels(|live: &mut Value| live["metadata"]["labels"]["team"] = json!("a"))]
    #[case::ports(|live: &mut Value| live["spec"]["ports"] = json!([{ "name": "http", "port": 80 }]))]
    fn what_does_no_harm_to_a_service_is_left(#[case] change: fn(&mut Value)) {
        assert_eq!(drift(change), ServiceDrift::None);
    }

    #[test]
    fn a_service_gets_back_its_selector_label_and_addresses() {
        let drift = drift(|live| {
            live["metadata"]["labels"] = json!({});
            live["spec"]["selector"] = json!({ "app": "other" });
            live["spec"]["publishNotReadyAddresses"] = json!(false);
        });
        let patch = json!({
            "metadata": { "uid": "u1", "labels": { "leaderworkerset.sigs.k8s.io/name": "serve" } },
            "spec": {
                "selector": { "app": null, "leaderworkerset.sigs.k8s.io/name": "serve" },
                "publishNotReadyAddresses": true,
            },
        });
        assert_eq!(drift, ServiceDrift::Patch(patch));
    }

    #[test]
    fn a_service_with_an_address_of_its_own_is_made_again() {
        assert_eq!(drift(|live| live["spec"]["clusterIP"] = json!("10.0.0.7")), ServiceDrift::Replace);
    }

    fn workers(generation: i64, image: &str) -> Value {
        json!({ "metadata": { "name": "serve-0", "generation": generation }, "spec": { "replicas": 3, "serviceName": "serve", "selector": {},
            "template": { "spec": { "containers": [{ "name": "main", "image": image }] } } } })
    }

    #[rstest]
    #[case::edited_since(2, "image:1", "image:1", true)]
    #[case::never_edited(1, "image:1", "image:1", false)]
    #[case::would_be_made_differently_today(2, "image:1", "image:2", false)]
    fn only_what_would_be_made_the_same_again_is_judged(
        #[case] generation: i64,
        #[case] made: &str,
        #[case] now: &str,
        #[case] expected: bool,
    ) {
        let mut live = workers(generation, made);
        mark(&mut live);
        live["spec"]["replicas"] = json!(1);
        live["spec"]["template"]["spec"]["containers"][0]["image"] = json!("edited");
        let judged = may_be_edited(&serde_json::from_value(live).unwrap(), || Some(workers(1, now)));
        assert_eq!(judged.is_some(), expected);
    }

    #[test]
    fn a_worker_stateful_set_that_upstream_made_is_never_judged() {
        let live = workers(2, "image:1");
        assert_eq!(may_be_edited(&serde_json::from_value(live).unwrap(), || Some(workers(1, "image:1"))), None);
    }
}
