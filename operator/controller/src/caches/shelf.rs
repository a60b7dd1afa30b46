//! The objects of one kind, found by name or by the set they belong to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use muster_api::names::label;

/// `namespace` and `name`, in that order.
type Key = (String, String);

#[derive(Debug)]
struct Content<K> {
    by_name: HashMap<Key, Arc<K>>,
    by_set: HashMap<Key, BTreeSet<String>>,
}

/// A cache of one kind. Written by its watch and, right after a write of ours, with what the API server answered.
#[derive(Debug)]
pub(crate) struct Shelf<K> {
    content: RwLock<Content<K>>,
}

impl<K> Default for Shelf<K> {
    fn default() -> Self {
        Self { content: RwLock::new(Content { by_name: HashMap::new(), by_set: HashMap::new() }) }
    }
}

impl<K: Resource> Shelf<K> {
    /// Puts an object in, unless a newer one is there already: an answer to a write of ours overtakes the watch.
    pub(crate) fn put(&self, object: K) {
        let key = key_of(object.meta());
        let set = set_of(object.meta());
        let mut content = self.content.write().unwrap_or_else(PoisonError::into_inner);
        if content.by_name.get(&key).is_some_and(|present| is_newer(present.meta(), object.meta())) {
            return;
        }
        let previous = content.by_name.insert(key.clone(), Arc::new(object)).and_then(|previous| set_of(previous.meta()));
        if previous != set {
            content.unlink(&key, previous);
        }
        if let Some(set) = set {
            content.by_set.entry((key.0, set)).or_default().insert(key.1);
        }
    }

    /// Takes an object out and hands it back.
    pub(crate) fn take(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let key = (namespace.to_owned(), name.to_owned());
        let mut content = self.content.write().unwrap_or_else(PoisonError::into_inner);
        let object = content.by_name.remove(&key)?;
        let set = set_of(object.meta());
        content.unlink(&key, set);
        Some(object)
    }

    /// The object of this name.
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let content = self.content.read().unwrap_or_else(PoisonError::into_inner);
        content.by_name.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// Every object, in no particular order.
    pub(crate) fn all(&self) -> Vec<Arc<K>> {
        self.content.read().unwrap_or_else(PoisonError::into_inner).by_name.values().cloned().collect()
    }

    /// The objects that carry the set's name label, by name.
    pub(crate) fn of_set(&self, namespace: &str, set: &str) -> BTreeMap<String, Arc<K>> {
        let content = self.content.read().unwrap_or_else(PoisonError::into_inner);
        let names = content.by_set.get(&(namespace.to_owned(), set.to_owned()));
        let found = names.into_iter().flatten().filter_map(|name| {
            let object = content.by_name.get(&(namespace.to_owned(), name.clone()))?;
            Some((name.clone(), object.clone()))
        });
        found.collect()
    }
}

impl<K> Content<K> {
    fn unlink(&mut self, key: &Key, set: Option<String>) {
        let Some(set) = set else { return };
        let owner = (key.0.clone(), set);
        if let Some(names) = self.by_set.get_mut(&owner) {
            names.remove(&key.1);
            if names.is_empty() {
                self.by_set.remove(&owner);
            }
        }
    }
}

fn key_of(meta: &ObjectMeta) -> Key {
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

/// The set that an object says it belongs to.
pub(crate) fn set_of(meta: &ObjectMeta) -> Option<String> {
    meta.labels.as_ref()?.get(label::SET_NAME).filter(|set| !set.is_empty()).cloned()
}

/// Whether `present` is a later state of the same object. Resource versions compare as numbers since Kubernetes 1.35
/// (KEP-5504); where they aren't numbers, the last to arrive wins.
fn is_newer(present: &ObjectMeta, arriving: &ObjectMeta) -> bool {
    let version = |meta: &ObjectMeta| meta.resource_version.as_ref()?.parse::<u128>().ok();
    match (version(present), version(arriving)) {
        (Some(present_version), Some(arriving_version)) => present.uid == arriving.uid && present_version > arriving_version,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    fn pod(name: &str, set: &str, uid: &str, version: &str) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.namespace = Some("team".to_owned());
        pod.metadata.name = Some(name.to_owned());
        pod.metadata.uid = Some(uid.to_owned());
        pod.metadata.resource_version = Some(version.to_owned());
        pod.metadata.labels = Some([(label::SET_NAME.to_owned(), set.to_owned())].into());
        pod
    }

    #[test]
    fn an_older_state_of_the_same_object_does_not_replace_a_newer_one() {
        let shelf = Shelf::default();
        shelf.put(pod("a-0", "a", "u1", "12"));
        shelf.put(pod("a-0", "a", "u1", "9"));
        assert_eq!(shelf.get("team", "a-0").unwrap().metadata.resource_version.as_deref(), Some("12"));
        shelf.put(pod("a-0", "a", "u2", "10"));
        assert_eq!(shelf.get("team", "a-0").unwrap().metadata.uid.as_deref(), Some("u2"));
    }

    #[test]
    fn objects_are_found_by_the_set_their_label_names_now() {
        let shelf = Shelf::default();
        shelf.put(pod("a-0", "a", "u1", "1"));
        shelf.put(pod("a-1", "a", "u2", "2"));
        shelf.put(pod("a-0", "b", "u1", "3"));
        assert_eq!(shelf.of_set("team", "a").keys().collect::<Vec<_>>(), ["a-1"]);
        assert_eq!(shelf.of_set("team", "b").keys().collect::<Vec<_>>(), ["a-0"]);
        shelf.take("team", "a-1");
        assert!(shelf.of_set("team", "a").is_empty());
    }
}
