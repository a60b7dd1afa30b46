//! What has happened to the node table, for all that is derived from it and catches up when it is next asked for.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::node::Facts;

/// One thing that happened to one row. Rows are those of that moment: what comes later may move them.
#[derive(Debug)]
pub(crate) enum Change {
    /// Pods take more or less of the node than before.
    Room(u32),
    /// The node is not what it was.
    Facts { row: u32, before: Arc<Facts>, after: Arc<Facts> },
    /// There is a new node, and the rows from here on have moved by one.
    Came { row: u32, facts: Arc<Facts> },
    /// There is a node less, and the rows after it have moved back by one.
    Gone { row: u32, facts: Arc<Facts> },
}

impl Change {
    /// The node before and after, unless only its room has changed.
    pub(crate) fn facts(&self) -> impl Iterator<Item = &Facts> {
        let both: [Option<&Arc<Facts>>; 2] = match self {
            Self::Room(_) => [None, None],
            Self::Facts { before, after, .. } => [Some(before), Some(after)],
            Self::Came { facts, .. } | Self::Gone { facts, .. } => [Some(facts), None],
        };
        both.into_iter().flatten().map(AsRef::as_ref)
    }

    /// Whether a node came, went, or has another label of a key that is `seen`.
    pub(crate) fn moves(&self, seen: impl Fn(&String) -> bool) -> bool {
        match self {
            Self::Room(_) => false,
            Self::Came { .. } | Self::Gone { .. } => true,
            Self::Facts { before, after, .. } => {
                let differs = |key: &&String| before.labels.get(*key) != after.labels.get(*key);
                before.labels.keys().chain(after.labels.keys()).filter(differs).any(seen)
            }
        }
    }

    /// Whether rows have moved.
    pub(crate) fn moves_rows(&self) -> bool {
        matches!(self, Self::Came { .. } | Self::Gone { .. })
    }

    /// Moves rows as it has moved them.
    pub(crate) fn shift(&self, rows: &mut BTreeSet<u32>) {
        match self {
            Self::Room(_) | Self::Facts { .. } => {}
            Self::Came { row, .. } => {
                let later = rows.split_off(row);
                rows.extend(later.into_iter().map(|later| later + 1));
            }
            Self::Gone { row, .. } => {
                let later = rows.split_off(row);
                rows.extend(later.into_iter().filter(|later| later > row).map(|later| later - 1));
            }
        }
    }
}
