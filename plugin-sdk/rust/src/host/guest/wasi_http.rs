//! A whole exchange over `wasi:http/outgoing-handler`.

use crate::bindings::wasi::http::outgoing_handler;
use crate::bindings::wasi::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
    RequestOptions, Scheme,
};
use crate::bindings::wasi::io::streams::{InputStream, OutputStream, StreamError};
use crate::blob::{Blob, Source};
use crate::failure::{Failure, code};
use crate::headers::Headers;
use crate::http::{Request, Response};

/// What `blocking-write-and-flush` takes at once, in bytes.
const MAX_WRITE_BYTES: usize = 4096;
const NANOSECONDS_PER_MILLISECOND: u64 = 1_000_000;

/// Sends a request and waits for the head of its response.
pub(crate) fn send(request: Request) -> Result<Response, Failure> {
    let (outgoing, options) = build(&request)?;
    let body =
        request.body.map(|blob| outgoing.body().map(|body| (body, blob)).map_err(|()| misuse("body"))).transpose()?;
    let future = outgoing_handler::handle(outgoing, options).map_err(failure_of)?;
    if let Some((body, blob)) = body {
        write_body(body, blob)?;
    }
    let response = wait(&future)?;
    let headers: Headers = response.headers().entries().into_iter().collect();
    let media_type = headers.get("content-type").unwrap_or("application/octet-stream").to_owned();
    let size = headers.get("content-length").and_then(|text| text.parse().ok());
    let body = response.consume().map_err(|()| misuse("response"))?;
    let stream = body.stream().map_err(|()| misuse("response body"))?;
    let source = Box::new(ResponseBody { stream, _body: body });
    Ok(Response { status: response.status(), headers, body: Blob::remote(media_type, size, source) })
}

fn build(request: &Request) -> Result<(OutgoingRequest, Option<RequestOptions>), Failure> {
    let (scheme, rest) = request.url.split_once("://").unwrap_or_default();
    let scheme = match scheme {
        "https" => Scheme::Https,
        "http" => Scheme::Http,
        _ => return Err(Failure::invalid_input("The URL starts with neither `https://` nor `http://`.")),
    };
    let rest = rest.split('#').next().unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let mut headers: Vec<_> = request.headers.iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
    // Without a length the body goes out in chunks, which not every server takes.
    if let Some(bytes) = request.body.as_ref().and_then(Blob::bytes_left) {
        headers.push(("content-length".to_owned(), bytes.to_string().into_bytes()));
    }
    let fields = Fields::from_list(&headers)
        .map_err(|error| Failure::invalid_input(format!("A request header is not acceptable: {error:?}.")))?;
    let outgoing = OutgoingRequest::new(fields);
    let refused = |what: &str| Failure::invalid_input(format!("The {what} of the request is not acceptable."));
    outgoing.set_method(&method(&request.method)).map_err(|()| refused("method"))?;
    outgoing.set_scheme(Some(&scheme)).map_err(|()| refused("scheme"))?;
    outgoing.set_authority(Some(authority)).map_err(|()| refused("host"))?;
    outgoing.set_path_with_query(Some(&path)).map_err(|()| refused("path"))?;
    let options = request.timeout_ms.map(|timeout_ms| {
        let options = RequestOptions::new();
        let nanoseconds = timeout_ms.saturating_mul(NANOSECONDS_PER_MILLISECOND);
        // A host without one of these bounds has its own instead.
        let _ = options.set_connect_timeout(Some(nanoseconds));
        let _ = options.set_first_byte_timeout(Some(nanoseconds));
        let _ = options.set_between_bytes_timeout(Some(nanoseconds));
        options
    });
    Ok((outgoing, options))
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "PATCH" => Method::Patch,
        other => Method::Other(other.to_owned()),
    }
}

fn write_body(body: OutgoingBody, mut blob: Blob) -> Result<(), Failure> {
    let stream = body.write().map_err(|()| misuse("request body"))?;
    while let Some(piece) = blob.read(MAX_WRITE_BYTES as u32)? {
        write_all(&stream, &piece)?;
    }
    drop(stream);
    OutgoingBody::finish(body, None).map_err(failure_of)
}

/// Writes all of `bytes`, waiting where the other side is slow.
pub(crate) fn write_all(stream: &OutputStream, bytes: &[u8]) -> Result<(), Failure> {
    for piece in bytes.chunks(MAX_WRITE_BYTES) {
        stream
            .blocking_write_and_flush(piece)
            .map_err(|error| Failure::unavailable(format!("The connection broke while writing: {error}.")))?;
    }
    Ok(())
}

/// The next piece of a stream; none at the end.
pub(crate) fn read_some(stream: &InputStream, max_bytes: u32) -> Result<Option<Vec<u8>>, Failure> {
    loop {
        match stream.blocking_read(u64::from(max_bytes)) {
            Ok(piece) if piece.is_empty() => {}
            Ok(piece) => return Ok(Some(piece)),
            Err(StreamError::Closed) => return Ok(None),
            Err(StreamError::LastOperationFailed(error)) => {
                let message = format!("The connection broke while reading: {}.", error.to_debug_string());
                return Err(Failure::unavailable(message));
            }
        }
    }
}

fn wait(future: &FutureIncomingResponse) -> Result<IncomingResponse, Failure> {
    loop {
        match future.get() {
            Some(Ok(response)) => return response.map_err(failure_of),
            Some(Err(())) => return Err(misuse("response")),
            None => future.subscribe().block(),
        }
    }
}

/// A response's body. The stream is a child of the body and must go first, so the order of the fields matters.
struct ResponseBody {
    stream: InputStream,
    _body: IncomingBody,
}

impl Source for ResponseBody {
    fn read(&mut self, max_bytes: u32) -> Result<Option<Vec<u8>>, Failure> {
        read_some(&self.stream, max_bytes)
    }

    fn into_raw(self: Box<Self>) -> Option<crate::bindings::raw::blobs::Blob> {
        None
    }
}

fn misuse(what: &str) -> Failure {
    Failure::internal(format!("The host gave the {what} twice."))
}

fn failure_of(error: ErrorCode) -> Failure {
    match error {
        ErrorCode::HttpRequestDenied => Failure::denied(
            "The request is not allowed: ask for its host in `permissions.http` of the manifest and have it granted.",
        ),
        ErrorCode::DestinationIpProhibited => Failure::denied(
            "The host leads to an address that is closed: ask for it in `permissions.privateHttp` of the manifest, if it \
             is a private one, and have it granted.",
        ),
        ErrorCode::HttpRequestUriInvalid => Failure::invalid_input("The URL of the request is not acceptable."),
        ErrorCode::DnsTimeout
        | ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::HttpResponseTimeout => Failure::timed_out("The server did not answer in time."),
        ErrorCode::HttpResponseBodySize(_) => Failure::too_large("The server's answer is larger than the host allows."),
        ErrorCode::InternalError(Some(message)) => Failure::new(code::UNAVAILABLE, message),
        other => {
            let name = format!("{other:?}");
            Failure::unavailable(format!("The request failed: {}.", name.trim_start_matches("ErrorCode::")))
        }
    }
}
