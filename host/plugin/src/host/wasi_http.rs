//! `wasi:http/outgoing-handler`: standard outgoing HTTP, through the one egress module.
//!
//! The WASI crate is built without a way to send requests of its own, so this hook is the only one there is. What a
//! guest keeps in handles of `wasi:http/types` is the host's memory: the number of handles is bounded by
//! [`leanclaw_wasm::Limits::handles`] and the size of each one here.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use leanclaw_egress::{Deadline, EgressError, GuestTimeouts, Request, RequestBody};
use tokio::time::Instant;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::p2::bindings::LinkOptions;
use wasmtime_wasi_http::p2::bindings::http::types::{self, HostOutgoingRequest as _};
use wasmtime_wasi_http::p2::types::HostOutgoingRequest;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttp, WasiHttpHooks, WasiHttpView};

use crate::diagnose::WASI_VERSION;
use crate::state::{InstanceState, Refusals, Shared};

/// Sends what a guest asks for with the rights of its plugin and account.
pub(crate) struct EgressHooks {
    shared: Arc<Shared>,
    refusals: Refusals,
    deadline: Option<Instant>,
}

impl EgressHooks {
    pub(crate) fn new(shared: Arc<Shared>, refusals: Refusals) -> Self {
        Self { shared, refusals, deadline: None }
    }

    /// When the call that sends ends; a request never outlives it.
    pub(crate) fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }
}

/// The most bytes that one `fields` holds.
pub(crate) const FIELDS_BYTES: usize = 16 * 1024;
/// The most bytes of a request body that wait to be sent. Two such pieces can wait for each body.
const BODY_PIECE_BYTES: usize = 16 * 1024;
/// The longest method, host with port, and path with query of an outgoing request, in bytes.
const METHOD_BYTES: usize = 64;
const AUTHORITY_BYTES: usize = 512;
const PATH_BYTES: usize = 8 * 1024;

/// Links `wasi:http/types`. Three functions of the WASI crate keep text of any length; they are replaced by ones that
/// refuse what is too long as what is not valid is refused.
pub(crate) fn add_types_to_linker(linker: &mut Linker<InstanceState>) -> wasmtime::Result<()> {
    type Request = Resource<HostOutgoingRequest>;
    let options = LinkOptions::default();
    types::add_to_linker::<_, WasiHttp>(linker, &(&options).into(), InstanceState::http)?;
    linker.allow_shadowing(true);
    let mut interface = linker.instance(&format!("wasi:http/types@{WASI_VERSION}"))?;
    interface.func_wrap(
        "[method]outgoing-request.set-method",
        |mut store: StoreContextMut<'_, InstanceState>, (request, method): (Request, types::Method)| {
            let mut http = store.data_mut().http();
            if matches!(&method, types::Method::Other(name) if name.len() > METHOD_BYTES) {
                return Ok((Err(()),));
            }
            Ok((http.set_method(request, method)?,))
        },
    )?;
    interface.func_wrap(
        "[method]outgoing-request.set-authority",
        |mut store: StoreContextMut<'_, InstanceState>, (request, authority): (Request, Option<String>)| {
            let mut http = store.data_mut().http();
            if authority.as_ref().is_some_and(|authority| authority.len() > AUTHORITY_BYTES) {
                return Ok((Err(()),));
            }
            Ok((http.set_authority(request, authority)?,))
        },
    )?;
    interface.func_wrap(
        "[method]outgoing-request.set-path-with-query",
        |mut store: StoreContextMut<'_, InstanceState>, (request, path): (Request, Option<String>)| {
            let mut http = store.data_mut().http();
            if path.as_ref().is_some_and(|path| path.len() > PATH_BYTES) {
                return Ok((Err(()),));
            }
            Ok((http.set_path_with_query(request, path)?,))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

type Sent = (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

impl WasiHttpHooks for EgressHooks {
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_PIECE_BYTES
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        let (egress, refusals) = (self.shared.egress.clone(), self.refusals.clone());
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
