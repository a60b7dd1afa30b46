//! PodGroups of the gang scheduler, watched while there is such a kind of object: it comes with the scheduler, or with a feature gate
//! of the API server, and may do so long after the operator started.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use muster_core::gang::{Gangs, PodGroup, Provider};
use tokio::sync::watch;

use super::{Caches, SetRef, Shelf};

/// How often to ask for an API that isn't there.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Whether the API server serves a provider's PodGroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Served {
    /// It has not answered yet.
    Unknown,
    No,
    /// It does, and they are being listed.
    Listing,
    /// It does, and they are all in the cache.
    Listed,
}

/// The PodGroups of one provider.
#[derive(Debug)]
pub(crate) struct PodGroups {
    provider: Provider,
    served: watch::Sender<Served>,
    shelf: Shelf<DynamicObject>,
}

impl PodGroups {
    pub(super) fn new(provider: Provider) -> Self {
        Self { provider, served: watch::Sender::new(Served::Unknown), shelf: Shelf::default() }
    }

    /// What a reconcile has to know.
    pub(crate) fn gangs(&self) -> Gangs {
        Gangs { provider: self.provider, served: matches!(*self.served.borrow(), Served::Listing | Served::Listed) }
    }

    /// Whether the API server serves them; waits for its first answer.
    pub(crate) async fn are_served(&self) -> bool {
        self.wait_for(|served| served != Served::Unknown).await != Served::No
    }

    /// Waits until the PodGroups are in the cache, or it is known that there are none.
    pub(crate) async fn synced(&self) {
        self.wait_for(|served| matches!(served, Served::No | Served::Listed)).await;
    }

    async fn wait_for(&self, wanted: impl Fn(Served) -> bool) -> Served {
        // The sender is this very object, so the wait only ends with what was wanted.
        self.served.subscribe().wait_for(|served| wanted(*served)).await.map_or(Served::No, |served| *served)
    }

    /// The PodGroups of a set, by name.
    pub(crate) fn of_set(&self, namespace: &str, set: &str) -> impl Iterator<Item = (String, Arc<PodGroup>)> {
        self.shelf.of_set(namespace, set).into_iter().map(|(name, object)| (name, view(&object)))
    }

    /// The PodGroup of this name.
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Arc<PodGroup>> {
        self.shelf.get(namespace, name).map(|object| view(&object))
    }

    /// Takes a PodGroup that the API server just answered with, ahead of the watch.
    pub(crate) fn put(&self, mut object: DynamicObject) {
        for entry in object.metadata.managed_fields.iter_mut().flatten() {
            entry.fields_v1 = None; // Who made it is all that is asked.
        }
        if let Some(fields) = object.data.as_object_mut() {
            fields.remove("status");
        }
        self.shelf.put(object);
    }
}

fn view(object: &DynamicObject) -> Arc<PodGroup> {
    let spec = object.data.get("spec").cloned().unwrap_or_default();
    Arc::new(PodGroup { metadata: object.metadata.clone(), spec })
}

/// The kind of a provider's PodGroups.
pub(crate) fn resource(api_version: &str) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, "PodGroup"), "podgroups")
}

/// Follows a provider's PodGroups for ever, whether they are served just now or not.
pub(super) async fn follow(client: Client, caches: Arc<Caches>) {
    let Some(groups) = &caches.pod_groups else { return };
    let api_version = groups.provider.api_version();
    loop {
        match are_served(&client, api_version).await {
            Ok(true) => {
                tracing::info!(api_version, "gang scheduling: PodGroups are served");
                groups.served.send_replace(Served::Listing);
                while_served(&client, &caches, groups).await;
            }
            Ok(false) => {
                if groups.served.send_replace(Served::No) != Served::No {
                    let remedy = groups.provider.remedy();
                    tracing::warn!(api_version, "gang scheduling is on, but this cluster does not serve its PodGroups: {remedy}");
                    groups.forget();
                    every_set_due(&caches);
                }
            }
            Err(error) => tracing::warn!(api_version, %error, "could not find out whether PodGroups are served"),
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

impl PodGroups {
    fn forget(&self) {
        for object in self.shelf.all() {
            self.shelf.take(&object.namespace().unwrap_or_default(), &object.name_any());
        }
    }
}

async fn are_served(client: &Client, api_version: &str) -> kube::Result<bool> {
    match client.list_api_group_resources(api_version).await {
        Ok(list) => Ok(list.resources.iter().any(|resource| resource.name == "podgroups")),
        // An unknown group is answered in plain text, so the code is all that there is to go by.
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Follows the PodGroups until the API server doesn't serve them any more.
async fn while_served(client: &Client, caches: &Caches, groups: &PodGroups) {
    let api_version = groups.provider.api_version();
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource(api_version));
    let mut listed = Vec::new();
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff());
    loop {
        match events.try_next().await {
            Ok(Some(watcher::Event::Init)) => listed.clear(),
            Ok(Some(watcher::Event::InitApply(object))) => listed.push(object),
            Ok(Some(watcher::Event::InitDone)) => {
                groups.forget();
                std::mem::take(&mut listed).into_iter().for_each(|object| groups.put(object));
                groups.served.send_replace(Served::Listed);
                every_set_due(caches);
            }
            Ok(Some(watcher::Event::Apply(object))) => {
                let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
                groups.put(object);
                make_due(caches, &namespace, &name);
            }
            Ok(Some(watcher::Event::Delete(object))) => {
                let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
                groups.shelf.take(&namespace, &name);
                make_due(caches, &namespace, &name);
            }
            Err(error) => {
                tracing::warn!(kind = "PodGroup", %error, "watch interrupted");
                if matches!(are_served(client, api_version).await, Ok(false)) {
                    return;
                }
            }
            Ok(None) => return,
        }
    }
}

/// The sets that a PodGroup of this name may matter to, whatever its labels say now: a name begins with that of its set and a dash.
fn make_due(caches: &Caches, namespace: &str, name: &str) {
    let sets = name.match_indices('-').map(|(dash, _)| SetRef::new(&name[..dash]).within(namespace));
    sets.filter(|set| caches.sets.get(set).is_some()).for_each(|set| caches.make_due(set));
}

fn every_set_due(caches: &Caches) {
    caches.sets.state().iter().for_each(|set| caches.make_due(SetRef::from_obj(&**set)));
}
