//! `wasi:http/incoming-handler`: a plugin's own HTTP routes.
//!
//! Request and response are whole and bounded. The body of the answer is read while the guest still writes it, because
//! its pipe holds little.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use leanclaw_types::Failure;
use wasmtime::Store;
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};

use crate::calls::GuestReply;
use crate::guest::LiveInstance;
use crate::state::InstanceState;

/// The largest response body, in bytes.
const MAX_RESPONSE_BYTES: usize = 8 * 1024 * 1024;

/// Calls the handler and collects its response.
pub(crate) async fn handle(
    request: http::Request<Bytes>,
    store: &mut Store<InstanceState>,
    live: &mut LiveInstance,
) -> wasmtime::Result<Result<GuestReply, Failure>> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let request = request.map(|body| Full::new(body).map_err(|never| match never {}));
    let request = store.data_mut().http().new_incoming_request::<_>(Scheme::Http, map_error(request))?;
    let out = store.data_mut().http().new_response_outparam(sender)?;
    let guest = live.http(store)?;
    let read = async {
        match receiver.await {
            Ok(Ok(response)) => collect(response).await,
            Ok(Err(code)) => Err(refused(&code)),
            Err(_) => Err(unfinished()),
        }
    };
    // Not subject to tokio's budget: when it waits although the guest is done, nothing more will come.
    let mut read = pin!(tokio::task::unconstrained(read));
    let mut called = pin!(guest.call_handle(&mut *store, request, out));
    let response = tokio::select! {
        biased;
        done = &mut called => {
            done?;
            let rest = poll_fn(|context| Poll::Ready(read.as_mut().poll(context))).await;
            if let Poll::Ready(response) = rest { response } else { Err(unfinished()) }
        }
        response = &mut read => {
            called.await?;
            response
        }
    };
    Ok(response.map(|good| GuestReply::Http(Box::new(good))))
}

/// The guest returned, and what it promised is not there.
fn unfinished() -> Failure {
    Failure::internal("The plugin returned without a whole response.")
        .hint("its handler has to set a response and finish the body before it returns")
}

fn map_error<B>(
    request: http::Request<B>,
) -> http::Request<impl http_body::Body<Data = Bytes, Error = wasmtime_wasi_http::Error> + Send + 'static>
where
    B: http_body::Body<Data = Bytes, Error = std::convert::Infallible> + Send + 'static,
{
    request.map(|body| body.map_err(|never: std::convert::Infallible| match never {}))
}

async fn collect(
    response: http::Response<wasmtime_wasi_http::p2::body::HyperOutgoingBody>,
) -> Result<http::Response<Bytes>, Failure> {
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, MAX_RESPONSE_BYTES).collect().await.map_err(|error| {
        Failure::new("too-large", format!("The plugin's response could not be read to its end: {error}."))
            .hint(format!("a response may have at most {MAX_RESPONSE_BYTES} bytes"))
    })?;
    Ok(http::Response::from_parts(parts, body.to_bytes()))
}

fn refused(code: &ErrorCode) -> Failure {
    Failure::internal(format!(
        "The plugin answered with an error instead of a response: {}.",
        crate::logs::escape(crate::logs::cut(&format!("{code:?}"), 500))
    ))
    .hint("leanclaw plugin logs ID shows what the plugin says about it")
}
