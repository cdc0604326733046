//! TLS around a client's protocol: what it writes is encrypted, what arrives is decrypted for it.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::engine::protocol::{Done, Failure, Protocol};

/// The name in the certificate.
const HOST: &str = "localhost";
const BROKEN: Failure = Failure::Protocol("tls");

/// Makes the connections of clients that trust one certificate.
pub(crate) struct Trust {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Trust {
    /// Writes a certificate for localhost and its key as PEM files, and trusts it.
    pub(crate) fn fresh(certificate: &Path, key: &Path) -> Result<Self, Box<dyn Error>> {
        let signed = rcgen::generate_simple_self_signed([HOST.to_owned()])?;
        std::fs::write(certificate, signed.cert.pem())?;
        std::fs::write(key, signed.signing_key.serialize_pem())?;
        Self::of(signed.cert.der().clone())
    }

    fn of(certificate: CertificateDer<'static>) -> Result<Self, Box<dyn Error>> {
        let mut roots = RootCertStore::empty();
        roots.add(certificate)?;
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let mut config =
            builder.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let trust = Self { config: Arc::new(config), name: ServerName::try_from(HOST)? };
        // Proven here once, since the engine's maker of clients cannot fail.
        trust.session()?;
        Ok(trust)
    }

    /// A client that speaks `inner`, encrypted.
    pub(crate) fn client<P>(&self, inner: P) -> TlsClient<P> {
        let session = self.session().expect("a configuration that made a session before");
        TlsClient { session, inner, plain_out: Vec::new(), plain_in: Vec::new() }
    }

    /// A blocking connection.
    pub(crate) fn connect(&self, address: SocketAddr) -> Result<impl Read + Write + use<>, Box<dyn Error>> {
        Ok(StreamOwned::new(self.session()?, TcpStream::connect(address)?))
    }

    fn session(&self) -> Result<ClientConnection, rustls::Error> {
        ClientConnection::new(Arc::clone(&self.config), self.name.clone())
    }
}

/// One connection's state.
pub(crate) struct TlsClient<P> {
    session: ClientConnection,
    inner: P,
    plain_out: Vec<u8>,
    plain_in: Vec<u8>,
}

impl<P> TlsClient<P> {
    /// Encrypts what the inner protocol wrote, and appends all that is to be sent.
    fn seal(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        // The session's own buffer has a bound, and takes no more beyond it.
        while !self.plain_out.is_empty() {
            let taken = self.session.writer().write(&self.plain_out).map_err(|_| BROKEN)?;
            self.plain_out.drain(..taken);
            self.drain(out)?;
        }
        self.drain(out)
    }

    fn drain(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        while self.session.wants_write() {
            self.session.write_tls(out).map_err(|_| BROKEN)?;
        }
        Ok(())
    }
}

impl<P: Protocol> Protocol for TlsClient<P> {
    fn greet(&mut self, out: &mut Vec<u8>) {
        self.inner.greet(&mut self.plain_out);
        // Writing to memory cannot fail; a session that is broken fails when it receives.
        let _ = self.drain(out);
    }

    fn room(&self) -> usize {
        if self.session.is_handshaking() { 0 } else { self.inner.room() }
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight()
    }

    fn send(&mut self, which: usize, started: u64, out: &mut Vec<u8>) {
        self.inner.send(which, started, &mut self.plain_out);
        let _ = self.seal(out);
    }

    fn receive(&mut self, input: &[u8], out: &mut Vec<u8>, done: &mut Vec<Done>) -> Result<usize, Failure> {
        let mut rest = input;
        while !rest.is_empty() {
            self.session.read_tls(&mut rest).map_err(|_| BROKEN)?;
            let state = self.session.process_new_packets().map_err(|_| BROKEN)?;
            let start = self.plain_in.len();
            self.plain_in.resize(start + state.plaintext_bytes_to_read(), 0);
            self.session.reader().read_exact(&mut self.plain_in[start..]).map_err(|_| BROKEN)?;
        }
        if !self.plain_in.is_empty() {
            let used = self.inner.receive(&self.plain_in, &mut self.plain_out, done)?;
            self.plain_in.drain(..used);
        }
        self.seal(out)?;
        Ok(input.len())
    }

    fn retired(&self) -> bool {
        self.inner.retired()
    }

    fn abandon(&mut self, failure: Failure, done: &mut Vec<Done>) {
        self.inner.abandon(failure, done);
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ServerConfig, ServerConnection};

    use super::*;
    use crate::http1::HttpClient;

    /// Hands bytes from one side to the other until both are silent.
    fn exchange(client: &mut TlsClient<HttpClient>, out: &mut Vec<u8>, server: &mut ServerConnection) -> Vec<Done> {
        let mut done = Vec::new();
        loop {
            let sent = std::mem::take(out);
            let mut rest = &sent[..];
            while !rest.is_empty() {
                server.read_tls(&mut rest).unwrap();
                server.process_new_packets().unwrap();
            }
            let mut answer = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut answer).unwrap();
            }
            // Byte by byte: records need not arrive whole.
            for byte in &answer {
                assert_eq!(client.receive(&[*byte], out, &mut done), Ok(1));
            }
            if out.is_empty() && answer.is_empty() {
                return done;
            }
        }
    }

    #[test]
    fn a_request_goes_through_and_its_answer_comes_back() {
        let signed = rcgen::generate_simple_self_signed([HOST.to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = builder.with_single_cert(vec![signed.cert.der().clone()], key).unwrap();
        let mut server = ServerConnection::new(Arc::new(config)).unwrap();
        let inner = HttpClient::new(Arc::from([Box::from(&b"GET / HTTP/1.1\r\n\r\n"[..])]));
        let mut client = Trust::of(signed.cert.der().clone()).unwrap().client(inner);
        let mut out = Vec::new();
        client.greet(&mut out);
        assert_eq!(client.room(), 0, "not before hands are shaken");
        exchange(&mut client, &mut out, &mut server);
        assert_eq!(client.room(), 1);
        client.send(0, 7, &mut out);
        exchange(&mut client, &mut out, &mut server);
        let mut request = [0; 18];
        server.reader().read_exact(&mut request).unwrap();
        assert_eq!(&request, b"GET / HTTP/1.1\r\n\r\n");
        server.writer().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap();
        let done = exchange(&mut client, &mut out, &mut server);
        assert_eq!(done, [Done { started: 7, outcome: Ok(()), bytes: 2 }]);
    }
}
