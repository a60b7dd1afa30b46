//! Liveness, readiness and metrics, over plain HTTP on a port of their own.

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use tokio::net::TcpListener;

use super::Readiness;

/// The text format in which `prometheus-client` writes.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves `/healthz` (this process answers), `/readyz` (503 with one reason a line while [`Readiness`] has any) and
/// `/metrics` (what `metrics` returns, in the OpenMetrics text format) until `shutdown`.
///
/// # Errors
/// When the listener fails.
pub(crate) async fn serve_health(
    listener: TcpListener,
    readiness: Readiness,
    metrics: impl Fn() -> String + Send + Sync + 'static,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router(readiness, metrics)).with_graceful_shutdown(shutdown).await
}

fn router(readiness: Readiness, metrics: impl Fn() -> String + Send + Sync + 'static) -> Router {
    let metrics = Arc::new(metrics);
    let ready = async move || match readiness.verdict() {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(reasons) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{reasons}\n")),
    };
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(async move || ([(header::CONTENT_TYPE, OPEN_METRICS)], metrics())))
}
