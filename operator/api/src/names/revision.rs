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

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::testing::set;

    const PATCH: &str = r#"{"spec":{"leaderWorkerTemplate":{"$patch":"replace","restartPolicy":"RecreateGroupOnPodRestart","size":4,"workerTemplate":{"metadata":{"labels":{"a":"1","b":"2"}},"spec":{"containers":[{"image":"nginx","name":"worker"}]}}},"networkConfig":{"$patch":"replace","subdomainPolicy":"Shared"}}}"#;

    // The hashes were computed with hash/fnv of Go and SafeEncodeString of k8s.io/apimachinery v0.36.3.
    #[rstest]
    #[case("", "65bb57b6b5")]
    #[case("a", "d8bfb88b")]
    #[case("foobar", "d7cd9cdf4")]
    #[case(PATCH, "5746dd695b")]
    fn a_revision_key_is_upstreams_hash(#[case] patch: &str, #[case] expected: &str) {
        assert_eq!(revision_hash(patch.as_bytes()), expected);
    }

    #[test]
    fn a_revision_holds_template_and_network_with_sorted_keys() {
        let spec = json!({
            "replicas": 7,
            "startupPolicy": "LeaderReady",
            "leaderWorkerTemplate": {
                "workerTemplate": {
                    "spec": {"containers": [{"name": "worker", "image": "nginx"}]},
                    "metadata": {"labels": {"b": "2", "a": "1"}},
                },
                "size": 4,
                "restartPolicy": "RecreateGroupOnPodRestart",
            },
        });
        let patch = revision_patch(&set(spec).spec).unwrap();
        assert_eq!(patch.to_string(), PATCH);
    }

    #[test]
    fn a_revision_is_named_after_set_key_and_number() {
        assert_eq!(revision_name("vllm", "5746dd695b", 3), "vllm-5746dd695b-3");
        assert_eq!(revision_name(&"a".repeat(230), "k", 1).len(), 224);
    }
}
