//! Settings documents as Rust types, with faults that name the field.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_path_to_error::{Path, Segment};

/// A fault in a settings document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// RFC 6901 JSON pointer; empty for the document itself.
    pub path: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Fault {
    /// A fault of the field that `path` points to.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

/// Settings of a policy that has nothing to set: every field is a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Reads a settings document. Derive `Deserialize` with `#[serde(deny_unknown_fields)]`: an unknown field is a misspelt one.
///
/// # Errors
/// The first fault that the type has with the document. Check the values that the type can't check afterwards.
pub fn parse<T: DeserializeOwned>(document: &str) -> Result<T, Fault> {
    let mut deserializer = serde_json::Deserializer::from_str(document);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = pointer(error.path());
        Fault { path, message: without_position(&error.into_inner().to_string()) }
    })
}

/// The fault of a field that should name a node label key, if it has one. `example` is a good key.
pub fn key_fault(path: &str, key: &str, example: &str) -> Option<Fault> {
    let is_good = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
    (!is_good).then(|| Fault::new(path, format!("{key:?} is not a label key; one looks like {example}")))
}

/// The faults of a list that should name node label keys, at least one and at most `most`, each once.
pub fn key_faults(path: &str, keys: &[String], most: usize, example: &str) -> Vec<Fault> {
    if keys.is_empty() {
        return vec![Fault::new(path, "name at least one node label key, or leave the field out")];
    }
    if keys.len() > most {
        return vec![Fault::new(path, format!("{} keys, and at most {most} are possible", keys.len()))];
    }
    let fault = |(position, key): (usize, &String)| {
        key_fault(&format!("{path}/{position}"), key, example).or_else(|| {
            let first = keys.iter().position(|other| other == key).filter(|first| *first < position)?;
            Some(Fault::new(format!("{path}/{position}"), format!("{key:?} is named at {path}/{first} already")))
        })
    };
    keys.iter().enumerate().filter_map(fault).collect()
}

/// `keys[0].name` as `/keys/0/name`.
fn pointer(path: &Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Segment::Unknown => {}
        }
    }
    pointer
}

/// The host writes the document in one line of its own, so that a line and a column mean nothing to its author.
fn without_position(message: &str) -> String {
    message.split(" at line ").next().unwrap_or(message).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Settings {
        #[serde(default)]
        keys: Vec<String>,
        #[serde(default)]
        shared: bool,
    }

    fn fault(document: &str) -> Fault {
        parse::<Settings>(document).unwrap_err()
    }

    #[test]
    fn a_wrong_value_is_pointed_to() {
        let expected = Fault::new("/keys/1", "invalid type: integer `7`, expected a string");
        assert_eq!(fault(r#"{"keys":["rack",7]}"#), expected);
    }

    #[test]
    fn an_unknown_field_is_pointed_to() {
        let expected = Fault::new("/shard", "unknown field `shard`, expected `keys` or `shared`");
        assert_eq!(fault(r#"{"shard":true}"#), expected);
    }

    #[test]
    fn where_nothing_can_be_set_every_field_is_a_fault() {
        assert_eq!(parse::<Nothing>("{}"), Ok(Nothing {}));
        assert_eq!(parse::<Nothing>(r#"{"mode":"fast"}"#).unwrap_err().path, "/mode");
    }

    #[test]
    fn a_slash_in_a_field_name_is_escaped() {
        assert_eq!(fault(r#"{"a/b":true}"#).path, "/a~1b");
    }

    #[test]
    fn another_kind_of_document_has_the_empty_pointer() {
        assert_eq!(fault("7"), Fault::new("", "invalid type: integer `7`, expected struct Settings"));
    }
}
