//! What a component is, read from its bytes: no engine needed.

use std::collections::{BTreeMap, BTreeSet};

use muster_policy_host::{AcceptError, message};
use serde::Serialize;
use wasmparser::{Parser, Payload};

/// A component, from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Anatomy {
    /// Its size.
    pub bytes: usize,
    /// `sha256:…`.
    pub digest: String,
    /// What it imports.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
    /// What made it: `processed-by: wit-component 0.263.0`.
    pub producers: Vec<String>,
    /// Its custom sections and their sizes; debug information is the largest.
    pub custom_sections: Vec<CustomSection>,
}

/// A custom section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CustomSection {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: usize,
}

/// Takes a component apart.
///
/// # Errors
/// When the bytes are not WebAssembly.
pub fn anatomy(bytes: &[u8]) -> Result<Anatomy, String> {
    // The operator's words for what is no WebAssembly at all.
    if let Err(AcceptError::NotWasm(why)) = muster_policy_host::kind_of(bytes) {
        return Err(format!("this is not WebAssembly: {why}"));
    }
    let mut anatomy = Anatomy {
        bytes: bytes.len(),
        digest: muster_policy_host::digest(bytes),
        imports: Vec::new(),
        exports: Vec::new(),
        producers: Vec::new(),
        custom_sections: Vec::new(),
    };
    let wrong = |error: wasmparser::BinaryReaderError| format!("this is not WebAssembly: {}", error.message());
    let mut depth = 0_u32;
    let mut sections: BTreeMap<&str, usize> = BTreeMap::new();
    let mut made: BTreeSet<String> = BTreeSet::new();
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(wrong)? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    anatomy.imports.push(message(import.map_err(wrong)?.name.name));
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    anatomy.exports.push(message(export.map_err(wrong)?.name.name));
                }
            }
            Payload::CustomSection(section) => {
                if let wasmparser::KnownCustom::Producers(fields) = section.as_known() {
                    producers(fields, &mut made);
                }
                *sections.entry(section.name()).or_default() += section.data().len();
            }
            _ => {}
        }
    }
    anatomy.producers = made.into_iter().collect();
    let section = |(name, bytes): (&str, usize)| CustomSection { name: message(name), bytes };
    anatomy.custom_sections = sections.into_iter().map(section).collect();
    anatomy.custom_sections.sort_by_key(|section| std::cmp::Reverse(section.bytes));
    Ok(anatomy)
}

/// A producers section that can't be read says nothing.
fn producers(fields: wasmparser::ProducersSectionReader<'_>, into: &mut BTreeSet<String>) {
    for field in fields.into_iter().flatten() {
        for value in field.values.into_iter().flatten() {
            into.insert(message(format!("{}: {} {}", field.name, value.name, value.version).trim_end()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An empty component with these custom sections, each of three bytes.
    fn component<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
        let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
        for name in names {
            let length = u8::try_from(name.len()).unwrap();
            bytes.extend([0, length + 4, length]);
            bytes.extend(name.bytes().chain([1, 2, 3]));
        }
        bytes
    }

    #[test]
    fn names_in_a_component_steer_no_terminal() {
        let anatomy = anatomy(&component(["\u{1b}]0;owned\u{7}\n\u{202e}live"])).unwrap();
        assert_eq!(anatomy.custom_sections, [CustomSection { name: " ]0;owned   live".to_owned(), bytes: 3 }]);
    }

    #[test]
    fn a_hundred_thousand_sections_are_counted_in_no_time() {
        let names: Vec<String> = (0..100_000).map(|number| format!("s{number}")).collect();
        let bytes = component(names.iter().map(String::as_str).chain(["s7"]));
        let started = std::time::Instant::now();
        let anatomy = anatomy(&bytes).unwrap();
        // Comparing every name with all before it takes a minute here.
        assert!(started.elapsed() < std::time::Duration::from_secs(10), "{:?}", started.elapsed());
        assert_eq!(anatomy.custom_sections.len(), 100_000);
        assert_eq!(anatomy.custom_sections[0], CustomSection { name: "s7".to_owned(), bytes: 6 });
    }
}
