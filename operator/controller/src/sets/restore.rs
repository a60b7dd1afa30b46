//! Putting a worker StatefulSet back to what it was made as.

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::Resource as _;
use kube::api::{GetParams, PostParams};
use kube::core::Request;
use serde_json::Value;

use crate::context::Context;

/// Replaces the spec of a worker StatefulSet by what it was made with, replicas excepted. `false` when it said that already.
///
/// The comparison is the API server's: it fills in its own defaults, and counts a generation only when something is different.
pub(super) async fn worker_set(cx: &Context, namespace: &str, object: &Value, uid: &str, generation: i64) -> kube::Result<bool> {
    if cx.verified.knows(uid, generation) {
        return Ok(false);
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let url = StatefulSet::url_path(&(), Some(namespace));
    let get = Request::new(url.clone()).get(name, &GetParams::default()).map_err(kube::Error::BuildRequest)?;
    let Some(mut live) = found(cx.client.request::<Value>(get).await)? else { return Ok(false) };
    if live["metadata"]["uid"] != uid {
        return Ok(false);
    }
    let before = live["metadata"]["generation"].as_i64();
    let replicas = live["spec"]["replicas"].take();
    live["spec"] = object["spec"].clone();
    live["spec"]["replicas"] = replicas;
    // The resource version in it makes this a conflict rather than a step back if somebody else was faster.
    let put = Request::new(url)
        .replace(name, &PostParams::default(), live.to_string().into_bytes())
        .map_err(kube::Error::BuildRequest)?;
    let restored = match cx.client.request::<StatefulSet>(put).await {
        // Somebody's policy doesn't let it be: no reason to hold up the rest of the set, nor to ask again before the next edit.
        Err(kube::Error::Api(refused)) if refused.code == 403 || refused.code == 422 => {
            tracing::warn!(namespace, name, error = %refused.message, "the worker StatefulSet can't be restored");
            cx.verified.remember(uid, generation);
            return Ok(false);
        }
        answer => found(answer)?,
    };
    let Some(restored) = restored else { return Ok(false) };
    let after = restored.metadata.generation;
    if let Some(after) = after {
        cx.verified.remember(uid, after);
    }
    cx.caches.put_stateful_set(restored);
    Ok(after != before)
}

/// `None` when the object is gone, or another than it was when it was read: its event brings the set back.
fn found<T>(answer: kube::Result<T>) -> kube::Result<Option<T>> {
    match answer {
        Ok(object) => Ok(Some(object)),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(None),
        Err(error) => Err(error),
    }
}
