//! Policies of this replica: objects made into components that can be asked.
//!
//! ```text
//!  PlacementPolicy, StartupPolicy ─► pipeline (load, conditions) ─► Registry ─► ask ─► Said
//! ```

mod ask;
mod memo;
mod oci;
mod pipeline;
mod source;
mod status;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use muster_api::names::annotation;
use muster_api::policy::PolicySpec;
use muster_policy_host::{Breaker, Engine, Folder, PlacementComponent, PolicyKind, StartupComponent};
use tokio::sync::Notify;

use self::memo::Memo;
use self::oci::Kept;
pub(crate) use ask::{Trouble, ask};
pub(crate) use pipeline::run;

/// Everything this replica knows about policies.
pub(crate) struct Policies {
    engine: Arc<Engine>,
    kept: Kept,
    ailing: Arc<Notify>,
    /// Those that decide where groups go.
    pub(crate) placement: Registry<PlacementComponent>,
    /// Those that decide when members start.
    pub(crate) startup: Registry<StartupComponent>,
    /// What was answered last.
    pub(crate) memo: Memo,
}

impl Policies {
    /// Nothing is loaded yet. Copies of what registries give are kept in `kept`, if there is such a folder.
    pub(crate) fn new(engine: Engine, kept: Option<Folder>) -> Self {
        let ailing = Arc::new(Notify::new());
        Self {
            engine: Arc::new(engine),
            kept: Kept::new(kept),
            placement: Registry::new(PolicyKind::Placement, ailing.clone()),
            startup: Registry::new(PolicyKind::Startup, ailing.clone()),
            memo: Memo::default(),
            ailing,
        }
    }
}

/// Reason of the fault that an answer of the policy was refused.
const REFUSED: &str = "AnswerRejected";

/// How a component's last call ended, as far as its object should say so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Health {
    /// What went wrong: reason and message.
    fault: Option<(String, String)>,
    /// The object doesn't say this yet.
    untold: bool,
}

/// The loaded policies of one kind, by name. Readers take an entry once and keep it for their whole decision.
pub(crate) struct Registry<C> {
    kind: PolicyKind,
    entries: ArcSwap<HashMap<String, Arc<Entry<C>>>>,
    /// Rings when the health of one of them has changed.
    ailing: Arc<Notify>,
}

impl<C> Registry<C> {
    fn new(kind: PolicyKind, ailing: Arc<Notify>) -> Self {
        Self { kind, entries: ArcSwap::default(), ailing }
    }

    /// The annotation that names such a policy, on a set or its namespace.
    fn annotation(&self) -> &'static str {
        match self.kind {
            PolicyKind::Placement => annotation::PLACEMENT_POLICY,
            PolicyKind::Startup => annotation::STARTUP_POLICY,
        }
    }

    /// The policy of this name, loaded or not; `None` when there is no such object.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Entry<C>>> {
        self.entries.load().get(name).cloned()
    }

    /// Notes how the check of a policy's answers ended: with the first refusal, or well.
    pub(crate) fn checked(&self, name: &str, refusal: Option<String>) {
        if self.get(name).is_some_and(|entry| entry.checked(refusal)) {
            self.ailing.notify_one();
        }
    }

    fn insert(&self, entry: Entry<C>) {
        let entry = Arc::new(entry);
        self.entries.rcu(|entries| {
            let mut entries = HashMap::clone(entries);
            entries.insert(entry.name.clone(), entry.clone());
            entries
        });
    }

    /// Forgets the others. Returns whether there were any.
    fn retain(&self, keep: impl Fn(&str) -> bool) -> bool {
        if self.entries.load().keys().all(|name| keep(name)) {
            return false;
        }
        self.entries.rcu(|entries| {
            let mut entries = HashMap::clone(entries);
            entries.retain(|name, _| keep(name));
            entries
        });
        true
    }

    fn all(&self) -> Arc<HashMap<String, Arc<Entry<C>>>> {
        self.entries.load_full()
    }
}

/// One policy: what its object says and the component that answers for it.
pub(crate) struct Entry<C> {
    /// The object's name.
    pub(crate) name: String,
    /// The object's spec, as it was loaded.
    pub(crate) spec: PolicySpec,
    /// Where its bytes came from, to notice other ones.
    origin: source::Origin,
    /// When its registry is asked again, if it failed.
    retry: Option<source::Retry>,
    /// The component that answers: of this spec, or the last good one if this spec could not be loaded.
    pub(crate) component: Option<C>,
    /// The component of another digest that answered before.
    pub(crate) previous: Option<C>,
    /// Why the spec could not be loaded.
    pub(crate) problem: Option<String>,
    breaker: Arc<Mutex<Breaker>>,
    health: Arc<Mutex<Health>>,
}

impl<C> Entry<C> {
    /// Notes how a call ended: with a fault's reason and message, or well. Returns whether that is news.
    fn called(&self, fault: Option<(String, String)>) -> bool {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = health.fault.as_ref().is_some_and(|(reason, _)| reason == REFUSED);
        if fault.is_none() && refused {
            // An answer came; whether it is any better than the last one is found out when it is checked.
            return false;
        }
        Self::turn(&mut health, fault)
    }

    /// Notes how the check of an answer ended: refused with this message, or well. Returns whether that is news.
    fn checked(&self, refusal: Option<String>) -> bool {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        Self::turn(&mut health, refusal.map(|message| (REFUSED.to_owned(), message)))
    }

    /// Only another kind of fault is news: the same one with other numbers would be written again and again.
    fn turn(health: &mut Health, fault: Option<(String, String)>) -> bool {
        let reason = |fault: &Option<(String, String)>| fault.as_ref().map(|(reason, _)| reason.clone());
        let news = reason(&health.fault) != reason(&fault);
        if news {
            *health = Health { fault, untold: true };
        }
        news
    }

    /// The health, if the object doesn't say so yet; from now on it does.
    fn news(&self) -> Option<Health> {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut health.untold).then(|| health.clone())
    }

    /// Whether sets of a namespace with these labels may use the policy.
    pub(crate) fn admits(&self, namespace_labels: &BTreeMap<String, String>) -> bool {
        admits(&self.spec, namespace_labels)
    }
}

/// Whether sets of a namespace with these labels may use a policy.
pub(crate) fn admits(spec: &PolicySpec, namespace_labels: &BTreeMap<String, String>) -> bool {
    use kube::core::{Selector, SelectorExt as _};
    let Some(selector) = spec.namespace_selector.clone() else { return true };
    // A selector that can't be read was refused when the policy was loaded.
    Selector::try_from(selector).is_ok_and(|selector| selector.matches(namespace_labels))
}
