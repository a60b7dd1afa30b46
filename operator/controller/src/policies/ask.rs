//! Asking one policy: the breaker, the call, and what its failure means.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use muster_api::policy::{OnFailure, PolicyMode};
use muster_core::placement::Reason;
use muster_core::placing::chain::Said;
use muster_policy_host::{CallError, CallOutcome, Permit};

use super::{Entry, Registry};
use crate::metrics::Metrics;

/// How long a set waits for a slow policy that is being asked about others.
const BUSY_PAUSE: Duration = Duration::from_millis(500);

/// Something about a policy that the set's owner should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// The policy.
    pub(crate) policy: String,
    /// What happened, as a condition reason.
    pub(crate) reason: Reason,
    /// When it is worth asking again.
    pub(crate) retry: Option<Duration>,
    /// Whether somebody should look at it; else it passes by itself.
    pub(crate) serious: bool,
}

/// Asks the policy of this name. Blocks for as long as the call takes: use a thread that may.
///
/// `call` asks one component. A policy that can't answer is replaced by what its object declares (`onFailure`); one that does
/// not exist, or that the namespace may not use, holds the set, because nobody declared what else to do.
pub(crate) fn ask<C, A>(
    registry: &Registry<C>,
    name: &str,
    namespace_labels: &BTreeMap<String, String>,
    metrics: &Metrics,
    call: impl Fn(&C) -> CallOutcome<A>,
) -> (Said<A>, Option<Trouble>) {
    let trouble = |code: &str, message: String, retry| Trouble {
        policy: name.to_owned(),
        reason: Reason { code: code.to_owned(), message },
        retry,
        serious: true,
    };
    let held = |trouble: Trouble| (Said::Hold(trouble.reason.clone()), Some(trouble));
    let Some(entry) = registry.get(name) else {
        let kind = registry.kind.object();
        let message =
            format!("there is no {kind} {name:?}; create it, or name another one in the annotation {}", registry.annotation());
        return held(trouble("PolicyNotFound", message, None));
    };
    if !entry.admits(namespace_labels) {
        let message = format!(
            "policy {name:?} is not for this namespace: its spec.namespaceSelector does not match; change the namespace's labels or the \
             selector, or name another policy in the annotation {}",
            registry.annotation()
        );
        return held(trouble("PolicyNotAllowed", message, None));
    }
    let Some(component) = &entry.component else {
        let problem = entry.problem.as_deref().unwrap_or("it is still being loaded");
        let trouble = trouble("PolicyNotReady", format!("policy {name:?} can't decide: {problem}"), None);
        return fall_back(&entry, metrics, &call, trouble);
    };
    let permit = entry.breaker.lock().unwrap_or_else(PoisonError::into_inner).permit(Instant::now());
    if let Permit::Refused { until } = permit {
        let retry = until.saturating_duration_since(Instant::now());
        let message = format!("policy {name:?} failed too often and is left alone for another {} s", retry.as_secs() + 1);
        return fall_back(&entry, metrics, &call, trouble("PolicyQuarantined", message, Some(retry)));
    }
    let outcome = call(component);
    if outcome.result.as_ref().is_err_and(|error| *error == CallError::Busy) {
        count(metrics, name, &outcome);
        let message =
            format!("policy {name:?} is slow, and is being asked about other sets; it is asked about this one in a moment");
        let busy = Trouble { serious: false, ..trouble("PolicyBusy", message, Some(BUSY_PAUSE)) };
        return match entry.spec.mode() {
            PolicyMode::Observe => (Said::Native { observed: None }, None),
            PolicyMode::Enforce => held(busy),
        };
    }
    let failed = outcome.result.as_ref().is_err_and(CallError::is_fault);
    let opened = entry.breaker.lock().unwrap_or_else(PoisonError::into_inner).record(Instant::now(), failed);
    count(metrics, name, &outcome);
    if entry.called(outcome.result.as_ref().err().map(|error| (fault_reason(error, opened), error.to_string()))) {
        registry.ailing.notify_one();
    }
    match outcome.result {
        Ok(answers) if entry.spec.mode() == PolicyMode::Observe => (Said::Native { observed: Some(answers) }, None),
        Ok(answers) => (Said::Answers(answers), None),
        Err(error) => {
            let quarantine = if opened { "; it failed too often and is left alone for a while" } else { "" };
            let message = format!("policy {name:?}: {error}{quarantine}");
            fall_back(&entry, metrics, &call, trouble("PolicyFailed", message, Some(Duration::from_secs(5))))
        }
    }
}

/// The fault as a condition reason: `AnswerTooLarge` for `answer-too-large`.
fn fault_reason(error: &CallError, quarantined: bool) -> String {
    if quarantined {
        return "Quarantined".to_owned();
    }
    let capitalised = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_uppercase().chain(letters).collect::<String>()).unwrap_or_default()
    };
    error.kind().split('-').map(capitalised).collect()
}

fn count<A>(metrics: &Metrics, name: &str, outcome: &CallOutcome<A>) {
    let word = outcome.result.as_ref().map_or_else(|error| error.kind(), |_| "answered");
    metrics.call(name, word, outcome.duration, outcome.peak_memory);
    for line in &outcome.logs {
        tracing::debug!(policy = name, level = ?line.level, "{}", line.message);
    }
    if outcome.logs_dropped > 0 {
        tracing::debug!(policy = name, lines = outcome.logs_dropped, "the policy wrote more than is kept of one call");
    }
}

/// What the policy's object declares for this case.
fn fall_back<C, A>(
    entry: &Entry<C>,
    metrics: &Metrics,
    call: &impl Fn(&C) -> CallOutcome<A>,
    trouble: Trouble,
) -> (Said<A>, Option<Trouble>) {
    let said = match (entry.spec.on_failure(), entry.spec.mode(), &entry.previous) {
        // A policy that is only observed never decided anything.
        (_, PolicyMode::Observe, _) | (OnFailure::Default, _, _) | (OnFailure::LastGood, _, None) => {
            Said::Native { observed: None }
        }
        (OnFailure::Hold, _, _) => Said::Hold(trouble.reason.clone()),
        (OnFailure::LastGood, _, Some(previous)) => {
            let outcome = call(previous);
            count(metrics, &entry.name, &outcome);
            outcome.result.map_or(Said::Native { observed: None }, Said::Answers)
        }
    };
    (said, Some(trouble))
}
