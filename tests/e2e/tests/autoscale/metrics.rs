//! `external.metrics.k8s.io` with one metric, served by the test itself behind the API server's aggregator.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::{Context, Result, ensure};
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use axum_server::tls_rustls::RustlsConfig;
use muster_cluster::{Namespace, eventually};
use muster_e2e::PATIENCE;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};

const API: &str = "external.metrics.k8s.io/v1beta1";
const API_SERVICE: &str = "v1beta1.external.metrics.k8s.io";

/// A metric that the test turns.
pub(crate) struct Metrics<'a> {
    value: Arc<AtomicI64>,
    namespace: &'a Namespace,
}

impl<'a> Metrics<'a> {
    /// Serves the metric `requests` and registers it with the API server.
    pub(crate) async fn serve(namespace: &'a Namespace) -> Result<Self> {
        let value = Arc::new(AtomicI64::new(0));
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let metric = format!("/apis/{API}/namespaces/{{namespace}}/requests");
        let router =
            Router::new().route(&format!("/apis/{API}"), get(resources)).route(&metric, get(requests)).with_state(value.clone());
        let server = axum_server::from_tcp_rustls(listener, tls()?)?;
        tokio::spawn(server.serve(router.into_make_service()));

        let metrics = Self { value, namespace };
        // The aggregator reaches a service of this type by its external name, whatever the pods and proxies of the cluster.
        let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "metrics" },
            "spec": { "type": "ExternalName", "externalName": "localhost" } });
        namespace.apply(&service.to_string()).await?;
        let registration = json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": { "name": API_SERVICE },
            "spec": {
                "group": "external.metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100,
                "insecureSkipTLSVerify": true,
                "service": { "namespace": namespace.name(), "name": "metrics", "port": port },
            },
        });
        namespace.apply(&registration.to_string()).await?;
        eventually(PATIENCE, || async {
            let path = format!("/apis/{API}/namespaces/{}/requests", namespace.name());
            let answer = namespace.kubectl(&["get", "--raw", &path]).await?;
            let list: Value = serde_json::from_str(&answer)?;
            ensure!(list["items"][0]["metricName"] == "requests", "{answer}");
            Ok(())
        })
        .await
        .context("the metrics API is not reached through the API server")?;
        Ok(metrics)
    }

    /// What the metric is from now on.
    pub(crate) fn set(&self, value: i64) {
        self.value.store(value, Ordering::SeqCst);
    }

    /// Takes the metrics API off the cluster.
    pub(crate) async fn remove(self) -> Result<()> {
        self.namespace.kubectl(&["delete", "apiservice", API_SERVICE]).await.map(drop)
    }
}

async fn resources() -> Json<Value> {
    let metric = json!({ "name": "requests", "singularName": "", "namespaced": true, "kind": "ExternalMetricValueList", "verbs": ["get"] });
    Json(json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": API, "resources": [metric] }))
}

async fn requests(State(value): State<Arc<AtomicI64>>) -> Json<Value> {
    let item = json!({
        "metricName": "requests", "metricLabels": {}, "timestamp": "2026-11-22T12:00:00Z",
        "value": value.load(Ordering::SeqCst).to_string(),
    });
    Json(json!({ "kind": "ExternalMetricValueList", "apiVersion": API, "metadata": {}, "items": [item] }))
}

fn tls() -> Result<RustlsConfig> {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)?;
    Ok(RustlsConfig::from_config(Arc::new(config)))
}
