//! What admission asks about the cluster, answered from this replica's caches or past them.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};
use muster_api::LeaderWorkerSet;
use muster_core::admission::Defaults;

use crate::caches::{Caches, SetRef};
use crate::webhook::Lookup;

/// The caches, and the API server for what they don't have yet.
pub(crate) struct FromCaches {
    pub(crate) client: Client,
    pub(crate) caches: Arc<Caches>,
    pub(crate) defaults: Defaults,
}

impl Lookup for FromCaches {
    fn set(&self, namespace: &str, name: &str) -> Option<Arc<LeaderWorkerSet>> {
        self.caches.sets.get(&SetRef::new(name).within(namespace))
    }

    async fn fetch_set(&self, namespace: &str, name: &str) -> anyhow::Result<Option<Arc<LeaderWorkerSet>>> {
        let api: Api<LeaderWorkerSet> = Api::namespaced(self.client.clone(), namespace);
        Ok(api.get_opt(name).await?.map(Arc::new))
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
}
