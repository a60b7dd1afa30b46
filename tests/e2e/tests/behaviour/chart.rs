//! The installed release is what runs.

use anyhow::{Result, ensure};
use kube::{Api, ResourceExt};
use muster_api::{PlacementPolicy, StartupPolicy};
use muster_cluster::{Cluster, NAMESPACE, RELEASE, eventually};
use muster_e2e::{PATIENCE, Set, await_ready};
use serde_json::{Value, json};

#[tokio::test]
async fn the_operator_is_ready_and_counts_what_it_writes() -> Result<()> {
    let cluster = Cluster::shared().await;
    cluster.operator().ready().await?;
    let namespace = cluster.namespace("metrics").await?;
    namespace.apply(&Set::new("vllm").groups(1, 2).manifest()).await?;
    await_ready(&namespace, "vllm").await?;
    let metrics = cluster.operator().metrics().await?;
    for (metric, labels) in [
        ("muster_reconciles_total", r#"outcome="done""#),
        ("muster_writes_total", r#"write="apply-leader-set""#),
        ("muster_writes_total", r#"write="create-worker-set""#),
    ] {
        let line = format!("{metric}{{{labels}}} ");
        let value = metrics.lines().find_map(|found| found.strip_prefix(&line)).and_then(|value| value.parse::<u64>().ok());
        assert!(value.is_some_and(|value| value > 0), "no {line}in\n{metrics}");
    }
    Ok(())
}

#[tokio::test]
async fn values_reach_the_operator() -> Result<()> {
    let cluster = Cluster::shared().await;
    // The tests' cluster is installed with these; the tests of `unplaceable` wait for them.
    let config = cluster.kubectl(&["get", "configmap", RELEASE, "-n", NAMESPACE, "-o", "jsonpath={.data.config\\.yaml}"]).await?;
    let config: Value = serde_norway::from_str(&config)?;
    assert_eq!(config["placement"]["unplaceableGraceSeconds"], 2);
    assert_eq!(config["placement"]["stuckGraceSeconds"], 3);
    cluster.namespace("values").await?.apply(&Set::new("vllm").manifest()).await?;
    eventually(PATIENCE, || async {
        let log = std::fs::read_to_string(cluster.operator().log())?;
        ensure!(log.contains(" DEBUG "), "no debug lines, as log.level asks for, in {}", cluster.operator().log().display());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_policies_of_the_chart_are_loaded() -> Result<()> {
    let cluster = Cluster::shared().await;
    let client = cluster.client().await?;
    let ready = |policy: Value| {
        let conditions = policy["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    };
    eventually(PATIENCE, || async {
        let placement = Api::<PlacementPolicy>::all(client.clone()).get("node-pool").await?;
        let startup = Api::<StartupPolicy>::all(client.clone()).get("leader-ready").await?;
        for (name, policy) in
            [(placement.name_any(), serde_json::to_value(&placement)?), (startup.name_any(), serde_json::to_value(&startup)?)]
        {
            ensure!(ready(policy.clone()), "{name}: {:#}", policy["status"]);
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_manifests_without_helm_are_what_the_api_server_takes() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("kustomize").await?;
    // As somebody's own kustomization would use it, under names that the tests' release doesn't have.
    let folder = std::env::temp_dir().join(namespace.name());
    let up = "../".repeat(folder.components().count() - 1);
    let base = format!("{up}{}", concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/kustomize").trim_start_matches('/'));
    let own = json!({
        "resources": [base], "namespace": namespace.name(), "namePrefix": "try-",
        "images": [{ "name": "muster", "newName": "registry.example.com/muster" }],
    });
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("kustomization.yaml"), own.to_string())?;
    let path = folder.display().to_string();
    let rendered = namespace.kubectl(&["kustomize", &path]).await?;
    let taken = namespace.kubectl(&["apply", "--server-side", "--dry-run=server", "-k", &path]).await?;
    std::fs::remove_dir_all(&folder)?;
    assert!(rendered.contains("image: registry.example.com/muster:"), "{rendered}");
    for object in [
        "deployment.apps/try-muster",
        "clusterrole.rbac.authorization.k8s.io/try-muster.muster-system",
        "mutatingwebhookconfiguration.admissionregistration.k8s.io/try-muster.muster-system",
        "placementpolicy.policy.muster.dev/try-node-pool",
    ] {
        assert!(taken.contains(&format!("{object} serverside-applied (server dry run)")), "no {object} in\n{taken}");
    }
    Ok(())
}

#[tokio::test]
async fn the_api_server_asks_about_sets_and_group_members_and_about_nothing_else() -> Result<()> {
    let cluster = Cluster::shared().await;
    let sets = |name: &str, resource: &str, operations: Value, conditions: Value, failure_policy: &str| {
        json!({
            "name": name, "rules": [{ "apiGroups": ["leaderworkerset.x-k8s.io"], "apiVersions": ["v1"],
                "resources": [resource], "operations": operations, "scope": "Namespaced" }],
            "objectSelector": {}, "namespaceSelector": {}, "matchConditions": conditions, "failurePolicy": failure_policy,
            "sideEffects": "None", "timeoutSeconds": 10,
        })
    };
    let written = json!(["CREATE", "UPDATE"]);
    let stays = json!(["is-not-being-deleted"]);
    let pods = json!({
        "name": "pod.mutate.muster.dev",
        "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"], "scope": "Namespaced" }],
        "objectSelector": { "matchExpressions": [{ "key": "leaderworkerset.sigs.k8s.io/name", "operator": "Exists" }] },
        "namespaceSelector": {}, "matchConditions": ["is-a-group-member"], "failurePolicy": "Fail",
        "sideEffects": "None", "timeoutSeconds": 10,
    });
    let expected = [
        (
            "mutatingwebhookconfiguration",
            vec![sets("set.mutate.muster.dev", "leaderworkersets", written.clone(), stays.clone(), "Fail"), pods],
        ),
        (
            "validatingwebhookconfiguration",
            vec![
                sets("set.validate.muster.dev", "leaderworkersets", written, stays, "Fail"),
                sets("scale.validate.muster.dev", "leaderworkersets/scale", json!(["UPDATE"]), json!([]), "Ignore"),
            ],
        ),
    ];
    for (kind, webhooks) in expected {
        let name = format!("{RELEASE}.{NAMESPACE}");
        let stored: Value = serde_json::from_str(&cluster.kubectl(&["get", kind, &name, "-o", "json"]).await?)?;
        let told = stored["webhooks"].as_array().into_iter().flatten().map(|webhook| {
            let conditions = webhook["matchConditions"].as_array().into_iter().flatten();
            let mut told = json!({ "matchConditions": conditions.map(|condition| &condition["name"]).collect::<Vec<_>>() });
            for field in
                ["name", "rules", "objectSelector", "namespaceSelector", "failurePolicy", "sideEffects", "timeoutSeconds"]
            {
                told[field] = webhook[field].clone();
            }
            told
        });
        assert_eq!(told.collect::<Vec<_>>(), webhooks, "{kind}");
    }
    Ok(())
}

#[tokio::test]
async fn members_of_the_namespace_may_edit_and_scale_sets() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("roles").await?;
    for (user, role) in [("ed", "edit"), ("vi", "view")] {
        namespace.kubectl(&["create", "rolebinding", role, &format!("--clusterrole={role}"), &format!("--user={user}")]).await?;
    }
    let may = async |user: &str, verb: &str, resource: &str| {
        // kubectl fails when the answer is no.
        let answer = namespace.kubectl(&["auth", "can-i", verb, resource, &format!("--as={user}")]).await;
        answer.is_ok_and(|answer| answer.trim() == "yes")
    };
    eventually(PATIENCE, || async {
        ensure!(may("ed", "update", "leaderworkersets.leaderworkerset.x-k8s.io").await, "editors may not edit");
        ensure!(may("ed", "patch", "leaderworkersets.leaderworkerset.x-k8s.io/scale").await, "editors may not scale");
        ensure!(may("vi", "get", "leaderworkersets.leaderworkerset.x-k8s.io/status").await, "viewers may not see");
        Ok(())
    })
    .await?;
    assert!(!may("vi", "update", "leaderworkersets.leaderworkerset.x-k8s.io").await, "viewers may edit");
    Ok(())
}

/// The operator writes such owners all the time, and the cluster of the tests asks for the right to do so.
#[tokio::test]
async fn only_those_who_may_set_finalizers_of_a_set_can_hold_up_its_deletion() -> Result<()> {
    let cluster = Cluster::shared().await;
    let namespace = cluster.namespace("owners").await?;
    namespace.apply(&Set::new("vllm").groups(0, 1).manifest()).await?;
    let uid = muster_e2e::get(&namespace, "vllm").await?.uid();
    namespace.kubectl(&["create", "rolebinding", "edit", "--clusterrole=edit", "--user=ed"]).await?;
    let create = async |block: bool| {
        let owned = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "owned", "ownerReferences": [{
            "apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "name": "vllm", "uid": uid,
            "blockOwnerDeletion": block,
        }] } });
        let args = ["--namespace", namespace.name(), "create", "--dry-run=server", "--as=ed", "-f", "-"];
        cluster.kubectl_with(&args, &owned.to_string()).await
    };
    eventually(PATIENCE, || create(false)).await?;
    let refused = create(true).await.map_err(|error| error.to_string());
    let expected = "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on";
    assert!(refused.as_ref().is_err_and(|refused| refused.contains(expected)), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn the_release_asks_for_nothing_that_its_account_may_not_do() -> Result<()> {
    let cluster = Cluster::shared().await;
    let log = std::fs::read_to_string(cluster.operator().log())?;
    // Nobody may create anything in the namespace of a test that has ended.
    let refused = |line: &&str| line.contains("forbidden") && !line.contains("NamespaceTerminating");
    let forbidden: Vec<&str> = log.lines().filter(refused).collect();
    assert!(forbidden.is_empty(), "{forbidden:#?}");
    Ok(())
}
