//! HTTP requests that come in: webhooks of a channel, and a plugin's own routes.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::{Failure, code};
use crate::headers::Headers;
use crate::json;

/// An HTTP request that came in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Such as `POST`.
    pub method: String,
    /// The path below the plugin's own, with its slash: `/` at least.
    pub path: String,
    /// What follows the question mark, without it; empty when there is none.
    pub query: String,
    /// Its headers.
    pub headers: Headers,
    /// Its body.
    pub body: Vec<u8>,
    /// The address it came from, as far as the host can tell; empty when it cannot.
    pub remote: String,
}

impl Request {
    /// The body read as JSON; a mistake names its path.
    ///
    /// # Errors
    /// `invalid-input`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let text = str::from_utf8(&self.body).map_err(|_| Failure::invalid_input("The body is not UTF-8 text."))?;
        json::read(text.strip_prefix(json::BYTE_ORDER_MARK).unwrap_or(text), "body")
    }
}

/// The answer to an HTTP request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Such as 200.
    pub status: u16,
    /// Its headers.
    pub headers: Headers,
    /// Its body.
    pub body: Vec<u8>,
}

impl Reply {
    /// A reply without a body.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self { status, headers: Headers::new(), body: Vec::new() }
    }

    /// A plain-text reply.
    pub fn text(status: u16, text: impl Into<String>) -> Self {
        Self::status(status).header("content-type", "text/plain; charset=utf-8").body(text.into())
    }

    /// A JSON reply.
    ///
    /// # Errors
    /// [`Failure`] when `value` cannot be written as JSON.
    pub fn json<T: Serialize>(status: u16, value: &T) -> Result<Self, Failure> {
        Ok(Self::status(status).header("content-type", "application/json").body(json::write(value, "reply")?))
    }

    /// Sets a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.set(name, value);
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

impl From<Failure> for Reply {
    /// The HTTP status of a failure's kind, with its message as text. What is internal stays so.
    fn from(failure: Failure) -> Self {
        let status = match failure.code.as_str() {
            code::INVALID_INPUT => 400,
            code::AUTH_REQUIRED => 401,
            code::DENIED => 403,
            code::NOT_FOUND => 404,
            code::CONFLICT => 409,
            code::TOO_LARGE => 413,
            code::RATE_LIMITED | code::BUDGET_EXHAUSTED => 429,
            code::UNSUPPORTED => 501,
            code::UNAVAILABLE => 503,
            code::TIMED_OUT => 504,
            _ => return Self::text(500, "Something went wrong."),
        };
        let reply = Self::text(status, failure.message);
        match failure.retry_after_ms {
            Some(milliseconds) => reply.header("retry-after", &milliseconds.div_ceil(1000).to_string()),
            None => reply,
        }
    }
}

/// HTTP routes of a plugin's own, at `/plugins/<id>/http/`: a facade over `wasi:http/incoming-handler` for requests and
/// replies that fit in memory. A plugin that streams implements `wasi:http/incoming-handler` itself, with any stock crate.
pub trait HttpRoutes: 'static {
    /// The largest body that is read, in bytes; a larger one is answered with 413.
    const MAX_BODY_BYTES: usize = 1024 * 1024;

    /// Answers one request.
    ///
    /// # Errors
    /// A [`Failure`] is answered with the HTTP status of its kind.
    fn handle(&self, request: Request) -> Result<Reply, Failure>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_is_no_part_of_json() {
        let request = Request { body: "\u{feff}[1]".into(), ..Request::default() };
        assert_eq!(request.json::<Vec<u8>>().unwrap(), [1]);
    }

    #[test]
    fn a_failure_answers_with_its_kind_and_hides_what_is_internal() {
        let reply = Reply::from(Failure::rate_limited("Slow down.").retry_after_ms(1_500));
        assert_eq!((reply.status, reply.headers.get("retry-after")), (429, Some("2")));
        let reply = Reply::from(Failure::internal("secret detail"));
        assert_eq!((reply.status, reply.body.as_slice()), (500, b"Something went wrong.".as_slice()));
    }
}
