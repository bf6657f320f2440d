//! From a URL to a connection: resolve, check every address, dial a checked one, and speak TLS where the URL says so.
//!
//! A name is resolved once. Each address it gives is classified; those that may not be dialled are dropped, and when
//! none is left the request is refused. (A name may honestly have a public and a private address, split-horizon DNS
//! does that; only the checked ones are ever dialled, so the mixture gives nothing away.) Proxy settings of the
//! environment are not looked at: a proxy would resolve the name again, out of sight of the check.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use crate::address::{AddressClass, classify};
use crate::deadline::Deadline;
use crate::error::{EgressError, describe};
use crate::limit::Place;
use crate::policy::EgressPolicy;
use crate::remedy::Remedy;
use crate::resolve::Resolver;

/// The most addresses of one name that are tried.
const MAX_ATTEMPTS: usize = 8;

/// A byte stream to the server.
pub(crate) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// A connection and the address it leads to.
pub(crate) struct Connection {
    pub(crate) stream: Box<dyn ByteStream>,
    pub(crate) address: IpAddr,
}

/// TLS that trusts these roots, for HTTP/1.1.
pub(crate) fn tls_config(roots: RootCertStore) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    #[expect(clippy::expect_used, reason = "the provider is compiled in and supports both TLS versions")]
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports TLS 1.2 and 1.3");
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// Mozilla's roots, compiled in: the machine's own store plays no part.
pub(crate) fn public_roots() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

/// The host's name without the trailing dot, or its address.
fn host_of(url: &Url) -> Result<Host<&str>, EgressError> {
    match url.host() {
        Some(Host::Domain(name)) => Ok(Host::Domain(name.strip_suffix('.').unwrap_or(name))),
        Some(host) => Ok(host),
        None => Err(EgressError::InvalidRequest { detail: "the address names no host".into() }),
    }
}

/// What to connect with, and for whom.
pub(crate) struct Dialler<'a> {
    pub(crate) resolver: &'a Arc<dyn Resolver>,
    /// Where this program itself listens; never dialled.
    pub(crate) own: Option<SocketAddr>,
    /// The owner's place for this request.
    pub(crate) place: &'a Place,
    pub(crate) tls: &'a Arc<ClientConfig>,
    pub(crate) policy: &'a EgressPolicy,
    pub(crate) url: &'a Url,
    pub(crate) origin: &'a str,
}

impl Dialler<'_> {
    /// Connects. `until` bounds the attempts on single addresses; the caller bounds the whole.
    pub(crate) async fn connect(&self, until: Deadline) -> Result<Connection, EgressError> {
        let host = host_of(self.url)?;
        let found = match &host {
            Host::Ipv4(address) => vec![IpAddr::V4(*address)],
            Host::Ipv6(address) => vec![IpAddr::V6(*address)],
            Host::Domain(name) => self.resolve(name).await?,
        };
        let checked = self.check(&found)?;
        if checked.iter().any(|address| self.is_own(*address)) {
            return Err(EgressError::OwnGateway { owner: self.policy.owner.clone(), origin: self.origin.to_owned() });
        }
        let (stream, address) = self.dial(&checked, until).await?;
        if !matches!(self.url.scheme(), "https" | "wss") {
            return Ok(Connection { stream: Box::new(stream), address });
        }
        let server_name = match &host {
            Host::Domain(name) => {
                ServerName::try_from((*name).to_owned()).map_err(|problem| self.tls_failed(&problem))?
            }
            _ => ServerName::from(address),
        };
        let connector = TlsConnector::from(Arc::clone(self.tls));
        let stream = connector.connect(server_name, stream).await.map_err(|problem| self.tls_failed(&problem))?;
        Ok(Connection { stream: Box::new(stream), address })
    }

    fn tls_failed(&self, problem: &dyn std::error::Error) -> EgressError {
        EgressError::TlsFailed { origin: self.origin.to_owned(), detail: describe(problem) }
    }

    async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, EgressError> {
        let failed = |detail: String| EgressError::ResolveFailed { host: name.to_owned(), detail };
        // A lookup goes on when its request is given up, and the owner's place is taken until it ends: otherwise requests
        // for names of a server that never answers would cost nothing but threads of ours.
        let (resolver, name, place) = (Arc::clone(self.resolver), name.to_owned(), self.place.clone());
        let looking = tokio::spawn(async move {
            let found = resolver.resolve(&name).await;
            drop(place);
            found
        });
        let found = looking.await.map_err(|problem| failed(describe(&problem)))?;
        let found = found.map_err(|problem| failed(describe(&problem)))?;
        if found.is_empty() { Err(failed("it has no address".into())) } else { Ok(found) }
    }

    /// The addresses that may be dialled.
    fn check(&self, found: &[IpAddr]) -> Result<Vec<IpAddr>, EgressError> {
        let private_granted = self.policy.allows_private(self.url);
        let may_dial = |class: AddressClass| class == AddressClass::Public || (private_granted && class.is_grantable());
        let (allowed, refused): (Vec<IpAddr>, Vec<IpAddr>) =
            found.iter().copied().partition(|address| may_dial(classify(*address)));
        if !allowed.is_empty() {
            return Ok(allowed);
        }
        // The most telling reason: metadata first, then what a grant could lift.
        let classes: Vec<AddressClass> = refused.into_iter().map(classify).collect();
        let class = classes
            .iter()
            .find(|class| **class == AddressClass::Metadata)
            .or_else(|| classes.iter().find(|class| class.is_grantable()))
            .or(classes.first());
        let class = class.copied().unwrap_or(AddressClass::Reserved);
        let remedy = Remedy::for_private(self.policy, self.url).filter(|_| class.is_grantable());
        Err(EgressError::AddressRefused {
            owner: self.policy.owner.clone(),
            origin: self.origin.to_owned(),
            class,
            remedy,
        })
    }

    /// Whether `address` leads to this program's own listener.
    fn is_own(&self, address: IpAddr) -> bool {
        let Some(own) = self.own.filter(|own| Some(own.port()) == self.url.port_or_known_default()) else {
            return false;
        };
        let (address, listens) = (address.to_canonical(), own.ip().to_canonical());
        // Only an address of this machine can be bound; a listener without an address of its own has all of them.
        address == listens
            || (listens.is_unspecified() && std::net::UdpSocket::bind(SocketAddr::new(address, 0)).is_ok())
    }

    async fn dial(&self, checked: &[IpAddr], until: Deadline) -> Result<(TcpStream, IpAddr), EgressError> {
        let port = self.url.port_or_known_default().unwrap_or_default();
        let attempts = checked.len().min(MAX_ATTEMPTS);
        let mut last_problem = String::from("no address was tried");
        for (index, address) in checked.iter().take(attempts).enumerate() {
            // Each attempt gets its share of what is left, so that one dead address cannot use it all up.
            let share = u32::try_from(attempts - index).unwrap_or(1);
            let attempt = TcpStream::connect(SocketAddr::new(*address, port));
            match tokio::time::timeout(until.remaining() / share, attempt).await {
                Ok(Ok(stream)) => {
                    // Small requests should not wait for more bytes; where this fails they merely do.
                    let _ = stream.set_nodelay(true);
                    return Ok((stream, *address));
                }
                Ok(Err(problem)) => last_problem = describe(&problem),
                Err(_) if index + 1 == attempts => return Err(EgressError::TimedOut { phase: CONNECTING }),
                Err(_) => last_problem = "no answer in time".into(),
            }
        }
        Err(EgressError::ConnectFailed { origin: self.origin.to_owned(), detail: last_problem })
    }
}

/// The phase named when connecting took too long.
pub(crate) const CONNECTING: &str = "connecting";
