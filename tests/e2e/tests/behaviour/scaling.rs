//! What may be scaled, and into whose names.

use anyhow::{Result, ensure};
use muster_cluster::{Cluster, Namespace, eventually};
use muster_e2e::{PATIENCE, Set, await_condition, await_ready, get};
use serde_json::json;

async fn refusal(namespace: &Namespace, args: &[&str]) -> String {
    match namespace.kubectl(args).await {
        Ok(accepted) => panic!("{args:?} is not refused: {accepted}"),
        Err(refused) => format!("{refused:#}"),
    }
}

/// What kubectl prints as a warning about a set; it is applied all the same.
async fn warning(namespace: &Namespace, set: &Set) -> Result<String> {
    let file = std::env::temp_dir().join(format!("{}.json", namespace.name()));
    std::fs::write(&file, set.manifest())?;
    let told = refusal(namespace, &["--warnings-as-errors", "apply", "-f", &file.display().to_string()]).await;
    std::fs::remove_file(&file)?;
    Ok(told)
}

#[tokio::test]
async fn a_scale_beyond_what_an_edit_may_ask_for_is_refused() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("scale").await?;
    // Not one pod of it is made.
    namespace.apply(&Set::new("vast").groups(0, 3000).manifest()).await?;
    let told = refusal(&namespace, &["scale", "lws", "vast", "--replicas=1000000"]).await;
    let product = "spec.replicas: Invalid value: 1000000: the product of replicas and worker replicas must not exceed 2147483647";
    assert!(told.contains(product), "{told}");
    let told = refusal(&namespace, &["scale", "lws", "vast", "--replicas=1000001"]).await;
    assert!(told.contains("1000001"), "{told}");
    assert_eq!(get(&namespace, "vast").await?.replicas(), 0);
    Ok(())
}

#[tokio::test]
async fn two_sets_do_not_grow_into_each_others_names() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("names").await?;
    namespace.apply(&Set::new("a").groups(2, 2).manifest()).await?;
    await_ready(&namespace, "a").await?;
    let taken = namespace.apply(&Set::new("a-1").manifest()).await.expect_err("not refused");
    let expected = "metadata.name: Invalid value: \"a-1\": StatefulSet a-1 would belong to group 1 of set a (surge included) and to set a-1: \
                    choose another name";
    assert!(format!("{taken:#}").contains(expected), "{taken:#}");
    namespace.apply(&Set::new("a-2").groups(1, 2).manifest()).await?;
    await_ready(&namespace, "a-2").await?;
    let growth = "spec.replicas: Invalid value: 3: StatefulSet a-2 would belong to group 2 of set a (surge included) and to set a-2: \
                  keep to 2 groups at most, or delete set a-2";
    let told = refusal(&namespace, &["scale", "lws", "a", "--replicas=3"]).await;
    assert!(told.contains(growth), "{told}");
    let edit = r#"{"spec": {"replicas": 3}}"#;
    let told = refusal(&namespace, &["patch", "lws", "a", "--type=merge", "-p", edit]).await;
    assert!(told.contains(growth), "{told}");
    namespace.kubectl(&["delete", "lws", "a-2"]).await?;
    // The replica that answers may hear of the deletion a moment later.
    eventually(PATIENCE, || async { namespace.kubectl(&["scale", "lws", "a", "--replicas=3"]).await }).await?;
    await_ready(&namespace, "a").await.map(drop)
}

#[tokio::test]
async fn a_set_whose_leaders_name_is_taken_may_still_change_its_claim_templates() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("names").await?;
    let foreign = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "vllm" },
        "spec": { "replicas": 0, "serviceName": "other", "selector": { "matchLabels": { "app": "other" } }, "template": {
            "metadata": { "labels": { "app": "other" } }, "spec": { "containers": [{ "name": "main", "image": "example.com/other:1" }] } } },
    });
    namespace.apply(&foreign.to_string()).await?;
    let claims = |size: &str| {
        let claim = json!({ "metadata": { "name": "data" }, "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": size } } } });
        Set::new("vllm").with(&json!({ "spec": { "leaderWorkerTemplate": { "volumeClaimTemplates": [claim] } } })).manifest()
    };
    namespace.apply(&claims("1Gi")).await?;
    await_condition(&namespace, "vllm", "NameTaken", "True").await?;
    namespace.apply(&claims("2Gi")).await.map(drop)
}

#[tokio::test]
async fn what_is_legal_but_hardly_meant_is_warned_about() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("warned").await?;
    let told = warning(&namespace, &Set::new("key").groups(0, 2).exclusive("example.com/no-such-label")).await?;
    let expected = "Warning: metadata.annotations.leaderworkerset.sigs.k8s.io/exclusive-topology: \
                    no node has the label example.com/no-such-label now, so no group can be placed yet";
    assert!(told.contains(expected), "{told}");
    let all = json!({ "spec": { "rolloutStrategy": { "type": "RollingUpdate", "rollingUpdateConfiguration": { "maxUnavailable": 3 } } } });
    let told = warning(&namespace, &Set::new("bold").groups(3, 1).with(&all)).await?;
    let expected = "Warning: spec.rolloutStrategy.rollingUpdateConfiguration.maxUnavailable: 3 of 3 groups: \
                    an update may take all of them down at once";
    assert!(told.contains(expected), "{told}");
    let set = get(&namespace, "bold").await?;
    ensure!(set.replicas() == 3, "it was not accepted");
    Ok(())
}
