//! A cluster in which nobody acts but the operator: no StatefulSet controller, no scheduler, no garbage collector, no kubelets. The
//! tests write the pods and statuses themselves, so what the operator does rests on the API's promises and on nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be set up must fail")]

mod groups;
mod hands;
mod rollout;
mod upstreams;

use muster_cluster::{Cluster, Controllers, Namespace, Setup};

async fn site(prefix: &str) -> Namespace {
    let setup = || Setup { controllers: Controllers::None, ..Setup::default() };
    Cluster::shared_as(setup).await.namespace(prefix).await.unwrap()
}
