//! Making authorities and certificates, and carrying out a step on the contents of the Secret.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use super::plan::{self, Contents, Step, seconds};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long an authority lives.
const CA_LIFE: Duration = DAY.saturating_mul(3650);
/// How long a serving certificate lives, unless its authority ends before.
const SERVING_LIFE: Duration = DAY.saturating_mul(365);
/// How long before its making a certificate is valid already, for API servers whose clock is behind ours.
pub(super) const BACKDATED: Duration = Duration::from_secs(60 * 60);

/// What the Secret must hold after a step. Random: two replicas that take the same step get different keys, and the
/// Secret's resource version decides which of them stays.
///
/// # Errors
/// When a name is neither a DNS name nor an IP address, or the system has no randomness.
pub(crate) fn carry_out(step: Step, contents: &Contents, names: &[String], now: SystemTime) -> Result<Contents, rcgen::Error> {
    match step {
        Step::Keep => Ok(contents.clone()),
        Step::RenewServing(_) => {
            let valid = still_valid(contents, now);
            sign(&Contents { bundle: valid, ..contents.clone() }, names, now)
        }
        Step::RotateCa(_) => {
            let ca = authority(now)?;
            let bundle = ca.pem() + &still_valid(contents, now);
            let rotated = Contents { bundle, ca_key: ca.key().serialize_pem(), ..contents.clone() };
            match plan::serving(contents, names, now) {
                Ok(_) => Ok(rotated),
                Err(_) => sign(&rotated, names, now),
            }
        }
    }
}

/// The authorities whose time is not over. The newest comes first and stays first.
fn still_valid(contents: &Contents, now: SystemTime) -> String {
    let valid = plan::authorities(&contents.bundle).into_iter().filter(|ca| ca.valid_at(seconds(now)));
    valid.map(|ca| ca.pem).collect()
}

fn authority(now: SystemTime) -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = CertificateParams::default();
    // Two authorities of one bundle must not share a name, or a client may look for a signature under the wrong one.
    name(&mut params, &format!("muster-ca-{}", seconds(now)));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    live(&mut params, now - BACKDATED, now + CA_LIFE);
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

/// A new serving certificate, signed by the first authority of the bundle.
fn sign(contents: &Contents, names: &[String], now: SystemTime) -> Result<Contents, rcgen::Error> {
    let ca = plan::authorities(&contents.bundle).into_iter().next().ok_or(rcgen::Error::CouldNotParseCertificate)?;
    let issuer = Issuer::from_ca_cert_der(&ca.der, KeyPair::from_pem(&contents.ca_key)?)?;
    let mut params = CertificateParams::new(names)?;
    name(&mut params, "muster-webhook");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(ca.not_after).unwrap_or_default());
    live(&mut params, now - BACKDATED, end.min(now + SERVING_LIFE));
    let key = KeyPair::generate()?;
    let cert = params.signed_by(&key, &issuer)?;
    Ok(Contents { cert: cert.pem(), key: key.serialize_pem(), ..contents.clone() })
}

fn name(params: &mut CertificateParams, common_name: &str) {
    params.distinguished_name.push(DnType::OrganizationName, "muster");
    params.distinguished_name.push(DnType::CommonName, common_name);
}

/// Sets the dates, in whole seconds.
fn live(params: &mut CertificateParams, from: SystemTime, until: SystemTime) {
    let date = |time| date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(seconds(time)).unwrap_or_default());
    (params.not_before, params.not_after) = (date(from), date(until));
}
