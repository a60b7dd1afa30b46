//! Sets that wait for room while the operator is away.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use muster_e2e::{Set, Site, await_condition, await_ready, leaders};

use crate::alone;

#[tokio::test]
async fn a_restarted_operator_gives_room_that_was_freed_while_it_was_away_to_the_set_that_waits_longest() {
    let (_turn, cluster) = alone().await;
    let mut site = Site::new("queue").await.unwrap();
    site.pool("a", 2).await.unwrap();
    let set =
        |name: &str| Set::new(name).groups(1, 2).on(&site, 8).exclusive(site.key()).annotated("muster.dev/unplaceable", "Hold");
    site.apply(&set("first").manifest()).await.unwrap();
    await_ready(&site, "first").await.unwrap();
    // In the order of names, forwards or backwards, one of the younger ones would come first.
    site.apply(&set("m-oldest").manifest()).await.unwrap();
    await_condition(&site, "m-oldest", "PlacementPending", "True").await.unwrap();
    // Creation times have whole seconds.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let younger = ["a", "b", "c", "x", "y", "z"];
    for name in younger {
        site.apply(&set(name).manifest()).await.unwrap();
        await_condition(&site, name, "PlacementPending", "True").await.unwrap();
    }

    cluster.operator().kill();
    site.kubectl(&["delete", "leaderworkerset", "first", "--cascade=foreground"]).await.unwrap();
    cluster.operator().resume().unwrap();

    await_ready(&site, "m-oldest").await.unwrap();
    for name in younger {
        let unbound = |leader: &Pod| leader.spec.as_ref().is_some_and(|spec| spec.node_name.is_none());
        assert!(leaders(&site, name).await.unwrap().values().all(unbound), "{name} was placed");
    }
}
