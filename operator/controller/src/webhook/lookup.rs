//! What admission asks about the cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use muster_api::LeaderWorkerSet;
use muster_core::admission::Defaults;
use muster_core::admission::guard::{Keepers, Rules};
use muster_core::gang::Provider;
use muster_core::placement::effects::Effects;

/// The cluster as admission sees it: this replica's caches first, the API server when they don't have it yet.
///
/// A set and its first leaders are created within milliseconds of each other, so it is normal that a cache does not have
/// the set when its pods arrive; `fetch_…` is for that moment and must read past the cache.
pub(crate) trait Lookup: Send + Sync + 'static {
    /// The set, if the cache has it.
    fn set(&self, namespace: &str, name: &str) -> Option<Arc<LeaderWorkerSet>>;

    /// The set as the API server has it now; `None` if there is none.
    fn fetch_set(&self, namespace: &str, name: &str)
    -> impl Future<Output = anyhow::Result<Option<Arc<LeaderWorkerSet>>>> + Send;

    /// The set's leader StatefulSet; `None` if there is none that is the set's own.
    fn leader_set(&self, set: &LeaderWorkerSet) -> impl Future<Output = anyhow::Result<Option<Arc<StatefulSet>>>> + Send;

    /// The sets of a namespace that the cache has.
    fn sets(&self, namespace: &str) -> Vec<Arc<LeaderWorkerSet>>;

    /// How domains that sets want for themselves are guarded.
    fn guard(&self) -> Rules;

    /// All sets that want domains for themselves, if the cache has them.
    fn keepers(&self) -> Option<Arc<Keepers>>;

    /// The same as the API server has it now, at least for the sets that a pod of `namespace` has to keep out of the way of.
    fn fetch_keepers(&self, namespace: &str) -> impl Future<Output = anyhow::Result<Arc<Keepers>>> + Send;

    /// Whether some node has this label. `None` while no node is known.
    fn node_label_exists(&self, key: &str) -> Option<bool>;

    /// The annotations of a namespace, if the cache has it.
    fn namespace_annotations(&self, namespace: &str) -> Option<BTreeMap<String, String>>;

    /// The annotations of a namespace as the API server has them now; empty if there is no such namespace.
    fn fetch_namespace_annotations(
        &self,
        namespace: &str,
    ) -> impl Future<Output = anyhow::Result<BTreeMap<String, String>>> + Send;

    /// The operator's default policies.
    fn defaults(&self) -> Defaults;

    /// What these placement policies give new pods of a namespace, as their objects say.
    fn prepared(&self, namespace: &str, policies: &[String]) -> Effects;

    /// Whose gangs new pods belong to; `None` while gang scheduling is off, or kube-scheduler's is not served.
    fn gangs(&self) -> impl Future<Output = Option<Provider>> + Send;

    /// The PodGroup of kube-scheduler's that the leader of a worker was admitted to. `owner` is the UID of the worker's StatefulSet:
    /// a leader that is not the one which owns that is another group's.
    fn leaders_pod_group(
        &self,
        namespace: &str,
        leader: &str,
        owner: Option<&str>,
    ) -> impl Future<Output = anyhow::Result<Option<String>>> + Send;
}
