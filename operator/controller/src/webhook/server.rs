//! The HTTPS server: routes, limits, and no way for a request to end in a dead connection.

use std::net::{SocketAddr, TcpListener};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use futures::FutureExt;

use super::review::{Answer, Question, Request};
use super::{Lookup, pods, sets};

/// The API server takes objects of up to 3 MiB, and a review of an update holds two of them.
const BODY_LIMIT: usize = 7 * 1024 * 1024;

/// How long open requests may go on after a shutdown; the API server gives up on them after ten seconds anyway.
const GRACE: Duration = Duration::from_secs(10);

/// Binds the address of the webhook server.
///
/// # Errors
/// When the address is taken or not ours; the message says which address it is.
pub(crate) fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind(address)
        .map_err(|error| std::io::Error::new(error.kind(), format!("listening for webhooks on {address}: {error}")))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves admission until `shutdown`, then finishes the requests that have begun.
///
/// # Errors
/// When the listener fails.
pub(crate) async fn serve<L: Lookup>(
    listener: TcpListener,
    tls: RustlsConfig,
    lookup: Arc<L>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let handle = Handle::new();
    let stop = handle.clone();
    let watch = tokio::spawn(async move {
        shutdown.await;
        stop.graceful_shutdown(Some(GRACE));
    });
    let server = axum_server::from_tcp_rustls(listener, tls)?.handle(handle);
    let served = server.serve(router(lookup).into_make_service()).await;
    watch.abort();
    served
}

fn router<L: Lookup>(lookup: Arc<L>) -> Router {
    Router::new()
        .route("/mutate-leaderworkerset-x-k8s-io-v1-leaderworkerset", post(default_set))
        .route("/validate-leaderworkerset-x-k8s-io-v1-leaderworkerset", post(judge_set::<L>))
        .route("/validate-leaderworkerset-x-k8s-io-v1-leaderworkerset-scale", post(judge_scale::<L>))
        .route("/mutate--v1-pod", post(change_pod::<L>))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(lookup)
}

async fn default_set(body: Bytes) -> Response {
    answer("set defaulting", &body, async |request| sets::default(&request)).await
}

async fn judge_set<L: Lookup>(State(lookup): State<Arc<L>>, body: Bytes) -> Response {
    answer("set validation", &body, async |request| sets::judge(&request, lookup.as_ref()).await).await
}

async fn judge_scale<L: Lookup>(State(lookup): State<Arc<L>>, body: Bytes) -> Response {
    answer("scale validation", &body, async |request| sets::judge_scale(&request, lookup.as_ref()).await).await
}

async fn change_pod<L: Lookup>(State(lookup): State<Arc<L>>, body: Bytes) -> Response {
    answer("pod mutation", &body, async |request| pods::change(&request, lookup.as_ref()).await).await
}

/// Reads the question, lets the handler decide, writes the answer. A handler that panics refuses the object with a
/// message, so that whoever sent it learns more than "connection reset".
async fn answer(webhook: &'static str, body: &[u8], handler: impl AsyncFnOnce(Request) -> Answer) -> Response {
    let request = match serde_json::from_slice::<Question>(body) {
        Ok(Question { request: Some(request) }) => request,
        Ok(Question { request: None }) => return bad_request("the AdmissionReview has no request"),
        Err(error) => return bad_request(&format!("this is not an AdmissionReview of admission.k8s.io/v1: {error}")),
    };
    let uid = request.uid.clone();
    let (namespace, name) = (request.namespace.clone(), request.name.clone());
    let decided = AssertUnwindSafe(handler(request)).catch_unwind().await;
    let answer = decided.unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let message = message.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        tracing::error!(webhook, namespace, name, panic = message, "admission panicked; the object was refused");
        Answer::fail(&format!("Muster's {webhook} failed on this object ({message}); please report it"))
    });
    if let Some(refusal) = &answer.refusal {
        tracing::info!(webhook, namespace, name, code = refusal.code, message = refusal.message, "refused");
    }
    Json(answer.into_review(uid)).into_response()
}

fn bad_request(message: &str) -> Response {
    (StatusCode::BAD_REQUEST, message.to_owned()).into_response()
}
