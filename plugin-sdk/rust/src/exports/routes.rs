//! `wasi:http/incoming-handler` for plugins whose requests and replies fit in memory.

use super::{Adapter, Instance};
use crate::bindings::routes::exports::wasi::http::incoming_handler::Guest;
use crate::bindings::wasi::http::types::{
    Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use crate::failure::Failure;
use crate::host::{read_some, write_all};
use crate::web::{HttpRoutes, Reply, Request};

/// How much one read of a body asks for.
const READ_BYTES: u32 = 64 * 1024;

impl<P: HttpRoutes + Instance> Guest for Adapter<P> {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        crate::logging::install();
        let reply = read(&request, P::MAX_BODY_BYTES)
            .and_then(|request| P::with(|plugin| plugin.handle(request)))
            .unwrap_or_else(|failure| {
                log::warn!("a request failed: {failure}");
                Reply::from(failure)
            });
        if let Err(failure) = write(reply, out) {
            log::warn!("a reply was not sent: {failure}");
        }
    }
}

fn read(request: &IncomingRequest, max_body_bytes: usize) -> Result<Request, Failure> {
    let target = request.path_with_query().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let path = if path.is_empty() { "/" } else { path };
    Ok(Request {
        method: method(request.method()),
        path: path.to_owned(),
        query: query.to_owned(),
        headers: request.headers().entries().into_iter().collect(),
        body: read_body(request, max_body_bytes)?,
        remote: String::new(),
    })
}

fn method(method: Method) -> String {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(name) => return name,
    }
    .to_owned()
}

fn read_body(request: &IncomingRequest, max_bytes: usize) -> Result<Vec<u8>, Failure> {
    let gone = |()| Failure::internal("The host gave the request's body twice.");
    let body = request.consume().map_err(gone)?;
    let stream = body.stream().map_err(gone)?;
    let mut all = Vec::new();
    while let Some(piece) = read_some(&stream, READ_BYTES)? {
        if all.len() + piece.len() > max_bytes {
            return Err(Failure::too_large(format!("The body is larger than {max_bytes} bytes.")));
        }
        all.extend_from_slice(&piece);
    }
    Ok(all)
}

fn write(reply: Reply, out: ResponseOutparam) -> Result<(), Failure> {
    let gone = |()| Failure::internal("The host gave the response twice.");
    let headers: Vec<_> = reply.headers.iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
    let fields = Fields::from_list(&headers)
        .map_err(|error| Failure::internal(format!("A header of the reply is not acceptable: {error:?}.")))?;
    let response = OutgoingResponse::new(fields);
    response.set_status_code(reply.status).map_err(gone)?;
    let body = response.body().map_err(gone)?;
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().map_err(gone)?;
    write_all(&stream, &reply.body)?;
    drop(stream);
    OutgoingBody::finish(body, None)
        .map_err(|error| Failure::unavailable(format!("The connection broke while writing: {error}.")))
}
