//! Answers that are good for as long as nothing has changed.
//!
//! A call's outcome depends on nothing but the component with its settings, the snapshot and the request. A set whose groups wait is
//! looked at again for many reasons that are none to ask anew.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use muster_core::cluster::{Snapshot, View};
use muster_core::placement::{Answer, Request};
use muster_policy_host::{CallOutcome, PlacementComponent};

/// Questions that are remembered, one of each set and policy.
const MAX_QUESTIONS: usize = 1024;

/// The last answers of each policy for each set.
#[derive(Debug, Default)]
pub(crate) struct Memo(Mutex<HashMap<(String, String), Known>>);

#[derive(Debug)]
struct Known {
    component: PlacementComponent,
    generation: u64,
    view: View,
    request: Request,
    answers: Vec<Answer>,
}

impl Memo {
    /// Asks, unless the very same question was answered the last time. Failures are not remembered.
    pub(crate) fn recall(&self, component: &PlacementComponent, view: &Snapshot, request: &Request) -> CallOutcome<Vec<Answer>> {
        let key = (component.name().to_owned(), request.owner.clone());
        if let Some(known) = self.lock().get(&key).filter(|known| known.is_about(component, view, request)) {
            return CallOutcome::remembered(known.answers.clone());
        }
        let outcome = component.place(view, request);
        let mut all = self.lock();
        let Ok(answers) = &outcome.result else {
            all.remove(&key);
            return outcome;
        };
        if all.len() >= MAX_QUESTIONS {
            all.clear();
        }
        let (component, answers) = (component.clone(), answers.clone());
        let (generation, view, request) = (view.generation(), view.view().clone(), request.clone());
        all.insert(key, Known { component, generation, view, request, answers });
        outcome
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn is_about(&self, component: &PlacementComponent, view: &Snapshot, request: &Request) -> bool {
        self.component.is_same(component)
            && self.generation == view.generation()
            && self.view == *view.view()
            && self.request == *request
    }
}
