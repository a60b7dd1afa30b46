//! The Secret that all replicas share. Whoever writes first decides; the others read what was written.

use std::collections::BTreeMap;
use std::time::SystemTime;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};

use super::CertsError;
use super::issue::carry_out;
use super::plan::{Contents, Step, plan};

const BUNDLE: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const CERT: &str = "tls.crt";
const KEY: &str = "tls.key";

/// How often a lost race is tried again before it is reported. Each replica writes once, so few are enough.
const ATTEMPTS: u32 = 5;

/// Reads the Secret and takes the next step if one is due; returns what the Secret holds now.
///
/// Writes are conditional on the Secret being as it was read (or not being there), so of two replicas that start
/// together one wins and the other reads the winner's certificates. A Secret that was deleted is made again from what
/// this replica has `known`, so that nobody has to learn a new authority for it.
///
/// # Errors
/// When the API server refuses, a certificate can't be made, or the race was lost five times in a row.
pub(crate) async fn converge(
    secrets: &Api<Secret>,
    name: &str,
    names: &[String],
    known: &Contents,
    now: SystemTime,
) -> Result<Contents, CertsError> {
    for _ in 0..ATTEMPTS {
        let found = secrets.get_opt(name).await.map_err(CertsError::api("reading the Secret", name))?;
        let contents = found.as_ref().map_or_else(|| known.clone(), contents_of);
        let step = plan(&contents, names, now);
        if step == Step::Keep && found.is_some() {
            return Ok(contents);
        }
        let next = carry_out(step, &contents, names, now)?;
        let written = match found {
            None => secrets.create(&PostParams::default(), &secret_of(name, &next)).await,
            Some(secret) => secrets.replace(name, &PostParams::default(), &holding(secret, &next)).await,
        };
        match written {
            Ok(_) => {
                tracing::info!(secret = name, ?step, "certificates written");
                return Ok(next);
            }
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
                tracing::debug!(secret = name, "another replica wrote the certificates first");
            }
            Err(error) => return Err(CertsError::api("writing the Secret", name)(error)),
        }
    }
    Err(CertsError::Contended { secret: name.to_owned() })
}

fn contents_of(secret: &Secret) -> Contents {
    let text = |key: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(key));
        bytes.map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned()).unwrap_or_default()
    };
    Contents { bundle: text(BUNDLE), ca_key: text(CA_KEY), cert: text(CERT), key: text(KEY) }
}

fn secret_of(name: &str, contents: &Contents) -> Secret {
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    holding(Secret { metadata, type_: Some("Opaque".to_owned()), ..Secret::default() }, contents)
}

/// The Secret with our four keys, and whatever else it has.
fn holding(mut secret: Secret, contents: &Contents) -> Secret {
    let ours = [(BUNDLE, &contents.bundle), (CA_KEY, &contents.ca_key), (CERT, &contents.cert), (KEY, &contents.key)];
    let ours = ours.map(|(key, text)| (key.to_owned(), ByteString(text.clone().into_bytes())));
    secret.data.get_or_insert_with(BTreeMap::new).extend(ours);
    secret
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_gives_back_what_it_was_given_and_keeps_what_it_had() {
        let text = |text: &str| text.to_owned();
        let contents = Contents { bundle: text("b"), ca_key: text("k"), cert: text("c"), key: text("s") };
        let mut secret = secret_of("certs", &contents);
        assert_eq!(contents_of(&secret), contents);
        secret.data.as_mut().unwrap().insert("extra".into(), ByteString(b"kept".to_vec()));
        let renewed = Contents { cert: text("c2"), ..contents };
        let secret = holding(secret, &renewed);
        assert_eq!(contents_of(&secret), renewed);
        assert_eq!(secret.data.unwrap()["extra"], ByteString(b"kept".to_vec()));
    }

    #[test]
    fn a_secret_without_data_holds_nothing() {
        assert_eq!(contents_of(&Secret::default()), Contents::default());
    }
}
