//! What every reconcile of this replica shares.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::Client;

use crate::args::Config;
use crate::caches::Caches;
use crate::events::Events;
use crate::memory::{Applied, ClaimTemplates, Failures, Moves, Verified, Waiting};
use crate::metrics::Metrics;
use crate::policies::Policies;

/// Shared by all reconciles.
#[derive(Clone)]
pub(crate) struct Context {
    /// Writes go through this.
    pub(crate) client: Client,
    /// Reads come from here.
    pub(crate) caches: Arc<Caches>,
    /// Policies, loaded.
    pub(crate) policies: Arc<Policies>,
    /// Configuration.
    pub(crate) config: Arc<Config>,
    /// Events.
    pub(crate) events: Arc<Events>,
    /// Counters.
    pub(crate) metrics: Arc<Metrics>,
    /// Sets with a group that waits for room.
    pub(crate) waiting: Arc<Waiting>,
    /// Groups that were placed more than once.
    pub(crate) moves: Arc<Moves>,
    /// What was applied last.
    pub(crate) applied: Arc<Applied>,
    /// Worker StatefulSets that say what they should.
    pub(crate) verified: Arc<Verified>,
    /// Claim templates of leader StatefulSets.
    pub(crate) claim_templates: Arc<ClaimTemplates>,
    /// How often a set's reconcile failed in a row.
    pub(crate) failures: Arc<Failures>,
}

impl Context {
    /// The time, read once per reconcile.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
