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
        Self::begin(site, prefix, site.key().to_owned(), |_| Some(String::new())).await
    }

    /// Watches their subgroups in the site's racks.
    pub(crate) async fn watch_subgroups(site: &Site, prefix: &str) -> Result<Self> {
        let subgroup = |pod: &Pod| Some(format!(" subgroup {}", pod.labels().get(label::SUBGROUP_INDEX)?));
        Self::begin(site, prefix, site.rack_key(), subgroup).await
    }

    /// `part` names the part of its group that a pod is in; pods without one are not looked at.
    async fn begin(site: &Site, prefix: &str, key: String, part: fn(&Pod) -> Option<String>) -> Result<Self> {
        let nodes = Api::<Node>::all(site.client()).list(&ListParams::default()).await?.items;
        let domain = |node: Node| Some((node.name_any(), node.labels().get(&key)?.clone()));
        let domains: HashMap<String, String> = nodes.into_iter().filter_map(domain).collect();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (notes, prefix) = (seen.clone(), prefix.to_owned());
        let mut events = watcher(site.api::<Pod>(), watcher::Config::default()).boxed();
        let task = tokio::spawn(async move {
            let mut pods: HashMap<String, Member> = HashMap::new();
            while let Some(event) = events.next().await {
                match event {
                    Ok(Event::Apply(pod) | Event::InitApply(pod)) => match place(&pod, &key, &domains, &prefix, part) {
                        Some(place) => drop(pods.insert(pod.name_any(), place)),
                        None => drop(pods.remove(&pod.name_any())),
                    },
                    Ok(Event::Delete(pod)) => drop(pods.remove(&pod.name_any())),
                    // What went while the watch was broken is not told one by one.
                    Ok(Event::Init) => pods.clear(),
                    Ok(Event::InitDone) | Err(_) => {}
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

/// One pod of a group, in a domain.
struct Member {
    group: String,
    domain: String,
    /// For whoever has to find out how it came there.
    shown: String,
}

/// The group (and part of it) of a pod and the domain that it is bound in or sent to.
fn place(
    pod: &Pod,
    key: &str,
    domains: &HashMap<String, String>,
    prefix: &str,
    part: fn(&Pod) -> Option<String>,
) -> Option<Member> {
    let set = pod.labels().get(label::SET_NAME).filter(|set| set.starts_with(prefix))?;
    let group = format!("{set}/{}{}", pod.labels().get(label::GROUP_INDEX)?, part(pod)?);
    let spec = pod.spec.as_ref()?;
    let bound = spec.node_name.as_ref().and_then(|node| domains.get(node));
    let sent = || spec.node_selector.as_ref()?.get(key);
    let node = spec.node_name.as_deref().unwrap_or("no node");
    let (uid, leaves) = (pod.uid().unwrap_or_default(), pod.metadata.deletion_timestamp.is_some());
    let created = pod.creation_timestamp().map(|time| time.0.to_string()).unwrap_or_default();
    let shown = format!("{} ({uid}, created {created}) on {node}{}", pod.name_any(), if leaves { ", leaving" } else { "" });
    Some(Member { group, domain: bound.or_else(sent)?.clone(), shown })
}

fn shared(pods: &HashMap<String, Member>) -> Vec<String> {
    let mut members: BTreeMap<&str, Vec<&Member>> = BTreeMap::new();
    for member in pods.values() {
        members.entry(&member.domain).or_default().push(member);
    }
    let crowded = |members: &Vec<&Member>| members.iter().any(|member| member.group != members[0].group);
    let shown = |(domain, members): (&str, Vec<&Member>)| {
        let shown: BTreeSet<&str> = members.iter().map(|member| member.shown.as_str()).collect();
        format!("{domain}: {}", shown.into_iter().collect::<Vec<_>>().join("; "))
    };
    members.into_iter().filter(|(_, members)| crowded(members)).map(shown).collect()
}
