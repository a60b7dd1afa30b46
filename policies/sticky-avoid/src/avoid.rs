//! Which nodes to keep away from, and for how long.

use std::collections::BTreeSet;

use muster_placement_sdk::{BadNode, Request, Unit};

use crate::settings::Settings;

/// Nodes that an answer can name at most.
const MOST: usize = 64;

/// Nodes that the unit keeps away from: those on which it was itself when they failed, and those that fail again and again.
///
/// Nodes that its pods run on now are none of them: a pod that runs shows that the node does.
pub(crate) fn avoided(settings: &Settings, request: &Request, unit: &Unit) -> BTreeSet<u32> {
    let nodes = |whereabouts: &Option<muster_placement_sdk::Whereabouts>| -> BTreeSet<u32> {
        whereabouts.iter().flat_map(|at| at.nodes.iter().copied()).collect()
    };
    let (before, now) = (nodes(&unit.previous), nodes(&unit.current));
    let concerns = |bad: &&BadNode| bad.failures >= settings.failures || before.contains(&bad.node);
    let mut bad: Vec<&BadNode> = request.bad_nodes.iter().filter(|bad| is_bad(settings, bad)).filter(concerns).collect();
    bad.retain(|bad| !now.contains(&bad.node));
    // If there are too many, the latest matter most.
    bad.sort_by_key(|bad| (bad.age_ms, bad.node));
    bad.into_iter().take(MOST).map(|bad| bad.node).collect()
}

/// Whether the time for which the node is avoided is not over: `ttl`, twice that after the second failure, and so on up to `maxTtl`.
fn is_bad(settings: &Settings, bad: &BadNode) -> bool {
    let doublings = bad.failures.saturating_sub(1).min(63);
    let ttl = settings.ttl.as_millis().saturating_mul(1 << doublings).min(settings.max_ttl.as_millis());
    bad.failures > 0 && bad.age_ms < ttl
}

#[cfg(test)]
mod tests {
    use muster_placement_sdk::Whereabouts;
    use muster_placement_sdk::testing::{request, unit};

    use super::*;
    use crate::settings::parse;

    const MINUTE: u64 = 60_000;

    fn bad(node: u32, failures: u32, minutes: u64) -> BadNode {
        BadNode { node, failures, age_ms: minutes * MINUTE }
    }

    fn of(bad_nodes: Vec<BadNode>, before: &[u32], now: &[u32]) -> Vec<u32> {
        let at = |nodes: &[u32]| (!nodes.is_empty()).then(|| Whereabouts { domains: Vec::new(), nodes: nodes.to_vec() });
        let unit = Unit { previous: at(before), current: at(now), ..unit(0, 2) };
        let request = Request { bad_nodes, ..request(None, vec![unit.clone()]) };
        avoided(&parse("{}").unwrap(), &request, &unit).into_iter().collect()
    }

    #[test]
    fn one_failure_concerns_the_group_that_was_there() {
        assert_eq!(of(vec![bad(1, 1, 5), bad(2, 1, 5)], &[0, 1], &[]), [1]);
    }

    #[test]
    fn a_node_that_fails_again_concerns_everybody() {
        assert_eq!(of(vec![bad(1, 1, 5), bad(2, 2, 5)], &[], &[]), [2]);
    }

    #[test]
    fn every_failure_doubles_the_time_up_to_a_day() {
        let after = |failures, minutes| !of(vec![bad(1, failures, minutes)], &[1], &[]).is_empty();
        assert_eq!([after(1, 29), after(1, 30)], [true, false]);
        assert_eq!([after(2, 59), after(2, 60)], [true, false]);
        assert_eq!([after(4, 239), after(4, 240)], [true, false]);
        assert_eq!([after(100, 24 * 60 - 1), after(100, 24 * 60)], [true, false]);
    }

    #[test]
    fn a_node_that_the_unit_runs_on_is_not_avoided() {
        assert_eq!(of(vec![bad(1, 9, 1), bad(2, 9, 1)], &[], &[2]), [1]);
    }

    #[test]
    fn of_too_many_the_latest_are_avoided() {
        let many = (0..100).map(|node| bad(node, 3, u64::from(100 - node))).collect();
        assert_eq!(of(many, &[], &[]), (36..100).collect::<Vec<_>>());
    }
}
