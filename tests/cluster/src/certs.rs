//! The cluster's certificates and kubeconfigs: one authority, a server certificate, a client certificate per component.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::json;

/// Who gets a client certificate: file name, user, group.
const CLIENTS: [(&str, &str, &str); 4] = [
    ("admin", "muster-admin", "system:masters"),
    ("controller-manager", "system:kube-controller-manager", ""),
    ("scheduler", "system:kube-scheduler", ""),
    ("kwok", "kwok", "system:masters"),
];

/// Writes the certificates into `folder` unless they are there already.
///
/// # Errors
/// When a file can't be written.
pub(crate) fn ensure(folder: &Path) -> Result<()> {
    // Written last: its presence says that all others are complete.
    let complete = folder.join("complete");
    if complete.exists() {
        return Ok(());
    }
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.distinguished_name.push(DnType::CommonName, "muster-test-authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate()?;
    write(folder, "ca.crt", &authority.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(authority, key);

    let names = ["127.0.0.1", "10.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
    let mut server = CertificateParams::new(names.map(String::from))?;
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    signed(folder, "server", &server, &issuer)?;
    for (file, user, group) in CLIENTS {
        let mut client = CertificateParams::new(Vec::new())?;
        client.distinguished_name.push(DnType::CommonName, user);
        if !group.is_empty() {
            client.distinguished_name.push(DnType::OrganizationName, group);
        }
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        signed(folder, file, &client, &issuer)?;
    }
    // Signs the tokens of ServiceAccounts.
    let tokens = KeyPair::generate()?;
    write(folder, "service-accounts.key", &tokens.serialize_pem())?;
    write(folder, "service-accounts.pub", &tokens.public_key_pem())?;
    write(folder, "complete", "")
}

fn signed(folder: &Path, name: &str, params: &CertificateParams, issuer: &Issuer<'_, KeyPair>) -> Result<()> {
    let key = KeyPair::generate()?;
    write(folder, &format!("{name}.crt"), &params.signed_by(&key, issuer)?.pem())?;
    write(folder, &format!("{name}.key"), &key.serialize_pem())
}

fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}

/// How a kubeconfig proves who its user is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Identity<'a> {
    /// A client certificate made by [`ensure`].
    Certificate(&'a str),
    /// A file with a ServiceAccount's token.
    TokenFile(&'a Path),
}

/// Writes a kubeconfig for the API server at `port`.
///
/// # Errors
/// When the file can't be written.
pub(crate) fn kubeconfig(path: &Path, certs: &Path, port: u16, identity: Identity<'_>, namespace: &str) -> Result<()> {
    let user = match identity {
        Identity::Certificate(name) => json!({
            "client-certificate": certs.join(format!("{name}.crt")),
            "client-key": certs.join(format!("{name}.key")),
        }),
        Identity::TokenFile(file) => json!({ "tokenFile": file }),
    };
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "muster", "cluster": {
            "server": format!("https://127.0.0.1:{port}"), "certificate-authority": certs.join("ca.crt") } }],
        "users": [{ "name": "muster", "user": user }],
        "contexts": [{ "name": "muster", "context": { "cluster": "muster", "user": "muster", "namespace": namespace } }],
        "current-context": "muster",
    });
    // JSON is YAML.
    fs::write(path, serde_json::to_string_pretty(&config)?).with_context(|| format!("writing {}", path.display()))
}
