//! Messaging channels: sending, and the ways in which messages come in.
//!
//! A channel is `Channel` and whatever it needs of `Webhook`, `Poll`, `Socket` and `ChannelActions`. What comes in goes
//! to [`inbox::submit`](crate::inbox::submit). A channel's instances are resident, and sending and receiving may run in
//! different ones: what both must know belongs in [`kv`](crate::kv), not in `self`.

use serde_json::Value;

use crate::failure::Failure;
use crate::headers::Headers;
use crate::http;
use crate::message::{Outbound, Place, Receipt};
use crate::web;

/// A messaging channel.
pub trait Channel: 'static {
    /// What the channel is and can do.
    fn describe(&self) -> Descriptor;

    /// Sends a message. Delivering the same `idempotency_key` twice sends once.
    ///
    /// # Errors
    /// A retryable [`Failure`] makes the host try again, not before `retry_after_ms`; any other ends the attempt.
    fn deliver(&self, message: Outbound) -> Result<Receipt, Failure>;
}

/// What a channel is and can do.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Descriptor {
    /// One of `channels` in the manifest.
    pub id: String,
    /// For people.
    pub title: String,
    /// The longest text it can send, in bytes of UTF-8.
    pub max_text_bytes: u32,
    /// `edit`, `delete`, `typing`, `react`, ...: what [`ChannelActions`] can do.
    pub abilities: Vec<String>,
    /// Anything further.
    pub extra: Option<Value>,
}

/// What a channel can do besides sending, as named in [`Descriptor::abilities`].
pub trait ChannelActions: 'static {
    /// Does `action` in `place`.
    ///
    /// # Errors
    /// [`Failure::unsupported`] for an action that is not among the abilities; else what went wrong.
    fn perform(&self, action: &str, place: Place, arguments: Value) -> Result<Value, Failure>;
}

/// A channel that is told of messages over HTTP, at `/plugins/<id>/hook/`.
pub trait Webhook: 'static {
    /// Answers one request. Anyone on the network may have sent it, so it must prove where it comes from, by a
    /// signature for example.
    ///
    /// # Errors
    /// A [`Failure`] becomes an HTTP status of its kind; a reply with a status of one's own says more.
    fn handle(&self, request: web::Request) -> Result<web::Reply, Failure>;
}

/// A channel whose server the host polls. The plugin says what to ask and reads the answer; it never waits itself.
pub trait Poll: 'static {
    /// What to ask now.
    ///
    /// # Errors
    /// A [`Failure`] makes the host wait and ask again.
    fn next(&self) -> Result<PollStep, Failure>;

    /// Takes the answer to what [`next`](Self::next) asked.
    ///
    /// # Errors
    /// A [`Failure`] is logged and the host polls again, more slowly.
    fn received(&self, answer: Result<http::Response, Failure>) -> Result<(), Failure>;
}

/// What a polled channel wants next.
#[derive(Debug, Default)]
pub struct PollStep {
    /// The request to make; none when there is nothing to ask.
    pub request: Option<http::Request>,
    /// With a request, how long to wait after its answer; without, how long until the next question; in milliseconds.
    pub wait_ms: u64,
}

impl PollStep {
    /// Makes `request` now and asks again right after the answer, as long polls do.
    #[must_use]
    pub fn ask(request: http::Request) -> Self {
        Self { request: Some(request), wait_ms: 0 }
    }

    /// Nothing to ask for `wait_ms` milliseconds.
    #[must_use]
    pub fn wait(wait_ms: u64) -> Self {
        Self { request: None, wait_ms }
    }
}

/// A channel behind a WebSocket. The host connects, reconnects and keeps it open; the plugin only reacts.
pub trait Socket: 'static {
    /// Where to connect.
    ///
    /// # Errors
    /// A [`Failure`] makes the host wait and ask again.
    fn target(&self) -> Result<Endpoint, Failure>;

    /// The connection stands.
    ///
    /// # Errors
    /// A [`Failure`] closes the connection, and the host makes a new one.
    fn opened(&self) -> Result<Reaction, Failure> {
        Ok(Reaction::default())
    }

    /// A frame came.
    ///
    /// # Errors
    /// As for [`opened`](Self::opened).
    fn received(&self, frame: Frame) -> Result<Reaction, Failure>;

    /// The time a reaction asked for is up.
    ///
    /// # Errors
    /// As for [`opened`](Self::opened).
    fn woken(&self) -> Result<Reaction, Failure> {
        Ok(Reaction::default())
    }

    /// The connection is gone. `code` is WebSocket's.
    ///
    /// # Errors
    /// A [`Failure`] is logged.
    fn closed(&self, code: u16, reason: &str) -> Result<(), Failure> {
        log::debug!("the socket closed: {code} {reason}");
        Ok(())
    }
}

/// Where a WebSocket goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// `wss://...`
    pub url: String,
    /// Headers of the handshake.
    pub headers: Headers,
    /// Subprotocols to offer.
    pub protocols: Vec<String>,
}

/// A WebSocket frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// `text` or `binary`.
    pub kind: String,
    /// Its content.
    pub data: Vec<u8>,
}

impl Frame {
    /// A text frame.
    pub fn text(text: impl Into<String>) -> Self {
        Self { kind: "text".into(), data: text.into().into_bytes() }
    }

    /// A binary frame.
    pub fn binary(data: impl Into<Vec<u8>>) -> Self {
        Self { kind: "binary".into(), data: data.into() }
    }

    /// The content of a text frame.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        if self.kind == "text" { str::from_utf8(&self.data).ok() } else { None }
    }
}

/// What to do about a frame. The default does nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reaction {
    /// Frames to send, in order.
    pub send: Vec<Frame>,
    /// Call [`Socket::woken`] after so many milliseconds without a frame, for heartbeats.
    pub wake_after_ms: Option<u64>,
    /// Close the connection after sending.
    pub close: bool,
}

impl Reaction {
    /// Sends one frame.
    #[must_use]
    pub fn send(frame: Frame) -> Self {
        Self { send: vec![frame], ..Self::default() }
    }

    /// Asks to be woken after `wake_after_ms` milliseconds without a frame.
    #[must_use]
    pub fn wake_after_ms(mut self, wake_after_ms: u64) -> Self {
        self.wake_after_ms = Some(wake_after_ms);
        self
    }
}
