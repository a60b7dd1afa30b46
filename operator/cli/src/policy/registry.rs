//! `muster policy push`, `pull`, `sign`, `verify`: policies in registries, by digest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use muster_policy_host::{Descriptor, Limits, PolicyKind};
use muster_policy_kit::Bytes;
use muster_policy_oci::{
    Algorithm, Credentials, Identity, Options, PrivateKey, PublicKey, Pulled, Reference, Registry, Subject, TrustRoot,
    VerificationPolicy, read,
};
use serde::Serialize;

use super::named::{self, Found};
use super::{engine, size};
use crate::args::Output;
use crate::output;

/// Annotations of an artifact that everybody understands.
const TITLE: &str = "org.opencontainers.image.title";
const VERSION: &str = "org.opencontainers.image.version";
/// And one that says which object takes it.
const WORLD: &str = "dev.muster.policy.world";
/// What a call needs, if that is more than usual: the object says it.
const DEADLINE: &str = "dev.muster.policy.deadline";
const MEMORY: &str = "dev.muster.policy.memory";

/// How the registry is spoken to. Name and password come from `docker login`'s file.
#[derive(Debug, Clone, Args)]
pub(crate) struct Spoken {
    /// Speak to this registry (HOST or HOST:PORT) without TLS.
    #[arg(long)]
    plain_http: Vec<String>,
    /// Docker configuration with names and passwords; by default `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`.
    #[arg(long)]
    docker_config: Option<PathBuf>,
}

/// Who must have signed.
#[derive(Debug, Clone, Args)]
pub(crate) struct Trusted {
    /// File of a public key in PEM; may be repeated, and one of them is enough.
    #[arg(long)]
    key: Vec<PathBuf>,
    /// Issuer of the identity that signed without a key of its own.
    #[arg(long, requires = "identity", requires = "trust_root")]
    issuer: Option<String>,
    /// That identity; one that ends in / is the beginning of it.
    #[arg(long, requires = "issuer")]
    identity: Option<String>,
    /// File of the trust root (`trusted_root.json`) that vouches for identities.
    #[arg(long, requires = "issuer")]
    trust_root: Option<PathBuf>,
}

impl Spoken {
    fn registry(&self, reference: &Reference) -> Result<Registry> {
        let options = Options { plain_http: self.plain_http.clone(), ..Options::default() };
        Ok(Registry::new(options, &self.credentials(reference)?)?)
    }

    /// What a registry answers that does not speak TLS is not what was expected: the way out is a flag of ours.
    fn advise(&self, reference: &Reference, error: impl std::error::Error + Send + Sync + 'static) -> anyhow::Error {
        let (text, host) = (error.to_string(), reference.registry());
        if text.contains("corrupt message") && !self.plain_http.iter().any(|plain| plain == host) {
            return anyhow::anyhow!("{host} does not speak TLS; if that is as it should be, add --plain-http {host}");
        }
        error.into()
    }

    /// As they follow another command to the same registry.
    fn flags(&self) -> String {
        self.plain_http.iter().map(|host| format!(" --plain-http {host}")).collect()
    }

    fn credentials(&self, reference: &Reference) -> Result<Credentials> {
        let usual = || {
            let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
            let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker"));
            folder.or(home).map(|folder| folder.join("config.json")).filter(|file| file.is_file())
        };
        let Some(file) = self.docker_config.clone().or_else(usual) else { return Ok(Credentials::Anonymous) };
        let text = std::fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        let found = Credentials::find(&text, reference.registry(), reference.repository());
        Ok(found.with_context(|| file.display().to_string())?.unwrap_or_default())
    }
}

fn reference(text: &str) -> Result<Reference> {
    let text = text.strip_prefix("oci://").unwrap_or(text);
    text.parse()
        .with_context(|| format!("{text:?} is no reference: write REGISTRY/REPOSITORY:TAG, or @sha256:… in place of :TAG"))
}

/// What a policy object names.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    image: String,
    digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    component: Option<String>,
}

impl Named {
    fn new(reference: &Reference, digest: &str, component: Option<&str>) -> Self {
        let image = format!("{}/{}", reference.registry(), reference.repository());
        Self { image, digest: digest.to_owned(), component: component.map(str::to_owned) }
    }

    /// The object that loads it, as far as the artifact's annotations tell; with a key, it asks for that key's signature.
    fn object(&self, annotations: &BTreeMap<String, String>, key: Option<&str>) -> String {
        let startup = annotations.get(WORLD).is_some_and(|world| world == PolicyKind::Startup.world());
        let kind = if startup { PolicyKind::Startup } else { PolicyKind::Placement }.object();
        let last = self.image.rsplit('/').next().unwrap_or_default();
        // Whoever pushed the artifact wrote its annotations: nothing of them may be more than a word of this object.
        let is_word =
            |text: &&String| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
        let name = annotations.get(TITLE).filter(is_word).map_or(last, String::as_str);
        let mut text = format!(
            "apiVersion: policy.muster.dev/v1alpha1\nkind: {kind}\nmetadata:\n  name: {name}\nspec:\n  source:\n    oci:\n      \
             image: {}\n      digest: {}\n",
            self.image, self.digest
        );
        let limits = [("deadline", DEADLINE), ("memory", MEMORY)];
        let limits =
            limits.iter().filter_map(|(field, key)| Some(format!("    {field}: {}\n", annotations.get(*key).filter(is_word)?)));
        let limits: String = limits.collect();
        if !limits.is_empty() {
            text.push_str("  limits:\n");
            text.push_str(&limits);
        }
        if let Some(key) = key {
            text.push_str("  verify:\n    keys:\n      - pem: |\n");
            text.extend(key.lines().map(|line| format!("          {line}\n")));
        }
        text
    }
}

pub(super) async fn push(policy: &str, to: &str, annotations: &[String], spoken: &Spoken, output: Output) -> Result<()> {
    let (bytes, reference) = (Found::by_name(policy)?.bytes, reference(to)?);
    let world = bytes.kind()?;
    let mut all = BTreeMap::new();
    // What would not load is pushed all the same; it only can't be asked for its name.
    if let Ok(Descriptor { name, version, .. }) = bytes.describe(&engine()?, Limits::default()) {
        all.extend([(TITLE.to_owned(), name), (VERSION.to_owned(), version)]);
    }
    let own = named::recipe(Path::new(policy)).transpose()?.map(|recipe| recipe.limits).unwrap_or_default();
    all.extend(own.deadline.map(|deadline| (DEADLINE.to_owned(), deadline)));
    all.extend(own.memory.map(|memory| (MEMORY.to_owned(), memory)));
    all.insert(WORLD.to_owned(), world.world().to_owned());
    for annotation in annotations {
        let (key, value) = annotation.split_once('=').with_context(|| format!("--annotation {annotation:?}: write KEY=VALUE"))?;
        all.insert(key.to_owned(), value.to_owned());
    }
    let pushed = spoken.registry(&reference)?.push(&reference, &bytes.bytes, &all).await;
    let pushed = pushed.map_err(|error| spoken.advise(&reference, error))?;
    let named = Named::new(&reference, &pushed.digest, Some(&pushed.component));
    output::show(output, &named, || {
        let flags = spoken.flags();
        format!(
            "pushed {} to {to}\n\n{}\n\
             next: muster policy sign {to} --key muster.key{flags}\n\
             Operators load what is not signed only with the Helm value policyHost.allowUnsigned; if yours has it, apply the above.",
            size(bytes.bytes.len()),
            named.object(&all, None)
        )
    })
}

pub(super) async fn pull(from: &str, file: Option<&Path>, spoken: &Spoken, output: Output) -> Result<()> {
    let reference = reference(from)?;
    let pulled = spoken.registry(&reference)?.pull(&reference).await;
    let Pulled { artifact, component } = pulled.map_err(|error| spoken.advise(&reference, error))?;
    let last = reference.repository().rsplit('/').next().unwrap_or("policy").to_owned();
    let file = file.map_or_else(|| PathBuf::from(format!("{last}.wasm")), Path::to_owned);
    std::fs::write(&file, &component).with_context(|| format!("writing {}", file.display()))?;
    let named = Named::new(&reference, &artifact.digest, Some(&artifact.layer.digest));
    output::show(output, &named, || {
        let file = file.display();
        let note = "\n\nnext: muster policy check";
        format!("{file}  {}\n{}{note} {file}", size(component.len()), artifact.digest)
    })
}

pub(super) async fn sign(what: &str, key: &Path, spoken: &Spoken, output: Output) -> Result<()> {
    let reference = reference(what)?;
    let pem = std::fs::read_to_string(key)
        .with_context(|| format!("reading the key {}; `muster policy keygen` makes one", key.display()))?;
    let key = PrivateKey::from_pem(&pem).with_context(|| format!("--key {}", key.display()))?;
    let registry = spoken.registry(&reference)?;
    let digest = registry.sign(&reference, &key).await.map_err(|error| spoken.advise(&reference, error))?;
    let annotations = read::artifact(&registry, &reference).await?.annotations;
    let named = Named::new(&reference, &digest, None);
    output::show(output, &named, || {
        format!(
            "# Signed. This object loads it where that signature is good: muster policy sign … | kubectl apply -f -\n{}",
            named.object(&annotations, Some(&key.public_pem()))
        )
    })
}

pub(super) async fn verify(what: &str, trusted: &Trusted, spoken: &Spoken, output: Output) -> Result<()> {
    let reference = reference(what)?;
    let mut policy = VerificationPolicy::default();
    for file in &trusted.key {
        let pem = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        let key = PublicKey::from_pem(&pem).with_context(|| format!("--key {}", file.display()))?;
        policy.keys.push((file.display().to_string(), key));
    }
    if let (Some(issuer), Some(identity), Some(root)) = (&trusted.issuer, &trusted.identity, &trusted.trust_root) {
        let json = std::fs::read(root).with_context(|| format!("reading {}", root.display()))?;
        let root = TrustRoot::from_json(&json).with_context(|| format!("--trust-root {}", root.display()))?;
        let prefix = identity.ends_with('/');
        let subject = if prefix { Subject::Prefix(identity.clone()) } else { Subject::Equal(identity.clone()) };
        policy.keyless = Some((Identity { issuer: issuer.clone(), subject }, root));
    }
    ensure!(
        !policy.keys.is_empty() || policy.keyless.is_some(),
        "nobody is trusted: name a --key, or --issuer, --identity and --trust-root"
    );
    let verified = spoken.registry(&reference)?.verify(&reference, &policy).await;
    let (digest, signer) = verified.map_err(|error| spoken.advise(&reference, error))?;
    let said = serde_json::json!({ "digest": digest, "signer": signer.to_string() });
    output::show(output, &said, || format!("{digest}\nsigned by {signer}"))
}

/// A pair of keys: NAME.key, which only its owner may read, and NAME.pub.
pub(super) fn keygen(name: &Path) -> Result<()> {
    let key = PrivateKey::generate(Algorithm::EcdsaP256)?;
    let (private, public) = (name.with_extension("key"), name.with_extension("pub"));
    for file in [&private, &public] {
        if file.exists() {
            bail!("{} is there already; a key that is replaced can sign nothing any more", file.display());
        }
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&private).with_context(|| format!("writing {}", private.display()))?;
    std::io::Write::write_all(&mut file, key.to_pem().as_bytes())?;
    std::fs::write(&public, key.public_pem()).with_context(|| format!("writing {}", public.display()))?;
    output::print(&format!(
        "{}  signs policies: muster policy sign REGISTRY/REPOSITORY:TAG --key {0}. Keep it to yourself.\n\
         {}  verifies them: spec.verify.keys of a policy object, and muster policy verify --key {1}",
        private.display(),
        public.display()
    ));
    Ok(())
}

/// The manifest's digest and annotations of a reference, and its component, for `inspect`.
pub(super) async fn fetch(what: &str, spoken: &Spoken) -> Result<(Bytes, String, BTreeMap<String, String>)> {
    let reference = reference(what)?;
    let pulled = spoken.registry(&reference)?.pull(&reference).await;
    let Pulled { artifact, component } = pulled.map_err(|error| spoken.advise(&reference, error))?;
    Ok((Bytes { origin: what.to_owned(), bytes: component.into() }, artifact.digest, artifact.annotations))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]
mod tests {
    use super::*;

    #[test]
    fn what_an_artifact_says_of_itself_is_no_more_than_a_word_of_the_object() {
        let named = Named::new(&reference("registry.example/policies/racks:1").unwrap(), "sha256:1", None);
        let says = |annotations: &[(&str, &str)]| {
            let annotations = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            named.object(&annotations, None)
        };
        let expected = |name: &str, limits: &str| {
            format!(
                "apiVersion: policy.muster.dev/v1alpha1\nkind: PlacementPolicy\nmetadata:\n  name: {name}\nspec:\n  source:\n    oci:\n      \
                 image: registry.example/policies/racks\n      digest: sha256:1\n{limits}"
            )
        };
        let honest = [(TITLE, "by-rack"), (DEADLINE, "100ms"), (MEMORY, "128Mi")];
        assert_eq!(says(&honest), expected("by-rack", "  limits:\n    deadline: 100ms\n    memory: 128Mi\n"));
        let hostile = [(TITLE, "a\nspec: {mode: Observe}"), (DEADLINE, "1ms\n  verify: null"), (MEMORY, "")];
        assert_eq!(says(&hostile), expected("racks", ""));
    }
}
