//! Scenarios as text: one line for each node and each expectation, so that a file of a thousand nodes can still be read.

use std::fmt::Write as _;

use serde_json::Value;

use super::Scenario;

/// Fields in the order in which a person reads them.
const ORDER: [&str; 14] = [
    "name",
    "description",
    "settings",
    "chain",
    "scope",
    "levels",
    "templates",
    "nodes",
    "shapes",
    "held",
    "request",
    "startup",
    "expect",
    "properties",
];

impl Scenario {
    /// The scenario as YAML that [`parse`](super::parse) reads back.
    pub fn to_yaml(&self) -> String {
        let Ok(Value::Object(fields)) = serde_json::to_value(self) else { return String::new() };
        let mut text = String::new();
        for name in ORDER {
            match fields.get(name) {
                None => {}
                Some(Value::Array(items)) if name != "levels" => {
                    let _ = writeln!(text, "{name}:");
                    for item in items {
                        let _ = writeln!(text, "  - {item}");
                    }
                }
                Some(Value::Object(entries)) if matches!(name, "templates" | "shapes" | "request" | "startup") => {
                    let _ = writeln!(text, "{name}:");
                    for (key, value) in entries {
                        let _ = writeln!(text, "  {}: {value}", Value::from(key.as_str()));
                    }
                }
                // JSON is YAML.
                Some(value) => {
                    let _ = writeln!(text, "{name}: {value}");
                }
            }
        }
        text
    }
}
