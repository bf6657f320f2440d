//! `http`: plain HTTP for languages without `wasi:http`; the same egress, the same grants.

use std::time::Duration;

use leanclaw_egress::{Deadline, EgressError, GuestTimeouts, Request, RequestBody};
use leanclaw_types::Failure;
use leanclaw_wasm::Limited;

use crate::bindings::imports::http::{self as wit, Host};
use crate::bindings::imports::types;
use crate::convert;
use crate::host::blobs::ANY_BYTES;
use crate::state::{InstanceState, to_guest};

/// An egress error in the contract's shape, with the commands that would allow it.
pub(crate) fn egress_failure(error: &EgressError) -> Failure {
    let code = match error.code() {
        "denied" | "forbidden-header" | "secret-not-declared" | "address-refused" => "denied",
        "timed-out" => "timed-out",
        "too-large" => "too-large",
        "rate-limited" | "busy" => "rate-limited",
        "invalid-request" => "invalid-input",
        _ => "unavailable",
    };
    let mut failure = Failure::new(code, format!("{error}."));
    failure.retryable = error.is_retryable();
    failure.retry_after_ms = error.retry_after_ms();
    failure.extra = Some(serde_json::json!({ "egress": error.code() }));
    failure.hints = error.hints();
    failure
}

/// A request without its body, from what a guest wrote.
///
/// # Errors
/// `invalid-input`; the message begins with `what`, as in "The poll request".
pub(crate) fn request_head(what: &str, method: &str, url: &str, headers: &[types::Header]) -> Result<Request, Failure> {
    let invalid = |problem: &str| {
        Failure::invalid(format!("{what} cannot be sent: {problem}."))
            .hint("send a request with an HTTP method, a whole http(s) address and well-formed headers")
    };
    let method = http::Method::from_bytes(method.to_ascii_uppercase().as_bytes())
        .map_err(|_| invalid("the method is not an HTTP method"))?;
    let url = url::Url::parse(url).map_err(|error| invalid(&format!("the address does not parse: {error}")))?;
    let mut request = Request::new(method, url);
    request.headers = convert::header_map(headers).map_err(|problem| invalid(&problem))?;
    Ok(request)
}

impl InstanceState {
    fn outgoing(&mut self, request: wit::Request) -> wasmtime::Result<Result<Request, Failure>> {
        let body = match request.body {
            None => RequestBody::empty(),
            Some(handle) => RequestBody::bytes(self.take_blob(handle)?.data),
        };
        let head = request_head("The request", &request.method, &request.url, &request.headers);
        let wished = request.timeout_ms.map(Duration::from_millis);
        let timeouts = GuestTimeouts { connect: wished, first_byte: wished, between_bytes: wished };
        Ok(head.map(|head| Request { body, timeouts, ..head }))
    }
}

impl Host for InstanceState {
    async fn send(&mut self, request: wit::Request) -> wasmtime::Result<Result<wit::Response, types::Failure>> {
        self.enter()?;
        let wished = request.timeout_ms.map_or(Duration::MAX, Duration::from_millis);
        let deadline = Deadline::after(self.limiter().remaining().min(wished));
        let outgoing = match self.outgoing(request)? {
            Ok(outgoing) => outgoing,
            Err(failure) => return Ok(Err(to_guest(&failure))),
        };
        let exchange = async {
            let response = self.shared.egress.send(outgoing, deadline).await?;
            Ok::<_, EgressError>((response.status, response.headers, response.body.bytes().await?))
        };
        match exchange.await {
            Err(error) => {
                self.refusals.get_or_insert_default().note(&error);
                Ok(Err(to_guest(&egress_failure(&error))))
            }
            Ok((status, headers, body)) => {
                let media_type = headers
                    .get(http::header::CONTENT_TYPE)
                    .and_then(|value| value.to_str().ok())
                    .unwrap_or(ANY_BYTES)
                    .to_owned();
                Ok(match self.park(media_type, body.into())? {
                    Ok(body) => {
                        Ok(wit::Response { status: status.as_u16(), headers: convert::headers(&headers), body })
                    }
                    Err(failure) => Err(to_guest(&failure)),
                })
            }
        }
    }
}
