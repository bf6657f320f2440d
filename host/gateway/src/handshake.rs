//! From the first frame to `hello-ok`, or to a close with a reason.

use std::sync::{Arc, LazyLock};

use leanclaw_types::Caller;
use leanclaw_types::frame::{ClientInfo, ConnectParams, ErrorShape, ProtocolVersion, RequestFrame, error_code};
use serde_json::{Value, json};
use tungstenite::Utf8Bytes;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::auth::{self, Access, Peer};
use crate::devices;
use crate::gateway::State;
use crate::hello::hello;
use crate::nodes::Declared;
use crate::phrase::Shape;
use crate::sessions::{Subscriptions, Taking};
use crate::wire::{self, Id, Payload};

static CONNECT: LazyLock<Shape> = LazyLock::new(Shape::of::<ConnectParams>);

/// When a client that came too early may come again.
const RETRY_STARTING_MS: u64 = 500;

/// A connection past its handshake.
#[derive(Debug)]
pub(crate) struct Session {
    /// Names the connection.
    pub(crate) id: String,
    /// What it speaks.
    pub(crate) version: ProtocolVersion,
    /// Who it is.
    pub(crate) caller: Arc<Caller>,
    /// What it says it is. Nothing is decided by it that a liar could gain from.
    pub(crate) client: ClientInfo,
    /// What an operator's client says it can show; of a node that is in `declared`.
    pub(crate) caps: Vec<String>,
    /// The device it proved to be.
    pub(crate) device: Option<String>,
    /// Where it comes from, and by whose word.
    pub(crate) peer: Peer,
    /// What it says it can do, if it is a node.
    pub(crate) declared: Option<Declared>,
    /// When it came.
    pub(crate) connected_at_ms: u64,
    /// What the hub had counted as taken back when it was decided on.
    pub(crate) decided_at: u64,
    /// Which sessions it wants to hear of.
    pub(crate) subscriptions: Subscriptions,
    /// Its messages that are being taken on.
    pub(crate) taking: Taking,
}

/// What the first frame led to.
pub(crate) enum Outcome {
    /// In.
    Welcome(Arc<Session>, Utf8Bytes),
    /// Out, with a response first when there is one.
    Goodbye(Option<Utf8Bytes>, CloseCode, Utf8Bytes),
}

/// What a socket asks for first: its `connect`, in a version that is spoken here.
struct Opening {
    id: Id,
    connect: ConnectParams,
    version: ProtocolVersion,
}

/// Reads the first frame of a socket, or says how the socket ends.
fn opening(text: &str) -> Result<Opening, Outcome> {
    let Some(frame) = RequestFrame::read(text) else {
        return Err(if serde_json::from_str::<Value>(text).is_ok() {
            Outcome::Goodbye(None, CloseCode::Policy, "invalid request frame".into())
        } else {
            Outcome::Goodbye(None, CloseCode::Normal, "".into())
        });
    };
    let id = Id::of(&frame);
    if frame.method != "connect" {
        let error = ErrorShape::invalid("invalid handshake: first request must be connect");
        return Err(refuse(&id, error, CloseCode::Policy));
    }
    let value: Value = serde_json::from_str(frame.params_text()).unwrap_or(Value::Null);
    let guessed = wording_for(&value);
    let connect: ConnectParams = match CONNECT.read(guessed, value) {
        Ok(connect) => connect,
        Err(problems) => {
            let error = ErrorShape::invalid(format!("invalid connect params: {problems}"));
            return Err(refuse(&id, error, CloseCode::Policy));
        }
    };
    match ProtocolVersion::negotiate(connect.min_protocol, connect.max_protocol) {
        Some(version) => Ok(Opening { id, connect, version }),
        None => Err(refuse(&id, mismatch(&connect), CloseCode::Protocol)),
    }
}

/// Answers the first frame of a socket before there is anything to let it into.
pub(crate) fn answer_starting(text: &str) -> Outcome {
    match opening(text) {
        Err(outcome) => outcome,
        Ok(opening) => {
            let mut error = ErrorShape::new(error_code::UNAVAILABLE, "gateway starting; retry shortly")
                .details(json!({"reason": "startup-sidecars"}));
            error.retryable = Some(true);
            error.retry_after_ms = Some(RETRY_STARTING_MS);
            let response = wire::response(&opening.id, &Err(error));
            Outcome::Goodbye(Some(response), CloseCode::Again, "gateway starting".into())
        }
    }
}

/// Answers the first frame of a socket.
pub(crate) async fn answer(state: &State, peer: Peer, nonce: &str, text: &str) -> Outcome {
    let Opening { id, connect, version } = match opening(text) {
        Ok(opening) => opening,
        Err(outcome) => return outcome,
    };
    let decided_at = state.hub.taken_back();
    let access = match auth::decide(&state.door(), &peer, version, &connect, nonce) {
        Ok(proven) => devices::admit(state, &peer, version, &connect, proven).await,
        Err(refusal) => Err(refusal),
    };
    match access {
        Ok(access) => welcome(state, peer, version, (&id, connect, access, decided_at)),
        Err(refusal) => {
            tracing::info!(remote = %peer.address, code = refusal.code, "a client was refused");
            state.audit_refusal(&peer, refusal.code);
            let mut goodbye = wire::close_reason(&refusal.error.message);
            if version.is_newest()
                && let Some(request) = refusal.error.details.as_ref().and_then(|details| details.get("requestId"))
            {
                let request = request.as_str().unwrap_or_default();
                goodbye = wire::close_reason(&format!("{} (requestId: {request})", refusal.error.message));
            }
            Outcome::Goodbye(Some(wire::response(&id, &Err(refusal.error))), CloseCode::Policy, goodbye)
        }
    }
}

fn welcome(
    state: &State,
    peer: Peer,
    version: ProtocolVersion,
    (id, connect, access, decided_at): (&Id, ConnectParams, Access, u64),
) -> Outcome {
    state.audit_login(&peer, &connect.client.id, &access);
    let session = uuid::Uuid::new_v4().to_string();
    let hello = hello(state, version, &session, &access);
    let payload = serde_json::to_string(&hello).map(Payload::Own).map_err(|_| ErrorShape::invalid("hello-ok"));
    tracing::info!(connection = %session, client = %connect.client.id, mode = %connect.client.mode,
        protocol = version.number(), remote = %peer.address, "a client connected");
    let (mut caps, mut declared) = (connect.caps, None);
    if access.caller.role == "node" {
        let caps = std::mem::take(&mut caps);
        declared = Some(Declared { caps, commands: connect.commands, permissions: connect.permissions });
    }
    let session = Session {
        id: session,
        declared,
        connected_at_ms: state.now_ms(),
        decided_at,
        version,
        caller: Arc::new(access.caller),
        client: connect.client,
        caps,
        device: access.device,
        peer,
        subscriptions: Subscriptions::default(),
        taking: Taking::default(),
    };
    Outcome::Welcome(Arc::new(session), wire::response(id, &payload))
}

fn refuse(id: &Id, error: ErrorShape, code: CloseCode) -> Outcome {
    let reason = wire::close_reason(&error.message);
    Outcome::Goodbye(Some(wire::response(id, &Err(error))), code, reason)
}

/// The version whose wording fits a client whose parameters could not be read.
fn wording_for(params: &Value) -> ProtocolVersion {
    match params.get("maxProtocol").and_then(Value::as_u64) {
        Some(3) => ProtocolVersion::V3,
        _ => ProtocolVersion::V4,
    }
}

fn mismatch(connect: &ConnectParams) -> ErrorShape {
    ErrorShape::invalid("protocol mismatch").details(json!({
        "code": "PROTOCOL_MISMATCH",
        "clientMinProtocol": connect.min_protocol,
        "clientMaxProtocol": connect.max_protocol,
        "expectedProtocol": ProtocolVersion::V4.number(),
        "minimumProbeProtocol": ProtocolVersion::V3.number(),
    }))
}
