//! Who pulls: what a `kubernetes.io/dockerconfigjson` Secret, or a user's Docker configuration, says about a registry.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// How to introduce oneself to a registry.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Credentials {
    /// Not at all.
    #[default]
    Anonymous,
    /// By name and password.
    Basic {
        /// The name.
        username: String,
        /// The password, or a token.
        password: String,
    },
}

/// The password stays out of logs.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Basic { username, .. } => f.debug_struct("Basic").field("username", username).finish_non_exhaustive(),
        }
    }
}

/// Why a Docker configuration can't be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// It is no configuration.
    #[error("it is no Docker configuration: line {line}, column {column}")]
    Unreadable {
        /// Line of the fault. What is there stays unsaid: it may be a password.
        line: usize,
        /// Column of the fault.
        column: usize,
    },
    /// `auth` is not the base64 of `name:password`.
    #[error("auths[{0:?}].auth must be the base64 of name:password")]
    Auth(String),
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    username: Option<String>,
    password: Option<String>,
    auth: Option<String>,
}

impl Credentials {
    /// What the configuration says about a registry; `None` when it says nothing. Of several entries the one with the longest path
    /// that the repository begins with is taken, as kubelets do.
    ///
    /// # Errors
    /// When the configuration can't be read.
    pub fn find(docker_config: &[u8], registry: &str, repository: &str) -> Result<Option<Self>, CredentialsError> {
        let config: DockerConfig = serde_json::from_slice(docker_config)
            .map_err(|error| CredentialsError::Unreadable { line: error.line(), column: error.column() })?;
        let wanted = format!("{}/{repository}/", normal(registry));
        let fitting = config.auths.iter().filter(|(key, _)| wanted.starts_with(&format!("{}/", normal(key))));
        let Some((key, entry)) = fitting.max_by_key(|(key, _)| normal(key).len()) else { return Ok(None) };
        entry.read(key).map(Some)
    }
}

impl Entry {
    fn read(&self, key: &str) -> Result<Credentials, CredentialsError> {
        if let (Some(username), Some(password)) = (&self.username, &self.password) {
            return Ok(Credentials::Basic { username: username.clone(), password: password.clone() });
        }
        let wrong = || CredentialsError::Auth(key.to_owned());
        let decoded = STANDARD.decode(self.auth.as_deref().unwrap_or_default().trim()).map_err(|_| wrong())?;
        let text = String::from_utf8(decoded).map_err(|_| wrong())?;
        let (username, password) = text.split_once(':').ok_or_else(wrong)?;
        Ok(Credentials::Basic { username: username.to_owned(), password: password.to_owned() })
    }
}

/// An entry's key without what it may say besides host and path: a scheme, a version, a slash at the end.
fn normal(key: &str) -> &str {
    let key = key.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let key = key.trim_end_matches("/v1").trim_end_matches("/v2");
    if key == "docker.io" { "index.docker.io" } else { key }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]
mod tests {
    use super::*;

    fn named(config: &str, registry: &str) -> Option<String> {
        match Credentials::find(config.as_bytes(), registry, "team/policy").unwrap()? {
            Credentials::Basic { username, password } => Some(format!("{username}/{password}")),
            Credentials::Anonymous => None,
        }
    }

    #[test]
    fn the_entry_of_the_registry_is_found_and_the_longest_path_wins() {
        let config = r#"{"auths": {
            "https://registry.example/v2/": {"username": "all", "password": "1"},
            "registry.example/team": {"auth": "dGVhbTpwYTpzcw=="},
            "registry.example/te": {"username": "no", "password": "2"},
            "docker.io": {"username": "hub", "password": "3"}}}"#;
        assert_eq!(named(config, "registry.example").as_deref(), Some("team/pa:ss"));
        assert_eq!(named(config, "index.docker.io").as_deref(), Some("hub/3"));
        assert_eq!(named(config, "registry.example.com"), None);
    }

    #[test]
    fn a_faulty_configuration_is_described_without_its_passwords() {
        let error = Credentials::find(br#"{"auths": {"a": {"password": 5ecret}}}"#, "a", "b").unwrap_err().to_string();
        assert_eq!(error, "it is no Docker configuration: line 1, column 32");
        let error = Credentials::find(br#"{"auths": {"a": {"auth": "c2VjcmV0"}}}"#, "a", "b").unwrap_err().to_string();
        assert_eq!(error, r#"auths["a"].auth must be the base64 of name:password"#);
        let shown = format!("{:?}", Credentials::Basic { username: "u".into(), password: "secret".into() });
        assert!(!shown.contains("secret"), "{shown}");
    }
}
