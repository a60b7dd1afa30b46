//! Writing revisions, and going back to one.

use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::Api;
use kube::api::{Patch, PatchParams};
use muster_api::LeaderWorkerSet;
use muster_api::names::{self, label};
use muster_core::owner::is_controlled_by;
use serde_json::Value;

use super::apply::create;
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
        let holder = api.get_opt(name).await?;
        let owner = object.pointer("/metadata/ownerReferences/0/uid").and_then(Value::as_str);
        if holder.is_none_or(|holder| is_controlled_by(&holder.metadata, owner)) {
            return Ok(false);
        }
        tracing::warn!(namespace, name, "a revision of somebody else has this name; it is left alone");
        let number = object["revision"].as_i64().unwrap_or_default() + 1;
        object["revision"] = number.into();
        object["metadata"]["name"] = names::revision_name(&set, &key, number).into();
    }
    Ok(false)
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
            api.patch(set.set_name(), &params, &as_json(forget)?).await?;
            Err(refused)
        }
        Err(error) => Err(error),
    }
}
