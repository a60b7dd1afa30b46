//! What the API server says to a set or a pod before anything is stored.

use anyhow::Result;
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use muster_cluster::{Cluster, Namespace, PodBuilder};
use muster_e2e::{Set, await_ready, get, status_of};
use serde_json::{Value, json};

/// What kubectl says about a set that is refused.
async fn refusal(namespace: &Namespace, set: &Set) -> String {
    match namespace.apply(&set.manifest()).await {
        Ok(accepted) => panic!("not refused: {accepted}{}", set.manifest()),
        Err(refused) => format!("{refused:#}"),
    }
}

fn template(part: &Value) -> Set {
    Set::new("bad").with(&json!({ "spec": { "leaderWorkerTemplate": part } }))
}

fn spec(part: &Value) -> Set {
    Set::new("bad").with(&json!({ "spec": part }))
}

fn budget(part: &Value) -> Set {
    spec(&json!({ "rolloutStrategy": { "type": "RollingUpdate", "rollingUpdateConfiguration": part } }))
}

#[tokio::test]
async fn a_bad_number_is_refused_with_field_value_and_remedy() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("refused").await?;
    let update = "spec.rolloutStrategy.rollingUpdateConfiguration";
    for (set, expected) in [
        (
            spec(&json!({ "replicas": -1 })),
            "spec.replicas: Invalid value: -1: spec.replicas in body should be greater than or equal to 0",
        ),
        (
            spec(&json!({ "replicas": 1_000_001 })),
            "spec.replicas: Invalid value: 1000001: spec.replicas in body should be less than or equal to 1000000",
        ),
        (
            template(&json!({ "size": 0 })),
            "spec.leaderWorkerTemplate.size: Invalid value: 0: size must be equal or greater than 1",
        ),
        (
            spec(&json!({ "replicas": 1_000_000, "leaderWorkerTemplate": { "size": 3000 } })),
            "spec.replicas: Invalid value: 1000000: the product of replicas and worker replicas must not exceed 2147483647",
        ),
        (
            budget(&json!({ "maxUnavailable": -1 })),
            &format!("{update}.maxUnavailable: Invalid value: -1: must be greater than or equal to 0"),
        ),
        (
            budget(&json!({ "maxSurge": "110%" })),
            &format!("{update}.maxSurge: Invalid value: \"110%\": must not be greater than 100%"),
        ),
        (
            budget(&json!({ "maxUnavailable": "two" })),
            &format!(
                "{update}.maxUnavailable: Invalid value: \"two\": a valid percent string must be a numeric string followed by"
            ),
        ),
        (
            budget(&json!({ "maxUnavailable": 0, "maxSurge": 0 })),
            &format!("{update}.maxUnavailable: Invalid value: 0: must not be 0 when `maxSurge` is 0"),
        ),
        (
            budget(&json!({ "partition": -1 })),
            &format!("{update}.partition: Invalid value: -1: must be greater than or equal to 0"),
        ),
    ] {
        let told = refusal(&namespace, &set).await;
        assert!(told.contains(expected), "{told}\ndoes not say\n{expected}");
    }
    Ok(())
}

#[tokio::test]
async fn a_word_that_is_none_of_the_choices_is_refused_with_the_choices() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("refused").await?;
    for (set, expected) in [
        (
            spec(&json!({ "startupPolicy": "LeaderFirst" })),
            r#"spec.startupPolicy: Unsupported value: "LeaderFirst": supported values: "LeaderCreated", "LeaderReady""#,
        ),
        (
            template(&json!({ "restartPolicy": "Always" })),
            r#"spec.leaderWorkerTemplate.restartPolicy: Unsupported value: "Always": supported values: "#,
        ),
        (
            spec(&json!({ "networkConfig": { "subdomainPolicy": "Own" } })),
            r#"spec.networkConfig.subdomainPolicy: Unsupported value: "Own": supported values: "Shared", "UniquePerReplica""#,
        ),
        (
            spec(&json!({ "rolloutStrategy": { "type": "Recreate" } })),
            r#"spec.rolloutStrategy.type: Unsupported value: "Recreate": supported values: "RollingUpdate""#,
        ),
        (
            Set::new("bad").annotated("muster.dev/unplaceable", "Wait"),
            r#"metadata.annotations.muster.dev/unplaceable: Unsupported value: "Wait": supported values: "Scheduler", "Hold""#,
        ),
        (
            Set::new("bad").exclusive("a pool"),
            r#"metadata.annotations.leaderworkerset.sigs.k8s.io/exclusive-topology: Invalid value: "a pool": must be the key of a node label"#,
        ),
        (
            Set::new("bad").annotated("muster.dev/placement-policy", "Node Pool"),
            r#"metadata.annotations.muster.dev/placement-policy: Invalid value: "Node Pool": must be the name of a policy object"#,
        ),
    ] {
        let told = refusal(&namespace, &set).await;
        assert!(told.contains(expected), "{told}\ndoes not say\n{expected}");
    }
    Ok(())
}

#[tokio::test]
async fn a_template_that_could_make_no_pod_is_refused() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("refused").await?;
    let path = "spec.leaderWorkerTemplate";
    for (set, expected) in [
        (template(&json!({ "workerTemplate": null })), "spec.leaderWorkerTemplate.workerTemplate: Required value".to_owned()),
        (
            template(&json!({ "workerTemplate": { "spec": { "containers": [] } } })),
            format!("{path}.workerTemplate.spec.containers: Required value: a pod needs at least one container"),
        ),
        (
            template(&json!({ "leaderTemplate": { "spec": { "containers": [] } } })),
            format!("{path}.leaderTemplate.spec.containers: Required value: a pod needs at least one container"),
        ),
        (
            template(&json!({ "volumeClaimTemplates": [{ "spec": { "accessModes": ["ReadWriteOnce"] } }] })),
            format!("{path}.volumeClaimTemplates[0].metadata.name: Required value: pods mount the claim by this name"),
        ),
    ] {
        let told = refusal(&namespace, &set).await;
        assert!(told.contains(&expected), "{told}\ndoes not say\n{expected}");
    }
    Ok(())
}

#[tokio::test]
async fn subgroups_that_do_not_divide_the_group_are_refused() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("refused").await?;
    let path = "spec.leaderWorkerTemplate.subGroupPolicy.subGroupSize";
    let subgroups = |size: i32, part: &Value| template(&json!({ "size": size, "subGroupPolicy": part }));
    for (set, expected) in [
        (subgroups(4, &json!({ "subGroupSize": 0 })), "Invalid value: 0: subGroupSize must be equal or greater than 1"),
        (subgroups(4, &json!({})), "Required value: subGroupSize must be equal or greater than 1"),
        (subgroups(6, &json!({ "subGroupSize": 4 })), "Invalid value: 4: size or size - 1 must be divisible by subGroupSize"),
        (subgroups(2, &json!({ "subGroupSize": 3 })), "Invalid value: 3: subGroupSize cannot be larger than size"),
        (
            subgroups(4, &json!({ "subGroupSize": 2, "subGroupPolicyType": "LeaderExcluded" })),
            "Invalid value: 2: size-1 must be divisible by subGroupSize when using LeaderExcluded",
        ),
    ] {
        let told = refusal(&namespace, &set).await;
        assert!(told.contains(&format!("{path}: {expected}")), "{told}\ndoes not say\n{path}: {expected}");
    }
    let annotated = Set::new("bad").annotated("leaderworkerset.sigs.k8s.io/subgroup-exclusive-topology", "rack");
    let told = refusal(&namespace, &annotated).await;
    assert!(told.contains("cannot have subgroup-exclusive-topology without subGroupSize set"), "{told}");
    Ok(())
}

#[tokio::test]
async fn what_pods_could_not_follow_can_not_be_changed() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("immutable").await?;
    let plain = template(&json!({ "size": 4 })).with(&json!({ "spec": { "replicas": 0 } }));
    let split = plain.clone().with(&json!({ "spec": { "leaderWorkerTemplate": { "subGroupPolicy": { "subGroupSize": 2 } } } }));
    let finer = plain.clone().with(&json!({ "spec": { "leaderWorkerTemplate": { "subGroupPolicy": { "subGroupSize": 1 } } } }));
    let path = "spec.leaderWorkerTemplate.subGroupPolicy.subGroupSize";
    namespace.apply(&plain.manifest()).await?;
    let told = refusal(&namespace, &split).await;
    let expected = format!("{path}: Invalid value: 2: cannot enable subGroupSize after the lws is already created");
    assert!(told.contains(&expected), "{told}");
    namespace.kubectl(&["delete", "leaderworkerset", "bad"]).await?;
    namespace.apply(&split.manifest()).await?;
    let told = refusal(&namespace, &finer).await;
    assert!(told.contains(&format!("{path}: Invalid value: 1: field is immutable")), "{told}");
    let told = refusal(&namespace, &plain).await;
    assert!(told.contains(&format!("{path}: Invalid value: null: cannot remove subGroupSize after enabled")), "{told}");
    Ok(())
}

#[tokio::test]
async fn a_name_that_leaves_no_room_for_the_names_of_its_pods_is_refused() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("names").await?;
    // 63 characters for a label, less a dash and a hash of ten, less a dash and the digit of the last group's index.
    let (fits, too_long) = ("a".repeat(50), "a".repeat(51));
    let told = refusal(&namespace, &Set::new(&too_long).groups(10, 2)).await;
    let expected =
        format!("metadata.name: Invalid value: \"{too_long}\": must be no more than 50 characters with 10 replicas of size 2");
    assert!(told.contains(&expected), "{told}");
    namespace.apply(&Set::new(&fits).groups(1, 2).manifest()).await?;
    await_ready(&namespace, &fits).await?;
    let told = refusal(&namespace, &Set::new("1st")).await;
    assert!(told.contains("metadata.name: Invalid value: \"1st\": a DNS-1035 label must consist of"), "{told}");
    Ok(())
}

#[tokio::test]
async fn all_that_is_wrong_is_told_at_once() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("refused").await?;
    let set = budget(&json!({ "partition": -1 })).with(&json!({ "spec": { "leaderWorkerTemplate": { "size": 0 } } }));
    let told = refusal(&namespace, &set.annotated("muster.dev/unplaceable", "Wait")).await;
    for path in ["spec.leaderWorkerTemplate.size", "rollingUpdateConfiguration.partition", "annotations.muster.dev/unplaceable"] {
        assert!(told.contains(path), "{told}");
    }
    Ok(())
}

#[tokio::test]
async fn kubectl_scale_does_not_go_beyond_the_limit() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("limit").await?;
    namespace.apply(&Set::new("vllm").groups(0, 2).manifest()).await?;
    let refused = namespace.kubectl(&["scale", "leaderworkerset", "vllm", "--replicas=1000001"]).await.unwrap_err().to_string();
    assert!(refused.contains("spec.replicas in body should be less than or equal to 1000000"), "{refused}");
    assert_eq!(get(&namespace, "vllm").await?.replicas(), 0);
    Ok(())
}

#[tokio::test]
async fn everything_that_was_left_out_is_filled_in() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("defaults").await?;
    namespace.apply(&Set::new("bare").manifest()).await?;
    let stored: Value = serde_json::from_str(&namespace.kubectl(&["get", "leaderworkerset", "bare", "-o", "json"]).await?)?;
    let expected = json!({
        "replicas": 1,
        "startupPolicy": "LeaderCreated",
        "networkConfig": { "subdomainPolicy": "Shared" },
        "rolloutStrategy": {
            "type": "RollingUpdate",
            "rollingUpdateConfiguration": { "partition": 0, "maxUnavailable": 1, "maxSurge": 0 },
        },
        "leaderWorkerTemplate": {
            "size": 1,
            "restartPolicy": "RecreateGroupOnPodRestart",
            "workerTemplate": { "spec": { "containers": [{ "name": "main", "image": "example.com/main:1" }] } },
        },
    });
    assert_eq!(stored["spec"], expected);
    let deprecated = template(&json!({ "restartPolicy": "Default" }));
    namespace.apply(&deprecated.manifest()).await?;
    let policy = namespace.kubectl(&["get", "lws", "bad", "-o", "jsonpath={.spec.leaderWorkerTemplate.restartPolicy}"]).await?;
    assert_eq!(policy, "None");
    Ok(())
}

#[tokio::test]
async fn a_field_that_may_be_misspelt_is_warned_about() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("warned").await?;
    let set = Set::new("typo").groups(0, 1);
    let set =
        set.with(&json!({ "spec": { "leaderWorkerTemplate": { "workerTemplate": { "spec": { "tolerationz": ["x"] } } } } }));
    let file = std::env::temp_dir().join(format!("{}.json", namespace.name()));
    std::fs::write(&file, set.manifest())?;
    let path = file.display().to_string();
    // The one way to see in a test what kubectl prints as a warning.
    let told = namespace.kubectl(&["--warnings-as-errors", "apply", "-f", &path]).await.unwrap_err().to_string();
    std::fs::remove_file(&file)?;
    let expected = "Warning: unknown field \"spec.leaderWorkerTemplate.workerTemplate.spec.tolerationz\": kept as it is";
    assert!(told.contains(expected), "{told}");
    assert_eq!(status_of(&get(&namespace, "typo").await?).replicas, 0);
    Ok(())
}

#[tokio::test]
async fn a_pod_that_has_a_rank_in_a_group_and_no_size_is_refused() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("sizeless").await?;
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let pod = PodBuilder::new("vllm-0").label("leaderworkerset.sigs.k8s.io/name", "vllm");
    let pod = pod.label("leaderworkerset.sigs.k8s.io/worker-index", "0").build();
    let refused = namespace.api::<Pod>().create(&dry, &pod).await.unwrap_err().to_string();
    assert!(refused.contains("size annotation is unexpectedly missing for pod vllm-0"), "{refused}");
    Ok(())
}

#[tokio::test]
async fn a_foreign_pod_that_copied_the_name_label_is_not_touched() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("foreign").await?;
    let pods = namespace.api::<Pod>();
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let copy = pods.create(&dry, &PodBuilder::new("debug-0").label("leaderworkerset.sigs.k8s.io/name", "vllm").build()).await?;
    let plain = pods.create(&dry, &PodBuilder::new("debug-0").build()).await?;
    let labels = copy.metadata.labels.clone().unwrap_or_default();
    assert_eq!(labels.into_iter().collect::<Vec<_>>(), [("leaderworkerset.sigs.k8s.io/name".to_owned(), "vllm".to_owned())]);
    let without_volume = |pod: &Pod| {
        // The token's volume has a random name.
        let mut spec = serde_json::to_value(&pod.spec).unwrap();
        spec["volumes"] = Value::Null;
        spec["containers"][0]["volumeMounts"] = Value::Null;
        spec
    };
    assert_eq!(without_volume(&copy), without_volume(&plain));
    Ok(())
}
