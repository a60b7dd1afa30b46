//! What the groups may do next.

use muster_startup_sdk::{Group, LeaderState, Request, Step};

use crate::settings::{Scope, Settings};

/// One step for every group, in the order of the request.
pub(crate) fn next(settings: Settings, request: &Request) -> Vec<Step> {
    request.groups.iter().map(|group| step(settings, request, group)).collect()
}

/// All ranks once the places are there; until then the leader alone, which holds the group's place in the queue. A group that has
/// workers already is never narrowed.
fn step(settings: Settings, request: &Request, group: &Group) -> Step {
    if group.has_workers() {
        return Step::new(group, group.size, "WorkersExist", "the group was admitted before");
    }
    if let Some((code, message)) = missing(settings.scope, request, group) {
        return Step::new(group, 1, code, message);
    }
    match group.waits_for_leader().filter(|_| settings.leader == LeaderState::Ready) {
        Some((code, message)) => Step::new(group, 1, code, message),
        None if settings.scope == Scope::Group => Step::new(group, group.size, "Placed", "the group has its place"),
        None => Step::new(group, group.size, "AllPlaced", format!("all {} groups have their place", request.replicas)),
    }
}

/// Which place is missing, if one is.
fn missing(scope: Scope, request: &Request, group: &Group) -> Option<(&'static str, String)> {
    match scope {
        Scope::Set if request.unplaced > 0 => {
            let (unplaced, replicas) = (request.unplaced, request.replicas);
            let message = format!("{unplaced} of {replicas} groups have no place yet, and no group has workers before all have");
            Some(("WaitingForPlaces", message))
        }
        _ if !group.placed => Some(("WaitingForPlace", "the group has no place yet".to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use muster_startup_sdk::testing::{group, request};
    use muster_startup_sdk::{Group, Phase};

    use super::*;
    use crate::settings::parse;

    fn unplaced(size: u32) -> Group {
        Group { placed: false, ..group(size, &[(0, Phase::Pending)]) }
    }

    fn admitted(document: &str, groups: Vec<Group>) -> Vec<(u32, String)> {
        let steps = next(parse(document).unwrap(), &request(groups));
        steps.into_iter().map(|step| (step.admit, step.reason.code)).collect()
    }

    fn expected(steps: &[(u32, &str)]) -> Vec<(u32, String)> {
        steps.iter().map(|(admit, code)| (*admit, (*code).to_owned())).collect()
    }

    #[test]
    fn nobody_has_workers_before_every_group_of_the_set_is_placed() {
        let groups = vec![group(4, &[(0, Phase::Ready)]), unplaced(4)];
        assert_eq!(admitted("{}", groups), expected(&[(1, "WaitingForPlaces"), (1, "WaitingForPlaces")]));
    }

    #[test]
    fn a_group_that_does_not_exist_yet_counts_as_unplaced() {
        let request = Request { replicas: 8, unplaced: 3, ..request(vec![group(4, &[(0, Phase::Ready)])]) };
        let steps = next(Settings::default(), &request);
        assert_eq!(steps[0].admit, 1);
        assert_eq!(steps[0].reason.message, "3 of 8 groups have no place yet, and no group has workers before all have");
    }

    #[test]
    fn all_start_when_the_last_place_is_there() {
        let groups = vec![group(4, &[(0, Phase::Pending)]), group(2, &[(0, Phase::Pending)])];
        assert_eq!(admitted("{}", groups), expected(&[(4, "AllPlaced"), (2, "AllPlaced")]));
    }

    #[test]
    fn a_group_by_itself_waits_for_its_own_place_only() {
        let groups = vec![group(4, &[(0, Phase::Pending)]), unplaced(4)];
        assert_eq!(admitted(r#"{"scope":"Group"}"#, groups), expected(&[(4, "Placed"), (1, "WaitingForPlace")]));
    }

    #[test]
    fn a_group_with_workers_stays_admitted_while_another_is_placed_again() {
        let groups = vec![group(4, &[(0, Phase::Ready), (1, Phase::Ready)]), unplaced(4)];
        assert_eq!(admitted("{}", groups), expected(&[(4, "WorkersExist"), (1, "WaitingForPlaces")]));
    }

    #[test]
    fn workers_can_wait_for_their_leader_besides() {
        let groups = vec![group(4, &[(0, Phase::Running)]), group(4, &[(0, Phase::Ready)])];
        assert_eq!(admitted(r#"{"leader":"Ready"}"#, groups), expected(&[(1, "WaitingForLeader"), (4, "AllPlaced")]));
    }
}
