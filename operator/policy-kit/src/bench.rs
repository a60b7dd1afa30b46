//! How long a policy's calls take, and how many instructions, over clusters of several sizes.

use std::time::{Duration, Instant};

use muster_core::placement::native;
use muster_core::startup::{Group, Phase, Pod, Request};
use muster_policy_host::CallOutcome;
use serde::Serialize;

use crate::play::told;
use crate::policy::Policy;
use crate::properties::large;
use crate::scenario::Fault;

/// Calls before the first that counts.
const WARM_UP: u32 = 10;

/// One question, and how long its answers took. Microseconds.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Measured {
    /// The policy's name and version.
    pub policy: String,
    /// Nodes of the cluster; none for a startup policy.
    pub nodes: u32,
    /// Units, or groups, in the question.
    pub units: u32,
    /// Calls that count.
    pub calls: u32,
    /// Half of them took less.
    pub p50: f64,
    /// All but one in a hundred took less.
    pub p99: f64,
    /// The slowest.
    pub max: f64,
    /// Median of what making the instance took of it.
    pub instantiate: f64,
    /// Most linear memory, in bytes.
    pub peak_memory_bytes: usize,
    /// WebAssembly instructions of one call, the same every time; none of the native rule, and none where the call failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions: Option<u64>,
    /// Median of the native rule for the same question; none for a startup policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub native: Option<f64>,
    /// Why a call gave no answer, if one did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

impl Measured {
    /// A figure by its name.
    pub fn figure(&self, name: &str) -> Option<f64> {
        match name {
            "p50" => Some(self.p50),
            "p99" => Some(self.p99),
            "max" => Some(self.max),
            "instantiate" => Some(self.instantiate),
            #[expect(clippy::cast_precision_loss, reason = "exact up to 9,007,199,254,740,992")]
            "instructions" => self.instructions.map(|count| count as f64),
            _ => None,
        }
    }
}

/// Measures questions about `units` units in a cluster of `nodes` nodes; for a startup policy, about as many groups. `counting` is the
/// same policy on an engine that counts instructions: it is asked once, and no time is taken of that.
///
/// # Errors
/// When the generated cluster can't be built, which would be a fault of the kit.
pub fn measure(policy: &Policy, counting: &Policy, nodes: u32, units: u32, calls: u32) -> Result<Measured, Fault> {
    if let (Policy::Startup(component), Policy::Startup(counting)) = (policy, counting) {
        let request = starting(units);
        let instructions = counting.next(&request).instructions;
        let outcomes = repeat(calls, || component.next(&request));
        return Ok(Measured { instructions, ..summary(policy, (0, units, calls), &outcomes) });
    }
    let stage = large(policy, nodes, units).stage(&policy.preparation())?;
    let outcomes = repeat(calls, || policy.place(&stage.snapshot, &stage.request));
    let outcomes: Vec<_> = outcomes.into_iter().flatten().collect();
    let twin = (0..calls.min(20)).map(|_| {
        let started = Instant::now();
        std::hint::black_box(native::place(&stage.snapshot, &stage.request));
        micros(started.elapsed())
    });
    let native = percentile(&mut twin.collect::<Vec<_>>(), 50);
    let instructions = counting.place(&stage.snapshot, &stage.request).and_then(|outcome| outcome.instructions);
    Ok(Measured { instructions, native: Some(native), ..summary(policy, (nodes, units, calls), &outcomes) })
}

fn repeat<T>(calls: u32, call: impl Fn() -> T) -> Vec<T> {
    (0..WARM_UP).for_each(|_| drop(call()));
    (0..calls).map(|_| call()).collect()
}

fn summary<T>(policy: &Policy, (nodes, units, calls): (u32, u32, u32), outcomes: &[CallOutcome<T>]) -> Measured {
    let mut whole: Vec<f64> = outcomes.iter().map(|outcome| micros(outcome.duration)).collect();
    let mut instantiate: Vec<f64> = outcomes.iter().map(|outcome| micros(outcome.instantiate)).collect();
    Measured {
        policy: policy.name(),
        nodes,
        units,
        calls,
        p50: percentile(&mut whole, 50),
        p99: percentile(&mut whole, 99),
        max: percentile(&mut whole, 100),
        instantiate: percentile(&mut instantiate, 50),
        peak_memory_bytes: outcomes.iter().map(|outcome| outcome.peak_memory).max().unwrap_or(0),
        instructions: None,
        native: None,
        failure: outcomes.iter().find_map(|outcome| outcome.result.as_ref().err()).map(told),
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// The value that so many in a hundred do not exceed; 0 of nothing.
pub(crate) fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let position = (values.len() * percent).div_ceil(100).saturating_sub(1);
    values.get(position).copied().unwrap_or(0.0)
}

/// Groups in the middle of starting.
fn starting(count: u32) -> Request {
    let group = |index| {
        let pods = (0..4).map(|rank| Pod { rank, phase: Phase::Running, in_phase_ms: 1000, restarts: 0 }).collect();
        Group { index, size: 8, pods, age_ms: 5000, recreations: 0, placed: true }
    };
    let groups = (0..count).map(group).collect();
    Request { owner: "ml/train".to_owned(), labels: [].into(), replicas: count, unplaced: 0, groups }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_came_up() {
        let mut values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!([50, 99, 100].map(|percent| percentile(&mut values, percent)), [100.0, 198.0, 200.0]);
        assert_eq!(percentile(&mut [], 99), 0.0);
    }

    #[test]
    fn the_native_rule_is_measured_too() {
        let measured = measure(&Policy::Native, &Policy::Native, 100, 5, 3).unwrap();
        assert_eq!((measured.nodes, measured.units, measured.calls, measured.failure), (100, 5, 3, None));
        assert!(measured.p50 > 0.0 && measured.p50 <= measured.p99 && measured.p99 <= measured.max);
    }
}
