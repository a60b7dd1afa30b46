//! Whether this replica may be sent requests, and if not, why.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// What all has to be good before admission works from end to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// The certificates in the Secret are good and loaded.
    Certificates,
    /// The webhook configurations carry the authorities that vouch for them.
    Configurations,
    /// Our own listener was reached as the API server reaches it.
    Serving,
    /// The caches that admission reads have been filled.
    Caches,
}

impl Part {
    const ALL: [Self; 4] = [Self::Certificates, Self::Configurations, Self::Serving, Self::Caches];

    fn name(self) -> &'static str {
        match self {
            Self::Certificates => "certificates",
            Self::Configurations => "webhook configurations",
            Self::Serving => "webhook server",
            Self::Caches => "caches",
        }
    }
}

/// A handle that all parts report to and the health server reads. Clones share one state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readiness {
    parts: Arc<RwLock<BTreeMap<Part, Result<(), String>>>>,
}

impl Readiness {
    /// Reports one part: good, or the reason why not. The latest report counts. Returns whether it says anything new.
    pub(crate) fn set(&self, part: Part, state: Result<(), String>) -> bool {
        // A map that was being written when a thread panicked is still a map.
        let mut parts = self.parts.write().unwrap_or_else(PoisonError::into_inner);
        let changed = parts.get(&part) != Some(&state);
        parts.insert(part, state);
        changed
    }

    /// Reports that one part can't be judged just now. That counts only while the part has never been good, or is known
    /// to be bad. Returns whether it says anything new.
    pub(crate) fn doubt(&self, part: Part, reason: String) -> bool {
        let good = self.parts.read().unwrap_or_else(PoisonError::into_inner).get(&part) == Some(&Ok(()));
        !good && self.set(part, Err(reason))
    }

    /// Ready when every part has reported that it is good.
    ///
    /// # Errors
    /// Otherwise, one line for each part that is not good or has not reported yet.
    pub(crate) fn verdict(&self) -> Result<(), String> {
        let parts = self.parts.read().unwrap_or_else(PoisonError::into_inner);
        let missing = Part::ALL.into_iter().filter_map(|part| match parts.get(&part) {
            Some(Ok(())) => None,
            Some(Err(reason)) => Some(format!("{}: {reason}", part.name())),
            None => Some(format!("{}: not there yet", part.name())),
        });
        let missing: Vec<String> = missing.collect();
        if missing.is_empty() { Ok(()) } else { Err(missing.join("\n")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_that_every_part_said_so_last() {
        let readiness = Readiness::default();
        let reporter = readiness.clone();
        for part in [Part::Certificates, Part::Configurations, Part::Serving] {
            reporter.set(part, Ok(()));
        }
        assert_eq!(readiness.verdict(), Err("caches: not there yet".into()));
        assert!(reporter.set(Part::Caches, Ok(())), "the first report is news");
        assert!(!reporter.set(Part::Caches, Ok(())), "the same again is none");
        assert_eq!(readiness.verdict(), Ok(()));
        reporter.set(Part::Configurations, Err("gone".into()));
        reporter.set(Part::Serving, Err("deaf".into()));
        assert_eq!(readiness.verdict(), Err("webhook configurations: gone\nwebhook server: deaf".into()));
    }

    #[test]
    fn doubt_does_not_undo_what_was_good_but_nothing_is_good_before_it_was_seen() {
        let readiness = Readiness::default();
        for part in [Part::Certificates, Part::Serving, Part::Caches] {
            readiness.set(part, Ok(()));
        }
        assert!(readiness.doubt(Part::Configurations, "no API server".into()));
        assert_eq!(readiness.verdict(), Err("webhook configurations: no API server".into()));
        readiness.set(Part::Configurations, Ok(()));
        assert!(!readiness.doubt(Part::Configurations, "no API server".into()));
        assert_eq!(readiness.verdict(), Ok(()));
    }
}
