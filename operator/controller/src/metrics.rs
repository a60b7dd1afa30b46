//! What the operator counts, for /metrics.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicI64;
use std::sync::{Mutex, PoisonError};
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

/// The operator's metrics. Labels are names of policies, as long as there are such policies, and words from closed lists, so their
/// number is bounded.
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
    /// The outcomes that there are series of, by policy.
    outcomes: Mutex<HashMap<String, HashSet<&'static str>>>,
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
            outcomes: Mutex::default(),
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
            Write::DeleteWorkerSet { .. } => "delete-worker-set",
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
        self.of_policy(policy, outcome, |labels| {
            self.call_seconds.get_or_create(&of).observe(took.as_secs_f64());
            self.peak_memory.get_or_create(&of).set(i64::try_from(peak_memory).unwrap_or(i64::MAX));
            self.calls.get_or_create(labels).inc();
        });
    }

    pub(crate) fn rejected(&self, policy: &str, outcome: &'static str) {
        self.of_policy(policy, outcome, |labels| {
            self.rejected.get_or_create(labels).inc();
        });
    }

    pub(crate) fn loaded(&self, policy: &str, outcome: &'static str) {
        self.of_policy(policy, outcome, |labels| {
            self.loads.get_or_create(labels).inc();
        });
    }

    pub(crate) fn decision(&self, policy: &str, outcome: &'static str) {
        self.of_policy(policy, outcome, |labels| {
            self.decisions.get_or_create(labels).inc();
        });
    }

    /// Counts something about a policy, and remembers that there is a series of it.
    fn of_policy(&self, policy: &str, outcome: &'static str, count: impl FnOnce(&PolicyOutcome)) {
        // Held while it is counted: nobody drops the series in between and forgets that it is there again.
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        outcomes.entry(policy.to_owned()).or_default().insert(outcome);
        count(&PolicyOutcome { policy: policy.to_owned(), outcome });
    }

    /// Drops all series of the other policies: those that were deleted, and names that only a set's annotation knows.
    pub(crate) fn keep_policies(&self, keep: impl Fn(&str) -> bool) {
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        for (policy, outcomes) in outcomes.extract_if(|policy, _| !keep(policy)) {
            for outcome in outcomes {
                let labels = PolicyOutcome { policy: policy.clone(), outcome };
                for family in [&self.calls, &self.rejected, &self.decisions, &self.loads] {
                    family.remove(&labels);
                }
            }
            let of = OfPolicy { policy };
            self.call_seconds.remove(&of);
            self.peak_memory.remove(&of);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(metrics: &Metrics, policy: &str) {
        metrics.loaded(policy, "Loaded");
        metrics.call(policy, "answered", Duration::from_micros(30), 65_536);
        metrics.call(policy, "trap", Duration::from_micros(30), 65_536);
        metrics.rejected(policy, "NoRoom");
        metrics.decision(policy, "placed");
    }

    /// Lines that name a policy, buckets of the histogram left out.
    fn lines(metrics: &Metrics, policy: &str) -> Vec<String> {
        let label = format!("policy=\"{policy}\"");
        let text = metrics.render();
        let lines = text.lines().filter(|line| line.contains(&label) && !line.contains("_bucket"));
        let mut lines: Vec<String> = lines.map(str::to_owned).collect();
        lines.sort();
        lines
    }

    #[test]
    fn a_policy_that_is_gone_leaves_no_series() {
        let metrics = Metrics::new();
        for policy in ["gone", "stays"] {
            count(&metrics, policy);
        }
        assert_eq!(lines(&metrics, "gone").len(), 8);
        metrics.keep_policies(|policy| policy == "stays");
        assert_eq!(lines(&metrics, "gone"), Vec::<String>::new());
        assert!(!metrics.render().contains("gone"), "{}", metrics.render());
        let expected = [
            "muster_policy_answers_rejected_total{policy=\"stays\",outcome=\"NoRoom\"} 1",
            "muster_policy_call_seconds_count{policy=\"stays\"} 2",
            "muster_policy_call_seconds_sum{policy=\"stays\"} 0.00006",
            "muster_policy_calls_total{policy=\"stays\",outcome=\"answered\"} 1",
            "muster_policy_calls_total{policy=\"stays\",outcome=\"trap\"} 1",
            "muster_policy_decisions_total{policy=\"stays\",outcome=\"placed\"} 1",
            "muster_policy_loads_total{policy=\"stays\",outcome=\"Loaded\"} 1",
            "muster_policy_memory_peak_bytes{policy=\"stays\"} 65536",
        ];
        assert_eq!(lines(&metrics, "stays"), expected);
        // A call that ended late is dropped the next time.
        metrics.call("gone", "answered", Duration::from_micros(30), 0);
        assert_eq!(lines(&metrics, "gone").len(), 4);
        metrics.keep_policies(|policy| policy == "stays");
        assert_eq!(lines(&metrics, "gone"), Vec::<String>::new());
    }
}
