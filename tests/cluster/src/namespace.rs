//! One test's corner of the cluster.

use std::fmt;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Event, Namespace as NamespaceObject, Node};
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::{Api, Client, Resource};

use crate::cluster::Cluster;
use crate::fleet::Fleet;

/// A namespace that is deleted when the test ends, pass or fail.
pub struct Namespace {
    name: String,
    client: Client,
    cluster: &'static Cluster,
    nodes: Vec<String>,
}

impl Namespace {
    pub(crate) async fn create(cluster: &'static Cluster, prefix: &str) -> Result<Self> {
        let client = cluster.client().await?;
        let metadata = ObjectMeta { generate_name: Some(format!("{prefix}-")), ..ObjectMeta::default() };
        let object = NamespaceObject { metadata, ..NamespaceObject::default() };
        let created = Api::all(client.clone()).create(&PostParams::default(), &object).await?;
        let name = created.metadata.name.context("the API server named no namespace")?;
        Ok(Self { name, client, cluster, nodes: Vec::new() })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A client with the administrator's rights.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The objects of a kind in this namespace.
    #[must_use]
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Creates nodes that go with the namespace, and waits until they are ready. Nodes are cluster-scoped: give them names
    /// of your own, and label them ([`Fleet::labelled`]) if other tests' pods must not be mixed up with yours.
    ///
    /// # Errors
    /// When the API server refuses a node, or nodes don't become ready.
    pub async fn add_nodes(&mut self, fleet: &Fleet) -> Result<()> {
        self.nodes.extend(fleet.names().map(str::to_owned));
        fleet.create(&self.client).await
    }

    /// Runs kubectl in this namespace and returns what it prints.
    ///
    /// # Errors
    /// When kubectl fails; the message is its own.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        let args: Vec<&str> = ["--namespace", &self.name].into_iter().chain(args.iter().copied()).collect();
        self.cluster.kubectl(&args).await
    }

    /// Applies a manifest by `kubectl apply -f -` in this namespace.
    ///
    /// # Errors
    /// When kubectl fails; the message is its own.
    pub async fn apply(&self, manifest: &str) -> Result<String> {
        self.cluster.kubectl_with(&["--namespace", &self.name, "apply", "-f", "-"], manifest).await
    }

    /// The events about an object of this namespace, oldest first, as `Type Reason: message`.
    ///
    /// # Errors
    /// When the API server doesn't answer.
    pub async fn events(&self, object: &str) -> Result<Vec<String>> {
        let params = ListParams::default().fields(&format!("involvedObject.name={object}"));
        let mut events = self.api::<Event>().list(&params).await?.items;
        events.sort_by_key(|event| event.metadata.creation_timestamp.clone());
        let shown = |event: Event| {
            let [kind, reason, message] = [event.type_, event.reason, event.message].map(Option::unwrap_or_default);
            format!("{kind} {reason}: {message}")
        };
        Ok(events.into_iter().map(shown).collect())
    }

    /// Checks that an event about `object` has this reason.
    ///
    /// # Errors
    /// Lists the events that there are instead.
    pub async fn has_event(&self, object: &str, reason: &str) -> Result<()> {
        let events = self.events(object).await?;
        let found = events.iter().any(|event| event.split([' ', ':']).nth(1) == Some(reason));
        ensure!(found, "no event {reason} about {object}; there are: {events:#?}");
        Ok(())
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // A thread with its own runtime: the test's may be shutting down, and dropping can't await.
        let (name, cluster, nodes) = (self.name.clone(), self.cluster, std::mem::take(&mut self.nodes));
        let deletion = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let client = cluster.client().await?;
                let namespaces: Api<NamespaceObject> = Api::all(client.clone());
                namespaces.delete(&name, &DeleteParams::default()).await?;
                for node in nodes {
                    Api::<Node>::all(client.clone()).delete(&node, &DeleteParams::default()).await?;
                }
                anyhow::Ok(())
            })
        });
        // A namespace left over does no harm; the cluster goes when the tests are done.
        let _ = deletion.join();
    }
}
