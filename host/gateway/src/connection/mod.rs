//! One client's connection, from its challenge to its close. One task per connection runs everything it asks for:
//! a call that is done at once costs no task and no queue, the others run side by side and answer in any order.

mod calls;
mod socket;
mod waiting;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tungstenite::Utf8Bytes;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::auth::Peer;
use crate::config::Limits;
use crate::gateway::State;
use crate::handshake::{self, Session};
use crate::hub::{Event, Seat, Signal};
use crate::methods::voicewake;
use crate::rate::Meter;
use crate::wire;
use calls::Said;
use socket::{Ending, Incoming, Socket};

pub(crate) use calls::{Answer, Call, Outcome, PLUGIN_ROUTE, audit_missing_scope, bad_frame};

/// Requests read before the answers so far are written.
const READS_PER_TURN: usize = 64;
/// Time after which a busy connection lets others run and writes what it has: a plugin's call runs inside this task
/// until its first wait.
const SLICE: Duration = Duration::from_millis(1);
/// Pings without a sign of life after which the peer is taken for dead.
const SILENT_PINGS: u32 = 3;

/// Everything a new connection comes with. `held` counts against the caps on unauthenticated sockets and is dropped
/// with the handshake.
pub(crate) struct Arrival<H> {
    pub(crate) state: Arc<State>,
    pub(crate) peer: Peer,
    pub(crate) stream: TcpStream,
    pub(crate) early: Bytes,
    pub(crate) held: H,
    pub(crate) stop: CancellationToken,
}

/// How a connection ends.
enum End {
    Gone,
    Close { code: CloseCode, reason: Utf8Bytes, keep_queue: bool },
}

impl End {
    fn close(code: CloseCode, reason: &'static str) -> Self {
        Self::Close { code, reason: Utf8Bytes::from_static(reason), keep_queue: true }
    }

    fn stopping() -> Self {
        Self::close(CloseCode::Restart, "service restart")
    }
}

/// Runs a connection to its end.
pub(crate) async fn run<H>(arrival: Arrival<H>) {
    let Arrival { state, peer, stream, early, held, stop } = arrival;
    let limits = &Arc::clone(&state).config.limits;
    let mut socket = Socket::new(stream, early, limits.handshake_frame_bytes);
    // On the heap, as the goodbye is: here they would be part of every connection's task for as long as it lives.
    let greeting = Box::pin(greet(&state, peer, &mut socket));
    let welcome = tokio::select! {
        welcome = tokio::time::timeout(limits.handshake_timeout, greeting) => {
            welcome.unwrap_or_else(|_| Err(End::close(CloseCode::Normal, "")))
        }
        () = stop.cancelled() => Err(End::stopping()),
    };
    let end = match welcome {
        Err(end) => end,
        Ok(session) => {
            drop(held);
            socket.allow_frames_of(limits.frame_bytes);
            let mut connection = Connection::new(Arc::clone(&state), socket, session);
            if connection.seat.mail.expelled().is_none() {
                crate::nodes::came(&state, &connection.session);
            }
            let end = std::future::poll_fn(|context| connection.poll(context)).await;
            state.hub.leave(connection.seat.id);
            crate::nodes::went(&state, &connection.session);
            state.presence.went(&connection.session, &state.hub, state.now_ms());
            tracing::debug!(connection = %connection.session.id, "a client left");
            socket = connection.into_socket();
            end
        }
    };
    if let End::Close { code, reason, keep_queue } = end {
        Box::pin(socket.close(code, reason, keep_queue, limits.close_grace)).await;
    }
}

/// Turns a socket away that came before there was anything to let it into: it hears so once it has said `connect`.
pub(crate) async fn turn_away(stream: TcpStream, early: Bytes, limits: &Limits, now_ms: u64) {
    let mut socket = Socket::new(stream, early, limits.handshake_frame_bytes);
    let nonce = uuid::Uuid::new_v4().to_string();
    let end = match tokio::time::timeout(limits.handshake_timeout, challenge(&mut socket, &nonce, now_ms)).await {
        Err(_) => End::close(CloseCode::Normal, ""),
        Ok(Err(end)) => end,
        Ok(Ok(text)) => match handshake::answer_starting(text.as_str()) {
            handshake::Outcome::Goodbye(response, code, reason) => goodbye(&mut socket, response, code, reason),
            handshake::Outcome::Welcome(..) => End::Gone,
        },
    };
    if let End::Close { code, reason, keep_queue } = end {
        socket.close(code, reason, keep_queue, limits.close_grace).await;
    }
}

fn goodbye(socket: &mut Socket, response: Option<Utf8Bytes>, code: CloseCode, reason: Utf8Bytes) -> End {
    if let Some(response) = response {
        socket.push(response);
    }
    End::Close { code, reason, keep_queue: true }
}

/// Sends the challenge and waits for the first frame.
async fn challenge(socket: &mut Socket, nonce: &str, now_ms: u64) -> Result<Utf8Bytes, End> {
    let challenge = format!("{{\"nonce\":\"{nonce}\",\"ts\":{now_ms}}}");
    socket.push(wire::event(&wire::event_head("connect.challenge", &challenge), None, None));
    let first = std::future::poll_fn(|context| {
        if let Poll::Ready(Err(ending)) = socket.poll_flush(context) {
            return Poll::Ready(Err(ending));
        }
        loop {
            match socket.poll_read(context) {
                Poll::Ready(Ok(Incoming::Alive)) => {}
                other => return other,
            }
        }
    })
    .await;
    match first {
        Ok(Incoming::Text(text)) => Ok(text),
        Ok(_) => Err(End::close(CloseCode::Normal, "")),
        Err(ending) => Err(ending.into()),
    }
}

/// Sends the challenge and answers the first frame.
async fn greet(state: &State, peer: Peer, socket: &mut Socket) -> Result<Arc<Session>, End> {
    let nonce = uuid::Uuid::new_v4().to_string();
    let text = challenge(socket, &nonce, state.now_ms()).await?;
    match handshake::answer(state, peer, &nonce, text.as_str()).await {
        handshake::Outcome::Welcome(session, hello) => {
            socket.push(hello);
            Ok(session)
        }
        handshake::Outcome::Goodbye(response, code, reason) => Err(goodbye(socket, response, code, reason)),
    }
}

impl From<Ending> for End {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Gone => Self::Gone,
            Ending::Broken(code) => Self::Close { code, reason: Utf8Bytes::from_static(""), keep_queue: true },
        }
    }
}

/// A connection past its handshake.
pub(crate) struct Connection {
    pub(crate) state: Arc<State>,
    pub(crate) session: Arc<Session>,
    socket: Socket,
    seat: Seat,
    calls: FuturesUnordered<BoxFuture<'static, Said>>,
    seq: u64,
    silent_pings: u32,
    /// Whether all that the peer sent has been read: else its pongs may lie unread, and silence proves nothing.
    caught_up: bool,
    unauthorized_in_a_row: u32,
    meter: Meter,
    /// Calls answered in this turn that were not answered by the gateway itself at once.
    answered: usize,
    /// Whether answers of the turn before this one were held back.
    holding: bool,
    drain: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Connection {
    fn new(state: Arc<State>, socket: Socket, session: Arc<Session>) -> Self {
        let seat = state.hub.join(Arc::clone(&session));
        state.presence.came(&session, state.now_ms());
        let meter = state.rates.meter(session.peer.ip(), &session.caller.id, session.peer.is_local(), state.now_ms());
        let mut connection = Self {
            session,
            socket,
            seat,
            calls: FuturesUnordered::new(),
            seq: 0,
            silent_pings: 0,
            caught_up: true,
            unauthorized_in_a_row: 0,
            meter,
            answered: 0,
            holding: false,
            drain: None,
            state,
        };
        if connection.state.draining() {
            connection.seat.mail.stopping.store(true, Ordering::Release);
        }
        connection.send_first_health();
        if connection.session.declared.is_some() {
            let words = voicewake::changed(&connection.state).targeted();
            connection.send_event(&words);
        }
        connection
    }

    fn into_socket(self) -> Socket {
        self.socket
    }

    /// Version 3 clients get the health right after the handshake.
    fn send_first_health(&mut self) {
        if self.session.version == leanclaw_types::frame::ProtocolVersion::V3 {
            let health = self.state.current_health();
            let event =
                Event::new("health", health.text(self.session.version)).state_version(self.state.state_version());
            self.send_event(&event);
        }
    }

    /// Does all that can be done now; ready when the connection is over.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<End> {
        let began = Instant::now();
        loop {
            let mut progress = false;
            // Read before the signals: what was sent before the gateway stopped is then among them.
            let stopping = self.seat.mail.stopping.load(Ordering::Acquire);
            for signal in self.seat.mail.take(context) {
                progress = true;
                if let Some(end) = self.on_signal(&signal, context) {
                    return Poll::Ready(end);
                }
            }
            if self.seat.mail.lagged.load(Ordering::Acquire) {
                return Poll::Ready(slow_consumer());
            }
            if let Some(reason) = self.seat.mail.expelled() {
                return Poll::Ready(End::close(CloseCode::Policy, reason));
            }
            while let Poll::Ready(Some(said)) = self.calls.poll_next_unpin(context) {
                progress = true;
                self.answered += 1;
                self.socket.push(said.frame);
                self.calls.extend(said.rest);
            }
            match self.poll_requests(began, context) {
                Ok(read_something) => progress |= read_something,
                Err(end) => return Poll::Ready(end),
            }
            if self.holds_answers() {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let was_paused = self.is_paused();
            let flushed = match self.socket.poll_flush(context) {
                Poll::Ready(Ok(())) => true,
                Poll::Ready(Err(ending)) => return Poll::Ready(ending.into()),
                Poll::Pending => false,
            };
            if stopping && self.poll_drained(flushed, context) {
                return Poll::Ready(End::stopping());
            }
            // What was not read for want of room woke nobody, and will wake nobody.
            progress |= was_paused && !self.is_paused();
            if !progress {
                return Poll::Pending;
            }
            if began.elapsed() > SLICE {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    /// Whether what was answered is to leave after the other connections that have something to do have had their turn. To
    /// wake a peer that waits costs about as much as a call of a plugin; where one peer holds several connections, most of
    /// their answers then find it awake. That is for peers that have several calls under way: a single answer leaves at once,
    /// and none is held for more than one turn.
    fn holds_answers(&mut self) -> bool {
        let several = std::mem::take(&mut self.answered) > 1;
        self.holding = several && !self.holding;
        self.holding
    }

    /// Whether so much waits for the peer that nothing more is read from it.
    fn is_paused(&self) -> bool {
        self.socket.unsent_bytes() >= self.state.config.limits.read_pause_bytes
    }

    /// Reads requests while there is room for their answers.
    fn poll_requests(&mut self, began: Instant, context: &mut Context<'_>) -> Result<bool, End> {
        let mut read = 0;
        self.caught_up = false;
        let stopping = self.seat.mail.stopping.load(Ordering::Acquire);
        let most_calls = self.state.config.limits.calls_in_flight;
        while !stopping && read < READS_PER_TURN && self.calls.len() < most_calls && !self.is_paused() {
            match self.socket.poll_read(context) {
                Poll::Pending => {
                    self.caught_up = true;
                    break;
                }
                Poll::Ready(Err(ending)) => return Err(ending.into()),
                Poll::Ready(Ok(incoming)) => {
                    self.silent_pings = 0;
                    if let Incoming::Text(text) = incoming
                        && let Some(end) = self.on_frame(&text, context)
                    {
                        return Err(end);
                    }
                }
            }
            read += 1;
            if began.elapsed() > SLICE {
                break;
            }
        }
        Ok(read > 0)
    }

    /// Whether this connection has nothing left to do before the gateway stops, or no time left to do it.
    fn poll_drained(&mut self, flushed: bool, context: &mut Context<'_>) -> bool {
        if self.calls.is_empty() && flushed {
            return true;
        }
        let limit = self.state.config.limits.drain;
        let drain = self.drain.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        drain.as_mut().poll(context).is_ready()
    }

    fn on_signal(&mut self, signal: &Signal, context: &mut Context<'_>) -> Option<End> {
        match signal {
            Signal::Wake => None,
            Signal::Ping => {
                self.silent_pings += u32::from(self.caught_up);
                if self.silent_pings > SILENT_PINGS {
                    return Some(End::Gone);
                }
                self.socket.ping(context);
                None
            }
            Signal::Event(event) => {
                let limits = &self.state.config.limits;
                // What may be lost takes no room from what may not.
                let droppable_bytes = limits.buffered_bytes.min(limits.read_pause_bytes);
                let most_bytes = if event.droppable { droppable_bytes } else { limits.buffered_bytes };
                if self.socket.unsent_bytes() > most_bytes {
                    return (!event.droppable).then(slow_consumer);
                }
                self.send_event(event);
                None
            }
        }
    }

    fn send_event(&mut self, event: &Event) {
        let head = event.head(self.session.version);
        let seq = (!event.is_targeted()).then(|| {
            self.seq += 1;
            self.seq
        });
        self.socket.push(wire::event(head, seq, event.state_version));
    }
}

fn slow_consumer() -> End {
    End::Close { code: CloseCode::Policy, reason: Utf8Bytes::from_static("slow consumer"), keep_queue: false }
}
