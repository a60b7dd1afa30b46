//! The question to a startup policy.

use muster_core::startup::{Group, Phase, Pod, Request};

use super::notation::{counted, millis};
use super::stage::owner;
use super::{Fault, Scenario, StartingGroup};

const PHASES: [(&str, Phase); 7] = [
    ("pending", Phase::Pending),
    ("scheduled", Phase::Scheduled),
    ("running", Phase::Running),
    ("ready", Phase::Ready),
    ("succeeded", Phase::Succeeded),
    ("failed", Phase::Failed),
    ("terminating", Phase::Terminating),
];

impl Scenario {
    /// The request of a startup scenario.
    ///
    /// # Errors
    /// The first field that makes no sense.
    pub fn startup_request(&self) -> Result<Request, Fault> {
        let startup = self.startup.as_ref().ok_or_else(|| Fault::new("startup", "there is no question to a startup policy"))?;
        let (namespace, set) = owner(startup.owner.as_deref())?;
        let mut groups = Vec::new();
        for (position, group) in (0_u32..).zip(&startup.groups) {
            groups.push(starting(&format!("startup.groups[{position}]"), position, group)?);
        }
        groups.sort_by_key(|group| group.index);
        let replicas = startup.replicas.unwrap_or_else(|| u32::try_from(groups.len()).unwrap_or(u32::MAX));
        let placed = groups.iter().filter(|group| !group.placed).count();
        let unplaced = startup.unplaced.unwrap_or_else(|| u32::try_from(placed).unwrap_or(u32::MAX));
        Ok(Request { owner: format!("{namespace}/{set}"), labels: startup.labels.clone(), replicas, unplaced, groups })
    }
}

fn starting(field: &str, position: u32, group: &StartingGroup) -> Result<Group, Fault> {
    let mut pods: Vec<Pod> = Vec::new();
    for (line, pod) in group.pods.iter().enumerate() {
        let (field, pod) = (format!("{field}.pods[{line}]"), &pod.0);
        let fault = |message| Fault::new(&field, message);
        let (count, word) = counted(&pod.is).map_err(fault)?;
        let phase = PHASES.iter().find(|(known, _)| *known == word).map(|(_, phase)| *phase);
        let phase = phase.ok_or_else(|| {
            Fault::new(&field, format!("{word:?} is no phase; there are {}", PHASES.map(|(word, _)| word).join(", ")))
        })?;
        let in_phase_ms = pod.since.as_deref().map_or(Ok(0), millis).map_err(fault)?;
        let first = pod.rank.unwrap_or_else(|| pods.last().map_or(0, |before| before.rank + 1));
        let each = (first..first.saturating_add(count)).map(|rank| Pod { rank, phase, in_phase_ms, restarts: pod.restarts });
        pods.extend(each);
    }
    if let Some(pod) = pods.iter().find(|pod| pod.rank >= group.size) {
        return Err(Fault::new(format!("{field}.size"), format!("rank {} is not one of {} pods", pod.rank, group.size)));
    }
    let age_ms = group.age.as_deref().map_or(Ok(0), millis).map_err(|message| Fault::new(format!("{field}.age"), message))?;
    let index = group.index.unwrap_or(position);
    Ok(Group { index, size: group.size, pods, age_ms, recreations: group.recreations, placed: group.placed })
}
