//! Policy objects, and components that reach the operator by ConfigMaps.

use anyhow::{Context, Result, ensure};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use muster_api::PlacementPolicy;
use muster_api::policy::PolicyStatus;
use muster_cluster::{Cluster, Namespace, eventually};
use muster_e2e::PATIENCE;
use serde_json::{Value, json};

/// The entry of every ConfigMap here.
pub(crate) const KEY: &str = "policy.wasm";
/// The gate that a leader waits behind.
pub(crate) const GATE: &str = "muster.dev/placement";
/// Where a leader's decision is written down.
pub(crate) const RECORD: &str = "muster.dev/placement";

/// A placement policy that is deleted when its test ends.
pub(crate) struct Policy {
    pub(crate) name: String,
    client: Client,
}

impl Policy {
    /// Creates a policy with a name of the namespace's own.
    pub(crate) async fn create(namespace: &Namespace, spec: &Value) -> Result<Self> {
        Self::named(namespace, namespace.name(), spec).await
    }

    /// Creates a policy of this name.
    pub(crate) async fn named(namespace: &Namespace, name: &str, spec: &Value) -> Result<Self> {
        let policy = Self { name: name.to_owned(), client: namespace.client() };
        let object = serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec }))?;
        policy.api().create(&PostParams::default(), &object).await?;
        Ok(policy)
    }

    fn api(&self) -> Api<PlacementPolicy> {
        Api::all(self.client.clone())
    }

    /// Lays part of a spec over the policy's.
    pub(crate) async fn patch(&self, spec: &Value) -> Result<()> {
        self.api().patch(&self.name, &PatchParams::default(), &Patch::Merge(json!({ "spec": spec }))).await?;
        Ok(())
    }

    /// Waits until the status speaks of the present spec and its `Ready` is `ready`.
    pub(crate) async fn await_ready(&self, ready: &str) -> Result<PolicyStatus> {
        self.await_condition("Ready", ready).await
    }

    /// Waits until the status speaks of the present spec and one of its conditions is `wanted`.
    pub(crate) async fn await_condition(&self, type_: &str, wanted: &str) -> Result<PolicyStatus> {
        eventually(PATIENCE, || async {
            let policy = self.api().get(&self.name).await?;
            let status = policy.status.clone().with_context(|| format!("{} has no status", self.name))?;
            ensure!(status.observed_generation == policy.metadata.generation, "{} is not judged yet", self.name);
            ensure!(verdict(&status, type_) == wanted, "{} is not {type_}={wanted}: {status:#?}", self.name);
            Ok(status)
        })
        .await
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        // As for namespaces: dropping can't await, and the test's runtime may be going.
        let name = self.name.clone();
        let deletion = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let client = Cluster::shared().await.client().await?;
                Api::<PlacementPolicy>::all(client).delete(&name, &DeleteParams::default()).await?;
                anyhow::Ok(())
            })
        });
        let _ = deletion.join();
    }
}

/// The status of one condition; empty when it isn't there.
pub(crate) fn verdict<'a>(status: &'a PolicyStatus, type_: &str) -> &'a str {
    status.conditions.iter().find(|condition| condition.type_ == type_).map_or("", |condition| &condition.status)
}

/// Every condition in order, as `Type=Status`.
pub(crate) fn verdicts(status: &PolicyStatus) -> Vec<String> {
    status.conditions.iter().map(|condition| format!("{}={}", condition.type_, condition.status)).collect()
}

/// The message of one condition.
pub(crate) fn message<'a>(status: &'a PolicyStatus, type_: &str) -> &'a str {
    status.conditions.iter().find(|condition| condition.type_ == type_).map_or("", |condition| &condition.message)
}

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

/// Who decided where the group of a set is, once somebody has.
pub(crate) async fn decider(namespace: &Namespace, leader: &str) -> Result<String> {
    let pod = namespace.api::<Pod>().get(leader).await?;
    let record = pod.annotations().get(RECORD).with_context(|| format!("{leader} has no record of its place"))?;
    let record: Value = serde_json::from_str(record)?;
    record["by"].as_str().map(str::to_owned).context("the record does not say who decided")
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
