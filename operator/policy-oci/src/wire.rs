//! Requests that read from registries. Whatever they are answered with, no more of it is read than was asked for.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_auth::parse_challenges;
use oci_client::errors::{OciEnvelope, OciErrorCode};
use reqwest::{Client, Response, Url};
use serde::Deserialize;

use crate::Reference;
use crate::credentials::Credentials;
use crate::registry::{Options, RegistryError, STALLED, USER_AGENT, chain};

/// Largest reply of a service that hands out tokens; usual ones have some thousand bytes.
const MAX_TOKEN_BYTES: usize = 256 << 10;
/// So much of what comes with a refusal is read, to find out why.
const MAX_REFUSAL_BYTES: usize = 16 << 10;
/// So much of it is said.
const MAX_REFUSAL_CHARS: usize = 300;

/// Something to be read.
pub(crate) struct Asked<'a> {
    /// The repository that it is of, in its registry.
    pub(crate) reference: &'a Reference,
    /// Where it is in the repository: `manifests/…`, `blobs/…`.
    pub(crate) path: String,
    /// Media types that are understood.
    pub(crate) accept: &'static str,
    /// How many bytes it may have.
    pub(crate) limit: usize,
    /// What messages call it.
    pub(crate) what: &'a str,
}

/// A client that reads, and introduces itself when a registry asks for that.
pub(crate) struct Wire {
    client: Client,
    credentials: Credentials,
    plain_http: Vec<String>,
    /// What to introduce oneself by, for each repository that asked.
    granted: Mutex<HashMap<String, HeaderValue>>,
}

impl Wire {
    pub(crate) fn new(options: &Options, credentials: &Credentials) -> Result<Self, RegistryError> {
        let client = Client::builder().connect_timeout(STALLED).read_timeout(STALLED).user_agent(USER_AGENT).build();
        Ok(Self {
            client: client.map_err(|error| RegistryError::Client(chain(&error)))?,
            credentials: credentials.clone(),
            plain_http: options.plain_http.clone(),
            granted: Mutex::default(),
        })
    }

    /// Reads something once.
    ///
    /// # Errors
    /// When it isn't given, or has more bytes than it may.
    pub(crate) async fn get(&self, asked: &Asked<'_>) -> Result<Vec<u8>, RegistryError> {
        let repository = format!("{}/{}", asked.reference.registry(), asked.reference.repository());
        let known = self.granted.lock().unwrap_or_else(PoisonError::into_inner).get(&repository).cloned();
        let mut response = self.send(asked, known).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            let granted = self.introduce(asked.reference, response.headers()).await?;
            response = self.send(asked, Some(granted.clone())).await?;
            if response.status() != StatusCode::UNAUTHORIZED {
                self.granted.lock().unwrap_or_else(PoisonError::into_inner).insert(repository, granted);
            }
        }
        let status = response.status();
        if !status.is_success() {
            return Err(refusal(asked.reference, status.as_u16(), &beginning(response).await));
        }
        bounded(asked.reference, response, asked.limit, asked.what).await
    }

    async fn send(&self, asked: &Asked<'_>, granted: Option<HeaderValue>) -> Result<Response, RegistryError> {
        let (registry, repository) = (asked.reference.resolve_registry(), asked.reference.repository());
        let scheme = if self.is_plain(registry) { "http" } else { "https" };
        let url = format!("{scheme}://{registry}/v2/{repository}/{}", asked.path);
        let mut request = self.client.get(url).header(ACCEPT, asked.accept);
        if let Some(granted) = granted {
            // A redirect to another host goes without it.
            request = request.header(AUTHORIZATION, granted);
        }
        request.send().await.map_err(|error| unreachable(asked.reference, &error))
    }

    fn is_plain(&self, registry: &str) -> bool {
        self.plain_http.iter().any(|plain| plain == registry)
    }

    /// Does what a registry asks of those who want to read: gets a token, or gives name and password.
    async fn introduce(&self, reference: &Reference, headers: &HeaderMap) -> Result<HeaderValue, RegistryError> {
        let texts: Vec<&str> = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).collect();
        let challenges: Vec<_> = texts.iter().flat_map(|text| parse_challenges(text).unwrap_or_default()).collect();
        if let Some(bearer) = challenges.iter().find(|challenge| challenge.scheme.eq_ignore_ascii_case("bearer")) {
            let said = |name: &str| bearer.params.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
            let said = |name: &str| said(name).map(|(_, value)| value.to_unescaped());
            let token = self.token(reference, &said("realm").unwrap_or_default(), said("service").as_deref()).await?;
            return secret(format!("Bearer {token}")).ok_or_else(|| unauthorized(reference));
        }
        let basic = challenges.iter().any(|challenge| challenge.scheme.eq_ignore_ascii_case("basic"));
        self.basic().filter(|_| basic).ok_or_else(|| unauthorized(reference))
    }

    /// Name and password, if there are any.
    fn basic(&self) -> Option<HeaderValue> {
        match &self.credentials {
            Credentials::Anonymous => None,
            Credentials::Basic { username, password } => {
                secret(format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
            }
        }
    }

    /// A token that lets its bearer read the repository.
    async fn token(&self, reference: &Reference, realm: &str, service: Option<&str>) -> Result<String, RegistryError> {
        #[derive(Deserialize)]
        struct Reply {
            token: Option<String>,
            access_token: Option<String>,
        }
        let refused = |why: String| RegistryError::Refused { registry: reference.registry().to_owned(), why };
        let mut url =
            Url::parse(realm).map_err(|error| refused(format!("it names no service for tokens ({realm:?}: {error})")))?;
        if url.scheme() != "https" && !self.is_plain(reference.resolve_registry()) {
            return Err(refused(format!("its tokens are handed out by {realm} without TLS, where passwords don't go")));
        }
        url.query_pairs_mut().append_pair("scope", &format!("repository:{}:pull", reference.repository()));
        if let Some(service) = service {
            url.query_pairs_mut().append_pair("service", service);
        }
        let mut request = self.client.get(url);
        if let Some(basic) = self.basic() {
            request = request.header(AUTHORIZATION, basic);
        }
        let response = request.send().await.map_err(|error| unreachable(reference, &error))?;
        let status = response.status();
        if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS {
            return Err(unauthorized(reference));
        }
        if !status.is_success() {
            return Err(refusal(reference, status.as_u16(), &beginning(response).await));
        }
        let what = format!("the token of {}", reference.registry());
        let reply = bounded(reference, response, MAX_TOKEN_BYTES, &what).await?;
        let reply: Reply = serde_json::from_slice(&reply).map_err(|error| refused(format!("{what} can't be read: {error}")))?;
        reply.token.or(reply.access_token).ok_or_else(|| refused(format!("{what} is not in the reply")))
    }
}

/// A header that stays out of logs.
fn secret(text: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The whole body, unless it has more than `limit` bytes: then no more than those are read.
async fn bounded(reference: &Reference, mut from: Response, limit: usize, what: &str) -> Result<Vec<u8>, RegistryError> {
    let too_large = || RegistryError::TooLarge { what: what.to_owned(), limit };
    // What the registry says is believed only when it refuses: the bytes are counted as they come.
    if from.content_length().is_some_and(|length| usize::try_from(length).map_or(true, |length| length > limit)) {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = from.chunk().await.map_err(|error| unreachable(reference, &error))? {
        if bytes.len() + chunk.len() > limit {
            return Err(too_large());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The beginning of what comes with a refusal, as far as it comes.
async fn beginning(mut from: Response) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = from.chunk().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() >= MAX_REFUSAL_BYTES {
            break;
        }
    }
    bytes.truncate(MAX_REFUSAL_BYTES);
    bytes
}

fn unreachable(reference: &Reference, error: &reqwest::Error) -> RegistryError {
    let (registry, why) = (reference.registry().to_owned(), chain(error));
    // Asking again changes nothing about these.
    if error.is_builder() || error.is_redirect() {
        return RegistryError::Refused { registry, why };
    }
    RegistryError::Unavailable { registry, why }
}

/// The registry wants other credentials.
pub(crate) fn unauthorized(reference: &Reference) -> RegistryError {
    RegistryError::Unauthorized { registry: reference.registry().to_owned(), repository: reference.repository().to_owned() }
}

/// What a status other than success means.
pub(crate) fn refusal(reference: &Reference, status: u16, body: &[u8]) -> RegistryError {
    if (400..500).contains(&status)
        && let Ok(envelope) = serde_json::from_slice::<OciEnvelope>(body)
        && let Some(error) = told(reference, &envelope)
    {
        return error;
    }
    let registry = reference.registry().to_owned();
    let said: String = String::from_utf8_lossy(body).trim().chars().take(MAX_REFUSAL_CHARS).collect();
    let why = format!("HTTP {status} {said}").trim_end().to_owned();
    match status {
        401 | 403 => unauthorized(reference),
        404 => RegistryError::Missing(reference.whole()),
        408 | 429 | 500.. => RegistryError::Unavailable { registry, why },
        _ => RegistryError::Refused { registry, why },
    }
}

/// What the errors that a registry names mean; nothing when they are none that say more than the status.
pub(crate) fn told(reference: &Reference, envelope: &OciEnvelope) -> Option<RegistryError> {
    let has = |codes: &[OciErrorCode]| envelope.errors.iter().any(|error| codes.contains(&error.code));
    let missing = [OciErrorCode::ManifestUnknown, OciErrorCode::NameUnknown, OciErrorCode::NotFound, OciErrorCode::BlobUnknown];
    if has(&[OciErrorCode::Unauthorized, OciErrorCode::Denied]) {
        Some(unauthorized(reference))
    } else if has(&missing) {
        Some(RegistryError::Missing(reference.whole()))
    } else if has(&[OciErrorCode::Toomanyrequests]) {
        Some(RegistryError::Unavailable { registry: reference.registry().to_owned(), why: envelope.to_string() })
    } else {
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_goes_to_no_service_for_tokens_without_tls() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let credentials = Credentials::Basic { username: "puller".to_owned(), password: "secret".to_owned() };
        let wire = Wire::new(&Options::default(), &credentials).unwrap();
        let reference = "registry.example/racks:1".parse().unwrap();
        let challenge = HeaderValue::from_static("Bearer realm=\"http://tokens.example/token\"");
        let said = wire.introduce(&reference, &[(WWW_AUTHENTICATE, challenge)].into_iter().collect()).await.unwrap_err();
        let expected =
            "registry.example: its tokens are handed out by http://tokens.example/token without TLS, where passwords don't go";
        assert_eq!(said.to_string(), expected);
    }

    #[test]
    fn what_a_registry_says_is_told_by_its_code_or_else_by_the_status() {
        let reference = "registry.example/racks:1".parse().unwrap();
        let said = |status, body: &str| refusal(&reference, status, body.as_bytes()).to_string();
        let denied = r#"{"errors":[{"code":"DENIED","message":"no"}]}"#;
        assert!(said(400, denied).starts_with("registry.example lets nobody read racks with these credentials"));
        assert_eq!(said(404, ""), "registry.example/racks:1 does not exist");
        assert_eq!(said(503, "busy\n"), "registry.example can't be used now: HTTP 503 busy");
        assert_eq!(said(429, "slower"), "registry.example can't be used now: HTTP 429 slower");
        assert_eq!(said(418, "tea"), "registry.example: HTTP 418 tea");
    }
}
