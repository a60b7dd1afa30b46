//! Keeps the simulated kubelets to what real ones do.
//!
//! kwok finds pods by name where a kubelet knows their UIDs. Each change of a pod that goes makes it delete "that name" once more, and on
//! a busy machine the second time hits the pod's successor: a pod is lost that nobody deleted, and a test blames the operator.

use anyhow::{Context, Result};
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

/// Name of the policy, its binding, and who applies them.
const NAME: &str = "muster-test-kubelets";

/// Lets kwok delete only pods that are on their way out, and report only about pods that are on a node.
///
/// # Errors
/// When the API server refuses the policy.
pub(crate) async fn bound(client: &Client) -> Result<()> {
    let rule = |operation: &str, resource: &str| json!({ "apiGroups": [""], "apiVersions": ["v1"], "operations": [operation], "resources": [resource] });
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": { "name": NAME },
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": { "resourceRules": [rule("DELETE", "pods"), rule("UPDATE", "pods/status")] },
            "matchConditions": [{ "name": "kwok", "expression": "request.userInfo.username == 'kwok'" }],
            "validations": [
                {
                    "expression": "request.operation != 'DELETE' || has(oldObject.metadata.deletionTimestamp)",
                    "message": "nobody asked for this pod to go",
                },
                {
                    "expression": "request.operation != 'UPDATE' || (has(object.spec.nodeName) && object.spec.nodeName != '')",
                    "message": "this pod is on no node",
                },
            ],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": { "name": NAME },
        "spec": { "policyName": NAME, "validationActions": ["Deny"] },
    });
    let (params, policies) = (PatchParams::apply(NAME).force(), Api::<ValidatingAdmissionPolicy>::all(client.clone()));
    policies.patch(NAME, &params, &Patch::Apply(policy)).await.context("keeping the simulated kubelets to their pods")?;
    let bindings = Api::<ValidatingAdmissionPolicyBinding>::all(client.clone());
    bindings.patch(NAME, &params, &Patch::Apply(binding)).await.context("keeping the simulated kubelets to their pods")?;
    Ok(())
}
