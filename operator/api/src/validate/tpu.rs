//! A leader with TPUs needs a place among the hosts of a slice, and one that is in no subgroup has none, unless its template gives it one.

use k8s_openapi::api::core::v1::Container;

use crate::field::{FieldError, Verdict};
use crate::leader_worker_set::{LeaderWorkerSet, SubGroupPolicyType};
use crate::names::{annotation, env};

const PATH: &str = "spec.leaderWorkerTemplate.subGroupPolicy.subGroupPolicyType";
const TPU: &str = "google.com/tpu";

/// Upstream lets such a set through and refuses every leader of it over a label that it never set. A set that is there already is
/// left alone.
pub(super) fn check(set: &LeaderWorkerSet, old: Option<&LeaderWorkerSet>, verdict: &mut Verdict) {
    if !excluded_with_tpus(set) || old.is_some_and(excluded_with_tpus) {
        return;
    }
    let field = if set.spec.leader_worker_template.leader_template.is_some() { "leaderTemplate" } else { "workerTemplate" };
    let detail = format!(
        "must be LeaderWorker while the leader requests {TPU} (spec.leaderWorkerTemplate.{field}), because every TPU slice is a \
         subgroup; or give the set a leaderTemplate that does not request {TPU}, or that sets {} itself",
        env::TPU_WORKER_HOSTNAMES
    );
    verdict.errors.push(FieldError::invalid(PATH, SubGroupPolicyType::LeaderExcluded.as_str(), detail));
}

fn excluded_with_tpus(set: &LeaderWorkerSet) -> bool {
    let excluded = set.sub_group_policy_type() == Some(SubGroupPolicyType::LeaderExcluded);
    let template = set.leader_template();
    // A template that can't be read has its own error.
    let Some(spec) = template.typed().ok().and_then(|template| template.spec).filter(|_| excluded) else {
        return false;
    };
    let init = spec.init_containers.iter().flatten();
    let first = spec.containers.iter().chain(init).find(|container| requests_tpus(container));
    // A slice of a multi-slice job is a subgroup, whatever the template says of its hosts.
    first.is_some_and(|container| !knows_its_hosts(container) || template.annotations().contains_key(annotation::TPU_MULTISLICE))
}

/// Whether the template arranges the slice itself, so that admission of the pod adds nothing.
fn knows_its_hosts(container: &Container) -> bool {
    let mut names = container.env.iter().flatten().map(|variable| variable.name.as_str());
    names.any(|name| name == env::TPU_WORKER_HOSTNAMES || name == env::TPU_WORKER_ID)
}

/// By its limit, or by its request if it has no limit: as admission of the pod counts.
fn requests_tpus(container: &Container) -> bool {
    let Some(resources) = &container.resources else { return false };
    let asked = [&resources.limits, &resources.requests].into_iter().flatten().find_map(|amounts| amounts.get(TPU));
    asked.is_some_and(|amount| amount.0.chars().any(|digit| ('1'..='9').contains(&digit)))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::super::{validate_create, validate_update};
    use super::*;

    /// A set of three with subgroups of two whose pods have this container.
    fn set(kind: &str, resources: &Value, leader: &Value) -> LeaderWorkerSet {
        let template =
            |resources: &Value| json!({ "spec": { "containers": [{ "name": "main", "image": "i", "resources": resources }] } });
        let mut raw = json!({
            "apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet",
            "metadata": { "name": "a" },
            "spec": { "replicas": 1, "leaderWorkerTemplate": {
                "size": 3, "workerTemplate": template(resources),
                "subGroupPolicy": { "subGroupSize": 2, "subGroupPolicyType": kind } } },
        });
        if !leader.is_null() {
            raw["spec"]["leaderWorkerTemplate"]["leaderTemplate"] = template(leader);
        }
        serde_json::from_value(raw).unwrap()
    }

    #[rstest]
    #[case::by_the_only_template(&json!({ "limits": { "google.com/tpu": "4" } }), &json!(null), "workerTemplate")]
    #[case::by_a_request(&json!({ "requests": { "google.com/tpu": 4 } }), &json!(null), "workerTemplate")]
    #[case::by_its_own_template(&json!({}), &json!({ "limits": { "google.com/tpu": "1" } }), "leaderTemplate")]
    fn an_excluded_leader_with_tpus_is_refused_with_the_remedy(
        #[case] worker: &Value,
        #[case] leader: &Value,
        #[case] field: &str,
    ) {
        let bad = set("LeaderExcluded", worker, leader);
        let expected = format!(
            "spec.leaderWorkerTemplate.subGroupPolicy.subGroupPolicyType: Invalid value: \"LeaderExcluded\": must be LeaderWorker while the \
             leader requests google.com/tpu (spec.leaderWorkerTemplate.{field}), because every TPU slice is a subgroup; or give the set a \
             leaderTemplate that does not request google.com/tpu, or that sets TPU_WORKER_HOSTNAMES itself"
        );
        let errors = |verdict: Verdict| verdict.errors.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(errors(validate_create(&bad)), std::slice::from_ref(&expected));
        assert_eq!(errors(validate_update(&bad, &bad)), Vec::<String>::new(), "a set that is there is not locked");
        let good = set("LeaderExcluded", worker, &json!({}));
        assert_eq!(errors(validate_update(&good, &bad)), [expected]);
    }

    #[rstest]
    #[case::in_a_subgroup("LeaderWorker", &json!({ "limits": { "google.com/tpu": "4" } }), &json!(null))]
    #[case::workers_only("LeaderExcluded", &json!({ "limits": { "google.com/tpu": "4" } }), &json!({}))]
    #[case::none("LeaderExcluded", &json!({ "limits": { "google.com/tpu": "0" }, "requests": { "google.com/tpu": "0" } }), &json!(null))]
    fn other_leaders_pass(#[case] kind: &str, #[case] worker: &Value, #[case] leader: &Value) {
        assert_eq!(validate_create(&set(kind, worker, leader)).errors, Vec::new());
    }

    #[rstest]
    #[case::by_its_hosts("TPU_WORKER_HOSTNAMES", json!({}), true)]
    #[case::by_its_id("TPU_WORKER_ID", json!({}), true)]
    #[case::another_variable("TPU_NAME", json!({}), false)]
    #[case::in_a_job_of_several_slices("TPU_WORKER_ID", json!({ "muster.dev/tpu-multislice": "group" }), false)]
    fn a_leader_whose_template_arranges_its_slice_may_be_excluded(
        #[case] variable: &str,
        #[case] annotations: Value,
        #[case] accepted: bool,
    ) {
        let tpus = json!({ "limits": { "google.com/tpu": "4" } });
        let mut set = set("LeaderExcluded", &tpus, &tpus);
        let template = set.spec.leader_worker_template.leader_template.as_mut().unwrap();
        template.0["metadata"] = json!({ "annotations": annotations });
        template.0["spec"]["containers"][0]["env"] = json!([{ "name": variable, "value": "x" }]);
        assert_eq!(validate_create(&set).errors.is_empty(), accepted);
    }
}
