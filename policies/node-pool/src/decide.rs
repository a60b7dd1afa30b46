//! From a request to answers.

use std::cmp::Reverse;

use muster_placement_sdk::pack::{Fit, Pack, Step, WHOLE, Want, answer_all, first_used};
use muster_placement_sdk::{Answer, Cluster, Decision, Failure, Location, Request, Unit};

use crate::settings::{Mode, Settings};

/// The host asks again sooner if the cluster changes.
const RETRY_MS: u32 = 30_000;

/// Pools that the scheduler is told to favour.
const MOST_FAVOURED: usize = 8;

/// Answers for every unit, in the order of the request.
///
/// Units that have pods somewhere keep that place before others choose, so that a scale-up never takes the room of a restart.
pub(crate) fn place<C: Cluster>(settings: &Settings, cluster: &C, request: &Request) -> Result<Vec<Answer>, Failure> {
    let Some(key) = first_used(cluster, &settings.keys) else { return no_pools(settings, request) };
    let step = Step { key: key.clone(), optional: false };
    let mut pack = Pack::new(cluster, &[step], request.exclusive).map_err(Failure::Unsupported)?;
    let Some(pools) = pack.chain.rung_of[0] else { return no_pools(settings, request) };
    if !settings.shared {
        pack.keep_alone(pools);
    }
    // A set that asks for a domain of its own of another level gets one, of those that lie inside one pool.
    let nearest = pack.alone().iter().copied().max().unwrap_or(pools).max(pools);
    let may_spread = settings.mode == Mode::Preferred && request.exclusive.is_none();
    Ok(answer_all(&request.units, |unit, stay| {
        let mut blocks = vec![0; pack.chain.rungs.len()];
        blocks[pools] = WHOLE;
        let Some(found) = pack.place(&Want::new(unit, blocks, Fit::Best), stay) else {
            return (!stay).then(|| if may_spread { favour(&mut pack, pools, unit) } else { hold(&mut pack, nearest, unit) });
        };
        let place = pack.in_words(&found);
        let (code, message) = match stay {
            true => ("Kept", format!("stays in {place}")),
            false => ("BestFit", format!("{place} has room and the least left over")),
        };
        Some(Answer::new(unit, pack.decision(&found)?, code, message))
    }))
}

fn no_pools(settings: &Settings, request: &Request) -> Result<Vec<Answer>, Failure> {
    let why = format!("no node carries a pool label: looked for {}", settings.keys.join(", "));
    if settings.mode == Mode::Required || request.exclusive.is_some() {
        return Err(Failure::Unsupported(why));
    }
    let answer = |unit: &Unit| Answer::new(unit, Decision::Unconstrained, "NoPools", why.clone());
    Ok(request.units.iter().map(answer).collect())
}

fn hold<C: Cluster>(pack: &mut Pack<'_, C>, nearest: usize, unit: &Unit) -> Answer {
    let shortage = pack.shortage(nearest, unit);
    let code = if shortage.none_free { "NoFreePool" } else { "NoPoolLargeEnough" };
    Answer::new(unit, Decision::Hold(RETRY_MS), code, shortage.message)
}

/// No pool has room for the whole unit: the scheduler favours those with the most room, so that few pools have it.
fn favour<C: Cluster>(pack: &mut Pack<'_, C>, pools: usize, unit: &Unit) -> Answer {
    let shortage = pack.shortage(pools, unit).message;
    let mut roomy: Vec<(u32, u32)> =
        (0..).zip(pack.left(pools, unit).iter().map(|left| left.workers.max(left.with_leader))).collect();
    roomy.retain(|(domain, room)| *room > 0 && pack.is_open(pools, *domain));
    roomy.sort_by_key(|(domain, room)| (Reverse(*room), *domain));
    roomy.truncate(MOST_FAVOURED);
    let level = pack.chain.rungs[pools].level;
    match level.filter(|_| !roomy.is_empty()) {
        None => Answer::new(unit, Decision::Unconstrained, "NoPoolFits", format!("{shortage}; the scheduler decides")),
        Some(level) => {
            let places = roomy.iter().map(|(domain, _)| Location { level, domain: *domain }).collect();
            let message = format!("{shortage}; the scheduler favours {}", pack.named(pools, roomy[0].0));
            Answer::new(unit, Decision::Preferred(places), "NoPoolFits", message)
        }
    }
}
