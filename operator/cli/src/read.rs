//! Reading the cluster, with the rights of whoever asks.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Config, Resource, ResourceExt as _};
use muster_api::names::label;
use muster_api::{LeaderWorkerSet, PlacementPolicy, defaults};
use muster_core::admission::{Choice, Defaults, choose};
use muster_core::ask;
use muster_core::cluster::{Index, Snapshot, View};
use muster_core::observed::Observed;
use serde::de::DeserializeOwned;

use crate::args::{Cluster, Corner};
use crate::capture::Bound;

/// A connection, and the namespace that is meant.
pub(crate) struct Reader {
    client: Client,
    namespace: String,
    all: bool,
}

/// Everything that placement looks at.
pub(crate) struct World {
    pub(crate) sets: Vec<Placed>,
    pub(crate) nodes: Vec<Node>,
    /// Pods that take room.
    pub(crate) bound: Vec<Bound>,
    index: RefCell<Index>,
    pub(crate) now: Timestamp,
}

/// One set and what belongs to it.
pub(crate) struct Placed {
    pub(crate) set: LeaderWorkerSet,
    pub(crate) observed: Observed,
    pub(crate) choice: Choice,
}

impl World {
    /// What the operator would look at.
    pub(crate) fn snapshot(&self, view: View) -> Snapshot {
        self.index.borrow_mut().snapshot(view)
    }
}

impl Reader {
    /// Reads one namespace.
    pub(crate) async fn of(corner: &Corner) -> Result<Self> {
        let reader = Self::of_all(&corner.cluster).await?;
        let namespace = corner.namespace.clone().unwrap_or(reader.namespace);
        Ok(Self { namespace, all: false, ..reader })
    }

    /// Reads all namespaces.
    pub(crate) async fn of_all(cluster: &Cluster) -> Result<Self> {
        let options = KubeConfigOptions { context: cluster.context.clone(), ..KubeConfigOptions::default() };
        let config = match (&cluster.kubeconfig, &cluster.context) {
            (Some(file), _) => {
                let reading = || format!("reading the kubeconfig {}", file.display());
                let kubeconfig = Kubeconfig::read_from(file).with_context(reading)?;
                Config::from_custom_kubeconfig(kubeconfig, &options).await.with_context(reading)?
            }
            (None, Some(_)) => Config::from_kubeconfig(&options).await.context("reading the kubeconfig")?,
            (None, None) => Config::infer().await.context("finding a cluster: set KUBECONFIG, or run inside one")?,
        };
        let namespace = config.default_namespace.clone();
        Ok(Self { client: Client::try_from(config)?, namespace, all: true })
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The sets of the namespace, or of all.
    pub(crate) async fn sets(&self) -> Result<Vec<LeaderWorkerSet>> {
        let api = if self.all { Api::all(self.client.clone()) } else { self.api() };
        list(&api, &ListParams::default()).await
    }

    /// One set and what belongs to it.
    pub(crate) async fn set(&self, name: &str) -> Result<(LeaderWorkerSet, Observed)> {
        let found: Option<LeaderWorkerSet> = self.api().get_opt(name).await?;
        let mut set = found.with_context(|| {
            format!("there is no LeaderWorkerSet {name:?} in namespace {:?}; `muster status -A` lists all", self.namespace)
        })?;
        defaults::default_set(&mut set);
        let own = ListParams::default().labels(&format!("{}={name}", label::SET_NAME));
        let observed = observed(
            list(&self.api::<Pod>(), &own).await?,
            list(&self.api::<StatefulSet>(), &own).await?,
            list(&self.api::<ControllerRevision>(), &own).await?,
        );
        Ok((set, observed))
    }

    /// Everything that placement looks at, in the form in which the operator keeps it.
    pub(crate) async fn world(&self) -> Result<World> {
        let all = ListParams::default();
        let nodes: Vec<Node> = list(&Api::all(self.client.clone()), &all).await?;
        let pods: Vec<Pod> = list(&Api::all(self.client.clone()), &all).await?;
        let ours = ListParams::default().labels(label::SET_NAME);
        let stateful_sets: Vec<StatefulSet> = list(&Api::all(self.client.clone()), &ours).await?;
        let revisions: Vec<ControllerRevision> = list(&Api::all(self.client.clone()), &ours).await?;
        let namespaces: Vec<Namespace> = list(&Api::all(self.client.clone()), &all).await?;
        let sets: Vec<LeaderWorkerSet> = list(&Api::all(self.client.clone()), &all).await?;

        let mut index = Index::new();
        nodes.iter().for_each(|node| index.apply_node(node));
        pods.iter().for_each(|pod| index.apply_pod(pod));
        stateful_sets.iter().for_each(|object| index.apply_worker_set(object));
        let bound = pods.iter().filter_map(Bound::of).collect();
        let annotations = |name: &str| {
            let found = namespaces.iter().find(|namespace| namespace.name_any() == name);
            found.map(|namespace| namespace.annotations().clone()).unwrap_or_default()
        };
        let (mut pods, mut stateful_sets, mut revisions) = (by_set(pods), by_set(stateful_sets), by_set(revisions));
        let sets = sets.into_iter().map(|mut set| {
            defaults::default_set(&mut set);
            let key = (set.set_namespace().to_owned(), set.set_name().to_owned());
            let observed = observed(
                pods.remove(&key).unwrap_or_default(),
                stateful_sets.remove(&key).unwrap_or_default(),
                revisions.remove(&key).unwrap_or_default(),
            );
            let choice = choose(set.annotations(), set.labels(), &annotations(set.set_namespace()), &Defaults::default());
            Placed { set, observed, choice }
        });
        let sets: Vec<Placed> = sets.collect();
        for Placed { set, observed, choice } in &sets {
            let holdings = ask::holdings(set, observed, choice, |node, key| index.node_label(node, key));
            index.replace_holdings_of_set(set.set_namespace(), set.set_name(), holdings);
        }
        Ok(World { sets, nodes, bound, index: RefCell::new(index), now: Timestamp::now() })
    }

    /// The placement policies; none for somebody who may not see them, because sets can be explained without.
    pub(crate) async fn placement_policies(&self) -> Vec<PlacementPolicy> {
        list(&Api::all(self.client.clone()), &ListParams::default()).await.unwrap_or_default()
    }

    /// The placement policy of this name, if there is one.
    pub(crate) async fn placement_policy(&self, name: &str) -> Result<Option<PlacementPolicy>> {
        let api: Api<PlacementPolicy> = Api::all(self.client.clone());
        Ok(api.get_opt(name).await?)
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

/// Objects by namespace and name of their set.
type BySet<K> = HashMap<(String, String), Vec<K>>;

fn by_set<K: Resource>(objects: Vec<K>) -> BySet<K> {
    let mut sorted = BySet::new();
    for object in objects {
        if let Some(set) = object.labels().get(label::SET_NAME).cloned() {
            sorted.entry((object.namespace().unwrap_or_default(), set)).or_default().push(object);
        }
    }
    sorted
}

fn observed(pods: Vec<Pod>, stateful_sets: Vec<StatefulSet>, revisions: Vec<ControllerRevision>) -> Observed {
    Observed {
        pods: by_name(pods),
        stateful_sets: by_name(stateful_sets),
        revisions: revisions.into_iter().map(Arc::new).collect(),
        ..Observed::default()
    }
}

fn by_name<K: Resource>(objects: Vec<K>) -> BTreeMap<String, Arc<K>> {
    objects.into_iter().map(|object| (object.name_any(), Arc::new(object))).collect()
}

async fn list<K>(api: &Api<K>, params: &ListParams) -> Result<Vec<K>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let mut found = Vec::new();
    let mut params = params.clone().limit(500);
    loop {
        let page = api.list(&params).await.with_context(|| format!("listing {}", K::plural(&())))?;
        found.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(found),
        }
    }
}
