//! From the Secret's contents to a TLS server, and a look at that server from outside.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::plan::{Contents, KeyError, certified_key, roots};

/// How long a look at our own server may take; it is on this machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// The server side of TLS 1.2 and 1.3 with the serving certificate.
///
/// # Errors
/// When the certificate or its key can't be used.
pub(crate) fn server_config(contents: &Contents) -> Result<Arc<ServerConfig>, KeyError> {
    let key = SingleCertAndKey::from(certified_key(contents)?);
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_protocol_versions(&[&TLS13, &TLS12])?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(key));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The client side, trusting the authorities of the bundle and nobody else.
///
/// # Errors
/// When TLS itself can't be set up.
pub(crate) fn client_config(bundle: &str, now: SystemTime) -> Result<Arc<ClientConfig>, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_protocol_versions(&[&TLS13, &TLS12])?;
    Ok(Arc::new(builder.with_root_certificates(roots(bundle, now)).with_no_client_auth()))
}

/// Why our own server can't be reached as the API server would reach it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreachable {
    /// Nothing answers, or not with a certificate that the bundle vouches for.
    #[error("TLS with {address} as {name} fails: {source}")]
    Handshake {
        /// Where we tried.
        address: SocketAddr,
        /// The name that the certificate must serve.
        name: String,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The server accepts the connection and says nothing.
    #[error("TLS with {address} is not done after {} s", PATIENCE.as_secs())]
    Silent {
        /// Where we tried.
        address: SocketAddr,
    },
}

/// Shakes hands with the server at `listening` under the name, as a client that trusts the bundle.
///
/// # Errors
/// When that fails, or takes longer than five seconds.
pub(crate) async fn greet(listening: SocketAddr, name: &str, bundle: &str, now: SystemTime) -> Result<(), Unreachable> {
    let address = on_loopback(listening);
    let handshake = async {
        let server_name = ServerName::try_from(name.to_owned()).map_err(std::io::Error::other)?;
        let config = client_config(bundle, now).map_err(std::io::Error::other)?;
        let stream = TcpStream::connect(address).await?;
        TlsConnector::from(config).connect(server_name, stream).await.map(drop)
    };
    match tokio::time::timeout(PATIENCE, handshake).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(source)) => Err(Unreachable::Handshake { address, name: name.to_owned(), source }),
        Err(_) => Err(Unreachable::Silent { address }),
    }
}

/// A server on all addresses is asked on loopback.
fn on_loopback(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        ip if !ip.is_unspecified() => ip,
        std::net::IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        std::net::IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, listening.port())
}
