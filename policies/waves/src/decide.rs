//! What one group may do next.

use muster_startup_sdk::{Group, LeaderState, Phase, Pod, Step};

use crate::settings::{Settings, Wait};

/// The ranks up to the end of the first wave that is not complete.
///
/// Waves are counted by rank, not by what has been answered before: rank 0, then so many workers each. A wave whose pods were
/// once enough and now are not holds up the next one again, but takes nothing back.
pub(crate) fn step(settings: &Settings, group: &Group) -> Step {
    let wave = settings.wave(group.size.saturating_sub(1));
    let pods = by_rank(group);
    let (mut admitted, mut obstacle) = (1, leader_obstacle(settings, group, &pods));
    while obstacle.is_none() && admitted < group.size {
        let end = group.size.min(admitted.saturating_add(wave));
        obstacle = wave_obstacle(settings, &pods, admitted..end);
        admitted = end;
    }
    let existing = end_of_existing(group, wave);
    let Some(obstacle) = obstacle.filter(|_| admitted.max(existing) < group.size) else {
        return Step::new(group, group.size, "AllAdmitted", format!("all {} ranks may exist", group.size));
    };
    let step = Step::new(group, admitted.max(existing), obstacle.code, obstacle.message);
    Step { recheck_ms: obstacle.recheck_ms, ..step }
}

/// Why the next wave has to wait.
struct Obstacle {
    code: &'static str,
    message: String,
    recheck_ms: Option<u32>,
}

fn by_rank(group: &Group) -> Vec<Option<&Pod>> {
    let mut pods = vec![None; group.size as usize];
    for pod in &group.pods {
        if let Some(entry) = pods.get_mut(pod.rank as usize) {
            *entry = Some(pod);
        }
    }
    pods
}

/// The end of the wave of the highest rank that exists: so far the group was admitted before.
fn end_of_existing(group: &Group, wave: u32) -> u32 {
    let highest = group.pods.iter().map(|pod| pod.rank).filter(|rank| *rank < group.size).max().unwrap_or(0);
    group.size.min(1 + highest.div_ceil(wave).saturating_mul(wave))
}

fn leader_obstacle(settings: &Settings, group: &Group, pods: &[Option<&Pod>]) -> Option<Obstacle> {
    if settings.leader == LeaderState::Created {
        return None;
    }
    match group.waits_for_leader() {
        Some((code, message)) => Some(Obstacle { code, message, recheck_ms: None }),
        None => pause_obstacle(settings, "the leader is ready", pods.first()?.iter().copied()),
    }
}

fn wave_obstacle(settings: &Settings, pods: &[Option<&Pod>], ranks: std::ops::Range<u32>) -> Option<Obstacle> {
    let of_wave = &pods[ranks.start as usize..ranks.end as usize];
    let is_enough = |pod: &Option<&Pod>| pod.is_some_and(|pod| is_enough(settings.wait, pod.phase));
    let missing = of_wave.iter().filter(|pod| !is_enough(pod)).count();
    let name = match ranks.end - ranks.start {
        1 => format!("rank {}", ranks.start),
        _ => format!("ranks {} to {}", ranks.start, ranks.end - 1),
    };
    let state = match settings.wait {
        Wait::Created => "created",
        Wait::Running => "running",
        Wait::Ready => "ready",
    };
    if missing > 0 {
        let message = format!("{missing} of {name} still have to be {state} before the next wave");
        let message = if of_wave.len() == 1 { format!("{name} still has to be {state} before the next wave") } else { message };
        return Some(Obstacle { code: "WaitingForWave", message, recheck_ms: None });
    }
    let verb = if of_wave.len() == 1 { "is" } else { "are" };
    pause_obstacle(settings, &format!("{name} {verb} {state}"), of_wave.iter().flatten().copied())
}

fn is_enough(wait: Wait, phase: Phase) -> bool {
    match phase {
        Phase::Pending | Phase::Scheduled => wait == Wait::Created,
        Phase::Running => wait != Wait::Ready,
        Phase::Ready | Phase::Succeeded => true,
        Phase::Failed | Phase::Terminating => false,
    }
}

/// The pause counts from the youngest of these pods' present phases. A pod that has gone on to a later phase than it had to
/// lengthens it a little: when it reached the earlier one is not known.
fn pause_obstacle<'p>(settings: &Settings, done: &str, pods: impl Iterator<Item = &'p Pod>) -> Option<Obstacle> {
    let youngest = pods.map(|pod| pod.in_phase_ms).min()?;
    let left = settings.pause.as_millis().checked_sub(youngest).filter(|left| *left > 0)?;
    let message = format!("{done}; the next wave follows after a pause of {}", settings.pause);
    Some(Obstacle { code: "Pause", message, recheck_ms: Some(u32::try_from(left).unwrap_or(u32::MAX)) })
}

#[cfg(test)]
mod tests {
    use muster_startup_sdk::testing::{group, group_since};

    use super::*;
    use crate::settings::parse;

    const TWO: &str = r#"{"size":2}"#;

    fn admitted(document: &str, group: &Group) -> (u32, String) {
        let step = step(&parse(document).unwrap(), group);
        (step.admit, step.reason.code)
    }

    fn of(admit: u32, code: &str) -> (u32, String) {
        (admit, code.to_owned())
    }

    /// The leader and the workers of ranks 1, 2, … in these phases.
    fn ranks(size: u32, phases: &[Phase]) -> Group {
        group(size, &(0..).zip(phases.iter().copied()).collect::<Vec<_>>())
    }

    use Phase::{Failed, Pending, Ready, Running, Scheduled, Succeeded, Terminating};

    #[test]
    fn the_first_wave_waits_for_a_ready_leader() {
        assert_eq!(admitted(TWO, &ranks(7, &[])), of(1, "WaitingForLeader"));
        assert_eq!(admitted(TWO, &ranks(7, &[Running])), of(1, "WaitingForLeader"));
        assert_eq!(admitted(TWO, &ranks(7, &[Ready])), of(3, "WaitingForWave"));
    }

    #[test]
    fn the_first_wave_can_come_with_the_leader() {
        let settings = r#"{"leader":"Created","size":2}"#;
        assert_eq!(admitted(settings, &ranks(7, &[])), of(3, "WaitingForWave"));
    }

    #[test]
    fn each_wave_waits_for_all_of_the_one_before_it() {
        assert_eq!(admitted(TWO, &ranks(7, &[Ready, Ready, Running])), of(3, "WaitingForWave"));
        assert_eq!(admitted(TWO, &ranks(7, &[Ready, Ready, Ready])), of(5, "WaitingForWave"));
        assert_eq!(admitted(TWO, &ranks(7, &[Ready, Ready, Ready, Ready])), of(5, "WaitingForWave"));
        assert_eq!(admitted(TWO, &ranks(7, &[Ready; 5])), of(7, "AllAdmitted"));
    }

    #[test]
    fn a_share_makes_as_many_waves_as_it_says() {
        let quarter = "{}";
        assert_eq!(admitted(quarter, &ranks(17, &[Ready])).0, 5);
        assert_eq!(admitted(quarter, &ranks(17, &[Ready; 5])).0, 9);
        assert_eq!(admitted(quarter, &ranks(17, &[Ready; 9])).0, 13);
        assert_eq!(admitted(quarter, &ranks(17, &[Ready; 13])).0, 17);
    }

    #[test]
    fn what_counts_as_done_can_be_chosen() {
        let phases = [Pending, Scheduled, Running, Ready, Succeeded, Failed, Terminating];
        let done = |wait| phases.map(|phase| is_enough(wait, phase));
        assert_eq!(done(Wait::Created), [true, true, true, true, true, false, false]);
        assert_eq!(done(Wait::Running), [false, false, true, true, true, false, false]);
        assert_eq!(done(Wait::Ready), [false, false, false, true, true, false, false]);
    }

    #[test]
    fn a_pause_counts_from_the_last_pod_of_the_wave_and_says_when_to_ask_again() {
        let settings = parse(r#"{"pause":"10s","size":2}"#).unwrap();
        let pods = [(0, Ready, 60_000), (1, Ready, 20_000), (2, Ready, 4_000)];
        let pausing = step(&settings, &group_since(7, &pods));
        assert_eq!((pausing.admit, pausing.recheck_ms), (3, Some(6_000)));
        assert_eq!(pausing.reason.code, "Pause");
        assert_eq!(pausing.reason.message, "ranks 1 to 2 are ready; the next wave follows after a pause of 10s");
        let pods = [(0, Ready, 60_000), (1, Ready, 20_000), (2, Ready, 10_000)];
        let going_on = step(&settings, &group_since(7, &pods));
        assert_eq!((going_on.admit, going_on.recheck_ms), (5, None));
    }

    #[test]
    fn the_pause_after_the_leader_holds_the_first_wave() {
        let settings = parse(r#"{"pause":"10s","size":2}"#).unwrap();
        let step = step(&settings, &group_since(7, &[(0, Ready, 1_000)]));
        assert_eq!((step.admit, step.recheck_ms), (1, Some(9_000)));
    }

    #[test]
    fn a_group_is_never_narrowed_below_the_wave_that_exists() {
        assert_eq!(admitted(TWO, &ranks(7, &[Running, Ready, Running, Pending])), of(5, "WaitingForLeader"));
        assert_eq!(admitted(TWO, &ranks(4, &[Ready, Failed, Ready, Ready])), of(4, "AllAdmitted"));
    }

    #[test]
    fn the_reason_says_who_is_waited_for() {
        let message = |group: &Group| step(&parse(TWO).unwrap(), group).reason.message;
        assert_eq!(message(&ranks(7, &[Ready, Ready, Running])), "1 of ranks 1 to 2 still have to be ready before the next wave");
        let one = parse(r#"{"size":1,"wait":"Running"}"#).unwrap();
        assert_eq!(
            step(&one, &ranks(7, &[Ready, Pending])).reason.message,
            "rank 1 still has to be running before the next wave"
        );
    }

    #[test]
    fn a_leader_alone_is_the_whole_of_a_group_of_one() {
        assert_eq!(admitted("{}", &ranks(1, &[])), of(1, "AllAdmitted"));
    }

    #[test]
    fn the_last_wave_may_be_smaller() {
        assert_eq!(admitted(r#"{"size":4}"#, &ranks(7, &[Ready; 5])), of(7, "AllAdmitted"));
    }
}
