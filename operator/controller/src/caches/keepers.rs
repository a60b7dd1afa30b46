//! Which sets want domains for themselves: read for every pod on its way in, so that no pod waits for a look through all sets.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use muster_api::LeaderWorkerSet;
use muster_core::admission::guard::{Keepers, Wish};

/// The sets of the cluster that want domains, kept up by the watch of sets.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    now: RwLock<Arc<Keepers>>,
    complete: AtomicBool,
}

impl Wanted {
    /// All of them; `None` before the first list is complete.
    pub(crate) fn all(&self) -> Option<Arc<Keepers>> {
        let known = self.complete.load(Ordering::Acquire);
        known.then(|| self.now.read().unwrap_or_else(PoisonError::into_inner).clone())
    }

    pub(super) fn completed(&self) {
        self.complete.store(true, Ordering::Release);
    }

    pub(super) fn put(&self, set: &LeaderWorkerSet) {
        self.note(set.set_namespace(), set.set_name(), Wish::of(set));
    }

    pub(super) fn take(&self, namespace: &str, name: &str) {
        self.note(namespace, name, Wish::default());
    }

    fn note(&self, namespace: &str, name: &str, wish: Wish) {
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        // Most events of sets change their status only.
        if now.get(namespace, name).cloned().unwrap_or_default() != wish {
            Arc::make_mut(&mut now).put(namespace, name, wish);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(level: &str) -> LeaderWorkerSet {
        let annotations = json!({ "leaderworkerset.sigs.k8s.io/exclusive-topology": level });
        let template = json!({ "workerTemplate": { "spec": { "containers": [] } } });
        let metadata = json!({ "name": "serve", "namespace": "team", "annotations": annotations });
        serde_json::from_value(json!({ "metadata": metadata, "spec": { "leaderWorkerTemplate": template } })).unwrap()
    }

    #[test]
    fn what_a_set_wants_is_known_from_the_end_of_the_first_list_to_the_end_of_the_set() {
        let wanted = Wanted::default();
        wanted.put(&set("rack"));
        assert_eq!(wanted.all(), None);
        wanted.completed();
        let of_set = || wanted.all().and_then(|all| all.get("team", "serve").and_then(|wish| wish.groups.clone()));
        assert_eq!(of_set().as_deref(), Some("rack"));
        wanted.put(&set("zone"));
        assert_eq!(of_set().as_deref(), Some("zone"));
        wanted.put(&set(""));
        assert_eq!(wanted.all().as_deref(), Some(&Keepers::default()));
        wanted.put(&set("rack"));
        wanted.take("team", "serve");
        assert_eq!(wanted.all().as_deref(), Some(&Keepers::default()));
    }
}
