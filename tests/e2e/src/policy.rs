//! Policy objects of tests, and what their status says.

use anyhow::{Context, Result, ensure};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use muster_api::PlacementPolicy;
use muster_api::policy::PolicyStatus;
use muster_cluster::{Cluster, Namespace, eventually};
use serde_json::{Value, json};

use crate::PATIENCE;

/// A placement policy that is deleted when its test ends.
pub struct Policy {
    /// The object's name.
    pub name: String,
    client: Client,
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policy").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Policy {
    /// A policy of this name, of which there is no object before it is applied.
    #[must_use]
    pub fn new(client: Client, name: &str) -> Self {
        Self { name: name.to_owned(), client }
    }

    /// Creates a policy with a name of the namespace's own.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn create(namespace: &Namespace, spec: &Value) -> Result<Self> {
        Self::named(namespace, namespace.name(), spec).await
    }

    /// Creates a policy of this name.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn named(namespace: &Namespace, name: &str, spec: &Value) -> Result<Self> {
        let policy = Self::new(namespace.client(), name);
        let object = serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec }))?;
        policy.api().create(&PostParams::default(), &object).await?;
        Ok(policy)
    }

    fn api(&self) -> Api<PlacementPolicy> {
        Api::all(self.client.clone())
    }

    /// Creates the policy, or replaces its spec.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn apply(&self, spec: &Value) -> Result<()> {
        let object = json!({ "apiVersion": "policy.muster.dev/v1alpha1", "kind": "PlacementPolicy",
            "metadata": { "name": self.name }, "spec": spec });
        self.api().patch(&self.name, &PatchParams::apply("test").force(), &Patch::Apply(object)).await?;
        Ok(())
    }

    /// Lays part of a spec over the policy's.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn patch(&self, spec: &Value) -> Result<()> {
        self.api().patch(&self.name, &PatchParams::default(), &Patch::Merge(json!({ "spec": spec }))).await?;
        Ok(())
    }

    /// Deletes the object.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn delete(&self) -> Result<()> {
        self.api().delete(&self.name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Waits until the status speaks of the present spec and its `Ready` is `ready`.
    ///
    /// # Errors
    /// When that isn't so in time; the message has the status.
    pub async fn await_ready(&self, ready: &str) -> Result<PolicyStatus> {
        self.await_condition("Ready", ready).await
    }

    /// Waits until the status speaks of the present spec and one of its conditions is `wanted`.
    ///
    /// # Errors
    /// As for [`Policy::await_ready`].
    pub async fn await_condition(&self, type_: &str, wanted: &str) -> Result<PolicyStatus> {
        self.await_status(&format!("{type_}={wanted}"), |status| verdict(status, type_) == wanted).await
    }

    /// Waits until the status speaks of the present spec and one of its conditions has this reason.
    ///
    /// # Errors
    /// As for [`Policy::await_ready`].
    pub async fn await_reason(&self, type_: &str, wanted: &str) -> Result<PolicyStatus> {
        self.await_status(&format!("{type_} for {wanted}"), |status| reason(status, type_) == wanted).await
    }

    /// Waits until this version decides: the component with this digest.
    ///
    /// # Errors
    /// As for [`Policy::await_ready`].
    pub async fn await_active(&self, digest: &str) -> Result<PolicyStatus> {
        let decides = |status: &PolicyStatus| status.active.as_ref().is_some_and(|active| active.digest == digest);
        self.await_status(&format!("the version {digest}"), decides).await
    }

    async fn await_status(&self, what: &str, is: impl Fn(&PolicyStatus) -> bool) -> Result<PolicyStatus> {
        eventually(PATIENCE, || async {
            let policy = self.api().get(&self.name).await?;
            let status = policy.status.clone().with_context(|| format!("{} has no status", self.name))?;
            ensure!(status.observed_generation == policy.metadata.generation, "{} is not judged yet", self.name);
            ensure!(is(&status), "{} is not {what}: {status:#?}", self.name);
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
#[must_use]
pub fn verdict<'a>(status: &'a PolicyStatus, type_: &str) -> &'a str {
    status.conditions.iter().find(|condition| condition.type_ == type_).map_or("", |condition| &condition.status)
}

/// Every condition in order, as `Type=Status`.
#[must_use]
pub fn verdicts(status: &PolicyStatus) -> Vec<String> {
    status.conditions.iter().map(|condition| format!("{}={}", condition.type_, condition.status)).collect()
}

/// The message of one condition.
#[must_use]
pub fn message<'a>(status: &'a PolicyStatus, type_: &str) -> &'a str {
    status.conditions.iter().find(|condition| condition.type_ == type_).map_or("", |condition| &condition.message)
}

/// The reason of one condition.
#[must_use]
pub fn reason<'a>(status: &'a PolicyStatus, type_: &str) -> &'a str {
    status.conditions.iter().find(|condition| condition.type_ == type_).map_or("", |condition| &condition.reason)
}
