//! What a template means, whoever wrote it down.
//!
//! Upstream's revisions went through Go structs: zero values are left out, quantities are spelled anew, structs without content
//! are printed. A set's own spec is what its author typed. Both are brought to one form here, so that taking a set over starts no
//! rollout, while everything that the API server would tell apart stays apart.

use serde_json::{Map, Value, json};

use crate::cluster::amounts;

/// Structs that Go prints when they are empty, and that say nothing when they are; and maps that are the same empty as absent.
const EMPTY_OBJECTS: [&str; 11] = [
    "annotations",
    "labels",
    "limits",
    "matchLabels",
    "metadata",
    "nodeSelector",
    "overhead",
    "requests",
    "resources",
    "securityContext",
    "status",
];
/// Maps from names to text: an empty text in them is a value like any other.
const TEXT_MAPS: [&str; 6] = ["annotations", "labels", "matchLabels", "nodeSelector", "options", "volumeAttributes"];
/// Texts that mean something when they are empty: "no storage class", rather than the default one.
const EMPTY_TEXTS: [&str; 2] = ["storageClassName", "volumeAttributesClassName"];
/// Fields of pods and volumes that Go holds by value, so that `false` and absent are the same to it. (Others, such as
/// `automountServiceAccountToken`, are `true` when absent.)
const FALSE_IS_ABSENT: [&str; 9] =
    ["chapAuthDiscovery", "chapAuthSession", "hostIPC", "hostNetwork", "hostPID", "readOnly", "stdin", "stdinOnce", "tty"];
/// Numbers likewise.
const ZERO_IS_ABSENT: [&str; 7] =
    ["failureThreshold", "hostPort", "initialDelaySeconds", "partition", "periodSeconds", "successThreshold", "timeoutSeconds"];
/// Maps from resources to quantities.
const QUANTITY_MAPS: [&str; 3] = ["limits", "overhead", "requests"];
/// Single quantities.
const QUANTITIES: [&str; 2] = ["divisor", "sizeLimit"];

/// One form for all ways to write the same template.
pub(super) fn of(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(fields.iter().filter_map(|(name, value)| field(name, value)).collect()),
        Value::Array(items) => Value::Array(items.iter().map(of).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// A field in that form; `None` if it says nothing.
fn field(name: &str, value: &Value) -> Option<(String, Value)> {
    let told = match value {
        Value::Object(entries) if QUANTITY_MAPS.contains(&name) => Value::Object(quantities(entries)),
        Value::Object(entries) if TEXT_MAPS.contains(&name) => Value::Object(entries.clone()),
        _ if QUANTITIES.contains(&name) => quantity(value),
        _ => of(value),
    };
    let silent = match &told {
        Value::Null => true,
        Value::String(text) => text.is_empty() && !EMPTY_TEXTS.contains(&name),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty() && EMPTY_OBJECTS.contains(&name),
        Value::Bool(value) => !value && FALSE_IS_ABSENT.contains(&name),
        Value::Number(_) => told == json!(0) && ZERO_IS_ABSENT.contains(&name),
    };
    // A divisor that nobody set is printed as a quantity of zero.
    let unset_divisor = name == "divisor" && told == quantity(&json!("0"));
    (!silent && !unset_divisor && name != "$patch").then(|| (name.to_owned(), told))
}

fn quantities(entries: &Map<String, Value>) -> Map<String, Value> {
    entries.iter().map(|(resource, amount)| (resource.clone(), quantity(amount))).collect()
}

/// `1`, `"1"` and `"1000m"` are one amount.
fn quantity(value: &Value) -> Value {
    let nanos = match value {
        Value::String(text) => amounts::nanos(text),
        Value::Number(number) => amounts::nanos(&number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    nanos.map_or_else(|| value.clone(), |nanos| Value::String(format!("{nanos}n")))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::quantities_of_any_spelling(
        json!({"resources": {"limits": {"cpu": "1000m", "memory": "1024Mi", "nvidia.com/gpu": 8}}}),
        json!({"resources": {"limits": {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "8"}}})
    )]
    #[case::an_empty_text(json!({"env": [{"name": "A", "value": ""}]}), json!({"env": [{"name": "A"}]}))]
    #[case::lists_without_items(json!({"env": [], "name": "main"}), json!({"name": "main"}))]
    #[case::zero_values(
        json!({"hostNetwork": false, "readinessProbe": {"initialDelaySeconds": 0, "periodSeconds": 5}}),
        json!({"readinessProbe": {"periodSeconds": 5}})
    )]
    #[case::structs_that_go_prints(
        json!({"containers": [{"name": "main"}]}),
        json!({"metadata": {"creationTimestamp": null}, "status": {}, "containers": [{"name": "main", "resources": {}}]})
    )]
    #[case::a_divisor_that_nobody_set(
        json!({"resourceFieldRef": {"resource": "limits.cpu"}}),
        json!({"resourceFieldRef": {"resource": "limits.cpu", "divisor": "0"}})
    )]
    #[case::patch_directives(json!({"size": 2}), json!({"size": 2, "$patch": "replace"}))]
    fn both_ways_to_write_it_mean_the_same(#[case] one: Value, #[case] other: Value) {
        assert_eq!(of(&one), of(&other));
    }

    #[rstest]
    #[case::a_flag_that_is_on_by_default(json!({"automountServiceAccountToken": false}))]
    #[case::no_storage_class(json!({"storageClassName": ""}))]
    #[case::an_empty_label(json!({"labels": {"a": ""}}))]
    #[case::an_empty_volume(json!({"emptyDir": {}}))]
    #[case::a_selector_of_everything(json!({"labelSelector": {}}))]
    #[case::an_argument_without_text(json!({"args": [""]}))]
    #[case::a_grace_period_of_nothing(json!({"terminationGracePeriodSeconds": 0}))]
    fn what_is_not_the_same_as_absent_stays(#[case] value: Value) {
        assert_eq!(of(&value), value);
    }

    #[test]
    fn different_amounts_stay_different() {
        assert_ne!(of(&json!({"limits": {"cpu": "1"}})), of(&json!({"limits": {"cpu": "1001m"}})));
    }
}
