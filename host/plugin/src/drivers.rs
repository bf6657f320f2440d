//! What the host does on a channel's behalf: polls and WebSockets.
//!
//! The plugin only reacts. A driver belongs to one unit and ends when the unit is replaced; it holds the unit weakly, so
//! that a forgotten driver keeps nothing alive. Failures back off and are written to the plugin's log.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use leanclaw_egress::{Deadline, RequestBody, Socket, SocketMessage};
use leanclaw_types::{Caller, Failure};

use crate::actor::Role;
use crate::bindings::exports::{poll, socket};
use crate::calls::{GuestCall, GuestReply};
use crate::convert;
use crate::host::http::{egress_failure, request_head};
use crate::logs::Level;
use crate::state::{CallContext, Shared};
use crate::unit::Unit;

/// Shortest pause between two polls.
const MIN_WAIT: Duration = Duration::from_millis(50);
/// Longest pause a plugin may ask for.
const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest single poll.
const MAX_POLL: Duration = Duration::from_secs(120);
/// First and longest pause after a failure.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(300);
/// Failures one after the other from which on a driver is cut off: one or two are a service that is started anew.
const MANY_FAILURES: u32 = 3;
/// A WebSocket that is silent for this long is asked for a sign of life.
const PING_EVERY: Duration = Duration::from_secs(30);

/// Starts what the unit's exports ask for and its grant allows.
pub(crate) fn start(unit: &Arc<Unit>, exports: &[&str]) {
    let has = |name: &str| exports.contains(&name);
    let granted = &unit.shared().granted;
    if has("poll") && granted.poll {
        tokio::spawn(run(Arc::downgrade(unit), Kind::Poll));
    }
    if has("socket") && !granted.sockets.is_empty() {
        tokio::spawn(run(Arc::downgrade(unit), Kind::Socket));
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Poll,
    Socket,
}

/// The failures of one driver since it last worked.
#[derive(Default)]
struct Streak(u32);

impl Streak {
    /// `cut_off` counts the drivers of a unit that keep failing.
    fn failed(&mut self, cut_off: &AtomicU32) {
        self.0 = self.0.saturating_add(1);
        if self.0 == MANY_FAILURES {
            cut_off.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn worked(&mut self, cut_off: &AtomicU32) {
        if self.0 >= MANY_FAILURES {
            cut_off.fetch_sub(1, Ordering::Relaxed);
        }
        self.0 = 0;
    }
}

/// Runs one driver until its unit is gone, with a growing pause after each failure.
async fn run(unit: Weak<Unit>, kind: Kind) {
    let (mut backoff, mut streak) = (FIRST_BACKOFF, Streak::default());
    loop {
        let Some(held) = unit.upgrade() else { return };
        let stop = held.stop.clone();
        let step = async {
            match kind {
                Kind::Poll => poll_once(&held).await,
                Kind::Socket => socket_once(&held).await,
            }
        };
        let outcome = tokio::select! {
            () = stop.cancelled() => return,
            outcome = step => outcome,
        };
        let wait = match outcome {
            Ok(wait) => {
                streak.worked(&held.cut_off);
                backoff = FIRST_BACKOFF;
                wait.clamp(MIN_WAIT, MAX_WAIT)
            }
            Err(failure) => {
                streak.failed(&held.cut_off);
                let wait = failure.retry_after_ms.map_or(backoff, Duration::from_millis).clamp(MIN_WAIT, MAX_WAIT);
                backoff = (backoff * 2).min(MAX_BACKOFF);
                report(held.shared(), &failure, wait);
                wait
            }
        };
        drop(held);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

fn report(shared: &Shared, failure: &Failure, wait: Duration) {
    shared.logs.write(
        Level::Warn,
        "host",
        "",
        &format!("{} ({}); trying again in {wait:?}", failure.message, failure.code),
    );
    for hint in &failure.hints {
        shared.logs.write(Level::Warn, "host", "", &format!("hint: {hint}"));
    }
}

fn unexpected() -> Failure {
    Failure::internal("The guest answered another call than the one it was asked.")
}

async fn ask(unit: &Arc<Unit>, call: GuestCall) -> Result<GuestReply, Failure> {
    unit.call(Role::Inbound, call, CallContext::of(Caller::host("driver"))).await
}

/// One poll: ask the plugin what to fetch, fetch it, hand over the answer. Gives the pause until the next.
async fn poll_once(unit: &Arc<Unit>) -> Result<Duration, Failure> {
    let GuestReply::PollStep(step) = ask(unit, GuestCall::PollNext).await? else { return Err(unexpected()) };
    let wait = Duration::from_millis(step.wait_ms);
    let Some(request) = step.request else { return Ok(wait) };
    let answer = fetch(unit.shared(), request).await;
    let problem = answer.as_ref().err().cloned();
    ask(unit, GuestCall::PollReceived(Box::new(answer))).await?;
    // The plugin was told; the pause still grows, so that an outage is not hammered.
    problem.map_or(Ok(wait), Err)
}

async fn fetch(shared: &Shared, request: poll::Request) -> Result<poll::Response, Failure> {
    let mut outgoing = request_head("The poll request", &request.method, &request.url, &request.headers)?;
    outgoing.body = RequestBody::bytes(request.body);
    let deadline = Deadline::after(Duration::from_millis(request.timeout_ms).min(MAX_POLL));
    let response = shared.egress.send(outgoing, deadline).await.map_err(|error| egress_failure(&error))?;
    let (status, headers) = (response.status.as_u16(), convert::headers(&response.headers));
    let body = response.body.bytes().await.map_err(|error| egress_failure(&error))?;
    Ok(poll::Response { status, headers, body: body.to_vec() })
}

/// One WebSocket, from opening to its end. Gives the pause until the next.
async fn socket_once(unit: &Arc<Unit>) -> Result<Duration, Failure> {
    let GuestReply::Target(target) = ask(unit, GuestCall::SocketTarget).await? else { return Err(unexpected()) };
    let invalid = |problem: String| Failure::invalid(format!("The WebSocket cannot be opened: {problem}."));
    let url = url::Url::parse(&target.url).map_err(|error| invalid(format!("the address does not parse: {error}")))?;
    let headers = convert::header_map(&target.headers).map_err(invalid)?;
    let deadline = Deadline::after(Duration::from_secs(30));
    let opened = unit.shared().egress.connect_websocket(url, headers, &target.protocols, deadline).await;
    let mut line = opened.map_err(|error| egress_failure(&error))?;
    let (code, reason) = match converse(unit, &mut line).await {
        Ok(closing) => closing,
        Err(failure) => {
            let _ = ask(unit, GuestCall::SocketClosed { code: 1006, reason: failure.message.clone() }).await;
            return Err(failure);
        }
    };
    ask(unit, GuestCall::SocketClosed { code, reason }).await?;
    // A server that closes at once is not called back at once.
    Ok(FIRST_BACKOFF)
}

/// Hands messages over and sends what the plugin answers, until one side closes. Gives the closing code and reason.
async fn converse(unit: &Arc<Unit>, line: &mut Socket) -> Result<(u16, String), Failure> {
    let mut wake = None;
    let mut next = Some(GuestCall::SocketOpened);
    loop {
        if let Some(call) = next.take() {
            let GuestReply::Reaction(reaction) = ask(unit, call).await? else { return Err(unexpected()) };
            let close = reaction.close;
            wake = reaction
                .wake_after_ms
                .map(|after| tokio::time::Instant::now() + Duration::from_millis(after).clamp(MIN_WAIT, MAX_WAIT));
            answer(line, reaction).await?;
            if close {
                return Ok((1000, "closed by the plugin".into()));
            }
        }
        let woken = async {
            match wake {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            message = line.receive() => match message {
                None => return Ok((1006, String::new())),
                Some(Err(error)) => return Err(egress_failure(&error)),
                Some(Ok(SocketMessage::Text(text))) => next = Some(GuestCall::SocketReceived { kind: "text", data: text.into_bytes() }),
                Some(Ok(SocketMessage::Binary(bytes))) => next = Some(GuestCall::SocketReceived { kind: "binary", data: bytes.to_vec() }),
                Some(Ok(SocketMessage::Close { code, reason })) => return Ok((code, reason)),
            },
            () = woken => next = Some(GuestCall::SocketWoken),
            () = tokio::time::sleep(PING_EVERY) => line.ping().await.map_err(|error| egress_failure(&error))?,
        }
    }
}

async fn answer(line: &mut Socket, reaction: socket::Reaction) -> Result<(), Failure> {
    for frame in reaction.send {
        let message = if frame.kind == "binary" {
            SocketMessage::Binary(frame.data.into())
        } else {
            let text = String::from_utf8(frame.data).map_err(|_| Failure::invalid("A text frame must be UTF-8."))?;
            SocketMessage::Text(text)
        };
        line.send(message).await.map_err(|error| egress_failure(&error))?;
    }
    if reaction.close {
        line.send(SocketMessage::Close { code: 1000, reason: String::new() })
            .await
            .map_err(|error| egress_failure(&error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_is_cut_off_while_it_keeps_failing() {
        let cut_off = AtomicU32::new(0);
        let now = || cut_off.load(Ordering::Relaxed);
        let (mut poll, mut socket) = (Streak::default(), Streak::default());
        (0..2).for_each(|_| poll.failed(&cut_off));
        poll.worked(&cut_off);
        (0..2).for_each(|_| poll.failed(&cut_off));
        assert_eq!(now(), 0, "never so often in a row");
        (0..5).for_each(|_| poll.failed(&cut_off));
        (0..5).for_each(|_| socket.failed(&cut_off));
        assert_eq!(now(), 2, "each counts once");
        poll.worked(&cut_off);
        poll.worked(&cut_off);
        assert_eq!(now(), 1);
    }
}
