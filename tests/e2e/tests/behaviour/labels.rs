//! Labels of domains that change or go while groups run there: nobody is harmed, and nothing is given away twice.

use std::collections::BTreeMap;

use anyhow::Result;
use muster_cluster::Cluster;
use muster_e2e::{Set, Site, await_condition, await_groups, await_ready, domains, pods};

async fn uids(site: &Site) -> Result<BTreeMap<String, String>> {
    let named = |(name, pod): (String, k8s_openapi::api::core::v1::Pod)| (name, pod.metadata.uid.unwrap_or_default());
    Ok(pods(site, "serve").await?.into_iter().map(named).collect())
}

/// A set with one group that has a domain for itself, and waits for room with any other. Returns its pods.
async fn serving(site: &Site) -> Result<BTreeMap<String, String>> {
    let set = Set::new("serve").groups(1, 2).on(site, 8).exclusive(site.key()).annotated("muster.dev/unplaceable", "Hold");
    site.apply(&set.manifest()).await?;
    await_ready(site, "serve").await?;
    uids(site).await
}

/// Every pod that was there is the same now.
fn unharmed(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) {
    assert!(before.iter().all(|(name, uid)| now.get(name) == Some(uid)), "{before:?} became {now:?}");
}

async fn relabel(site: &Site, node: &str, label: &str) -> Result<()> {
    let node = format!("{}-{node}", site.name());
    Cluster::shared().await.kubectl(&["label", "node", &node, label, "--overwrite"]).await?;
    Ok(())
}

#[tokio::test]
async fn a_domain_that_is_renamed_under_a_group_stays_its_own_under_both_names() {
    let mut site = Site::new("renamed").await.unwrap();
    site.pool("a", 2).await.unwrap();
    let before = serving(&site).await.unwrap();
    // Half of the domain gets another name, and room for a whole group of its own comes with it.
    relabel(&site, "a-0", &format!("{}=c", site.key())).await.unwrap();
    site.pool("c", 2).await.unwrap();

    site.kubectl(&["scale", "leaderworkerset", "serve", "--replicas=2"]).await.unwrap();
    let waits = await_condition(&site, "serve", "PlacementPending", "True").await.unwrap();
    for held in [format!("a: held by {}/serve group 0", site.name()), format!("c: held by {}/serve group 0", site.name())] {
        assert!(waits.message.contains(&held), "{}", waits.message);
    }
    unharmed(&before, &uids(&site).await.unwrap());

    // The name comes back, and with it a free domain.
    relabel(&site, "a-0", &format!("{}=a", site.key())).await.unwrap();
    await_groups(&site, "serve", 2).await.unwrap();
    let domains = domains(&site, "serve", site.key()).await.unwrap();
    let expected = [("0", "a"), ("1", "c")].map(|(group, domain)| (group.to_owned(), [domain.to_owned()].into()));
    assert_eq!(domains, BTreeMap::from(expected));
    unharmed(&before, &uids(&site).await.unwrap());
}

#[tokio::test]
async fn a_label_that_goes_takes_room_away_and_no_pod() {
    let mut site = Site::new("unlabelled").await.unwrap();
    site.pool("a", 2).await.unwrap();
    site.pool("b", 2).await.unwrap();
    let before = serving(&site).await.unwrap();
    for node in ["a-0", "a-1", "b-0"] {
        relabel(&site, node, &format!("{}-", site.key())).await.unwrap();
    }

    site.kubectl(&["scale", "leaderworkerset", "serve", "--replicas=2"]).await.unwrap();
    let waits = await_condition(&site, "serve", "PlacementPending", "True").await.unwrap();
    assert!(waits.message.contains("have no label"), "{}", waits.message);
    unharmed(&before, &uids(&site).await.unwrap());

    relabel(&site, "b-0", &format!("{}=b", site.key())).await.unwrap();
    await_groups(&site, "serve", 2).await.unwrap();
    unharmed(&before, &uids(&site).await.unwrap());
}
