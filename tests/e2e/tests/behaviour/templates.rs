//! What a set's author writes into templates, and what containers are told: nothing is lost on the way, and nothing comes before the
//! three variables.

use anyhow::Result;
use muster_cluster::Cluster;
use muster_e2e::{Set, await_ready, get, pods};
use serde_json::{Value, json};

#[tokio::test]
async fn a_misspelt_field_in_a_template_is_warned_about_and_keeps_no_set_from_running() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("misspelt").await?;
    let misspelt =
        json!({ "spec": { "leaderWorkerTemplate": { "workerTemplate": { "spec": { "dnsPolicee": "ClusterFirst" } } } } });
    namespace.apply(&Set::new("typo").groups(1, 2).with(&misspelt).manifest()).await?;
    await_ready(&namespace, "typo").await.map(drop)
}

/// Uses much of what a pod can say, with what Kubernetes would default already in it, so that it can be compared as it is.
fn rich() -> Value {
    json!({
        "metadata": { "labels": { "app": "chat" }, "annotations": { "example.com/scrape": "true" } },
        "spec": {
            "initContainers": [{
                "name": "fetch", "image": "example.com/fetch:1", "imagePullPolicy": "Always", "restartPolicy": "Always",
                "resources": {}, "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            }],
            "containers": [{
                "name": "main", "image": "example.com/main:1", "imagePullPolicy": "Always",
                "command": ["serve"],
                "args": ["--leader=$(LWS_LEADER_ADDRESS):20000", "--nnodes=$(LWS_GROUP_SIZE)", "--node-rank=$(LWS_WORKER_INDEX)"],
                "env": [{ "name": "HEAD", "value": "$(LWS_LEADER_ADDRESS)" }, { "name": "TOKEN", "valueFrom":
                    { "secretKeyRef": { "name": "huggingface", "key": "token", "optional": true } } }],
                "ports": [{ "name": "http", "containerPort": 8080, "protocol": "TCP" }],
                "resizePolicy": [{ "resourceName": "cpu", "restartPolicy": "NotRequired" }],
                "resources": { "requests": { "cpu": "100m" } },
                "lifecycle": { "preStop": { "sleep": { "seconds": 3 } } },
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "volumeMounts": [{ "name": "shared", "mountPath": "/dev/shm", "recursiveReadOnly": "Disabled" }],
            }],
            "volumes": [{ "name": "shared", "emptyDir": { "medium": "Memory", "sizeLimit": "1Gi" } }],
            "hostUsers": true,
            "setHostnameAsFQDN": false,
            "topologySpreadConstraints": [{ "maxSkew": 2, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": { "matchLabels": { "app": "chat" } }, "matchLabelKeys": ["pod-template-hash"] }],
            "schedulingGates": [{ "name": "example.com/later" }],
            "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler", "securityContext": {},
            "terminationGracePeriodSeconds": 30,
        },
    })
}

#[tokio::test]
async fn a_template_reaches_both_stateful_sets_field_by_field() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("fields").await?;
    let set = Set::new("rich").groups(1, 2).with(&json!({ "spec": { "leaderWorkerTemplate": { "workerTemplate": null } } }));
    namespace.apply(&set.with(&json!({ "spec": { "leaderWorkerTemplate": { "workerTemplate": rich() } } })).manifest()).await?;
    for name in ["rich", "rich-0"] {
        let template = muster_cluster::eventually(muster_e2e::PATIENCE, || async {
            Ok(serde_json::from_str::<Value>(&namespace.kubectl(&["get", "statefulset", name, "-o", "json"]).await?)?)
        });
        let template = template.await?["spec"]["template"].clone();
        assert_eq!(template["spec"], rich()["spec"], "{name}");
        assert_eq!(template["metadata"]["labels"]["app"], "chat", "{name}");
        assert_eq!(template["metadata"]["annotations"]["example.com/scrape"], "true", "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn a_template_field_that_nobody_knows_yet_stays_in_the_set() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("newer").await?;
    let spec = json!({ "fieldOfTomorrow": { "mode": "Fast" } });
    let set = Set::new("newer")
        .groups(0, 2)
        .with(&json!({ "spec": { "leaderWorkerTemplate": { "workerTemplate": { "spec": spec } } } }));
    namespace.apply(&set.manifest()).await?;
    let stored = get(&namespace, "newer").await?;
    assert_eq!(stored.worker_template().0["spec"]["fieldOfTomorrow"], json!({ "mode": "Fast" }));
    Ok(())
}

fn environment(container: &Value) -> Vec<(&str, &str)> {
    let variables = container["env"].as_array().into_iter().flatten();
    variables.map(|variable| (variable["name"].as_str().unwrap_or("-"), variable["value"].as_str().unwrap_or("-"))).collect()
}

#[tokio::test]
async fn the_three_variables_come_first_in_every_container_and_arguments_stay_as_written() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("env").await?;
    let args = json!(["--leader=$(LWS_LEADER_ADDRESS):20000", "--node-rank=$(LWS_WORKER_INDEX)"]);
    let spec = json!({
        "initContainers": [{ "name": "first", "image": "example.com/first:1" }],
        "containers": [{
            "name": "main", "image": "example.com/main:1", "args": args,
            "env": [{ "name": "HEAD", "value": "$(LWS_LEADER_ADDRESS)" }, { "name": "LWS_GROUP_SIZE", "value": "99" }],
        }],
    });
    let set = Set::new("vllm")
        .groups(2, 2)
        .with(&json!({ "spec": { "leaderWorkerTemplate": { "workerTemplate": { "spec": spec } } } }));
    namespace.apply(&set.manifest()).await?;
    await_ready(&namespace, "vllm").await?;
    let pods = pods(&namespace, "vllm").await?;
    for (name, leader, rank) in [("vllm-0", "vllm-0", "0"), ("vllm-1", "vllm-1", "0"), ("vllm-1-1", "vllm-1", "1")] {
        let address = format!("{leader}.vllm.{}", namespace.name());
        let ours = [("LWS_LEADER_ADDRESS", address.as_str()), ("LWS_GROUP_SIZE", "2"), ("LWS_WORKER_INDEX", rank)];
        let pod = serde_json::to_value(&pods[name])?;
        assert_eq!(environment(&pod["spec"]["initContainers"][0]), ours, "{name}");
        let expected: Vec<_> = ours.into_iter().chain([("HEAD", "$(LWS_LEADER_ADDRESS)")]).collect();
        assert_eq!(environment(&pod["spec"]["containers"][0]), expected, "{name}");
        assert_eq!(pod["spec"]["containers"][0]["args"], args, "{name}");
    }
    Ok(())
}
