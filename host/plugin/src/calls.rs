//! Every call the host makes into a guest, as data: one function runs it on a live instance.
//!
//! A call as data can wait in a mailbox; what it does is in one place for fresh and for resident instances.

use std::sync::Arc;

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

/// Something to be done in a channel, beside sending.
pub(crate) struct Action {
    pub(crate) name: String,
    pub(crate) place: Place,
    /// JSON.
    pub(crate) arguments: String,
}

/// What is asked of a guest. Kept small, because it is moved from hand to hand.
pub(crate) enum GuestCall {
    Method { name: Arc<str>, params: String },
    Tool { name: Arc<str>, input: String },
    Hook { event: String, payload: String },
    Deliver(Box<Outbound>),
    Perform(Box<Action>),
    Webhook(Box<WebhookRequest>),
    PollNext,
    PollReceived(Box<Result<poll::Response, Failure>>),
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
            Self::Perform(_) => "channel-actions.perform",
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

/// Runs the call in the store's frame on a live instance.
///
/// What each call needs lies on the heap, so that the futures around it, which are moved on their way, stay small.
pub(crate) async fn run(store: &mut Store_, live: &mut LiveInstance) -> Answer {
    let Some(call) = store.data_mut().frame.work.take() else { wasmtime::bail!("the frame of this call is empty") };
    let mut answer = match call {
        GuestCall::Method { name, params } => Box::pin(run_method(name, params, store, live)).await?,
        GuestCall::Tool { name, input } => Box::pin(run_tool(name, input, store, live)).await?,
        GuestCall::Hook { event, payload } => Box::pin(run_hook(event, payload, store, live)).await?,
        GuestCall::Http(request) => Box::pin(crate::routes::handle(*request, store, live)).await?,
        other => Box::pin(run_channel(other, store, live)).await?,
    };
    if let (Err(failure), Some(refusals)) = (&mut answer, &store.data().refusals) {
        refusals.explain(failure);
    }
    Ok(answer)
}

async fn run_method(name: Arc<str>, params: String, store: &mut Store_, live: &mut LiveInstance) -> Answer {
    let context = Context::of_call(store.data().frame.call);
    answer(live.invoke(store, context, &name, &params).await?, GuestReply::Json)
}

async fn run_tool(name: Arc<str>, input: String, store: &mut Store_, live: &mut LiveInstance) -> Answer {
    let context = Context::of_call(store.data().frame.call);
    let guest = live.skill(store)?;
    match guest.call_invoke(&mut *store, context, &name, &input).await? {
        Ok(output) => Ok(Ok(GuestReply::Tool(Box::new(convert::tool_output(store, output)?)))),
        Err(failure) => Ok(Err(from_guest(failure))),
    }
}

async fn run_hook(event: String, payload: String, store: &mut Store_, live: &mut LiveInstance) -> Answer {
    let context = Context::of_call(store.data().frame.call);
    let guest = live.hook(store)?;
    answer(guest.call_handle(&mut *store, context, &event, &payload).await?, GuestReply::Hook)
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
        GuestCall::Perform(action) => {
            let Action { name, place, arguments } = *action;
            let place = convert::place(place);
            let result = live.channel_actions(store)?.call_perform(&mut *store, &name, &place, &arguments).await?;
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
            let response = match &*response {
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
