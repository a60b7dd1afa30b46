//! What the operator counts, for /metrics.

use std::sync::atomic::AtomicI64;
use std::time::Duration;

use muster_core::plan::Write;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Object {
    write: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPolicy {
    policy: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PolicyOutcome {
    policy: String,
    outcome: &'static str,
}

/// The operator's metrics. Labels are names of policies and words from closed lists, so their number is bounded.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    reconciles: Family<Outcome, Counter>,
    reconcile_seconds: Histogram,
    writes: Family<Object, Counter>,
    calls: Family<PolicyOutcome, Counter>,
    call_seconds: Family<OfPolicy, Histogram>,
    peak_memory: Family<OfPolicy, Gauge<i64, AtomicI64>>,
    rejected: Family<PolicyOutcome, Counter>,
    decisions: Family<PolicyOutcome, Counter>,
    loads: Family<PolicyOutcome, Counter>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let call_buckets = || Histogram::new([20e-6, 50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 5e-3, 20e-3, 50e-3, 0.5]);
        let mut metrics = Self {
            registry: Registry::with_prefix("muster"),
            reconciles: Family::default(),
            reconcile_seconds: Histogram::new([1e-3, 5e-3, 20e-3, 0.1, 0.5, 2.0, 10.0]),
            writes: Family::default(),
            calls: Family::default(),
            call_seconds: Family::new_with_constructor(call_buckets),
            peak_memory: Family::default(),
            rejected: Family::default(),
            decisions: Family::default(),
            loads: Family::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("reconciles", "Reconciles of sets, by outcome", metrics.reconciles.clone());
        registry.register("reconcile_seconds", "Time that a reconcile of one set takes", metrics.reconcile_seconds.clone());
        registry.register("writes", "Writes about sets, by kind", metrics.writes.clone());
        registry.register("policy_calls", "Calls of policies, by outcome", metrics.calls.clone());
        registry.register("policy_call_seconds", "Time of one call, instantiation included", metrics.call_seconds.clone());
        registry.register("policy_memory_peak_bytes", "Memory that the last call took at most", metrics.peak_memory.clone());
        registry.register("policy_answers_rejected", "Answers that the core refused, by reason", metrics.rejected.clone());
        registry.register("policy_decisions", "Decisions about groups, by kind", metrics.decisions.clone());
        registry.register("policy_loads", "Attempts to load a policy, by outcome: Loaded or the reason", metrics.loads.clone());
        metrics
    }

    /// The OpenMetrics text.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        // Writing into a String does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }

    pub(crate) fn reconcile(&self, outcome: &'static str, took: Duration) {
        self.reconciles.get_or_create(&Outcome { outcome }).inc();
        self.reconcile_seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn write(&self, write: &Write) {
        let write = match write {
            Write::CreateRevision(_) => "create-revision",
            Write::PatchRevision { .. } => "patch-revision",
            Write::UndoSet { .. } => "undo-set",
            Write::ApplyLeaderSet { .. } => "apply-leader-set",
            Write::CreateService(_) => "create-service",
            Write::RepairService { .. } => "repair-service",
            Write::DeleteService { .. } => "delete-service",
            Write::PatchLeader { .. } => "patch-leader",
            Write::CreateWorkerSet(_) => "create-worker-set",
            Write::ScaleWorkerSet { .. } => "scale-worker-set",
            Write::RelabelWorkerSet { .. } => "relabel-worker-set",
            Write::RestoreWorkerSet { .. } => "restore-worker-set",
            Write::RecordMembers { .. } => "record-members",
            Write::CreatePodGroup(_) => "create-pod-group",
            Write::RepairPodGroup { .. } => "repair-pod-group",
            Write::DeleteLeader { .. } | Write::DeleteBereftLeader { .. } => "delete-leader",
            Write::OwnClaim { .. } => "own-claim",
            Write::DeleteClaim { .. } => "delete-claim",
            Write::DeleteRevision { .. } => "delete-revision",
            Write::RecordRestarts { .. } => "record-restarts",
        };
        self.writes.get_or_create(&Object { write }).inc();
    }

    pub(crate) fn call(&self, policy: &str, outcome: &'static str, took: Duration, peak_memory: usize) {
        let of = OfPolicy { policy: policy.to_owned() };
        self.call_seconds.get_or_create(&of).observe(took.as_secs_f64());
        self.peak_memory.get_or_create(&of).set(i64::try_from(peak_memory).unwrap_or(i64::MAX));
        self.calls.get_or_create(&PolicyOutcome { policy: of.policy, outcome }).inc();
    }

    pub(crate) fn rejected(&self, policy: &str, outcome: &'static str) {
        self.rejected.get_or_create(&PolicyOutcome { policy: policy.to_owned(), outcome }).inc();
    }

    pub(crate) fn loaded(&self, policy: &str, outcome: &'static str) {
        self.loads.get_or_create(&PolicyOutcome { policy: policy.to_owned(), outcome }).inc();
    }

    pub(crate) fn decision(&self, policy: &str, outcome: &'static str) {
        self.decisions.get_or_create(&PolicyOutcome { policy: policy.to_owned(), outcome }).inc();
    }
}
