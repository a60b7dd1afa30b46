//! Writing revisions, and going back to one.

use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::api::{PartialObjectMeta, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use muster_api::LeaderWorkerSet;
use muster_api::names::{self, annotation, label};
use muster_core::owner::is_controlled_by;
use serde_json::{Value, json};

use super::apply::create;
use crate::caches::SetRef;
use crate::context::Context;

/// How many names that somebody else has are passed over.
const ATTEMPTS: usize = 16;

/// Creates a ControllerRevision. If a revision of somebody else has its name, it is left alone and the next number is taken.
pub(super) async fn create_numbered(cx: &Context, namespace: &str, object: &Value) -> kube::Result<bool> {
    let api: Api<ControllerRevision> = Api::namespaced(cx.client.clone(), namespace);
    let at = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let set_label = label::SET_NAME.replace('/', "~1");
    let (set, key) =
        (at(&format!("/metadata/labels/{set_label}")), at(&format!("/metadata/labels/{}", label::REVISION.replace('/', "~1"))));
    let mut object = object.clone();
    for _ in 0..ATTEMPTS {
        if create::<ControllerRevision>(cx, namespace, &object, |created| cx.caches.revisions.put(created)).await? {
            return Ok(true);
        }
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let Some(holder) = api.get_opt(name).await? else { return Ok(false) };
        let owner = object.pointer("/metadata/ownerReferences/0/uid").and_then(Value::as_str);
        if is_controlled_by(&holder.metadata, owner) {
            relabel(cx, namespace, &holder, &object["metadata"]["labels"]).await?;
            return Ok(false);
        }
        tracing::warn!(namespace, name, "a revision of somebody else has this name; it is left alone");
        let number = object["revision"].as_i64().unwrap_or_default() + 1;
        object["revision"] = number.into();
        object["metadata"]["name"] = names::revision_name(&set, &key, number).into();
    }
    Ok(false)
}

/// Gives a revision of ours back the labels that it is found by, and has its set looked at again with it.
async fn relabel(cx: &Context, namespace: &str, revision: &ControllerRevision, labels: &Value) -> kube::Result<()> {
    let has = |name: &str| revision.metadata.labels.as_ref().and_then(|labels| labels.get(name)).map(String::as_str);
    let (name, wanted) = (revision.metadata.name.as_deref().unwrap_or_default(), labels.as_object());
    if wanted.is_none_or(|wanted| wanted.iter().all(|(label, value)| has(label) == value.as_str())) {
        return Ok(());
    }
    let changed = json!({ "metadata": { "uid": revision.metadata.uid, "labels": labels } });
    if patch(cx, namespace, name, &changed).await? {
        tracing::warn!(namespace, name, "a revision had lost its labels; it has them again");
        cx.caches.make_due(SetRef::new(labels[label::SET_NAME].as_str().unwrap_or_default()).within(namespace));
    }
    Ok(())
}

/// Changes labels, annotations or the number of a revision. `false` if the API server finds that its data would change along with
/// them, as it may where another encoder wrote them: that is worth no set's standstill.
pub(super) async fn patch(cx: &Context, namespace: &str, name: &str, patch: &Value) -> kube::Result<bool> {
    const UNPROCESSABLE: u16 = 422;
    let api: Api<ControllerRevision> = Api::namespaced(cx.client.clone(), namespace);
    match api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(patched) => {
            cx.caches.revisions.put(patched);
            Ok(true)
        }
        Err(kube::Error::Api(status)) if status.code == UNPROCESSABLE => {
            tracing::warn!(namespace, name, "the API server takes no change of this revision; it stays as it is");
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Puts a set back to an earlier revision. What the API server refuses is given up, so that the set is not held up by it.
pub(super) async fn undo(cx: &Context, set: &LeaderWorkerSet, patch: &Value, forget: &Value) -> kube::Result<bool> {
    let api: Api<LeaderWorkerSet> = Api::namespaced(cx.client.clone(), set.set_namespace());
    let params = PatchParams { field_manager: Some("muster-undo".to_owned()), ..PatchParams::default() };
    let as_json = |patch: &Value| serde_json::from_value(patch.clone()).map(Patch::<()>::Json).map_err(kube::Error::SerdeError);
    match api.patch(set.set_name(), &params, &as_json(patch)?).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(false),
        Err(refused @ kube::Error::Api(_)) => {
            // Done already, and asked for once more by a cache that doesn't show it yet: there is nothing left to take off.
            let live = api.get_metadata_opt(set.set_name()).await?;
            let asks = |live: &PartialObjectMeta<LeaderWorkerSet>| live.annotations().contains_key(annotation::UNDO_TO);
            if !live.as_ref().is_some_and(asks) {
                return Ok(false);
            }
            api.patch(set.set_name(), &params, &as_json(forget)?).await?;
            Err(refused)
        }
        Err(error) => Err(error),
    }
}
