//! What a policy must say. Whether its component exists and likes its settings is found out when it is loaded.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::validate_oci::{check_oci, check_verify};
use super::{ConfigMapSource, PolicySource, PolicySpec};
use crate::field::FieldError;
use crate::syntax::{is_dns1123_subdomain, is_label_key};

/// Everything that is wrong with a policy's spec; empty when it can be loaded.
pub fn validate_policy(spec: &PolicySpec) -> Vec<FieldError> {
    let mut errors = Vec::new();
    check_source(&spec.source, &mut errors);
    if let Some(verify) = &spec.verify {
        if spec.source.oci.is_none() {
            let detail = "only a source in a registry (spec.source.oci) is signed; leave verify out";
            errors.push(FieldError::forbidden("spec.verify", detail));
        }
        check_verify(verify, &mut errors);
    }
    if let Some(settings) = &spec.settings
        && !settings.is_object()
    {
        errors.push(FieldError::invalid("spec.settings", settings.clone(), "must be an object"));
    }
    errors.extend(spec.deadline().err());
    errors.extend(spec.memory().err());
    if let Some(selector) = &spec.namespace_selector {
        check_selector(selector, &mut errors);
    }
    errors
}

fn check_source(source: &PolicySource, errors: &mut Vec<FieldError>) {
    let PolicySource { built_in, config_map, oci } = source;
    let set = [("builtIn", built_in.is_some()), ("configMap", config_map.is_some()), ("oci", oci.is_some())];
    let mut set = set.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| name);
    match (set.next(), set.next()) {
        (None, _) => errors.push(FieldError::required("spec.source", "set one of builtIn, configMap, oci")),
        (Some(first), Some(second)) => {
            let detail = format!("{first} is set too; a policy has exactly one source");
            errors.push(FieldError::forbidden(format!("spec.source.{second}"), detail));
        }
        (Some(_), None) => {}
    }
    if built_in.as_deref() == Some("") {
        errors.push(FieldError::required("spec.source.builtIn", "name a component that is part of the operator"));
    }
    if let Some(config_map) = config_map {
        check_config_map(config_map, errors);
    }
    if let Some(oci) = oci {
        check_oci(oci, errors);
    }
}

fn check_config_map(source: &ConfigMapSource, errors: &mut Vec<FieldError>) {
    let ConfigMapSource { namespace, name, key } = source;
    for (field, value) in [("namespace", namespace), ("name", name)] {
        let path = format!("spec.source.configMap.{field}");
        if value.is_empty() {
            errors.push(FieldError::required(path, format!("the {field} of the ConfigMap that holds the component")));
        } else if !is_dns1123_subdomain(value) {
            errors.push(FieldError::invalid(path, value.as_str(), "must consist of lower case letters, digits, '-' and '.'"));
        }
    }
    if key.is_empty() {
        errors.push(FieldError::required("spec.source.configMap.key", "the entry of binaryData that holds the component"));
    }
}

fn check_selector(selector: &LabelSelector, errors: &mut Vec<FieldError>) {
    for (index, requirement) in selector.match_expressions.iter().flatten().enumerate() {
        let path = format!("spec.namespaceSelector.matchExpressions[{index}]");
        let has_values = requirement.values.as_ref().is_some_and(|values| !values.is_empty());
        match (requirement.operator.as_str(), has_values) {
            ("In" | "NotIn", true) | ("Exists" | "DoesNotExist", false) => {}
            (operator @ ("In" | "NotIn"), false) => {
                errors.push(FieldError::required(format!("{path}.values"), format!("the operator {operator} needs values")));
            }
            (operator @ ("Exists" | "DoesNotExist"), true) => {
                errors.push(FieldError::forbidden(format!("{path}.values"), format!("the operator {operator} takes no values")));
            }
            (other, _) => {
                let supported = ["In", "NotIn", "Exists", "DoesNotExist"];
                errors.push(FieldError::not_supported(format!("{path}.operator"), other, &supported));
            }
        }
        if !is_label_key(&requirement.key) {
            errors.push(FieldError::invalid(format!("{path}.key"), requirement.key.as_str(), "must be the key of a label"));
        }
    }
    for key in selector.match_labels.iter().flatten().map(|(key, _)| key).filter(|key| !is_label_key(key)) {
        errors.push(FieldError::invalid("spec.namespaceSelector.matchLabels", key.as_str(), "must be the key of a label"));
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    #[rstest]
    #[case(json!({"builtIn": "node-pool"}))]
    #[case(json!({"configMap": {"namespace": "platform", "name": "policies", "key": "rack.wasm"}}))]
    #[case(json!({"oci": {"image": "registry.example:5000/policies/racks:1.2", "digest": DIGEST,
        "pullSecrets": [{"namespace": "platform", "name": "pull"}]}}))]
    fn one_source_is_enough(#[case] source: Value) {
        let spec: PolicySpec = serde_json::from_value(json!({"source": source})).unwrap();
        assert_eq!(validate_policy(&spec), []);
    }

    #[rstest]
    #[case(json!({"source": {}}), "spec.source: Required value: set one of builtIn, configMap, oci")]
    #[case(json!({"source": {"builtIn": "a", "configMap": {"namespace": "a", "name": "b", "key": "c"}}}),
        "spec.source.configMap: Forbidden: builtIn is set too; a policy has exactly one source")]
    #[case(json!({"source": {"builtIn": ""}}),
        "spec.source.builtIn: Required value: name a component that is part of the operator")]
    #[case(json!({"source": {"configMap": {"namespace": "", "name": "b", "key": "c"}}}),
        "spec.source.configMap.namespace: Required value: the namespace of the ConfigMap that holds the component")]
    #[case(json!({"source": {"configMap": {"namespace": "a", "name": "B", "key": "c"}}}),
        "spec.source.configMap.name: Invalid value: \"B\": must consist of lower case letters, digits, '-' and '.'")]
    #[case(json!({"source": {"configMap": {"namespace": "a", "name": "b", "key": ""}}}),
        "spec.source.configMap.key: Required value: the entry of binaryData that holds the component")]
    #[case(json!({"source": {"oci": {"image": "registry.example/racks:1.2"}}}), "spec.source.oci.digest: Required value: \
        a tag may point elsewhere tomorrow; name the digest that `muster policy push` printed")]
    #[case(json!({"source": {"oci": {"image": "registry.example/racks", "digest": "sha256:AB"}}}),
        "spec.source.oci.digest: Invalid value: \"sha256:AB\": must be \"sha256:\" and 64 hexadecimal digits")]
    #[case(json!({"source": {"oci": {"image": "https://registry.example/racks", "digest": DIGEST}}}),
        "spec.source.oci.image: Invalid value: \"https://registry.example/racks\": must be registry and repository, \
         such as \"registry.example/policies/racks\"; the digest has its own field")]
    #[case(json!({"source": {"builtIn": "a"}, "verify": {"keys": [{"pem": "k"}]}}), "spec.verify: Forbidden: \
        only a source in a registry (spec.source.oci) is signed; leave verify out")]
    #[case(json!({"source": {"oci": {"image": "a/b", "digest": DIGEST}}, "verify": {}}),
        "spec.verify: Required value: list a signer under keys or keyless, or leave verify out")]
    #[case(json!({"source": {"oci": {"image": "a/b", "digest": DIGEST}}, "verify": {"keys": [{}]}}),
        "spec.verify.keys[0]: Required value: set one of pem, configMapRef, secretRef")]
    #[case(json!({"source": {"oci": {"image": "a/b", "digest": DIGEST}}, "verify": {"keyless": {"issuer": "https://i",
        "subjectPrefix": "https://github.com/acme", "trustRootRef": {"configMapRef": {"namespace": "a", "name": "b", "key": "c"}}}}}),
        "spec.verify.keyless.subjectPrefix: Invalid value: \"https://github.com/acme\": must end in \"/\", so that no longer name begins so")]
    #[case(json!({"source": {"oci": {"image": "a/b", "digest": DIGEST}}, "verify": {"keyless": {"issuer": "https://i",
        "subject": "s", "trustRootRef": {}}}}), "spec.verify.keyless.trustRootRef: Required value: set one of \
        configMapRef, secretRef to Sigstore's trusted_root.json; it is never fetched")]
    #[case(json!({"source": {"builtIn": "a"}, "settings": [1]}), "spec.settings: Invalid value: [1]: must be an object")]
    #[case(json!({"source": {"builtIn": "a"}, "limits": {"deadline": "2s"}}),
        "spec.limits.deadline: Invalid value: \"2s\": must be a duration from 1ms to 500ms, such as \"50ms\"")]
    #[case(json!({"source": {"builtIn": "a"}, "namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "In"}]}}),
        "spec.namespaceSelector.matchExpressions[0].values: Required value: the operator In needs values")]
    #[case(json!({"source": {"builtIn": "a"}, "namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "Is"}]}}),
        "spec.namespaceSelector.matchExpressions[0].operator: Unsupported value: \"Is\": \
         supported values: \"In\", \"NotIn\", \"Exists\", \"DoesNotExist\"")]
    #[case(json!({"source": {"builtIn": "a"}, "namespaceSelector": {"matchLabels": {"a b": "c"}}}),
        "spec.namespaceSelector.matchLabels: Invalid value: \"a b\": must be the key of a label")]
    fn a_policy_that_cannot_be_loaded_says_why(#[case] spec: Value, #[case] expected: &str) {
        let spec: PolicySpec = serde_json::from_value(spec).unwrap();
        let errors: Vec<_> = validate_policy(&spec).iter().map(ToString::to_string).collect();
        assert_eq!(errors, [expected]);
    }
}
