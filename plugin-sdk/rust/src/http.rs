//! HTTP requests that go out. Needs `permissions.http` (or `permissions.privateHttp`) for the host that is called.
//!
//! Two ways lead to the same gate, with the same grants and the same secrets:
//! * [`Request::send`] uses LeanClaw's plain `http` interface: smaller, and right for most;
//! * [`Request::send_over_wasi`] uses standard `wasi:http/outgoing-handler`. So does every crate that speaks `wasi:http`
//!   by itself, such as `wasip2`: it works in a plugin as it is, next to this SDK.
//!
//! The host follows no redirects, dials no private address that is not granted, and keeps its own bounds on time and
//! size. To send a secret, write `{{secret:NAME}}` where the manifest declares it for that host (a header, a query
//! parameter or the path); the host puts the value in after everything else was checked.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::blob::Blob;
use crate::failure::{Failure, code};
use crate::headers::Headers;
use crate::json::BYTE_ORDER_MARK;
use crate::{host, json, services};

/// A request to be sent.
///
/// ```
/// use leanclaw_plugin_sdk::{http::Request, testing::{Stub, TestHost}};
///
/// let host = TestHost::new();
/// host.stub_http("GET", "https://api.example.com/v1/me", Stub::json(&serde_json::json!({"name": "Ada"})));
/// let me: serde_json::Value = Request::get("https://api.example.com/v1/me")
///     .header("authorization", "Bearer {{secret:api-token}}")
///     .timeout_ms(5_000)
///     .send()?
///     .success()?
///     .json(64 * 1024)?;
/// assert_eq!(me["name"], "Ada");
/// # Ok::<(), leanclaw_plugin_sdk::Failure>(())
/// ```
#[derive(Debug)]
pub struct Request {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: Headers,
    pub(crate) body: Option<Blob>,
    pub(crate) timeout_ms: Option<u64>,
}

impl Request {
    /// A request with a method such as `GET`, to a whole URL.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self { method: method.into(), url: url.into(), headers: Headers::new(), body: None, timeout_ms: None }
    }

    /// A GET request.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// A POST request.
    pub fn post(url: impl Into<String>) -> Self {
        Self::new("POST", url)
    }

    /// Sets a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.set(name, value);
        self
    }

    /// Sets the body and, unless it is set already, the header `content-type`.
    #[must_use]
    pub fn body(mut self, body: Blob) -> Self {
        if self.headers.get("content-type").is_none() {
            self.headers.set("content-type", body.media_type());
        }
        self.body = Some(body);
        self
    }

    /// Sets a JSON body.
    ///
    /// # Errors
    /// [`Failure`] when `value` cannot be written as JSON.
    pub fn json<T: Serialize>(self, value: &T) -> Result<Self, Failure> {
        Ok(self.body(Blob::new("application/json", json::write(value, "request body")?)))
    }

    /// Ends the exchange after so many milliseconds; the host's own bound still holds.
    #[must_use]
    pub fn timeout_ms(mut self, timeout_ms: u64) -> Self {
        self.timeout_ms = Some(timeout_ms);
        self
    }

    /// Sends it through the plain `http` interface. Any status is a response; see [`Response::success`].
    ///
    /// # Errors
    /// `denied` when the host may not be called (the message says how to allow it), `timed-out`, `unavailable`, or
    /// another failure of the host.
    pub fn send(self) -> Result<Response, Failure> {
        host::http_send(self)
    }

    /// Sends it through `wasi:http/outgoing-handler`. Any status is a response; see [`Response::success`].
    ///
    /// # Errors
    /// As for [`send`](Self::send), and `invalid-input` for a URL that is not http or https.
    pub fn send_over_wasi(self) -> Result<Response, Failure> {
        host::http_send_over_wasi(self)
    }
}

/// What came back.
#[derive(Debug)]
pub struct Response {
    /// Such as 200.
    pub status: u16,
    /// Its headers.
    pub headers: Headers,
    /// Its body, read as far as it is asked for.
    pub body: Blob,
}

impl Response {
    /// The response itself when its status is 200 to 299, else what the status means: `rate-limited` (429),
    /// `unavailable` (5xx) and `timed-out` (408, 504) are retryable, with the time of the `retry-after` header;
    /// `auth-required` (401), `denied` (403), `not-found` (404, 410), `conflict` (409), `too-large` (413) and
    /// `invalid-input` (other) are not.
    ///
    /// # Errors
    /// As said. The body is not read.
    pub fn success(self) -> Result<Self, Failure> {
        let kind = match self.status {
            200..=299 => return Ok(self),
            401 => code::AUTH_REQUIRED,
            403 => code::DENIED,
            404 | 410 => code::NOT_FOUND,
            408 | 504 => code::TIMED_OUT,
            409 => code::CONFLICT,
            413 => code::TOO_LARGE,
            429 => code::RATE_LIMITED,
            500..=599 => code::UNAVAILABLE,
            _ => code::INVALID_INPUT,
        };
        let failure = Failure::new(kind, format!("The server answered with HTTP status {}.", self.status))
            .extra(serde_json::json!({ "status": self.status }));
        Err(match (kind, self.retry_after_ms()) {
            (code::RATE_LIMITED | code::UNAVAILABLE | code::TIMED_OUT, Some(after)) => failure.retry_after_ms(after),
            (code::RATE_LIMITED | code::UNAVAILABLE | code::TIMED_OUT, None) => failure.retryable(),
            _ => failure,
        })
    }

    /// When the server wants to be asked again, in milliseconds from now: the header `retry-after`, as seconds or as a
    /// date.
    #[must_use]
    pub fn retry_after_ms(&self) -> Option<u64> {
        let value = self.headers.get("retry-after")?.trim();
        match value.parse::<u64>() {
            Ok(seconds) => Some(seconds.saturating_mul(1000)),
            Err(_) => Some(http_date_ms(value)?.saturating_sub(services::now_ms())),
        }
    }

    /// The body, if it is at most `max_bytes`.
    ///
    /// # Errors
    /// `too-large`, or a [`Failure`] of the host.
    pub fn bytes(self, max_bytes: usize) -> Result<Vec<u8>, Failure> {
        self.body.bytes(max_bytes)
    }

    /// The body as text without a byte order mark, if it is at most `max_bytes` of UTF-8.
    ///
    /// # Errors
    /// `too-large`, `unavailable` when it is not UTF-8, or a [`Failure`] of the host.
    pub fn text(self, max_bytes: usize) -> Result<String, Failure> {
        let mut text = String::from_utf8(self.bytes(max_bytes)?)
            .map_err(|_| Failure::new(code::UNAVAILABLE, "The server's answer is not UTF-8 text."))?;
        if text.starts_with(BYTE_ORDER_MARK) {
            text.drain(..BYTE_ORDER_MARK.len_utf8());
        }
        Ok(text)
    }

    /// The body read as JSON, if it is at most `max_bytes`.
    ///
    /// # Errors
    /// `too-large`, `unavailable` when it does not fit `T`, or a [`Failure`] of the host.
    pub fn json<T: DeserializeOwned>(self, max_bytes: usize) -> Result<T, Failure> {
        json::read(&self.text(max_bytes)?, "server's answer")
            .map_err(|failure| Failure { code: code::UNAVAILABLE.into(), ..failure })
    }
}

/// Reads `Sun, 06 Nov 1994 08:49:37 GMT` (the form every HTTP server must write) as milliseconds since the Unix epoch.
fn http_date_ms(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ")?.1.split(' ');
    let day: i64 = words.next()?.parse().ok()?;
    let month_name = words.next()?;
    let month = i64::try_from(MONTHS.iter().position(|name| *name == month_name)?).ok()? + 1;
    let year: i64 = words.next()?.parse().ok().filter(|year| (1970..=9999).contains(year))?;
    let mut clock = words.next()?.split(':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if words.next() != Some("GMT") {
        return None;
    }
    // Days since 1970-01-01 in the Gregorian calendar, with years that start in March so that leap days come last.
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = shifted_year * 365 + shifted_year / 4 - shifted_year / 100 + shifted_year / 400 + day_of_year - 719_468;
    u64::try_from(((days * 24 + hour) * 60 + minute) * 60 + second).ok()?.checked_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestHost;

    fn response(status: u16, retry_after: Option<&str>) -> Response {
        let headers = retry_after.map(|value| ("retry-after", value)).into_iter().collect();
        Response { status, headers, body: Blob::new("text/plain", "") }
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        let of = |body: &str| Response { body: Blob::new("text/plain", body), ..response(200, None) };
        assert_eq!(of("\u{feff}gr\u{fc}\u{df}e\u{feff}").text(99).unwrap(), "gr\u{fc}\u{df}e\u{feff}");
        assert_eq!(of("\u{feff}[1]").json::<Vec<u8>>(99).unwrap(), [1]);
        assert_eq!(of("").text(99).unwrap(), "");
    }

    #[test]
    fn dates_of_http_are_read() {
        assert_eq!(http_date_ms("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777_000));
        assert_eq!(http_date_ms("Thu, 29 Feb 2024 00:00:00 GMT"), Some(1_709_164_800_000));
        assert_eq!(http_date_ms("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        for bad in
            ["", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Foo 1994 08:49:37 GMT", "Sun, x", "Sun, 06 Nov 1994 8 GMT"]
        {
            assert_eq!(http_date_ms(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_status_says_whether_to_try_again() {
        let host = TestHost::new();
        host.set_now_ms(784_111_777_000);
        assert!(response(204, None).success().is_ok());
        let failure = response(429, Some("7")).success().unwrap_err();
        assert_eq!((failure.code.as_str(), failure.retry_after_ms), (code::RATE_LIMITED, Some(7_000)));
        let failure = response(503, Some("Sun, 06 Nov 1994 08:49:39 GMT")).success().unwrap_err();
        assert_eq!((failure.retryable, failure.retry_after_ms), (true, Some(2_000)));
        let failure = response(500, Some("soon")).success().unwrap_err();
        assert_eq!((failure.retryable, failure.retry_after_ms), (true, None));
        let failure = response(404, Some("7")).success().unwrap_err();
        assert_eq!((failure.code.as_str(), failure.retryable, failure.retry_after_ms), (code::NOT_FOUND, false, None));
    }
}
