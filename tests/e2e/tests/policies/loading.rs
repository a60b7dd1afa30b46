//! What is wrong with a policy is said on its object: at which step, and what to do about it.

use anyhow::{Result, ensure};
use muster_cluster::{Cluster, Namespace, eventually};
use muster_e2e::{PATIENCE, Policy, Set, Site, await_ready, decider, message, verdict, verdicts};
use muster_guests::{Guest, startup, text};
use serde_json::{Value, json};

use crate::support::{KEY, node_pool, source, store};

async fn namespace() -> Namespace {
    Cluster::shared().await.namespace("loading").await.unwrap()
}

/// The conditions and the message of `Ready` of a policy that can't be used.
async fn refused(namespace: &Namespace, spec: &Value) -> Result<(Vec<String>, String)> {
    let status = Policy::create(namespace, spec).await?.await_ready("False").await?;
    Ok((verdicts(&status), message(&status, "Ready").to_owned()))
}

#[tokio::test]
async fn an_unknown_setting_is_pointed_to() {
    let spec = json!({ "source": { "builtIn": "node-pool" }, "settings": { "shard": true } });
    let (verdicts, message) = refused(&namespace().await, &spec).await.unwrap();
    assert_eq!(
        verdicts,
        ["Fetched=True", "Verified=True", "Accepted=True", "Compiled=True", "SettingsValid=False", "Ready=False"]
    );
    let expected = "the policy rejects its settings: /shard: unknown field `shard`, expected one of `keys`, `mode`, `shared`; \
                    correct the fields of spec.settings that are named";
    assert_eq!(message, expected);
}

#[tokio::test]
async fn a_wrong_value_is_pointed_to_with_those_that_are_possible() {
    let spec = json!({ "source": { "builtIn": "node-pool" }, "settings": { "mode": "required" } });
    let (verdicts, message) = refused(&namespace().await, &spec).await.unwrap();
    assert_eq!(verdicts[4], "SettingsValid=False");
    assert!(message.contains("/mode: unknown variant `required`, expected `Required` or `Preferred`"), "{message}");
}

#[tokio::test]
async fn the_last_good_settings_keep_deciding_while_new_ones_are_wrong() {
    let mut site = Site::new("last-good").await.unwrap();
    site.pool("a", 1).await.unwrap();
    let policy = Policy::create(&site, &node_pool(site.key())).await.unwrap();
    let good = policy.await_ready("True").await.unwrap();
    policy.patch(&json!({ "settings": { "keys": [""] } })).await.unwrap();
    let bad = policy.await_ready("False").await.unwrap();
    assert_eq!(verdict(&bad, "SettingsValid"), "False");
    assert!(message(&bad, "Ready").contains("/keys/0: \"\" is not a label key"), "{}", message(&bad, "Ready"));
    assert!(message(&bad, "Ready").ends_with("; the last good version keeps deciding"), "{}", message(&bad, "Ready"));
    assert_eq!(bad.active, good.active);
    let set = Set::new("served").groups(1, 1).on(&site, 8).annotated("muster.dev/placement-policy", &policy.name);
    site.apply(&set.manifest()).await.unwrap();
    await_ready(&site, "served").await.unwrap();
    assert_eq!(decider(&site, "served-0").await.unwrap(), policy.name);
}

/// Checks that a component is refused before it is compiled, with this message.
async fn not_accepted(component: Vec<u8>, expected: &str) {
    let namespace = namespace().await;
    let source = store(&namespace, "component", component).await.unwrap();
    let (verdicts, message) = refused(&namespace, &json!({ "source": source })).await.unwrap();
    assert_eq!(
        verdicts,
        ["Fetched=True", "Verified=True", "Accepted=False", "Compiled=Unknown", "SettingsValid=Unknown", "Ready=False"]
    );
    assert_eq!(message, expected);
}

#[tokio::test]
async fn a_core_module_is_refused_with_the_way_to_a_component() {
    let expected = "this is a core WebAssembly module, not a component; \
                    make it a component with `wasm-tools component new`, or with the wit-component library";
    not_accepted(text("(module)"), expected).await;
}

#[tokio::test]
async fn a_policy_of_the_other_world_is_refused_with_the_kind_that_takes_it() {
    let expected = "the component is a startup-policy, and this needs a placement-policy; use it in a StartupPolicy instead";
    not_accepted(startup(), expected).await;
}

#[tokio::test]
async fn wasi_is_refused_with_the_target_that_has_none() {
    let expected = "the component imports `wasi:cli/environment@0.2.3`; policies may not import WASI; build it without WASI: \
                    `muster policy build` does so for Rust, Go, JavaScript, Python and C; \
                    for Rust alone, target wasm32-unknown-unknown instead of wasm32-wasip1 or wasm32-wasip2";
    not_accepted(text(r#"(component (import "wasi:cli/environment@0.2.3" (instance)))"#), expected).await;
}

/// Checks that a source gives no component, with this message.
async fn not_fetched(namespace: &Namespace, source: Value, expected: &str) {
    let (verdicts, message) = refused(namespace, &json!({ "source": source })).await.unwrap();
    let nothing_reached =
        ["Fetched=False", "Verified=Unknown", "Accepted=Unknown", "Compiled=Unknown", "SettingsValid=Unknown", "Ready=False"];
    assert_eq!(verdicts, nothing_reached);
    assert_eq!(message, expected);
}

#[tokio::test]
async fn an_unknown_built_in_is_answered_with_those_that_there_are() {
    let expected = r#"spec.source.builtIn: "node-pol" is not part of this operator; it has colocate, exclusive, node-pool, nvlink-domain, spread, sticky-avoid, topology-pack, tpu-slice"#;
    not_fetched(&namespace().await, json!({ "builtIn": "node-pol" }), expected).await;
}

#[tokio::test]
async fn a_missing_config_map_is_named_and_used_once_it_is_there() {
    let namespace = namespace().await;
    let policy = Policy::create(&namespace, &json!({ "source": source(&namespace, "late", KEY) })).await.unwrap();
    let status = policy.await_ready("False").await.unwrap();
    assert_eq!(verdict(&status, "Fetched"), "False");
    let expected = format!("spec.source.configMap: ConfigMap {}/late does not exist", namespace.name());
    assert_eq!(message(&status, "Ready"), expected);
    store(&namespace, "late", Guest::default().component()).await.unwrap();
    let status = policy.await_ready("True").await.unwrap();
    assert_eq!(status.active.unwrap().name.as_deref(), Some("fixture"));
}

#[tokio::test]
async fn a_missing_entry_of_a_config_map_is_named() {
    let namespace = namespace().await;
    store(&namespace, "component", Guest::default().component()).await.unwrap();
    let source = source(&namespace, "component", "other.wasm");
    let expected = format!(
        "spec.source.configMap.key: ConfigMap {}/component has no entry \"other.wasm\"; it has policy.wasm",
        namespace.name()
    );
    not_fetched(&namespace, source, &expected).await;
}

#[tokio::test]
async fn two_sources_are_one_too_many() {
    let namespace = namespace().await;
    let mut source = store(&namespace, "component", Guest::default().component()).await.unwrap();
    source["builtIn"] = json!("node-pool");
    let (verdicts, message) = refused(&namespace, &json!({ "source": source })).await.unwrap();
    assert_eq!(verdicts[0], "Fetched=False");
    assert_eq!(message, "spec.source.configMap: Forbidden: builtIn is set too; a policy has exactly one source");
}

#[tokio::test]
async fn a_deleted_policy_leaves_no_metrics() {
    let namespace = &namespace().await;
    let policy = Policy::create(namespace, &node_pool("example.com/pool")).await.unwrap();
    policy.await_ready("True").await.unwrap();
    let await_metrics = |wanted: bool| async move {
        eventually(PATIENCE, || async {
            let metrics = Cluster::shared().await.operator().metrics().await?;
            let label = format!("policy=\"{}\"", namespace.name());
            let counted: Vec<&str> = metrics.lines().filter(|line| line.contains(&label)).collect();
            ensure!(counted.is_empty() != wanted, "wanted: {wanted}, counted: {counted:?}");
            Ok(())
        })
        .await
        .unwrap();
    };
    await_metrics(true).await;
    policy.delete().await.unwrap();
    await_metrics(false).await;
}
