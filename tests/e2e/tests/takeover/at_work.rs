//! What Muster finds undone when it comes, and how it does it.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use kube::ResourceExt;
use muster_cluster::{Namespace, eventually, is_ready};
use muster_e2e::{PATIENCE, await_ready, of_set, pods};

use crate::sets::{NEXT_REVISION, REVISION};
use crate::uids;
use crate::upstream::key;

/// The pods and revisions of the sets that Muster has something to do about, as upstream left them.
pub(crate) struct Work {
    pods: BTreeMap<&'static str, BTreeMap<String, String>>,
    revision: String,
}

impl Work {
    pub(crate) async fn before(site: &Namespace) -> Self {
        assert_eq!(rollout(site, "surging").await, (1, 3));
        let mut pods = BTreeMap::new();
        for set in ["surging", "forgotten", "twice"] {
            pods.insert(set, uids(site, set).await);
        }
        assert_eq!(pods["surging"].len(), 6);
        let both = revisions(site, "twice").await.unwrap();
        let revision = both.iter().find(|one| one.revision == 2).unwrap().uid().unwrap();
        Self { pods, revision }
    }

    /// Waits until it is done, and watches how.
    pub(crate) async fn is_done(&self, site: &Namespace) {
        self.the_last_group_is_updated_before_the_surge_goes(site).await;
        eventually(PATIENCE, || async {
            let revisions = revisions(site, "forgotten").await?;
            let keys: Vec<_> = revisions.iter().map(|one| &one.labels()[&key("template-revision-hash")]).collect();
            ensure!(keys == [REVISION], "{keys:?}");
            let events = site.events("forgotten").await?;
            let expected =
                format!("Normal CreatingRevision: Creating missing revision with key {REVISION} for existing LeaderWorkerSet");
            ensure!(events.contains(&expected), "{events:#?}");
            Ok(())
        })
        .await
        .unwrap();
    }

    /// Upstream's half of the update is kept, the surge as well until the other half is there.
    async fn the_last_group_is_updated_before_the_surge_goes(&self, site: &Namespace) {
        let before = &self.pods["surging"];
        eventually(PATIENCE, || async {
            let now = pods(site, "surging").await?;
            let is_kept = |name: &str| now.get(name).and_then(ResourceExt::uid).as_ref() == before.get(name);
            let is_updated = |name: &str| {
                now.get(name).is_some_and(|pod| is_ready(pod) && pod.labels()[&key("template-revision-hash")] == NEXT_REVISION)
            };
            assert!(
                ["surging-1", "surging-1-1"].into_iter().all(is_kept),
                "what upstream had updated was replaced: {:?}",
                now.keys()
            );
            let updated = ["surging-0", "surging-0-1"].into_iter().all(is_updated);
            let surge = ["surging-2", "surging-2-1"].into_iter().all(is_kept);
            assert!(surge || updated, "the surge went before the group that it stands in for was there: {:?}", now.keys());
            ensure!(updated && now.len() == 4, "not done yet: {:?}", now.keys());
            Ok(())
        })
        .await
        .unwrap();
        await_ready(site, "surging").await.unwrap();
        assert_eq!(rollout(site, "surging").await, (0, 2));
    }

    /// Nothing but what had to be done was done.
    pub(crate) async fn disturbed_nothing(&self, site: &Namespace) {
        for set in ["forgotten", "twice"] {
            assert_eq!(uids(site, set).await, self.pods[set], "{set}");
            let leaders: StatefulSet = site.api().get(set).await.unwrap();
            assert_eq!(leaders.labels()[&key("template-revision-hash")], REVISION);
            // Upstream's own writes and no other.
            assert_eq!(leaders.metadata.generation, Some(1), "{set}");
        }
        // The older revision of one key means nothing any more.
        let kept = revisions(site, "twice").await.unwrap();
        let kept: Vec<_> = kept.iter().map(|one| (one.uid().unwrap(), one.revision)).collect();
        assert_eq!(kept, [(self.revision.clone(), 2)]);
    }
}

/// Partition and replicas of the leader StatefulSet.
async fn rollout(site: &Namespace, set: &str) -> (i32, i32) {
    let spec = site.api::<StatefulSet>().get(set).await.unwrap().spec.unwrap();
    let partition = spec.update_strategy.and_then(|strategy| strategy.rolling_update?.partition).unwrap_or(0);
    (partition, spec.replicas.unwrap_or(1))
}

/// A set's own revisions, without those of its StatefulSets, which have its labels, too.
async fn revisions(site: &Namespace, set: &str) -> Result<Vec<ControllerRevision>> {
    let all = of_set::<ControllerRevision>(site, set).await?.into_values();
    Ok(all.filter(|one| one.owner_references().iter().any(|owner| owner.kind == "LeaderWorkerSet")).collect())
}
