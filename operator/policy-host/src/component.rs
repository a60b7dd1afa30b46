//! Loaded policies, and how they are called: a fresh store and a fresh instance each time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_core::cluster::Snapshot;
use muster_core::placement::effects::{Effect, Effects};
use muster_core::placement::{Answer, Request};
use muster_core::startup;
use wasmtime::Store;
use wasmtime::component::{Component, HasSelf, Linker, Resource};

use crate::accept::PolicyKind;
use crate::bindings::placement_policy::muster::policy::types::SettingsError;
use crate::bindings::placement_policy::{PlacementPolicy, PlacementPolicyPre};
use crate::bindings::startup_policy::{StartupPolicy, StartupPolicyPre};
use crate::call::{CallError, CallOutcome, Phase};
use crate::convert;
use crate::engine::Engine;
use crate::load::{self, LoadError, Loaded};
use crate::slots::{Busy, Pace, Slot};
use crate::store::{HostState, Limits, instructions, store};

/// Who a policy says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// JSON Schema of its settings; empty if there is none.
    pub settings_schema: String,
}

/// What a policy says that it needs, as it says it.
pub(crate) struct Prepared {
    pub(crate) levels: Vec<String>,
    pub(crate) effects: Vec<Effect>,
    pub(crate) peers: Option<String>,
}

/// What a policy needs with its settings, checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preparation {
    /// Node label keys that it reads, widest level first.
    pub levels: Vec<String>,
    /// What the pods of its sets get when they are created.
    pub effects: Effects,
    /// Label key of sets by which they are peers.
    pub peers: Option<String>,
}

/// What loading needs of a world: its generated bindings, by one name.
pub(crate) trait World: Clone {
    const KIND: PolicyKind;
    type Instance;
    fn link(engine: &wasmtime::Engine, component: &Component) -> wasmtime::Result<Self>;
    fn start(&self, store: &mut Store<HostState>) -> wasmtime::Result<Self::Instance>;
    fn describe(store: &mut Store<HostState>, instance: &Self::Instance) -> wasmtime::Result<Descriptor>;
    fn validate_settings(
        store: &mut Store<HostState>,
        instance: &Self::Instance,
        settings: &str,
    ) -> wasmtime::Result<Vec<SettingsError>>;
    fn prepare(store: &mut Store<HostState>, instance: &Self::Instance, settings: &str) -> wasmtime::Result<Prepared>;
}

/// The generated bindings of the two worlds are alike, and strangers to each other.
macro_rules! world {
    ($kind:expr, $pre:ident, $instance:ident) => {
        impl World for $pre<HostState> {
            const KIND: PolicyKind = $kind;
            type Instance = $instance;

            fn link(engine: &wasmtime::Engine, component: &Component) -> wasmtime::Result<Self> {
                let mut linker = Linker::new(engine);
                $instance::add_to_linker::<_, HasSelf<HostState>>(&mut linker, |state| state)?;
                $pre::new(linker.instantiate_pre(component)?)
            }

            fn start(&self, store: &mut Store<HostState>) -> wasmtime::Result<Self::Instance> {
                self.instantiate(store)
            }

            fn describe(store: &mut Store<HostState>, instance: &Self::Instance) -> wasmtime::Result<Descriptor> {
                let descriptor = instance.muster_policy_lifecycle().call_describe(store)?;
                Ok(Descriptor { name: descriptor.name, version: descriptor.version, settings_schema: descriptor.settings_schema })
            }

            fn validate_settings(
                store: &mut Store<HostState>,
                instance: &Self::Instance,
                settings: &str,
            ) -> wasmtime::Result<Vec<SettingsError>> {
                instance.muster_policy_lifecycle().call_validate_settings(store, settings)
            }

            fn prepare(store: &mut Store<HostState>, instance: &Self::Instance, settings: &str) -> wasmtime::Result<Prepared> {
                let prepared = instance.muster_policy_lifecycle().call_prepare(store, settings)?;
                let effects = prepared.effects.into_iter().map(convert::effect).collect();
                Ok(Prepared { levels: prepared.levels, effects, peers: prepared.peers })
            }
        }
    };
}

world!(PolicyKind::Placement, PlacementPolicyPre, PlacementPolicy);
world!(PolicyKind::Startup, StartupPolicyPre, StartupPolicy);

/// One call that is worth waiting for.
pub(crate) fn run<W: World, T>(
    engine: &Engine,
    pre: &W,
    limits: Limits,
    pace: &Arc<Pace>,
    ask: impl FnOnce(&mut Store<HostState>, &W::Instance) -> wasmtime::Result<T>,
) -> CallOutcome<T> {
    let slot = engine.slots.take(pace);
    in_slot(engine, pre, limits, &slot, ask)
}

/// One call of a loaded policy, unless enough of its calls wait already.
fn ask<W: World, T>(
    loaded: &Loaded<W>,
    ask: impl FnOnce(&mut Store<HostState>, &W::Instance) -> wasmtime::Result<T>,
) -> CallOutcome<T> {
    match loaded.engine.slots.take_if_not_busy(&loaded.pace) {
        Ok(slot) => in_slot(&loaded.engine, &loaded.pre, loaded.limits, &slot, ask),
        Err(Busy) => CallOutcome::without_call(Err(CallError::Busy)),
    }
}

/// Makes a store and an instance, asks, and sorts what went wrong.
fn in_slot<W: World, T>(
    engine: &Engine,
    pre: &W,
    limits: Limits,
    slot: &Slot<'_>,
    ask: impl FnOnce(&mut Store<HostState>, &W::Instance) -> wasmtime::Result<T>,
) -> CallOutcome<T> {
    let started = Instant::now();
    let mut store = store(engine, limits);
    let instance = pre.start(&mut store).map_err(|error| CallError::from_engine(&error, limits, Phase::Instantiate));
    let instantiate = started.elapsed();
    let result = instance
        .and_then(|instance| ask(&mut store, &instance).map_err(|error| CallError::from_engine(&error, limits, Phase::Call)));
    let duration = started.elapsed();
    slot.took(duration);
    // What a trap cuts off was not counted to its end.
    let instructions = instructions(&store).filter(|_| result.is_ok());
    let HostState { limiter, log, .. } = store.into_data();
    let (logs, logs_dropped) = (log.lines, log.dropped);
    CallOutcome { result, duration, instantiate, peak_memory: limiter.peak, instructions, logs, logs_dropped }
}

impl<T> CallOutcome<T> {
    /// The outcome of a call that was made before and need not be made again.
    pub fn remembered(answer: T) -> Self {
        Self::without_call(Ok(answer))
    }

    fn without_call(result: Result<T, CallError>) -> Self {
        let (duration, instantiate) = (Duration::ZERO, Duration::ZERO);
        Self { result, duration, instantiate, peak_memory: 0, instructions: None, logs: Vec::new(), logs_dropped: 0 }
    }

    fn and_then<U>(self, next: impl FnOnce(T) -> Result<U, CallError>) -> CallOutcome<U> {
        let Self { result, duration, instantiate, peak_memory, instructions, logs, logs_dropped } = self;
        CallOutcome { result: result.and_then(next), duration, instantiate, peak_memory, instructions, logs, logs_dropped }
    }
}

/// A placement policy with its settings, ready to be asked. Cheap to clone.
#[derive(Clone)]
pub struct PlacementComponent(Arc<Loaded<PlacementPolicyPre<HostState>>>);

/// A startup policy with its settings, ready to be asked. Cheap to clone.
#[derive(Clone)]
pub struct StartupComponent(Arc<Loaded<StartupPolicyPre<HostState>>>);

/// What both kinds of component tell about themselves.
macro_rules! about {
    ($component:ident) => {
        impl $component {
            /// `sha256:…` of the component's bytes.
            pub fn digest(&self) -> &str {
                &self.0.digest
            }

            /// The name that the policy gives itself.
            pub fn name(&self) -> &str {
                &self.0.descriptor.name
            }

            /// The version that the policy gives itself.
            pub fn version(&self) -> &str {
                &self.0.descriptor.version
            }

            /// JSON Schema of the settings; empty if the policy has none.
            pub fn settings_schema(&self) -> &str {
                &self.0.descriptor.settings_schema
            }

            /// The settings in their canonical form, as the policy gets them.
            pub fn settings(&self) -> &str {
                &self.0.settings
            }

            /// What the policy needs with these settings.
            pub fn preparation(&self) -> &Preparation {
                &self.0.preparation
            }

            /// Whether it is the very same, with the same settings and limits.
            pub fn is_same(&self, other: &Self) -> bool {
                Arc::ptr_eq(&self.0, &other.0)
            }

            /// What one call may use.
            pub fn limits(&self) -> Limits {
                self.0.limits
            }

            /// The same component with other settings and limits, without compiling it again.
            ///
            /// # Errors
            /// When the policy rejects the settings. This component is not changed and keeps serving.
            pub fn reconfigured(&self, limits: Limits, settings: &serde_json::Value) -> Result<Self, LoadError> {
                load::reconfigure(&self.0, limits, settings).map(|loaded| Self(Arc::new(loaded)))
            }
        }

        impl std::fmt::Debug for $component {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($component))
                    .field("name", &self.name())
                    .field("version", &self.version())
                    .field("digest", &self.digest())
                    .field("settings", &self.settings())
                    .finish_non_exhaustive()
            }
        }
    };
}

about!(PlacementComponent);
about!(StartupComponent);

impl PlacementComponent {
    /// Asks where the units of `request` go. Answers are brought into bounds (reasons, sizes); nothing is checked against the
    /// cluster. Units past the 1024th are left for the next call. A policy that is slow and has other calls waiting is not asked:
    /// [`CallError::Busy`].
    pub fn place(&self, view: &Snapshot, request: &Request) -> CallOutcome<Vec<Answer>> {
        let loaded = &*self.0;
        let request = convert::request(request);
        let outcome = ask(loaded, |store, instance| {
            let view: Resource<Snapshot> = store.data_mut().table.push(view.clone())?;
            // The guest is lent the snapshot; the store keeps it and drops it.
            let lent = Resource::new_borrow(view.rep());
            instance.muster_policy_placement().call_place(store, &loaded.settings, lent, &request)
        });
        outcome.and_then(|answers| match answers {
            Ok(answers) if answers.len() > request.units.len() => {
                Err(CallError::TooManyAnswers { answers: answers.len(), asked: request.units.len() })
            }
            Ok(answers) => Ok(answers.into_iter().map(convert::answer).collect()),
            Err(failure) => Err(convert::failure(failure)),
        })
    }
}

impl StartupComponent {
    /// Asks which ranks of each group may exist now; not while it is busy, as [`place`](PlacementComponent::place).
    pub fn next(&self, request: &startup::Request) -> CallOutcome<Vec<startup::Step>> {
        let loaded = &*self.0;
        let request = convert::startup_request(request);
        let outcome =
            ask(loaded, |store, instance| instance.muster_policy_startup().call_next(store, &loaded.settings, &request));
        outcome.and_then(|steps| match steps {
            Ok(steps) if steps.len() > request.groups.len() => {
                Err(CallError::TooManyAnswers { answers: steps.len(), asked: request.groups.len() })
            }
            Ok(steps) => Ok(steps.iter().map(convert::step).collect()),
            Err(failure) => Err(convert::failure(failure)),
        })
    }
}

impl Engine {
    /// Loads a placement policy; see [`load`](LoadError) for the steps.
    ///
    /// # Errors
    /// The step that failed and why, with a hint where there is one.
    pub fn load_placement(
        &self,
        bytes: &[u8],
        limits: Limits,
        settings: &serde_json::Value,
    ) -> Result<PlacementComponent, LoadError> {
        load::load(self, bytes, limits, settings).map(|loaded| PlacementComponent(Arc::new(loaded)))
    }

    /// Loads a startup policy; as [`load_placement`](Self::load_placement).
    ///
    /// # Errors
    /// The step that failed and why, with a hint where there is one.
    pub fn load_startup(
        &self,
        bytes: &[u8],
        limits: Limits,
        settings: &serde_json::Value,
    ) -> Result<StartupComponent, LoadError> {
        load::load(self, bytes, limits, settings).map(|loaded| StartupComponent(Arc::new(loaded)))
    }

    /// Who a policy says it is, whatever settings it wants: the steps of loading up to those about settings.
    ///
    /// # Errors
    /// The step that failed and why.
    pub fn describe(&self, bytes: &[u8], kind: PolicyKind, limits: Limits) -> Result<Descriptor, LoadError> {
        match kind {
            PolicyKind::Placement => load::describe::<PlacementPolicyPre<HostState>>(self, bytes, limits),
            PolicyKind::Startup => load::describe::<StartupPolicyPre<HostState>>(self, bytes, limits),
        }
    }
}
