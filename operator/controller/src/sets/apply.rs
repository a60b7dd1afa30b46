//! The fourth step, and the only place that writes about sets.

use std::fmt::Debug;

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolumeClaim, Pod, PodTemplateSpec, Service};
use kube::api::{DeleteParams, GetParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::core::{DynamicObject, NamespaceResourceScope};
use kube::runtime::events::{Event, EventType};
use kube::{Api, Resource, ResourceExt as _};
use muster_api::names::{annotation, label};
use muster_api::{LeaderWorkerSet, LeaderWorkerSetStatus};
use muster_core::gang;
use muster_core::owner::{controller, is_controlled_by};
use muster_core::plan::{Note, Plan, Register, Related, Step, Write};
use muster_core::revision::find;
use muster_core::text::as_go_writes;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Error, restore, revision};
use crate::caches::{SetRef, pod_group_resource, prune};
use crate::context::Context;

/// Upstream's field manager on the leader StatefulSet, kept so that either operator can take over from the other.
const FIELD_MANAGER: &str = "lws";

/// Refusals after which the rest of a plan is left for another time: what holds so many groups up holds the others up as well.
const MOST_FAILURES: usize = 64;

/// Carries out a plan: writes in order, then the status, then events.
///
/// # Errors
/// With the first write that failed. What was written stands; the next reconcile goes on from there.
pub(super) async fn apply(cx: &Context, set: &LeaderWorkerSet, plan: &Plan) -> Result<(), Error> {
    let mut failures: Vec<(&str, Error)> = Vec::new();
    for step in &plan.steps {
        let subject = step.write.subject();
        if failures.iter().any(|(failed, _)| *failed == subject || step.write.relies_on() == Some(*failed)) {
            continue;
        }
        if failures.len() == MOST_FAILURES {
            break;
        }
        let outcome = write(cx, set, step).await;
        let failed = |error: &Error| step.failed.clone().map(|note| Note { text: format!("{}: {error}", note.text), ..note });
        let notes = match &outcome {
            Ok(true) => step.done.clone(),
            Ok(false) => Vec::new(),
            Err(error) => failed(error).into_iter().collect(),
        };
        for note in notes {
            publish(cx, set, &as_made(cx, set, plan, note)).await;
        }
        match outcome {
            Ok(_) => {}
            // It refuses this write; others it may take.
            Err(refused @ Error::Write { source: kube::Error::Api(_), .. }) => failures.push((subject, refused)),
            Err(unreachable) => return Err(unreachable),
        }
    }
    let stands = match &plan.status {
        Some(status) => write_status(cx, set, status).await?,
        None => true,
    };
    for note in plan.notes.iter().filter(|_| stands) {
        publish(cx, set, note).await;
    }
    failures.into_iter().next().map_or(Ok(()), |(_, first)| Err(first))
}

/// One write. `false` when there was nothing to do: the object exists, is gone, or says already what it should.
async fn write(cx: &Context, set: &LeaderWorkerSet, step: &Step) -> Result<bool, Error> {
    if let Write::ApplyLeaderSet { object, .. } = &step.write {
        return apply_leader_set(cx, set, &step.write, object).await;
    }
    let written = send(cx, set, &step.write).await;
    let changed = written.map_err(|source| Error::Write { what: step.write.to_string(), source })?;
    if changed {
        cx.metrics.write(&step.write);
        tracing::info!(write = %step.write, "wrote");
    }
    Ok(changed)
}

/// Sends one write, and puts the answer into the caches ahead of the watch.
async fn send(cx: &Context, set: &LeaderWorkerSet, write: &Write) -> kube::Result<bool> {
    let namespace = set.set_namespace();
    let client = || cx.client.clone();
    let caches = &cx.caches;
    match write {
        // It has its own function, because it is skipped when it stands.
        Write::ApplyLeaderSet { .. } => Ok(false),
        Write::CreateRevision(object) => revision::create_numbered(cx, namespace, object).await,
        Write::PatchRevision { name, patch } => revision::patch(cx, namespace, name, patch).await,
        Write::UndoSet { patch, forget } => revision::undo(cx, set, patch, forget).await,
        Write::CreateService(object) => {
            create::<Service>(cx, namespace, object, |created| caches.services.put(prune::service(created))).await
        }
        Write::CreateWorkerSet(object) => {
            create::<StatefulSet>(cx, namespace, object, |created| caches.put_stateful_set(created)).await
        }
        Write::PatchLeader { name, patch } => {
            let api: Api<Pod> = Api::namespaced(client(), namespace);
            caches.put_pod(api.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await?);
            Ok(true)
        }
        Write::ScaleWorkerSet { name, replicas } => {
            patch_stateful_set(cx, namespace, name, &json!({ "spec": { "replicas": replicas } })).await
        }
        Write::RelabelWorkerSet { name, patch } => patch_stateful_set(cx, namespace, name, patch).await,
        Write::DeleteWorkerSet { name, uid, leader } => {
            // A cache of pods that lags behind must not cost a newer leader its workers.
            let leaders: Api<Pod> = Api::namespaced(client(), namespace);
            if leaders.get_metadata_opt(name).await?.is_none_or(|now| now.metadata.uid.as_ref() != Some(leader)) {
                return Ok(false);
            }
            let options = DeleteParams { propagation_policy: Some(PropagationPolicy::Background), ..only(uid) };
            delete(&Api::<StatefulSet>::namespaced(client(), namespace), name, &options).await
        }
        Write::RestoreWorkerSet { object, uid, generation } => restore::worker_set(cx, namespace, object, uid, *generation).await,
        Write::RepairService { name, patch } => {
            let api: Api<Service> = Api::namespaced(client(), namespace);
            caches.services.put(prune::service(api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?));
            Ok(true)
        }
        Write::DeleteService { name, uid } => delete(&Api::<Service>::namespaced(client(), namespace), name, &only(uid)).await,
        Write::RecordMembers { on: Register::WorkerSet, name, uid, members } => {
            let patch = json!({ "metadata": { "uid": uid, "annotations": { annotation::MEMBERS: members } } });
            patch_stateful_set(cx, namespace, name, &patch).await
        }
        Write::RecordMembers { on: Register::Leader, name, uid, members } => {
            let api: Api<Pod> = Api::namespaced(client(), namespace);
            let patch = json!({ "metadata": { "uid": uid, "annotations": { annotation::MEMBERS: members } } });
            caches.put_pod(api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?);
            Ok(true)
        }
        Write::DeleteBereftLeader { name, uid } => {
            let api: Api<StatefulSet> = Api::namespaced(client(), namespace);
            // A cache that lags behind must not cost a group its life.
            let workers = api.get_opt(name).await?;
            if workers.is_some_and(|workers| is_controlled_by(&workers.metadata, Some(uid))) {
                return Ok(false);
            }
            delete_leader(cx, namespace, name, uid, None).await
        }
        Write::CreatePodGroup(object) => create_pod_group(cx, namespace, object).await,
        Write::RepairPodGroup { api_version, name, patch } => {
            let api: Api<DynamicObject> = Api::namespaced_with(client(), namespace, &pod_group_resource(api_version));
            let repaired = api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
            if let Some(groups) = &caches.pod_groups {
                groups.put(repaired);
            }
            Ok(true)
        }
        Write::RecordRestarts { name, history } => {
            let patch = json!({ "metadata": { "annotations": { annotation::RESTARTS: history } } });
            patch_stateful_set(cx, namespace, name, &patch).await
        }
        Write::DeleteLeader { name, uid, resource_version } => {
            delete_leader(cx, namespace, name, uid, resource_version.clone()).await
        }
        Write::OwnClaim { name, patch } => {
            let api: Api<PersistentVolumeClaim> = Api::namespaced(client(), namespace);
            // One that nobody labelled isn't in the cache; somebody else may answer for it.
            if patch.pointer("/metadata/uid").is_none() {
                let claim = api.get_metadata_opt(name).await?;
                if claim.is_none_or(|claim| controller(&claim.metadata).is_some_and(|owner| owner.kind != "StatefulSet")) {
                    return Ok(false);
                }
            }
            match api.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await {
                Ok(claim) => caches.claims.put(prune::claim(claim)),
                // Gone, or another of the same name.
                Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => return Ok(false),
                Err(error) => return Err(error),
            }
            Ok(true)
        }
        Write::DeleteClaim { name, uid } => {
            delete(&Api::<PersistentVolumeClaim>::namespaced(client(), namespace), name, &only(uid)).await
        }
        Write::DeleteRevision { name } => {
            delete(&Api::<ControllerRevision>::namespaced(client(), namespace), name, &DeleteParams::default()).await
        }
    }
}

/// Creates an object. `false` when there is one of that name already, which the next look at the caches will judge.
pub(super) async fn create<K>(cx: &Context, namespace: &str, object: &Value, keep: impl FnOnce(K)) -> kube::Result<bool>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    // Templates are raw JSON, so the request is made by hand and not from a typed object that would drop what it doesn't know.
    let url = K::url_path(&(), Some(namespace));
    let body = as_go_writes(&object.to_string()).into_bytes();
    let request = kube::core::Request::new(url).create(&PostParams::default(), body).map_err(kube::Error::BuildRequest)?;
    match cx.client.request::<K>(request).await {
        Ok(created) => {
            keep(created);
            Ok(true)
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Merges a patch into a StatefulSet, and puts the answer into the cache.
async fn patch_stateful_set(cx: &Context, namespace: &str, name: &str, patch: &Value) -> kube::Result<bool> {
    let api: Api<StatefulSet> = Api::namespaced(cx.client.clone(), namespace);
    cx.caches.put_stateful_set(api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?);
    Ok(true)
}

/// Deletes only this incarnation of an object.
fn only(uid: &str) -> DeleteParams {
    let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() }
}

/// Deletes a leader after its dependents.
async fn delete_leader(cx: &Context, namespace: &str, name: &str, uid: &str, version: Option<String>) -> kube::Result<bool> {
    let options = DeleteParams {
        preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: version }),
        propagation_policy: Some(PropagationPolicy::Foreground),
        ..DeleteParams::default()
    };
    delete(&Api::<Pod>::namespaced(cx.client.clone(), namespace), name, &options).await
}

/// Creates a PodGroup of either kind. `false` as for [`create`].
async fn create_pod_group(cx: &Context, namespace: &str, object: &Value) -> kube::Result<bool> {
    let api_version = object["apiVersion"].as_str().unwrap_or_default();
    let api: Api<DynamicObject> = Api::namespaced_with(cx.client.clone(), namespace, &pod_group_resource(api_version));
    let object = serde_json::from_value(object.clone()).map_err(kube::Error::SerdeError)?;
    let params = PostParams { field_manager: Some(gang::MAKER.to_owned()), ..PostParams::default() };
    match api.create(&params, &object).await {
        Ok(created) => {
            if let Some(groups) = &cx.caches.pod_groups {
                groups.put(created);
            }
            Ok(true)
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Deletes an object. `false` when it is gone already, or is not the one that was meant any more.
async fn delete<K>(api: &Api<K>, name: &str, options: &DeleteParams) -> kube::Result<bool>
where
    K: Clone + DeserializeOwned + Debug,
{
    match api.delete(name, options).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Applies the leader StatefulSet, unless this process applied the same before and it still stands.
async fn apply_leader_set(cx: &Context, set: &LeaderWorkerSet, step: &Write, object: &Value) -> Result<bool, Error> {
    let (namespace, name, key) = (set.set_namespace(), set.set_name(), SetRef::from_obj(set));
    let failed = |source| Error::Write { what: step.to_string(), source };
    let before = cx.caches.stateful_sets.get(namespace, name);
    if before.as_ref().is_some_and(|before| cx.applied.stands(&key, object, &before.metadata)) {
        return Ok(false);
    }
    let api: Api<StatefulSet> = Api::namespaced(cx.client.clone(), namespace);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let with_claims = match &before {
        Some(before) => with_live_claims(cx, before, object).await.map_err(failed)?,
        None => None,
    };
    let wanted = object;
    let object = with_claims.as_ref().unwrap_or(object);
    let applied = match api.patch(name, &params, &Patch::Apply(object)).await {
        // Server-side apply refuses fields that the API server doesn't know, where a create would drop them. A template may
        // have one (a field of a newer Kubernetes, a misspelt one, about which admission has warned), and works without it.
        Err(refused @ kube::Error::Api(_)) => match known_fields(object).filter(|known| known != object) {
            Some(known) => api.patch(name, &params, &Patch::Apply(&known)).await,
            None => Err(refused),
        },
        outcome => outcome,
    };
    let applied = applied.map_err(failed)?;
    let changed = before.is_none_or(|before| before.metadata.generation != applied.metadata.generation);
    cx.caches.put_stateful_set(applied);
    // As the cache has it, so that later comparisons are of like with like.
    if let Some(live) = cx.caches.stateful_sets.get(namespace, name) {
        cx.applied.remember(key, wanted, &live.metadata);
    }
    if changed {
        cx.metrics.write(step);
        tracing::info!(write = %step, "wrote");
    }
    Ok(changed)
}

/// The leader StatefulSet to apply with the claim templates of the live one, if any has some. They can't be changed, and upstream
/// writes the same ones in other words, so they are repeated as they stand.
async fn with_live_claims(cx: &Context, live: &StatefulSet, object: &Value) -> kube::Result<Option<Value>> {
    const CLAIMS: &str = "volumeClaimTemplates";
    let has = live.spec.as_ref().is_some_and(|spec| spec.volume_claim_templates.as_ref().is_some_and(|list| !list.is_empty()));
    if !has && object["spec"].get(CLAIMS).is_none() {
        return Ok(None);
    }
    let mut object = object.clone();
    let Some(spec) = object["spec"].as_object_mut() else { return Ok(None) };
    spec.remove(CLAIMS);
    if has {
        let (namespace, name) = (live.metadata.namespace.as_deref(), live.name_any());
        let uid = live.metadata.uid.as_deref().unwrap_or_default();
        let templates = match cx.claim_templates.of(uid) {
            Some(known) => known,
            None => {
                // As JSON: a typed template would lose what it doesn't know.
                let request = kube::core::Request::new(StatefulSet::url_path(&(), namespace));
                let request = request.get(&name, &GetParams::default()).map_err(kube::Error::BuildRequest)?;
                let found: Value = cx.client.request(request).await?;
                let templates = found["spec"][CLAIMS].clone();
                if found["metadata"]["uid"] == uid {
                    cx.claim_templates.remember(uid, templates.clone());
                }
                templates
            }
        };
        spec.insert(CLAIMS.to_owned(), templates);
    }
    Ok(Some(object))
}

/// The StatefulSet with those fields of its templates that our bindings know.
fn known_fields(object: &Value) -> Option<Value> {
    const TEMPLATE: &str = "/spec/template";
    let typed: PodTemplateSpec = serde_json::from_value(object.pointer(TEMPLATE)?.clone()).ok()?;
    let mut known = object.clone();
    *known.pointer_mut(TEMPLATE)? = serde_json::to_value(typed).ok()?;
    for claim in known.pointer_mut("/spec/volumeClaimTemplates").and_then(Value::as_array_mut).into_iter().flatten() {
        let typed: PersistentVolumeClaim = serde_json::from_value(claim.clone()).ok()?;
        *claim = serde_json::to_value(typed).ok()?;
    }
    Some(known)
}

/// Writes the status. `false` if the set is another one by now, or gone.
async fn write_status(cx: &Context, set: &LeaderWorkerSet, status: &LeaderWorkerSetStatus) -> Result<bool, Error> {
    let api: Api<LeaderWorkerSet> = Api::namespaced(cx.client.clone(), set.set_namespace());
    // The resource version makes a status computed from an old set a conflict instead of a step back.
    let patch = json!({ "metadata": { "resourceVersion": set.resource_version() }, "status": status });
    match api.patch_status(set.set_name(), &PatchParams::default(), &Patch::Merge(&patch)).await {
        Ok(_) => Ok(true),
        // Deleted or changed meanwhile: its event brings the set back if it still exists.
        Err(kube::Error::Api(answer)) if answer.is_conflict() || answer.is_not_found() => Ok(false),
        Err(source) => Err(Error::Write { what: "write status".to_owned(), source }),
    }
}

/// The note with the revision that was made for this plan, instead of the one that was planned.
fn as_made(cx: &Context, set: &LeaderWorkerSet, plan: &Plan, note: Note) -> Note {
    if !note.related.as_ref().is_some_and(Related::is_new_revision) {
        return note;
    }
    let planned = plan.steps.iter().find_map(|step| match &step.write {
        Write::CreateRevision(object) => object["metadata"]["labels"][label::REVISION].as_str(),
        _ => None,
    });
    let known = cx.caches.revisions.of_set(set.set_namespace(), set.set_name());
    let uid = set.metadata.uid.as_deref().unwrap_or_default();
    let made = planned.and_then(|key| find(known.values().map(AsRef::as_ref), uid, key));
    match made {
        Some(made) => note.relating(Related::revision(&made.metadata)),
        None => note,
    }
}

pub(super) async fn publish(cx: &Context, set: &LeaderWorkerSet, note: &Note) {
    let event = Event {
        type_: if note.warning { EventType::Warning } else { EventType::Normal },
        reason: note.reason.to_owned(),
        note: Some(muster_core::text::truncated(&note.text, 1024)),
        action: note.action.to_owned(),
        secondary: note.related.as_ref().map(|related| ObjectReference {
            api_version: Some(related.api_version.to_owned()),
            kind: Some(related.kind.to_owned()),
            name: Some(related.name.clone()),
            namespace: set.metadata.namespace.clone(),
            uid: related.uid.clone(),
            ..ObjectReference::default()
        }),
    };
    if let Err(error) = cx.events.publish(&event, &set.object_ref(&())).await {
        tracing::warn!(%error, reason = note.reason, "could not publish an event");
    }
}
