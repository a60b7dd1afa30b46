//! What admission asks about the cluster, answered from this replica's caches or past them.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::ListParams;
use kube::{Api, Client};
use muster_api::LeaderWorkerSet;
use muster_api::policy::Policy as _;
use muster_core::admission::Defaults;
use muster_core::admission::guard::{Keepers, Rules, Wish};
use muster_core::cluster::Scope;
use muster_core::gang::{self, Provider};
use muster_core::owner::{controller_uid, is_controlled_by};
use muster_core::placement::effects::Effects;

use crate::caches::{Caches, SetRef};
use crate::policies::admits;
use crate::webhook::Lookup;

/// The caches, and the API server for what they don't have yet.
pub(crate) struct FromCaches {
    pub(crate) client: Client,
    pub(crate) caches: Arc<Caches>,
    pub(crate) defaults: Defaults,
    pub(crate) guard: Rules,
}

impl FromCaches {
    /// UID of the leader that owns the worker StatefulSet with this name and UID; `None` when there is no such StatefulSet.
    async fn leader_of(&self, namespace: &str, name: &str, uid: &str) -> anyhow::Result<Option<String>> {
        let is_meant = |object: &StatefulSet| object.metadata.uid.as_deref() == Some(uid);
        let object = match self.caches.stateful_sets.get(namespace, name).filter(|object| is_meant(object)) {
            Some(object) => Some(object),
            None => Api::<StatefulSet>::namespaced(self.client.clone(), namespace).get_opt(name).await?.map(Arc::new),
        };
        let object = object.filter(|object| is_meant(object));
        Ok(object.and_then(|object| controller_uid(&object.metadata).map(str::to_owned)))
    }
}

impl Lookup for FromCaches {
    fn set(&self, namespace: &str, name: &str) -> Option<Arc<LeaderWorkerSet>> {
        self.caches.sets.get(&SetRef::new(name).within(namespace))
    }

    async fn fetch_set(&self, namespace: &str, name: &str) -> anyhow::Result<Option<Arc<LeaderWorkerSet>>> {
        let api: Api<LeaderWorkerSet> = Api::namespaced(self.client.clone(), namespace);
        Ok(api.get_opt(name).await?.map(Arc::new))
    }

    async fn leader_set(&self, set: &LeaderWorkerSet) -> anyhow::Result<Option<Arc<StatefulSet>>> {
        let (namespace, name) = (set.set_namespace(), set.set_name());
        let found = match self.caches.stateful_sets.get(namespace, name) {
            Some(found) => Some(found),
            None => Api::<StatefulSet>::namespaced(self.client.clone(), namespace).get_opt(name).await?.map(Arc::new),
        };
        Ok(found.filter(|found| is_controlled_by(&found.metadata, set.metadata.uid.as_deref())))
    }

    fn sets(&self, namespace: &str) -> Vec<Arc<LeaderWorkerSet>> {
        let mut sets = self.caches.sets.state();
        sets.retain(|set| set.set_namespace() == namespace);
        sets
    }

    fn guard(&self) -> Rules {
        self.guard
    }

    fn keepers(&self) -> Option<Arc<Keepers>> {
        self.caches.wanted.all()
    }

    async fn fetch_keepers(&self, namespace: &str) -> anyhow::Result<Arc<Keepers>> {
        let api: Api<LeaderWorkerSet> = match self.guard.scope {
            Scope::Namespace => Api::namespaced(self.client.clone(), namespace),
            Scope::Cluster => Api::all(self.client.clone()),
        };
        let mut keepers = Keepers::default();
        for set in api.list(&ListParams::default()).await? {
            keepers.put(set.set_namespace(), set.set_name(), Wish::of(&set));
        }
        Ok(Arc::new(keepers))
    }

    fn node_label_exists(&self, key: &str) -> Option<bool> {
        self.caches.index().has_label(key)
    }

    fn namespace_annotations(&self, namespace: &str) -> Option<BTreeMap<String, String>> {
        self.caches.namespaces.get("", namespace).map(|namespace| namespace.metadata.annotations.clone().unwrap_or_default())
    }

    async fn fetch_namespace_annotations(&self, namespace: &str) -> anyhow::Result<BTreeMap<String, String>> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        Ok(api.get_opt(namespace).await?.and_then(|namespace| namespace.metadata.annotations).unwrap_or_default())
    }

    fn defaults(&self) -> Defaults {
        self.defaults.clone()
    }

    fn prepared(&self, namespace: &str, policies: &[String]) -> Effects {
        let labels = self.caches.namespace_labels(namespace);
        let said = policies.iter().filter_map(|name| {
            let policy = self.caches.placement_policies.get("", name).filter(|policy| admits(policy.policy(), &labels))?;
            serde_json::from_value(policy.status.as_ref()?.active.as_ref()?.effects.clone()?).ok()
        });
        Effects::of_chain(said)
    }

    async fn gangs(&self) -> Option<Provider> {
        let groups = self.caches.pod_groups.as_ref()?;
        match groups.gangs().provider {
            Provider::Volcano => Some(Provider::Volcano),
            Provider::Kubernetes => groups.are_served().await.then_some(Provider::Kubernetes),
        }
    }

    async fn leaders_pod_group(&self, namespace: &str, leader: &str, owner: Option<&str>) -> anyhow::Result<Option<String>> {
        let wanted = match owner {
            None => None,
            Some(owner) => match self.leader_of(namespace, leader, owner).await? {
                // The worker's StatefulSet is gone, and the worker will be soon.
                None => return Ok(None),
                found => found,
            },
        };
        let is_wanted = |pod: &Pod| wanted.is_none() || pod.metadata.uid == wanted;
        let pod = match self.caches.pods.get(namespace, leader).filter(|pod| wanted.is_some() && is_wanted(pod)) {
            Some(pod) => Some(pod),
            None => Api::<Pod>::namespaced(self.client.clone(), namespace).get_opt(leader).await?.map(Arc::new),
        };
        Ok(pod.filter(|pod| is_wanted(pod)).and_then(|pod| gang::own_name(&pod).map(str::to_owned)))
    }
}
