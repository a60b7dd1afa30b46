//! Condition types, reasons and messages of a set, and the reasons of its events.
//!
//! People script against these texts, so they are upstream's to the letter, except for what upstream doesn't have.

/// Every group is ready.
pub const AVAILABLE: &str = "Available";
/// Groups are being created or becoming ready.
pub const PROGRESSING: &str = "Progressing";
/// A rolling update is under way.
pub const UPDATE_IN_PROGRESS: &str = "UpdateInProgress";
/// Muster's own: groups wait for a place. The message names each domain and its reason.
pub const PLACEMENT_PENDING: &str = "PlacementPending";

/// Muster's own: objects of somebody else have names that the set needs. The message says which, and whose they are.
pub const NAME_TAKEN: &str = "NameTaken";

/// Muster's own: the set's volume claim templates differ from those of its StatefulSets, which can't be changed.
pub const CLAIMS_DIFFER: &str = "VolumeClaimsDiffer";

/// Muster's own: groups have used up their budget of restarts. The message names them, what they lost, and the remedy.
pub const GROUPS_FAILED: &str = "GroupsFailed";

/// Muster's own: the set asks for exclusive placement and is in a queue of Kueue's, which does not know that. The message says what it
/// gets instead.
pub const EXCLUSIVITY_LOST: &str = "ExclusivityLost";

/// Reason of [`AVAILABLE`].
pub const REASON_ALL_GROUPS_READY: &str = "AllGroupsReady";
/// Reason of [`PROGRESSING`], and of events about objects that were created or deleted on the way.
pub const REASON_GROUPS_PROGRESSING: &str = "GroupsProgressing";
/// Reason of [`UPDATE_IN_PROGRESS`], and of events about groups that are being updated.
pub const REASON_GROUPS_UPDATING: &str = "GroupsUpdating";

/// Message of [`AVAILABLE`].
pub const MESSAGE_ALL_GROUPS_READY: &str = "All replicas are ready";
/// Message of [`PROGRESSING`].
pub const MESSAGE_GROUPS_PROGRESSING: &str = "Replicas are progressing";
/// Message of [`UPDATE_IN_PROGRESS`].
pub const MESSAGE_GROUPS_UPDATING: &str = "Rolling Upgrade is in progress";

/// Reasons of events.
pub mod event {
    /// A revision of the set was recorded.
    pub const CREATING_REVISION: &str = "CreatingRevision";
    /// The set went back to a revision that it had before (Muster's own).
    pub const REUSING_REVISION: &str = "ReusingRevision";
    /// The set's template was put back to an earlier revision, as its owner asked (Muster's own).
    pub const UNDONE: &str = "Undone";
    /// What its owner asked to go back to can't be had (Muster's own).
    pub const FAILED_UNDO: &str = "FailedUndo";
    /// Something was created, or a surplus group deleted.
    pub const GROUPS_PROGRESSING: &str = super::REASON_GROUPS_PROGRESSING;
    /// Groups are being moved to the current revision.
    pub const GROUPS_UPDATING: &str = super::REASON_GROUPS_UPDATING;
    /// An object that somebody changed or deleted was put back (Muster's own).
    pub const REPAIRED: &str = "Repaired";
    /// The volume claim of a worker that was scaled away was deleted (Muster's own).
    pub const CLAIM_DELETED: &str = "VolumeClaimDeleted";
    /// The set's volume claim templates can't be had (Muster's own).
    pub const CLAIMS_DIFFER: &str = super::CLAIMS_DIFFER;
    /// An object could not be created.
    pub const FAILED_CREATE: &str = "FailedCreate";
    /// An object could not be updated.
    pub const FAILED_UPDATE: &str = "FailedUpdate";
    /// A group was restarted as a whole.
    pub const RECREATE_GROUP: &str = "RecreateGroup";
    /// Why a group starts over: which pod it lost, and how (Muster's own; `RecreateGroup` follows).
    pub const GROUP_RESTARTING: &str = "GroupRestarting";
    /// A group has used up its budget of restarts (Muster's own).
    pub const GROUP_FAILED: &str = "GroupFailed";
    /// A group can't go because a pod of it stays longer than its grace (Muster's own).
    pub const TERMINATION_BLOCKED: &str = "TerminationBlocked";
    /// A group was given its place (Muster's own).
    pub const GROUP_PLACED: &str = "GroupPlaced";
    /// A group could not be given the place that was decided (Muster's own).
    pub const FAILED_PLACE: &str = "FailedPlace";
    /// A group gave its place up to be placed again (Muster's own).
    pub const PLACED_AGAIN: &str = "GroupPlacedAgain";
    /// The spec of a set that slipped past admission can't be worked with (Muster's own).
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// A policy failed and its fallback was used (Muster's own).
    pub const POLICY_FAILED: &str = "PolicyFailed";
    /// What a policy that is only observed would have done (Muster's own).
    pub const POLICY_OBSERVED: &str = "PolicyObserved";
    /// The API of the gang scheduler's PodGroups is not there (Muster's own).
    pub const GANG_UNAVAILABLE: &str = "GangUnavailable";
    /// A group that was not bound gave its gang up for another one (Muster's own).
    pub const GANG_CHANGED: &str = "GangChanged";
    /// Kueue places a set that asks for exclusive placement (Muster's own).
    pub const EXCLUSIVITY_LOST: &str = super::EXCLUSIVITY_LOST;
    /// Reporting controller of every event about a set.
    pub const REPORTING_CONTROLLER: &str = "leaderworkerset";
}
