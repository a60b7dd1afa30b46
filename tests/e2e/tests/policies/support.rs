//! Components that reach the operator by ConfigMaps.

use anyhow::{Result, ensure};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use muster_cluster::{Namespace, eventually};
use muster_e2e::PATIENCE;
use serde_json::{Value, json};

/// The entry of every ConfigMap here.
pub(crate) const KEY: &str = "policy.wasm";
/// The gate that a leader waits behind.
pub(crate) const GATE: &str = "muster.dev/placement";

/// Stores a component in the namespace and returns the source that names it.
pub(crate) async fn store(namespace: &Namespace, name: &str, component: Vec<u8>) -> Result<Value> {
    let object = ConfigMap {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        binary_data: Some([(KEY.to_owned(), ByteString(component))].into()),
        ..ConfigMap::default()
    };
    namespace.api::<ConfigMap>().create(&PostParams::default(), &object).await?;
    Ok(source(namespace, name, KEY))
}

/// The source that names an entry of a ConfigMap of the namespace.
pub(crate) fn source(namespace: &Namespace, name: &str, key: &str) -> Value {
    json!({ "configMap": { "namespace": namespace.name(), "name": name, "key": key } })
}

/// The spec of a built-in `node-pool` whose pools are the domains of `key`.
pub(crate) fn node_pool(key: &str) -> Value {
    json!({ "source": { "builtIn": "node-pool" }, "settings": { "keys": [key] } })
}

/// Whether Muster's gate is on the pod.
pub(crate) fn is_gated(pod: &Pod) -> bool {
    let gates = pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref());
    gates.into_iter().flatten().any(|gate| gate.name == GATE)
}

/// Waits for an event about `object` with this reason, whose message contains every one of `parts`.
pub(crate) async fn await_event(namespace: &Namespace, object: &str, reason: &str, parts: &[&str]) -> Result<()> {
    eventually(PATIENCE, || async {
        let events = namespace.events(object).await?;
        let fits =
            |event: &&String| event.split([' ', ':']).nth(1) == Some(reason) && parts.iter().all(|part| event.contains(part));
        ensure!(events.iter().find(fits).is_some(), "no event {reason} about {object} with {parts:?}: {events:#?}");
        Ok(())
    })
    .await
}

/// The namespace's own annotations and labels.
pub(crate) async fn mark(namespace: &Namespace, metadata: &Value) -> Result<()> {
    let api: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(namespace.client());
    api.patch(namespace.name(), &PatchParams::default(), &Patch::Merge(json!({ "metadata": metadata }))).await?;
    Ok(())
}
