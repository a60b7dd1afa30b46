//! What `decide` is told about placement and startup: answers of policies, after they were checked.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::placement::Reason;
use crate::record::Record;

/// Advice for one set. It is never an error: a policy that fails has been replaced by its fallback before this is made.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Advice {
    /// For groups about which placement has something to say, by index.
    pub placements: BTreeMap<u32, Placement>,
    /// For groups with workers: how many worker ranks may exist now, counted from rank 1.
    pub workers: BTreeMap<u32, Admitted>,
    /// When to ask again even if nothing changes.
    pub recheck: Option<Duration>,
}

/// What is to become of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// Its leader goes where the record says, and so do its workers.
    Place(Record),
    /// Its leader is handed to the scheduler, kept out of the domains named.
    Release {
        /// What to write on the leader.
        record: Record,
        /// Domains of the record's level where it must not land: held by others, or too small for the whole group.
        not_in: Vec<String>,
    },
    /// Its leader was released and is bound where the whole group has room: that place is written down.
    Settle(Record),
    /// Its leader was bound by someone else; the workers follow it with this selector, as with upstream.
    Follow(BTreeMap<String, String>),
    /// Nothing is created or removed for it now.
    Hold(Reason),
    /// Its leader goes away so that the group is placed again.
    Again(Reason),
}

/// How much of a group may exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Worker pods, counted from rank 1.
    pub workers: u32,
    /// Why not all of them; unset when all are.
    pub reason: Option<Reason>,
}
