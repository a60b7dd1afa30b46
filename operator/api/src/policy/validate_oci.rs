//! What a source in a registry, and those who must have signed it, must say.

use super::{EntryName, Keyless, OciSource, Verify, VerifyKey};
use crate::field::FieldError;
use crate::syntax::is_dns1123_subdomain;

const SOURCE: &str = "spec.source.oci";
const VERIFY: &str = "spec.verify";

pub(super) fn check_oci(source: &OciSource, errors: &mut Vec<FieldError>) {
    let OciSource { image, digest, pull_secrets } = source;
    let path = format!("{SOURCE}.image");
    if image.is_empty() {
        errors.push(FieldError::required(path, "registry and repository, such as \"registry.example/policies/racks\""));
    } else if image.contains("://") || image.contains('@') || image.contains(char::is_whitespace) || !image.contains('/') {
        let detail = "must be registry and repository, such as \"registry.example/policies/racks\"; the digest has its own field";
        errors.push(FieldError::invalid(path, image.as_str(), detail));
    }
    let path = format!("{SOURCE}.digest");
    let hex = digest.strip_prefix("sha256:").unwrap_or_default();
    if digest.is_empty() {
        let detail = "a tag may point elsewhere tomorrow; name the digest that `muster policy push` printed";
        errors.push(FieldError::required(path, detail));
    } else if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
        errors.push(FieldError::invalid(path, digest.as_str(), "must be \"sha256:\" and 64 hexadecimal digits"));
    }
    for (index, secret) in pull_secrets.iter().enumerate() {
        check_names(&format!("{SOURCE}.pullSecrets[{index}]"), &secret.namespace, &secret.name, errors);
    }
}

pub(super) fn check_verify(verify: &Verify, errors: &mut Vec<FieldError>) {
    if verify.keys.is_empty() && verify.keyless.is_none() {
        errors.push(FieldError::required(VERIFY, "list a signer under keys or keyless, or leave verify out"));
    }
    for (index, key) in verify.keys.iter().enumerate() {
        let path = format!("{VERIFY}.keys[{index}]");
        let VerifyKey { pem, config_map_ref, secret_ref } = key;
        match (pem, config_map_ref, secret_ref) {
            (Some(_), None, None) => {}
            (None, Some(entry), None) => check_entry(&format!("{path}.configMapRef"), entry, errors),
            (None, None, Some(entry)) => check_entry(&format!("{path}.secretRef"), entry, errors),
            (None, None, None) => errors.push(FieldError::required(path, "set one of pem, configMapRef, secretRef")),
            _ => errors.push(FieldError::forbidden(path, "a key is in one place: set one of pem, configMapRef, secretRef")),
        }
    }
    if let Some(keyless) = &verify.keyless {
        check_keyless(keyless, errors);
    }
}

fn check_keyless(keyless: &Keyless, errors: &mut Vec<FieldError>) {
    let Keyless { issuer, subject, subject_prefix, trust_root_ref } = keyless;
    let path = format!("{VERIFY}.keyless");
    if !issuer.starts_with("https://") {
        let detail = "must be the https:// URL of the identity provider";
        errors.push(FieldError::invalid(format!("{path}.issuer"), issuer.as_str(), detail));
    }
    match (subject, subject_prefix) {
        (Some(_), None) => {}
        (None, Some(prefix)) if prefix.ends_with('/') => {}
        (None, Some(prefix)) => {
            let detail = "must end in \"/\", so that no longer name begins so";
            errors.push(FieldError::invalid(format!("{path}.subjectPrefix"), prefix.as_str(), detail));
        }
        (None, None) => errors.push(FieldError::required(path.clone(), "set one of subject, subjectPrefix")),
        (Some(_), Some(_)) => {
            errors.push(FieldError::forbidden(format!("{path}.subjectPrefix"), "subject is set too; set one of them"));
        }
    }
    let path = format!("{path}.trustRootRef");
    match (&trust_root_ref.config_map_ref, &trust_root_ref.secret_ref) {
        (Some(entry), None) => check_entry(&format!("{path}.configMapRef"), entry, errors),
        (None, Some(entry)) => check_entry(&format!("{path}.secretRef"), entry, errors),
        (None, None) => {
            let detail = "set one of configMapRef, secretRef to Sigstore's trusted_root.json; it is never fetched";
            errors.push(FieldError::required(path, detail));
        }
        (Some(_), Some(_)) => errors.push(FieldError::forbidden(path, "set one of configMapRef, secretRef")),
    }
}

fn check_entry(path: &str, entry: &EntryName, errors: &mut Vec<FieldError>) {
    check_names(path, &entry.namespace, &entry.name, errors);
    if entry.key.is_empty() {
        errors.push(FieldError::required(format!("{path}.key"), "the key of the entry"));
    }
}

fn check_names(path: &str, namespace: &str, name: &str, errors: &mut Vec<FieldError>) {
    for (field, value) in [("namespace", namespace), ("name", name)] {
        let path = format!("{path}.{field}");
        if value.is_empty() {
            errors.push(FieldError::required(path, format!("the {field} of the object")));
        } else if !is_dns1123_subdomain(value) {
            errors.push(FieldError::invalid(path, value, "must consist of lower case letters, digits, '-' and '.'"));
        }
    }
}
