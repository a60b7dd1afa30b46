//! The API server goes away, certificates are deleted: admission and the operator come back by themselves.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use muster_cluster::{Cluster, NAMESPACE, eventually};
use muster_e2e::{PATIENCE, Set, Site, await_ready, pods};

use crate::{WEBHOOKS, alone};

async fn site(prefix: &str) -> Site {
    let mut site = Site::new(prefix).await.unwrap();
    site.pool("a", 2).await.unwrap();
    site.pool("b", 2).await.unwrap();
    site
}

/// A set of one exclusive group is admitted, placed and becomes ready.
async fn works(site: &Site, name: &str) {
    let set = Set::new(name).groups(1, 2).on(site, 8).exclusive(site.key());
    eventually(PATIENCE, || async { site.apply(&set.manifest()).await }).await.unwrap();
    await_ready(site, name).await.unwrap();
}

#[tokio::test]
async fn the_operator_outlives_the_api_server_and_carries_on() {
    let (_turn, cluster) = alone().await;
    let site = site("outage").await;
    works(&site, "before").await;
    let uid = pods(&site, "before").await.unwrap()["before-0"].metadata.uid.clone();
    let pid = cluster.operator().pid();
    cluster.plane().stop_api_server();
    // Long enough for every watch to notice, shorter than a lease.
    tokio::time::sleep(Duration::from_secs(5)).await;
    cluster.operator().probe().await.expect("who is called by nobody else stays ready for when it is back");
    cluster.plane().start_api_server().await.unwrap();
    works(&site, "after").await;
    assert_eq!(cluster.operator().pid(), pid, "the operator was restarted");
    assert_eq!(pods(&site, "before").await.unwrap()["before-0"].metadata.uid, uid);
}

#[tokio::test]
async fn an_operator_without_an_api_server_is_not_ready_until_there_is_one() {
    let (_turn, cluster) = alone().await;
    cluster.operator().kill();
    cluster.plane().stop_api_server();
    cluster.operator().resume().unwrap();
    let said = eventually(PATIENCE, || async {
        let error = cluster.operator().probe().await.err().context("it is ready without an API server")?;
        let text = format!("{error:#}");
        ensure!(text.contains("not ready"), "it does not answer yet: {text}");
        Ok(text)
    })
    .await
    .unwrap();
    assert!(said.contains("certificates: not there yet"), "{said}");
    cluster.plane().start_api_server().await.unwrap();
    cluster.operator().ready().await.unwrap();
    works(&site("late").await, "first").await;
}

/// The CA bundles of all our webhooks.
async fn bundles(cluster: &Cluster) -> Result<Vec<Vec<u8>>> {
    let client = cluster.client().await?;
    let all = ListParams::default();
    let mutating = Api::<MutatingWebhookConfiguration>::all(client.clone()).list(&all).await?.items;
    let validating = Api::<ValidatingWebhookConfiguration>::all(client).list(&all).await?.items;
    let mutating = mutating.into_iter().flat_map(|object| object.webhooks.unwrap_or_default()).map(|hook| hook.client_config);
    let validating = validating.into_iter().flat_map(|object| object.webhooks.unwrap_or_default()).map(|hook| hook.client_config);
    Ok(mutating.chain(validating).map(|config| config.ca_bundle.map(|bundle| bundle.0).unwrap_or_default()).collect())
}

#[tokio::test]
async fn a_blanked_ca_bundle_is_written_again() {
    let (_turn, cluster) = alone().await;
    let before = bundles(cluster).await.unwrap();
    assert!(before.len() > 1 && before.iter().all(|bundle| !bundle.is_empty()));
    let blank = r#"[{"op":"remove","path":"/webhooks/0/clientConfig/caBundle"}]"#;
    for kind in ["mutatingwebhookconfiguration", "validatingwebhookconfiguration"] {
        cluster.kubectl(&["patch", kind, WEBHOOKS, "--type=json", "-p", blank]).await.unwrap();
    }
    eventually(PATIENCE, || async {
        ensure!(bundles(cluster).await? == before, "a bundle is not what it was");
        Ok(())
    })
    .await
    .unwrap();
    works(&site("bundle").await, "admitted").await;
}

#[tokio::test]
async fn a_deleted_certificate_secret_is_made_again_and_admission_goes_on() {
    let (_turn, cluster) = alone().await;
    let site = site("secret").await;
    let secrets: Api<Secret> = Api::namespaced(cluster.client().await.unwrap(), NAMESPACE);
    let is_ours = |secret: &Secret| secret.metadata.name.as_deref().is_some_and(|name| name.contains("webhook-cert"));
    let found = secrets.list(&ListParams::default()).await.unwrap().items.into_iter().find(is_ours).unwrap();
    let name = found.metadata.name.clone().unwrap();
    secrets.delete(&name, &DeleteParams::default()).await.unwrap();
    works(&site, "meanwhile").await;
    let again = eventually(PATIENCE, || async { Ok(secrets.get(&name).await?) }).await.unwrap();
    assert_ne!(again.metadata.uid, found.metadata.uid);
    cluster.operator().restart().await.unwrap();
    works(&site, "afterwards").await;
}

#[tokio::test]
async fn an_operator_whose_configuration_is_gone_says_so_and_recovers() {
    let (_turn, cluster) = alone().await;
    let configuration = cluster.kubectl(&["get", "validatingwebhookconfiguration", WEBHOOKS, "-o", "json"]).await.unwrap();
    cluster.kubectl(&["delete", "validatingwebhookconfiguration", WEBHOOKS]).await.unwrap();
    let said = eventually(PATIENCE, || async {
        cluster.operator().probe().await.err().map(|error| format!("{error:#}")).context("it is ready without a configuration")
    })
    .await
    .unwrap();
    let mut object: serde_json::Value = serde_json::from_str(&configuration).unwrap();
    let metadata = object["metadata"].as_object_mut().unwrap();
    metadata.retain(|field, _| ["name", "labels", "annotations"].contains(&field.as_str()));
    cluster.kubectl_with(&["create", "-f", "-"], &object.to_string()).await.unwrap();
    assert!(said.contains(&format!("ValidatingWebhookConfiguration {WEBHOOKS} does not exist: install the chart")), "{said}");
    cluster.operator().ready().await.unwrap();
    works(&site("configuration").await, "admitted").await;
}
