//! Components from registries, and from the copies that are kept of what registries gave.
//!
//! ```text
//!  registry ─► read ─► verify ─► component ─► a copy is kept
//!     │ can't be reached: nothing else
//!     └─► copy ─► read ─► verify ─► component, and the registry is asked again
//! ```

mod kept;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use muster_api::policy::{OciSource, PolicySpec};
use muster_policy_oci::read::{self, Read};
use muster_policy_oci::{Copying, Options, Reference, Registry, RegistryError, VerificationPolicy, verify};

pub(crate) use self::kept::Kept;
use super::source::{Before, Origin, Retry, Sourced, credentials, fault, trusted};
use super::status::{Fault, Verification};
use crate::context::Context;

/// How long a registry has for everything about one policy: its manifest, its signatures and its component.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it has when nothing of the policy is loaded and a copy could be: less than sets wait for policies after a start.
const BRIEF: Duration = Duration::from_secs(12);

/// A component from a registry, or `None` when it is what it was. What it is never changes under its digest; whom to believe about it
/// may.
pub(super) async fn fetch(cx: &Context, spec: &PolicySpec, source: &OciSource, before: Option<Before<'_>>) -> Option<Sourced> {
    let trusted = trusted(cx, spec.verify.as_ref()).await;
    let trust = trusted.as_ref().map_or_else(|fault| fault.message.clone(), |(_, trust)| trust.clone());
    let origin = Origin::Registry(trust.clone());
    let retry = before.as_ref().filter(|before| before.spec == spec).and_then(|before| before.retry);
    let early = retry.is_some_and(|retry| retry.trust == trust && Instant::now() < retry.at);
    if early || before.as_ref().is_some_and(|before| before.is(spec, &origin)) {
        return None;
    }
    let wanted = Wanted {
        trusted: trusted.map(|(policy, _)| policy),
        allow_unsigned: cx.config.policy_host.allow_unsigned,
        max_bytes: cx.config.policy_host.max_component_bytes,
    };
    let (read, kept) = match pull(cx, source, &wanted, before.is_none()).await {
        Ok((read, kept)) => (Ok(read), kept),
        Err(fault) => (Err(fault), None),
    };
    // A policy whose bytes are a copy's is asked for again as one that has none is.
    let failed = read.is_err() || kept.is_some();
    let verification = read.as_ref().map_or(Verification::NotAsked, |read| read.verification.clone());
    Some(Sourced {
        retry: failed.then(|| Retry::after(retry, &trust, Instant::now())),
        origin: match &read {
            Ok(_) if kept.is_some() => Origin::Kept,
            Ok(_) => origin,
            Err(_) => Origin::Missing,
        },
        bytes: read.map(|read| read.component),
        artifact: Some(source.digest.clone()),
        verification,
        kept,
    })
}

/// What is asked of a policy's artifact, wherever it is read from.
struct Wanted {
    trusted: Result<Option<VerificationPolicy>, Fault>,
    allow_unsigned: bool,
    max_bytes: usize,
}

/// What was read, and judged well.
#[derive(Debug)]
struct Verified {
    component: Arc<[u8]>,
    verification: Verification,
}

/// Why nothing was.
#[derive(Debug)]
enum Failure {
    /// The place doesn't give it.
    Place(RegistryError),
    /// It may not be used.
    Refused(Fault),
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        Self::Place(error)
    }
}

impl Failure {
    fn fault(self) -> Fault {
        match self {
            Self::Place(error) => not_fetched(&error),
            Self::Refused(fault) => fault,
        }
    }
}

/// Pulls what the object says, from the registry that it names or from the copy of that.
async fn pull(cx: &Context, source: &OciSource, wanted: &Wanted, first: bool) -> Result<(Verified, Option<String>), Fault> {
    let image = &source.image;
    let parsed = image.parse::<Reference>();
    let invalid = |error| fault("Fetched", "InvalidSpec", format!("spec.source.oci.image: Invalid value: {image:?}: {error}"));
    let reference = parsed.map_err(invalid)?.clone_with_digest(source.digest.clone());
    let options = Options {
        plain_http: cx.config.policy_host.plain_http_registries.clone(),
        max_component_bytes: wanted.max_bytes,
        timeout: Duration::from_secs(20),
        attempts: 2,
    };
    let registry = Registry::new(options, &credentials(cx, source, &reference).await?).map_err(|error| not_fetched(&error))?;
    read_or_copied(&registry, &cx.policies.kept, &reference, wanted, first).await
}

/// Reads from the registry or, when that can't be reached, from the copy that was kept; then with the reason. `first`: nothing of the
/// policy is loaded yet.
async fn read_or_copied(
    registry: &Registry,
    kept: &Kept,
    reference: &Reference,
    wanted: &Wanted,
    first: bool,
) -> Result<(Verified, Option<String>), Fault> {
    let copy = kept.find(reference).await;
    let patience = if first && copy.as_ref().is_some_and(Result::is_ok) { BRIEF } else { PATIENCE };
    let copying = Copying::new(registry);
    let pulled = tokio::time::timeout(patience, judged(&copying, reference, wanted)).await;
    let late = |_| Err(RegistryError::Timeout { registry: reference.registry().to_owned(), limit: patience }.into());
    let error = match pulled.unwrap_or_else(late) {
        Ok(read) => {
            kept.keep(reference, copying.copy(reference, Timestamp::now())).await;
            return Ok((read, None));
        }
        // Only a registry that says nothing is stood in for: whatever it says about the policy counts.
        Err(Failure::Place(error)) if error.is_transient() => error,
        Err(failure) => return Err(failure.fault()),
    };
    let unused = |why: String| {
        let unreachable = not_fetched(&error);
        fault(
            unreachable.condition,
            unreachable.reason,
            format!("{}; the copy that was kept can't be used: {why}", unreachable.message),
        )
    };
    match copy {
        None => Err(not_fetched(&error)),
        Some(Err(why)) => Err(unused(format!("{why}; it was removed"))),
        Some(Ok(copy)) => {
            let fetched = copy.fetched();
            let read = from_copy(kept, &copy, reference, wanted).await.map_err(unused)?;
            let message = format!("spec.source.oci: {error}; the copy of {fetched:.0} is used, and the registry is asked again");
            Ok((read, Some(message)))
        }
    }
}

/// Reads from a kept copy as from a registry. One that isn't what the registry gave is removed.
async fn from_copy(kept: &Kept, copy: &impl Read, reference: &Reference, wanted: &Wanted) -> Result<Verified, String> {
    match judged(copy, reference, wanted).await {
        Ok(read) => Ok(read),
        Err(Failure::Place(error @ (RegistryError::Digest { .. } | RegistryError::Layout(_) | RegistryError::Missing(_)))) => {
            kept.discard(reference, error.to_string()).await;
            Err(format!("{error}; it was removed"))
        }
        // Whom the spec trusts may change again, and then the copy may be of use.
        Err(failure) => Err(failure.fault().message),
    }
}

/// Reads a component from some place, after it was verified. What isn't is not even read, let alone compiled.
async fn judged(from: &impl Read, reference: &Reference, wanted: &Wanted) -> Result<Verified, Failure> {
    let artifact = read::artifact(from, reference).await?;
    let trusted = wanted.trusted.as_ref().map_err(|fault| Failure::Refused(fault.clone()))?;
    let verification = match trusted {
        Some(policy) => {
            let signatures = read::signatures(from, reference, &artifact.digest).await?;
            let signer = verify(&artifact.digest, &signatures, policy);
            let refused = |error: muster_policy_oci::VerifyError| fault("Verified", "NotTrusted", error.to_string());
            Verification::By(signer.map_err(|error| Failure::Refused(refused(error)))?.to_string())
        }
        None if wanted.allow_unsigned => Verification::NotAsked,
        None => {
            let message = "spec.verify: Required value: this operator takes components from registries only from signers that are named; \
                           list one under spec.verify, or allow unsigned ones with the chart's value policyHost.allowUnsigned";
            return Err(Failure::Refused(fault("Verified", "SignerNotNamed", message)));
        }
    };
    let component = read::component(from, reference, &artifact, wanted.max_bytes).await?;
    Ok(Verified { component: Arc::from(component), verification })
}

fn not_fetched(error: &RegistryError) -> Fault {
    let reason = match error {
        RegistryError::Unavailable { .. } | RegistryError::Timeout { .. } => "RegistryUnavailable",
        RegistryError::Unauthorized { .. } => "Unauthorized",
        RegistryError::Missing(_) => "SourceMissing",
        RegistryError::Digest { .. } => "DigestMismatch",
        RegistryError::TooLarge { .. } => "TooLarge",
        RegistryError::Layout(_) => "NotAPolicy",
        RegistryError::Client(_) | RegistryError::Refused { .. } => "FetchFailed",
    };
    // What a registry without TLS answers is no TLS; a client of the API can't know that, and has no word for the way out.
    let told = match error {
        RegistryError::Unavailable { registry, .. } if error.lacks_tls() => format!(
            "{registry} does not speak TLS; if that is as it should be, list it under the chart's value policyHost.plainHttpRegistries"
        ),
        other => other.to_string(),
    };
    fault("Fetched", reason, format!("spec.source.oci: {told}"))
}
