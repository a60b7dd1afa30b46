//! The server as the API server meets it: HTTPS with our own authority, AdmissionReviews in, AdmissionReviews out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use axum_server::tls_rustls::RustlsConfig;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::apps::v1::StatefulSet;
use muster_api::LeaderWorkerSet;
use muster_core::admission::Defaults;
use muster_core::admission::guard::{Keepers, Mode, Rules, Wish};
use muster_core::cluster::Scope;
use muster_core::gang::Provider;
use muster_core::placement::effects::Effects;
use rstest::rstest;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Lookup, Readiness, bind, serve, serve_health};
use crate::certs::{Contents, carry_out, client_config, greet, plan, server_config};

const MUTATE_SET: &str = "/mutate-leaderworkerset-x-k8s-io-v1-leaderworkerset";
const VALIDATE_SET: &str = "/validate-leaderworkerset-x-k8s-io-v1-leaderworkerset";
const MUTATE_POD: &str = "/mutate--v1-pod";
const NAME: &str = "muster-webhook.muster-system.svc";

/// A cluster of the sets `cached` (in the cache), `new` (not in the cache yet) and `plain` (nobody places it). Asking
/// for the set `broken` fails, and for `bug` panics.
#[derive(Default)]
struct Cluster {
    gangs: Option<Provider>,
}

fn set_with(name: &str, annotations: Value) -> Arc<LeaderWorkerSet> {
    let mut set = set(name);
    set["metadata"]["annotations"] = annotations;
    Arc::new(serde_json::from_value(set).unwrap())
}

impl Lookup for Cluster {
    fn set(&self, _: &str, name: &str) -> Option<Arc<LeaderWorkerSet>> {
        match name {
            "cached" => Some(set_with(name, json!({"muster.dev/placement-policy": "node-pool"}))),
            "plain" | "live" => Some(set_with(name, json!({}))),
            "bug" => panic!("a bug in a cache"),
            _ => None,
        }
    }

    async fn fetch_set(&self, _: &str, name: &str) -> anyhow::Result<Option<Arc<LeaderWorkerSet>>> {
        match name {
            "new" => Ok(Some(set_with(name, json!({"leaderworkerset.sigs.k8s.io/exclusive-topology": "rack"})))),
            "broken" => anyhow::bail!("connection refused"),
            _ => Ok(None),
        }
    }

    async fn leader_set(&self, set: &LeaderWorkerSet) -> anyhow::Result<Option<Arc<StatefulSet>>> {
        let claims = json!([{"metadata": {"name": "data"}, "spec": {"volumeMode": "Filesystem", "resources": {"requests": {"storage": "1Gi"}}}}]);
        let spec = json!({"selector": {}, "serviceName": "x", "template": {}, "volumeClaimTemplates": claims});
        let live = set.set_name() == "live";
        Ok(live.then(|| Arc::new(serde_json::from_value(json!({"metadata": {"name": "live"}, "spec": spec})).unwrap())))
    }

    fn sets(&self, _: &str) -> Vec<Arc<LeaderWorkerSet>> {
        ["live", "live-5"].map(|name| set_with(name, json!({}))).into()
    }

    fn guard(&self) -> Rules {
        Rules { mode: Mode::None, scope: Scope::Namespace }
    }

    fn keepers(&self) -> Option<Arc<Keepers>> {
        None
    }

    async fn fetch_keepers(&self, namespace: &str) -> anyhow::Result<Arc<Keepers>> {
        let mut keepers = Keepers::default();
        keepers.put(namespace, "new", Wish { groups: Some("rack".to_owned()), subgroups: None });
        Ok(Arc::new(keepers))
    }

    fn node_label_exists(&self, key: &str) -> Option<bool> {
        Some(key == "rack")
    }

    fn namespace_annotations(&self, _: &str) -> Option<BTreeMap<String, String>> {
        None
    }

    async fn fetch_namespace_annotations(&self, _: &str) -> anyhow::Result<BTreeMap<String, String>> {
        Ok(BTreeMap::new())
    }

    fn prepared(&self, _: &str, policies: &[String]) -> Effects {
        match policies {
            [policy] if policy == "tpu" => {
                let env = [("SLICE".to_owned(), "none".to_owned())].into();
                Effects { env, ..Effects::default() }
            }
            _ => Effects::default(),
        }
    }

    fn defaults(&self) -> Defaults {
        Defaults::default()
    }

    async fn gangs(&self) -> Option<Provider> {
        self.gangs
    }

    async fn leaders_pod_group(&self, _: &str, leader: &str, owner: Option<&str>) -> anyhow::Result<Option<String>> {
        match (leader, owner) {
            ("plain-0", Some("workers-uid")) => Ok(Some("plain-0-abc-0a1b2c3d".to_owned())),
            ("broken-0", _) => anyhow::bail!("connection refused"),
            _ => Ok(None),
        }
    }
}

fn names() -> Vec<String> {
    vec![NAME.into(), "127.0.0.1".into()]
}

fn certificates() -> Contents {
    let now = SystemTime::now();
    let empty = Contents::default();
    carry_out(plan(&empty, &names(), now), &empty, &names(), now).unwrap()
}

/// A running server, its certificates, and the switch that stops it.
struct Server {
    address: SocketAddr,
    contents: Contents,
    tls: RustlsConfig,
    stop: tokio::sync::oneshot::Sender<()>,
    served: tokio::task::JoinHandle<std::io::Result<()>>,
}

fn start() -> Server {
    start_in(Cluster::default())
}

fn start_in(cluster: Cluster) -> Server {
    let contents = certificates();
    let tls = RustlsConfig::from_config(server_config(&contents).unwrap());
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel();
    // A test that drops the switch is done with it; its server goes when the test's runtime goes.
    let shutdown = async {
        if stopped.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let served = tokio::spawn(serve(listener, tls.clone(), Arc::new(cluster), shutdown));
    Server { address, contents, tls, stop, served }
}

impl Server {
    async fn connect(&self) -> Connection {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let mut config = Arc::unwrap_or_clone(client_config(&self.contents.bundle, SystemTime::now()).unwrap());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = ServerName::try_from(NAME).unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Connection { sender }
    }
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    async fn send(&mut self, path: &str, body: Vec<u8>) -> (u16, Vec<u8>) {
        let request = hyper::Request::post(path).header("host", "webhook").header("content-type", "application/json");
        let response = self.sender.send_request(request.body(body.into()).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        (status, response.into_body().collect().await.unwrap().to_bytes().to_vec())
    }

    async fn review(&mut self, path: &str, review: &Value) -> Value {
        let (status, body) = self.send(path, serde_json::to_vec(review).unwrap()).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        let answer: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&answer["kind"], &answer["apiVersion"]), (&json!("AdmissionReview"), &json!("admission.k8s.io/v1")));
        assert_eq!(answer["response"]["uid"], "u-1");
        answer["response"].clone()
    }
}

fn review(operation: &str, object: &Value, old: &Value) -> Value {
    json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "u-1", "operation": operation, "namespace": "default", "name": object["metadata"]["name"],
            "kind": {"group": "", "version": "v1", "kind": "K"}, "resource": {"group": "", "version": "v1", "resource": "r"},
            "userInfo": {"username": "test"}, "dryRun": true, "object": object, "oldObject": old,
        },
    })
}

fn set(name: &str) -> Value {
    json!({
        "apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet",
        "metadata": {"name": name, "namespace": "default", "fieldOfTheFuture": 1},
        "spec": {"leaderWorkerTemplate": {
            "size": 2, "restartPolicy": "Default",
            "workerTemplate": {"spec": {"fieldOfTheFuture": [], "containers": [{"name": "c", "image": "i"}]}},
        }},
    })
}

fn leader(set: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("{set}-0"), "creationTimestamp": null, "fieldOfTheFuture": 1,
            "labels": {"leaderworkerset.sigs.k8s.io/name": set, "leaderworkerset.sigs.k8s.io/worker-index": "0"},
            "annotations": {"leaderworkerset.sigs.k8s.io/size": "2"},
        },
        "spec": {"subdomain": set, "containers": [{"name": "c", "env": [{"name": "A", "value": "b"}]}]},
    })
}

/// The object as the API server has it after the answer.
fn patched(object: &Value, response: &Value) -> Value {
    assert_eq!(response["allowed"], true, "{response}");
    let mut object = object.clone();
    if let Some(patch) = response.get("patch") {
        assert_eq!(response["patchType"], "JSONPatch");
        let bytes: Vec<u8> = serde_json::from_value(patch.clone()).unwrap();
        json_patch::patch(&mut object, &serde_json::from_slice::<json_patch::Patch>(&bytes).unwrap()).unwrap();
    }
    object
}

#[tokio::test]
async fn a_set_gets_its_defaults_and_keeps_what_nobody_knows() {
    let object = set("s");
    let response = start().connect().await.review(MUTATE_SET, &review("CREATE", &object, &Value::Null)).await;
    let mut expected = object.clone();
    expected["spec"]["replicas"] = json!(1);
    expected["spec"]["startupPolicy"] = json!("LeaderCreated");
    expected["spec"]["networkConfig"] = json!({"subdomainPolicy": "Shared"});
    expected["spec"]["rolloutStrategy"] = json!({
        "type": "RollingUpdate",
        "rollingUpdateConfiguration": {"partition": 0, "maxUnavailable": 1, "maxSurge": 0},
    });
    expected["spec"]["leaderWorkerTemplate"]["restartPolicy"] = json!("None");
    assert_eq!(patched(&object, &response), expected);
}

#[tokio::test]
async fn a_set_that_has_all_defaults_gets_no_patch() {
    let mut connection = start().connect().await;
    let response = connection.review(MUTATE_SET, &review("CREATE", &set("s"), &Value::Null)).await;
    let complete = patched(&set("s"), &response);
    let response = connection.review(MUTATE_SET, &review("UPDATE", &complete, &complete)).await;
    assert_eq!((response["allowed"].as_bool(), response.get("patch")), (Some(true), None));
}

#[tokio::test]
async fn a_new_set_in_a_queue_asks_kueue_for_domains_if_it_says_so_and_an_old_one_is_left_alone() {
    let mut object = set("s");
    object["metadata"]["labels"] = json!({"kueue.x-k8s.io/queue-name": "team"});
    object["metadata"]["annotations"] =
        json!({"leaderworkerset.sigs.k8s.io/exclusive-topology": "example.com/rack", "muster.dev/kueue-topology": "true"});
    let mut connection = start().connect().await;
    let response = connection.review(MUTATE_SET, &review("CREATE", &object, &Value::Null)).await;
    let translated = patched(&object, &response);
    let annotations = |set: &Value| set["spec"]["leaderWorkerTemplate"]["workerTemplate"]["metadata"]["annotations"].clone();
    assert_eq!(annotations(&translated), json!({"kueue.x-k8s.io/podset-required-topology": "example.com/rack"}));
    let expected = "Kueue chooses the nodes of the set's groups: each goes into one domain of example.com/rack, which other groups may share";
    assert_eq!(response["warnings"], json!([expected]));
    let response = connection.review(MUTATE_SET, &review("UPDATE", &object, &translated)).await;
    assert_eq!(annotations(&patched(&object, &response)), annotations(&translated));
    let response = connection.review(MUTATE_SET, &review("UPDATE", &object, &object)).await;
    assert_eq!(annotations(&patched(&object, &response)), Value::Null);
}

#[tokio::test]
async fn what_is_not_a_set_is_left_to_the_schema_before_and_refused_after() {
    let mut object = set("s");
    object["spec"]["replicas"] = json!("three");
    let mut connection = start().connect().await;
    let review = review("CREATE", &object, &Value::Null);
    let response = connection.review(MUTATE_SET, &review).await;
    assert_eq!((response["allowed"].as_bool(), response.get("patch")), (Some(true), None));
    let response = connection.review(VALIDATE_SET, &review).await;
    assert_eq!(response["allowed"], false);
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.starts_with("object is not a LeaderWorkerSet: invalid type: string \"three\""), "{message}");
}

#[tokio::test]
async fn a_wrong_set_is_refused_in_upstreams_words_with_a_cause_for_each_field() {
    let mut object = set("s");
    object["spec"]["replicas"] = json!(-1);
    object["spec"]["leaderWorkerTemplate"]["size"] = json!(0);
    let response = start().connect().await.review(VALIDATE_SET, &review("CREATE", &object, &Value::Null)).await;
    assert_eq!(response["allowed"], false);
    assert_eq!((&response["status"]["code"], &response["status"]["reason"]), (&json!(403), &json!("Forbidden")));
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.contains("spec.replicas: Invalid value: -1: replicas must be equal or greater than 0"), "{message}");
    let causes = response["status"]["details"]["causes"].as_array().unwrap();
    let fields: Vec<_> = causes.iter().map(|cause| cause["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["spec.replicas", "spec.leaderWorkerTemplate.size"]);
    assert_eq!(causes[0]["reason"], "FieldValueInvalid");
}

#[tokio::test]
async fn an_update_is_judged_against_the_old_set() {
    let mut connection = start().connect().await;
    let good = connection.review(VALIDATE_SET, &review("CREATE", &set("s"), &Value::Null)).await;
    assert_eq!(good["allowed"], true, "{good}");
    let mut with_subgroups = set("s");
    with_subgroups["spec"]["leaderWorkerTemplate"]["subGroupPolicy"] = json!({"subGroupSize": 2});
    let response = connection.review(VALIDATE_SET, &review("UPDATE", &with_subgroups, &set("s"))).await;
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.contains("cannot enable subGroupSize after the lws is already created"), "{message}");
    let response = connection.review(VALIDATE_SET, &review("DELETE", &Value::Null, &set("s"))).await;
    assert_eq!(response["allowed"], true);
}

#[rstest]
#[case::a_policy_was_chosen("cached", true)]
#[case::exclusive_and_not_in_the_cache_yet("new", true)]
#[case::nobody_places_it("plain", false)]
#[case::its_set_is_gone("gone", false)]
#[tokio::test]
async fn leaders_are_gated_when_their_set_is_placed(#[case] set: &str, #[case] gated: bool) {
    let object = leader(set);
    let response = start().connect().await.review(MUTATE_POD, &review("CREATE", &object, &Value::Null)).await;
    let pod = patched(&object, &response);
    let gates = gated.then(|| json!([{"name": "muster.dev/placement"}]));
    assert_eq!(pod["spec"].get("schedulingGates"), gates.as_ref());
    let variables = pod["spec"]["containers"][0]["env"].as_array().unwrap();
    let order: Vec<_> = variables.iter().map(|variable| variable["name"].as_str().unwrap()).collect();
    assert_eq!(order, ["LWS_LEADER_ADDRESS", "LWS_GROUP_SIZE", "LWS_WORKER_INDEX", "A"]);
    assert_eq!(variables[0]["value"], format!("{set}-0.{set}.default"));
    assert_eq!(pod["metadata"]["fieldOfTheFuture"], 1);
}

#[tokio::test]
async fn pods_that_ask_for_no_domain_keep_out_of_the_exclusive_sets() {
    let mut connection = start().connect().await;
    let new = json!(["new"]);
    for (object, kept_out) in [(leader("plain"), &new), (worker("plain", "u"), &new), (leader("new"), &Value::Null)] {
        let pod = patched(&object, &connection.review(MUTATE_POD, &review("CREATE", &object, &Value::Null)).await);
        let terms = &pod["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        assert_eq!(terms[0]["labelSelector"]["matchExpressions"][0]["values"], *kept_out, "{object}");
    }
}

#[tokio::test]
async fn a_leader_that_outlives_its_exclusive_set_gets_no_place_of_the_schedulers() {
    let mut object = leader("gone");
    object["metadata"]["annotations"]["leaderworkerset.sigs.k8s.io/exclusive-topology"] = json!("rack");
    let response = start().connect().await.review(MUTATE_POD, &review("CREATE", &object, &Value::Null)).await;
    assert_eq!(patched(&object, &response)["spec"]["schedulingGates"], json!([{"name": "muster.dev/placement"}]));
}

/// A worker of group 0 of a set, whose StatefulSet has this UID.
fn worker(set: &str, owner: &str) -> Value {
    let mut pod = leader(set);
    pod["metadata"]["name"] = json!(format!("{set}-0-1"));
    pod["metadata"]["labels"] = json!({"leaderworkerset.sigs.k8s.io/name": set, "leaderworkerset.sigs.k8s.io/group-index": "0"});
    pod["metadata"]["annotations"]["leaderworkerset.sigs.k8s.io/leader-name"] = json!(format!("{set}-0"));
    pod["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "w", "uid": owner}]);
    pod
}

#[rstest]
#[case::a_leader_begins_a_gang(Some(Provider::Kubernetes), leader("plain"), Some("plain-0--u"))]
#[case::a_worker_joins_its_leaders(Some(Provider::Kubernetes), worker("plain", "workers-uid"), Some("plain-0-abc-0a1b2c3d"))]
#[case::a_worker_of_another_leader(Some(Provider::Kubernetes), worker("plain", "older-uid"), None)]
#[case::volcano_reads_an_annotation(Some(Provider::Volcano), leader("plain"), None)]
#[case::switched_off(None, leader("plain"), None)]
#[tokio::test]
async fn pods_join_gangs_of_kube_scheduler_by_name(
    #[case] gangs: Option<Provider>,
    #[case] object: Value,
    #[case] expected: Option<&str>,
) {
    let mut connection = start_in(Cluster { gangs }).connect().await;
    let pod = patched(&object, &connection.review(MUTATE_POD, &review("CREATE", &object, &Value::Null)).await);
    assert_eq!(pod["spec"].get("schedulingGroup"), expected.map(|name| json!({"podGroupName": name})).as_ref());
}

#[tokio::test]
async fn when_the_leader_cannot_be_looked_up_its_worker_is_refused_for_now() {
    let mut connection = start_in(Cluster { gangs: Some(Provider::Kubernetes) }).connect().await;
    let mut object = worker("plain", "u");
    object["metadata"]["annotations"]["leaderworkerset.sigs.k8s.io/leader-name"] = json!("broken-0");
    let response = connection.review(MUTATE_POD, &review("CREATE", &object, &Value::Null)).await;
    assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(500)));
    assert_eq!(response["status"]["message"], "finding out which PodGroup the pod's leader belongs to: connection refused");
}

#[tokio::test]
async fn a_pod_that_only_copied_the_label_passes_untouched() {
    let mut object = leader("bug");
    object["metadata"] = json!({"name": "bug-0", "labels": {"leaderworkerset.sigs.k8s.io/name": "bug"}});
    let response = start().connect().await.review(MUTATE_POD, &review("CREATE", &object, &Value::Null)).await;
    assert_eq!((response["allowed"].as_bool(), response.get("patch")), (Some(true), None));
}

#[tokio::test]
async fn when_the_set_cannot_be_looked_up_the_leader_is_refused_for_now() {
    let response = start().connect().await.review(MUTATE_POD, &review("CREATE", &leader("broken"), &Value::Null)).await;
    assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(500)));
    assert_eq!(response["status"]["message"], "looking for the pod's set: connection refused");
}

#[tokio::test]
async fn a_panic_is_a_refusal_and_the_connection_lives_on() {
    let mut connection = start().connect().await;
    let response = connection.review(MUTATE_POD, &review("CREATE", &leader("bug"), &Value::Null)).await;
    assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(500)));
    let message = "Muster's pod mutation failed on this object (a bug in a cache); please report it";
    assert_eq!(response["status"]["message"], message);
    let response = connection.review(MUTATE_POD, &review("CREATE", &leader("plain"), &Value::Null)).await;
    assert_eq!(response["allowed"], true);
}

#[rstest]
#[case::not_json(MUTATE_POD, b"{".to_vec(), 400)]
#[case::no_request(MUTATE_POD, b"{}".to_vec(), 400)]
#[case::upstreams_idle_pod_validation("/validate--v1-pod", b"{}".to_vec(), 404)]
#[case::more_than_seven_mebibytes(MUTATE_SET, vec![b' '; 7 * 1024 * 1024 + 1], 413)]
#[tokio::test]
async fn what_is_no_review_gets_a_plain_http_error(#[case] path: &str, #[case] body: Vec<u8>, #[case] status: u16) {
    assert_eq!(start().connect().await.send(path, body).await.0, status);
}

#[tokio::test]
async fn a_new_certificate_is_served_at_once_while_open_connections_go_on() {
    let server = start();
    let mut open = server.connect().await;
    let next = certificates();
    let greeted = async |bundle: &str| greet(server.address, NAME, bundle, SystemTime::now()).await;
    greeted(&server.contents.bundle).await.unwrap();
    assert!(greeted(&next.bundle).await.is_err());

    server.tls.reload_from_config(server_config(&next).unwrap());
    greeted(&next.bundle).await.unwrap();
    let refusal = greeted(&server.contents.bundle).await.unwrap_err().to_string();
    assert!(refusal.contains("TLS with 127.0.0.1:") && refusal.contains("certificate"), "{refusal}");
    let response = open.review(VALIDATE_SET, &review("CREATE", &set("s"), &Value::Null)).await;
    assert_eq!(response["allowed"], true);
}

#[tokio::test]
async fn the_server_stops_when_told_to_and_frees_its_port() {
    let server = start();
    server.connect().await.review(VALIDATE_SET, &review("CREATE", &set("s"), &Value::Null)).await;
    server.stop.send(()).unwrap();
    server.served.await.unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = taken.local_addr().unwrap();
    let message = bind(address).unwrap_err().to_string();
    assert!(message.starts_with(&format!("listening for webhooks on {address}: ")), "{message}");
}

#[tokio::test]
async fn health_says_why_it_is_not_ready() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let readiness = Readiness::default();
    tokio::spawn(serve_health(listener, readiness.clone(), || "# EOF\n".to_owned(), std::future::pending()));
    let get = async |path: &str| {
        let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (mut sender, connection) = handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let request = hyper::Request::get(path).header("host", "h").body(Full::new(Bytes::new())).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    use super::Part::{Caches, Certificates, Configurations, Serving};
    assert_eq!(get("/healthz").await, (200, "ok\n".into()));
    assert_eq!(get("/metrics").await, (200, "# EOF\n".into()));
    for part in [Certificates, Serving, Caches] {
        readiness.set(part, Ok(()));
    }
    readiness.set(Configurations, Err("blank".into()));
    assert_eq!(get("/readyz").await, (503, "not ready\nwebhook configurations: blank\n".into()));
    readiness.set(Configurations, Ok(()));
    assert_eq!(get("/readyz").await, (200, "ok\n".into()));
}

fn with_claims(name: &str, size: &str) -> Value {
    let mut object = set(name);
    let claim = json!({"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": size}}}});
    object["spec"]["leaderWorkerTemplate"]["volumeClaimTemplates"] = json!([claim]);
    object
}

#[rstest]
#[case::they_differ_from_those_in_use("live", "1Gi", "2Gi", false)]
#[case::a_change_is_taken_back("live", "2Gi", "1Gi", true)]
#[case::they_are_not_touched("live", "2Gi", "2Gi", true)]
#[case::there_is_no_stateful_set_yet("s", "1Gi", "2Gi", true)]
#[tokio::test]
async fn volume_claim_templates_of_a_live_set_stay(
    #[case] name: &str,
    #[case] before: &str,
    #[case] after: &str,
    #[case] allowed: bool,
) {
    let review = review("UPDATE", &with_claims(name, after), &with_claims(name, before));
    let response = start().connect().await.review(VALIDATE_SET, &review).await;
    assert_eq!(response["allowed"], allowed, "{response}");
    if !allowed {
        let message = "spec.leaderWorkerTemplate.volumeClaimTemplates: Forbidden: field is immutable once the set has its StatefulSets \
                       (data differs): delete the set and create it again, or create another; claims that are retained are used again";
        assert_eq!(response["status"]["message"], message);
    }
}

const VALIDATE_SCALE: &str = "/validate-leaderworkerset-x-k8s-io-v1-leaderworkerset-scale";

#[rstest]
#[case::more_groups("live", 5, None)]
#[case::into_another_sets_name(
    "live",
    6,
    Some(
        "spec.replicas: Invalid value: 6: StatefulSet live-5 would belong to group 5 of set live (surge included) and to set live-5: \
          keep to 5 groups at most, or delete set live-5"
    )
)]
#[case::beyond_the_limit(
    "cached",
    1_000_001,
    Some("spec.replicas: Invalid value: 1000001: replicas must be equal or less than 1000000")
)]
#[case::a_set_that_is_gone("gone", 7, None)]
#[tokio::test]
async fn a_scale_is_judged_as_the_edit_that_it_is(#[case] name: &str, #[case] replicas: i32, #[case] refusal: Option<&str>) {
    let scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {"name": name, "namespace": "default"}, "spec": {"replicas": replicas},
    });
    let response = start().connect().await.review(VALIDATE_SCALE, &review("UPDATE", &scale, &scale)).await;
    assert_eq!(response["allowed"], refusal.is_none(), "{response}");
    if let Some(refusal) = refusal {
        assert_eq!(response["status"]["message"], refusal);
    }
}

#[tokio::test]
async fn a_set_whose_name_a_group_of_another_may_have_is_refused() {
    let mut connection = start().connect().await;
    let response = connection.review(VALIDATE_SET, &review("CREATE", &set("live-0"), &Value::Null)).await;
    assert_eq!(
        response["status"]["message"],
        "metadata.name: Invalid value: \"live-0\": StatefulSet live-0 would belong to group 0 of set live (surge included) and to set \
         live-0: choose another name"
    );
    let response = connection.review(VALIDATE_SET, &review("CREATE", &set("live-1"), &Value::Null)).await;
    assert_eq!(response["allowed"], true, "the set `live` has one group: {response}");
    // One that is there already is not locked by it.
    let response = connection.review(VALIDATE_SET, &review("UPDATE", &set("live-0"), &set("live-0"))).await;
    assert_eq!(response["allowed"], true, "{response}");
}

#[tokio::test]
async fn a_topology_key_that_no_node_has_is_warned_about() {
    let exclusive = |key: &str| {
        let mut object = set("s");
        object["metadata"]["annotations"] = json!({"leaderworkerset.sigs.k8s.io/exclusive-topology": key});
        object
    };
    let mut connection = start().connect().await;
    let response = connection.review(VALIDATE_SET, &review("CREATE", &exclusive("rakc"), &Value::Null)).await;
    let warning = "metadata.annotations.leaderworkerset.sigs.k8s.io/exclusive-topology: no node has the label rakc now, \
                   so no group can be placed yet";
    assert_eq!((&response["allowed"], &response["warnings"]), (&json!(true), &json!([warning])));
    let response = connection.review(VALIDATE_SET, &review("CREATE", &exclusive("rack"), &Value::Null)).await;
    assert_eq!(response.get("warnings"), None);
}
