//! Events, each text of them for itself.
//!
//! kube's `Recorder` takes an event for another occurrence of one with the same type, reason, action and related object, whatever it
//! says, and keeps the words of the first: "2 groups ready" would swallow "3 groups ready". Here each text has a recorder of its own,
//! which counts the occurrences of that text as one series.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, Recorder, Reporter};
use muster_api::conditions::event;

/// Publishes events about sets and policies, under upstream's controller name.
pub(crate) struct Events {
    client: Client,
    reporter: Reporter,
    recorders: Mutex<Texts<Recorder>>,
}

impl Events {
    /// Events that this `instance` of the operator reports.
    pub(crate) fn new(client: Client, instance: &str) -> Self {
        let reporter = Reporter { controller: event::REPORTING_CONTROLLER.to_owned(), instance: Some(instance.to_owned()) };
        Self { client, reporter, recorders: Mutex::default() }
    }

    /// Publishes an event about an object: a new one, or one more occurrence of what was said within the last six minutes.
    ///
    /// # Errors
    /// With the API server's answer.
    pub(crate) async fn publish(&self, event: &Event, regarding: &ObjectReference) -> Result<(), kube::Error> {
        let subject = Subject::of(event, regarding);
        let text = event.note.as_deref().unwrap_or_default();
        let fresh = || Recorder::new(self.client.clone(), self.reporter.clone());
        let recorder = self.recorders().of(&subject, text, Instant::now(), fresh);
        match recorder.publish(event, regarding).await {
            // Somebody has deleted the event whose series this would have gone on with.
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                let recorder = self.recorders().renewed(&subject, text, Instant::now(), fresh);
                recorder.publish(event, regarding).await
            }
            outcome => outcome,
        }
    }

    fn recorders(&self) -> MutexGuard<'_, Texts<Recorder>> {
        self.recorders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What texts are told apart for: the object that an event is about, and the event's reason.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Subject {
    uid: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    reason: String,
}

impl Subject {
    fn of(event: &Event, regarding: &ObjectReference) -> Self {
        let ObjectReference { uid, namespace, name, .. } = regarding.clone();
        Self { uid, namespace, name, reason: event.reason.clone() }
    }
}

/// Something (a recorder) for each text about each subject, forgotten some time after its last use.
#[derive(Debug)]
struct Texts<R> {
    subjects: HashMap<Subject, HashMap<String, Used<R>>>,
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Used<R> {
    what: R,
    last: Instant,
}

impl<R> Default for Texts<R> {
    fn default() -> Self {
        Self { subjects: HashMap::new(), swept: None }
    }
}

impl<R: Clone> Texts<R> {
    /// After this long kube's recorder begins a new series by itself.
    const KEPT: Duration = Duration::from_mins(6);
    /// How often is looked for what can be forgotten.
    const SWEEP: Duration = Duration::from_mins(1);
    /// Texts about one subject beyond so many are counted as one, so that a reason that never says the same twice does not fill the API
    /// server with events.
    const MOST: usize = 128;

    /// What this text has; a `fresh` one if it was not used for a while.
    fn of(&mut self, subject: &Subject, text: &str, now: Instant, fresh: impl FnOnce() -> R) -> R {
        self.sweep(now);
        let texts = self.subjects.entry(subject.clone()).or_default();
        let entry = texts.entry(Self::counted(texts, text)).or_insert_with(|| Used { what: fresh(), last: now });
        entry.last = now;
        entry.what.clone()
    }

    /// A `fresh` one for this text, in the place of what it has.
    fn renewed(&mut self, subject: &Subject, text: &str, now: Instant, fresh: impl FnOnce() -> R) -> R {
        let texts = self.subjects.entry(subject.clone()).or_default();
        let what = fresh();
        texts.insert(Self::counted(texts, text), Used { what: what.clone(), last: now });
        what
    }

    /// The text that it is counted as: itself, or nothing where there are too many.
    fn counted(texts: &HashMap<String, Used<R>>, text: &str) -> String {
        let itself = texts.len() < Self::MOST || texts.contains_key(text);
        if itself { text.to_owned() } else { String::new() }
    }

    fn sweep(&mut self, now: Instant) {
        let since = self.swept.map(|swept| now.saturating_duration_since(swept));
        if since.is_some_and(|since| since < Self::SWEEP) {
            return;
        }
        self.swept = Some(now);
        self.subjects.retain(|_, texts| {
            texts.retain(|_, used| now.saturating_duration_since(used.last) < Self::KEPT);
            !texts.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(reason: &str) -> Subject {
        let text = |text: &str| Some(text.to_owned());
        Subject { uid: text("set-uid"), namespace: text("team"), name: text("serve"), reason: reason.to_owned() }
    }

    /// Each use of a text at a second, as the number of what it was given; new ones are numbered as they come.
    fn given(uses: &[(u64, &str)]) -> Vec<usize> {
        let (mut texts, mut made, began) = (Texts::default(), 0, Instant::now());
        let mut fresh = || {
            made += 1;
            made
        };
        let updating = subject("GroupsUpdating");
        let uses = uses.iter();
        uses.map(|(second, text)| texts.of(&updating, text, began + Duration::from_secs(*second), &mut fresh)).collect()
    }

    #[test]
    fn each_text_has_its_own_for_as_long_as_it_is_said_again_within_six_minutes() {
        assert_eq!(given(&[(0, "replica 1"), (1, "replica 0"), (2, "replica 1")]), [1, 2, 1]);
        assert_eq!(given(&[(0, "replica 1"), (359, "replica 1"), (718, "replica 1")]), [1, 1, 1]);
        assert_eq!(given(&[(0, "replica 1"), (360, "replica 1")]), [1, 2]);
    }

    #[test]
    fn the_same_text_about_something_else_is_another() {
        let (mut texts, now) = (Texts::default(), Instant::now());
        assert_eq!(texts.of(&subject("FailedCreate"), "no", now, || 1), 1);
        assert_eq!(texts.of(&subject("FailedUpdate"), "no", now, || 2), 2);
        assert_eq!(texts.of(&subject("FailedCreate"), "no", now, || 3), 1);
    }

    #[test]
    fn a_text_whose_event_was_deleted_begins_anew() {
        let (mut texts, now) = (Texts::default(), Instant::now());
        assert_eq!(texts.of(&subject("Loaded"), "yes", now, || 1), 1);
        assert_eq!(texts.renewed(&subject("Loaded"), "yes", now, || 2), 2);
        assert_eq!(texts.of(&subject("Loaded"), "yes", now, || 3), 2);
    }

    #[test]
    fn a_reason_that_never_says_the_same_twice_is_counted_as_one_after_128_texts() {
        let (mut texts, now) = (Texts::default(), Instant::now());
        let mut nth = |number: usize| texts.of(&subject("PlacementPending"), &format!("text {number}"), now, || number);
        let given: Vec<usize> = (0..131).map(&mut nth).collect();
        assert_eq!(given[126..], [126, 127, 128, 128, 128]);
        assert_eq!(nth(5), 5);
    }
}
