//! What a unit needs at every level.

use muster_placement_sdk::Unit;
use muster_placement_sdk::pack::{Division, WHOLE};

use crate::settings::{Level, Mode, Segment, Settings};

/// The settings, worked out for one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Demands {
    /// For every level: blocks of so many pods go inside one domain.
    pub(crate) blocks: Vec<u32>,
    /// Blocks that stay together if they can where nothing else is said: the unit's subgroups.
    pub(crate) block: u32,
    /// The leader is one more in the first block.
    pub(crate) leader_apart: bool,
}

/// The unit's demands, or why its pods can't be divided as the settings say.
pub(crate) fn demands(settings: &Settings, levels: &[&Level], unit: &Unit) -> Result<Demands, String> {
    let pods = unit.size();
    let division = Division::of(unit);
    let mut block = WHOLE;
    let mut blocks = Vec::with_capacity(levels.len());
    for level in levels {
        block = match level.segment {
            None => block,
            Some(Segment::Pods(pods)) => pods,
            Some(Segment::Subgroup) => division.map_or(block, |division| division.pods),
        };
        blocks.push(block);
    }
    let largest = blocks.iter().copied().filter(|block| *block != WHOLE).max();
    let leader_apart = match largest {
        None => division.is_some_and(|division| division.leader_apart),
        Some(largest) if division.is_some_and(|division| largest.is_multiple_of(division.pods)) => {
            division.is_some_and(|division| division.leader_apart)
        }
        Some(largest) => !pods.is_multiple_of(largest) && (pods - 1).is_multiple_of(largest),
    };
    let counted = pods - u32::from(leader_apart);
    let uneven = |pair: &&[u32]| pair[0] != WHOLE && pair[1] != WHOLE && !pair[0].is_multiple_of(pair[1]);
    if let Some(pair) = blocks.windows(2).find(uneven) {
        return Err(format!("segments of {} pods don't divide the wider level's segments of {}", pair[1], pair[0]));
    }
    if let Some(largest) =
        largest.filter(|largest| !counted.is_multiple_of(*largest) && counted > *largest && !settings.last_partial)
    {
        return Err(format!(
            "segments of {largest} pods don't divide a group of {pods}; change its size or the segment, or set lastPartial for a smaller last segment"
        ));
    }
    let block = division.filter(|division| division.leader_apart == leader_apart).map_or(1, |division| division.pods);
    Ok(Demands { blocks, block, leader_apart })
}

/// Which levels count, in the order in which they are tried: all of them, then without the nearest preferred one, and so on.
pub(crate) fn attempts(levels: &[&Level]) -> Vec<Vec<bool>> {
    let mut counts: Vec<bool> = vec![true; levels.len()];
    let mut attempts = vec![counts.clone()];
    for at in (0..levels.len()).rev().filter(|at| levels[*at].mode == Mode::Preferred) {
        counts[at] = false;
        attempts.push(counts.clone());
    }
    attempts
}
