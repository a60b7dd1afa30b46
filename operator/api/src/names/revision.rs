//! Revisions: what a ControllerRevision of a set holds, and its hash.

use serde::Serialize;
use serde_json::{Value, json};

use crate::leader_worker_set::{LeaderWorkerSetSpec, SubdomainPolicy};

/// Longest part of a set's name that a revision's name keeps.
const NAME_PART: usize = 220;

/// What apimachinery's `SafeEncodeString` writes with: no vowels, so no words.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Data of the ControllerRevision of a spec: the strategic merge patch that restores its template and network, keys sorted.
///
/// The bytes are not those that upstream writes for the same set (its templates pass through Go structs, which add and drop empty
/// fields), so compare revisions by meaning, and keep the key that a leader StatefulSet already carries.
///
/// # Errors
/// When the spec can't be written as JSON; a spec that was read from JSON always can.
pub fn revision_patch(spec: &LeaderWorkerSetSpec) -> Result<Value, serde_json::Error> {
    let mut network = spec.network_config.clone().unwrap_or_default();
    network.subdomain_policy.get_or_insert(SubdomainPolicy::Shared);
    let mut patch = json!({"spec": {
        "leaderWorkerTemplate": replacing(&spec.leader_worker_template)?,
        "networkConfig": replacing(&network)?,
    }});
    // Does nothing while `serde_json` keeps its maps sorted; a dependency may switch that off for everybody (`preserve_order`).
    patch.sort_all_objects();
    Ok(patch)
}

fn replacing(part: &impl Serialize) -> Result<Value, serde_json::Error> {
    let mut value = serde_json::to_value(part)?;
    value["$patch"] = json!("replace");
    Ok(value)
}

/// Key of a revision: FNV-1 (not 1a) of the patch's bytes in 32 bits, its decimal digits spelled in an alphabet without vowels.
pub fn revision_hash(patch: &[u8]) -> String {
    let hash = patch.iter().fold(0x811c_9dc5_u32, |hash, byte| hash.wrapping_mul(0x0100_0193) ^ u32::from(*byte));
    hash.to_string().bytes().map(|digit| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()])).collect()
}

/// Name of the ControllerRevision of a set: the set's name (its first 220 characters), the revision's key and number.
pub fn revision_name(set: &str, key: &str, number: i64) -> String {
    let set: String = set.chars().take(NAME_PART).collect();
    format!("{set}-{key}-{number}")
}
