//! What upstream (kubernetes-sigs/lws v0.9 and v0.10) writes for a set, from what is documented of it (`reference` §1.7, §1.8, §2.4,
//! §2.5, §2.10). Written out here and not taken from our own renderer, which is what these tests hold against it.

use serde_json::{Map, Value, json};

/// Prefix of upstream's labels and annotations.
pub(crate) const PREFIX: &str = "leaderworkerset.sigs.k8s.io";

pub(crate) fn key(name: &str) -> String {
    format!("{PREFIX}/{name}")
}

/// A release of upstream, as far as what it writes differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    V0_9,
    /// Copies the set's labels and annotations to the StatefulSets' metadata.
    V0_10,
}

/// A set as its author wrote it, with the defaults of schema and webhook.
#[derive(Clone, Debug)]
pub(crate) struct Managed {
    pub(crate) release: Release,
    pub(crate) object: Value,
}

impl Managed {
    pub(crate) fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }

    fn template(&self) -> &Value {
        &self.object["spec"]["leaderWorkerTemplate"]
    }

    pub(crate) fn replicas(&self) -> i64 {
        self.object["spec"]["replicas"].as_i64().unwrap_or(1)
    }

    pub(crate) fn surge(&self) -> i64 {
        self.object["spec"]["rolloutStrategy"]["rollingUpdateConfiguration"]["maxSurge"].as_i64().unwrap_or(0)
    }

    pub(crate) fn size(&self) -> i64 {
        self.template()["size"].as_i64().unwrap_or(1)
    }

    fn annotation(&self, name: &str) -> Option<&str> {
        self.object["metadata"]["annotations"][key(name)].as_str()
    }

    pub(crate) fn exclusive(&self) -> Option<&str> {
        self.annotation("exclusive-topology")
    }

    pub(crate) fn unique_subdomains(&self) -> bool {
        self.object["spec"]["networkConfig"]["subdomainPolicy"] == "UniquePerReplica"
    }

    /// The set's own labels or annotations, where this release copies them.
    fn copied(&self, field: &str) -> Map<String, Value> {
        match self.release {
            Release::V0_9 => Map::new(),
            Release::V0_10 => self.object["metadata"][field].as_object().cloned().unwrap_or_default(),
        }
    }

    /// Annotations that the templates of leaders and workers share.
    fn template_annotations(&self, worker: bool) -> Map<String, Value> {
        let mut annotations = Map::new();
        annotations.insert(key("size"), json!(self.size().to_string()));
        if let Some(topology) = self.exclusive() {
            annotations.insert(key("exclusive-topology"), json!(topology));
        }
        if let Some(size) = self.template()["subGroupPolicy"]["subGroupSize"].as_i64() {
            annotations.insert(key("subgroup-size"), json!(size.to_string()));
            // v0.9 left the type out on workers (#945).
            if !worker || self.release != Release::V0_9 {
                annotations.insert(key("subgroup-policy-type"), self.template()["subGroupPolicy"]["subGroupPolicyType"].clone());
            }
        }
        annotations
    }

    /// The leader StatefulSet as upstream applies it.
    pub(crate) fn leader_set(&self, owner: &Value, revision: &str, partition: i64, replicas: i64) -> Value {
        let name = self.name();
        let mut labels = self.copied("labels");
        labels.insert(key("name"), json!(name));
        labels.insert(key("template-revision-hash"), json!(revision));
        let mut annotations = self.copied("annotations");
        annotations.insert(key("replicas"), json!(self.replicas().to_string()));

        let leader = &self.template()["leaderTemplate"];
        let source = if leader.is_null() { &self.template()["workerTemplate"] } else { leader };
        let mut template = through_go(source);
        let own_labels = json!({
            key("worker-index"): "0", key("name"): name, key("template-revision-hash"): revision,
        });
        lay(&mut template, "labels", own_labels.as_object());
        lay(&mut template, "annotations", Some(&self.template_annotations(false)));
        if self.unique_subdomains() {
            lay(&mut template, "annotations", json!({ key("subdomainPolicy"): "UniquePerReplica" }).as_object());
        }
        let rollout = &self.object["spec"]["rolloutStrategy"]["rollingUpdateConfiguration"];
        let budget = rollout["maxUnavailable"].as_i64().unwrap_or(1) + self.surge();
        let mut object = json!({
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {
                "name": name, "labels": labels, "annotations": annotations, "ownerReferences": [owner],
            },
            "spec": {
                "serviceName": name,
                "replicas": replicas,
                "podManagementPolicy": "Parallel",
                "selector": { "matchLabels": { key("name"): name, key("worker-index"): "0" } },
                "template": template,
                "updateStrategy": {
                    "type": "RollingUpdate",
                    "rollingUpdate": { "partition": partition, "maxUnavailable": budget.max(1) },
                },
            },
        });
        self.claims(&mut object);
        object
    }

    /// The worker StatefulSet that upstream creates for a leader pod.
    pub(crate) fn worker_set(&self, leader: &Value, domain: Option<&str>) -> Value {
        let metadata = &leader["metadata"];
        let (name, revision) = (&metadata["name"], &metadata["labels"][key("template-revision-hash")]);
        let identity = json!({
            key("name"): self.name(),
            key("group-index"): metadata["labels"][key("group-index")],
            key("group-key"): metadata["labels"][key("group-key")],
        });
        let mut labels = identity.as_object().cloned().unwrap_or_default();
        labels.insert(key("template-revision-hash"), revision.clone());
        let mut own_labels = self.copied("labels");
        own_labels.extend(labels.clone());

        let mut template = through_go(&self.template()["workerTemplate"]);
        lay(&mut template, "labels", Some(&labels));
        let mut annotations = self.template_annotations(true);
        annotations.insert(key("leader-name"), name.clone());
        lay(&mut template, "annotations", Some(&annotations));
        if let (Some(topology), Some(domain)) = (self.exclusive(), domain) {
            template["spec"]["nodeSelector"] = json!({ topology: domain });
        }
        let service = if self.unique_subdomains() { name.clone() } else { json!(self.name()) };
        let mut object = json!({
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {
                "name": name,
                "labels": own_labels,
                "annotations": self.copied("annotations"),
                "ownerReferences": [{
                    "apiVersion": "v1", "kind": "Pod", "name": name, "uid": metadata["uid"],
                    "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "spec": {
                "serviceName": service,
                "replicas": self.size() - 1,
                "podManagementPolicy": "Parallel",
                "ordinals": { "start": 1 },
                "selector": { "matchLabels": identity },
                "template": template,
            },
        });
        self.claims(&mut object);
        object
    }

    /// Claims as upstream copies them: a subset of the template's fields.
    fn claims(&self, object: &mut Value) {
        let Some(claims) = self.template()["volumeClaimTemplates"].as_array() else { return };
        let copy = |claim: &Value| {
            let spec = &claim["spec"];
            let mut kept = json!({
                "metadata": { "name": claim["metadata"]["name"] },
                "spec": { "accessModes": spec["accessModes"], "resources": { "requests": spec["resources"]["requests"] } },
            });
            for field in ["storageClassName", "volumeMode"] {
                if !spec[field].is_null() {
                    kept["spec"][field] = spec[field].clone();
                }
            }
            kept
        };
        object["spec"]["volumeClaimTemplates"] = claims.iter().map(copy).collect();
        let policy = &self.template()["persistentVolumeClaimRetentionPolicy"];
        if !policy.is_null() {
            object["spec"]["persistentVolumeClaimRetentionPolicy"] = policy.clone();
        }
    }

    /// The shared headless service, or that of one leader.
    pub(crate) fn service(&self, name: &str, owner: &Value, selector: &Value) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": name, "labels": { key("name"): self.name() }, "ownerReferences": [owner] },
            "spec": { "clusterIP": "None", "publishNotReadyAddresses": true, "selector": selector },
        })
    }

    /// The ControllerRevision of the spec, as Go's encoder writes it.
    pub(crate) fn revision(&self, owner: &Value, revision: &str, number: i64) -> Value {
        let mut template = self.template().clone();
        for part in ["leaderTemplate", "workerTemplate"] {
            if !template[part].is_null() {
                template[part] = through_go(&template[part]);
            }
        }
        for claim in template.pointer_mut("/volumeClaimTemplates").and_then(Value::as_array_mut).into_iter().flatten() {
            *claim = through_go(claim);
            claim["status"] = json!({});
        }
        template["$patch"] = json!("replace");
        let mut network = self.object["spec"]["networkConfig"].clone();
        network["$patch"] = json!("replace");
        json!({
            "apiVersion": "apps/v1",
            "kind": "ControllerRevision",
            "metadata": {
                "name": format!("{}-{revision}-{number}", self.name()),
                "labels": { key("name"): self.name(), key("template-revision-hash"): revision },
                "ownerReferences": [owner],
            },
            "data": { "spec": { "leaderWorkerTemplate": template, "networkConfig": network } },
            "revision": number,
        })
    }
}

fn lay(template: &mut Value, field: &str, additions: Option<&Map<String, Value>>) {
    for (key, value) in additions.into_iter().flatten() {
        template["metadata"][field][key] = value.clone();
    }
}

/// What becomes of a template on its way through Go's structs: zero values are left out, empty structs printed, quantities spelled
/// canonically. Only for what these tests use; fails loudly on nothing, because the API server reads the result.
fn through_go(value: &Value) -> Value {
    let mut through = gone_through("", value);
    through["metadata"]["creationTimestamp"] = Value::Null;
    for container in through.pointer_mut("/spec/containers").and_then(Value::as_array_mut).into_iter().flatten() {
        if container["resources"].is_null() {
            container["resources"] = json!({});
        }
    }
    through
}

fn gone_through(name: &str, value: &Value) -> Value {
    match value {
        Value::Object(fields) if name == "limits" || name == "requests" => {
            fields.iter().map(|(resource, amount)| (resource.clone(), canonical(amount))).collect()
        }
        Value::Object(fields) => {
            let kept = fields.iter().map(|(name, value)| (name.clone(), gone_through(name, value)));
            let zero = |value: &Value| matches!(value, Value::Null) || *value == json!("") || *value == json!([]);
            let absent = |name: &str, value: &Value| {
                zero(value) || (name == "initialDelaySeconds" && *value == 0) || (name == "hostNetwork" && *value == false)
            };
            kept.filter(|(name, value)| !absent(name, value)).collect()
        }
        Value::Array(items) => items.iter().map(|item| gone_through("", item)).collect(),
        _ => value.clone(),
    }
}

/// The spellings that these tests use, and Go's.
fn canonical(amount: &Value) -> Value {
    match amount {
        Value::Number(number) => json!(number.to_string()),
        Value::String(text) => match text.as_str() {
            "1000m" => json!("1"),
            "1024Mi" => json!("1Gi"),
            _ => amount.clone(),
        },
        _ => amount.clone(),
    }
}
