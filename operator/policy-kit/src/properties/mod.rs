//! What every policy must do, whatever it is for. Checked over generated clusters: seeded, and shrunk to the smallest scenario that
//! shows the fault.

mod generate;
mod startup;

use std::time::Duration;

use muster_core::placement::ShapeId;
use muster_policy_host::{Limits, LoadError};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use serde::Serialize;

pub use generate::{cluster_of, large, levels_of};

use crate::chain::Library;
use crate::play::{Report, play, told};
use crate::policy::Policy;
use crate::scenario::{Fault, Scenario};

/// How much is tried.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Generated clusters.
    pub cases: u32,
    /// Equal seeds try equal clusters.
    pub seed: u64,
}

/// One property, and whether it holds.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// The property, as a sentence.
    pub property: &'static str,
    /// On how many cases it was tried.
    pub cases: u32,
    /// What broke it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<Broken>,
}

/// A property that does not hold.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Broken {
    /// What happened.
    pub message: String,
    /// The smallest scenario that shows it, if it can be written as one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scenario: Option<Scenario>,
}

/// Tries all properties. The policy's settings are those that it was loaded with. `counting` is the same policy on an engine that counts
/// instructions, with the longest deadline.
///
/// # Errors
/// When the policy no longer takes its settings under other limits.
pub fn check(policy: &Policy, counting: &Policy, effort: Effort) -> Result<Vec<Verdict>, LoadError> {
    let own = match policy {
        Policy::Placement(component) => component.limits(),
        Policy::Startup(component) => component.limits(),
        Policy::Native => Limits::default(),
    };
    // Time is a property of its own: everywhere else a busy machine must not look like a slow policy.
    let patient = policy.with_settings(Limits::new(Limits::DEADLINE_RANGE.1, own.memory()), &settings(policy))?;
    let (timed, deadline) = if cfg!(debug_assertions) { (&patient, Limits::DEADLINE_RANGE.1) } else { (policy, own.deadline()) };
    let counted = Effort { cases: effort.cases.min(COUNTED), ..effort };
    let mut verdicts = match policy {
        Policy::Placement(_) | Policy::Native => vec![
            over_clusters(&patient, effort),
            alone("a cluster without nodes is no reason to fail", &patient, &generate::without_nodes(&patient)),
            alone("nodes without labels are no reason to fail", &patient, &generate::without_labels(&patient)),
            unknown_shape(&patient),
            in_time(timed, deadline),
        ],
        Policy::Startup(_) => {
            vec![startup::over_groups(&patient, effort), startup::no_groups(&patient), startup::in_time(timed)]
        }
    };
    if verdicts[0].broken.is_some() {
        // Calls that fail have no count, and those that are late take their time.
        return Ok(verdicts);
    }
    match counting {
        Policy::Placement(_) => verdicts.insert(1, count_over_clusters(counting, counted)),
        Policy::Startup(_) => verdicts.insert(1, startup::count_over_groups(counting, counted)),
        // It is no WebAssembly.
        Policy::Native => {}
    }
    Ok(verdicts)
}

fn settings(policy: &Policy) -> serde_json::Value {
    let text = match policy {
        Policy::Placement(component) => component.settings(),
        Policy::Startup(component) => component.settings(),
        Policy::Native => "{}",
    };
    serde_json::from_str(text).unwrap_or_default()
}

/// What is wrong with any report, whatever its scenario expects.
pub fn of_report(report: &Report) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Some(failure) = report.failure.as_ref().filter(|failure| failure.fault) {
        wrong.push(format!("the call failed ({}): {}", failure.kind, failure.message));
    }
    for decided in &report.decisions {
        if let Some(refusal) = &decided.rejected {
            wrong.push(format!("the operator refuses the answer ({}): {}", refusal.code, refusal.message));
        }
        if decided.code.is_empty() {
            wrong.push(format!("the answer for {} has no reason code", decided.id));
        }
        if matches!(decided.decision, "hold" | "refuse") && decided.message.trim().is_empty() {
            wrong.push(format!("the answer for {} is to {} and does not say why", decided.id, decided.decision));
        }
    }
    wrong
}

/// What is wrong with a policy's answers to one scenario, asked twice.
fn of_scenario(policy: &Policy, scenario: &Scenario) -> Result<(), String> {
    let late = |played: &Result<Report, Fault>| {
        played.as_ref().is_ok_and(|report| report.failure.as_ref().is_some_and(|failure| failure.kind == "deadline"))
    };
    let ask = || in_the_end(|| play(scenario, policy, &Library::default()), late).map_err(|fault| format!("{fault}"));
    let (first, second) = (ask()?, ask()?);
    if first.decisions != second.decisions || first.failure != second.failure {
        return Err(
            "the same question got two different answers: a policy must not depend on anything but its arguments".to_owned()
        );
    }
    match of_report(&first).into_iter().next() {
        Some(wrong) => Err(wrong),
        None => Ok(()),
    }
}

const OVER_CLUSTERS: &str =
    "no answer breaks capacity or exclusivity, each unit is answered once, and the same question gets the same answer";

fn over_clusters(policy: &Policy, effort: Effort) -> Verdict {
    let levels = levels_of(policy);
    let strategy = generate::cases(levels.len()).prop_map(move |case| case.scenario(&levels));
    run(OVER_CLUSTERS, effort, &strategy, |scenario| of_scenario(policy, scenario), |scenario| Some(scenario.clone()))
}

const SAME_COUNT: &str = "the same question takes the same number of instructions";
/// Cases on which instructions are counted: what changes them from call to call does so in most.
const COUNTED: u32 = 32;

fn count_over_clusters(policy: &Policy, effort: Effort) -> Verdict {
    let levels = levels_of(policy);
    let strategy = generate::cases(levels.len()).prop_map(move |case| case.scenario(&levels));
    let count = |scenario: &Scenario| {
        let report = play(scenario, policy, &Library::default()).map_err(|fault| fault.to_string())?;
        Ok::<_, String>(report.cost.instructions)
    };
    let holds = |scenario: &Scenario| same_count(count(scenario)?, count(scenario)?);
    run(SAME_COUNT, effort, &strategy, holds, |scenario| Some(scenario.clone()))
}

/// Calls that did not come to their end have no count, and are another property's.
fn same_count(first: Option<u64>, second: Option<u64>) -> Result<(), String> {
    match (first, second) {
        (Some(first), Some(second)) if first != second => Err(format!(
            "the same question took {first} instructions and then {second}: a policy must not depend on anything but its arguments"
        )),
        _ => Ok(()),
    }
}

/// Tries a property over everything that a strategy makes.
fn run<T: std::fmt::Debug + Clone>(
    property: &'static str,
    effort: Effort,
    strategy: &impl Strategy<Value = T>,
    holds: impl Fn(&T) -> Result<(), String>,
    scenario: impl Fn(&T) -> Option<Scenario>,
) -> Verdict {
    let config = Config { cases: effort.cases, failure_persistence: None, ..Config::default() };
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&effort.seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let tried = runner.run(strategy, |case| holds(&case).map_err(TestCaseError::fail));
    let broken = match tried {
        Ok(()) => None,
        Err(TestError::Abort(why)) => Some(Broken { message: why.to_string(), scenario: None }),
        // The message of the smallest case, which need not be that of the first.
        Err(TestError::Fail(why, case)) => {
            let message = holds(&case).err().unwrap_or_else(|| why.to_string());
            Some(Broken { message, scenario: scenario(&case) })
        }
    };
    Verdict { property, cases: effort.cases, broken }
}

fn alone(property: &'static str, policy: &Policy, scenario: &Scenario) -> Verdict {
    let broken = of_scenario(policy, scenario).err();
    let broken = broken.map(|message| Broken { message, scenario: Some(scenario.clone()) });
    Verdict { property, cases: 1, broken }
}

/// Ids outside the snapshot give empty columns, and a policy must live with those.
fn unknown_shape(policy: &Policy) -> Verdict {
    let scenario = generate::small(policy);
    let asked = scenario.stage(&policy.preparation()).map(|mut stage| {
        stage.request.units.iter_mut().flat_map(|unit| &mut unit.pods).for_each(|demand| demand.shape = ShapeId(99));
        policy.place(&stage.snapshot, &stage.request).and_then(|outcome| outcome.result.err())
    });
    let message = match asked {
        Err(fault) => Some(fault.to_string()),
        Ok(Some(error)) if error.is_fault() => Some(error.to_string()),
        Ok(_) => None,
    };
    let broken = message.map(|message| Broken { message, scenario: None });
    Verdict { property: "a shape that the snapshot does not have is no reason to fail", cases: 1, broken }
}

/// A host that was built without optimisation answers a policy's questions some hundred times slower than the operator.
const IN_TIME: (&str, u32, u32) = if cfg!(debug_assertions) {
    ("ten groups over 1,000 nodes are answered within the longest deadline", 1_000, 10)
} else {
    ("fifty groups over 10,000 nodes are answered within the deadline", 10_000, 50)
};
/// How often a call may be tried: on a busy machine one can be late through no fault of its own.
const TRIES: u32 = 5;

/// The first call that is not late; the last one if all are.
fn in_the_end<T>(call: impl Fn() -> T, late: impl Fn(&T) -> bool) -> T {
    (1..TRIES).map(|_| call()).find(|result| !late(result)).unwrap_or_else(&call)
}

fn in_time(policy: &Policy, deadline: Duration) -> Verdict {
    let (property, nodes, groups) = IN_TIME;
    let scenario = large(policy, nodes, groups);
    let message = match scenario.stage(&policy.preparation()) {
        Err(fault) => Some(fault.to_string()),
        Ok(stage) => {
            let call = || policy.place(&stage.snapshot, &stage.request);
            let late = |error: &muster_policy_host::CallError| {
                format!("{}; the deadline is {deadline:?}, and {TRIES} tries were no help", told(error))
            };
            let fault = || call()?.result.err().filter(muster_policy_host::CallError::is_fault);
            in_the_end(fault, Option::is_some).map(|error| late(&error))
        }
    };
    let broken = message.map(|message| Broken { message, scenario: None });
    Verdict { property, cases: 1, broken }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_counts_of_one_question_are_equal_unless_one_has_no_end() {
        assert_eq!(same_count(Some(7), Some(7)), Ok(()));
        assert_eq!(same_count(Some(7), None), Ok(()));
        let said = same_count(Some(7), Some(8)).unwrap_err();
        assert!(said.starts_with("the same question took 7 instructions and then 8: "), "{said}");
    }
}
