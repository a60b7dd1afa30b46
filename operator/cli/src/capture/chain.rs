//! The policies that a set names, as the `chain` of a scenario.

use muster_api::PlacementPolicy;
use muster_api::policy::{Policy as _, PolicyMode, PolicySpec};
use muster_policy_kit::scenario::{Brief, Link};
use serde_json::Value;

/// A policy that a set names: its name, and its object if there is one.
pub(super) type Named = (String, Option<PlacementPolicy>);

/// The settings of a policy as scenarios have them; none if there is no such object.
pub(super) fn settings(object: Option<&PlacementPolicy>) -> Value {
    object.and_then(|object| object.policy().settings.clone()).unwrap_or_default()
}

/// The chain of a set that names several policies, and what whoever plays it should know. The first is the policy under test.
pub(super) fn links(policies: &[Named]) -> (Vec<Brief<Link>>, Vec<String>) {
    let [_, others @ ..] = policies else { return (Vec::new(), Vec::new()) };
    if others.is_empty() {
        return (Vec::new(), Vec::new());
    }
    let (mut links, mut notes) = (vec![Brief(Link { under_test: true, ..Link::default() })], Vec::new());
    for (name, object) in others {
        let spec = object.as_ref().map(|object| object.policy());
        if spec.is_some_and(|spec| spec.mode() == PolicyMode::Observe) {
            notes.push(format!("{name} is left out of the chain: it is only observed (spec.mode: Observe)"));
            continue;
        }
        let built_in = spec.and_then(|spec| spec.source.built_in.clone());
        let component = built_in.is_none().then(|| format!("{name}.wasm"));
        if let Some(file) = &component {
            notes.push(format!("the chain asks {name} from the file {file} beside the scenario: {}", origin(name, spec)));
        }
        links.push(Brief(Link { built_in, component, settings: settings(object.as_ref()), under_test: false }));
    }
    (links, notes)
}

/// How a component gets there that is not built in.
fn origin(name: &str, spec: Option<&PolicySpec>) -> String {
    let Some(source) = spec.map(|spec| &spec.source) else {
        return format!("there is no PlacementPolicy {name:?}, put a component there or take it out of `chain`");
    };
    match (&source.oci, &source.config_map) {
        (Some(oci), _) => format!("`muster policy pull {} --file {name}.wasm`", oci.image),
        (None, Some(map)) => {
            format!("put there what ConfigMap {}/{} has under {:?}", map.namespace, map.name, map.key)
        }
        (None, None) => "its object names no source, put a component there".to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]
mod tests {
    use serde_json::json;

    use super::*;

    fn named(name: &str, spec: &Value) -> Named {
        let object = json!({
            "apiVersion": "policy.muster.dev/v1alpha1", "kind": "PlacementPolicy", "metadata": { "name": name }, "spec": spec,
        });
        (name.to_owned(), Some(serde_json::from_value(object).unwrap()))
    }

    #[test]
    fn every_policy_that_a_set_names_has_its_place_in_the_chain() {
        let policies = [
            named("mine", &json!({ "source": { "builtIn": "sticky-avoid" }, "settings": { "a": 1 } })),
            named("pools", &json!({ "source": { "builtIn": "node-pool" }, "settings": { "shared": false } })),
            named("shadow", &json!({ "source": { "builtIn": "spread" }, "mode": "Observe" })),
            named("racks", &json!({ "source": { "configMap": { "namespace": "ml", "name": "racks", "key": "policy.wasm" } } })),
            ("gone".to_owned(), None),
        ];
        let (links, notes) = links(&policies);
        assert_eq!(
            serde_json::to_value(&links).unwrap(),
            json!([
                { "underTest": true },
                { "builtIn": "node-pool", "settings": { "shared": false } },
                { "component": "racks.wasm" },
                { "component": "gone.wasm" },
            ])
        );
        assert_eq!(
            notes,
            [
                "shadow is left out of the chain: it is only observed (spec.mode: Observe)",
                "the chain asks racks from the file racks.wasm beside the scenario: put there what ConfigMap ml/racks has under \"policy.wasm\"",
                "the chain asks gone from the file gone.wasm beside the scenario: there is no PlacementPolicy \"gone\", put a component there \
                 or take it out of `chain`",
            ]
        );
    }

    #[test]
    fn one_policy_is_no_chain() {
        let one = named("mine", &json!({ "source": { "builtIn": "node-pool" } }));
        assert_eq!(links(&[]).0.len() + links(&[one]).0.len(), 0);
    }
}
