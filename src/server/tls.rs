//! TLS and mutual TLS, for both ports alike, from files that may change while the server runs.
//!
//! Clients pick the protocol by ALPN: h2 or http/1.1. A connection keeps what it was opened with; new ones get what the
//! files held at the last look that found a sound set ([`super::reload`]).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::reload::{FileFault, Reload};
use super::transport::Transport;

/// The first byte of a TLS connection: a handshake record (RFC 8446, 5.1).
const HANDSHAKE_RECORD: u8 = 22;

static ONLY_1_3: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// What a client that speaks HTTP without TLS is told. One that speaks HTTP/2 sees that it is no HTTP/2.
const PLAIN_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: 52\r\n\
    connection: close\r\n\r\n{\"error\":\"this port speaks TLS: connect with https\"}";

/// Bytes of a plain request that are read and thrown away, so that its client sees the answer and not a reset.
const PLAIN_BYTES_MAX: u64 = 64 << 10;

/// How TLS is spoken.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// The server's certificate and its chain, in PEM.
    pub cert: PathBuf,
    /// The key of the certificate, in PEM.
    pub key: PathBuf,
    /// Certificates, in PEM, by one of which a client's certificate has to be signed; without it clients need none.
    pub client_ca: Option<PathBuf>,
    /// The oldest version spoken. Default 1.2, since Java 8 and older proxies speak nothing newer; its suites are the sound ones.
    pub version_min: TlsVersion,
    /// How long a handshake may take. Default 10 s: several round trips to the other side of the world, and some packet loss.
    pub handshake_timeout: Duration,
}

impl TlsConfig {
    /// TLS with this certificate and key; every client may come.
    pub fn new(cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            cert: cert.into(),
            key: key.into(),
            client_ca: None,
            version_min: TlsVersion::default(),
            handshake_timeout: Duration::from_secs(10),
        }
    }
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// 1.2, RFC 5246.
    #[default]
    V1_2,
    /// 1.3, RFC 8446.
    V1_3,
}

impl TlsVersion {
    fn and_newer(self) -> &'static [&'static SupportedProtocolVersion] {
        // The default list of rustls: 1.3, then 1.2.
        match self {
            TlsVersion::V1_2 => rustls::DEFAULT_VERSIONS,
            TlsVersion::V1_3 => ONLY_1_3,
        }
    }
}

/// Handshakes with what the files held last.
pub struct Tls {
    config: TlsConfig,
    current: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`FileFault`] that names the flag, the file and what is wrong.
    pub fn load(config: TlsConfig) -> Result<Self, FileFault> {
        let current = RwLock::new(Arc::new(read(&config)?));
        Ok(Self { config, current })
    }

    /// The handshake of a new connection. `None` where there is none in time: that is the client's business.
    pub(super) async fn accept(&self, stream: TcpStream) -> Option<Transport> {
        let handshake = tokio::time::timeout(self.config.handshake_timeout, self.handshake(stream));
        handshake.await.unwrap_or_else(|_| {
            tracing::debug!("a TLS handshake took too long");
            None
        })
    }

    async fn handshake(&self, mut stream: TcpStream) -> Option<Transport> {
        let mut first = [0];
        if stream.peek(&mut first).await.ok()? == 0 {
            return None;
        }
        if first[0] != HANDSHAKE_RECORD {
            refuse_plain(&mut stream).await;
            return None;
        }
        let current = Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner));
        match TlsAcceptor::from(current).accept(stream).await {
            Ok(stream) => Some(Transport::Tls(Box::new(stream))),
            Err(cause) => {
                tracing::debug!("a TLS handshake failed: {cause}");
                None
            }
        }
    }
}

async fn refuse_plain(stream: &mut TcpStream) {
    tracing::debug!("a connection without TLS was refused");
    // A client that is gone hears nothing.
    if stream.write_all(PLAIN_HTTP).await.is_ok() && stream.shutdown().await.is_ok() {
        let _ = tokio::io::copy(&mut stream.take(PLAIN_BYTES_MAX), &mut tokio::io::sink()).await;
    }
}

impl Reload for Tls {
    fn what(&self) -> &'static str {
        "the TLS certificate"
    }

    fn files(&self) -> Vec<PathBuf> {
        let TlsConfig { cert, key, client_ca, .. } = &self.config;
        [cert, key].into_iter().chain(client_ca).cloned().collect()
    }

    fn reload(&self) -> Result<(), FileFault> {
        let new = Arc::new(read(&self.config)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }
}

fn read(config: &TlsConfig) -> Result<ServerConfig, FileFault> {
    let chain = certificates("--tls-cert", &config.cert)?;
    let key_fault = |message: String| FileFault::new("--tls-key", &config.key, message);
    let key = fs::read(&config.key).map_err(|cause| key_fault(cause.to_string()))?;
    let key =
        PrivateKeyDer::from_pem_slice(&key).map_err(|cause| key_fault(format!("no private key in PEM: {cause}")))?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(config.version_min.and_newer())
        .map_err(|cause| FileFault::new("--tls-min-version", &config.cert, cause.to_string()))?;
    let builder = match &config.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => builder.with_client_cert_verifier(client_verifier(path, provider)?),
    };
    let mut tls = builder.with_single_cert(chain, key).map_err(|cause| match cause {
        rustls::Error::InconsistentKeys(_) => {
            key_fault(format!("is not the key of the certificate in {}", config.cert.display()))
        }
        cause => FileFault::new("--tls-cert", &config.cert, cause.to_string()),
    })?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}

fn client_verifier(
    path: &Path,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, FileFault> {
    let fault = |message: String| FileFault::new("--tls-client-ca", path, message);
    let mut roots = RootCertStore::empty();
    for certificate in certificates("--tls-client-ca", path)? {
        roots.add(certificate).map_err(|cause| fault(cause.to_string()))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    verifier.build().map_err(|cause| fault(cause.to_string()))
}

/// The certificates of a PEM file; none is a fault.
fn certificates(flag: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, FileFault> {
    let fault = |message: String| FileFault::new(flag, path, message);
    let text = fs::read(path).map_err(|cause| fault(cause.to_string()))?;
    let found = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|cause| fault(format!("is no PEM: {cause}")))?;
    if found.is_empty() { Err(fault("holds no certificate in PEM".into())) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_plain_http_has_the_length_it_says() {
        let text = std::str::from_utf8(PLAIN_HTTP).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
    }
}
