//! TLS with a certificate authority of the test's own.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::support::*;
use crate::*;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        roots
    }

    /// A server that answers `hello` and shows a certificate for `name`.
    async fn serve(&self, name: &str) -> SocketAddr {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut buffer = [0_u8; 4096];
                let _ = stream.read(&mut buffer).await;
                let asked = stream.get_ref().1.server_name().unwrap_or("nobody").to_owned();
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{asked}", asked.len());
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        address
    }
}

async fn ask(egress: &Egress, host: &str, address: SocketAddr) -> Result<(u16, String), EgressError> {
    let url = format!("https://{host}:{}/", address.port()).parse().unwrap();
    fetch(&egress.open(all_for(&url), Arc::new(NoSecrets)), get(&url)).await
}

#[tokio::test]
async fn a_certificate_must_be_trusted_and_for_that_name() {
    let authority = Authority::new();
    let resolver =
        || Arc::new(FixedResolver::new().with("secure.example", [LOOPBACK]).with("other.example", [LOOPBACK]));
    let trusting = Egress::with_roots(resolver(), Arc::new(NoObserver), authority.roots());
    let usual = Egress::new(resolver(), Arc::new(NoObserver));
    let address = authority.serve("secure.example").await;

    assert_eq!(ask(&trusting, "secure.example", address).await, Ok((200, "secure.example".into())));
    assert_eq!(ask(&trusting, "secure.example.", address).await, Ok((200, "secure.example".into())));
    for (egress, host) in [(&trusting, "other.example"), (&trusting, "127.0.0.1"), (&usual, "secure.example")] {
        assert_eq!(ask(egress, host, address).await.unwrap_err().code(), "tls-failed", "{host}");
    }
    let by_address = authority.serve("127.0.0.1").await;
    assert_eq!(ask(&trusting, "127.0.0.1", by_address).await, Ok((200, "nobody".into())));
}

#[tokio::test]
async fn a_server_without_tls_is_not_spoken_to_in_the_clear() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut first = [0_u8; 3];
        stream.read_exact(&mut first).await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        first
    });
    assert_eq!(ask(&egress().0, "127.0.0.1", address).await.unwrap_err().code(), "tls-failed");
    assert_ne!(&server.await.unwrap(), b"GET");
}
