//! Things that break: the operator, the API server, the certificates. What must hold afterwards, and at every moment until then.
//!
//! The tests of this program take turns, because they break what they share.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be set up must fail")]

mod admission;
mod chaos;
mod crash;
mod exclusivity;
mod gangs;
mod killer;
mod queue;
mod replicas;
mod restarts;
mod rollouts;
mod subgroups;
mod wholeness;

use muster_cluster::Cluster;
use tokio::sync::{Mutex, MutexGuard};

/// The name of both webhook configurations that the chart installs.
const WEBHOOKS: &str = "muster.muster-system";

static TURN: Mutex<()> = Mutex::const_new(());

/// The cluster, whole again, for one test alone.
async fn alone() -> (MutexGuard<'static, ()>, &'static Cluster) {
    let turn = TURN.lock().await;
    let cluster = Cluster::shared().await;
    cluster.plane().start_api_server().await.unwrap();
    cluster.operator().resume().unwrap();
    cluster.operator().ready().await.unwrap();
    (turn, cluster)
}
