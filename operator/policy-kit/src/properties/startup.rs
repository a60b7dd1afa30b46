//! Properties of startup policies: groups that start, step by step.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::ask;
use muster_core::startup::{Group, Phase, Pod, Request};
use muster_policy_host::CallError;
use proptest::collection::vec;
use proptest::prelude::any;

use super::{Broken, Effort, SAME_COUNT, Verdict, run, same_count};
use crate::policy::Policy;

/// Time that passes between two questions.
const STEP_MS: u64 = 60_000;
/// Questions during which pods dawdle; after them each is ready at once.
const DAWDLING: usize = 20;

pub(super) fn over_groups(policy: &Policy, effort: Effort) -> Verdict {
    let property =
        "a rank that was admitted stays so, every rank is admitted in the end, and the same question gets the same answer";
    run(property, effort, &(vec(1_u32..10, 1..5), any::<u64>()), |(sizes, seed)| start(policy, sizes, *seed), |_| None)
}

/// Groups that are half there, asked about twice.
pub(super) fn count_over_groups(policy: &Policy, effort: Effort) -> Verdict {
    let count = |sizes: &[u32]| {
        let Policy::Startup(component) = policy else { return None };
        let half = |size: u32| vec![Phase::Running; size.div_ceil(2) as usize];
        let groups: Vec<Group> = (0..).zip(sizes).map(|(index, size)| group(index, *size, &half(*size), STEP_MS, true)).collect();
        component.next(&request(&groups, u32::try_from(sizes.len()).unwrap_or(u32::MAX), 0)).instructions
    };
    run(SAME_COUNT, effort, &vec(1_u32..10, 1..5), |sizes| same_count(count(sizes), count(sizes)), |_| None)
}

pub(super) fn no_groups(policy: &Policy) -> Verdict {
    let broken = ask_twice(policy, &request(&[], 0, 0)).err().map(|message| Broken { message, scenario: None });
    Verdict { property: "a set without groups is no reason to fail", cases: 1, broken }
}

/// As for placement, a host that was built without optimisation is not held to the operator's time.
const IN_TIME: (&str, u32) = if cfg!(debug_assertions) {
    ("a hundred groups are answered within the longest deadline", 100)
} else {
    ("a thousand groups are answered within the deadline", 1000)
};

pub(super) fn in_time(policy: &Policy) -> Verdict {
    let (property, count) = IN_TIME;
    let groups: Vec<Group> = (0..count).map(|index| group(index, 8, &[Phase::Ready, Phase::Running], 0, true)).collect();
    let broken = ask(policy, &request(&groups, count, 0)).err().map(|message| Broken { message, scenario: None });
    Verdict { property, cases: 1, broken }
}

fn group(index: u32, size: u32, phases: &[Phase], age_ms: u64, placed: bool) -> Group {
    let pods = (0..).zip(phases).map(|(rank, phase)| Pod { rank, phase: *phase, in_phase_ms: age_ms, restarts: 0 }).collect();
    Group { index, size, pods, age_ms, recreations: 0, placed }
}

fn request(groups: &[Group], replicas: u32, unplaced: u32) -> Request {
    Request { owner: "ml/train".to_owned(), labels: BTreeMap::new(), replicas, unplaced, groups: groups.to_vec() }
}

/// Ranks that may exist, by group; nothing if the policy says that it can't work here.
fn ask(policy: &Policy, request: &Request) -> Result<Option<BTreeMap<u32, u32>>, String> {
    let Policy::Startup(component) = policy else { return Ok(None) };
    let late = |result: &Result<Vec<_>, CallError>| matches!(result, Err(CallError::Deadline { .. }));
    let steps = match super::in_the_end(|| component.next(request).result, late) {
        Ok(steps) => steps,
        Err(error) if error.is_fault() => return Err(format!("the call failed ({}): {error}", error.kind())),
        Err(_) => return Ok(None),
    };
    let mut admitted = BTreeMap::new();
    for step in steps {
        let Some(group) = request.groups.iter().find(|group| group.index == step.group) else {
            return Err(format!("it answers for group {}, which was not asked about", step.group));
        };
        ask::admitted(&step, group.size).map_err(|reason| format!("the operator refuses the answer: {}", reason.message))?;
        if step.reason.code.is_empty() {
            return Err(format!("the answer for group {} has no reason code", step.group));
        }
        if admitted.insert(step.group, step.admit).is_some() {
            return Err(format!("it answers twice for group {}", step.group));
        }
    }
    Ok(Some(admitted))
}

fn ask_twice(policy: &Policy, request: &Request) -> Result<Option<BTreeMap<u32, u32>>, String> {
    let first = ask(policy, request)?;
    if first == ask(policy, request)? {
        return Ok(first);
    }
    Err("the same question got two different answers: a policy must not depend on anything but its arguments".to_owned())
}

/// Starts groups of these sizes as the policy says, with pods that become ready at their own pace.
fn start(policy: &Policy, sizes: &[u32], seed: u64) -> Result<(), String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut phases: Vec<Vec<Phase>> = sizes.iter().map(|_| vec![Phase::Pending]).collect();
    let mut told: BTreeMap<u32, u32> = BTreeMap::new();
    let replicas = u32::try_from(sizes.len()).unwrap_or(u32::MAX);
    let rounds = DAWDLING + 2 * sizes.iter().sum::<u32>() as usize + 100;
    for round in 0..rounds {
        let placed = round >= 2;
        let age = STEP_MS * round as u64;
        let incomplete = (0..).zip(sizes.iter().zip(&phases)).filter(|(_, (size, pods))| pods.len() < **size as usize);
        let groups: Vec<Group> = incomplete.map(|(index, (size, pods))| group(index, *size, pods, age, placed)).collect();
        if groups.is_empty() {
            return Ok(());
        }
        let Some(admitted) = ask_twice(policy, &request(&groups, replicas, if placed { 0 } else { replicas }))? else {
            return Ok(());
        };
        for (index, admit) in admitted {
            let before = told.insert(index, admit).unwrap_or(0);
            let pods = &mut phases[index as usize];
            let live = u32::try_from(pods.len()).unwrap_or(u32::MAX);
            if admit < before.min(live) {
                return Err(format!(
                    "it admitted {before} ranks of group {index} and, with {live} pods there, takes back all but {admit}"
                ));
            }
            pods.resize(pods.len().max(admit as usize), Phase::Pending);
        }
        for phase in phases.iter_mut().flatten() {
            if round >= DAWDLING {
                *phase = Phase::Ready;
            } else if random.u8(0..10) < 7 {
                *phase = next(*phase);
            }
        }
    }
    let stuck: BTreeSet<String> = (0_u32..)
        .zip(sizes.iter().zip(&phases))
        .filter(|(_, (size, pods))| pods.len() < **size as usize)
        .map(|(index, (size, pods))| format!("group {index} has {} of {size} pods", pods.len()))
        .collect();
    let stuck: Vec<String> = stuck.into_iter().collect();
    Err(format!("after {rounds} questions, with every pod ready, {}", stuck.join(", ")))
}

fn next(phase: Phase) -> Phase {
    match phase {
        Phase::Pending => Phase::Scheduled,
        Phase::Scheduled => Phase::Running,
        Phase::Running | Phase::Ready => Phase::Ready,
        Phase::Succeeded | Phase::Failed | Phase::Terminating => phase,
    }
}
