//! Answers that are good for as long as nothing has changed.
//!
//! A call's outcome depends on nothing but the component with its settings, the snapshot and the request. A set whose groups wait is
//! looked at again for many reasons that are none to ask anew.
//!
//! Answers belong to a policy object, not to the name that a component gives itself: two objects may use one component with other
//! settings, and what a component calls itself is up to whoever wrote it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use muster_core::cluster::{Snapshot, View};
use muster_core::placement::{Answer, Request};
use muster_policy_host::{CallOutcome, PlacementComponent};

/// Questions that are remembered, one of each set and policy.
const MAX_QUESTIONS: usize = 1024;

/// The last answers of each policy object for each set.
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
    /// Asks the component of a policy object, unless the very same question was answered the last time. Failures are not
    /// remembered.
    pub(crate) fn recall(
        &self,
        policy: &str,
        component: &PlacementComponent,
        view: &Snapshot,
        request: &Request,
    ) -> CallOutcome<Vec<Answer>> {
        let key = (policy.to_owned(), request.owner.clone());
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]
mod tests {
    use muster_core::cluster::Index;
    use muster_core::placement::{Decision, Demand, ShapeId, Unit};
    use muster_guests::{Guest, Says, saying};
    use muster_policy_host::{Engine, EngineOptions, Limits};
    use serde_json::json;

    use super::*;

    fn request() -> Request {
        let pods = vec![Demand { shape: ShapeId(0), pods: 1 }];
        Request { owner: "ml/train".to_owned(), units: vec![Unit { id: 0, pods, ..Unit::default() }], ..Request::default() }
    }

    /// Holds for as many milliseconds as its settings have bytes; it always calls itself `fixture`.
    fn bytes() -> Vec<u8> {
        let (place, functions) = saying(&Says::Hold(0), &[], &[]);
        // The number lies behind the case in the answer that is copied for every unit.
        let place = place.replacen("(local.set", "(i32.store (i32.const 7176) (local.get 1)) (local.set", 1);
        Guest { place: &place, functions: &functions, ..Guest::default() }.component()
    }

    #[test]
    fn two_policies_of_one_component_never_share_an_answer() {
        let engine = Engine::new(EngineOptions::default()).unwrap();
        let one = engine.load_placement(&bytes(), Limits::default(), &json!({})).unwrap();
        let other = one.reconfigured(Limits::default(), &json!({ "a": 1 })).unwrap();
        let (memo, view) = (Memo::default(), Index::new().snapshot(View::default()));
        let held = |policy: &str, component: &PlacementComponent| {
            let outcome = memo.recall(policy, component, &view, &request());
            let answers = outcome.result.unwrap();
            let Decision::Hold { retry_ms } = answers[0].decision else { panic!("{answers:?}") };
            (retry_ms, outcome.peak_memory > 0)
        };
        // `{}` has 2 bytes and `{"a":1}` has 7. What was asked before is not asked again, whoever was asked in between.
        assert_eq!([held("one", &one), held("other", &other)], [(2, true), (7, true)]);
        assert_eq!([held("one", &one), held("other", &other)], [(2, false), (7, false)]);
        // The same object with other settings, and then with those of before.
        assert_eq!([held("one", &other), held("one", &one)], [(7, true), (2, true)]);
    }
}
