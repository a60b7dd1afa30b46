//! What TPU pods learn about their slice, through the whole chain: set, StatefulSets, admission.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use muster_cluster::{Cluster, Namespace, TPU, eventually};
use muster_e2e::{PATIENCE, Set, get, pods};
use serde_json::{Value, json};

/// A container that asks for the four chips of a host; more fields by `with`.
fn container(name: &str, with: &Value) -> Value {
    let mut container = json!({ "name": name, "image": "example.com/main:1", "resources": { "limits": { TPU: "4" } } });
    muster_e2e::merge(&mut container, with);
    container
}

/// A set whose leader and workers all ask for TPUs.
fn tpus(name: &str, size: i32) -> Set {
    workers(name, size, &json!([container("main", &json!({}))]))
}

fn workers(name: &str, size: i32, containers: &Value) -> Set {
    let spec = json!({ "containers": containers });
    Set::new(name).groups(1, size).with(&json!({ "spec": { "leaderWorkerTemplate": { "workerTemplate": { "spec": spec } } } }))
}

/// Gives the leader a template of its own, without TPUs.
fn plain_leader(set: Set) -> Set {
    let spec = json!({ "containers": [{ "name": "main", "image": "example.com/main:1" }] });
    set.with(&json!({ "spec": { "leaderWorkerTemplate": { "leaderTemplate": { "spec": spec } } } }))
}

/// Applies the set and waits until all pods of its one group exist. No node has room for them, and none has to.
async fn members(namespace: &Namespace, set: &Set) -> Result<BTreeMap<String, Pod>> {
    namespace.apply(&set.manifest()).await?;
    let name = set.object()["metadata"]["name"].as_str().context("no name")?;
    eventually(PATIENCE, || async {
        let pods = pods(namespace, name).await?;
        let size = get(namespace, name).await?.size();
        ensure!(pods.len() == usize::try_from(size)?, "{:?}", pods.keys());
        Ok(pods)
    })
    .await
}

/// The `TPU_…` and `MEGASCALE_…` variables of one container, in their order.
fn variables(pod: &Pod, container: usize) -> Vec<String> {
    let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let all = containers.get(container).into_iter().flat_map(|container| container.env.iter().flatten());
    let ours = all.filter(|variable| variable.name.starts_with("TPU_") || variable.name.starts_with("MEGASCALE_"));
    ours.map(|variable| format!("{}={}", variable.name, variable.value.as_deref().unwrap_or_default())).collect()
}

/// By pod: the worker ids of its slice, `rank rank …: own id`.
fn slices(pods: &BTreeMap<String, Pod>) -> BTreeMap<&str, String> {
    let of = |pod: &Pod, name: &str| {
        let prefix = format!("{name}=");
        variables(pod, 0).into_iter().find_map(|variable| variable.strip_prefix(&prefix).map(str::to_owned)).unwrap_or_default()
    };
    let leader = |name: &str| pods.keys().find(|leader| name.starts_with(leader.as_str())).cloned().unwrap_or_default();
    let slice = |pod: &Pod| {
        let hosts = of(pod, "TPU_WORKER_HOSTNAMES");
        let ranks = hosts.split(',').filter_map(|host| host.split('.').next()).filter(|host| !host.is_empty()).map(|host| {
            let rank = host.strip_prefix(&leader(host)).and_then(|rest| rest.strip_prefix('-')).unwrap_or("0");
            rank.to_owned()
        });
        format!("{}: {}", ranks.collect::<Vec<_>>().join(" "), of(pod, "TPU_WORKER_ID"))
    };
    pods.iter().map(|(name, pod)| (name.as_str(), slice(pod))).collect()
}

#[tokio::test]
async fn a_group_is_a_slice_of_its_hosts() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("tpu").await?;
    let pods = members(&namespace, &tpus("whole", 2)).await?;
    let common = "whole-0.whole,whole-0-1.whole";
    for (pod, id) in [("whole-0", 0), ("whole-0-1", 1)] {
        assert_eq!(
            variables(&pods[pod], 0),
            [
                format!("TPU_WORKER_HOSTNAMES={common}"),
                format!("TPU_WORKER_ID={id}"),
                "TPU_NAME=whole-0".to_owned(),
                "TPU_PROCESS_ADDRESSES=whole-0.whole:8476,whole-0-1.whole:8476".to_owned(),
                "TPU_PROCESS_PORT=8476".to_owned(),
            ],
            "{pod}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_leader_without_tpus_is_no_host() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("tpu").await?;
    let pods = members(&namespace, &plain_leader(tpus("served", 3))).await?;
    assert_eq!(variables(&pods["served-0"], 0), Vec::<String>::new());
    let expected = [("served-0", ": "), ("served-0-1", "1 2: 0"), ("served-0-2", "1 2: 1")];
    assert_eq!(slices(&pods), expected.map(|(pod, slice)| (pod, slice.to_owned())).into());
    Ok(())
}

#[tokio::test]
async fn every_subgroup_is_a_slice() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("tpu").await?;
    let cases: [(Set, &[&str]); 4] = [
        (tpus("even", 4).subgroups(2), &["0 1: 0", "0 1: 1", "2 3: 0", "2 3: 1"]),
        // Upstream lists 0 and 1 for all three of the first, and 2 and 3 for the others.
        (tpus("extra", 5).subgroups(2), &["0 1 2: 0", "0 1 2: 1", "0 1 2: 2", "3 4: 0", "3 4: 1"]),
        (plain_leader(tpus("excluded", 5)).subgroups(2).leader_excluded(), &[": ", "1 2: 0", "1 2: 1", "3 4: 0", "3 4: 1"]),
        (tpus("single", 2).subgroups(1), &["0: 0", "1: 0"]),
    ];
    for (set, expected) in cases {
        let pods = members(&namespace, &set).await?;
        let found: Vec<String> = slices(&pods).into_values().collect();
        assert_eq!(found, expected, "{:?}", pods.keys());
    }
    Ok(())
}

#[tokio::test]
async fn every_tpu_container_of_a_subgroup_is_a_process() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("tpu").await?;
    let own_port = json!({ "env": [{ "name": "TPU_PROCESS_PORT", "value": "9000" }] });
    let containers = json!([
        container("first", &json!({})),
        { "name": "sidecar", "image": "example.com/sidecar:1" },
        container("second", &own_port),
    ]);
    let pods = members(&namespace, &workers("several", 4, &containers).subgroups(2)).await?;
    let names = "several-0-2.several,several-0-2.several,several-0-3.several,several-0-3.several";
    let addresses = "several-0-2.several:8476,several-0-2.several:9000,several-0-3.several:8476,several-0-3.several:9000";
    let last = &pods["several-0-3"];
    assert_eq!(
        variables(last, 0),
        [
            format!("TPU_WORKER_HOSTNAMES={names}"),
            "TPU_WORKER_ID=2".to_owned(),
            "TPU_NAME=several-0".to_owned(),
            format!("TPU_PROCESS_ADDRESSES={addresses}"),
            "TPU_PROCESS_PORT=8476".to_owned(),
        ]
    );
    assert_eq!(variables(last, 1), Vec::<String>::new(), "a container without TPUs has nothing to know");
    let second = variables(last, 2);
    assert_eq!(second[..2], ["TPU_PROCESS_PORT=9000".to_owned(), format!("TPU_WORKER_HOSTNAMES={names}")], "{second:?}");
    assert!(second.contains(&"TPU_WORKER_ID=3".to_owned()), "{second:?}");
    Ok(())
}

#[tokio::test]
async fn slices_of_one_job_find_each_other_where_the_templates_ask_for_it() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("tpu").await?;
    let asked = |what: &str| {
        let metadata = json!({ "metadata": { "annotations": { "muster.dev/tpu-multislice": what } } });
        json!({ "spec": { "leaderWorkerTemplate": { "workerTemplate": metadata } } })
    };
    let pods = members(&namespace, &tpus("job", 4).subgroups(2).with(&asked("subgroup"))).await?;
    let megascale =
        |pod: &Pod| variables(pod, 0).into_iter().filter(|variable| variable.starts_with("MEGASCALE")).collect::<Vec<_>>();
    let expected = |slice: u32| {
        [
            format!("MEGASCALE_SLICE_ID={slice}"),
            "MEGASCALE_NUM_SLICES=2".to_owned(),
            "MEGASCALE_COORDINATOR_ADDRESS=job-0.job".to_owned(),
            "MEGASCALE_PORT=8081".to_owned(),
        ]
    };
    assert_eq!(megascale(&pods["job-0-1"]), expected(0));
    assert_eq!(megascale(&pods["job-0-2"]), expected(1));
    let plain = members(&namespace, &tpus("apart", 4).subgroups(2)).await?;
    assert_eq!(megascale(&plain["apart-0-2"]), Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn a_set_whose_excluded_leader_asks_for_tpus_is_refused_with_the_remedy() -> Result<()> {
    let namespace = Cluster::shared().await.namespace("tpu").await?;
    let set = tpus("bad", 3).subgroups(2).leader_excluded();
    let refused = namespace.apply(&set.manifest()).await.unwrap_err().to_string();
    let expected = "spec.leaderWorkerTemplate.subGroupPolicy.subGroupPolicyType: Invalid value: \"LeaderExcluded\": must be LeaderWorker \
                    while the leader requests google.com/tpu";
    assert!(refused.contains(expected), "{refused}");
    // A leader that knows its hosts needs no slice, and gets no variable that it has not set itself.
    let own = json!([{ "name": "main", "image": "example.com/main:1", "env": [{ "name": "TPU_WORKER_ID", "value": "7" }],
        "resources": { "limits": { "google.com/tpu": "4" } } }]);
    let leader = json!({ "spec": { "leaderWorkerTemplate": { "leaderTemplate": { "spec": { "containers": own } } } } });
    let pods = members(&namespace, &tpus("own", 3).subgroups(2).leader_excluded().with(&leader)).await?;
    let of_leader: Vec<String> = variables(&pods["own-0"], 0).into_iter().filter(|name| name.starts_with("TPU_")).collect();
    assert_eq!(of_leader, ["TPU_WORKER_ID=7"]);
    namespace.apply(&plain_leader(set).manifest()).await.map(drop)
}
