//! Policies of this replica: objects made into components that can be asked.
//!
//! ```text
//!  PlacementPolicy, StartupPolicy ─► pipeline (load, conditions) ─► Registry ─► ask ─► Said
//! ```

mod ask;
mod pipeline;
mod status;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use muster_api::policy::PolicySpec;
use muster_policy_host::{Breaker, Engine, PlacementComponent, StartupComponent};

pub(crate) use ask::{Said, Trouble, ask};
pub(crate) use pipeline::run;

/// Everything this replica knows about policies.
pub(crate) struct Policies {
    engine: Arc<Engine>,
    /// Those that decide where groups go.
    pub(crate) placement: Registry<PlacementComponent>,
    /// Those that decide when members start.
    pub(crate) startup: Registry<StartupComponent>,
}

impl Policies {
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine: Arc::new(engine), placement: Registry::default(), startup: Registry::default() }
    }
}

/// The loaded policies of one kind, by name. Readers take an entry once and keep it for their whole decision.
pub(crate) struct Registry<C> {
    entries: ArcSwap<HashMap<String, Arc<Entry<C>>>>,
}

impl<C> Default for Registry<C> {
    fn default() -> Self {
        Self { entries: ArcSwap::default() }
    }
}

impl<C> Registry<C> {
    /// The policy of this name, loaded or not; `None` when there is no such object.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Entry<C>>> {
        self.entries.load().get(name).cloned()
    }

    fn replace(&self, entries: HashMap<String, Arc<Entry<C>>>) {
        self.entries.store(Arc::new(entries));
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
    origin: pipeline::Origin,
    /// The component that answers: of this spec, or the last good one if this spec could not be loaded.
    pub(crate) component: Option<C>,
    /// The component of another digest that answered before.
    pub(crate) previous: Option<C>,
    /// Why the spec could not be loaded.
    pub(crate) problem: Option<String>,
    breaker: Mutex<Breaker>,
}

impl<C> Entry<C> {
    /// Whether sets of a namespace with these labels may use the policy.
    pub(crate) fn admits(&self, namespace_labels: &BTreeMap<String, String>) -> bool {
        use kube::core::{Selector, SelectorExt as _};
        let Some(selector) = self.spec.namespace_selector.clone() else { return true };
        // A selector that can't be read was refused when the policy was loaded.
        Selector::try_from(selector).is_ok_and(|selector| selector.matches(namespace_labels))
    }
}
