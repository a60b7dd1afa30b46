//! Watches that no two groups are ever in one domain.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use anyhow::Result;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::ListParams;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, ResourceExt};
use muster_api::names::label;
use muster_e2e::Site;
use tokio::task::JoinHandle;

/// A watch over a site's pods that remembers every moment at which two groups shared a domain.
pub(crate) struct Exclusivity {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    moments: usize,
    faults: BTreeSet<String>,
}

impl Exclusivity {
    /// Watches the groups of all sets whose names begin with `prefix`, from now on. The site's nodes must be there already.
    pub(crate) async fn watch(site: &Site, prefix: &str) -> Result<Self> {
        let nodes = Api::<Node>::all(site.client()).list(&ListParams::default()).await?.items;
        let domain = |node: Node| Some((node.name_any(), node.labels().get(site.key())?.clone()));
        let domains: HashMap<String, String> = nodes.into_iter().filter_map(domain).collect();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (notes, key, prefix) = (seen.clone(), site.key().to_owned(), prefix.to_owned());
        let mut events = watcher(site.api::<Pod>(), watcher::Config::default()).boxed();
        let task = tokio::spawn(async move {
            let mut pods: HashMap<String, (String, String)> = HashMap::new();
            while let Some(event) = events.next().await {
                match event {
                    Ok(Event::Apply(pod) | Event::InitApply(pod)) => match place(&pod, &key, &domains, &prefix) {
                        Some(place) => drop(pods.insert(pod.name_any(), place)),
                        None => drop(pods.remove(&pod.name_any())),
                    },
                    Ok(Event::Delete(pod)) => drop(pods.remove(&pod.name_any())),
                    Ok(Event::Init | Event::InitDone) | Err(_) => {}
                }
                let mut seen = notes.lock().unwrap();
                seen.moments += 1;
                seen.faults.extend(shared(&pods));
            }
        });
        Ok(Self { seen, task })
    }

    /// How many moments were looked at; an error names the domains that were shared.
    pub(crate) fn finish(self) -> Result<usize> {
        self.task.abort();
        let seen = self.seen.lock().unwrap();
        anyhow::ensure!(seen.faults.is_empty(), "domains were shared: {:#?}", seen.faults);
        Ok(seen.moments)
    }
}

/// The group of a pod and the domain that it is bound in or sent to.
fn place(pod: &Pod, key: &str, domains: &HashMap<String, String>, prefix: &str) -> Option<(String, String)> {
    let set = pod.labels().get(label::SET_NAME).filter(|set| set.starts_with(prefix))?;
    let group = format!("{set}/{}", pod.labels().get(label::GROUP_INDEX)?);
    let spec = pod.spec.as_ref()?;
    let bound = spec.node_name.as_ref().and_then(|node| domains.get(node));
    let sent = || spec.node_selector.as_ref()?.get(key);
    Some((group, bound.or_else(sent)?.clone()))
}

fn shared(pods: &HashMap<String, (String, String)>) -> Vec<String> {
    let mut groups: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (group, domain) in pods.values() {
        groups.entry(domain).or_default().insert(group);
    }
    groups.into_iter().filter(|(_, groups)| groups.len() > 1).map(|(domain, groups)| format!("{domain}: {groups:?}")).collect()
}
