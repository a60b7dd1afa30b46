//! The layout of an artifact: one manifest, one config, exactly one layer with the component.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;
use wasmparser::{Parser, Payload};

/// Media type of the manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of the config.
pub const CONFIG: &str = "application/vnd.wasm.config.v0+json";
/// Media type of the only layer.
pub const LAYER: &str = "application/wasm";

/// A part of an artifact, as a manifest names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the bytes are.
    pub media_type: String,
    /// `sha256:` and the hexadecimal digest of the bytes.
    pub digest: String,
    /// How many there are.
    pub size: u64,
    /// What else is said about them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A manifest as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u8,
    /// What the manifest says it is; older tools leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The config.
    pub config: Descriptor,
    /// The layers.
    #[serde(default)]
    pub layers: Vec<Descriptor>,
    /// What else is said about the artifact.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// An artifact that has the layout of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Digest of the manifest: what a policy object names and what is signed.
    pub digest: String,
    /// The layer with the component.
    pub layer: Descriptor,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
}

/// Why something in a registry is no policy.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The manifest can't be read.
    #[error("the manifest can't be read ({0}); a policy is an {MANIFEST}")]
    Unreadable(String),
    /// It is an index, an image of other tools, or something else.
    #[error("the {what} is of type {found:?}, and a policy's is {wanted:?}; push the component with `muster policy push`")]
    MediaType {
        /// Which part: manifest, config or layer.
        what: &'static str,
        /// What the registry has.
        found: String,
        /// What a policy has.
        wanted: &'static str,
    },
    /// There is not exactly one layer.
    #[error("the artifact has {0} layers, and a policy has exactly one, of type {LAYER:?}")]
    Layers(usize),
    /// The layer is named by something other than a SHA-256 digest.
    #[error("the layer's digest is {0:?}; it must be sha256: and 64 hexadecimal digits")]
    Digest(String),
}

/// Reads the manifest of a policy whose digest was checked already.
///
/// # Errors
/// When the artifact has another layout; the message names ours.
pub fn read(digest: &str, manifest: &[u8]) -> Result<Artifact, LayoutError> {
    let wrong = |what, found: &str, wanted| LayoutError::MediaType { what, found: found.to_owned(), wanted };
    let value: serde_json::Value =
        serde_json::from_slice(manifest).map_err(|error| LayoutError::Unreadable(error.to_string()))?;
    // Said first: an index has neither config nor layers, and "missing field" would tell nobody what to do.
    match value.get("mediaType").and_then(serde_json::Value::as_str) {
        Some(MANIFEST) | None => {}
        Some(other) => return Err(wrong("manifest", other, MANIFEST)),
    }
    let manifest: Manifest = serde_json::from_value(value).map_err(|error| LayoutError::Unreadable(error.to_string()))?;
    if manifest.config.media_type != CONFIG {
        return Err(wrong("config", &manifest.config.media_type, CONFIG));
    }
    let [layer] = manifest.layers.as_slice() else { return Err(LayoutError::Layers(manifest.layers.len())) };
    if layer.media_type != LAYER {
        return Err(wrong("layer", &layer.media_type, LAYER));
    }
    if !is_digest(&layer.digest) {
        return Err(LayoutError::Digest(layer.digest.clone()));
    }
    Ok(Artifact { digest: digest.to_owned(), layer: layer.clone(), annotations: manifest.annotations })
}

/// Whether a text is `sha256:` and 64 small hexadecimal digits.
#[must_use]
pub fn is_digest(text: &str) -> bool {
    let hex = text.strip_prefix("sha256:").unwrap_or_default();
    hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// The manifest and the config of a component, as they are pushed. The same component and annotations give the same bytes.
#[must_use]
pub fn write(component: &[u8], annotations: &BTreeMap<String, String>) -> (Vec<u8>, Vec<u8>) {
    let (imports, exports) = interfaces(component);
    let layer = crate::digest(component);
    let config = json!({
        "architecture": "wasm",
        "os": "wasip2",
        "layerDigests": [layer],
        "component": { "imports": imports, "exports": exports, "target": null },
    });
    let config = config.to_string().into_bytes();
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(MANIFEST.to_owned()),
        config: descriptor(CONFIG, &config),
        layers: vec![descriptor(LAYER, component)],
        annotations: annotations.clone(),
    };
    (json!(manifest).to_string().into_bytes(), config)
}

/// Names some bytes.
#[must_use]
pub fn descriptor(media_type: &str, bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest: crate::digest(bytes),
        size: bytes.len() as u64,
        annotations: BTreeMap::new(),
    }
}

/// Names of what a component imports and exports: a hint for those who look at the registry, never trusted.
fn interfaces(component: &[u8]) -> (Vec<String>, Vec<String>) {
    let (mut imports, mut exports, mut depth) = (Vec::new(), Vec::new(), 0_usize);
    for payload in Parser::new(0).parse_all(component) {
        match payload {
            Ok(Payload::ComponentSection { .. } | Payload::ModuleSection { .. }) => depth += 1,
            Ok(Payload::End(_)) => depth = depth.saturating_sub(1),
            Ok(Payload::ComponentImportSection(section)) if depth == 0 => {
                imports.extend(section.into_iter().flatten().map(|import| import.name.name.to_owned()));
            }
            Ok(Payload::ComponentExportSection(section)) if depth == 0 => {
                exports.extend(section.into_iter().flatten().map(|export| export.name.name.to_owned()));
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    (imports, exports)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]
mod tests {
    use rstest::rstest;
    use serde_json::Value;

    use super::*;

    fn manifest(change: impl FnOnce(&mut Value)) -> Result<Artifact, String> {
        let (manifest, _) = write(b"component", &BTreeMap::new());
        let mut value: Value = serde_json::from_slice(&manifest).unwrap();
        change(&mut value);
        read("sha256:1", value.to_string().as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_written_can_be_read() {
        let artifact = manifest(|_| {}).unwrap();
        assert_eq!(artifact.layer.media_type, "application/wasm");
        assert_eq!(artifact.layer.size, 9);
        assert_eq!(artifact.layer.digest, "sha256:6985ca1f4daa5a584a28eae043a239cb96689af1337ea13afb63e00c2bf512fa");
    }

    #[rstest]
    #[case(
        "/mediaType",
        "application/vnd.oci.image.index.v1+json",
        "the manifest is of type \
        \"application/vnd.oci.image.index.v1+json\", and a policy's is \"application/vnd.oci.image.manifest.v1+json\""
    )]
    #[case(
        "/config/mediaType",
        "application/vnd.wasm.config.v1+json",
        "the config is of type \
        \"application/vnd.wasm.config.v1+json\", and a policy's is \"application/vnd.wasm.config.v0+json\""
    )]
    #[case(
        "/layers/0/mediaType",
        "application/vnd.wasm.content.layer.v1+wasm",
        "the layer is of type \
        \"application/vnd.wasm.content.layer.v1+wasm\", and a policy's is \"application/wasm\""
    )]
    #[case("/layers/0/digest", "md5:1", "the layer's digest is \"md5:1\"; it must be sha256: and 64 hexadecimal digits")]
    fn another_layout_is_refused_with_ours(#[case] place: &str, #[case] found: &str, #[case] expected: &str) {
        let refusal = manifest(|value| *value.pointer_mut(place).unwrap() = found.into()).unwrap_err();
        assert!(refusal.starts_with(expected), "{refusal}");
    }

    #[test]
    fn two_layers_are_one_too_many() {
        let twice = |value: &mut Value| {
            let layer = value["layers"][0].clone();
            value["layers"].as_array_mut().unwrap().push(layer);
        };
        assert_eq!(
            manifest(twice).unwrap_err(),
            "the artifact has 2 layers, and a policy has exactly one, of type \"application/wasm\""
        );
    }
}
