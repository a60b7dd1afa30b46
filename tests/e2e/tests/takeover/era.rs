//! Upstream's time in the cluster: its objects written by hand, its pod webhook played by an admission policy.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use muster_api::names::group_key;
use muster_cluster::{Cluster, Namespace, eventually, is_ready};
use muster_e2e::{PATIENCE, leaders, pods};
use serde_json::{Value, json};

use crate::upstream::{Managed, PREFIX, key};

/// Name of the policy and its binding.
fn webhook_name(site: &Namespace) -> String {
    format!("upstreams-pod-webhook.{}.test.muster.dev", site.name())
}

const PARAMS: &str = "group-keys";

/// Lets the API server do to pods what upstream's webhook does to them (`reference` §4.3). CEL knows no SHA-1, so the groups' keys are looked up.
pub(crate) async fn webhook(cluster: &Cluster, site: &Namespace, sets: &[Managed]) -> Result<()> {
    let mut keys = BTreeMap::new();
    for set in sets {
        for group in 0..set.replicas() + 3 {
            let leader = format!("{}-{group}", set.name());
            keys.insert(leader.clone(), group_key(site.name(), &leader));
        }
    }
    site.apply(&json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": PARAMS }, "data": keys }).to_string())
        .await?;
    let rank = format!("'{PREFIX}/worker-index'");
    let leader = format!("{rank} in object.metadata.labels && object.metadata.labels[{rank}] == '0'");
    let label = |name: &str, value: &str| {
        format!("JSONPatch{{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('{PREFIX}/{name}'), value: {value}}}")
    };
    let variable = |name: &str, value: &str| {
        format!(
            "JSONPatch{{op: 'add', path: '/spec/containers/0/env/0', value: Object.spec.containers.env{{name: '{name}', value: {value}}}}}"
        )
    };
    let group = |leader: bool| {
        if leader { "variables.last".to_owned() } else { format!("object.metadata.labels['{PREFIX}/group-index']") }
    };
    let mutation = |for_leaders: bool, patches: Vec<String>| {
        let whom = if for_leaders { leader.clone() } else { format!("!({leader})") };
        json!({ "patchType": "JSONPatch", "jsonPatch": { "expression": format!("{whom} ? [{}] : []", patches.join(", ")) } })
    };
    let environment = |for_leaders: bool, subdomain: &str| {
        let address = format!(
            "object.metadata.labels['{PREFIX}/name'] + '-' + {} + '.' + {subdomain} + '.' + object.metadata.namespace",
            group(for_leaders)
        );
        vec![
            variable("LWS_WORKER_INDEX", if for_leaders { "'0'" } else { "variables.last" }),
            variable("LWS_GROUP_SIZE", &format!("object.metadata.annotations['{PREFIX}/size']")),
            variable("LWS_LEADER_ADDRESS", &address),
        ]
    };
    let own_subdomain = format!("'{PREFIX}/subdomainPolicy' in object.metadata.annotations");
    let exclusive = format!("'{PREFIX}/exclusive-topology' in object.metadata.annotations");
    let term = |operator: &str| {
        format!(
            "Object.spec.affinity.{operator}.requiredDuringSchedulingIgnoredDuringExecution{{\
               topologyKey: object.metadata.annotations['{PREFIX}/exclusive-topology'], \
               labelSelector: Object.spec.affinity.{operator}.requiredDuringSchedulingIgnoredDuringExecution.labelSelector{{\
                 matchExpressions: [{}]}}}}",
            if operator == "podAffinity" {
                selector(operator, "In")
            } else {
                format!("{}, {}", exists(operator), selector(operator, "NotIn"))
            }
        )
    };
    let affinity = format!(
        "{leader} && {exclusive} ? [JSONPatch{{op: 'add', path: '/spec/affinity', value: Object.spec.affinity{{\
           podAffinity: Object.spec.affinity.podAffinity{{requiredDuringSchedulingIgnoredDuringExecution: [{}]}}, \
           podAntiAffinity: Object.spec.affinity.podAntiAffinity{{requiredDuringSchedulingIgnoredDuringExecution: [{}]}}}}}}] : []",
        term("podAffinity"),
        term("podAntiAffinity"),
    );
    let name = webhook_name(site);
    let mut for_leaders = vec![label("group-index", "variables.last"), label("group-key", "params.data[object.metadata.name]")];
    for_leaders.extend(environment(true, &format!("({own_subdomain} ? object.metadata.name : object.spec.subdomain)")));
    let mut for_workers = vec![label("worker-index", "variables.last")];
    for_workers.extend(environment(false, "object.spec.subdomain"));
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicy",
        "metadata": { "name": name },
        "spec": {
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "paramKind": { "apiVersion": "v1", "kind": "ConfigMap" },
            "matchConstraints": {
                "objectSelector": { "matchExpressions": [{ "key": key("name"), "operator": "Exists" }] },
                "resourceRules": [{ "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"] }],
            },
            "variables": [
                { "name": "parts", "expression": "object.metadata.name.split('-')" },
                { "name": "last", "expression": "variables.parts[variables.parts.size() - 1]" },
            ],
            "mutations": [
                mutation(true, for_leaders),
                mutation(false, for_workers),
                { "patchType": "JSONPatch", "jsonPatch": { "expression": format!(
                    "{leader} && {own_subdomain} ? [JSONPatch{{op: 'add', path: '/spec/subdomain', value: object.metadata.name}}] : []"
                ) } },
                { "patchType": "JSONPatch", "jsonPatch": { "expression": affinity } },
            ],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": { "name": name },
        "spec": {
            "policyName": name,
            "paramRef": { "name": PARAMS, "namespace": site.name(), "parameterNotFoundAction": "Deny" },
            "matchResources": { "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": site.name() } } },
        },
    });
    cluster.kubectl_with(&["apply", "-f", "-"], &policy.to_string()).await?;
    cluster.kubectl_with(&["apply", "-f", "-"], &binding.to_string()).await?;
    webhook_answers(cluster, site, sets).await
}

/// The API server takes a new policy up some time after it has stored it.
async fn webhook_answers(cluster: &Cluster, site: &Namespace, sets: &[Managed]) -> Result<()> {
    let name = sets.first().map(|set| format!("{}-0", set.name())).context("no set")?;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": { key("name"): "any", key("worker-index"): "0" }, "annotations": { key("size"): "1" },
        },
        "spec": { "subdomain": "any", "containers": [{ "name": "main", "image": "example.com/main:1", "env": [{ "name": "A", "value": "1" }] }] },
    });
    eventually(PATIENCE, || async {
        let args = ["--namespace", site.name(), "create", "--dry-run=server", "-o", "json", "-f", "-"];
        let answer: Value = serde_json::from_str(&cluster.kubectl_with(&args, &pod.to_string()).await?)?;
        ensure!(answer["metadata"]["labels"][key("group-index")] == "0", "the policy is not in force: {answer}");
        Ok(())
    })
    .await
}

fn selector(under: &str, operator: &str) -> String {
    format!(
        "Object.spec.affinity.{under}.requiredDuringSchedulingIgnoredDuringExecution.labelSelector.matchExpressions{{\
           key: '{PREFIX}/group-key', operator: '{operator}', values: [params.data[object.metadata.name]]}}"
    )
}

fn exists(under: &str) -> String {
    format!(
        "Object.spec.affinity.{under}.requiredDuringSchedulingIgnoredDuringExecution.labelSelector.matchExpressions{{\
           key: '{PREFIX}/group-key', operator: 'Exists'}}"
    )
}

/// Upstream is gone, and its webhook with it.
pub(crate) async fn webhook_gone(cluster: &Cluster, site: &Namespace) -> Result<()> {
    let name = webhook_name(site);
    cluster.kubectl(&["delete", "mutatingadmissionpolicybinding,mutatingadmissionpolicy", &name]).await.map(drop)
}

/// Owner reference to a set, as upstream writes it.
pub(crate) fn owner_of(set: &Value) -> Value {
    json!({
        "apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet",
        "name": set["metadata"]["name"], "uid": set["metadata"]["uid"],
        "controller": true, "blockOwnerDeletion": true,
    })
}

/// Applies as upstream's controller does.
pub(crate) async fn apply_leader_set(site: &Namespace, object: &Value) -> Result<StatefulSet> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let applied = site.api().patch(name, &PatchParams::apply("lws").force(), &Patch::Apply(object)).await;
    applied.with_context(|| format!("applying StatefulSet {name} as upstream"))
}

pub(crate) async fn create(site: &Namespace, object: &Value) -> Result<()> {
    let text = object.to_string();
    let cluster = Cluster::shared().await;
    let args = ["--namespace", site.name(), "create", "-f", "-"];
    cluster.kubectl_with(&args, &text).await.map(drop).with_context(|| format!("creating {text}"))
}

/// Runs a set as upstream would until all its groups are ready. `revision` is the key that upstream computed for it.
pub(crate) async fn run(site: &Namespace, set: &Managed, revision: &str) -> Result<()> {
    create(site, &set.object).await?;
    let stored: Value = serde_json::from_str(&site.kubectl(&["get", "lws", set.name(), "-o", "json"]).await?)?;
    let owner = owner_of(&stored);
    create(site, &set.revision(&owner, revision, 1)).await?;
    apply_leader_set(site, &set.leader_set(&owner, revision, 0, set.replicas())).await?;
    if !set.unique_subdomains() {
        create(site, &set.service(set.name(), &owner, &json!({ key("name"): set.name() }))).await?;
    }
    for group in 0..set.replicas() {
        create_group(site, set, group).await?;
    }
    groups_ready(site, set, set.replicas()).await?;
    write_status(site, set).await
}

/// What upstream's pod controller makes for one leader.
pub(crate) async fn create_group(site: &Namespace, set: &Managed, group: i64) -> Result<()> {
    let name = format!("{}-{group}", set.name());
    let leader = eventually(PATIENCE, || async {
        let leader = site.api::<Pod>().get(&name).await?;
        let bound = leader.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
        ensure!(set.exclusive().is_none() || bound, "{name} is not bound");
        Ok(leader)
    })
    .await?;
    let domain = match (set.exclusive(), leader.spec.as_ref().and_then(|spec| spec.node_name.as_deref())) {
        (Some(topology), Some(node)) => {
            let node = Api::<Node>::all(site.client()).get(node).await?;
            node.labels().get(topology).cloned()
        }
        _ => None,
    };
    let leader = serde_json::to_value(&leader)?;
    if set.unique_subdomains() {
        let owner = json!({
            "apiVersion": "v1", "kind": "Pod", "name": name, "uid": leader["metadata"]["uid"],
            "controller": true, "blockOwnerDeletion": true,
        });
        let selector = json!({ key("name"): set.name(), key("group-index"): group.to_string() });
        create(site, &set.service(&name, &owner, &selector)).await?;
    }
    if set.size() > 1 {
        create(site, &set.worker_set(&leader, domain.as_deref())).await?;
    }
    Ok(())
}

async fn groups_ready(site: &Namespace, set: &Managed, groups: i64) -> Result<()> {
    eventually(PATIENCE, || async {
        let pods = pods(site, set.name()).await?;
        let wanted = usize::try_from(groups * set.size())?;
        let refused = site.events(&format!("{}-0", set.name())).await?;
        let waiting: Vec<_> = pods.iter().filter(|(_, pod)| !is_ready(pod)).map(|(name, pod)| (name, &pod.status)).collect();
        ensure!(
            waiting.is_empty() && pods.len() == wanted,
            "{} pods of {wanted}, not ready: {waiting:#?}; {refused:#?}",
            pods.len()
        );
        Ok(())
    })
    .await
}

/// The status of a set whose groups are all ready.
async fn write_status(site: &Namespace, set: &Managed) -> Result<()> {
    let condition = |type_: &str, status: &str, reason: &str, message: &str| {
        json!({ "type": type_, "status": status, "reason": reason, "message": message,
                "lastTransitionTime": "2026-08-01T09:00:00Z", "observedGeneration": 1 })
    };
    let leaders = leaders(site, set.name()).await?.len();
    let status = json!({ "status": {
        "replicas": leaders, "readyReplicas": leaders, "updatedReplicas": leaders, "observedGeneration": 1,
        "hpaPodSelector": format!("{}={},{}=0", key("name"), set.name(), key("worker-index")),
        "conditions": [
            condition("Progressing", "False", "GroupsProgressing", "Replicas are progressing"),
            condition("Available", "True", "AllGroupsReady", "All replicas are ready"),
        ],
    } });
    site.kubectl(&["patch", "lws", set.name(), "--subresource=status", "--type=merge", "-p", &status.to_string()]).await.map(drop)
}

/// A rolling update as upstream does it, down to `partition`: first the surge, then group by group from the last.
pub(crate) async fn update(site: &Namespace, set: &Managed, revision: &str, partition: i64) -> Result<()> {
    let stored: Value = serde_json::from_str(&site.kubectl(&["get", "lws", set.name(), "-o", "json"]).await?)?;
    let owner = owner_of(&stored);
    create(site, &set.revision(&owner, revision, 2)).await?;
    let groups = set.replicas() + set.surge();
    for step in (partition..=set.replicas()).rev() {
        apply_leader_set(site, &set.leader_set(&owner, revision, step, groups)).await?;
        let replaced = if step == set.replicas() { step..groups } else { step..step + 1 };
        for group in replaced {
            leader_replaced(site, &format!("{}-{group}", set.name()), revision).await?;
            create_group(site, set, group).await?;
        }
        groups_ready(site, set, groups).await?;
    }
    // Upstream counts only the groups from the partition on.
    let status = json!({ "status": {
        "replicas": groups, "updatedReplicas": set.replicas() - partition, "observedGeneration": 2,
    } });
    site.kubectl(&["patch", "lws", set.name(), "--subresource=status", "--type=merge", "-p", &status.to_string()]).await.map(drop)
}

async fn leader_replaced(site: &Namespace, name: &str, revision: &str) -> Result<()> {
    eventually(PATIENCE, || async {
        let leader: Pod = site.api().get(name).await?;
        let now = &leader.labels()[&key("template-revision-hash")];
        ensure!(now == revision && leader.metadata.deletion_timestamp.is_none(), "{name} is at {now}");
        let workers = site.api::<StatefulSet>().get_opt(name).await?;
        ensure!(workers.is_none(), "the workers of the old {name} are still there");
        Ok(())
    })
    .await
}
