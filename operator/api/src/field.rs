//! Errors that name a field, its value and what would be right; worded as the Kubernetes API words its own.

use std::fmt;

use serde_json::Value;

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldErrorKind {
    /// It is missing or empty.
    Required,
    /// Its value can't be.
    Invalid,
    /// It must not be set here.
    Forbidden,
    /// Its value is none of a closed list.
    NotSupported,
}

/// One thing that is wrong with an object.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// Path of the field, such as `spec.replicas` or `spec.containers[0].name`.
    pub path: String,
    /// What is wrong.
    pub kind: FieldErrorKind,
    /// The value as it was given; `null` when there is none.
    pub value: Value,
    /// What would be right.
    pub detail: String,
}

impl FieldError {
    /// The field is missing or empty.
    pub fn required(path: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { path: path.into(), kind: FieldErrorKind::Required, value: Value::Null, detail: detail.into() }
    }

    /// The field's value can't be.
    pub fn invalid(path: impl Into<String>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self { path: path.into(), kind: FieldErrorKind::Invalid, value: value.into(), detail: detail.into() }
    }

    /// The field must not be set here.
    pub fn forbidden(path: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { path: path.into(), kind: FieldErrorKind::Forbidden, value: Value::Null, detail: detail.into() }
    }

    /// The field's value is none of those that are supported.
    pub fn not_supported(path: impl Into<String>, value: impl Into<Value>, supported: &[&str]) -> Self {
        let list: Vec<_> = supported.iter().map(|value| format!("\"{value}\"")).collect();
        let detail = format!("supported values: {}", list.join(", "));
        Self { path: path.into(), kind: FieldErrorKind::NotSupported, value: value.into(), detail }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, kind, value, detail } = self;
        match kind {
            FieldErrorKind::Required => write!(f, "{path}: Required value")?,
            FieldErrorKind::Forbidden => write!(f, "{path}: Forbidden")?,
            FieldErrorKind::Invalid => write!(f, "{path}: Invalid value: {value}")?,
            FieldErrorKind::NotSupported => write!(f, "{path}: Unsupported value: {value}")?,
        }
        if detail.is_empty() { Ok(()) } else { write!(f, ": {detail}") }
    }
}

impl std::error::Error for FieldError {}

/// What validation says about an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Why the object is refused; empty when it is accepted.
    pub errors: Vec<FieldError>,
    /// What its author should know all the same.
    pub warnings: Vec<String>,
}

impl Verdict {
    /// Whether the object is accepted.
    pub fn is_accepted(&self) -> bool {
        self.errors.is_empty()
    }

    /// The message of a refusal: one error by itself, several in brackets, as the Kubernetes API lists them. `None` when the
    /// object is accepted.
    pub fn refusal(&self) -> Option<String> {
        match self.errors.as_slice() {
            [] => None,
            [error] => Some(error.to_string()),
            errors => {
                let list: Vec<_> = errors.iter().map(ToString::to_string).collect();
                Some(format!("[{}]", list.join(", ")))
            }
        }
    }
}
