//! What this replica knows of the cluster: one watch per kind, objects pruned to what is read.
//!
//! ```text
//!  watch(kind) ─► prune ─► Shelf (by name, by set)
//!                      └─► Index (nodes, pods)      ─► sets to reconcile
//! ```
//! Every replica follows everything, because every replica admits; only the lease holder reads the sets to reconcile.

mod keepers;
mod pod_groups;
pub(crate) mod prune;
mod shelf;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolumeClaim, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::Event;
use kube::{Api, Client, Resource};
use muster_api::names::label;
use muster_api::{LeaderWorkerSet, PlacementPolicy, StartupPolicy};
use muster_core::cluster::Index;
use muster_core::gang::Provider;
use tokio::sync::mpsc;

use keepers::Wanted;
pub(crate) use pod_groups::{PodGroups, resource as pod_group_resource};
pub(crate) use shelf::Shelf;
use watch::{Sink, follow};

/// A set to reconcile.
pub(crate) type SetRef = ObjectRef<LeaderWorkerSet>;

/// The caches of one replica.
#[derive(Debug)]
pub(crate) struct Caches {
    /// Sets, for the controller.
    pub(crate) sets: Store<LeaderWorkerSet>,
    /// Domains that sets want for themselves.
    pub(crate) wanted: Wanted,
    /// Namespaces.
    pub(crate) namespaces: Shelf<Namespace>,
    /// StatefulSets.
    pub(crate) stateful_sets: Shelf<StatefulSet>,
    /// Services.
    pub(crate) services: Shelf<Service>,
    /// ControllerRevisions.
    pub(crate) revisions: Shelf<ControllerRevision>,
    /// Volume claims of sets.
    pub(crate) claims: Shelf<PersistentVolumeClaim>,
    /// Pods that belong to sets.
    pub(crate) pods: Shelf<Pod>,
    /// Placement policies.
    pub(crate) placement_policies: Shelf<PlacementPolicy>,
    /// Startup policies.
    pub(crate) startup_policies: Shelf<StartupPolicy>,
    /// PodGroups, if gang scheduling is on.
    pub(crate) pod_groups: Option<PodGroups>,
    /// Since when this replica decides.
    pub(crate) deciding_since: OnceLock<Timestamp>,
    index: Mutex<Index>,
    index_moved: tokio::sync::watch::Sender<u64>,
    policies_moved: tokio::sync::watch::Sender<u64>,
    due: mpsc::UnboundedSender<SetRef>,
}

/// The caches, the sets that their events make due, and the flag of every watch's first list.
pub(crate) struct Started {
    pub(crate) caches: Arc<Caches>,
    pub(crate) due: mpsc::UnboundedReceiver<SetRef>,
    synced: Vec<tokio::sync::watch::Receiver<bool>>,
}

impl std::fmt::Debug for Started {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Started").field("watches", &self.synced.len()).finish_non_exhaustive()
    }
}

impl Started {
    /// Waits until every watch has listed once.
    pub(crate) async fn synced(&mut self) {
        if let Some(groups) = &self.caches.pod_groups {
            groups.synced().await;
        }
        for watch in &mut self.synced {
            // An error means that the watch has ended, which only happens when the process does.
            let _ = watch.wait_for(|synced| *synced).await;
        }
        self.caches.wanted.completed();
    }
}

impl Caches {
    /// Starts all watches; that of PodGroups only for the `gangs` of a scheduler.
    pub(crate) fn start(client: &Client, gangs: Option<Provider>) -> Started {
        let (sets, writer) = reflector::store();
        let (due, due_receiver) = mpsc::unbounded_channel();
        let caches = Arc::new(Self {
            sets,
            wanted: Wanted::default(),
            namespaces: Shelf::default(),
            stateful_sets: Shelf::default(),
            services: Shelf::default(),
            revisions: Shelf::default(),
            claims: Shelf::default(),
            pods: Shelf::default(),
            placement_policies: Shelf::default(),
            startup_policies: Shelf::default(),
            pod_groups: gangs.map(PodGroups::new),
            deciding_since: OnceLock::new(),
            index: Mutex::new(Index::new()),
            index_moved: tokio::sync::watch::Sender::new(0),
            policies_moved: tokio::sync::watch::Sender::new(0),
            due,
        });
        let mut synced = Vec::new();
        let mut spawn = Spawner { caches: &caches, client, synced: &mut synced };
        spawn.start(|caches| Sets::new(caches, writer));
        spawn.start(|caches| Nodes { caches });
        spawn.start(|caches| Pods { caches });
        spawn.start(|caches| StatefulSets { caches });
        spawn.start(|caches| Kept { caches, shelf: |caches| &caches.services, slim: prune::service, then: name_due });
        spawn.start(|caches| Kept { caches, shelf: |caches| &caches.revisions, slim: prune::revision, then: |_, _| {} });
        spawn.start_labelled(label::SET_NAME, |caches| Kept {
            caches,
            shelf: |caches| &caches.claims,
            slim: prune::claim,
            then: owner_due,
        });
        spawn.start(|caches| Kept { caches, shelf: |caches| &caches.namespaces, slim: |object| object, then: residents_due });
        spawn.start(|caches| Kept {
            caches,
            shelf: |caches| &caches.placement_policies,
            slim: |object| object,
            then: Caches::policy_moved,
        });
        spawn.start(|caches| Kept {
            caches,
            shelf: |caches| &caches.startup_policies,
            slim: |object| object,
            then: Caches::policy_moved,
        });
        tokio::spawn(pod_groups::follow(client.clone(), caches.clone()));
        Started { caches, due: due_receiver, synced }
    }

    /// The cluster's index. Keep the guard short: every node and pod event waits for it.
    pub(crate) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes whenever placement may find something new.
    pub(crate) fn index_moves(&self) -> tokio::sync::watch::Receiver<u64> {
        self.index_moved.subscribe()
    }

    /// Changes whenever a policy object does.
    pub(crate) fn policy_moves(&self) -> tokio::sync::watch::Receiver<u64> {
        self.policies_moved.subscribe()
    }

    /// Asks for a reconcile of a set.
    pub(crate) fn make_due(&self, set: SetRef) {
        // The receiver lives as long as the process; a replica that doesn't reconcile lets the refs wait.
        let _ = self.due.send(set);
    }

    /// Annotations of a namespace; none for one that is not known.
    pub(crate) fn namespace_annotations(&self, namespace: &str) -> BTreeMap<String, String> {
        let object = self.namespaces.get("", namespace);
        object.and_then(|object| object.metadata.annotations.clone()).unwrap_or_default()
    }

    /// Labels of a namespace; none for one that is not known.
    pub(crate) fn namespace_labels(&self, namespace: &str) -> BTreeMap<String, String> {
        let object = self.namespaces.get("", namespace);
        object.and_then(|object| object.metadata.labels.clone()).unwrap_or_default()
    }

    /// Takes a pod that the API server just answered with, ahead of the watch.
    pub(crate) fn put_pod(&self, pod: Pod) {
        let pod = prune::pod(pod);
        self.update_index(|index| index.apply_pod(&pod));
        if shelf::set_of(&pod.metadata).is_some() {
            self.pods.put(pod);
        }
    }

    /// Takes a StatefulSet likewise.
    pub(crate) fn put_stateful_set(&self, object: StatefulSet) {
        let object = prune::stateful_set(object);
        self.update_index(|index| index.apply_worker_set(&object));
        self.stateful_sets.put(object);
    }

    /// Changes the index, and wakes those who wait for room if that changed what it says.
    pub(crate) fn update_index<T>(&self, change: impl FnOnce(&mut Index) -> T) -> T {
        let (result, generation) = {
            let mut index = self.index();
            index.set_time(Timestamp::now());
            let result = change(&mut index);
            (result, index.generation())
        };
        self.index_moved.send_if_modified(|known| std::mem::replace(known, generation) != generation);
        result
    }

    fn policy_moved(&self, _: &ObjectMeta) {
        self.policies_moved.send_modify(|moves| *moves += 1);
    }
}

struct Spawner<'a> {
    caches: &'a Arc<Caches>,
    client: &'a Client,
    synced: &'a mut Vec<tokio::sync::watch::Receiver<bool>>,
}

impl Spawner<'_> {
    fn start<K, S>(&mut self, sink: impl FnOnce(Arc<Caches>) -> S)
    where
        K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
        S: Sink<K>,
    {
        self.start_labelled("", sink);
    }

    fn start_labelled<K, S>(&mut self, label: &'static str, sink: impl FnOnce(Arc<Caches>) -> S)
    where
        K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
        S: Sink<K>,
    {
        let (synced, receiver) = tokio::sync::watch::channel(false);
        self.synced.push(receiver);
        tokio::spawn(follow(Api::<K>::all(self.client.clone()), label, sink(self.caches.clone()), synced));
    }
}

/// The set that an object belongs to is due.
fn owner_due(caches: &Caches, meta: &ObjectMeta) {
    if let Some(set) = shelf::set_of(meta) {
        due_if_there(caches, meta, &set);
    }
}

/// The set that an object belongs to is due, and so are sets whose objects may want its name: `a` and `a-1` want `a-1`.
fn name_due(caches: &Caches, meta: &ObjectMeta) {
    let name = meta.name.as_deref().unwrap_or_default();
    let parent = muster_api::names::parent_and_ordinal(name).map(|(parent, _)| parent);
    let label = shelf::set_of(meta);
    let sets: BTreeSet<&str> = [Some(name), parent, label.as_deref()].into_iter().flatten().collect();
    sets.into_iter().for_each(|set| due_if_there(caches, meta, set));
}

fn due_if_there(caches: &Caches, meta: &ObjectMeta, set: &str) {
    let set = SetRef::new(set).within(meta.namespace.as_deref().unwrap_or_default());
    if caches.sets.get(&set).is_some() {
        caches.make_due(set);
    }
}

/// A namespace may choose policies for its sets.
fn residents_due(caches: &Caches, meta: &ObjectMeta) {
    let of_namespace = |set: &Arc<LeaderWorkerSet>| set.metadata.namespace == meta.name;
    for set in caches.sets.state().into_iter().filter(of_namespace) {
        caches.make_due(SetRef::from_obj(&*set));
    }
}

/// A kind that is kept on a shelf and nothing more.
struct Kept<K> {
    caches: Arc<Caches>,
    shelf: fn(&Caches) -> &Shelf<K>,
    slim: fn(K) -> K,
    then: fn(&Caches, &ObjectMeta),
}

impl<K: Resource + Send + Sync + 'static> Sink<K> for Kept<K> {
    fn put(&mut self, object: K) {
        let object = (self.slim)(object);
        let meta = object.meta().clone();
        (self.shelf)(&self.caches).put(object);
        (self.then)(&self.caches, &meta);
    }

    fn take(&mut self, namespace: &str, name: &str) {
        if let Some(object) = (self.shelf)(&self.caches).take(namespace, name) {
            (self.then)(&self.caches, object.meta());
        }
    }
}

struct Sets {
    caches: Arc<Caches>,
    writer: Writer<LeaderWorkerSet>,
}

impl Sets {
    fn new(caches: Arc<Caches>, mut writer: Writer<LeaderWorkerSet>) -> Self {
        // The store counts as ready from the start; nobody reads it before `Started::synced`.
        writer.apply_watcher_event(&Event::Init);
        writer.apply_watcher_event(&Event::InitDone);
        Self { caches, writer }
    }
}

impl Sink<LeaderWorkerSet> for Sets {
    fn put(&mut self, mut set: LeaderWorkerSet) {
        set.metadata.managed_fields = None;
        let due = SetRef::from_obj(&set);
        self.caches.wanted.put(&set);
        self.writer.apply_watcher_event(&Event::Apply(set));
        self.caches.make_due(due);
    }

    fn take(&mut self, namespace: &str, name: &str) {
        let gone = SetRef::new(name).within(namespace);
        self.caches.wanted.take(namespace, name);
        if let Some(set) = self.caches.sets.get(&gone) {
            self.writer.apply_watcher_event(&Event::Delete((*set).clone()));
        }
        // Domains of its groups stay held by their pods until the last one is gone.
        self.caches.update_index(|index| index.replace_holdings_of_set(namespace, name, Vec::new()));
        self.caches.make_due(gone);
    }
}

struct Nodes {
    caches: Arc<Caches>,
}

impl Sink<Node> for Nodes {
    fn put(&mut self, node: Node) {
        let node = prune::node(node);
        self.caches.update_index(|index| index.apply_node(&node));
    }

    fn take(&mut self, _: &str, name: &str) {
        self.caches.update_index(|index| index.remove_node(name));
    }
}

struct StatefulSets {
    caches: Arc<Caches>,
}

impl Sink<StatefulSet> for StatefulSets {
    fn put(&mut self, object: StatefulSet) {
        let meta = object.metadata.clone();
        self.caches.put_stateful_set(object);
        name_due(&self.caches, &meta);
    }

    fn take(&mut self, namespace: &str, name: &str) {
        self.caches.update_index(|index| index.remove_worker_set(namespace, name));
        if let Some(object) = self.caches.stateful_sets.take(namespace, name) {
            name_due(&self.caches, &object.metadata);
        }
    }
}

struct Pods {
    caches: Arc<Caches>,
}

impl Sink<Pod> for Pods {
    fn put(&mut self, pod: Pod) {
        let meta = pod.metadata.clone();
        self.caches.put_pod(pod);
        if shelf::set_of(&meta).is_some() {
            owner_due(&self.caches, &meta);
        }
    }

    fn take(&mut self, namespace: &str, name: &str) {
        self.caches.update_index(|index| index.remove_pod(namespace, name));
        if let Some(pod) = self.caches.pods.take(namespace, name) {
            owner_due(&self.caches, &pod.metadata);
        }
    }
}
