//! The question and the answer on the wire: `AdmissionReview` of `admission.k8s.io/v1`.
//!
//! The answer is kube's type. The question is ours, because kube's reads objects as [`DynamicObject`], whose typed
//! metadata drops fields that it doesn't know; here an object is the JSON that was sent.

use json_patch::Patch;
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionResponse, AdmissionReview, Operation};
use kube::core::response::{Status, StatusCause, StatusDetails};
use muster_api::field::FieldError;
use serde::Deserialize;
use serde_json::Value;

/// What is asked. Fields that nobody here needs are left out.
#[derive(Debug, Deserialize)]
pub(super) struct Question {
    pub(super) request: Option<Request>,
}

/// One object on its way in.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Request {
    pub(super) uid: String,
    pub(super) operation: Operation,
    #[serde(default)]
    pub(super) namespace: Option<String>,
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) object: Option<Value>,
    #[serde(default)]
    pub(super) old_object: Option<Value>,
}

/// What a handler decides.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Answer {
    /// Changes to make; empty for none.
    pub(super) patch: Patch,
    /// Shown to whoever sent the object, accepted or not.
    pub(super) warnings: Vec<String>,
    /// Why the object is refused, if it is.
    pub(super) refusal: Option<Status>,
}

impl Answer {
    /// Let it in as it is.
    pub(super) fn allow() -> Self {
        Self::default()
    }

    /// Let it in with these changes.
    pub(super) fn change(patch: Patch) -> Self {
        Self { patch, ..Self::default() }
    }

    /// The object is wrong. Code and reason are those of controller-runtime's refusals, which upstream's users see.
    pub(super) fn refuse(message: &str) -> Self {
        Self { refusal: Some(Status::failure(message, "Forbidden").with_code(403)), ..Self::default() }
    }

    /// The object is wrong in these fields; beside the message, a program finds each of them as a cause.
    pub(super) fn refuse_fields(message: &str, errors: &[FieldError]) -> Self {
        let causes = errors.iter().map(|error| StatusCause {
            reason: reason_of(error).to_owned(),
            message: error.to_string(),
            field: error.path.clone(),
        });
        // Name, kind and the rest are known to whoever sent the object; only the causes are ours to tell.
        let [name, group, kind, uid] = [const { String::new() }; 4];
        let details = StatusDetails { name, group, kind, uid, causes: causes.collect(), retry_after_seconds: 0 };
        let status = Status::failure(message, "Forbidden").with_code(403).with_details(details);
        Self { refusal: Some(status), ..Self::default() }
    }

    /// We failed; the object may be good. Whoever sent it should try again.
    pub(super) fn fail(message: &str) -> Self {
        Self { refusal: Some(Status::failure(message, "InternalError").with_code(500)), ..Self::default() }
    }

    /// The answer as it is sent.
    pub(super) fn into_review(self, uid: String) -> AdmissionReview<DynamicObject> {
        let Self { patch, warnings, refusal } = self;
        // kube makes an empty response only this way round.
        let mut response = AdmissionResponse::invalid("");
        response.uid = uid;
        response.allowed = refusal.is_none();
        response.result = refusal.unwrap_or_else(Status::success);
        response.warnings = (!warnings.is_empty()).then_some(warnings);
        if response.allowed && !patch.0.is_empty() {
            return match response.clone().with_patch(patch) {
                Ok(response) => response.into_review(),
                Err(error) => Self::fail(&error.to_string()).into_review(response.uid),
            };
        }
        response.into_review()
    }
}

fn reason_of(error: &FieldError) -> &'static str {
    use muster_api::field::FieldErrorKind::{Forbidden, Invalid, NotSupported, Required};
    match error.kind {
        Required => "FieldValueRequired",
        Forbidden => "FieldValueForbidden",
        Invalid => "FieldValueInvalid",
        NotSupported => "FieldValueNotSupported",
    }
}
