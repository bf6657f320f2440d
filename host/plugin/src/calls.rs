//! Every call the host makes into a guest, as data: one function runs it on a live instance.
//!
//! A call as data can wait in a mailbox; what it does is in one place for fresh and for resident instances.

use leanclaw_types::Failure;
use leanclaw_types::message::{Outbound, Place, Receipt};
use wasmtime::Store;

use crate::bindings::exports::{hook, poll, socket, webhook};
use crate::bindings::imports::types;
use crate::convert::{self, RawToolOutput};
use crate::guest::LiveInstance;
use crate::host::call::Context;
use crate::state::{InstanceState, from_guest};

/// An HTTP request for a plugin's webhook.
#[derive(Debug, Clone)]
pub struct WebhookRequest {
    /// Upper-case method.
    pub method: String,
    /// The path after `/plugins/<id>/hook`, with its leading slash.
    pub path: String,
    /// The query without `?`.
    pub query: String,
    /// Headers as received.
    pub headers: http::HeaderMap,
    /// The whole body.
    pub body: bytes::Bytes,
    /// The peer's address.
    pub remote: String,
}

/// What a webhook answers.
#[derive(Debug, Clone)]
pub struct WebhookReply {
    /// Status code, 100 to 599.
    pub status: u16,
    /// Headers.
    pub headers: http::HeaderMap,
    /// Body.
    pub body: bytes::Bytes,
}

/// A veto, a rewrite or a go-ahead.
#[derive(Debug, Clone, PartialEq)]
pub struct HookDecision {
    /// `continue`, `skip`, `deny`, `replace`; anything else counts as `continue`.
    pub verdict: String,
    /// Why.
    pub reason: Option<String>,
    /// The new payload, for `replace`.
    pub payload: Option<serde_json::Value>,
}

/// What is asked of a guest.
pub(crate) enum GuestCall {
    Method { name: String, params: String },
    Tool { name: String, input: String },
    Hook { event: String, payload: String },
    Deliver(Box<Outbound>),
    Perform { action: String, place: Box<Place>, arguments: String },
    Webhook(Box<WebhookRequest>),
    PollNext,
    PollReceived(Result<poll::Response, Failure>),
    SocketTarget,
    SocketOpened,
    SocketReceived { kind: &'static str, data: Vec<u8> },
    SocketWoken,
    SocketClosed { code: u16, reason: String },
    Http(Box<http::Request<bytes::Bytes>>),
}

/// What a guest answered.
pub(crate) enum GuestReply {
    Json(String),
    Tool(Box<RawToolOutput>),
    Hook(hook::Decision),
    Receipt(Receipt),
    Webhook(webhook::Reply),
    PollStep(poll::Step),
    Target(socket::Endpoint),
    Reaction(socket::Reaction),
    Http(Box<http::Response<bytes::Bytes>>),
    Done,
}

impl GuestCall {
    /// The export that is called, for logs and audit rows.
    pub(crate) fn export(&self) -> &'static str {
        match self {
            Self::Method { .. } => "method.invoke",
            Self::Tool { .. } => "skill.invoke",
            Self::Hook { .. } => "hook.handle",
            Self::Deliver(_) => "channel.deliver",
            Self::Perform { .. } => "channel-actions.perform",
            Self::Webhook(_) => "webhook.handle",
            Self::PollNext => "poll.next",
            Self::PollReceived(_) => "poll.received",
            Self::SocketTarget => "socket.target",
            Self::SocketOpened => "socket.opened",
            Self::SocketReceived { .. } => "socket.received",
            Self::SocketWoken => "socket.woken",
            Self::SocketClosed { .. } => "socket.closed",
            Self::Http(_) => "incoming-handler.handle",
        }
    }
}

type Store_ = Store<InstanceState>;

/// An answer of the guest's own: its failure is not a fault.
type Answer = wasmtime::Result<Result<GuestReply, Failure>>;

fn answer<T>(result: Result<T, types::Failure>, reply: impl FnOnce(T) -> GuestReply) -> Answer {
    Ok(result.map(reply).map_err(from_guest))
}

/// Runs `call` on a live instance.
pub(crate) async fn run(call: GuestCall, store: &mut Store_, live: &mut LiveInstance) -> Answer {
    let mut answer = dispatch(call, store, live).await?;
    if let Err(failure) = &mut answer {
        store.data().refusals.explain(failure);
    }
    Ok(answer)
}

async fn dispatch(call: GuestCall, store: &mut Store_, live: &mut LiveInstance) -> Answer {
    match call {
        GuestCall::Method { name, params } => {
            let context = Context::of_call(store.data().frame.call);
            let guest = live.method(store)?;
            let result = guest.call_invoke(&mut *store, context, &name, &params).await?;
            answer(result, GuestReply::Json)
        }
        GuestCall::Tool { name, input } => {
            let context = Context::of_call(store.data().frame.call);
            let guest = live.skill(store)?;
            let result = guest.call_invoke(&mut *store, context, &name, &input).await?;
            match result {
                Ok(output) => Ok(Ok(GuestReply::Tool(Box::new(convert::tool_output(store, output)?)))),
                Err(failure) => Ok(Err(from_guest(failure))),
            }
        }
        GuestCall::Hook { event, payload } => {
            let context = Context::of_call(store.data().frame.call);
            let guest = live.hook(store)?;
            let result = guest.call_handle(&mut *store, context, &event, &payload).await?;
            answer(result, GuestReply::Hook)
        }
        // Boxed: what is rare must not make the future of every call large.
        GuestCall::Http(request) => Box::pin(crate::routes::handle(*request, store, live)).await,
        other => Box::pin(run_channel(other, store, live)).await,
    }
}

async fn run_channel(call: GuestCall, store: &mut Store_, live: &mut LiveInstance) -> Answer {
    match call {
        GuestCall::Deliver(message) => {
            let message = match convert::outbound(store, *message)? {
                Ok(message) => message,
                Err(failure) => return Ok(Err(failure)),
            };
            let result = live.channel(store)?.call_deliver(&mut *store, &message).await?;
            answer(result, |receipt| GuestReply::Receipt(convert::receipt(receipt)))
        }
        GuestCall::Perform { action, place, arguments } => {
            let place = convert::place(*place);
            let result = live.channel_actions(store)?.call_perform(&mut *store, &action, &place, &arguments).await?;
            answer(result, GuestReply::Json)
        }
        GuestCall::Webhook(request) => {
            let request = webhook::Request {
                method: request.method,
                path: request.path,
                query: request.query,
                headers: convert::headers(&request.headers),
                body: request.body.to_vec(),
                remote: request.remote,
            };
            let result = live.webhook(store)?.call_handle(&mut *store, &request).await?;
            answer(result, GuestReply::Webhook)
        }
        GuestCall::PollNext => answer(live.poll(store)?.call_next(&mut *store).await?, GuestReply::PollStep),
        GuestCall::PollReceived(response) => {
            let response = match &response {
                Ok(response) => Ok(response),
                Err(failure) => Err(&crate::state::to_guest(failure)),
            };
            answer(live.poll(store)?.call_received(&mut *store, response).await?, |()| GuestReply::Done)
        }
        other => run_socket(other, store, live).await,
    }
}

async fn run_socket(call: GuestCall, store: &mut Store_, live: &mut LiveInstance) -> Answer {
    let guest = live.socket(store)?;
    match call {
        GuestCall::SocketTarget => answer(guest.call_target(&mut *store).await?, GuestReply::Target),
        GuestCall::SocketOpened => answer(guest.call_opened(&mut *store).await?, GuestReply::Reaction),
        GuestCall::SocketReceived { kind, data } => {
            let frame = socket::Frame { kind: kind.into(), data };
            answer(guest.call_received(&mut *store, &frame).await?, GuestReply::Reaction)
        }
        GuestCall::SocketWoken => answer(guest.call_woken(&mut *store).await?, GuestReply::Reaction),
        GuestCall::SocketClosed { code, reason } => {
            answer(guest.call_closed(&mut *store, code, &reason).await?, |()| GuestReply::Done)
        }
        _ => wasmtime::bail!("not a call of the socket interface"),
    }
}
