//! From a request to its method: frame, role, scope, then the method itself.

use std::borrow::Cow;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::LazyLock;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use leanclaw_types::Caller;
use leanclaw_types::audit::AuditEvent;
use leanclaw_types::frame::{ErrorShape, ProtocolVersion, RequestFrame, RequestFrameShape, error_code};
use leanclaw_types::text::shown;
use serde_json::{Value, json};
use tracing::Instrument;
use tungstenite::Utf8Bytes;
use tungstenite::protocol::frame::coding::CloseCode;

use super::{Connection, End, waiting};
use crate::error::{failure_to_error, unavailable};
use crate::gateway::State;
use crate::guard;
use crate::handshake::Session;
use crate::methods::{self, Known, Scope};
use crate::phrase::Shape;
use crate::plugins::PluginMethod;
use crate::rate::Class;
use crate::wire::{self, Id, Payload};

static REQUEST: LazyLock<Shape> = LazyLock::new(Shape::of::<RequestFrameShape>);

/// Calls of a wrong role in a row that are still answered without a close.
const UNAUTHORIZED_IN_A_ROW: u32 = 10;

/// A method's outcome: a JSON text or an error.
pub(crate) type Outcome = Result<Payload, ErrorShape>;

/// What a method gives back.
pub(crate) enum Answer {
    /// Done.
    Now(Outcome),
    /// On its way.
    Later(BoxFuture<'static, Outcome>),
    /// Taken on, which is told at once; the outcome follows under the same id.
    Twice(Payload, BoxFuture<'static, Outcome>),
    /// Somebody is asked first whether it may run, or it is not known yet how it is answered.
    Asked(BoxFuture<'static, Answer>),
    /// It failed, and this is known of it besides.
    Both(Payload, ErrorShape),
}

/// What a running call has to say: a frame, and what still comes under the same id.
pub(super) struct Said {
    pub(super) frame: Utf8Bytes,
    pub(super) rest: Option<BoxFuture<'static, Said>>,
}

impl Said {
    fn last(frame: Utf8Bytes) -> Self {
        Self { frame, rest: None }
    }

    async fn of(answer: Answer, id: Id) -> Self {
        match answer {
            Answer::Now(outcome) => Self::last(wire::response(&id, &outcome)),
            Answer::Both(payload, error) => Self::last(wire::response_with_both(&id, &payload, &error)),
            Answer::Later(call) => Self::last(wire::response(&id, &call.await)),
            Answer::Twice(first, call) => Self {
                frame: wire::response(&id, &Ok(first)),
                rest: Some(Box::pin(async move { Self::last(wire::response(&id, &call.await)) })),
            },
            Answer::Asked(asking) => Box::pin(async move { Self::of(asking.await, id).await }).await,
        }
    }
}

/// A call that is gone on with when it is dropped before its end.
struct ToItsEnd(Option<BoxFuture<'static, Outcome>>);

impl Future for ToItsEnd {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let Some(call) = &mut self.0 else { return Poll::Pending };
        let polled = call.as_mut().poll(context);
        if polled.is_ready() {
            self.0 = None;
        }
        polled
    }
}

impl Drop for ToItsEnd {
    fn drop(&mut self) {
        if let (Some(call), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(call);
        }
    }
}

impl Answer {
    /// Also when the client goes away meanwhile: what follows from a decision (connections that end, audit rows, files)
    /// must not depend on whether somebody waits for the answer.
    fn carried_through(self) -> Self {
        match self {
            Self::Later(call) => Self::Later(Box::pin(ToItsEnd(Some(call)))),
            Self::Asked(asking) => Self::Asked(Box::pin(async move { asking.await.carried_through() })),
            other => other,
        }
    }

    /// How `work` says it is answered. It is gone on with to its end, also when the client goes away meanwhile.
    pub(crate) fn to_its_end(work: impl Future<Output = Self> + Send + 'static) -> Self {
        Self::Asked(Box::pin(async move {
            tokio::spawn(work)
                .await
                .unwrap_or_else(|_| Self::error(unavailable("the call was broken off; retry later")))
        }))
    }

    pub(crate) fn error(error: ErrorShape) -> Self {
        Self::Now(Err(error))
    }

    pub(crate) fn json(value: &Value) -> Self {
        Self::Now(Ok(Payload::json(value)))
    }
}

/// One call of a built-in method.
pub(crate) struct Call<'a> {
    pub(crate) state: &'a Arc<State>,
    pub(crate) session: &'a Arc<Session>,
    /// The method's name, for messages.
    pub(crate) method: &'static str,
    /// The parameters as JSON text; `{}` when there are none.
    pub(crate) params: &'a str,
}

impl Connection {
    /// Answers one message. Gives an end when the connection must close.
    pub(super) fn on_frame(&mut self, text: &Utf8Bytes, context: &mut Context<'_>) -> Option<End> {
        let Some(frame) = RequestFrame::read(text.as_str()) else {
            self.on_bad_frame(text.as_str());
            return None;
        };
        let id = Id::of(&frame);
        match self.route(&frame, text) {
            Routed::Answer(Answer::Now(outcome)) => {
                tracing::debug!(connection = %self.session.id, method = %frame.method, ok = outcome.is_ok(), "call");
                self.socket.push(wire::response(&id, &outcome));
            }
            Routed::Answer(Answer::Later(call)) => self.start(call, id, &frame.method, context),
            Routed::Answer(Answer::Twice(first, call)) => {
                self.socket.push(wire::response(&id, &Ok(first)));
                self.start(call, id, &frame.method, context);
            }
            Routed::Answer(Answer::Both(payload, error)) => {
                self.socket.push(wire::response_with_both(&id, &payload, &error));
            }
            Routed::Answer(asked @ Answer::Asked(_)) => self.calls.push(Box::pin(Said::of(asked, id))),
            Routed::WrongRole(error) => {
                self.socket.push(wire::response(&id, &Err(error)));
                self.unauthorized_in_a_row += 1;
                return (self.unauthorized_in_a_row > UNAUTHORIZED_IN_A_ROW)
                    .then(|| End::close(CloseCode::Policy, "repeated unauthorized calls"));
            }
        }
        self.unauthorized_in_a_row = 0;
        None
    }

    /// Runs a call; one that is done at once never meets the queue.
    fn start(&mut self, mut call: BoxFuture<'static, Outcome>, id: Id, method: &str, context: &mut Context<'_>) {
        let span = tracing::debug_span!("call", connection = %self.session.id, %method, ok = tracing::field::Empty);
        match span.in_scope(|| call.as_mut().poll(context)) {
            Poll::Ready(outcome) => {
                span.record("ok", outcome.is_ok());
                self.answered += 1;
                self.socket.push(wire::response(&id, &outcome));
            }
            Poll::Pending => {
                let record = span.clone();
                let answer = async move {
                    let outcome = call.await;
                    record.record("ok", outcome.is_ok());
                    Said::last(wire::response(&id, &outcome))
                };
                self.calls.push(Box::pin(answer.instrument(span)));
            }
        }
    }

    /// Answers what is no request. It costs as much as a call that reads.
    fn on_bad_frame(&mut self, text: &str) {
        let answer = match self.spend(Class::Read, "what is no request") {
            Ok(()) => bad_frame(self.session.version, text),
            Err(error) => {
                let value = serde_json::from_str::<Value>(text).ok();
                value.map(|value| wire::response(&Id::of_bad_frame(&value), &Err(error)))
            }
        };
        if let Some(answer) = answer {
            self.socket.push(answer);
        }
    }

    fn route(&self, frame: &RequestFrame<'_>, text: &Utf8Bytes) -> Routed {
        let name = frame.method.as_ref();
        let own = methods::find(name).filter(|known| known.method.is_in(self.session.version));
        let role = self.session.caller.role.as_str();
        if !methods::role_fits(role, name, own.map(|known| known.method)) && name != "connect" {
            return Routed::WrongRole(self.wrong_role(name));
        }
        let answer = match own {
            Some(known) => self.call_own(known, frame.params_text()),
            None => self.call_other(frame, text),
        };
        Routed::Answer(answer.unwrap_or_else(Answer::error))
    }

    /// A call of a method that is not the gateway's own.
    fn call_other(&self, frame: &RequestFrame<'_>, text: &Utf8Bytes) -> Result<Answer, ErrorShape> {
        let (name, caller) = (frame.method.as_ref(), &self.session.caller);
        let method = self.state.services.plugins.method(name);
        self.spend(method.as_ref().map_or(Class::Read, |method| Class::of_scope(method.scope())), name)?;
        if let Some(method) = method {
            if !caller.holds(method.scope()) {
                return Err(self.missing_scope(name, method.scope()));
            }
            return Ok(self.call_plugin(method, frame, text));
        }
        if name == "connect" {
            return Err(ErrorShape::invalid("connect is only valid as the first request"));
        }
        if let Some(error) = waiting::error(&self.state, &self.session, name) {
            return Err(error);
        }
        // The scope check comes first: who may not call it does not learn whether it exists. A node has no scopes.
        if caller.role != "node" && !caller.holds(methods::ADMIN) {
            return Err(self.missing_scope(name, methods::ADMIN));
        }
        Err(ErrorShape::invalid(unknown_method(name)))
    }

    /// What is said of a method that is for callers of another role. It is written down, and costs as much as a call that reads.
    fn wrong_role(&self, name: &str) -> ErrorShape {
        let reason = format!("unauthorized role: {}", self.session.caller.role);
        let (method, known) = (shortened(name), methods::find(name).map_or("", |known| known.method.name));
        self.state.audit_denial(&self.session.caller, &format!("role {known}"), |repeated| AuditEvent::CallRefused {
            method,
            reason: reason.clone(),
            repeated,
        });
        self.spend(Class::Read, name).err().unwrap_or_else(|| ErrorShape::invalid(reason))
    }

    fn spend(&self, class: Class, method: &str) -> Result<(), ErrorShape> {
        self.meter.spend(&self.state.rates, class, method, || self.state.now_ms())
    }

    fn call_own(&self, known: Known, params: &str) -> Result<Answer, ErrorShape> {
        let method = known.method;
        self.spend(known.cost.class, method.name)?;
        if let Scope::Needs(scope) = method.scope
            && !self.session.caller.holds(scope)
        {
            return Err(self.missing_scope(method.name, scope));
        }
        if known.cost.is_control_plane {
            let (version, now_ms) = (self.session.version, self.state.now_ms());
            self.meter.spend_control_plane(&self.state.rates, version, method.name, now_ms)?;
        }
        let call = Call { state: &self.state, session: &self.session, method: method.name, params };
        let is_guarded = self.state.services.plugins.guards_calls();
        let answer = if is_guarded { guard::own(&call, method)? } else { (method.handler)(&call)? };
        Ok(if methods::is_carried_through(method) { answer.carried_through() } else { answer })
    }

    /// Hands a call to a plugin. Parameters stay where they are: in the message's own, shared bytes.
    fn call_plugin(&self, method: Box<dyn PluginMethod>, frame: &RequestFrame<'_>, text: &Utf8Bytes) -> Answer {
        let whole = text.clone();
        let name = match &frame.method {
            Cow::Borrowed(name) => Piece::of(&whole, name),
            Cow::Owned(name) => Piece::Own(name.clone()),
        };
        let params = Piece::of(&whole, frame.params_text());
        let (state, session) = (Arc::clone(&self.state), Arc::clone(&self.session));
        Answer::Later(Box::pin(async move {
            if state.services.plugins.guards_calls() {
                guard::ask(&state, &session, name.get(&whole), method.scope() == methods::READ).await?;
            }
            let result = method.call(params.get(&whole), Arc::clone(&session.caller)).await;
            result.map(Payload::Own).map_err(|failure| failure_to_error(session.version, &failure))
        }))
    }

    fn missing_scope(&self, method: &str, scope: &str) -> ErrorShape {
        missing_scope(&self.state, &self.session, method, scope)
    }
}

impl Call<'_> {
    /// For a method whose scope depends on what is asked.
    ///
    /// # Errors
    /// The caller lacks the scope; that is written down.
    pub(crate) fn require(&self, scope: &str) -> Result<(), ErrorShape> {
        if self.session.caller.holds(scope) {
            return Ok(());
        }
        Err(missing_scope(self.state, self.session, self.method, scope))
    }
}

/// What the HTTP routes of plugins are called where a method is named.
pub(crate) const PLUGIN_ROUTE: &str = "plugins.http";

/// What is said of a method that nobody serves.
pub(super) fn unknown_method(name: &str) -> String {
    format!("unknown method: {}", shown(name, 120))
}

fn shortened(name: &str) -> String {
    name.chars().take(120).collect()
}

/// The answer to what is no request; none to what is not even JSON, since there is nobody to address it to.
pub(crate) fn bad_frame(version: ProtocolVersion, text: &str) -> Option<Utf8Bytes> {
    let value: Value = serde_json::from_str(text).ok()?;
    let problems = REQUEST.problems(version, &value).unwrap_or_else(|| "at root: must be a request".into());
    let error = ErrorShape::invalid(format!("invalid request frame: {problems}"));
    Some(wire::response(&Id::of_bad_frame(&value), &Err(error)))
}

/// Writes down that a caller lacks a scope, for a method that says so in its own words.
pub(crate) fn audit_missing_scope(state: &State, caller: &Caller, method: &str, scope: &str) {
    let method = shortened(method);
    // Whatever is made up is one kind of refusal, and a route of a plugin is no method.
    let is_known =
        methods::find(&method).is_some() || state.services.plugins.method(&method).is_some() || method == PLUGIN_ROUTE;
    let code = format!("scope {}", if is_known { &method } else { "" });
    state.audit_denial(caller, &code, |repeated| AuditEvent::ScopeDenied { method, scope: scope.to_owned(), repeated });
}

fn missing_scope(state: &State, session: &Session, method: &str, scope: &str) -> ErrorShape {
    audit_missing_scope(state, &session.caller, method, scope);
    let message = format!("missing scope: {scope}");
    // Byte for byte what OpenClaw answers; what helps is said by the client that shows it.
    match session.version {
        ProtocolVersion::V3 => ErrorShape::invalid(message),
        ProtocolVersion::V4 => ErrorShape::new(error_code::FORBIDDEN, message).details(json!({
            "code": "MISSING_SCOPE", "missingScope": scope, "requiredScopes": [scope],
        })),
    }
}

enum Routed {
    Answer(Answer),
    WrongRole(ErrorShape),
}

/// A part of a message, by place where it can be.
enum Piece {
    At(Range<usize>),
    Own(String),
}

impl Piece {
    fn of(whole: &Utf8Bytes, part: &str) -> Self {
        let whole = whole.as_str();
        let at = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize);
        match at.map(|start| start..start + part.len()) {
            Some(range) if whole.get(range.clone()) == Some(part) => Self::At(range),
            _ => Self::Own(part.to_owned()),
        }
    }

    fn get<'a>(&'a self, whole: &'a Utf8Bytes) -> &'a str {
        match self {
            Self::At(range) => whole.as_str().get(range.clone()).unwrap_or_default(),
            Self::Own(text) => text,
        }
    }
}
