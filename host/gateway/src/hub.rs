//! Who is connected, and getting an event to those who may see it.
//!
//! Sending never waits: a connection's task takes its events off a short queue at once and holds them against its own
//! byte bound. Who cannot keep up loses droppable events, and is cut off when it would lose one that matters. A flood of
//! the first leaves room for the second.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Context;

use futures_util::task::AtomicWaker;
use leanclaw_types::frame::{ProtocolVersion, StateVersion};

use crate::handshake::Session;
use crate::methods::READ;
use crate::wire;

/// Signals that may wait for a connection's task.
const QUEUE: usize = 512;
/// Signals behind which a droppable event is dropped: a node can send more progress than that before the task of who asked
/// runs again, and the rest of the queue is for what must arrive.
const QUEUE_FOR_DROPPABLE: usize = QUEUE / 2;

/// What a client hears that was being let in while something was taken back.
const MEANWHILE: &str = "access was changed while this client connected; connect again";

/// One event, written once for all who get it.
#[derive(Debug)]
pub(crate) struct Event {
    name: String,
    head_v3: Option<String>,
    head_v4: String,
    /// The scope a connection needs to get it.
    pub(crate) scope: Option<&'static str>,
    /// The scope a connection that speaks version 4 needs to get it; version 3 tells everyone.
    scope_v4: Option<&'static str>,
    /// Whether version 3 does not know it.
    newest_only: bool,
    /// The session that changed, for an event that goes only to those who asked for such changes.
    session_key: Option<String>,
    /// Whether it is about what is said in that session, for those only who follow that one.
    is_message: bool,
    /// Whether it is for one connection only, which counts no number for it.
    targeted: bool,
    /// Whether a slow client may miss it.
    pub(crate) droppable: bool,
    /// Sent with `presence` and `health`.
    pub(crate) state_version: Option<StateVersion>,
}

impl Event {
    /// An event that must arrive. `payload` is a JSON text.
    pub(crate) fn new(name: &str, payload: &str) -> Self {
        Self {
            name: name.to_owned(),
            head_v3: None,
            head_v4: wire::event_head(name, payload),
            scope: None,
            scope_v4: None,
            newest_only: NEWEST_EVENTS.contains(&name),
            session_key: None,
            is_message: false,
            targeted: false,
            droppable: false,
            state_version: None,
        }
    }

    /// Another payload for version 3.
    pub(crate) fn payload_v3(mut self, payload: &str) -> Self {
        self.head_v3 = Some(wire::event_head(&self.name, payload));
        self
    }

    pub(crate) fn scope(mut self, scope: &'static str) -> Self {
        self.scope = Some(scope);
        self
    }

    pub(crate) fn scope_v4(mut self, scope: &'static str) -> Self {
        self.scope_v4 = Some(scope);
        self
    }

    pub(crate) fn droppable(mut self) -> Self {
        self.droppable = true;
        self
    }

    /// For one connection: it has no `seq`.
    pub(crate) fn targeted(mut self) -> Self {
        self.targeted = true;
        self
    }

    pub(crate) fn is_targeted(&self) -> bool {
        self.targeted
    }

    /// Only for those who asked for changes of this session or of all.
    pub(crate) fn about_session(mut self, key: &str) -> Self {
        self.session_key = Some(key.to_owned());
        self
    }

    /// Only for those who follow what is said in this session.
    pub(crate) fn said_in(mut self, key: &str) -> Self {
        self.is_message = true;
        self.about_session(key)
    }

    /// Whether a connection may see it.
    fn is_for(&self, session: &Session) -> bool {
        let newest = session.version.is_newest();
        let allowed = |scope: &str| session.caller.role == "operator" && session.caller.holds(scope);
        (newest || !self.newest_only)
            && self.scope.is_none_or(allowed)
            && self.scope_v4.filter(|_| newest).is_none_or(allowed)
            && self.session_key.as_ref().is_none_or(|key| self.is_wanted(session, key))
    }

    fn is_wanted(&self, session: &Session, key: &str) -> bool {
        if self.is_message { session.subscriptions.follows(key) } else { session.subscriptions.want(key) }
    }

    pub(crate) fn state_version(mut self, version: StateVersion) -> Self {
        self.state_version = Some(version);
        self
    }

    /// The frame for a connection, without its `seq` and closing brace.
    pub(crate) fn head(&self, version: ProtocolVersion) -> &str {
        match (&self.head_v3, version) {
            (Some(head), ProtocolVersion::V3) => head,
            _ => &self.head_v4,
        }
    }
}

/// What a connection's task is told.
#[derive(Debug, Clone)]
pub(crate) enum Signal {
    /// Send this.
    Event(Arc<Event>),
    /// Send a WebSocket ping.
    Ping,
    /// Look at your flags.
    Wake,
}

/// What waits for a connection's task. It keeps no memory while nothing waits: most connections do nothing most of the time.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    waiting: Mutex<VecDeque<Signal>>,
    reader: AtomicWaker,
    /// An event that mattered did not fit.
    pub(crate) lagged: AtomicBool,
    /// The gateway stops.
    pub(crate) stopping: AtomicBool,
    /// Why this connection must end, once what let it in was taken back.
    expelled: OnceLock<&'static str>,
}

impl Signal {
    fn is_droppable(&self) -> bool {
        matches!(self, Self::Event(event) if event.droppable)
    }
}

impl Mailbox {
    /// Puts a signal in and wakes the task; false when there is no room for it.
    fn put(&self, signal: Signal) -> bool {
        let room = if signal.is_droppable() { QUEUE_FOR_DROPPABLE } else { QUEUE };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = waiting.len() < room;
        if fits {
            waiting.push_back(signal);
        }
        drop(waiting);
        self.reader.wake();
        fits
    }

    /// Has its connection end: what let it in was taken back. `reason` is what it hears, at most 123 bytes.
    pub(crate) fn expel(&self, session: &Session, reason: &'static str) {
        if self.expelled.set(reason).is_ok() {
            tracing::info!(connection = %session.id, client = %session.client.id, remote = %session.peer.address, reason,
                "a client is sent away");
        }
    }

    /// Why its connection must end, if it must.
    pub(crate) fn expelled(&self) -> Option<&'static str> {
        self.expelled.get().copied()
    }

    /// Everything that waits now; the task is woken when there is more.
    pub(crate) fn take(&self, context: &Context<'_>) -> VecDeque<Signal> {
        self.reader.register(context.waker());
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Debug)]
struct Member {
    session: Arc<Session>,
    mail: Arc<Mailbox>,
}

/// Everyone who is past the handshake.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    next: AtomicU64,
    /// How often something was taken back from those who are here. Changed only while `members` is locked.
    taken_back: AtomicU64,
    members: Mutex<HashMap<u64, Member>>,
}

/// One connection's end of the hub.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) id: u64,
    pub(crate) mail: Arc<Mailbox>,
}

impl Hub {
    /// How often something was taken back so far. Whoever decides about a newcomer reads it before it looks at anything, and
    /// hands it to [`Self::join`].
    pub(crate) fn taken_back(&self) -> u64 {
        self.taken_back.load(Ordering::Acquire)
    }

    /// Gives a connection a seat. Where something was taken back since it was decided on, that may have been what let it in,
    /// and nobody looked at it then: it is sent away, to ask again.
    pub(crate) fn join(&self, session: Arc<Session>) -> Seat {
        let mail = Arc::new(Mailbox::default());
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let member = Member { session: Arc::clone(&session), mail: Arc::clone(&mail) };
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.insert(id, member);
        if self.taken_back() != session.decided_at {
            mail.expel(&session, MEANWHILE);
        }
        drop(members);
        Seat { id, mail }
    }

    pub(crate) fn leave(&self, id: u64) {
        self.members.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    pub(crate) fn len(&self) -> usize {
        self.members.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Sends an event to everyone who may see it.
    pub(crate) fn broadcast(&self, event: Event) {
        self.broadcast_where(event, |_| true);
    }

    /// Sends an event to everyone who may see it and for whom `wanted` holds.
    pub(crate) fn broadcast_where(&self, event: Event, wanted: impl Fn(&Session) -> bool) {
        self.send(event, |event, session| event.is_for(session) && wanted(session));
    }

    /// Sends an event to the connections for whom `wanted` holds. One that matters and does not fit ends a connection.
    fn send(&self, event: Event, wanted: impl Fn(&Event, &Session) -> bool) {
        let event = Arc::new(event);
        for member in self.members.lock().unwrap_or_else(PoisonError::into_inner).values() {
            let sent = !wanted(&event, &member.session) || member.mail.put(Signal::Event(Arc::clone(&event)));
            if !sent && !event.droppable {
                member.mail.lagged.store(true, Ordering::Release);
            }
        }
    }

    /// As [`Self::broadcast`], of an event that each version is told in a payload of its own. None is made for a version that
    /// nobody speaks who may see it.
    pub(crate) fn broadcast_per_version(&self, mut event: Event, payload: impl Fn(ProtocolVersion) -> String) {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let spoken = |version| {
            let mut sessions = members.values().map(|member| &member.session);
            sessions.any(|session| session.version == version && event.is_for(session))
        };
        let (v3, v4) = (spoken(ProtocolVersion::V3), spoken(ProtocolVersion::V4));
        drop(members);
        // Whoever asks for such events from here on need not hear of what was done before.
        if v4 {
            event.head_v4 = wire::event_head(&event.name, &payload(ProtocolVersion::V4));
        }
        event.head_v3 = v3.then(|| wire::event_head(&event.name, &payload(ProtocolVersion::V3)));
        if v3 || v4 {
            self.broadcast_where(event, |session| if session.version.is_newest() { v4 } else { v3 });
        }
    }

    /// Sends an event that only this version is told to everyone who may see it. Its payload is not made when nobody may.
    pub(crate) fn broadcast_in(&self, version: ProtocolVersion, mut event: Event, payload: impl FnOnce() -> String) {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sessions = members.values().map(|member| &member.session);
        let is_spoken = sessions.any(|session| session.version == version && event.is_for(session));
        drop(members);
        if is_spoken {
            event.head_v4 = wire::event_head(&event.name, &payload());
            self.broadcast_where(event, |session| session.version == version);
        }
    }

    /// Sends an event to one connection. False when it is not there or cannot take it.
    pub(crate) fn tell(&self, connection: &str, event: Event) -> bool {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let member = members.values().find(|member| member.session.id == connection);
        member.is_some_and(|member| member.mail.put(Signal::Event(Arc::new(event))))
    }

    /// Sends an event to the connections for whom `wanted` holds, whatever else they may see.
    pub(crate) fn tell_where(&self, event: Event, wanted: impl Fn(&Session) -> bool) {
        self.send(event, |_, session| wanted(session));
    }

    /// Closes the connections for which `unwanted` gives a reason: what they were let in by is gone. The reason is what they
    /// hear, so it says what was changed where, in at most 123 bytes. What is taken back must be gone before: whoever is just
    /// being let in is looked at again from here on.
    pub(crate) fn close_where(&self, unwanted: impl Fn(&Session) -> Option<&'static str>) {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        self.taken_back.fetch_add(1, Ordering::Release);
        for member in members.values() {
            if let Some(reason) = unwanted(&member.session) {
                member.mail.expel(&member.session, reason);
                member.mail.put(Signal::Wake);
            }
        }
    }

    /// Of those connected now for whom `wanted` holds the one that came last.
    pub(crate) fn newest(&self, wanted: impl Fn(&Session) -> bool) -> Option<Arc<Session>> {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = members.iter().filter(|(_, member)| wanted(&member.session));
        fitting.max_by_key(|(seat, _)| **seat).map(|(_, member)| Arc::clone(&member.session))
    }

    /// Who is connected now, in the order in which they came.
    pub(crate) fn sessions(&self) -> Vec<Arc<Session>> {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sessions: Vec<_> = members.iter().map(|(seat, member)| (*seat, Arc::clone(&member.session))).collect();
        drop(members);
        sessions.sort_by_key(|(seat, _)| *seat);
        sessions.into_iter().map(|(_, session)| session).collect()
    }

    pub(crate) fn ping(&self) {
        for member in self.members.lock().unwrap_or_else(PoisonError::into_inner).values() {
            // Where it does not fit the task has plenty to do anyway.
            member.mail.put(Signal::Ping);
        }
    }

    /// Tells everyone that the gateway stops.
    pub(crate) fn stop(&self) {
        for member in self.members.lock().unwrap_or_else(PoisonError::into_inner).values() {
            member.mail.stopping.store(true, Ordering::Release);
            member.mail.put(Signal::Wake);
        }
    }
}

/// The scope for the events of plugins.
pub(crate) const PLUGIN_EVENT_SCOPE: &str = READ;

/// Those of the gateway's own events that version 3 is not told.
const NEWEST_EVENTS: [&str; 1] = ["config.changed"];

/// The gateway's own events that a connection of that version may be told, as far as its role, its scopes and what it
/// asked for allow.
pub(crate) fn own_events(version: ProtocolVersion) -> impl Iterator<Item = &'static str> {
    let is_told = move |name: &&str| version.is_newest() || !NEWEST_EVENTS.contains(name);
    OWN_EVENTS.into_iter().filter(is_told)
}

/// Names of the events the gateway itself sends.
pub(crate) const OWN_EVENTS: [&str; 22] = [
    "connect.challenge",
    "tick",
    "health",
    "presence",
    "shutdown",
    "plugins.changed",
    "config.changed",
    "sessions.changed",
    "session.message",
    "agent",
    "chat",
    "voicewake.changed",
    "device.pair.requested",
    "device.pair.resolved",
    "exec.approval.requested",
    "exec.approval.resolved",
    "plugin.approval.requested",
    "plugin.approval.resolved",
    "node.pair.requested",
    "node.pair.resolved",
    "node.invoke.request",
    "node.invoke.progress",
];

/// `{"ts":…}`.
pub(crate) fn tick_payload(now_ms: u64) -> Cow<'static, str> {
    Cow::Owned(format!("{{\"ts\":{now_ms}}}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Wake, Waker};

    /// Counts how often a task would have run.
    #[derive(Default)]
    struct Woken(AtomicU64);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_mailbox_wakes_its_reader_and_is_bounded_and_empty_when_read() {
        let (mail, woken) = (Mailbox::default(), Arc::new(Woken::default()));
        let waker = Waker::from(Arc::clone(&woken));
        let context = Context::from_waker(&waker);
        assert!(mail.put(Signal::Ping), "before anyone reads");
        assert_eq!(mail.take(&context).len(), 1);
        assert!(mail.put(Signal::Ping));
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert_eq!((1..QUEUE).filter(|_| mail.put(Signal::Wake)).count(), QUEUE - 1);
        mail.take(&context);
        for _ in 0..QUEUE {
            assert!(mail.put(Signal::Ping));
        }
        let before = woken.0.load(Ordering::SeqCst);
        mail.take(&context);
        assert!((0..QUEUE).all(|_| mail.put(Signal::Ping)));
        assert!(!mail.put(Signal::Wake), "full");
        assert!(woken.0.load(Ordering::SeqCst) > before, "who is behind is woken all the same");
        assert_eq!(mail.take(&context).len(), QUEUE);
        assert_eq!(mail.waiting.lock().unwrap().capacity(), 0, "nothing waits, nothing is kept");
    }
}
