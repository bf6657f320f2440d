//! WebSockets over the same pipeline: grants, limits, resolving, address check, TLS, secrets in the handshake.
//!
//! The deadline and the request timeouts bound the handshake; how long an open socket lives is its owner's business.
//! Secrets are filled into the handshake only. Messages are capped, and what comes in is scrubbed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WireError, Message};
use url::Url;

use crate::body::{Driver, OutgoingBody, RequestBody, Watch};
use crate::client::{EgressHandle, Purpose, Ready, Upgrades, WAITING, clean_headers, exchange, origin_of};
use crate::deadline::{Deadline, GuestTimeouts, Timetable};
use crate::error::{EgressError, describe};
use crate::headers::check_request;
use crate::inject::Rules;
use crate::limit::Place;
use crate::observe::Flight;
use crate::policy::EgressPolicy;
use crate::scrub::Scrubber;

/// Pings without an answer after which a connection counts as dead.
const MAX_SILENT_PINGS: u32 = 2;

/// One message of a WebSocket. Pings are answered below and never seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketMessage {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Bytes),
    /// The other side closes: its code and reason. Nothing follows.
    Close {
        /// The close code; 1005 when none was given.
        code: u16,
        /// The reason, possibly empty.
        reason: String,
    },
}

/// An open WebSocket. Dropping it closes the connection without a farewell; [`Socket::close`] says one.
pub struct Socket {
    stream: WebSocketStream<TokioIo<Upgraded>>,
    protocol: Option<String>,
    headers: HeaderMap,
    url: Url,
    policy: Arc<EgressPolicy>,
    scrubber: Arc<Scrubber>,
    watch: Vec<String>,
    /// Pings since anything came in.
    silent_pings: u32,
    flight: Flight,
    _driver: Driver,
    _place: Place,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Socket").field("origin", &self.flight.origin()).finish_non_exhaustive()
    }
}

impl EgressHandle {
    /// Opens a WebSocket. `url` begins with `wss://` or `ws://`, `protocols` are the subprotocols to offer.
    ///
    /// # Errors
    /// As [`EgressHandle::send`]; a server that does not answer with a WebSocket is a `protocol` error that names its
    /// status.
    pub async fn connect_websocket(
        &self,
        url: Url,
        headers: HeaderMap,
        protocols: &[String],
        deadline: Deadline,
    ) -> Result<Socket, EgressError> {
        let origin = origin_of(&url);
        let mut flight = Flight::begin(&self.shared.observer, &self.policy.owner, "WEBSOCKET", origin.clone());
        let timetable = Timetable::new(&self.policy.limits, GuestTimeouts::default(), deadline);
        match self.open_socket(&url, headers, protocols, &timetable, (&origin, &mut flight)).await {
            Err(error) => {
                flight.fail(&error);
                Err(error)
            }
            Ok(opened) => {
                flight.status = StatusCode::SWITCHING_PROTOCOLS.as_u16();
                let watch = self.policy.secrets.iter().map(|rule| rule.name.clone()).collect();
                Ok(Socket {
                    stream: opened.stream,
                    protocol: opened.protocol,
                    headers: opened.headers,
                    url,
                    policy: Arc::clone(&self.policy),
                    scrubber: opened.scrubber,
                    watch,
                    silent_pings: 0,
                    flight,
                    _driver: opened.driver,
                    _place: opened.place,
                })
            }
        }
    }

    async fn open_socket(
        &self,
        url: &Url,
        mut headers: HeaderMap,
        protocols: &[String],
        timetable: &Timetable,
        (origin, flight): (&str, &mut Flight),
    ) -> Result<Opened, EgressError> {
        let rules = Rules { policy: &self.policy, url, origin };
        self.authorise(rules, Purpose::Socket)?;
        check_request(&mut headers, rules, Some(0))?;
        rules.check(&headers)?;
        let key = generate_key();
        add_handshake_headers(&mut headers, &key, protocols)?;
        let (place, connection) = self.establish(rules, timetable, Purpose::Socket).await?;
        flight.address = Some(connection.address);

        let body = OutgoingBody::new(RequestBody::empty(), None, rules, Arc::default());
        let Ready { message, scrubber, .. } = self.prepare(rules, Method::GET, headers, body)?;
        let shake = async {
            let (driver, mut response) = exchange(connection, message, &self.policy, origin, Upgrades::Yes).await?;
            let protocol = check_handshake(&response, &key, protocols, origin)?;
            let upgraded = hyper::upgrade::on(&mut response)
                .await
                .map_err(|problem| EgressError::Protocol { origin: origin.to_owned(), detail: describe(&problem) })?;
            Ok((driver, response, upgraded, protocol))
        };
        let (driver, mut response, upgraded, protocol) =
            timetable
                .within(WAITING, timetable.first_byte, shake)
                .await
                .map_err(|error| error.map_detail(|detail| scrubber.text(detail)))?;
        clean_headers(response.headers_mut(), &scrubber);
        let headers = std::mem::take(response.headers_mut());
        let config = socket_config(self.policy.limits.socket_message_bytes);
        let stream = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, Some(config)).await;
        Ok(Opened { stream, protocol, headers, scrubber, driver, place })
    }
}

struct Opened {
    stream: WebSocketStream<TokioIo<Upgraded>>,
    protocol: Option<String>,
    headers: HeaderMap,
    scrubber: Arc<Scrubber>,
    driver: Driver,
    place: Place,
}

fn socket_config(message_bytes: usize) -> WebSocketConfig {
    // The write buffer holds one message at most, so a server that does not read stops the sender, not the memory.
    WebSocketConfig::default()
        .read_buffer_size(16 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(message_bytes.saturating_add(64 * 1024))
        .max_message_size(Some(message_bytes))
        .max_frame_size(Some(message_bytes))
}

fn add_handshake_headers(headers: &mut HeaderMap, key: &str, protocols: &[String]) -> Result<(), EgressError> {
    let value = |text: &str| {
        HeaderValue::from_str(text).map_err(|_| EgressError::InvalidRequest {
            detail: "a WebSocket subprotocol is a single word of letters, digits and punctuation".into(),
        })
    };
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    headers.insert(header::SEC_WEBSOCKET_KEY, value(key)?);
    for protocol in protocols {
        // The same alphabet as a header name's.
        if HeaderName::from_bytes(protocol.as_bytes()).is_err() {
            value("\n")?;
        }
    }
    if !protocols.is_empty() {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value(&protocols.join(", "))?);
    }
    Ok(())
}

/// Checks that the server speaks WebSocket and read our key; gives the subprotocol it chose.
fn check_handshake<T>(
    response: &http::Response<T>,
    key: &str,
    protocols: &[String],
    origin: &str,
) -> Result<Option<String>, EgressError> {
    let refuse = |detail: String| Err(EgressError::Protocol { origin: origin.to_owned(), detail });
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return refuse(format!("it answered the WebSocket handshake with status {}", response.status().as_u16()));
    }
    let headers = response.headers();
    let is_websocket =
        headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let accepted = headers.get(header::SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
    if !is_websocket || accepted != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
        return refuse("its answer to the WebSocket handshake is not valid".into());
    }
    if headers.contains_key(header::SEC_WEBSOCKET_EXTENSIONS) {
        return refuse("it chose a WebSocket extension that was not offered".into());
    }
    match headers.get(header::SEC_WEBSOCKET_PROTOCOL) {
        None => Ok(None),
        Some(chosen) => match protocols.iter().find(|offered| offered.as_bytes() == chosen.as_bytes()) {
            Some(chosen) => Ok(Some(chosen.clone())),
            None => refuse("it chose a WebSocket subprotocol that was not offered".into()),
        },
    }
}

impl Socket {
    /// The subprotocol the server chose.
    #[must_use]
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// The headers of the server's answer to the handshake, scrubbed.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The next message; none when the connection has ended. Cancel-safe.
    ///
    /// # Errors
    /// `too-large` for a message over the limit, `protocol` for everything that is not WebSocket. Nothing follows an
    /// error.
    pub async fn receive(&mut self) -> Option<Result<SocketMessage, EgressError>> {
        loop {
            let message = match self.stream.next().await {
                Some(Ok(message)) => message,
                None | Some(Err(WireError::ConnectionClosed | WireError::AlreadyClosed)) => {
                    self.flight.complete();
                    return None;
                }
                Some(Err(problem)) => return Some(Err(self.fail(problem))),
            };
            self.silent_pings = 0;
            let length = u64::try_from(message.len()).unwrap_or(u64::MAX);
            self.flight.received_bytes = self.flight.received_bytes.saturating_add(length);
            match message {
                Message::Text(text) => return Some(Ok(SocketMessage::Text(self.scrubber.text(text.as_str())))),
                Message::Binary(bytes) if self.scrubber.is_empty() => return Some(Ok(SocketMessage::Binary(bytes))),
                Message::Binary(bytes) => {
                    return Some(Ok(SocketMessage::Binary(self.scrubber.bytes(&bytes).into())));
                }
                Message::Close(frame) => return Some(Ok(self.closed(frame))),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    fn closed(&mut self, frame: Option<CloseFrame>) -> SocketMessage {
        self.flight.complete();
        let (code, reason) =
            frame.map_or((1005, String::new()), |frame| (frame.code.into(), self.scrubber.text(frame.reason.as_str())));
        SocketMessage::Close { code, reason }
    }

    /// Sends a message and waits until it is handed to the network; a server that does not read for
    /// `between_bytes_timeout` ends it. Not cancel-safe: after dropping the future, drop the socket.
    ///
    /// # Errors
    /// `too-large`, `timed-out`, `secret-not-declared` when the message holds a placeholder of one of the owner's
    /// secrets (messages are never filled in), or `protocol` when the connection is gone.
    pub async fn send(&mut self, message: SocketMessage) -> Result<(), EgressError> {
        let content: &[u8] = match &message {
            SocketMessage::Text(text) => text.as_bytes(),
            SocketMessage::Binary(bytes) => bytes,
            SocketMessage::Close { .. } => b"",
        };
        let limit = self.policy.limits.socket_message_bytes;
        if content.len() > limit {
            let limit_bytes = u64::try_from(limit).unwrap_or(u64::MAX);
            return Err(EgressError::TooLarge { what: "the WebSocket message", limit_bytes });
        }
        if let Some(name) = Watch::new(self.watch.iter().cloned()).find(content) {
            let rules = Rules { policy: &self.policy, url: &self.url, origin: self.flight.origin() };
            return Err(rules.misplaced(&name, "a WebSocket message"));
        }
        let length = u64::try_from(content.len()).unwrap_or(u64::MAX);
        let message = match message {
            SocketMessage::Text(text) => Message::Text(text.into()),
            SocketMessage::Binary(bytes) => Message::Binary(bytes),
            SocketMessage::Close { code, reason } => {
                Message::Close(Some(CloseFrame { code: code.into(), reason: reason.into() }))
            }
        };
        self.write(message).await?;
        self.flight.sent_bytes.fetch_add(length, Ordering::Relaxed);
        Ok(())
    }

    /// Asks the server for a sign of life. Its answer is read by [`Socket::receive`], which does not show it.
    ///
    /// # Errors
    /// As [`Socket::send`], and `timed-out` when nothing came in since the last two times it was asked.
    pub async fn ping(&mut self) -> Result<(), EgressError> {
        if self.silent_pings >= MAX_SILENT_PINGS {
            let error = EgressError::TimedOut { phase: "the answer to a WebSocket ping" };
            self.flight.fail(&error);
            return Err(error);
        }
        self.silent_pings += 1;
        self.write(Message::Ping(Bytes::new())).await
    }

    /// Says goodbye and closes the connection.
    ///
    /// # Errors
    /// When the goodbye could not be sent; the connection is closed all the same.
    pub async fn close(mut self, code: u16, reason: &str) -> Result<(), EgressError> {
        let result = self.send(SocketMessage::Close { code, reason: reason.to_owned() }).await;
        if result.is_ok() {
            self.flight.complete();
        }
        result
    }

    async fn write(&mut self, message: Message) -> Result<(), EgressError> {
        let patience = self.policy.limits.between_bytes_timeout;
        match tokio::time::timeout(patience, self.stream.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(problem)) => Err(self.fail(problem)),
            Err(_) => {
                let error = EgressError::TimedOut { phase: "sending a WebSocket message" };
                self.flight.fail(&error);
                Err(error)
            }
        }
    }

    fn fail(&mut self, problem: WireError) -> EgressError {
        let error = match problem {
            WireError::Capacity(CapacityError::MessageTooLong { max_size, .. }) => EgressError::TooLarge {
                what: "the WebSocket message",
                limit_bytes: u64::try_from(max_size).unwrap_or(u64::MAX),
            },
            other => EgressError::Protocol {
                origin: self.flight.origin().to_owned(),
                detail: self.scrubber.text(&describe(&other)),
            },
        };
        self.flight.fail(&error);
        error
    }
}
