//! From a policy object to a component that can be asked: resolve the source, load, swap, say so.
//!
//! Runs on the replica that reconciles. A policy that can't be loaded keeps the component it had; sets that run don't notice.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType};
use kube::{Api, Resource, ResourceExt as _};
use muster_api::policy::{ActiveComponent, Policy, PolicySpec};
use muster_api::{PlacementPolicy, StartupPolicy};
use muster_core::placing::NATIVE;
use muster_policy_host::{Engine, Limits, LoadError, PlacementComponent, PolicyKind, StartupComponent};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::source::{self, Before, Sourced};
use super::status::{Fault, KEPT, Loading, after, condition_of, with_answering};
use super::{Entry, Policies, Registry};
use crate::caches::{Caches, SetRef, Shelf};
use crate::context::Context;

/// How often sources that nobody watches (ConfigMaps) are looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Sources that are fetched at the same time.
const FETCHES: usize = 8;
/// How long what calls of policies end in is gathered before it is written down: a policy that fails now and then must not make
/// the operator write all the time.
const BETWEEN_TELLINGS: Duration = Duration::from_secs(2);
/// What a condition's message may have, with what is said behind it.
const MAX_MESSAGE_BYTES: usize = 4000;
/// Reason of a policy whose component has to wait until others are compiled.
const BUSY: &str = "CompilerBusy";
/// Reason of a policy whose component was not compiled in time, but may be when it is looked at again.
const LATE: &str = "CompileTimeout";

/// One of the two kinds of policy.
trait Kind: 'static {
    type Object: Policy + Clone + std::fmt::Debug + DeserializeOwned + Send + Sync;
    type Component: Clone + Send + Sync;
    const WORLD: PolicyKind;

    fn shelf(caches: &Caches) -> &Shelf<Self::Object>;
    fn registry(policies: &Policies) -> &Registry<Self::Component>;
    fn load(engine: &Engine, bytes: &[u8], limits: Limits, settings: &Value) -> Result<Self::Component, LoadError>;
    /// What the object's status says about it; not since when.
    fn about(component: &Self::Component) -> ActiveComponent;
}

struct Placement;
struct Startup;

macro_rules! kind {
    ($kind:ident, $object:ident, $component:ident, $world:ident, $shelf:ident, $registry:ident, $load:ident) => {
        impl Kind for $kind {
            type Object = $object;
            type Component = $component;
            const WORLD: PolicyKind = PolicyKind::$world;

            fn shelf(caches: &Caches) -> &Shelf<Self::Object> {
                &caches.$shelf
            }

            fn registry(policies: &Policies) -> &Registry<Self::Component> {
                &policies.$registry
            }

            fn load(engine: &Engine, bytes: &[u8], limits: Limits, settings: &Value) -> Result<Self::Component, LoadError> {
                engine.$load(bytes, limits, settings)
            }

            fn about(component: &Self::Component) -> ActiveComponent {
                let effects = &component.preparation().effects;
                ActiveComponent {
                    digest: component.digest().to_owned(),
                    name: Some(component.name().to_owned()),
                    version: Some(component.version().to_owned()),
                    effects: (!effects.is_empty()).then(|| serde_json::json!(effects)),
                    since: None,
                }
            }
        }
    };
}

kind!(Placement, PlacementPolicy, PlacementComponent, Placement, placement_policies, placement, load_placement);
kind!(Startup, StartupPolicy, StartupComponent, Startup, startup_policies, startup, load_startup);

/// Keeps the registries up to date for ever. The first pass is over when `loaded` turns true.
///
/// Every policy is brought up to date by itself, so that a registry that doesn't answer or a component that compiles for a minute
/// holds back no other.
pub(crate) async fn run(cx: Context, loaded: tokio::sync::watch::Sender<bool>) {
    let mut moves = cx.caches.policy_moves();
    let mut underway = Underway::default();
    let mut tell = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
    let mut ailing = false;
    loop {
        moves.borrow_and_update();
        if look::<Placement>(&cx, &mut underway) | look::<Startup>(&cx, &mut underway) {
            make_all_due(&cx);
        }
        keep_metrics(&cx);
        let pause = next_retry::<Placement>(&cx).min(next_retry::<Startup>(&cx));
        let mut pause = std::pin::pin!(tokio::time::sleep(pause));
        loop {
            if underway.tasks.is_empty() {
                loaded.send_replace(true);
            }
            // How a policy's calls end is no reason to look at its source again.
            tokio::select! {
                _ = moves.changed() => break,
                () = &mut pause => break,
                Some(done) = underway.tasks.next() => {
                    underway.names.remove(&done.key);
                    if done.changed {
                        make_all_due(&cx);
                    }
                    if done.outdated {
                        break;
                    }
                }
                () = cx.policies.ailing.notified(), if !ailing => ailing = true,
                () = &mut tell, if ailing => {
                    tell_health::<Placement>(&cx).await;
                    tell_health::<Startup>(&cx).await;
                    ailing = false;
                    tell.as_mut().reset(tokio::time::Instant::now() + BETWEEN_TELLINGS);
                }
            }
        }
    }
}

/// Policies that are being brought up to date.
struct Underway {
    tasks: FuturesUnordered<BoxFuture<'static, Done>>,
    names: HashSet<Key>,
    fetches: Arc<Semaphore>,
}

impl Default for Underway {
    fn default() -> Self {
        Self { tasks: FuturesUnordered::new(), names: HashSet::new(), fetches: Arc::new(Semaphore::new(FETCHES)) }
    }
}

/// A policy's kind and name.
type Key = (PolicyKind, String);

/// A policy is up to date.
struct Done {
    key: Key,
    /// It decides otherwise than before.
    changed: bool,
    /// Its object changed meanwhile.
    outdated: bool,
}

/// Policies change rarely, and a set may wait for one in more ways than for a place: its workers, its next attempt.
fn make_all_due(cx: &Context) {
    cx.caches.sets.state().iter().for_each(|set| cx.caches.make_due(SetRef::from_obj(&**set)));
}

/// How long until the first of the registries that failed is asked again.
fn next_retry<K: Kind>(cx: &Context) -> Duration {
    let now = Instant::now();
    let all = K::registry(&cx.policies).all();
    let waits = all.values().filter_map(|entry| entry.retry.as_ref()).map(|retry| retry.at.saturating_duration_since(now));
    waits.min().unwrap_or(LOOK_AGAIN).clamp(Duration::from_millis(100), LOOK_AGAIN)
}

/// Begins to bring every policy of one kind up to date. Returns whether any is gone.
fn look<K: Kind>(cx: &Context, underway: &mut Underway) -> bool {
    let objects = K::shelf(&cx.caches).all();
    let names: HashSet<String> = objects.iter().map(|object| object.name_any()).collect();
    let gone = K::registry(&cx.policies).retain(|name| names.contains(name));
    for object in objects {
        let key = (K::WORLD, object.name_any());
        if underway.names.insert(key.clone()) {
            underway.tasks.push(Box::pin(bring_up_to_date::<K>(cx.clone(), key, object, underway.fetches.clone())));
        }
    }
    gone
}

/// Drops what was counted about policies that are gone. A call that began before may count a moment later: that goes with the next
/// look.
fn keep_metrics(cx: &Context) {
    let (placement, startup) = (Placement::shelf(&cx.caches), Startup::shelf(&cx.caches));
    let exists = |name: &str| placement.get("", name).is_some() || startup.get("", name).is_some();
    cx.metrics.keep_policies(|name| name == NATIVE || exists(name));
}

/// Fetches and loads one policy, unless it is what it was.
async fn bring_up_to_date<K: Kind>(cx: Context, key: Key, object: Arc<K::Object>, fetches: Arc<Semaphore>) -> Done {
    let registry = K::registry(&cx.policies);
    let name = &key.1;
    let known = registry.get(name);
    let sourced = {
        // Nobody closes the semaphore; without a permit the fetch is only less patient with registries.
        let _permit = fetches.acquire().await.ok();
        let before = known.as_deref();
        let before = before.map(|known| Before { spec: &known.spec, origin: &known.origin, retry: known.retry.as_ref() });
        source::fetch(&cx, K::WORLD, object.policy(), before).await
    };
    let mut changed = false;
    if let Some(sourced) = sourced {
        let (entry, loading) = load::<K>(&cx, &object, known.as_ref(), sourced).await;
        changed = true;
        registry.insert(entry);
        report::<K>(&cx, &object, &loading).await;
    }
    let now = K::shelf(&cx.caches).get("", name);
    let outdated = now.is_none_or(|now| now.policy() != object.policy());
    Done { key, changed, outdated }
}

/// Loads one policy. The entry keeps the component it had when the new one fails.
async fn load<K: Kind>(
    cx: &Context,
    object: &K::Object,
    before: Option<&Arc<Entry<K::Component>>>,
    sourced: Sourced,
) -> (Entry<K::Component>, Loading) {
    let spec = object.policy().clone();
    let Sourced { bytes, origin, artifact, verification, kept, retry } = sourced;
    let (loaded, digest) = match bytes {
        Err(fault) => (Err(fault), artifact),
        Ok(bytes) => (component::<K>(cx, &spec, bytes.clone()).await, Some(muster_policy_host::digest(&bytes))),
    };
    // What only lacks its turn to be compiled, or is late, is tried again.
    let comes_later = |fault: &Fault| [BUSY, LATE].contains(&fault.reason);
    let origin = if loaded.as_ref().is_err_and(comes_later) { source::Origin::Missing } else { origin };
    let old = before.and_then(|before| before.component.clone());
    let (component, failed) = match loaded {
        Ok(component) => (Some(component), None),
        Err(fault) => (old.clone(), Some(fault)),
    };
    let previous = match (&old, &component) {
        (Some(old), Some(new)) if K::about(old).digest != K::about(new).digest => Some(old.clone()),
        _ => before.and_then(|before| before.previous.clone()),
    };
    let loading = Loading { digest, verification, kept, active: component.as_ref().map(K::about), failed };
    let problem = loading.failed.as_ref().map(|fault| fault.message.clone());
    // A component that stays the same keeps its past, however often its source is looked at.
    let same = before.filter(|before| loading.failed.is_some() || before.spec == spec);
    let same = same.filter(|before| before.component.as_ref().map(K::about) == component.as_ref().map(K::about));
    let (breaker, health) = same.map(|before| (before.breaker.clone(), before.health.clone())).unwrap_or_default();
    let entry = Entry { name: object.name_any(), spec, origin, retry, component, previous, problem, breaker, health };
    (entry, loading)
}

async fn component<K: Kind>(cx: &Context, spec: &PolicySpec, bytes: Arc<[u8]>) -> Result<K::Component, Fault> {
    let invalid = |message: String| Fault { condition: "Fetched", reason: "InvalidSpec", message };
    let deadline = spec.deadline().map_err(|error| invalid(error.to_string()))?;
    let memory = spec.memory().map_err(|error| invalid(error.to_string()))?;
    let limits = Limits::new(deadline, usize::try_from(memory).unwrap_or(usize::MAX));
    let settings = spec.settings();
    let engine = cx.policies.engine.clone();
    let loaded = tokio::task::spawn_blocking(move || K::load(&engine, &bytes, limits, &settings)).await;
    let error = match loaded {
        Ok(Ok(component)) => return Ok(component),
        Ok(Err(error)) => error,
        Err(panic) => {
            return Err(Fault { condition: "Compiled", reason: "CompileFailed", message: format!("loading stopped: {panic}") });
        }
    };
    let (condition, reason) = match &error {
        LoadError::CompileBusy => ("Compiled", BUSY),
        LoadError::CompileTimeout(_) => ("Compiled", LATE),
        error => condition_of(error.step()),
    };
    let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
    // Settings can have many faults, and the message goes to the status, an event and the log.
    Err(Fault { condition, reason, message: muster_core::text::truncated(&format!("{error}{hint}"), MAX_MESSAGE_BYTES) })
}

/// Says on every policy object whose last call ended otherwise than the one before how it ended.
async fn tell_health<K: Kind>(cx: &Context) {
    for (name, entry) in K::registry(&cx.policies).all().iter() {
        let Some(health) = entry.news() else { continue };
        let Some(object) = K::shelf(&cx.caches).get("", name) else { continue };
        let known = object.status().map(|status| status.conditions.as_slice()).unwrap_or_default();
        let conditions = with_answering(known, health.fault.as_ref(), Timestamp::now());
        let mut status = json!({ "conditions": conditions });
        if let Some((reason, message)) = &health.fault {
            status["lastError"] = json!(message);
            publish(cx, &*object, EventType::Warning, reason, message).await;
        }
        write_status::<K>(cx, name, &json!({ "status": status })).await;
    }
}

async fn write_status<K: Kind>(cx: &Context, name: &str, patch: &Value) {
    let api: Api<K::Object> = Api::all(cx.client.clone());
    if let Err(error) = api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await {
        tracing::warn!(policy = name, %error, "could not write the policy's status");
    }
}

async fn publish(cx: &Context, object: &impl Resource<DynamicType = ()>, type_: EventType, reason: &str, note: &str) {
    let event = Event {
        type_,
        reason: reason.to_owned(),
        note: Some(muster_core::text::truncated(note, 1024)),
        action: "Load".to_owned(),
        secondary: None,
    };
    if let Err(error) = cx.events.publish(&event, &object.object_ref(&())).await {
        tracing::warn!(policy = ?object.meta().name, %error, "could not publish an event");
    }
}

/// Writes the object's status and an event, when they say something new.
async fn report<K: Kind>(cx: &Context, object: &K::Object, loading: &Loading) {
    let status = after(loading, object.status(), object.meta().generation, Timestamp::now());
    let name = object.name_any();
    let loaded = if loading.kept.is_some() { KEPT } else { "Loaded" };
    cx.metrics.loaded(&name, loading.failed.as_ref().map_or(loaded, |fault| fault.reason));
    match (&loading.failed, &loading.kept) {
        (None, None) => tracing::info!(policy = name, digest = ?loading.digest, "policy loaded"),
        (None, Some(why)) => tracing::warn!(policy = name, digest = ?loading.digest, "policy loaded from a kept copy: {why}"),
        (Some(fault), _) => tracing::warn!(policy = name, reason = fault.reason, "policy not loaded: {}", fault.message),
    }
    if object.status() == Some(&status) {
        return;
    }
    write_status::<K>(cx, &name, &json!({ "status": status })).await;
    match (&loading.failed, &loading.kept) {
        (None, None) => {
            let note = format!("Loaded {}", loading.digest.as_deref().unwrap_or_default());
            publish(cx, object, EventType::Normal, "Loaded", &note).await;
        }
        (None, Some(why)) => publish(cx, object, EventType::Warning, KEPT, why).await,
        (Some(fault), _) => publish(cx, object, EventType::Warning, fault.reason, &fault.message).await,
    }
}
