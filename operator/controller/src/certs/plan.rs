//! What to do about the certificates that the Secret holds: a pure function of its contents, the names to serve, and the
//! time.
//!
//! The Secret holds a *bundle* of authorities, newest first, the newest one's key, and one serving certificate. An
//! authority is replaced in two steps that are far apart: first it joins the bundle, while the serving certificate stays
//! as it is; the serving certificate is signed by it when it is next renewed. So whoever trusts the bundle of any moment
//! trusts the certificate of that moment and of the next.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, pki_types};
use x509_parser::parse_x509_certificate;

/// How old an authority must be before it signs: time enough for every API server to have read the new bundle.
const SETTLED_AFTER: Duration = Duration::from_secs(5 * 60);

/// The four PEM texts of the Secret; empty where it has none.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    /// Every authority that a certificate in use may be signed by, newest first (`ca.crt`).
    pub(crate) bundle: String,
    /// Key of the newest authority (`ca.key`).
    pub(crate) ca_key: String,
    /// The serving certificate (`tls.crt`).
    pub(crate) cert: String,
    /// Key of the serving certificate (`tls.key`).
    pub(crate) key: String,
}

impl std::fmt::Debug for Contents {
    /// Keys are not for logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contents").field("bundle", &self.bundle).field("cert", &self.cert).finish_non_exhaustive()
    }
}

/// The next step; at most one is taken at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Everything is good for now.
    Keep,
    /// Sign a new serving certificate with the newest authority.
    RenewServing(Why),
    /// Put a new authority in front of the bundle. The serving certificate stays if it is usable.
    RotateCa(Why),
}

/// Why a step is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// It isn't there, or can't be read, or certificate and key don't belong together.
    Unreadable,
    /// Its time is over or has not begun.
    Expired,
    /// Two thirds of its life are over.
    Aging,
    /// No authority of the bundle vouches for it, under one of the names that it must serve.
    Untrusted,
}

/// One certificate with its dates, in seconds since 1970.
#[derive(Clone, Debug)]
pub(super) struct Dated {
    pub(super) pem: String,
    pub(super) der: CertificateDer<'static>,
    pub(super) not_before: i64,
    pub(super) not_after: i64,
    public_key: Vec<u8>,
}

impl Dated {
    fn parse(pem: &str) -> Option<Self> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
        let (_, parsed) = parse_x509_certificate(&der).ok()?;
        let (not_before, not_after) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
        let public_key = parsed.public_key().raw.to_vec();
        Some(Self { pem: pem.trim().to_owned() + "\n", not_before, not_after, public_key, der: der.into_owned() })
    }

    pub(super) fn valid_at(&self, now: i64) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }

    fn aging_at(&self, now: i64) -> bool {
        now >= self.not_before + (self.not_after - self.not_before) / 3 * 2
    }
}

/// The authorities of a bundle that can be read, in its order.
pub(super) fn authorities(bundle: &str) -> Vec<Dated> {
    const END: &str = "-----END CERTIFICATE-----";
    bundle.split_inclusive(END).filter_map(Dated::parse).collect()
}

/// Decides the next step for a server that must be reachable under every one of `names` (DNS names or IP addresses).
pub(crate) fn plan(contents: &Contents, names: &[String], now: SystemTime) -> Step {
    let at = seconds(now);
    let Some(ca) = authorities(&contents.bundle).into_iter().next().filter(|ca| owns(&contents.ca_key, ca)) else {
        return Step::RotateCa(Why::Unreadable);
    };
    if !ca.valid_at(at) {
        return Step::RotateCa(Why::Expired);
    }
    if ca.aging_at(at) {
        return Step::RotateCa(Why::Aging);
    }
    match serving(contents, names, now) {
        Err(why) => Step::RenewServing(why),
        Ok(cert) if cert.aging_at(at) && at >= ca.not_before + seconds_of(super::issue::BACKDATED + SETTLED_AFTER) => {
            Step::RenewServing(Why::Aging)
        }
        Ok(_) => Step::Keep,
    }
}

/// The serving certificate, if clients that trust the bundle accept it now under every name.
pub(super) fn serving(contents: &Contents, names: &[String], now: SystemTime) -> Result<Dated, Why> {
    let cert = Dated::parse(&contents.cert).ok_or(Why::Unreadable)?;
    certified_key(contents).map_err(|_| Why::Unreadable)?;
    if !cert.valid_at(seconds(now)) {
        return Err(Why::Expired);
    }
    let roots = roots(&contents.bundle, now);
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
    let verifier = verifier.build().map_err(|_| Why::Untrusted)?;
    let time = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds(now)).unwrap_or_default()));
    for name in names {
        let name = ServerName::try_from(name.as_str()).map_err(|_| Why::Untrusted)?;
        verifier.verify_server_cert(&cert.der, &[], &name, &[], time).map_err(|_| Why::Untrusted)?;
    }
    Ok(cert)
}

/// The authorities of a bundle as a client trusts them; those whose time is over are left out.
pub(super) fn roots(bundle: &str, now: SystemTime) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let valid = authorities(bundle).into_iter().filter(|ca| ca.valid_at(seconds(now)));
    roots.add_parsable_certificates(valid.map(|ca| ca.der));
    roots
}

/// The serving certificate with its key, which must belong together.
pub(super) fn certified_key(contents: &Contents) -> Result<CertifiedKey, KeyError> {
    let chain = CertificateDer::pem_slice_iter(contents.cert.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(contents.key.as_bytes())?;
    Ok(CertifiedKey::from_der(chain, key, &ring::default_provider())?)
}

/// Why a certificate and its key can't be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// Not PEM, or PEM of something else.
    #[error("tls.crt or tls.key of the certificate's Secret is not PEM: {0}")]
    Pem(#[from] pki_types::pem::Error),
    /// No key that we can use, or not the certificate's.
    #[error("tls.crt and tls.key of the certificate's Secret can't be served: {0}")]
    Unusable(#[from] rustls::Error),
}

fn owns(key: &str, ca: &Dated) -> bool {
    use rcgen::PublicKeyData as _;
    rcgen::KeyPair::from_pem(key).is_ok_and(|key| key.subject_public_key_info() == ca.public_key)
}

pub(super) fn seconds(time: SystemTime) -> i64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, seconds_of)
}

fn seconds_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
