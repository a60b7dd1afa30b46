//! Watches that groups start over as a whole, and that updates stay within their surge.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::runtime::watcher::{self, Event, watcher};
use muster_api::names::{annotation, label};
use muster_cluster::is_ready;
use muster_e2e::{Site, of_set, pods};
use tokio::task::JoinHandle;

/// The pods of a group at a moment at which it was complete and ready, by UID.
type Members = BTreeSet<String>;

#[derive(Default)]
struct Seen {
    /// By `set/group`, every composition that it was ever complete in.
    complete: BTreeMap<String, BTreeSet<Members>>,
    /// The leader that each worker StatefulSet belongs to: UID to UID.
    leaders: HashMap<String, String>,
    faults: BTreeSet<String>,
}

/// A watch over a site's groups.
pub(crate) struct Wholeness {
    seen: Arc<Mutex<Seen>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Wholeness {
    /// Watches all groups from now on. `surge` says how many groups a set may have above its replicas.
    pub(crate) fn watch(site: &Site, surge: fn(&str) -> i32) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let groups = tokio::spawn(follow_pods(site, seen.clone()));
        let sets = tokio::spawn(follow_stateful_sets(site, seen.clone(), surge));
        Self { seen, tasks: vec![groups, sets] }
    }

    /// Now that everything is at rest: every group is of one piece, which has nothing of any earlier piece in it.
    pub(crate) async fn check(&self, site: &Site, sets: &[String]) -> Result<()> {
        for set in sets {
            let workers = of_set::<StatefulSet>(site, set).await?;
            let pods = pods(site, set).await?;
            let mut groups: BTreeMap<String, Vec<&Pod>> = BTreeMap::new();
            for pod in pods.values() {
                groups.entry(group_of(pod).context("a pod without a group")?).or_default().push(pod);
            }
            for (group, members) in groups {
                one_piece(&group, &members, &workers)?;
                let now: Members = members.iter().filter_map(|pod| pod.uid()).collect();
                let seen = self.seen.lock().unwrap();
                for earlier in seen.complete.get(&group).into_iter().flatten() {
                    let kept: Vec<_> = earlier.intersection(&now).collect();
                    ensure!(kept.is_empty() || *earlier == now, "{group} is torn: {kept:?} of {earlier:?} are left in {now:?}");
                }
            }
        }
        Ok(())
    }

    /// What went wrong at any moment.
    pub(crate) fn finish(self) -> Result<usize> {
        self.tasks.iter().for_each(JoinHandle::abort);
        let seen = self.seen.lock().unwrap();
        ensure!(seen.faults.is_empty(), "{:#?}", seen.faults);
        Ok(seen.complete.values().map(BTreeSet::len).sum())
    }
}

/// All pods are of one revision, and of the worker StatefulSet of the leader that is there.
fn one_piece(group: &str, members: &[&Pod], workers: &BTreeMap<String, StatefulSet>) -> Result<()> {
    let rank = |pod: &Pod| pod.labels().get(label::WORKER_INDEX).cloned().unwrap_or_default();
    let leader = members.iter().find(|pod| rank(pod) == "0").with_context(|| format!("{group} has no leader"))?;
    for pod in members {
        let (own, leaders) = (pod.labels().get(label::REVISION), leader.labels().get(label::REVISION));
        ensure!(own == leaders, "{} is at {own:?}, its leader at {leaders:?}", pod.name_any());
        if rank(pod) == "0" {
            continue;
        }
        let workers = workers.get(&leader.name_any()).with_context(|| format!("{group} has no worker StatefulSet"))?;
        let owned = |object: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference], by: Option<String>| {
            object.iter().any(|owner| Some(&owner.uid) == by.as_ref())
        };
        ensure!(owned(pod.owner_references(), workers.uid()), "{} is not of its group's StatefulSet", pod.name_any());
        ensure!(owned(workers.owner_references(), leader.uid()), "the StatefulSet of {group} is not of its leader");
    }
    Ok(())
}

fn group_of(pod: &Pod) -> Option<String> {
    Some(format!("{}/{}", pod.labels().get(label::SET_NAME)?, pod.labels().get(label::GROUP_INDEX)?))
}

fn follow_pods(site: &Site, seen: Arc<Mutex<Seen>>) -> impl Future<Output = ()> + use<> {
    let mut events = watcher(site.api::<Pod>(), watcher::Config::default()).boxed();
    async move {
        let mut pods: HashMap<String, Pod> = HashMap::new();
        while let Some(event) = events.next().await {
            let changed = match event {
                Ok(Event::Apply(pod) | Event::InitApply(pod)) => {
                    pods.insert(pod.name_any(), pod.clone());
                    group_of(&pod)
                }
                Ok(Event::Delete(pod)) => {
                    pods.remove(&pod.name_any());
                    None
                }
                // What went while the watch was broken is not told one by one.
                Ok(Event::Init) => {
                    pods.clear();
                    None
                }
                Ok(Event::InitDone) | Err(_) => None,
            };
            let Some(group) = changed else { continue };
            let members: Vec<&Pod> = pods.values().filter(|pod| group_of(pod).as_ref() == Some(&group)).collect();
            let size = members.iter().find_map(|pod| pod.annotations().get(annotation::SIZE)?.parse().ok());
            let works = |pod: &&Pod| is_ready(pod) && pod.metadata.deletion_timestamp.is_none();
            let mut seen = seen.lock().unwrap();
            if size == Some(members.len()) && members.iter().all(works) && of_one_leader(&members, &seen.leaders) {
                let members = members.iter().filter_map(|pod| pod.uid()).collect();
                seen.complete.entry(group).or_default().insert(members);
            }
        }
    }
}

/// Whether all workers are of the leader that is there, and none of its predecessor's: those are on their way out, whether they show
/// it yet or not.
fn of_one_leader(members: &[&Pod], leaders: &HashMap<String, String>) -> bool {
    let rank = |pod: &Pod| pod.labels().get(label::WORKER_INDEX).cloned();
    let leader = members.iter().find(|pod| rank(pod).as_deref() == Some("0")).and_then(|pod| pod.uid());
    let own = |pod: &&&Pod| {
        let by = pod.owner_references().first().and_then(|owner| leaders.get(&owner.uid));
        by.is_some() && by == leader.as_ref()
    };
    members.iter().filter(|pod| rank(pod).as_deref() != Some("0")).all(|pod| own(&pod))
}

fn follow_stateful_sets(site: &Site, seen: Arc<Mutex<Seen>>, surge: fn(&str) -> i32) -> impl Future<Output = ()> + use<> {
    let mut events = watcher(site.api::<StatefulSet>(), watcher::Config::default()).boxed();
    async move {
        while let Some(event) = events.next().await {
            let Ok(Event::Apply(object) | Event::InitApply(object)) = event else { continue };
            if let (Some(uid), Some(owner)) = (object.uid(), object.owner_references().iter().find(|owner| owner.kind == "Pod")) {
                seen.lock().unwrap().leaders.insert(uid, owner.uid.clone());
            }
            let (name, recorded) = (object.name_any(), object.annotations().get(annotation::REPLICAS));
            let Some(wanted) = recorded.and_then(|replicas| replicas.parse::<i32>().ok()) else { continue };
            let replicas = object.spec.and_then(|spec| spec.replicas).unwrap_or(1);
            if replicas > wanted + surge(&name) {
                seen.lock().unwrap().faults.insert(format!("{name} has {replicas} groups where {wanted} are asked for"));
            }
        }
    }
}
