//! What the StatefulSet controller, the scheduler and kubelets would do, done by hand, one write at a time.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use muster_cluster::{Namespace, eventually};
use muster_e2e::{PATIENCE, Set};
use serde_json::{Value, json};

/// One set in a namespace where nobody acts but the operator and the test.
pub(crate) struct Hands<'a> {
    pub(crate) site: &'a Namespace,
    pub(crate) set: &'a str,
}

impl<'a> Hands<'a> {
    /// Creates the set and waits for its leader StatefulSet.
    pub(crate) async fn on(site: &'a Namespace, name: &'a str, set: &Set) -> Result<Self> {
        site.apply(&set.manifest()).await?;
        let hands = Self { site, set: name };
        eventually(PATIENCE, || async { hands.stateful_set(name).await.map(drop) }).await?;
        Ok(hands)
    }

    pub(crate) fn leader(&self, group: u32) -> String {
        format!("{}-{group}", self.set)
    }

    pub(crate) async fn stateful_set(&self, name: &str) -> Result<StatefulSet> {
        Ok(self.site.api::<StatefulSet>().get(name).await?)
    }

    /// Replicas and partition of the leader StatefulSet.
    pub(crate) async fn rollout(&self) -> Result<(i32, i32)> {
        let spec = self.stateful_set(self.set).await?.spec.context("no spec")?;
        let partition = spec.update_strategy.and_then(|strategy| strategy.rolling_update?.partition).unwrap_or(0);
        Ok((partition, spec.replicas.unwrap_or(1)))
    }

    pub(crate) async fn rollout_is(&self, partition: i32, replicas: i32) {
        eventually(PATIENCE, || async {
            let now = self.rollout().await?;
            ensure!(now == (partition, replicas), "the leader StatefulSet is at {now:?}, not at {:?}", (partition, replicas));
            Ok(())
        })
        .await
        .unwrap();
    }

    /// Makes a pod of a StatefulSet as its controller would.
    pub(crate) async fn create_pod(&self, owner: &str, name: &str, change: impl FnOnce(&mut Value)) -> Result<Pod> {
        let set = self.stateful_set(owner).await?;
        let spec = set.spec.as_ref().context("no spec")?;
        let mut pod = serde_json::to_value(&spec.template)?;
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        pod["metadata"]["name"] = json!(name);
        pod["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "apps/v1", "kind": "StatefulSet", "name": owner, "uid": set.uid(),
            "controller": true, "blockOwnerDeletion": true,
        }]);
        pod["spec"]["hostname"] = json!(name);
        pod["spec"]["subdomain"] = json!(spec.service_name);
        change(&mut pod);
        Ok(self.site.api::<Pod>().create(&PostParams::default(), &serde_json::from_value(pod)?).await?)
    }

    pub(crate) async fn create_leader(&self, group: u32) -> Pod {
        self.create_pod(self.set, &self.leader(group), |_| {}).await.unwrap()
    }

    /// Deletes a leader at once, with what would be collected along with it, and makes its successor from the present template.
    pub(crate) async fn replace_leader(&self, group: u32) {
        let name = self.leader(group);
        let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::background() };
        let pod = self.site.api::<Pod>().get(&name).await.unwrap();
        if pod.metadata.deletion_timestamp.is_none() {
            self.site.api::<Pod>().delete(&name, &at_once).await.unwrap();
        } else {
            self.let_go(&name).await;
        }
        eventually(PATIENCE, || async {
            ensure!(self.site.api::<Pod>().get_opt(&name).await?.is_none(), "{name} is still there");
            Ok(())
        })
        .await
        .unwrap();
        self.site.api::<StatefulSet>().delete(&name, &at_once).await.unwrap();
        self.create_leader(group).await;
    }

    /// The garbage collector has removed what a pod waited for.
    pub(crate) async fn let_go(&self, pod: &str) {
        let patch = json!({ "metadata": { "finalizers": null } });
        self.site.api::<Pod>().patch(pod, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    pub(crate) async fn pod_status(&self, pod: &str, status: Value) {
        let patch = json!({ "status": status });
        self.site.api::<Pod>().patch_status(pod, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    pub(crate) async fn leader_ready(&self, group: u32) {
        let condition = json!({ "type": "Ready", "status": "True", "lastTransitionTime": "2026-11-25T12:00:00Z" });
        self.pod_status(&self.leader(group), json!({ "phase": "Running", "conditions": [condition] })).await;
    }

    /// Waits for the group's worker StatefulSet and says of it that all its pods are there, as upstream's suites do: without
    /// `observedGeneration`.
    pub(crate) async fn workers_ready(&self, group: u32) {
        let set = self.workers(group).await;
        let replicas = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let status = json!({ "status": {
            "replicas": replicas, "readyReplicas": replicas, "availableReplicas": replicas,
            "currentRevision": "r1", "updateRevision": "r1",
        } });
        let api = self.site.api::<StatefulSet>();
        api.patch_status(&self.leader(group), &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    }

    pub(crate) async fn group_ready(&self, group: u32) {
        self.leader_ready(group).await;
        self.workers_ready(group).await;
    }

    /// The worker StatefulSet of the group's present leader.
    pub(crate) async fn workers(&self, group: u32) -> StatefulSet {
        let name = self.leader(group);
        eventually(PATIENCE, || async {
            let leader = self.site.api::<Pod>().get(&name).await?;
            let set = self.stateful_set(&name).await?;
            ensure!(
                set.owner_references().iter().any(|owner| Some(&owner.uid) == leader.metadata.uid.as_ref()),
                "{name} is the old one"
            );
            Ok(set)
        })
        .await
        .unwrap()
    }

    /// Waits until the operator has noted who is in the group.
    pub(crate) async fn has_members(&self, leader: &str) {
        eventually(PATIENCE, || async {
            let pod = self.site.api::<Pod>().get(leader).await?;
            let members = pod.annotations().get("muster.dev/members").map_or(0, |members| members.split(',').count());
            let size: usize = pod.annotations()["leaderworkerset.sigs.k8s.io/size"].parse()?;
            ensure!(members + 1 == size, "{members} of {size} members are noted");
            Ok(())
        })
        .await
        .unwrap();
    }

    /// Binds a pod as a scheduler does.
    pub(crate) async fn bind(&self, pod: &str, binding: &Value) {
        let api = self.site.api::<Pod>();
        let _: Value = api.create_subresource("binding", pod, &PostParams::default(), binding).await.unwrap();
    }

    /// Waits until a pod is on its way out.
    pub(crate) async fn is_leaving(&self, pod: &str) {
        eventually(PATIENCE, || async {
            let pod = self.site.api::<Pod>().get(pod).await?;
            ensure!(pod.metadata.deletion_timestamp.is_some(), "{} stays", pod.name_any());
            Ok(())
        })
        .await
        .unwrap();
    }

    /// Waits until the operator has decided about the set once more, with everything before this in view.
    pub(crate) async fn looked_again(&self) {
        self.site.kubectl(&["annotate", "lws", self.set, "example.com/note=1"]).await.unwrap();
        eventually(PATIENCE, || async {
            let leaders = self.stateful_set(self.set).await?;
            ensure!(leaders.annotations().contains_key("example.com/note"), "the operator has not looked again");
            Ok(())
        })
        .await
        .unwrap();
    }

    pub(crate) async fn patch(&self, spec: Value) {
        let patch = json!({ "spec": spec }).to_string();
        self.site.kubectl(&["patch", "lws", self.set, "--type=merge", "-p", &patch]).await.unwrap();
    }

    /// Changes the template of all pods.
    pub(crate) async fn update(&self, release: &str) {
        let labels = json!({ "metadata": { "labels": { "release": release } } });
        self.patch(json!({ "leaderWorkerTemplate": { "workerTemplate": labels } })).await;
    }
}
