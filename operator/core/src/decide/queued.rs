//! Sets in a queue of Kueue's that ask for exclusive placement, and whose nodes Kueue chooses.

use k8s_openapi::jiff::Timestamp;
use muster_api::conditions::{EXCLUSIVITY_LOST, event};
use muster_api::{LeaderWorkerSet, LeaderWorkerSetStatus};

use super::conditions::Own;
use crate::kueue;
use crate::plan::{Note, Plan};

/// Writes what the set gets instead into the condition, and an event when that changes.
pub(super) fn report(set: &LeaderWorkerSet, status: &mut LeaderWorkerSetStatus, plan: &mut Plan, now: Timestamp) {
    let text = kueue::lost(set);
    let told = text.as_ref().map(|text| Note::warning(event::EXCLUSIVITY_LOST, "Place", text));
    let own = Own {
        type_: EXCLUSIVITY_LOST,
        bad: text.map(|text| ("PlacedByKueue", text)),
        good: (
            "NotPlacedByKueue",
            "Kueue does not choose the nodes of the set's groups, or the set does not ask for exclusive placement",
        ),
    };
    own.report(set, status, told, plan, now);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn set(labels: &str) -> LeaderWorkerSet {
        testing::set(|set| {
            let asks = serde_json::json!({ "kueue.x-k8s.io/podset-required-topology": "example.com/rack" });
            set["spec"]["leaderWorkerTemplate"]["workerTemplate"]["metadata"]["annotations"] = asks;
            set["metadata"]["labels"][labels] = "team".into();
            set["metadata"]["annotations"]["leaderworkerset.sigs.k8s.io/exclusive-topology"] = "example.com/rack".into();
        })
    }

    /// Status and reason of the condition if there is one, and how many events there are.
    fn reported(set: &LeaderWorkerSet, status: &mut LeaderWorkerSetStatus) -> (Option<(String, String)>, usize) {
        let mut plan = Plan::default();
        report(set, status, &mut plan, testing::now());
        let condition = status.conditions.iter().find(|condition| condition.type_ == "ExclusivityLost");
        (condition.map(|condition| (condition.status.clone(), condition.reason.clone())), plan.notes.len())
    }

    #[test]
    fn what_kueue_does_not_know_is_told_once_and_taken_back() {
        let lost = || Some(("True".to_owned(), "PlacedByKueue".to_owned()));
        let (queued, mut status) = (set("kueue.x-k8s.io/queue-name"), LeaderWorkerSetStatus::default());
        assert_eq!(reported(&queued, &mut status), (lost(), 1));
        assert_eq!(reported(&queued, &mut status), (lost(), 0));
        let over = Some(("False".to_owned(), "NotPlacedByKueue".to_owned()));
        assert_eq!(reported(&set("app"), &mut status), (over, 0));
    }

    #[test]
    fn a_set_that_muster_places_has_no_such_condition() {
        assert_eq!(reported(&set("app"), &mut LeaderWorkerSetStatus::default()), (None, 0));
    }
}
