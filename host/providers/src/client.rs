//! One request to a provider: sent through egress, tried again where that helps, with the credential renewed once.
//!
//! It follows no redirect and reads nothing compressed: both are errors that say so. The credential goes to the host of
//! the provider's address and to no other.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use http::{Method, StatusCode};
use leanclaw_egress::{Deadline, EgressHandle, GuestTimeouts, Request, RequestBody, Response, ResponseBody};
use leanclaw_types::Failure;
use leanclaw_types::clock::Clock;
use leanclaw_types::failure::code;
use serde::de::DeserializeOwned;
use serde_json::json;
use url::Url;

use crate::credential::{Credential, Credentials, Login, Shown};
use crate::json;
use crate::problem::{About, Problem, Said, set_extra};
use crate::retry::{RetryPolicy, should_retry, wanted_wait};

/// How much of the body of an error is read, in bytes.
const ERROR_BYTES: usize = 64 * 1024;
/// How long the body of an error is waited for.
const ERROR_TIME: Duration = Duration::from_secs(10);

/// How long to wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Until there is a connection. Default 10 s.
    pub connect: Duration,
    /// From there until the answer's headers, and then anew until its first bytes. Default 5 min: models think before they
    /// speak.
    pub first_byte: Duration,
    /// Between two pieces of an answer. Anything that comes counts, a ping and a comment too, so a server that only pings
    /// is ended by the caller's deadline alone. Default 90 s.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), first_byte: Duration::from_secs(300), idle: Duration::from_secs(90) }
    }
}

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// All headers but the credential's.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// What a credential that comes from a login needs beside it.
    pub(crate) token_headers: HeaderMap,
}

impl Ask {
    /// Asks for what stands at `url`, or hands `body`, which is JSON, to it. `headers` are the provider's own.
    pub(crate) fn new(url: Url, body: Option<Vec<u8>>, mut headers: HeaderMap) -> Self {
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("leanclaw/", env!("CARGO_PKG_VERSION"))));
        let method = if body.is_some() { Method::POST } else { Method::GET };
        if body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        Self { method, url, headers, body: Bytes::from(body.unwrap_or_default()), token_headers: HeaderMap::new() }
    }
}

/// What is called `path` below `base`, whether or not that ends with a slash.
pub(crate) fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url
}

/// An answer that is no error, about to be read.
pub(crate) struct Accepted {
    pub(crate) body: ResponseBody,
    /// In lower case and without parameters; empty where the server gives none.
    pub(crate) content_type: String,
    pub(crate) request_id: Option<String>,
    pub(crate) credential: Credential,
    pub(crate) about: Arc<About>,
    pub(crate) timeouts: Timeouts,
    begun: bool,
}

impl std::fmt::Debug for Accepted {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Accepted").field("content_type", &self.content_type).finish_non_exhaustive()
    }
}

impl Accepted {
    /// The next piece of the body; none at its end. Cancel-safe.
    pub(crate) async fn piece(&mut self) -> Option<Result<Bytes, Problem>> {
        let (limit, phase) = if self.begun {
            (self.timeouts.idle, "nothing more of the answer came for")
        } else {
            (self.timeouts.first_byte, "the answer did not begin within")
        };
        match tokio::time::timeout(limit, self.body.chunk()).await {
            Ok(Some(Ok(piece))) => {
                self.begun = true;
                Some(Ok(piece))
            }
            Ok(Some(Err(error))) => Some(Err(self.about.lost(&error))),
            Ok(None) => None,
            Err(_) => {
                let message = format!("{}: {phase} {} ms", self.about.name, limit.as_millis());
                let mut failure = self.about.failure(code::TIMED_OUT, message).hint("try again, or use another model");
                failure.retryable = true;
                Some(Err(Problem::last(failure)))
            }
        }
    }

    /// The whole body as text.
    pub(crate) async fn text(&mut self) -> Result<String, Problem> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.piece().await {
            bytes.extend_from_slice(&piece?);
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The beginning of the body, for saying what came in place of what was expected.
    pub(crate) async fn beginning(&mut self, most_bytes: usize) -> String {
        let mut bytes = Vec::new();
        let reading = async {
            while let Some(Ok(piece)) = self.body.chunk().await {
                bytes.extend_from_slice(&piece);
                if bytes.len() >= most_bytes {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(ERROR_TIME, reading).await;
        bytes.truncate(most_bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Reads an answer. What it gives is seen by nobody before it has succeeded, so it may be called again.
pub(crate) type Read<T> = dyn Fn(Accepted) -> BoxFuture<'static, Result<T, Problem>> + Send + Sync;

/// How a provider is reached.
pub(crate) struct Client {
    pub(crate) about: Arc<About>,
    /// The header that keys go into; none where they go as `Authorization: Bearer`.
    pub(crate) key_header: Option<HeaderName>,
    /// The header in which the provider names a request.
    pub(crate) request_id_header: &'static str,
    pub(crate) retry: RetryPolicy,
    pub(crate) timeouts: Timeouts,
    handle: EgressHandle,
    login: Login,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Client").field("about", &self.about).finish_non_exhaustive()
    }
}

/// What every provider is made with.
pub struct Means {
    /// The way out, as [`crate::egress_policy`] bounds it.
    pub egress: EgressHandle,
    /// What proves who asks.
    pub credentials: Arc<dyn Credentials>,
    /// The time of day, for servers that say until when to wait.
    pub clock: Arc<dyn Clock>,
    /// How often to try again.
    pub retry: RetryPolicy,
    /// How long to wait.
    pub timeouts: Timeouts,
}

impl std::fmt::Debug for Means {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Means").field("egress", &self.egress).finish_non_exhaustive()
    }
}

impl Client {
    pub(crate) fn new(
        means: Means,
        about: (&str, &str, &'static str),
        key_header: Option<HeaderName>,
        request_id_header: &'static str,
    ) -> Self {
        let Means { egress: handle, credentials, clock, retry, timeouts } = means;
        let login = Login::new(credentials);
        let (id, name, base_url_setting) = about;
        let (id, name) = (id.to_owned(), name.to_owned());
        let about = Arc::new(About { id, name, base_url_setting, setting: login.setting() });
        Self { about, key_header, request_id_header, retry, timeouts, handle, login, clock }
    }

    /// Asks until `read` succeeds or asking again would not help.
    pub(crate) async fn call<T>(&self, ask: &Ask, deadline: Deadline, read: &Read<T>) -> Result<T, Failure> {
        let mut shown = self.current(deadline).await?;
        let mut may_renew = true;
        let mut retry = 0;
        loop {
            let mut problem = match self.send(ask, &shown.credential, deadline).await {
                Ok(accepted) => match read(accepted).await {
                    Ok(value) => return Ok(value),
                    Err(problem) => problem,
                },
                Err(problem) => problem,
            };
            set_extra(&mut problem.failure, "attempts", json!(retry + 1));
            if problem.unauthorised && std::mem::take(&mut may_renew) {
                shown = self.renew(shown, problem.failure, deadline).await?;
                continue;
            }
            self.retry.wait(retry, problem, deadline).await?;
            retry += 1;
        }
    }

    /// Asks for JSON of a known shape.
    pub(crate) async fn fetch<T>(&self, ask: &Ask, deadline: Deadline) -> Result<T, Failure>
    where
        T: DeserializeOwned + Send + 'static,
    {
        let read = |mut accepted: Accepted| -> BoxFuture<'static, _> {
            Box::pin(async move {
                let text = accepted.text().await?;
                json::parse(&text).map_err(|error| {
                    let what = accepted.credential.scrub(&error.to_string(), 300);
                    Problem::last(accepted.about.garbled(&what))
                })
            })
        };
        self.call(ask, deadline, &read).await
    }

    /// What to show. While it is renewed this waits, as whoever is refused would have to.
    async fn current(&self, deadline: Deadline) -> Result<Shown, Failure> {
        let shown = tokio::time::timeout(deadline.remaining(), self.login.current()).await;
        shown.unwrap_or_else(|_| {
            let message = format!("{}: the credential could not be had in time", self.about.name);
            Err(self.about.failure(code::TIMED_OUT, message).hint(format!("see to {}", self.about.setting)))
        })
    }

    async fn renew(&self, refused: Shown, refusal: Failure, deadline: Deadline) -> Result<Shown, Failure> {
        match tokio::time::timeout(deadline.remaining(), self.login.renew(refused)).await {
            Ok(Ok(Some(renewed))) => Ok(renewed),
            Ok(Ok(None)) | Err(_) => Err(refusal),
            Ok(Err(mut failure)) => {
                set_extra(&mut failure, "provider", json!(self.about.id));
                Err(failure)
            }
        }
    }

    async fn send(&self, ask: &Ask, credential: &Credential, deadline: Deadline) -> Result<Accepted, Problem> {
        let mut headers = ask.headers.clone();
        if credential.is_token() {
            headers.extend(ask.token_headers.clone());
        }
        credential.apply(&mut headers, self.key_header.clone()).map_err(Problem::last)?;
        let request = Request {
            method: ask.method.clone(),
            url: ask.url.clone(),
            headers,
            body: if ask.body.is_empty() { RequestBody::empty() } else { RequestBody::bytes(ask.body.clone()) },
            timeouts: GuestTimeouts {
                connect: Some(self.timeouts.connect),
                first_byte: Some(self.timeouts.first_byte),
                between_bytes: None,
            },
        };
        let response = self.handle.send(request, deadline).await.map_err(|error| self.about.lost(&error))?;
        self.accept(response, credential).await
    }

    async fn accept(&self, response: Response, credential: &Credential) -> Result<Accepted, Problem> {
        let Response { status, headers, body } = response;
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let content_type = text(CONTENT_TYPE).split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let request_id = headers.get(self.request_id_header).and_then(|value| value.to_str().ok());
        let request_id = request_id.map(|id| credential.scrub(id, 100));
        let mut accepted = Accepted {
            body,
            content_type,
            request_id,
            credential: credential.clone(),
            about: Arc::clone(&self.about),
            timeouts: self.timeouts,
            begun: false,
        };
        if status.is_redirection() {
            return Err(Problem::last(self.redirected(status, text(LOCATION), credential)));
        }
        let encoding = text(CONTENT_ENCODING);
        let is_encoded = !matches!(encoding.trim().to_ascii_lowercase().as_str(), "" | "identity");
        if !status.is_success() {
            let body = if is_encoded { String::new() } else { accepted.beginning(ERROR_BYTES).await };
            let mut said = Said::read(&body);
            said.request_id = accepted.request_id.or(said.request_id);
            let asked = (should_retry(&headers), wanted_wait(&headers, self.clock.now_ms()));
            return Err(self.about.refusal(status.as_u16(), &said, credential, asked));
        }
        if is_encoded {
            let what = format!(
                "the answer is compressed ({}) although that was not asked for",
                credential.scrub(encoding, 40)
            );
            return Err(Problem::last(self.about.garbled(&what)));
        }
        Ok(accepted)
    }

    fn redirected(&self, status: StatusCode, location: &str, credential: &Credential) -> Failure {
        let host = Url::parse(location).ok().and_then(|url| url.host_str().map(str::to_owned));
        let host = host.map_or_else(|| "another place".to_owned(), |host| credential.scrub(&host, 253));
        let about = &self.about;
        let message = format!("{} answered {} and points to {host}; it was not followed", about.name, status.as_u16());
        let mut failure = about.failure(code::DENIED, message).hint(format!(
            "where {host} is the right server, name it in {}; the credential is sent nowhere else",
            about.base_url_setting
        ));
        set_extra(&mut failure, "status", json!(status.as_u16()));
        failure
    }
}
