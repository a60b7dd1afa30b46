//! Which policies a set has chosen, and whether Muster places it at all.

use std::collections::BTreeMap;

use muster_api::names::{annotation, label};

/// The annotation value that says "no policy here", for a set in a namespace or a cluster that has a default.
pub const OPT_OUT: &str = "none";

/// What the operator falls back to when neither the set nor its namespace names a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    /// Name of the default `PlacementPolicy`, or several of them separated by commas, if there is one.
    pub placement: Option<String>,
    /// Name of the default `StartupPolicy`, if there is one.
    pub startup: Option<String>,
}

/// Who decides for one set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Names of the `PlacementPolicy` objects that place the groups of the set, each narrowing what the ones before it left open;
    /// empty when no policy does.
    pub placement: Vec<String>,
    /// Name of the `StartupPolicy` that admits the ranks of a group; `None` leaves it to `spec.startupPolicy`.
    pub startup: Option<String>,
    /// The node label key whose domains the set wants for its groups alone, from the exclusive-topology annotation.
    pub exclusive: Option<String>,
    /// The node label key whose domains the set wants for its subgroups alone, from the subgroup-exclusive-topology annotation;
    /// `None` for a set that Kueue manages.
    pub subgroup_exclusive: Option<String>,
    /// Whether Muster places the groups, and so whether admission gates their leaders. True when a policy or
    /// exclusivity asks for it, and never for a set that Kueue manages.
    pub gated: bool,
}

/// Reads the choice out of what the set and its namespace say.
///
/// For each kind of policy the first of these that is there decides: the annotation on the set, the same annotation on
/// the namespace, the operator's default. The value [`OPT_OUT`] (or an empty one) decides for *no* policy. Opting out of
/// policies does not lift exclusivity: that is a wish of the set itself and kept by the core without any policy. Placement policies
/// may be several, separated by commas, in the order in which they are asked.
#[must_use]
pub fn choose(
    set_annotations: &BTreeMap<String, String>,
    set_labels: &BTreeMap<String, String>,
    namespace_annotations: &BTreeMap<String, String>,
    defaults: &Defaults,
) -> Choice {
    let policy = |annotation: &str, default: &Option<String>| {
        [set_annotations, namespace_annotations]
            .into_iter()
            .find_map(|annotations| annotations.get(annotation))
            .or(default.as_ref())
            .filter(|name| !name.is_empty() && *name != OPT_OUT)
            .cloned()
    };
    // Kueue gates and places the pods of its sets itself, and two owners of one decision would undo each other's work.
    let foreign = set_labels.contains_key(label::KUEUE_QUEUE);
    let placement = policy(annotation::PLACEMENT_POLICY, &defaults.placement).filter(|_| !foreign);
    let placement = placement.map(|names| listed(&names)).unwrap_or_default();
    let key = |annotation: &str| set_annotations.get(annotation).filter(|key| !key.is_empty()).cloned();
    let exclusive = key(annotation::EXCLUSIVE_TOPOLOGY);
    let subgroup_exclusive = key(annotation::SUBGROUP_EXCLUSIVE_TOPOLOGY).filter(|_| !foreign);
    Choice {
        gated: !foreign && (!placement.is_empty() || exclusive.is_some() || subgroup_exclusive.is_some()),
        startup: policy(annotation::STARTUP_POLICY, &defaults.startup),
        placement,
        exclusive,
        subgroup_exclusive,
    }
}

/// The names in a list separated by commas, each once.
fn listed(names: &str) -> Vec<String> {
    let mut listed: Vec<String> = Vec::new();
    for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        if !listed.iter().any(|known| known == name) {
            listed.push(name.to_owned());
        }
    }
    listed
}
