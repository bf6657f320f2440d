//! `http`: plain HTTP for languages without `wasi:http`; the same egress, the same grants.

use std::time::Duration;

use leanclaw_egress::{Deadline, EgressError, GuestTimeouts, Request, RequestBody};
use leanclaw_types::Failure;
use leanclaw_wasm::Limited;

use crate::bindings::imports::http::{self as wit, Host};
use crate::bindings::imports::types;
use crate::convert;
use crate::host::blobs::Blob;
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

impl InstanceState {
    fn outgoing(&mut self, request: wit::Request) -> wasmtime::Result<Result<Request, Failure>> {
        let body = match request.body {
            None => RequestBody::empty(),
            Some(handle) => {
                let blob = self.table.delete(handle)?;
                self.parked_bytes = self.parked_bytes.saturating_sub(blob.data.len());
                RequestBody::bytes(blob.data)
            }
        };
        let built = || -> Result<Request, String> {
            let method = http::Method::from_bytes(request.method.to_ascii_uppercase().as_bytes())
                .map_err(|_| "the method is not an HTTP method".to_owned())?;
            let url = url::Url::parse(&request.url).map_err(|error| format!("the address does not parse: {error}"))?;
            let mut outgoing = Request::new(method, url);
            outgoing.headers = convert::header_map(&request.headers)?;
            let wished = request.timeout_ms.map(Duration::from_millis);
            outgoing.timeouts = GuestTimeouts { connect: wished, first_byte: wished, between_bytes: wished };
            Ok(outgoing)
        };
        Ok(built()
            .map(|outgoing| Request { body, ..outgoing })
            .map_err(|problem| Failure::invalid(format!("The request cannot be sent: {problem}."))))
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
                self.refusals.note(&error);
                Ok(Err(to_guest(&egress_failure(&error))))
            }
            Ok((status, headers, body)) => {
                let media_type = headers
                    .get(http::header::CONTENT_TYPE)
                    .and_then(|value| value.to_str().ok())
                    .unwrap_or("application/octet-stream")
                    .to_owned();
                let body = self.table.push(Blob::new(media_type, body.to_vec()))?;
                Ok(Ok(wit::Response { status: status.as_u16(), headers: convert::headers(&headers), body }))
            }
        }
    }
}
