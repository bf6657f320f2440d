//! The pipeline every outgoing request takes.
//!
//! In this order, and there is no second way out: the owner's allowlist, rate and concurrency, resolving, the address
//! check, dialling that very address, TLS with the certificate checked against the name, filling in secrets, sending,
//! scrubbing what comes back. A redirect is handed back as it is, for the guest to ask for the next address itself.
//!
//! Each request has a connection of its own: nothing that one owner opened can serve another, and no check is skipped
//! because a connection was there already. Nothing is decompressed.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use leanclaw_types::net::HostPattern;
use rustls::ClientConfig;
use url::Url;

use crate::body::{Driver, OutgoingBody, RequestBody, ResponseBody, request_too_large, response_too_large};
use crate::connect::{CONNECTING, Connection, Dialler, public_roots, tls_config};
use crate::deadline::{Deadline, GuestTimeouts, Timetable};
use crate::error::{EgressError, describe};
use crate::headers::{check_request, is_encoded, strip_response};
use crate::inject::{KnownSecrets, Rules};
use crate::limit::{Place, Usage};
use crate::observe::{EgressObserver, Flight};
use crate::policy::{EgressPolicy, SecretSource};
use crate::remedy::Remedy;
use crate::resolve::Resolver;
use crate::scrub::Scrubber;

/// The smallest header buffer the HTTP library works with, in bytes.
const MIN_HEADER_BUFFER_BYTES: usize = 8192;

/// A request a guest wants sent.
#[derive(Debug)]
pub struct Request {
    /// The method; `CONNECT` and `TRACE` are refused.
    pub method: Method,
    /// An `http` or `https` address without user name and password.
    pub url: Url,
    /// Headers, secret placeholders included.
    pub headers: HeaderMap,
    /// The body.
    pub body: RequestBody,
    /// Shorter timeouts than the owner's limits.
    pub timeouts: GuestTimeouts,
}

impl Request {
    /// A request without headers and body.
    #[must_use]
    pub fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: HeaderMap::new(), body: RequestBody::empty(), timeouts: GuestTimeouts::default() }
    }
}

/// What came back.
#[derive(Debug)]
pub struct Response {
    /// The status; redirects are not followed.
    pub status: StatusCode,
    /// The headers without those of the connection. `content-length` is left out where scrubbing may change the length.
    pub headers: HeaderMap,
    /// The body.
    pub body: ResponseBody,
}

pub(crate) struct Shared {
    resolver: Arc<dyn Resolver>,
    pub(crate) observer: Arc<dyn EgressObserver>,
    tls: Arc<ClientConfig>,
    /// Where this program itself listens.
    own: OnceLock<SocketAddr>,
    owners: Mutex<HashMap<String, Arc<Usage>>>,
}

/// The one way out of the program. Cheap to clone.
#[derive(Clone)]
pub struct Egress(Arc<Shared>);

impl Egress {
    /// Egress that resolves with `resolver`, tells `observer` about every request and trusts Mozilla's root
    /// certificates.
    #[must_use]
    pub fn new(resolver: Arc<dyn Resolver>, observer: Arc<dyn EgressObserver>) -> Self {
        Self::with_roots(resolver, observer, public_roots())
    }

    pub(crate) fn with_roots(
        resolver: Arc<dyn Resolver>,
        observer: Arc<dyn EgressObserver>,
        roots: rustls::RootCertStore,
    ) -> Self {
        Self(Arc::new(Shared {
            resolver,
            observer,
            tls: tls_config(roots),
            own: OnceLock::new(),
            owners: Mutex::default(),
        }))
    }

    /// Names where this program itself listens. No request goes there from here on, whatever is granted: who connects to
    /// it from this machine may count as its administrator. Only the first address counts.
    pub fn refuse_listener(&self, address: SocketAddr) {
        let _ = self.0.own.set(address);
    }

    /// A handle with the rights of `policy`. All handles of one owner share its rate and concurrency.
    #[must_use]
    pub fn open(&self, policy: EgressPolicy, secrets: Arc<dyn SecretSource>) -> EgressHandle {
        let mut owners = self.0.owners.lock().unwrap_or_else(PoisonError::into_inner);
        let usage = Arc::clone(owners.entry(policy.owner.clone()).or_default());
        EgressHandle { shared: Arc::clone(&self.0), usage, policy: Arc::new(policy), secrets }
    }
}

impl std::fmt::Debug for Egress {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Egress")
    }
}

/// One owner's way out. Cheap to clone.
#[derive(Clone)]
pub struct EgressHandle {
    pub(crate) shared: Arc<Shared>,
    usage: Arc<Usage>,
    pub(crate) policy: Arc<EgressPolicy>,
    secrets: Arc<dyn SecretSource>,
}

impl std::fmt::Debug for EgressHandle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("EgressHandle").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// Scheme, host and port, as errors and records name a destination.
pub(crate) fn origin_of(url: &Url) -> String {
    HostPattern::for_url(url).map_or_else(|| format!("{}:", url.scheme()), |pattern| pattern.to_string())
}

/// What a connection is wanted for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Request,
    Socket,
}

/// A request that is ready to be written, and what is needed to read its answer.
pub(crate) struct Ready {
    pub(crate) message: http::Request<OutgoingBody>,
    pub(crate) scrubber: Arc<Scrubber>,
    pub(crate) carries_secrets: bool,
}

impl EgressHandle {
    /// Sends a request and gives the answer as soon as its headers are there. Dropping the future or the response ends
    /// the request.
    ///
    /// # Errors
    /// [`EgressError`]; its code says at which step of the pipeline the request ended.
    pub async fn send(&self, request: Request, deadline: Deadline) -> Result<Response, EgressError> {
        let origin = origin_of(&request.url);
        let mut flight =
            Flight::begin(&self.shared.observer, &self.policy.owner, request.method.as_str(), origin.clone());
        let timetable = Timetable::new(&self.policy.limits, request.timeouts, deadline);
        match self.run(request, &origin, &timetable, &mut flight).await {
            Err(error) => {
                flight.fail(&error);
                Err(error)
            }
            Ok(Answer { parts, incoming, scrubber, driver, place }) => {
                let limit_bytes = self.policy.limits.response_bytes;
                let keep = (driver, place, flight);
                let body = ResponseBody::new(incoming, scrubber, &timetable, limit_bytes, keep);
                Ok(Response { status: parts.status, headers: parts.headers, body })
            }
        }
    }

    async fn run(
        &self,
        request: Request,
        origin: &str,
        timetable: &Timetable,
        flight: &mut Flight,
    ) -> Result<Answer, EgressError> {
        let Request { method, url, mut headers, body, .. } = request;
        let rules = Rules { policy: &self.policy, url: &url, origin };
        if method == Method::CONNECT || method == Method::TRACE {
            return Err(EgressError::InvalidRequest { detail: format!("the method {method} is not supported") });
        }
        self.authorise(rules, Purpose::Request)?;
        let declared_bytes = check_request(&mut headers, rules, body.exact_bytes())?;
        let limit_bytes = self.policy.limits.request_bytes;
        if declared_bytes.or(body.exact_bytes()).is_some_and(|length| length > limit_bytes) {
            return Err(request_too_large(limit_bytes));
        }
        rules.check(&headers)?;
        let (place, connection) = self.establish(rules, timetable, Purpose::Request).await?;
        flight.address = Some(connection.address);

        let body = OutgoingBody::new(body, declared_bytes, rules, Arc::clone(&flight.sent_bytes));
        let problem = body.problem();
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        let Ready { message, scrubber, carries_secrets } = self.prepare(rules, method, headers, body)?;
        let exchange = exchange(connection, message, &self.policy, origin, Upgrades::No);
        let result = timetable.within(WAITING, timetable.first_byte, exchange).await;
        let (driver, response) = result.map_err(|error| {
            // When the body stopped the request, that is the reason, whatever the connection says about it.
            match problem.get() {
                Some(problem) => problem.to_error(rules),
                None => error.map_detail(|detail| scrubber.text(detail)),
            }
        })?;
        let (mut parts, incoming) = response.into_parts();
        flight.status = parts.status.as_u16();
        self.check_answer(&mut parts, &incoming, &scrubber, carries_secrets, origin)?;
        Ok(Answer { parts, incoming, scrubber, driver, place })
    }

    /// The first step: is this a destination the owner may name at all?
    pub(crate) fn authorise(&self, rules: Rules<'_>, purpose: Purpose) -> Result<(), EgressError> {
        let url = rules.url;
        let invalid = |detail: &str| Err(EgressError::InvalidRequest { detail: detail.to_owned() });
        let (schemes, granted) = match purpose {
            Purpose::Request => (["https", "http"], &self.policy.allow),
            Purpose::Socket => (["wss", "ws"], &self.policy.sockets),
        };
        if !schemes.contains(&url.scheme()) {
            return invalid(&format!("the address must begin with `{}://` or `{}://`", schemes[0], schemes[1]));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return invalid("the address contains a user name or password; use an `authorization` header");
        }
        if granted.iter().any(|pattern| pattern.matches(url)) {
            return Ok(());
        }
        Err(EgressError::Denied {
            owner: self.policy.owner.clone(),
            origin: rules.origin.to_owned(),
            remedy: Remedy::for_denied(&self.policy, url, purpose == Purpose::Socket),
        })
    }

    /// Rate, concurrency, and a connection to a checked address.
    pub(crate) async fn establish(
        &self,
        rules: Rules<'_>,
        timetable: &Timetable,
        purpose: Purpose,
    ) -> Result<(Place, Connection), EgressError> {
        let policy = &self.policy;
        let per_minute = policy.limits.requests_per_minute;
        self.usage.note_start(per_minute).map_err(|wait| EgressError::RateLimited {
            owner: policy.owner.clone(),
            limit: per_minute,
            retry_after_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1),
        })?;
        let (places, limit, what) = match purpose {
            Purpose::Request => (&self.usage.requests, policy.limits.concurrency, "requests"),
            Purpose::Socket => (&self.usage.sockets, policy.limits.sockets, "WebSockets"),
        };
        let place = async { Ok(places.take(limit).await) };
        let place = timetable.within("waiting for a place", timetable.connect, place).await;
        let place = place.map_err(|_| EgressError::Busy { owner: policy.owner.clone(), what, limit })?;

        let shared = &self.shared;
        let dialler = Dialler {
            resolver: &shared.resolver,
            own: shared.own.get().copied(),
            place: &place,
            tls: &shared.tls,
            policy,
            url: rules.url,
            origin: rules.origin,
        };
        let until = Deadline::after(timetable.connect).min(timetable.end);
        let connection = timetable.within(CONNECTING, timetable.connect, dialler.connect(until)).await?;
        Ok((place, connection))
    }

    /// The last step before sending: secrets go in.
    pub(crate) fn prepare(
        &self,
        rules: Rules<'_>,
        method: Method,
        headers: HeaderMap,
        body: OutgoingBody,
    ) -> Result<Ready, EgressError> {
        let known = KnownSecrets::fetch(&self.policy, &*self.secrets);
        let scrubber = Arc::new(Scrubber::new(known.iter()));
        let filled = rules.apply(&headers, &known)?;
        let carries_secrets = filled.count > 0;
        let invalid = |what: &str| EgressError::InvalidRequest { detail: format!("the {what} is not valid") };
        let target = Uri::from_maybe_shared(Bytes::from(filled.target.to_vec())).map_err(|_| invalid("address"))?;
        let host = host_header(rules.url).ok_or_else(|| invalid("host"))?;
        let wants_length = matches!(method, Method::POST | Method::PUT | Method::PATCH);
        let is_empty = http_body::Body::is_end_stream(&body);

        let mut message = http::Request::new(body);
        *message.method_mut() = method;
        *message.uri_mut() = target;
        *message.headers_mut() = filled.headers;
        let headers = message.headers_mut();
        headers.insert(header::HOST, host);
        if is_empty && wants_length {
            // Some servers refuse these methods without a length, and the HTTP library leaves out a zero.
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        if carries_secrets && headers.contains_key(header::ACCEPT_ENCODING) {
            // A compressed echo could not be scrubbed.
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        Ok(Ready { message, scrubber, carries_secrets })
    }

    fn check_answer(
        &self,
        parts: &mut http::response::Parts,
        incoming: &Incoming,
        scrubber: &Scrubber,
        carries_secrets: bool,
        origin: &str,
    ) -> Result<(), EgressError> {
        let protocol = |detail: &str| EgressError::Protocol { origin: origin.to_owned(), detail: detail.to_owned() };
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(protocol("it switched protocols without being asked"));
        }
        if carries_secrets && is_encoded(&parts.headers) {
            return Err(protocol(
                "it answered compressed, so the secret sent to it could not be kept out of the answer",
            ));
        }
        let limit_bytes = self.policy.limits.response_bytes;
        if http_body::Body::size_hint(incoming).lower() > limit_bytes {
            return Err(response_too_large(limit_bytes));
        }
        clean_headers(&mut parts.headers, scrubber);
        Ok(())
    }
}

/// The phase named when the headers of the answer took too long.
pub(crate) const WAITING: &str = "waiting for the response";

struct Answer {
    parts: http::response::Parts,
    incoming: Incoming,
    scrubber: Arc<Scrubber>,
    driver: Driver,
    place: Place,
}

/// `host`, with `:port` where it is not the scheme's own.
fn host_header(url: &Url) -> Option<HeaderValue> {
    let host = url.host_str()?;
    let host = host.strip_suffix('.').unwrap_or(host);
    let text = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    HeaderValue::from_str(&text).ok()
}

/// Takes out of the headers of an answer what is not for the guest.
pub(crate) fn clean_headers(headers: &mut HeaderMap, scrubber: &Scrubber) {
    strip_response(headers);
    if scrubber.is_empty() {
        return;
    }
    headers.remove(header::CONTENT_LENGTH);
    let cleaned = headers.iter().filter_map(|(name, value)| {
        let value = HeaderValue::from_bytes(&scrubber.bytes(value.as_bytes())).ok()?;
        (scrubber.text(name.as_str()) == name.as_str()).then(|| (name.clone(), value))
    });
    let cleaned: Vec<_> = cleaned.collect();
    headers.clear();
    for (name, value) in cleaned {
        headers.append(name, value);
    }
}

/// Whether a connection may become something other than HTTP.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upgrades {
    Yes,
    No,
}

/// Writes the request and reads the head of the answer.
pub(crate) async fn exchange(
    connection: Connection,
    message: http::Request<OutgoingBody>,
    policy: &EgressPolicy,
    origin: &str,
    upgrades: Upgrades,
) -> Result<(Driver, http::Response<Incoming>), EgressError> {
    let header_bytes = policy.limits.header_bytes.max(MIN_HEADER_BUFFER_BYTES);
    let failed = |problem: hyper::Error| {
        let detail = describe(&problem);
        if problem.is_canceled() {
            EgressError::Cancelled
        } else if problem.is_parse() && detail.contains("too large") {
            let limit_bytes = u64::try_from(header_bytes).unwrap_or(u64::MAX);
            EgressError::TooLarge { what: "the head of the response", limit_bytes }
        } else {
            EgressError::Protocol { origin: origin.to_owned(), detail }
        }
    };
    let handshake = http1::Builder::new()
        .max_buf_size(header_bytes)
        .handshake::<_, OutgoingBody>(TokioIo::new(connection.stream))
        .await;
    let (mut sender, driving) = handshake.map_err(failed)?;
    // A problem while driving reaches the request or the body as well; it is not reported twice.
    let driver = Driver(match upgrades {
        Upgrades::Yes => tokio::spawn(async move { drop(driving.with_upgrades().await) }),
        Upgrades::No => tokio::spawn(async move { drop(driving.await) }),
    });
    let response = sender.send_request(message).await.map_err(failed)?;
    Ok((driver, response))
}
