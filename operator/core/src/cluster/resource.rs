//! Names of resources, each kept once however many nodes and pods name it.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// The name of a resource. Equal names are one text in memory, so that comparing them is comparing addresses in nearly every case.
#[derive(Debug, Clone)]
pub(crate) struct Name(Arc<str>);

/// Every name in use, and some that were.
#[derive(Default)]
struct Names {
    known: HashSet<Arc<str>>,
    /// How many names to have before those that nobody uses any more are looked for.
    sweep_at: usize,
}

/// Names are shared by all that is read from the cluster, whatever index it ends up in.
static NAMES: LazyLock<Mutex<Names>> = LazyLock::new(Mutex::default);

/// A cluster has fewer resources than this, unless somebody makes them up.
const FEW: usize = 256;

impl Names {
    fn name(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.known.get(text) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|name| Arc::strong_count(name) > 1);
            self.sweep_at = (2 * self.known.len()).max(FEW);
        }
        let name: Arc<str> = text.into();
        self.known.insert(Arc::clone(&name));
        name
    }
}

impl Name {
    pub(crate) fn of(text: &str) -> Self {
        Self(NAMES.lock().unwrap_or_else(PoisonError::into_inner).name(text))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_are_one_text() {
        let (one, other) = (Name::of("example.com/fpga"), Name::of(&String::from("example.com/fpga")));
        assert!(Arc::ptr_eq(&one.0, &other.0));
        assert!(one == other && one < Name::of("example.com/npu"));
    }

    #[test]
    fn names_that_nobody_uses_are_forgotten() {
        let mut names = Names::default();
        let kept = names.name("kept");
        (0..10_000).for_each(|number| drop(names.name(&format!("example.com/{number}"))));
        assert!(names.known.len() <= FEW, "{}", names.known.len());
        assert!(Arc::ptr_eq(&kept, &names.name("kept")));
    }
}
