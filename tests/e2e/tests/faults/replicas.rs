//! Two replicas: both admit, one reconciles, and the other one takes over.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use muster_cluster::{Cluster, NAMESPACE, Operator, RELEASE, eventually};
use muster_e2e::{PATIENCE, Set, Site, await_ready};
use serde_json::Value;

use crate::killer::reconciles;
use crate::{WEBHOOKS, alone};

/// Who reconciles, by the lease.
async fn holder(cluster: &Cluster) -> Result<String> {
    let lease = Api::<Lease>::namespaced(cluster.client().await?, NAMESPACE).get(RELEASE).await?;
    lease.spec.and_then(|spec| spec.holder_identity).context("nobody holds the lease")
}

/// Points every webhook at this replica, as a Service does when another one is gone.
async fn send_requests_to(cluster: &Cluster, port: u16) {
    for kind in ["mutatingwebhookconfiguration", "validatingwebhookconfiguration"] {
        let text = cluster.kubectl(&["get", kind, WEBHOOKS, "-o", "json"]).await.unwrap();
        let mut object: Value = serde_json::from_str(&text).unwrap();
        for webhook in object["webhooks"].as_array_mut().unwrap() {
            let url = webhook["clientConfig"]["url"].as_str().unwrap().to_owned();
            let path = url.splitn(4, '/').nth(3).unwrap();
            webhook["clientConfig"]["url"] = format!("https://127.0.0.1:{port}/{path}").into();
        }
        cluster.kubectl_with(&["replace", "-f", "-"], &object.to_string()).await.unwrap();
    }
}

#[tokio::test]
async fn of_two_replicas_both_admit_and_one_reconciles_until_the_other_must() {
    let (_turn, cluster) = alone().await;
    let mut site = Site::new("replicas").await.unwrap();
    site.pool("a", 2).await.unwrap();
    site.pool("b", 2).await.unwrap();
    let first = cluster.operator();
    let leads = |name: &'static str| async move {
        eventually(PATIENCE, || async {
            let holder = holder(cluster).await?;
            ensure!(holder == name, "{holder} leads");
            Ok(())
        })
        .await
    };
    leads("muster-on-this-machine").await.unwrap();
    let second = first.replica("operator-2").unwrap();
    let told = story(cluster, &site, first, &second).await;
    second.kill();
    send_requests_to(cluster, first.webhook()).await;
    first.resume().unwrap();
    told.unwrap();
    leads("muster-on-this-machine").await.unwrap();
}

async fn story(cluster: &'static Cluster, site: &Site, first: &Operator, second: &Operator) -> Result<()> {
    let set = |name: &str| Set::new(name).groups(1, 2).on(site, 8).exclusive(site.key()).manifest();
    second.ready().await?;
    let before = reconciles(first).await?;
    // Admitted by the second replica, reconciled by the first.
    send_requests_to(cluster, second.webhook()).await;
    site.apply(&set("early")).await?;
    await_ready(site, "early").await?;
    ensure!(reconciles(first).await? > before, "the first replica did not reconcile");
    ensure!(reconciles(second).await? == 0.0, "the second replica reconciled too");
    first.kill();
    site.apply(&set("late")).await?;
    await_ready(site, "late").await?;
    ensure!(holder(cluster).await? == "operator-2", "{} leads", holder(cluster).await?);
    ensure!(reconciles(second).await? > 0.0, "the second replica did not reconcile");
    // It decides by what the first one left behind: the domains of `early` and `late` differ.
    let domains = [muster_e2e::domains(site, "early", site.key()).await?, muster_e2e::domains(site, "late", site.key()).await?];
    ensure!(domains[0]["0"] != domains[1]["0"], "both sets are in {:?}", domains[0]["0"]);
    second.probe().await
}
