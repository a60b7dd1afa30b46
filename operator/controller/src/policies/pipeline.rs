//! From a policy object to a component that can be asked: resolve the source, load, swap, say so.
//!
//! Runs on the replica that reconciles. A policy that can't be loaded keeps the component it had; sets that run don't notice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType};
use kube::{Api, Resource, ResourceExt as _};
use muster_api::policy::{ActiveComponent, Policy, PolicySpec};
use muster_api::{PlacementPolicy, StartupPolicy};
use muster_policy_host::{Engine, Limits, LoadError, PlacementComponent, PolicyKind, StartupComponent};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::source::{self, Before, Sourced};
use super::status::{Fault, Loading, after, condition_of, with_answering};
use super::{Entry, Policies, Registry};
use crate::caches::{Caches, SetRef, Shelf};
use crate::context::Context;

/// How often sources that nobody watches (ConfigMaps) are looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Sources that are fetched at the same time.
const FETCHES: usize = 8;

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
pub(crate) async fn run(cx: Context, loaded: tokio::sync::watch::Sender<bool>) {
    let mut moves = cx.caches.policy_moves();
    loop {
        moves.borrow_and_update();
        let changed = pass::<Placement>(&cx).await | pass::<Startup>(&cx).await;
        loaded.send_replace(true);
        if changed {
            // Policies change rarely, and a set may wait for one in more ways than for a place: its workers, its next attempt.
            cx.caches.sets.state().iter().for_each(|set| cx.caches.make_due(SetRef::from_obj(&**set)));
        }
        // How a policy's calls end is no reason to look at its source again.
        let pause = next_retry::<Placement>(&cx).min(next_retry::<Startup>(&cx));
        let mut pause = std::pin::pin!(tokio::time::sleep(pause));
        loop {
            tokio::select! {
                _ = moves.changed() => break,
                () = &mut pause => break,
                () = cx.policies.ailing.notified() => {
                    tell_health::<Placement>(&cx).await;
                    tell_health::<Startup>(&cx).await;
                }
            }
        }
    }
}

/// How long until the first of the registries that failed is asked again.
fn next_retry<K: Kind>(cx: &Context) -> Duration {
    let now = Instant::now();
    let all = K::registry(&cx.policies).all();
    let waits = all.values().filter_map(|entry| entry.retry.as_ref()).map(|retry| retry.at.saturating_duration_since(now));
    waits.min().unwrap_or(LOOK_AGAIN).clamp(Duration::from_millis(100), LOOK_AGAIN)
}

/// Brings every policy of one kind up to date. Returns whether any of them decides differently now.
async fn pass<K: Kind>(cx: &Context) -> bool {
    let known = K::registry(&cx.policies).all();
    let mut entries = HashMap::new();
    let mut changed = false;
    let fetches = K::shelf(&cx.caches).all().into_iter().map(|object| {
        let before = known.get(&object.name_any()).cloned();
        async move {
            let known = before.as_deref();
            let before = known.map(|known| Before { spec: &known.spec, origin: &known.origin, retry: known.retry.as_ref() });
            let sourced = source::fetch(cx, K::WORLD, object.policy(), before).await;
            (object, sourced)
        }
    });
    // Side by side, so that a registry that doesn't answer holds back only its own policies.
    let mut fetches = futures::stream::iter(fetches).buffer_unordered(FETCHES);
    while let Some((object, sourced)) = fetches.next().await {
        let name = object.name_any();
        let before = known.get(&name);
        let (sourced, before) = match (sourced, before) {
            (None, None) => continue,
            (None, Some(before)) => {
                entries.insert(name, before.clone());
                continue;
            }
            (Some(sourced), before) => (sourced, before),
        };
        changed = true;
        let (entry, loading) = load::<K>(cx, &object, before, sourced).await;
        report::<K>(cx, &object, &loading).await;
        // One by one, so that a component that compiles for a minute doesn't hold back the others.
        entries.insert(name.clone(), Arc::new(entry));
        let mut so_far = (*K::registry(&cx.policies).all()).clone();
        so_far.insert(name.clone(), entries[&name].clone());
        K::registry(&cx.policies).replace(so_far);
    }
    changed |= known.keys().any(|name| !entries.contains_key(name));
    K::registry(&cx.policies).replace(entries);
    changed
}

/// Loads one policy. The entry keeps the component it had when the new one fails.
async fn load<K: Kind>(
    cx: &Context,
    object: &K::Object,
    before: Option<&Arc<Entry<K::Component>>>,
    sourced: Sourced,
) -> (Entry<K::Component>, Loading) {
    let spec = object.policy().clone();
    let Sourced { bytes, origin, artifact, verification, retry } = sourced;
    let (loaded, digest) = match bytes {
        Err(fault) => (Err(fault), artifact),
        Ok(bytes) => (component::<K>(cx, &spec, bytes.clone()).await, Some(muster_policy_host::digest(&bytes))),
    };
    let old = before.and_then(|before| before.component.clone());
    let (component, failed) = match loaded {
        Ok(component) => (Some(component), None),
        Err(fault) => (old.clone(), Some(fault)),
    };
    let previous = match (&old, &component) {
        (Some(old), Some(new)) if K::about(old).digest != K::about(new).digest => Some(old.clone()),
        _ => before.and_then(|before| before.previous.clone()),
    };
    let loading = Loading { digest, verification, active: component.as_ref().map(K::about), failed };
    let problem = loading.failed.as_ref().map(|fault| fault.message.clone());
    let entry = Entry {
        name: object.name_any(),
        spec,
        origin,
        retry,
        component,
        previous,
        problem,
        breaker: Mutex::default(),
        health: Mutex::default(),
    };
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
    let (condition, reason) = condition_of(error.step());
    let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
    Err(Fault { condition, reason, message: format!("{error}{hint}") })
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
    if let Err(error) = cx.recorder.publish(&event, &object.object_ref(&())).await {
        tracing::warn!(policy = ?object.meta().name, %error, "could not publish an event");
    }
}

/// Writes the object's status and an event, when they say something new.
async fn report<K: Kind>(cx: &Context, object: &K::Object, loading: &Loading) {
    let status = after(loading, object.status(), object.meta().generation, Timestamp::now());
    let name = object.name_any();
    cx.metrics.loaded(&name, loading.failed.as_ref().map_or("Loaded", |fault| fault.reason));
    match &loading.failed {
        None => tracing::info!(policy = name, digest = ?loading.digest, "policy loaded"),
        Some(fault) => tracing::warn!(policy = name, reason = fault.reason, "policy not loaded: {}", fault.message),
    }
    if object.status() == Some(&status) {
        return;
    }
    write_status::<K>(cx, &name, &json!({ "status": status })).await;
    match &loading.failed {
        None => {
            let note = format!("Loaded {}", loading.digest.as_deref().unwrap_or_default());
            publish(cx, object, EventType::Normal, "Loaded", &note).await;
        }
        Some(fault) => publish(cx, object, EventType::Warning, fault.reason, &fault.message).await,
    }
}
