//! What a component is, read from its bytes: no engine needed.

use muster_policy_host::AcceptError;
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
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(wrong)? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    anatomy.imports.push(import.map_err(wrong)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    anatomy.exports.push(export.map_err(wrong)?.name.name.to_owned());
                }
            }
            Payload::CustomSection(section) => {
                if let wasmparser::KnownCustom::Producers(fields) = section.as_known() {
                    producers(fields, &mut anatomy.producers);
                }
                let (name, size) = (section.name().to_owned(), section.data().len());
                match anatomy.custom_sections.iter_mut().find(|known| known.name == name) {
                    Some(known) => known.bytes += size,
                    None => anatomy.custom_sections.push(CustomSection { name, bytes: size }),
                }
            }
            _ => {}
        }
    }
    anatomy.custom_sections.sort_by_key(|section| std::cmp::Reverse(section.bytes));
    Ok(anatomy)
}

/// A producers section that can't be read says nothing.
fn producers(fields: wasmparser::ProducersSectionReader<'_>, into: &mut Vec<String>) {
    for field in fields.into_iter().flatten() {
        for value in field.values.into_iter().flatten() {
            let line = format!("{}: {} {}", field.name, value.name, value.version).trim_end().to_owned();
            if !into.contains(&line) {
                into.push(line);
            }
        }
    }
}
