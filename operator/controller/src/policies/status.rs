//! What a policy object says about itself: one condition per step of loading it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use muster_api::policy::{ActiveComponent, CandidateComponent, PolicyStatus};
use muster_policy_host::Step;

/// The conditions in the order of the steps, `Ready` last.
const STEPS: [&str; 5] = [FETCHED, VERIFIED, "Accepted", "Compiled", "SettingsValid"];
const FETCHED: &str = "Fetched";
const VERIFIED: &str = "Verified";
const READY: &str = "Ready";
/// Whether the component answers when it is asked; beside the others, because a policy that loads may still fail.
const ANSWERING: &str = "Answering";

/// Reason of `Fetched`, and of an event, when a kept copy is used because the registry can't be reached.
pub(super) const KEPT: &str = "KeptCopy";

/// How loading a policy ended.
#[derive(Debug, Clone)]
pub(super) struct Loading {
    /// The step that failed, by its position in [`STEPS`], with a reason and a message; `None` when all went well.
    pub(super) failed: Option<Fault>,
    /// Digest of what was loaded, as far as it was fetched; else that of the artifact in its registry.
    pub(super) digest: Option<String>,
    /// Whose signature was found.
    pub(super) verification: Verification,
    /// Why a kept copy of the component was loaded, if it was: its registry can't be reached.
    pub(super) kept: Option<String>,
    /// The component that answers now, old or new; since when is found out here.
    pub(super) active: Option<ActiveComponent>,
}

/// Whether a signature was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verification {
    /// No.
    NotAsked,
    /// Yes, and this signer's was found.
    By(String),
}

/// What went wrong.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    /// Which condition is False.
    pub(super) condition: &'static str,
    /// Its reason.
    pub(super) reason: &'static str,
    /// What to do about it.
    pub(super) message: String,
}

/// The condition that speaks of a step, and the reason when it fails.
pub(super) fn condition_of(step: Step) -> (&'static str, &'static str) {
    match step {
        Step::Size => ("Accepted", "TooLarge"),
        Step::Accepted => ("Accepted", "Refused"),
        Step::Compiled => ("Compiled", "CompileFailed"),
        Step::Described => ("Compiled", "DescribeFailed"),
        Step::SettingsValid => ("SettingsValid", "SettingsInvalid"),
    }
}

/// The status after loading. Conditions that say the same as before keep the time of their last change.
pub(super) fn after(loading: &Loading, before: Option<&PolicyStatus>, generation: Option<i64>, now: Timestamp) -> PolicyStatus {
    let failed_at = loading.failed.as_ref().and_then(|fault| STEPS.iter().position(|step| *step == fault.condition));
    let mut conditions = Vec::new();
    for (position, step) in STEPS.iter().enumerate() {
        let (status, reason, message) = match (failed_at, &loading.failed) {
            (Some(failed), Some(fault)) if position == failed => ("False", fault.reason, fault.message.clone()),
            (Some(failed), _) if position > failed => ("Unknown", "NotReached", format!("{} failed", STEPS[failed])),
            _ if *step == FETCHED && loading.kept.is_some() => ("True", KEPT, loading.kept.clone().unwrap_or_default()),
            _ if *step == VERIFIED => match &loading.verification {
                Verification::NotAsked => ("True", "NotAsked", "no signature was asked for".to_owned()),
                Verification::By(signer) => ("True", "Succeeded", format!("signed by {signer}")),
            },
            _ => ("True", "Succeeded", String::new()),
        };
        conditions.push(condition(step, status, reason, &message));
    }
    conditions.push(match &loading.failed {
        None if loading.kept.is_some() => {
            condition(READY, "True", "Loaded", "the policy decides, from the copy of it that was kept")
        }
        None => condition(READY, "True", "Loaded", "the policy decides"),
        Some(fault) => {
            let kept = if loading.active.is_some() { "; the last good version keeps deciding" } else { "" };
            condition(READY, "False", fault.reason, &format!("{}{kept}", fault.message))
        }
    });
    for condition in &mut conditions {
        condition.observed_generation = generation;
        condition.last_transition_time = Time(now);
        let same = before.and_then(|before| before.conditions.iter().find(|old| old.type_ == condition.type_));
        if let Some(same) = same.filter(|old| old.status == condition.status) {
            condition.last_transition_time = same.last_transition_time.clone();
        }
    }
    let active = loading.active.clone().map(|active| {
        let known = before.and_then(|before| before.active.as_ref()).filter(|known| known.digest == active.digest);
        let since = known.and_then(|known| known.since.clone()).unwrap_or(Time(now));
        ActiveComponent { since: Some(since), ..active }
    });
    let candidate = loading.digest.clone().filter(|_| loading.failed.is_some()).map(|digest| CandidateComponent { digest });
    PolicyStatus {
        conditions,
        observed_generation: generation,
        active,
        candidate,
        last_error: loading.failed.as_ref().map(|fault| fault.message.clone()),
    }
}

/// The conditions with what became of the last call. A policy that was never asked has no such condition.
pub(super) fn with_answering(conditions: &[Condition], fault: Option<&(String, String)>, now: Timestamp) -> Vec<Condition> {
    let mut conditions = conditions.to_vec();
    let (status, reason, message) = match fault {
        None => ("True", "Answered", "the last call was answered"),
        Some((reason, message)) => ("False", reason.as_str(), message.as_str()),
    };
    let mut answering = condition(ANSWERING, status, reason, message);
    answering.last_transition_time = Time(now);
    conditions.retain(|known| known.type_ != ANSWERING);
    conditions.push(answering);
    conditions
}

fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Condition {
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: muster_core::text::truncated(message, 4096),
        observed_generation: None,
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statuses(status: &PolicyStatus) -> Vec<(&str, &str, &str)> {
        status.conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str())).collect()
    }

    #[test]
    fn a_failed_step_leaves_the_later_ones_unknown_and_the_policy_not_ready() {
        let fault = Fault { condition: "Compiled", reason: "CompileFailed", message: "bad magic".to_owned() };
        let loading = Loading {
            failed: Some(fault),
            digest: Some("sha256:1".to_owned()),
            verification: Verification::NotAsked,
            kept: None,
            active: None,
        };
        let status = after(&loading, None, Some(3), Timestamp::UNIX_EPOCH);
        let expected = [
            ("Fetched", "True", "Succeeded"),
            ("Verified", "True", "NotAsked"),
            ("Accepted", "True", "Succeeded"),
            ("Compiled", "False", "CompileFailed"),
            ("SettingsValid", "Unknown", "NotReached"),
            ("Ready", "False", "CompileFailed"),
        ];
        assert_eq!(statuses(&status), expected);
        assert_eq!(status.last_error.as_deref(), Some("bad magic"));
        assert_eq!(status.candidate.unwrap().digest, "sha256:1");
    }

    #[test]
    fn a_signer_is_named_and_a_missing_signature_stops_what_comes_after() {
        let by = Verification::By("the key platform".to_owned());
        let loading = Loading { failed: None, digest: None, verification: by, kept: None, active: None };
        let status = after(&loading, None, Some(4), Timestamp::UNIX_EPOCH);
        assert_eq!(status.conditions[1].message, "signed by the key platform");
        assert_eq!(status.conditions[1].observed_generation, Some(4));
        let fault = Fault { condition: "Verified", reason: "NotTrusted", message: "nobody signed".to_owned() };
        let manifest = Some("sha256:2".to_owned());
        let loading =
            Loading { failed: Some(fault), digest: manifest, verification: Verification::NotAsked, kept: None, active: None };
        let status = after(&loading, None, Some(4), Timestamp::UNIX_EPOCH);
        let expected = [
            ("Fetched", "True", "Succeeded"),
            ("Verified", "False", "NotTrusted"),
            ("Accepted", "Unknown", "NotReached"),
            ("Compiled", "Unknown", "NotReached"),
            ("SettingsValid", "Unknown", "NotReached"),
            ("Ready", "False", "NotTrusted"),
        ];
        assert_eq!(statuses(&status), expected);
        assert_eq!(status.candidate.unwrap().digest, "sha256:2");
    }

    #[test]
    fn a_kept_copy_is_told_and_the_policy_is_ready() {
        let kept = Some("the registry can't be used now".to_owned());
        let by = Verification::By("the key platform".to_owned());
        let loading = Loading { failed: None, digest: Some("sha256:1".to_owned()), verification: by, kept, active: None };
        let status = after(&loading, None, Some(1), Timestamp::UNIX_EPOCH);
        assert_eq!(statuses(&status)[..2], [("Fetched", "True", "KeptCopy"), ("Verified", "True", "Succeeded")]);
        assert_eq!(status.conditions[0].message, "the registry can't be used now");
        let ready = status.conditions.last().unwrap();
        assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("True", "Loaded"));
        assert_eq!(ready.message, "the policy decides, from the copy of it that was kept");
        assert_eq!(status.last_error, None);
    }

    #[test]
    fn a_failed_call_is_told_beside_the_steps_of_loading() {
        let loading = Loading { failed: None, digest: None, verification: Verification::NotAsked, kept: None, active: None };
        let status = after(&loading, None, Some(1), Timestamp::UNIX_EPOCH);
        let fault = ("Trap".to_owned(), "the policy trapped".to_owned());
        let failing = with_answering(&status.conditions, Some(&fault), Timestamp::UNIX_EPOCH);
        let last = failing.last().unwrap();
        assert_eq!((last.type_.as_str(), last.status.as_str(), last.reason.as_str()), ("Answering", "False", "Trap"));
        let well = with_answering(&failing, None, Timestamp::UNIX_EPOCH);
        assert_eq!(well.len(), status.conditions.len() + 1);
        assert_eq!(well.last().unwrap().status, "True");
    }

    #[test]
    fn a_last_good_version_is_named_while_the_new_one_is_refused() {
        let fault =
            Fault { condition: "SettingsValid", reason: "SettingsInvalid", message: "/mode: must be Required".to_owned() };
        let named = |text: &str| Some(text.to_owned());
        let active = Some(ActiveComponent {
            digest: "sha256:1".to_owned(),
            name: named("node-pool"),
            version: named("0.1.0"),
            ..ActiveComponent::default()
        });
        let loading = Loading {
            failed: Some(fault),
            digest: Some("sha256:1".to_owned()),
            verification: Verification::NotAsked,
            kept: None,
            active,
        };
        let status = after(&loading, None, Some(2), Timestamp::UNIX_EPOCH);
        let ready = status.conditions.last().unwrap();
        assert_eq!(ready.message, "/mode: must be Required; the last good version keeps deciding");
        assert_eq!(status.active.unwrap().name.as_deref(), Some("node-pool"));
    }
}
