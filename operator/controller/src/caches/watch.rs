//! One watch: list, follow, notice what vanished while the connection was down.

use std::collections::HashSet;
use std::fmt::Debug;

use futures::TryStreamExt as _;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

/// What becomes of the objects that a watch brings.
pub(crate) trait Sink<K>: Send + 'static {
    /// The object exists, like this.
    fn put(&mut self, object: K);
    /// The object is gone.
    fn take(&mut self, namespace: &str, name: &str);
}

/// Follows the objects of one kind that carry a label (all, for an empty one) for ever. Turns `synced` true once the first list is
/// complete.
pub(crate) async fn follow<K>(api: Api<K>, label: &'static str, mut sink: impl Sink<K>, synced: watch::Sender<bool>)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let kind = K::kind(&()).into_owned();
    let mut present: HashSet<(String, String)> = HashSet::new();
    let mut listed: HashSet<(String, String)> = HashSet::new();
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default().labels(label)).default_backoff());
    loop {
        match events.try_next().await {
            Ok(Some(watcher::Event::Init)) => listed.clear(),
            Ok(Some(watcher::Event::InitApply(object))) => {
                listed.insert(key(&object));
                sink.put(object);
            }
            Ok(Some(watcher::Event::InitDone)) => {
                for (namespace, name) in present.difference(&listed) {
                    sink.take(namespace, name);
                }
                present = std::mem::take(&mut listed);
                synced.send_replace(true);
            }
            Ok(Some(watcher::Event::Apply(object))) => {
                present.insert(key(&object));
                sink.put(object);
            }
            Ok(Some(watcher::Event::Delete(object))) => {
                let (namespace, name) = key(&object);
                sink.take(&namespace, &name);
                present.remove(&(namespace, name));
            }
            // The watcher repairs itself with back-off; what it missed comes with the next list.
            Err(error) => tracing::warn!(kind, %error, "watch interrupted"),
            Ok(None) => return,
        }
    }
}

fn key<K: Resource<DynamicType = ()>>(object: &K) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}
