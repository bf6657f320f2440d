//! `wasi:http/outgoing-handler`: standard outgoing HTTP, through the one egress module.
//!
//! The WASI crate is built without a way to send requests of its own, so this hook is the only one there is.

use bytes::Bytes;
use http_body_util::BodyExt;
use leanclaw_egress::{Deadline, EgressError, EgressHandle, GuestTimeouts, Request, RequestBody};
use tokio::time::Instant;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use crate::state::Refusals;

/// Sends what a guest asks for with the rights of its plugin and account.
pub(crate) struct EgressHooks {
    egress: EgressHandle,
    refusals: Refusals,
    deadline: Option<Instant>,
}

impl EgressHooks {
    pub(crate) fn new(egress: EgressHandle, refusals: Refusals) -> Self {
        Self { egress, refusals, deadline: None }
    }

    /// When the call that sends ends; a request never outlives it.
    pub(crate) fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }
}

type Sent = (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

impl WasiHttpHooks for EgressHooks {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        let (egress, refusals) = (self.egress.clone(), self.refusals.clone());
        let left = self.deadline.map_or(std::time::Duration::ZERO, |end| end.saturating_duration_since(Instant::now()));
        let deadline = Deadline::after(left);
        Box::new(async move {
            let outgoing = outgoing(request, options)?;
            let response = egress.send(outgoing, deadline).await.map_err(|error| {
                refusals.note(&error);
                to_wasi(&error)
            })?;
            let mut answer = http::Response::new(response.body.map_err(|error| to_wasi(&error)).boxed_unsync());
            *answer.status_mut() = response.status;
            *answer.headers_mut() = response.headers;
            let io: Box<dyn Future<Output = Result<(), Error>> + Send> = Box::new(std::future::ready(Ok(())));
            Ok((answer, io))
        })
    }
}

fn outgoing(request: http::Request<WasiBody>, options: Option<RequestOptions>) -> Result<Request, Error> {
    let (parts, body) = request.into_parts();
    let url = url::Url::parse(&parts.uri.to_string()).map_err(|_| Error::HttpRequestUriInvalid)?;
    let mut outgoing = Request::new(parts.method, url);
    outgoing.headers = parts.headers;
    // The WASI crate adds it from the address; egress sets its own.
    outgoing.headers.remove(http::header::HOST);
    outgoing.body = RequestBody::stream(
        body.map_err(|_| std::io::Error::other("the guest's request body failed"))
            .map_frame(|frame| frame.map_data(|data: Bytes| data)),
    );
    if let Some(options) = options {
        outgoing.timeouts = GuestTimeouts {
            connect: options.connect_timeout,
            first_byte: options.first_byte_timeout,
            between_bytes: options.between_bytes_timeout,
        };
    }
    Ok(outgoing)
}

/// The nearest standard error code: a guest can tell policy from network by it. The operator's copy, with the command
/// that would allow it, goes with the call's failure, into the plugin's log and into the audit log.
fn to_wasi(error: &EgressError) -> Error {
    match error.code() {
        "denied" | "forbidden-header" | "secret-not-declared" | "secret-missing" => Error::HttpRequestDenied,
        "address-refused" => Error::DestinationIpProhibited,
        "resolve-failed" => Error::DnsError { rcode: None, info_code: None },
        "connect-failed" => Error::ConnectionRefused,
        "tls-failed" => Error::TlsProtocolError,
        "timed-out" => Error::ConnectionTimeout,
        "too-large" => Error::HttpResponseBodySize(None),
        "rate-limited" | "busy" => Error::ConnectionLimitReached,
        "invalid-request" => Error::HttpRequestUriInvalid,
        _ => Error::InternalError(Some(error.to_string())),
    }
}
